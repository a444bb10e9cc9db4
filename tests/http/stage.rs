//! A server on its own port, over a snapshot that the test chooses.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        mpsc::{Sender, channel},
    },
    time::Duration,
};

use claude_failover::{
    config::Secret,
    http::{Backend, Options, Server},
    model::snapshot::Snapshot,
};

pub const TOKEN: &str = "correct-horse-battery-staple";
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(1800);

struct Fake {
    snapshot: Arc<Snapshot>,
    heard: Mutex<Sender<Result<SocketAddr, String>>>,
}

impl Backend for Fake {
    fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.clone()
    }
    fn idle_timeout(&self) -> Duration {
        IDLE_TIMEOUT
    }
    fn listening(&self, outcome: Result<SocketAddr, String>) {
        self.heard.lock().expect("heard").send(outcome).expect("sent");
    }
}

pub struct Stage {
    pub address: SocketAddr,
    _server: Server,
}

impl Stage {
    pub fn new(snapshot: Snapshot) -> Self {
        Self::with(snapshot, None)
    }

    pub fn with(snapshot: Snapshot, token: Option<&str>) -> Self {
        let (sender, heard) = channel();
        let backend = Arc::new(Fake { snapshot: Arc::new(snapshot), heard: Mutex::new(sender) });
        let listen = "127.0.0.1:0".parse().expect("an address");
        let server = Server::start(Options { listen, token: token.map(Secret::new) }, backend).expect("a server");
        let address = heard.recv_timeout(Duration::from_secs(30)).expect("told").expect("listens");
        Self { address, _server: server }
    }
}

/// A picture with one of everything, full of text that nobody outside may see.
pub fn full() -> Snapshot {
    crate::picture::picture("/srv".as_ref())
}

/// One of a daemon that has nothing to do.
pub fn quiet() -> Snapshot {
    Snapshot::empty(crate::picture::at(0))
}
