//! The tree as a table: name, place, mode and render function of every entry. README, lookups, listings and tests use
//! it.

use std::path::PathBuf;

use jiff::Timestamp;

use super::{links, readme};
use crate::{
    model::{
        account::Account,
        ids::{AccountName, ProjectName, ProviderName, SessionName, TaskId, TaskKey},
        provider::Provider,
        session::Session,
        snapshot::{Project, Snapshot},
        task::Task,
    },
    render::{Picture, account, metrics, project, provider, root, session, status, status_json, task},
};

/// Through which part of the tree a thing is seen. A directory needs a number in each (`nodes`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum View {
    Root,
    Project,
}

/// A directory of the supervisor's own. `Project` is a real directory; only its overlaid rows are spots.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Object {
    Root,
    Tasks,
    ProjectTasks(ProjectName),
    Task(View, TaskKey),
    Projects,
    Project(ProjectName),
    Sessions,
    Session(SessionName),
    Accounts,
    Account(AccountName),
    /// A project's tasks that are at a provider; the first project's without a name.
    Delegated(Option<ProjectName>),
    /// One of them. Not a directory: its rows are files in `Delegated`, named by the task's id and the row's name.
    Job(TaskKey),
    Providers,
    Provider(ProviderName),
}

/// An object's directory, or one of its rows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Spot {
    pub object: Object,
    pub row: Option<usize>,
}

impl Spot {
    #[must_use]
    pub fn dir(object: Object) -> Self {
        Self { object, row: None }
    }
}

/// One line of the table.
#[derive(Debug)]
pub struct Row {
    pub name: &'static str,
    /// Permission bits. Directories are searched and listed by all whom the mount lets in; nothing is made in them.
    pub mode: u16,
    pub help: &'static str,
    pub what: What,
}

/// Who makes a row's content and who takes what is written.
#[derive(Debug, Clone, Copy)]
pub enum What {
    Root(fn(&Picture) -> String),
    Task(fn(&Picture, &Task) -> String),
    Session(fn(&Picture, &Session) -> String),
    Account(fn(&Picture, &Account) -> String),
    Project(fn(&Picture, &Project) -> String),
    Provider(fn(&Picture, &Provider) -> String),
    /// The task as written, from the real directories.
    TaskText,
    /// The task with its result, from `done/` or `failed/`.
    TaskResult,
    Config,
    /// The event log on disk.
    Log,
    /// Absent where the function has nothing to point at.
    Link(fn(&Picture, &Object) -> Option<PathBuf>),
    Dir(fn(&Object) -> Object),
    /// A real directory of the first project's queue, of the row's name.
    Queue,
    Control,
    Input,
    Keys,
}

const fn row(name: &'static str, mode: u16, help: &'static str, what: What) -> Row {
    Row { name, mode, help, what }
}

pub const ROOT_ROWS: &[Row] = &[
    row("README", 0o444, "this table", What::Root(readme::readme)),
    row("control", 0o600, "verbs; reading gives the verbs and the last outcomes", What::Control),
    row("status", 0o444, "accounts, sessions and queues for people, one screen", What::Root(status::status)),
    row("status.json", 0o444, "the same for programs, versioned", What::Root(status_json::status_json)),
    row("health", 0o444, "`ok`, or `degraded` and one reason a line", What::Root(root::health)),
    row(
        "leftovers",
        0o444,
        "what agents left running, a process a line; empty when nothing",
        What::Root(root::leftovers),
    ),
    row("events", 0o400, "what happened, JSON lines; grows, never blocks", What::Log),
    row("metrics", 0o444, "Prometheus text", What::Root(metrics::metrics)),
    row("config.yaml", 0o400, "effective configuration, secrets masked", What::Config),
    row("inbox", 0o755, "the first project's tasks; a file saved here is a task", What::Queue),
    row("drafts", 0o755, "never dispatched; mv to inbox/ sends", What::Queue),
    row("done", 0o755, "tasks with their results", What::Queue),
    row("failed", 0o755, "tasks that failed, with the reason", What::Queue),
    row(
        "delegated",
        0o755,
        "tasks at a provider; mv from inbox/ sends, mv back recalls",
        What::Dir(|_| Object::Delegated(None)),
    ),
    row("tasks", 0o555, "every unfinished task and recent finished ones, by id", What::Dir(|_| Object::Tasks)),
    row(
        "projects",
        0o555,
        "each project's whole queue directory, and its tasks/ and status",
        What::Dir(|_| Object::Projects),
    ),
    row("sessions", 0o555, "each tmux session with its agent", What::Dir(|_| Object::Sessions)),
    row("accounts", 0o555, "each account that agents run under", What::Dir(|_| Object::Accounts)),
    row("providers", 0o555, "each provider that does tasks over HTTP", What::Dir(|_| Object::Providers)),
];

pub const TASK_ROWS: &[Row] = &[
    row("task.md", 0o400, "the task as written", What::TaskText),
    row("state", 0o444, "queued held working delegated done failed rejected cancelled", What::Task(task::state)),
    row("why", 0o444, "where the state comes from", What::Task(task::why)),
    row("session", 0o444, "the session it runs or ran in; empty before", What::Task(task::session)),
    row("attempts", 0o444, "attempts begun so far", What::Task(task::attempts)),
    row("run", 0o444, "the present or last run or job, one `key: value` a line", What::Task(task::run)),
    row("events", 0o400, "its lines of events", What::Task(task::events)),
    row(
        "result.md",
        0o400,
        "the task with its result; before, as much of an answer as its provider has shown",
        What::TaskResult,
    ),
    row("control", 0o600, "verbs for this task", What::Control),
];

pub const SESSION_ROWS: &[Row] = &[
    row("state", 0o444, "starting idle working waiting stalled limited dead dedicated", What::Session(session::state)),
    row("why", 0o444, "where the state comes from: source, rule, text, age", What::Session(session::why)),
    row("task", 0o777, "link to the task it has; absent without one", What::Link(links::task_link)),
    row("agent", 0o444, "the agent's name in the configuration", What::Session(session::agent)),
    row("account", 0o444, "the account it runs under", What::Session(session::account)),
    row("resume-id", 0o444, "id by which the agent resumes its conversation", What::Session(session::resume_id)),
    row("pid", 0o444, "process id of the program in the pane", What::Session(session::pid)),
    row("pane", 0o400, "the screen, text only", What::Session(session::pane)),
    row("pane.ansi", 0o400, "the screen with colours", What::Session(session::pane_ansi)),
    row("scrollback", 0o400, "scrollback and screen, text only", What::Session(session::scrollback)),
    row("input", 0o600, "text for the agent, one message when the file is closed", What::Input),
    row("keys", 0o600, "tmux key names, one write a batch", What::Keys),
    row("control", 0o600, "verbs for this session", What::Control),
];

pub const ACCOUNTS_ROWS: &[Row] = &[row(
    "active",
    0o644,
    "the active account, one a line for each kind of agent; writing a name swaps",
    What::Control,
)];

pub const ACCOUNT_ROWS: &[Row] = &[
    row("home", 0o777, "link to its home", What::Link(links::home_link)),
    row("state", 0o444, "active available limited suspect broken", What::Account(account::state)),
    row("why", 0o444, "where the state comes from, until when, and how much is used", What::Account(account::why)),
    row(
        "limits.json",
        0o444,
        "how much of each window is used, and the limit it is at",
        What::Account(account::limits),
    ),
    row(
        "resets-at",
        0o444,
        "when it is tried again; empty without a limit that ends",
        What::Account(account::resets_at),
    ),
    row("sessions", 0o444, "sessions that run under it, one a line", What::Account(account::sessions)),
];

/// Laid over a project's real directory; real entries of these names are hidden.
pub const PROJECT_ROWS: &[Row] = &[
    row("tasks", 0o555, "this project's tasks, by id", What::Dir(links::tasks_dir)),
    row("delegated", 0o755, "this project's tasks at a provider", What::Dir(links::delegated_dir)),
    row("status", 0o444, "this project's queue for people", What::Project(project::status)),
];

/// Names are what follows the task's id.
pub const JOB_ROWS: &[Row] = &[
    row(".md", 0o400, "the task as written", What::TaskText),
    row(".json", 0o444, "provider, job, state, since when", What::Task(task::job)),
];

pub const PROVIDER_ROWS: &[Row] = &[
    row("state", 0o444, "usable exhausted cooling broken", What::Provider(provider::state)),
    row("why", 0o444, "what it said, and when it is tried again", What::Provider(provider::why)),
    row("jobs", 0o444, "tasks at it, one a line: task, job, since", What::Provider(provider::jobs)),
    row(
        "counters.json",
        0o444,
        "jobs active, completed and failed, and their cost, since the daemon's start",
        What::Provider(provider::counters),
    ),
];

impl Object {
    #[must_use]
    pub fn rows(&self) -> &'static [Row] {
        match self {
            Self::Root => ROOT_ROWS,
            Self::Task(..) => TASK_ROWS,
            Self::Session(_) => SESSION_ROWS,
            Self::Accounts => ACCOUNTS_ROWS,
            Self::Account(_) => ACCOUNT_ROWS,
            Self::Project(_) => PROJECT_ROWS,
            Self::Job(_) => JOB_ROWS,
            Self::Provider(_) => PROVIDER_ROWS,
            Self::Tasks
            | Self::ProjectTasks(_)
            | Self::Projects
            | Self::Sessions
            | Self::Delegated(_)
            | Self::Providers => &[],
        }
    }

    /// Permission bits of its directory. Nothing is made in any; what may be moved in and out is a verb.
    #[must_use]
    pub fn mode(&self) -> u16 {
        if matches!(self, Self::Delegated(_)) { 0o755 } else { 0o555 }
    }

    /// The project whose tasks at providers it shows.
    #[must_use]
    pub fn delegates(&self, snapshot: &Snapshot) -> Option<ProjectName> {
        let Self::Delegated(project) = self else { return None };
        match project {
            Some(name) => Some(name.clone()),
            None => snapshot.projects.first().map(|project| project.name.clone()),
        }
    }

    /// Whether it exists in this snapshot. `None` if it is gone.
    #[must_use]
    pub fn since(&self, snapshot: &Snapshot) -> Option<Timestamp> {
        let started = snapshot.timeline.shown(snapshot.since);
        let since = match self {
            Self::Root | Self::Tasks | Self::Projects | Self::Sessions => return Some(snapshot.at),
            Self::Accounts | Self::Providers => return Some(started),
            Self::Delegated(None) => return Some(snapshot.at),
            Self::ProjectTasks(name) | Self::Project(name) | Self::Delegated(Some(name)) => {
                return snapshot.projects.iter().any(|project| project.name == *name).then_some(snapshot.at);
            }
            Self::Task(_, key) => snapshot.tasks.get(key).map(|task| task.since),
            Self::Job(key) => snapshot.tasks.get(key).filter(|task| task.is_delegated()).map(|task| task.since),
            Self::Provider(name) => snapshot.delegation.get(name).map(|provider| provider.since),
            Self::Session(name) => snapshot.sessions.get(name).map(|session| session.stated.since),
            Self::Account(name) => {
                return snapshot.accounts.iter().any(|account| account.name == *name).then_some(started);
            }
        };
        since.map(|at| snapshot.timeline.shown(at))
    }

    /// Its contents besides its rows.
    #[must_use]
    pub fn children(&self, snapshot: &Snapshot) -> Vec<(String, Spot)> {
        let dir = |name: String, object| (name, Spot::dir(object));
        match self {
            Self::Tasks => {
                let keys = snapshot.tasks.keys();
                keys.map(|key| dir(snapshot.display_id(key), Self::Task(View::Root, key.clone()))).collect()
            }
            Self::ProjectTasks(name) => {
                let keys = snapshot.tasks.keys().filter(|key| key.project == *name);
                keys.map(|key| dir(key.id.to_string(), Self::Task(View::Project, key.clone()))).collect()
            }
            Self::Sessions => {
                let sessions = snapshot.shown_sessions();
                sessions.map(|one| dir(one.name.to_string(), Self::Session(one.name.clone()))).collect()
            }
            Self::Accounts => {
                let accounts = snapshot.accounts.iter();
                accounts.map(|account| dir(account.name.to_string(), Self::Account(account.name.clone()))).collect()
            }
            Self::Providers => {
                let providers = snapshot.delegation.providers.iter();
                providers.map(|one| dir(one.name.to_string(), Self::Provider(one.name.clone()))).collect()
            }
            Self::Delegated(_) => {
                let project = self.delegates(snapshot);
                let tasks = snapshot.tasks.values();
                let own = tasks.filter(|task| Some(&task.key.project) == project.as_ref() && task.is_delegated());
                own.flat_map(|task| job_files(&task.key)).collect()
            }
            Self::Root
            | Self::Task(..)
            | Self::Projects
            | Self::Project(_)
            | Self::Session(_)
            | Self::Account(_)
            | Self::Job(_)
            | Self::Provider(_) => Vec::new(),
        }
    }

    /// The same for one name, without listing.
    #[must_use]
    pub fn child(&self, snapshot: &Snapshot, name: &str) -> Option<Spot> {
        let object = match self {
            Self::Tasks => {
                let shown = |key: &TaskKey| snapshot.tasks.contains_key(key) && snapshot.display_id(key) == name;
                let bare = snapshot.projects.iter().filter_map(|project| {
                    TaskKey::parse(&format!("{}:{name}", project.name)).filter(|key| key.project == project.name)
                });
                let key = TaskKey::parse(name).into_iter().chain(bare).find(shown)?;
                Self::Task(View::Root, key)
            }
            Self::ProjectTasks(project) => {
                let key = TaskKey::parse(&format!("{project}:{name}"))?;
                snapshot.tasks.contains_key(&key).then_some(Self::Task(View::Project, key))?
            }
            Self::Sessions => {
                let name = SessionName::parse(name).ok()?;
                snapshot.sessions.get(&name).is_some_and(|one| one.is_shown()).then_some(Self::Session(name))?
            }
            Self::Accounts => {
                let account = snapshot.accounts.iter().find(|account| account.name.as_str() == name)?;
                Self::Account(account.name.clone())
            }
            Self::Providers => {
                let provider = snapshot.delegation.providers.iter().find(|one| one.name.as_str() == name)?;
                Self::Provider(provider.name.clone())
            }
            Self::Delegated(_) => {
                let stem = name.strip_suffix(".json").or_else(|| name.strip_suffix(".md"))?;
                let id = TaskId::from_file_name(&format!("{stem}.md"))?;
                let key = TaskKey::new(&self.delegates(snapshot)?, &id);
                let found = job_files(&key).into_iter().find(|(file, _)| file == name);
                return found.map(|(_, spot)| spot).filter(|spot| spot.object.since(snapshot).is_some());
            }
            Self::Root
            | Self::Task(..)
            | Self::Projects
            | Self::Project(_)
            | Self::Session(_)
            | Self::Account(_)
            | Self::Job(_)
            | Self::Provider(_) => return None,
        };
        Some(Spot::dir(object))
    }
}

fn job_files(key: &TaskKey) -> Vec<(String, Spot)> {
    let spot = |row| Spot { object: Object::Job(key.clone()), row: Some(row) };
    JOB_ROWS.iter().enumerate().map(|(index, row)| (format!("{}{}", key.id, row.name), spot(index))).collect()
}
