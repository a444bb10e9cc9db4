//! Checks that every command in the documents exists and every snippet parses with the real parser.

use std::path::Path;

use claude_failover::{
    cli,
    config::{self, Config},
    contract,
    daemon::setup,
    fs::tree::{ACCOUNT_ROWS, PROJECT_ROWS, PROVIDER_ROWS, ROOT_ROWS, Row, SESSION_ROWS, TASK_ROWS},
    http::ROUTES,
    model::{
        command::{self, Scope},
        ids::{SessionName, TaskKey},
        task_file::{Reading, read},
    },
    rules::Kind,
};
use regex::Regex;

use crate::{DOCUMENTS, ROOT, blocks, none, quoted, text};

/// Programs that aren't ours and of which nothing is checked.
const FOREIGN: [&str; 18] = [
    "cat",
    "cd",
    "claude",
    "cp",
    "date",
    "echo",
    "export",
    "loginctl",
    "man",
    "mkdir",
    "mv",
    "npm",
    "source",
    "printf",
    "rm",
    "systemctl",
    "tail",
    "tar",
];

fn names(rows: &[Row], name: &str) -> bool {
    rows.iter().any(|row| row.name == name)
}

/// Whether the mount can have such a path.
fn in_mount(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    match parts.as_slice() {
        [] => true,
        ["tasks", _, file] => names(TASK_ROWS, file),
        ["sessions", _, file] => names(SESSION_ROWS, file),
        ["accounts", name, file] => *name != "active" && names(ACCOUNT_ROWS, file),
        ["projects", _, file, ..] => names(PROJECT_ROWS, file) || names(ROOT_ROWS, file),
        ["providers", _, file] => names(PROVIDER_ROWS, file),
        ["inbox" | "drafts" | "delegated" | "done" | "failed", _] | ["done" | "failed", "archive", _] => true,
        [top] | [top, _] => names(ROOT_ROWS, top),
        _ => false,
    }
}

/// What is wrong with writing `text` to a file of the mount.
fn verb(path: &str, written: &str) -> Option<String> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let session = |name: &str| SessionName::parse(&name.replace("NAME", "n")).ok();
    let scope = match parts.as_slice() {
        ["control"] => Scope::Daemon,
        ["accounts", "active"] => Scope::ActiveAccount,
        ["tasks", id, "control"] => Scope::Task(TaskKey::parse(&format!("web:{id}"))?),
        ["sessions", name, "control"] => Scope::Session(session(name)?),
        ["sessions", name, "keys"] => Scope::Keys(session(name)?),
        _ => return None,
    };
    command::parse(&scope, written.as_bytes()).err().map(|refused| refused.message)
}

fn ours(words: &[&str]) -> Option<String> {
    told(cli::command(), words)
}

fn told(command: clap::Command, words: &[&str]) -> Option<String> {
    let name = command.get_name().to_owned();
    let error = command.try_get_matches_from(std::iter::once(name.as_str()).chain(words.iter().copied())).err()?;
    let asked = matches!(error.kind(), clap::error::ErrorKind::DisplayHelp | clap::error::ErrorKind::DisplayVersion);
    (!asked).then(|| error.to_string())
}

/// What is wrong with one simple command, without its comment.
fn simple(line: &str) -> Option<String> {
    let mut words: Vec<&str> = line.split_whitespace().collect();
    while words.first().is_some_and(|word| {
        word.split_once('=').is_some_and(|(name, _)| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
    }) {
        words.remove(0);
    }
    for path in words.iter().filter_map(|word| word.strip_prefix("$MNT")) {
        // What follows a `$(cat …)` is no part of it.
        let path = path.split(')').next().unwrap_or_default();
        if !in_mount(path) {
            return Some(format!("the mount has no {path}"));
        }
    }
    if let (Some(("echo", said)), Some((_, path))) = (line.split_once(' '), line.split_once("> $MNT/")) {
        let said = said.split('>').next().unwrap_or_default().trim().trim_matches('\'');
        if let Some(wrong) = verb(path, said) {
            return Some(wrong);
        }
    }
    for file in words.iter().filter(|word| word.starts_with("examples/") || word.starts_with("config.")) {
        if !Path::new(ROOT).join(file).exists() {
            return Some(format!("there is no {file}"));
        }
    }
    match words.as_slice() {
        [] => None,
        ["claude-failover", rest @ ..] => ours(rest),
        ["ccl-delegate", rest @ ..] => told(contract::command(), rest),
        ["make", target] => (!text("Makefile").lines().any(|line| line.starts_with(&format!("{target}:"))))
            .then(|| format!("no target {target} in the Makefile")),
        ["cargo", "build" | "test", ..] => None,
        ["cargo", "run", rest @ ..] => match rest.iter().position(|word| *word == "--") {
            Some(at) => ours(&rest[at + 1..]),
            None => Some("cargo run without arguments".to_owned()),
        },
        ["tmux", "-L", socket, rest @ ..] => {
            let first = Config::default().pool.autonomous.names().next().map(|name| name.to_string());
            match rest {
                _ if *socket != setup::SOCKET => Some(format!("our tmux server is {}", setup::SOCKET)),
                ["attach", "-t", name] if *name != "NAME" && Some((*name).to_owned()) != first => {
                    Some(format!("the first session is {first:?}"))
                }
                ["attach", "-t", _] | ["kill-server"] => None,
                other => Some(format!("{other:?}")),
            }
        }
        ["install", ..] => None,
        ["unshare", "-Urm", script, ..] | [script, ..] if script.starts_with("tests/") => {
            (!Path::new(env!("CARGO_MANIFEST_DIR")).join(script).is_file()).then(|| format!("there is no {script}"))
        }
        ["curl", "-s" | "-sf", url] => {
            let ours = url
                .strip_prefix("http://127.0.0.1:7878")
                .is_some_and(|path| ROUTES.iter().any(|route| route.path == path));
            let listens = Config::default().api.listen.is_some_and(|at| at.to_string() == "127.0.0.1:7878");
            (!ours || !listens).then(|| format!("{url} is not served"))
        }
        [program, ..] if FOREIGN.contains(program) => None,
        [program, ..] => Some(format!("{program} is not a command that documents use")),
    }
}

/// Everything that is wrong with a script.
fn script(script: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for line in script.lines() {
        let line = line.split("  #").next().unwrap_or_default();
        let line = if line.starts_with('#') { "" } else { line };
        let parts = line.split("&&").flat_map(|part| part.split("; ")).flat_map(|part| part.split(" | "));
        wrong.extend(parts.filter_map(|part| simple(part.trim()).map(|why| format!("`{}`: {why}", part.trim()))));
    }
    wrong
}

#[test]
fn every_command_exists() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for name in DOCUMENTS {
        let text = text(name);
        for (line, block) in blocks(&text, "sh") {
            seen += block.lines().count();
            wrong.extend(script(&block).into_iter().map(|why| format!("{name}:{line}: {why}")));
        }
        let typed = |quote: &String| {
            let ours = ["claude-failover ", "make ", "echo ", "tmux -L claude-failover "]
                .iter()
                .any(|start| quote.starts_with(start));
            ours && !quote.contains('…')
        };
        for quote in quoted(&text).into_iter().filter(typed) {
            seen += 1;
            wrong.extend(script(&quote).into_iter().map(|why| format!("{name}: {why}")));
        }
    }
    none(&wrong);
    assert!(seen > 50, "only {seen} commands were looked at");
}

#[test]
fn wrong_commands_are_found() {
    for bad in [
        "make nothing",
        "claude-failover explode",
        "claude-failover wait task",
        "cat $MNT/sessions/ccl-auto-11/nothing",
        "echo explode > $MNT/control",
        "echo two words > $MNT/accounts/active",
        "echo 'priority many' > $MNT/tasks/x/control",
        "cp examples/nothing.yaml x",
        "cargo run -- explode",
        "tmux -L other attach -t ccl-auto-11",
        "tmux -L claude-failover attach -t ccl-auto-1",
        "true && frobnicate",
        "curl -s http://127.0.0.1:7878/nothing",
    ] {
        assert!(!script(bad).is_empty(), "{bad}");
    }
}

#[test]
fn configurations_are_read() {
    let env = |name: &str| (name == "HOME").then(|| "/home/ada".into());
    let mut seen = 0;
    for name in DOCUMENTS {
        for (line, block) in blocks(&text(name), "yaml") {
            // What tells how an agent's screen is read is a rules file.
            let rules = block.lines().any(|line| line == "screen:");
            let read = match rules {
                true => Kind::new("mine").with_rules(Path::new("mine.yaml"), &block).problem().map(str::to_owned),
                false => config::parse(&block, Path::new("/etc/config.yaml"), &env).err().map(|e| e.to_string()),
            };
            assert_eq!(read, None, "{name}:{line}");
            seen += 1;
        }
    }
    assert!(seen > 0, "no configuration was looked at");
    let example = text("examples/config-claude.yaml");
    assert!(config::parse(&example, Path::new("/etc/config.yaml"), &env).is_ok());
    let plain = |text: &str| -> Vec<String> {
        let lines = text.lines().map(|line| line.split(" #").next().unwrap_or_default().trim_end().to_owned());
        lines.filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
    };
    let shown = blocks(&text("README.md"), "yaml").remove(0).1;
    assert_eq!(plain(&shown), plain(&example), "README shows another file than examples/config-claude.yaml");
}

#[test]
fn configuration_keys_exist() {
    let defaults = serde_json::to_value(Config::default()).expect("a configuration");
    let key =
        Regex::new(r"^(dispatcher|watcher|lifecycle|tmux|mount|control|pool|api)(\.[a-z_]+)+$").expect("a pattern");
    let mut wrong = Vec::new();
    let mut seen = 0;
    for name in DOCUMENTS {
        for quote in quoted(&text(name)).into_iter().filter(|quote| key.is_match(quote)) {
            seen += 1;
            let there = quote.split('.').try_fold(&defaults, |value, part| value.get(part)).is_some();
            wrong.extend((!there).then(|| format!("{name}: there is no key {quote}")));
        }
    }
    none(&wrong);
    assert!(seen > 8, "only {seen} keys were looked at");
}

#[test]
fn task_files_are_read() {
    let mut seen = 0;
    for name in DOCUMENTS {
        for (line, block) in blocks(&text(name), "markdown") {
            match read(block.as_bytes()) {
                Reading::Ready { spec, .. } => assert_eq!(spec.unknown, [""; 0], "{name}:{line}"),
                other => panic!("{name}:{line}: {other:?}"),
            }
            seen += 1;
        }
    }
    assert_eq!(seen, 2);
}

#[test]
fn our_variables_exist() {
    let mut code = String::new();
    for file in ["src/agents/launch.rs", "src/cli/args.rs", "src/daemon/main.rs", "src/model/agent.rs"] {
        code.push_str(&text(file));
    }
    let variable = Regex::new(r"CLAUDE_FAILOVER_[A-Z]+").expect("a pattern");
    for name in DOCUMENTS {
        for found in variable.find_iter(&text(name)) {
            assert!(
                code.contains(&format!("\"{}\"", found.as_str())),
                "{name}: nothing reads or sets {}",
                found.as_str()
            );
        }
    }
}
