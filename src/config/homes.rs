//! Computes the links that the accounts' homes must have so that one account can resume another's conversations.
//! Returns, for each account, its home's links and their targets, and the accounts that the operator's own link can
//! point to. Touches no file.

use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
};

use super::schema::{Account, Config, Shared};
use crate::rules::{
    Kind,
    format::{Home, SharedKey},
};

/// A link in an account's home that leads to what all accounts of its kind share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedLink {
    pub path: PathBuf,
    pub target: PathBuf,
}

impl Config {
    /// The kind of the account's agent.
    #[must_use]
    pub fn kind_of(&self, account: &Account) -> Option<&Kind> {
        self.agents.get(&account.agent).map(|agent| &agent.kind)
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
        let Some(home) = &kind.rules().home else { return Vec::new() };
        let link = |entry: &String| SharedLink {
            path: account.home.join(entry),
            target: self.shared.root.join(self.shared.name(kind, entry)),
        };
        self.shared.entries_of(home).iter().map(link).collect()
    }

    /// The operator's own link and the accounts that it can lead to; nothing where no swap could ever turn it.
    #[must_use]
    pub fn operators_link(&self) -> Option<(&Path, Vec<&Account>)> {
        let link = self.claude_link.as_deref()?;
        let home = |account: &Account| self.kind_of(account)?.rules().home.as_ref();
        let theirs = |account: &&Account| home(account).is_some_and(|home| home.operators_link);
        let accounts: Vec<_> = self.accounts.iter().filter(theirs).collect();
        (accounts.len() > 1).then_some((link, accounts))
    }
}

impl Shared {
    /// The shared directory's name.
    fn name(&self, kind: &Kind, entry: &str) -> String {
        self.pattern.replace(AGENT, kind.name()).replace(ENTRY, entry)
    }

    /// The configuration's own list, else that of the rules.
    fn entries_of<'a>(&'a self, home: &'a Home) -> &'a [String] {
        let own = match home.shared_key {
            Some(SharedKey::Entries) => self.entries.as_ref(),
            Some(SharedKey::CodexEntries) => self.codex_entries.as_ref(),
            None => None,
        };
        own.unwrap_or(&home.shared)
    }
}

/// What `shared.pattern` may hold.
const AGENT: &str = "{agent}";
const ENTRY: &str = "{entry}";

/// What is wrong with `shared`, each with its key.
pub(super) fn meaning(config: &Config, wrong: &mut impl FnMut(&str, String)) {
    let Shared { root, entries, codex_entries, pattern } = &config.shared;
    let own = [("shared.entries", entries), ("shared.codex_entries", codex_entries)];
    let own = own.into_iter().filter_map(|(key, entries)| Some((key.to_owned(), entries.as_ref()?)));
    let of_rules =
        config.agents.iter().filter(|(_, agent)| agent.rules.is_some()).filter_map(|(name, agent)| {
            Some((format!("agents.{name}.rules"), &agent.kind.rules().home.as_ref()?.shared))
        });
    for (key, entries) in own.chain(of_rules) {
        let mut seen = HashSet::new();
        for (n, entry) in entries.iter().enumerate() {
            let at = format!("{key}[{n}]");
            if entry.is_empty() || entry == "." || entry == ".." || entry.contains(['/', '\0']) {
                wrong(&at, format!("{entry:?} is no name of a directory in a home"));
            } else if !seen.insert(entry) {
                wrong(&at, format!("{entry:?} stands twice in `{key}`"));
            }
        }
    }
    let plain = pattern.replace(AGENT, "").replace(ENTRY, "");
    if !pattern.contains(ENTRY) {
        wrong("shared.pattern", format!("{pattern:?} must hold {ENTRY}, or all entries would be one directory"));
    } else if plain.contains(['/', '\0']) {
        wrong("shared.pattern", format!("{pattern:?} must be a name in `root`, without /"));
    } else if plain.contains(['{', '}']) {
        wrong("shared.pattern", format!("{pattern:?} may hold {AGENT} and {ENTRY}, nothing else in braces"));
    }
    let links = config.accounts.iter().flat_map(|account| {
        let links = config.shared_links(account).into_iter();
        links.map(move |link| (config.kind_of(account).map(Kind::name), link))
    });
    let links: Vec<_> = links.collect();
    if !links.is_empty() && !root.is_absolute() {
        wrong("shared.root", format!("{:?} needs $HOME, which isn't set", root.to_string_lossy()));
    }
    let mut kinds = BTreeMap::new();
    for (kind, link) in &links {
        let shown = link.target.display();
        if kinds.entry(&link.target).or_insert(kind) != &kind {
            let hint = format!("agents of different kinds would share {shown}; put {AGENT} into `pattern`");
            return wrong("shared.pattern", hint);
        }
        if links.iter().any(|(_, other)| other.path == link.target) {
            return wrong("shared.pattern", format!("{shown} would be a link to itself; choose another `root`"));
        }
    }
}
