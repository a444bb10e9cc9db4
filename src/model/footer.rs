//! Finds and parses our results at the end of a file, and separates the text before them.
//! Takes a file's bytes; returns the run and its end, or the task's own bytes.

use jiff::Timestamp;

use crate::model::{ids::RunId, task::Status};

/// The line that begins a result (INTERFACE 3).
pub const RESULT_LINE: &str = "<!-- claude-failover:result -->";

/// The run whose result a finished file holds.
#[must_use]
pub fn run_of(file: &[u8]) -> Option<RunId> {
    whole(file)?.run
}

/// Which end of a task that never ran a file holds.
#[must_use]
pub fn end_of(file: &[u8]) -> Option<String> {
    whole(file)?.end
}

/// A finished file's end, parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    pub finished: Option<Timestamp>,
}

/// `None` for a file without a result of ours.
#[must_use]
pub fn told(file: &[u8]) -> Option<Told> {
    Some(Told { finished: whole(file)?.finished })
}

/// A whole result of ours that ends a file.
struct Whole {
    /// Where its marker line begins.
    pub at: usize,
    run: Option<RunId>,
    end: Option<String>,
    finished: Option<Timestamp>,
}

/// The result that ends a file: marker line, text, and last our fenced `yaml` with a status and a run or an end.
/// Anything less is somebody's text.
fn whole(file: &[u8]) -> Option<Whole> {
    let mut lines = Vec::new();
    let mut from = 0;
    for line in file.split_inclusive(|b| *b == b'\n') {
        lines.push((from, line.trim_ascii_end()));
        from += line.len();
    }
    let end = lines.iter().rposition(|(_, line)| !line.is_empty())?;
    if lines[end].1 != b"```" {
        return None;
    }
    let begin = lines[..end].iter().rposition(|(_, line)| *line == b"```yaml")?;
    let value = |key: &str| {
        let block = lines[begin + 1..end].iter();
        let told = block.filter_map(|(_, line)| std::str::from_utf8(line).ok()?.strip_prefix(key)?.strip_prefix(':'));
        let mut told = told.map(|value| value.trim().trim_matches(['"', '\'']).to_owned());
        told.next().filter(|value| !value.is_empty())
    };
    let status = value("status")?;
    let ours = [Status::Done, Status::Failed, Status::Cancelled].iter().any(|known| known.word() == status);
    let (run, finished) = (value("run").map(RunId), value("finished").and_then(|text| text.parse().ok()));
    let at = lines[..begin].iter().rposition(|(_, line)| *line == RESULT_LINE.as_bytes())?;
    (ours && (run.is_some() || finished.is_some())).then_some(Whole {
        at: lines[at].0,
        run,
        end: value("end"),
        finished,
    })
}

/// The task's own bytes: everything before the results of ours that end the file. A marker line anywhere else is its text.
#[must_use]
pub fn without_result(bytes: &[u8]) -> &[u8] {
    let mut own = bytes;
    while let Some(result) = whole(own) {
        own = &own[..result.at];
    }
    own
}
