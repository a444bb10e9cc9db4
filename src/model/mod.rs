//! The words of the supervisor: names, tasks, sessions, evidence, events, commands, and the step of each state machine.
//! In: plain values, `now` as an argument. Out: plain values. No tokio, no clock, no file, no process.

pub mod account;
pub mod command;
pub mod command_line;
pub mod event;
pub mod evidence;
pub mod ids;
pub mod leftover;
pub mod letters;
pub mod limit;
pub mod marker;
pub mod notice;
pub mod provider;
pub mod reset;
pub mod result;
pub mod rights;
pub mod route;
pub mod seal;
pub mod session;
pub mod snapshot;
pub mod steady;
pub mod swap;
pub mod task;
pub mod task_file;
pub mod text;
pub mod writer;
