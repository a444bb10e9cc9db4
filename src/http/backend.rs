//! The trait that the HTTP interface requires of the daemon, and its listening options.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use crate::{config::Secret, model::snapshot::Snapshot};

/// What the HTTP face needs of the daemon.
pub trait Backend: Send + Sync + 'static {
    /// The current snapshot.
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
