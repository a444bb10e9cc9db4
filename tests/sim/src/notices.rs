//! Receivers of notifications, and the services in between that fail.
//! Records what arrived, and when; a duplicate without a reason is a broken promise.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{FakeWorld, Inner};
use claude_failover::{
    model::{
        journal::State,
        notice::{Channel, Notice, NoticeError, NoticeKind, Told},
    },
    ports::Notifier,
};

/// A notice that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    pub channel: Channel,
    pub notice: Notice,
    /// The notice's time as the daemon has saved it; `None` when it came after the incident's next notice had taken its place.
    saved_at: Option<Timestamp>,
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
fn saved_notices(state: &State) -> Vec<Told> {
    let notices = state.get("notices").and_then(Value::as_object).into_iter().flat_map(Map::values);
    notices.filter_map(|told| Told::deserialize(told).ok()).collect()
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
        let notices = saved_notices(&self.state);
        let timeline = self.steady().0.timeline().clone();
        let is_it =
            |told: &Told| told.notice.incident == notice.incident && timeline.shown(told.notice.at) == notice.at;
        let saved_at = notices.into_iter().find(is_it).map(|told| told.notice.at);
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
            let at = known.notice.at == notice.at || (saved_at.is_some() && known.saved_at == saved_at);
            let same = known.notice.over == notice.over && (once || at);
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
            saved_at,
            crashes,
            unconfirmed,
            saved: false,
            superseded: saved_at.is_none(),
        });
    }

    /// Learns from a saved state which notices the daemon knows to have come.
    pub(super) fn watch_notices(&mut self, state: &State) {
        if self.delivered.iter().all(|known| known.saved) {
            return;
        }
        let notices = saved_notices(state);
        for known in self.delivered.iter_mut().filter(|known| !known.saved) {
            let told = notices.iter().find(|told| told.notice.incident == known.notice.incident);
            let is_it = |told: &Told| Some(told.notice.at) == known.saved_at;
            known.superseded |= told.is_some_and(|told| !is_it(told));
            known.saved = match told {
                // Forgotten, which is what has been delivered to all.
                None => !known.superseded,
                Some(told) => is_it(told) && !told.to.contains(&known.channel),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(at: Timestamp, over: bool) -> Notice {
        let notice = Notice::new(NoticeKind::Degraded, "degraded disk".to_owned(), "degraded", "no space", at);
        Notice { over, ..notice }
    }

    fn saves(inner: &mut Inner, told: &[Told]) {
        let notices = told.iter().map(|told| (told.notice.incident.clone(), serde_json::to_value(told).expect("json")));
        let state = State::from_iter([("notices".to_owned(), Value::Object(notices.collect()))]);
        inner.watch_notices(&state);
        inner.state = state;
    }

    /// A notice by webhook whose answer is lost comes again, after this was saved: is that a broken promise?
    fn comes_again(before: &[&[Told]], after: &[&[Told]]) -> bool {
        FakeWorld::new(1).with(|inner| {
            inner.notices_failed = true;
            before.iter().for_each(|told| saves(inner, told));
            inner.deliver(Channel::Webhook, &notice(Timestamp::UNIX_EPOCH, false), true);
            after.iter().for_each(|told| saves(inner, told));
            inner.deliver(Channel::Webhook, &notice(Timestamp::UNIX_EPOCH, false), false);
            !inner.violations.is_empty()
        })
    }

    #[test]
    fn only_what_the_daemon_knows_to_have_come_may_not_come_again() {
        let told = |over, to: &[Channel]| {
            let at = if over { Timestamp::MAX } else { Timestamp::UNIX_EPOCH };
            vec![Told { notice: notice(at, over), to: to.to_vec() }]
        };
        let (begun, known) = (told(false, &[Channel::Webhook]), told(false, &[Channel::Telegram]));
        let (over, over_for_none) = (told(true, &[Channel::Webhook]), told(true, &[]));
        assert!(!comes_again(&[&begun], &[&begun]));
        assert!(comes_again(&[&begun], &[&known]));
        assert!(comes_again(&[&begun], &[&[]]), "forgotten once it had come");
        assert!(!comes_again(&[&begun], &[&over]));
        assert!(!comes_again(&[&begun], &[&over_for_none, &[]]));
        // While it waited for its turn the incident was over, and its end for no channel: there were too many of its kind.
        assert!(!comes_again(&[&begun, &over_for_none, &[]], &[&[]]));
        assert!(!comes_again(&[&begun, &over_for_none], &[&[]]));
    }
}
