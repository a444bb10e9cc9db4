//! The accounts' true state, which the daemon learns only from its agents; their homes, and the operator's link. Takes
//! what a test makes happen; returns the port's answers, and limits that hit every agent of an account.

use std::{
    io::{Error, ErrorKind, Result},
    time::Duration,
};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use super::{FakeWorld, Inner, program::Due};
use claude_failover::{
    model::{
        evidence::{Failure, Signal, Source},
        homes::HomeFaults,
        ids::AccountName,
        limit::{Limit, LimitKind},
    },
    ports::Homes,
};

/// A limit that struck, or a login that was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strike {
    pub from: Timestamp,
    /// When it is really over, whatever agents tell of it.
    pub until: Timestamp,
    pub failure: Failure,
}

/// What is true of an account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FakeAccount {
    /// In the order in which they came.
    pub strikes: Vec<Strike>,
    /// Its shared links are not whole.
    pub links_broken: bool,
    /// They were not at the last look.
    pub(super) was_broken: bool,
    /// The operator's link can't be turned to it.
    pub flip_fails: bool,
    pub logged_in: Option<Timestamp>,
    /// When its agents said that it is out.
    pub told: Vec<Timestamp>,
}

impl FakeAccount {
    /// What stands in the way of its agents.
    #[must_use]
    pub fn out(&self, now: Timestamp) -> Option<Failure> {
        self.strikes.iter().rev().find(|strike| strike.from <= now && now < strike.until).map(|strike| strike.failure)
    }
}

/// A clock that is set back by a second shows that second twice, and nobody may have looked between.
const SHOWN_TWICE: SignedDuration = SignedDuration::from_secs(2);

impl Inner {
    /// What stands in the way of the agents of an account.
    #[must_use]
    pub fn out(&self, account: Option<&AccountName>) -> Option<Failure> {
        self.accounts.get(account?)?.out(self.true_time())
    }

    /// A limit strikes an account, or its login is lost: every turn under it fails sooner or later.
    pub fn strike(&mut self, account: &AccountName, failure: Failure, lasts: Duration) {
        let from = self.true_time();
        let Some(truth) = self.accounts.get_mut(account) else { return };
        if truth.out(from).is_some() {
            return;
        }
        let until = from.saturating_add(SignedDuration::try_from(lasts).unwrap_or(SignedDuration::MAX));
        truth.strikes.push(Strike { from, until: until.unwrap_or(Timestamp::MAX), failure });
        self.note(format!("world: {account} is out for {} s: {failure:?}", lasts.as_secs()));
        self.tally.strikes += 1;
        let under = |program: &&super::Program| program.exit.is_none() && program.account.as_ref() == Some(account);
        let pids: Vec<u32> = self.programs.values().filter(under).map(|program| program.pid).collect();
        for pid in pids {
            // The turn goes on until its next request.
            let after = Duration::from_millis(self.rng.below(2000));
            self.schedule(after, Due::Struck(pid));
        }
    }

    /// A limit of the account with a reset that agents tell of, or keep to themselves.
    pub fn limit(&mut self, account: &AccountName, kind: LimitKind, lasts: Duration, told: bool) {
        let at = self.true_time().saturating_add(SignedDuration::try_from(lasts).unwrap_or(SignedDuration::MAX));
        // Agents tell whole seconds.
        let resets_at = at.ok().filter(|_| told).and_then(|at| Timestamp::from_second(at.as_second()).ok());
        self.strike(account, Failure::Limit(Limit { kind, resets_at }), lasts);
    }

    /// Whatever stood in the account's way is over: its limit is lifted, somebody has logged in, its links are whole.
    pub fn restore(&mut self, account: &AccountName) {
        let now = self.true_time();
        self.note(format!("world: {account} is whole again"));
        let Some(truth) = self.accounts.get_mut(account) else { return };
        truth.links_broken = false;
        truth.flip_fails = false;
        for strike in truth.strikes.iter_mut().filter(|strike| strike.until > now) {
            strike.until = now;
            if strike.failure == Failure::Login {
                truth.logged_in = Some(now);
            }
        }
    }

    /// Whether an agent of that account really said or showed what the signal says.
    pub(super) fn is_true(&self, account: &AccountName, signal: &Signal) -> bool {
        let Some(truth) = self.accounts.get(account) else { return false };
        match signal.source {
            // A screen goes on showing what struck its own agent, and no other's.
            Source::Screen | Source::Title => self.programs.values().any(|program| {
                program.account.as_ref() == Some(account) && program.struck.is_some_and(|at| at <= signal.at)
            }),
            Source::Process | Source::StatusFile | Source::Hook | Source::Transcript => {
                truth.told.iter().any(|at| at.duration_since(signal.at).abs() < SHOWN_TWICE)
            }
        }
    }
}

#[async_trait]
impl Homes for FakeWorld {
    async fn flip(&self, to: &AccountName) -> Result<()> {
        self.effect(
            || format!("turn the link to {to}"),
            |inner| {
                match inner.accounts.get(to) {
                    None => return Err(Error::from(ErrorKind::NotFound)),
                    Some(truth) if truth.flip_fails => return Err(Error::from(ErrorKind::PermissionDenied)),
                    Some(_) => {}
                }
                inner.watch_flip(to);
                inner.write(|inner| {
                    inner.link = Some(to.clone());
                    Ok(())
                })
            },
        )
        .await
    }

    async fn leads_to(&self, account: &AccountName) -> bool {
        self.see(|inner| inner.link.as_ref() == Some(account)).await
    }

    async fn ensure(&self, account: &AccountName) -> std::result::Result<(), HomeFaults> {
        self.effect(
            || format!("ensure the links of {account}"),
            |inner| {
                if !inner.accounts.contains_key(account) {
                    return Err(HomeFaults(vec![format!("the account {account} has no home")]));
                }
                let full = inner.write(|_| Ok(())).is_err();
                let broken = full || inner.accounts.get(account).is_some_and(|truth| truth.links_broken);
                inner.ensured = (!broken).then(|| account.clone());
                if let Some(truth) = inner.accounts.get_mut(account) {
                    truth.was_broken = broken;
                }
                if broken { Err(HomeFaults(vec!["projects points elsewhere".to_owned()])) } else { Ok(()) }
            },
        )
        .await
    }

    async fn logged_in(&self, account: &AccountName) -> Option<Timestamp> {
        self.see(|inner| inner.accounts.get(account)?.logged_in).await
    }
}
