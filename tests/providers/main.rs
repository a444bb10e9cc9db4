//! Providers over HTTP against loopback servers that behave and misbehave, the daemon with them, and `ccl-delegate`.

#[path = "../support/job_server.rs"]
mod job_server;
#[path = "../support/litellm.rs"]
mod litellm_proxy;
#[path = "../support/server.rs"]
mod server;
#[path = "../support/daemon.rs"]
mod world;

mod answers;
mod contract;
mod daemon;
mod failures;
mod kinds;
mod litellm;
mod moves;
mod odd;
