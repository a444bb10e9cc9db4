//! What the book of agents is made of: the rows of the configuration, the homes, and an agent with its rules.
//! In: plain values. Out: plain values.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::{
    agents::{
        home::AccountHome,
        limits::Limits,
        rules::{Kind, Rules},
    },
    model::ids::{AccountName, AgentName},
};

/// One row of `agents:` in the configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentConfig {
    pub kind: Kind,
    /// Instead of the program that the rules name.
    #[serde(default)]
    pub program: Option<String>,
    /// The operator's own arguments; they come before ours.
    #[serde(default)]
    pub args: Vec<String>,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The program and its arguments (`kind: command`).
    #[serde(default)]
    pub run: Vec<String>,
    /// Laid over the built-in rules, key by key.
    #[serde(default)]
    pub rules: Option<serde_json::Value>,
}

impl AgentConfig {
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        Self { kind, program: None, args: Vec::new(), env: BTreeMap::new(), run: Vec::new(), rules: None }
    }
}

/// What `AgentBook` is made of.
#[derive(Debug, Clone)]
pub struct AgentBookOptions {
    pub agents: BTreeMap<AgentName, AgentConfig>,
    pub homes: BTreeMap<AccountName, AccountHome>,
    pub state_dir: PathBuf,
    /// This program's own file, for hooks and wrappers.
    pub exe: PathBuf,
    pub mount: PathBuf,
    /// The daemon's environment; only an allow-list of it reaches a session.
    pub base_env: BTreeMap<String, String>,
}

pub(super) struct Agent {
    pub config: AgentConfig,
    pub rules: Rules,
    /// Where its programs are.
    pub zone: TimeZone,
}

impl Agent {
    /// The directory that it uses: the account's, else its own.
    pub fn home(&self, options: &AgentBookOptions, account: Option<&AccountHome>) -> PathBuf {
        match (account, &self.rules.home) {
            (Some(account), _) => account.home.clone(),
            (None, Some(rule)) => self.config.env.get(&rule.env).map_or_else(
                || Path::new(options.base_env.get("HOME").map_or("/", String::as_str)).join(&rule.default),
                PathBuf::from,
            ),
            (None, None) => PathBuf::new(),
        }
    }

    pub fn limits(&self) -> Limits<'_> {
        Limits { rules: &self.rules.limits, zone: &self.zone }
    }
}
