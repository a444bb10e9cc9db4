//! Looking into an inbox: each name is weighed by `ready` and read when it is its time.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};

use super::{
    Queue,
    ready::{Decision, Facts, Settings, decide},
};
use crate::{
    model::{
        event::Event,
        ids::{ProjectName, TaskId, TaskKey},
        marker::{DelegatedMarker, Marker},
        task::{Hold, Phase, Problem, TaskEvent, TextFacts},
        task_file::{Reading, identity, read, sha256},
    },
    ports::{Entry, Inbox, QueueDir, Sidecar},
};

/// When something that could not be read is tried again.
const READ_AGAIN: SignedDuration = SignedDuration::from_secs(2);

/// A claim takes far less from its marker to the owner.
const CLAIM_WITHIN: SignedDuration = SignedDuration::from_secs(60);

/// What was seen of one name.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    change: Option<(i128, u64)>,
    touched: Timestamp,
    lock: Option<(String, Timestamp)>,
    /// The event that the content at `change` gave; reported again without reading while nothing changes.
    read: Option<TaskEvent>,
    missing_since: Option<Timestamp>,
    pub(super) wake: Option<Timestamp>,
}

impl Queue {
    /// Looks at one inbox, or at one name of it, and reports what it finds.
    pub(super) async fn scan(&mut self, project: &ProjectName, only: Option<&TaskId>) {
        let inbox = match self.store.list(project, only).await {
            Ok(inbox) => inbox,
            Err(error) => {
                // Removed or replaced while the daemon runs: made again, and looked into with the next scan.
                if only.is_none() && error.kind() == std::io::ErrorKind::NotFound {
                    let _ = self.store.prepare(project).await;
                }
                if let Some(id) = only {
                    let again = self.clock.now().saturating_add(READ_AGAIN).ok();
                    self.known.entry(TaskKey::new(project, id)).or_default().wake = again;
                }
                return self.disk_problem(project, "inbox/ can't be read", &error).await;
            }
        };
        let mut events = Vec::new();
        if only.is_none() {
            events.push(Event::Health { topic: format!("queue {project}"), problem: None });
        }
        let mut present = BTreeSet::new();
        let sidecars: BTreeMap<&TaskId, BTreeSet<Sidecar>> =
            inbox.sidecars.iter().fold(BTreeMap::new(), |mut map, (id, which)| {
                map.entry(id).or_default().insert(*which);
                map
            });
        for entry in &inbox.tasks {
            present.insert(entry.id.clone());
            let sidecars = sidecars.get(&entry.id).cloned().unwrap_or_default();
            events.extend(self.weigh(project, entry, &inbox, &sidecars).await);
        }
        let expected = self.expected(project, only);
        if only.is_none() {
            self.known.retain(|key, _| key.project != *project || present.contains(&key.id) || expected.contains(key));
        }
        for key in expected {
            if !present.contains(&key.id) {
                events.extend(self.missing(key));
            }
        }
        self.live.report(events).await;
        self.sidecars(project, only, &sidecars).await;
    }

    /// Tasks of ours that should have a file in this inbox.
    fn expected(&self, project: &ProjectName, only: Option<&TaskId>) -> BTreeSet<TaskKey> {
        let snapshot = self.live.snapshot();
        let tasks = snapshot.tasks.values().filter(|task| task.key.project == *project);
        let open = tasks.filter(|task| !matches!(task.phase, Phase::Finished(_) | Phase::Filing(_)));
        open.map(|task| task.key.clone()).filter(|key| only.is_none_or(|id| *id == key.id)).collect()
    }

    async fn weigh(
        &mut self,
        project: &ProjectName,
        entry: &Entry,
        inbox: &Inbox,
        sidecars: &BTreeSet<Sidecar>,
    ) -> Option<Event> {
        let key = TaskKey::new(project, &entry.id);
        let now = self.clock.now();
        let settings = self.settings();

        let known = self.known.entry(key.clone()).or_default();
        known.missing_since = None;
        if known.change != Some(entry.file.change) {
            // After a restart an old file is settled at once; a time in the future counts from now.
            let changed = Timestamp::from_nanosecond(entry.file.change.0).unwrap_or(now).min(now);
            known.touched = if known.change.is_some() { now } else { changed };
            known.change = Some(entry.file.change);
            known.read = None;
        }
        // The clock may have been set back; what was seen is never later than now.
        known.touched = known.touched.min(now);
        let lock = inbox.locks.iter().find(|(id, _)| *id == entry.id).map(|(_, name)| name.clone());
        known.lock = lock.map(|name| match known.lock.take() {
            Some((same, since)) if same == name => (same, since),
            Some(_) | None => (name, now),
        });
        let known = known.clone();

        let foreign = self.foreign_marker(&key, sidecars).await;
        let unread = known.read.is_none();
        let quiet = decide(&facts(entry, &known, None, foreign.as_deref()), &settings, now) == Decision::Read;
        let writer = if quiet && unread {
            self.store.has_writer(project, QueueDir::Inbox, &entry.id).await.unwrap_or(None)
        } else {
            None
        };
        let decision = decide(&facts(entry, &known, writer, foreign.as_deref()), &settings, now);

        let (event, wake, keep) = match decision {
            Decision::Hold(Hold::OutsideClaim(how), _) => (TaskEvent::OutsideClaim(how), None, false),
            Decision::Hold(hold, wake) => (TaskEvent::NotReady(hold), wake, false),
            Decision::Reject(problem) => (TaskEvent::Rejected(problem), None, true),
            Decision::Read => match known.read.clone() {
                Some(event) => (event, None, true),
                None => self.read(project, entry, settings.max_bytes).await?,
            },
        };
        if let Some(known) = self.known.get_mut(&key) {
            known.wake = wake;
            known.read = keep.then(|| event.clone());
        }
        Some(Event::Task(key, event))
    }

    fn settings(&self) -> Settings {
        let dispatcher = &self.config.borrow().dispatcher;
        Settings {
            settle: dispatcher.settle,
            editor_hold: dispatcher.editor_hold,
            max_bytes: dispatcher.max_task_bytes.0,
        }
    }

    /// Reads the file. `None` when it changed meanwhile: its own event comes.
    async fn read(
        &self,
        project: &ProjectName,
        entry: &Entry,
        max: u64,
    ) -> Option<(TaskEvent, Option<Timestamp>, bool)> {
        let (bytes, facts) = match self.store.read(project, QueueDir::Inbox, &entry.id, max).await {
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            Err(error) => {
                let again = self.clock.now().saturating_add(READ_AGAIN).ok();
                return Some((TaskEvent::NotReady(Hold::Unreadable(error.to_string())), again, false));
            }
        };
        if facts.change != entry.file.change {
            return None;
        }
        let hold = |hold| Some((TaskEvent::NotReady(hold), None, true));
        match read(&bytes) {
            Reading::Empty => hold(Hold::Empty),
            Reading::OpenFrontmatter => hold(Hold::OpenFrontmatter),
            Reading::Rejected(problem) => Some((TaskEvent::Rejected(problem), None, true)),
            Reading::Ready { spec, .. } if !spec.depends_on.is_empty() => hold(Hold::DependsOn),
            Reading::Ready { spec, .. } => {
                if let Some(problem) = self.unknown_agent(&spec) {
                    return Some((TaskEvent::Rejected(problem), None, false));
                }
                if !self.store.has_workdir(project, &spec.workdir).await.unwrap_or(true) {
                    let message = format!("workdir: there is no directory {:?} in the project", spec.workdir);
                    let again = self.clock.now().saturating_add(READ_AGAIN).ok();
                    return Some((TaskEvent::Rejected(Problem { line: 1, column: 1, message }), again, false));
                }
                // Another's directory may go away while the task waits.
                let stays = spec.workdir == ".";
                let text = TextFacts {
                    sha256: sha256(&bytes),
                    identity: identity(&bytes),
                    bytes: facts.bytes,
                    modified: facts.modified,
                };
                Some((TaskEvent::Seen { text, spec: Arc::from(spec) }, None, stays))
            }
        }
    }

    fn unknown_agent(&self, spec: &crate::model::task::TaskSpec) -> Option<Problem> {
        let agent = spec.agent.as_ref()?;
        let config = self.config.borrow();
        if config.agents.contains_key(agent) {
            return None;
        }
        let known: Vec<&str> = config.agents.keys().map(crate::model::ids::AgentName::as_str).collect();
        let message = format!("agent: there is no agent {agent} in the configuration; known: {}", known.join(", "));
        Some(Problem { line: 1, column: 1, message })
    }

    /// A marker beside the task that isn't of our own run.
    async fn foreign_marker(&self, key: &TaskKey, sidecars: &BTreeSet<Sidecar>) -> Option<String> {
        let name = |which: Sidecar| format!("{}{}", key.id.file_name(), which.suffix());
        if sidecars.contains(&Sidecar::Delegated) {
            let bytes = self.store.read_sidecar(&key.project, &key.id, Sidecar::Delegated).await.ok()?;
            let marker = DelegatedMarker::read(&bytes);
            if marker.as_ref().is_none_or(|marker| marker.by(&self.supervisor()).is_none()) {
                return Some(name(Sidecar::Delegated));
            }
        }
        if !sidecars.contains(&Sidecar::Working) {
            return None;
        }
        let bytes = self.store.read_sidecar(&key.project, &key.id, Sidecar::Working).await.ok()?;
        let snapshot = self.live.snapshot();
        let ours = snapshot.tasks.get(key).and_then(|task| task.phase.run()).map(|run| &run.id);
        match Marker::read(&bytes) {
            Some(marker) if Some(&marker.run) == ours => None,
            // Between writing the marker and telling the owner: the dispatcher is at it.
            Some(marker) if marker.supervisor == self.supervisor() => None,
            Some(marker) => {
                Some(format!("{} (run {} in session {})", name(Sidecar::Working), marker.run, marker.session))
            }
            None => Some(name(Sidecar::Working)),
        }
    }

    fn missing(&mut self, key: TaskKey) -> Option<Event> {
        let now = self.clock.now();
        let settle = SignedDuration::try_from(self.config.borrow().dispatcher.settle).unwrap_or_default();
        let known = self.known.entry(key.clone()).or_default();
        let since = known.missing_since.map_or(now, |since| since.min(now));
        known.missing_since = Some(since);
        known.change = None;
        known.read = None;
        let until = since.saturating_add(settle).unwrap_or(now);
        if now < until {
            known.wake = Some(until);
            return Some(Event::Task(key, TaskEvent::NotReady(Hold::Missing)));
        }
        self.known.remove(&key);
        Some(Event::Task(key, TaskEvent::Vanished { by_verb: false }))
    }

    /// Keeps `.rejected` beside exactly the rejected tasks.
    async fn sidecars(
        &self,
        project: &ProjectName,
        only: Option<&TaskId>,
        present: &BTreeMap<&TaskId, BTreeSet<Sidecar>>,
    ) {
        let snapshot = self.live.snapshot();
        let rejected = |id: &TaskId| {
            snapshot.tasks.get(&TaskKey::new(project, id)).and_then(|task| match &task.phase {
                Phase::Rejected(problem) => Some(problem.clone()),
                Phase::Held(_)
                | Phase::Queued
                | Phase::Working(_)
                | Phase::Delegated(_)
                | Phase::Filing(_)
                | Phase::Finished(_) => None,
            })
        };
        for (id, which) in present {
            if which.contains(&Sidecar::Rejected) && rejected(id).is_none() {
                let _ = self.store.remove_sidecar(project, id, Sidecar::Rejected).await;
            }
        }
        for (id, which) in present {
            let key = TaskKey::new(project, id);
            // A queued task's is the dispatcher's to clear: it may be at its claim.
            let claimed = snapshot.tasks.get(&key).is_some_and(|task| {
                matches!(task.phase, Phase::Queued | Phase::Working(_) | Phase::Delegated(_) | Phase::Filing(_))
            });
            let claims = [Sidecar::Working, Sidecar::Delegated].into_iter().filter(|claim| which.contains(claim));
            for claim in claims.filter(|_| only.is_none() && !claimed) {
                self.clear_orphan(&key, claim).await;
            }
        }
        let wanted = snapshot.tasks.values().filter(|task| task.key.project == *project);
        for task in wanted.filter(|task| only.is_none_or(|id| *id == task.key.id)) {
            let Some(problem) = rejected(&task.key.id) else { continue };
            let text = format!("{problem}\n");
            let same = match self.store.read_sidecar(project, &task.key.id, Sidecar::Rejected).await {
                Ok(known) => known == text.as_bytes(),
                Err(_) => false,
            };
            if !same
                && let Err(error) =
                    self.store.write_sidecar(project, &task.key.id, Sidecar::Rejected, text.as_bytes()).await
            {
                tracing::warn!(task = %task.key, %error, "the .rejected file can't be written");
            }
        }
    }

    /// A marker of ours without a task is of a claim that could not be taken back before the task's file went away. One that
    /// was made just now may be of a claim under way.
    async fn clear_orphan(&self, key: &TaskKey, which: Sidecar) {
        let Some(claim) = self.own_claim(key, which).await else { return };
        if self.clock.now().duration_since(claim.since) < CLAIM_WITHIN {
            return;
        }
        if let Err(error) = self.store.remove_sidecar(&key.project, &key.id, which).await {
            tracing::warn!(task = %key, %error, "a marker without a task can't be removed");
        }
        let _ = self.state.remove_run(&claim.run).await;
    }
}

fn facts<'a>(entry: &'a Entry, known: &'a Known, writer: Option<bool>, foreign_marker: Option<&'a str>) -> Facts<'a> {
    Facts {
        file: &entry.file,
        touched: known.touched,
        lock: known.lock.as_ref().map(|(name, since)| (name.as_str(), *since)),
        writer,
        foreign_marker,
    }
}
