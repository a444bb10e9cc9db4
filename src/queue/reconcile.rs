//! What an earlier daemon left behind: markers without a known run, runs without a marker, results not cleaned up.
//! Nothing is run again on doubt.

use super::Queue;
use crate::{
    model::{
        event::{Event, Kind},
        ids::{ProjectName, RunId, TaskKey},
        marker::Marker,
        result::run_of,
        session::SessionEvent,
        task::{Delivery, Ending, Phase, Run, Status, TaskEvent},
        task_file::identity,
    },
    ports::{QueueDir, Sidecar},
};

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
            if *which == Sidecar::Working {
                self.marker_left(&TaskKey::new(project, id)).await;
            }
        }
        let snapshot = self.live.snapshot();
        for task in snapshot.tasks.values().filter(|task| task.key.project == *project) {
            let Phase::Working(run) = &task.phase else { continue };
            let marked = inbox.sidecars.iter().any(|(id, which)| *which == Sidecar::Working && *id == task.key.id);
            self.run_left(&task.key, run, marked).await;
        }
    }

    /// A marker on disk: of a known run, of a filed run, of a claim that was never told to the owner, or a stranger's.
    async fn marker_left(&self, key: &TaskKey) {
        let Ok(bytes) = self.store.read_sidecar(&key.project, &key.id, Sidecar::Working).await else { return };
        let Some(marker) = Marker::read(&bytes) else { return };
        if marker.supervisor != self.supervisor() {
            return;
        }
        let snapshot = self.live.snapshot();
        let known = snapshot.tasks.get(key).and_then(|task| task.phase.run()).is_some_and(|run| run.id == marker.run);
        if known {
            return;
        }
        if self.is_filed(key, &marker.run).await {
            // The result was written and the daemon ended before it could clean up.
            if let Ok((text, _)) = self.store.read(&key.project, QueueDir::Inbox, &key.id, u64::MAX).await
                && identity(&text) == marker.identity
            {
                let _ = self.store.remove(&key.project, &key.id).await;
            }
        } else {
            // The owner saves a claim before anything is typed; it knows nothing of this one, so nothing was typed.
            let text = format!("claim of run {} taken back: the daemon ended before it began", marker.run);
            self.live
                .report(vec![Event::Note { kind: Kind::Task, object: format!("task {key}"), text, writer: None }])
                .await;
        }
        let _ = self.store.remove_sidecar(&key.project, &key.id, Sidecar::Working).await;
        let _ = self.state.remove_run(&marker.run).await;
    }

    /// A run that the owner knows: perhaps filed already, perhaps its marker is gone.
    async fn run_left(&self, key: &TaskKey, run: &Run, marked: bool) {
        let freed = Event::Session(run.session.clone(), SessionEvent::Freed);
        let event = if let Some(status) = self.filed_status(key, &run.id).await {
            // The result is on disk: only the cleaning up and the news are missing.
            let ending = Ending {
                status,
                message: None,
                error: None,
                screen: None,
                tokens: None,
                resume_id: None,
                at: self.clock.now(),
            };
            match self.clear(key, &run.text.identity, true).await {
                Ok(kept) => vec![
                    Event::Task(key.clone(), TaskEvent::Ended { run: run.id.clone(), ending }),
                    Event::Task(key.clone(), TaskEvent::Filed { kept }),
                    freed,
                ],
                Err(_) => return,
            }
        } else if marked {
            return;
        } else if run.delivery == Delivery::NotBegun {
            let why = "its claim marker was gone before anything was typed".to_owned();
            vec![Event::Task(key.clone(), TaskEvent::Unclaimed { run: run.id.clone(), why }), freed]
        } else {
            // Without the marker nobody else knows that it runs; put it back.
            let marker = Marker::of(run, &self.supervisor()).to_json();
            let _ = self.store.write_sidecar(&key.project, &key.id, Sidecar::Working, &marker).await;
            return;
        };
        if let Err(refusal) = self.live.propose(event).await {
            tracing::warn!(%refusal, task = %key, "could not bring an earlier run in order");
        }
    }

    async fn is_filed(&self, key: &TaskKey, run: &RunId) -> bool {
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
