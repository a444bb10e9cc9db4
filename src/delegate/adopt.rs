//! Jobs that scripts began: their marker tells the job, and its script collects the result. Where the job has ended and
//! nobody has for a while, its script is gone, and the result is collected here.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Tools, decide};
use crate::{
    model::{
        event::{Event, Kind},
        ids::{RunId, TaskKey},
        marker::DelegatedMarker,
        provider::{Job, JobStop},
        task::{Hold, Phase, TaskEvent, TextFacts},
        task_file::{identity, sha256},
    },
    ports::{Progress, QueueDir, Sidecar},
};

/// Since when the jobs of scripts are seen to have ended.
#[derive(Debug, Default)]
pub struct Seen(BTreeMap<TaskKey, (String, Timestamp)>);

impl Seen {
    /// Looks at every task that a script has claimed for a provider.
    pub async fn look(&mut self, tools: &Tools) {
        let snapshot = tools.live.snapshot();
        let outside = snapshot.tasks.iter().filter(|(_, task)| {
            matches!(&task.phase, Phase::Held(Hold::OutsideClaim(how)) if how.ends_with(Sidecar::Delegated.suffix()))
        });
        let keys: Vec<TaskKey> = outside.map(|(key, _)| key.clone()).collect();
        self.0.retain(|key, _| keys.contains(key));
        for key in keys {
            if self.has_waited(tools, &key).await.is_none() {
                self.0.remove(&key);
            }
        }
    }

    /// `None` when there is nothing to wait for.
    async fn has_waited(&mut self, tools: &Tools, key: &TaskKey) -> Option<()> {
        let bytes = tools.store.read_sidecar(&key.project, &key.id, Sidecar::Delegated).await.ok()?;
        let marker = DelegatedMarker::read(&bytes)?;
        let id = marker.job_id.clone()?;
        let provider = decide::meant(&marker, &tools.config.borrow())?;
        match tools.providers.look(&provider, &id).await {
            Ok(Progress::Done(_) | Progress::Failed(_) | Progress::Declined(_)) => {}
            Ok(Progress::Running { .. } | Progress::Unknown) | Err(_) => return None,
        }
        let now = tools.clock.now();
        let since = match self.0.get(key) {
            Some((known, since)) if *known == id => *since,
            Some(_) | None => {
                self.0.insert(key.clone(), (id, now));
                return Some(());
            }
        };
        if now.duration_since(since) < decide::SCRIPT_WITHIN {
            return Some(());
        }
        // Not our id: a run of that name is nobody's else.
        let run = RunId(format!("adopted-{id}"));
        let (text, facts) = tools.store.read(&key.project, QueueDir::Inbox, &key.id, u64::MAX).await.ok()?;
        tools.state.save_run(&run, &text).await.ok()?;
        let job = Job {
            run,
            provider: provider.clone(),
            id: Some(id.clone()),
            claimed: marker.submitted_at.map_or(since, |at| tools.clock.heard(at)),
            attempt: 1,
            stop: JobStop::No,
            text: TextFacts {
                sha256: sha256(&text),
                identity: identity(&text),
                bytes: facts.bytes,
                modified: facts.modified,
            },
            output: None,
            instead: None,
        };
        let note = format!("job {id} of a script has ended at {provider} and nobody collected it: collected here");
        let events = vec![
            Event::Note { kind: Kind::Task, object: format!("task {key}"), text: note, writer: None },
            Event::Task(key.clone(), TaskEvent::Delegated(job.clone())),
        ];
        let marker = DelegatedMarker::of(&job, &tools.live.snapshot()).to_json();
        tools.live.propose(events).await.ok()?;
        tools.store.replace_sidecar(&key.project, &key.id, Sidecar::Delegated, &marker).await.ok()
    }
}
