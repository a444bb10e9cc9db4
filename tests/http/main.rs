//! The HTTP interface on a real socket: answers, refusals, and resistance to abuse.

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
