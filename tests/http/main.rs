//! The HTTP interface on a real socket: what it answers, whom it refuses, and what can't keep it from answering.

#[allow(dead_code, reason = "shared with tests/mount")]
#[path = "../support/mount_picture.rs"]
mod picture;
#[path = "../support/daemon.rs"]
mod world;

mod answers;
mod client;
mod daemon;
mod hostile;
mod refusals;
mod schemathesis;
mod stage;
mod watchdog;
