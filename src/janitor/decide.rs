//! Decides what is old enough to be archived or removed, and why.
//! Takes the contents of the queues and the state directory, the live tasks, the settings and the time. Pure.

use std::{
    collections::{BTreeSet, HashSet},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};

use crate::{
    config,
    model::{
        agent::HookLog,
        command::Action,
        footer::Told,
        ids::{ProjectName, SessionName, TaskId, TaskKey},
        queue::{Entry, Leftover, QueueDir},
        snapshot::Snapshot,
        task::Phase,
    },
};

/// A longer event log is rotated once nothing was written to it for `EVENTS_QUIET`, by when a follower has read its
/// end. Chosen: some 50,000 lines, quick to search.
const EVENTS_MAX: u64 = 16 << 20;
/// Chosen: `tail -f` polls a FUSE file every second, so ten polls.
const EVENTS_QUIET: SignedDuration = SignedDuration::from_secs(10);
/// A log longer than this is rotated whether it is quiet or not. Chosen: four times `EVENTS_MAX`.
const EVENTS_MOST: u64 = 64 << 20;
/// A hook log of which more than this was read is trimmed to its newest `HOOKS_KEPT`. Chosen: a starting daemon reads
/// it from its beginning.
const HOOKS_MAX: u64 = 16 << 20;
/// Chosen: the last turns, with strings of up to 256 KiB each (`hook::MAX_STRING`).
const HOOKS_KEPT: u64 = 4 << 20;
/// The hook log of a session that is no longer ours is removed when nothing was added for this long. Chosen: a day, in
/// case its agent still runs.
const HOOKS_UNUSED: SignedDuration = SignedDuration::from_hours(24);

/// A file in `done/` or `failed/` that holds a result of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filed {
    pub key: TaskKey,
    pub dir: QueueDir,
    pub entry: Entry,
    pub told: Told,
}

/// Everything that there is to decide about.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub filed: Vec<Filed>,
    /// Tasks with a claim marker in the inbox, ours or foreign.
    pub marked: BTreeSet<TaskKey>,
    pub leftovers: Vec<(ProjectName, Leftover)>,
    pub hooks: Vec<HookLog>,
    /// The event log's length and when a line was last added.
    pub events: Option<(u64, Timestamp)>,
}

/// Something that goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum What {
    Result {
        key: TaskKey,
        dir: QueueDir,
        entry: Entry,
        /// The month into whose archive it goes before; `None`: into none.
        month: Option<String>,
    },
    Leftover {
        project: ProjectName,
        leftover: Leftover,
    },
    /// The log of a session that isn't ours any more.
    HookLog {
        session: SessionName,
    },
    /// What was read of a session's log, up to a place in it.
    ReadHooks {
        session: SessionName,
        to: u64,
    },
    EventLog,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    pub what: What,
    /// Reads on after "because".
    pub why: String,
}

/// What one look found due.
#[derive(Debug, Clone)]
pub struct Look {
    pub at: Timestamp,
    pub removals: Vec<Removal>,
}

/// Everything that is due now.
#[must_use]
pub fn decide(seen: &Seen, settings: &config::Janitor, snapshot: &Snapshot, now: Timestamp) -> Vec<Removal> {
    let mut removals = Vec::new();
    for filed in &seen.filed {
        let keep = match filed.dir {
            QueueDir::Done => settings.keep_done.map(|keep| ("keep_done", keep)),
            QueueDir::Failed => settings.keep_failed.map(|keep| ("keep_failed", keep)),
            QueueDir::Inbox | QueueDir::Drafts => None,
        };
        let Some((name, keep)) = keep else { continue };
        let (at, how) = match filed.told.finished {
            Some(at) => (at, "its task ended"),
            None => (filed.entry.file.modified, "it was last written"),
        };
        // A time ahead is no age.
        let is_old = now.duration_since(at) > SignedDuration::try_from(keep).unwrap_or(SignedDuration::MAX);
        if !is_old || lives(&filed.key, snapshot) || names(&filed.key).any(|key| seen.marked.contains(&key)) {
            continue;
        }
        let keep = humantime::format_duration(keep);
        removals.push(Removal {
            what: What::Result {
                key: filed.key.clone(),
                dir: filed.dir,
                entry: filed.entry.clone(),
                month: settings.archive.then(|| at.strftime("%Y-%m").to_string()),
            },
            why: format!("{how} at {}, more than janitor.{name} ({keep}) ago", at.strftime("%Y-%m-%dT%H:%M:%SZ")),
        });
    }
    removals.extend(seen.leftovers.iter().map(|(project, leftover)| Removal {
        what: What::Leftover { project: project.clone(), leftover: leftover.clone() },
        why: "the process that was writing it is no more".to_owned(),
    }));
    removals.extend(seen.hooks.iter().filter_map(|log| hooks(log, snapshot, now)));
    removals.extend(seen.events.and_then(|(bytes, modified)| events(bytes, modified, now)));
    removals
}

/// Whether a task of this name is anywhere on its way, or about to be.
#[must_use]
pub fn lives(key: &TaskKey, snapshot: &Snapshot) -> bool {
    names(key).any(|key| {
        let open = snapshot.tasks.get(&key).is_some_and(|task| !matches!(task.phase, Phase::Finished(_)));
        let retried = |action: &Action| match action {
            Action::Retry(other, _) => *other == key,
            Action::RetryAnywhere(id, _) => *id == key.id,
            Action::Interrupt(_)
            | Action::Exit(_)
            | Action::Restart(_)
            | Action::Input(..)
            | Action::Keys(..)
            | Action::Swap
            | Action::Clean(_)
            | Action::Reload => false,
        };
        open || snapshot.requests.values().any(|action| retried(action))
    })
}

/// The task's own name and, of a result that was kept beside a newer one (`a.1.md`), the newer one's.
fn names(key: &TaskKey) -> impl Iterator<Item = TaskKey> {
    let numbered = |id: &str| {
        let (stem, number) = id.rsplit_once('.')?;
        number.bytes().all(|byte| byte.is_ascii_digit()).then(|| TaskId::from_file_name(&format!("{stem}.md")))?
    };
    let newer = numbered(key.id.as_str()).map(|id| TaskKey::new(&key.project, &id));
    std::iter::once(key.clone()).chain(newer)
}

fn hooks(log: &HookLog, snapshot: &Snapshot, now: Timestamp) -> Option<Removal> {
    let session = log.session.clone();
    if !snapshot.sessions.contains_key(&session) {
        let why = format!("the configuration has no session {session}, and its agent has said nothing for a day");
        let unused = now.duration_since(log.modified) > HOOKS_UNUSED;
        return unused.then_some(Removal { what: What::HookLog { session }, why });
    }
    let to = log.read_to?.checked_sub(HOOKS_KEPT)?;
    let why = format!("all of it was read, and the last {} MiB stay", HOOKS_KEPT >> 20);
    (to.saturating_sub(log.from) > HOOKS_MAX - HOOKS_KEPT)
        .then_some(Removal { what: What::ReadHooks { session, to }, why })
}

fn events(bytes: u64, modified: Timestamp, now: Timestamp) -> Option<Removal> {
    let quiet = now.duration_since(modified) >= EVENTS_QUIET;
    let why = format!("it is longer than {} MiB", EVENTS_MAX >> 20);
    (bytes > EVENTS_MAX && (quiet || bytes > EVENTS_MOST)).then_some(Removal { what: What::EventLog, why })
}

/// What is due automatically: what two looks agree on that are `apart` from each other. If wall clock and steady time
/// differ between two looks, nothing agrees: somebody set the clock, or the machine was suspended. So one wrong time,
/// however wrong, removes nothing. Logs don't depend on the clock.
#[must_use]
pub fn agreed(before: Option<&Look>, now: &Look, apart: Duration) -> Vec<Removal> {
    let apart = SignedDuration::try_from(apart).unwrap_or(SignedDuration::MAX);
    let steady = |before: &&Look| {
        let wall = now.at.duration_since(before.at);
        wall >= apart / 2 && wall / 3 <= apart / 2
    };
    let known: HashSet<&What> =
        before.filter(steady).iter().flat_map(|before| &before.removals).map(|removal| &removal.what).collect();
    let goes = |removal: &&Removal| match removal.what {
        What::Result { .. } | What::Leftover { .. } | What::HookLog { .. } => known.contains(&removal.what),
        What::ReadHooks { .. } | What::EventLog => true,
    };
    now.removals.iter().filter(goes).cloned().collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{
        queue::{FileFacts, FileKind},
        session::{Role, Session},
        task::Task,
    };

    const DAY: i64 = 86_400;
    const NOW: i64 = 1_800_000_000;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn key(id: &str) -> TaskKey {
        TaskKey::parse(&format!("web:{id}")).expect("a key")
    }

    fn entry(id: &str, modified: i64) -> Entry {
        let file = FileFacts { kind: FileKind::Regular, bytes: 10, modified: at(modified), change: (1, 1) };
        Entry { id: key(id).id, file }
    }

    fn filed(id: &str, dir: QueueDir, finished: Option<i64>, modified: i64) -> Filed {
        Filed { key: key(id), dir, entry: entry(id, modified), told: Told { finished: finished.map(at) } }
    }

    fn snapshot() -> Snapshot {
        Snapshot::empty(at(NOW))
    }

    fn due(filed: Filed, snapshot: &Snapshot, settings: &config::Janitor) -> Option<Option<String>> {
        let seen = Seen { filed: vec![filed], ..Seen::default() };
        decide(&seen, settings, snapshot, at(NOW)).pop().map(|removal| match removal.what {
            What::Result { month, .. } => month,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn results_go_by_age() {
        let default = config::Janitor::default();
        let forever = config::Janitor { keep_done: None, keep_failed: None, ..default.clone() };
        let delete = config::Janitor { archive: false, ..default.clone() };
        let old = NOW - 31 * DAY;
        let december = Some(Some("2026-12".to_owned()));
        let table = [
            ("its end counts, not the file's time", QueueDir::Done, Some(old), NOW, &default, december.clone()),
            ("nor an old file's", QueueDir::Done, Some(NOW - 29 * DAY), old, &default, None),
            ("without an end the file's time counts", QueueDir::Done, None, old, &default, december),
            ("and a young file stays", QueueDir::Done, None, NOW, &default, None),
            ("to the second", QueueDir::Done, Some(NOW - 30 * DAY), NOW, &default, None),
            ("failed ones stay longer", QueueDir::Failed, Some(old), old, &default, None),
            ("but not for ever", QueueDir::Failed, Some(NOW - 91 * DAY), old, &default, Some(Some("2026-10".into()))),
            ("null is for ever", QueueDir::Done, Some(0), 0, &forever, None),
            ("null is for ever in failed, too", QueueDir::Failed, Some(0), 0, &forever, None),
            ("without an archive", QueueDir::Done, Some(old), old, &delete, Some(None)),
            ("an end ahead", QueueDir::Done, Some(NOW + 400 * DAY), old, &default, None),
            ("drafts are nobody's", QueueDir::Drafts, Some(0), 0, &default, None),
            ("nor is the inbox", QueueDir::Inbox, Some(0), 0, &default, None),
        ];
        for (what, dir, finished, modified, settings, goes) in table {
            assert_eq!(due(filed("a", dir, finished, modified), &snapshot(), settings), goes, "{what}");
        }
    }

    #[test]
    fn a_task_on_its_way_keeps_the_results_of_its_name() {
        let settings = config::Janitor::default();
        let goes = |id: &str, snapshot: &Snapshot| due(filed(id, QueueDir::Done, Some(0), 0), snapshot, &settings);
        let mut open = snapshot();
        let task = Task::new(key("a"), at(NOW));
        open.tasks.insert(key("a"), Arc::new(task));
        let mut retried = snapshot();
        retried.requests.insert(1, Arc::new(Action::Retry(key("a"), None)));
        for (what, snapshot) in [("open", open), ("retried", retried)] {
            assert_eq!(goes("a", &snapshot), None, "{what}");
            assert_eq!(goes("a.1", &snapshot), None, "{what}: kept beside it");
            assert!(goes("b", &snapshot).is_some(), "{what}: another one");
        }
        let seen = Seen {
            filed: vec![filed("a", QueueDir::Done, Some(0), 0), filed("b.x", QueueDir::Done, Some(0), 0)],
            marked: BTreeSet::from([key("a"), key("b")]),
            ..Seen::default()
        };
        let removals = decide(&seen, &settings, &snapshot(), at(NOW));
        assert_eq!(removals.len(), 1, "one with a marker stays, and b.x is no other result of b: {removals:?}");
    }

    #[test]
    fn logs_go_when_they_are_long_and_read() {
        let mut known = snapshot();
        let name = SessionName::parse("s-1").expect("a name");
        known.sessions.insert(name.clone(), Arc::new(Session::new(name.clone(), Role::Dedicated, at(NOW))));
        let log = |from: u64, read_to: Option<u64>, modified: i64| HookLog {
            session: name.clone(),
            from: from << 20,
            modified: at(modified),
            read_to: read_to.map(|to| to << 20),
        };
        let goes = |log: HookLog, snapshot: &Snapshot| hooks(&log, snapshot, at(NOW)).map(|removal| removal.what);
        let read = |to: u64| Some(What::ReadHooks { session: name.clone(), to: to << 20 });
        assert_eq!(goes(log(0, Some(17), NOW), &known), read(13));
        assert_eq!(goes(log(0, Some(16), NOW), &known), None, "not long");
        assert_eq!(goes(log(10, Some(17), NOW), &known), None, "not long any more");
        assert_eq!(goes(log(0, None, 0), &known), None, "nobody has read it");
        assert_eq!(goes(log(0, Some(2), 0), &known), None);
        let none = snapshot();
        assert_eq!(goes(log(0, None, NOW - DAY - 1), &none), Some(What::HookLog { session: name.clone() }));
        assert_eq!(goes(log(0, None, NOW - DAY), &none), None, "somebody may still write");
        let event = |mib: u64, modified: i64| events(mib << 20, at(modified), at(NOW)).is_some();
        assert_eq!([event(17, NOW - 10), event(17, NOW), event(16, 0), event(65, NOW)], [true, false, false, true]);
    }

    /// A clock set to 2040 for a moment, at every moment.
    #[test]
    fn a_wrong_clock_removes_nothing() {
        let settings = config::Janitor::default();
        let seen = Seen { filed: vec![filed("a", QueueDir::Done, Some(NOW - DAY), NOW - DAY)], ..Seen::default() };
        let look = |now: i64| Look { at: at(now), removals: decide(&seen, &settings, &snapshot(), at(now)) };
        let hour = Duration::from_secs(3600);
        let far = NOW + 14 * 365 * DAY;
        assert_eq!(look(far).removals.len(), 1, "by that clock it is due");
        let none = |before: Option<i64>, now: i64| agreed(before.map(look).as_ref(), &look(now), hour).is_empty();
        assert!(none(None, far), "at the first look");
        assert!(none(Some(NOW), far), "just now");
        assert!(none(Some(far), NOW + 3600), "before");
        assert!(none(Some(far), far + 8 * 3600), "jumping on, or asleep");
        assert!(none(Some(far), far + 60), "jumping back a bit");
        assert!(none(Some(far), far - 3600), "jumping back");
        assert!(!none(Some(far), far + 3600), "two looks that agree are believed");
        assert!(!none(Some(far), far + 3500), "adjusted by a bit");
    }

    #[test]
    fn what_changed_between_two_looks_stays() {
        let settings = config::Janitor::default();
        let look = |change: i128, now: i64| {
            let mut filed = filed("a", QueueDir::Done, Some(0), 0);
            filed.entry.file.change.0 = change;
            let seen = Seen { filed: vec![filed], events: Some((17 << 20, at(0))), ..Seen::default() };
            Look { at: at(now), removals: decide(&seen, &settings, &snapshot(), at(now)) }
        };
        let what = |first: &Look, second: &Look| {
            let goes = agreed(Some(first), second, Duration::from_secs(3600));
            goes.iter().filter(|removal| removal.what != What::EventLog).count()
        };
        assert_eq!(what(&look(1, NOW), &look(1, NOW + 3600)), 1);
        assert_eq!(what(&look(1, NOW), &look(2, NOW + 3600)), 0);
        assert_eq!(agreed(None, &look(1, NOW), Duration::ZERO).len(), 1, "a long log goes at once");
    }
}
