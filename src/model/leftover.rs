//! Leftovers: processes that agents left running, carrying the mark of an agent start that has ended.
//! Takes the processes found and the known starts; returns which are leftovers and of which task. Pure. Only the task
//! is stored: the processes themselves carry the mark.

use std::collections::BTreeSet;

use super::snapshot::Snapshot;
use crate::model::agent::Leftover;

/// The tokens of the agents that are there, or not cleared away yet: what is of them is theirs.
#[must_use]
pub fn living(snapshot: &Snapshot) -> BTreeSet<String> {
    let tokens = snapshot.sessions.values().filter_map(|session| Some(session.phase.incarnation()?.token.clone()));
    tokens.filter(|token| !token.is_empty()).collect()
}

/// Starts of which nothing runs any more, so that nobody asks for their tasks.
#[must_use]
pub fn forgotten(snapshot: &Snapshot, found: &[Leftover]) -> Vec<String> {
    let living = living(snapshot);
    let is_over = |token: &&String| !living.contains(*token) && found.iter().all(|one| one.token != **token);
    snapshot.starts.keys().filter(is_over).cloned().collect()
}
