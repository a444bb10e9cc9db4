//! Providers over HTTP against loopback servers that behave and misbehave, the daemon with them, and `ccl-delegate`.

#[path = "../support/server.rs"]
mod server;
#[path = "../support/daemon.rs"]
mod world;

mod answers;
mod failures;
mod kinds;
