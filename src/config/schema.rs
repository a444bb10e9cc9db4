//! Every configuration key with its type and default, as tables.
//! Defines the types that the rest of the program reads. Defaults are choices: `config.example.yaml` says what each is for.
//! Validates nothing: `check` does.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use serde::Serializer;

use super::{
    decode::{Context, Setting, scalar},
    node::Node,
    notifications::Notifications,
    providers::{Delegation, Provider},
    rows::{row, section},
    units::{Bytes, Env, FromEnv, FromFile, Secret, Size, Socket, secret_of},
};
use crate::{
    model::{
        by_words::ByWords,
        ids::{AccountName, AgentName, ProjectName, ProviderName, SessionName},
        rights::{Rights, Tasks},
    },
    rules::Kind,
};

/// Defaults that begin at the home directory, which only the reader of a file knows.
pub(super) const CLAUDE_LINK: &str = "~/.claude";
pub(super) const SHARED_ROOT: &str = "~";

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

section! {
    /// The whole configuration, defaults included.
    Config {
        projects: Vec<Project> = Vec::new();
        accounts: Vec<Account> = Vec::new();
        /// Leads the operator's own `claude` to the active account's home; `null` leaves it alone.
        claude_link: Option<PathBuf> = Some(PathBuf::from(CLAUDE_LINK));
        shared: Shared = Shared::default();
        pool: Pool = Pool::default();
        /// Who does a task that names no agent and has one of these words in its name or text; the first that fits.
        agent_by_words: Vec<AgentByWords> = Vec::new();
        /// What agents are made of. The built-in rows `claude` and `codex` are there unless the file has its own.
        agents: BTreeMap<AgentName, Agent> = default_agents();
        dispatcher: Dispatcher = Dispatcher::default();
        watcher: Watcher = Watcher::default();
        quota: Quota = Quota::default();
        switcher: Switcher = Switcher::default();
        lifecycle: Lifecycle = Lifecycle::default();
        tmux: Tmux = Tmux::default();
        mount: Mount = Mount::default();
        control: Control = Control::default();
        api: Api = Api::default();
        /// Who does tasks over HTTP; none unless given.
        providers: BTreeMap<ProviderName, Provider> = BTreeMap::new();
        delegation: Delegation = Delegation::default();
        notifications: Notifications = Notifications::default();
        janitor: Janitor = Janitor::default();
    }
}

row! {
    /// A directory with an `.agent-queue`.
    Project {
        name: ProjectName;
        path: PathBuf;
        --
    }
}

row! {
    /// One configuration home of an agent CLI.
    Account {
        name: AccountName;
        home: PathBuf;
        --
        /// The agent whose home this is; every agent of the same kind can use it.
        agent: AgentName = agent_name(DEFAULT_AGENTS[0].0);
        env: Env = Env::default();
        /// We may write answers to an agent's first-run questions into this home.
        owned: bool = false;
    }
}

section! {
    /// What the homes of interchangeable accounts share, so that conversations can be resumed.
    Shared {
        /// Where the shared directories are.
        root: PathBuf = PathBuf::from(SHARED_ROOT);
        /// What Claude Code's homes share; `null`: what the rules say.
        entries: Option<Vec<String>> = None;
        /// What Codex's homes share.
        codex_entries: Option<Vec<String>> = None;
        /// A shared directory's name.
        pattern: String = ".{agent}-{entry}-shared".to_owned();
    }
}

section! {
    /// The sessions.
    Pool {
        dedicated: Vec<Dedicated> = Vec::new();
        autonomous: Autonomous = Autonomous::default();
    }
}

row! {
    /// A session of the operator's: shown, never dispatched to, never exited.
    Dedicated {
        name: SessionName;
        workdir: PathBuf;
        --
        /// What is started where the session is missing; a shell when not given. A session that is there is only watched.
        agent: Option<AgentName> = None;
    }
}

section! {
    /// The sessions that work on tasks: `prefix` and a number from `start_index` on.
    Autonomous {
        prefix: String = "ccl-auto-".to_owned();
        start_index: u32 = 11;
        min: u32 = 2;
        max: u32 = 10;
        /// The agents' niceness (nice(1)), up to 19.
        nice: u32 = 0;
        agent: AgentName = agent_name(DEFAULT_AGENTS[0].0);
    }
}

row! {
    /// How an agent is run.
    Agent {
        kind: Kind;
        --
        /// The program; by default the one of its kind on `$PATH`.
        program: Option<String> = None;
        args: Vec<String> = Vec::new();
        env: Env = Env::default();
        /// The command line of a `command` agent. It gets the task on standard input.
        run: Vec<String> = Vec::new();
        /// A rules file merged over the built-in one of the kind, key by key; or the definition of one's own kind.
        rules: Option<PathBuf> = None;
        /// What it is told beside every task, as an addition to its system prompt.
        instructions_file: Option<PathBuf> = None;
        /// Whose tasks may name it; by default nobody's, and anyone's for the pool's own agent.
        tasks: Option<Tasks> = None;
    }
}

impl Setting for Tasks {
    fn decode(node: &Node, context: &mut Context<'_>) -> Option<Self> {
        scalar(node, "one of none, person, anyone", context, |text| {
            Self::ALL.into_iter().find(|tasks| tasks.name() == text)
        })
    }
    fn show<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.name())
    }
}

row! {
    /// Words that choose an agent.
    AgentByWords {
        words: Vec<String>;
        agent: AgentName;
        --
    }
}

/// What happens to a task with an unknown frontmatter key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownKeys {
    Warn,
    Reject,
}

impl Setting for UnknownKeys {
    fn decode(node: &Node, context: &mut Context<'_>) -> Option<Self> {
        scalar(node, "warn or reject", context, |text| match text {
            "warn" => Some(Self::Warn),
            "reject" => Some(Self::Reject),
            _ => None,
        })
    }
    fn show<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(match self {
            Self::Warn => "warn",
            Self::Reject => "reject",
        })
    }
}

section! {
    Dispatcher {
        /// How long a task must lie untouched before it is taken.
        settle: Duration = seconds(1);
        /// How long an editor's lock beside a task holds it back.
        editor_hold: Duration = seconds(600);
        max_task_bytes: Bytes = Bytes(1 << 20);
        /// How long a lock that a script puts beside a task holds it, from its last touch.
        claim_hold: Duration = seconds(3600);
        /// What happens to a task with an unknown frontmatter key.
        unknown_keys: UnknownKeys = UnknownKeys::Warn;
        /// Tasks that a project's inbox takes before new ones are refused.
        max_queued: u32 = 10_000;
        /// How many tasks deep tasks may come from tasks.
        max_depth: u32 = 3;
        /// How many tasks one task and its descendants may submit per hour.
        subtasks_per_hour: u32 = 60;
    }
}

section! {
    Watcher {
        /// A working agent at which nothing has changed for this long is called stalled.
        idle_timeout: Duration = seconds(1800);
        /// A working agent at which nothing has changed for this long gets a line in `events`.
        silent_after: Duration = seconds(120);
        /// How long a task waits for a command that its last turn left in the background; then that is ended with the agent.
        background_for: Duration = seconds(0);
        /// Such a command outlives its agent and is listed in `leftovers`.
        leave_background: bool = false;
        /// Retries of an attempt after server errors of its provider, before it counts as failed.
        server_retries: u32 = 5;
        /// First pause before such a retry; it doubles each time.
        server_pause: Duration = seconds(15);
    }
}

section! {
    Quota {
        /// Shortest time between two swaps that nobody asked for.
        reactivate_cooldown: Duration = seconds(300);
        /// Readings of a screen after which a limit that only the screen shows is believed.
        confirm: u32 = 2;
        /// Swap at a quiet moment when so much of a window is used, before it is all; by default not.
        proactive_percent: Option<u32> = None;
        /// How long an account stays active at least before such a swap.
        min_dwell: Duration = seconds(300);
    }
}

section! {
    Switcher {
        /// How long a working agent may continue before it is moved to another account.
        save_grace: Duration = seconds(3);
        /// Prompt for an agent that resumes a conversation with a task.
        resume_text: String = "Continue where you stopped.".to_owned();
    }
}

section! {
    Lifecycle {
        /// How often wanted and actual sessions are compared when nothing happens.
        reconcile: Duration = seconds(15);
        /// First pause before a session whose agent died is started again; it doubles with each death.
        restart_first: Duration = seconds(1);
        restart_max: Duration = seconds(300);
        /// How long an agent may take to show its prompt.
        start_within: Duration = seconds(90);
        /// A session above `pool.autonomous.min` without work for this long is ended.
        shrink_after: Duration = seconds(600);
        /// How long an agent may take to end before it is killed.
        stop_grace: Duration = seconds(10);
    }
}

section! {
    Tmux {
        socket: Socket = Socket::Private;
        history_limit: u32 = 5000;
        size: Size = Size { width: 200, height: 50 };
    }
}

section! {
    Mount {
        enabled: bool = true;
        /// By default `claude-failover` in the runtime directory.
        path: Option<PathBuf> = None;
        allow_other: bool = false;
        /// A group whose members may write verbs.
        control_group: Option<String> = None;
        /// What was written to a queue is on disk when the call returns.
        durable: bool = true;
    }
}

section! {
    Control {
        /// A verb's write answers after this long at the latest.
        reply_within: Duration = seconds(2);
    }
}

section! {
    /// What happens to old results.
    Janitor {
        /// How often it looks. What it removes was due at two looks in a row.
        interval: Duration = seconds(3600);
        /// How long a result stays in `done/` after its task has ended; `null`: for ever.
        keep_done: Option<Duration> = Some(seconds(30 * 86_400));
        /// The same for `failed/`.
        keep_failed: Option<Duration> = Some(seconds(90 * 86_400));
        /// Kept in `archive/` beside where it was, in one file a month; else removed.
        archive: bool = true;
    }
}

section! {
    /// The HTTP interface.
    Api {
        /// `null` turns it off.
        listen: Option<SocketAddr> = Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7878));
        /// Who gives this token is answered, nobody else; needed beyond loopback.
        token_env: Option<FromEnv> = None;
        token_file: Option<FromFile> = None;
    }
}

/// Rows that exist without being written: a name, which is also that of the kind, and arguments. The first one is the default.
const DEFAULT_AGENTS: [(&str, &[&str]); 2] = [("claude", &["--permission-mode", "acceptEdits"]), ("codex", &[])];

/// A name that a test below holds to be one.
fn agent_name(name: &str) -> AgentName {
    match AgentName::parse(name) {
        Ok(name) => name,
        Err(bad) => unreachable!("{bad}"),
    }
}

pub(super) fn default_agents() -> BTreeMap<AgentName, Agent> {
    let row = |(name, args): (&str, &[&str])| {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        (agent_name(name), Agent { args, ..Agent::new(Kind::new(name)) })
    };
    DEFAULT_AGENTS.map(row).into()
}

impl Autonomous {
    /// The session with this number, counted from 0; `None` beyond `max`.
    #[must_use]
    pub fn name(&self, n: u32) -> Option<SessionName> {
        if n >= self.max {
            return None;
        }
        SessionName::parse(&format!("{}{}", self.prefix, self.start_index.checked_add(n)?)).ok()
    }

    /// Every session that may ever be made, in order.
    pub fn names(&self) -> impl Iterator<Item = SessionName> {
        (0..self.max).filter_map(|n| self.name(n))
    }

    /// Whether the name is one of `names`.
    #[must_use]
    pub fn owns(&self, name: &SessionName) -> bool {
        self.names().any(|own| own == *name)
    }
}

impl Api {
    /// The token that requests have to give. That the one which is named can be had was checked when the file was read.
    #[must_use]
    pub fn token(&self) -> Option<&Secret> {
        secret_of(self.token_env.as_ref(), self.token_file.as_ref()).ok().flatten()
    }
}

impl Agent {
    /// The program to run; `None` for the built-in demo agent, which is this program itself, and for an empty `run`.
    #[must_use]
    pub fn program(&self) -> Option<&str> {
        match self.kind.is_command() {
            true => self.run.first().map(String::as_str),
            false => self.program.as_deref().or_else(|| self.kind.program()),
        }
    }
}

impl Config {
    #[must_use]
    pub fn agent(&self, name: &AgentName) -> Option<&Agent> {
        self.agents.get(name)
    }

    /// Whose tasks may do what.
    #[must_use]
    pub fn rights(&self) -> Rights {
        let pool = &self.pool.autonomous.agent;
        let unsaid = |name: &AgentName| if name == pool { Tasks::Anyone } else { Tasks::None };
        let agents = self.agents.iter().map(|(name, row)| (name.clone(), row.tasks.unwrap_or_else(|| unsaid(name))));
        Rights {
            agents: agents.collect(),
            pool: Some(pool.clone()),
            words: self.words_of_agents(),
            max_depth: self.dispatcher.max_depth,
            subtasks_per_hour: self.dispatcher.subtasks_per_hour,
        }
    }

    fn words_of_agents(&self) -> Vec<ByWords> {
        let row = |row: &AgentByWords| ByWords { words: row.words.clone(), agent: row.agent.clone() };
        self.agent_by_words.iter().map(row).collect()
    }

    /// Agents of the file that no task may name because nothing was said of it.
    pub fn closed(&self) -> impl Iterator<Item = &AgentName> {
        let built_in = default_agents();
        let closed = move |name: &AgentName, row: &Agent| {
            row.tasks.is_none() && *name != self.pool.autonomous.agent && built_in.get(name) != Some(row)
        };
        self.agents.iter().filter(move |(name, row)| closed(name, row)).map(|(name, _)| name)
    }

    /// The accounts that an agent can use: those of its own name and, if the rules say so, of agents of the same kind
    /// (homes of different CLIs aren't interchangeable).
    pub fn accounts_of<'a>(&'a self, agent: &'a AgentName) -> impl Iterator<Item = &'a Account> {
        let kind = self.agents.get(agent).map(|a| &a.kind);
        let shared = kind.filter(|_| !self.accounts.is_empty()).filter(|kind| kind.rules().any_home());
        self.accounts.iter().filter(move |account| {
            let same = |shared: &Kind| self.kind_of(account).is_some_and(|kind| kind.name() == shared.name());
            account.agent == *agent || shared.is_some_and(same)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_agents_are_built_in() {
        for (name, row) in default_agents() {
            assert!(row.kind.is_known() && row.kind.name() == name.as_str(), "{name}");
        }
    }

    #[test]
    fn an_agent_is_open_to_tasks_only_where_the_file_says_so_or_the_pool_runs_it() {
        let name = |text: &str| AgentName::parse(text).expect("a name");
        let mut config = Config::default();
        config.agents.insert(name("sh"), Agent::new(Kind::new("command")));
        config.agents.insert(name("mine"), Agent { tasks: Some(Tasks::Person), ..Agent::new(Kind::new("command")) });
        let rights = config.rights();
        let of = |text: &str| rights.agents.get(&name(text)).copied();
        assert_eq!(
            [of("claude"), of("codex"), of("sh"), of("mine")],
            [Some(Tasks::Anyone), Some(Tasks::None), Some(Tasks::None), Some(Tasks::Person)]
        );
        let closed: Vec<&AgentName> = config.closed().collect();
        assert_eq!(closed, [&name("sh")], "what the file has and says nothing of; not what is built in");
    }

    #[test]
    fn the_pool_s_names_are_counted() {
        let pool = Autonomous { max: 3, ..Autonomous::default() };
        let names: Vec<String> = pool.names().map(|name| name.to_string()).collect();
        assert_eq!(names, ["ccl-auto-11", "ccl-auto-12", "ccl-auto-13"]);
        assert_eq!(pool.name(3), None);
    }
}
