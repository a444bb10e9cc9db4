//! Reads a configuration file.
//! In: a path or a text, and the environment. Out: a checked configuration, or every problem of the file at once.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
};

use super::{
    api,
    decode::{Context, Setting},
    error::{LoadError, Place, Problem, Problems},
    homes, node, notifications,
    paths::{self, Lookup},
    providers,
    schema::{AgentKind, CLAUDE_LINK, Config, SHARED_ROOT, default_agents},
};
use crate::model::{
    ids::{AgentName, SessionName},
    spelling::nearest,
};

/// Where the keys of a file stand.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Places(BTreeMap<String, Place>);

impl Places {
    /// Whether the key stands in the file.
    #[must_use]
    pub fn stands(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }

    /// Whether the key, or something around it, stands in the file.
    #[must_use]
    pub fn around(&self, path: &str) -> bool {
        path.split(['.', '[']).next().is_some_and(|top| self.0.contains_key(top))
    }

    /// The place of `pool.dedicated[0].name`, or of the nearest thing around it that stands in the file.
    #[must_use]
    pub fn of(&self, path: &str) -> Place {
        let mut path = path;
        loop {
            if let Some(place) = self.0.get(path) {
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
}

/// Reads and checks the file.
///
/// # Errors
/// When it can't be read, or with everything that is wrong in it.
pub fn load(file: &Path, env: Lookup<'_>) -> Result<Loaded, LoadError> {
    let text =
        std::fs::read_to_string(file).map_err(|source| LoadError::Unreadable { file: file.to_owned(), source })?;
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    parse(&text, &file, env).map_err(LoadError::Wrong)
}

/// Checks a text that stands in `file`, whose directory is where relative paths begin.
///
/// # Errors
/// With everything that is wrong.
pub fn parse(text: &str, file: &Path, env: Lookup<'_>) -> Result<Loaded, Problems> {
    let wrong = |mut list: Vec<Problem>| {
        list.sort_by_key(|problem| problem.place);
        list.dedup();
        Problems { file: file.to_owned(), text: text.to_owned(), list }
    };
    let tree = node::read(text).map_err(|problem| wrong(vec![problem]))?;
    let home = paths::home(env);
    let base = file.parent().unwrap_or(Path::new("/"));
    let mut context = Context::new(base, home.as_deref(), env);
    let decoded = Config::decode(&tree, &mut context);
    let (mut problems, places) = (context.problems, Places(context.places));
    let Some(mut config) = decoded else { return Err(wrong(problems)) };
    for (name, agent) in default_agents() {
        config.agents.entry(name).or_insert(agent);
    }
    // Without a home directory there is nothing that the link could be for; `meaning` asks for `shared.root` where it matters.
    if !places.stands("claude_link") {
        config.claude_link = paths::resolve(CLAUDE_LINK, base, home.as_deref()).ok();
    }
    if !places.stands("shared.root")
        && let Ok(root) = paths::resolve(SHARED_ROOT, base, home.as_deref())
    {
        config.shared.root = root;
    }
    // Rows that could not be read are missing from the lists, so numbers and names would be wrong: say these first.
    if problems.is_empty() {
        problems = meaning(&config, &places);
    }
    if problems.is_empty() {
        Ok(Loaded { config, places, file: file.to_owned(), text: text.to_owned() })
    } else {
        Err(wrong(problems))
    }
}

/// What is wrong with values that are each right alone.
fn meaning(config: &Config, places: &Places) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut wrong = |path: &str, message: String| problems.push(Problem::new(places.of(path), message));

    twice("projects", config.projects.iter().map(|p| p.name.as_str()), "name", &mut wrong);
    twice("projects", config.projects.iter().map(|p| p.path.to_string_lossy()), "path", &mut wrong);
    twice("accounts", config.accounts.iter().map(|a| a.name.as_str()), "name", &mut wrong);
    twice("accounts", config.accounts.iter().map(|a| a.home.to_string_lossy()), "home", &mut wrong);
    twice("pool.dedicated", config.pool.dedicated.iter().map(|d| d.name.as_str()), "name", &mut wrong);

    let pool = &config.pool.autonomous;
    if pool.min > pool.max {
        wrong("pool.autonomous.min", format!("`min` ({}) is more than `max` ({})", pool.min, pool.max));
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
        if config.agent(name).is_none() {
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
    for (n, dedicated) in config.pool.dedicated.iter().enumerate() {
        if let Some(agent) = &dedicated.agent {
            agent_known(&format!("pool.dedicated[{n}].agent"), agent);
        }
    }

    for (name, agent) in &config.agents {
        let at = |key: &str| format!("agents.{name}.{key}");
        match agent.kind {
            AgentKind::Command if agent.run.is_empty() => {
                wrong(&at("run"), format!("the agent `{name}` is a command and needs `run: [PROGRAM, ARGUMENT …]`"));
            }
            AgentKind::Command if agent.program.is_some() || !agent.args.is_empty() => {
                wrong(&at("run"), format!("the agent `{name}` is a command: program and arguments stand in `run`"));
            }
            AgentKind::Claude | AgentKind::Codex | AgentKind::Gemini | AgentKind::Opencode | AgentKind::Demo
                if !agent.run.is_empty() =>
            {
                wrong(&at("run"), format!("`run` is for agents of kind command; `{name}` has `program` and `args`"));
            }
            AgentKind::Claude
            | AgentKind::Codex
            | AgentKind::Gemini
            | AgentKind::Opencode
            | AgentKind::Demo
            | AgentKind::Command => {}
        }
    }

    homes::meaning(config, &mut wrong);
    api::meaning(&config.api, &mut wrong);
    providers::meaning(&config.providers, &config.delegation.auto, &mut wrong);
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

/// More sessions than any machine runs; a typing error otherwise makes thousands.
const MOST_SESSIONS: u32 = 1000;

fn twice<T: AsRef<str>>(list: &str, values: impl Iterator<Item = T>, key: &str, wrong: &mut impl FnMut(&str, String)) {
    let mut seen: HashMap<String, usize> = HashMap::new();
    for (n, value) in values.enumerate() {
        let value = value.as_ref();
        if let Some(first) = seen.get(value) {
            let message = format!("{key} {value:?} stands already in {list}[{first}]");
            wrong(&format!("{list}[{n}].{key}"), message);
        } else {
            seen.insert(value.to_owned(), n);
        }
    }
}
