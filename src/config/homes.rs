//! What the accounts' homes must hold so that one account can go on with another's conversations.
//! In: the configuration. Out: for each account the links of its home and where they must lead; who the operator's own link
//! can lead to. Touches no file.

use std::path::{Path, PathBuf};

use super::schema::{Account, AgentKind, Config};

/// A link in an account's home that leads to what all accounts of its kind share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedLink {
    pub path: PathBuf,
    pub target: PathBuf,
}

impl Config {
    /// The kind of the account's agent.
    #[must_use]
    pub fn kind_of(&self, account: &Account) -> Option<AgentKind> {
        self.agents.get(&account.agent).map(|agent| agent.kind)
    }

    /// Whether another account can take this one's place.
    #[must_use]
    pub fn has_stand_in(&self, account: &Account) -> bool {
        self.accounts_of(&account.agent).any(|other| other.name != account.name)
    }

    /// The links that the account's home must hold; none for one whose place no other can take.
    #[must_use]
    pub fn shared_links(&self, account: &Account) -> Vec<SharedLink> {
        let Some(kind) = self.kind_of(account).filter(|_| self.has_stand_in(account)) else { return Vec::new() };
        let entries: &[String] = match kind {
            // The demo agent keeps its files as Claude Code does.
            AgentKind::Claude | AgentKind::Demo => &self.shared.entries,
            AgentKind::Codex => &self.shared.codex_entries,
            AgentKind::Command => &[],
        };
        let link = |entry: &String| SharedLink {
            path: account.home.join(entry),
            target: self.shared.root.join(self.shared.name(kind, entry)),
        };
        entries.iter().map(link).collect()
    }

    /// The operator's own link and the accounts that it can lead to; nothing where no swap could ever turn it.
    #[must_use]
    pub fn operators_link(&self) -> Option<(&Path, Vec<&Account>)> {
        let link = self.claude_link.as_deref()?;
        let claude = |account: &&Account| self.kind_of(account) == Some(AgentKind::Claude);
        let accounts: Vec<_> = self.accounts.iter().filter(claude).collect();
        (accounts.len() > 1).then_some((link, accounts))
    }
}

impl super::schema::Shared {
    /// The shared directory's name.
    #[must_use]
    pub fn name(&self, kind: AgentKind, entry: &str) -> String {
        self.pattern.replace("{agent}", kind.name()).replace("{entry}", entry)
    }
}
