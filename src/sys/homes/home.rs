//! One account's home as configured.

use std::path::{Path, PathBuf};

use crate::{
    config::SharedLink,
    model::ids::AccountName,
    rules::{self, Kind},
};

/// One account's home.
#[derive(Debug)]
pub(super) struct Home {
    pub account: AccountName,
    /// The configuration's key.
    pub key: String,
    pub kind: Option<Kind>,
    pub path: PathBuf,
    /// What it shares with others; empty when no other account can take this one's place.
    pub links: Vec<SharedLink>,
    pub has_stand_in: bool,
    /// The operator's link can lead to it.
    pub linked: bool,
}

impl Home {
    /// What is known of the homes of its kind.
    pub fn rules(&self) -> Option<&rules::format::Home> {
        self.kind.as_ref()?.rules().home.as_ref()
    }

    /// A file of the home, also where the CLI keeps it beside the home that it uses unasked.
    pub fn file(&self, name: &str) -> PathBuf {
        let inside = self.path.join(name);
        let default = self.rules().filter(|rules| rules.beside.as_deref() == Some(name)).map(|rules| &rules.default);
        let beside =
            default.filter(|default| self.path.ends_with(default)).and_then(|_| Some(self.path.parent()?.join(name)));
        beside.filter(|file| !inside.exists() && file.exists()).unwrap_or(inside)
    }

    /// Whether the agent finds this home unasked.
    pub fn is_default(&self) -> bool {
        let default = self.rules().map(|rules| &rules.default);
        default.zip(std::env::var_os("HOME")).is_some_and(|(default, user)| Path::new(&user).join(default) == self.path)
    }
}
