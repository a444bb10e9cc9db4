//! Recovery at startup: markers without a known run, runs without a marker, results not cleaned up.
//! When in doubt, nothing runs again.

use super::{
    Queue,
    file::{claim_of, facts_of},
};
use crate::model::{
    event::{Event, Kind, Note, Reason},
    footer::run_of,
    ids::{ProjectName, RunId, TaskKey},
    marker::{DelegatedMarker, Marker, OwnClaim},
    queue::{End, Mark, Over, QueueDir, Sidecar},
    session::SessionEvent,
    task::{Delivery, Ending, Phase, Status, TaskEvent, Work},
};

impl Queue {
    /// Who wrote our markers.
    pub(super) fn supervisor(&self) -> String {
        self.live.snapshot().supervisor.to_string()
    }

    pub(super) async fn reconcile(&self, project: &ProjectName) {
        let inbox = match self.store.look(project, None).await {
            Ok(inbox) => inbox,
            Err(error) => return self.disk_problem(project, "inbox/ can't be read", &error).await,
        };
        for mark in &inbox.sidecars {
            self.marker_left(&TaskKey::new(project, &mark.id), mark).await;
        }
        let snapshot = self.live.snapshot();
        for task in snapshot.tasks.values().filter(|task| task.key.project == *project) {
            let (work, claim) = match &task.phase {
                Phase::Working(run) => (Work::Run(run.clone()), Sidecar::Working),
                Phase::Delegated(job) => (Work::Job(job.clone()), Sidecar::Delegated),
                Phase::Held(_) | Phase::Queued | Phase::Rejected(_) | Phase::Filing(_) | Phase::Finished(_) => continue,
            };
            let marked = inbox.sidecars.iter().any(|mark| mark.which == claim && mark.id == task.key.id);
            self.work_left(&task.key, &work, marked).await;
        }
    }

    /// A marker on disk: of a known run, of a filed run, of a claim that the owner never got, or a foreign one.
    async fn marker_left(&self, key: &TaskKey, mark: &Mark) {
        let Some(claim) = OwnClaim::read(mark, &self.supervisor()) else { return };
        let snapshot = self.live.snapshot();
        if snapshot.tasks.get(key).and_then(|task| task.phase.run_id()) == Some(&claim.run) {
            return;
        }
        let (run, is_filed) = (claim.run.clone(), self.is_filed(key, &claim.run).await);
        let (reason, text) = if is_filed {
            // The result was written and the daemon ended before it could clean up.
            let end = End { run: Some(claim.run), result: None, own: claim.identity, claim: Some(mark.which) };
            let _ = self.store.file(&key.project, &key.id, &end).await;
            let text =
                format!("run {run} is filed; its task and marker, which were still (or again) in inbox/, are removed");
            (Reason::AlreadyFiled, text)
        } else {
            // The owner saves a claim before anything is typed or sent; it knows nothing of this one.
            let _ = self.store.unmark(&key.project, &key.id, &[mark.which]).await;
            (Reason::ClaimReturned, format!("claim of run {run} taken back: the daemon ended before it began"))
        };
        self.live.report(vec![Event::Note(Note::new(Kind::Task, reason, key, text))]).await;
    }

    /// Work that the owner knows: perhaps filed already, perhaps its marker is gone.
    async fn work_left(&self, key: &TaskKey, work: &Work, marked: bool) {
        let freed = work.run().map(|run| Event::Session(run.session.clone(), SessionEvent::Freed));
        let mut events = if let Some(status) = self.filed_status(key, work.id()).await {
            // The result is on disk: only the cleaning up and the news are missing.
            let ending = Ending::new(status, self.clock.now());
            let (run, own) = (Some(work.id().clone()), work.text().identity.clone());
            let end = End { run, result: None, own, claim: Some(claim_of(work)) };
            let kept = self.store.file(&key.project, &key.id, &end).await;
            match kept.map(|kept| kept.map(|(text, facts)| facts_of(&text, &facts))) {
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
            let _ = self.store.mark(&key.project, &key.id, claim_of(work), &marker, Over::Never).await;
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
        let results = self.store.results(&key.project, &key.id).await.ok()?;
        let (dir, ..) = results.into_iter().find(|(_, file, _)| run_of(file).as_ref() == Some(run))?;
        Some(if dir == QueueDir::Done { Status::Done } else { Status::Failed })
    }
}
