//! Lists the sessions that a swap still waits for, and why.
//! Takes the snapshot and the swap. Pure.

use crate::model::{
    account::Account,
    session::{Activity, Session, SessionPhase},
    snapshot::{Snapshot, Under},
    swap::Swap,
};

/// Sessions that don't run under the new account yet.
#[must_use]
pub fn left(snapshot: &Snapshot, swap: &Swap) -> Vec<String> {
    let Some(to) = snapshot.account(&swap.to) else { return Vec::new() };
    snapshot.sessions.values().filter(|session| waits(session, to)).map(|session| session.name.to_string()).collect()
}

/// Whether sessions can continue to move: the new account is still usable.
#[must_use]
pub fn goes_on(snapshot: &Snapshot, swap: &Swap) -> bool {
    snapshot
        .account(&swap.to)
        .is_some_and(|to| matches!(snapshot.under(&to.agent), Under::Account(now) if now.name == to.name))
}

fn waits(session: &Session, to: &Account) -> bool {
    if let Some(resume) = &session.resume {
        return to.agents.contains(&resume.agent);
    }
    match &session.phase {
        SessionPhase::Starting(incarnation) | SessionPhase::Up(incarnation) | SessionPhase::Ending(incarnation)
            if !to.agents.contains(&incarnation.agent) || incarnation.account.is_none() =>
        {
            false
        }
        SessionPhase::Up(incarnation) | SessionPhase::Ending(incarnation) => {
            incarnation.account.as_ref() != Some(&to.name) && session.follows(incarnation, to.active_since)
        }
        // What waits for a person there is not the swap's to wait for.
        SessionPhase::Starting(_) => !matches!(session.verdict.activity, Activity::Waiting(_)),
        SessionPhase::Down | SessionPhase::Dead { .. } => false,
    }
}
