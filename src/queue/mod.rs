//! The queue service: what stands in the inboxes, and how a task's end is put on disk.
//! In: the queue directories, hints that they changed, tasks whose end is known. Out: task events; results in `done/` and
//! `failed/`; `.rejected` sidecars. Owns the memory of what was read when. Never starts a task and never touches a session.

mod file;
pub mod ready;
mod reconcile;
mod scan;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt as _, future::join_all};
use jiff::Timestamp;
use tokio::sync::watch;

use crate::{
    config::Config,
    live::Live,
    model::{
        command::{Action, Refused, RefusedKind, Writer},
        event::Event,
        ids::{ProjectName, TaskId, TaskKey},
        rights,
        snapshot::Snapshot,
        task::Phase,
        task_file::identity,
        writer::By,
    },
    ports::{Clock, QueueDir, QueueStore, StateStore},
    queue::scan::Known,
};

/// How long a result that could not be written waits before the next try.
const RETRY_FILING: Duration = Duration::from_secs(2);

/// How many results are put on disk at the same time.
const TOGETHER: usize = 16;

/// How many of the disk's hints are taken in one round. Each filed result makes a few.
const HINTS: usize = 8 * TOGETHER;

/// Everything the service works with.
pub struct Queue {
    live: Live,
    store: Arc<dyn QueueStore>,
    state: Arc<dyn StateStore>,
    clock: Arc<dyn Clock>,
    config: watch::Receiver<Arc<Config>>,
    /// What was seen of each name.
    known: HashMap<TaskKey, Known>,
    /// When results that failed to be written are tried again.
    retry_filing: HashMap<TaskKey, Timestamp>,
    rescanned: u64,
}

/// What to look at.
enum Look {
    Everything,
    Only(BTreeSet<(ProjectName, TaskId)>),
}

impl Queue {
    #[must_use]
    pub fn new(
        live: Live,
        store: Arc<dyn QueueStore>,
        state: Arc<dyn StateStore>,
        clock: Arc<dyn Clock>,
        config: watch::Receiver<Arc<Config>>,
    ) -> Self {
        Self { live, store, state, clock, config, known: HashMap::new(), retry_filing: HashMap::new(), rescanned: 0 }
    }

    /// Makes the directories, brings markers and results of an earlier daemon in order, and looks at everything once.
    /// Must have ended before anything is dispatched.
    pub async fn prepare(&mut self) {
        for project in self.projects() {
            match self.store.prepare(&project).await {
                Ok(()) => self.reconcile(&project).await,
                Err(error) => self.disk_problem(&project, "the queue directories can't be made", &error).await,
            }
        }
        while self.settle_ends().await {}
        self.look(&Look::Everything).await;
    }

    /// Works until the owner stops.
    pub async fn run(mut self) {
        let mut snapshots = self.live.watch();
        let mut full_scan = tokio::time::Instant::now() + self.config.borrow().lifecycle.reconcile;
        loop {
            let now = self.clock.now();
            let wake = self.next_wake().map_or(Duration::from_secs(3600), |at| {
                Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO)
            });
            let store = self.store.clone();
            // In order, so that a simulated run replays. Hints come last of all: a flood of them must not hold up the rest.
            let mut look = tokio::select! {
                biased;
                () = tokio::time::sleep_until(full_scan) => Look::Everything,
                () = tokio::time::sleep(wake) => self.due(),
                changed = snapshots.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    Look::Only(BTreeSet::new())
                }
                hint = store.changed() => match hint {
                    Some(one) => Look::Only(BTreeSet::from([one])),
                    None => Look::Everything,
                },
            };
            self.add_hints(&mut look);
            let snapshot = self.live.snapshot();
            if snapshot.rescan != self.rescanned {
                self.rescanned = snapshot.rescan;
                look = Look::Everything;
            }
            if matches!(look, Look::Everything) {
                full_scan = tokio::time::Instant::now() + self.config.borrow().lifecycle.reconcile;
            }
            self.look(&look).await;
            self.settle_ends().await;
            self.carry_out(&snapshot).await;
        }
    }

    /// Adds what the disk has told by now: while pictures change without end nobody else would read it.
    fn add_hints(&self, look: &mut Look) {
        for hint in (0..HINTS).map_while(|_| self.store.changed().now_or_never()) {
            match (hint, &mut *look) {
                (Some(one), Look::Only(names)) => drop(names.insert(one)),
                (None, look) => *look = Look::Everything,
                (Some(_), Look::Everything) => {}
            }
        }
    }

    fn projects(&self) -> Vec<ProjectName> {
        self.live.snapshot().projects.iter().map(|project| project.name.clone()).collect()
    }

    fn next_wake(&self) -> Option<Timestamp> {
        let looks = self.known.values().filter_map(|known| known.wake);
        looks.chain(self.retry_filing.values().copied()).min()
    }

    /// The names whose time has come. Each look sets the next time itself: a name that is gone by now has none.
    fn due(&mut self) -> Look {
        let now = self.clock.now();
        let due = self.known.iter_mut().filter(|(_, known)| known.wake.is_some_and(|at| at <= now));
        Look::Only(
            due.map(|(key, known)| {
                known.wake = None;
                (key.project.clone(), key.id.clone())
            })
            .collect(),
        )
    }

    async fn look(&mut self, look: &Look) {
        match look {
            Look::Everything => {
                for project in self.projects() {
                    self.scan(&project, None).await;
                    self.count(&project).await;
                }
            }
            Look::Only(names) => {
                for (project, id) in names {
                    self.scan(project, Some(id)).await;
                }
            }
        }
    }

    async fn count(&self, project: &ProjectName) {
        if let Ok(counts) = self.store.counts(project).await {
            self.live.report(vec![Event::Counts { project: project.clone(), counts }]).await;
        }
    }

    /// Puts ends of tasks on disk, `TOGETHER` at the same time; the others come with the next round, so that many that
    /// end at once don't keep new tasks waiting. Answers whether there was any it could.
    async fn settle_ends(&mut self) -> bool {
        let snapshot = self.live.snapshot();
        let now = self.clock.now();
        let waits = |key: &TaskKey| self.retry_filing.get(key).is_some_and(|at| *at > now);
        let filing = snapshot.tasks.values().filter(|task| matches!(task.phase, Phase::Filing(_)) && !waits(&task.key));
        let filing: Vec<_> = filing.take(TOGETHER).collect();
        let filed = join_all(filing.iter().map(|task| self.file(task))).await;
        let mut news = Vec::new();
        for (task, filed) in filing.iter().zip(&filed) {
            let problem = match filed {
                Ok(()) => {
                    self.retry_filing.remove(&task.key);
                    None
                }
                Err(error) => {
                    self.retry_filing.insert(task.key.clone(), now.saturating_add(RETRY_FILING).unwrap_or(now));
                    Some(format!(
                        "the result of task {} can't be written: {error}; it is kept in memory and tried again every {} s",
                        task.key,
                        RETRY_FILING.as_secs()
                    ))
                }
            };
            news.push(Event::Health { topic: format!("result {}", task.key), problem });
        }
        self.live.report(news).await;
        let done = filing.iter().zip(&filed).filter(|(_, filed)| filed.is_ok()).map(|(task, _)| &task.key);
        let done: Vec<&TaskKey> = done.collect();
        let projects: BTreeSet<&ProjectName> = done.iter().map(|key| &key.project).collect();
        for project in projects {
            self.count(project).await;
        }
        // A kept file has a newer text; read it at once.
        for key in &done {
            self.scan(&key.project, Some(&key.id)).await;
        }
        !done.is_empty()
    }

    /// What people asked for that concerns the queue's files.
    async fn carry_out(&mut self, snapshot: &Snapshot) {
        for (id, action) in &snapshot.requests {
            let (keys, name, writer) = match action.as_ref() {
                Action::Retry(key, writer) => (vec![key.clone()], key.id.file_name(), writer),
                Action::RetryAnywhere(task, writer) => (self.failed(task).await, task.file_name(), writer),
                Action::Interrupt(_)
                | Action::Exit(_)
                | Action::Restart(_)
                | Action::Input(..)
                | Action::Keys(..)
                | Action::Swap
                | Action::Clean(_)
                | Action::Reload => continue,
            };
            let result = match keys.as_slice() {
                [key] => match self.store.shift(&key.project, QueueDir::Failed, QueueDir::Inbox, &key.id).await {
                    Ok(()) => {
                        self.retried(snapshot, key, writer.as_ref()).await;
                        Ok(format!("{key} is back in inbox/"))
                    }
                    Err(error) => Err(Refused::new(
                        match error.kind() {
                            std::io::ErrorKind::NotFound => RefusedKind::NotFound,
                            std::io::ErrorKind::AlreadyExists => RefusedKind::Busy,
                            _ => RefusedKind::Failed,
                        },
                        format!("failed/{name} of project {} could not be moved to inbox/: {error}", key.project),
                    )),
                },
                [] => Err(Refused::new(RefusedKind::NotFound, format!("no project has a failed/{name}"))),
                several => {
                    let names: Vec<String> = several.iter().map(ToString::to_string).collect();
                    Err(Refused::new(RefusedKind::Invalid, format!("{name} may be {}; name one", names.join(" or "))))
                }
            };
            self.live.report(vec![Event::RequestDone { id: *id, result }]).await;
            for key in keys {
                self.scan(&key.project, Some(&key.id)).await;
            }
        }
    }

    /// Every project's failed task of this name.
    async fn failed(&self, id: &TaskId) -> Vec<TaskKey> {
        let mut found = Vec::new();
        for project in self.projects() {
            if self.store.read(&project, QueueDir::Failed, id, u64::MAX).await.is_ok() {
                found.push(TaskKey::new(&project, id));
            }
        }
        found
    }

    /// Whoever has a task run again stands for the text that was run; of another text it isn't known who wrote it.
    async fn retried(&self, snapshot: &Snapshot, key: &TaskKey, writer: Option<&Writer>) {
        let read = self.store.read(&key.project, QueueDir::Inbox, &key.id, u64::MAX).await;
        if let (Ok((text, _)), Some(writer)) = (read, writer) {
            let ran = snapshot.tasks.get(key).and_then(|task| task.phase.text_that_ran());
            if writer.by == By::Person && ran != Some(&identity(&text)) {
                return;
            }
            let origin = rights::origin(snapshot, key, writer, &text);
            self.live.report(vec![Event::Origin(key.clone(), origin)]).await;
        }
    }

    async fn disk_problem(&self, project: &ProjectName, what: &str, error: &std::io::Error) {
        let text = format!("project {project}: {what}: {error}; its tasks wait until this is mended");
        self.live.report(vec![Event::Health { topic: format!("queue {project}"), problem: Some(text) }]).await;
    }
}
