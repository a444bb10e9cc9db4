//! What counts as stale.

use std::sync::Arc;

use claude_failover::model::{
    event::Counts,
    session::{Activity, Assignment, Role, Session, SessionPhase},
    snapshot::{Project, Snapshot},
    task::{Phase, Task},
};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::{
    client::get,
    picture,
    stage::{IDLE_TIMEOUT, Stage},
};

/// One task at work in a session that does this and was silent for so many seconds.
fn at_work(activity: Activity, claimed_ago: u64, silent_for: u64) -> Snapshot {
    let ago = |seconds: u64| Timestamp::now() - SignedDuration::from_secs(seconds.try_into().expect("seconds"));
    let mut run = picture::run("pool-1");
    run.claimed = ago(claimed_ago);
    let key = picture::key("web:fix");
    let mut session = picture::session("pool-1", Role::Pool, SessionPhase::Down);
    session.verdict.activity = activity;
    session.verdict.last_change = ago(silent_for);
    session.task = Some(Assignment { task: key.clone(), run: run.id.clone() });
    let task = Task { since: run.claimed, ..(*picture::task(&key, Phase::Working(run))).clone() };
    Snapshot {
        projects: Arc::new(vec![Project {
            name: picture::project("web"),
            path: "/srv/web".into(),
            counts: Counts::default(),
        }]),
        tasks: [(key, Arc::new(task))].into_iter().collect(),
        sessions: [(session.name.clone(), Arc::<Session>::new(session))].into_iter().collect(),
        ..Snapshot::empty(ago(claimed_ago))
    }
}

fn stale(snapshot: Snapshot) -> bool {
    let answer = get(Stage::new(snapshot).address, "/watchdog/status").json();
    assert_eq!(answer["counters"]["working"], 1);
    let stale = answer["stale"].as_array().expect("a list");
    for row in stale {
        assert_eq!((&row["id"], &row["session"], &row["state"]), (&json!("fix"), &json!("pool-1"), &json!("working")));
    }
    !stale.is_empty()
}

#[test]
fn silence_makes_stale() {
    let idle = IDLE_TIMEOUT.as_secs();
    for (activity, claimed_ago, silent_for, wanted) in [
        (Activity::Working, 9000, 10, false),
        (Activity::Working, 9000, idle - 60, false),
        (Activity::Working, 9000, idle, true),
        (Activity::Unknown, 9000, idle, true),
        // Its own word, or its watcher's, comes before the clock.
        (Activity::Stalled, 9000, 10, true),
        // Nobody answers it.
        (Activity::Waiting(claude_failover::model::evidence::WaitingFor::Permission), 9000, idle, true),
        // Silent before it had the task.
        (Activity::Idle, 10, 9000, false),
        // It goes on by itself.
        (Activity::Limited, 9000, 9000, false),
    ] {
        assert_eq!(
            stale(at_work(activity, claimed_ago, silent_for)),
            wanted,
            "{activity:?} {claimed_ago} {silent_for}"
        );
    }
    let mut lost = at_work(Activity::Working, idle, 0);
    lost.sessions.clear();
    assert!(stale(lost));
}

#[test]
fn only_tasks_at_work_are_stale() {
    let mut snapshot = at_work(Activity::Working, 9000, 9000);
    for (name, phase) in
        [("web:queued", Phase::Queued), ("web:held", Phase::Held(claude_failover::model::task::Hold::ByVerb))]
    {
        let key = picture::key(name);
        snapshot.tasks.insert(key.clone(), picture::task(&key, phase));
    }
    let answer = get(Stage::new(snapshot).address, "/watchdog/status").json();
    assert_eq!(answer["stale"].as_array().map(Vec::len), Some(1));
    let counters = &answer["counters"];
    assert_eq!((&counters["queued"], &counters["held"]), (&json!(1), &json!(1)));
    assert_eq!(answer["idle_timeout_seconds"], IDLE_TIMEOUT.as_secs());
    assert_eq!(answer["sessions"][0]["task"], "fix");
}
