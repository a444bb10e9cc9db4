//! The supervisor's state over HTTP, for monitors: read only, loopback unless there is a token.
//! In: requests of anybody who reaches the address. Out: answers made from the last snapshot. Owns the listening socket and a
//! thread of its own, so that a flood of requests holds up nobody else. Never changes anything, waits for nothing but its
//! client, and tells nothing that quotes a task, a screen or an error.

mod delegated;
mod guard;
mod routes;
mod server;
mod watchdog;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use crate::{config::Secret, model::snapshot::Snapshot};

pub use routes::{ROUTES, Route};
pub use server::{MOST_CONNECTIONS, Server};

/// What the HTTP face needs of the daemon.
pub trait Backend: Send + Sync + 'static {
    /// The present picture.
    fn snapshot(&self) -> Arc<Snapshot>;

    /// How long a task at work may be silent before it is stale (`watcher.idle_timeout`).
    fn idle_timeout(&self) -> Duration;

    /// It listens at this address now, or can't and says why. A hint, so it must not wait.
    fn listening(&self, outcome: Result<SocketAddr, String>);
}

/// Where it listens, and for whom.
#[derive(Debug, Clone)]
pub struct Options {
    pub listen: SocketAddr,
    /// Who doesn't give it is refused; `None` admits everybody who reaches the address.
    pub token: Option<Secret>,
}
