//! Contract tests: each body runs against the real port (a temporary directory, a private tmux server, a loopback
//! server) and against the in-memory one that the simulation uses.

/// The bodies as tests, each against the world that either function makes. Time in memory goes by itself.
macro_rules! contract {
    ($real:expr, $in_memory:expr; $($body:ident),* $(,)?) => {
        mod real {
            $(#[tokio::test(flavor = "multi_thread")] async fn $body() { super::$body($real.await).await; })*
        }
        mod in_memory {
            $(#[tokio::test(start_paused = true)] async fn $body() { super::$body($in_memory.await).await; })*
        }
    };
}

mod homes;
#[path = "../providers/kinds.rs"]
#[allow(dead_code, reason = "the tests of providers use the rest")]
mod kinds;
mod providers;
#[path = "../support/server.rs"]
mod server;
mod terminal;
#[path = "../tmux/world.rs"]
#[allow(dead_code, reason = "the tests of tmux use the rest")]
mod tmux;

use std::{io::ErrorKind, sync::Arc};

use claude_failover::{
    model::{
        ids::{ProjectName, TaskId},
        journal::{Record, recover},
        queue::{FileKind, QueueDir},
    },
    ports::{QueueStore, StateStore},
    sys::{disk::DiskQueue, state::StateDir},
};
use claude_failover_sim::FakeWorld;
use serde_json::json;
use tempfile::TempDir;

/// Writes a file into a queue directory, as any program may.
type Put = Box<dyn Fn(QueueDir, &str, &[u8]) + Send + Sync>;

/// A port and a hand beside it that does what any program may do there.
struct World {
    queue: Arc<dyn QueueStore>,
    state: Arc<dyn StateStore>,
    put: Put,
    _temp: Option<TempDir>,
}

impl World {
    async fn real() -> Self {
        let temp = tempfile::tempdir().expect("a directory");
        let (project, state) = (temp.path().join("web"), temp.path().join("state"));
        std::fs::create_dir(&project).expect("a project");
        let queue = project.join(".agent-queue");
        Self {
            queue: Arc::new(DiskQueue::new([(web(), project)], None).expect("a store")),
            state: Arc::new(StateDir::open(&state).expect("a state directory")),
            put: Box::new(move |dir, name, bytes| {
                std::fs::write(queue.join(dir.name()).join(name), bytes).expect("written");
            }),
            _temp: Some(temp),
        }
    }

    async fn in_memory() -> Self {
        let world = FakeWorld::new(1);
        let hand = world.clone();
        Self {
            queue: world.clone(),
            state: world,
            put: Box::new(move |dir, name, bytes| hand.with(|inner| inner.put(&web(), dir, name, bytes))),
            _temp: None,
        }
    }

    fn put(&self, dir: QueueDir, name: &str, text: &str) {
        (self.put)(dir, name, text.as_bytes());
    }
}

fn web() -> ProjectName {
    ProjectName::parse("web").expect("a name")
}

fn id(name: &str) -> TaskId {
    TaskId::from_file_name(&format!("{name}.md")).expect("a task's name")
}

contract!(super::World::real(), super::World::in_memory();
    a_file_is_read_with_its_facts_and_never_beyond_the_limit,
    a_listing_has_what_stands_there_and_nothing_else,
    a_task_moves_between_directories_and_never_over_another,
    only_what_has_not_changed_is_removed,
    a_state_is_its_checkpoint_and_what_was_added_since,
    what_is_set_aside_is_gone_from_its_place,
    the_event_log_grows_by_what_is_added_and_begins_again,
);

async fn a_file_is_read_with_its_facts_and_never_beyond_the_limit(world: World) {
    let queue = &world.queue;
    queue.prepare(&web()).await.expect("directories");
    world.put(QueueDir::Inbox, "a.md", "do it");
    let (bytes, facts) = queue.read(&web(), QueueDir::Inbox, &id("a"), 5).await.expect("read");
    assert_eq!((bytes.as_slice(), facts.bytes, facts.kind), (b"do it".as_slice(), 5, FileKind::Regular));
    let (_, again) = queue.read(&web(), QueueDir::Inbox, &id("a"), 5).await.expect("read");
    assert_eq!(again.change, facts.change, "nothing has changed");
    let larger = queue.read(&web(), QueueDir::Inbox, &id("a"), 4).await.map_err(|error| error.kind());
    assert_eq!(larger, Err(ErrorKind::FileTooLarge));
    let missing = queue.read(&web(), QueueDir::Inbox, &id("b"), 5).await.map_err(|error| error.kind());
    assert_eq!(missing, Err(ErrorKind::NotFound));
}

async fn a_listing_has_what_stands_there_and_nothing_else(world: World) {
    let queue = &world.queue;
    queue.prepare(&web()).await.expect("directories");
    for name in ["a.md", "b.md", "no-task", ".a.md.swp"] {
        world.put(QueueDir::Done, name, "x");
    }
    world.put(QueueDir::Failed, "c.md", "x");
    let mut found: Vec<TaskId> =
        queue.entries(&web(), QueueDir::Done).await.expect("listed").into_iter().map(|entry| entry.id).collect();
    found.sort();
    assert_eq!(found, [id("a"), id("b")]);
    let counts = queue.counts(&web()).await.expect("counted");
    assert_eq!((counts.drafts, counts.done, counts.failed), (0, 2, 1));
}

async fn a_task_moves_between_directories_and_never_over_another(world: World) {
    let queue = &world.queue;
    queue.prepare(&web()).await.expect("directories");
    world.put(QueueDir::Drafts, "a.md", "one");
    queue.shift(&web(), QueueDir::Drafts, QueueDir::Inbox, &id("a")).await.expect("moved");
    let read = |dir| async move { queue.read(&web(), dir, &id("a"), 100).await.map(|(bytes, _)| bytes) };
    assert_eq!(read(QueueDir::Inbox).await.ok().as_deref(), Some(b"one".as_slice()));
    assert_eq!(read(QueueDir::Drafts).await.map_err(|error| error.kind()), Err(ErrorKind::NotFound));
    world.put(QueueDir::Drafts, "a.md", "two");
    let over = queue.shift(&web(), QueueDir::Drafts, QueueDir::Inbox, &id("a")).await.map_err(|error| error.kind());
    assert_eq!(over, Err(ErrorKind::AlreadyExists));
    assert_eq!(read(QueueDir::Inbox).await.ok().as_deref(), Some(b"one".as_slice()));
    assert_eq!(read(QueueDir::Drafts).await.ok().as_deref(), Some(b"two".as_slice()));
    let gone = queue.shift(&web(), QueueDir::Done, QueueDir::Inbox, &id("b")).await.map_err(|error| error.kind());
    assert_eq!(gone, Err(ErrorKind::NotFound));
}

async fn only_what_has_not_changed_is_removed(world: World) {
    let queue = &world.queue;
    queue.prepare(&web()).await.expect("directories");
    world.put(QueueDir::Done, "a.md", "one");
    let (_, seen) = queue.read(&web(), QueueDir::Done, &id("a"), 100).await.expect("read");
    world.put(QueueDir::Done, "a.md", "another");
    assert!(!queue.remove_unchanged(&web(), QueueDir::Done, &id("a"), &seen).await.expect("looked at"));
    let (bytes, now) = queue.read(&web(), QueueDir::Done, &id("a"), 100).await.expect("still there");
    assert_eq!(bytes, b"another");
    assert!(queue.remove_unchanged(&web(), QueueDir::Done, &id("a"), &now).await.expect("removed"));
    assert!(queue.remove_unchanged(&web(), QueueDir::Done, &id("a"), &now).await.expect("it is gone already"));
    assert!(queue.entries(&web(), QueueDir::Done).await.expect("listed").is_empty());
}

fn record(seq: u64, value: u32) -> Vec<u8> {
    let set = json!({"paused": value}).as_object().cloned().unwrap_or_default();
    Record { seq, set, ..Record::default() }.line().expect("a line")
}

async fn a_state_is_its_checkpoint_and_what_was_added_since(world: World) {
    let state = &world.state;
    assert_eq!(state.load().await.expect("loaded").checkpoint, None);
    assert!(state.append(&record(1, 7), true).await.is_err(), "there is nothing that it could be added to");
    let whole = |n: u64| json!({"version": 2, "journal": n, "paused": 0}).to_string();
    state.checkpoint(whole(0).as_bytes()).await.expect("saved");
    let first = state.append(&record(1, 7), true).await.expect("added");
    assert!(state.append(&record(2, 8), false).await.expect("added") > first);
    let stored = state.load().await.expect("loaded");
    assert_eq!(stored.journal, [record(1, 7), record(2, 8)].concat());
    let found = recover(stored.checkpoint.as_deref(), &stored.journal).expect("whole").state.expect("a state");
    assert_eq!((&found["paused"], &found["journal"]), (&json!(8), &json!(2)));
    state.checkpoint(whole(2).as_bytes()).await.expect("saved");
    let stored = state.load().await.expect("loaded");
    assert_eq!((stored.checkpoint.as_deref(), stored.journal.len()), (Some(whole(2).as_bytes()), 0));
}

async fn what_is_set_aside_is_gone_from_its_place(world: World) {
    let state = &world.state;
    state.checkpoint(b"{\"version\": 2, \"journal\": 0}").await.expect("saved");
    let one = state.set_aside().await.expect("set aside");
    assert!(state.append(&record(1, 7), true).await.is_err(), "what was set aside is not added to");
    assert_eq!(state.load().await.expect("loaded").checkpoint, None);
    state.checkpoint(b"{\"version\": 2, \"journal\": 0}").await.expect("saved");
    assert_ne!(state.set_aside().await.expect("set aside"), one, "the one before stays");
}

async fn the_event_log_grows_by_what_is_added_and_begins_again(world: World) {
    let state = &world.state;
    assert_eq!(state.events_log().await.expect("looked at").0, 0);
    state.append_events("{\"a\":1}\n").await.expect("added");
    state.append_events("{\"b\":2}\n{\"c\":3}\n").await.expect("added");
    assert_eq!(state.events_log().await.expect("looked at").0, 24);
    state.rotate_events().await.expect("set aside");
    assert_eq!(state.events_log().await.expect("looked at").0, 0);
}
