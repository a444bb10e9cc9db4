//! The terminal on a real tmux, each test on a server of its own. Nothing is skipped: without tmux they all fail.

mod capture;
mod ending;
mod hazards;
mod helpers;
mod opening;
mod server;
mod typing;
mod world;
