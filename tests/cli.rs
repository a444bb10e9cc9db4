//! The commands as a shell sees them: output, exit codes, effects. The program runs in its own environment.

use std::{
    fs,
    io::Read,
    os::{fd::AsRawFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

/// A home, a `$PATH` and a place for the mount that belong to one test.
struct World {
    dir: TempDir,
}

const STATUS: &str = r#"{"version":1,"at":"2025-01-02T03:04:05Z","pid":42,"since":"2025-01-02T03:00:00Z","paused":true,
"health":["tmux: gone \u001b[2J"],
"tasks":[{"id":"fix","project":"web","state":"working","why":"screen: \"\u001b[31mesc\" 3s","session":"ccl-auto-11","attempts":1,"priority":0,"since":"2025-01-02T03:00:00Z"},
{"id":"old","project":"web","state":"done","why":"","session":null,"attempts":1,"since":"2025-01-02T03:00:00Z"},
{"id":"bad","project":"web","state":"failed","why":"it broke","since":"2025-01-02T03:00:00Z"}],
"sessions":[{"name":"ccl-auto-11","state":"working","why":"status file","task":"fix","agent":"claude","account":"compte1","pid":7,"since":"2025-01-02T03:00:00Z","attached":0}],
"accounts":[{"name":"compte1","state":"active","why":"","agent":"claude","home":"/h/.claude-1","active":true,"used":83,"until":null},
{"name":"compte2","state":"limited","why":"weekly limit","agent":"claude","home":"/h/.claude-2","active":false,"used":null,"until":"2025-01-03T00:00:00Z"}],
"swap":{"under_way":null,"last":{"number":1,"from":"compte2","to":"compte1","error":null},"partial":null,"lines":["last swap 1 \u001b[2J"]},
"queues":[{"project":"web","path":"/src/web","queued":0,"held":0,"working":1,"rejected":0,"done":1,"failed":1}]}"#;

const STATUS_TEXT: &str = "degraded, paused: nothing is dispatched, up 4m\n  tmux: gone \u{1b}[2J\n\n\
    SESSION      STATE    AGE  TASK  ACCOUNT   WHY\nccl-auto-11  working  4m   fix   compte1   status file\n";

impl World {
    fn new() -> Self {
        let world = Self { dir: tempfile::tempdir().expect("tmp") };
        fs::create_dir_all(world.path("bin")).expect("mkdir");
        fs::create_dir_all(world.path("run")).expect("mkdir");
        world.program("tmux", "echo tmux 3.4");
        world.program("claude", "echo '2.1.332 (Claude Code)'");
        world.program("fusermount3", "exit 1");
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().canonicalize().expect("tmp").join(name)
    }

    fn program(&self, name: &str, script: &str) {
        let file = self.path("bin").join(name);
        fs::write(&file, format!("#!/bin/sh\n{script}\n")).expect("write");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("chmod");
    }

    fn config(&self, text: &str) {
        let dir = self.path(".config/claude-failover");
        fs::create_dir_all(&dir).expect("mkdir");
        fs::write(dir.join("config.yaml"), text).expect("write");
    }

    /// Appears whole, as the mount's files do.
    fn status(&self, text: &str) {
        let mount = self.path("run/claude-failover");
        fs::create_dir_all(&mount).expect("mkdir");
        fs::write(mount.join("status"), STATUS_TEXT).expect("write");
        fs::write(mount.join(".new"), text).expect("write");
        fs::rename(mount.join(".new"), mount.join("status.json")).expect("rename");
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_claude-failover"));
        command
            .args(args)
            .env_clear()
            .env("HOME", self.path(""))
            .env("PATH", self.path("bin"))
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .current_dir(self.path(""))
            .stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Done {
        Done::from(self.command(args).output().expect("run"))
    }
}

#[derive(Debug)]
struct Done {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("utf-8");
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Done {
    #[track_caller]
    fn is(self, code: i32, wanted: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        for wanted in wanted {
            assert!(self.out.contains(wanted) || self.err.contains(wanted), "no {wanted:?} in {self:#?}");
        }
        self
    }
}

#[test]
fn wrong_use_is_two_and_help_is_no_error() {
    let world = World::new();
    world.run(&[]).is(2, &["Usage: claude-failover"]);
    world.run(&["stauts"]).is(2, &["'status'"]);
    world.run(&["wait", "idle", "--timeout", "soon"]).is(2, &["--timeout"]);
    world.run(&["demo", "--agents", "0"]).is(2, &["--agents"]);
    let help = world.run(&["--help"]).is(0, &["check", "unmount"]);
    assert!(help.err.is_empty() && !help.out.contains("demo-agent"), "{help:#?}");
    world.run(&["--version"]).is(0, &[env!("CARGO_PKG_VERSION")]);
}

#[test]
fn without_a_daemon_it_is_three() {
    let world = World::new();
    for command in
        [&["status"][..], &["tasks", "--json"], &["sessions"], &["accounts"], &["wait", "idle"], &["wait", "task", "x"]]
    {
        let done = world.run(command).is(3, &["no daemon at", "claude-failover run"]);
        assert!(done.out.is_empty(), "{done:#?}");
    }
    // A broken configuration doesn't hide a daemon that runs.
    world.config("muont: {}\n");
    world.status(STATUS);
    world.run(&["status"]).is(0, &["did you mean `mount`?", "degraded"]);
}

#[test]
fn tables_are_aligned_and_can_not_act_on_a_terminal() {
    let world = World::new();
    world.status(STATUS);
    let status = world.run(&["status"]).is(0, &[]);
    assert_eq!(status.out, STATUS_TEXT.replace('\u{1b}', "\\u{1b}"), "the mount's own words");
    let tasks = world.run(&["tasks"]).is(0, &["screen: \"\\u{1b}[31mesc\" 3s"]);
    let lines: Vec<&str> = tasks.out.lines().collect();
    assert_eq!(lines.len(), 4, "{}", tasks.out);
    let column = lines[0].find("STATE").expect("heading");
    for (line, state) in lines[1..].iter().zip(["working", "done", "failed"]) {
        assert_eq!(&line[column..column + state.len()], state);
    }
    world.run(&["sessions"]).is(0, &["ccl-auto-11", "compte1"]);
    world.run(&["accounts"]).is(0, &["USED", "UNTIL", "/h/.claude-1", "83%", "2025-01-03T00:00:00Z"]);
    for command in ["status", "tasks", "sessions", "accounts"] {
        assert!(!world.run(&[command]).out.contains('\x1b'), "{command}");
    }
}

#[test]
fn json_is_the_mount_s_own() {
    let world = World::new();
    world.status(STATUS);
    let all = world.run(&["status", "--json"]).is(0, &[]);
    assert_eq!(all.out, format!("{STATUS}\n"));
    let tasks: serde_json::Value = serde_json::from_str(&world.run(&["tasks", "--json"]).out).expect("json");
    assert_eq!(tasks[2]["why"], "it broke");
    world.status("{}");
    assert_eq!(world.run(&["sessions", "--json"]).is(0, &[]).out, "[]\n");
    world.run(&["tasks"]).is(0, &["no tasks"]);
    world.status("nonsense");
    world.run(&["tasks"]).is(1, &["status.json: "]);
}

#[test]
fn the_mount_is_found_by_option_variable_and_configuration() {
    let world = World::new();
    world.status(STATUS);
    let there = world.path("elsewhere");
    fs::rename(world.path("run/claude-failover"), &there).expect("rename");
    world.run(&["status"]).is(3, &[]);
    world.run(&["status", "--mount", "elsewhere"]).is(0, &[]);
    let by_variable = world.command(&["status"]).env("CLAUDE_FAILOVER_MOUNT", &there).output().expect("run");
    Done::from(by_variable).is(0, &[]);
    world.config("mount: {path: ~/elsewhere}\n");
    world.run(&["status"]).is(0, &[]);
}

#[test]
fn a_closed_pipe_is_success() {
    let world = World::new();
    let mut child =
        world.command(&["completions", "bash"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("spawn");
    drop(child.stdout.take());
    let mut err = String::new();
    child.stderr.take().expect("pipe").read_to_string(&mut err).expect("read");
    assert_eq!((child.wait().expect("wait").code(), err.as_str()), (Some(0), ""));
    // A full disk is not.
    let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    let done = world.command(&["man"]).stdout(full).output().expect("run");
    Done::from(done).is(1, &["can't write the output"]);
}

/// An agent takes a hook's exit code 2 as a veto, and its output as text for the model.
#[test]
fn a_hook_never_fails_its_agent() {
    let world = World::new();
    for args in [&["hook"][..], &["hook", "--help"], &["hook", "--nope", "x"], &["hook", "--", "-v"]] {
        let done = world.run(args).is(0, &[]);
        assert_eq!(done.out, "", "{args:?}");
    }
}

#[test]
fn wait_answers_by_its_exit_code() {
    let world = World::new();
    world.status(STATUS);
    world.run(&["wait", "task", "old"]).is(0, &[]);
    world.run(&["wait", "task", "web:old.md"]).is(0, &[]);
    world.run(&["wait", "task", "bad"]).is(1, &["failed: it broke"]);
    world.run(&["wait", "task", "nope"]).is(1, &["there is no task nope"]);
    let late = world.run(&["wait", "task", "fix", "--timeout", "300ms"]).is(4, &["time is up: fix is working"]);
    assert!(!late.err.contains('\x1b'), "{}", late.err);
    world.run(&["wait", "idle", "-t", "1ms"]).is(4, &["open tasks: 1, working sessions: 1"]);
    world.run(&["wait", "swap"]).is(0, &[]);
    let swap = r#"{"number":2,"from":"compte1","to":"compte2","step":"move","error":"\u001b[2J"}"#;
    world.status(&STATUS.replace("\"under_way\":null", &format!("\"under_way\":{swap}")));
    world.run(&["wait", "swap", "-t", "1ms"]).is(4, &["swap 2 from compte1 to compte2: move"]);
    world.status(&STATUS.replace("\"partial\":null", &format!("\"partial\":{swap}")));
    world.run(&["wait", "swap"]).is(1, &["swap 2 is half done: \\u{1b}[2J"]);
}

/// A swap that fails while somebody waits is told; the daemon may even be restarted meanwhile.
#[test]
fn wait_swap_tells_of_one_that_failed_meanwhile() {
    let world = World::new();
    let status = world.path("run/claude-failover/status.json");
    fs::create_dir_all(status.parent().expect("parent")).expect("mkdir");
    nix::unistd::mkfifo(&status, nix::sys::stat::Mode::S_IRWXU).expect("mkfifo");
    let mut child = world.command(&["wait", "swap", "--timeout", "60s"]).stderr(Stdio::piped()).spawn().expect("spawn");
    let mut writer = fs::OpenOptions::new().write(true).open(&status).expect("open");
    fs::remove_file(&status).expect("remove");
    let under_way = STATUS.replace("\"under_way\":null", r#""under_way":{"number":2,"step":"move"}"#);
    std::io::Write::write_all(&mut writer, under_way.as_bytes()).expect("write");
    drop(writer);
    world.status(&STATUS.replace(
        r#""last":{"number":1,"from":"compte2","to":"compte1","error":null}"#,
        r#""last":{"number":2,"from":"compte1","to":"compte2","error":"no links"}"#,
    ));
    let mut err = String::new();
    child.stderr.take().expect("pipe").read_to_string(&mut err).expect("read");
    assert_eq!(child.wait().expect("wait").code(), Some(1), "{err}");
    assert!(err.contains("swap 2 from compte1 to compte2 failed: no links"), "{err}");
}

#[test]
fn wait_sees_the_end_even_through_a_restart() {
    for what in [&["task", "fix"][..], &["idle"]] {
        let world = World::new();
        let status = world.path("run/claude-failover/status.json");
        fs::create_dir_all(status.parent().expect("parent")).expect("mkdir");
        nix::unistd::mkfifo(&status, nix::sys::stat::Mode::S_IRWXU).expect("mkfifo");
        let args = [&["wait"][..], what, &["--timeout", "60s"]].concat();
        let mut child = world.command(&args).spawn().expect("spawn");
        // Opening a FIFO waits for the other side: the command is asking. Its next question finds the daemon gone.
        let mut writer = fs::OpenOptions::new().write(true).open(&status).expect("open");
        fs::remove_file(&status).expect("remove");
        std::io::Write::write_all(&mut writer, STATUS.as_bytes()).expect("write");
        drop(writer);
        assert!(child.try_wait().expect("wait").is_none());
        world.status(
            &STATUS.replace("\"working\"", "\"done\"").replace("\"done\":1,\"rejected", "\"working\":0,\"rejected"),
        );
        assert_eq!(child.wait().expect("wait").code(), Some(0), "{what:?}");
    }
}

#[test]
fn check_tells_every_problem_at_once() {
    let world = World::new();
    world.program("tmux", "echo tmux 2.9");
    fs::create_dir_all(world.path("web/.agent-queue/inbox")).expect("mkdir");
    fs::write(world.path("web/.agent-queue/done"), "a file").expect("write");
    fs::create_dir_all(world.path("full")).expect("mkdir");
    fs::write(world.path("full/x"), "x").expect("write");
    fs::create_dir_all(world.path(".local/state/claude-failover")).expect("mkdir");
    fs::set_permissions(world.path(".local/state/claude-failover"), fs::Permissions::from_mode(0o755)).expect("chmod");
    world.config(
        "projects:\n  - {name: web, path: ~/web}\n  - {name: api, path: ~/api}\naccounts:\n  - {name: a, home: ~/.a, env: {API_KEY: k}}\nagents:\n  codex: {kind: codex, program: nowhere}\npool:\n  autonomous: {agent: codex}\nmount: {path: ~/full, control_group: no-such-group}\n",
    );
    let done = world.run(&["check"]);
    let done = done.is(
        1,
        &[
            "config.yaml:2:17: ",
            "web/.agent-queue/done isn't a directory",
            "config.yaml:3:17: ",
            "api doesn't exist",
            "config.yaml:5:15: ",
            "API_KEY stands in a file that others can read",
            "the agent codex runs `nowhere`, which isn't on $PATH",
            "tmux 2.9 is too old",
            "(mode 0755)",
            "full isn't empty",
            "there is no group \"no-such-group\"",
            "ok: agent claude: ",
            "2.1.332 (Claude Code)",
        ],
    );
    assert!(!done.out.contains("API_KEY: k\n"), "{}", done.out);
    world.config("projects: [{name: web, path: ~/web}]\npool: {dedicated: 3}\nmuont: {}\n");
    let done = world.run(&["check"]).is(1, &["expected a list", "did you mean `mount`", "2.9 is too old"]);
    assert!(done.out.contains(" 3 | muont: {}\n   | ^"), "{}", done.out);
}

/// A mistake in the file hides none of the machine, and is no reason to speak of what it stands for.
#[test]
fn check_goes_on_behind_mistakes_of_the_configuration() {
    let world = World::new();
    fs::create_dir_all(world.path("x")).expect("mkdir");
    fs::write(world.path("x/bad.yaml"), "states:\n  - {rule: a, region: nowhere}\n").expect("write");
    world.config(
        "projects:\n  - {name: web}\n  - {name: api, path: ~/api}\naccounts:\n  - {name: a, agent: 3}\n  - {name: b, home: ~/.none}\nagents:\n  own: {kind: claude, rules: ~/x/bad.yaml}\n  codex: {kind: codex, program: nowhere}\n  sh: {kind: command, run: 3}\npool:\n  autonomous: {agent: codex, settle: 3}\nmount: {path: ~/m}\nwatcher: {idle_timeout: soon}\n",
    );
    let done = world.run(&["check"]).is(
        1,
        &[
            "config.yaml:2:5: the key `path` is missing",
            "config.yaml:5:5: the key `home` is missing",
            "config.yaml:12:30: unknown key `settle`",
            "config.yaml:14:25: expected a time",
            "config.yaml:10:28: expected a list",
            "config.yaml:3:17: ",
            "api doesn't exist",
            "config.yaml:6:15: ",
            "none doesn't exist",
            "bad.yaml:1:1: ",
            "config.yaml:9:24: the agent codex runs `nowhere`, which isn't on $PATH",
            "9 problems",
        ],
    );
    assert!(!done.out.contains("is a command and needs"), "{}", done.out);
    assert!(!done.out.contains(": read"), "{}", done.out);
}

/// Every path below, directories with their mode.
/// A rules file is read where everything else is checked, and the daemon says the same of it.
#[test]
fn check_reads_rules_files_and_versions() {
    let world = World::new();
    let config = "projects: [{name: web, path: web}]\nagents: {claude: {kind: claude, rules: r.yaml}}\n";
    world.config(config);
    fs::create_dir_all(world.path(".config/claude-failover/web")).expect("mkdir");
    let rules = |text: &str| fs::write(world.path(".config/claude-failover/r.yaml"), text).expect("write");
    rules("screen:\n  rules:\n    - {rule: mine, region: lst, match: x, mean: busy}\nlunch: {}\n");
    let wanted = [
        "r.yaml:3:",
        "rule mine: `lst` is not known here; did you mean `last`?",
        "r.yaml:4:1: no key is called `lunch`",
    ];
    world.run(&["check"]).is(1, &wanted);
    world.config("projects: [{name: web, path: web}]\nagents: {mine: {kind: mine, rules: r.yaml}}\n");
    rules("based_on: gemnii\n");
    world.run(&["check"]).is(1, &["r.yaml:1:11: no kind `gemnii` is built in; did you mean `gemini`?"]);
    rules("launch: {args: [-x]}\nscreen: {done: '('}\n");
    world.run(&["check"]).is(1, &["r.yaml:2:10: `done`: the pattern can't be read: unclosed group"]);
    rules("launch: {args: [-x]}\n");
    world.run(&["check"]).is(1, &["r.yaml:1:1: `launch: {program: [PROGRAM]}` is missing"]);
    fs::remove_file(world.path(".config/claude-failover/r.yaml")).expect("removed");
    world.run(&["check"]).is(1, &["r.yaml can't be read: No such file"]);
    rules("launch: {program: [mine]}\nversions: {says: '^mine (.*)', whole: 3.0.0, least: 2.0.0}\n");
    world.program("mine", "echo mine 1.9.0");
    world.run(&["check"]).is(1, &["mine is version 1.9.0, which is too old: install 3.0.0 or newer"]);
    world.config(config);
    rules("launch: {env: {A: b}}\n");
    world.program("claude", "echo '2.0.1 (Claude Code)'");
    world.run(&["check"]).is(1, &["claude is version 2.0.1, which is too old: install 2.1.78 or newer"]);
    world.program("claude", "echo '2.1.77 (Claude Code)'");
    let said = world.run(&["check", "--fix"]);
    said.is(0, &["note: agent claude: claude is version 2.1.77; 2.1.78 or newer is needed for everything"]);
    let line = "─".repeat(40);
    fs::write(world.path("screen"), format!("❯ hi\n  ⎿  You've hit your weekly limit\n\n{line}\n❯ typed\n{line}\n"))
        .expect("write");
    let wanted =
        ["input box: \"typed\"", "region last\n  | ❯ hi", "rule limit-line", "decides: turn failed (weekly limit)"];
    world.run(&["look", "--agent", "claude", "screen"]).is(0, &wanted);
    world.run(&["look", "--agent", "cloude", "screen"]).is(1, &["no agent is called \"cloude\"", "claude"]);
}

/// A copied login is told: the swap to it would gain nothing.
#[test]
fn check_knows_two_homes_with_one_login() {
    let world = World::new();
    world.config("projects: [{name: web, path: web}]\naccounts: [{name: one, home: one}, {name: two, home: two}]\n");
    for home in [".config/claude-failover/web", ".config/claude-failover/one", ".config/claude-failover/two"] {
        fs::create_dir_all(world.path(home)).expect("mkdir");
    }
    let login = |home: &str, token: &str| {
        let text = format!(r#"{{"claudeAiOauth": {{"refreshToken": "{token}"}}}}"#);
        fs::write(world.path(&format!(".config/claude-failover/{home}/.credentials.json")), text).expect("write");
    };
    login("one", "secret-1");
    login("two", "secret-1");
    let done = world.run(&["check"]);
    assert!(!done.out.contains("secret"), "{}", done.out);
    assert!(done.out.contains("note: the accounts one and two hold one login"), "{}", done.out);
    login("two", "secret-2");
    assert!(!world.run(&["check"]).out.contains("one login"));
}

fn tree(dir: &Path) -> Vec<String> {
    let mut all = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(path) = todo.pop() {
        let meta = path.symlink_metadata().expect("stat");
        all.push(format!("{} {:o}", path.display(), meta.permissions().mode()));
        if meta.is_dir() {
            todo.extend(fs::read_dir(&path).expect("list").map(|entry| entry.expect("entry").path()));
        }
    }
    all.sort();
    all
}

#[test]
fn check_only_looks_and_fix_only_makes_what_is_missing() {
    let world = World::new();
    fs::create_dir_all(world.path("web/.agent-queue/inbox")).expect("mkdir");
    fs::write(world.path("web/.agent-queue/inbox/a.md"), "do it").expect("write");
    world.config("projects: [{name: web, path: ~/web}, {name: api, path: ~/api}]\n");
    let before = tree(&world.path(""));
    world.run(&["check"]).is(1, &["note: project web: its queue isn't whole", "api doesn't exist"]);
    assert_eq!(tree(&world.path("")), before, "a check changed something");

    world.run(&["check", "--fix"]).is(1, &["made ", "api doesn't exist"]);
    let after = tree(&world.path(""));
    let new: Vec<String> = after.iter().filter(|line| !before.contains(line)).cloned().collect();
    let made = [
        (".local", "40700"),
        (".local/state", "40700"),
        (".local/state/claude-failover", "40700"),
        ("run/claude-failover", "40700"),
        ("web/.agent-queue/.gitignore", "100644"),
        ("web/.agent-queue/done", "40755"),
        ("web/.agent-queue/drafts", "40755"),
        ("web/.agent-queue/failed", "40755"),
    ];
    assert_eq!(new, made.map(|(path, mode)| format!("{} {mode}", world.path(path).display())));
    assert!(before.iter().all(|line| after.contains(line)), "something is gone or changed");
    world.run(&["check", "--fix"]).is(1, &["ok: project web"]);
    assert_eq!(tree(&world.path("")), after);
}

const TWO_ACCOUNTS: &str =
    "projects: [{name: web, path: ~/web}]\naccounts:\n  - {name: one, home: ~/one}\n  - {name: two, home: ~/two}\n";

/// Two new homes need one `check --fix`; the daemon says so and touches nothing before.
#[test]
fn the_daemon_refuses_homes_that_are_not_ready() {
    let world = World::new();
    for dir in ["web", "one", "two"] {
        fs::create_dir(world.path(dir)).expect("mkdir");
    }
    world.config(TWO_ACCOUNTS);
    let before = tree(&world.path(""));
    let done = world.run(&["run", "--foreground"]).is(
        1,
        &[
            "accounts[0].home: ",
            "one/projects is missing",
            "accounts[1].home: ",
            "two/file-history is missing",
            "claude_link: ",
            "run `claude-failover check --fix` once",
        ],
    );
    assert_eq!(done.err.matches(" is missing; ").count(), 7, "{done:#?}");
    assert_eq!(tree(&world.path("")), before, "a refused start changed something");
    world.run(&["check"]).is(1, &["config.yaml:3:", "one/projects is missing", "  -> claude-failover check --fix"]);
    assert_eq!(tree(&world.path("")), before, "a check changed something");

    // What a person has to look at is told beside what is only missing, and stays as it is.
    fs::write(world.path("two/projects"), "mine").expect("write");
    world.run(&["check", "--fix"]).is(1, &["made ", "config.yaml:4:", "two/projects is a file", "1 problem"]);
    let done = world.run(&["run", "--foreground"]).is(1, &["two/projects is a file", "-> look at what it is"]);
    assert!(!done.err.contains("missing;"), "{done:#?}");
    assert_eq!(fs::read_to_string(world.path("two/projects")).expect("read"), "mine");

    fs::remove_file(world.path("two/projects")).expect("rm");
    world.run(&["check", "--fix"]).is(0, &["made ", "ok: account two: ", "no problems"]);
    assert_eq!(fs::read_link(world.path(".claude")).expect("a link"), world.path("one"));
    // Now it gets as far as tmux, which only says its version here.
    let done = world.run(&["run", "--foreground"]).is(1, &["tmux"]);
    assert!(!done.err.contains("accounts[") && !done.err.contains("claude_link"), "{done:#?}");
}

#[test]
fn check_knows_a_mountpoint_inside_a_queue() {
    let world = World::new();
    fs::create_dir_all(world.path("web")).expect("mkdir");
    world.config("projects: [{name: web, path: ~/web}]\nmount: {path: ~/web/.agent-queue/m}\n");
    world.run(&["check"]).is(1, &["lies in the queue of the project web"]);
    world.config("projects: [{name: web, path: ~/web}]\nmount: {path: ~/web}\n");
    world.run(&["check"]).is(1, &["would hide the queue of the project web"]);
}

#[test]
fn unmount_leaves_others_alone_and_is_content_with_nothing() {
    let world = World::new();
    world.run(&["unmount"]).is(0, &["nothing is mounted"]);
    world.run(&["unmount", "--mount", "/proc"]).is(1, &["/proc is a proc file system", "not ours"]);
    assert!(Path::new("/proc/self/stat").exists());
}

/// A FUSE mount whose server is gone, made without any FUSE library.
#[test]
fn a_dead_mount_is_named_and_detached() {
    let world = World::new();
    let point = world.path("run/claude-failover");
    fs::create_dir_all(&point).expect("mkdir");
    let mount = || -> Result<(), String> {
        let device = fs::OpenOptions::new().read(true).write(true).open("/dev/fuse").map_err(|e| e.to_string())?;
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
        let flags = nix::mount::MsFlags::MS_NOSUID | nix::mount::MsFlags::MS_NODEV;
        nix::mount::mount(Some("claude-failover"), &point, Some("fuse"), flags, Some(options.as_str()))
            .map_err(|e| e.to_string())
    };
    if let Err(why) = mount() {
        eprintln!("skipped: needs root and /dev/fuse: {why}");
        return;
    }
    fs::create_dir_all(world.path("web")).expect("mkdir");
    world.config("projects: [{name: web, path: ~/web}]\n");
    world.run(&["status"]).is(3, &["left its mount behind", "claude-failover unmount"]);
    world.run(&["check"]).is(1, &["is the mount of a daemon that is gone"]);
    // A second one on top of it goes too.
    mount().expect("mount over the dead one");
    world.run(&["unmount"]).is(0, &["detached"]);
    world.run(&["unmount"]).is(0, &["nothing is mounted"]);
    assert_eq!(fs::read_dir(&point).expect("usable again").count(), 0);
    world.run(&["check"]).is(0, &["no problems"]);
}

#[test]
fn man_page_and_completions_know_every_command() {
    let world = World::new();
    let page = world.run(&["man"]).is(0, &[]).out;
    for command in [
        "run",
        "demo",
        "check",
        "status",
        "tasks",
        "sessions",
        "accounts",
        "wait task",
        "wait swap",
        "wait idle",
        "submit",
        "log",
        "attach",
        "mount-path",
        "init",
        "hook",
        "unmount",
        "completions",
        "man",
    ] {
        assert!(page.contains(&format!("\n.SS {command}\n")), "{command}: {page}");
    }
    assert!(!page.contains("demo-agent") && !page.contains("demo\\-agent"));
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        world.run(&["completions", shell]).is(0, &["CLAUDE_FAILOVER_COMPLETE", "claude-failover"]);
    }
    let file = world.path("page.1");
    fs::write(&file, page).expect("write");
    match Command::new("man").args(["--warnings", "-P", "cat", "-l"]).arg(&file).env("LC_ALL", "C.UTF-8").output() {
        Ok(output) => assert_eq!(String::from_utf8_lossy(&output.stderr), ""),
        Err(_) => eprintln!("no man here"),
    }
}

/// What a shell is offered after these words, the last of which is being typed.
fn completed(world: &World, words: &[&str]) -> String {
    let mut command = world.command(&["--", "claude-failover"]);
    command.args(words).env("CLAUDE_FAILOVER_COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", words.len().to_string());
    Done::from(command.env("_CLAP_IFS", "\n").output().expect("run")).is(0, &[]).out
}

#[test]
fn completions_know_what_there_is_now() {
    let world = World::new();
    assert_eq!(completed(&world, &["log", ""]).lines().filter(|word| !word.starts_with('-')).count(), 0);
    world.status(STATUS);
    let has = |words: &[&str], wanted: &[&str]| {
        let offered = completed(&world, words);
        for wanted in wanted {
            assert!(offered.lines().any(|word| word == *wanted), "{words:?}: {offered}");
        }
        offered
    };
    has(&["log", ""], &["fix", "old", "bad"]);
    has(&["wait", "task", "f"], &["fix"]);
    has(&["attach", ""], &["ccl-auto-11"]);
    has(&["submit", "--project", ""], &["web"]);
    let commands = has(&[""], &["status", "submit", "unmount"]);
    assert!(!commands.contains("demo-agent") && !commands.contains("repeater"), "{commands}");
}

#[test]
fn the_mount_s_place_is_printed_also_without_a_daemon() {
    let world = World::new();
    let done = world.run(&["mount-path"]).is(3, &["no daemon at"]);
    assert_eq!(done.out, format!("{}\n", world.path("run/claude-failover").display()));
}

#[test]
fn a_first_configuration_is_one_that_check_takes() {
    let world = World::new();
    fs::create_dir(world.path("web")).expect("mkdir");
    fs::create_dir(world.path(".claude")).expect("mkdir");
    fs::write(world.path(".claude/.credentials.json"), "{}").expect("write");
    world.run(&["init"]).is(1, &["holds more than one project", "--project"]);
    let shown = world.run(&["init", "--print", "--project", "web"]).is(0, &["{name: web, path: ", "agent: claude"]);
    assert!(!world.path(".config/claude-failover/config.yaml").exists());
    world.run(&["init", "--project", "web"]).is(0, &[shown.out.as_str(), "check --fix", "run --foreground"]);
    let meta = fs::metadata(world.path(".config/claude-failover/config.yaml")).expect("written");
    assert_eq!(meta.permissions().mode() & 0o777, 0o600);
    world.run(&["check"]).is(0, &["no problems"]);
    world.run(&["init", "--project", "web"]).is(1, &["is there already"]);
    fs::remove_file(world.path("bin/claude")).expect("rm");
    world.run(&["init", "--print", "--project", "web"]).is(1, &["no agent is on $PATH", "npm install"]);
}

#[test]
fn check_names_providers_without_a_key_and_words_that_none_serves() {
    let world = World::new();
    fs::create_dir_all(world.path("web/.agent-queue/inbox")).expect("mkdir");
    fs::write(world.path("web/.agent-queue/inbox/a.md"), "---\npreferred_ai: gimini\n---\nx").expect("write");
    fs::write(world.path("web/.agent-queue/inbox/b.md"), "---\npreferred_ai: Fast\n---\nx").expect("write");
    fs::write(world.path("key"), "k").expect("write");
    world.config(
        "projects: [{name: web, path: ~/web}]\nproviders:\n  gemini: {kind: gemini, model: m, key_env: NO_SUCH_KEY}\n  other: {kind: openai, model: m, key_file: ~/key, serves: [fast]}\n",
    );
    let done = world.run(&["check"]).is(
        1,
        &["ok: provider other: openai at https://api.openai.com/v1, key in ", "NO_SUCH_KEY is not set", "`gimini`"],
    );
    assert!(!done.out.contains("b.md"), "{}", done.out);
}

#[test]
fn a_demo_s_end_takes_only_a_demo() {
    let world = World::new();
    fs::create_dir(world.path("web")).expect("mkdir");
    world.run(&["demo", "--end", "web"]).is(1, &["is no directory of a demo"]);
    assert!(world.path("web").exists());
    world.run(&["demo", "--end", "none"]).is(1, &["none"]);
}

#[test]
fn the_systemd_units_are_valid() {
    let world = World::new();
    let bin = world.path(".local/bin");
    fs::create_dir_all(&bin).expect("mkdir");
    fs::copy("/bin/true", bin.join("claude-failover")).expect("copy");
    for kind in ["user", "system"] {
        let source =
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("examples/systemd/{kind}/claude-failover.service"));
        let text = fs::read_to_string(source).expect("unit");
        for line in ["Type=notify", "NotifyAccess=main", "KillMode=process", "Restart=on-failure", "OOMPolicy=continue"]
        {
            assert!(text.lines().any(|own| own == line), "{kind}: {line}");
        }
        let file = world.path("claude-failover.service");
        fs::write(&file, text.replace("/usr/local/bin/claude-failover", "/bin/true")).expect("write");
        let mut command = Command::new("systemd-analyze");
        command.arg("verify").args((kind == "user").then_some("--user")).arg(&file);
        command.env("HOME", world.path("")).env("XDG_RUNTIME_DIR", world.path("run"));
        match command.output() {
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                assert!(output.status.success() && !said.contains("Unknown key"), "{kind}: {said}");
            }
            Err(_) => eprintln!("no systemd-analyze here"),
        }
    }
}
