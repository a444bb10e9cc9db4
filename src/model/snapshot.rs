//! The snapshot: one consistent, immutable view of the supervisor, from which everything is shown.
//! `live` publishes one after each change; every face and service reads it.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde::Serialize;

use crate::model::{
    account::Account,
    agent::Leftover,
    command::{Action, RefusedKind, Writer},
    event::{Counts, Ignored, LogLine, Memory},
    ids::{AccountName, AgentName, ProjectName, RunId, SessionName, TaskId, TaskKey},
    notice::Told,
    provider::Delegation,
    rights::Rights,
    session::Session,
    steady::Timeline,
    swap::Swaps,
    tasks::Tasks,
};

/// Lines of `events` kept in memory for `tasks/<id>/events`. Chosen: some ten a task, for `RECENT_FINISHED` tasks.
pub const RECENT_EVENTS: usize = 2000;
/// Finished tasks that stay in `tasks/`. Chosen: a day's work of a pool, still readable with `ls`.
pub const RECENT_FINISHED: usize = 200;
/// Outcomes that `control` shows. Chosen: about two screens.
pub const RECENT_OUTCOMES: usize = 50;

#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Identifies the state directory; our markers carry it, so that foreign markers are recognised.
    pub supervisor: Arc<str>,
    /// Increases by one with each snapshot.
    pub seq: u64,
    /// When it was made, in wall-clock time; every other time in it is steady.
    pub at: Timestamp,
    /// Maps steady time to the wall clock.
    pub timeline: Arc<Timeline>,
    /// When the daemon started.
    pub since: Timestamp,
    pub paused: bool,
    /// Rises when somebody asks for a rescan.
    pub rescan: u64,
    pub projects: Arc<Vec<Project>>,
    pub accounts: Arc<Vec<Account>>,
    /// The agent of tasks that name none.
    pub pool_agent: Option<AgentName>,
    /// Whose tasks may do what.
    pub rights: Arc<Rights>,
    /// `lifecycle.restart_first` and `restart_max`.
    pub restarts: (Duration, Duration),
    pub swaps: Arc<Swaps>,
    pub delegation: Arc<Delegation>,
    pub tasks: Tasks,
    /// Files in inboxes that are no tasks; no entry where there are none.
    pub ignored: imbl::OrdMap<ProjectName, Arc<Vec<Ignored>>>,
    pub sessions: imbl::OrdMap<SessionName, Arc<Session>>,
    /// What was asked for and isn't carried out yet, by its rising number.
    pub requests: imbl::OrdMap<u64, Arc<Action>>,
    /// What is wrong, by topic; empty is healthy.
    pub health: imbl::OrdMap<String, String>,
    /// Notifications by incident, while it lasts or until it is delivered.
    pub notices: imbl::OrdMap<String, Arc<Told>>,
    pub outcomes: Arc<VecDeque<Outcome>>,
    pub recent: imbl::Vector<Arc<LogLine>>,
    /// Results so far, since the daemon started: done, failed, cancelled.
    pub finished: [u64; 3],
    pub memory: Memory,
    /// What agents that are gone left running, oldest first; `None` before the first look.
    pub leftovers: Option<Arc<Vec<Leftover>>>,
    /// The texts of tasks that are worked on, as they were claimed, by run.
    pub texts: imbl::OrdMap<RunId, Arc<str>>,
    /// Which task a start of an agent had, by its token; as long as anything of it may run.
    pub starts: imbl::OrdMap<String, TaskKey>,
}

/// A project and the contents of its directories.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Project {
    pub name: ProjectName,
    /// The project's own directory; the queue is `.agent-queue` in it.
    pub path: std::path::PathBuf,
    pub counts: Counts,
}

/// What became of one write to a control file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Its line in `events`.
    pub seq: u64,
    pub at: Timestamp,
    pub writer: Option<Writer>,
    /// Which file: `control`, `tasks/x/control`, `sessions/s/keys`.
    pub file: String,
    /// The text as written, quoted.
    pub text: String,
    pub result: Result<String, (RefusedKind, String)>,
}

/// Under which account an agent's sessions run now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Under<'a> {
    /// The configuration has no account for it: it uses its own home.
    NoAccount,
    Account(&'a Account),
    /// Its active account can't be used, and none has taken its place yet.
    Blocked(&'a Account),
}

impl Under<'_> {
    /// The active account's name, usable or not.
    #[must_use]
    pub fn name(&self) -> Option<&AccountName> {
        match self {
            Self::Account(account) | Self::Blocked(account) => Some(&account.name),
            Self::NoAccount => None,
        }
    }

    /// The account's name; `None` where the agent has none or it can't be used.
    #[must_use]
    pub fn usable(&self) -> Option<&AccountName> {
        match self {
            Self::Account(account) => Some(&account.name),
            Self::NoAccount | Self::Blocked(_) => None,
        }
    }
}

impl Snapshot {
    /// The initial snapshot of a supervisor that knows nothing yet.
    #[must_use]
    pub fn empty(now: Timestamp) -> Self {
        Self {
            supervisor: "".into(),
            seq: 0,
            at: now,
            timeline: Arc::default(),
            since: now,
            paused: false,
            rescan: 0,
            projects: Arc::default(),
            accounts: Arc::default(),
            pool_agent: None,
            rights: Arc::default(),
            restarts: (Duration::ZERO, Duration::ZERO),
            swaps: Arc::default(),
            delegation: Arc::default(),
            tasks: Tasks::default(),
            ignored: imbl::OrdMap::new(),
            sessions: imbl::OrdMap::new(),
            requests: imbl::OrdMap::new(),
            health: imbl::OrdMap::new(),
            notices: imbl::OrdMap::new(),
            outcomes: Arc::default(),
            recent: imbl::Vector::new(),
            finished: [0; 3],
            memory: Memory::default(),
            leftovers: None,
            texts: imbl::OrdMap::new(),
            starts: imbl::OrdMap::new(),
        }
    }

    #[must_use]
    pub fn account(&self, name: &AccountName) -> Option<&Account> {
        self.accounts.iter().find(|account| account.name == *name)
    }

    /// Under which account sessions of this agent run now.
    #[must_use]
    pub fn under(&self, agent: &AgentName) -> Under<'_> {
        match self.accounts.iter().find(|account| account.active && account.agents.contains(agent)) {
            None => Under::NoAccount,
            Some(account) if account.is_usable() => Under::Account(account),
            Some(account) => Under::Blocked(account),
        }
    }

    /// The sessions that there are, in the names' order.
    pub fn shown_sessions(&self) -> impl Iterator<Item = &Arc<Session>> {
        self.sessions.values().filter(|session| session.is_shown())
    }

    /// The name of a task in the root's `tasks/`: its id, or `project:id` where a project before it has the same id.
    #[must_use]
    pub fn display_id(&self, key: &TaskKey) -> String {
        let earlier = self.projects.iter().take_while(|project| project.name != key.project);
        for project in earlier {
            if self.tasks.contains_key(&TaskKey::new(&project.name, &key.id)) {
                return key.to_string();
            }
        }
        key.id.to_string()
    }

    /// Every task that `text` may mean: `project:id`, or a bare id in any project, in the configuration's order.
    #[must_use]
    pub fn find_tasks(&self, text: &str) -> Vec<TaskKey> {
        if let Some(key) = TaskKey::parse(text).filter(|key| self.tasks.contains_key(key)) {
            return vec![key];
        }
        let Some(id) = TaskId::from_file_name(&format!("{text}.md")) else { return Vec::new() };
        let keys = self.projects.iter().map(|project| TaskKey::new(&project.name, &id));
        keys.filter(|key| self.tasks.contains_key(key)).collect()
    }
}
