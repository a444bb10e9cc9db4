//! Generates the tables of doc/INTERFACE.md from the code, and that of doc/AGENTS.md from the recorded trials.

use std::{fmt::Write as _, fs, path::Path};

use claude_failover::{
    cli, contract,
    fs::{
        FsError,
        tree::{self, Row, What},
    },
    model::{
        command::{DAEMON_VERBS, Refused, RefusedKind, SESSION_VERBS, TASK_VERBS, Verb},
        event::Reason,
    },
};
use nix::errno::Errno;

use crate::{ROOT, text};

const FILE: &str = "doc/INTERFACE.md";
/// Each document with generated tables, and how many it has.
const FILES: [(&str, usize); 2] = [(FILE, 7), ("doc/AGENTS.md", 1)];

const TRIALS: [&str; 9] = [
    "the answer is the result",
    "a tool runs once",
    "a permission waits for a person",
    "100 lines arrive whole",
    "two tasks, two conversations",
    "a limit in the middle, two accounts",
    "an overloaded server, no swap",
    "a lost login, two accounts",
    "a text about limits is a text",
];

/// tests/agents/matrix.txt, a column for each version.
fn trials() -> String {
    let mut columns: Vec<(String, Vec<String>)> = Vec::new();
    for line in text("tests/agents/matrix.txt").lines().filter(|line| !line.starts_with('#')) {
        if let Some(note) = line.strip_prefix("  ") {
            let (number, note) = note.split_once(' ').expect("a trial and what is said of it");
            let number: usize = number.parse().expect("a trial's number");
            columns.last_mut().expect("a row above it").1[number - 1] = note.to_owned();
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let name = match words[0] {
            "claude" => "Claude Code",
            "codex" => "Codex",
            "gemini" => "Gemini CLI",
            "opencode" => "opencode",
            "qwen" => "Qwen Code",
            other => panic!("no CLI {other}"),
        };
        let outcomes = words[2..].iter().map(|word| if *word == "ok" { "yes" } else { "no" }.to_owned()).collect();
        columns.push((format!("{name} {}", words[1]), outcomes));
    }
    assert!(columns.iter().all(|(_, cells)| !cells.contains(&"no".to_owned())), "a `no` without a word: {columns:?}");
    let row = |first: &str, cells: Vec<&str>| format!("| {first} | {} |\n", cells.join(" | "));
    let mut out = row("", columns.iter().map(|(name, _)| name.as_str()).collect());
    out += &format!("|---|{}\n", "---|".repeat(columns.len()));
    for (number, trial) in TRIALS.iter().enumerate() {
        out +=
            &row(&format!("{} {trial}", number + 1), columns.iter().map(|(_, cells)| cells[number].as_str()).collect());
    }
    out
}

fn tree() -> String {
    let sections: [(&str, &[Row]); 8] = [
        ("at the top", tree::ROOT_ROWS),
        ("`tasks/<id>/`", tree::TASK_ROWS),
        ("`projects/<project>/`, over the real directory", tree::PROJECT_ROWS),
        ("`sessions/<name>/`", tree::SESSION_ROWS),
        ("`accounts/`", tree::ACCOUNTS_ROWS),
        ("`accounts/<name>/`", tree::ACCOUNT_ROWS),
        ("`delegated/<id>`", tree::JOB_ROWS),
        ("`providers/<name>/`", tree::PROVIDER_ROWS),
    ];
    let mut out = String::new();
    for (place, rows) in sections {
        let _ = write!(out, "\n| {place} | mode | |\n|---|---|---|\n");
        for row in rows {
            let end = match row.what {
                What::Dir(_) | What::Queue => "/",
                What::Link(_) => "@",
                _ => "",
            };
            let _ = writeln!(out, "| `{}{end}` | {:04o} | {} |", row.name, row.mode, row.help);
        }
    }
    out
}

/// The reasons of `events`, with the words that stand beside them in the code.
fn reasons() -> String {
    let code = text("src/model/line.rs");
    let (_, body) = code.split_once("pub enum Reason {\n").expect("the reasons");
    let (body, _) = body.split_once("#[default]").expect("the last of them");
    let (mut out, mut about) = (String::from("| reason | |\n|---|---|\n"), "");
    for line in body.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(words) = line.strip_prefix("/// ") {
            about = words;
        } else if let Some(name) = line.strip_suffix(',') {
            let reason: Reason = serde_json::from_str(&format!("\"{}\"", kebab(name))).expect("a reason");
            assert_eq!(format!("{reason:?}"), name);
            let _ = writeln!(out, "| `{}` | {} |", kebab(name), std::mem::take(&mut about));
        }
    }
    out.trim_end().to_owned()
}

fn kebab(name: &str) -> String {
    let mut out = String::new();
    for (n, c) in name.chars().enumerate() {
        if c.is_uppercase() && n > 0 {
            out.push('-');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

fn verbs() -> String {
    let tables: [(&str, &[Verb]); 3] =
        [("control", DAEMON_VERBS), ("tasks/<id>/control", TASK_VERBS), ("sessions/<name>/control", SESSION_VERBS)];
    let mut out = String::new();
    for (file, verbs) in tables {
        let _ = write!(out, "\n| `{file}` | |\n|---|---|\n");
        for verb in verbs {
            let _ = writeln!(out, "| `{}` | {} |", format!("{} {}", verb.name, verb.args).trim(), verb.help);
        }
    }
    out
}

/// Every kind, and what it tells. A new kind doesn't compile without its line.
fn kinds() -> Vec<(RefusedKind, &'static str)> {
    let all = [
        RefusedKind::Invalid,
        RefusedKind::NotFound,
        RefusedKind::Busy,
        RefusedKind::Unavailable,
        RefusedKind::TryAgain,
        RefusedKind::Failed,
        RefusedKind::Unclean,
        RefusedKind::NotPermitted,
        RefusedKind::TooLong,
        RefusedKind::Full,
    ];
    let told = |kind| match kind {
        RefusedKind::Invalid => "unknown verb, wrong arguments, not UTF-8",
        RefusedKind::NotFound => "no such task, session or account",
        RefusedKind::Busy => {
            "a swap is under way; the state of the task or session doesn't allow it now; another text is being written"
        }
        RefusedKind::Unavailable => "no agent runs there that could take it; no provider is configured",
        RefusedKind::TryAgain => {
            "no other account can be used now; the supervisor does not answer in time; nothing is known of the outcome"
        }
        RefusedKind::Unclean => "a swap is half done and could not be undone: nothing swaps until `clear-partial`",
        RefusedKind::Failed => "it was tried and failed or rolled back, or the state can't be saved",
        RefusedKind::NotPermitted => "this writer may not (5, Whose right); never done to a dedicated session",
        RefusedKind::TooLong => "more bytes than one write or message may have",
        RefusedKind::Full => "a new name in a full inbox (`dispatcher.max_queued`); this one stands in no control file",
    };
    all.into_iter().map(|kind| (kind, told(kind))).collect()
}

fn refusals() -> String {
    let mut out = String::from("\n| errno | means |\n|---|---|\n");
    for (kind, told) in kinds() {
        let errno = Errno::from_raw(FsError::Refused(Refused::new(kind, "")).errno());
        let _ = writeln!(out, "| {errno:?} | {told} |");
    }
    out
}

fn errors() -> String {
    let all = [
        FsError::NoEntry,
        FsError::ReadOnly,
        FsError::Special,
        FsError::NotDirectory,
        FsError::IsDirectory,
        FsError::Invalid,
        FsError::Stale,
        FsError::BadHandle,
        FsError::NotSupported,
        FsError::NoAttribute,
        FsError::Range,
        FsError::Panicked("…".to_owned()),
    ];
    let mut out = String::from("\n| errno | means |\n|---|---|\n");
    for error in all {
        let told = match &error {
            FsError::NoEntry
            | FsError::ReadOnly
            | FsError::Special
            | FsError::NotDirectory
            | FsError::IsDirectory
            | FsError::Invalid
            | FsError::Stale
            | FsError::BadHandle
            | FsError::NotSupported
            | FsError::NoAttribute
            | FsError::Range
            | FsError::Panicked(_) => error.to_string(),
            FsError::System { .. } | FsError::NotDurable { .. } | FsError::Refused(_) => continue,
        };
        let _ = writeln!(out, "| {:?} | {told} |", Errno::from_raw(error.errno()));
    }
    out
}

fn commands(mut tree: clap::Command) -> String {
    let mut out = String::from("\n| command | |\n|---|---|\n");
    tree.build();
    list(&tree, "", &mut out);
    out
}

fn list(tree: &clap::Command, before: &str, out: &mut String) {
    for command in tree.get_subcommands().filter(|command| !command.is_hide_set()) {
        let mut call = format!("{before}{}", command.get_name());
        if command.has_subcommands() {
            list(command, &format!("{call} "), out);
            continue;
        }
        for arg in command.get_arguments().filter(|arg| !arg.is_hide_set() && arg.get_id() != "help") {
            let value = arg.get_value_names().and_then(|names| names.first()).map(ToString::to_string);
            let _ = match (arg.get_long(), value.filter(|_| arg.get_action().takes_values())) {
                (Some(long), Some(value)) => write!(call, " [--{long} {value}]"),
                (Some(long), None) => write!(call, " [--{long}]"),
                (None, value) => write!(call, " {}", value.unwrap_or_default()),
            };
        }
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(out, "| `{call}` | {about} |");
    }
}

/// The document with every generated part made anew.
fn renewed(found: &str) -> String {
    let mut out = String::new();
    let mut rest = found;
    while let Some((before, after)) = rest.split_once("<!-- generated: ") {
        let (name, after) = after.split_once(" -->\n").expect("the mark's end");
        let (_, after) = after.split_once("<!-- end -->").expect("the part's end");
        let table = match name {
            "tree" => tree(),
            "verbs" => verbs(),
            "refusals" => refusals(),
            "errors" => errors(),
            "commands" => commands(cli::command()),
            "contract" => commands(contract::command()),
            "trials" => trials(),
            "reasons" => reasons(),
            other => panic!("nothing generates {other:?}"),
        };
        let _ = write!(out, "{before}<!-- generated: {name} -->\n{table}\n<!-- end -->");
        rest = after;
    }
    out + rest
}

#[test]
fn the_tables_are_the_code_s() {
    for (file, tables) in FILES {
        let found = text(file);
        assert_eq!(found.matches("<!-- generated: ").count(), tables, "a table of {file} is missing");
        let wanted = renewed(&found);
        if std::env::var_os("UPDATE_DOCS").is_some() {
            fs::write(Path::new(ROOT).join(file), &wanted).expect("written");
            continue;
        }
        let differs = wanted.lines().zip(found.lines()).find(|(wanted, found)| wanted != found);
        assert!(
            wanted == found,
            "{file} is not what the code does, first here: {differs:?}; UPDATE_DOCS=1 cargo test --test docs"
        );
    }
}

#[test]
fn state_words_are_the_mount_s() {
    let help =
        |rows: &[Row]| rows.iter().find(|row| row.name == "state").map(|row| row.help.to_owned()).expect("state");
    let interface = text(FILE).replace('\n', " ");
    for rows in [tree::TASK_ROWS, tree::SESSION_ROWS, tree::ACCOUNT_ROWS, tree::PROVIDER_ROWS] {
        let words = format!("`{}`", help(rows));
        assert!(interface.contains(&words), "{FILE} doesn't have the state words {words}");
    }
}

#[test]
fn readme_s_tree_is_the_code_s() {
    let readme = text("README.md");
    for (start, rows) in [("tasks/<id>/ ", tree::TASK_ROWS), ("sessions/<name>/ ", tree::SESSION_ROWS)] {
        let line = readme.lines().find_map(|line| line.strip_prefix(start)).unwrap_or_else(|| panic!("no {start}"));
        let wanted: Vec<&str> = rows.iter().map(|row| row.name).collect();
        assert_eq!(line.split_whitespace().collect::<Vec<_>>(), wanted, "{start}");
    }
    let plain = tree::ROOT_ROWS.iter().filter(|row| !matches!(row.what, What::Dir(_) | What::Queue));
    let plain: Vec<&str> = plain.map(|row| row.name).collect();
    assert!(readme.contains(&format!("\n{}\n", plain.join("  "))), "README's first line of the tree is not {plain:?}");
}
