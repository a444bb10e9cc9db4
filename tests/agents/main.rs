//! The real agent CLIs under the real daemon: the program, tmux, a mount, and a loopback server in place of the
//! providers.
//! Every test has its own world. Without npm they are skipped with a printed line.

#[path = "../support/cli.rs"]
mod cli;
#[path = "../support/mock_llm.rs"]
mod mock_llm;
#[path = "../support/daemon.rs"]
mod world;

mod claude;
mod codex;
mod default_home;
mod failover;
mod prompts;
mod qwen;
mod scenario;
mod stage;
