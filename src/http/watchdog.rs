//! `/watchdog/status`: running tasks without recent activity, the sessions, and counters.
//! Takes a snapshot and how long silence is normal; returns JSON. Decides what *stale* means, and nothing else.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::{
    model::{
        session::Activity,
        snapshot::Snapshot,
        task::{Phase, Task},
    },
    render::Picture,
};

pub fn status(picture: &Picture, idle_timeout: Duration) -> Value {
    let snapshot = picture.snapshot;
    let stale = snapshot.tasks.working().chain(snapshot.tasks.filing()).filter_map(|task| {
        let silent_since = stale(snapshot, task, idle_timeout, picture.now)?;
        Some(json!({
            "id": snapshot.display_id(&task.key),
            "project": task.key.project,
            "state": task.phase.word(),
            "session": task.phase.run().map(|run| &run.session),
            "since": picture.shown(task.since),
            "silent_since": picture.shown(silent_since),
        }))
    });
    let sessions = snapshot.shown_sessions().map(|session| {
        json!({
            "name": session.name,
            "state": session.word(),
            "task": session.task.as_ref().map(|assigned| snapshot.display_id(&assigned.task)),
            "since": picture.shown(session.stated.since),
            "last_change": picture.shown(session.verdict.last_change),
        })
    });
    let mut open = [0; 5];
    for project in snapshot.projects.iter() {
        for (sum, count) in open.iter_mut().zip(snapshot.tasks.open_counts(&project.name)) {
            *sum += count;
        }
    }
    let [held, queued, rejected, working, delegated] = open;
    let [done, failed, cancelled] = snapshot.finished;
    json!({
        "version": 1,
        "at": snapshot.at,
        "since": picture.shown(snapshot.since),
        "idle_timeout_seconds": idle_timeout.as_secs(),
        "stale": stale.collect::<Vec<_>>(),
        "sessions": sessions.collect::<Vec<_>>(),
        "counters": {
            "held": held,
            "queued": queued,
            "rejected": rejected,
            "working": working,
            "delegated": delegated,
            "done": done,
            "failed": failed,
            "cancelled": cancelled,
            "swaps_done": snapshot.swaps.done(),
            "swaps_failed": snapshot.swaps.failed,
        },
    })
}

/// Since when a running task is silent, if longer than usual. A session stopped by its account's limit doesn't count:
/// it resumes automatically, and the accounts say when.
fn stale(snapshot: &Snapshot, task: &Task, idle_timeout: Duration, now: Timestamp) -> Option<Timestamp> {
    let (silent_since, stalled) = match &task.phase {
        Phase::Working(run) => match snapshot.sessions.get(&run.session) {
            Some(session) => match session.verdict.activity {
                Activity::Limited => return None,
                Activity::Stalled => (session.verdict.last_change.max(run.claimed), true),
                Activity::Unknown | Activity::Idle | Activity::Working | Activity::Waiting(_) => {
                    (session.verdict.last_change.max(run.claimed), false)
                }
            },
            None => (run.claimed, false),
        },
        Phase::Filing(_) => (task.since, false),
        Phase::Held(_) | Phase::Queued | Phase::Rejected(_) | Phase::Delegated(_) | Phase::Finished(_) => return None,
    };
    let usual = SignedDuration::try_from(idle_timeout).unwrap_or(SignedDuration::MAX);
    (stalled || now.duration_since(silent_since) >= usual).then_some(silent_since)
}
