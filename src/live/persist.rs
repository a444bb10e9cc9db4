//! Decides what is saved (`model::journal`): tasks in progress, sessions, accounts, what people set by verb.
//! Takes the world before and after a batch; returns the record of the differences, or the whole state. Restores a
//! world from a saved state. Waiting tasks aren't saved: the queue's files are the truth about them.
//!
//! A batch must be saved exactly when its record isn't empty; no flag says so. Transient facts (counts, health,
//! screens, completed requests) are in no record, so they cost no write.
//!
//! Whether a record must be synced before anybody goes on is derived too (`lasting`). A power cut ends every agent and
//! pane, so the state of a pool session is worthless after one, and a claim whose run never began is undone by its
//! marker. A record that says nothing else is deferred; the end of the daemon alone loses nothing of it.

use std::{collections::BTreeMap, sync::Arc};

use imbl::{OrdMap, ordmap::DiffItem};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, to_value};

use super::{
    session::failing,
    world::{Override, World},
};
use crate::model::{
    account::{Account, Standing},
    identity::TextFacts,
    ids::{AccountName, ProviderName, RunId, SessionName, TaskKey},
    journal::{LoadError, Record, State, VERSION, number},
    limit::Usage,
    notice::Told,
    provider::{Delegation, Provider, ProviderStanding},
    session::{Assignment, Gone, Resume, Role, Session, SessionPhase, Stated},
    snapshot::{Project, Snapshot},
    steady::{Saved, Timeline},
    swap::{self, SwapRefusal, Swaps},
    task::{Delivery, Ending, Filing, Origin, Phase, Run, Stop, Task, Work},
};

/// How long a later daemon finishes an end begun in a person's session without checking again. Chosen: a restart takes
/// seconds; later a person may have started something else there.
const BEGUN_JUST_NOW: SignedDuration = SignedDuration::from_mins(2);

/// The parts of a state, as a start reads them.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Parts {
    supervisor: Option<String>,
    paused: bool,
    event_seq: u64,
    request_seq: u64,
    accounts: BTreeMap<AccountName, SavedAccount>,
    swaps: Swaps,
    sessions: BTreeMap<SessionName, SavedSession>,
    tasks: BTreeMap<TaskKey, SavedTask>,
    texts: BTreeMap<RunId, Arc<str>>,
    providers: BTreeMap<ProviderName, SavedProvider>,
    overrides: BTreeMap<TaskKey, Override>,
    submitted: BTreeMap<String, Vec<Timestamp>>,
    notices: BTreeMap<String, Arc<Told>>,
    starts: BTreeMap<String, TaskKey>,
    timeline: Arc<Timeline>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedAccount {
    active: bool,
    active_since: Timestamp,
    standing: Standing,
    believed_from: Timestamp,
    #[serde(default)]
    usage: Usage,
}

impl SavedAccount {
    fn of(account: &Account) -> Self {
        Self {
            active: account.active,
            active_since: account.active_since,
            standing: account.standing.clone(),
            believed_from: account.believed_from,
            usage: account.usage.clone(),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedSession {
    role: Role,
    phase: SessionPhase,
    drained: bool,
    spent: bool,
    failures: u32,
    task: Option<Assignment>,
    used: Timestamp,
    #[serde(default)]
    since: Option<Timestamp>,
    #[serde(default)]
    stated: Option<Stated>,
    #[serde(default)]
    resume: Option<Resume>,
    #[serde(default)]
    gone: Option<Gone>,
    #[serde(default)]
    talked: bool,
    #[serde(default)]
    rests: bool,
}

impl SavedSession {
    fn of(session: &Session, stated: &Stated) -> Self {
        Self {
            role: session.role,
            phase: session.phase.clone(),
            drained: session.drained,
            spent: session.spent,
            failures: session.failures,
            task: session.task.clone(),
            used: session.used,
            since: Some(session.since),
            stated: Some(stated.clone()),
            resume: session.resume.clone(),
            gone: session.gone.clone(),
            talked: session.talked,
            rests: session.rests,
        }
    }

    /// A power cut must not undo what a person set, nor a pending resume.
    fn lasting(self) -> Option<Self> {
        (self.role == Role::Dedicated || self.drained || self.resume.is_some()).then_some(self)
    }
}

/// A task that is worked on, or whose known end isn't on disk yet: a cancel that was answered with OK must not be forgotten.
#[derive(Debug, Serialize, Deserialize)]
struct SavedTask {
    attempts: u32,
    #[serde(default)]
    origin: Origin,
    /// Of one that has ended: its file's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<TextFacts>,
    work: Option<Work>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ending: Option<Ending>,
}

impl SavedTask {
    fn of(task: &Task) -> Option<Self> {
        let (work, text, ending) = match &task.phase {
            Phase::Working(run) => (Some(Work::Run(run.clone())), None, None),
            Phase::Delegated(job) => (Some(Work::Job(job.clone())), None, None),
            Phase::Filing(filing) => (filing.work.clone(), task.text.clone(), Some(filing.ending.clone())),
            Phase::Held(_) | Phase::Queued | Phase::Rejected(_) | Phase::Finished(_) => return None,
        };
        Some(Self { attempts: task.attempts, origin: task.origin.clone(), text, work, ending })
    }

    /// For a run that has not begun, its marker is enough.
    fn lasting(self) -> Option<Self> {
        let begun = |run: &Run| run.delivery != Delivery::NotBegun || run.stop != Stop::No;
        let lasts = self.ending.is_some() || self.work.as_ref().and_then(Work::run).is_none_or(begun);
        lasts.then_some(self)
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedProvider {
    standing: ProviderStanding,
    since: Timestamp,
}

impl SavedProvider {
    fn of(provider: &Provider) -> Self {
        Self { standing: provider.standing.clone(), since: provider.since }
    }
}

/// The record of what has to outlive the daemon and differs from the world before; of everything where there was none.
/// `None` when nothing does.
pub(super) fn record(
    before: Option<&World>,
    after: &World,
    clock: impl FnOnce() -> Option<Saved>,
) -> serde_json::Result<Option<Record>> {
    let mut it = Differences { before, after, record: Record { deferred: before.is_some(), ..Record::default() } };
    it.set("supervisor", |world| &world.snapshot.supervisor)?;
    it.set("paused", |world| &world.snapshot.paused)?;
    it.set("request_seq", |world| &world.request_seq)?;
    it.set("swaps", |world| &world.snapshot.swaps)?;
    it.set("timeline", |world| &world.snapshot.timeline)?;
    it.rows(
        "accounts",
        |world| &*world.snapshot.accounts,
        |account| (account.name.to_string(), SavedAccount::of(account)),
    )?;
    it.rows(
        "providers",
        |world| &world.snapshot.delegation.providers,
        |provider| (provider.name.to_string(), SavedProvider::of(provider)),
    )?;
    it.put(
        "sessions",
        |world| &world.snapshot.sessions,
        |session, next| {
            // A person may be waited for all night; other states come and go with what is saved anyway.
            let stated = next
                .map(|next| &next.stated)
                .filter(|next| !matches!(next.word.as_str(), "waiting" | "stalled" | "limited"));
            Some(SavedSession::of(session, stated.unwrap_or(&session.stated)))
        },
        SavedSession::lasting,
    )?;
    it.put("tasks", |world| &*world.snapshot.tasks, |task, _| SavedTask::of(task), SavedTask::lasting)?;
    // They come and go with their tasks.
    it.put("texts", |world| &world.snapshot.texts, |text, _| Some(text.clone()), |_| None)?;
    it.put("overrides", |world| &world.overrides, |said, _| Some(said.clone()), Some)?;
    it.put("submitted", |world| &world.submitted, |times, _| Some(times.clone()), Some)?;
    it.put("notices", |world| &world.snapshot.notices, |told, _| Some(told.clone()), Some)?;
    // Nothing that an agent left outlives a power cut.
    it.put("starts", |world| &world.snapshot.starts, |task, _| Some(task.clone()), |_| None)?;
    let mut record = it.record;
    if record.set.is_empty() && record.put.is_empty() {
        return Ok(None);
    }
    record.seq = after.journal + 1;
    record.set.insert("event_seq".to_owned(), after.event_seq.into());
    if let Some(clock) = clock() {
        // It may have jumped since the world went by it.
        if before.is_none_or(|before| before.snapshot.timeline != clock.timeline) {
            record.set.insert("timeline".to_owned(), to_value(&clock.timeline)?);
            record.deferred = false;
        }
        if let Value::Object(mut clock) = to_value(&clock)? {
            clock.remove("timeline");
            record.set.insert("clock".to_owned(), clock.into());
        }
    }
    Ok(Some(record))
}

/// A checkpoint of a record of everything, for people to read.
pub(super) fn checkpoint(record: Record) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec_pretty(&whole(record))
}

fn whole(record: Record) -> State {
    let mut state = State::new();
    state.insert("version".to_owned(), VERSION.into());
    record.merge_into(&mut state);
    state
}

#[cfg(test)]
pub(super) fn state(world: &World) -> State {
    whole(record(None, world, || None).expect("JSON").expect("everything"))
}

/// The record of the differences, while it is made.
struct Differences<'a> {
    before: Option<&'a World>,
    after: &'a World,
    record: Record,
}

impl Differences<'_> {
    /// A part that is replaced as a whole.
    fn set<T: PartialEq + Serialize>(&mut self, part: &str, of: fn(&World) -> &T) -> serde_json::Result<()> {
        let next = of(self.after);
        if self.before.is_none_or(|before| of(before) != next) {
            self.record.set.insert(part.to_owned(), to_value(next)?);
            self.record.deferred = false;
        }
        Ok(())
    }

    /// A keyed part, of which only the differences are visited. `saved` gets the fate of an earlier entry; `lasting`
    /// keeps of it what a power cut must not undo.
    fn put<K: Ord + Clone + PartKey, V: Clone + PartialEq, S: Serialize>(
        &mut self,
        part: &str,
        of: fn(&World) -> &OrdMap<K, V>,
        saved: impl Fn(&V, Option<&V>) -> Option<S>,
        lasting: impl Fn(S) -> Option<S>,
    ) -> serde_json::Result<()> {
        let none = OrdMap::new();
        let mut entries = Map::new();
        for item in self.before.map_or(&none, of).diff(of(self.after)) {
            let (key, old, new) = match item {
                DiffItem::Add(key, one) => (key, None, Some(one)),
                DiffItem::Update { old: (key, old), new: (_, new) } => (key, Some(old), Some(new)),
                DiffItem::Remove(key, one) => (key, Some(one), None),
            };
            let (before, after) = (old.and_then(|old| saved(old, new)), new.and_then(|new| saved(new, None)));
            let entry = to_value(&after)?;
            if to_value(&before)? != entry {
                entries.insert(key.text(), entry);
                let [before, after] = [before, after].map(|saved| to_value(saved.and_then(&lasting)));
                self.record.deferred &= before? == after?;
            }
        }
        self.entries(part, entries);
        Ok(())
    }

    /// The same of a short list.
    fn rows<T, S: Serialize>(
        &mut self,
        part: &str,
        of: fn(&World) -> &Vec<T>,
        saved: impl Fn(&T) -> (String, S),
    ) -> serde_json::Result<()> {
        let rows = |world: &World| -> serde_json::Result<Vec<(String, Value)>> {
            of(world).iter().map(&saved).map(|(name, row)| Ok((name, to_value(row)?))).collect()
        };
        let mut entries: Map<String, Value> = Map::from_iter(rows(self.after)?);
        if let Some(before) = self.before {
            for (name, row) in rows(before)? {
                match entries.get(&name) {
                    Some(next) if *next == row => drop(entries.remove(&name)),
                    Some(_) => {}
                    None => drop(entries.insert(name, Value::Null)),
                }
            }
        }
        self.record.deferred &= entries.is_empty();
        self.entries(part, entries);
        Ok(())
    }

    fn entries(&mut self, part: &str, entries: Map<String, Value>) {
        if !entries.is_empty() {
            self.record.put.insert(part.to_owned(), entries.into());
        }
    }
}

/// What names an entry.
trait PartKey {
    fn text(&self) -> String;
}

impl PartKey for String {
    fn text(&self) -> String {
        self.clone()
    }
}

impl PartKey for TaskKey {
    fn text(&self) -> String {
        self.to_string()
    }
}

impl PartKey for RunId {
    fn text(&self) -> String {
        self.0.clone()
    }
}

impl PartKey for SessionName {
    fn text(&self) -> String {
        self.to_string()
    }
}

/// What no task submitted has no name.
impl PartKey for Option<TaskKey> {
    fn text(&self) -> String {
        self.as_ref().map(TaskKey::to_string).unwrap_or_default()
    }
}

/// If an earlier daemon began to stop a program in a person's session just now, this is finished. Later the person may
/// have continued there, so what runs is examined again.
fn as_found(role: Role, resume: Option<&Resume>, phase: SessionPhase, now: Timestamp) -> SessionPhase {
    let just_now = resume.is_some_and(|resume| now.duration_since(resume.since) < BEGUN_JUST_NOW);
    match (role, phase) {
        (Role::Dedicated, SessionPhase::Ending(incarnation)) if !just_now => SessionPhase::Up(incarnation),
        (_, phase) => phase,
    }
}

/// What is known of the accounts that the configuration still has. One of each kind stays the active one.
fn restore_accounts(accounts: &mut [Account], saved: BTreeMap<AccountName, SavedAccount>) {
    for (name, one) in saved {
        let Some(at) = accounts.iter().position(|account| account.name == name) else { continue };
        if one.active {
            for other in 0..accounts.len() {
                if accounts[other].is_like(&accounts[at]) {
                    accounts[other].active = other == at;
                }
            }
        }
        let account = &mut accounts[at];
        account.active_since = one.active_since;
        account.standing = one.standing;
        account.believed_from = one.believed_from;
        account.usage = one.usage;
    }
}

/// The state from which the clock continues. An earlier version saved wall-clock times: if the clock was set back
/// since, they lie ahead, and time continues from the latest.
#[must_use]
pub fn clock(saved: Option<&State>, wall: Timestamp) -> Option<Saved> {
    let state = saved?;
    match state.get("clock") {
        Some(Value::Object(clock)) => {
            let mut clock = clock.clone();
            clock.insert("timeline".to_owned(), state.get("timeline")?.clone());
            serde_json::from_value(clock.into()).ok()
        }
        Some(_) | None => state.values().filter_map(latest).max().filter(|at| *at > wall).map(Saved::by_wall),
    }
}

/// The latest time that something has happened.
fn latest(value: &Value) -> Option<Timestamp> {
    use serde_json::Value as V;
    match value {
        V::String(text) => text.parse().ok(),
        V::Array(values) => values.iter().filter_map(latest).max(),
        V::Object(fields) => {
            let to_come = |key: &str| matches!(key, "resets_at" | "until" | "not_before" | "modified");
            fields.iter().filter(|(key, _)| !to_come(key)).filter_map(|(_, value)| latest(value)).max()
        }
        V::Null | V::Bool(_) | V::Number(_) => None,
    }
}

/// The world as it was saved, or a new one.
///
/// # Errors
/// When the saved state is there and can't be understood; the caller sets it aside and says so.
pub fn load(
    saved: Option<State>,
    projects: Vec<Project>,
    accounts: Vec<Account>,
    delegation: Delegation,
    fresh_id: String,
    now: Timestamp,
) -> Result<World, LoadError> {
    let journal = saved.as_ref().map_or(0, number);
    let state = serde_json::from_value::<Parts>(saved.unwrap_or_default().into());
    let state = state.map_err(|error| LoadError::Broken(error.to_string()))?;
    let supervisor = state.supervisor.unwrap_or(fresh_id);
    let snapshot = Snapshot {
        supervisor: supervisor.into(),
        projects: Arc::new(projects),
        accounts: Arc::new(accounts),
        delegation: Arc::new(delegation),
        ..Snapshot::empty(now)
    };
    let mut world = World::new(snapshot);
    world.journal = journal;
    world.snapshot.timeline = state.timeline;
    world.snapshot.paused = state.paused;
    world.event_seq = state.event_seq;
    world.request_seq = state.request_seq;
    world.overrides = state.overrides.into_iter().collect();
    world.submitted = state.submitted.into_iter().map(|(root, times)| (TaskKey::parse(&root), times)).collect();
    world.snapshot.starts = state.starts.into_iter().collect();
    world.snapshot.notices = state.notices.into_iter().collect();
    if let Some(partial) = &state.swaps.partial {
        world.snapshot.health.insert(swap::HEALTH.to_owned(), SwapRefusal::from(partial).to_string());
    }
    world.snapshot.swaps = Arc::new(state.swaps);
    restore_accounts(Arc::make_mut(&mut world.snapshot.accounts).as_mut_slice(), state.accounts);
    for (name, saved) in state.sessions {
        let new = Session::new(name.clone(), saved.role, now);
        let session = Session {
            since: saved.since.unwrap_or(now),
            stated: saved.stated.unwrap_or(new.stated.clone()),
            phase: as_found(saved.role, saved.resume.as_ref(), saved.phase, now),
            drained: saved.drained,
            spent: saved.spent,
            failures: saved.failures,
            task: saved.task,
            used: saved.used,
            resume: saved.resume,
            gone: saved.gone,
            talked: saved.talked,
            rests: saved.rests,
            ..new
        };
        if let Some(text) = failing(&session) {
            world.snapshot.health.insert(format!("session {name}"), text);
        }
        world.snapshot.sessions.insert(name, Arc::new(session));
    }
    // What a person had to do about a broken one may be done: it is tried again.
    let known = |saved: &SavedProvider| !matches!(saved.standing, ProviderStanding::Broken { .. });
    for (name, saved) in state.providers.into_iter().filter(|(_, saved)| known(saved)) {
        let providers = &mut Arc::make_mut(&mut world.snapshot.delegation).providers;
        if let Some(provider) = providers.iter_mut().find(|provider| provider.name == name) {
            provider.standing = saved.standing;
            provider.since = saved.since;
        }
    }
    for (key, saved) in state.tasks {
        let (text, since, phase) = match (saved.work, saved.ending) {
            (work, Some(ending)) => (saved.text, ending.at, Phase::Filing(Filing { work, ending })),
            (Some(Work::Run(run)), None) => (Some(run.text.clone()), run.claimed, Phase::Working(run)),
            (Some(Work::Job(job)), None) => (Some(job.text.clone()), job.claimed, Phase::Delegated(job)),
            (None, None) => return Err(LoadError::Broken(format!("task {key} has neither work nor an end"))),
        };
        let said = world.overrides.get(&key).filter(|_| phase.delegated().is_some());
        let wish = said.and_then(|said| said.wish.clone());
        let (attempts, origin) = (saved.attempts, saved.origin);
        // What its frontmatter asks for is read from its file again.
        let task = Task { text, phase, since, attempts, origin, wish, ..world.blank(&key, now) };
        if let Some((run, text)) = task.phase.open_run().and_then(|run| state.texts.get_key_value(run)) {
            world.snapshot.texts.insert(run.clone(), text.clone());
        }
        world.snapshot.tasks.insert(key, Arc::new(task));
    }
    Ok(world)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        event::{Counts, Event},
        ids::ProjectName,
        samples,
        session::{Incarnation, SessionEvent, Then},
        task::{Status, TaskEvent},
    };

    fn world() -> World {
        let project = Project {
            name: ProjectName::parse("web").expect("a name"),
            path: "/web".into(),
            counts: Counts::default(),
        };
        let at = Timestamp::UNIX_EPOCH;
        load(None, vec![project], Vec::new(), Delegation::default(), "id".to_owned(), at).expect("a world")
    }

    fn after(world: &World, events: &[Event]) -> World {
        let mut next = world.clone();
        for event in events {
            next.apply(event, Timestamp::UNIX_EPOCH).expect("taken");
        }
        next
    }

    fn seen(text: &str) -> Event {
        let (sha256, identity) = (text.to_owned(), text.to_owned());
        let text = TextFacts { sha256, identity, bytes: 1, modified: Timestamp::UNIX_EPOCH };
        Event::Task(key(), TaskEvent::Seen { text, spec: Arc::default() })
    }

    fn key() -> TaskKey {
        TaskKey::parse("web:a").expect("a key")
    }

    #[test]
    fn what_comes_and_goes_with_the_daemon_is_in_no_record() {
        let before = world();
        let counts = Counts { done: 7, ..Counts::default() };
        let transient = [
            Event::Health { topic: "disk".to_owned(), problem: Some("full".to_owned()) },
            Event::Counts { project: ProjectName::parse("web").expect("a name"), counts },
            seen("1"),
        ];
        let next = after(&before, &transient);
        assert_ne!(next.event_seq, before.event_seq);
        assert_eq!(record(Some(&before), &next, || unreachable!("nothing is saved")).expect("JSON"), None);
    }

    #[test]
    fn a_record_says_what_differs_and_makes_the_state_after_it() {
        let before = after(&world(), &[seen("1")]);
        let next = after(&before, &[Event::Task(key(), TaskEvent::Hold), Event::Task(key(), TaskEvent::Priority(5))]);
        let record = record(Some(&before), &next, || None).expect("JSON").expect("something");
        assert_eq!(record.put.keys().collect::<Vec<_>>(), ["overrides"]);
        assert_eq!(record.set.keys().collect::<Vec<_>>(), ["event_seq"]);
        let mut merged = state(&before);
        merged.insert("journal".to_owned(), 0.into());
        record.merge_into(&mut merged);
        assert_eq!(Value::from(merged), Value::from(state(&next)));
    }

    #[test]
    fn what_a_power_cut_takes_anyway_is_deferred_and_nothing_else_is() {
        let run = Run { attempts_allowed: 2, ..samples::run() };
        let incarnation = Incarnation {
            token: "t".to_owned(),
            conversation: Some("c".to_owned()),
            ..samples::incarnation(&run.session)
        };
        let of = || "i".to_owned();
        let session = |event| Event::Session(run.session.clone(), event);
        let task = |event| Event::Task(key(), event);
        let id = || run.id.clone();
        let ending = Ending::new(Status::Done, Timestamp::UNIX_EPOCH);
        let steps = [
            (true, vec![session(SessionEvent::Opened(incarnation))]),
            (true, vec![session(SessionEvent::Ready { of: of() })]),
            (true, vec![task(TaskEvent::Claimed(run.clone())), Event::Text(id(), "do it".into())]),
            // An agent may have it from here on.
            (false, vec![task(TaskEvent::TypingBegun { run: id() })]),
            (false, vec![task(TaskEvent::Taken { run: id() })]),
            (false, vec![session(SessionEvent::Resume { of: of(), not_before: None })]),
            (false, vec![task(TaskEvent::Ended { run: id(), ending, told: None })]),
            (false, vec![task(TaskEvent::Filed { kept: None }), session(SessionEvent::Freed)]),
            (true, vec![session(SessionEvent::Ending { why: "fresh".to_owned(), failed: false })]),
            (true, vec![session(SessionEvent::Ended { then: Then::Start })]),
            (false, vec![session(SessionEvent::Drain(true))]),
            (false, vec![session(SessionEvent::Drain(false))]),
            (true, vec![seen("2"), task(TaskEvent::Claimed(Run { id: RunId("s".to_owned()), ..run.clone() }))]),
            // It was answered with OK.
            (false, vec![task(TaskEvent::Cancel)]),
        ];
        let mut world = after(&world(), &[seen("1")]);
        let pool = Session::new(run.session.clone(), Role::Pool, Timestamp::UNIX_EPOCH);
        world.snapshot.sessions.insert(run.session.clone(), Arc::new(pool));
        for (deferred, events) in steps {
            let next = after(&world, &events);
            let record = record(Some(&world), &next, || None).expect("JSON");
            assert_eq!(record.map(|record| record.deferred), Some(deferred), "{events:?}");
            world = next;
        }
    }
}
