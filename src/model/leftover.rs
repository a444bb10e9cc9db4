//! What agents leave running: processes with the mark of a start of an agent that is over.
//! In: processes as they were found, and what is known of starts. Out: which are leftovers, and of which task. Pure.
//! Nothing but the task is stored: the processes themselves carry the mark.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{ids::SessionName, snapshot::Snapshot};

/// A process that an agent's start has left, detached or not. What it has started itself is not told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    pub pid: u32,
    /// Clock ticks from the machine's start to its own: with the pid its identity.
    pub start: u64,
    pub since: Timestamp,
    pub session: SessionName,
    /// The token of the start that it is of: a secret.
    pub token: String,
    /// As people are told of it.
    pub command: String,
}

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
