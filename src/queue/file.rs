//! Putting a task's end on disk: result, then the task file, then the marker (INTERFACE 1). A crash anywhere between
//! loses nothing and runs nothing twice: `run` in the result tells that this end is already filed.

use std::io;

use super::{Queue, reconcile::claim_of};
use crate::{
    model::{
        event::Event,
        ids::TaskKey,
        result,
        session::SessionEvent,
        task::{Filing, Phase, Status, Task, TaskEvent, TextFacts, Work},
        task_file::{identity, sha256},
    },
    ports::{QueueDir, Sidecar},
};

/// Nothing is there, or something that holds no task's text.
fn is_no_text(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput)
}

impl Queue {
    /// Files one task. On an error everything done so far stays and the next call goes on.
    pub(super) async fn file(&self, task: &Task) -> io::Result<()> {
        let Phase::Filing(Filing { work, ending }) = &task.phase else { return Ok(()) };
        let key = &task.key;
        let dir = match ending.status {
            Status::Done => QueueDir::Done,
            Status::Failed | Status::Cancelled => QueueDir::Failed,
        };
        let text = self.text_of(task, work.as_ref()).await?;
        let filed = text.as_deref().map(identity).unwrap_or_default();
        // What a daemon filed that ended before it could say so stays as it is: by a clock that was set since it would read otherwise.
        let done = match work {
            Some(work) => self.is_filed(key, work.id()).await,
            None => false,
        };
        if let Some(text) = text.filter(|_| !done) {
            self.store
                .file(
                    &key.project,
                    dir,
                    &key.id,
                    &result::render(&text, work.as_ref(), ending, &self.live.snapshot().timeline),
                )
                .await?;
        }
        // Only what was filed is removed: what came meanwhile under its name is another task.
        let own = work.as_ref().map_or(filed, |work| work.text().identity.clone());
        let kept = self.clear(key, &own, work.as_ref().map(claim_of)).await?;

        let mut events = vec![Event::Task(key.clone(), TaskEvent::Filed { kept })];
        let run = work.as_ref().and_then(Work::run);
        if let Some(run) = run.filter(|run| self.live.snapshot().sessions.contains_key(&run.session)) {
            events.push(Event::Session(run.session.clone(), SessionEvent::Freed));
        }
        self.live.propose(events).await.map_err(|refusal| io::Error::other(refusal.to_string()))?;
        if let Some(work) = work {
            let _ = self.state.remove_run(work.id()).await;
        }
        Ok(())
    }

    /// The text that was run; for a task that never ran, its file. `None` when there is nothing left to file.
    async fn text_of(&self, task: &Task, work: Option<&Work>) -> io::Result<Option<Vec<u8>>> {
        let key = &task.key;
        if let Some(work) = work {
            match self.state.load_run(work.id()).await {
                Ok(text) => return Ok(Some(text)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let max = u64::MAX;
        match self.store.read(&key.project, QueueDir::Inbox, &key.id, max).await {
            // Somebody wrote another task under the name of a cancelled one.
            Ok((text, _)) if work.is_none() && task.text.as_ref().is_some_and(|t| t.identity != identity(&text)) => {
                Ok(None)
            }
            Ok((text, _)) => Ok(Some(text)),
            // A result without its task's text is still a result.
            Err(error) if is_no_text(&error) => Ok(work.map(|_| Vec::new())),
            Err(error) => Err(error),
        }
    }

    /// Removes the task file, unless it holds another text than `own`, and the marker. Answers the other text's facts.
    pub(super) async fn clear(
        &self,
        key: &TaskKey,
        own: &str,
        claim: Option<Sidecar>,
    ) -> io::Result<Option<TextFacts>> {
        let kept = loop {
            match self.store.read(&key.project, QueueDir::Inbox, &key.id, u64::MAX).await {
                Err(error) if error.kind() == io::ErrorKind::NotFound => break None,
                Err(error) if is_no_text(&error) => {
                    match self.store.remove(&key.project, &key.id).await {
                        // A directory with a task's name is somebody's own.
                        Err(error) if error.kind() == io::ErrorKind::IsADirectory => {}
                        removed => removed?,
                    }
                    break None;
                }
                Err(error) => return Err(error),
                Ok((text, facts)) if identity(&text) == own => {
                    if self.store.remove_unchanged(&key.project, QueueDir::Inbox, &key.id, &facts).await? {
                        break None;
                    }
                    // Somebody saved it between the look and the removal.
                }
                Ok((text, facts)) => {
                    break Some(TextFacts {
                        sha256: sha256(&text),
                        identity: identity(&text),
                        bytes: facts.bytes,
                        modified: facts.modified,
                    });
                }
            }
        };
        if let Some(claim) = claim {
            self.store.remove_sidecar(&key.project, &key.id, claim).await?;
        }
        self.store.remove_sidecar(&key.project, &key.id, Sidecar::Rejected).await?;
        Ok(kept)
    }
}
