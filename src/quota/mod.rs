//! The quota service: monitors the accounts' limits and requests swaps.
//! Takes the snapshot; proposes resets, restored logins and swaps to begin. Moves nothing itself.

pub mod decide;

use std::time::Duration;

use jiff::Timestamp;

use self::decide::{decide, hasty};
use crate::{
    live::Hands,
    model::{
        account::{AccountEvent, Standing},
        event::Event,
        snapshot::Snapshot,
    },
};

/// Longest sleep: a suspend or a clock change is noticed within it. Chosen: as `lifecycle.reconcile`.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// Pause after a rejected proposal. Chosen: as elsewhere for the owner (`switcher`, `notify`).
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How often the homes of accounts with a lost login are checked. Chosen: a person who has just logged in is watching.
const LOGINS_EVERY: Duration = Duration::from_secs(2);

pub struct Quota {
    pub hands: Hands,
}

impl Quota {
    /// Works until the owner stops.
    pub async fn run(self) {
        let mut snapshots = self.hands.live.watch();
        // One under way may have begun a moment before the last daemon ended.
        let swaps = self.hands.live.snapshot().swaps.clone();
        let mut warned = swaps.number.saturating_sub(u64::from(swaps.current.is_some()));
        loop {
            let snapshot = snapshots.borrow_and_update().clone();
            let now = self.hands.clock.now();
            let mut decision = decide(&snapshot, &self.hands.config.borrow().quota, now);
            decision.events.extend(self.logins(&snapshot).await);
            let warning = hasty(&snapshot, &self.hands.config.borrow().quota, warned);
            let mut sleep = match decision.wake {
                Some(at) => Duration::try_from(at.duration_since(now)).unwrap_or_default().min(LOOK_EVERY),
                None => LOOK_EVERY,
            };
            if snapshot.accounts.iter().any(|account| lost_login(&account.standing).is_some()) {
                sleep = sleep.min(LOGINS_EVERY);
            }
            let told = match warning {
                Some(warning) => self.hands.live.propose(vec![warning]).await.is_ok(),
                None => true,
            };
            if told {
                warned = snapshot.swaps.number;
            } else {
                sleep = sleep.min(AGAIN_AFTER);
            }
            for event in decision.events {
                if let Err(refusal) = self.hands.live.propose(vec![event]).await {
                    tracing::info!(%refusal, "not taken; tried again");
                    sleep = sleep.min(AGAIN_AFTER);
                }
            }
            tokio::select! {
                biased;
                changed = snapshots.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(sleep) => {}
            }
        }
    }

    /// Accounts whose login was lost and that somebody has logged in to since.
    async fn logins(&self, snapshot: &Snapshot) -> Vec<Event> {
        let mut events = Vec::new();
        for account in snapshot.accounts.iter() {
            let Some(lost) = lost_login(&account.standing) else { continue };
            if self.hands.homes.logged_in(&account.name).await.is_some_and(|at| self.hands.clock.heard(at) > lost) {
                let why = "somebody has logged in again".to_owned();
                events.push(Event::Account(account.name.clone(), AccountEvent::Vouched { why }));
            }
        }
        events
    }
}

/// Since when an agent says that the login is lost.
fn lost_login(standing: &Standing) -> Option<Timestamp> {
    match standing {
        Standing::Broken { signal: Some(signal), .. } => Some(signal.at),
        Standing::Broken { signal: None, .. } | Standing::Usable | Standing::Suspect { .. } | Standing::Limited(_) => {
            None
        }
    }
}
