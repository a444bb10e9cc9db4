//! tmux as the terminal (`ports::Terminal`), over one persistent control-mode connection.
//!
//! Implements the port's calls; provides panes, screens and hints. Owns the connection, the keeper's session and the
//! watches on panes' programs. Never polls by starting processes, never targets by a name that could match another
//! session, never puts foreign text where tmux expands formats or a shell reads it, and never blocks on an
//! unresponsive server.
//!
//! | file | one thing |
//! |---|---|
//! | `parse` `converse` `quote` | the protocol, without I/O |
//! | `options` `spawn` `link` `setup` `supervise` | the connection: client process, lifecycle, reconnection |
//! | `list` `target` `text` `errors` | reading answers |
//! | `terminal` `glance` `capture` `open` `typing` `ending` `deaths` | the port |

mod capture;
mod converse;
mod deaths;
mod ending;
mod errors;
mod glance;
mod link;
mod list;
mod open;
mod options;
mod parse;
mod quote;
mod setup;
mod spawn;
mod supervise;
mod target;
mod terminal;
pub mod text;
mod typing;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use nix::sys::signal::Signal;
use tokio::{
    sync::{Mutex, broadcast, mpsc, oneshot, watch},
    task::JoinHandle,
    time::{Instant, timeout, timeout_at},
};

pub use self::options::{KEEPER, Socket, TmuxOptions};
use self::{
    converse::Answer,
    deaths::Deaths,
    glance::Remembered,
    link::{ANSWER_WITHIN, Ask},
    list::{Lister, Row},
    quote::Command,
    setup::Server,
    supervise::State,
};
use crate::{
    linux::shared::Shared,
    model::pane::{PaneId, TerminalError, TerminalHint},
};

/// How long a server may take to end before it is killed. Measured: 0.35 to 1.3 s with 200 panes. Chosen: a multiple
/// of that.
const SERVER_ENDS_WITHIN: Duration = Duration::from_secs(5);

/// Hints kept for a slow receiver. Chosen: one a pane of a large pool; a lost one is replaced by the next tick.
const HINTS_KEPT: usize = 64;

/// The terminal.
#[derive(Debug)]
pub struct Tmux {
    options: TmuxOptions,
    asks: mpsc::Sender<Ask>,
    state: watch::Receiver<State>,
    hints: broadcast::Sender<TerminalHint>,
    stop: watch::Sender<bool>,
    supervisor: Mutex<Option<JoinHandle<()>>>,
    lister: Lister,
    deaths: Deaths,
    /// Name of the buffer that a screen passes through.
    screen_buffer: String,
    looks: AtomicU64,
    remembered: Remembered,
    /// The list of every pane, for all who wait for one.
    listed: Shared<Arc<Vec<Row>>>,
    /// Dead panes whose cause of death tmux can't tell, with the pid they had.
    given_up: std::sync::Mutex<HashMap<PaneId, u32>>,
}

impl Tmux {
    /// Connects, starting the server and the keeper's session where they are missing. From then on lost connections are
    /// made again in the background.
    ///
    /// # Errors
    /// When the first connection can't be made: tmux isn't installed, its server doesn't answer, …
    pub async fn connect(options: TmuxOptions) -> Result<Arc<Self>, TerminalError> {
        let down = |message| TerminalError::Down { what: "connecting".to_owned(), message };
        let first = timeout(ANSWER_WITHIN, setup::establish(&options)).await;
        let (link, server) =
            first.unwrap_or_else(|_| Err(format!("no answer within {ANSWER_WITHIN:?}"))).map_err(down)?;
        let (asks, questions) = mpsc::channel(supervise::QUEUED);
        let (state_in, state) = watch::channel(State::Up(Arc::new(server)));
        let (stop, stopped) = watch::channel(false);
        let (hints, _) = broadcast::channel(HINTS_KEPT);
        let supervisor = supervise::Supervisor {
            options: options.clone(),
            questions,
            state: state_in,
            hints: hints.clone(),
            stop: stopped,
        };
        let supervisor = tokio::spawn(supervisor.run(link));
        let remembered = Remembered::new(hints.subscribe());
        Ok(Arc::new(Self {
            options,
            asks,
            state,
            hints,
            stop,
            supervisor: Mutex::new(Some(supervisor)),
            lister: Lister::new(uuid::Uuid::new_v4().simple().to_string()),
            deaths: Deaths::default(),
            screen_buffer: options::buffer(&uuid::Uuid::new_v4().simple().to_string()),
            looks: AtomicU64::new(0),
            remembered,
            listed: Shared::new(),
            given_up: std::sync::Mutex::default(),
        }))
    }

    /// Closes the connection in good order. Sessions and the keeper stay. Later calls fail with `Down`.
    pub async fn shutdown(&self) {
        self.stop.send_replace(true);
        if let Some(supervisor) = self.supervisor.lock().await.take() {
            drop(supervisor.await);
        }
    }

    /// The server's process id; `None` while there is no connection.
    #[must_use]
    pub fn server_pid(&self) -> Option<u32> {
        self.server().map(|server| server.process.pid())
    }

    /// The server's version (`3.3a`); `None` without a connection.
    #[must_use]
    pub fn server_version(&self) -> Option<String> {
        self.server().map(|server| server.version.clone())
    }

    /// The process id of our own client; `None` while there is no connection.
    #[must_use]
    pub fn client_pid(&self) -> Option<u32> {
        self.server().map(|server| server.client)
    }

    /// Ends the server with every session on it, and waits until it is gone: a server started while the old one ends
    /// would end with it. For tests and demonstrations. Closes the connection.
    ///
    /// # Errors
    /// When there is no connection.
    pub async fn kill_server(&self) -> Result<(), TerminalError> {
        let server = self.server().ok_or_else(|| self.down("kill-server"))?;
        // First no more reconnection: it would start a new server.
        self.shutdown().await;
        drop(server.process.signal(Signal::SIGTERM));
        if timeout(SERVER_ENDS_WITHIN, server.process.ended()).await.is_err() {
            drop(server.process.signal(Signal::SIGKILL));
            drop(timeout(SERVER_ENDS_WITHIN, server.process.ended()).await);
        }
        Ok(())
    }

    fn server(&self) -> Option<Arc<Server>> {
        match &*self.state.borrow() {
            State::Up(server) => Some(Arc::clone(server)),
            State::Connecting | State::Down(_) => None,
        }
    }

    fn down(&self, what: &str) -> TerminalError {
        let message = match &*self.state.borrow() {
            State::Up(_) | State::Connecting => "the connection was lost meanwhile".to_owned(),
            State::Down(why) => why.clone(),
        };
        TerminalError::Down { what: what.to_owned(), message }
    }

    /// One question, to one server where one is named. When it fails with `Down`, the commands may or may not have run.
    async fn ask(&self, server: Option<u32>, what: &str, commands: Vec<Command>) -> Result<Answer, TerminalError> {
        if matches!(&*self.state.borrow(), State::Down(_)) {
            return Err(self.down(what));
        }
        let deadline = Instant::now() + ANSWER_WITHIN;
        let (reply, answer) = oneshot::channel();
        let exchange = async {
            self.asks.send(Ask { server, commands, deadline, reply }).await.ok()?;
            answer.await.ok()
        };
        match timeout_at(deadline, exchange).await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(self.down(what)),
            Err(_) => {
                let message = format!("no answer within {ANSWER_WITHIN:?}");
                Err(TerminalError::Down { what: what.to_owned(), message })
            }
        }
    }

    /// A number that differs from call to call.
    fn tick(&self) -> u64 {
        self.looks.fetch_add(1, Ordering::Relaxed)
    }
}
