//! claude-failover: a supervisor for coding agents in tmux whose whole state is a directory.
//!
//! ARCHITECTURE.md tells the layers; `tests/layers.rs` holds them.

pub mod command_agent;
pub mod demo_agent;
pub mod hook;
pub mod model;
pub mod ports;
