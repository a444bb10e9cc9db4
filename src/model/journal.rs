//! The saved state: a checkpoint (`state.json`), and a journal of changes since.
//! Takes the bytes of both; returns the state that they make together, and what of it is lost. Pure; never touches a
//! file.
//!
//! A record says what the state *is* after a batch of events, never which events: `set` replaces whole parts, `put`
//! entries of keyed parts (`null` removes one). Replay is a merge without rules, so a later version can't refuse what
//! was accepted once, and checkpoint and record share one format.
//!
//! A line of the journal is `LENGTH CHECKSUM JSON`, the first two in eight hex digits: readable with `tail -f`, and a
//! torn record is detected. Records are numbered without gaps; the checkpoint names the last one it contains
//! (`journal`), so a crash between a checkpoint and the truncation of the journal applies nothing twice.
//!
//! A record may be `deferred`: written at once, so that it survives the daemon, and synced with the next record that
//! isn't. `live::persist` defers only what a power cut ends anyway; after one such records may be missing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::state_v1;

/// Increases with every format change that an older daemon can't read (1: up to 0.5.0). Records have the version of
/// their checkpoint: a daemon writes one before its first record.
pub const VERSION: u32 = 2;

/// What of a state still holds if it is unknown what came after it: what people set, what was reported, the clock. Not
/// who works on what. A new supervisor id makes every earlier claim marker foreign, so that marked tasks wait for a
/// person.
const CARRIED_OVER: [&str; 10] = [
    "journal",
    "clock",
    "timeline",
    "paused",
    "event_seq",
    "request_seq",
    "overrides",
    "submitted",
    "notices",
    "starts",
];

/// Length of `LENGTH CHECKSUM `: twice eight hex digits and a blank.
const HEADER: usize = 18;

/// The parts of a state by name.
pub type State = Map<String, Value>;

/// What one batch of events has changed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub seq: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deferred: bool,
    pub set: Map<String, Value>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub put: Map<String, Value>,
}

impl Record {
    /// Its line in the journal.
    ///
    /// # Errors
    /// When it can't be written as JSON.
    pub fn line(&self) -> serde_json::Result<Vec<u8>> {
        let json = serde_json::to_vec(self)?;
        let mut line = header(&json).into_bytes();
        line.extend(json);
        line.push(b'\n');
        Ok(line)
    }

    /// Makes of the state before it the one after it.
    pub fn merge_into(self, state: &mut State) {
        state.extend(self.set);
        for (part, entries) in self.put {
            let Value::Object(entries) = entries else { continue };
            let known = state.entry(part).or_insert_with(|| Value::Object(Map::new()));
            let Value::Object(known) = known else { continue };
            for (key, value) in entries {
                if value.is_null() {
                    known.remove(&key);
                } else {
                    known.insert(key, value);
                }
            }
        }
        state.insert("journal".to_owned(), self.seq.into());
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    #[error(
        "state.json is of version {found}; this daemon reads up to {VERSION}: start the newer daemon, or move the file away"
    )]
    Newer { found: u32 },
    #[error("state.json can't be read: {0}")]
    Broken(String),
}

/// What of a saved state is gone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Loss {
    /// It was never acknowledged, or it was deferred and the power was cut.
    #[error(
        "the end of the journal was not written whole, and its {bytes} bytes are cut off: the machine or the daemon ended meanwhile"
    )]
    Torn { bytes: usize },
    /// What came after the damage was saved, and is not known.
    #[error("the journal is damaged after record {after}: {why}")]
    Damaged { after: u64, why: String },
}

/// A state as it was found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recovered {
    /// `None` if there was none. If damaged, the part that is safe to continue from.
    pub state: Option<State>,
    pub loss: Option<Loss>,
}

/// The state that a checkpoint and the journal after it make.
///
/// # Errors
/// When the checkpoint is there and can't be understood.
pub fn recover(checkpoint: Option<&[u8]>, journal: &[u8]) -> Result<Recovered, LoadError> {
    let Some(checkpoint) = checkpoint else {
        let why = "it is there without a state.json";
        let loss = (!journal.is_empty()).then(|| Loss::Damaged { after: 0, why: why.to_owned() });
        return Ok(Recovered { state: None, loss });
    };
    let mut state = read_checkpoint(checkpoint)?;
    let mut loss = None;
    let mut at = 0;
    while at < journal.len() && loss.is_none() {
        let rest = &journal[at..];
        let known = number(&state);
        match whole(rest) {
            Some((record, len)) if record.seq <= known || record.seq == known + 1 => {
                if record.seq > known {
                    record.merge_into(&mut state);
                }
                at += len;
            }
            Some((record, _)) => {
                loss = Some(Loss::Damaged { after: known, why: format!("record {} follows it", record.seq) });
            }
            None if is_torn(rest) => loss = Some(Loss::Torn { bytes: rest.len() }),
            None => {
                let why = format!("what stands at byte {at} does not fit its length and checksum");
                loss = Some(Loss::Damaged { after: known, why });
            }
        }
    }
    if let Some(Loss::Damaged { .. }) = loss {
        carry_over(&mut state);
    }
    Ok(Recovered { state: Some(state), loss })
}

/// Leaves of a state what holds also when it is not known what came after it.
pub fn carry_over(state: &mut State) {
    let parts = std::mem::take(state);
    state.extend(parts.into_iter().filter(|(part, _)| part == "version" || CARRIED_OVER.contains(&part.as_str())));
}

/// A checkpoint's parts, in the present format.
///
/// # Errors
/// When it is of a newer version, or no state at all.
pub fn read_checkpoint(bytes: &[u8]) -> Result<State, LoadError> {
    let broken = |why: String| LoadError::Broken(why);
    let state: State = serde_json::from_slice(bytes).map_err(|error| broken(error.to_string()))?;
    let Some(found) = state.get("version").and_then(Value::as_u64) else {
        return Err(broken("it names no version".to_owned()));
    };
    match u32::try_from(found).unwrap_or(u32::MAX) {
        0 | 1 => state_v1::upgrade(state).ok_or_else(|| broken("it is not what version 1 looks like".to_owned())),
        VERSION => Ok(state),
        found => Err(LoadError::Newer { found }),
    }
}

/// The number of the last record that a state holds.
#[must_use]
pub fn number(state: &State) -> u64 {
    state.get("journal").and_then(Value::as_u64).unwrap_or(0)
}

/// The whole record at the beginning, and how long its line is.
#[must_use]
pub fn whole(bytes: &[u8]) -> Option<(Record, usize)> {
    let end = HEADER + length(bytes)?;
    let json = bytes.get(HEADER..end)?;
    // The end of the line is all that may be missing of a record.
    let ends = bytes.get(end).is_none_or(|byte| *byte == b'\n');
    if !ends || bytes[..HEADER] != *header(json).as_bytes() {
        return None;
    }
    Some((serde_json::from_slice(json).ok()?, (end + 1).min(bytes.len())))
}

/// The whole records at the beginning of a journal.
#[must_use]
pub fn records(mut journal: &[u8]) -> Vec<Record> {
    let mut found = Vec::new();
    while let Some((record, len)) = whole(journal) {
        found.push(record);
        journal = &journal[len..];
    }
    found
}

fn header(json: &[u8]) -> String {
    let mut checksum = flate2::Crc::new();
    checksum.update(json);
    format!("{:08x} {:08x} ", json.len(), checksum.sum())
}

fn length(bytes: &[u8]) -> Option<usize> {
    usize::from_str_radix(std::str::from_utf8(bytes.get(..8)?).ok()?, 16).ok()
}

/// Whether this is the beginning of a record whose writing was cut short, and not one that was whole once: it ends before its
/// end, or holds blocks that never came to the disk. A record holds no zeros, and nothing that was synced follows one that was not.
fn is_torn(rest: &[u8]) -> bool {
    let unwritten = rest.windows(2).any(|two| two == [0, 0]);
    let short = !rest.contains(&b'\n') && length(rest).is_none_or(|length| rest.len() <= HEADER + length);
    let mut starts = rest.iter().enumerate().filter(|(_, byte)| matches!(**byte, b'\n' | 0)).map(|(at, _)| at + 1);
    (unwritten || short) && !starts.any(|at| whole(&rest[at..]).is_some_and(|(record, _)| !record.deferred))
}

/// A saved state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    /// `None` when there is none yet.
    pub checkpoint: Option<Vec<u8>>,
    pub journal: Vec<u8>,
    /// The texts of runs, which up to 0.5.0 were files of their own; until the first checkpoint.
    pub texts: BTreeMap<String, String>,
}
