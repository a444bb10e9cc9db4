//! Keeps the list of processes that agents left running.
//! Scans this machine's processes against each snapshot; proposes `Event::Leftovers`. Owns a pidfd per reported
//! process. Never signals one.

use std::{
    future::{Future as _, pending, poll_fn},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use tokio::task::spawn_blocking;

use super::backend::Processes;
use crate::{
    linux::process::{Pidfd, Stat},
    live::Live,
    model::{
        agent::Leftover,
        event::Event,
        leftover::{forgotten, living},
    },
    ports::Clock,
    sys::process::left::Left,
};

/// How often leftovers are scanned when no agent and no reported process has ended: a leftover may start another
/// process and exit. Chosen: as `lifecycle.reconcile`.
const EVERY: Duration = Duration::from_secs(15);
/// Wait after an agent's end. Chosen: processes that end with their agent need a moment.
const SETTLES: Duration = Duration::from_secs(1);
/// Processes whose exits are awaited by pidfd; the next scan notices the others. Chosen: a quarter of the usual soft
/// limit of descriptors (1024).
const WAITED_FOR: usize = 256;

/// Looks for ever. Never ends; may be dropped at any time.
pub(super) async fn keep(live: Live, processes: Processes, clock: Arc<dyn Clock>) {
    let mut snapshots = live.watch();
    let mut left = Left::new(processes.mountpoint.clone());
    loop {
        let snapshot = snapshots.borrow_and_update().clone();
        let mut there = living(&snapshot);
        // Without an answer the daemon is going down.
        let Ok(all) = Stat::every().await else { return pending().await };
        let (server, living_now, looked_by) = (processes.tmux.server_pid(), there.clone(), clock.clone());
        let looked = spawn_blocking(move || {
            let found = left.among(&all, server, &living_now, looked_by.as_ref());
            (left, found)
        });
        let Ok((back, found)) = looked.await else { return pending().await };
        left = back;
        let over = forgotten(&snapshot, &found);
        let waited: Vec<Pidfd> = found.iter().take(WAITED_FOR).filter_map(held).collect();
        if !over.is_empty() || snapshot.leftovers.as_deref() != Some(&found) {
            live.report(vec![Event::Leftovers { found: Arc::new(found), over }]).await;
        }
        let an_agent_ended = async {
            while snapshots.changed().await.is_ok() {
                let now = living(&snapshots.borrow_and_update());
                if !there.is_subset(&now) {
                    return tokio::time::sleep(SETTLES).await;
                }
                there = now;
            }
            pending::<()>().await;
        };
        tokio::select! {
            () = an_agent_ended => {}
            () = one_ended(&waited) => {}
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

fn held(one: &Leftover) -> Option<Pidfd> {
    let fd = Pidfd::open(one.pid).ok()?;
    Stat::read(one.pid).filter(|now| now.start == one.start).map(|_| fd)
}

async fn one_ended(held: &[Pidfd]) {
    let mut waits: Vec<_> = held.iter().map(|fd| Box::pin(fd.ended())).collect();
    poll_fn(|context| {
        let ended = waits.iter_mut().any(|wait| wait.as_mut().poll(context).is_ready());
        if ended { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
