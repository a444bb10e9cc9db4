//! One channel's task: delivers its notifications in order, with retries.
//! Sends through the port; proposes what was delivered or given up, and a line in `health` while the channel fails.

use std::{sync::Arc, time::Duration};

use jiff::SignedDuration;
use tokio::sync::mpsc;

use super::decide::TOPIC;
use crate::{
    live::{Hands, Refusal},
    model::{
        event::Event,
        notice::{Channel, Notice, NoticeError, NoticeEvent},
    },
};

/// First pause before a retry; it doubles each time. Chosen: a short outage costs a second.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Chosen: a dozen retries an hour for a receiver that is down.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// A notification that could not be delivered for this long is dropped. Chosen: as `decide::NEWS_FOR`, it is no news
/// any more.
const GIVE_UP_AFTER: SignedDuration = SignedDuration::from_hours(1);
/// Failed tries after which `health` reports the channel. Chosen: a single one may be chance.
const TOLD_AFTER: u32 = 2;
/// Pause after a delivery that could not be saved. Chosen: the owner refuses at once while its disk is full.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

pub(super) struct Line {
    pub channel: Channel,
    pub hands: Hands,
}

/// The channel's topic in `health`.
pub(super) fn topic(channel: Channel) -> String {
    format!("{TOPIC} {}", channel.name())
}

impl Line {
    pub(super) async fn run(mut self, mut waiting: mpsc::Receiver<Arc<Notice>>) {
        while let Some(notice) = waiting.recv().await {
            self.deliver(&notice).await;
            if !self.settle(&notice).await {
                return;
            }
        }
    }

    /// Until it is delivered or given up.
    async fn deliver(&mut self, notice: &Notice) {
        let begun = self.hands.clock.now();
        let (mut pause, mut tries) = (FIRST_PAUSE, 0);
        loop {
            tries += 1;
            let shown = Notice { at: self.hands.live.snapshot().timeline.shown(notice.at), ..notice.clone() };
            let after = match self.hands.notifier.send(self.channel, &shown).await {
                Ok(()) => {
                    tracing::info!(channel = self.channel.name(), incident = notice.incident, "notice sent");
                    return self.health(None).await;
                }
                Err(NoticeError::Permanent(why)) => {
                    return self.health(Some(format!("{why}; `claude-failover check --notify` sends a test"))).await;
                }
                Err(NoticeError::Temporary { why, after }) => {
                    if tries >= TOLD_AFTER {
                        self.health(Some(format!("{why}; tried again"))).await;
                    }
                    after.unwrap_or_default()
                }
            };
            if self.hands.clock.now().duration_since(begun) >= GIVE_UP_AFTER {
                tracing::warn!(channel = self.channel.name(), incident = notice.incident, "notice given up");
                return;
            }
            self.rest(pause.max(after).min(LONGEST_PAUSE)).await;
            pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
        }
    }

    /// Sleeps; a new configuration may correct the problem.
    async fn rest(&mut self, pause: Duration) {
        tokio::select! {
            biased;
            Ok(()) = self.hands.config.changed() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }

    async fn health(&self, problem: Option<String>) {
        self.hands.live.report(vec![Event::Health { topic: topic(self.channel), problem }]).await;
    }

    /// Saves that this channel has the notification; `false` if the owner has stopped.
    async fn settle(&self, notice: &Notice) -> bool {
        let sent = NoticeEvent::Sent { incident: notice.incident.clone(), at: notice.at, channel: self.channel };
        let sent = Event::Notice(sent);
        loop {
            match self.hands.live.propose(vec![sent.clone()]).await {
                Ok(()) => return true,
                Err(Refusal::Stopped) => return false,
                Err(_) => tokio::time::sleep(AGAIN_AFTER).await,
            }
        }
    }
}
