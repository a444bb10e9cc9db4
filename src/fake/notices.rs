//! The people who get notices, and the services between that fail.
//! In: notices. Out: what came, and when; one that comes twice for no reason is a broken promise.

use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;

use super::{FakeWorld, Inner};
use crate::{
    model::notice::{Channel, Notice, NoticeKind, Told},
    ports::{NoticeError, Notifier},
};

/// A notice that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    pub channel: Channel,
    pub notice: Notice,
    /// Crashes up to then.
    crashes: u64,
    /// It came, and the service said that it had not.
    unconfirmed: bool,
    /// The daemon has saved that it came.
    saved: bool,
    /// The incident's next notice took its place before that.
    superseded: bool,
}

/// What the daemon has saved of notices.
#[derive(Deserialize)]
struct Saved {
    #[serde(default)]
    notices: Vec<Told>,
}

enum Fate {
    Comes,
    Lost,
    Refused,
    Hangs,
    /// It comes, and the answer is lost.
    Unconfirmed,
}

impl Inner {
    fn fate(&mut self) -> Fate {
        if self.faults.notices == 0 || !self.rng.chance(self.faults.notices) {
            return Fate::Comes;
        }
        self.notices_failed = true;
        match self.rng.below(4) {
            0 => Fate::Lost,
            1 => Fate::Refused,
            2 => Fate::Hangs,
            _ => Fate::Unconfirmed,
        }
    }

    fn deliver(&mut self, channel: Channel, notice: &Notice, unconfirmed: bool) {
        let of_incident = |known: &&Delivery| known.channel == channel && known.notice.incident == notice.incident;
        let known: Vec<&Delivery> = self.delivered.iter().filter(of_incident).collect();
        // Some incidents can't come again under the same name.
        let once = match notice.kind {
            NoticeKind::Swap | NoticeKind::SwapFailed | NoticeKind::PartialSwap | NoticeKind::TaskFailed => true,
            NoticeKind::Limit
            | NoticeKind::AllOut
            | NoticeKind::Waiting
            | NoticeKind::Credit
            | NoticeKind::Silent
            | NoticeKind::Degraded
            | NoticeKind::Test => false,
        };
        let twice = known.iter().any(|known| {
            let same = known.notice.over == notice.over && (once || known.notice.at == notice.at);
            same && (known.saved || (!known.unconfirmed && known.crashes == self.crashes))
        });
        let begun = known.last().is_some_and(|last| last.saved && !last.notice.over);
        if twice || (notice.kind.tells_end() && begun && !notice.over && !self.notices_failed) {
            self.violation(format!("{} tells twice of {}", channel.name(), notice.incident));
        }
        self.tally.notices += 1;
        self.tally.limits_told += u64::from(notice.kind == NoticeKind::Limit);
        self.tally.ends_told += u64::from(notice.over);
        self.note(format!("notice by {}: {} ({} at {})", channel.name(), notice.title, notice.incident, notice.at));
        let crashes = self.crashes;
        self.delivered.push(Delivery {
            channel,
            notice: notice.clone(),
            crashes,
            unconfirmed,
            saved: false,
            superseded: false,
        });
    }

    /// Learns from a saved state which notices the daemon knows to have come.
    pub(super) fn watch_notices(&mut self, state: &[u8]) {
        if self.delivered.iter().all(|known| known.saved) {
            return;
        }
        let Ok(Saved { notices }) = serde_json::from_slice(state) else { return };
        for known in self.delivered.iter_mut().filter(|known| !known.saved) {
            let told = notices.iter().find(|told| told.notice.incident == known.notice.incident);
            known.superseded |= told.is_some_and(|told| told.notice.at != known.notice.at);
            known.saved = match told {
                // Forgotten, which is what has been delivered to all.
                None => !known.superseded,
                Some(told) => told.notice.at == known.notice.at && !told.to.contains(&known.channel),
            };
        }
    }
}

#[async_trait]
impl Notifier for FakeWorld {
    async fn send(&self, channel: Channel, notice: &Notice) -> Result<(), NoticeError> {
        let temporary = |why: &str| NoticeError::Temporary { why: why.to_owned(), after: None };
        let what = || format!("notice {} by {}", notice.incident, channel.name());
        let answer = self.effect(what, |inner| match inner.fate() {
            Fate::Comes => {
                inner.deliver(channel, notice, false);
                Ok(())
            }
            Fate::Lost => Err(temporary("no route")),
            Fate::Refused => Err(NoticeError::Permanent("who are you".to_owned())),
            Fate::Hangs => Err(temporary("no answer in time")),
            Fate::Unconfirmed => {
                inner.deliver(channel, notice, true);
                Err(temporary("no answer in time"))
            }
        });
        let answer = answer.await;
        if matches!(&answer, Err(NoticeError::Temporary { why, .. }) if why == "no answer in time") {
            tokio::time::sleep(Duration::from_secs(20)).await;
        }
        answer
    }
}
