//! Every captured screen of the real CLIs against the rules of its agent, and innocent texts against all of them.
//! `tests/panes/` holds the screens as tmux gave them.

use std::{collections::BTreeMap, fs, path::PathBuf, sync::LazyLock};

use claude_failover::{
    agents::{AgentBook, AgentBookOptions, AgentConfig, Kind},
    model::{
        evidence::{Failure, Look, Meaning, Screen, Source, WaitingFor},
        ids::AgentName,
    },
    ports::Agents,
};
use jiff::Timestamp;

fn book() -> AgentBook {
    let agents = [Kind::Claude, Kind::Codex, Kind::Demo, Kind::Command]
        .map(|kind| (AgentName::parse(kind.name()).expect("a name"), AgentConfig::new(kind)));
    AgentBook::new(AgentBookOptions {
        agents: agents.into_iter().collect(),
        homes: BTreeMap::new(),
        state_dir: PathBuf::from("/nonexistent/state"),
        exe: PathBuf::from("/nonexistent/exe"),
        mount: PathBuf::from("/nonexistent/mount"),
        base_env: BTreeMap::new(),
    })
    .expect("built-in rules")
}

static BOOK: LazyLock<AgentBook> = LazyLock::new(book);

fn look(agent: &str, title: &str, plain: &str) -> Look {
    let screen = Screen { title: title.to_owned(), plain: plain.to_owned() };
    BOOK.look(&AgentName::parse(agent).expect("a name"), &screen, Timestamp::UNIX_EPOCH)
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
        Meaning::TurnEnded { .. } => "turn-ended",
        Meaning::TurnFailed { failure, .. } => match failure {
            Failure::Limit => "limit",
            Failure::Server => "server",
            Failure::Billing => "billing",
            Failure::Login => "login",
            Failure::Request => "request",
            Failure::Unknown => "unknown",
        },
        Meaning::Interrupted => "interrupted",
        Meaning::Exited { .. } => "exited",
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
