//! Every captured screen of the real CLIs against its agent's rules, and innocent texts against all of them.
//! `tests/panes/` holds the screens as tmux captured them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use claude_failover::{
    agents::{AgentBook, AgentBookOptions},
    config::Agent,
    model::{
        evidence::{Failure, Look, Meaning, Screen, Source, UNKNOWN_DIALOG, WaitingFor},
        ids::AgentName,
        limit::LimitKind,
    },
    ports::Agents,
    rules::Kind,
};
use jiff::Timestamp;

/// As doc/AGENTS.md teaches it.
fn qwen() -> Kind {
    let doc = include_str!("../doc/AGENTS.md");
    let rules = doc.split("```yaml\n").find(|block| block.starts_with("# The rules of Qwen Code"));
    let rules = rules.and_then(|block| block.split("```").next()).expect("the rules of Qwen Code");
    let kind = Kind::new("qwen").with_rules(Path::new("qwen.yaml"), rules);
    assert_eq!(kind.problem(), None);
    kind
}

fn book() -> AgentBook {
    let agents =
        Kind::built_in().chain([qwen()]).map(|kind| (AgentName::parse(kind.name()).expect("a name"), Agent::new(kind)));
    AgentBook::new(AgentBookOptions {
        agents: agents.collect(),
        homes: BTreeMap::new(),
        state_dir: PathBuf::from("/nonexistent/state"),
        exe: PathBuf::from("/nonexistent/exe"),
        mount: PathBuf::from("/nonexistent/mount"),
        base_env: BTreeMap::from([("TZ".to_owned(), "UTC".to_owned())]),
    })
}

static BOOK: LazyLock<AgentBook> = LazyLock::new(book);

fn look(agent: &str, title: &str, plain: &str) -> Look {
    look_at(agent, title, plain, Timestamp::UNIX_EPOCH)
}

fn look_at(agent: &str, title: &str, plain: &str, now: Timestamp) -> Look {
    let screen = Screen { title: title.to_owned(), plain: plain.to_owned() };
    BOOK.look(&AgentName::parse(agent).expect("a name"), &screen, now)
}

fn pane(name: &str) -> String {
    let path = format!("{}/tests/panes/{name}", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// One word for a meaning.
fn word(meaning: &Meaning) -> &'static str {
    match meaning {
        Meaning::Started { .. } => "started",
        Meaning::Idle => "idle",
        Meaning::Busy => "busy",
        Meaning::PromptTaken { .. } => "prompt-taken",
        Meaning::Waiting { what: WaitingFor::Permission } => "permission",
        Meaning::Waiting { what: WaitingFor::Question } => "question",
        Meaning::Waiting { what: WaitingFor::Dialog } => "dialog",
        Meaning::Waiting { what: WaitingFor::Interrupted } => "interrupted",
        Meaning::TurnEnded { .. } => "turn-ended",
        Meaning::TurnFailed { failure, .. } => match failure {
            Failure::Limit(limit) => kind_word(limit.kind),
            Failure::Server => "server",
            Failure::Login => "login",
            Failure::Request => "request",
            Failure::Refused => "refused",
            Failure::Unknown => "unknown",
        },
        Meaning::Used { .. } => "used",
        Meaning::Interrupted => "interrupted",
        Meaning::Exited { .. } => "exited",
    }
}

fn kind_word(kind: LimitKind) -> &'static str {
    match kind {
        LimitKind::FiveHour => "five-hour",
        LimitKind::Weekly => "weekly",
        LimitKind::Model => "model",
        LimitKind::Spend => "spend",
        LimitKind::Credit => "credit",
        LimitKind::Unknown => "limit",
    }
}

/// A look in one line: the input box, whether it holds a collapsed paste, the best signal.
fn summary(look: &Look) -> String {
    let input = match &look.input {
        None => "no-box".to_owned(),
        Some(text) if text.is_empty() => "empty".to_owned(),
        Some(text) => format!("{:?}", text.lines().next().unwrap_or_default()),
    };
    let pasted = if look.pasted { " pasted" } else { "" };
    assert_eq!(look.ready, look.input.is_some(), "ready says that the box is there");
    format!("{input}{pasted} {}", look.signals.first().map_or("-", |s| word(&s.meaning)))
}

const TABLE: &str = include_str!("panes/expected.txt");

#[test]
fn every_captured_screen_reads_as_expected() {
    let mut wrong = Vec::new();
    let mut expected: BTreeMap<&str, &str> = BTreeMap::new();
    for line in TABLE.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let (name, want) = line.split_once(char::is_whitespace).expect("a name and a summary");
        assert!(expected.insert(name, want.trim()).is_none(), "{name} twice");
    }
    let dir = format!("{}/tests/panes", env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<String> = fs::read_dir(dir)
        .expect("tests/panes")
        .map(|e| e.expect("an entry").file_name().into_string().expect("a plain name"))
        .filter(|n| n != "expected.txt" && !n.ends_with(".md"))
        .collect();
    files.sort();
    for name in &files {
        let agent = name.split('-').next().expect("an agent");
        let text = pane(name);
        let got = summary(&look(agent, "", &text));
        match expected.remove(name.as_str()) {
            Some(want) if want == got => {}
            Some(want) => wrong.push(format!("{name}: is {got}, should be {want}")),
            None => wrong.push(format!("{name:40} {got}")),
        }
    }
    wrong.extend(expected.keys().map(|name| format!("{name}: no such screen")));
    assert!(wrong.is_empty(), "{} screens read wrongly:\n{}", wrong.len(), wrong.join("\n"));
}

fn captured(name: &str) -> &str {
    let found = TABLE.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().last());
    found.unwrap_or_else(|| panic!("{name} is not in expected.txt"))
}

/// A screen with a server's error never counts as evidence of a limit, and one with nothing but a limit does.
#[test]
fn server_errors_veto_a_limit_on_the_same_screen() {
    let server_errors = [
        "claude-err-429.txt",
        "claude-err-500.txt",
        "claude-err-529.txt",
        "codex-err-429.txt",
        "codex-err-500.txt",
        "codex-err-529.txt",
    ];
    for name in server_errors {
        assert_eq!(captured(name), "server");
        assert!(look(name.split('-').next().expect("an agent"), "", &pane(name)).server_error, "{name}");
    }
    // The earlier turn failed at the server; its words still stand there.
    assert!(look("claude", "", &pane("claude-err-402-second.txt")).server_error);
    let limits = TABLE.lines().filter_map(|line| {
        let (name, word) = (line.split_whitespace().next()?, line.split_whitespace().last()?);
        ["limit", "five-hour", "weekly"].contains(&word).then_some(name)
    });
    let limits: Vec<&str> = limits.collect();
    assert!(limits.len() >= 12, "{limits:?}");
    for name in limits {
        assert!(!look(name.split('-').next().expect("an agent"), "", &pane(name)).server_error, "{name}");
    }
    let line = "─".repeat(120);
    let words = [
        "API Error: Server is temporarily limiting requests (not your usage limit) · Rate limited",
        "API Error: 503 upstream connect error",
        "API Error: 500 {\"type\":\"error\",\"error\":{\"type\":\"api_error\",\"message\":\"Internal server error\"}}",
        "API Error: 529 {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}",
    ];
    for words in words {
        let look = look("claude", "", &format!("❯ do it\n\n● {words}\n\n{line}\n❯\u{a0}\n{line}\n  SL ok\n"));
        assert!(look.server_error, "{words}");
        assert_eq!(summary(&look), "empty server", "{words}");
    }
}

/// The reset is read off the screen, in the zone that it names, else in the agent's own.
#[test]
fn screens_of_limits_tell_when_they_end() {
    let table = [
        ("claude-limit-menu.txt", "2026-11-21T06:02:30Z", "2026-11-21T08:02:00Z"),
        ("claude-limit-weekly.txt", "2026-11-21T06:02:30Z", "2026-11-26T06:02:00Z"),
        ("claude-sub5h.txt", "2026-11-21T02:40:00Z", "2026-11-21T04:37:00Z"),
        ("claude-failover-1-limit.txt", "2026-11-21T23:00:00Z", "2026-11-22T05:26:00Z"),
        ("claude-2.1.197-limit.txt", "2026-11-21T09:00:00Z", "2026-11-21T10:59:00Z"),
        ("claude-2.0.76-weekly.txt", "2026-11-21T09:03:30Z", "2026-11-26T09:03:00Z"),
        ("codex-err-usage_limit.txt", "2026-11-21T06:10:30Z", "2026-11-21T08:10:00Z"),
    ];
    for (name, now, end) in table {
        let now = now.parse().expect("a time");
        let look = look_at(name.split('-').next().expect("an agent"), "", &pane(name), now);
        let Some(Meaning::TurnFailed { failure: Failure::Limit(limit), .. }) = look.signals.first().map(|s| &s.meaning)
        else {
            panic!("{name}: {look:?}");
        };
        assert_eq!(limit.resets_at, end.parse().ok(), "{name}");
    }
}

/// Texts about limits and errors as agents meet them in files, logs, tests and talk.
const QUOTED: [&str; 30] = [
    "You've hit your 5-hour limit · resets 4:37am (UTC)",
    "You've hit your weekly limit · resets Nov 26, 2:37am (UTC)",
    "⎿  You've hit your 5-hour limit · resets 4:37am (UTC)",
    "Usage limit reached · continuing automatically at 4:37am · esc to cancel",
    "● Usage limit reached · continuing automatically at 4:37am · esc to cancel",
    "⚠ Usage limit reached · limit resets 4:37am",
    "What do you want to do? ❯ 1. Stop and wait for limit to reset",
    "❯ 1. Stop and wait for limit to reset",
    "■ You’ve hit your usage limit. Upgrade to Pro or try again at 4:44 AM.",
    "API Error: 429 rate_limit_error: This request would exceed your account's rate limit.",
    "src/quota.rs:12: if text.contains(\"You've hit your limit\") {",
    "Claude AI usage limit reached|1795235866",
    "You've used 93% of your 5-hour limit · resets 5:26am (UTC) · /upgrade to keep using Claude Code",
    "Credit balance is too low",
    "Automatic continue cancelled · /rate-limit-options to re-arm",
    "You're out of usage credits",
    "Usage limit reached for gemini-3.5-flash-lite.",
    "✕ [API Error: You have exhausted your daily quota on this model.]",
    "✕ [API Error: {\"error\":{\"code\":403,\"message\":\"Permission denied.\"}}]",
    "The usage limit has been reached",
    "You exceeded your current quota, please check your plan and billing details.",
    "Incorrect API key provided: dummy.",
    "You've hit your session limit · resets 5:28am (UTC)",
    "You've hit your org's monthly usage limit",
    "■ You're out of credits. Your workspace is out of credits.",
    "■ Quota exceeded. Check your plan and billing details.",
    "a limit seen without a reset time needs a second, later reading; a parseable reset swaps at once",
    "Reset times in every form seen (`resets 4:37am (UTC)`, `resets Nov 26, 2:37am (Europe/Zurich)`, `in 45 minutes`)",
    "server errors (500/503/529, `overloaded_error`) contain the words \"rate limit\": they are never a limit",
    // Agents set further lines of a text in by two columns.
    "✻ Baked for 3s\n\n  ❯ second task\n    ⎿  You've hit your session limit · resets 5:28am (UTC)",
];

/// This program's own files, which say a lot about limits.
const OWN: [&str; 7] = [
    include_str!("../src/rules/built_in/claude.yaml"),
    include_str!("../src/rules/built_in/codex.yaml"),
    include_str!("../src/rules/built_in/gemini.yaml"),
    include_str!("../src/rules/built_in/opencode.yaml"),
    include_str!("../src/model/reset.rs"),
    include_str!("../README.md"),
    include_str!("../doc/TROUBLESHOOTING.md"),
];

/// Their lines that an agent could stumble over.
fn own_lines() -> Vec<&'static str> {
    let words = ["limit", "credit", "quota", "resets", "API Error"];
    let telling = |line: &&str| words.iter().any(|word| line.contains(word));
    OWN.iter().flat_map(|text| text.lines()).map(str::trim).filter(telling).collect()
}

/// Screens of an agent that merely shows `quoted`.
fn innocent(agent: &str, quoted: &str) -> Vec<(&'static str, String)> {
    let line = "─".repeat(120);
    let claude = |talk: &str, input: &str, footer: &str| {
        format!(
            "❯ look at the limits\n\n{talk}\n\n{line}\n❯\u{a0}{input}\n{line}\n  SL ok\n  ⏵⏵ auto mode on{footer}\n"
        )
    };
    let codex = |talk: &str, input: &str| {
        format!(
            "› look at the limits\n\n{talk}\n\n\n› {input}\n\n  GPT-5.5 default · /home/dev/proj\n  ? for shortcuts\n"
        )
    };
    let gemini = |talk: &str, input: &str| {
        format!(
            " > look at the limits\n\n{talk}\n\n\n{:>120}\n{line}\n Shift+Tab to accept edits\n\n > {input}\n\n workspace (/directory)          sandbox          /model\n /home/dev/proj          no sandbox          Auto\n",
            "? for shortcuts"
        )
    };
    let opencode = |talk: &str, input: &str, footer: &str| {
        format!(
            "  ┃\n  ┃  look at the limits\n  ┃\n\n{talk}\n\n  ┃\n  ┃  {input}\n  ┃\n  ┃  Build · Mock Large Mock\n  ╹{}\n   {footer}        ctrl+p commands\n",
            "▀".repeat(117)
        )
    };
    let busy = " · esc to interrupt";
    match agent {
        "claude" => vec![
            ("a reply", claude(&format!("● {quoted}\n\n✻ Baked for 3s · done 2:32 AM"), "", "")),
            ("a reply's second line", claude(&format!("● It says:\n  {quoted}\n\n✻ Baked for 3s"), "", "")),
            ("a code block", claude(&format!("● It says:\n\n    {quoted}\n\n✻ Baked for 3s"), "", "")),
            ("a code block without a done line", claude(&format!("● It says:\n\n    {quoted}"), "", "")),
            (
                "a tool's output",
                claude(&format!("● Bash(grep -rn limit .)\n  ⎿  {quoted}\n     more\n\n● Found it."), "", ""),
            ),
            ("a tool's output, last", claude(&format!("● Bash(grep -rn limit .)\n  ⎿  {quoted}"), "", "")),
            (
                "a running tool",
                claude(&format!("● Bash(cat log)\n  ⎿  {quoted}\n\n✽ Brewing… (1s · ↓ 15 tokens)"), "", busy),
            ),
            ("a streamed reply", claude(&format!("● {quoted}"), "", busy)),
            ("a prompt just sent", claude(&format!("❯ why this?\n  {quoted}\n\n✽ Brewing…"), "", busy)),
            ("a queued prompt", claude(&format!("✢ Seasoning… (3s · ↓ 8 tokens)\n  ⎿  Tip: {quoted}"), "", busy)),
            ("typed text", claude("● Fine.\n\n✻ Baked for 3s", quoted, "")),
            (
                "a command that asks for permission",
                format!(
                    "● I will look.\n\n{line}\n Bash command\n\n   grep '{quoted}' log\n\n Do you want to proceed?\n ❯ 1. Yes\n   2. No\n\n Esc to cancel · Tab to amend\n"
                ),
            ),
        ],
        "codex" => vec![
            ("a reply", codex(&format!("• {quoted}\n\n  Worked for 3s • 02:41"), "Ask Codex to do anything")),
            ("a reply's second line", codex(&format!("• It says:\n  {quoted}\n\n  Worked for 3s • 02:41"), "")),
            ("a tool's output", codex(&format!("• Ran grep -rn limit .\n  └ {quoted}\n\n• Found it."), "")),
            ("a tool's output, last", codex(&format!("• Ran grep -rn limit .\n  └ {quoted}"), "")),
            ("a streamed reply", codex(&format!("• {quoted}"), "Ask Codex to do anything")),
            ("a prompt just sent", codex(&format!("› why this?\n  {quoted}\n\n• Working (3s • esc to interrupt)"), "")),
            ("typed text", codex("• Fine.", quoted)),
            (
                "a command that asks for permission",
                format!(
                    "• I will look.\n\n\n  Would you like to run the following command?\n\n  $ grep '{quoted}' log\n\n\n› 1. Yes, proceed (y)\n  2. No (esc)\n\n  Press enter to confirm or esc to cancel\n"
                ),
            ),
        ],
        "gemini" => vec![
            ("a reply", gemini(&format!("✦ {quoted}"), "  Type your message or @path/to/file")),
            ("a reply's second block", gemini(&format!("✦ It says:\n\n  {quoted}"), "")),
            (
                "a reply's third block",
                gemini(&format!("✦ It says:\n\n  {quoted}\n\n  ℹ This request failed. Press F12"), ""),
            ),
            (
                "a tool's output",
                gemini(
                    &format!(
                        "╭{0}╮\n│ ✓  Shell cat log  │\n│                   │\n│ {quoted} │\n╰{0}╯",
                        "─".repeat(100)
                    ),
                    "",
                ),
            ),
            (
                "a prompt just sent",
                gemini(&format!(" > why this?\n   {quoted}\n\n\n ⠋ Thinking... (esc to cancel, 0s)"), ""),
            ),
            ("a prompt of one line", gemini(&format!(" > {quoted}"), "")),
            ("typed text", gemini("✦ Fine.", quoted)),
            (
                "a command that asks for permission",
                format!(
                    "✦ I will look.\n\n╭{0}╮\n│ ? Shell  grep log │\n│ ╭───╮ │\n│ │ {quoted} │ │\n│ ╰───╯ │\n│ Allow execution of [Shell]? │\n│  │\n│ ● 1. Allow once │\n│   2. No (esc) │\n╰{0}╯\n",
                    "─".repeat(118)
                ),
            ),
        ],
        "opencode" => {
            let done = "     ▣  Build · Mock Large · 3.1s";
            let bar = |text: &str| format!("  ┃\n  ┃  {text}\n  ┃");
            let quiet = "/home/dev/proj";
            vec![
                ("a reply", opencode(&format!("     {quoted}\n\n{done}"), "", quiet)),
                ("a reply's second block", opencode(&format!("     It says:\n\n     {quoted}\n\n{done}"), "", quiet)),
                (
                    "a tool's output",
                    opencode(&format!("  ┃\n  ┃  $ cat log\n  ┃\n  ┃  {quoted}\n  ┃\n\n{done}"), "", quiet),
                ),
                (
                    "a tool's output without an answer",
                    opencode(
                        &format!("  ┃\n  ┃  $ cat log\n  ┃\n  ┃  {quoted}\n  ┃\n\n     ▣  Build · Mock Large"),
                        "",
                        quiet,
                    ),
                ),
                ("a prompt just sent", opencode(&bar(quoted), "", quiet)),
                (
                    "a prompt at work",
                    opencode(&format!("{}\n\n     ▣  Build · Mock Large", bar(quoted)), "", "⬝⬝■■  esc interrupt"),
                ),
                ("an answered prompt", opencode(&format!("{}\n\n     Fine.\n\n{done}", bar(quoted)), "", quiet)),
                ("typed text", opencode(&format!("     Fine.\n\n{done}"), quoted, quiet)),
                (
                    "a command that asks for permission",
                    format!(
                        "     I will look.\n\n     ▣  Build · Mock Large\n\n\n\n  ┃\n  ┃  △ Permission required\n  ┃    # Shell command\n  ┃\n  ┃  $ grep '{quoted}' log\n  ┃\n  ┃   Allow once   Allow always   Reject      enter confirm\n  ┃\n"
                    ),
                ),
            ]
        }
        other => panic!("no innocent screens for {other}"),
    }
}

#[test]
fn quoted_text_is_never_a_limit_nor_a_failure() {
    let mut seen = 0;
    for (as_shown, agent) in
        [("claude", "claude"), ("claude", "demo"), ("codex", "codex"), ("gemini", "gemini"), ("opencode", "opencode")]
    {
        for quoted in QUOTED.into_iter().chain(own_lines()) {
            for (where_, plain) in innocent(as_shown, quoted) {
                let look = look(agent, "", &plain);
                seen += 1;
                let failed = look.signals.iter().find(|s| matches!(s.meaning, Meaning::TurnFailed { .. }));
                assert!(failed.is_none(), "{agent}: {quoted:?} in {where_} was taken for {failed:?}\n{plain}");
                assert!(!look.signals.is_empty(), "{agent}: {quoted:?} in {where_} says nothing at all\n{plain}");
            }
        }
    }
    assert!(seen >= 1000, "{seen} cases");
}

#[test]
fn the_same_frame_with_the_agents_own_line_is_a_limit() {
    // Keeps the test above honest: its screens can tell.
    let own = [
        ("claude", "❯ look\n  ⎿\u{a0} You've hit your 5-hour limit · resets 4:37am (UTC)", "empty five-hour"),
        ("codex", "› look\n\n■ You’ve hit your usage limit. Upgrade to Pro or try again at 4:44 AM.", "empty limit"),
        (
            "gemini",
            "✕ [API Error: You have exhausted your daily quota on this model.]\n\n\nℹ This request failed. Press F12",
            "empty model",
        ),
        ("opencode", "  ┃\n  ┃  The usage limit has been reached\n  ┃\n\n     ▣  Build · Mock Large", "empty limit"),
    ];
    for (agent, talk, want) in own {
        let line = "─".repeat(120);
        let plain = match agent {
            "claude" => format!("{talk}\n\n{line}\n❯\u{a0}\n{line}\n  SL ok\n"),
            "gemini" => format!("{talk}\n\n{line}\n Shift+Tab to accept edits\n\n > \n\n workspace (/directory)\n"),
            "opencode" => {
                format!("{talk}\n\n  ┃\n  ┃\n  ┃\n  ┃  Build · Mock Large\n  ╹{}\n   /home/dev/proj\n", "▀".repeat(117))
            }
            _ => format!("{talk}\n\n\n› Ask Codex to do anything\n\n  GPT-5.5 default · /home/dev/proj\n"),
        };
        assert_eq!(summary(&look(agent, "", &plain)), want, "{plain}");
    }
}

#[test]
fn the_demo_agent_is_read_like_claude_code() {
    let line = "─".repeat(100);
    let screen = |last: &str, input: &str, footer: &str| {
        format!("demo agent\n\n❯ do it\n\n{last}\n\n{line}\n❯ {input}\n{line}\n  {footer}\n")
    };
    let table = [
        ("✳ demo", screen("✻ Worked for 3s", "", "ready"), "empty idle"),
        ("◐ demo", screen("✻ Working… (3s · ↓ 1 tokens)", "", "esc to interrupt"), "empty busy"),
        (
            "✳ demo",
            screen("● ok\n\n✻ Worked for 3s", "[Pasted text #1 +12 lines]", "ready"),
            "\"[Pasted text #1 +12 lines]\" pasted idle",
        ),
        ("✳ demo", screen("● API Error: 500 Internal server error.", "", "ready"), "empty server"),
    ];
    for (title, plain, want) in table {
        assert_eq!(summary(&look("demo", title, &plain)), want, "{plain}");
    }
}

#[test]
fn titles_speak_only_with_what_the_screen_confirms() {
    let idle = pane("claude-idle.txt");
    let first = |look: &Look| look.signals.first().map(|s| (s.source, word(&s.meaning)));
    assert_eq!(first(&look("claude", "◐ Claude Code", &idle)), Some((Source::Title, "busy")));
    assert_eq!(first(&look("claude", "✳ Claude Code", &idle)), Some((Source::Title, "idle")));
    // Measured: the title looks idle while a permission prompt waits, and can while the agent works.
    let waits = look("claude", "✳ Claude Code", &pane("claude-permission.txt"));
    assert_eq!(waits.signals.iter().map(|s| word(&s.meaning)).collect::<Vec<_>>(), ["permission"]);
    let works = look("claude", "✳ Claude Code", &pane("claude-working.txt"));
    assert!(works.signals.iter().all(|s| s.meaning == Meaning::Busy), "{works:?}");
    // While the menu of a quota stands, Gemini CLI's title says that it works.
    let limited = look("gemini", "✦  Working… (proj)", &pane("gemini-err-429_sub.txt"));
    assert_eq!(summary(&limited), "no-box model");
    assert!(limited.signals.iter().all(|s| s.meaning != Meaning::Busy), "{limited:?}");
    assert_eq!(
        first(&look("gemini", "✦  Working… (proj)", &pane("gemini-working.txt"))),
        Some((Source::Title, "busy"))
    );
    assert_eq!(first(&look("gemini", "◇  Ready (proj)", &pane("gemini-done.txt"))), Some((Source::Title, "idle")));
    assert_eq!(
        first(&look("gemini", "✋  Action Required (proj)", &pane("gemini-permission.txt"))),
        Some((Source::Title, "permission"))
    );
    // While Codex streams, only its title says that it works.
    assert_eq!(first(&look("codex", "⠧ proj", &pane("codex-working.txt"))), Some((Source::Title, "busy")));
    assert_eq!(
        first(&look("codex", "[ ! ] Action Required | proj", &pane("codex-permission.txt"))),
        Some((Source::Title, "permission"))
    );
}

#[test]
fn a_box_of_several_lines_is_read_whole() {
    let look = look("claude", "", &pane("claude-paste12-nobracket.txt"));
    let lines: Vec<String> = (1..=12).map(|i| format!("paste line {i} of the test")).collect();
    assert_eq!(look.input, Some(lines.join("\n")));
    let look = self::look("codex", "", &pane("codex-paste12.txt"));
    assert_eq!(look.input, Some(lines.join("\n")));
    let look = self::look("gemini", "", &pane("gemini-paste3.txt"));
    assert_eq!(look.input, Some(lines[..3].join("\n")));
}

/// Of a dialog people read what it asks, whether a rule knows it or not.
#[test]
fn a_dialog_is_told_with_its_text() {
    let shown = |agent: &str, text: &str| {
        let look = look(agent, "", text);
        let signal = look.signals.first().unwrap_or_else(|| panic!("nothing is seen in {text}")).clone();
        (word(&signal.meaning), signal.rule, signal.text)
    };
    for (name, want, part) in [
        ("claude-2.1.332-question.txt", "question", "Which database should I use? · 1. Postgres"),
        ("claude-2.1.332-plan-approval.txt", "question", "Exit plan mode?"),
        ("claude-2.1.332-permission-webfetch.txt", "permission", "Claude wants to fetch content from 127.0.0.1"),
        ("claude-2.1.332-permission.txt", "permission", "touch /home/dev/w/cc332/outside && sleep 3"),
        ("codex-0.171.0-question.txt", "question", "Which database?"),
        ("codex-0.171.0-permission.txt", "permission", "$ touch /home/dev/w/cx171/outside"),
    ] {
        let (word, _, text) = shown(name.split('-').next().expect("an agent"), &pane(name));
        assert_eq!(word, want, "{name}");
        assert!(text.contains(part), "{name}: {text}");
    }
    for text in [
        "\n Nobody has seen this.\n\n ❯ First choice\n   Second choice\n",
        "Overwrite the file? [y/N]",
        "  Pick a conversation\n\n  › 1. yesterday\n    2. today\n",
        "A new version is there.\n\nPress Enter to continue",
    ] {
        let (word, rule, told) = shown("claude", text);
        assert_eq!((word, rule.as_str()), ("dialog", UNKNOWN_DIALOG), "{text}");
        assert!(told.len() > 10, "{told}");
    }
    for text in ["", "one\ntwo\n", "  Loading…\n"] {
        assert!(look("claude", "", text).signals.is_empty(), "{text}");
    }
}

/// Commands that go on after the end of a turn are counted on the screen.
#[test]
fn shells_in_the_background_are_counted() {
    for (name, count) in [
        ("claude-2.1.332-background-shell.txt", 1),
        ("codex-0.171.0-background-terminal.txt", 1),
        ("claude-done.txt", 0),
        ("codex-done.txt", 0),
    ] {
        assert_eq!(look(name.split('-').next().expect("an agent"), "", &pane(name)).shells, count, "{name}");
    }
}
