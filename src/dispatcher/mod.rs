//! The dispatcher: claims tasks for sessions and providers.
//! In: queued tasks, free sessions, usable providers. Out: the claim marker on disk, then the claim told to the owner. Types
//! and sends nothing: the session and delegate services do, once the claim stands.

mod decide;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

pub use self::decide::{Choice, Target, choose};
use crate::{
    config::Config,
    live::Live,
    model::{
        event::Event,
        ids::{RunId, TaskKey},
        marker::{DelegatedMarker, Marker},
        provider::{Delegation, Job, JobStop},
        route::instead,
        session::{Assignment, SessionEvent},
        snapshot::Snapshot,
        task::{Delivery, Phase, Run, Stop, Task, TaskEvent, TextFacts, Work},
        task_file::{Reading, read, sha256},
    },
    ports::{Clock, QueueDir, QueueStore, Sidecar, StateStore, Workdir},
};

/// How long a task that could not be claimed is left alone.
const RETRY_CLAIM: Duration = Duration::from_secs(2);

/// How long to wait for a newer picture after one turned out to be old.
const STALE_PICTURE: Duration = Duration::from_millis(20);

/// How often sessions in their restart pause are looked at while tasks wait.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Makes ids of runs; the simulation's are numbered.
pub type NewId = Arc<dyn Fn() -> String + Send + Sync>;

pub struct Dispatcher {
    live: Live,
    store: Arc<dyn QueueStore>,
    state: Arc<dyn StateStore>,
    clock: Arc<dyn Clock>,
    config: watch::Receiver<Arc<Config>>,
    new_id: NewId,
    skip: BTreeMap<TaskKey, Timestamp>,
}

/// Why a claim was not made.
#[derive(Debug, thiserror::Error)]
enum NoClaim {
    /// The file isn't what it was; its own event comes.
    #[error("the task's file has changed or is gone")]
    Moved,
    #[error("its workdir {0} isn't a directory inside the project")]
    NoWorkdir(String),
    #[error("somebody else claimed it: a marker stands beside it")]
    Claimed,
    #[error("the owner did not take the claim: {0}")]
    Refused(#[from] crate::live::Refusal),
    #[error("the claim can't be written to disk: {0}")]
    Disk(#[from] io::Error),
    #[error("its text can't be saved: {0}")]
    Unsaved(io::Error),
}

impl Dispatcher {
    #[must_use]
    pub fn new(
        live: Live,
        store: Arc<dyn QueueStore>,
        state: Arc<dyn StateStore>,
        clock: Arc<dyn Clock>,
        config: watch::Receiver<Arc<Config>>,
        new_id: NewId,
    ) -> Self {
        Self { live, store, state, clock, config, new_id, skip: BTreeMap::new() }
    }

    /// Works until the owner stops.
    pub async fn run(mut self) {
        let mut snapshots = self.live.watch();
        loop {
            let snapshot = snapshots.borrow_and_update().clone();
            let now = self.clock.now();
            self.skip.retain(|_, until| *until > now);
            let skip: BTreeSet<TaskKey> = self.skip.keys().cloned().collect();
            let choices = choose(&snapshot, &self.config.borrow(), &skip, now);
            if !choices.is_empty() {
                let claims = join_all(choices.iter().map(|choice| self.claim(&snapshot, choice))).await;
                for (choice, claim) in choices.iter().zip(claims) {
                    if let Err(reason) = claim {
                        self.not_claimed(choice, &reason).await;
                    }
                }
                continue;
            }
            tokio::select! {
                biased;
                changed = snapshots.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(LOOK_AGAIN), if waits(&snapshot) => {}
            }
        }
    }

    async fn not_claimed(&mut self, choice: &Choice, reason: &NoClaim) {
        tracing::info!(task = %choice.task, to = %choice.to, %reason, "not claimed");
        match reason {
            // The picture was a moment old.
            NoClaim::Moved | NoClaim::Refused(_) => return tokio::time::sleep(STALE_PICTURE).await,
            NoClaim::Claimed | NoClaim::NoWorkdir(_) | NoClaim::Disk(_) | NoClaim::Unsaved(_) => {
                let until = SignedDuration::try_from(RETRY_CLAIM).unwrap_or_default();
                let now = self.clock.now();
                self.skip.insert(choice.task.clone(), now.saturating_add(until).unwrap_or(now));
            }
        }
        let problem = match reason {
            NoClaim::Disk(error) => Some(("its marker can't be written beside it", error)),
            NoClaim::Unsaved(error) => Some(("its text can't be saved in the state directory", error)),
            NoClaim::Moved | NoClaim::Refused(_) | NoClaim::Claimed | NoClaim::NoWorkdir(_) => None,
        };
        if let Some((what, error)) = problem {
            let text = format!(
                "task {} can't be claimed: {what}: {error}; tried again every {} s",
                choice.task,
                RETRY_CLAIM.as_secs()
            );
            self.live.report(vec![Event::Health { topic: "claims".to_owned(), problem: Some(text) }]).await;
        }
    }

    async fn claim(&self, snapshot: &Snapshot, choice: &Choice) -> Result<(), NoClaim> {
        let claimed = self.try_claim(snapshot, choice).await;
        if let Err(NoClaim::Claimed) = claimed {
            // Where a task goes may have changed since, so the marker may be of either kind.
            for which in [Sidecar::Working, Sidecar::Delegated] {
                self.clear_own_marker(&choice.task, which, &snapshot.supervisor).await?;
            }
        }
        claimed
    }

    /// Marker first, durable; then the owner; the session service types when it sees the assignment.
    async fn try_claim(&self, snapshot: &Snapshot, choice: &Choice) -> Result<(), NoClaim> {
        let key = &choice.task;
        let task = snapshot.tasks.get(key).ok_or(NoClaim::Moved)?;
        let facts = task.text.as_ref().ok_or(NoClaim::Moved)?;
        let max = self.config.borrow().dispatcher.max_task_bytes.0;
        let text = match self.store.read(&key.project, QueueDir::Inbox, &key.id, max).await {
            Ok((text, _)) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(NoClaim::Moved),
            Err(error) => return Err(error.into()),
        };
        // A changed file that a person released may hold anything; the next look at it says what.
        // After a restart the frontmatter of a run given back is not known before its file was read.
        let known = matches!(read(&text), Reading::Ready { spec, .. } if *spec == *task.spec);
        if sha256(&text) != facts.sha256 || !known {
            return Err(NoClaim::Moved);
        }
        if self.store.workdir(&key.project, &task.spec.workdir).await? != Workdir::Inside {
            return Err(NoClaim::NoWorkdir(task.spec.workdir.clone()));
        }
        let work = self.work(task, facts, &choice.to, &snapshot.delegation);
        let run = work.id();
        if let Err(error) = self.state.save_run(run, &text).await {
            let _ = self.state.remove_run(run).await;
            return Err(NoClaim::Unsaved(error));
        }
        let (which, other, marker) = match &work {
            Work::Run(run) => (Sidecar::Working, Sidecar::Delegated, Marker::of(run, snapshot).to_json()),
            Work::Job(job) => (Sidecar::Delegated, Sidecar::Working, DelegatedMarker::of(job, snapshot).to_json()),
        };
        match self.store.write_sidecar(&key.project, &key.id, which, &marker).await {
            Ok(()) => {}
            Err(error) => {
                let _ = self.state.remove_run(run).await;
                let taken = error.kind() == io::ErrorKind::AlreadyExists;
                return Err(if taken { NoClaim::Claimed } else { error.into() });
            }
        }
        // Somebody may have moved the file away while the marker was written: theirs is the task.
        let still = self.store.read(&key.project, QueueDir::Inbox, &key.id, max).await;
        let claims = self.store.list(&key.project, Some(&key.id)).await;
        let theirs = claims.map(|inbox| inbox.sidecars.iter().any(|(_, which)| *which == other));
        let result = match (still, theirs) {
            (Ok(_), Ok(true)) => Err(NoClaim::Claimed),
            (Ok((now, _)), Ok(false)) if now == text => {
                let mut events = vec![Event::Health { topic: "claims".to_owned(), problem: None }];
                match &work {
                    Work::Run(run) => {
                        let assignment = Assignment { task: key.clone(), run: run.id.clone() };
                        events.push(Event::Task(key.clone(), TaskEvent::Claimed(run.clone())));
                        events.push(Event::Session(run.session.clone(), SessionEvent::Assigned(assignment)));
                    }
                    Work::Job(job) => events.push(Event::Task(key.clone(), TaskEvent::Delegated(job.clone()))),
                }
                self.live.propose(events).await.map_err(NoClaim::from)
            }
            (Ok(_) | Err(_), Ok(_) | Err(_)) => Err(NoClaim::Moved),
        };
        if result.is_err() {
            self.store.remove_sidecar(&key.project, &key.id, which).await?;
            let _ = self.state.remove_run(run).await;
        }
        result
    }

    /// The attempt that is claimed.
    fn work(&self, task: &Task, facts: &TextFacts, to: &Target, delegation: &Delegation) -> Work {
        let (id, attempt, claimed) = (RunId((self.new_id)()), task.attempts + 1, self.clock.now());
        match to {
            Target::Session { session, agent, account, workdir } => Work::Run(Run {
                id,
                session: session.clone(),
                agent: agent.clone(),
                accounts: account.iter().cloned().collect(),
                workdir: workdir.clone(),
                attempt,
                attempts_allowed: task.spec.retries.saturating_add(1),
                timeout: task.spec.timeout,
                claimed,
                typed: None,
                delivery: Delivery::NotBegun,
                stop: Stop::No,
                pauses: 0,
                text: facts.clone(),
                instead: instead(task, delegation, None),
            }),
            Target::Provider(provider) => Work::Job(Job {
                run: id,
                provider: provider.clone(),
                id: None,
                claimed,
                attempt,
                stop: JobStop::No,
                text: facts.clone(),
                output: None,
                instead: instead(task, delegation, Some(provider)),
            }),
        }
    }

    /// A marker of ours beside a task that waits is of a claim that could not be taken back: only this service claims, and a
    /// run's marker is gone before its task waits again.
    async fn clear_own_marker(&self, key: &TaskKey, which: Sidecar, supervisor: &str) -> Result<(), NoClaim> {
        let bytes = match self.store.read_sidecar(&key.project, &key.id, which).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            read => read?,
        };
        let run = match which {
            Sidecar::Working => Marker::read(&bytes).filter(|marker| marker.supervisor == supervisor).map(|m| m.run),
            Sidecar::Delegated => {
                DelegatedMarker::read(&bytes).and_then(|marker| Some(marker.by(supervisor)?.run.clone()))
            }
            Sidecar::Rejected => None,
        };
        let Some(run) = run else { return Ok(()) };
        let snapshot = self.live.snapshot();
        if snapshot.tasks.get(key).is_some_and(|task| task.phase == Phase::Queued) {
            self.store.remove_sidecar(&key.project, &key.id, which).await?;
            let _ = self.state.remove_run(&run).await;
        }
        Ok(())
    }
}

/// Whether time alone may bring a choice.
fn waits(snapshot: &Snapshot) -> bool {
    !snapshot.paused && snapshot.tasks.values().any(|task| task.phase == Phase::Queued)
}
