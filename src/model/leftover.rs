//! What agents leave running: processes with the mark of a start of an agent that is over.
//! In: processes as they were found, and what is known of starts. Out: which are leftovers, and of which task. Pure.
//! Nothing but the task is stored: the processes themselves carry the mark.

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
