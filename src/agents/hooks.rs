//! Our hook log of a session: one line for each hook that the agent ran, written by `claude-failover hook`.
//! In: the log's bytes from an offset. Out: signals, and the transcript's path that the agent told. Reads whole lines only:
//! a torn last line is left for the next read.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    agents::{
        limits::{self, Limits},
        records,
        rules::HookRules,
    },
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
pub(super) fn read(
    rules: &HookRules,
    limits: Limits<'_>,
    log: &Path,
    offset: &mut u64,
) -> (Vec<Signal>, Option<PathBuf>) {
    let mut signals = Vec::new();
    let mut transcript = None;
    let read = whole_lines(log, offset, |line| {
        let Ok(line) = serde_json::from_slice::<Line>(line) else {
            tracing::warn!(log = %log.display(), "a line of the hook log is not a hook record; it is skipped");
            return;
        };
        let path = rules.transcript_path.as_deref().and_then(|p| line.data.pointer(p)).and_then(Value::as_str);
        if let Some(path) = path.map(PathBuf::from).filter(|p| p.is_absolute()) {
            transcript = Some(path);
        }
        let event = Some(line.event.as_str());
        signals.extend(limits::usage(&rules.usage, event, &line.data, Source::Hook, line.at));
        signals.extend(records::read(&rules.rules, limits, event, &line.data, Source::Hook, line.at));
    });
    if let Err(error) = read {
        tracing::warn!(log = %log.display(), %error, "the hook log can't be read; it is tried again");
    }
    (signals, transcript)
}

/// Hands out the whole lines behind `offset`, one at a time: a transcript can be large. A file shorter than `offset` is a
/// new one and read from its beginning; a missing one has no lines.
pub(super) fn whole_lines(path: &Path, offset: &mut u64, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    let facts = file.metadata()?;
    if !facts.is_file() {
        return Ok(());
    }
    if facts.len() < *offset {
        *offset = 0;
    }
    if facts.len() == *offset {
        return Ok(());
    }
    file.seek(SeekFrom::Start(*offset))?;
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        line.clear();
        let length = reader.read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            return Ok(());
        }
        *offset += length as u64;
        each(&line);
    }
}
