//! The lists of editors and scripts that people use on a queue, with the real programs, on the real mount of a real daemon.
//! Every case asks the same: the program has no complaint, and an agent gets the final text exactly once.

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
