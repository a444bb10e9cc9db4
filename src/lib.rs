//! claude-failover: a supervisor for coding agents in tmux whose whole state is a directory.
//!
//! ARCHITECTURE.md tells the layers; `tests/layers.rs` holds them.

pub mod agents;
pub mod model;
pub mod ports;
