//! The terminal on a real tmux, each test with its own server. Nothing is skipped: without tmux they all fail.

mod capture;
mod ending;
mod hazards;
mod helpers;
mod opening;
mod server;
mod typing;
mod world;
