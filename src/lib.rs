//! claude-failover: a supervisor for coding agents in tmux whose whole state is a directory.
//!
//! ARCHITECTURE.md describes the layers; `tests/layers.rs` enforces them.

#![deny(unsafe_code)]
#![warn(clippy::undocumented_unsafe_blocks)]
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used))]

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
#[allow(unsafe_code, reason = "the one place for it")]
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
