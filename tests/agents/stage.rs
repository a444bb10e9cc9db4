//! One CLI under one daemon with one session.
//! Takes a CLI and its arguments; returns a running world and the mock that its agent talks to. Owns both; dropping it
//! ends everything. Every wait is bounded, and a timeout prints the last state of each part.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Condvar, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use crate::{
    cli::{self, Login},
    mock_llm::{MockLlm, Request},
    world::{self, Setup, World},
};

/// Longest that anything here may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// Pause between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The one session.
pub const SESSION: &str = "pool-11";
/// Claude Code's arguments that let it work without asking. Its own default needs a check at the provider.
pub const ACCEPT: &str = "--permission-mode, acceptEdits, --allowedTools, Bash";
/// Codex has each conversation named by the model, with a tool like a conversation's own.
const TITLE: &str = "Generate a concise, single-line task title";
pub const KEY: &str = "sk-ant-dummy-dummy-dummy-dummy-0001";
/// Names and keys of the accounts, in the configuration's order.
pub const ACCOUNTS: [(&str, &str); 2] = [("one", KEY), ("two", "sk-ant-dummy-dummy-dummy-dummy-0002")];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code, reason = "only the matrix tries all of them")]
pub enum Cli {
    Claude,
    Codex,
    Gemini,
    Opencode,
    Qwen,
}

/// The version to run in place of the pinned one.
pub static VERSION: Mutex<Option<String>> = Mutex::new(None);

impl Cli {
    pub fn name(self) -> &'static str {
        match self {
            Self::Claude => "claude",
            Self::Codex => "codex",
            Self::Gemini => "gemini",
            Self::Opencode => "opencode",
            Self::Qwen => "qwen",
        }
    }

    fn version(self) -> String {
        let chosen = VERSION.lock().expect("no test panics with it").clone();
        chosen.unwrap_or_else(|| match self {
            Self::Claude => cli::CLAUDE.to_owned(),
            Self::Codex => cli::CODEX.to_owned(),
            Self::Qwen => cli::QWEN.to_owned(),
            Self::Gemini | Self::Opencode => panic!("{self:?} has no pinned version"),
        })
    }

    /// Its last message is known from its own word, not from the screen. Claude Code 2.0.76 has it in no hook, and not always in a
    /// record that says that it is the last one.
    pub fn tells_its_message(self) -> bool {
        matches!(self, Self::Claude | Self::Codex) && self.version() != "2.0.76"
    }

    /// The row of `agents:`.
    fn row(self, program: &Path, play: Play<'_>, world: &World) -> String {
        let (name, program, args) = (self.name(), program.display(), play.args);
        let more = if play.instructions.is_some() { ", instructions_file: instructions.md" } else { "" };
        match self {
            Self::Claude | Self::Codex | Self::Gemini | Self::Opencode => {
                format!("{name}: {{kind: {name}, program: {program}, args: [{args}]{more}}}")
            }
            // As doc/AGENTS.md has it.
            Self::Qwen => {
                let doc = include_str!("../../doc/AGENTS.md");
                let rules = doc.split("```yaml\n").find(|block| block.starts_with("# The rules of Qwen Code"));
                let rules = rules.and_then(|block| block.split("```").next()).expect("the rules of Qwen Code");
                fs::write(world.path("qwen.yaml"), rules).expect("written");
                format!("{name}: {{kind: qwen, rules: qwen.yaml, program: {program}, args: [{args}]{more}}}")
            }
        }
    }
}

/// What differs from the plain stage.
#[derive(Debug, Clone, Copy)]
pub struct Play<'a> {
    pub cli: Cli,
    pub args: &'a str,
    /// Further variables of the agent.
    pub env: &'a [(&'a str, &'a str)],
    /// A subscription in place of a key (Claude Code).
    pub subscription: bool,
    /// The agent knows the project's directory.
    pub trusted: bool,
    /// How many of `ACCOUNTS` there are.
    pub accounts: usize,
    pub sessions: u32,
    /// Its row has an `instructions_file` with these.
    pub instructions: Option<&'a str>,
    /// Further lines of the configuration.
    pub more: &'a str,
}

impl Play<'_> {
    pub fn new(cli: Cli) -> Self {
        let args = match cli {
            Cli::Claude => ACCEPT,
            Cli::Codex | Cli::Opencode => "",
            Cli::Gemini | Cli::Qwen => "--yolo",
        };
        Self {
            cli,
            args,
            env: &[],
            subscription: false,
            trusted: true,
            accounts: 1,
            sessions: 1,
            instructions: None,
            more: "",
        }
    }

    /// One that asks before it runs a command.
    pub fn asking(cli: Cli) -> Self {
        match cli {
            Cli::Claude => Self { args: "--permission-mode, default", ..Self::new(cli) },
            Cli::Codex => Self::new(cli),
            Cli::Gemini | Cli::Qwen => Self { args: "", ..Self::new(cli) },
            Cli::Opencode => {
                Self { env: &[("OPENCODE_CONFIG_CONTENT", r#"{"permission": {"bash": "ask"}}"#)], ..Self::new(cli) }
            }
        }
    }

    /// Two accounts that can reach their limits.
    pub fn failover(cli: Cli) -> Self {
        Self { subscription: cli == Cli::Claude, accounts: 2, ..Self::new(cli) }
    }
}

pub struct Stage {
    pub world: World,
    pub mock: MockLlm,
    _runtime: tokio::runtime::Runtime,
    /// Last: it goes when everything else is gone.
    _turn: Turn,
}

/// One of as many stages at a time as there are processors: a real CLI needs one to itself, or its own timeouts strike.
struct Turn;

static TURNS: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

impl Turn {
    fn wait() -> Self {
        let most = std::thread::available_parallelism().map_or(1, usize::from);
        let taken = TURNS.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = TURNS.1.wait_while(taken, |taken| *taken >= most).unwrap_or_else(PoisonError::into_inner);
        *taken += 1;
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *TURNS.0.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        TURNS.1.notify_one();
    }
}

impl Stage {
    /// Starts everything and waits for the agent's prompt; `None` where the CLIs can't be installed.
    pub fn set(play: Play<'_>) -> Option<Self> {
        Self::make(play, None)
    }

    /// The same with a session of a person's, in which the agent runs, too.
    pub fn set_with_dedicated(play: Play<'_>, name: &str) -> Option<Self> {
        Self::make(play, Some(name))
    }

    fn make(play: Play<'_>, dedicated: Option<&str>) -> Option<Self> {
        let program = cli::program(play.cli.name(), &play.cli.version())?;
        let turn = Turn::wait();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let mock = runtime.block_on(MockLlm::start());
        let mut setup = Setup { agent: play.cli.name().to_owned(), ..Setup::agents(play.sessions) };
        // The directory's name is known only when the world is there, and the configuration names it.
        let mut world = World::prepare(&setup);
        if let Some(name) = dedicated {
            let (workdir, agent) = (world.path("web"), play.cli.name());
            setup.more_pool =
                format!("  dedicated: [{{name: {name}, workdir: {}, agent: {agent}}}]\n", workdir.display());
        }
        configure(&mut setup, play, &program, &mut world, mock.port());
        let begun = Instant::now();
        world.run();
        let stage = Self { world, mock, _runtime: runtime, _turn: turn };
        stage.until("the agent to be up", |s| ["idle", "waiting"].contains(&s.word("state").as_str()));
        assert!(!play.trusted || stage.word("state") == "idle", "{}", stage.told());
        println!("{}: {} ms from the daemon's start to the prompt", play.cli.name(), begun.elapsed().as_millis());
        Some(stage)
    }

    /// A file of the session, one word of it.
    pub fn word(&self, file: &str) -> String {
        self.world.word(&format!("sessions/{SESSION}/{file}"))
    }

    /// Writes one line to a file of the session.
    #[track_caller]
    pub fn write(&self, file: &str, line: &str) {
        let path = self.world.mount(&format!("sessions/{SESSION}/{file}"));
        let written = fs::write(path, format!("{line}\n"));
        written.unwrap_or_else(|e| panic!("{line:?} to {file}: {e}\n{}", self.told()));
    }

    /// Requests of the conversation itself: no titles, no probes.
    pub fn main_requests(&self) -> Vec<Request> {
        let title = |request: &Request| request.prompt.starts_with(TITLE);
        self.mock.requests().into_iter().filter(|request| request.main && !title(request)).collect()
    }

    /// How many turns a prompt with this text began.
    pub fn prompts_with(&self, text: &str) -> usize {
        let began = |r: &Request| r.prompt.contains(text) && !r.after_tool;
        self.main_requests().iter().filter(|request| began(request)).count()
    }

    #[track_caller]
    pub fn until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(Instant::now() < deadline, "waited in vain for {what}\n{}", self.told());
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Waits for a result of the task in `done/`.
    #[track_caller]
    pub fn done(&self, task: &str) -> String {
        let path = self.world.queue(&format!("done/{task}.md"));
        let failed = self.world.queue(&format!("failed/{task}.md"));
        self.until(&format!("{task} to be done"), |s| {
            assert!(!failed.exists(), "{task} failed\n{}", s.told());
            path.exists()
        });
        fs::read_to_string(&path).expect("readable")
    }

    /// What a result says under a key of its last block.
    #[track_caller]
    pub fn fact(&self, result: &str, key: &str) -> String {
        let start = format!("{key}: ");
        let value = result.lines().rev().find_map(|line| line.trim_start().strip_prefix(&start).map(str::to_owned));
        value.unwrap_or_else(|| panic!("no {key} in the result:\n{result}\n{}", self.told()))
    }

    /// When a line of `events` came that holds all of these words.
    pub fn event(&self, words: &[&str]) -> Option<SystemTime> {
        let events = self.world.events();
        let line = events.lines().find(|line| words.iter().all(|word| line.contains(word)))?;
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        let time: jiff::Timestamp = line["time"].as_str()?.parse().ok()?;
        Some(time.into())
    }

    /// What every part of the world says, for a failed test.
    pub fn told(&self) -> String {
        let file = |name: String| fs::read_to_string(self.world.path(&name)).unwrap_or_default();
        let requests: Vec<String> =
            self.mock.requests().iter().map(|r| format!("{} {:?} {:.200?}", r.path, r.mode, r.prompt)).collect();
        format!(
            "--- status\n{}\n--- why\n{}\n--- pane\n{}\n--- hooks\n{}\n--- requests\n{}\n--- events\n{}\n--- log\n{}",
            self.world.read("status").unwrap_or_default(),
            self.word("why"),
            self.word("pane"),
            file(format!("state/hooks/{SESSION}.jsonl")),
            requests.join("\n"),
            self.world.events(),
            file("daemon.log".to_owned()),
        )
    }
}

fn configure(setup: &mut Setup, play: Play<'_>, program: &Path, world: &mut World, port: u16) {
    let name = play.cli.name();
    let workdir = world.path(if play.trusted { "web" } else { "nothing" });
    let accounts: Vec<String> = ACCOUNTS[..play.accounts]
        .iter()
        .map(|(account, key)| {
            let home = world.path(&format!("account-{account}"));
            let mut env = match play.cli {
                Cli::Claude if play.subscription => {
                    cli::claude_home(&home, &workdir, port, Login::Subscription { token: key })
                }
                Cli::Claude => cli::claude_home(&home, &workdir, port, Login::ApiKey(key)),
                Cli::Codex => cli::codex_home(&home, &workdir, port, key),
                Cli::Gemini => cli::gemini_home(&home, &workdir, port, key),
                Cli::Opencode => cli::opencode_home(&home, port, key),
                Cli::Qwen => cli::qwen_home(&home, port, key),
            };
            env.extend(play.env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
            let env: BTreeMap<String, String> = env;
            format!(
                "{{name: {account}, agent: {name}, home: {}, owned: {}, env: {}}}",
                home.display(),
                play.trusted,
                serde_json::to_string(&env).expect("a map of texts"),
            )
        })
        .collect();
    if let Some(text) = play.instructions {
        fs::write(world.path("instructions.md"), text).expect("written");
    }
    setup.more_agents = format!(", {}", play.cli.row(program, play, world));
    setup.more = format!("accounts: [{}]\n{}", accounts.join(", "), play.more);
    let home: PathBuf = world.path("home");
    setup.env = vec![("HOME".to_owned(), home.display().to_string()), ("TZ".to_owned(), "UTC".to_owned())];
    world.configure(setup);
    // It holds keys.
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(world.path("config.yaml"), private).expect("its mode");
    if play.accounts > 1 {
        let fixed = Command::new(world::program())
            .args(["check", "--fix", "--config"])
            .arg(world.path("config.yaml"))
            .env("HOME", &home)
            .output()
            .expect("check");
        println!("{}", String::from_utf8_lossy(&fixed.stdout));
    }
}
