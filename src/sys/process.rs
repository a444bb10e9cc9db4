//! Who a process is to the supervisor: whose lineage, which terminal's server, what is left of an agent.
//! In: what `linux::process` tells. Out: facts for `model::writer` and `model::leftover`, which decide.

pub mod left;
pub mod lineage;
pub mod servers;
