//! A task's life as a state machine: what it is, what may happen to it, what follows.
//! In: a phase, an event, `now`. Out: the next phase or a refusal that says why. Never reads a file or a clock.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{
    command::Writer,
    evidence::Tokens,
    identity::{Bound, TextFacts},
    ids::{AccountName, AgentName, ProviderName, RunId, SessionName, TaskKey},
    provider::{Job, JobStop, Wish},
    writer::By,
};

/// Bounds of `priority` (INTERFACE 4).
pub const PRIORITY_RANGE: std::ops::RangeInclusive<i32> = -100..=100;

/// A task as everybody sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    pub key: TaskKey,
    /// `None` until its text could be read once.
    pub text: Option<TextFacts>,
    pub spec: Arc<TaskSpec>,
    /// The frontmatter's priority, or the one a person set by verb.
    pub priority: i32,
    pub phase: Phase,
    /// Since when `phase` is what it is.
    pub since: Timestamp,
    /// Attempts begun so far.
    pub attempts: u32,
    pub origin: Origin,
    /// Where a person wants it to go.
    pub wish: Option<Wish>,
    /// Providers that refused this text; not asked again.
    pub refused_by: Vec<ProviderName>,
    /// What else a person should know; a line of `why`.
    pub note: Option<String>,
    /// What is odd about this text, also while something else holds it.
    pub doubt: Option<Hold>,
    /// What holds it beside what `phase` says; stays when that is let go.
    pub also: Vec<Hold>,
}

impl Task {
    /// What a permission for it is for.
    #[must_use]
    pub fn bound(&self) -> Option<Bound> {
        Some(Bound { identity: self.text.as_ref()?.identity.clone(), agent: self.spec.agent.clone() })
    }

    /// Whether it stands in `delegated/`: it is at a provider, or a person has sent it to one, and not taken it back.
    #[must_use]
    pub fn is_delegated(&self) -> bool {
        match &self.phase {
            Phase::Delegated(job) => job.stop != JobStop::Recalled,
            Phase::Held(_) | Phase::Queued => matches!(self.wish, Some(Wish::Provider(_))),
            Phase::Rejected(_) | Phase::Working(_) | Phase::Filing(_) | Phase::Finished(_) => false,
        }
    }
}

/// Who wrote a task, where that is known (writes through the mount).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    pub writer: Option<Writer>,
    /// The task at whose session the writer runs.
    pub parent: Option<TaskKey>,
    /// The first of the tasks that it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<TaskKey>,
    /// How many tasks it came from; 0 for what no agent submitted.
    #[serde(default)]
    pub depth: u32,
    /// The text that the writer made a task of. Any other was written behind the mount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<Bound>,
    /// It was counted among what its root has submitted.
    #[serde(default)]
    pub counted: bool,
}

impl Origin {
    /// Who wrote this text.
    #[must_use]
    pub fn by(&self, text: &Bound) -> By {
        let own = self.text.as_ref() == Some(text);
        self.writer.as_ref().filter(|_| own).map_or(By::Unknown, |writer| writer.by)
    }
}

/// The frontmatter (INTERFACE 4).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TaskSpec {
    pub preferred_ai: Option<String>,
    pub allow_delegation: bool,
    pub needs_claude_code: bool,
    pub complexity_hint: Option<String>,
    pub agent: Option<AgentName>,
    pub priority: i32,
    /// Relative to the project.
    pub workdir: String,
    pub timeout: Option<Duration>,
    /// Attempts after the first.
    pub retries: u32,
    pub depends_on: Vec<String>,
    /// Keys that mean nothing here; named in `why`.
    pub unknown: Vec<String>,
}

impl Default for TaskSpec {
    fn default() -> Self {
        Self {
            preferred_ai: None,
            allow_delegation: false,
            needs_claude_code: false,
            complexity_hint: None,
            agent: None,
            priority: 0,
            workdir: ".".to_owned(),
            timeout: None,
            retries: 1,
            depends_on: Vec::new(),
            unknown: Vec::new(),
        }
    }
}

/// Where a task stands.
#[derive(Debug, Clone, PartialEq)]
pub enum Phase {
    /// In the inbox and not to be dispatched yet.
    Held(Hold),
    /// Ready; waits for a session.
    Queued,
    /// Can't run as it is written.
    Rejected(Problem),
    /// Claimed: the marker is on disk.
    Working(Run),
    /// At a provider: the marker is on disk.
    Delegated(Job),
    /// Its end is known; the result is being put on disk.
    Filing(Filing),
    /// Its result is on disk.
    Finished(Finished),
}

impl Phase {
    /// The identity of the text that a finished task was run with.
    #[must_use]
    pub fn text_that_ran(&self) -> Option<&String> {
        let Self::Finished(Finished { work: Some(work), .. }) = self else { return None };
        match work {
            Work::Run(run) => Some(&run.text.identity),
            Work::Job(job) => Some(&job.text.identity),
        }
    }
}

/// Why a task isn't dispatched yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hold {
    /// Touched less than `dispatcher.settle` ago.
    Settling,
    /// Some process has it open for writing.
    Writing,
    /// An editor's lock stands beside it.
    EditorLock(String),
    Empty,
    /// Its frontmatter was opened and isn't closed yet.
    OpenFrontmatter,
    /// Its name went away less than the settle time ago.
    Missing,
    /// Somebody else claimed it; the text says how that is known.
    OutsideClaim(String),
    /// It changed while an agent worked on the earlier text, whose result is filed.
    ChangedWhileWorking,
    /// It names tasks to wait for; that isn't built yet.
    DependsOn,
    /// A person said so (`hold`).
    ByVerb,
    /// git tracks this name beside it or its own: what a checkout brings nobody has submitted.
    Tracked(String),
    /// git is changing the working tree.
    GitAtWork,
    /// This text was run, and it came back as it was: by git, or from a copy.
    RanBefore(RunId),
    /// Somebody claimed it where it stands; the text says how that is seen.
    InPlace(String),
    /// No task may name this agent.
    Closed(AgentName),
    /// Only a person's task may name this agent, and this one is of somebody else.
    NotPermitted(AgentName, By),
    /// Too many tasks came from tasks; the text says how many.
    Braked(String),
    /// It can't be read now; the system's words.
    Unreadable(String),
}

impl Hold {
    /// Whether what it may do is in question: only a person, or the configuration, lets it go.
    #[must_use]
    pub fn needs_person(&self) -> bool {
        match self {
            Self::Closed(_) | Self::NotPermitted(..) | Self::Braked(_) => true,
            Self::Settling
            | Self::Writing
            | Self::EditorLock(_)
            | Self::Empty
            | Self::OpenFrontmatter
            | Self::Missing
            | Self::OutsideClaim(_)
            | Self::ChangedWhileWorking
            | Self::Tracked(_)
            | Self::GitAtWork
            | Self::RanBefore(_)
            | Self::InPlace(_)
            | Self::DependsOn
            | Self::ByVerb
            | Self::Unreadable(_) => false,
        }
    }

    /// Whether it stays until a person says so, or the text changes.
    #[must_use]
    pub fn awaits_release(&self) -> bool {
        match self {
            Self::ByVerb | Self::ChangedWhileWorking | Self::Tracked(_) | Self::RanBefore(_) | Self::InPlace(_) => true,
            Self::Settling
            | Self::Writing
            | Self::EditorLock(_)
            | Self::Empty
            | Self::OpenFrontmatter
            | Self::Missing
            | Self::OutsideClaim(_)
            | Self::DependsOn
            | Self::GitAtWork
            | Self::Closed(_)
            | Self::NotPermitted(..)
            | Self::Braked(_)
            | Self::Unreadable(_) => false,
        }
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Settling => f.write_str("it was touched a moment ago; dispatched when it has been left alone for dispatcher.settle"),
            Self::Writing => f.write_str("a process still has it open for writing"),
            Self::EditorLock(lock) => write!(f, "an editor has it open: the lock {lock} stands beside it"),
            Self::Empty => f.write_str("it is empty"),
            Self::OpenFrontmatter => f.write_str("its frontmatter begins with '---' and has no closing '---' yet"),
            Self::Missing => f.write_str("its name went away a moment ago; editors do that while saving"),
            Self::OutsideClaim(how) => write!(f, "somebody else claimed it: {how}"),
            Self::ChangedWhileWorking => f.write_str(
                "it changed while the earlier text was being worked on (that result is filed); save it again or `echo release > control` to run the new text",
            ),
            Self::DependsOn => f.write_str("it has depends_on, which this version keeps but does not resolve; remove the key to run it"),
            Self::ByVerb => f.write_str("a person held it; `echo release > control` lets it go"),
            Self::Tracked(name) => write!(
                f,
                "git tracks {name}, so a checkout may have brought it; `echo release > control` runs this text, `git rm --cached` \
                 and `claude-failover check --fix` keep the queue out of the repository"
            ),
            Self::GitAtWork => f.write_str("git is changing the working tree (its index.lock is there)"),
            Self::RanBefore(run) => write!(
                f,
                "run {run} of this text is filed, and its file came back (git stash, checkout or reset, or an old copy); \
                 `echo release > control` runs it again, `rm` ends it"
            ),
            Self::InPlace(how) => write!(f, "somebody works on it here: {how}; `echo release > control` runs it all the same"),
            Self::Closed(agent) => write!(
                f,
                "no task may name agent {agent}: `tasks: person` (or `anyone`) in `agents.{agent}` of the configuration and a restart open it"
            ),
            Self::NotPermitted(agent, by) => {
                let who = match by {
                    By::Agent => "an agent wrote it",
                    By::Unknown | By::Person => "it is not known who wrote it (a file written behind the mount, by cron and the like, or since a tmux server of ours ended)",
                };
                write!(
                    f,
                    "agent {agent} does a person's tasks only, and {who}: a person's `echo release > control` runs this text, `tasks: anyone` in `agents.{agent}` all like it"
                )
            }
            Self::Braked(why) => write!(f, "{why}; a person's `echo release > control` runs it"),
            Self::Unreadable(why) => write!(f, "it can't be read: {why}"),
        }
    }
}

/// What is wrong with a task's text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// From 1.
    pub line: usize,
    pub column: usize,
    pub message: String,
}

impl Problem {
    /// Of the whole file.
    #[must_use]
    pub fn whole(message: String) -> Self {
        Self { line: 1, column: 1, message }
    }

    /// Several as one: the first, and the others each in a line of its own.
    #[must_use]
    pub fn all(mut problems: Vec<Self>) -> Option<Self> {
        problems.sort_by_key(|problem| (problem.line, problem.column));
        let more: Vec<String> = problems.iter().skip(1).map(ToString::to_string).collect();
        let first = problems.into_iter().next()?;
        let message = std::iter::once(first.message).chain(more).collect::<Vec<_>>().join("\n");
        Some(Self { message, ..first })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}

/// One attempt under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    pub id: RunId,
    pub session: SessionName,
    pub agent: AgentName,
    /// The accounts it ran under, the present one last.
    #[serde(default)]
    pub accounts: Vec<AccountName>,
    /// Where the agent works; absolute.
    pub workdir: PathBuf,
    /// From 1.
    pub attempt: u32,
    /// Attempts that the task allows.
    pub attempts_allowed: u32,
    pub timeout: Option<Duration>,
    pub claimed: Timestamp,
    /// When typing began: what an agent said before is not about this run.
    #[serde(default)]
    pub typed: Option<Timestamp>,
    pub delivery: Delivery,
    #[serde(default)]
    pub stop: Stop,
    /// How often it was given a pause because the provider's server failed.
    #[serde(default)]
    pub pauses: u32,
    pub text: TextFacts,
    /// Why it is not done where the task asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instead: Option<String>,
}

/// Whether a run is to end before its agent says so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stop {
    #[default]
    No,
    /// Somebody asked for it: the task ends as cancelled.
    Cancelled,
    /// Somebody else claimed the task before anything was typed: it is theirs.
    Yielded,
    /// This attempt came to nothing; once its agent is ended, the next may begin.
    Again,
}

/// How far the prompt has got; saved before each step, so that a restart knows what may have happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Delivery {
    /// Nothing was typed.
    NotBegun,
    /// Typing has begun; the agent may or may not have the prompt.
    Begun,
    /// The agent has taken it.
    Taken { at: Timestamp },
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ending {
    pub status: Status,
    /// The agent's last message.
    pub message: Option<String>,
    pub error: Option<String>,
    /// The last screen, where there is no message or the agent died.
    pub screen: Option<String>,
    pub tokens: Option<Tokens>,
    /// In US dollars, where the provider told it or a price is configured.
    #[serde(default)]
    pub cost_usd: Option<f64>,
    pub resume_id: Option<String>,
    /// Commands that the last turn left running and that were ended with the agent.
    #[serde(default)]
    pub ended_with_agent: Vec<String>,
    /// The same where they run on.
    #[serde(default)]
    pub left_running: Vec<String>,
    pub at: Timestamp,
}

impl Ending {
    /// One of which nothing else is known.
    #[must_use]
    pub fn new(status: Status, at: Timestamp) -> Self {
        Self {
            status,
            message: None,
            error: None,
            screen: None,
            tokens: None,
            cost_usd: None,
            resume_id: None,
            ended_with_agent: Vec::new(),
            left_running: Vec::new(),
            at,
        }
    }

    #[must_use]
    pub fn failed(error: String, at: Timestamp) -> Self {
        Self { error: Some(error), ..Self::new(Status::Failed, at) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    Done,
    Failed,
    Cancelled,
}

impl Status {
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Filing {
    /// `None` when it was cancelled before any run.
    pub work: Option<Work>,
    pub ending: Ending,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    pub work: Option<Work>,
    pub ending: Ending,
}

/// One attempt, wherever it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// In a session here.
    Run(Run),
    /// At a provider.
    Job(Job),
}

impl Work {
    #[must_use]
    pub fn id(&self) -> &RunId {
        match self {
            Self::Run(run) => &run.id,
            Self::Job(job) => &job.run,
        }
    }

    /// The text that is worked on.
    #[must_use]
    pub fn text(&self) -> &TextFacts {
        match self {
            Self::Run(run) => &run.text,
            Self::Job(job) => &job.text,
        }
    }

    /// From 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        match self {
            Self::Run(run) => run.attempt,
            Self::Job(job) => job.attempt,
        }
    }

    /// Why it is not done where the task asked.
    #[must_use]
    pub fn instead(&self) -> Option<&str> {
        match self {
            Self::Run(run) => run.instead.as_deref(),
            Self::Job(job) => job.instead.as_deref(),
        }
    }

    /// When the attempt began.
    #[must_use]
    pub fn claimed(&self) -> Timestamp {
        match self {
            Self::Run(run) => run.claimed,
            Self::Job(job) => job.claimed,
        }
    }

    #[must_use]
    pub fn run(&self) -> Option<&Run> {
        match self {
            Self::Run(run) => Some(run),
            Self::Job(_) => None,
        }
    }

    #[must_use]
    pub fn job(&self) -> Option<&Job> {
        match self {
            Self::Run(_) => None,
            Self::Job(job) => Some(job),
        }
    }
}

/// Everything that can happen to a task.
#[derive(Debug, Clone, PartialEq)]
pub enum TaskEvent {
    /// It stands in the inbox, whole and readable.
    Seen {
        text: TextFacts,
        spec: Arc<TaskSpec>,
    },
    NotReady(Hold),
    /// As `Seen`, but only a person's word lets it run.
    Doubtful {
        text: TextFacts,
        spec: Arc<TaskSpec>,
        why: Hold,
    },
    Rejected(Problem),
    /// Its name is gone for longer than the settle time. `by_verb`: removed through the mount, which is a cancel even at work.
    Vanished {
        by_verb: bool,
    },
    /// A marker that isn't ours stands beside it.
    OutsideClaim(String),
    /// The marker is on disk.
    Claimed(Run),
    /// The marker is gone again and nothing of this attempt can run any more.
    Unclaimed {
        run: RunId,
        why: String,
    },
    /// From here on the agent may get the prompt.
    TypingBegun {
        run: RunId,
    },
    Taken {
        run: RunId,
    },
    /// The attempt came to nothing and its agent has to be ended.
    TryAgain {
        run: RunId,
        why: String,
    },
    /// What the hand-over of its prompt waits for, or came to.
    Waits {
        run: RunId,
        why: String,
    },
    /// The provider's server failed; the same attempt goes on after a pause.
    Paused {
        run: RunId,
        why: String,
    },
    /// The marker of a job is on disk.
    Delegated(Job),
    /// The provider has taken the job and called it so.
    Submitted {
        run: RunId,
        job: String,
    },
    /// What the provider has said so far.
    Output {
        run: RunId,
        text: Arc<str>,
    },
    /// The provider does not take this text.
    RefusedBy {
        run: RunId,
        why: String,
    },
    /// `told`: when its agent said so; else it is the supervisor's, or a provider's, word.
    Ended {
        run: RunId,
        ending: Ending,
        told: Option<Timestamp>,
    },
    /// Result, task file and marker are in order on disk. `kept` is a newer text that the file has: it stays.
    Filed {
        kept: Option<TextFacts>,
    },
    Cancel,
    Hold,
    Release,
    Priority(i32),
    /// A person says where it should go.
    Wish(Wish),
}

/// Why a task doesn't take an event; reads on after the task's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TaskRefusal {
    #[error("is {state}: {event} does not apply")]
    NotNow { state: &'static str, event: &'static str },
    #[error("is at another run than {run}")]
    OtherRun { run: RunId },
    #[error("has its agent in session {0} ended: what that says of its end meanwhile is an answer to this")]
    BeingEnded(SessionName),
}

/// What became of a task after an event.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "lives for one call")]
pub enum After {
    Same,
    Now(Phase),
    /// The task is gone from the queue without a result (its file vanished before any run).
    Gone,
}

impl Run {
    /// The account it runs under.
    #[must_use]
    pub fn account(&self) -> Option<&AccountName> {
        self.accounts.last()
    }

    /// Notes under which account its agent runs.
    pub fn runs_under(&mut self, account: &AccountName) {
        if self.account() != Some(account) {
            self.accounts.push(account.clone());
        }
    }

    /// From when on the agent's words are about this run.
    #[must_use]
    pub fn heard_from(&self) -> Timestamp {
        self.typed.unwrap_or(self.claimed)
    }
}

impl Phase {
    /// The word in `tasks/<id>/state`.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Held(_) => "held",
            Self::Queued => "queued",
            Self::Rejected(_) => "rejected",
            Self::Working(_) | Self::Filing(Filing { work: None | Some(Work::Run(_)), .. }) => "working",
            Self::Delegated(_) | Self::Filing(Filing { work: Some(Work::Job(_)), .. }) => "delegated",
            Self::Finished(finished) => finished.ending.status.word(),
        }
    }

    /// Whether it is only waited for its writer to be through with it.
    #[must_use]
    pub fn settles(&self) -> bool {
        matches!(self, Self::Held(Hold::Settling | Hold::Writing | Hold::Missing | Hold::GitAtWork))
    }

    /// The attempt in a session here.
    #[must_use]
    pub fn run(&self) -> Option<&Run> {
        match self {
            Self::Working(run) => Some(run),
            Self::Filing(Filing { work, .. }) | Self::Finished(Finished { work, .. }) => work.as_ref()?.run(),
            Self::Held(_) | Self::Queued | Self::Rejected(_) | Self::Delegated(_) => None,
        }
    }

    #[must_use]
    pub fn filing(&self) -> Option<&Filing> {
        if let Self::Filing(filing) = self { Some(filing) } else { None }
    }

    /// The job that it has now.
    #[must_use]
    pub fn delegated(&self) -> Option<&Job> {
        match self {
            Self::Delegated(job) => Some(job),
            Self::Held(_)
            | Self::Queued
            | Self::Rejected(_)
            | Self::Working(_)
            | Self::Filing(_)
            | Self::Finished(_) => None,
        }
    }

    /// The attempt at a provider.
    #[must_use]
    pub fn job(&self) -> Option<&Job> {
        match self {
            Self::Delegated(job) => Some(job),
            Self::Filing(Filing { work, .. }) | Self::Finished(Finished { work, .. }) => work.as_ref()?.job(),
            Self::Held(_) | Self::Queued | Self::Rejected(_) | Self::Working(_) => None,
        }
    }

    /// The attempt whose text is needed still: for its prompt, or for its result.
    #[must_use]
    pub fn open_run(&self) -> Option<&RunId> {
        self.run_id().filter(|_| !matches!(self, Self::Finished(_)))
    }

    /// The attempt, wherever it was made.
    #[must_use]
    pub fn run_id(&self) -> Option<&RunId> {
        self.run().map(|run| &run.id).or_else(|| self.job().map(|job| &job.run))
    }
}

impl TaskEvent {
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Seen { .. } => "seen",
            Self::NotReady(_) => "not-ready",
            Self::Doubtful { .. } => "doubtful",
            Self::Rejected(_) => "rejected",
            Self::Vanished { .. } => "vanished",
            Self::OutsideClaim(_) => "outside-claim",
            Self::Claimed(_) => "claimed",
            Self::Unclaimed { .. } => "unclaimed",
            Self::TypingBegun { .. } => "typing-begun",
            Self::Taken { .. } => "taken",
            Self::TryAgain { .. } => "try-again",
            Self::Waits { .. } => "waits",
            Self::Paused { .. } => "paused",
            Self::Delegated(_) => "delegated",
            Self::Submitted { .. } => "submitted",
            Self::Output { .. } => "output",
            Self::RefusedBy { .. } => "refused-by",
            Self::Ended { .. } => "ended",
            Self::Filed { .. } => "filed",
            Self::Cancel => "cancel",
            Self::Hold => "hold",
            Self::Release => "release",
            Self::Priority(_) => "priority",
            Self::Wish(_) => "wish",
        }
    }
}

/// What a phase becomes by an event: one cell of the table in `doc/STATES.md`. `text` is what is known of the file now.
///
/// # Errors
/// When the event does not apply; nothing has changed then.
pub fn step(phase: &Phase, text: Option<&TextFacts>, event: &TaskEvent, now: Timestamp) -> Result<After, TaskRefusal> {
    use After::{Gone, Now, Same};
    use TaskEvent as E;

    let not_now = || Err(TaskRefusal::NotNow { state: phase.word(), event: event.word() });
    let cancelled =
        || Ending { error: Some("cancelled before it ran".to_owned()), ..Ending::new(Status::Cancelled, now) };
    let same_run =
        |run: &RunId, id: &RunId| if run == id { Ok(()) } else { Err(TaskRefusal::OtherRun { run: id.clone() }) };

    match phase {
        Phase::Held(hold) => match event {
            E::Seen { text: seen, .. } => match hold {
                Hold::ByVerb => Ok(Same),
                Hold::ChangedWhileWorking if text.is_some_and(|known| known.sha256 == seen.sha256) => Ok(Same),
                Hold::ChangedWhileWorking
                | Hold::Settling
                | Hold::Writing
                | Hold::EditorLock(_)
                | Hold::Empty
                | Hold::OpenFrontmatter
                | Hold::Missing
                | Hold::OutsideClaim(_)
                | Hold::DependsOn
                | Hold::Tracked(_)
                | Hold::GitAtWork
                | Hold::RanBefore(_)
                | Hold::InPlace(_)
                | Hold::Closed(_)
                | Hold::NotPermitted(..)
                | Hold::Braked(_)
                | Hold::Unreadable(_) => Ok(Now(Phase::Queued)),
            },
            E::Doubtful { why, .. } => match hold {
                Hold::ByVerb => Ok(Same),
                _ if hold == why => Ok(Same),
                _ => Ok(Now(Phase::Held(why.clone()))),
            },
            E::NotReady(next) => match hold {
                Hold::ByVerb | Hold::ChangedWhileWorking => Ok(Same),
                _ if hold == next => Ok(Same),
                _ => Ok(Now(Phase::Held(next.clone()))),
            },
            E::Rejected(problem) => Ok(Now(Phase::Rejected(problem.clone()))),
            E::Vanished { .. } => Ok(Gone),
            E::OutsideClaim(how) => Ok(Now(Phase::Held(Hold::OutsideClaim(how.clone())))),
            E::Cancel => Ok(Now(Phase::Filing(Filing { work: None, ending: cancelled() }))),
            E::Hold => Ok(Now(Phase::Held(Hold::ByVerb))),
            E::Release if hold.awaits_release() => Ok(Now(Phase::Queued)),
            E::Release => match hold {
                Hold::NotPermitted(..) | Hold::Braked(_) => Ok(Now(Phase::Queued)),
                _ => not_now(),
            },
            // Sending it somewhere lets it go.
            E::Wish(Wish::Provider(_)) => match hold {
                Hold::ByVerb | Hold::ChangedWhileWorking => Ok(Now(Phase::Queued)),
                _ => Ok(Same),
            },
            E::Priority(_) | E::Wish(Wish::Here) => Ok(Same),
            // Nobody takes care of a job that a script began.
            E::Delegated(job) => match hold {
                Hold::OutsideClaim(_) => Ok(Now(Phase::Delegated(job.clone()))),
                _ => not_now(),
            },
            E::Claimed(_)
            | E::Unclaimed { .. }
            | E::TypingBegun { .. }
            | E::Taken { .. }
            | E::TryAgain { .. }
            | E::Waits { .. }
            | E::Paused { .. }
            | E::Submitted { .. }
            | E::Output { .. }
            | E::RefusedBy { .. }
            | E::Ended { .. }
            | E::Filed { .. } => not_now(),
        },
        Phase::Queued => match event {
            E::Seen { .. } | E::Priority(_) | E::Release | E::Wish(_) => Ok(Same),
            E::NotReady(hold) | E::Doubtful { why: hold, .. } => Ok(Now(Phase::Held(hold.clone()))),
            E::Rejected(problem) => Ok(Now(Phase::Rejected(problem.clone()))),
            E::Vanished { .. } => Ok(Gone),
            E::OutsideClaim(how) => Ok(Now(Phase::Held(Hold::OutsideClaim(how.clone())))),
            E::Claimed(run) => Ok(Now(Phase::Working(run.clone()))),
            E::Delegated(job) => Ok(Now(Phase::Delegated(job.clone()))),
            E::Cancel => Ok(Now(Phase::Filing(Filing { work: None, ending: cancelled() }))),
            E::Hold => Ok(Now(Phase::Held(Hold::ByVerb))),
            E::Unclaimed { .. }
            | E::TypingBegun { .. }
            | E::Taken { .. }
            | E::TryAgain { .. }
            | E::Waits { .. }
            | E::Paused { .. }
            | E::Submitted { .. }
            | E::Output { .. }
            | E::RefusedBy { .. }
            | E::Ended { .. }
            | E::Filed { .. } => not_now(),
        },
        Phase::Rejected(known) => match event {
            E::Seen { .. } => Ok(Now(Phase::Queued)),
            E::NotReady(hold) | E::Doubtful { why: hold, .. } => Ok(Now(Phase::Held(hold.clone()))),
            E::Rejected(problem) if problem == known => Ok(Same),
            E::Rejected(problem) => Ok(Now(Phase::Rejected(problem.clone()))),
            E::Vanished { .. } => Ok(Gone),
            E::OutsideClaim(how) => Ok(Now(Phase::Held(Hold::OutsideClaim(how.clone())))),
            E::Cancel => Ok(Now(Phase::Filing(Filing { work: None, ending: cancelled() }))),
            E::Priority(_) | E::Wish(_) => Ok(Same),
            E::Claimed(_)
            | E::Unclaimed { .. }
            | E::TypingBegun { .. }
            | E::Taken { .. }
            | E::TryAgain { .. }
            | E::Waits { .. }
            | E::Paused { .. }
            | E::Delegated(_)
            | E::Submitted { .. }
            | E::Output { .. }
            | E::RefusedBy { .. }
            | E::Ended { .. }
            | E::Filed { .. }
            | E::Hold
            | E::Release => not_now(),
        },
        Phase::Working(run) => match event {
            // A running task keeps the text it was claimed with; the file is looked at again when its result is filed.
            E::Seen { .. } | E::NotReady(_) | E::Doubtful { .. } | E::Rejected(_) => Ok(Same),
            // Somebody else's claim beats ours only while nothing was typed.
            E::OutsideClaim(_) | E::Vanished { by_verb: false } => match run.delivery {
                // A cancel that was confirmed stays one.
                Delivery::NotBegun if run.stop == Stop::No => {
                    Ok(Now(Phase::Working(Run { stop: Stop::Yielded, ..run.clone() })))
                }
                Delivery::NotBegun | Delivery::Begun | Delivery::Taken { .. } => Ok(Same),
            },
            E::Vanished { by_verb: true } | E::Cancel => {
                Ok(Now(Phase::Working(Run { stop: Stop::Cancelled, ..run.clone() })))
            }
            E::Unclaimed { run: id, .. } => {
                same_run(&run.id, id)?;
                match run.stop {
                    // It came while the claim was taken back.
                    Stop::Cancelled => not_now(),
                    Stop::No | Stop::Yielded | Stop::Again => Ok(Now(Phase::Queued)),
                }
            }
            E::TypingBegun { run: id } => {
                same_run(&run.id, id)?;
                match run.delivery {
                    // What was told to stop must not be typed any more.
                    Delivery::NotBegun if run.stop != Stop::No => not_now(),
                    Delivery::NotBegun => {
                        Ok(Now(Phase::Working(Run { delivery: Delivery::Begun, typed: Some(now), ..run.clone() })))
                    }
                    Delivery::Begun | Delivery::Taken { .. } => not_now(),
                }
            }
            E::Taken { run: id } => {
                same_run(&run.id, id)?;
                match run.delivery {
                    Delivery::Begun => {
                        Ok(Now(Phase::Working(Run { delivery: Delivery::Taken { at: now }, ..run.clone() })))
                    }
                    Delivery::Taken { .. } => Ok(Same),
                    Delivery::NotBegun => not_now(),
                }
            }
            E::TryAgain { run: id, .. } => {
                same_run(&run.id, id)?;
                match run.stop {
                    Stop::No => Ok(Now(Phase::Working(Run { stop: Stop::Again, ..run.clone() }))),
                    Stop::Cancelled | Stop::Yielded | Stop::Again => Ok(Same),
                }
            }
            E::Waits { run: id, .. } => {
                same_run(&run.id, id)?;
                Ok(Same)
            }
            E::Paused { run: id, .. } => {
                same_run(&run.id, id)?;
                Ok(Now(Phase::Working(Run { pauses: run.pauses + 1, ..run.clone() })))
            }
            E::Ended { run: id, ending, .. } => {
                same_run(&run.id, id)?;
                let mut ending = ending.clone();
                // It was cancelled before it failed, whatever it says.
                if run.stop == Stop::Cancelled && ending.status == Status::Failed {
                    ending.status = Status::Cancelled;
                }
                Ok(Now(Phase::Filing(Filing { work: Some(Work::Run(run.clone())), ending })))
            }
            E::Priority(_)
            | E::Claimed(_)
            | E::Delegated(_)
            | E::Submitted { .. }
            | E::Output { .. }
            | E::RefusedBy { .. }
            | E::Filed { .. }
            | E::Hold
            | E::Release
            | E::Wish(_) => not_now(),
        },
        Phase::Delegated(job) => match event {
            // As at work: the text that was sent counts until the result is filed.
            E::Seen { .. }
            | E::NotReady(_)
            | E::Doubtful { .. }
            | E::Rejected(_)
            | E::OutsideClaim(_)
            | E::Vanished { by_verb: false } => Ok(Same),
            E::Vanished { by_verb: true } | E::Cancel => {
                Ok(Now(Phase::Delegated(Job { stop: JobStop::Cancelled, ..job.clone() })))
            }
            E::Wish(Wish::Here) => match job.stop {
                JobStop::No => Ok(Now(Phase::Delegated(Job { stop: JobStop::Recalled, ..job.clone() }))),
                JobStop::Recalled => Ok(Same),
                JobStop::Cancelled => not_now(),
            },
            E::Wish(Wish::Provider(to)) => match job.stop {
                JobStop::No if to.as_ref().is_none_or(|to| *to == job.provider) => Ok(Same),
                JobStop::No | JobStop::Recalled | JobStop::Cancelled => not_now(),
            },
            E::Submitted { run, job: id } => {
                same_run(&job.run, run)?;
                Ok(Now(Phase::Delegated(Job { id: Some(id.clone()), ..job.clone() })))
            }
            E::Output { run, text } => {
                same_run(&job.run, run)?;
                Ok(Now(Phase::Delegated(Job { output: Some(text.clone()), ..job.clone() })))
            }
            E::Unclaimed { run, .. } | E::RefusedBy { run, .. } => {
                same_run(&job.run, run)?;
                match job.stop {
                    // It came while the claim was taken back.
                    JobStop::Cancelled => not_now(),
                    JobStop::No | JobStop::Recalled => Ok(Now(Phase::Queued)),
                }
            }
            E::Ended { run, ending, .. } => {
                same_run(&job.run, run)?;
                Ok(Now(Phase::Filing(Filing { work: Some(Work::Job(job.clone())), ending: ending.clone() })))
            }
            E::Claimed(_)
            | E::Delegated(_)
            | E::TypingBegun { .. }
            | E::Taken { .. }
            | E::TryAgain { .. }
            | E::Waits { .. }
            | E::Paused { .. }
            | E::Filed { .. }
            | E::Hold
            | E::Release
            | E::Priority(_) => not_now(),
        },
        Phase::Filing(filing) => match event {
            E::Filed { kept: Some(_) } => Ok(Now(Phase::Held(Hold::ChangedWhileWorking))),
            E::Filed { kept: None } => {
                Ok(Now(Phase::Finished(Finished { work: filing.work.clone(), ending: filing.ending.clone() })))
            }
            E::Seen { .. }
            | E::NotReady(_)
            | E::Doubtful { .. }
            | E::Rejected(_)
            | E::OutsideClaim(_)
            | E::Vanished { .. } => Ok(Same),
            E::Claimed(_)
            | E::Unclaimed { .. }
            | E::TypingBegun { .. }
            | E::Taken { .. }
            | E::TryAgain { .. }
            | E::Waits { .. }
            | E::Paused { .. }
            | E::Delegated(_)
            | E::Submitted { .. }
            | E::Output { .. }
            | E::RefusedBy { .. }
            | E::Ended { .. }
            | E::Cancel
            | E::Hold
            | E::Release
            | E::Priority(_)
            | E::Wish(_) => not_now(),
        },
        // A finished task's name is free: what appears under it now is a new task.
        Phase::Finished(_) => match event {
            E::Seen { .. } => Ok(Now(Phase::Queued)),
            E::NotReady(hold) | E::Doubtful { why: hold, .. } => Ok(Now(Phase::Held(hold.clone()))),
            E::Rejected(problem) => Ok(Now(Phase::Rejected(problem.clone()))),
            E::Vanished { .. } => Ok(Same),
            E::OutsideClaim(how) => Ok(Now(Phase::Held(Hold::OutsideClaim(how.clone())))),
            E::Claimed(_)
            | E::Unclaimed { .. }
            | E::TypingBegun { .. }
            | E::Taken { .. }
            | E::TryAgain { .. }
            | E::Waits { .. }
            | E::Paused { .. }
            | E::Delegated(_)
            | E::Submitted { .. }
            | E::Output { .. }
            | E::RefusedBy { .. }
            | E::Ended { .. }
            | E::Filed { .. }
            | E::Cancel
            | E::Hold
            | E::Release
            | E::Priority(_)
            | E::Wish(_) => not_now(),
        },
    }
}
