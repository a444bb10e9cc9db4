//! Editors and scripts that people use on a queue: the real programs, on the real mount of a real daemon.
//! Every case checks the same: the program reports no error, and an agent gets the final text exactly once.

#[path = "../support/daemon.rs"]
mod world;

mod desk;
mod places;
mod replayed;
mod scripts;
mod term;
mod terminals;
mod tools;
mod vim;
mod watchers;
