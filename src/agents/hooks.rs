//! Our hook log of a session: one line for each hook that the agent ran, written by `claude-failover hook`.
//! In: the log's bytes from an offset. Out: signals, and the transcript's path that the agent told. Reads whole lines only:
//! a torn last line is left for the next read.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    agents::{records, rules::HookRules},
    model::evidence::{Signal, Source},
};

/// One line of the log.
#[derive(Debug, Deserialize)]
struct Line {
    at: Timestamp,
    event: String,
    #[serde(default)]
    data: Value,
}

/// Signals behind `offset`, which moves to the end of the last whole line.
pub(super) fn read(rules: &HookRules, log: &Path, offset: &mut u64) -> (Vec<Signal>, Option<PathBuf>) {
    let mut signals = Vec::new();
    let mut transcript = None;
    for line in whole_lines(log, offset).unwrap_or_default() {
        let Ok(line) = serde_json::from_slice::<Line>(&line) else {
            tracing::warn!(log = %log.display(), "a line of the hook log is not a hook record; it is skipped");
            continue;
        };
        if let Some(path) = rules.transcript_path.as_deref().and_then(|p| line.data.pointer(p)).and_then(Value::as_str)
        {
            transcript = Some(PathBuf::from(path)).filter(|p| p.is_absolute());
        }
        signals.extend(records::read(&rules.rules, Some(&line.event), &line.data, Source::Hook, line.at));
    }
    (signals, transcript)
}

/// The whole lines behind `offset`. A file shorter than `offset` is a new one and read from its beginning; a missing one
/// has no lines.
pub(super) fn whole_lines(path: &Path, offset: &mut u64) -> io::Result<Vec<Vec<u8>>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let facts = file.metadata()?;
    if !facts.is_file() {
        return Ok(Vec::new());
    }
    if facts.len() < *offset {
        *offset = 0;
    }
    if facts.len() == *offset {
        return Ok(Vec::new());
    }
    file.seek(SeekFrom::Start(*offset))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let Some(end) = bytes.iter().rposition(|b| *b == b'\n') else { return Ok(Vec::new()) };
    bytes.truncate(end + 1);
    *offset += bytes.len() as u64;
    Ok(bytes.split(|b| *b == b'\n').filter(|l| !l.is_empty()).map(<[u8]>::to_vec).collect())
}
