//! `AgentBook` on real files: what a launch writes and passes on, and signals from hook logs, status files and
//! transcripts.

use std::{collections::BTreeMap, fs, io::Write, os::unix::fs::PermissionsExt, path::Path, sync::Arc};

use claude_failover::{
    agents::{AccountHome, AgentBook, AgentBookOptions, SteadyAgents, hook_log},
    config::{Agent, Secret},
    model::{
        agent::{Cursor, LaunchPlan, LaunchRequest, LaunchTask, PromptBy},
        evidence::{Failure, Meaning, Signal, Source, Tokens, WaitingFor},
        ids::{AccountName, AgentName, RunId, SessionName},
        limit::{Limit, LimitKind},
        pane::{Background, PaneId},
        session::Incarnation,
        steady::{Reading, Steady, Timeline},
    },
    ports::{Agents, Clock},
    rules::Kind,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

const CONVERSATION: &str = "6e4daa3b-22bb-4c91-9641-0c1887878b01";

struct World {
    dir: tempfile::TempDir,
    book: AgentBook,
    /// The agent's process. Not this one, which has other tests' files open.
    process: Process,
}

struct Process(std::process::Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn session() -> SessionName {
    SessionName::parse("auto-1").expect("a name")
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        let mut agents: BTreeMap<AgentName, Agent> = BTreeMap::new();
        for kind in Kind::built_in() {
            let name = AgentName::parse(kind.name()).expect("a name");
            let args = if kind.is_command() { Vec::new() } else { vec!["--operators".to_owned()] };
            let mut config = Agent { args, run: vec!["cat".to_owned(), "{exe}".to_owned()], ..Agent::new(kind) };
            config.env.0.insert("MINE".to_owned(), Secret::new("{session}"));
            agents.insert(name, config);
        }
        let homes = [("a", true), ("b", false)].map(|(name, owned)| {
            fs::create_dir(at(name)).expect("a home");
            (AccountName::parse(name).expect("a name"), AccountHome { home: at(name), owned, env: BTreeMap::new() })
        });
        let person = at("person");
        let own = AccountHome { home: person.join(".claude"), owned: true, env: BTreeMap::new() };
        fs::create_dir_all(&own.home).expect("a home");
        let homes = homes.into_iter().chain([(AccountName::parse("own").expect("a name"), own)]);
        let person = person.to_string_lossy().into_owned();
        let base_env = [
            ("PATH", "/bin"),
            ("HOME", person.as_str()),
            ("LC_ALL", "C"),
            ("TZ", "UTC"),
            ("ANTHROPIC_API_KEY", "daemon's secret"),
        ]
        .map(|(k, v)| (k.to_owned(), v.to_owned()));
        let book = AgentBook::new(AgentBookOptions {
            agents,
            homes: homes.collect(),
            state_dir: at("state"),
            exe: "/opt/claude failover".into(),
            mount: "/mnt/agents".into(),
            base_env: base_env.into_iter().collect(),
        });
        let process = std::process::Command::new("sleep").arg("600").spawn().expect("sleep");
        Self { dir, book, process: Process(process) }
    }

    async fn launch(&self, agent: &str, account: Option<&str>, resume: Option<&str>) -> LaunchPlan {
        let project = (agent == "command").then_some("/srv");
        self.launch_within(project, agent, account, resume).await
    }

    async fn launch_within(
        &self,
        project: Option<&str>,
        agent: &str,
        account: Option<&str>,
        resume: Option<&str>,
    ) -> LaunchPlan {
        let request = LaunchRequest {
            session: session(),
            incarnation: "i1".to_owned(),
            token: "t1".to_owned(),
            agent: AgentName::parse(agent).expect("a name"),
            account: account.map(|a| AccountName::parse(a).expect("a name")),
            workdir: "/srv/web".into(),
            project: project.map(Into::into),
            resume: resume.map(str::to_owned),
            prompt: None,
            own_args: true,
            task: Some(LaunchTask {
                run: RunId("r1".to_owned()),
                text: "the task\n".to_owned(),
                background: Background::Ends,
            }),
        };
        self.book.launch(&request).await.expect("a plan")
    }

    fn log(&self) -> std::path::PathBuf {
        hook_log(&self.dir.path().join("state"), &session())
    }

    fn hook(&self, at: &str, event: &str, data: &Value) {
        let line = json!({"at": at, "session": "auto-1", "event": event, "data": data});
        append(&self.log(), &format!("{line}\n"));
    }

    fn incarnation(&self, agent: &str) -> Incarnation {
        Incarnation {
            id: "i1".to_owned(),
            session: session(),
            agent: AgentName::parse(agent).expect("a name"),
            account: Some(AccountName::parse("a").expect("a name")),
            workdir: "/srv/web".into(),
            conversation: Some(CONVERSATION.to_owned()),
            pane: PaneId("%1".to_owned()),
            pid: self.process.0.id(),
            token: String::new(),
            started: "2026-11-21T05:00:00Z".parse().expect("a time"),
        }
    }

    async fn signals(&self, agent: &str, cursor: &mut Cursor) -> Vec<Signal> {
        self.book.signals(&self.incarnation(agent), cursor).await
    }
}

fn append(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a parent")).expect("its directory");
    let mut file = fs::OpenOptions::new().create(true).append(true).open(path).expect("the file");
    file.write_all(text.as_bytes()).expect("written");
}

fn meanings(signals: Vec<Signal>) -> Vec<Meaning> {
    signals.into_iter().map(|s| s.meaning).collect()
}

fn limit(kind: LimitKind, resets_at: Option<&str>) -> Failure {
    Failure::Limit(Limit { kind, resets_at: resets_at.map(|at| at.parse().expect("a time")) })
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("facts").permissions().mode() & 0o777
}

#[tokio::test]
async fn gemini_cli_keeps_its_conversation_under_the_id_that_it_is_given() {
    let world = World::new();
    let plan = world.launch("gemini", Some("a"), None).await;
    let id = plan.conversation.clone().expect("an id");
    assert_eq!(plan.launch.argv, ["gemini", "--operators", "--session-id", &id]);
    let home = world.dir.path().join("a").to_string_lossy().into_owned();
    assert!(plan.launch.env.contains(&("GEMINI_CLI_HOME".to_owned(), home)), "{:?}", plan.launch.env);
    let resumed = world.launch("gemini", Some("a"), Some(CONVERSATION)).await;
    assert_eq!(resumed.launch.argv, ["gemini", "--operators", "--resume", CONVERSATION]);
    // An answer is written again when its tools have run.
    let chats = world.dir.path().join("a/.gemini/tmp/web/chats");
    let answer = |id: &str| {
        let tokens = json!({"input": 3045, "output": 50, "cached": 2000, "thoughts": 8, "tool": 0, "total": 3095});
        json!({"id": id, "timestamp": "2026-11-21T05:00:01Z", "type": "gemini", "content": "ok", "tokens": tokens})
    };
    let lines = format!("{}\n{}\n{}\n", answer("1"), answer("1"), answer("2"));
    append(&chats.join(format!("session-2026-11-21T05-00-{}.jsonl", &CONVERSATION[..8])), &lines);
    append(&chats.join("session-2026-11-21T06-00-00000000.jsonl"), &format!("{}\n", answer("3")));
    let tokens = world.book.tokens(&world.incarnation("gemini")).await;
    assert_eq!(tokens, Some(Tokens { input: 2090, output: 100, cache_read: 4000, cache_write: 0 }));
}

#[tokio::test]
async fn opencode_is_started_plainly_and_resumes_nothing() {
    let world = World::new();
    let plan = world.launch("opencode", None, None).await;
    assert_eq!((plan.conversation, plan.launch.argv), (None, vec!["opencode".to_owned(), "--operators".to_owned()]));
    let opencode = AgentName::parse("opencode").expect("a name");
    assert!(!world.book.resumes(&opencode));
}

#[tokio::test]
async fn a_start_of_claude_code_chooses_the_conversation_and_brings_its_hooks() {
    let world = World::new();
    let plan = world.launch("claude", Some("a"), None).await;
    let id = plan.conversation.clone().expect("an id");
    let argv = &plan.launch.argv;
    assert_eq!(argv[..4], ["claude", "--operators", "--session-id", &id]);
    let settings = Path::new(&argv[5]);
    assert_eq!(mode(settings), 0o600);
    let value: Value = serde_json::from_slice(&fs::read(settings).expect("settings")).expect("JSON");
    assert_eq!(value["autoContinueAtUsageLimit"], false);
    let command = value["hooks"]["Stop"][0]["hooks"][0]["command"].as_str().expect("a command");
    assert_eq!(command, format!("'/opt/claude failover' hook --log {} --session auto-1", world.log().display()));
    let own = world.dir.path().join("a/settings.json");
    assert_eq!(value["statusLine"]["command"], format!("{command} --status-line {}", own.display()));
    assert_eq!(value["statusLine"]["type"], "command");
    // What else the person has chosen of their status line stays.
    let theirs = json!({"statusLine": {"type": "command", "command": "mine", "padding": 0}});
    fs::write(&own, theirs.to_string()).expect("settings");
    world.launch("claude", Some("a"), None).await;
    let value: Value = serde_json::from_slice(&fs::read(settings).expect("settings")).expect("JSON");
    let line = &value["statusLine"];
    assert_eq!((&line["padding"], line["command"] != "mine"), (&json!(0), true));
    assert_eq!(fs::read_to_string(&own).expect("settings"), theirs.to_string(), "theirs is only read");
    assert_eq!(mode(&world.log()), 0o600);
    // First-run answers only where the home is ours.
    assert!(world.dir.path().join("a/.claude.json").exists());
    world.launch("claude", Some("b"), None).await;
    assert!(!world.dir.path().join("b/.claude.json").exists());

    let again = world.launch("claude", Some("a"), Some(&id)).await;
    assert_eq!(again.launch.argv[2..4], ["--resume", &id]);
    assert_eq!(again.conversation, Some(id));
}

#[tokio::test]
async fn a_person_s_own_home_is_used_as_the_agent_uses_it_unasked() {
    let world = World::new();
    let plan = world.launch("claude", Some("own"), None).await;
    assert!(plan.launch.env.iter().all(|(name, _)| name != "CLAUDE_CONFIG_DIR"), "{:?}", plan.launch.env);
    assert!(world.dir.path().join("person/.claude.json").exists());
    assert!(!world.dir.path().join("person/.claude/.claude.json").exists());
}

#[tokio::test]
async fn a_session_gets_the_allowed_environment_and_its_own_account_only() {
    let world = World::new();
    let env: BTreeMap<String, String> = world.launch("claude", Some("a"), None).await.launch.env.into_iter().collect();
    let home = world.dir.path().join("a").to_string_lossy().into_owned();
    let person = world.dir.path().join("person").to_string_lossy().into_owned();
    let want = [
        ("PATH", "/bin"),
        ("HOME", &person),
        ("LC_ALL", "C"),
        ("TZ", "UTC"),
        ("MINE", "auto-1"),
        ("CLAUDE_CONFIG_DIR", &home),
        ("CLAUDE_FAILOVER_INCARNATION", "t1"),
        ("CLAUDE_FAILOVER_MOUNT", "/mnt/agents"),
        ("CLAUDE_FAILOVER_SESSION", "auto-1"),
        ("CLAUDE_FAILOVER_TASK", "/mnt/agents/sessions/auto-1/task"),
    ];
    let want: BTreeMap<String, String> = want.map(|(k, v)| (k.to_owned(), v.to_owned())).into_iter().collect();
    assert_eq!(env, want);
    let without: BTreeMap<String, String> = world.launch("claude", None, None).await.launch.env.into_iter().collect();
    assert!(!without.contains_key("CLAUDE_CONFIG_DIR"), "without an account the agent keeps its own home");
}

#[tokio::test]
async fn codex_and_commands_start_in_their_own_ways() {
    let world = World::new();
    let plan = world.launch("codex", Some("b"), None).await;
    assert_eq!(plan.launch.argv[..4], ["codex", "--operators", "--no-daemon", "-c"]);
    assert_eq!(plan.conversation, None);
    let resumed = world.launch("codex", Some("b"), Some(CONVERSATION)).await.launch.argv;
    assert_eq!(resumed[..2], ["codex", "resume"]);
    assert_eq!(resumed.last().map(String::as_str), Some(CONVERSATION));

    let plan = world.launch("command", None, None).await;
    let task = plan.launch.argv[3].clone();
    let log = world.log().to_string_lossy().into_owned();
    // The operator's program is passed on as it is: no placeholder of ours is filled in it.
    let ours = ["/opt/claude failover", "command-agent", "--task", &task, "--log", &log, "--background", "ends"];
    assert_eq!(plan.launch.argv[..8], ours);
    assert_eq!(plan.launch.argv[8..], ["--project", "/srv", "--workdir", "web", "--", "cat", "{exe}"]);
    assert_eq!((fs::read_to_string(&task).expect("the task").as_str(), mode(Path::new(&task))), ("the task\n", 0o600));
    assert_eq!(world.book.prompt_by(&AgentName::parse("command").expect("a name")), PromptBy::Stdin);
    // Other agents enter their project's directory by the same program, which becomes theirs.
    let plain = world.launch("codex", None, None).await.launch.argv;
    let within = world.launch_within(Some("/srv"), "codex", None, None).await.launch.argv;
    let enters = ["/opt/claude failover", "command-agent", "--becomes", "--project", "/srv", "--workdir", "web", "--"];
    assert_eq!((&within[..8], &within[8..]), (&enters.map(str::to_owned)[..], &plain[..]));
}

#[tokio::test]
async fn hooks_are_read_once_and_a_torn_line_is_left() {
    let world = World::new();
    world.launch("claude", Some("a"), None).await;
    let mut cursor = Cursor::default();
    world.hook("2026-11-21T05:00:01Z", "SessionStart", &json!({"session_id": CONVERSATION}));
    let wrapped = "\n\n<pasted_content id=\"61e0\">\ndo\nit\n</pasted_content id=\"61e0\">\n";
    world.hook("2026-11-21T05:00:02Z", "UserPromptSubmit", &json!({"prompt": wrapped}));
    append(&world.log(), r#"{"at":"2026-11-21T05:00:03Z","session":"auto-1","event":"Stop","#);
    let want = vec![
        Meaning::Started { conversation: CONVERSATION.to_owned() },
        Meaning::PromptTaken { prompt: Some("do\nit".to_owned()) },
    ];
    assert_eq!(meanings(world.signals("claude", &mut cursor).await), want);
    append(
        &world.log(),
        "\"data\":{\"last_assistant_message\":\"m\",\"background_tasks\":[{\"status\":\"running\"}]}}\n",
    );
    let ended = Meaning::TurnEnded { message: Some("m".to_owned()), background: 1, shells: Vec::new() };
    assert_eq!(meanings(world.signals("claude", &mut cursor).await), [ended]);
    assert_eq!(world.signals("claude", &mut cursor).await, []);

    // The next start begins a log of its own and keeps this one beside it.
    world.launch("claude", Some("a"), None).await;
    assert_eq!(fs::metadata(world.log()).expect("facts").len(), 0);
    assert!(world.dir.path().join("state/hooks/auto-1.jsonl.1").exists());
    world.hook("2026-11-21T05:01:00Z", "Stop", &json!({}));
    let ended = Meaning::TurnEnded { message: None, background: 0, shells: Vec::new() };
    assert_eq!(meanings(world.signals("claude", &mut cursor).await), [ended]);
}

#[tokio::test]
async fn only_an_accounts_own_limit_is_a_limit() {
    let world = World::new();
    let hit = "You've hit your 5-hour limit · resets 4:37am (UTC)";
    let five_hour = limit(LimitKind::FiveHour, Some("2026-11-22T04:37:00Z"));
    let table = [
        ("rate_limit", hit, five_hour),
        (
            "rate_limit",
            "API Error: Server is temporarily limiting requests (not your usage limit) · Rate limited",
            Failure::Server,
        ),
        (
            "rate_limit",
            "API Error: Request rejected (429) · This request would exceed your organization's",
            Failure::Server,
        ),
        ("server_error", "API Error: You've hit your 5-hour limit", Failure::Server),
        ("billing_error", "Credit balance is too low", limit(LimitKind::Credit, None)),
        ("authentication_failed", "Not logged in · Please run /login", Failure::Login),
        ("invalid_request", "Prompt is too long", Failure::Request),
        ("something_new", hit, Failure::Unknown),
    ];
    let mut cursor = Cursor::default();
    for (error, message, failure) in table {
        world.hook("2026-11-21T05:00:01Z", "StopFailure", &json!({"error": error, "last_assistant_message": message}));
        let want = Meaning::TurnFailed { failure, message: message.to_owned() };
        assert_eq!(meanings(world.signals("claude", &mut cursor).await), [want], "{error}");
    }
    world.hook("2026-11-21T05:00:02Z", "Stop", &json!({"last_assistant_message": hit, "background_tasks": []}));
    let ended = Meaning::TurnEnded { message: Some(hit.to_owned()), background: 0, shells: Vec::new() };
    assert_eq!(meanings(world.signals("claude", &mut cursor).await), [ended], "an agent that says so hit no limit");
}

#[tokio::test]
async fn a_status_file_counts_only_for_the_process_that_wrote_it() {
    let world = World::new();
    let path = world.dir.path().join(format!("a/sessions/{}.json", world.process.0.id()));
    let write = |status: &str, start: Option<&str>| {
        let mut value =
            json!({"status": status, "waitingFor": "permission prompt", "statusUpdatedAt": 1_795_235_866_000_i64});
        if let Some(start) = start {
            value["procStart"] = json!(start);
        }
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        // A new inode each time: two writes within one tick of the clock still differ.
        let tmp = path.with_extension("tmp");
        fs::write(&tmp, value.to_string()).expect("written");
        fs::rename(&tmp, &path).expect("renamed");
    };
    let mut cursor = Cursor::default();
    write("busy", Some("1"));
    assert_eq!(world.signals("claude", &mut cursor).await, [], "another process with our number left it");
    write("busy", None);
    assert_eq!(meanings(world.signals("claude", &mut cursor).await), [Meaning::Busy]);
    assert_eq!(world.signals("claude", &mut cursor).await, [], "nothing changed");
    write("waiting", None);
    let signals = world.signals("claude", &mut cursor).await;
    assert_eq!(signals[0].source, Source::StatusFile);
    assert_eq!(meanings(signals), [Meaning::Waiting { what: WaitingFor::Permission }]);
}

#[tokio::test]
async fn a_transcript_tells_limits_with_their_end_and_nothing_of_an_earlier_start() {
    let world = World::new();
    let path = world.dir.path().join(format!("a/projects/-srv-web/{CONVERSATION}.jsonl"));
    let usage = json!({"input_tokens": 5, "output_tokens": 7, "cache_read_input_tokens": 11, "cache_creation_input_tokens": 13});
    let text = |at: &str, id: &str, text: &str| {
        json!({"type": "assistant", "timestamp": at, "requestId": id,
               "message": {"id": id, "stop_reason": "end_turn", "usage": usage, "content": [{"type": "text", "text": text}]}})
    };
    let mut rejected = text("2026-11-21T05:00:05Z", "m3", "You've hit your weekly limit · resets 9pm (UTC)");
    rejected["isApiErrorMessage"] = json!(true);
    rejected["error"] = json!("rate_limit");
    rejected["message"]["usage"] = json!(null);
    rejected["quotaLimits"] =
        json!({"status": "rejected", "resetsAt": 1_795_235_866, "rateLimitType": "seven_day_opus"});
    let mut aside = text("2026-11-21T05:00:04Z", "m4", "a subagent's end");
    aside["isSidechain"] = json!(true);
    aside["message"]["usage"] = json!(null);
    let records = [
        text("2026-11-21T04:59:00Z", "m1", "from before"),
        json!({"type": "user", "timestamp": "2026-11-21T05:00:01Z", "message": {"role": "user", "content": "do it"}}),
        text("2026-11-21T05:00:02Z", "m2", "done"),
        text("2026-11-21T05:00:02Z", "m2", "done"),
        json!({"type": "user", "timestamp": "2026-11-21T05:00:03Z",
               "message": {"content": [{"type": "text", "text": "[Request interrupted by user]"}]}}),
        aside,
        rejected,
    ];
    for record in &records {
        append(&path, &format!("{record}\n"));
    }
    let ended = || Meaning::TurnEnded { message: Some("done".to_owned()), background: 0, shells: Vec::new() };
    let message = "You've hit your weekly limit · resets 9pm (UTC)".to_owned();
    let want = vec![
        Meaning::PromptTaken { prompt: Some("do it".to_owned()) },
        ended(),
        ended(),
        Meaning::Interrupted,
        Meaning::TurnFailed { failure: limit(LimitKind::Model, Some("2026-11-21T04:37:46Z")), message },
    ];
    let mut cursor = Cursor::default();
    assert_eq!(meanings(world.signals("claude", &mut cursor).await), want);
    let tokens = world.book.tokens(&world.incarnation("claude")).await;
    assert_eq!(
        tokens,
        Some(Tokens { input: 10, output: 14, cache_read: 22, cache_write: 26 }),
        "one answer counts once"
    );
}

#[tokio::test]
async fn codex_failures_come_from_its_rollout() {
    let world = World::new();
    let path = world.dir.path().join(format!("a/sessions/2026/11/21/rollout-2026-11-21T05-00-00-{CONVERSATION}.jsonl"));
    let end = |error: Value| json!({"type": "event_msg", "timestamp": "2026-11-21T05:00:02Z", "payload": {"type": "task_complete", "error": error}});
    let http = json!({"message": "unexpected status 401 Unauthorized", "codex_error_info": {"http_connection_failed": {"http_status_code": 401}}});
    let failed = |failure, message: &str| Meaning::TurnFailed { failure, message: message.to_owned() };
    let table = [
        (
            json!({"message": "You’ve hit your usage limit. Try again at Nov 27th, 2026 4:44 AM.", "codex_error_info": "usage_limit_exceeded"}),
            failed(
                limit(LimitKind::Unknown, Some("2026-11-27T04:44:00Z")),
                "You’ve hit your usage limit. Try again at Nov 27th, 2026 4:44 AM.",
            ),
        ),
        (
            json!({"message": "You’ve hit your usage limit for gpt-6. Try again in 45 minutes.", "codex_error_info": "usage_limit_exceeded"}),
            failed(
                limit(LimitKind::Model, Some("2026-11-21T05:45:02Z")),
                "You’ve hit your usage limit for gpt-6. Try again in 45 minutes.",
            ),
        ),
        (
            json!({"message": "You're out of credits. Your workspace is out of credits.", "codex_error_info": "usage_limit_exceeded"}),
            failed(limit(LimitKind::Credit, None), "You're out of credits. Your workspace is out of credits."),
        ),
        (
            json!({"message": "rate limit exceeded: Rate limit reached. Please try again in 2s.", "codex_error_info": "other"}),
            failed(Failure::Unknown, "rate limit exceeded: Rate limit reached. Please try again in 2s."),
        ),
        (
            json!({"message": "Quota exceeded. Check it.", "codex_error_info": "usage_limit_exceeded"}),
            failed(limit(LimitKind::Credit, None), "Quota exceeded. Check it."),
        ),
        (http, failed(Failure::Login, "unexpected status 401 Unauthorized")),
        (json!({"message": "full", "codex_error_info": "server_overloaded"}), failed(Failure::Server, "full")),
        (Value::Null, Meaning::TurnEnded { message: None, background: 0, shells: Vec::new() }),
    ];
    let mut cursor = Cursor::default();
    for (error, want) in table {
        append(&path, &format!("{}\n", end(error)));
        assert_eq!(meanings(world.signals("codex", &mut cursor).await), [want]);
    }
    // Here, because a rollout is found by the process that has it open: two of one process would be taken for each other.
    for (kind, words) in wordings(include_str!("wordings/codex.txt")) {
        append(&path, &format!("{}\n", end(json!({"message": words, "codex_error_info": "usage_limit_exceeded"}))));
        let got: Vec<&str> = meanings(world.signals("codex", &mut cursor).await).iter().map(kind_of).collect();
        assert_eq!(got, [kind], "{words}");
    }
}

/// Every kind is told apart: by the record's own name where there is one, else by the words.
#[tokio::test]
async fn kinds_of_limits_are_told_apart() {
    let world = World::new();
    let reset = Some("2026-11-21T10:04:26Z");
    let by_name = [
        ("five_hour", LimitKind::FiveHour),
        ("seven_day", LimitKind::Weekly),
        ("seven_day_opus", LimitKind::Model),
        ("seven_day_sonnet", LimitKind::Model),
        ("seven_day_overage_included", LimitKind::Model),
        ("overage", LimitKind::Credit),
        ("something_new", LimitKind::Unknown),
    ];
    let path = world.dir.path().join(format!("a/projects/-srv-web/{CONVERSATION}.jsonl"));
    let mut cursor = Cursor::default();
    for (name, kind) in by_name {
        let record = json!({
            "type": "assistant", "timestamp": "2026-11-21T05:00:05Z", "isApiErrorMessage": true, "error": "rate_limit",
            "quotaLimits": {"status": "rejected", "resetsAt": 1_795_255_466, "rateLimitType": name},
            "message": {"content": [{"type": "text", "text": "hit"}]},
        });
        append(&path, &format!("{record}\n"));
        let want = Meaning::TurnFailed { failure: limit(kind, reset), message: "hit".to_owned() };
        assert_eq!(meanings(world.signals("claude", &mut cursor).await), [want], "{name}");
    }
    let at = |text| Some(text);
    let by_words = [
        ("You've hit your 5-hour limit · resets 5:28am (UTC)", LimitKind::FiveHour, at("2026-11-21T05:28:00Z")),
        ("You've hit your session limit · resets 5:28am (UTC)", LimitKind::FiveHour, at("2026-11-21T05:28:00Z")),
        ("You've hit your weekly limit · resets Nov 26, 2:37am (UTC)", LimitKind::Weekly, at("2026-11-26T02:37:00Z")),
        ("You’ve hit your Opus limit · resets 9pm (Europe/Zurich)", LimitKind::Model, at("2026-11-21T20:00:00Z")),
        ("You've hit your Sonnet limit", LimitKind::Model, None),
        ("You've hit your monthly spend limit", LimitKind::Spend, None),
        ("You've hit your org's monthly usage limit", LimitKind::Spend, None),
        ("You've hit your usage credit limit", LimitKind::Credit, None),
        ("You're out of usage credits", LimitKind::Credit, None),
        // 2.0.76
        ("You've hit your limit · resets 5:28am (UTC)", LimitKind::Unknown, at("2026-11-21T05:28:00Z")),
    ];
    for (message, kind, reset) in by_words {
        let data = json!({"error": "rate_limit", "last_assistant_message": message});
        world.hook("2026-11-21T05:00:06Z", "StopFailure", &data);
        let want = Meaning::TurnFailed { failure: limit(kind, reset), message: message.to_owned() };
        assert_eq!(meanings(world.signals("claude", &mut cursor).await), [want], "{message}");
    }
}

/// Rows of tests/wordings: a kind and the words.
fn wordings(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let rows = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('|'));
    rows.map(|(kind, words)| (kind.trim(), words.trim())).filter(|(kind, _)| *kind != "-")
}

fn kind_of(meaning: &Meaning) -> &'static str {
    match meaning {
        Meaning::TurnFailed { failure: Failure::Limit(limit), .. } => match limit.kind {
            LimitKind::FiveHour => "five-hour",
            LimitKind::Weekly => "weekly",
            LimitKind::Model => "model",
            LimitKind::Spend => "spend",
            LimitKind::Credit => "credit",
            LimitKind::Unknown => "unknown",
        },
        Meaning::TurnFailed { failure: Failure::Server, .. } => "server",
        _ => "something else",
    }
}

/// By hook and by record, the server's behind `API Error` too.
#[tokio::test]
async fn every_wording_of_a_limit_has_its_kind() {
    let world = World::new();
    let claude = world.dir.path().join(format!("a/projects/-srv-web/{CONVERSATION}.jsonl"));
    let (mut at, mut wrong) = (Cursor::default(), Vec::new());
    let mut weigh = |by: &str, words: &str, want: &str, signals: Vec<Signal>| {
        let got: Vec<&str> = signals.iter().map(|signal| kind_of(&signal.meaning)).collect();
        if got != [want] {
            wrong.push(format!("{by}: {words:?} is {got:?}, should be {want}"));
        }
    };
    for (kind, words) in wordings(include_str!("wordings/claude.txt")) {
        let shown = if kind == "server" && words.starts_with("Server") {
            format!("API Error: {words} · later")
        } else {
            words.to_owned()
        };
        let data = json!({"error": "rate_limit", "last_assistant_message": shown});
        world.hook("2026-11-21T05:00:06Z", "StopFailure", &data);
        weigh("hook", words, kind, world.signals("claude", &mut at).await);
        let record = json!({
            "type": "assistant", "timestamp": "2026-11-21T05:00:05Z", "isApiErrorMessage": true, "error": "rate_limit",
            "message": {"content": [{"type": "text", "text": shown}]},
        });
        append(&claude, &format!("{record}\n"));
        weigh("record", words, kind, world.signals("claude", &mut at).await);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Older versions give the server's errors no name: the status stands in the words.
#[tokio::test]
async fn an_error_of_the_server_is_known_by_its_words() {
    let world = World::new();
    let path = world.dir.path().join(format!("a/projects/-srv-web/{CONVERSATION}.jsonl"));
    let mut cursor = Cursor::default();
    for (words, server) in [
        (r#"API Error: 529 {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#, true),
        ("API Error: Repeated 529 Overloaded errors", true),
        ("API Error: Connection error.", true),
        (r#"API Error: 400 {"type":"error","error":{"message":"5 tools are too many"}}"#, false),
    ] {
        let failure = if server { Failure::Server } else { Failure::Unknown };
        let want = [Meaning::TurnFailed { failure, message: words.to_owned() }];
        world.hook(
            "2026-11-21T05:00:06Z",
            "StopFailure",
            &json!({"error": "unknown", "last_assistant_message": words}),
        );
        assert_eq!(meanings(world.signals("claude", &mut cursor).await), want);
        let record = json!({
            "type": "assistant", "timestamp": "2026-11-21T05:00:05Z", "isApiErrorMessage": true, "error": "unknown",
            "message": {"content": [{"type": "text", "text": words}]},
        });
        append(&path, &format!("{record}\n"));
        assert_eq!(meanings(world.signals("claude", &mut cursor).await), want);
    }
}

/// What the server said of the account decides, whatever the words: they change from version to version.
#[tokio::test]
async fn an_account_s_facts_decide_before_its_words() {
    let world = World::new();
    let path = world.dir.path().join(format!("a/projects/-srv-web/{CONVERSATION}.jsonl"));
    let mut cursor = Cursor::default();
    let soon = "Something nobody has seen before · resets 5:28am (UTC)";
    let never = "Something nobody has seen before";
    let table = [
        (
            json!({"rateLimitType": "five_hour", "resetsAt": 1_795_255_466}),
            soon,
            limit(LimitKind::FiveHour, Some("2026-11-21T10:04:26Z")),
        ),
        (
            json!({"overageDisabledReason": "out_of_credits", "resetsAt": 1_795_255_466}),
            soon,
            limit(LimitKind::Credit, Some("2026-11-21T05:28:00Z")),
        ),
        (json!({"overageDisabledReason": "org_spend_cap_reached"}), never, limit(LimitKind::Spend, None)),
        (json!({"overageDisabledReason": "member_level_disabled"}), never, limit(LimitKind::Spend, None)),
        (json!({"overageDisabledReason": "seat_tier_zero_credit_limit"}), never, limit(LimitKind::Spend, None)),
        (
            json!({"overageDisabledReason": "something_new"}),
            soon,
            limit(LimitKind::Unknown, Some("2026-11-21T05:28:00Z")),
        ),
        (json!({"dailyCapPaused": true}), "Usage is paused for your organization.", limit(LimitKind::Unknown, None)),
    ];
    for (facts, words, failure) in table {
        let mut quota = facts.clone();
        quota["status"] = json!("rejected");
        let record = json!({
            "type": "assistant", "timestamp": "2026-11-21T05:00:05Z", "isApiErrorMessage": true, "error": "rate_limit",
            "quotaLimits": quota, "message": {"content": [{"type": "text", "text": words}]},
        });
        append(&path, &format!("{record}\n"));
        let want = Meaning::TurnFailed { failure, message: words.to_owned() };
        assert_eq!(meanings(world.signals("claude", &mut cursor).await), [want], "{facts}");
    }
}

fn used(signals: &[Signal]) -> Vec<(LimitKind, u8, i64)> {
    let usage = signals.iter().find_map(|signal| match &signal.meaning {
        Meaning::Used { usage } => Some(usage.clone()),
        _ => None,
    });
    let windows = usage.unwrap_or_default().0;
    windows.iter().map(|(kind, w)| (*kind, w.used_percent, w.resets_at.map_or(0, |at| at.as_second()))).collect()
}

#[tokio::test]
async fn usage_is_told_beside_what_a_record_means() {
    let world = World::new();
    let mut cursor = Cursor::default();
    let limits = json!({
        "five_hour": {"used_percentage": 42.7, "resets_at": 1_795_237_176},
        "seven_day": {"used_percentage": 17, "resets_at": 1_795_661_976},
    });
    world.hook("2026-11-21T05:00:01Z", "StatusLine", &json!({"rate_limits": limits}));
    let signals = world.signals("claude", &mut cursor).await;
    let want = [(LimitKind::FiveHour, 42, 1_795_237_176), (LimitKind::Weekly, 17, 1_795_661_976)];
    assert_eq!(used(&signals), want);
    assert_eq!((signals.len(), signals[0].text.as_str()), (1, "5-hour limit 42 %, weekly limit 17 %"));

    let path = world.dir.path().join(format!("a/sessions/2026/11/21/rollout-2026-11-21T05-00-00-{CONVERSATION}.jsonl"));
    let window =
        |used: f64, minutes: u32, at: u32| json!({"used_percent": used, "window_minutes": minutes, "resets_at": at});
    let count = |limits: Value| json!({"type": "event_msg", "timestamp": "2026-11-21T05:00:02Z", "payload": {"type": "token_count", "info": null, "rate_limits": limits}});
    let weekly = window(17.0, 10080, 1_795_660_787);
    let table = [
        (
            json!({"primary": window(100.0, 300, 1_795_235_987), "secondary": weekly}),
            vec![(LimitKind::FiveHour, 100, 1_795_235_987), (LimitKind::Weekly, 17, 1_795_660_787)],
        ),
        (json!({"primary": weekly, "secondary": null}), vec![(LimitKind::Weekly, 17, 1_795_660_787)]),
        (json!({"primary": window(5.0, 60, 1), "secondary": null}), vec![]),
        (Value::Null, vec![]),
    ];
    let mut cursor = Cursor::default();
    for (limits, want) in table {
        append(&path, &format!("{}\n", count(limits.clone())));
        assert_eq!(used(&world.signals("codex", &mut cursor).await), want, "{limits}");
    }
}

/// A resumed conversation's file holds what an earlier start, perhaps under another account, was told.
#[tokio::test]
async fn records_from_before_the_start_say_nothing() {
    let world = World::new();
    let rollout =
        world.dir.path().join(format!("a/sessions/2026/11/20/rollout-2026-11-20T23-00-00-{CONVERSATION}.jsonl"));
    let event = |at: &str, payload: Value| json!({"type": "event_msg", "timestamp": at, "payload": payload});
    let error = json!({"message": "You’ve hit your usage limit.", "codex_error_info": "usage_limit_exceeded"});
    let limits = json!({"primary": {"used_percent": 100.0, "window_minutes": 300, "resets_at": 1_795_235_987}});
    for at in ["2026-11-21T04:59:59.999Z", "2026-11-21T05:00:00.001Z"] {
        append(&rollout, &format!("{}\n", event(at, json!({"type": "token_count", "rate_limits": limits}))));
        append(&rollout, &format!("{}\n", event(at, json!({"type": "task_complete", "error": error}))));
    }
    append(
        &rollout,
        &format!("{}\n", json!({"type": "event_msg", "payload": {"type": "task_complete", "error": error}})),
    );
    let signals = world.signals("codex", &mut Cursor::default()).await;
    assert_eq!(signals.len(), 2, "only what came after the start, and nothing that has no time: {signals:?}");
    assert!(signals.iter().all(|s| s.at > "2026-11-21T05:00:00Z".parse().expect("a time")));

    let transcript = world.dir.path().join(format!("a/projects/-srv-web/{CONVERSATION}.jsonl"));
    let record = json!({
        "type": "assistant", "timestamp": "2026-11-21T04:59:59.999Z", "isApiErrorMessage": true,
        "quotaLimits": {"status": "rejected", "resetsAt": 1_795_255_466, "rateLimitType": "five_hour"},
        "message": {"content": [{"type": "text", "text": "You've hit your 5-hour limit"}]},
    });
    append(&transcript, &format!("{record}\n"));
    assert_eq!(world.signals("claude", &mut Cursor::default()).await, []);
}

/// Where a person has switched Claude Code's own auto-continue on, it is a prompt that was taken: nobody gives another.
#[tokio::test]
async fn an_auto_continue_is_a_prompt_that_was_taken() {
    let world = World::new();
    let mut cursor = Cursor::default();
    let notice = json!({"notification_type": "quota_auto_resume_fired", "message": "Usage limit reset — Claude is continuing your task"});
    world.hook("2026-11-21T05:00:01Z", "Notification", &notice);
    let prompt = "Your claude.ai usage limit has reset. Continue the task you were working on when the limit was reached; do not repeat work that is already complete.";
    world.hook("2026-11-21T05:00:02Z", "UserPromptSubmit", &json!({"prompt": prompt}));
    let want = [Meaning::PromptTaken { prompt: None }, Meaning::PromptTaken { prompt: Some(prompt.to_owned()) }];
    assert_eq!(meanings(world.signals("claude", &mut cursor).await), want);
}

#[tokio::test]
async fn a_command_ends_with_its_status() {
    let world = World::new();
    let mut cursor = Cursor::default();
    for (data, want) in [
        (
            json!({"status": 0, "message": "fine"}),
            Meaning::TurnEnded { message: Some("fine".to_owned()), background: 0, shells: Vec::new() },
        ),
        (
            json!({"status": 3, "message": "bad"}),
            Meaning::TurnFailed {
                failure: Failure::Unknown,
                message: "the command ended with exit status 3\nbad".to_owned(),
            },
        ),
        (
            json!({"status": 3, "said": ": boom", "message": "out"}),
            Meaning::TurnFailed {
                failure: Failure::Unknown,
                message: "the command ended with exit status 3: boom\nout".to_owned(),
            },
        ),
        (
            json!({"signal": 9, "message": ""}),
            Meaning::TurnFailed {
                failure: Failure::Unknown,
                message: "the command was ended by signal 9\n".to_owned(),
            },
        ),
    ] {
        world.hook("2026-11-21T05:00:01Z", "CommandEnd", &data);
        assert_eq!(meanings(world.signals("command", &mut cursor).await), [want]);
    }
}

#[tokio::test]
async fn a_hook_wakes_whoever_waits_for_changes() {
    let world = World::new();
    world.launch("claude", Some("a"), None).await;
    world.hook("2026-11-21T05:00:01Z", "Stop", &json!({}));
    let patience = std::time::Duration::from_secs(10);
    tokio::time::timeout(patience, world.book.changed()).await.expect("a hint");
}

/// A clock that stands, after the wall's was set.
struct Stands(Timestamp, Arc<Timeline>);

impl Clock for Stands {
    fn now(&self) -> Timestamp {
        self.0
    }

    fn timeline(&self) -> Arc<Timeline> {
        self.1.clone()
    }
}

/// The wall's clock was set back by 45 s, an agent that had idled for a minute takes a prompt, and its words bear times of that
/// minute. Who reads from the typing on has them where they belong.
#[tokio::test]
async fn what_is_told_at_a_time_that_the_clock_shows_twice_is_of_the_prompt_that_was_typed() {
    let world = World::new();
    let started: Timestamp = "2026-11-21T05:00:00Z".parse().expect("a time");
    let after = |seconds: i64| started + SignedDuration::from_secs(seconds);
    let reading = |count: i64, ahead: i64| Reading {
        boot: "b".to_owned(),
        count: SignedDuration::from_secs(count),
        asleep: SignedDuration::ZERO,
        wall: after(count + ahead),
    };
    let mut steady = Steady::begin(None, &reading(0, 0));
    steady.now(&reading(60, -45));
    world.launch("claude", Some("a"), None).await;
    world.hook("2026-11-21T05:00:01Z", "SessionStart", &json!({"session_id": CONVERSATION}));
    let clock = Arc::new(Stands(after(70), steady.timeline().clone()));
    let incarnation = world.incarnation("claude");
    let hook = |at: &str| world.hook(at, "UserPromptSubmit", &json!({"prompt": "do it"}));
    let (typed, mut before) = (after(65), Cursor::default());
    let log = world.log();
    let session_start = fs::read(&log).expect("the log");
    hook("2026-11-21T05:00:21Z");
    let told = fs::read(&log).expect("the log");
    let agents = SteadyAgents { agents: Arc::new(world.book), clock };
    let taken = |signals: Vec<Signal>| -> Vec<Timestamp> {
        let prompts = signals.into_iter().filter(|signal| matches!(signal.meaning, Meaning::PromptTaken { .. }));
        prompts.map(|signal| signal.at).collect()
    };
    // Nobody who begins to read only now and knows of no typing can tell.
    assert_eq!(taken(agents.signals(&incarnation, &mut Cursor::default()).await), [after(21)]);
    let mut since = Cursor { read: Some(typed), ..Cursor::default() };
    assert_eq!(taken(agents.signals(&incarnation, &mut since).await), [after(66)]);
    // Or who has read before: a fresh look then begins behind what was there.
    fs::write(&log, session_start).expect("written");
    agents.signals(&incarnation, &mut before).await;
    fs::write(&log, told).expect("written");
    assert_eq!(taken(agents.signals(&incarnation, &mut before).await), [after(66)]);
}
