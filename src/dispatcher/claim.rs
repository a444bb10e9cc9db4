//! One claim: the marker on disk, then the owner is told.
//! In: a choice and the picture that it was made from. Out: `Claimed` or `Delegated` told, or why not, with nothing left behind.

use std::{io, sync::Arc};

use tokio::sync::watch;

use super::decide::{Choice, Target};
use crate::{
    config::Config,
    live::{Live, NewId},
    model::{
        event::Event,
        identity::TextFacts,
        ids::{RunId, TaskKey},
        marker::{DelegatedMarker, Marker},
        provider::{Delegation, Job, JobStop},
        queue::{QueueDir, Sidecar, Workdir},
        route::instead,
        session::{Assignment, SessionEvent},
        snapshot::Snapshot,
        task::{Delivery, Phase, Run, Stop, Task, TaskEvent, Work},
        task_file::{Reading, read, sha256},
    },
    ports::{Clock, QueueStore},
};

/// Why a claim was not made.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoClaim {
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
}

/// What claims are made with.
pub(super) struct Claims {
    pub(super) live: Live,
    pub(super) store: Arc<dyn QueueStore>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) config: watch::Receiver<Arc<Config>>,
    pub(super) new_id: NewId,
}

impl Claims {
    pub(super) async fn claim(&self, snapshot: &Snapshot, choice: &Choice) -> Result<(), NoClaim> {
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
        let (which, other, marker) = match &work {
            Work::Run(run) => (Sidecar::Working, Sidecar::Delegated, Marker::of(run, snapshot).to_json()),
            Work::Job(job) => (Sidecar::Delegated, Sidecar::Working, DelegatedMarker::of(job, snapshot).to_json()),
        };
        match self.store.write_sidecar(&key.project, &key.id, which, &marker).await {
            Ok(()) => {}
            Err(error) => {
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
                // The text goes with the claim; one that is no text was refused above.
                let text = String::from_utf8_lossy(&text).into();
                let mut events = vec![
                    Event::Health { topic: "claims".to_owned(), problem: None },
                    Event::Text(work.id().clone(), text),
                ];
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
        let is_ours = match which {
            Sidecar::Working => Marker::read(&bytes).is_some_and(|marker| marker.supervisor == supervisor),
            Sidecar::Delegated => DelegatedMarker::read(&bytes).is_some_and(|marker| marker.by(supervisor).is_some()),
            Sidecar::Rejected => false,
        };
        let waits = |task: &Arc<Task>| task.phase == Phase::Queued;
        if is_ours && self.live.snapshot().tasks.get(key).is_some_and(waits) {
            self.store.remove_sidecar(&key.project, &key.id, which).await?;
        }
        Ok(())
    }
}
