//! Reads the agent's own status file, for CLIs that write one.
//! Takes the file's path and rules; returns at most one signal per change. Ignores a file left by another process: pid
//! and start time must match the pane's.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    linux::process::Stat,
    model::evidence::{Signal, Source},
    rules::{format::StatusRules, limits::Limits, records},
};

/// The signal of the file as it is now, when it changed since `seen` (modification time in nanoseconds, inode).
pub(super) fn read(
    rules: &StatusRules,
    limits: Limits<'_>,
    path: &Path,
    pid: u32,
    seen: &mut Option<(i64, u64)>,
) -> Option<Signal> {
    let facts = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    let stamp = (facts.mtime().saturating_mul(1_000_000_000).saturating_add(facts.mtime_nsec()), facts.ino());
    if *seen == Some(stamp) {
        return None;
    }
    let record = record(rules, path, pid)?;
    let millis = record.pointer(&rules.at).and_then(Value::as_i64)?;
    let at = Timestamp::from_millisecond(millis).ok()?;
    *seen = Some(stamp);
    records::read(&rules.rules, limits, None, &record, Source::StatusFile, at)
}

/// The conversation that the process reports.
pub(super) fn conversation(rules: &StatusRules, path: &Path, pid: u32) -> Option<String> {
    let pointer = rules.conversation.as_deref()?;
    Some(record(rules, path, pid)?.pointer(pointer)?.as_str()?.to_owned())
}

/// A file caught half written is none; it is read again at its next change.
fn record(rules: &StatusRules, path: &Path, pid: u32) -> Option<Value> {
    let record: Value = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    let told = rules.process_start.as_deref().and_then(|p| record.pointer(p)).and_then(Value::as_str);
    let is_its_own = told.is_none_or(|start| Stat::read(pid).is_some_and(|stat| stat.start.to_string() == start));
    is_its_own.then_some(record)
}
