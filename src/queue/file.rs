//! Files a task's result on disk: result, then the task file, then the marker (INTERFACE 1).
//! A crash in between loses nothing and runs nothing twice: `run` in the result shows that this attempt is already
//! filed.

use std::io;

use super::Queue;
use crate::model::{
    event::Event,
    identity::TextFacts,
    queue::{End, FileFacts, QueueDir, Sidecar},
    result,
    session::SessionEvent,
    task::{Filing, Status, Task, TaskEvent, Work},
    task_file::{identity, sha256},
};

/// Nothing is there, or something that holds no task's text.
fn is_no_text(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput)
}

/// Where a task's end was put.
pub(super) struct Put {
    pub dir: QueueDir,
    /// A newer text stayed in the inbox.
    pub kept: bool,
}

impl Queue {
    /// Files one task. After an error everything done so far stays, and the next call continues.
    pub(super) async fn file(&self, task: &Task, filing: &Filing) -> io::Result<Put> {
        let (key, Filing { work, ending }) = (&task.key, filing);
        let dir = match ending.status {
            Status::Done => QueueDir::Done,
            Status::Failed | Status::Cancelled => QueueDir::Failed,
        };
        let text = self.text_of(task, work.as_ref()).await?;
        let filed = text.as_deref().map(identity).unwrap_or_default();
        let timeline = &self.live.snapshot().timeline;
        let end = End {
            run: work.as_ref().map(|work| work.id().clone()),
            result: text.map(|text| (dir, result::render(&text, work.as_ref(), ending, timeline))),
            // Only what was filed is removed: what came meanwhile under its name is another task.
            own: work.as_ref().map_or(filed, |work| work.text().identity.clone()),
            claim: work.as_ref().map(claim_of),
        };
        let kept = self.store.file(&key.project, &key.id, &end).await?.map(|(text, facts)| facts_of(&text, &facts));

        let put = Put { dir, kept: kept.is_some() };
        let mut events = vec![Event::Task(key.clone(), TaskEvent::Filed { kept })];
        let run = work.as_ref().and_then(Work::run);
        if let Some(run) = run.filter(|run| self.live.snapshot().sessions.contains_key(&run.session)) {
            events.push(Event::Session(run.session.clone(), SessionEvent::Freed));
        }
        self.live.propose(events).await.map_err(|refusal| io::Error::other(refusal.to_string()))?;
        Ok(put)
    }

    /// The text that was run; for a task that never ran, its file. `None` when there is nothing left to file.
    async fn text_of(&self, task: &Task, work: Option<&Work>) -> io::Result<Option<Vec<u8>>> {
        let key = &task.key;
        if let Some(text) = work.and_then(|work| self.live.snapshot().texts.get(work.id()).cloned()) {
            return Ok(Some(text.as_bytes().to_vec()));
        }
        match self.store.read(&key.project, QueueDir::Inbox, &key.id, u64::MAX).await {
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
}

/// The task's marker during this work.
pub(super) fn claim_of(work: &Work) -> Sidecar {
    match work {
        Work::Run(_) => Sidecar::Working,
        Work::Job(_) => Sidecar::Delegated,
    }
}

/// What is kept of a text that another task was written with.
pub(super) fn facts_of(text: &[u8], facts: &FileFacts) -> TextFacts {
    TextFacts { sha256: sha256(text), identity: identity(text), bytes: facts.bytes, modified: facts.modified }
}
