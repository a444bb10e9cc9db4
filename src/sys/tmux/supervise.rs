//! Keeps the connection alive: serves it, detects its loss, reconnects.
//! Takes questions and the stop request; publishes the connection state and hints. Owns the single link. Callers don't
//! wait once a reconnection has failed: they get the error at once until one succeeds.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{broadcast, mpsc, watch},
    time::{sleep, timeout},
};

use super::{
    link::{Ask, Ended, Link},
    options::TmuxOptions,
    setup::{Server, establish},
};
use crate::model::pane::TerminalHint;

/// Questions that wait for the connection. Chosen: all sessions of a large pool at once.
pub const QUEUED: usize = 64;

/// First pause between attempts to reconnect; it doubles. Chosen: a lost client is back before anybody notices.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
/// Longest pause. Chosen: an ended server that a person starts again is found within it.
const PAUSE_LAST: Duration = Duration::from_secs(5);

/// Wait before reconnecting to a server that closed all connections: it may be ending, and connecting meanwhile fails.
/// Measured: ending takes 0.35 to 1.3 s with 200 panes. Chosen: spares the failure where it ends quickly.
const SERVER_ENDS_WITHIN: Duration = Duration::from_millis(300);

#[derive(Debug, Clone)]
pub enum State {
    Up(Arc<Server>),
    /// Lost a moment ago; the first attempt to reconnect is on.
    Connecting,
    /// Why the last attempt failed, or that there will be none.
    Down(String),
}

pub struct Supervisor {
    pub options: TmuxOptions,
    pub questions: mpsc::Receiver<Ask>,
    pub state: watch::Sender<State>,
    pub hints: broadcast::Sender<TerminalHint>,
    /// Becomes `true`, or closes, when the connection shall end.
    pub stop: watch::Receiver<bool>,
}

impl Supervisor {
    pub async fn run(mut self, first: Link) {
        let mut link = first;
        loop {
            let hints = self.hints.clone();
            // Without receivers nobody needs the hint.
            let mut changed = move |_: &str| drop(hints.send(TerminalHint::Panes));
            let ended = tokio::select! {
                ended = link.serve(&mut self.questions, &mut changed) => ended,
                () = stopped(&mut self.stop) => Ended::Closed,
            };
            match ended {
                Ended::Closed => {
                    self.state.send_replace(State::Down("the connection was closed".to_owned()));
                    link.close().await;
                    return;
                }
                Ended::Lost(why) => {
                    tracing::warn!(why, "the connection to tmux was lost");
                    drop(link);
                }
            }
            let before = self.state.send_replace(State::Connecting);
            drop(self.hints.send(TerminalHint::Server));
            let mut stop = self.stop.clone();
            link = tokio::select! {
                link = self.reconnect(before) => link,
                () = stopped(&mut stop) => {
                    self.state.send_replace(State::Down("the connection was closed".to_owned()));
                    return;
                }
            };
            drop(self.hints.send(TerminalHint::Server));
        }
    }

    async fn reconnect(&mut self, before: State) -> Link {
        if let State::Up(server) = before {
            drop(timeout(SERVER_ENDS_WITHIN, server.process.ended()).await);
        }
        let mut pause = PAUSE_FIRST;
        loop {
            match establish(&self.options).await {
                Ok((link, server)) => {
                    tracing::info!(server = server.process.pid(), "connected to tmux again");
                    self.state.send_replace(State::Up(Arc::new(server)));
                    return link;
                }
                Err(why) => {
                    tracing::warn!(why, "tmux can't be reached");
                    self.state.send_replace(State::Down(why));
                }
            }
            // Dropping a question notifies its caller.
            while self.questions.try_recv().is_ok() {}
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_LAST);
        }
    }
}

/// Completes when the wish to stop is there.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the terminal was dropped, which is the same wish.
    drop(stop.wait_for(|stop| *stop).await);
}
