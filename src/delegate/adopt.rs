//! Adopts jobs that scripts started: the marker names the job, and normally its script collects the result. If the job
//! has ended and nobody collected it for a while, the script is gone and the result is collected here.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::decide;
use crate::{
    live::Hands,
    model::{
        event::{Event, Kind, Note, Reason},
        identity::TextFacts,
        ids::{RunId, TaskKey},
        marker::DelegatedMarker,
        provider::{Job, JobStop, Progress},
        queue::{Ask, Over, Read, Sidecar},
        task::{Hold, Phase, TaskEvent},
        task_file::{identity, sha256},
    },
};

/// Since when the jobs of scripts are seen to have ended.
#[derive(Debug, Default)]
pub struct Seen(BTreeMap<TaskKey, (String, Timestamp)>);

impl Seen {
    /// Looks at every task that a script has claimed for a provider.
    pub async fn look(&mut self, hands: &Hands) {
        let snapshot = hands.live.snapshot();
        let outside = snapshot.tasks.held().filter(|task| {
            matches!(&task.phase, Phase::Held(Hold::OutsideClaim(how)) if how.ends_with(Sidecar::Delegated.suffix()))
        });
        let keys: Vec<TaskKey> = outside.map(|task| task.key.clone()).collect();
        self.0.retain(|key, _| keys.contains(key));
        for key in keys {
            if self.has_waited(hands, &key).await.is_none() {
                self.0.remove(&key);
            }
        }
    }

    /// `None` when there is nothing to wait for.
    async fn has_waited(&mut self, hands: &Hands, key: &TaskKey) -> Option<()> {
        let max = u64::MAX;
        let ask = Ask { id: key.id.clone(), read: Read::Unless { change: None, max } };
        let mut inbox = hands.queue.look(&key.project, Some(&[ask])).await.ok()?;
        let marks = &mut inbox.sidecars.iter();
        let marker = DelegatedMarker::read(&marks.find(|mark| mark.which == Sidecar::Delegated)?.bytes)?;
        let id = marker.job_id.clone()?;
        let provider = decide::meant(&marker, &hands.config.borrow())?;
        match hands.providers.look(&provider, &id).await {
            Ok(Progress::Done(_) | Progress::Failed(_) | Progress::Declined(_)) => {}
            Ok(Progress::Running { .. } | Progress::Unknown) | Err(_) => return None,
        }
        let now = hands.clock.now();
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
        let (text, facts) = inbox.texts.remove(&key.id)?.read.ok()?;
        let job = Job {
            run,
            provider: provider.clone(),
            id: Some(id.clone()),
            claimed: marker.submitted_at.map_or(since, |at| hands.clock.heard(at)),
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
        let mut events = vec![
            Event::Note(Note::new(Kind::Task, Reason::Collected, key, note)),
            Event::Task(key.clone(), TaskEvent::Delegated(job.clone())),
        ];
        // Another is read from the inbox again.
        if let Ok(text) = String::from_utf8(text) {
            events.insert(0, Event::Text(job.run.clone(), text.into()));
        }
        let marker = DelegatedMarker::of(&job, &hands.live.snapshot()).to_json();
        hands.live.propose(events).await.ok()?;
        hands.queue.mark(&key.project, &key.id, Sidecar::Delegated, &marker, Over::Replace).await.ok()
    }
}
