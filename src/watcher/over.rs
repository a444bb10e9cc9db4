//! Decides whether a run is over, and how it ended.
//! Takes the agent's reports, the run and `now`; returns nothing yet, or the end. Pure.
//!
//! A run is over when the agent is at rest after a turn, not at the first Stop hook: a person's own Stop hooks run to
//! their end and may continue the turn. An agent is at rest when its status file says idle (a dialog counts too) since
//! the turn began; without a status file, when neither title nor screen show it working. For an agent that reports
//! when its turns end, an idle look alone never ends a run.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    model::{
        evidence::{Failure, Meaning, Signal, Source},
        task::{Delivery, Run},
    },
    watcher::history::{END_WITHIN, History, MOMENT, Turn, passed, says_nothing},
};

/// How long an agent that doesn't report its turns must look idle before its turn counts as ended. Chosen: three looks
/// at the screen.
const QUIET_END: Duration = Duration::from_secs(3);
/// How long a transcript's end of turn waits for the hook of an agent with working hooks: only the hook reports
/// background work. Measured: Claude Code writes the record before the hook or up to a second after it. Chosen: ten
/// times that.
const HOOK_MAY_FOLLOW: Duration = Duration::from_secs(10);

/// How a run is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Over {
    /// The agent's last message, where it gave one; which commands it left in the background; one without a name is known
    /// by its count alone.
    Done { message: Option<String>, left: Vec<String> },
    /// The turn failed on its own account; trying again may help.
    Server { error: String },
    /// The turn failed and trying again won't help.
    Failed { error: String },
}

/// Whether the agent ended a turn since the run's prompt was typed: then it had accepted it, whichever source says so.
#[must_use]
pub fn was_taken(history: &History, run: &Run, now: Timestamp) -> bool {
    let ended = matches!(history.turn(now), Turn::Ended(end) if end.at >= run.heard_from());
    ended && run.typed.is_some() && matches!(run.delivery, Delivery::Begun)
}

/// What is known of the agent beside its words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// It reports when its turns end.
    pub tells: bool,
    /// Its program has exited: nothing of it continues.
    pub gone: bool,
    /// `watcher.background_for`.
    pub background_for: Duration,
}

/// Whether a taken run is over.
#[must_use]
pub fn over(history: &History, run: &Run, facts: Facts, now: Timestamp) -> Option<Over> {
    let Delivery::Taken { at: taken } = &run.delivery else { return None };
    match history.turn(now) {
        Turn::Ended(end) if end.at >= run.heard_from() => {
            if facts.gone || (is_settled(history, end, now) && rests(history, end, now)) {
                return ended(history, end, facts, now);
            }
            return None;
        }
        // Nothing but the screen may say why the prompt came to nothing.
        Turn::TakenBack(_) if matches!(history.on_screen(), Some(Meaning::TurnFailed { .. })) => {
            return shown(history).filter(|_| facts.tells);
        }
        Turn::Untold | Turn::Open(_) | Turn::Asks(_) | Turn::Ended(_) | Turn::TakenBack(_) => {}
    }
    if facts.tells {
        return None;
    }
    // A turn that was taken before an earlier daemon ended may be over since: no busy look will come any more.
    let unseen = history.watched_since.is_some_and(|since| since > *taken);
    let since = history.idle_look_since.filter(|_| history.was_busy || unseen)?.max(*taken);
    passed(since, QUIET_END, now).then(|| shown(history)).flatten()
}

/// How a turn that only title and screen tell of has ended.
fn shown(history: &History) -> Option<Over> {
    match history.on_screen() {
        Some(Meaning::TurnFailed { failure: Failure::Server, message }) => {
            Some(Over::Server { error: message.clone() })
        }
        Some(Meaning::TurnFailed { failure: Failure::Limit(_) | Failure::Login, .. } | Meaning::Interrupted) => None,
        Some(Meaning::TurnFailed { message, .. }) => Some(Over::Failed { error: message.clone() }),
        Some(
            Meaning::TurnEnded { .. }
            | Meaning::Started { .. }
            | Meaning::Idle
            | Meaning::Busy
            | Meaning::PromptTaken { .. }
            | Meaning::Waiting { .. }
            | Meaning::Used { .. }
            | Meaning::Exited { .. },
        )
        | None => Some(Over::Done { message: None, left: Vec::new() }),
    }
}

fn ended(history: &History, end: &Signal, facts: Facts, now: Timestamp) -> Option<Over> {
    match &end.meaning {
        Meaning::TurnEnded { message, background: 0, .. } => {
            let left = if facts.gone { Vec::new() } else { history.shells() };
            let waits = !left.is_empty() && !passed(end.at, facts.background_for, now);
            (!waits).then(|| Over::Done { message: message.clone(), left })
        }
        Meaning::TurnFailed { failure, message } => match failure {
            // The task waits with its session: nothing about it failed.
            Failure::Limit(_) | Failure::Login => None,
            Failure::Server => Some(Over::Server { error: message.clone() }),
            // Nothing but the screen may say why: it quotes the hook that refused the prompt, or the error of a CLI whose
            // transcript has none.
            Failure::Refused => match history.on_screen() {
                Some(Meaning::TurnFailed { failure: Failure::Refused, message: shown }) => {
                    Some(Over::Failed { error: format!("{message}: {shown}") })
                }
                Some(Meaning::TurnFailed { .. }) => shown(history),
                _ => Some(Over::Failed { error: message.clone() }),
            },
            Failure::Request | Failure::Unknown => Some(Over::Failed { error: message.clone() }),
        },
        Meaning::TurnEnded { background: 1.., .. }
        | Meaning::Interrupted
        | Meaning::Started { .. }
        | Meaning::Idle
        | Meaning::Busy
        | Meaning::PromptTaken { .. }
        | Meaning::Waiting { .. }
        | Meaning::Used { .. }
        | Meaning::Exited { .. } => None,
    }
}

/// Whether the end of a turn may be believed yet: only a hook reports background work.
fn is_settled(history: &History, end: &Signal, now: Timestamp) -> bool {
    let by_hook = end.source <= Source::Hook;
    if says_nothing(end) {
        // The screen has its time to say why.
        return passed(end.at, MOMENT, now);
    }
    let failed = matches!(end.meaning, Meaning::TurnFailed { .. });
    by_hook || failed || !history.hears_hooks() || passed(end.at, HOOK_MAY_FOLLOW, now)
}

/// Whether the agent rests after the end of its turn.
fn rests(history: &History, end: &Signal, now: Timestamp) -> bool {
    let stale = passed(end.at, END_WITHIN, now);
    match history.status().map(|status| (&status.meaning, status.at)) {
        Some((Meaning::Busy, _)) => false,
        // A file of before the turn says nothing of its end, unless it is never written again.
        Some((Meaning::Idle, at)) => stale || history.began().is_none_or(|began| at >= began),
        Some((_, at)) => stale || at >= end.at,
        None => matches!(end.meaning, Meaning::TurnFailed { .. }) || !history.looks_busy(),
    }
}
