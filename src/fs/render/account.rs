//! `accounts/`.

use std::path::PathBuf;

use crate::{
    fs::{
        clean,
        render::words,
        tree::{Object, Picture},
    },
    model::account::Account,
};

/// One name a line: each agent has an active account.
#[must_use]
pub fn active(picture: &Picture) -> String {
    picture.snapshot.accounts.iter().filter(|account| account.active).map(|a| format!("{}\n", a.name)).collect()
}

#[must_use]
pub fn word(account: &Account) -> &'static str {
    account.word()
}

#[must_use]
pub fn state(_: &Picture, account: &Account) -> String {
    words::line(word(account))
}

#[must_use]
pub fn why(_: &Picture, account: &Account) -> String {
    let home = clean(&account.home.to_string_lossy());
    if account.active {
        format!("new sessions of agent {} run under it; its home is {home}\n", account.agent)
    } else {
        format!("configured for agent {}; its home is {home}\n", account.agent)
    }
}

#[must_use]
pub fn sessions(picture: &Picture, account: &Account) -> String {
    let under = |session: &&std::sync::Arc<crate::model::session::Session>| {
        session.phase.incarnation().is_some_and(|inc| inc.account.as_ref() == Some(&account.name))
    };
    picture.snapshot.sessions.values().filter(under).map(|session| format!("{}\n", session.name)).collect()
}

#[must_use]
pub fn home_link(picture: &Picture, object: &Object) -> Option<PathBuf> {
    let Object::Account(name) = object else { return None };
    picture.snapshot.accounts.iter().find(|account| account.name == *name).map(|account| account.home.clone())
}
