//! `Hands`: what every service is given: the owner, the current configuration, and the ports.
//! Owns nothing. A service uses what it needs; its own head says which ports it touches.

use std::sync::Arc;

use tokio::sync::watch;

use crate::{
    config::Config,
    live::Live,
    model::pane::Background,
    ports::{Agents, Clock, Homes, Notifier, Providers, QueueStore, StateStore, Terminal},
};

pub type NewId = Arc<dyn Fn() -> String + Send + Sync>;

#[derive(Clone)]
pub struct Hands {
    pub live: Live,
    pub config: watch::Receiver<Arc<Config>>,
    pub clock: Arc<dyn Clock>,
    pub terminal: Arc<dyn Terminal>,
    pub agents: Arc<dyn Agents>,
    pub queue: Arc<dyn QueueStore>,
    pub state: Arc<dyn StateStore>,
    pub homes: Arc<dyn Homes>,
    pub providers: Arc<dyn Providers>,
    pub notifier: Arc<dyn Notifier>,
    /// Creates unique ids.
    pub new_id: NewId,
}

impl Hands {
    /// `watcher.leave_background`.
    #[must_use]
    pub fn background(&self) -> Background {
        if self.config.borrow().watcher.leave_background { Background::Stays } else { Background::Ends }
    }
}
