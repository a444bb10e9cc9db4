//! Decides a session's next step.
//! Takes the session, its task, its wanted state and `now`; returns one step. Pure. Wanted and actual state are
//! compared every time, so a restarted daemon continues from what it finds.

use jiff::Timestamp;

use super::resume::{GIVE_UP_AFTER, going_on, onward};
use crate::{
    config::Lifecycle,
    model::{
        agent::PromptBy,
        ids::AgentName,
        session::{Activity, Gone, Resume, Role, Session, SessionPhase, Then},
        snapshot::Under,
        task::{Delivery, Ending, Phase, Run, Status, Stop, Task},
    },
    session::step::{Program, Settings, Step, after, starting, when},
};

/// Failed starts in a row after which a task goes back to the queue for another session. Chosen: one may be chance;
/// more would delay the task.
const GIVE_BACK_AFTER: u32 = 3;

/// What is wanted of a session when it has no task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// An agent at its prompt.
    Warm(Program),
    /// Nothing: it is above the pool's minimum, or takes no task.
    Nothing,
    /// Nothing until it has a task, with which its agent starts.
    Rest,
    /// The operator's session, with a shell or the given agent.
    Dedicated,
}

/// The next step. `task` is the assigned task, if there still is one.
#[must_use]
pub fn decide<'a>(
    session: &Session,
    task: Option<&Task>,
    wanted: &Wanted,
    under: impl Fn(&AgentName) -> Under<'a>,
    prompt_by: impl Fn(&AgentName) -> PromptBy,
    settings: &Settings<'_>,
    now: Timestamp,
) -> Step {
    if let SessionPhase::Ending(_) = session.phase {
        let retire = matches!(wanted, Wanted::Nothing) && session.resume.is_none();
        return Step::End { why: "going on with what was begun".to_owned(), retire };
    }
    if session.role == Role::Dedicated {
        return dedicated(session, under, settings, now);
    }
    match &session.task {
        Some(assignment) => match task.map(|task| &task.phase) {
            Some(Phase::Working(run)) if run.id == assignment.run => {
                let note = task.and_then(|task| task.note.as_deref());
                with_run(session, run, note, under(&run.agent), prompt_by, settings, now)
            }
            // The queue service frees the session when the result is on disk.
            Some(Phase::Filing(filing)) if filing.work.as_ref().is_some_and(|work| *work.id() == assignment.run) => {
                Step::Nothing
            }
            Some(
                Phase::Held(_)
                | Phase::Queued
                | Phase::Rejected(_)
                | Phase::Working(_)
                | Phase::Delegated(_)
                | Phase::Filing(_)
                | Phase::Finished(_),
            )
            | None => Step::Free,
        },
        None => without_task(session, wanted, under, prompt_by, settings.lifecycle, now),
    }
}

fn dedicated<'a>(
    session: &Session,
    under: impl Fn(&AgentName) -> Under<'a>,
    settings: &Settings<'_>,
    now: Timestamp,
) -> Step {
    if let Some(resume) = &session.resume {
        let gives_up = session.phase == SessionPhase::Down && session.failures >= GIVE_UP_AFTER;
        // Without a conversation it is a shell.
        let conversation = resume.conversation.clone().filter(|_| !gives_up);
        let resume = Resume { conversation, ..resume.clone() };
        return going_on(session, &resume, None, under(&resume.agent), settings, now);
    }
    match &session.phase {
        SessionPhase::Down => {
            let at = session.start_after(settings.lifecycle.restart_first, settings.lifecycle.restart_max);
            when(at, now, Step::OpenDedicated)
        }
        SessionPhase::Dead { .. } => Step::Clear(Then::Start),
        // Only an agent whose account is known is moved; a shell, or anything that isn't known, is left alone.
        SessionPhase::Starting(incarnation) | SessionPhase::Up(incarnation) if incarnation.account.is_some() => {
            onward(session, incarnation, under(&incarnation.agent), settings, now).unwrap_or(Step::Nothing)
        }
        SessionPhase::Starting(_) | SessionPhase::Up(_) | SessionPhase::Ending(_) => Step::Nothing,
    }
}

fn without_task<'a>(
    session: &Session,
    wanted: &Wanted,
    under: impl Fn(&AgentName) -> Under<'a>,
    prompt_by: impl Fn(&AgentName) -> PromptBy,
    lifecycle: &Lifecycle,
    now: Timestamp,
) -> Step {
    let retire = matches!(wanted, Wanted::Nothing | Wanted::Dedicated);
    match &session.phase {
        // What he does there is his as long as he looks at it.
        SessionPhase::Starting(_) | SessionPhase::Up(_) if session.is_with_a_person() => Step::Nothing,
        SessionPhase::Starting(incarnation) | SessionPhase::Up(incarnation)
            if incarnation.account.as_ref() != under(&incarnation.agent).name() =>
        {
            Step::End { why: "another account is active".to_owned(), retire }
        }
        SessionPhase::Up(incarnation)
            if session.verdict.activity == Activity::Limited
                && matches!(under(&incarnation.agent), Under::Account(_)) =>
        {
            Step::End { why: "its limit has passed".to_owned(), retire }
        }
        SessionPhase::Down => match wanted {
            Wanted::Warm(program) => {
                let at = session.start_after(lifecycle.restart_first, lifecycle.restart_max);
                when(at, now, Step::Open(program.clone()))
            }
            // However its last program went: nothing is about to start.
            Wanted::Rest | Wanted::Nothing if !session.rests && !session.retired => Step::Clear(Then::Rest),
            Wanted::Rest | Wanted::Nothing | Wanted::Dedicated => Step::Nothing,
        },
        SessionPhase::Starting(_) => starting(session, lifecycle, now),
        SessionPhase::Up(incarnation) if session.spent => {
            let end = Step::End { why: "a fresh conversation for the next task".to_owned(), retire };
            match prompt_by(&incarnation.agent) {
                PromptBy::Paste => end,
                // It exits by itself. Stopping it would stop what has detached itself from its task too, which is its child
                // as long as it runs.
                PromptBy::Stdin => when(after(session.used, lifecycle.stop_grace), now, end),
            }
        }
        SessionPhase::Up(_) => {
            let idle_until = after(session.used, lifecycle.shrink_after);
            match wanted {
                Wanted::Nothing => when(
                    idle_until,
                    now,
                    Step::End { why: "idle and above the pool's minimum".to_owned(), retire: true },
                ),
                Wanted::Warm(_) | Wanted::Rest | Wanted::Dedicated => Step::Nothing,
            }
        }
        SessionPhase::Dead { .. } => match wanted {
            Wanted::Warm(_) => Step::Clear(Then::Start),
            Wanted::Nothing | Wanted::Rest | Wanted::Dedicated => Step::Clear(Then::Rest),
        },
        SessionPhase::Ending(_) => Step::Nothing,
    }
}

fn with_run(
    session: &Session,
    run: &Run,
    note: Option<&str>,
    under: Under<'_>,
    prompt_by: impl Fn(&AgentName) -> PromptBy,
    settings: &Settings<'_>,
    now: Timestamp,
) -> Step {
    let lifecycle = settings.lifecycle;
    // Time spent waiting for the account doesn't count for the task.
    let stands = session.resume.is_some() || session.verdict.activity == Activity::Limited;
    if let Some(over) = over(run, now).filter(|over| !(stands && *over == Over::TimedOut)) {
        let ended = matches!(session.phase, SessionPhase::Down | SessionPhase::Dead { .. } | SessionPhase::Ending(_));
        if run.delivery != Delivery::NotBegun && !ended {
            return Step::End { why: over.why(run, note), retire: false };
        }
        let screen = (run.delivery != Delivery::NotBegun).then(|| session.screen.plain.clone());
        let give_back = Step::GiveBack { run: run.clone(), why: over.why(run, note) };
        return match over {
            Over::Yielded => give_back,
            Over::Again if run.attempt < run.attempts_allowed || run.delivery == Delivery::NotBegun => give_back,
            Over::Again | Over::TimedOut => finish(run, failed(over.why(run, note), screen, now)),
            Over::Cancelled => {
                finish(run, Ending { status: Status::Cancelled, ..failed(over.why(run, note), screen, now) })
            }
        };
    }
    if let Some(resume) = &session.resume {
        let why = match (&session.phase, &resume.conversation) {
            (SessionPhase::Down, None) => "its conversation is not known, so it can't go on".to_owned(),
            (SessionPhase::Down, Some(id)) if session.failures >= GIVE_UP_AFTER => {
                format!("conversation {id} could not be resumed {} times in a row", session.failures)
            }
            (
                SessionPhase::Down
                | SessionPhase::Starting(_)
                | SessionPhase::Up(_)
                | SessionPhase::Ending(_)
                | SessionPhase::Dead { .. },
                _,
            ) => return going_on(session, resume, Some(run), under, settings, now),
        };
        if run.attempt < run.attempts_allowed {
            return Step::GiveBack { run: run.clone(), why: format!("{why}; tried again") };
        }
        return finish(run, failed(why, Some(session.screen.plain.clone()), now));
    }
    let program = Program { agent: run.agent.clone(), account: under.name().cloned(), workdir: run.workdir.clone() };
    let timeout = deadline(run);
    match (&session.phase, &run.delivery) {
        (SessionPhase::Down | SessionPhase::Starting(_) | SessionPhase::Up(_), Delivery::NotBegun) if matches!(under, Under::Blocked(account) if account.is_out()) =>
        {
            let account = under.name().map(ToString::to_string).unwrap_or_default();
            Step::GiveBack { run: run.clone(), why: format!("account {account} can't be used now") }
        }
        (SessionPhase::Down | SessionPhase::Starting(_) | SessionPhase::Up(_), Delivery::NotBegun)
            if matches!(under, Under::Blocked(_)) =>
        {
            Step::Nothing
        }
        // Only when it failed for this run too: else a claim and its return would chase each other.
        (SessionPhase::Down, Delivery::NotBegun)
            if session.failures >= GIVE_BACK_AFTER && session.since > run.claimed =>
        {
            let why =
                format!("session {} could not start {} {} times in a row", session.name, run.agent, session.failures);
            Step::GiveBack { run: run.clone(), why }
        }
        (SessionPhase::Down, Delivery::NotBegun) => {
            let at = session.start_after(lifecycle.restart_first, lifecycle.restart_max);
            when(
                at,
                now,
                match prompt_by(&run.agent) {
                    PromptBy::Paste => Step::Open(program),
                    PromptBy::Stdin => Step::OpenWith(program, run.clone()),
                },
            )
        }
        (SessionPhase::Down, Delivery::Begun | Delivery::Taken { .. }) => {
            let error = match &session.gone {
                Some(Gone::Lost { .. }) => {
                    let how = format!(
                        "{} lost its pane in the middle of the task: closed, given another program, or tmux ended",
                        run.agent
                    );
                    return again_or_failed(session, run, how, now);
                }
                Some(Gone::Ended { why, .. }) => why.clone(),
                None => format!(
                    "whether {} was started in session {} with the task is not known, so it is not run again by itself",
                    run.agent, session.name
                ),
            };
            finish(run, failed(error, Some(session.screen.plain.clone()), now))
        }
        (SessionPhase::Starting(_), Delivery::NotBegun | Delivery::Begun | Delivery::Taken { .. }) => {
            starting(session, lifecycle, now)
        }
        (SessionPhase::Up(incarnation), Delivery::NotBegun) => {
            // One that was started for this run is as fresh as it gets.
            let is_fresh = session.is_fresh() || (!session.spent && incarnation.started >= run.claimed);
            let fits = incarnation.agent == program.agent
                && incarnation.account == program.account
                && incarnation.workdir == program.workdir
                && prompt_by(&run.agent) == PromptBy::Paste
                && is_fresh;
            if !is_fresh && session.is_with_a_person() {
                let why = format!("somebody speaks with the agent of session {}", session.name);
                Step::GiveBack { run: run.clone(), why }
            } else if !fits {
                Step::End {
                    why: format!("{} is needed in {}", program.agent, program.workdir.display()),
                    retire: false,
                }
            } else if session.verdict.activity == Activity::Idle {
                Step::Deliver(run.clone())
            } else {
                Step::Nothing
            }
        }
        (SessionPhase::Up(_), Delivery::Begun) => Step::Confirm(run.clone()),
        (SessionPhase::Up(incarnation), Delivery::Taken { .. }) => {
            let timeout = timeout.filter(|_| !stands).map_or(Step::Nothing, Step::Wait);
            onward(session, incarnation, under, settings, now).unwrap_or(timeout)
        }
        (SessionPhase::Dead { .. }, Delivery::NotBegun) => Step::Clear(Then::Start),
        (SessionPhase::Dead { exit, .. }, Delivery::Begun | Delivery::Taken { .. }) => {
            again_or_failed(session, run, format!("{} ended in the middle of the task ({exit})", run.agent), now)
        }
        (SessionPhase::Ending(_), _) => Step::Nothing,
    }
}

/// Nothing of the attempt runs any more, whoever ended it: its agent, or the pane around it.
fn again_or_failed(session: &Session, run: &Run, how: String, now: Timestamp) -> Step {
    if run.attempt < run.attempts_allowed {
        Step::GiveBack { run: run.clone(), why: format!("{how}; tried again") }
    } else {
        finish(run, failed(how, Some(session.screen.plain.clone()), now))
    }
}

/// Why a run is over without the agent having ended it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    Cancelled,
    Yielded,
    Again,
    TimedOut,
}

impl Over {
    fn why(self, run: &Run, note: Option<&str>) -> String {
        match self {
            Self::Cancelled => "cancelled".to_owned(),
            Self::Yielded => "somebody else claimed it first".to_owned(),
            Self::Again => note.unwrap_or("the attempt came to nothing").to_owned(),
            Self::TimedOut => format!("timed out after {} s", run.timeout.unwrap_or_default().as_secs()),
        }
    }
}

fn over(run: &Run, now: Timestamp) -> Option<Over> {
    match run.stop {
        Stop::Cancelled => Some(Over::Cancelled),
        Stop::Yielded => Some(Over::Yielded),
        Stop::Again => Some(Over::Again),
        Stop::No => deadline(run).filter(|at| *at <= now).map(|_| Over::TimedOut),
    }
}

/// The task's time runs from when the agent took it.
fn deadline(run: &Run) -> Option<Timestamp> {
    match (run.timeout, &run.delivery) {
        (Some(timeout), Delivery::Taken { at }) => Some(after(*at, timeout)),
        (Some(_) | None, Delivery::NotBegun | Delivery::Begun | Delivery::Taken { .. }) => None,
    }
}

fn failed(error: String, screen: Option<String>, now: Timestamp) -> Ending {
    Ending { screen, ..Ending::failed(error, now) }
}

fn finish(run: &Run, ending: Ending) -> Step {
    Step::Finish { run: run.clone(), ending }
}
