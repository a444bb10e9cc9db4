//! A session: one tmux session with one agent in it: what runs there, its believed state, and the evidence.
//! Takes a phase and an event; returns the next phase. Wanted state (pool size, drained) is kept apart from actual
//! state (the phase).

use std::{path::PathBuf, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::model::{
    evidence::{Signal, WaitingFor},
    ids::{AccountName, AgentName, RunId, SessionName, TaskKey},
    pane::{Exit, PaneId},
};

/// One start of an agent in a session. A new conversation is a new incarnation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incarnation {
    /// Random; the pane remembers it too.
    pub id: String,
    pub session: SessionName,
    pub agent: AgentName,
    pub account: Option<AccountName>,
    pub workdir: PathBuf,
    /// Id by which the agent can resume this conversation, once known.
    pub conversation: Option<String>,
    pub pane: PaneId,
    /// Process id of the program in the pane.
    pub pid: u32,
    pub started: Timestamp,
    /// Random, a secret in the program's environment. Hook lines count only when signed with it. Empty for a program
    /// that an earlier version started: then every line counts.
    #[serde(default)]
    pub token: String,
}

/// Whose session it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The operator's: kept running, shown, never dispatched to, never stopped.
    Dedicated,
    /// One of the pool.
    Pool,
}

/// A session as everybody sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    pub name: SessionName,
    pub role: Role,
    pub phase: SessionPhase,
    /// Since when `phase` has its value.
    pub since: Timestamp,
    /// What it is shown as.
    pub stated: Stated,
    /// Takes no new task.
    pub drained: bool,
    /// Nothing was started in it yet, or it was stopped for good.
    pub retired: bool,
    pub verdict: Verdict,
    /// The task it has, from claim to filed result.
    pub task: Option<Assignment>,
    /// Failed starts in a row; drives the back-off. What a program does with its task doesn't count.
    pub failures: u32,
    /// How the last program ended, unless it exited by itself.
    pub gone: Option<Gone>,
    /// Nothing is started in it before it has a task.
    pub rests: bool,
    /// When it was last given a task or started; oldest idle shrinks first.
    pub used: Timestamp,
    /// Clients attached to it.
    pub attached: u32,
    pub screen: std::sync::Arc<Screens>,
    /// Its agent was given a task's prompt: the next task needs a fresh conversation.
    pub spent: bool,
    /// A person talked to its agent: the next task needs a fresh conversation, and not while that person is attached.
    pub talked: bool,
    /// Its agent is to be replaced by one that resumes the conversation.
    pub resume: Option<Resume>,
}

/// The state word that is shown, and since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stated {
    pub word: String,
    pub since: Timestamp,
}

/// How a program ended that didn't exit by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gone {
    /// Its pane was closed, or the tmux server ended.
    Lost { at: Timestamp },
    /// The supervisor stopped it; when that began, and why.
    Ended { at: Timestamp, why: String },
}

impl Gone {
    /// From then on the program's reports are reactions to its stop.
    #[must_use]
    pub fn at(&self) -> Timestamp {
        match self {
            Self::Lost { at } | Self::Ended { at, .. } => *at,
        }
    }
}

/// What follows a program that is stopped and cleaned up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The next program.
    Start,
    /// Nothing until there is a task for it; it stays visible.
    Rest,
    /// Nothing: the session is removed.
    Retire,
}

/// An agent is replaced in place by a new one that resumes its conversation: under another account, or under the same
/// one after a limit. Saved before anything is stopped, so that a restart continues it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// The incarnation that is stopped.
    pub from: String,
    /// Id by which the conversation is resumed; without one nothing is started but the operator's shell.
    pub conversation: Option<String>,
    pub agent: AgentName,
    pub workdir: PathBuf,
    pub since: Timestamp,
    /// Not before this time: a pause for the provider.
    pub not_before: Timestamp,
}

/// The texts of a pane, read when it changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Screens {
    pub title: String,
    pub plain: String,
    pub colour: String,
    pub history: String,
    pub read: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    pub task: TaskKey,
    pub run: RunId,
}

/// What the pane actually is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SessionPhase {
    /// No pane, or one that nobody needs.
    Down,
    /// The program was started and hasn't shown its prompt yet.
    Starting(Incarnation),
    /// The agent has been ready once.
    Up(Incarnation),
    /// The program is being stopped, to be replaced or retired.
    Ending(Incarnation),
    /// The program exited by itself.
    Dead { incarnation: Incarnation, exit: Exit, at: Timestamp },
}

impl SessionPhase {
    #[must_use]
    pub fn incarnation(&self) -> Option<&Incarnation> {
        match self {
            Self::Down => None,
            Self::Starting(i) | Self::Up(i) | Self::Ending(i) | Self::Dead { incarnation: i, .. } => Some(i),
        }
    }
}

/// The believed activity of an agent, with its evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub activity: Activity,
    /// Since when.
    pub since: Timestamp,
    /// The signal that decided, and those that were overruled, best first.
    pub evidence: Vec<Signal>,
    /// The last time anything but its title changed at the agent.
    pub last_change: Timestamp,
    /// What it asks of a person, in its own words, if it waits for one.
    pub asked: Option<String>,
    /// Somebody's text is in its input box.
    pub draft: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activity {
    /// Nothing known yet.
    Unknown,
    Idle,
    Working,
    Waiting(WaitingFor),
    /// The agent says that it works, and nothing has changed for `watcher.idle_timeout`.
    Stalled,
    /// Stopped by its account: a limit, or a lost login.
    Limited,
}

/// Everything that can happen to a session. `of` names the observed incarnation: a look takes time, and it may already
/// be gone.
#[derive(Debug, Clone, PartialEq)]
pub enum SessionEvent {
    /// A program was started in it.
    Opened(Incarnation),
    /// A start failed, with the error.
    OpenFailed(String),
    /// The agent shows its prompt for the first time.
    Ready {
        of: String,
    },
    /// The program exited by itself. `began`: it had reported that it has a task.
    Died {
        of: String,
        exit: Exit,
        began: bool,
    },
    /// We began to stop the program. `failed`: because it did not reach its prompt.
    Ending {
        why: String,
        failed: bool,
    },
    /// The program and what it left are stopped, and the session is free.
    Ended {
        then: Then,
    },
    /// The pane is gone altogether; what ran in it may still run.
    Lost {
        of: String,
    },
    Assigned(Assignment),
    /// Its task is filed or was taken back.
    Freed,
    Observed {
        of: String,
        verdict: Verdict,
        conversation: Option<String>,
    },
    Screen(std::sync::Arc<Screens>),
    Attached(u32),
    /// The agent accepted a prompt that came from no task.
    Talked {
        of: String,
    },
    Drain(bool),
    /// A person asked for a start now: earlier failures no longer make it wait.
    Forgiven,
    /// Its agent is to be replaced by one that resumes the conversation under the then active account, at once or not
    /// before a time.
    Resume {
        of: String,
        not_before: Option<Timestamp>,
    },
    /// The new agent has resumed the conversation.
    Resumed {
        of: String,
    },
    /// What runs in a dedicated session, found by looking at its processes.
    Found {
        of: String,
        pid: u32,
        account: Option<AccountName>,
        conversation: Option<String>,
    },
}

/// Why a session refuses an event; continues a sentence that begins with the session's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionRefusal {
    #[error("is dedicated to a person: {0} is never done to it")]
    Dedicated(&'static str),
    #[error("has task {0}")]
    HasTask(TaskKey),
    #[error("runs another program by now than the one that {0} was seen of")]
    OtherIncarnation(&'static str),
    #[error("is {0}: {1} does not apply")]
    NotNow(&'static str, &'static str),
}

impl Session {
    #[must_use]
    pub fn new(name: SessionName, role: Role, now: Timestamp) -> Self {
        Self {
            name,
            role,
            phase: SessionPhase::Down,
            since: now,
            stated: Stated { word: "starting".to_owned(), since: now },
            drained: false,
            retired: true,
            verdict: Verdict::unknown(now),
            task: None,
            failures: 0,
            gone: None,
            rests: false,
            used: now,
            attached: 0,
            screen: std::sync::Arc::default(),
            spent: false,
            talked: false,
            resume: None,
        }
    }

    /// The state word in `sessions/<name>/state`.
    #[must_use]
    pub fn word(&self) -> &'static str {
        if self.role == Role::Dedicated {
            return "dedicated";
        }
        match &self.phase {
            SessionPhase::Dead { .. } => "dead",
            SessionPhase::Down if self.failures > 0 => "dead",
            SessionPhase::Down if self.rests && self.task.is_none() => "idle",
            // A dialog before the first prompt: trust, login.
            SessionPhase::Starting(_) if matches!(self.verdict.activity, Activity::Waiting(_)) => "waiting",
            SessionPhase::Down | SessionPhase::Starting(_) | SessionPhase::Ending(_) => "starting",
            SessionPhase::Up(_) => match self.verdict.activity {
                Activity::Unknown => "starting",
                Activity::Idle => "idle",
                Activity::Working => "working",
                Activity::Waiting(_) => "waiting",
                Activity::Stalled => "stalled",
                Activity::Limited => "limited",
            },
        }
    }

    /// Records the state word that it is shown with from now on. An agent of which a restarted daemon knows nothing yet
    /// keeps its word.
    pub fn restate(&mut self, before: &Self, now: Timestamp) {
        let word = self.word();
        let known = self.verdict.activity != Activity::Unknown || !self.verdict.evidence.is_empty();
        let begins = !before.is_shown() || (self.role == Role::Dedicated && self.phase != before.phase);
        if begins || (self.stated.word != word && (known || self.phase != before.phase)) {
            self.stated = Stated { word: word.to_owned(), since: now };
        }
    }

    /// Whether it is shown: unused names of the pool are no sessions yet.
    #[must_use]
    pub fn is_shown(&self) -> bool {
        self.phase != SessionPhase::Down || !self.retired || self.failures > 0 || self.task.is_some()
    }

    /// When it may be started (again): each failed or short-lived start doubles the pause.
    #[must_use]
    pub fn start_after(&self, first: Duration, max: Duration) -> Timestamp {
        if self.failures == 0 {
            return self.since;
        }
        let doubled = first.saturating_mul(1 << (self.failures - 1).min(16));
        let pause = SignedDuration::try_from(doubled.min(max)).unwrap_or(SignedDuration::MAX);
        self.since.saturating_add(pause).unwrap_or(Timestamp::MAX)
    }

    /// Whether its agent should run under the account that is active since `since`. If a person started it under
    /// another one after that, this is their choice, until a limit stops it.
    #[must_use]
    pub fn follows(&self, incarnation: &Incarnation, since: Timestamp) -> bool {
        self.role == Role::Pool || incarnation.started <= since || self.verdict.activity == Activity::Limited
    }

    /// Whether a task may begin in the running agent: nobody has talked to it yet.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        !self.spent && !self.talked
    }

    /// Whether a person is in the middle of something there: nothing is stopped while somebody is attached.
    #[must_use]
    pub fn is_with_a_person(&self) -> bool {
        self.talked && self.attached > 0
    }

    /// Whether its agent is at its prompt with nothing to do.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        matches!(self.phase, SessionPhase::Up(_)) && self.verdict.activity == Activity::Idle
    }
}

impl Verdict {
    #[must_use]
    pub fn unknown(now: Timestamp) -> Self {
        Self {
            activity: Activity::Unknown,
            since: now,
            evidence: Vec::new(),
            last_change: now,
            asked: None,
            draft: false,
        }
    }
}

/// A session's phase after an event: one cell of the table in `doc/STATES.md`. `None` keeps the phase.
///
/// # Errors
/// If the event does not apply; then nothing has changed.
pub fn step(session: &Session, event: &SessionEvent, now: Timestamp) -> Result<Option<SessionPhase>, SessionRefusal> {
    use SessionEvent as E;
    use SessionPhase as P;

    let event_word = event.word();
    let not_now = || Err(SessionRefusal::NotNow(session.word(), event_word));
    let dedicated = session.role == Role::Dedicated;
    if let Some(of) = event.seen_of()
        && session.phase.incarnation().is_none_or(|incarnation| incarnation.id != of)
    {
        return Err(SessionRefusal::OtherIncarnation(event_word));
    }

    match event {
        E::Opened(incarnation) => match &session.phase {
            P::Down | P::Dead { .. } => {
                let next = incarnation.clone();
                // A dedicated session holds the operator's shell; there is no prompt to wait for.
                Ok(Some(if dedicated { P::Up(next) } else { P::Starting(next) }))
            }
            P::Starting(_) | P::Up(_) | P::Ending(_) => not_now(),
        },
        E::OpenFailed(_) => match &session.phase {
            P::Down | P::Dead { .. } => Ok(None),
            P::Starting(_) | P::Up(_) | P::Ending(_) => not_now(),
        },
        E::Ready { .. } => match &session.phase {
            P::Starting(incarnation) => Ok(Some(P::Up(incarnation.clone()))),
            P::Up(_) => Ok(None),
            P::Down | P::Ending(_) | P::Dead { .. } => not_now(),
        },
        E::Died { exit, .. } => match &session.phase {
            P::Starting(incarnation) | P::Up(incarnation) => {
                Ok(Some(P::Dead { incarnation: incarnation.clone(), exit: *exit, at: now }))
            }
            // Ended by us: `Ended` follows.
            P::Ending(_) | P::Dead { .. } => Ok(None),
            P::Down => not_now(),
        },
        E::Ending { .. } if dedicated && session.resume.is_none() => Err(SessionRefusal::Dedicated("ending")),
        E::Ending { .. } => match &session.phase {
            P::Starting(incarnation) | P::Up(incarnation) | P::Dead { incarnation, .. } => {
                Ok(Some(P::Ending(incarnation.clone())))
            }
            P::Ending(_) => Ok(None),
            P::Down => not_now(),
        },
        E::Ended { .. } => match &session.phase {
            P::Ending(_) | P::Dead { .. } => Ok(Some(P::Down)),
            P::Down => Ok(None),
            P::Starting(_) | P::Up(_) => not_now(),
        },
        E::Lost { .. } => match &session.phase {
            // Whatever is left of a person's programs is his.
            P::Starting(_) | P::Up(_) | P::Ending(_) | P::Dead { .. } if dedicated => Ok(Some(P::Down)),
            // What is left of its program is ended before anything else is done there.
            P::Starting(incarnation) | P::Up(incarnation) | P::Dead { incarnation, .. } => {
                Ok(Some(P::Ending(incarnation.clone())))
            }
            P::Ending(_) | P::Down => Ok(None),
        },
        E::Assigned(_) if dedicated => Err(SessionRefusal::Dedicated("giving a task")),
        E::Assigned(_) => match (&session.task, &session.phase) {
            (Some(present), _) => Err(SessionRefusal::HasTask(present.task.clone())),
            (None, P::Up(_)) if session.is_idle() && !session.spent && !session.is_with_a_person() => Ok(None),
            (None, P::Down) => Ok(None),
            (None, P::Up(_) | P::Starting(_) | P::Ending(_) | P::Dead { .. }) => not_now(),
        },
        E::Freed | E::Observed { .. } | E::Screen(_) | E::Attached(_) | E::Forgiven => Ok(None),
        E::Talked { .. } => match (&session.task, &session.phase) {
            // It is the task's.
            (Some(task), _) => Err(SessionRefusal::HasTask(task.task.clone())),
            (None, P::Starting(_) | P::Up(_)) => Ok(None),
            (None, P::Down | P::Ending(_) | P::Dead { .. }) => not_now(),
        },
        E::Drain(_) if dedicated => Err(SessionRefusal::Dedicated("draining")),
        E::Drain(_) => Ok(None),
        E::Resume { .. } => match &session.phase {
            P::Starting(_) | P::Up(_) => Ok(None),
            P::Down | P::Ending(_) | P::Dead { .. } => not_now(),
        },
        E::Resumed { .. } => match &session.phase {
            P::Up(_) => Ok(None),
            P::Down | P::Starting(_) | P::Ending(_) | P::Dead { .. } => not_now(),
        },
        E::Found { pid, account, conversation, .. } => match &session.phase {
            P::Up(incarnation) if dedicated => {
                // What files tell of the time before is not another process's.
                let started = if incarnation.pid == *pid { incarnation.started } else { now };
                let (account, conversation) = (account.clone(), conversation.clone());
                let found = Incarnation { pid: *pid, account, conversation, started, ..incarnation.clone() };
                Ok((found != *incarnation).then_some(P::Up(found)))
            }
            P::Down | P::Starting(_) | P::Up(_) | P::Ending(_) | P::Dead { .. } => not_now(),
        },
    }
}

impl SessionEvent {
    /// The incarnation that the event is about.
    fn seen_of(&self) -> Option<&str> {
        match self {
            Self::Ready { of }
            | Self::Died { of, .. }
            | Self::Lost { of }
            | Self::Observed { of, .. }
            | Self::Talked { of }
            | Self::Resume { of, .. }
            | Self::Resumed { of }
            | Self::Found { of, .. } => Some(of),
            Self::Opened(_)
            | Self::OpenFailed(_)
            | Self::Ending { .. }
            | Self::Ended { .. }
            | Self::Assigned(_)
            | Self::Freed
            | Self::Screen(_)
            | Self::Attached(_)
            | Self::Drain(_)
            | Self::Forgiven => None,
        }
    }

    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Opened(_) => "opened",
            Self::OpenFailed(_) => "open-failed",
            Self::Ready { .. } => "ready",
            Self::Died { .. } => "died",
            Self::Ending { .. } => "ending",
            Self::Ended { .. } => "ended",
            Self::Lost { .. } => "lost",
            Self::Assigned(_) => "assigned",
            Self::Freed => "freed",
            Self::Observed { .. } => "observed",
            Self::Screen(_) => "screen",
            Self::Attached(_) => "attached",
            Self::Talked { .. } => "talked",
            Self::Drain(_) => "drain",
            Self::Forgiven => "forgiven",
            Self::Resume { .. } => "resume",
            Self::Resumed { .. } => "resumed",
            Self::Found { .. } => "found",
        }
    }
}
