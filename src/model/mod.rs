//! The supervisor's data types: names, tasks, sessions, evidence, events, commands, and the step function of each
//! state machine.
//! Plain values, with `now` as an argument. No tokio, no clock, no file, no process.

pub mod account;
pub mod agent;
pub mod by_words;
pub mod command;
pub mod command_line;
pub mod event;
pub mod evidence;
pub mod footer;
pub mod homes;
pub mod identity;
pub mod ids;
pub mod journal;
pub mod leftover;
pub mod letters;
pub mod limit;
mod line;
pub mod marker;
pub mod notice;
pub mod pane;
pub mod permits;
pub mod provider;
pub mod queue;
pub mod reset;
pub mod result;
pub mod rights;
pub mod route;
#[cfg(test)]
pub mod samples;
pub mod seal;
pub mod session;
pub mod snapshot;
pub mod spelling;
mod state_v1;
pub mod steady;
pub mod swap;
pub mod task;
pub mod task_file;
pub mod tasks;
pub mod text;
pub mod writer;
pub mod yaml;
