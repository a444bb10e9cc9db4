//! The real world behind the ports: one outside thing a module.

pub mod process;
pub mod tmux;
