//! Loads a configuration file.
//! Takes a path or a text, and the environment; returns a checked configuration or every problem of the file at once.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
};

use super::{
    agents, api,
    decode::{Context, Setting},
    error::{LoadError, Place, Problem, Problems},
    homes, node, notifications,
    paths::{self, Lookup},
    providers,
    schema::{CLAUDE_LINK, Config, SHARED_ROOT, default_agents},
    units::Secret,
};
use crate::model::{
    ids::{AgentName, SessionName},
    spelling::nearest,
};

/// Positions of a file's keys.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Places {
    of: BTreeMap<String, Place>,
    /// Keys whose values could not be read: a default, or nothing, took their place.
    unread: BTreeSet<String>,
}

impl Places {
    /// Whether the file has the key.
    #[must_use]
    pub fn stands(&self, path: &str) -> bool {
        self.of.contains_key(path)
    }

    /// Whether the value, or something in it, is not what the file says, since that could not be read.
    #[must_use]
    pub fn doubtful(&self, path: &str) -> bool {
        let below = |unread: &String| {
            unread.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        self.unread.iter().any(below)
    }

    /// Whether the file has the key, or one of its parents.
    #[must_use]
    pub fn around(&self, path: &str) -> bool {
        path.split(['.', '[']).next().is_some_and(|top| self.of.contains_key(top))
    }

    /// Position of `pool.dedicated[0].name`, or of its nearest parent in the file.
    #[must_use]
    pub fn of(&self, path: &str) -> Place {
        let mut path = path;
        loop {
            if let Some(place) = self.of.get(path) {
                return *place;
            }
            match path.rfind(['.', '[']) {
                Some(cut) => path = &path[..cut],
                None => return Place::START,
            }
        }
    }
}

/// A configuration and where it came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub config: Config,
    pub places: Places,
    pub file: std::path::PathBuf,
    pub text: String,
    /// What is wrong in it; nothing in one that a daemon may run with.
    pub problems: Vec<Problem>,
    /// Every secret of it.
    pub secrets: Vec<Secret>,
}

impl Loaded {
    fn sound(self) -> Result<Self, Problems> {
        if self.problems.is_empty() {
            return Ok(self);
        }
        Err(Problems { file: self.file, text: self.text, list: self.problems })
    }
}

/// Reads and checks the file.
///
/// # Errors
/// When it can't be read, or with everything that is wrong in it.
pub fn load(file: &Path, env: Lookup<'_>) -> Result<Loaded, LoadError> {
    survey(file, env)?.sound().map_err(LoadError::Wrong)
}

/// What can be read of the file, with defaults for what can't, and everything that is wrong in it.
///
/// # Errors
/// When nothing of it can be read.
pub fn survey(file: &Path, env: Lookup<'_>) -> Result<Loaded, LoadError> {
    let text =
        std::fs::read_to_string(file).map_err(|source| LoadError::Unreadable { file: file.to_owned(), source })?;
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    read(&text, &file, env).map_err(LoadError::Wrong)
}

/// Checks a text from `file`, to whose directory relative paths refer.
///
/// # Errors
/// With everything that is wrong.
pub fn parse(text: &str, file: &Path, env: Lookup<'_>) -> Result<Loaded, Problems> {
    read(text, file, env)?.sound()
}

fn read(text: &str, file: &Path, env: Lookup<'_>) -> Result<Loaded, Problems> {
    let nothing = |list| Problems { file: file.to_owned(), text: text.to_owned(), list };
    let tree = node::read(text).map_err(|problem| nothing(vec![problem]))?;
    let home = paths::home(env);
    let base = file.parent().unwrap_or(Path::new("/"));
    let mut context = Context::new(base, home.as_deref(), env);
    let decoded = Config::decode(&tree, &mut context);
    let Context { mut problems, places, unread, secrets, .. } = context;
    let places = Places { of: places, unread };
    let Some(mut config) = decoded else { return Err(nothing(problems)) };
    for (name, agent) in default_agents() {
        config.agents.entry(name).or_insert(agent);
    }
    agents::read_rules(&mut config);
    // Without a home directory there is nothing that the link could be for; `meaning` asks for `shared.root` where it matters.
    if !places.stands("claude_link") {
        config.claude_link = paths::resolve(CLAUDE_LINK, base, home.as_deref()).ok();
    }
    if !places.stands("shared.root")
        && let Ok(root) = paths::resolve(SHARED_ROOT, base, home.as_deref())
    {
        config.shared.root = root;
    }
    problems.extend(meaning(&config, &places));
    problems.sort_by_key(|problem| problem.place);
    problems.dedup();
    Ok(Loaded { config, places, file: file.to_owned(), text: text.to_owned(), problems, secrets })
}

/// What is wrong with values that are each right alone.
fn meaning(config: &Config, places: &Places) -> Vec<Problem> {
    let mut problems = Vec::new();
    // Beside a value that could not be read others seem wrong that are not: that one first.
    let mut wrong = |path: &str, message: String| {
        let around = path.rfind('.').map_or(path, |cut| &path[..cut]);
        if !places.doubtful(around) {
            problems.push(Problem::new(places.of(path), message));
        }
    };

    let mut twice = |list: &str, values: Vec<Cow<'_, str>>, key: &str| {
        let mut seen = HashMap::new();
        for (n, value) in values.into_iter().enumerate() {
            match seen.get(&value) {
                Some(first) => {
                    let Place { line, column } = places.of(&format!("{list}[{first}].{key}"));
                    let message = format!("{key} {value:?} stands already at {line}:{column}");
                    wrong(&format!("{list}[{n}].{key}"), message);
                }
                None => drop(seen.insert(value, n)),
            }
        }
    };
    twice("projects", config.projects.iter().map(|p| p.name.as_str().into()).collect(), "name");
    twice("projects", config.projects.iter().map(|p| p.path.to_string_lossy()).collect(), "path");
    twice("accounts", config.accounts.iter().map(|a| a.name.as_str().into()).collect(), "name");
    twice("accounts", config.accounts.iter().map(|a| a.home.to_string_lossy()).collect(), "home");
    twice("pool.dedicated", config.pool.dedicated.iter().map(|d| d.name.as_str().into()).collect(), "name");

    let pool = &config.pool.autonomous;
    if pool.min > pool.max {
        wrong("pool.autonomous.min", format!("`min` ({}) is more than `max` ({})", pool.min, pool.max));
    }
    if pool.nice > NICEST {
        wrong("pool.autonomous.nice", format!("`nice` is {}; {NICEST} is the most", pool.nice));
    }
    if pool.max > MOST_SESSIONS {
        wrong("pool.autonomous.max", format!("`max` is {}; {MOST_SESSIONS} sessions are the most", pool.max));
    } else if pool.start_index.checked_add(pool.max).is_none() {
        wrong("pool.autonomous.start_index", "`start_index` is too large".to_owned());
    } else if let Err(bad) =
        SessionName::parse(&format!("{}{}", pool.prefix, pool.start_index.saturating_add(pool.max)))
    {
        wrong("pool.autonomous.prefix", format!("`prefix` can't begin the name of a tmux session: {bad}"));
    } else {
        let own: BTreeSet<SessionName> = pool.names().collect();
        for (n, dedicated) in config.pool.dedicated.iter().enumerate() {
            if own.contains(&dedicated.name) {
                let message = format!(
                    "the dedicated session `{}` has a name of the autonomous ones ({}{} to {}{}); rename it or change `prefix`",
                    dedicated.name,
                    pool.prefix,
                    pool.start_index,
                    pool.prefix,
                    pool.start_index + pool.max.saturating_sub(1),
                );
                wrong(&format!("pool.dedicated[{n}].name"), message);
            }
        }
    }

    let mut agent_known = |path: &str, name: &AgentName| {
        if config.agent(name).is_none() && !places.stands(&format!("agents.{name}")) {
            let near = nearest(name.as_str(), config.agents.keys().map(AgentName::as_str));
            let hint = near.map_or_else(
                || format!("known: {}", config.agents.keys().map(AgentName::as_str).collect::<Vec<_>>().join(", ")),
                |near| format!("did you mean `{near}`?"),
            );
            wrong(path, format!("no agent is called `{name}`; {hint}"));
        }
    };
    agent_known("pool.autonomous.agent", &pool.agent);
    for (n, account) in config.accounts.iter().enumerate() {
        agent_known(&format!("accounts[{n}].agent"), &account.agent);
    }
    for (n, row) in config.agent_by_words.iter().enumerate() {
        agent_known(&format!("agent_by_words[{n}].agent"), &row.agent);
    }
    for (n, dedicated) in config.pool.dedicated.iter().enumerate() {
        if let Some(agent) = &dedicated.agent {
            agent_known(&format!("pool.dedicated[{n}].agent"), agent);
        }
    }

    agents::meaning(config, &mut wrong);
    homes::meaning(config, &mut wrong);
    api::meaning(&config.api, &mut wrong);
    providers::meaning(&config.providers, &config.delegation.auto, &|path| places.stands(path), &mut wrong);
    notifications::meaning(&config.notifications, &mut wrong);

    let life = &config.lifecycle;
    if life.restart_first > life.restart_max {
        wrong("lifecycle.restart_first", "`restart_first` is longer than `restart_max`".to_owned());
    }
    let never_zero = [
        ("lifecycle.reconcile", life.reconcile),
        ("lifecycle.restart_first", life.restart_first),
        ("janitor.interval", config.janitor.interval),
    ];
    for (path, value) in never_zero {
        if value.is_zero() {
            wrong(path, "must be more than zero".to_owned());
        }
    }
    problems
}

/// Most sessions of a pool. Chosen: more than any machine runs; a typing error would otherwise start thousands.
const MOST_SESSIONS: u32 = 1000;

/// The largest niceness (setpriority(2)).
const NICEST: u32 = 19;
