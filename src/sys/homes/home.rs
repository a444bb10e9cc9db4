//! One account's home as the configuration has it.

use std::path::PathBuf;

use crate::{
    config::{AgentKind, SharedLink},
    model::ids::AccountName,
};

/// One account's home.
#[derive(Debug)]
pub(super) struct Home {
    pub account: AccountName,
    /// The configuration's key.
    pub key: String,
    pub kind: Option<AgentKind>,
    pub path: PathBuf,
    /// What it shares with others; empty when no other account can take this one's place.
    pub links: Vec<SharedLink>,
    pub has_stand_in: bool,
    /// The operator's link can lead to it.
    pub linked: bool,
}

/// Where an agent keeps its login (Claude Code 2.1.329, Codex 0.169.0: as they write them themselves).
pub(super) fn login_file(kind: AgentKind) -> Option<&'static str> {
    match kind {
        AgentKind::Claude | AgentKind::Demo => Some(".credentials.json"),
        AgentKind::Codex => Some("auth.json"),
        AgentKind::Gemini | AgentKind::Opencode | AgentKind::Command => None,
    }
}
