//! Scenarios that hold for every CLI.

use std::{
    fs,
    time::{Duration, Instant, SystemTime},
};

use claude_failover::model::{agent::INCARNATION, seal::is_sealed};

use crate::{
    mock_llm::{Claim, Mode},
    stage::{Cli, Play, SESSION, Stage},
};

fn since(earlier: Option<SystemTime>, later: Option<SystemTime>) -> String {
    match (earlier, later) {
        (Some(a), Some(b)) => b.duration_since(a).unwrap_or_default().as_millis().to_string(),
        (None | Some(_), None) | (None, Some(_)) => "?".to_owned(),
    }
}

/// The agent's own last message, its tokens and its conversation are in the result.
pub fn answers(cli: Cli) {
    let Some(stage) = Stage::set(Play::new(cli)) else { return };
    let submitted = SystemTime::now();
    let begun = Instant::now();
    stage.world.submit("a", "please say hello\n");
    stage.until("the prompt at the server", |s| s.prompts_with("say hello") == 1);
    let seen = begun.elapsed();
    let result = stage.done("a");
    let filed = begun.elapsed();
    println!(
        "{}: file to prompt at the server {} ms, to claim {} ms, to result {} ms",
        cli.name(),
        seen.as_millis(),
        since(Some(submitted), stage.event(&["task", "working"])),
        filed.as_millis()
    );
    // The server counts what some CLIs add to a prompt, too.
    assert!(result.contains("MOCK-REPLY done: "), "{result}\n{}", stage.told());
    assert_eq!(stage.fact(&result, "status"), "done");
    assert_eq!(stage.fact(&result, "attempts"), "1");
    assert_eq!(stage.fact(&result, "agent"), cli.name());
    if cli.tells_its_message() {
        let start = "please say hello\n<!-- claude-failover:result -->\n\nMOCK-REPLY done: ";
        assert!(result.starts_with(start), "{result}\n{}", stage.told());
    }
    let tokens = match cli {
        Cli::Claude => "tokens:\n  input: 100\n  output: 18\n  cache_read: 3000\n  cache_write: 20\n",
        Cli::Codex | Cli::Gemini => "tokens:\n  input: 1000\n  output: 50\n  cache_read: 2000\n",
        Cli::Opencode | Cli::Qwen => "",
    };
    assert!(result.contains(tokens), "{result}\n{}", stage.told());
    if cli != Cli::Opencode {
        let conversation = stage.fact(&result, "resume_id");
        assert!(conversation.trim_matches('"').parse::<uuid::Uuid>().is_ok(), "{conversation}");
    }
    assert_eq!(stage.prompts_with("say hello"), 1);
}

/// A tool runs once, and the result is the last message of the turn.
pub fn runs_a_tool(cli: Cli) {
    let Some(stage) = Stage::set(Play::new(cli)) else { return };
    stage.world.submit("a", "RUN: echo ran >> side\n");
    let result = stage.done("a");
    assert!(result.contains("MOCK-REPLY tool finished."), "{result}\n{}", stage.told());
    // Both answers of the turn were counted.
    let input = match cli {
        Cli::Claude => "input: 200\n",
        Cli::Codex | Cli::Gemini => "input: 2000\n",
        Cli::Opencode | Cli::Qwen => "",
    };
    assert!(result.contains(input), "{result}\n{}", stage.told());
    assert_eq!(fs::read_to_string(stage.world.path("web/side")).expect("the side effect"), "ran\n");
    assert_eq!(stage.prompts_with("RUN:"), 1);
}

/// A permission prompt waits for a person, who answers through `keys`.
pub fn asks_for_permission(cli: Cli) {
    let Some(stage) = Stage::set(Play::asking(cli)) else { return };
    let made = stage.world.path("web/asked");
    // Codex asks for what is to run outside of its sandbox.
    let (before, keys) = if cli == Cli::Codex { ("ESCALATE\n", "y") } else { ("", "Enter") };
    stage.world.submit("a", &format!("{before}RUN: touch {} && sleep 3\n", made.display()));
    stage.until("the session to wait", |s| s.word("state") == "waiting");
    let why = stage.word("why");
    assert!(why.contains("permission"), "{why}\n{}", stage.told());
    stage.until("an event", |s| s.event(&["session", SESSION, "waiting"]).is_some());
    assert!(!made.exists());
    assert_eq!(stage.world.word("tasks/a/state"), "working");
    stage.write("keys", keys);
    stage.until("the command to run", |_| made.exists());
    stage.until("the session to be at work", |s| s.word("state") == "working");
    let result = stage.done("a");
    assert!(result.contains("MOCK-REPLY tool finished."), "{result}\n{}", stage.told());
}

/// A long prompt arrives whole and is submitted.
pub fn takes_a_long_prompt(cli: Cli) {
    let Some(stage) = Stage::set(Play::new(cli)) else { return };
    let lines: Vec<String> =
        (0..100).map(|i| format!("line {i:03}: keep \"all\" of $this, `too`; \\n is no newline, ä ≥ 字")).collect();
    let begun = Instant::now();
    stage.world.submit("a", &format!("{}\n", lines.join("\n")));
    let result = stage.done("a");
    println!("{}: 100 lines took {} ms from file to result", cli.name(), begun.elapsed().as_millis());
    assert!(result.contains("MOCK-REPLY done: "), "{result}");
    let requests = stage.main_requests();
    let request = requests.iter().find(|r| r.prompt.contains("line 000")).expect("the prompt");
    assert!(request.prompt.contains(&lines.join("\n")), "{:?}\n{}", request.prompt, stage.told());
    assert_eq!(stage.prompts_with("line 000"), 1);
}

/// Two tasks are two conversations, though there is one session.
pub fn two_tasks_are_two_conversations(cli: Cli) {
    let Some(stage) = Stage::set(Play::new(cli)) else { return };
    stage.world.submit("a", "tell of herons\n");
    stage.world.submit("b", "tell of badgers\n");
    let (a, b) = (stage.done("a"), stage.done("b"));
    assert!(a.contains("MOCK-REPLY done: ") && b.contains("MOCK-REPLY done: "), "{a}\n{b}");
    if cli != Cli::Opencode {
        assert_ne!(stage.fact(&a, "resume_id"), stage.fact(&b, "resume_id"));
    }
    let second = stage.main_requests().into_iter().find(|r| r.prompt.contains("tell of badgers")).expect("its request");
    let body = second.body.to_string();
    assert!(!body.contains("tell of herons"), "the first conversation went on: {body}\n{}", stage.told());
}

/// The daemon is killed in the middle of a task; the next one adopts it.
pub fn survives_kill_9(cli: Cli) {
    let Some(mut stage) = Stage::set(Play::new(cli)) else { return };
    stage.world.submit("a", "SLOW: 4 and then tell\n");
    stage.until("the turn to begin", |s| s.prompts_with("SLOW:") == 1 && s.word("state") == "working");
    let pid = stage.word("pid");
    stage.world.kill_daemon();
    stage.world.run();
    stage.until("the session to be adopted", |s| s.word("pid") == pid);
    let result = stage.done("a");
    assert!(result.contains("MOCK-SLOW-END"), "{result}\n{}", stage.told());
    assert_eq!(stage.fact(&result, "attempts"), "1");
    assert_eq!(stage.prompts_with("SLOW:"), 1, "{}", stage.told());
}

/// Watches for a time that a state is never shown.
fn never(stage: &Stage, state: &str, during: Duration, or_until: impl Fn(&Stage) -> bool) {
    let deadline = Instant::now() + during;
    while Instant::now() < deadline && !or_until(stage) {
        assert_ne!(stage.word("state"), state, "{}", stage.told());
        std::thread::sleep(Duration::from_millis(20));
    }
    let called = stage.event(&["session", &format!("\"{state}\"")]);
    assert!(called.is_none(), "{}", stage.told());
}

/// The server answers with an error of its own: the task fails in the end, and no account is blamed.
pub fn a_server_error_is_no_limit(play: Play<'_>, mode: Mode) {
    let Some(stage) = Stage::set(play) else { return };
    stage.mock.set(mode);
    stage.world.submit("a", "---\nretries: 0\n---\nplease say hello\n");
    let failed = stage.world.queue("failed/a.md");
    never(&stage, "limited", Duration::from_secs(50), |_| failed.exists());
    let result = fs::read_to_string(&failed).unwrap_or_else(|e| panic!("{mode:?}: {e}\n{}", stage.told()));
    assert_eq!(stage.fact(&result, "status"), "failed");
    println!("{}: {mode:?} failed with {}", play.cli.name(), stage.fact(&result, "error"));
}

/// A used-up allowance parks the session with its task, and nothing presses a key.
pub fn a_limit_parks_the_task(play: Play<'_>, claim: Claim) {
    let Some(stage) = Stage::set(play) else { return };
    stage.mock.set(Mode::Limit(claim));
    stage.world.submit("a", "please say hello\n");
    stage.until("the session to be limited", |s| s.word("state") == "limited");
    stage.until("the event", |s| s.event(&["\"limit\""]).is_some());
    assert!(stage.word("why").contains("limit"), "{}", stage.told());
    let asked = stage.main_requests().len();
    never(&stage, "idle", Duration::from_secs(3), |_| false);
    assert_eq!(stage.word("state"), "limited", "{}", stage.told());
    assert_eq!(stage.world.word("tasks/a/state"), "working");
    assert!(!stage.world.queue("failed/a.md").exists() && !stage.world.queue("done/a.md").exists());
    assert_eq!(stage.main_requests().len(), asked, "{}", stage.told());
}

/// Escape in the middle of a turn: the task waits for a person, who tells the agent to go on.
pub fn an_interrupted_task_goes_on_by_input(cli: Cli) {
    let Some(stage) = Stage::set(Play::new(cli)) else { return };
    stage.world.submit("a", "SLOW: 30 and then tell\n");
    stage.until("the answer to begin", |s| s.word("pane").contains("word1"));
    stage.write("control", "interrupt");
    stage.until("the session to wait", |s| s.word("state") == "waiting");
    assert_eq!(stage.world.word("tasks/a/state"), "working");
    stage.write("input", "just say hello");
    let result = stage.done("a");
    // The server counts what Claude Code adds about the interrupt, too.
    assert!(result.contains("MOCK-REPLY done: "), "{result}\n{}", stage.told());
    assert_eq!(stage.prompts_with("just say hello"), 1);
}

/// What begins like a command of the agent's is a prompt like any other.
pub fn texts_are_never_commands(cli: Cli) {
    let Some(stage) = Stage::set(Play::new(cli)) else { return };
    for (n, text) in
        ["# A title", "!touch pwned", "/exit", "/status please", "@web", "?", "-", "\"quoted\""].iter().enumerate()
    {
        let name = format!("t{n}");
        stage.world.submit(&name, &format!("{text}\n"));
        let result = stage.done(&name);
        assert!(result.contains("MOCK-REPLY done: "), "{text}: {result}\n{}", stage.told());
        assert_eq!(stage.fact(&result, "attempts"), "1", "{text}");
        assert_eq!(stage.prompts_with(text), 1, "{text}: {}", stage.told());
    }
    assert!(!stage.world.path("web/pwned").exists());
}

/// A hook of the person's own in the project, or in the account's home: a shell script for an event. What it writes goes
/// beside the project.
fn own_hook(stage: &Stage, cli: Cli, event: &str, script: &str) {
    let path = stage.world.path("own-hook");
    let script = script.replace("DIR", &stage.world.path("").display().to_string());
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("the hook");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&path, mode).expect("its mode");
    let hooks = serde_json::json!({"hooks": {event: [{"hooks": [{"type": "command", "command": path}]}]}});
    match cli {
        Cli::Claude => {
            fs::create_dir_all(stage.world.path("web/.claude")).expect("a directory");
            fs::write(stage.world.path("web/.claude/settings.json"), hooks.to_string()).expect("settings");
        }
        Cli::Codex => fs::write(stage.world.path("account-one/hooks.json"), hooks.to_string()).expect("hooks"),
        Cli::Gemini | Cli::Opencode | Cli::Qwen => panic!("none of {cli:?}'s hooks is known"),
    }
    // The agent that stands there has read its settings already.
    let pid = stage.word("pid");
    stage.write("control", "restart");
    stage.until("a fresh agent", |s| s.word("pid") != pid && s.word("state") == "idle");
}

/// The person's own Stop hook takes its time and sends the agent on, three times: nothing is ended before it lets go.
pub fn a_stop_hook_runs_to_its_end(play: Play<'_>) {
    let Some(stage) = Stage::set(play) else { return };
    own_hook(
        &stage,
        play.cli,
        "Stop",
        "n=$(cat DIR/count 2>/dev/null || echo 0); echo $((n+1)) > DIR/count; echo begin >> DIR/log; sleep 4; \
         echo end >> DIR/log; [ $n -ge 3 ] || { echo \"tests fail, again please\" >&2; exit 2; }",
    );
    stage.world.submit("a", "please say hello\n");
    stage.until("the hook's second run", |s| {
        assert!(!s.world.queue("done/a.md").exists(), "{}", s.told());
        fs::read_to_string(s.world.path("count")).is_ok_and(|count| count.trim() == "2")
    });
    assert_eq!(stage.word("state"), "working", "{}", stage.told());
    let result = stage.done("a");
    let log = fs::read_to_string(stage.world.path("log")).expect("the hook's log");
    assert_eq!(log, "begin\nend\n".repeat(4), "{}", stage.told());
    assert_eq!(stage.fact(&result, "attempts"), "1");
    // The message is the last turn's, not the one that the hook refused.
    assert!(!result.contains("done: 16 chars"), "{result}");
}

/// A prompt that a hook of the person's refuses was not taken, and its reason is the task's.
pub fn a_refused_prompt_fails_with_its_reason(play: Play<'_>, script: &str) {
    let Some(stage) = Stage::set(play) else { return };
    own_hook(&stage, play.cli, "UserPromptSubmit", script);
    stage.world.submit("a", "BLOCKME please\n");
    let failed = stage.world.queue("failed/a.md");
    stage.until("the task to fail", |_| failed.exists());
    let result = fs::read_to_string(&failed).expect("the result");
    assert!(stage.fact(&result, "error").contains("policy says no") || result.contains("policy says no"), "{result}");
    assert!(stage.main_requests().is_empty(), "{}", stage.told());
}

/// A question waits for a person, and says what it asks.
pub fn a_question_waits(play: Play<'_>) {
    let Some(stage) = Stage::set(play) else { return };
    stage.world.submit("a", "ASK: Which database shall it be?\n");
    stage.until("the session to wait", |s| s.word("state") == "waiting");
    let why = stage.word("why");
    assert!(why.contains("question") && why.contains("Which database shall it be?"), "{why}\n{}", stage.told());
    assert_eq!(stage.world.word("tasks/a/state"), "working");
    stage.write("keys", "Enter");
    let result = stage.done("a");
    assert!(result.contains("\nMOCK-REPLY tool finished.\n"), "{result}\n{}", stage.told());
}

/// A command that goes on after the turn does not hold the task; it is ended with the agent, and the result names it.
pub fn a_command_in_the_background_is_ended(play: Play<'_>) {
    let Some(stage) = Stage::set(play) else { return };
    let ran = stage.world.path("web/ran");
    stage.world.submit("a", &format!("BACKGROUND: echo ran > {}; while true; do sleep 1; done\n", ran.display()));
    // By its command line: in Codex' sandbox a shell has another pid.
    let running = || running_with(&ran.display().to_string());
    stage.until("it to run", |_| ran.exists() && !running().is_empty());
    let result = stage.done("a");
    assert!(result.contains("ended_with_agent:"), "{result}\n{}", stage.told());
    assert!(result.contains("\nMOCK-REPLY tool finished.\n"), "{result}\n{}", stage.told());
    stage.until("it to be ended", |_| running().is_empty());
}

/// The same where it may stay: it runs on without its agent, and the mount lists it.
pub fn a_command_in_the_background_stays(cli: Cli) {
    let more = "watcher: {leave_background: true}";
    let Some(stage) = Stage::set(Play { more, ..Play::new(cli) }) else { return };
    let (ran, stop) = (stage.world.path("web/ran"), stage.world.path("web/stop"));
    let script = format!("echo ran > {}; while [ ! -e {} ]; do sleep 1; done", ran.display(), stop.display());
    let pid = stage.word("pid");
    stage.world.submit("a", &format!("BACKGROUND: {script}\n"));
    let running = || running_with(&ran.display().to_string());
    let result = stage.done("a");
    assert!(result.contains("left_running:") && !result.contains("ended_with_agent:"), "{result}\n{}", stage.told());
    stage.until("the next agent to be up", |s| s.word("state") == "idle" && s.word("pid") != pid);
    stage.until("it to be listed", |s| s.world.word("leftovers").contains(" a "));
    assert!(!running().is_empty(), "{}", stage.told());
    fs::write(&stop, "").expect("written");
    stage.until("the list to be empty", |s| s.world.word("leftovers").is_empty());
    assert!(running().is_empty());
}

/// Where a command may stay, one that its agent's own sandbox ends with the agent does not, whatever it ignores; the result says so.
pub fn a_command_ends_with_its_agent_where_it_may_stay(cli: Cli) {
    let more = "watcher: {leave_background: true}";
    let Some(stage) = Stage::set(Play { more, ..Play::new(cli) }) else { return };
    let ran = stage.world.path("web/ran");
    let script = format!(
        "trap '' HUP TERM; exec </dev/null >/dev/null 2>&1; echo ran > {}; while true; do sleep 1; done",
        ran.display()
    );
    let pid = stage.word("pid");
    stage.world.submit("a", &format!("BACKGROUND: {script}\n"));
    let result = stage.done("a");
    assert!(ran.exists() && result.contains("ended_with_agent:"), "{result}\n{}", stage.told());
    assert!(!result.contains("left_running:"), "{result}");
    stage.until("the next agent to be up", |s| s.word("state") == "idle" && s.word("pid") != pid);
    stage.until("it to be ended", |_| running_with(&ran.display().to_string()).is_empty());
    assert_eq!(stage.world.word("leftovers"), "");
}

/// The CLI hands its incarnation's token on to its hooks: each of their lines is sealed with it, or they would count for nothing.
pub fn its_hooks_have_the_token(cli: Cli) {
    let Some(stage) = Stage::set(Play::new(cli)) else { return };
    stage.world.submit("a", "SLOW: 4 and then tell\n");
    stage.until("the turn to begin", |s| s.prompts_with("SLOW:") == 1 && s.word("state") == "working");
    let environment = fs::read(format!("/proc/{}/environ", stage.word("pid"))).expect("the agent's environment");
    let name = format!("{INCARNATION}=");
    let mut variables = environment.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    let token = variables.find_map(|v| v.strip_prefix(&name).map(str::to_owned)).expect("a token");
    let log = stage.world.path(&format!("state/hooks/{SESSION}.jsonl"));
    let read = || fs::read_to_string(&log).unwrap_or_default();
    stage.until("a hook's line of the prompt", |_| read().contains("\"UserPromptSubmit\""));
    for line in read().lines() {
        assert!(is_sealed(line.as_bytes(), &token), "{line}\n{}", stage.told());
    }
    stage.done("a");
}

/// Processes whose command line holds a text.
fn running_with(text: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").expect("/proc").filter_map(|entry| Some(entry.ok()?.path()));
    let lines = processes.filter_map(|path| fs::read(path.join("cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).into_owned()).filter(|line| line.contains(text)).collect()
}

/// A text about limits, in the prompt and in a tool's output, is a text: nobody is limited and nothing swaps.
pub fn a_text_about_limits_is_a_text(cli: Cli) {
    let Some(stage) = Stage::set(Play::failover(cli)) else { return };
    let banner = "You've hit your 5-hour limit · resets 4:37am (UTC)";
    let lines = [
        banner,
        "5-hour limit reached ∙ resets 3am",
        "■ You’ve hit your usage limit. Try again at 4:44 AM.",
        "Please run /login",
    ];
    fs::write(stage.world.path("web/limits.txt"), lines.join("\n")).expect("written");
    stage.world.submit("a", &format!("RUN: cat limits.txt && sleep 4\n{banner}\n"));
    let result = stage.done("a");
    assert!(result.contains("MOCK-REPLY tool finished."), "{result}\n{}", stage.told());
    assert!(stage.event(&["account", "limited"]).is_none(), "{}", stage.told());
    assert_eq!(stage.world.word("accounts/active"), "one");
}

/// Every conversation of an agent has its instructions beside the CLI's own, whatever is in them.
pub fn is_told_its_instructions(cli: Cli) {
    let instructions = "# You are the marketer\n[\"say\"] it's 100 % {home}; $HOME\n";
    let Some(stage) = Stage::set(Play { instructions: Some(instructions), ..Play::new(cli) }) else { return };
    stage.world.submit("a", "please say hello\n");
    stage.done("a");
    let told = |request: &crate::mock_llm::Request| {
        let mut texts = vec![&request.body];
        while let Some(value) = texts.pop() {
            match value {
                serde_json::Value::String(text) if text.contains(instructions.trim()) => return true,
                serde_json::Value::Array(items) => texts.extend(items),
                serde_json::Value::Object(map) => texts.extend(map.values()),
                _ => {}
            }
        }
        false
    };
    let requests = stage.main_requests();
    assert!(!requests.is_empty() && requests.iter().all(told), "{:?}", requests.first().map(|r| &r.body));
}
