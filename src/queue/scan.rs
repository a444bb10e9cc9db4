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
    config::{Config, UnknownKeys},
    model::{
        event::{Event, Kind},
        ids::{AgentName, ProjectName, RunId, TaskId, TaskKey},
        marker::{DelegatedMarker, Marker},
        result,
        task::{Hold, Phase, Problem, TaskEvent, TextFacts},
        task_file::{Reading, Rules, claimed_by_status, identity, place_of, read_by, sha256, without_result},
    },
    ports::{Claim, Clock, Entry, FileKind, Inbox, QueueDir, Sidecar, Workdir},
};

/// When something that could not be read is tried again.
const READ_AGAIN: SignedDuration = SignedDuration::from_secs(2);

/// A claim takes far less from its marker to the owner.
const CLAIM_WITHIN: SignedDuration = SignedDuration::from_secs(60);

/// How soon git, or a lock that nothing tells the end of, is looked at again.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_secs(1);

/// A marker beside a task that is not of its present run.
enum Beside {
    Nothing,
    /// Somebody else's; the text says which.
    Foreign(String),
    /// Ours, of a run whose end is filed.
    Filed(RunId),
}

/// What was seen of one name.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    change: Option<(i128, u64)>,
    touched: Timestamp,
    lock: Option<(String, Timestamp)>,
    /// The event that the content at `change` gave; reported again without reading while nothing changes.
    read: Option<TaskEvent>,
    missing_since: Option<Timestamp>,
    /// It was seen without a `status:` that claims it.
    unclaimed: bool,
    /// A script's claim of it, and whether it was told that it is too old to count.
    claim: Option<String>,
    told_old: Option<String>,
    pub(super) wake: Option<Timestamp>,
}

impl Queue {
    /// Looks at one inbox, or at one name of it, and reports what it finds.
    pub(super) async fn scan(&mut self, project: &ProjectName, only: Option<&TaskId>) {
        let mut listed = self.store.list(project, only).await;
        // Removed or replaced while the daemon runs: made again.
        if only.is_none()
            && listed.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
            && self.store.prepare(project).await.is_ok()
        {
            listed = self.store.list(project, only).await;
        }
        let inbox = match listed {
            Ok(inbox) => inbox,
            Err(error) => {
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
            events.push(Event::Ignored { project: project.clone(), files: Arc::new(inbox.ignored.clone()) });
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
            events.extend(self.weigh(project, entry, &inbox, &sidecars).await.into_iter().flatten());
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
    ) -> Option<Vec<Event>> {
        let key = TaskKey::new(project, &entry.id);
        let now = self.clock.now();
        let settings = self.settings();

        let known = self.known.entry(key.clone()).or_default();
        let first = known.change.is_none();
        known.missing_since = None;
        if known.change != Some(entry.file.change) {
            // After a restart an old file is settled at once; a time in the future counts from now.
            let stamp = Timestamp::from_nanosecond(entry.file.change.0).unwrap_or(Timestamp::MAX);
            let quiet = self.clock.wall().duration_since(stamp).max(SignedDuration::ZERO);
            let before = now.saturating_sub(quiet).unwrap_or(Timestamp::MIN);
            known.touched = if known.change.is_some() { now } else { before };
            known.change = Some(entry.file.change);
            known.read = None;
        }
        let lock = inbox.locks.iter().find(|(id, _)| *id == entry.id).map(|(_, name)| name.clone());
        known.lock = lock.map(|name| match known.lock.take() {
            Some((same, since)) if same == name => (same, since),
            Some(_) | None => (name, now),
        });
        let claims = inbox.claims.iter().filter(|claim| claim.id == entry.id);
        let claim = claims
            .clone()
            .map(|claim| (claim, claim_ends(claim, &self.config.borrow(), self.clock.as_ref())))
            .find(|(_, end)| end.is_none_or(|end| now < end));
        if claim.is_none() && known.claim.is_some() {
            // Whoever gave it up may be about to move the task: it settles anew.
            known.touched = now;
        }
        known.claim = claim.map(|(claim, _)| claim.how.clone());
        let old = claims.map(|claim| claim.how.clone()).next().filter(|_| claim.is_none());
        let told_old = (old.is_some() && known.told_old != old).then(|| old.clone().unwrap_or_default());
        known.told_old = old;
        let known = known.clone();

        let beside = self.beside(&key, sidecars).await;
        let foreign = match &beside {
            Beside::Foreign(marker) => Some(marker.clone()),
            Beside::Nothing | Beside::Filed(_) => None,
        };
        let unread = known.read.is_none();
        let quiet = entry.file.kind == FileKind::Regular
            && match decide(&facts(entry, &known, None, foreign.as_deref()), &settings, now) {
                Decision::Read | Decision::Reject(_) => true,
                Decision::Hold(..) => false,
            };
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
                None if inbox.git.at_work => {
                    (TaskEvent::NotReady(Hold::GitAtWork), now.saturating_add(LOOK_AGAIN).ok(), false)
                }
                None => self.read(project, entry, inbox, settings.max_bytes).await?,
            },
        };
        if let Some(known) = self.known.get_mut(&key) {
            known.wake = wake;
            known.read = keep.then(|| event.clone());
        }
        // What may change while the file stays as it is.
        let event = match (event, beside, claim) {
            (TaskEvent::Seen { text, spec } | TaskEvent::Doubtful { text, spec, .. }, Beside::Filed(run), _) => {
                TaskEvent::Doubtful { text, spec, why: Hold::RanBefore(run) }
            }
            (TaskEvent::Seen { text, spec }, Beside::Nothing, Some((claim, end))) => {
                let again = now.saturating_add(LOOK_AGAIN).ok();
                if let Some(known) = self.known.get_mut(&key) {
                    known.wake = end.or(again);
                }
                let how = match claim.touched {
                    Some(touched) => format!("{} stands beside it, last touched at {}", claim.how, second(touched)),
                    None => claim.how.clone(),
                };
                TaskEvent::Doubtful { text, spec, why: Hold::InPlace(how) }
            }
            (event, _, _) => event,
        };
        let mut events = vec![Event::Task(key.clone(), event)];
        if let Some(how) = told_old {
            let text =
                format!("{how} beside it has not been touched for dispatcher.claim_hold: it counts as left behind");
            events.push(Event::Note { kind: Kind::Task, object: format!("task {key}"), text, writer: None });
        }
        if first {
            events.push(Event::Stands { task: key, since: known.touched });
        }
        Some(events)
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
        &mut self,
        project: &ProjectName,
        entry: &Entry,
        inbox: &Inbox,
        max: u64,
    ) -> Option<(TaskEvent, Option<Timestamp>, bool)> {
        let key = TaskKey::new(project, &entry.id);
        let again = || self.clock.now().saturating_add(READ_AGAIN).ok();
        let (bytes, facts) = match self.store.read(project, QueueDir::Inbox, &entry.id, max).await {
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            Err(error) => return Some((TaskEvent::NotReady(Hold::Unreadable(error.to_string())), again(), false)),
        };
        if facts.change != entry.file.change {
            return None;
        }
        let hold = |hold| Some((TaskEvent::NotReady(hold), None, true));
        let spec = match read_by(&bytes, &self.rules()) {
            Reading::Empty => return hold(Hold::Empty),
            Reading::OpenFrontmatter => return hold(Hold::OpenFrontmatter),
            Reading::Rejected(problem) => return Some((TaskEvent::Rejected(problem), None, true)),
            Reading::Ready { spec, .. } if !spec.depends_on.is_empty() => return hold(Hold::DependsOn),
            Reading::Ready { spec, .. } => spec,
        };
        let wrong = match self.store.workdir(project, &spec.workdir).await.unwrap_or(Workdir::Inside) {
            Workdir::Inside => None,
            Workdir::Missing => Some(format!("workdir: there is no directory {} in the project", spec.workdir)),
            Workdir::Outside => Some(format!(
                "workdir: {} leads out of the project by a symbolic link (or by an absolute one)",
                spec.workdir
            )),
        };
        if let Some(message) = wrong {
            let (line, column) = place_of(&bytes, "workdir");
            return Some((TaskEvent::Rejected(Problem { line, column, message }), again(), false));
        }
        let text = TextFacts {
            sha256: sha256(&bytes),
            identity: identity(&bytes),
            bytes: facts.bytes,
            modified: facts.modified,
        };
        // Another's directory may go away while the task waits.
        let stays = spec.workdir == ".";
        let spec = Arc::from(spec);
        let claimed = claimed_by_status(&bytes);
        let known = self.known.entry(key.clone()).or_default();
        known.unclaimed |= claimed.is_none();
        // One that was written so means nothing; one that became so is a script's.
        let in_place =
            claimed.filter(|_| known.unclaimed).map(|how| Hold::InPlace(format!("its frontmatter says `{how}`")));
        let doubt = match in_place.or_else(|| tracked(entry, inbox)) {
            Some(doubt) => Some(doubt),
            None => self.ran_before(&key, &text).await.map(Hold::RanBefore),
        };
        let event = match doubt {
            Some(why) => TaskEvent::Doubtful { text, spec, why },
            None => TaskEvent::Seen { text, spec },
        };
        Some((event, None, stays))
    }

    fn rules(&self) -> Rules {
        let config = self.config.borrow();
        let agents = config.agents.keys().cloned().collect::<Vec<AgentName>>();
        Rules { agents, reject_unknown: config.dispatcher.unknown_keys == UnknownKeys::Reject }
    }

    /// The run of a result of this very text that was filed after the file was written: an old copy of it came back.
    async fn ran_before(&self, key: &TaskKey, text: &TextFacts) -> Option<RunId> {
        for dir in [QueueDir::Done, QueueDir::Failed] {
            let Ok((file, facts)) = self.store.read(&key.project, dir, &key.id, u64::MAX).await else { continue };
            if facts.modified > text.modified
                && without_result(&file).len() < file.len()
                && identity(&file) == text.identity
                && let Some(run) = result::run_of(&file)
            {
                return Some(run);
            }
        }
        None
    }

    /// A marker beside the task that isn't of its present run.
    async fn beside(&self, key: &TaskKey, sidecars: &BTreeSet<Sidecar>) -> Beside {
        let name = |which: Sidecar| format!("{}{}", key.id.file_name(), which.suffix());
        let snapshot = self.live.snapshot();
        let task = snapshot.tasks.get(key);
        let present =
            task.filter(|task| !matches!(task.phase, Phase::Finished(_))).and_then(|task| task.phase.run_id());
        for which in [Sidecar::Delegated, Sidecar::Working].into_iter().filter(|which| sidecars.contains(which)) {
            let Ok(bytes) = self.store.read_sidecar(&key.project, &key.id, which).await else { continue };
            let (run, told) = match which {
                Sidecar::Working => {
                    let marker = Marker::read(&bytes);
                    let told = marker.as_ref().map(|m| format!(" (run {} in session {})", m.run, m.session));
                    (marker.filter(|marker| marker.supervisor == self.supervisor()).map(|marker| marker.run), told)
                }
                Sidecar::Delegated | Sidecar::Rejected => {
                    let marker = DelegatedMarker::read(&bytes);
                    (marker.and_then(|marker| Some(marker.by(&self.supervisor())?.run.clone())), None)
                }
            };
            match run {
                None => return Beside::Foreign(format!("{}{}", name(which), told.unwrap_or_default())),
                Some(run) if Some(&run) == present => {}
                Some(run) if self.is_over(key, &run).await => return Beside::Filed(run),
                // Between writing the marker and telling the owner: the dispatcher is at it.
                Some(_) => {}
            }
        }
        Beside::Nothing
    }

    /// Whether a run's end is filed.
    async fn is_over(&self, key: &TaskKey, run: &RunId) -> bool {
        let snapshot = self.live.snapshot();
        let finished = snapshot.tasks.get(key).filter(|task| matches!(task.phase, Phase::Finished(_)));
        finished.is_some_and(|task| task.phase.run_id() == Some(run)) || self.is_filed(key, run).await
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
            // A queued task's is the dispatcher's to clear: it may be at its claim. One that came back with its task says why that
            // is held.
            let claimed = snapshot.tasks.get(&key).is_some_and(|task| match &task.phase {
                Phase::Queued | Phase::Working(_) | Phase::Delegated(_) | Phase::Filing(_) => true,
                Phase::Held(hold) => matches!(hold, Hold::RanBefore(_) | Hold::Tracked(_)),
                Phase::Rejected(_) | Phase::Finished(_) => false,
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
                    self.store.replace_sidecar(project, &task.key.id, Sidecar::Rejected, text.as_bytes()).await
            {
                tracing::warn!(task = %task.key, %error, "the .rejected file can't be written");
            }
        }
    }

    /// A marker of ours without a task is of a claim that could not be taken back before the task's file went away. One that
    /// was made just now may be of a claim under way.
    async fn clear_orphan(&self, key: &TaskKey, which: Sidecar) {
        let Some(claim) = self.own_claim(key, which).await else { return };
        if self.clock.now().duration_since(self.clock.heard(claim.since)) < CLAIM_WITHIN {
            return;
        }
        if let Err(error) = self.store.remove_sidecar(&key.project, &key.id, which).await {
            tracing::warn!(task = %key, %error, "a marker without a task can't be removed");
        }
        let _ = self.state.remove_run(&claim.run).await;
    }
}

/// A name of the task's that git tracks.
fn tracked(entry: &Entry, inbox: &Inbox) -> Option<Hold> {
    let name = entry.id.file_name();
    let markers = [Sidecar::Working, Sidecar::Delegated].map(|which| format!("{name}{}", which.suffix()));
    let mut names = std::iter::once(name).chain(markers);
    names.find(|name| inbox.git.tracked.contains(name)).map(Hold::Tracked)
}

/// When a script's claim counts no more; `None` for one that counts while it is there.
fn claim_ends(claim: &Claim, config: &Config, clock: &dyn Clock) -> Option<Timestamp> {
    let hold = SignedDuration::try_from(config.dispatcher.claim_hold).unwrap_or(SignedDuration::MAX);
    claim.touched.map(|touched| clock.heard(touched).saturating_add(hold).unwrap_or(Timestamp::MAX))
}

fn second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
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
