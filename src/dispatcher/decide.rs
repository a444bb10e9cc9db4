//! Which task goes to which session or provider next.
//! In: the snapshot, the configuration, `now`. Out: choices that can be carried out together. Pure.
//!
//! The rule: highest priority first; among equals the project with the fewest tasks at work; then the oldest file; then the
//! name. A task goes to the idle session that already runs its agent, account and directory; else to one that has to be
//! started for it; last of all to one that somebody looks at, or whose agent he spoke with. Nothing is started cold while sessions that are starting anyway will take the tasks.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use jiff::Timestamp;

use crate::{
    config::Config,
    model::{
        ids::{AccountName, AgentName, ProjectName, ProviderName, SessionName, TaskKey},
        route::{self, Pick},
        session::{Activity, Role, Session, SessionPhase},
        snapshot::{Snapshot, Under},
        task::{Phase, Task},
    },
};

/// A task and where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    pub task: TaskKey,
    pub to: Target,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Session { session: SessionName, agent: AgentName, account: Option<AccountName>, workdir: PathBuf },
    Provider(ProviderName),
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Session { session, agent, .. } => write!(f, "{agent} in session {session}"),
            Self::Provider(provider) => write!(f, "provider {provider}"),
        }
    }
}

/// What a task needs of a session.
struct Need {
    agent: AgentName,
    account: Option<AccountName>,
    workdir: PathBuf,
}

/// How well a session suits; the better is the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    /// Nothing runs in it.
    Cold,
    /// Something else runs in it, idle.
    Replace,
    /// Just what is needed stands at its prompt.
    Warm,
}

/// How many claims for providers are made together: a claim is some fsyncs, and providers take many tasks at once.
const TOGETHER: usize = 16;

/// The next choices: one for a session, or some for providers. `skip` holds tasks that could not be claimed a moment ago.
#[must_use]
pub fn choose(snapshot: &Snapshot, config: &Config, skip: &BTreeSet<TaskKey>, now: Timestamp) -> Vec<Choice> {
    let mut choices = Vec::new();
    if snapshot.paused {
        return choices;
    }
    let mut at_work: BTreeMap<&ProjectName, usize> = BTreeMap::new();
    for task in snapshot.tasks.values().filter(|task| matches!(task.phase, Phase::Working(_) | Phase::Filing(_))) {
        *at_work.entry(&task.key.project).or_default() += 1;
    }
    let mut queued: Vec<&Task> = snapshot.tasks.values().map(AsRef::as_ref).collect();
    let mut jobs = route::busy(snapshot);
    queued.retain(|task| task.phase == Phase::Queued && !skip.contains(&task.key));
    queued.sort_by_key(|task| {
        let age = task.text.as_ref().map(|text| text.modified);
        (Reverse(task.priority), at_work.get(&task.key.project).copied().unwrap_or(0), age, task.key.clone())
    });

    let busy: BTreeSet<&SessionName> = snapshot.requests.values().filter_map(|action| action.session()).collect();
    let free = |session: &&Session| {
        session.role == Role::Pool && !session.drained && session.task.is_none() && !busy.contains(&session.name)
    };
    let free: Vec<&Session> = snapshot.sessions.values().map(AsRef::as_ref).filter(free).collect();
    let mut coming = free.iter().filter(|session| matches!(session.phase, SessionPhase::Starting(_))).count();

    for task in queued {
        match route::pick(task, &snapshot.delegation, &jobs, now) {
            Pick::Here if choices.is_empty() => {}
            // A session's task is not passed over; it is the next round's.
            Pick::Here => return choices,
            Pick::Provider(name) => {
                *jobs.entry(name.clone()).or_default() += 1;
                choices.push(Choice { task: task.key.clone(), to: Target::Provider(name) });
                if choices.len() == TOGETHER {
                    return choices;
                }
                continue;
            }
            Pick::Wait(_) => continue,
        }
        let Some(project) = snapshot.projects.iter().find(|project| project.name == task.key.project) else { continue };
        let agent = task.spec.agent.clone().unwrap_or_else(|| config.pool.autonomous.agent.clone());
        let under = snapshot.under(&agent);
        if is_out(snapshot, &under, &agent) {
            continue;
        }
        let need = Need {
            agent,
            account: under.usable().cloned(),
            // Without `.` and doubled separators, so that the same directory is always written the same.
            workdir: project.path.join(&task.spec.workdir).components().collect(),
        };
        let fits = free.iter().filter_map(|session| {
            // Where somebody looks, or has spoken, he may want to go on.
            let alone = session.attached == 0 && !session.talked;
            Some((alone, fit(session, &need, config, now)?, Reverse(&session.name)))
        });
        match fits.max() {
            Some((false, ..) | (_, Fit::Cold | Fit::Replace, _)) if coming > 0 => coming -= 1,
            Some((_, _, Reverse(session))) => {
                let Need { agent, account, workdir } = need;
                let to = Target::Session { session: session.clone(), agent, account, workdir };
                return vec![Choice { task: task.key.clone(), to }];
            }
            None => {}
        }
    }
    choices
}

/// Whether nothing of this agent can run now: its account is out, or, where it has none, one of its sessions stands at a
/// limit.
#[must_use]
pub fn is_out(snapshot: &Snapshot, under: &Under<'_>, agent: &AgentName) -> bool {
    // A person's session stands at its limit until he sends it on, however long ago that has passed.
    let stands = |session: &Session| {
        session.role == Role::Pool
            && session.verdict.activity == Activity::Limited
            && session.phase.incarnation().is_some_and(|i| i.agent == *agent && i.account.is_none())
    };
    match under {
        Under::Account(_) => false,
        Under::Blocked(_) => true,
        Under::NoAccount => snapshot.sessions.values().any(|session| stands(session)),
    }
}

fn fit(session: &Session, need: &Need, config: &Config, now: Timestamp) -> Option<Fit> {
    match &session.phase {
        SessionPhase::Up(incarnation) if session.is_idle() && !session.spent && !session.is_with_a_person() => {
            let same = incarnation.agent == need.agent
                && !session.talked
                && incarnation.account == need.account
                && incarnation.workdir == need.workdir;
            Some(if same { Fit::Warm } else { Fit::Replace })
        }
        SessionPhase::Down => {
            let ready = session.start_after(config.lifecycle.restart_first, config.lifecycle.restart_max) <= now;
            ready.then_some(Fit::Cold)
        }
        SessionPhase::Up(_) | SessionPhase::Starting(_) | SessionPhase::Ending(_) | SessionPhase::Dead { .. } => None,
    }
}
