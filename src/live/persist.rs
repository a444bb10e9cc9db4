//! What of the world outlives the daemon, as `state.json`: sessions, runs, what people said by verb.
//! Tasks are not in it: the queue's files are the truth about them.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::world::{Override, World, failing};
use crate::model::{
    account::{Account, Standing},
    ids::{AccountName, ProviderName, SessionName, TaskKey},
    limit::Usage,
    notice::Told,
    provider::{Delegation, Job, ProviderStanding},
    session::{Assignment, Gone, Resume, Role, Session, SessionPhase, Stated},
    snapshot::{Project, Snapshot},
    steady::Saved,
    swap::{self, SwapRefusal, Swaps},
    task::{Ending, Filing, Origin, Phase, Run, Task, TaskSpec, TextFacts, Work},
    writer::Servers,
};

/// How long an end that was begun in a person's session is finished by a later daemon without another look.
const BEGUN_JUST_NOW: SignedDuration = SignedDuration::from_mins(2);

/// Rises with every change of the format that an older daemon can't read.
const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct State {
    version: u32,
    supervisor: String,
    #[serde(default)]
    clock: Option<Saved>,
    #[serde(default)]
    paused: bool,
    #[serde(default)]
    event_seq: u64,
    #[serde(default)]
    request_seq: u64,
    #[serde(default)]
    accounts: Vec<SavedAccount>,
    #[serde(default)]
    swaps: Swaps,
    #[serde(default)]
    sessions: Vec<SavedSession>,
    #[serde(default)]
    runs: Vec<SavedRun>,
    #[serde(default)]
    jobs: Vec<SavedJob>,
    #[serde(default)]
    providers: Vec<SavedProvider>,
    #[serde(default)]
    filings: Vec<SavedFiling>,
    #[serde(default)]
    overrides: Vec<(TaskKey, Override)>,
    #[serde(default)]
    submitted: Vec<(Option<TaskKey>, Vec<Timestamp>)>,
    #[serde(default)]
    notices: Vec<Told>,
    #[serde(default)]
    starts: Vec<(String, TaskKey)>,
    #[serde(default)]
    servers: Option<Arc<Servers>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedAccount {
    name: AccountName,
    active: bool,
    active_since: Timestamp,
    standing: Standing,
    believed_from: Timestamp,
    #[serde(default)]
    usage: Usage,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedSession {
    name: SessionName,
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

#[derive(Debug, Serialize, Deserialize)]
struct SavedRun {
    task: TaskKey,
    attempts: u32,
    #[serde(default)]
    origin: Origin,
    run: Run,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedJob {
    task: TaskKey,
    attempts: u32,
    #[serde(default)]
    origin: Origin,
    job: Job,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedProvider {
    name: ProviderName,
    standing: ProviderStanding,
    since: Timestamp,
}

/// A known end whose result isn't on disk yet: a cancel that was answered with OK must not be forgotten.
#[derive(Debug, Serialize, Deserialize)]
struct SavedFiling {
    task: TaskKey,
    attempts: u32,
    text: Option<TextFacts>,
    run: Option<Run>,
    #[serde(default)]
    job: Option<Job>,
    ending: Ending,
}

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(
        "state.json is of version {found}; this daemon reads up to {VERSION}: start the newer daemon, or move the file away"
    )]
    Newer { found: u32 },
    #[error("state.json can't be read: {0}")]
    Broken(String),
}

/// The part to save, as JSON.
pub(super) fn render(world: &World, clock: Option<Saved>) -> Vec<u8> {
    let sessions = world.snapshot.sessions.values().map(|session| SavedSession {
        name: session.name.clone(),
        role: session.role,
        phase: session.phase.clone(),
        drained: session.drained,
        spent: session.spent,
        failures: session.failures,
        task: session.task.clone(),
        used: session.used,
        since: Some(session.since),
        stated: Some(session.stated.clone()),
        resume: session.resume.clone(),
        gone: session.gone.clone(),
        talked: session.talked,
        rests: session.rests,
    });
    let accounts = world.snapshot.accounts.iter().map(|account| SavedAccount {
        name: account.name.clone(),
        active: account.active,
        active_since: account.active_since,
        standing: account.standing.clone(),
        believed_from: account.believed_from,
        usage: account.usage.clone(),
    });
    let runs = world.snapshot.tasks.values().filter_map(|task| match &task.phase {
        Phase::Working(run) => Some(SavedRun {
            task: task.key.clone(),
            attempts: task.attempts,
            origin: task.origin.clone(),
            run: run.clone(),
        }),
        Phase::Held(_)
        | Phase::Queued
        | Phase::Rejected(_)
        | Phase::Delegated(_)
        | Phase::Filing(_)
        | Phase::Finished(_) => None,
    });
    let jobs = world.snapshot.tasks.values().filter_map(|task| {
        let job = task.phase.delegated()?.clone();
        Some(SavedJob { task: task.key.clone(), attempts: task.attempts, origin: task.origin.clone(), job })
    });
    let providers = world.snapshot.delegation.providers.iter().map(|provider| SavedProvider {
        name: provider.name.clone(),
        standing: provider.standing.clone(),
        since: provider.since,
    });
    let filings = world.snapshot.tasks.values().filter_map(|task| match &task.phase {
        Phase::Filing(filing) => Some(SavedFiling {
            task: task.key.clone(),
            attempts: task.attempts,
            text: task.text.clone(),
            run: filing.work.as_ref().and_then(Work::run).cloned(),
            job: filing.work.as_ref().and_then(Work::job).cloned(),
            ending: filing.ending.clone(),
        }),
        Phase::Held(_)
        | Phase::Queued
        | Phase::Rejected(_)
        | Phase::Working(_)
        | Phase::Delegated(_)
        | Phase::Finished(_) => None,
    });
    let state = State {
        version: VERSION,
        supervisor: world.snapshot.supervisor.to_string(),
        clock,
        paused: world.snapshot.paused,
        event_seq: world.event_seq,
        request_seq: world.request_seq,
        accounts: accounts.collect(),
        swaps: (*world.snapshot.swaps).clone(),
        sessions: sessions.collect(),
        runs: runs.collect(),
        jobs: jobs.collect(),
        providers: providers.collect(),
        filings: filings.collect(),
        overrides: world.overrides.iter().map(|(key, said)| (key.clone(), said.clone())).collect(),
        submitted: world.submitted.iter().map(|(root, times)| (root.clone(), times.clone())).collect(),
        notices: world.snapshot.notices.values().map(|told| (**told).clone()).collect(),
        starts: world.snapshot.starts.iter().map(|(token, task)| (token.clone(), task.clone())).collect(),
        servers: world.snapshot.servers.clone(),
    };
    // These types always serialise: every map key is a string.
    serde_json::to_vec_pretty(&state).unwrap_or_default()
}

/// What an earlier daemon began to end in a person's session is ended when that was just now. Later he may have gone on there:
/// what runs is looked at anew.
fn as_found(role: Role, resume: Option<&Resume>, phase: SessionPhase, now: Timestamp) -> SessionPhase {
    let just_now = resume.is_some_and(|resume| now.duration_since(resume.since) < BEGUN_JUST_NOW);
    match (role, phase) {
        (Role::Dedicated, SessionPhase::Ending(incarnation)) if !just_now => SessionPhase::Up(incarnation),
        (_, phase) => phase,
    }
}

/// What is known of the accounts that the configuration still has. One of each kind stays the active one.
fn restore_accounts(accounts: &mut [Account], saved: Vec<SavedAccount>) {
    for one in saved {
        let Some(at) = accounts.iter().position(|account| account.name == one.name) else { continue };
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

/// What the clock goes on from. An earlier version saved wall times: those of a wall's clock that was set back since lie ahead,
/// and time goes on from the latest.
#[must_use]
pub fn clock(saved: Option<&[u8]>, wall: Timestamp) -> Option<Saved> {
    let state: serde_json::Value = serde_json::from_slice(saved?).ok()?;
    match state.get("clock").filter(|clock| !clock.is_null()) {
        Some(clock) => serde_json::from_value(clock.clone()).ok(),
        None => latest(&state).filter(|at| *at > wall).map(Saved::by_wall),
    }
}

/// The latest time that something has happened.
fn latest(value: &serde_json::Value) -> Option<Timestamp> {
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
    saved: Option<&[u8]>,
    projects: Vec<Project>,
    accounts: Vec<Account>,
    delegation: Delegation,
    fresh_id: String,
    now: Timestamp,
) -> Result<World, LoadError> {
    let state = match saved {
        None => None,
        Some(bytes) => {
            let state: serde_json::Value =
                serde_json::from_slice(bytes).map_err(|e| LoadError::Broken(e.to_string()))?;
            let found = state.get("version").and_then(serde_json::Value::as_u64).unwrap_or(0);
            if found > u64::from(VERSION) {
                return Err(LoadError::Newer { found: u32::try_from(found).unwrap_or(u32::MAX) });
            }
            Some(serde_json::from_value::<State>(state).map_err(|e| LoadError::Broken(e.to_string()))?)
        }
    };
    let supervisor = state.as_ref().map_or(fresh_id, |state| state.supervisor.clone());
    let snapshot = Snapshot {
        supervisor: supervisor.into(),
        projects: Arc::new(projects),
        accounts: Arc::new(accounts),
        delegation: Arc::new(delegation),
        ..Snapshot::empty(now)
    };
    let Some(state) = state else { return Ok(World::new(snapshot)) };

    let mut world = World::new(snapshot);
    if let Some(clock) = state.clock {
        world.snapshot.timeline = clock.timeline;
    }
    world.snapshot.paused = state.paused;
    world.event_seq = state.event_seq;
    world.request_seq = state.request_seq;
    world.overrides = state.overrides.into_iter().collect();
    world.submitted = state.submitted.into_iter().collect();
    world.snapshot.starts = state.starts.into_iter().collect();
    world.snapshot.servers = state.servers;
    world.snapshot.notices =
        state.notices.into_iter().map(|told| (told.notice.incident.clone(), Arc::new(told))).collect();
    if let Some(partial) = &state.swaps.partial {
        world.snapshot.health.insert(swap::HEALTH.to_owned(), SwapRefusal::from(partial).to_string());
    }
    world.snapshot.swaps = Arc::new(state.swaps);
    restore_accounts(Arc::make_mut(&mut world.snapshot.accounts).as_mut_slice(), state.accounts);
    for saved in state.sessions {
        let new = Session::new(saved.name.clone(), saved.role, now);
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
            world.snapshot.health.insert(format!("session {}", saved.name), text);
        }
        world.snapshot.sessions.insert(saved.name, Arc::new(session));
    }
    // What a person had to do about a broken one may be done: it is tried again.
    let known = |saved: &SavedProvider| !matches!(saved.standing, ProviderStanding::Broken { .. });
    for saved in state.providers.into_iter().filter(known) {
        let providers = &mut Arc::make_mut(&mut world.snapshot.delegation).providers;
        if let Some(provider) = providers.iter_mut().find(|provider| provider.name == saved.name) {
            provider.standing = saved.standing;
            provider.since = saved.since;
        }
    }
    for saved in state.runs {
        let (text, since) = (Some(saved.run.text.clone()), saved.run.claimed);
        let task = Task {
            attempts: saved.attempts,
            origin: saved.origin,
            ..restored(&saved.task, text, since, Phase::Working(saved.run))
        };
        world.snapshot.tasks.insert(saved.task, Arc::new(task));
    }
    for saved in state.jobs {
        let (text, since) = (Some(saved.job.text.clone()), saved.job.claimed);
        let wish = world.overrides.get(&saved.task).and_then(|said| said.wish.clone());
        let task = Task {
            attempts: saved.attempts,
            origin: saved.origin,
            wish,
            ..restored(&saved.task, text, since, Phase::Delegated(saved.job))
        };
        world.snapshot.tasks.insert(saved.task, Arc::new(task));
    }
    for saved in state.filings {
        let work = saved.run.map(Work::Run).or(saved.job.map(Work::Job));
        let since = saved.ending.at;
        let phase = Phase::Filing(Filing { work, ending: saved.ending });
        let task = Task { attempts: saved.attempts, ..restored(&saved.task, saved.text, since, phase) };
        world.snapshot.tasks.insert(saved.task, Arc::new(task));
    }
    Ok(world)
}

/// A task as the saved state tells it; what its frontmatter asks for is read from its file again.
fn restored(key: &TaskKey, text: Option<TextFacts>, since: Timestamp, phase: Phase) -> Task {
    Task {
        key: key.clone(),
        text,
        spec: Arc::new(TaskSpec::default()),
        priority: 0,
        phase,
        since,
        attempts: 0,
        origin: Origin::default(),
        wish: None,
        refused_by: Vec::new(),
        note: None,
        doubt: None,
        also: Vec::new(),
    }
}
