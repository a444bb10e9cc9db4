//! The janitor: archives old results and trims long logs.
//! Takes `done/` and `failed/`, leftovers of dead writers, logs, the settings and `clean`. Archives and removes, with
//! a line in `events` before each. Owns the result of its last look. Never touches a task, a marker, or a file that
//! isn't one of our results.

pub mod decide;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    time::Duration,
};

use tokio::time::Instant;

use self::decide::{Filed, Look, Removal, Seen, What, agreed, decide, lives};
use crate::{
    live::Hands,
    model::{
        command::{Action, Clean, Refused, RefusedKind},
        event::{About, Event, Kind, Note, Reason},
        footer::{Told, told},
        ids::{ProjectName, TaskId, TaskKey},
        queue::{Entry, FileKind, QueueDir, Sidecar},
    },
};

/// How often the logs are checked. Chosen: a busy log grows by less than `EVENTS_MAX` in that time.
const LOGS_EVERY: Duration = Duration::from_secs(60);
/// Files archived in one step. Chosen: each step rewrites the month's archive, and more would hold all of them in
/// memory.
const AT_ONCE: usize = 500;
/// A larger file is no result of ours. Chosen: four times the largest task text (16 MiB).
const RESULT_MAX: u64 = 64 << 20;
/// Lines in `events` of one dry run; the rest is counted. Chosen: readable, and a quarter of `RECENT_EVENTS`.
const DRY_LINES: usize = 500;

const RESULT_DIRS: [QueueDir; 2] = [QueueDir::Done, QueueDir::Failed];

type Place = (TaskKey, QueueDir);
type Change = (i128, u64);

pub struct Janitor {
    hands: Hands,
    /// What files that were read tell; those that have not changed are not read again.
    told: HashMap<Place, (Change, Option<Told>)>,
}

/// What became of a run.
#[derive(Debug, Default)]
struct Outcome {
    archived: usize,
    removed: usize,
    logs: usize,
    problems: Vec<String>,
}

impl Janitor {
    #[must_use]
    pub fn new(hands: Hands) -> Self {
        Self { hands, told: HashMap::new() }
    }

    /// Works until the owner stops.
    pub async fn run(mut self) {
        let mut snapshots = self.hands.live.watch();
        let mut before: Option<Look> = None;
        let (mut looked, mut logs) = (Instant::now(), Instant::now());
        loop {
            let snapshot = snapshots.borrow_and_update().clone();
            for (id, action) in &snapshot.requests {
                if let Action::Clean(how) = action.as_ref() {
                    let result = self.asked(*how).await;
                    self.hands.live.report(vec![Event::RequestDone { id: *id, result }]).await;
                }
            }
            let interval = self.hands.config.borrow().janitor.interval;
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(looked + interval) => {
                    let (look, mut outcome) = self.look().await;
                    let goes = agreed(before.as_ref(), &look, looked.elapsed());
                    looked = Instant::now();
                    before = Some(look);
                    self.carry_out(goes, &mut outcome).await;
                    self.tell(&outcome).await;
                }
                () = tokio::time::sleep_until(logs + LOGS_EVERY) => {
                    logs = Instant::now();
                    let look = self.decide(&self.logs().await);
                    let mut outcome = Outcome::default();
                    self.carry_out(agreed(None, &look, Duration::ZERO), &mut outcome).await;
                }
                changed = snapshots.changed() => if changed.is_err() { return },
            }
        }
    }

    /// A person wants it now, or wants to know.
    async fn asked(&mut self, how: Clean) -> Result<String, Refused> {
        let (look, mut outcome) = self.look().await;
        let text = match how {
            Clean::DryRun => self.dry_run(&look.removals).await,
            Clean::Now => {
                self.carry_out(look.removals, &mut outcome).await;
                self.tell(&outcome).await;
                format!(
                    "{} results archived, {} removed; {} logs shortened or removed",
                    outcome.archived, outcome.removed, outcome.logs
                )
            }
        };
        match outcome.problems.as_slice() {
            [] => Ok(text),
            problems => Err(Refused::new(RefusedKind::Failed, format!("{text}; {}", problems.join("; ")))),
        }
    }

    async fn dry_run(&self, removals: &[Removal]) -> String {
        let lines = removals.iter().take(DRY_LINES).map(|removal| note(removal, Reason::WouldRemove, "would go"));
        self.hands.live.report(lines.collect()).await;
        let more = removals.len().saturating_sub(DRY_LINES);
        let more = if more > 0 { format!(" but {more}") } else { String::new() };
        format!("nothing was changed; {} would go, `events` names them all{more}", removals.len())
    }

    /// Health says what is in the way of the janitor.
    async fn tell(&self, outcome: &Outcome) {
        let problem = outcome.problems.first().cloned();
        self.hands.live.report(vec![Event::Health { topic: "janitor".to_owned(), problem }]).await;
    }

    fn decide(&self, seen: &Seen) -> Look {
        let now = self.hands.clock.wall();
        Look { at: now, removals: decide(seen, &self.hands.config.borrow().janitor, &self.hands.live.snapshot(), now) }
    }

    async fn logs(&self) -> Seen {
        Seen {
            hooks: self.hands.agents.hook_logs().await,
            events: self.hands.state.events_log().await.ok(),
            ..Seen::default()
        }
    }

    /// Looks at everything.
    async fn look(&mut self) -> (Look, Outcome) {
        let mut seen = self.logs().await;
        let mut outcome = Outcome::default();
        let known = std::mem::take(&mut self.told);
        let projects: Vec<ProjectName> = self.hands.live.snapshot().projects.iter().map(|p| p.name.clone()).collect();
        for project in projects {
            if let Err(error) = self.project(&project, &known, &mut seen).await {
                outcome.problems.push(format!("the queue of project {project} can't be looked through: {error}"));
            }
        }
        (self.decide(&seen), outcome)
    }

    async fn project(
        &mut self,
        project: &ProjectName,
        known: &HashMap<Place, (Change, Option<Told>)>,
        seen: &mut Seen,
    ) -> io::Result<()> {
        let inbox = self.hands.queue.look(project, None).await?;
        let marks = inbox.sidecars.iter().filter(|mark| mark.which != Sidecar::Rejected);
        seen.marked.extend(marks.map(|mark| TaskKey::new(project, &mark.id)));
        for dir in RESULT_DIRS {
            for entry in self.hands.queue.entries(project, dir).await? {
                let place = (TaskKey::new(project, &entry.id), dir);
                let told = match known.get(&place) {
                    Some((change, told)) if *change == entry.file.change => *told,
                    Some(_) | None => match self.read(project, dir, &entry).await {
                        Some(told) => told,
                        None => continue,
                    },
                };
                self.told.insert(place.clone(), (entry.file.change, told));
                if let Some(told) = told {
                    seen.filed.push(Filed { key: place.0, dir, entry, told });
                }
            }
        }
        let leftovers = self.hands.queue.leftovers(project).await?;
        seen.leftovers.extend(leftovers.into_iter().map(|leftover| (project.clone(), leftover)));
        Ok(())
    }

    /// A file's facts; `None` if it can't be read or is changing.
    async fn read(&self, project: &ProjectName, dir: QueueDir, entry: &Entry) -> Option<Option<Told>> {
        if entry.file.kind != FileKind::Regular {
            return Some(None);
        }
        let (bytes, facts) = self.hands.queue.read(project, dir, &entry.id, RESULT_MAX).await.ok()?;
        (facts.change == entry.file.change).then(|| told(&bytes))
    }

    async fn carry_out(&self, removals: Vec<Removal>, outcome: &mut Outcome) {
        let mut results: BTreeMap<(ProjectName, QueueDir, Option<String>), Vec<Removal>> = BTreeMap::new();
        for removal in removals {
            match &removal.what {
                What::Result { key, dir, month, .. } => {
                    results.entry((key.project.clone(), *dir, month.clone())).or_default().push(removal);
                }
                What::Leftover { .. } | What::HookLog { .. } | What::ReadHooks { .. } | What::EventLog => {
                    if let Err(error) = self.other(&removal).await {
                        outcome.problems.push(format!("{} can't be put away: {error}", name(&removal.what)));
                    } else {
                        outcome.logs += 1;
                    }
                }
            }
        }
        let projects: BTreeSet<ProjectName> = results.keys().map(|(project, ..)| project.clone()).collect();
        for ((project, dir, month), removals) in results {
            for part in removals.chunks(AT_ONCE) {
                if let Err(error) = self.results(&project, dir, month.as_deref(), part, outcome).await {
                    outcome.problems.push(format!("old results of project {project} stay in {}/: {error}", dir.name()));
                    break;
                }
            }
        }
        for project in projects {
            if let Ok(counts) = self.hands.queue.counts(&project).await {
                self.hands.live.report(vec![Event::Counts { project, counts }]).await;
            }
        }
    }

    /// Into the archive first, then out of the directory: a crash in between leaves them in both.
    async fn results(
        &self,
        project: &ProjectName,
        dir: QueueDir,
        month: Option<&str>,
        removals: &[Removal],
        outcome: &mut Outcome,
    ) -> io::Result<()> {
        let mut going: Vec<(&Removal, &Entry)> = Vec::new();
        for removal in removals {
            if let What::Result { entry, .. } = &removal.what
                && self.may_go(project, &entry.id)
            {
                going.push((removal, entry));
            }
        }
        let entries: Vec<Entry> = going.iter().map(|(_, entry)| (*entry).clone()).collect();
        let (stored, how) = match month {
            Some(month) => {
                let stored = self.hands.queue.archive(project, dir, month, &entries).await?;
                (
                    Some(stored.into_iter().collect::<BTreeSet<_>>()),
                    format!("goes into {}/archive/{month}.tar.gz", dir.name()),
                )
            }
            None => (None, "is removed".to_owned()),
        };
        going.retain(|(_, entry)| stored.as_ref().is_none_or(|stored| stored.contains(&entry.id)));
        self.hands.live.report(going.iter().map(|(removal, _)| note(removal, Reason::Removing, &how)).collect()).await;
        for (_, entry) in going {
            // It may have come to life while the archive was written.
            if self.may_go(project, &entry.id)
                && self.hands.queue.remove_unchanged(project, dir, &entry.id, &entry.file).await?
            {
                match month {
                    Some(_) => outcome.archived += 1,
                    None => outcome.removed += 1,
                }
            }
        }
        Ok(())
    }

    /// No task of its name is on its way. Whether somebody writes it, the store knows.
    fn may_go(&self, project: &ProjectName, id: &TaskId) -> bool {
        !lives(&TaskKey::new(project, id), &self.hands.live.snapshot())
    }

    async fn other(&self, removal: &Removal) -> io::Result<()> {
        self.hands.live.report(vec![note(removal, Reason::Removing, "goes")]).await;
        match &removal.what {
            What::Leftover { project, leftover } => self.hands.queue.remove_leftover(project, leftover).await,
            What::HookLog { session } => self.hands.agents.clear_hook_log(session, None).await,
            What::ReadHooks { session, to } => self.hands.agents.clear_hook_log(session, Some(*to)).await,
            What::EventLog => self.hands.state.rotate_events().await,
            What::Result { .. } => Ok(()),
        }
    }
}

fn name(what: &What) -> String {
    match what {
        What::Result { entry, dir, .. } => format!("{}/{}", dir.name(), entry.id.file_name()),
        What::Leftover { leftover, .. } => format!("{}/{}", leftover.dir.name(), leftover.name),
        What::HookLog { session } => format!("the log of the hooks of session {session}"),
        What::ReadHooks { session, to } => format!("the log of the hooks of session {session} up to byte {to}"),
        What::EventLog => {
            "the event log: it is events.1.jsonl from now on, and the earlier one of that name".to_owned()
        }
    }
}

fn note(removal: &Removal, reason: Reason, how: &str) -> Event {
    let (kind, about) = match &removal.what {
        What::Result { key, .. } => (Kind::Task, About::from(key)),
        What::Leftover { project, .. } => (Kind::Daemon, About::project(project)),
        What::HookLog { session } | What::ReadHooks { session, .. } => (Kind::Session, About::from(session)),
        What::EventLog => (Kind::Daemon, About::daemon()),
    };
    let text = format!("{} {how}: {}", name(&removal.what), removal.why);
    Event::Note(Note::new(kind, reason, about, text))
}
