//! What an earlier daemon left behind: markers without a known run, runs without a marker, results not cleaned up.
//! Nothing is run again on doubt.

use jiff::Timestamp;

use super::Queue;
use crate::{
    model::{
        event::{Event, Kind},
        ids::{ProjectName, RunId, TaskKey},
        marker::{DelegatedMarker, Marker},
        result::run_of,
        session::SessionEvent,
        task::{Delivery, Ending, Phase, Status, TaskEvent, Work},
        task_file::identity,
    },
    ports::{QueueDir, Sidecar},
};

/// A claim marker of ours.
pub(super) struct OwnClaim {
    pub run: RunId,
    pub identity: String,
    pub since: Timestamp,
}

/// The marker that stands beside a task while this is worked on.
pub(super) fn claim_of(work: &Work) -> Sidecar {
    match work {
        Work::Run(_) => Sidecar::Working,
        Work::Job(_) => Sidecar::Delegated,
    }
}

impl Queue {
    /// Who wrote our markers.
    pub(super) fn supervisor(&self) -> String {
        self.live.snapshot().supervisor.to_string()
    }

    pub(super) async fn reconcile(&self, project: &ProjectName) {
        let inbox = match self.store.list(project, None).await {
            Ok(inbox) => inbox,
            Err(error) => return self.disk_problem(project, "inbox/ can't be read", &error).await,
        };
        for (id, which) in &inbox.sidecars {
            self.marker_left(&TaskKey::new(project, id), *which).await;
        }
        let snapshot = self.live.snapshot();
        for task in snapshot.tasks.values().filter(|task| task.key.project == *project) {
            let (work, claim) = match &task.phase {
                Phase::Working(run) => (Work::Run(run.clone()), Sidecar::Working),
                Phase::Delegated(job) => (Work::Job(job.clone()), Sidecar::Delegated),
                Phase::Held(_) | Phase::Queued | Phase::Rejected(_) | Phase::Filing(_) | Phase::Finished(_) => continue,
            };
            let marked = inbox.sidecars.iter().any(|(id, which)| *which == claim && *id == task.key.id);
            self.work_left(&task.key, &work, marked).await;
        }
    }

    /// What a claim marker of ours says; `None` for a stranger's.
    pub(super) async fn own_claim(&self, key: &TaskKey, which: Sidecar) -> Option<OwnClaim> {
        let bytes = self.store.read_sidecar(&key.project, &key.id, which).await.ok()?;
        match which {
            Sidecar::Working => {
                let marker = Marker::read(&bytes).filter(|marker| marker.supervisor == self.supervisor())?;
                Some(OwnClaim { run: marker.run, identity: marker.identity, since: marker.since })
            }
            Sidecar::Delegated => {
                let marker = DelegatedMarker::read(&bytes)?;
                let ours = marker.by(&self.supervisor())?.clone();
                Some(OwnClaim { run: ours.run, identity: ours.identity, since: marker.submitted_at? })
            }
            Sidecar::Rejected => None,
        }
    }

    /// A marker on disk: of a known run, of a filed run, of a claim that was never told to the owner, or a stranger's.
    async fn marker_left(&self, key: &TaskKey, which: Sidecar) {
        let Some(marker) = self.own_claim(key, which).await else { return };
        let snapshot = self.live.snapshot();
        if snapshot.tasks.get(key).and_then(|task| task.phase.run_id()) == Some(&marker.run) {
            return;
        }
        if self.is_filed(key, &marker.run).await {
            // The result was written and the daemon ended before it could clean up.
            if let Ok((text, _)) = self.store.read(&key.project, QueueDir::Inbox, &key.id, u64::MAX).await
                && identity(&text) == marker.identity
            {
                let _ = self.store.remove(&key.project, &key.id).await;
                let text = format!(
                    "run {} is filed; its task and marker, which were still (or again) in inbox/, are removed",
                    marker.run
                );
                let object = format!("task {key}");
                self.live.report(vec![Event::Note { kind: Kind::Task, object, text, writer: None }]).await;
            }
        } else {
            // The owner saves a claim before anything is typed or sent; it knows nothing of this one.
            let text = format!("claim of run {} taken back: the daemon ended before it began", marker.run);
            self.live
                .report(vec![Event::Note { kind: Kind::Task, object: format!("task {key}"), text, writer: None }])
                .await;
        }
        let _ = self.store.remove_sidecar(&key.project, &key.id, which).await;
        let _ = self.state.remove_run(&marker.run).await;
    }

    /// Work that the owner knows: perhaps filed already, perhaps its marker is gone.
    async fn work_left(&self, key: &TaskKey, work: &Work, marked: bool) {
        let freed = work.run().map(|run| Event::Session(run.session.clone(), SessionEvent::Freed));
        let mut events = if let Some(status) = self.filed_status(key, work.id()).await {
            // The result is on disk: only the cleaning up and the news are missing.
            let ending = Ending::new(status, self.clock.now());
            match self.clear(key, &work.text().identity, Some(claim_of(work))).await {
                Ok(kept) => vec![
                    Event::Task(key.clone(), TaskEvent::Ended { run: work.id().clone(), ending, told: None }),
                    Event::Task(key.clone(), TaskEvent::Filed { kept }),
                ],
                Err(_) => return,
            }
        } else if marked {
            return;
        } else if work.run().is_some_and(|run| run.delivery == Delivery::NotBegun) {
            let why = "its claim marker was gone before anything was typed".to_owned();
            vec![Event::Task(key.clone(), TaskEvent::Unclaimed { run: work.id().clone(), why })]
        } else {
            // Without the marker nobody else knows that it is worked on; put it back.
            let marker = match work {
                Work::Run(run) => Marker::of(run, &self.live.snapshot()).to_json(),
                Work::Job(job) => DelegatedMarker::of(job, &self.live.snapshot()).to_json(),
            };
            let _ = self.store.write_sidecar(&key.project, &key.id, claim_of(work), &marker).await;
            return;
        };
        events.extend(freed);
        if let Err(refusal) = self.live.propose(events).await {
            tracing::warn!(%refusal, task = %key, "could not bring an earlier run in order");
        }
    }

    pub(super) async fn is_filed(&self, key: &TaskKey, run: &RunId) -> bool {
        self.filed_status(key, run).await.is_some()
    }

    async fn filed_status(&self, key: &TaskKey, run: &RunId) -> Option<Status> {
        for (dir, status) in [(QueueDir::Done, Status::Done), (QueueDir::Failed, Status::Failed)] {
            if let Ok((file, _)) = self.store.read(&key.project, dir, &key.id, u64::MAX).await
                && run_of(&file).as_ref() == Some(run)
            {
                return Some(status);
            }
        }
        None
    }
}
