//! Applies events of providers and of their jobs to the world.
//! Changes provider states and counters and adds lines to `events`. Owns nothing; never contacts a provider.

use std::sync::Arc;

use jiff::Timestamp;

use super::world::World;
use crate::model::{
    event::{Kind, Reason},
    ids::ProviderName,
    provider::{Job, JobStop, ProviderEvent, ProviderStanding},
    task::{Ending, Status, Task, TaskEvent},
};

impl World {
    /// An unknown name is of a row that a reload took away.
    pub(super) fn provider(&mut self, name: &ProviderName, event: &ProviderEvent, now: Timestamp) {
        let Some(at) = self.snapshot.delegation.providers.iter().position(|provider| provider.name == *name) else {
            return;
        };
        let standing = match event {
            ProviderEvent::Works => ProviderStanding::Usable,
            ProviderEvent::Out(standing) => standing.heard(&self.snapshot.timeline).rested(now),
        };
        let known = &self.snapshot.delegation.providers[at];
        if known.standing == standing && standing == ProviderStanding::Usable {
            return;
        }
        // The same problem reported again lasts longer; it is logged once.
        let news = known.standing.word() != standing.word();
        let text = match standing.why() {
            None => "usable again".to_owned(),
            Some(why) => format!("{}: {why}", standing.word()),
        };
        let provider = &mut Arc::make_mut(&mut self.snapshot.delegation).providers[at];
        provider.standing = standing;
        provider.since = now;
        if news {
            self.note(now, Kind::Provider, Reason::StateChanged, name, text);
        }
    }

    pub(super) fn note_job(&mut self, task: &Task, job: &Job, event: &TaskEvent, now: Timestamp) {
        let (reason, text) = match (event, job.stop) {
            (TaskEvent::Delegated(_), _) => {
                let text = format!("delegated: attempt {} to {} (run {})", job.attempt, job.provider, job.run);
                (Reason::Delegated, text)
            }
            (TaskEvent::Submitted { job: id, .. }, _) => {
                (Reason::Taken, format!("taken by {} as job {id}", job.provider))
            }
            (TaskEvent::Output { .. }, _) => return,
            (_, JobStop::Cancelled) => (Reason::Stopping, "to be stopped".to_owned()),
            (_, JobStop::Recalled) => (Reason::Recalled, "to be taken back".to_owned()),
            (_, JobStop::No) => return,
        };
        self.note(now, Kind::Task, reason, task, text);
    }

    pub(super) fn count_job(&mut self, job: &Job, ending: &Ending) {
        let providers = &mut Arc::make_mut(&mut self.snapshot.delegation).providers;
        let Some(provider) = providers.iter_mut().find(|provider| provider.name == job.provider) else { return };
        match ending.status {
            Status::Done => provider.counters.completed += 1,
            Status::Failed => provider.counters.failed += 1,
            Status::Cancelled => {}
        }
        provider.counters.cost_usd += ending.cost_usd.unwrap_or(0.0);
    }
}
