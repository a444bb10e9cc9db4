//! The accounts' homes: a link that leads to one of them, and what is wrong with each.

use std::{
    collections::BTreeMap,
    io::{Error, ErrorKind, Result},
};

use async_trait::async_trait;
use jiff::Timestamp;

use super::FakeWorld;
use crate::{
    model::ids::AccountName,
    ports::{HomeFaults, Homes},
};

/// What tests set and look at.
#[derive(Debug, Default)]
pub struct FakeHomes {
    /// Where the operator's link leads.
    pub link: Option<AccountName>,
    /// Accounts to whose home the link can't be turned, and why.
    pub unturnable: BTreeMap<AccountName, String>,
    /// Homes whose shared links are not whole, and why.
    pub faults: BTreeMap<AccountName, Vec<String>>,
    /// When somebody logged in.
    pub logged_in: BTreeMap<AccountName, Timestamp>,
}

#[async_trait]
impl Homes for FakeWorld {
    async fn flip(&self, to: &AccountName) -> Result<()> {
        self.effect(
            || format!("turn the link to {to}"),
            |inner| match inner.homes.unturnable.get(to).cloned() {
                Some(why) => Err(Error::new(ErrorKind::AlreadyExists, why)),
                None => inner.write(|inner| {
                    inner.homes.link = Some(to.clone());
                    Ok(())
                }),
            },
        )
        .await
    }

    async fn ensure(&self, account: &AccountName) -> std::result::Result<(), HomeFaults> {
        self.effect(
            || format!("ensure the home of {account}"),
            |inner| match inner.homes.faults.get(account).cloned() {
                Some(faults) => Err(HomeFaults(faults)),
                None => inner.write(|_| Ok(())).map_err(|error| HomeFaults(vec![format!("{account}: {error}")])),
            },
        )
        .await
    }

    async fn logged_in(&self, account: &AccountName) -> Option<Timestamp> {
        self.see(|inner| inner.homes.logged_in.get(account).copied()).await
    }
}
