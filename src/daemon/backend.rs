//! What the mount and the HTTP interface are given of the daemon.
//! In: writes to control files and changes in queue directories, from the mount's threads. Out: answers in bounded time.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
};

use crate::{
    config::Config,
    fs::{Backend, Place, Touched},
    http,
    live::Live,
    model::{
        command::{Refused, RefusedKind, Scope, Writer},
        event::{Event, Kind},
        ids::{TaskId, TaskKey},
        snapshot::Snapshot,
        task::{Origin, Phase, Task, TaskEvent},
    },
    sys::process::parent_of,
};

/// How much longer than `control.reply_within` a writer may wait when the owner itself is slow (a stalled disk).
const OWNER_SLACK: Duration = Duration::from_secs(3);

/// Reports that may wait for the owner; beyond them a look at the disk finds what they would have told.
const WAITING: usize = 4096;
/// Reports that the owner is given at once.
const AT_ONCE: usize = 256;

#[derive(Clone)]
pub struct DaemonBackend {
    live: Live,
    runtime: Handle,
    config: watch::Receiver<Arc<Config>>,
    reports: mpsc::Sender<Event>,
    missed: Arc<AtomicBool>,
}

impl DaemonBackend {
    /// Must be called in the runtime that answers are waited for in.
    #[must_use]
    pub fn new(live: Live, config: watch::Receiver<Arc<Config>>) -> Self {
        let (reports, waiting) = mpsc::channel(WAITING);
        let missed = Arc::new(AtomicBool::new(false));
        let runtime = Handle::current();
        runtime.spawn(report(live.clone(), waiting, missed.clone()));
        Self { live, runtime, config, reports, missed }
    }

    /// In the order of the calls; never waits.
    fn tell(&self, event: Event) {
        if self.reports.try_send(event).is_err() && !self.missed.swap(true, Ordering::SeqCst) {
            tracing::warn!(
                "the supervisor takes no reports of the mount, as when its disk stalls: it will look at the queues again"
            );
        }
    }

    /// The task at whose session the writer runs, by its process's ancestors.
    fn parent(&self, pid: u32) -> Option<TaskKey> {
        let snapshot = self.live.snapshot();
        let mut pid = pid;
        // Deeper than any sane process tree.
        for _ in 0..64 {
            let session = snapshot.sessions.values().find(|s| s.phase.incarnation().is_some_and(|i| i.pid == pid));
            if let Some(session) = session {
                return session.task.as_ref().map(|assignment| assignment.task.clone());
            }
            pid = parent_of(pid).filter(|pid| *pid > 1)?;
        }
        None
    }

    fn written(&self, place: &Place, writer: &Writer) {
        if let Some(key) = task_at(place) {
            let origin = Origin { writer: Some(writer.clone()), parent: self.parent(writer.pid).filter(|p| *p != key) };
            self.tell(Event::Origin(key, origin));
        }
    }

    /// Moves are verbs: who made one stands in `events`. One that an editor makes when it saves is none.
    fn moved(&self, from: &Place, to: &Place, writer: &Writer) {
        self.written(to, writer);
        let (was, is) = (task_at(from), task_at(to));
        if was == is || (was.is_none() || is.is_none()) && (&from.project, &from.dir) == (&to.project, &to.dir) {
            return;
        }
        if let Some(key) = was {
            self.note(&key, format!("moved to {}", named(to)), writer);
        }
        if let Some(key) = is {
            self.note(&key, format!("moved from {}", named(from)), writer);
        }
    }

    fn note(&self, key: &TaskKey, text: String, writer: &Writer) {
        let object = format!("task {key}");
        self.tell(Event::Note { kind: Kind::Verb, object, text, writer: Some(writer.clone()) });
    }
}

/// Hands reports on in their order, and has the queues looked at when some were too many.
async fn report(live: Live, mut waiting: mpsc::Receiver<Event>, missed: Arc<AtomicBool>) {
    let mut events = Vec::new();
    while waiting.recv_many(&mut events, AT_ONCE).await > 0 {
        live.report(std::mem::take(&mut events)).await;
        if waiting.is_empty() && missed.swap(false, Ordering::SeqCst) {
            let _ = live.ask(Scope::Daemon, b"rescan\n".to_vec(), None, OWNER_SLACK).await;
        }
    }
}

/// How a place is named to people.
fn named(place: &Place) -> String {
    format!("{}:{}", place.project, place.dir.join(&place.name).display())
}

/// The task whose file stands there.
fn task_at(place: &Place) -> Option<TaskKey> {
    if place.dir != Path::new("inbox") {
        return None;
    }
    Some(TaskKey::new(&place.project, &TaskId::from_file_name(place.name.to_str()?)?))
}

impl Backend for DaemonBackend {
    fn snapshot(&self) -> Arc<Snapshot> {
        self.live.snapshot()
    }

    fn control(&self, scope: Scope, text: &[u8], writer: &Writer) -> Result<(), Refused> {
        let within = self.config.borrow().control.reply_within;
        let asked = self.live.ask(scope, text.to_vec(), Some(writer.clone()), within);
        let slow = || Refused::new(RefusedKind::TryAgain, "the supervisor does not answer; is its disk stalled?");
        self.runtime
            .block_on(async { tokio::time::timeout(within + OWNER_SLACK, asked).await })
            .unwrap_or_else(|_| Err(slow()))
    }

    fn admits(&self, place: &Place) -> Result<(), Refused> {
        let Some(key) = task_at(place) else { return Ok(()) };
        let most = self.config.borrow().dispatcher.max_queued as usize;
        let snapshot = self.live.snapshot();
        if snapshot.tasks.len() < most {
            return Ok(());
        }
        let is_open = |task: &Task| task.key.project == key.project && !matches!(task.phase, Phase::Finished(_));
        let known = snapshot.tasks.get(&key).is_some_and(|task| is_open(task));
        let open = snapshot.tasks.values().filter(|task| is_open(task)).count();
        if known || open < most {
            return Ok(());
        }
        let text = format!(
            "project {} has {open} tasks in its inbox; at most {most} are taken (dispatcher.max_queued)",
            key.project
        );
        Err(Refused::new(RefusedKind::Full, text))
    }

    fn touched(&self, change: &Touched, writer: &Writer) {
        match change {
            // The disk's own events wake the queue; what they don't tell is who wrote, and that a removal was meant.
            // A close doesn't tell: the kernel makes it later, in nobody's name.
            Touched::Opened { at, .. } | Touched::Linked(at) => self.written(at, writer),
            Touched::Renamed { from, to } => self.moved(from, to, writer),
            Touched::Exchanged(one, other) => {
                self.moved(one, other, writer);
                self.moved(other, one, writer);
            }
            Touched::Removed(place) => {
                if let Some(key) = task_at(place) {
                    self.note(&key, "removed from inbox".to_owned(), writer);
                    self.tell(Event::Task(key, TaskEvent::Vanished { by_verb: true }));
                }
            }
            Touched::Refused { at, text } => {
                let object = task_at(at).map_or_else(|| named(at), |key| format!("task {key}"));
                let text = format!("refused: {text}");
                self.tell(Event::Note { kind: Kind::Verb, object, text, writer: Some(writer.clone()) });
            }
            Touched::Created(_) | Touched::Closed { .. } | Touched::Changed(_) => {}
        }
    }

    fn config_text(&self) -> String {
        let config = self.config.borrow();
        // A configuration that was read can be written.
        serde_yaml::to_string(config.as_ref()).unwrap_or_default()
    }
}

impl http::Backend for DaemonBackend {
    fn snapshot(&self) -> Arc<Snapshot> {
        self.live.snapshot()
    }

    fn idle_timeout(&self) -> Duration {
        self.config.borrow().watcher.idle_timeout
    }

    fn listening(&self, outcome: Result<SocketAddr, String>) {
        self.tell(Event::Health { topic: "http".to_owned(), problem: outcome.err() });
    }
}
