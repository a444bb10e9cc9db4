//! Input of `AgentBook`: the configuration's agent rows, the homes, and each agent with its rules. Plain values only.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use jiff::tz::TimeZone;

use crate::{
    agents::home::AccountHome,
    config,
    model::ids::{AccountName, AgentName},
    rules::{Rules, limits::Limits},
};

/// What `AgentBook` is made of.
#[derive(Debug, Clone)]
pub struct AgentBookOptions {
    pub agents: BTreeMap<AgentName, config::Agent>,
    pub homes: BTreeMap<AccountName, AccountHome>,
    pub state_dir: PathBuf,
    /// This program's own file, for hooks and wrappers.
    pub exe: PathBuf,
    pub mount: PathBuf,
    /// The daemon's environment; only an allow-list of it reaches a session.
    pub base_env: BTreeMap<String, String>,
}

pub(super) struct Agent {
    pub config: config::Agent,
    /// Where its programs are.
    pub zone: TimeZone,
}

impl Agent {
    pub fn rules(&self) -> &Rules {
        self.config.kind.rules()
    }

    /// The directory that it uses: the account's, else its own.
    pub fn home(&self, options: &AgentBookOptions, account: Option<&AccountHome>) -> PathBuf {
        match (account, &self.rules().home) {
            (Some(account), _) => account.home.clone(),
            (None, Some(rule)) => self.config.env.get(&rule.env).map_or_else(
                || Path::new(options.base_env.get("HOME").map_or("/", String::as_str)).join(&rule.default),
                PathBuf::from,
            ),
            (None, None) => PathBuf::new(),
        }
    }

    pub fn limits(&self) -> Limits<'_> {
        Limits { rules: &self.rules().limits, zone: &self.zone }
    }
}
