//! Terminal panes: identity, program, exit, and what is done to them.
//! Plain values. Knows nothing of tmux.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::model::ids::SessionName;

/// One pane of one terminal server (`%7@4711`): exact, and never another pane, not even after the server was replaced.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PaneId(pub String);

/// One pane of one session as the terminal shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pane {
    pub session: SessionName,
    pub id: PaneId,
    /// Process id of the program in the pane.
    pub pid: u32,
    /// `None` while the program runs.
    pub exit: Option<Exit>,
    pub title: String,
    /// The incarnation that `open` was given, as the pane itself remembers it; `None` for a pane that somebody else made.
    pub incarnation: Option<String>,
    /// Clients of people that look at this session.
    pub attached: u32,
    /// Grows or changes whenever the pane's content may have changed; compare only.
    pub change: u64,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exit {
    Status(i32),
    Signal(i32),
    /// It is gone and nothing says how.
    Unknown,
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(status) => write!(f, "exit status {status}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
            Self::Unknown => f.write_str("how is not known"),
        }
    }
}

/// What to run in a session's pane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    pub session: SessionName,
    /// Remembered by the pane, so that a later daemon can tell its own from a stranger's.
    pub incarnation: String,
    pub argv: Vec<String>,
    /// The whole environment beyond the terminal's own few variables.
    pub env: Vec<(String, String)>,
    pub workdir: PathBuf,
    /// Keep the dead pane and its last screen (pool sessions); else the session goes with its program (dedicated ones).
    pub keep_dead: bool,
}

/// What happens to a stopped program's background processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Background {
    /// It ends with the program: its whole process tree, and its terminal's session.
    Ends,
    /// It runs on: what has a process group of its own. The program's own group is the program.
    Stays,
}

impl Background {
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ends => "ends",
            Self::Stays => "stays",
        }
    }
}

/// How to read a pane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capture {
    /// The visible screen, text only.
    Plain,
    /// The visible screen with colours (SGR only).
    Colour,
    /// The scrollback and the visible screen, text only.
    History,
}

/// A key by tmux's name: `Enter`, `Escape`, `C-c`, `Down`, `y`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key(pub String);

/// Something the terminal reports by itself; a hint to look again, never the truth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TerminalHint {
    /// Sessions or panes came, went or died.
    Panes,
    /// The terminal server went away or came back: everything may be different.
    Server,
}

#[derive(Debug, thiserror::Error)]
pub enum TerminalError {
    /// The pane or session isn't there.
    #[error("{what}: no such pane or session")]
    Gone { what: String },
    /// The program in the pane has ended.
    #[error("{what}: the program in the pane has ended")]
    Dead { what: String },
    /// The terminal said no; its own words.
    #[error("tmux refused {what}: {message}")]
    Refused { what: String, message: String },
    /// The text holds something that must never reach a terminal.
    #[error("text for {what} was refused: {message}")]
    Text { what: String, message: String },
    /// No answer in time, or no server.
    #[error("tmux does not answer ({what}): {message}")]
    Down { what: String, message: String },
}
