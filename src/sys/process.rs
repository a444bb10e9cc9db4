//! Relates processes to the supervisor: ancestry, tmux servers, leftovers of agents.
//! Takes what `linux::process` reports; returns facts for `model::writer` and `model::leftover`, which decide.

pub mod left;
pub mod lineage;
