//! Reads the agent's transcript: finds it, interprets new records, counts tokens.
//! Takes rules, the filled path patterns and an incarnation's facts; returns signals and token counts. Read only.
//! Records from before the incarnation's start belong to an earlier one and give no signal.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    agents::hooks::whole_lines,
    linux::peek,
    model::evidence::{Signal, Source, Tokens},
    rules::{
        condition::{Pattern, all_hold},
        format::{TokenMode, TokenRules, TranscriptRules},
        limits::{self, Limits},
        records,
    },
};

/// Signals of whole records behind `offset`, none from before `since`.
pub(super) fn read(
    rules: &TranscriptRules,
    limits: Limits<'_>,
    path: &Path,
    since: Timestamp,
    offset: &mut u64,
) -> Vec<Signal> {
    let mut signals = Vec::new();
    let read = whole_lines(path, offset, |line| {
        let Ok(record) = serde_json::from_slice::<Value>(line) else { return };
        let at = record.pointer(&rules.at).and_then(Value::as_str).and_then(|text| text.parse::<Timestamp>().ok());
        if let Some(at) = at.filter(|at| *at >= since) {
            signals.extend(limits::usage(&rules.usage, None, &record, Source::Transcript, at));
            signals.extend(records::read(&rules.rules, limits, None, &record, Source::Transcript, at));
        }
    });
    if let Err(error) = read {
        tracing::warn!(transcript = %path.display(), %error, "the transcript can't be read; it is tried again");
    }
    signals
}

/// The file that the process holds open and whose path matches.
pub(super) fn open_file(pattern: &Pattern, pid: u32) -> Option<PathBuf> {
    let mut paths = peek::files(pid).into_iter().map(|(_, path)| path);
    paths.find(|p| p.to_str().is_some_and(|text| pattern.0.is_match(text)))
}

/// The newest file that fits a path with `*` inside components.
pub(super) fn find(pattern: &str) -> Option<PathBuf> {
    let mut found = vec![PathBuf::from("/")];
    for part in pattern.split('/').filter(|p| !p.is_empty()) {
        found = match part.split_once('*') {
            None => found.into_iter().map(|dir| dir.join(part)).collect(),
            Some((start, end)) => found.iter().flat_map(|dir| entries(dir, start, end)).collect(),
        };
    }
    found.retain(|p| p.is_file());
    found.into_iter().max_by_key(|p| p.metadata().and_then(|m| m.modified()).ok())
}

/// Every file that fits a path whose last component may hold `*`.
fn all(dir: &Path, pattern: &str) -> Vec<PathBuf> {
    let (folder, name) = pattern.rsplit_once('/').unwrap_or(("", pattern));
    match name.split_once('*') {
        Some((start, end)) => entries(&dir.join(folder), start, end),
        None => vec![dir.join(pattern)],
    }
}

fn entries(dir: &Path, start: &str, end: &str) -> Vec<PathBuf> {
    // `rollout-*-<id>` holds one star only, so the rest of a second one is compared as text.
    let fits = |name: &str| name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end);
    let Ok(list) = fs::read_dir(dir) else { return Vec::new() };
    list.filter_map(Result::ok).filter(|e| e.file_name().to_str().is_some_and(fits)).map(|e| e.path()).collect()
}

/// Tokens of a whole transcript. `beside` names further files below its directory.
pub(super) fn tokens(rules: &TokenRules, path: &Path, beside: Option<&str>) -> Option<Tokens> {
    let mut files = vec![path.to_owned()];
    if let (Some(dir), Some(pattern)) = (path.parent(), beside) {
        files.extend(all(dir, pattern));
    }
    let mut seen: BTreeMap<String, Tokens> = BTreeMap::new();
    for (n, file) in files.iter().enumerate() {
        let Ok(open) = fs::File::open(file) else { continue };
        for (i, line) in BufReader::new(open).split(b'\n').map_while(Result::ok).enumerate() {
            let Ok(record) = serde_json::from_slice::<Value>(&line) else { continue };
            if !all_hold(&rules.when, &record) {
                continue;
            }
            let key = match rules.mode {
                TokenMode::Last => String::new(),
                TokenMode::Sum => {
                    let parts: Vec<&str> =
                        rules.key.iter().filter_map(|p| record.pointer(p).and_then(Value::as_str)).collect();
                    if parts.is_empty() { format!("{n}:{i}") } else { parts.join("/") }
                }
            };
            seen.insert(key, count(rules, &record));
        }
    }
    (!seen.is_empty()).then(|| seen.values().fold(Tokens::default(), add))
}

fn count(rules: &TokenRules, record: &Value) -> Tokens {
    let number = |pointer: &str| record.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
    let cache_read = number(&rules.cache_read);
    let cached = if rules.input_holds_cache { cache_read } else { 0 };
    Tokens {
        input: number(&rules.input).saturating_sub(cached),
        output: number(&rules.output),
        cache_read,
        cache_write: number(&rules.cache_write),
    }
}

fn add(a: Tokens, b: &Tokens) -> Tokens {
    Tokens {
        input: a.input.saturating_add(b.input),
        output: a.output.saturating_add(b.output),
        cache_read: a.cache_read.saturating_add(b.cache_read),
        cache_write: a.cache_write.saturating_add(b.cache_write),
    }
}
