//! `claude-failover demo`: runs everything in a temporary directory with the built-in agent.
//! Takes the number of agents, which run under two accounts; prints what a person would see who typed the commands.
//! The daemon is a child process, and the demo uses the mount like any other user: everything goes through files.

use std::{
    fs,
    io::{self, IsTerminal, Write},
    os::unix::{fs::DirBuilderExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::cli::{DemoArgs, Exit, Mount};

/// How long the daemon may take to answer on the mount. Chosen: it takes well under a second; a loaded machine gets
/// twenty times that.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// How long the five tasks may take, and the one whose account hits its limit. Chosen: they take seconds.
const DONE_WITHIN: Duration = Duration::from_secs(60);
/// Chosen: looks immediate to a person.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// What a demo's directory is called, before a number.
const DIR: &str = "claude-failover-demo-";

/// Runs the demonstration.
#[must_use]
pub fn main(args: &DemoArgs) -> Exit {
    let done = match &args.end {
        Some(dir) => end(dir),
        None => Demo::new(args).and_then(|mut demo| demo.run()),
    };
    match done {
        Ok(()) => Exit::Ok,
        Err(error) => {
            eprintln!("claude-failover demo: {error}");
            Exit::Failed
        }
    }
}

struct Demo {
    dir: PathBuf,
    exe: PathBuf,
    agents: u32,
    keep: bool,
    daemon: Option<Child>,
}

/// One way of putting a task into the queue, and the command that a person would type.
struct Drop {
    task: &'static str,
    shown: &'static str,
    script: &'static str,
}

/// Five ways that people and programs write files. `$MNT` is the mount, `$WEB` the second project's real directory.
const DROPS: [Drop; 5] = [
    Drop { task: "copied", shown: "cp copied.md MNT/inbox/", script: "cp copied.md \"$MNT/inbox/\"" },
    Drop {
        task: "echoed",
        shown: "echo 'Say this back' > MNT/inbox/echoed.md",
        script: "echo 'Say this back' > \"$MNT/inbox/echoed.md\"",
    },
    Drop { task: "moved", shown: "mv moved.md MNT/inbox/", script: "mv moved.md \"$MNT/inbox/\"" },
    Drop {
        task: "edited",
        shown: "(an editor saves MNT/inbox/edited.md: backup, swap, rename)",
        script: "cd \"$MNT/inbox\" && : > .edited.md.swp && cp \"$OLDPWD/edited.md\" edited.md~ && \
                 mv edited.md~ edited.md && rm .edited.md.swp",
    },
    Drop {
        task: "plain",
        shown: "cp plain.md web/.agent-queue/inbox/      (the real directory, without the mount)",
        script: "cp plain.md \"$WEB/.agent-queue/inbox/\"",
    },
];

impl Demo {
    fn new(args: &DemoArgs) -> Result<Self, String> {
        let exe = std::env::current_exe().map_err(|error| format!("this program's own path is not known: {error}"))?;
        let base = std::env::temp_dir();
        let dir = base.join(format!("{DIR}{}", std::process::id()));
        fs::create_dir(&dir).map_err(|error| format!("{} can't be made: {error}", dir.display()))?;
        Ok(Self { dir, exe, agents: args.agents, keep: args.keep, daemon: None })
    }

    fn mount(&self) -> PathBuf {
        self.dir.join("mnt")
    }

    fn run(&mut self) -> Result<(), String> {
        let result = self.show();
        if self.keep && result.is_ok() {
            return self.leave();
        }
        let cleaned = self.clean();
        result.and(cleaned)
    }

    fn show(&mut self) -> Result<(), String> {
        self.prepare().map_err(|error| format!("{} can't be prepared: {error}", self.dir.display()))?;
        self.start()?;
        say(&format!(
            "A daemon with {} agents runs in {}; its state is the directory {}:",
            self.agents,
            self.dir.display(),
            self.mount().display()
        ));
        say(&listing(&self.mount()));
        say("\nFive tasks, written in five ways:");
        for drop in &DROPS {
            say(&format!("  $ {}", drop.shown));
            self.shell(drop.script)?;
        }
        self.wait()?;
        say("\n  $ cat MNT/status");
        say(&indent(&self.read("status")?));
        say("  $ cat MNT/projects/*/done/*.md");
        for drop in &DROPS {
            let project = if drop.task == "plain" { "web" } else { "api" };
            let path = format!("projects/{project}/done/{}.md", drop.task);
            say(&format!("--- {path}"));
            say(&indent(&self.read(&path)?));
        }
        self.fail_over()
    }

    /// The active account runs out in the middle of a task.
    fn fail_over(&mut self) -> Result<(), String> {
        let mount = self.mount();
        let read = |path: &str| fs::read_to_string(mount.join(path)).unwrap_or_default();
        let say_and_do = |demo: &Self, script: &str| {
            say(&format!("  $ {}", script.replace("$MNT", "MNT")));
            demo.shell(script)
        };
        say("\nA task, and a limit of its account in the middle of it:");
        say_and_do(self, "cp counted.md $MNT/inbox/")?;
        let session = || read("tasks/counted/session").trim_end().to_owned();
        self.until(DONE_WITHIN, "an agent at work", || {
            read(&format!("sessions/{}/pane", session())).contains("word3")
        })?;
        say_and_do(self, "date +%s -d '10 seconds' > $(cat $MNT/accounts/active)/limit")?;
        self.until(DONE_WITHIN, "the task", || mount.join("done/counted.md").exists())?;
        say("  $ grep swap MNT/events");
        let events = read("events");
        say(&indent(&events.lines().filter(|line| line.contains("swap")).collect::<Vec<_>>().join("\n")));
        say("  $ cat MNT/done/counted.md");
        say(&indent(&self.read("done/counted.md")?));
        Ok(())
    }

    fn prepare(&self) -> io::Result<()> {
        for dir in ["api", "web", "one", "two", "mnt", "state"] {
            fs::DirBuilder::new().mode(0o700).create(self.dir.join(dir))?;
        }
        let at = |name: &str| self.dir.join(name).display().to_string();
        let config = format!(
            "projects: [{{name: api, path: {api}}}, {{name: web, path: {web}}}]\n\
             pool: {{autonomous: {{prefix: demo-, start_index: 1, min: {n}, max: {n}, agent: demo}}}}\n\
             agents: {{demo: {{kind: demo}}}}\n\
             accounts: [{{name: one, home: {one}, agent: demo}}, {{name: two, home: {two}, agent: demo}}]\n\
             shared: {{root: {dir}}}\n\
             quota: {{reactivate_cooldown: 1s}}\n\
             dispatcher: {{settle: 200ms}}\n\
             tmux: {{socket: {socket}, size: 100x30}}\n\
             mount: {{path: {mount}}}\n\
             api: {{listen: null}}\n",
            api = at("api"),
            web = at("web"),
            one = at("one"),
            two = at("two"),
            dir = self.dir.display(),
            socket = at("tmux.sock"),
            mount = at("mnt"),
            n = self.agents,
        );
        fs::write(self.dir.join("config.yaml"), config)?;
        let task = |name: &str, text: &str| fs::write(self.dir.join(format!("{name}.md")), text);
        task("copied", "Count the files of this machine's /etc:\n\n```sh\nsleep 1\nls /etc | wc -l\n```\n")?;
        task("moved", "---\npriority: 5\n---\nWhere are we?\n\n```sh\nsleep 2\npwd\n```\n")?;
        task(
            "edited",
            "Say who you are.\n\n```sh\nsleep 1\necho \"I work in session $CLAUDE_FAILOVER_SESSION\"\n```\n",
        )?;
        task("counted", "Say twenty words.\n\ndemo: slow=5\n")?;
        task("plain", "---\ntimeout: 1m\n---\n```sh\nsleep 1\ndate -u +%Y\n```\n")
    }

    fn start(&mut self) -> Result<(), String> {
        // Makes what both accounts' homes share.
        self.shell("STATE_DIRECTORY=$PWD/state \"$EXE\" check --fix --config config.yaml")?;
        let log = fs::File::create(self.dir.join("daemon.log")).map_err(|error| format!("no log file: {error}"))?;
        let mut command = Command::new(&self.exe);
        command
            .args(["run", "--foreground", "--config"])
            .arg(self.dir.join("config.yaml"))
            .env("STATE_DIRECTORY", self.dir.join("state"))
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0);
        self.daemon = Some(command.spawn().map_err(|error| format!("the daemon can't be started: {error}"))?);
        let status = self.mount().join("status.json");
        self.until(READY_WITHIN, "the mount to answer", || status.exists())
    }

    /// Waits for a condition, and for the daemon not to end meanwhile.
    fn until(&mut self, within: Duration, what: &str, mut holds: impl FnMut() -> bool) -> Result<(), String> {
        let deadline = Instant::now() + within;
        while !holds() {
            let ended = self.daemon.as_mut().and_then(|daemon| daemon.try_wait().ok().flatten());
            if ended.is_some() || Instant::now() >= deadline {
                let log = fs::read_to_string(self.dir.join("daemon.log")).unwrap_or_default();
                let told = if ended.is_some() { "the daemon ended" } else { "it took too long" };
                return Err(format!("waiting for {what}: {told}. Its log:\n{}", indent(&log)));
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    fn shell(&self, script: &str) -> Result<(), String> {
        let done = Command::new("sh")
            .args(["-euc", script])
            .current_dir(&self.dir)
            .env("MNT", self.mount())
            .env("WEB", self.dir.join("web"))
            .env("EXE", &self.exe)
            .output()
            .map_err(|error| format!("sh can't be started: {error}"))?;
        if done.status.success() {
            return Ok(());
        }
        let told = [done.stdout, done.stderr].concat();
        Err(format!("`{script}` failed: {}", String::from_utf8_lossy(&told).trim()))
    }

    /// Shows the mount's `status` while the tasks run.
    fn wait(&mut self) -> Result<(), String> {
        let total = DROPS.len() as u64;
        let bar = if io::stderr().is_terminal() { ProgressBar::new(total) } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("  {bar:30.green} {pos}/{len} done  {msg}") {
            bar.set_style(style);
        }
        let mount = self.mount();
        let mut told = String::new();
        let result = self.until(DONE_WITHIN, "the tasks", || {
            let (done, line) = progress(&mount);
            bar.set_position(done);
            bar.set_message(line.clone());
            if bar.is_hidden() && line != told {
                say(&format!("  {done}/{total} done  {line}"));
                told = line;
            }
            done >= total
        });
        bar.finish_and_clear();
        result
    }

    fn read(&self, path: &str) -> Result<String, String> {
        let path = self.mount().join(path);
        fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
    }

    fn leave(&mut self) -> Result<(), String> {
        self.daemon = None;
        let dir = self.dir.display();
        let exe = self.exe.display();
        say(&format!(
            "\nIt goes on running. Type next:\n\
             \n  cd {dir}; export MNT={dir}/mnt CLAUDE_FAILOVER_MOUNT={dir}/mnt\
             \n  echo 'Tell me a joke' > $MNT/inbox/joke.md && cat $MNT/tasks/joke/why\
             \n  cat $MNT/sessions/demo-1/pane        # what an agent shows\
             \n  date +%s -d '5 minutes' > $(cat $MNT/accounts/active)/limit    # its account is at its limit till then\
             \n  tail -f $MNT/events                  # what happens\
             \n  echo pause > $MNT/control            # and `cat $MNT/README` for all of it\
             \n  {exe} status                         # and tasks, sessions, log, submit, wait\
             \n  {exe} attach demo-1                  # Ctrl-b d leaves it at work\
             \n\nTo end it:\n\
             \n  {exe} demo --end {dir}"
        ));
        Ok(())
    }

    fn clean(&mut self) -> Result<(), String> {
        if let Some(mut daemon) = self.daemon.take() {
            stop(daemon.id());
            daemon.wait().map_err(|error| format!("could not wait for the daemon: {error}"))?;
        }
        remove(&self.dir)
    }
}

/// Ends a demo that was left running: the daemon, then the agents, then the directory.
fn end(dir: &Path) -> Result<(), String> {
    let dir = dir.canonicalize().map_err(|error| format!("{}: {error}", dir.display()))?;
    let named = dir.file_name().is_some_and(|name| name.to_string_lossy().starts_with(DIR));
    if !named || !dir.join("config.yaml").is_file() {
        return Err(format!("{} is no directory of a demo; nothing was done", dir.display()));
    }
    let lock = dir.join("state/lock");
    let state = |name: &str| (name == "STATE_DIRECTORY").then(|| dir.join("state").into_os_string());
    let holder = || Mount::new(dir.join("mnt"), &state).daemon();
    if let Some(pid) = holder() {
        stop(pid);
    }
    let deadline = Instant::now() + READY_WITHIN;
    while let Some(pid) = holder() {
        if Instant::now() >= deadline {
            return Err(format!(
                "the daemon (pid {pid}) still holds {}; kill -9 {pid}, then try again",
                lock.display()
            ));
        }
        std::thread::sleep(LOOK_EVERY);
    }
    remove(&dir)
}

fn stop(pid: u32) {
    let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM);
}

/// Ends the demo's tmux server and removes its directory.
fn remove(dir: &Path) -> Result<(), String> {
    let socket = dir.join("tmux.sock");
    // No server is success too: the daemon may have failed before it started one.
    let _ = Command::new("tmux").arg("-S").arg(&socket).arg("kill-server").stderr(Stdio::null()).status();
    // Agents write a last line of their own when their terminal goes.
    let deadline = Instant::now() + READY_WITHIN;
    while let Err(error) = fs::remove_dir_all(dir) {
        if Instant::now() >= deadline {
            return Err(format!("can't remove {}: {error}", dir.display()));
        }
        std::thread::sleep(LOOK_EVERY);
    }
    say("\nEverything is cleaned up.");
    Ok(())
}

/// How many tasks are done, and what the others are at.
fn progress(mount: &Path) -> (u64, String) {
    let text = fs::read_to_string(mount.join("status.json")).unwrap_or_default();
    let status: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let rows = |key: &str| status[key].as_array().cloned().unwrap_or_default();
    let done = rows("tasks").iter().filter(|task| task["state"] == "done").count() as u64;
    let word = |row: &serde_json::Value, key: &str| row[key].as_str().unwrap_or("-").to_owned();
    let sessions: Vec<String> = rows("sessions")
        .iter()
        .map(|s| format!("{} {} {}", word(s, "name"), word(s, "state"), word(s, "task")))
        .collect();
    (done, sessions.join(" · "))
}

fn listing(dir: &Path) -> String {
    let mut names: Vec<String> = fs::read_dir(dir)
        .map(|entries| {
            entries
                .filter_map(|entry| {
                    let entry = entry.ok()?;
                    let slash = if entry.file_type().ok()?.is_dir() { "/" } else { "" };
                    Some(format!("{}{slash}", entry.file_name().to_string_lossy()))
                })
                .collect()
        })
        .unwrap_or_default();
    names.sort();
    format!("  {}", names.join("  "))
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}

/// A closed pipe ends the words, not the demonstration's cleaning up.
fn say(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}
