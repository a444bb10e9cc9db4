//! Checks the documents against the program: tables equal the code's, commands exist, snippets parse, links resolve.
//! `UPDATE_DOCS=1 cargo test --test docs` regenerates the tables of doc/INTERFACE.md.

mod commands;
mod links;
mod promises;
mod tables;

use std::{fs, path::Path};

pub const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Documents that people wrote.
pub const DOCUMENTS: [&str; 8] = [
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "doc/INTERFACE.md",
    "doc/PROVIDERS.md",
    "doc/AGENTS.md",
    "doc/CONFORMANCE.md",
    "doc/TROUBLESHOOTING.md",
];

#[must_use]
pub fn text(name: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Fenced blocks of one language: line number of the fence, and the content.
#[must_use]
pub fn blocks(text: &str, language: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut open: Option<(usize, &str, Vec<&str>)> = None;
    for (at, line) in text.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(word)) => open = Some((at + 1, word, Vec::new())),
            (Some((_, _, lines)), None) => lines.push(line),
            (Some(_), Some(_)) => {
                let (start, word, lines) = open.take().expect("open");
                if word == language {
                    found.push((start, lines.join("\n")));
                }
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a fence is not closed");
    found
}

/// What stands between single backticks, outside of fenced blocks.
pub fn quoted(text: &str) -> Vec<String> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.starts_with("```") {
            inside = !inside;
        } else if !inside {
            found.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    found
}

/// Fails with every complaint at once.
pub fn none(wrong: &[String]) {
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn blocks_and_quotes_are_found() {
    let text = "a `b` c\n```sh\nd `e`\n```\n`f`\n```yaml\ng\n```\n";
    assert_eq!(blocks(text, "sh"), [(2, "d `e`".to_owned())]);
    assert_eq!(quoted(text), ["b", "f"]);
}
