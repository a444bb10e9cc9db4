//! Checks that links and file names in documents resolve, and that no file names a path of somebody's machine.

use std::{
    fs,
    path::{Path, PathBuf},
};

use regex::Regex;

use crate::{DOCUMENTS, ROOT, none, quoted, text};

/// The anchor that a heading gets (as on the usual forges): lower case, blanks to hyphens, other marks dropped.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn has_anchor(text: &str, wanted: &str) -> bool {
    text.lines().filter(|line| line.starts_with('#')).any(|line| anchor(line.trim_start_matches('#')) == wanted)
}

/// Links of a document that lead nowhere.
fn dead(name: &str, text: &str) -> Vec<String> {
    let link = Regex::new(r"\]\(([^)\s]+)\)").expect("a pattern");
    let here = Path::new(ROOT).join(name);
    let mut wrong = Vec::new();
    for found in link.captures_iter(text) {
        let target = &found[1];
        if target.starts_with("https://") {
            continue;
        }
        let (file, part) = target.split_once('#').unwrap_or((target, ""));
        let path = if file.is_empty() { here.clone() } else { here.with_file_name(file) };
        if !path.exists() {
            wrong.push(format!("{name}: {target} leads nowhere"));
        } else if !part.is_empty() && !has_anchor(&fs::read_to_string(&path).unwrap_or_default(), part) {
            wrong.push(format!("{name}: {target}: no such heading"));
        }
    }
    wrong
}

#[test]
fn no_link_is_dead() {
    let wrong: Vec<String> = DOCUMENTS.iter().flat_map(|name| dead(name, &text(name))).collect();
    none(&wrong);
}

#[test]
fn dead_links_are_found() {
    assert_eq!(dead("README.md", "[a](nothing.md) [b](README.md#nothing) [c](#nothing) [d](LICENSE-MIT)").len(), 3);
}

#[test]
fn a_newcomer_s_questions_are_answered_by_one_file_each() {
    let document = text("ARCHITECTURE.md");
    let part = document.split("\n## ").find(|part| part.starts_with("Where to look\n")).expect("a part of that name");
    let row = Regex::new(r"(?m)^\| (.+\?) \| `([^`]+)` \|$").expect("a pattern");
    let rows: Vec<(&str, &str)> = row.captures_iter(part).map(|row| row.extract::<2>().1.into()).collect();
    let missing = rows.iter().filter(|(_, file)| !Path::new(ROOT).join(file).is_file());
    none(&missing.map(|(question, file)| format!("{question} {file} is not there")).collect::<Vec<_>>());
    for word in ["file", "state", "agent", "verb", "mount", "provider", "channel"] {
        assert!(rows.iter().any(|(question, _)| question.contains(word)), "no question about {word}");
    }
    assert!(rows.len() >= 10 && rows.len() == part.matches("? |").count(), "each row is a question and a file");
}

#[test]
fn files_of_the_source_exist() {
    let file = Regex::new(r"^(?:src/|tests/|examples/)?[a-z_]+(?:/[a-z_]+)*(?:\.rs|/)$").expect("a pattern");
    let mut wrong = Vec::new();
    for quote in quoted(&text("ARCHITECTURE.md")).iter().filter(|quote| file.is_match(quote)) {
        let there = ["", "src", "src/agents"].iter().any(|dir| Path::new(ROOT).join(dir).join(quote).exists());
        let in_mount = ["done/", "fs/"].contains(&quote.as_str());
        wrong.extend((!there && !in_mount).then(|| format!("ARCHITECTURE.md: there is no {quote}")));
    }
    none(&wrong);
}

fn all_texts(dir: &Path, out: &mut Vec<PathBuf>) {
    for path in fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path()) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with('.') || name == "target" {
            continue;
        }
        if path.is_dir() {
            all_texts(&path, out);
        } else {
            out.push(path);
        }
    }
}

#[test]
fn nothing_names_a_place_on_somebody_s_machine() {
    // Put together here, so that this file isn't found.
    let places = [concat!("/wo", "rk/")];
    let mut files = Vec::new();
    all_texts(Path::new(ROOT), &mut files);
    assert!(files.len() > 100, "only {} files were looked at", files.len());
    let mut wrong = Vec::new();
    for path in files {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let found = places.iter().find(|place| text.contains(**place));
        wrong.extend(found.map(|place| format!("{} names {place}", path.display())));
    }
    none(&wrong);
}

#[test]
fn the_licences_are_there() {
    let wanted = text("Cargo.toml").lines().any(|line| line == "license = \"MIT OR Apache-2.0\"");
    assert!(wanted, "Cargo.toml names other licences");
    assert!(text("LICENSE-MIT").contains("Permission is hereby granted, free of charge"));
    let apache = text("LICENSE-APACHE");
    assert!(apache.contains("Version 2.0, January 2004") && apache.contains("END OF TERMS AND CONDITIONS"));
}
