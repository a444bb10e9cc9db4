//! The agent's own status file, where it has one.
//! In: the file's path and rules. Out: at most one signal for each change of the file. Never trusts a file that another
//! process left: process id and start time must be the pane's.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    agents::{limits::Limits, records, rules::StatusRules},
    model::evidence::{Signal, Source},
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
    // A file caught half written is read again at its next change.
    let record: Value = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    let told = rules.process_start.as_deref().and_then(|p| record.pointer(p)).and_then(Value::as_str);
    if told.is_some_and(|start| process_start(pid).as_deref() != Some(start)) {
        return None;
    }
    let millis = record.pointer(&rules.at).and_then(Value::as_i64)?;
    let at = Timestamp::from_millisecond(millis).ok()?;
    *seen = Some(stamp);
    records::read(&rules.rules, limits, None, &record, Source::StatusFile, at)
}

/// Field 22 of `/proc/<pid>/stat` (proc_pid_stat(5)): start time in clock ticks since boot.
fn process_start(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses and may hold anything.
    let (_, after) = stat.rsplit_once(") ")?;
    after.split(' ').nth(19).map(str::to_owned)
}
