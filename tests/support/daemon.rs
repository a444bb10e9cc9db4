//! A real daemon in a temporary directory: two projects, the built-in agent, its own tmux server and mount.
//! Dropping it ends everything: daemon, mount, server, directory.
#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use claude_failover::{model::journal::recover, sys::state::read};
use serde_json::Value;

/// Longest that anything here may take on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A block that ends its agent in the middle of the turn, as a fault of the agent's would.
pub const CRASH: &str = "```sh\nkill -9 $PPID\n```\n";

/// What differs from the plain world.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    pub agents: u32,
    /// `DEMO_AGENT_MODE` of every agent.
    pub mode: String,
    /// Further variables of the agent, each with a comma before it.
    pub more_env: String,
    /// Further lines of the configuration.
    pub more: String,
    /// Further lines of `pool:`, indented by two.
    pub more_pool: String,
    /// Rows of `agents:` beside `demo`.
    pub more_agents: String,
    /// Which agent the pool runs.
    pub agent: String,
    /// `dispatcher.settle`
    pub settle: String,
    /// Further keys of `dispatcher:`, each with a comma before it.
    pub brakes: String,
    /// Variables of the daemon.
    pub env: Vec<(String, String)>,
    /// Further keys of `mount:`, each with a comma before it.
    pub more_mount: String,
    /// `api.listen`, and what follows it after a comma; off when empty, for daemons of tests run beside each other.
    pub http: String,
    /// The directory is on a disk whatever TMPDIR says: what is written in memory counts as the daemon's.
    pub on_disk: bool,
}

impl Setup {
    pub fn agents(agents: u32) -> Self {
        Self { agents, agent: "demo".into(), settle: "100ms".into(), ..Self::default() }
    }

    pub fn mode(mut self, mode: &str) -> Self {
        self.mode = mode.to_owned();
        self
    }

    pub fn more(mut self, more: &str) -> Self {
        self.more = more.to_owned();
        self
    }
}

pub struct World {
    temp: tempfile::TempDir,
    daemon: Option<Child>,
    /// `$NOTIFY_SOCKET` of the daemon.
    pub notify: Option<PathBuf>,
    pub env: Vec<(String, String)>,
    /// File systems of the test's own below the directory, in the order in which they were mounted.
    pub mounts: Vec<PathBuf>,
}

pub fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_claude-failover"))
}

/// Whether the test may trace the daemon, become somebody else or take a mount away.
pub fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        println!("skipped: it needs root");
    }
    root
}

impl World {
    pub fn start(setup: &Setup) -> Self {
        let mut world = Self::prepare(setup);
        world.run();
        world
    }

    /// Everything but the daemon.
    pub fn prepare(setup: &Setup) -> Self {
        let at = if setup.on_disk { PathBuf::from("/var/tmp") } else { std::env::temp_dir() };
        let temp = tempfile::Builder::new().prefix("cf-").tempdir_in(at).expect("a directory");
        let mut world = Self { temp, daemon: None, notify: None, env: Vec::new(), mounts: Vec::new() };
        for dir in ["web", "api", "home", "mnt"] {
            fs::create_dir(world.path(dir)).expect("made");
        }
        world.configure(setup);
        world
    }

    /// Writes the configuration; a daemon that runs already doesn't see it.
    pub fn configure(&mut self, setup: &Setup) {
        self.env.clone_from(&setup.env);
        let at = |name: &str| self.path(name).display().to_string();
        let config = format!(
            "projects: [{{name: web, path: {web}}}, {{name: api, path: {api}}}]\n\
             agents: {{demo: {{kind: demo, env: {{DEMO_AGENT_HOME: {home}, DEMO_AGENT_MODE: '{mode}'{more_env}}}}} {agents}}}\n\
             dispatcher: {{settle: {settle}{brakes}}}\n\
             tmux: {{socket: {socket}, size: 100x30}}\n\
             mount: {{path: {mnt}{more_mount}}}\n\
             api: {{listen: {http}}}\n\
             pool:\n  autonomous: {{prefix: pool-, start_index: 11, min: {n}, max: {n}, agent: {agent}}}\n{more_pool}{more}\n",
            web = at("web"),
            api = at("api"),
            home = at("home"),
            mode = setup.mode,
            more_env = setup.more_env,
            agents = setup.more_agents,
            settle = setup.settle,
            brakes = setup.brakes,
            socket = at("tmux.sock"),
            mnt = at("mnt"),
            n = setup.agents,
            agent = setup.agent,
            more_mount = setup.more_mount,
            http = if setup.http.is_empty() { "null" } else { &setup.http },
            more_pool = setup.more_pool,
            more = setup.more,
        );
        fs::write(self.path("config.yaml"), config).expect("written");
    }

    /// Starts the daemon and waits until the mount answers.
    pub fn run(&mut self) {
        let log = fs::OpenOptions::new().append(true).create(true).open(self.path("daemon.log")).expect("a log");
        let mut command = Command::new(program());
        match &self.notify {
            Some(socket) => command.env("NOTIFY_SOCKET", socket),
            None => command.env_remove("NOTIFY_SOCKET"),
        };
        let child = command
            .args(["run", "--foreground", "--config"])
            .arg(self.path("config.yaml"))
            .env("STATE_DIRECTORY", self.path("state"))
            // By default a link in it is turned.
            .env("HOME", self.path("home"))
            // Never seen in a pane.
            .env("FAKE_API_KEY", "a-secret-of-the-daemon")
            .env("CLAUDE_FAILOVER_LOG", "claude_failover=debug")
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the daemon starts");
        self.daemon = Some(child);
        let status = self.mount("status.json");
        self.until("the mount to answer", || status.exists());
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    /// A path below the mount.
    pub fn mount(&self, name: &str) -> PathBuf {
        self.path("mnt").join(name)
    }

    /// A path in the first project's real queue.
    pub fn queue(&self, name: &str) -> PathBuf {
        self.path("web/.agent-queue").join(name)
    }

    pub fn read(&self, name: &str) -> io::Result<String> {
        fs::read_to_string(self.mount(name))
    }

    /// A value of one line, `?` where there is none.
    pub fn word(&self, name: &str) -> String {
        self.read(name).map_or_else(|_| "?".to_owned(), |text| text.trim_end().to_owned())
    }

    pub fn submit(&self, name: &str, text: &str) {
        fs::write(self.mount(&format!("inbox/{name}.md")), text).expect("written");
    }

    /// Runs a shell script in the world's directory; `$MNT` is the mount.
    pub fn sh(&self, script: &str) -> Output {
        Command::new("bash")
            .args(["-c", script])
            .current_dir(self.temp.path())
            .env("MNT", self.path("mnt"))
            .env("STATE_DIRECTORY", self.path("state"))
            .output()
            .expect("bash")
    }

    #[track_caller]
    pub fn ok(&self, script: &str) -> String {
        let out = self.sh(script);
        assert!(out.status.success(), "{script}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// What the daemon has saved.
    pub fn state(&self) -> Value {
        let stored = read(&self.path("state")).expect("readable");
        let found = recover(stored.checkpoint.as_deref(), &stored.journal).expect("a state");
        found.state.expect("a state").into()
    }

    /// As if a daemon that is dead now had saved this.
    pub fn save_state(&self, state: &Value) {
        fs::write(self.path("state/state.json"), state.to_string()).expect("written");
        fs::write(self.path("state/state.journal"), "").expect("written");
    }

    pub fn status(&self) -> Value {
        serde_json::from_str(&self.read("status.json").unwrap_or_default()).unwrap_or_default()
    }

    pub fn events(&self) -> String {
        fs::read_to_string(self.path("state/events.jsonl")).unwrap_or_default()
    }

    #[track_caller]
    pub fn until(&self, what: &str, holds: impl FnMut() -> bool) {
        self.until_told(|| what.to_owned(), holds);
    }

    /// The same, with words that are looked for when it was in vain.
    #[track_caller]
    pub fn until_told(&self, what: impl Fn() -> String, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            if Instant::now() >= deadline {
                let log = fs::read_to_string(self.path("daemon.log")).unwrap_or_default();
                let status = self.read("status").unwrap_or_default();
                panic!("waited in vain for {}\n{status}\nevents:\n{}\nlog:\n{log}", what(), self.events());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for a file of the first project's queue and answers its text.
    #[track_caller]
    pub fn result(&self, path: &str) -> String {
        let path = self.queue(path);
        self.until(&format!("{}", path.display()), || path.exists());
        fs::read_to_string(&path).expect("readable")
    }

    #[track_caller]
    pub fn until_word(&self, file: &str, word: &str) {
        self.until(&format!("{file} to be {word}"), || self.word(file) == word);
    }

    pub fn daemon_pid(&self) -> u32 {
        self.daemon.as_ref().map_or(0, Child::id)
    }

    /// `kill -9`, as a crash would be; the agents live on.
    pub fn kill_daemon(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            // It may be dead, and waited for by a tracer.
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }

    /// SIGTERM; answers the exit code.
    pub fn stop_daemon(&mut self) -> Option<i32> {
        let mut daemon = self.daemon.take()?;
        let pid = nix::unistd::Pid::from_raw(i32::try_from(daemon.id()).expect("a pid"));
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("sent");
        daemon.wait().expect("waited for").code()
    }

    pub fn tmux(&self, args: &[&str]) -> String {
        let out = Command::new("tmux").arg("-S").arg(self.path("tmux.sock")).args(args).output().expect("tmux");
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// Daemon, mount, tmux server and agents are no more, as after a power cut.
    pub fn end_everything(&mut self) {
        self.kill_daemon();
        let agents = self.tmux(&["list-panes", "-a", "-F", "#{pane_pid}"]);
        self.tmux(&["kill-server"]);
        detach(&self.path("mnt"));
        // An agent that still writes would leave half of the directory behind.
        let deadline = Instant::now() + Duration::from_secs(5);
        for agent in agents.lines().map(|pid| Path::new("/proc").join(pid)) {
            while agent.exists() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }

    /// Nothing is left in the inbox of the first project.
    pub fn inbox_is_empty(&self) -> bool {
        fs::read_dir(self.queue("inbox")).is_ok_and(|mut entries| entries.next().is_none())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.end_everything();
        for mount in self.mounts.iter().rev() {
            detach(mount);
        }
    }
}

/// Detaches a mount if there is one.
pub fn detach(mountpoint: &Path) {
    let _ = nix::mount::umount2(mountpoint, nix::mount::MntFlags::MNT_DETACH);
}
