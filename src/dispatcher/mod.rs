//! The dispatcher: claims queued tasks for free sessions and usable providers.
//! Writes the claim marker on disk, then proposes the claim to the owner. Types and sends nothing: the session and
//! delegate services do, once the claim is saved.

mod claim;
mod decide;

use std::{collections::BTreeMap, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use jiff::{SignedDuration, Timestamp};

use self::claim::{Claims, NoClaim};
pub use self::decide::{Choice, Target, choose};
use crate::{
    live::{Hands, Refusal},
    model::{event::Event, ids::TaskKey},
};

/// How long a task whose claim failed is left alone. Chosen: a disk error or a script's claim doesn't end sooner.
const RETRY_CLAIM: Duration = Duration::from_secs(2);

/// The same if only the snapshot was outdated. Chosen: the next snapshot comes in milliseconds.
const STALE_PICTURE: Duration = Duration::from_millis(20);

/// How often sessions in their restart pause are checked while tasks wait. Chosen: half of the shortest pause
/// (`lifecycle.restart_first`).
const LOOK_AGAIN: Duration = Duration::from_millis(500);

pub struct Dispatcher {
    claims: Claims,
    /// Tasks that could not be claimed, and until when they are left alone.
    skip: BTreeMap<TaskKey, Timestamp>,
    /// Claims under way.
    claiming: BTreeMap<TaskKey, Target>,
}

impl Dispatcher {
    #[must_use]
    pub fn new(hands: Hands) -> Self {
        let Hands { live, queue: store, clock, config, new_id, .. } = hands;
        let claims = Claims { live, store, clock, config, new_id };
        Self { claims, skip: BTreeMap::new(), claiming: BTreeMap::new() }
    }

    /// Works until the owner stops. Claims are made side by side, so that a slow disk holds up its own project only.
    pub async fn run(self) {
        let Self { claims, mut skip, mut claiming } = self;
        let claims = &claims;
        let mut snapshots = claims.live.watch();
        let mut under_way = FuturesUnordered::new();
        loop {
            let snapshot = snapshots.borrow_and_update().clone();
            let now = claims.clock.now();
            skip.retain(|_, until| *until > now);
            for choice in choose(&snapshot, &claims.config.borrow(), &skip, &claiming, now) {
                claiming.insert(choice.task.clone(), choice.to.clone());
                let snapshot = snapshot.clone();
                under_way.push(async move {
                    let claimed = claims.claim(&snapshot, &choice).await;
                    (choice, claimed)
                });
            }
            let again = skip.values().min().map_or(LOOK_AGAIN, |until| {
                Duration::try_from(until.duration_since(now)).unwrap_or_default().min(LOOK_AGAIN)
            });
            tokio::select! {
                biased;
                Some((choice, claimed)) = under_way.next(), if !under_way.is_empty() => {
                    claiming.remove(&choice.task);
                    if let Err(reason) = claimed {
                        tracing::info!(task = %choice.task, to = %choice.to, %reason, "not claimed");
                        let now = claims.clock.now();
                        let pause = SignedDuration::try_from(pause(&reason)).unwrap_or_default();
                        skip.insert(choice.task.clone(), now.saturating_add(pause).unwrap_or(now));
                        claims.live.report(problem(&choice, &reason).into_iter().collect()).await;
                    }
                }
                changed = snapshots.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(again), if !snapshot.paused && snapshot.tasks.is_any_waiting() => {}
            }
        }
    }
}

/// How long a task is left alone that was not claimed.
fn pause(reason: &NoClaim) -> Duration {
    match reason {
        // `health` says it already.
        NoClaim::Refused(Refusal::Unsaved(_)) => RETRY_CLAIM,
        NoClaim::Moved | NoClaim::Refused(_) => STALE_PICTURE,
        NoClaim::Claimed | NoClaim::NoWorkdir(_) | NoClaim::Disk(_) => RETRY_CLAIM,
    }
}

/// What people should know of a claim that failed.
fn problem(choice: &Choice, reason: &NoClaim) -> Option<Event> {
    let (what, error) = match reason {
        NoClaim::Disk(error) => ("its marker can't be written beside it", error),
        NoClaim::Moved | NoClaim::Refused(_) | NoClaim::Claimed | NoClaim::NoWorkdir(_) => return None,
    };
    let text = format!(
        "task {} can't be claimed: {what}: {error}; tried again every {} s",
        choice.task,
        RETRY_CLAIM.as_secs()
    );
    Some(Event::Health { topic: "claims".to_owned(), problem: Some(text) })
}
