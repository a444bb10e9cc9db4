//! The switcher: carries out a swap, one saved step after the other, or rolls it back.
//! Takes the swap in the snapshot; flips the operator's link, ensures shared links, proposes each to the owner. Every
//! step is idempotent, so a restart continues with the saved one. Stops and starts nothing: sessions move themselves.

pub mod decide;

use std::{sync::Arc, time::Duration};

use jiff::SignedDuration;
use tokio::sync::watch;

use self::decide::{goes_on, left};
use crate::{
    live::Hands,
    model::{
        account::AccountEvent,
        command::{Refused, RefusedKind},
        event::Event,
        snapshot::Snapshot,
        swap::{Cause, Swap, SwapEvent, SwapStep},
    },
};

/// How long sessions may take to move before the swap is reported done without them; they keep retrying. Chosen: a
/// resume takes seconds; a session that waits for a person must not hold the swap.
const MOVE_WITHIN: SignedDuration = SignedDuration::from_secs(60);
/// Pause after a step that the owner didn't accept. Chosen: as `quota`.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

pub struct Switcher {
    pub hands: Hands,
}

impl Switcher {
    /// Works until the owner stops.
    pub async fn run(self) {
        let mut snapshots = self.hands.live.watch();
        loop {
            let snapshot = snapshots.borrow_and_update().clone();
            let events = match &snapshot.swaps.current {
                Some(swap) => self.step(&snapshot, swap).await,
                None => Vec::new(),
            };
            let idle = events.is_empty();
            if !idle && let Err(refusal) = self.hands.live.propose(events).await {
                tracing::warn!(%refusal, "a step of the swap was not taken; done again");
                tokio::time::sleep(AGAIN_AFTER).await;
            }
            if !idle {
                continue;
            }
            if !self.wait(&mut snapshots, snapshot.swaps.current.is_some()).await {
                return;
            }
        }
    }

    /// Flips the link back; a link that was never flipped stays, whatever is in its place.
    async fn turn_back(&self, swap: &Swap) -> std::io::Result<()> {
        match self.hands.homes.flip(&swap.from).await {
            Err(_) if !self.hands.homes.leads_to(&swap.to).await => Ok(()),
            flipped => flipped,
        }
    }

    async fn ensure(&self, snapshot: &Snapshot, swap: &Swap) -> Vec<Event> {
        let tell = |event| Event::Swap { from: swap.from.clone(), event };
        match self.hands.homes.ensure(&swap.to).await {
            Ok(()) => vec![tell(SwapEvent::Ensured)],
            Err(faults) => {
                let why = faults.to_string();
                let broken = AccountEvent::Broken { why: format!("its home is not whole: {why}"), signal: None };
                let mut events = vec![tell(SwapEvent::Failed { why })];
                // One that is gone from the configuration is nobody's to blame.
                events.extend(snapshot.account(&swap.to).map(|to| Event::Account(to.name.clone(), broken)));
                events
            }
        }
    }

    /// Waits for a new snapshot, or for a timer of a pending swap; `false` if the owner has stopped.
    async fn wait(&self, snapshots: &mut watch::Receiver<Arc<Snapshot>>, swapping: bool) -> bool {
        tokio::select! {
            biased;
            changed = snapshots.changed() => changed.is_ok(),
            () = tokio::time::sleep(AGAIN_AFTER), if swapping => true,
        }
    }

    /// Does what the journal says is next; answers what to tell of it.
    async fn step(&self, snapshot: &Snapshot, swap: &Swap) -> Vec<Event> {
        let tell = |event| Event::Swap { from: swap.from.clone(), event };
        match &swap.step {
            // Both can be done again, so the journal needs no save between them.
            SwapStep::Flip => match self.hands.homes.flip(&swap.to).await {
                Ok(()) => [vec![tell(SwapEvent::Flipped)], self.ensure(snapshot, swap).await].concat(),
                Err(error) => vec![tell(SwapEvent::Failed { why: error.to_string() })],
            },
            SwapStep::Ensure => self.ensure(snapshot, swap).await,
            SwapStep::Move => {
                let left = left(snapshot, swap);
                let over = self.hands.clock.now().duration_since(swap.since) >= MOVE_WITHIN || !goes_on(snapshot, swap);
                if !left.is_empty() && !over {
                    return Vec::new();
                }
                let mut events = vec![tell(SwapEvent::Moved { left })];
                events.extend(answer(swap, Ok(format!("{} is active", swap.to))));
                events
            }
            SwapStep::RollBack { why } => match self.turn_back(swap).await {
                Ok(()) => {
                    let refused = Refused::new(
                        RefusedKind::Failed,
                        format!("the swap to {} was rolled back: {why}; {} is active as before", swap.to, swap.from),
                    );
                    let mut events = vec![tell(SwapEvent::RolledBack)];
                    events.extend(answer(swap, Err(refused)));
                    events
                }
                Err(error) => {
                    let refused = Refused::new(
                        RefusedKind::Unclean,
                        format!("the swap to {} failed ({why}) and can't be rolled back: {error}", swap.to),
                    );
                    let mut events = vec![tell(SwapEvent::RollBackFailed { why: error.to_string() })];
                    events.extend(answer(swap, Err(refused)));
                    events
                }
            },
        }
    }
}

/// The answer to the person who asked for the swap, when one did.
fn answer(swap: &Swap, result: Result<String, Refused>) -> Option<Event> {
    match &swap.cause {
        Cause::Person { request } => Some(Event::RequestDone { id: *request, result }),
        Cause::Out { .. } | Cause::Proactive { .. } => None,
    }
}
