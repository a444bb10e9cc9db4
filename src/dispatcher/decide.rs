//! Decides which tasks go to which sessions and providers next.
//! Takes the snapshot, the configuration, claims in progress and `now`; returns choices that can be carried out
//! together. Pure.
//!
//! Order: highest priority first; among equals the project with the fewest running tasks, then the oldest file, then
//! the name. A task goes to the idle session that already runs its agent, account and directory; else to one that has
//! to be started for it; last to one that a person is attached to, talked to, or left a draft in. Nothing is started
//! cold while sessions that are already starting will take the tasks.
//!
//! Cost: which places could take a task is asked first, and a lane (`model/tasks.rs`) is abandoned at its first task
//! that fits nowhere. So a look costs as much as what it chooses, however long the queue is.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    iter::Peekable,
    path::PathBuf,
};

use imbl::ordset;
use jiff::Timestamp;

use crate::{
    config::Config,
    model::{
        ids::{AccountName, AgentName, ProjectName, ProviderName, SessionName, TaskKey},
        route::{self, Pick},
        session::{Activity, Role, Session, SessionPhase},
        snapshot::{Snapshot, Under},
        task::Task,
        tasks::{Lane, Turn},
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
    /// The exact agent is at its prompt.
    Warm,
}

/// Claims for providers made together. Chosen: a claim is some fsyncs, and providers take many tasks at once.
const TOGETHER: usize = 16;

/// A lane and the position reached in it.
struct Line<'a> {
    lane: &'a Lane,
    turns: Peekable<ordset::Iter<'a, Turn, imbl::shared_ptr::DefaultSharedPtr>>,
}

/// What is left to be given out in one look.
struct Look<'a> {
    snapshot: &'a Snapshot,
    config: &'a Config,
    now: Timestamp,
    free: Vec<&'a Session>,
    /// Sessions that will be free without being started for a task.
    coming: usize,
    /// Jobs by provider.
    jobs: BTreeMap<ProviderName, u32>,
    /// Claims for providers that may still be made.
    claims: usize,
}

/// The outcome for a task in this look.
enum Fate {
    Goes(Target),
    /// It waits for a session that is starting; the next of its lane may go.
    Passed,
    /// Nobody takes it or any other of its lane.
    Stuck,
}

/// The next choices. `skip` holds tasks that could not be claimed a moment ago, `claiming` claims that the snapshot doesn't
/// show yet.
#[must_use]
pub fn choose(
    snapshot: &Snapshot,
    config: &Config,
    skip: &BTreeMap<TaskKey, Timestamp>,
    claiming: &BTreeMap<TaskKey, Target>,
    now: Timestamp,
) -> Vec<Choice> {
    let mut choices = Vec::new();
    let mut look = Look::new(snapshot, config, claiming, now);
    if snapshot.paused || !look.is_open() {
        return choices;
    }
    let mut at_work: BTreeMap<&ProjectName, u64> = BTreeMap::new();
    let mut lines: Vec<Line> = Vec::new();
    for (lane, turns) in snapshot.tasks.lanes() {
        at_work.entry(&lane.project).or_insert_with(|| snapshot.tasks.at_work(&lane.project));
        lines.push(Line { lane, turns: turns.iter().peekable() });
    }
    for key in claiming.keys() {
        at_work.entry(&key.project).and_modify(|count| *count += 1);
    }
    while look.is_open()
        && let Some((at, key)) = first(&mut lines, &at_work)
    {
        let waits = !skip.contains_key(key) && !claiming.contains_key(key);
        let fate = match snapshot.tasks.get(key).filter(|_| waits) {
            Some(task) => look.fate(task),
            None => Fate::Passed,
        };
        match fate {
            Fate::Goes(to) => {
                *at_work.entry(&key.project).or_default() += 1;
                choices.push(Choice { task: key.clone(), to });
                lines[at].turns.next();
            }
            Fate::Passed => drop(lines[at].turns.next()),
            Fate::Stuck => drop(lines.remove(at)),
        }
    }
    choices
}

/// The task that is next, and its line's place. Lines without one are left out from then on.
fn first<'a>(lines: &mut Vec<Line<'a>>, at_work: &BTreeMap<&ProjectName, u64>) -> Option<(usize, &'a TaskKey)> {
    lines.retain_mut(|line| line.turns.peek().is_some());
    let urgent = lines.first()?.lane.priority;
    let heads = lines.iter_mut().take_while(|line| line.lane.priority == urgent).enumerate();
    let heads = heads.filter_map(|(at, line)| Some((at, at_work.get(&line.lane.project), *line.turns.peek()?)));
    let (at, _, (_, key)) = heads.min_by(|(_, a, one), (_, b, other)| a.cmp(b).then_with(|| one.cmp(other)))?;
    Some((at, key))
}

impl<'a> Look<'a> {
    fn new(snapshot: &'a Snapshot, config: &'a Config, claiming: &BTreeMap<TaskKey, Target>, now: Timestamp) -> Self {
        let mut busy: BTreeSet<&SessionName> =
            snapshot.requests.values().filter_map(|action| action.session()).collect();
        let mut jobs = route::busy(snapshot);
        for to in claiming.values() {
            match to {
                Target::Session { session, .. } => drop(busy.insert(session)),
                Target::Provider(name) => *jobs.entry(name.clone()).or_default() += 1,
            }
        }
        let free = |session: &&Session| {
            session.role == Role::Pool && !session.drained && session.task.is_none() && !busy.contains(&session.name)
        };
        let free: Vec<&Session> = snapshot.sessions.values().map(AsRef::as_ref).filter(free).collect();
        let coming = free.iter().filter(|session| matches!(session.phase, SessionPhase::Starting(_))).count();
        let under_way = claiming.values().filter(|to| matches!(to, Target::Provider(_))).count();
        Self { snapshot, config, now, free, coming, jobs, claims: TOGETHER.saturating_sub(under_way) }
    }

    /// Whether anybody could take a task.
    fn is_open(&self) -> bool {
        let providers = &self.snapshot.delegation.providers;
        let room = |name: &ProviderName, most: u32| self.jobs.get(name).is_none_or(|jobs| *jobs < most);
        !self.free.is_empty() || self.claims > 0 && providers.iter().any(|p| room(&p.name, p.max_jobs))
    }

    fn fate(&mut self, task: &Task) -> Fate {
        match route::pick(task, &self.snapshot.delegation, &self.jobs, self.now) {
            Pick::Here => self.here(task),
            Pick::Provider(name) if self.claims > 0 => {
                self.claims -= 1;
                *self.jobs.entry(name.clone()).or_default() += 1;
                Fate::Goes(Target::Provider(name))
            }
            Pick::Provider(_) | Pick::Wait(_) => Fate::Stuck,
        }
    }

    fn here(&mut self, task: &Task) -> Fate {
        let (snapshot, config) = (self.snapshot, self.config);
        let Some(project) = snapshot.projects.iter().find(|project| project.name == task.key.project) else {
            return Fate::Stuck;
        };
        let agent = task.spec.agent().unwrap_or(&config.pool.autonomous.agent).clone();
        let under = snapshot.under(&agent);
        if is_out(snapshot, &under, &agent) {
            return Fate::Stuck;
        }
        let need = Need {
            agent,
            account: under.usable().cloned(),
            // Without `.` and doubled separators, so that the same directory is always written the same.
            workdir: project.path.join(&task.spec.workdir).components().collect(),
        };
        let fits = self.free.iter().enumerate().filter_map(|(at, session)| {
            // A person who is attached, talked to it or began a text may want to continue.
            let alone = session.attached == 0 && !session.talked && !session.verdict.draft;
            Some((alone, fit(session, &need, config, self.now)?, Reverse(&session.name), at))
        });
        match fits.max() {
            Some((false, ..) | (_, Fit::Cold | Fit::Replace, ..)) if self.coming > 0 => {
                self.coming -= 1;
                Fate::Passed
            }
            Some((.., at)) => {
                let session = self.free.remove(at).name.clone();
                let Need { agent, account, workdir } = need;
                Fate::Goes(Target::Session { session, agent, account, workdir })
            }
            None => Fate::Stuck,
        }
    }
}

/// Whether this agent can't run now at all: its account is out or, without accounts, one of its sessions is at a limit.
#[must_use]
pub fn is_out(snapshot: &Snapshot, under: &Under<'_>, agent: &AgentName) -> bool {
    // A person's session stays at its limit until the person continues it, however long ago it ended.
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{
        event::Counts,
        identity::TextFacts,
        samples,
        session::Incarnation,
        snapshot::Project,
        task::{Phase, TaskSpec},
    };

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    /// Two projects and that many sessions at their prompt, the last of them still starting.
    fn picture(sessions: usize) -> Snapshot {
        let mut snapshot = Snapshot::empty(NOW);
        let project = |name: &str| Project {
            name: ProjectName::parse(name).expect("a name"),
            path: format!("/{name}").into(),
            counts: Counts::default(),
        };
        snapshot.projects = Arc::new(vec![project("a"), project("b")]);
        for n in 0..sessions {
            let name = SessionName::parse(&format!("pool-{n}")).expect("a name");
            let mut session = Session::new(name.clone(), Role::Pool, NOW);
            let agent = Config::default().pool.autonomous.agent;
            let incarnation = Incarnation { agent, workdir: "/a".into(), ..samples::incarnation(&name) };
            session.verdict.activity = Activity::Idle;
            session.phase =
                if n + 1 == sessions { SessionPhase::Starting(incarnation) } else { SessionPhase::Up(incarnation) };
            snapshot.sessions.insert(name, Arc::new(session));
        }
        snapshot
    }

    fn put(snapshot: &mut Snapshot, key: &str, priority: i32, age: i64, spec: TaskSpec) {
        let key = TaskKey::parse(key).expect("a key");
        let modified = Timestamp::from_second(age).expect("a time");
        let text = Some(TextFacts { modified, ..samples::text() });
        let phase = Phase::Queued;
        let task = Task { text, spec: Arc::new(spec), priority, phase, ..Task::new(key.clone(), NOW) };
        snapshot.tasks.insert(key, Arc::new(task));
    }

    fn chosen(snapshot: &Snapshot) -> Vec<String> {
        let choices = choose(snapshot, &Config::default(), &BTreeMap::new(), &BTreeMap::new(), NOW);
        choices.into_iter().map(|choice| choice.task.to_string()).collect()
    }

    #[test]
    fn every_free_session_gets_a_task_in_one_look_in_the_order_of_the_rule() {
        let mut snapshot = picture(5);
        for (key, priority, age) in
            [("a:old", 0, 1), ("a:older", 0, 0), ("b:new", 0, 9), ("a:late", 0, 8), ("b:urgent", 5, 9)]
        {
            put(&mut snapshot, key, priority, age, TaskSpec::default());
        }
        // The urgent one would replace an agent: it waits for the one that is starting. Then the projects take turns while both wait.
        assert_eq!(chosen(&snapshot), ["a:older", "b:new", "a:old", "a:late"]);
        assert_eq!(chosen(&picture(5)), [""; 0]);
    }

    #[test]
    fn what_can_go_nowhere_holds_up_nobody_and_is_looked_at_once() {
        let mut snapshot = picture(3);
        for n in 0..1000 {
            let spec = TaskSpec { workdir: "gone".to_owned(), ..TaskSpec::default() };
            put(&mut snapshot, &format!("c:{n}"), 9, n, spec);
        }
        put(&mut snapshot, "a:one", 0, 0, TaskSpec::default());
        let (config, claiming) = (Config::default(), BTreeMap::new());
        let stuck = snapshot.tasks.values().find(|task| task.priority == 9).expect("one");
        let fate = Look::new(&snapshot, &config, &claiming, NOW).fate(stuck);
        assert!(matches!(fate, Fate::Stuck), "its project is not in the configuration");
        assert_eq!(snapshot.tasks.lanes().count(), 2, "so it is asked for one of a thousand");
        assert_eq!(chosen(&snapshot), ["a:one"]);
    }

    #[test]
    fn a_claim_under_way_keeps_its_task_and_its_session() {
        let mut snapshot = picture(2);
        put(&mut snapshot, "a:one", 0, 0, TaskSpec::default());
        put(&mut snapshot, "a:two", 0, 1, TaskSpec::default());
        let choices = |claiming: &BTreeMap<TaskKey, Target>| {
            choose(&snapshot, &Config::default(), &BTreeMap::new(), claiming, NOW)
        };
        let first = choices(&BTreeMap::new()).remove(0);
        assert_eq!(first.task.to_string(), "a:one");
        assert_eq!(choices(&[(first.task, first.to)].into()), []);
    }
}
