//! One CLI under one daemon with one session.
//! In: which CLI, its arguments. Out: a running world and the mock that its agent talks to. Owns both; dropped, everything
//! ends. Every wait is bounded and tells on failure what each part of the world last said.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    time::{Duration, Instant, SystemTime},
};

use crate::{
    cli::{self, Clis, Login},
    mock_llm::{MockLlm, Request},
    world::{Setup, World},
};

/// Longest that anything here may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The one session.
pub const SESSION: &str = "pool-11";
/// Claude Code's arguments that let it work without asking. Its own default needs a check at the provider.
pub const ACCEPT: &str = "--permission-mode, acceptEdits, --allowedTools, Bash";
/// Codex has each conversation named by the model, with a tool like a conversation's own.
const TITLE: &str = "Generate a concise, single-line task title";
pub const KEY: &str = "sk-ant-dummy-dummy-dummy-dummy-0001";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cli {
    Claude,
    Codex,
}

impl Cli {
    pub fn name(self) -> &'static str {
        match self {
            Self::Claude => "claude",
            Self::Codex => "codex",
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
}

impl Play<'_> {
    pub fn new(cli: Cli) -> Self {
        let args = match cli {
            Cli::Claude => ACCEPT,
            Cli::Codex => "",
        };
        Self { cli, args, env: &[], subscription: false, trusted: true }
    }
}

pub struct Stage {
    pub world: World,
    pub mock: MockLlm,
    _runtime: tokio::runtime::Runtime,
}

impl Stage {
    /// Starts everything and waits for the agent's prompt; `None` where the CLIs can't be installed.
    pub fn set(play: Play<'_>) -> Option<Self> {
        let clis = cli::clis()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let mock = runtime.block_on(MockLlm::start());
        let mut setup = Setup { agent: play.cli.name().to_owned(), ..Setup::agents(1) };
        // The directory's name is known only when the world is there, and the configuration names it.
        let mut world = World::prepare(&setup);
        configure(&mut setup, play, &clis, &world, mock.port());
        world.configure(&setup);
        let begun = Instant::now();
        world.run();
        let stage = Self { world, mock, _runtime: runtime };
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
        let began = |r: &Request| r.prompt.contains(text) && !after_tool(r);
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

/// Whether a request brings a tool's result, and so continues a turn.
fn after_tool(request: &Request) -> bool {
    let body = &request.body;
    let last = body["messages"].as_array().or(body["input"].as_array()).and_then(|list| list.last().cloned());
    let text = last.unwrap_or_default().to_string();
    text.contains("\"tool_result\"") || text.contains("_output\"")
}

fn configure(setup: &mut Setup, play: Play<'_>, clis: &Clis, world: &World, port: u16) {
    let home = world.path("account");
    let workdir = world.path(if play.trusted { "web" } else { "nothing" });
    let (program, mut env) = match play.cli {
        Cli::Claude => {
            let login = if play.subscription { Login::Subscription { token: KEY } } else { Login::ApiKey(KEY) };
            (&clis.claude, cli::claude_home(&home, &workdir, port, login))
        }
        Cli::Codex => (&clis.codex, cli::codex_home(&home, &workdir, port, KEY)),
    };
    env.extend(play.env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let env: BTreeMap<String, String> = env;
    let name = play.cli.name();
    setup.more_agents = format!(", {name}: {{kind: {name}, program: {}, args: [{}]}}", program.display(), play.args);
    setup.more = format!(
        "accounts: [{{name: one, agent: {name}, home: {}, owned: {}, env: {}}}]",
        home.display(),
        play.trusted,
        serde_json::to_string(&env).expect("a map of texts"),
    );
    let home: PathBuf = world.path("home");
    setup.env = vec![("HOME".to_owned(), home.display().to_string()), ("TZ".to_owned(), "UTC".to_owned())];
}
