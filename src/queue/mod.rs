//! The queue service: scans the inboxes and files results.
//! Takes the queue directories, hints that they changed, and tasks whose outcome is known. Proposes task events;
//! writes results to `done/` and `failed/`, and `.rejected` sidecars. Owns the record of what was read when. Never
//! starts a task and never touches a session.

mod file;
pub mod ready;
mod reconcile;
mod scan;
mod wakes;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt as _, future::join_all};
use jiff::Timestamp;
use tokio::sync::watch;

use crate::{
    config::Config,
    live::{Hands, Live},
    model::{
        command::{Action, Refused, RefusedKind, Writer},
        event::{Counts, Event},
        ids::{ProjectName, TaskId, TaskKey},
        permits,
        queue::QueueDir,
        snapshot::Snapshot,
        task_file::identity,
        writer::By,
    },
    ports::{Clock, QueueStore},
    queue::{scan::Known, wakes::Wakes},
};

/// Pause before a failed write of a result is retried. Chosen: a full disk doesn't get free sooner.
const RETRY_FILING: Duration = Duration::from_secs(2);

/// Results written to disk at the same time. Chosen: their fsyncs share commits of the file system.
const TOGETHER: usize = 16;

/// Hints from the disk handled in one round. Chosen: each filed result causes a few.
const HINTS: usize = 8 * TOGETHER;

/// Everything the service works with.
pub struct Queue {
    live: Live,
    store: Arc<dyn QueueStore>,
    clock: Arc<dyn Clock>,
    config: watch::Receiver<Arc<Config>>,
    /// What was seen of each name.
    known: HashMap<TaskKey, Known>,
    /// When names are re-checked without hints.
    wakes: Wakes,
    /// When results that failed to be written are tried again.
    retry_filing: Wakes,
    rescanned: u64,
}

/// What to look at.
enum Look {
    Everything,
    Only(BTreeSet<(ProjectName, TaskId)>),
}

impl Queue {
    #[must_use]
    pub fn new(hands: Hands) -> Self {
        let Hands { live, queue: store, clock, config, .. } = hands;
        let (wakes, retry_filing) = (Wakes::default(), Wakes::default());
        Self { live, store, clock, config, known: HashMap::new(), wakes, retry_filing, rescanned: 0 }
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
            // An hour stands for never: the full scan comes first.
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

    /// Adds the disk's pending hints: while snapshots keep changing nobody else would read them.
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
        [self.wakes.next(), self.retry_filing.next()].into_iter().flatten().min()
    }

    /// The names whose time has come.
    fn due(&mut self) -> Look {
        let now = self.clock.now();
        self.retry_filing.due(now);
        Look::Only(self.wakes.due(now).into_iter().map(|key| (key.project, key.id)).collect())
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
                let names: Vec<_> = names.iter().collect();
                for of_one in names.chunk_by(|(a, _), (b, _)| a == b) {
                    let ids: Vec<TaskId> = of_one.iter().map(|(_, id)| id.clone()).collect();
                    self.scan(&of_one[0].0, Some(&ids)).await;
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
        let waits = |key: &TaskKey| self.retry_filing.get(key).is_some_and(|at| at > now);
        let filing = snapshot.tasks.filing().filter(|task| !waits(&task.key)).take(TOGETHER);
        let filing: Vec<_> = filing.filter_map(|task| Some((task, task.phase.filing()?))).collect();
        let filed = join_all(filing.iter().map(|(task, filing)| self.file(task, filing))).await;
        let mut news = Vec::new();
        let mut kept: BTreeSet<(ProjectName, TaskId)> = BTreeSet::new();
        let mut counts: BTreeMap<&ProjectName, Counts> = BTreeMap::new();
        for ((task, _), filed) in filing.iter().zip(&filed) {
            let (project, id) = (&task.key.project, &task.key.id);
            let problem = match filed {
                Ok(filed) => {
                    self.retry_filing.set(&task.key, None);
                    if filed.kept {
                        kept.insert((project.clone(), id.clone()));
                    }
                    let known = snapshot.projects.iter().find(|known| known.name == *project);
                    let count = counts.entry(project).or_insert(known.map(|known| known.counts).unwrap_or_default());
                    match filed.dir {
                        QueueDir::Done => count.done += 1,
                        QueueDir::Failed => count.failed += 1,
                        QueueDir::Inbox | QueueDir::Drafts => {}
                    }
                    None
                }
                Err(error) => {
                    self.retry_filing.set(&task.key, Some(now.saturating_add(RETRY_FILING).unwrap_or(now)));
                    Some(format!(
                        "the result of task {} can't be written: {error}; it is kept in memory and tried again every {} s",
                        task.key,
                        RETRY_FILING.as_secs()
                    ))
                }
            };
            news.push(Event::Health { topic: format!("result {}", task.key), problem });
        }
        // Counted up; the next full scan counts again.
        news.extend(counts.into_iter().map(|(project, counts)| Event::Counts { project: project.clone(), counts }));
        self.live.report(news).await;
        // A kept file has a newer text; read it at once.
        self.look(&Look::Only(kept)).await;
        filed.iter().any(Result::is_ok)
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
            self.look(&Look::Only(keys.into_iter().map(|key| (key.project, key.id)).collect())).await;
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

    /// Whoever reruns a task counts as the writer of the text that was run; of another text the writer is unknown.
    async fn retried(&self, snapshot: &Snapshot, key: &TaskKey, writer: Option<&Writer>) {
        let read = self.store.read(&key.project, QueueDir::Inbox, &key.id, u64::MAX).await;
        if let (Ok((text, _)), Some(writer)) = (read, writer) {
            let ran = snapshot.tasks.get(key).and_then(|task| task.phase.text_that_ran());
            if writer.by == By::Person && ran != Some(&identity(&text)) {
                return;
            }
            let origin = permits::origin(snapshot, key, writer, &text);
            self.live.report(vec![Event::Origin(key.clone(), origin)]).await;
        }
    }

    async fn disk_problem(&self, project: &ProjectName, what: &str, error: &std::io::Error) {
        let text = format!("project {project}: {what}: {error}; its tasks wait until this is mended");
        self.live.report(vec![Event::Health { topic: format!("queue {project}"), problem: Some(text) }]).await;
    }
}
