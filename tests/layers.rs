//! ARCHITECTURE.md's layers, held: every `use crate::…` (and every path that begins with `crate::`) is read and weighed.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Modules of each layer; a module may use the layers below its own, and itself.
const LAYERS: [&[&str]; 6] = [
    &["model", "error", "config", "render"],
    &["ports", "peek", "sys", "agents", "fake", "demo_agent", "hook", "command_agent", "repeater"],
    &["live"],
    &["queue", "dispatcher", "session", "watcher", "quota", "switcher", "delegate", "notify", "janitor"],
    &["fs", "cli", "http"],
    &["daemon", "contract", "main", "lib", "bin"],
];

/// `ports` has plain types (ids of panes, how a program ended) that are words like any other.
const WORDS_IN_PORTS: [&str; 16] = [
    "Exit",
    "PaneId",
    "Progress",
    "PromptBy",
    "ProviderError",
    "FileFacts",
    "FileKind",
    "QueueChange",
    "QueueDir",
    "Sidecar",
    "Entry",
    "Inbox",
    "Capture",
    "Key",
    "HookLog",
    "Leftover",
];

/// Files that decide: pure, so that they can be tested without a world.
const DECIDING: [&str; 7] = ["decide.rs", "resume.rs", "classify.rs", "ready.rs", "parse.rs", "rules.rs", "look.rs"];

/// Services may not use the edges themselves, only `ports`. Faces neither.
const EDGES: [&str; 8] = ["peek", "sys", "agents", "fake", "demo_agent", "hook", "command_agent", "repeater"];

fn layer(module: &str) -> usize {
    LAYERS.iter().position(|modules| modules.contains(&module)).unwrap_or_else(|| {
        panic!("module {module} stands in no layer: put it into the table of tests/layers.rs and of ARCHITECTURE.md")
    })
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a directory of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The code without comments, string contents and test modules: those may use what they like.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// Every path after `crate::`, groups opened: `crate::{a::b, c}` gives `a::b` and `c`.
fn imports(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        // `$crate::` and `::crate::` don't occur; `other_crate::` is somebody else's.
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        open(&code[at + "crate::".len()..], "", &mut found);
    }
    found
}

/// Reads one path or group; answers what follows it.
fn open<'a>(mut rest: &'a str, before: &str, found: &mut BTreeSet<String>) -> &'a str {
    let mut path = before.to_owned();
    loop {
        rest = rest.trim_start();
        if let Some(inner) = rest.strip_prefix('{') {
            rest = inner.trim_start();
            while !rest.starts_with('}') && !rest.is_empty() {
                rest = open(rest, &path, found).trim_start();
                rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
            }
            return rest.strip_prefix('}').unwrap_or(rest);
        }
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '*')).unwrap_or(rest.len());
        if end == 0 {
            break;
        }
        path.push_str(&rest[..end]);
        rest = &rest[end..];
        match rest.strip_prefix("::") {
            Some(next) => {
                path.push_str("::");
                rest = next;
            }
            None => break,
        }
    }
    if let Some(renamed) = rest.trim_start().strip_prefix("as ") {
        let end = renamed.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(renamed.len());
        rest = &renamed[end..];
    }
    found.insert(path);
    rest
}

#[test]
fn groups_are_opened() {
    let text = "use crate::{a::{b, c::D as E}, ports::Exit};\nlet x = crate::f::g();\n// crate::not\n";
    let found: Vec<String> = imports(&code(text)).into_iter().collect();
    assert_eq!(found, ["a::b", "a::c::D", "f::g", "ports::Exit"]);
}

#[test]
fn every_module_uses_only_what_is_below_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    files.sort();
    assert!(files.len() > 30, "only {} sources found under {}", files.len(), root.display());
    let mut wrong = Vec::new();
    let mut weighed = 0;
    for file in &files {
        let inside = file.strip_prefix(&root).expect("a file under src");
        let first = inside.iter().next().expect("a name").to_string_lossy().trim_end_matches(".rs").to_owned();
        if first == "bin" {
            continue;
        }
        let own = layer(&first);
        let name = inside.file_name().expect("a name").to_string_lossy().into_owned();
        let decides = own == 3 && DECIDING.contains(&name.as_str());
        for path in imports(&code(&fs::read_to_string(file).expect("a source"))) {
            let mut parts = path.split("::");
            let used = parts.next().unwrap_or_default();
            if used == first || used.is_empty() {
                continue;
            }
            weighed += 1;
            let item = parts.next().unwrap_or_default();
            let word = used == "ports" && WORDS_IN_PORTS.contains(&item);
            let theirs = layer(used);
            // The built-in agents are programs of their own and report as a hook does.
            let reports = first.ends_with("_agent") && used == "hook";
            let sideways =
                !reports && theirs == own && own != 0 && own != 5 && !(own == 1 && ["ports", "peek"].contains(&used));
            let edge = (2..=4).contains(&own) && EDGES.contains(&used);
            let impure = decides && theirs > 0 && !word;
            // A face asks through a trait of its own; the daemon joins it to the owner.
            let past = own == 4 && (2..=3).contains(&theirs);
            if (theirs > own && !word) || sideways || edge || impure || past {
                wrong.push(format!("{}: crate::{path}", inside.display()));
            }
        }
    }
    assert!(weighed > 50, "only {weighed} imports were weighed: the reader of this test is broken");
    assert!(wrong.is_empty(), "imports against the layers of ARCHITECTURE.md:\n  {}", wrong.join("\n  "));
}
