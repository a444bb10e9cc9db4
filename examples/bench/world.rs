//! A daemon of the release program in a temporary directory, with a tmux server, a mount and a home of its own.
//! In: how many agents, and which. Out: a running world. Dropped, everything in it ends.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

/// The longest that anything may take before a benchmark gives up.
const PATIENCE: Duration = Duration::from_secs(180);

#[derive(Debug, Clone, Default)]
pub struct Setup {
    pub sessions: u32,
    /// `DEMO_AGENT_MODE` of every agent.
    pub mode: &'static str,
    /// Run instead of the built-in agent, with the built-in agent's arguments.
    pub program: Option<PathBuf>,
    /// How many accounts there are: `a0`, the active one, `a1` …
    pub accounts: usize,
    /// The pool runs this command instead of an agent.
    pub command: &'static str,
    /// Further keys of the agent, each with its comma.
    pub agent: String,
    /// Further variables of the agent.
    pub env: String,
    /// Further keys of the configuration, a line each.
    pub more: String,
}

pub struct World {
    temp: tempfile::TempDir,
    daemon: Option<Child>,
}

/// The program that is measured: built beside this one.
pub fn program() -> io::Result<PathBuf> {
    let mut path = std::env::current_exe()?;
    path.pop();
    if path.ends_with("examples") {
        path.pop();
    }
    path.push("claude-failover");
    if path.exists() {
        return Ok(path);
    }
    Err(io::Error::other(format!("{} is missing; build it: cargo build --release --bins", path.display())))
}

impl World {
    /// Everything but the daemon.
    pub fn prepare() -> io::Result<Self> {
        let world = Self { temp: tempfile::Builder::new().prefix("cf-bench-").tempdir()?, daemon: None };
        for dir in ["web", "home", "mnt"] {
            fs::create_dir(world.path(dir))?;
        }
        Ok(world)
    }

    pub fn start(setup: &Setup) -> io::Result<Self> {
        let mut world = Self::prepare()?;
        world.begin(setup)?;
        Ok(world)
    }

    /// From a prepared world to agents at their prompts.
    pub fn begin(&mut self, setup: &Setup) -> io::Result<()> {
        self.configure(setup)?;
        self.homes(setup)?;
        self.run()?;
        self.until("every agent to be ready", Self::all_idle)
    }

    pub fn configure(&self, setup: &Setup) -> io::Result<()> {
        let at = |name: &str| self.path(name).display().to_string();
        let account = |n| format!("{{name: a{n}, home: {}, agent: demo}}", at(&format!("a{n}")));
        let accounts: Vec<String> = (0..setup.accounts).map(account).collect();
        let program = setup.program.as_ref().map_or(String::new(), |p| format!("program: '{}', ", p.display()));
        let command = match setup.command {
            "" => String::new(),
            run => format!(", command: {{kind: command, run: ['{run}']}}"),
        };
        let config = format!(
            "projects: [{{name: web, path: {web}}}]\n\
             agents: {{demo: {{kind: demo, {program}{agent}env: {{DEMO_AGENT_HOME: {home}, DEMO_AGENT_MODE: '{mode}', {env}}}}}{command}}}\n\
             dispatcher: {{settle: 0s}}\n\
             tmux: {{socket: {socket}, size: 100x30}}\n\
             mount: {{path: {mnt}}}\n\
             api: {{listen: null}}\n\
             pool: {{autonomous: {{prefix: pool-, start_index: 1, min: {n}, max: {n}, agent: {pool}}}}}\n\
             accounts: [{accounts}]\n\
             shared: {{root: {shared}}}\n\
             {more}",
            web = at("web"),
            home = at("home"),
            mode = setup.mode,
            command = command,
            pool = if setup.command.is_empty() { "demo" } else { "command" },
            socket = at("tmux.sock"),
            mnt = at("mnt"),
            n = setup.sessions,
            agent = setup.agent,
            env = setup.env,
            accounts = accounts.join(", "),
            shared = at("shared"),
            more = setup.more,
        );
        fs::write(self.path("config.yaml"), config)
    }

    /// Makes the accounts' homes as a person does.
    fn homes(&self, setup: &Setup) -> io::Result<()> {
        for n in 0..setup.accounts {
            fs::create_dir(self.path(&format!("a{n}")))?;
        }
        if setup.accounts == 0 {
            return Ok(());
        }
        let mut check = Command::new(program()?);
        check.args(["check", "--fix", "--config"]).arg(self.path("config.yaml"));
        let out = check.env("STATE_DIRECTORY", self.path("state")).env("HOME", self.path("home")).output()?;
        if out.status.success() {
            return Ok(());
        }
        let told = [out.stdout, out.stderr].concat();
        Err(io::Error::other(format!("check --fix: {}", String::from_utf8_lossy(&told))))
    }

    /// Lines of the state directory's `events`.
    pub fn events(&self) -> String {
        fs::read_to_string(self.path("state/events.jsonl")).unwrap_or_default()
    }

    /// What a file of the mount says, in a line.
    pub fn word(&self, name: &str) -> String {
        fs::read_to_string(self.mount(name)).unwrap_or_default().trim().to_owned()
    }

    /// Starts the daemon and waits until the mount answers; answers how long that took.
    pub fn run(&mut self) -> io::Result<Duration> {
        let status = self.mount("status.json");
        let log = fs::OpenOptions::new().append(true).create(true).open(self.path("daemon.log"))?;
        let begun = Instant::now();
        let child = Command::new(program()?)
            .args(["run", "--foreground", "--config"])
            .arg(self.path("config.yaml"))
            .env("STATE_DIRECTORY", self.path("state"))
            .env("HOME", self.path("home"))
            .env("CLAUDE_FAILOVER_LOG", std::env::var("CLAUDE_FAILOVER_LOG").unwrap_or("claude_failover=warn".into()))
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        self.daemon = Some(child);
        while fs::metadata(&status).is_err() {
            if begun.elapsed() > PATIENCE {
                return Err(self.failure("the mount to answer"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(begun.elapsed())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    /// A path below the mount.
    pub fn mount(&self, name: &str) -> PathBuf {
        self.path("mnt").join(name)
    }

    /// A path in the project's real queue.
    pub fn queue(&self, name: &str) -> PathBuf {
        self.path("web/.agent-queue").join(name)
    }

    pub fn sessions(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.mount("sessions"))
            .map(|dir| dir.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
            .unwrap_or_default();
        names.sort();
        names
    }

    /// Every agent shows its prompt.
    pub fn all_idle(&self) -> bool {
        let names = self.sessions();
        !names.is_empty() && names.iter().all(|name| self.word(&format!("sessions/{name}/state")) == "idle")
    }

    pub fn until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            if Instant::now() >= deadline {
                return Err(self.failure(what));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    pub fn failure(&self, what: &str) -> io::Error {
        let log = fs::read_to_string(self.path("daemon.log")).unwrap_or_default();
        let status = fs::read_to_string(self.mount("status")).unwrap_or_default();
        io::Error::other(format!("waited in vain for {what}\n{status}\n{log}"))
    }

    pub fn daemon_pid(&self) -> u32 {
        self.daemon.as_ref().map_or(0, Child::id)
    }

    /// SIGTERM; the agents live on.
    pub fn stop(&mut self) {
        let Some(mut daemon) = self.daemon.take() else { return };
        if let Ok(pid) = i32::try_from(daemon.id()) {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM);
        }
        let _ = daemon.wait();
    }

    pub fn tmux(&self, args: &[&str]) -> io::Result<Output> {
        tmux(&self.path("tmux.sock"), args)
    }

    pub fn tmux_pid(&self) -> io::Result<u32> {
        let out = self.tmux(&["display-message", "-p", "#{pid}"])?;
        String::from_utf8_lossy(&out.stdout).trim().parse().map_err(io::Error::other)
    }
}

/// One tmux client process.
pub fn tmux(socket: &Path, args: &[&str]) -> io::Result<Output> {
    Command::new("tmux").arg("-S").arg(socket).args(args).env_remove("TMUX").stdin(Stdio::null()).output()
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop();
        let _ = self.tmux(&["kill-server"]);
        // Only when the daemon did not unmount by itself.
        let _ = nix::mount::umount2(&self.path("mnt"), nix::mount::MntFlags::MNT_DETACH);
        // Agents that are ending still run their last hooks, which write here.
        let until = Instant::now() + Duration::from_secs(10);
        while fs::remove_dir_all(self.temp.path()).is_err_and(|error| error.kind() != io::ErrorKind::NotFound)
            && Instant::now() < until
        {
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}
