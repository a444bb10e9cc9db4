//! Implements the ports on the real system, one outside thing per module.

pub mod archive;
pub mod clock;
pub mod disk;
pub mod git;
pub mod homes;
pub mod http;
mod names;
pub mod notify;
pub mod process;
pub mod providers;
mod queue_root;
pub mod state;
pub mod tmux;
pub mod watch;
