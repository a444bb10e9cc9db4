//! The demo agent in a real tmux pane, and the hook and the command agent as processes.
//!
//! Every test has its own tmux server, home and files in a temporary directory.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

const UUID: &str = "5e7a9c1e-0000-4000-8000-000000000001";

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_claude-failover"))
}

#[track_caller]
fn eventually<T>(what: &str, mut check: impl FnMut() -> Option<T>, state: impl Fn() -> String) -> T {
    let deadline = Instant::now() + Duration::from_secs(15);
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(Instant::now() < deadline, "never seen: {what}\n{}", state());
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn lines_of(log: &Path) -> Vec<Value> {
    let text = fs::read_to_string(log).unwrap_or_default();
    // A hook that sees half of another's line begins a new one: blank lines are none.
    let lines = text.lines().filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

struct Pane {
    dir: TempDir,
}

impl Pane {
    fn start(args: &[&str]) -> Self {
        let pane = Self { dir: tempfile::tempdir().unwrap() };
        let hook = format!("{} hook --session s1 --log {}", program().display(), pane.path("log").display());
        let names = [
            "SessionStart",
            "UserPromptSubmit",
            "PreToolUse",
            "PostToolUse",
            "PermissionRequest",
            "Notification",
            "Stop",
            "StopFailure",
            "SessionEnd",
        ];
        let hooks: serde_json::Map<String, Value> = names
            .iter()
            .map(|name| ((*name).to_owned(), json!([{"hooks": [{"type": "command", "command": hook}]}])))
            .collect();
        fs::write(pane.path("settings.json"), json!({"hooks": hooks}).to_string()).unwrap();
        fs::write(pane.path("tmux.conf"), "set -g remain-on-exit on\nset -g default-terminal screen-256color\n")
            .unwrap();
        fs::create_dir(pane.path("work")).unwrap();
        pane.launch("agent", args);
        pane
    }

    /// Starts the agent in a session of this name.
    fn launch(&self, name: &str, args: &[&str]) {
        self.launch_at("home", name, args);
    }

    /// As `launch`, under another home.
    fn launch_at(&self, home: &str, name: &str, args: &[&str]) {
        let work = self.path("work");
        let settings = self.path("settings.json");
        let home = format!("DEMO_AGENT_HOME={}", self.path(home).display());
        let mut line =
            vec!["new-session", "-d", "-s", name, "-x", "100", "-y", "30", "-e", &home, "-e", "TZ=UTC", "-c"];
        line.extend([
            work.to_str().unwrap(),
            "--",
            program().to_str().unwrap(),
            "demo-agent",
            "--settings",
            settings.to_str().unwrap(),
        ]);
        line.extend(args);
        self.tmux(&line);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn tmux(&self, args: &[&str]) -> String {
        let mut command = self.tmux_command();
        let output = command.args(args).output().unwrap();
        assert!(output.status.success(), "tmux {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn tmux_command(&self) -> Command {
        let mut command = Command::new("tmux");
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.dir.path())
            .env("LC_ALL", "C.UTF-8");
        command.arg("-u").arg("-S").arg(self.path("sock")).arg("-f").arg(self.path("tmux.conf"));
        command
    }

    fn ask(&self, format: &str) -> String {
        self.tmux(&["display-message", "-p", format]).trim_end().to_owned()
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.ask("#{pane_pid}").parse().unwrap())
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-S", "-500"])
    }

    #[track_caller]
    fn sees(&self, text: &str) -> String {
        eventually(text, || Some(self.screen()).filter(|screen| screen.contains(text)), || self.screen())
    }

    #[track_caller]
    fn ready(&self) -> &Self {
        self.sees("  ready");
        self
    }

    /// Answers the menu of a limit.
    fn leave_menu(&self) -> &Self {
        self.sees("  ❯ 1. Stop and wait for limit to reset");
        self.keys(&["Escape"]);
        self.ready()
    }

    fn keys(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    fn say(&self, text: &str) {
        self.tmux(&["send-keys", "-l", "--", text]);
        self.keys(&["Enter"]);
    }

    /// As a supervisor gives a task: a bracketed paste, then Enter.
    fn paste(&self, text: &str) {
        let mut load = self.tmux_command().args(["load-buffer", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        load.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(load.wait().unwrap().success());
        self.tmux(&["paste-buffer", "-p", "-d"]);
    }

    fn submit(&self, text: &str) {
        self.paste(text);
        self.keys(&["Enter"]);
    }

    fn events(&self) -> Vec<Value> {
        // A line that is being written is none yet.
        let text = fs::read_to_string(self.path("log")).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn names(&self) -> Vec<String> {
        self.events().iter().map(|event| event["event"].as_str().unwrap().to_owned()).collect()
    }

    /// The data of the n-th event of this name.
    #[track_caller]
    fn event(&self, name: &str, nth: usize) -> Value {
        let find = || self.events().into_iter().filter(|event| event["event"] == name).nth(nth);
        let state = || format!("{:?}\n{}", self.names(), self.screen());
        eventually(name, find, state)["data"].clone()
    }

    fn status(&self) -> Option<Value> {
        let path = self.path("home/sessions").join(format!("{}.json", self.pid()));
        Some(serde_json::from_str(&fs::read_to_string(path).ok()?).unwrap())
    }

    #[track_caller]
    fn has_status(&self, status: &str) -> Value {
        let state = || format!("{:?}\n{}", self.status(), self.screen());
        eventually(status, || self.status().filter(|file| file["status"] == status), state)
    }

    fn transcript(&self) -> Vec<Value> {
        let dirs = fs::read_dir(self.path("home/projects")).into_iter().flatten().flatten();
        let files = dirs.flat_map(|dir| fs::read_dir(dir.path()).unwrap()).flatten();
        files.flat_map(|file| lines_of(&file.path())).collect()
    }

    /// Waits for the program's end: exit status and signal, as tmux words them.
    #[track_caller]
    fn end(&self) -> (String, String) {
        // `#{pane_dead}` alone is too early: tmux sees the terminal close before it reaps the program.
        let end = || {
            // tmux 3.3a may miss the program's end; any other child's makes it look again.
            let _ = self.tmux_command().args(["run-shell", "-b", "true"]).output();
            Some((self.ask("#{pane_dead_status}"), self.ask("#{pane_dead_signal}")))
                .filter(|(a, b)| !(a.is_empty() && b.is_empty()))
        };
        eventually("the end of the program", end, || self.screen())
    }
}

impl Drop for Pane {
    fn drop(&mut self) {
        // One that hangs outlives its server.
        let pids = self.tmux_command().args(["list-panes", "-a", "-F", "#{pane_dead} #{pane_pid}"]).output();
        let pids = String::from_utf8(pids.unwrap().stdout).unwrap();
        let _ = self.tmux_command().arg("kill-server").output();
        for pid in pids.lines().filter_map(|line| line.strip_prefix("0 ")) {
            let _ = kill(Pid::from_raw(pid.parse().unwrap()), Signal::SIGKILL);
        }
    }
}

#[test]
fn a_prompt_gives_a_reply_hooks_status_and_transcript() {
    let pane = Pane::start(&["--session-id", UUID]);
    let screen = pane.ready().screen();
    assert!(screen.starts_with(&format!("demo-agent {} · {}", env!("CARGO_PKG_VERSION"), pane.path("work").display())));
    let rule = "─".repeat(100);
    assert!(screen.contains(&format!("\n{rule}\n❯\n{rule}\n  ready\n")), "{screen}");
    assert_eq!(pane.ask("#{pane_title}"), "✳ demo");
    assert_eq!(pane.ask("#{alternate_on}"), "0");
    let status = pane.has_status("idle");
    assert_eq!(status["sessionId"], UUID);
    assert_eq!(status["kind"], "interactive");
    let stat = fs::read_to_string(format!("/proc/{}/stat", pane.pid())).unwrap();
    assert_eq!(stat.rsplit(')').next().unwrap().split_whitespace().nth(19), status["procStart"].as_str());
    let mode = |name: &str| fs::metadata(pane.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("home/sessions"), 0o700);
    assert_eq!(mode(&format!("home/sessions/{}.json", pane.pid())), 0o600);

    pane.say("grüß dich 👋");
    assert_eq!(pane.event("UserPromptSubmit", 0)["prompt"], "grüß dich 👋");
    let stop = pane.event("Stop", 0);
    assert_eq!(stop["last_assistant_message"], "You said: grüß dich 👋");
    assert_eq!(stop["background_tasks"], json!([]));
    assert_eq!(stop["stop_hook_active"], false);
    assert_eq!(stop["session_id"], UUID);
    assert_eq!(stop["cwd"], pane.path("work").to_str().unwrap());
    pane.sees("> grüß dich 👋\n● You said: grüß dich 👋\n✻ Worked for 0s\n");
    pane.has_status("idle");
    let path = stop["transcript_path"].as_str().unwrap();
    assert!(path.ends_with(&format!("/{UUID}.jsonl")));
    assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    let lines = lines_of(Path::new(path));
    assert_eq!(lines[0]["type"], "user");
    assert_eq!(lines[0]["message"]["content"], "grüß dich 👋");
    assert_eq!(lines[1]["message"]["content"][0]["text"], "You said: grüß dich 👋");
    assert_eq!(lines[1]["message"]["usage"]["input_tokens"], 3);
    assert_eq!(lines[1]["message"]["usage"]["output_tokens"], 6);
    assert_eq!(lines[1]["parentUuid"], lines[0]["uuid"]);

    pane.say("/exit");
    assert_eq!(pane.end().0, "0");
    pane.sees(&format!("Resume this session with:\ndemo-agent --resume {UUID}\n"));
    assert_eq!(pane.event("SessionEnd", 0)["reason"], "prompt_input_exit");
    assert!(pane.status().is_none());
    assert_eq!(pane.names(), ["SessionStart", "UserPromptSubmit", "Stop", "SessionEnd"]);
    assert_eq!(fs::metadata(pane.path("log")).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_block_is_run_and_its_output_is_the_reply() {
    let pane = Pane::start(&[]);
    pane.ready().submit("Please do\nthis:\n```sh\necho one; pwd; printf 'ç\\033[31m' >&2\nexit 3\n```\nthanks");
    let expected = format!("one\n{}\nç\u{1b}[31m\nexit status 3", pane.path("work").display());
    assert_eq!(pane.event("Stop", 0)["last_assistant_message"], expected);
    pane.sees("  ç␛[31m\n  exit status 3\n✻ Worked");
    assert_eq!(pane.event("PreToolUse", 0)["tool_input"]["command"], "echo one; pwd; printf 'ç\\033[31m' >&2\nexit 3");
    assert_eq!(pane.event("PostToolUse", 0)["tool_name"], "Bash");
    let kinds: Vec<Value> =
        pane.transcript().iter().map(|line| line["message"]["content"][0]["type"].clone()).collect();
    assert_eq!(kinds, [json!(null), json!("tool_use"), json!("tool_result"), json!("text")]);
    // A child that goes on and holds the output does not hold up the turn.
    pane.submit("```sh\nsleep 30 & echo $! > pid; echo early\n```");
    assert_eq!(pane.event("Stop", 1)["last_assistant_message"], "early");
    let left = fs::read_to_string(pane.path("work/pid")).unwrap().trim().parse().unwrap();
    let _ = kill(Pid::from_raw(left), Signal::SIGKILL);
}

#[test]
fn a_paste_of_a_hundred_lines_arrives_byte_for_byte() {
    let pane = Pane::start(&[]);
    let text: String = (0..100).map(|i| format!("line {i}\t ä ✻ \\ 'q' \"d\" $HOME {}\n", "x".repeat(i))).collect();
    pane.ready().paste(&text);
    pane.sees("❯ [Pasted text #1 +100 lines]");
    pane.keys(&["Enter"]);
    assert_eq!(pane.event("UserPromptSubmit", 0)["prompt"], text);
    assert_eq!(pane.event("Stop", 0)["last_assistant_message"], format!("You said: {text}"));
    pane.ready().paste(&"y".repeat(801));
    pane.sees("❯ [Pasted text #2]");
    pane.keys(&["C-c"]);
    pane.sees("❯\n");
    pane.paste("short\nand shown");
    pane.sees("❯ short\n  and shown\n");
}

#[test]
fn prompts_while_busy_are_queued_and_escape_interrupts() {
    let pane = Pane::start(&[]);
    pane.ready().submit("```sh\necho started; sleep 60 & echo $! > pid; wait\n```");
    pane.sees("● started");
    let screen = pane.sees("✻ Working… (1s)");
    assert!(screen.contains("  esc to interrupt"), "{screen}");
    assert_eq!(pane.ask("#{pane_title}"), "◐ demo");
    pane.has_status("busy");
    let sleeper: i32 = fs::read_to_string(pane.path("work/pid")).unwrap().trim().parse().unwrap();
    pane.say("second one");
    pane.sees("> second one\n  ⎿ Queued\n");
    pane.keys(&["Escape"]);
    assert_eq!(pane.event("Stop", 0)["last_assistant_message"], "You said: second one");
    let gone = || match fs::read_to_string(format!("/proc/{sleeper}/stat")) {
        Err(_) => Some(()),
        Ok(stat) => stat.contains(") Z ").then_some(()),
    };
    eventually("the end of the block's child", gone, || pane.screen());
    let said = |line: &Value| line["message"]["content"][0]["text"] == "[Request interrupted by user]";
    assert!(pane.transcript().iter().any(said));
    pane.ready();
    assert_eq!(pane.names(), ["SessionStart", "UserPromptSubmit", "PreToolUse", "UserPromptSubmit", "Stop"]);
}

#[test]
fn control_c_clears_and_twice_exits() {
    let pane = Pane::start(&[]);
    pane.ready().tmux(&["send-keys", "-l", "never sent"]);
    pane.sees("❯ never sent");
    pane.keys(&["C-c"]);
    pane.sees("Press Ctrl-C again to exit");
    assert!(!pane.screen().contains("never sent"));
    pane.keys(&["x", "BSpace", "C-c", "C-c"]);
    assert_eq!(pane.end().0, "0");
}

#[test]
fn sigterm_ends_cleanly_also_while_busy() {
    for prompt in [None, Some("```sh\nsleep 60\n```")] {
        let pane = Pane::start(&prompt.into_iter().collect::<Vec<_>>());
        pane.has_status(if prompt.is_some() { "busy" } else { "idle" });
        if prompt.is_some() {
            pane.event("PreToolUse", 0);
        }
        let pid = pane.pid();
        kill(pid, Signal::SIGTERM).unwrap();
        assert_eq!(pane.end().0, "143");
        assert_eq!(pane.event("SessionEnd", 0)["reason"], "other");
        assert!(!pane.path("home/sessions").join(format!("{pid}.json")).exists());
    }
}

#[test]
fn resume_redraws_and_goes_on_in_the_same_file() {
    let pane = Pane::start(&["--session-id", UUID, "first words"]);
    pane.event("Stop", 0);
    pane.ready().say("demo: limit=4000000000");
    pane.event("StopFailure", 0);
    pane.leave_menu().say("/exit");
    pane.end();
    pane.tmux(&["kill-session", "-t", "=agent"]);
    pane.launch("again", &["--resume", UUID, "--", "more"]);
    assert_eq!(pane.event("SessionStart", 1)["source"], "resume");
    assert_eq!(pane.event("Stop", 1)["last_assistant_message"], "You said: more");
    let screen = pane.sees("You said: more");
    assert!(screen.contains("> first words\n● You said: first words\n"), "{screen}");
    assert!(screen.contains("  ⎿  You've hit your 5-hour limit"), "old limit lines come back, as in Claude Code");
    let transcript = pane.transcript();
    assert_eq!(transcript.len(), 6);
    assert!(transcript.iter().all(|line| line["sessionId"] == UUID));
}

#[test]
fn unknown_and_used_conversations_are_refused() {
    let pane = Pane::start(&["--resume", UUID]);
    assert_eq!(pane.end().0, "1");
    pane.sees(&format!("No conversation found with session ID: {UUID}"));
    pane.launch("new", &["--session-id", UUID, "hi"]);
    pane.event("Stop", 0);
    pane.launch("taken", &["--session-id", UUID]);
    assert_eq!(pane.end().0, "1");
    pane.sees("already in use");
}

#[test]
fn mode_slow_streams_words_and_holds_for_its_turn_only() {
    let pane = Pane::start(&[]);
    let begun = Instant::now();
    pane.ready().submit("go\ndemo: slow=1.5");
    pane.sees("● word0 word1 ");
    pane.has_status("busy");
    assert_eq!(pane.event("Stop", 0)["last_assistant_message"], "You said: go\ndemo: slow=1.5");
    assert!(begun.elapsed() >= Duration::from_millis(1500));
    pane.sees("✻ Worked for 1s");
    pane.say("again");
    pane.event("Stop", 1);
    pane.sees("✻ Worked for 0s");
}

#[test]
fn mode_limit_and_server_error_end_in_stop_failure() {
    let pane = Pane::start(&["--mode", "once:limit=1795235866"]);
    pane.ready().say("task");
    let failure = pane.event("StopFailure", 0);
    assert_eq!(failure["error"], "rate_limit");
    let text = failure["last_assistant_message"].as_str().unwrap().to_owned();
    assert!(text.starts_with("You've hit your 5-hour limit · resets ") && text.ends_with("4:37am (UTC)"), "{text}");
    pane.sees(&format!("> task\n  ⎿  {text}\n{}\n  What do you want to do?\n", "▔".repeat(100)));
    assert_eq!(pane.has_status("waiting")["waitingFor"], "dialog open");
    pane.leave_menu();
    pane.has_status("idle");
    let record = pane.transcript().pop().unwrap();
    assert_eq!(record["isApiErrorMessage"], true);
    assert_eq!(record["error"], "rate_limit");
    assert_eq!(record["quotaLimits"]["resetsAt"], 1_795_235_866);
    assert_eq!(record["quotaLimits"]["rateLimitType"], "five_hour");
    pane.say("demo: server-error");
    assert_eq!(pane.event("StopFailure", 1)["error"], "server_error");
    pane.sees("● API Error: 500 Internal server error.");
    pane.ready().say("works again");
    pane.event("Stop", 0);
}

/// The error and text of the n-th turn that failed, and its record.
fn failed(pane: &Pane, nth: usize) -> (Value, String, Value) {
    let failure = pane.event("StopFailure", nth);
    let text = failure["last_assistant_message"].as_str().unwrap().to_owned();
    let records = pane.transcript();
    let record = records.into_iter().filter(|line| line["isApiErrorMessage"] == true).nth(nth).unwrap();
    assert_eq!(record["message"]["content"][0]["text"], text);
    assert_eq!(record["error"], failure["error"]);
    (failure["error"].clone(), text, record)
}

#[test]
fn the_file_limit_of_its_home_refuses_every_request_until_its_time_has_come() {
    let pane = Pane::start(&[]);
    let limit = pane.path("home/limit");
    pane.ready();
    for (nth, (content, error, text, shown)) in [
        (
            "4000000000 seven_day",
            "rate_limit",
            "You've hit your weekly limit · resets Oct 2, 7:06am (UTC)",
            "  ⎿  You've",
        ),
        ("spend", "rate_limit", "You've hit your monthly spend limit", "  ⎿  You've hit your monthly spend limit"),
        ("credit", "billing_error", "Credit balance is too low", "  ⎿  Credit balance too low · Add funds: https"),
        ("login", "authentication_failed", "Please run /login · API Error: 401 OAuth token has", "● Please run /login"),
        ("server-error 4000000000", "server_error", "API Error: 500 Internal server error.", "● API Error: 500"),
        ("nonsense", "invalid_request", "API Error: 400 ", "`nonsense` is none of: EPOCH"),
    ]
    .into_iter()
    .enumerate()
    {
        fs::write(&limit, content).unwrap();
        pane.say("a task");
        let (told, said, record) = failed(&pane, nth);
        assert_eq!(told, error, "{content}");
        assert!(said.starts_with(text), "{said}");
        pane.sees(shown);
        assert_eq!(record["quotaLimits"]["status"] == "rejected", error == "rate_limit", "{record}");
        if error == "rate_limit" {
            pane.leave_menu();
        }
        pane.ready();
    }
    fs::write(&limit, "1000000000 login").unwrap();
    pane.say("its time has passed");
    pane.event("Stop", 0);
    fs::write(&limit, "4000000000").unwrap();
    pane.ready().say("at work again");
    failed(&pane, 6);
    fs::remove_file(&limit).unwrap();
    pane.leave_menu().say("the file is gone");
    pane.event("Stop", 1);
}

#[test]
fn a_limit_in_the_middle_of_a_task_stops_it_and_another_home_goes_on_with_its_next_word() {
    let pane = Pane::start(&["--session-id", UUID]);
    pane.ready().submit("the task\ndemo: slow=3");
    pane.sees("● word0 word1 ");
    fs::write(pane.path("home/limit"), "4000000000").unwrap();
    failed(&pane, 0);
    pane.sees("What do you want to do?");
    kill(pane.pid(), Signal::SIGTERM).unwrap();
    pane.end();
    fs::create_dir(pane.path("other")).unwrap();
    std::os::unix::fs::symlink("../home/projects", pane.path("other/projects")).unwrap();
    pane.launch_at("other", "again", &["--resume", UUID, "--", "Continue where you stopped."]);
    assert_eq!(pane.event("SessionStart", 1)["source"], "resume");
    assert_eq!(pane.event("UserPromptSubmit", 1)["prompt"], "Continue where you stopped.");
    assert_eq!(pane.event("Stop", 0)["last_assistant_message"], "You said: the task\ndemo: slow=3");
    pane.sees("  ⎿  You've hit your 5-hour limit");
    let said: Vec<String> = pane
        .transcript()
        .iter()
        .filter(|line| line["message"]["stop_reason"].is_null() && line["type"] == "assistant")
        .map(|line| line["message"]["content"][0]["text"].as_str().unwrap().to_owned())
        .collect();
    let words: Vec<String> = (0..12).map(|n| format!("word{n}")).collect();
    assert_eq!(said.len(), 2, "said before and after the limit: {said:?}");
    assert_eq!(said.join(" "), words.join(" "));
}

#[test]
fn a_block_that_has_ended_is_not_run_again_after_the_limit() {
    let pane = Pane::start(&[]);
    pane.ready().submit("```sh\necho ran | tee -a ../ledger; sleep 1\n```");
    pane.sees("● ran");
    fs::write(pane.path("home/limit"), "4000000000").unwrap();
    failed(&pane, 0);
    fs::remove_file(pane.path("home/limit")).unwrap();
    pane.leave_menu().say("continue");
    assert_eq!(pane.event("Stop", 0)["last_assistant_message"], "ran");
    assert_eq!(fs::read_to_string(pane.path("ledger")).unwrap(), "ran\n");
}

#[test]
fn mode_swallow_enter_eats_the_keys_after_a_paste() {
    let pane = Pane::start(&["--mode", "swallow-enter=2"]);
    pane.ready().paste("task");
    pane.sees("❯ task");
    // The hook is written beside the screen.
    pane.event("SessionStart", 0);
    pane.keys(&["Enter", "Enter", "!"]);
    pane.sees("❯ task!");
    assert_eq!(pane.names(), ["SessionStart"]);
    pane.keys(&["Enter"]);
    assert_eq!(pane.event("UserPromptSubmit", 0)["prompt"], "task!");
}

#[test]
fn mode_permission_asks_and_obeys() {
    let pane = Pane::start(&["--mode", "permission"]);
    pane.ready().submit("```sh\necho allowed\n```");
    let screen = pane.sees("Do you want to proceed?");
    assert!(screen.contains(" ❯ 1. Yes\n   2. No\n") && !screen.contains("  ready"), "{screen}");
    assert_eq!(pane.has_status("waiting")["waitingFor"], "permission prompt");
    assert_eq!(pane.ask("#{pane_title}"), "✋ demo");
    assert_eq!(pane.event("PermissionRequest", 0)["tool_name"], "Bash");
    assert_eq!(pane.event("Notification", 0)["notification_type"], "permission_prompt");
    pane.keys(&["Enter"]);
    assert_eq!(pane.event("Stop", 0)["last_assistant_message"], "allowed");
    for no in ["Escape", "2"] {
        pane.ready().submit("```sh\ntouch denied\n```");
        pane.sees("Do you want to proceed?");
        pane.keys(&[no]);
        pane.ready();
    }
    assert!(!pane.path("work/denied").exists());
    assert_eq!(pane.names().iter().filter(|name| *name == "Stop").count(), 1);
}

#[test]
fn mode_background_stops_twice_and_stays_busy_between() {
    let pane = Pane::start(&[]);
    pane.ready().say("demo: background=1");
    let first = pane.event("Stop", 0);
    assert_eq!(first["background_tasks"][0]["status"], "running");
    assert_eq!(first["background_tasks"][0]["type"], "subagent");
    assert_eq!(pane.has_status("busy")["status"], "busy");
    pane.sees("✻ Waiting for 1 background agent to finish");
    assert_eq!(pane.event("Stop", 1)["background_tasks"], json!([]));
    pane.has_status("idle");
}

#[test]
fn mode_spinner_redraws_while_idle_and_without_it_idle_costs_nothing() {
    let pane = Pane::start(&["--mode", "spinner"]);
    pane.ready();
    pane.sees("Working… (0s)");
    pane.sees("Working… (1s)");
    pane.has_status("idle");
    let pane = Pane::start(&[]);
    pane.ready();
    pane.event("SessionStart", 0);
    let (ticks, wakes) = (cpu_ticks(pane.pid()), switches(pane.pid()));
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!((cpu_ticks(pane.pid()), switches(pane.pid())), (ticks, wakes));
}

#[test]
fn a_slow_hook_is_killed_and_does_not_hold_up_the_screen() {
    let pane = Pane::start(&[]);
    pane.ready().say("/exit");
    pane.end();
    let hook = json!({"hooks": {"UserPromptSubmit": [{"hooks": [{"type": "command", "command": "sleep 60"}]}]}});
    fs::write(pane.path("settings.json"), hook.to_string()).unwrap();
    pane.launch("slow", &["task"]);
    pane.sees("esc to interrupt");
    pane.tmux(&["send-keys", "-l", "typed meanwhile"]);
    pane.sees("❯ typed meanwhile");
    assert!(!pane.screen().contains("You said"), "the hook was not waited for");
    pane.sees("● You said: task");
}

#[test]
fn resizing_redraws_the_box_once() {
    let pane = Pane::start(&["hello"]);
    pane.sees("✻ Worked for 0s");
    for width in ["57", "83", "40"] {
        pane.tmux(&["resize-window", "-x", width]);
        let rule = "─".repeat(width.parse().unwrap());
        let right = || {
            // Without the history: when rows are wrapped anew, tmux moves the topmost out before the agent hears of it.
            let screen = pane.tmux(&["capture-pane", "-p"]);
            (screen.contains(&format!("{rule}\n❯\n{rule}\n  ready\n")) && screen.matches('❯').count() == 1)
                .then_some(())
        };
        eventually("one box in the new width", right, || pane.screen());
    }
}

/// Processor time used so far, in clock ticks: fields 14 and 15 of proc_pid_stat(5).
fn cpu_ticks(pid: Pid) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// How often the process has gone to sleep of its own accord.
fn switches(pid: Pid) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find(|line| line.starts_with("voluntary_ctxt")).unwrap().to_owned()
}

fn hook(log: &Path, stdin: Stdio) -> Child {
    let mut command = Command::new(program());
    command
        .args(["hook", "--session", "s1", "--log"])
        .arg(log)
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Ends the hook within its limit, successfully and without a word on stdout; returns stderr.
#[track_caller]
fn harmless(child: Child, begun: Instant) -> String {
    let output = child.wait_with_output().unwrap();
    assert!(begun.elapsed() < Duration::from_millis(1800), "took {:?}", begun.elapsed());
    assert!(output.status.success(), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn feed(log: &Path, input: &[u8]) -> String {
    let begun = Instant::now();
    let mut child = hook(log, Stdio::piped());
    let _ = child.stdin.take().unwrap().write_all(input);
    harmless(child, begun)
}

#[test]
fn the_hook_appends_one_line_whatever_comes() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("s1.jsonl");
    assert_eq!(feed(&log, br#"{"hook_event_name":"Stop","x":"a\nb"}"#), "");
    assert_eq!(feed(&log, b"{bad json"), "");
    assert_eq!(feed(&log, b""), "");
    harmless(hook(&log, Stdio::null()), Instant::now());
    let huge = json!({"hook_event_name": "PostToolUse", "session_id": "i", "tool_response": "z".repeat(6 << 20)});
    assert_eq!(feed(&log, huge.to_string().as_bytes()), "");
    let long = json!({"hook_event_name": "Stop", "last_assistant_message": "é".repeat(200_000)});
    assert_eq!(feed(&log, long.to_string().as_bytes()), "");
    let lines = lines_of(&log);
    let events: Vec<&str> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["Stop", "Unreadable", "Unreadable", "Unreadable", "PostToolUse", "Stop"]);
    assert_eq!(lines[0]["data"], json!({"hook_event_name": "Stop", "x": "a\nb"}));
    assert_eq!(lines[0]["session"], "s1");
    let at = lines[0]["at"].as_str().unwrap();
    assert!(at.len() == 27 && at.ends_with('Z') && at.parse::<jiff::Timestamp>().is_ok(), "{at}");
    assert_eq!(lines[4]["data"]["session_id"], "i");
    assert!(lines[5]["data"]["last_assistant_message"].as_str().unwrap().ends_with("bytes left out]"));
    assert_eq!(fs::metadata(&log).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn the_hook_does_not_wait_for_an_open_stdin() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("s1.jsonl");
    let begun = Instant::now();
    let mut whole = hook(&log, Stdio::piped());
    let mut open = whole.stdin.take().unwrap();
    open.write_all(br#"{"hook_event_name":"Stop"}"#).unwrap();
    harmless(whole, begun);
    let begun = Instant::now();
    let mut half = hook(&log, Stdio::piped());
    let mut half_open = half.stdin.take().unwrap();
    half_open.write_all(br#"{"hook_event_name":"SessionEnd","reason":"o"#).unwrap();
    harmless(half, begun);
    // A named pipe that both ends hold open and nobody writes to.
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let silent = fs::OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
    harmless(hook(&log, silent.try_clone().unwrap().into()), Instant::now());
    let events: Vec<Value> = lines_of(&log).iter().map(|line| line["event"].clone()).collect();
    assert_eq!(events, ["Stop", "SessionEnd", "Unreadable"]);
    // The log itself is a pipe: refused, with and without a reader.
    assert!(harmless(hook(&fifo, Stdio::null()), Instant::now()).contains("not a regular file"));
}

#[test]
fn the_hook_never_fails_the_agent() {
    let dir = tempfile::tempdir().unwrap();
    for log in [dir.path().join("no/such/dir/log"), dir.path().to_owned(), PathBuf::from("/dev/full")] {
        assert!(feed(&log, br#"{"hook_event_name":"Stop"}"#).contains("could not append"), "{}", log.display());
    }
    for args in [&["hook"][..], &["hook", "--nonsense"], &["hook", "--log"]] {
        let output = Command::new(program()).args(args).stdin(Stdio::null()).output().unwrap();
        assert!(
            output.status.success() && output.stdout.is_empty() && !output.stderr.is_empty(),
            "{args:?}: {output:?}"
        );
    }
}

#[test]
fn hooks_at_the_same_time_write_whole_lines() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("s1.jsonl");
    let input = json!({"hook_event_name": "Stop", "text": "t".repeat(100_000)}).to_string();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| feed(&log, input.as_bytes()));
        }
    });
    assert_eq!(lines_of(&log).len(), 8);
}

/// Runs the status line over some JSON; answers what it prints.
fn status_line(log: &Path, settings: &Path, input: &Value) -> String {
    let mut command = Command::new(program());
    command.args(["hook", "--session", "s1", "--log"]).arg(log).arg("--status-line").arg(settings);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_status_line_logs_usage_only_when_it_changed_and_shows_the_person_s_own() {
    let dir = tempfile::tempdir().unwrap();
    let (log, settings) = (dir.path().join("s1.jsonl"), dir.path().join("settings.json"));
    let input = |used: u8, cost: f64| {
        let limits = json!({"five_hour": {"used_percentage": used, "resets_at": 1_795_237_176}});
        json!({"model": {"display_name": "Opus"}, "cost": {"total_cost_usd": cost}, "rate_limits": limits})
    };
    assert_eq!(status_line(&log, &settings, &json!({"model": {"display_name": "Opus"}})), "");
    assert!(!log.exists(), "no usage, no line");
    for (used, cost) in [(42, 0.1), (42, 0.2), (42, 0.3), (43, 0.3)] {
        assert_eq!(status_line(&log, &settings, &input(used, cost)), "", "nothing where the person has none");
    }
    let lines = lines_of(&log);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!((&lines[1]["event"], &lines[1]["session"]), (&json!("StatusLine"), &json!("s1")));
    let limits = json!({"rate_limits": {"five_hour": {"used_percentage": 43, "resets_at": 1_795_237_176}}});
    assert_eq!(lines[1]["data"], limits, "nothing else is logged");

    // The person's own gets the same on its standard input, also more than a pipe holds.
    let theirs = json!({"statusLine": {"type": "command", "command": "printf 'mine '; wc -c"}});
    fs::write(&settings, theirs.to_string()).unwrap();
    let mut long = input(43, 0.4);
    long["transcript_path"] = json!("p".repeat(300_000));
    let printed = status_line(&log, &settings, &long);
    assert_eq!(printed.split_whitespace().collect::<Vec<_>>(), ["mine", &long.to_string().len().to_string()]);
    assert_eq!(lines_of(&log).len(), 2);

    // A new start has a new log, and its first line.
    fs::rename(&log, dir.path().join("s1.jsonl.1")).unwrap();
    fs::write(&log, "").unwrap();
    status_line(&log, &settings, &input(43, 0.5));
    assert_eq!(lines_of(&log).len(), 1);
}

struct Run {
    dir: TempDir,
}

impl Run {
    fn command(&self, program_line: &[&str]) -> Command {
        fs::write(self.dir.path().join("task"), "the task\n```sh\nfalse\n```\n").unwrap();
        let mut command = Command::new(program());
        command.arg("command-agent").arg("--task").arg(self.dir.path().join("task"));
        command.arg("--log").arg(self.log()).args(["--session", "c1", "--"]).args(program_line);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    fn output(program_line: &[&str]) -> (Output, Vec<Value>) {
        let run = Self { dir: tempfile::tempdir().unwrap() };
        let output = run.command(program_line).output().unwrap();
        (output, lines_of(&run.log()))
    }
}

#[test]
fn the_command_agent_gives_the_task_and_keeps_the_answer() {
    let (output, lines) = Run::output(&["sh", "-c", "cat; echo err >&2; exit 5"]);
    assert_eq!(output.status.code(), Some(5));
    let text = "the task\n```sh\nfalse\n```\n";
    assert_eq!(String::from_utf8_lossy(&output.stdout), text);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "err\n");
    assert_eq!(lines.len(), 2);
    assert_eq!((&lines[0]["event"], &lines[0]["session"]), (&json!("CommandStart"), &json!("c1")));
    assert!(lines[0]["data"]["pid"].as_i64().unwrap() > 1);
    assert_eq!(lines[1]["event"], "CommandEnd");
    assert_eq!(lines[1]["data"], json!({"status": 5, "message": text, "truncated": false, "said": ": err"}));
}

#[test]
fn the_command_agent_keeps_the_end_of_a_long_answer() {
    let (output, lines) = Run::output(&["sh", "-c", "i=0; while [ $i -lt 40000 ]; do echo line-$i; i=$((i+1)); done"]);
    let data = &lines[1]["data"];
    assert_eq!(data["truncated"], true);
    let message = data["message"].as_str().unwrap();
    let (head, kept) = message.split_once('\n').unwrap();
    assert_eq!(
        head,
        format!("[The last {} of {} bytes of output; the rest is not kept.]", kept.len(), output.stdout.len())
    );
    assert!(kept.len() > 250 << 10 && kept.starts_with("line-") && kept.ends_with("line-39999\n"), "{}", kept.len());
}

#[test]
fn the_command_agent_ends_what_the_program_leaves_behind_and_names_what_detached() {
    let begun = Instant::now();
    let script = "exec 2>&-; is() { until read -r name < /proc/$!/comm && [ $name = sleep ]; do :; done; }; sleep 61 & is; echo $!; setsid sleep 62 & is; echo $!";
    let (output, lines) = Run::output(&["bash", "-c", script]);
    assert!(output.status.success(), "{output:?} {lines:?}");
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?} {lines:?}", begun.elapsed());
    let message = lines[1]["data"]["message"].as_str().unwrap();
    let pids: Vec<i32> = message.lines().take(2).map(|line| line.parse().unwrap()).collect();
    assert!(
        message.contains(&format!(
            "[Ended with the command, which left it in the background: sleep 61 (pid {})]",
            pids[0]
        )),
        "{message}"
    );
    assert!(
        message.contains(&format!("[Still running, because it detached itself: sleep 62 (pid {})]", pids[1])),
        "{message}"
    );
    assert!(kill(Pid::from_raw(pids[0]), None).is_err(), "it is gone when the command agent is");
    kill(Pid::from_raw(pids[1]), Signal::SIGKILL).unwrap();
}

#[test]
fn the_command_agent_reports_a_program_that_cannot_start() {
    let (output, lines) = Run::output(&["/no/such/program"]);
    assert_eq!(output.status.code(), Some(127));
    assert!(String::from_utf8_lossy(&output.stderr).contains("could not start /no/such/program"));
    assert_eq!(lines.len(), 1);
    assert_eq!((&lines[0]["event"], &lines[0]["data"]["status"]), (&json!("CommandRefused"), &json!(127)));
    let (output, lines) = Run::output(&["/etc/passwd"]);
    assert_eq!((output.status.code(), &lines[0]["event"]), (Some(126), &json!("CommandRefused")));
    let (output, lines) = Run::output(&["sh", "-c", "exit 127"]);
    assert_eq!(
        (output.status.code(), &lines[1]["event"]),
        (Some(127), &json!("CommandEnd")),
        "a result like any other"
    );
}

#[test]
fn the_command_agent_starts_a_program_in_its_project_only() {
    let run = Run { dir: tempfile::tempdir().unwrap() };
    let at = |name: &str| run.dir.path().join(name);
    fs::create_dir_all(at("web/sub/in")).unwrap();
    for (link, to) in [("out", "/"), ("up", "../.."), ("good", "sub/in")] {
        std::os::unix::fs::symlink(to, at("web").join(link)).unwrap();
    }
    let inside = |workdir: &str| {
        let mut command = run.command(&[]);
        command.args(["pwd", "-P"]).current_dir("/");
        let words: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        let cut = words.iter().position(|word| word == "--").unwrap();
        let mut command = Command::new(program());
        command.current_dir("/").args(&words[..cut]).arg("--project").arg(at("web")).args(["--workdir", workdir]);
        command.args(&words[cut..]).output().unwrap()
    };
    for (workdir, real) in [(".", "web"), ("sub/in", "web/sub/in"), ("good", "web/sub/in")] {
        let output = inside(workdir);
        let real = at(real).canonicalize().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), real.to_string_lossy(), "{output:?}");
    }
    for (workdir, why) in [("out", "leads out of"), ("up", "leads out of"), ("none", "No such file")] {
        let output = inside(workdir);
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(126), b"".as_slice()), "{workdir}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(why), "{output:?}");
        let told = lines_of(&run.log()).pop().unwrap();
        assert!(told["data"]["message"].as_str().unwrap().contains(why), "{told}");
    }
}

/// Whatever this test was started with: a script that starts it in the background has SIGINT and SIGQUIT ignored.
fn with_odd_signals(command: &mut Command) -> &mut Command {
    use std::os::unix::process::CommandExt;
    // SAFETY: signal(2) and sigprocmask(2) are async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            for signal in [libc::SIGINT, libc::SIGQUIT, libc::SIGPIPE] {
                libc::signal(signal, libc::SIG_IGN);
            }
            Ok(nix::sys::signal::SigSet::all().thread_set_mask()?)
        })
    }
}

#[test]
fn the_command_agent_s_program_has_every_signal_as_a_login_shell_has_it() {
    let run = Run { dir: tempfile::tempdir().unwrap() };
    let mut command = run.command(&["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"]);
    let output = with_odd_signals(&mut command).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let sets: Vec<&str> = text.lines().filter_map(|line| line.split_ascii_whitespace().nth(1)).collect();
    // 32 and 33 are the C library's own: nobody can set them.
    let ours = |set: &str| u64::from_str_radix(set, 16).unwrap() & !(0b11 << 31);
    assert_eq!(sets.iter().map(|set| ours(set)).collect::<Vec<_>>(), [0, 0], "{text}");
}

#[test]
fn timeouts_traps_and_kills_work_in_a_command() {
    let begun = Instant::now();
    let script =
        "timeout 0.2 sleep 60; echo $?; sleep 60 & kill $!; wait $!; echo $?; trap 'echo trapped' TERM; kill $$";
    let (_, lines) = Run::output(&["bash", "-c", script]);
    assert_eq!(lines[1]["data"]["message"], "124\n143\ntrapped\n");
    assert!(begun.elapsed() < Duration::from_secs(30));
}

#[test]
fn the_command_agent_forwards_signals_to_the_whole_group() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let run = Run { dir: tempfile::tempdir().unwrap() };
        // The inner shell would hold the outer one up if the signal reached only the program itself.
        let child = with_odd_signals(&mut run.command(&["sh", "-c", "sh -c 'sleep 60; :'; :"])).spawn().unwrap();
        let started = || lines_of(&run.log()).first().cloned();
        eventually("CommandStart", started, String::new);
        kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(128 + signal as i32), "{output:?}");
        assert_eq!(lines_of(&run.log())[1]["data"]["signal"], signal as i32);
    }
}
