//! Claims one task: writes the marker on disk, then proposes the claim to the owner.
//! Takes a choice and the snapshot it was made from; proposes `Claimed` or `Delegated`, or says why not and leaves
//! nothing behind.

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
        marker::{DelegatedMarker, Marker, OwnClaim},
        provider::{Delegation, Job, JobStop},
        queue::{Ask, Claimed, Expected, Read, Sidecar},
        route::instead,
        session::{Assignment, SessionEvent},
        snapshot::Snapshot,
        task::{Delivery, Phase, Run, Stop, Task, TaskEvent, Work},
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
            self.clear_own_markers(&choice.task, &snapshot.supervisor).await?;
        }
        claimed
    }

    /// Marker first, durable; then the text, and the owner; the session service types when it sees the assignment.
    async fn try_claim(&self, snapshot: &Snapshot, choice: &Choice) -> Result<(), NoClaim> {
        let key = &choice.task;
        let task = snapshot.tasks.get(key).ok_or(NoClaim::Moved)?;
        let facts = task.text.as_ref().ok_or(NoClaim::Moved)?;
        let max = self.config.borrow().dispatcher.max_task_bytes.0;
        let expected = Expected { sha256: facts.sha256.clone(), spec: task.spec.clone(), max };
        let work = self.work(task, facts, &choice.to, &snapshot.delegation);
        let (which, marker) = match &work {
            Work::Run(run) => (Sidecar::Working, Marker::of(run, snapshot).to_json()),
            Work::Job(job) => (Sidecar::Delegated, DelegatedMarker::of(job, snapshot).to_json()),
        };
        let text = match self.store.claim(&key.project, &key.id, &expected, which, &marker).await? {
            Claimed::Ours(text) => text,
            Claimed::Moved => return Err(NoClaim::Moved),
            Claimed::Taken => return Err(NoClaim::Claimed),
            Claimed::NoWorkdir => return Err(NoClaim::NoWorkdir(task.spec.workdir.clone())),
        };
        let told = self.tell(key, &work, &text).await;
        if told.is_err() {
            self.store.unmark(&key.project, &key.id, &[which]).await?;
        }
        told
    }

    async fn tell(&self, key: &TaskKey, work: &Work, text: &[u8]) -> Result<(), NoClaim> {
        // The text goes with the claim; one that is no text is no task.
        let text = String::from_utf8_lossy(text).into();
        let mut events =
            vec![Event::Health { topic: "claims".to_owned(), problem: None }, Event::Text(work.id().clone(), text)];
        match work {
            Work::Run(run) => {
                let assignment = Assignment { task: key.clone(), run: run.id.clone() };
                events.push(Event::Task(key.clone(), TaskEvent::Claimed(run.clone())));
                events.push(Event::Session(run.session.clone(), SessionEvent::Assigned(assignment)));
            }
            Work::Job(job) => events.push(Event::Task(key.clone(), TaskEvent::Delegated(job.clone()))),
        }
        self.live.propose(events).await.map_err(NoClaim::from)
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
    /// run's marker is gone before its task waits again. Where a task goes may have changed since, so it may be of either kind.
    async fn clear_own_markers(&self, key: &TaskKey, supervisor: &str) -> Result<(), NoClaim> {
        let inbox = self.store.look(&key.project, Some(&[Ask { id: key.id.clone(), read: Read::No }])).await?;
        let waits = self.live.snapshot().tasks.get(key).is_some_and(|task| task.phase == Phase::Queued);
        for mark in inbox.sidecars.iter().filter(|_| waits) {
            if OwnClaim::read(mark, supervisor).is_some() {
                self.store.unmark(&key.project, &key.id, &[mark.which]).await?;
            }
        }
        Ok(())
    }
}
