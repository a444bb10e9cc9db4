//! claude-failover: a supervisor for coding agents in tmux whose whole state is a directory.
//!
//! ARCHITECTURE.md tells the layers; `tests/layers.rs` holds them.

pub mod agents;
pub mod cli;
pub mod command_agent;
pub mod config;
pub mod contract;
pub mod daemon;
pub mod delegate;
pub mod demo_agent;
pub mod dispatcher;
pub mod fs;
pub mod hook;
pub mod http;
pub mod janitor;
pub mod linux;
pub mod live;
pub mod model;
pub mod notify;
pub mod ports;
pub mod queue;
pub mod quota;
pub mod render;
pub mod repeater;
pub mod rules;
pub mod session;
pub mod switcher;
pub mod sys;
pub mod watcher;
