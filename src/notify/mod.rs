//! The notification service: informs people who aren't looking.
//! Takes the snapshot and the settings; proposes what is to be sent to the owner, who saves it, then passes each
//! notification to each channel. Every channel has its own task and bounded queue, so one that hangs delays no other.
//! Decides nothing about the work.

mod channel;
pub mod decide;
mod pace;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::{sync::mpsc, task::JoinSet};

use self::{
    channel::{Line, topic},
    decide::decide,
    pace::Pace,
};
use crate::{
    live::Hands,
    model::{
        event::Event,
        notice::{Channel, Notice},
        snapshot::Snapshot,
    },
};

/// Pause between two looks. Chosen: an incident that is over within a second is worth no notification.
const PAUSE: Duration = Duration::from_secs(1);
/// Time alone makes an agent silent, without a new snapshot. Chosen: small against `watcher.silent_after` (2 min).
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Notifications that wait in a channel's queue; further ones wait in the saved state. Chosen: a burst of one of each
/// kind.
const QUEUE: usize = 16;

/// One notification for one channel. An incident may recur while its last notification is still pending.
type Flight = (String, Timestamp, Channel);

pub struct Notices {
    pub hands: Hands,
}

impl Notices {
    /// Works until the owner stops.
    pub async fn run(self) {
        let mut snapshots = self.hands.live.watch();
        let mut config = self.hands.config.clone();
        let mut pace = Pace::default();
        let mut flying: BTreeSet<Flight> = BTreeSet::new();
        let mut lines = JoinSet::new();
        let queues = Channel::ALL.map(|channel| {
            let (queue, waiting) = mpsc::channel(QUEUE);
            let line = Line { channel, hands: self.hands.clone() };
            lines.spawn(line.run(waiting));
            (channel, queue)
        });
        self.tell_faults().await;
        loop {
            let snapshot = snapshots.borrow_and_update().clone();
            // Reported notifications go out before new ones, so an incident's end isn't lost when it recurs.
            send(&snapshot, &queues, &mut flying);
            let decision = {
                let config = config.borrow();
                let silent_after = config.watcher.silent_after;
                decide(&snapshot, &config.notifications, silent_after, &pace, self.hands.clock.now())
            };
            if !decision.events.is_empty() {
                match self.hands.live.propose(decision.events).await {
                    Ok(()) => pace = decision.pace,
                    Err(refusal) => tracing::info!(%refusal, "no notice is sent that could not be saved; tried again"),
                }
            }
            send(&self.hands.live.snapshot(), &queues, &mut flying);
            tokio::time::sleep(PAUSE).await;
            tokio::select! {
                biased;
                Ok(()) = config.changed() => self.tell_faults().await,
                changed = snapshots.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Says in `health` which channels can't send anything as they are configured.
    async fn tell_faults(&self) {
        let settings = self.hands.config.borrow().notifications.clone();
        let health = |channel| Event::Health { topic: topic(channel), problem: settings.fault(channel) };
        self.hands.live.report(Channel::ALL.map(health).to_vec()).await;
    }
}

/// Gives every channel what it has not got yet. A full queue takes the rest at a later look.
fn send(snapshot: &Snapshot, queues: &[(Channel, mpsc::Sender<Arc<Notice>>)], flying: &mut BTreeSet<Flight>) {
    let pending = snapshot.notices.iter().flat_map(|(incident, told)| {
        told.to.iter().map(move |channel| ((incident.clone(), told.notice.at, *channel), &told.notice))
    });
    let pending: Vec<(Flight, &Notice)> = pending.collect();
    flying.retain(|flight| pending.iter().any(|(other, _)| other == flight));
    let mut oldest = pending;
    oldest.sort_by_key(|(_, notice)| notice.at);
    for (flight, notice) in oldest {
        let Some((_, queue)) = queues.iter().find(|(channel, _)| *channel == flight.2) else { continue };
        if !flying.contains(&flight) && queue.try_send(Arc::new(notice.clone())).is_ok() {
            flying.insert(flight);
        }
    }
}
