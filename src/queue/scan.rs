//! Scans an inbox: `ready` checks each name, and ready files are read.

use std::{collections::BTreeSet, sync::Arc};

use jiff::{SignedDuration, Timestamp};

use super::{
    Queue,
    file::facts_of,
    ready::{Decision, Facts, Settings, decide},
};
use crate::{
    config::{Config, UnknownKeys},
    model::{
        event::{Event, Kind, Note, Reason},
        footer::{self, without_result},
        identity::TextFacts,
        ids::{AgentName, ProjectName, RunId, TaskId, TaskKey},
        marker::{Marker, OwnClaim},
        queue::{Ask, Claim, Entry, FileFacts, FileKind, Filed, Inbox, Mark, Over, Read, Sidecar, Text, Workdir},
        snapshot::Snapshot,
        task::{Hold, Phase, Problem, Task, TaskEvent},
        task_file::{self, Reading, Rules, claimed_by_status, identity, place_of, read_by},
    },
    ports::Clock,
};

/// When a failed read is retried. Chosen: as `RETRY_FILING`.
const READ_AGAIN: SignedDuration = SignedDuration::from_secs(2);

/// Longest from a claim's marker to the owner. Chosen: a claim takes milliseconds.
const CLAIM_WITHIN: SignedDuration = SignedDuration::from_secs(60);

/// How soon git, or a lock that sends no event, is checked again. Chosen: as the default settle time.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_secs(1);

/// A marker beside a task that is not of its present run.
enum Beside {
    Nothing,
    /// Somebody else's; the text says which.
    Foreign(String),
    /// Ours, of a run whose end is filed.
    Filed(Sidecar, OwnClaim),
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
    /// It was reported when this was first seen.
    stands: bool,
    /// It was seen without a `status:` that claims it.
    unclaimed: bool,
    /// A script's claim of it, and whether it was reported as stale.
    claim: Option<String>,
    told_old: Option<String>,
}

/// The outcome of checking one name.
enum Weighed {
    News(Vec<Event>),
    /// Its text is needed and was not read.
    Unread,
}

impl Queue {
    /// Looks at one inbox, or at some names of it, and reports what it finds.
    pub(super) async fn scan(&mut self, project: &ProjectName, only: Option<&[TaskId]>) {
        let asks: Option<Vec<Ask>> = only.map(|ids| ids.iter().map(|id| self.ask(project, id)).collect());
        let mut listed = self.store.look(project, asks.as_deref()).await;
        // Removed or replaced while the daemon runs: made again.
        if only.is_none()
            && listed.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
            && self.store.prepare(project).await.is_ok()
        {
            listed = self.store.look(project, None).await;
        }
        let inbox = match listed {
            Ok(inbox) => inbox,
            Err(error) => {
                let again = self.clock.now().saturating_add(READ_AGAIN).ok();
                for id in only.into_iter().flatten() {
                    self.wakes.set(&TaskKey::new(project, id), again);
                }
                return self.disk_problem(project, "inbox/ can't be read", &error).await;
            }
        };
        let mut events = Vec::new();
        if only.is_none() {
            events.push(Event::Health { topic: format!("queue {project}"), problem: None });
            events.push(Event::Ignored { project: project.clone(), files: Arc::new(inbox.ignored.clone()) });
        }
        let present: BTreeSet<TaskId> = inbox.tasks.iter().map(|entry| entry.id.clone()).collect();
        let unread = self.weigh_all(project, &inbox, &mut events).await;
        if !unread.is_empty() {
            let max = self.settings().max_bytes;
            let asks: Vec<Ask> =
                unread.into_iter().map(|id| Ask { id, read: Read::Unless { change: None, max } }).collect();
            if let Ok(inbox) = self.store.look(project, Some(&asks)).await {
                self.weigh_all(project, &inbox, &mut events).await;
            }
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
        self.sidecars(project, only, &inbox.sidecars).await;
    }

    /// What is asked of a name: its text too, when it may have settled, or while it isn't known what it said before a script
    /// claimed it in place, which scripts do within milliseconds.
    fn ask(&self, project: &ProjectName, id: &TaskId) -> Ask {
        let settings = self.settings();
        let settle = SignedDuration::try_from(settings.settle).unwrap_or(SignedDuration::MAX);
        let known = self.known.get(&TaskKey::new(project, id));
        let settled = known.map_or(settle.is_zero(), |known| self.clock.now().duration_since(known.touched) >= settle);
        let change = known.filter(|known| known.read.is_some()).and_then(|known| known.change);
        let read = match known {
            _ if settled => Read::Unless { change, max: settings.max_bytes },
            Some(known) if known.unclaimed => Read::No,
            Some(Known { change, .. }) => Read::Unless { change: *change, max: settings.max_bytes },
            None => Read::Unless { change: None, max: settings.max_bytes },
        };
        Ask { id: id.clone(), read }
    }

    /// Weighs every task of a look; answers those whose text is needed.
    async fn weigh_all(&mut self, project: &ProjectName, inbox: &Inbox, events: &mut Vec<Event>) -> Vec<TaskId> {
        let mut unread = Vec::new();
        for entry in &inbox.tasks {
            match self.weigh(project, entry, inbox).await {
                Some(Weighed::News(news)) => events.extend(news),
                Some(Weighed::Unread) => unread.push(entry.id.clone()),
                None => {}
            }
        }
        unread
    }

    /// Tasks of ours that should have a file in this inbox.
    fn expected(&self, project: &ProjectName, only: Option<&[TaskId]>) -> BTreeSet<TaskKey> {
        let snapshot = self.live.snapshot();
        let open = tasks_of(&snapshot, project, only)
            .filter(|task| !matches!(task.phase, Phase::Finished(_) | Phase::Filing(_)));
        open.map(|task| task.key.clone()).collect()
    }

    async fn weigh(&mut self, project: &ProjectName, entry: &Entry, inbox: &Inbox) -> Option<Weighed> {
        let key = TaskKey::new(project, &entry.id);
        let now = self.clock.now();
        let settings = self.settings();

        let known = self.known.entry(key.clone()).or_default();
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
        known.unclaimed |= inbox.texts.get(&entry.id).is_some_and(is_unclaimed);
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
            // Its former owner may be about to move the task, so the settle time restarts.
            known.touched = now;
        }
        known.claim = claim.map(|(claim, _)| claim.how.clone());
        let old = claims.map(|claim| claim.how.clone()).next().filter(|_| claim.is_none());
        let known = known.clone();

        let beside = self.beside(&key, &inbox.sidecars).await;
        let foreign = match &beside {
            Beside::Foreign(marker) => Some(marker.clone()),
            Beside::Nothing | Beside::Filed(..) => None,
        };
        let text = inbox.texts.get(&entry.id);
        let writer = text.and_then(|text| text.writer);
        let decision = decide(&facts(entry, &known, writer, foreign.as_deref()), &settings, now);
        // Before it is called too large it is known that nobody writes it any more.
        let wants_text = entry.file.kind == FileKind::Regular
            && known.read.is_none()
            && matches!(decision, Decision::Read | Decision::Reject(_));
        if wants_text && text.is_none() {
            return Some(Weighed::Unread);
        }

        let (event, wake, keep) = match decision {
            Decision::Hold(Hold::OutsideClaim(how), _) => (TaskEvent::OutsideClaim(how), None, false),
            Decision::Hold(hold, wake) => (TaskEvent::NotReady(hold), wake, false),
            Decision::Reject(problem) => (TaskEvent::Rejected(problem), None, true),
            Decision::Read => match known.read.clone() {
                Some(event) => (event, None, true),
                None if inbox.git.at_work => {
                    (TaskEvent::NotReady(Hold::GitAtWork), now.saturating_add(LOOK_AGAIN).ok(), false)
                }
                None => self.read(project, entry, inbox, text?).await?,
            },
        };
        self.wakes.set(&key, wake);
        if let Some(known) = self.known.get_mut(&key) {
            known.read = keep.then(|| event.clone());
        }
        // What may change while the file stays as it is.
        let event = match (event, beside, claim) {
            (
                TaskEvent::Seen { text, spec } | TaskEvent::Doubtful { text, spec, .. },
                Beside::Filed(_, OwnClaim { run, identity, .. }),
                _,
            ) if identity == text.identity => TaskEvent::Doubtful { text, spec, why: Hold::RanBefore(run) },
            // Another text under the name of one that is over: the marker came back, or stayed, without its task.
            (event @ (TaskEvent::Seen { .. } | TaskEvent::Doubtful { .. }), Beside::Filed(which, _), None) => {
                let _ = self.store.unmark(project, &key.id, &[which]).await;
                event
            }
            (TaskEvent::Seen { text, spec }, Beside::Nothing, Some((claim, end))) => {
                let again = now.saturating_add(LOOK_AGAIN).ok();
                self.wakes.set(&key, end.or(again));
                let how = match claim.touched {
                    Some(touched) => format!("{} stands beside it, last touched at {}", claim.how, second(touched)),
                    None => claim.how.clone(),
                };
                TaskEvent::Doubtful { text, spec, why: Hold::InPlace(how) }
            }
            (event, _, _) => event,
        };
        let mut events = Vec::new();
        if !is_known(self.live.snapshot().tasks.get(&key), &event) {
            events.push(Event::Task(key.clone(), event));
        }
        if let Some(how) = old.as_ref().filter(|_| known.told_old != old) {
            let text =
                format!("{how} beside it has not been touched for dispatcher.claim_hold: it counts as left behind");
            events.push(Event::Note(Note::new(Kind::Task, Reason::StaleClaim, &key, text)));
        }
        if let Some(known) = self.known.get_mut(&key) {
            known.told_old = old;
            if !std::mem::replace(&mut known.stands, true) {
                events.push(Event::Stands { task: key, since: known.touched });
            }
        }
        Some(Weighed::News(events))
    }

    fn settings(&self) -> Settings {
        let dispatcher = &self.config.borrow().dispatcher;
        Settings {
            settle: dispatcher.settle,
            editor_hold: dispatcher.editor_hold,
            max_bytes: dispatcher.max_task_bytes.0,
        }
    }

    /// What a text is. `None` when it changed meanwhile: its own event comes.
    async fn read(
        &mut self,
        project: &ProjectName,
        entry: &Entry,
        inbox: &Inbox,
        text: &Text,
    ) -> Option<(TaskEvent, Option<Timestamp>, bool)> {
        let key = TaskKey::new(project, &entry.id);
        let again = || self.clock.now().saturating_add(READ_AGAIN).ok();
        let (bytes, facts) = match &text.read {
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            Err(error) => return Some((TaskEvent::NotReady(Hold::Unreadable(error.to_string())), again(), false)),
        };
        if facts.change != entry.file.change {
            return None;
        }
        let hold = |hold| Some((TaskEvent::NotReady(hold), None, true));
        let spec = match read_by(bytes, &self.rules()) {
            Reading::Empty => return hold(Hold::Empty),
            Reading::OpenFrontmatter => return hold(Hold::OpenFrontmatter),
            Reading::Rejected(problem) => return Some((TaskEvent::Rejected(problem), None, true)),
            Reading::Ready { spec, .. } if !spec.depends_on.is_empty() => return hold(Hold::DependsOn),
            Reading::Ready { mut spec, prompt } => {
                spec.by_words = self.live.snapshot().rights.by_words(&key.id, &spec, &prompt);
                spec
            }
        };
        let leads = match spec.workdir.as_str() {
            "." => Ok(Workdir::Inside),
            workdir => self.store.workdir(project, workdir).await,
        };
        let wrong = match leads.unwrap_or(Workdir::Inside) {
            Workdir::Inside => None,
            Workdir::Missing => Some(format!("workdir: there is no directory {} in the project", spec.workdir)),
            Workdir::Outside => Some(format!(
                "workdir: {} leads out of the project by a symbolic link (or by an absolute one)",
                spec.workdir
            )),
        };
        if let Some(message) = wrong {
            let (line, column) = place_of(bytes, "workdir");
            return Some((TaskEvent::Rejected(Problem { line, column, message }), again(), false));
        }
        let results = &text.results;
        let text = facts_of(bytes, facts);
        // Another's directory may go away while the task waits.
        let stays = spec.workdir == ".";
        let spec = Arc::from(spec);
        let claimed = claimed_by_status(bytes);
        let known = self.known.entry(key.clone()).or_default();
        known.unclaimed |= claimed.is_none();
        // One that was written so means nothing; one that became so is a script's.
        let in_place =
            claimed.filter(|_| known.unclaimed).map(|how| Hold::InPlace(format!("its frontmatter says `{how}`")));
        let doubt = match in_place.or_else(|| tracked(entry, inbox)) {
            Some(doubt) => Some(doubt),
            None => ran_before(results, &text).map(Hold::RanBefore),
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

    /// A marker beside the task that isn't of its present run.
    async fn beside(&self, key: &TaskKey, marks: &[Mark]) -> Beside {
        let snapshot = self.live.snapshot();
        let task = snapshot.tasks.get(key);
        let present =
            task.filter(|task| !matches!(task.phase, Phase::Finished(_))).and_then(|task| task.phase.run_id());
        for which in [Sidecar::Delegated, Sidecar::Working] {
            let Some(mark) = marks.iter().find(|mark| mark.which == which && mark.id == key.id) else { continue };
            match OwnClaim::read(mark, &snapshot.supervisor) {
                None => {
                    let marker = Marker::read(&mark.bytes).filter(|_| which == Sidecar::Working);
                    let told = marker.map(|marker| format!(" (run {} in session {})", marker.run, marker.session));
                    return Beside::Foreign(format!("{}{}", which.beside(&key.id), told.unwrap_or_default()));
                }
                Some(claim) if Some(&claim.run) == present => {}
                Some(claim) if self.is_over(key, &claim.run).await => return Beside::Filed(which, claim),
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
        known.stands = false;
        let until = since.saturating_add(settle).unwrap_or(now);
        if now < until {
            self.wakes.set(&key, Some(until));
            return Some(Event::Task(key, TaskEvent::NotReady(Hold::Missing)));
        }
        self.known.remove(&key);
        self.wakes.set(&key, None);
        Some(Event::Task(key, TaskEvent::Vanished { by_verb: false }))
    }

    /// Keeps `.rejected` beside exactly the rejected tasks.
    async fn sidecars(&self, project: &ProjectName, only: Option<&[TaskId]>, marks: &[Mark]) {
        let snapshot = self.live.snapshot();
        let of = |mark: &Mark| snapshot.tasks.get(&TaskKey::new(project, &mark.id));
        for mark in marks.iter().filter(|mark| mark.which == Sidecar::Rejected) {
            if !of(mark).is_some_and(|task| matches!(task.phase, Phase::Rejected(_))) {
                let _ = self.store.unmark(project, &mark.id, &[Sidecar::Rejected]).await;
            }
        }
        for mark in marks.iter().filter(|_| only.is_none()) {
            // A queued task's is the dispatcher's to clear: it may be at its claim. One that came back with its task says why that
            // is held.
            let claimed = of(mark).is_some_and(|task| match &task.phase {
                Phase::Queued | Phase::Working(_) | Phase::Delegated(_) | Phase::Filing(_) => true,
                Phase::Held(hold) => matches!(hold, Hold::RanBefore(_) | Hold::Tracked(_)),
                Phase::Rejected(_) | Phase::Finished(_) => false,
            });
            if !claimed {
                self.clear_orphan(project, mark).await;
            }
        }
        for task in tasks_of(&snapshot, project, only) {
            let Phase::Rejected(problem) = &task.phase else { continue };
            let text = format!("{problem}\n");
            let same = |mark: &Mark| {
                mark.which == Sidecar::Rejected && mark.id == task.key.id && mark.bytes == text.as_bytes()
            };
            if !marks.iter().any(same)
                && let Err(error) =
                    self.store.mark(project, &task.key.id, Sidecar::Rejected, text.as_bytes(), Over::Replace).await
            {
                tracing::warn!(task = %task.key, %error, "the .rejected file can't be written");
            }
        }
    }

    /// A marker of ours without a task is of a claim that could not be taken back before the task's file went away. One that
    /// was made just now may be of a claim under way.
    async fn clear_orphan(&self, project: &ProjectName, mark: &Mark) {
        let Some(claim) = OwnClaim::read(mark, &self.supervisor()) else { return };
        if self.clock.now().duration_since(self.clock.heard(claim.since)) < CLAIM_WITHIN {
            return;
        }
        if let Err(error) = self.store.unmark(project, &mark.id, &[mark.which]).await {
            tracing::warn!(task = %TaskKey::new(project, &mark.id), %error, "a marker without a task can't be removed");
        }
    }
}

/// The run of a result of this very text that was filed after the file was written: an old copy of it came back.
fn ran_before(results: &[Filed], text: &TextFacts) -> Option<RunId> {
    let same = |(_, file, facts): &&Filed| {
        facts.modified > text.modified && without_result(file).len() < file.len() && identity(file) == text.identity
    };
    results.iter().filter(same).find_map(|(_, file, _)| footer::run_of(file))
}

/// A project's tasks, or those of these names.
fn tasks_of<'a>(
    snapshot: &'a Snapshot,
    project: &'a ProjectName,
    only: Option<&'a [TaskId]>,
) -> impl Iterator<Item = &'a Arc<Task>> {
    let some = only.into_iter().flatten().filter_map(|id| snapshot.tasks.get(&TaskKey::new(project, id)));
    let all = only.is_none().then(|| snapshot.tasks.values().filter(|task| task.key.project == *project));
    some.chain(all.into_iter().flatten())
}

/// Whether a task already is as the event would make it. So a full scan proposes only what is new, however long the
/// queue.
fn is_known(task: Option<&Arc<Task>>, event: &TaskEvent) -> bool {
    let Some(task) = task else { return false };
    match (&task.phase, event) {
        (Phase::Queued, TaskEvent::Seen { text, spec }) => {
            task.text.as_ref() == Some(text) && task.spec == *spec && task.doubt.is_none()
        }
        (Phase::Held(known), TaskEvent::NotReady(hold)) => known == hold,
        (Phase::Rejected(known), TaskEvent::Rejected(problem)) => known == problem,
        _ => false,
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

/// Whether it is a whole task that nobody claims by its `status:`.
fn is_unclaimed(text: &Text) -> bool {
    let whole = |(bytes, _): &(Vec<u8>, FileFacts)| {
        matches!(task_file::read(bytes), Reading::Ready { .. }) && claimed_by_status(bytes).is_none()
    };
    text.read.as_ref().is_ok_and(whole)
}
