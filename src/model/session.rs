//! A session: one tmux session with one agent in it, wanted and actual apart.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    model::ids::{AccountName, AgentName, SessionName},
    ports::PaneId,
};

/// One start of an agent in a session. A new conversation is a new incarnation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incarnation {
    /// Random; the pane remembers it too.
    pub id: String,
    pub session: SessionName,
    pub agent: AgentName,
    pub account: Option<AccountName>,
    pub workdir: PathBuf,
    /// Id by which the agent can resume this conversation, once known.
    pub conversation: Option<String>,
    pub pane: PaneId,
    /// Process id of the program in the pane.
    pub pid: u32,
    pub started: Timestamp,
}
