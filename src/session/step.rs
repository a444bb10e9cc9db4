//! A session step, its inputs besides the session, and when it is due.
//! Plain values. `decide` and `resume` choose a step, `act` carries it out.

use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};

use crate::{
    config::{Lifecycle, Switcher},
    model::{
        ids::{AccountName, AgentName},
        session::{Activity, Resume, Session, Then},
        task::{Ending, Run},
    },
};

/// What to run in a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    pub agent: AgentName,
    pub account: Option<AccountName>,
    pub workdir: PathBuf,
}

/// What of the configuration steps depend on.
#[derive(Debug, Clone, Copy)]
pub struct Settings<'a> {
    pub lifecycle: &'a Lifecycle,
    pub switcher: &'a Switcher,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    Nothing,
    /// Decide again then.
    Wait(Timestamp),
    Open(Program),
    /// Starts a `command` agent together with its task.
    OpenWith(Program, Run),
    /// Records that its conversation is to be resumed in a new program.
    Resume,
    /// Starts the program that resumes a conversation.
    Reopen(Resume),
    /// Types the resume text, which was not taken at the start.
    Continue(Run),
    /// The operator's session is missing.
    OpenDedicated,
    /// Ends the program; `retire` removes the tmux session too.
    End {
        why: String,
        retire: bool,
    },
    /// Ends a program that did not come to its prompt.
    GiveUpStart {
        why: String,
    },
    /// Types the prompt.
    Deliver(Run),
    /// Typing was begun by an earlier daemon: finds out how far it got.
    Confirm(Run),
    /// Takes the claim back: nothing of it can run any more.
    GiveBack {
        run: Run,
        why: String,
    },
    /// The run is over without the agent's word.
    Finish {
        run: Run,
        ending: Ending,
    },
    /// The assignment has no run behind it.
    Free,
    /// A program that died is cleared away, with what it left.
    Clear(Then),
}

pub(super) fn starting(session: &Session, lifecycle: &Lifecycle, now: Timestamp) -> Step {
    // A dialog, or a person who looks at it: what is missing is an answer, not another start.
    if matches!(session.verdict.activity, Activity::Waiting(_)) || session.attached > 0 {
        return Step::Nothing;
    }
    let until = after(session.since, lifecycle.start_within);
    let why = format!("no prompt within {} s of the start (lifecycle.start_within)", lifecycle.start_within.as_secs());
    when(until, now, Step::GiveUpStart { why })
}

pub(super) fn after(at: Timestamp, wait: std::time::Duration) -> Timestamp {
    at.saturating_add(SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX)).unwrap_or(Timestamp::MAX)
}

pub(super) fn when(at: Timestamp, now: Timestamp, step: Step) -> Step {
    if at <= now { step } else { Step::Wait(at) }
}
