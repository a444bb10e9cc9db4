//! Decides whether a file in the inbox is ready to be read as a task.
//! Takes facts about the name, the time and the settings; returns read, hold (until when), or reject. Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::model::{
    queue::{FileFacts, FileKind},
    task::{Hold, Problem},
};

/// The settings that readiness depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Quiet time after the last change.
    pub settle: Duration,
    /// How long an editor's lock holds a task.
    pub editor_hold: Duration,
    /// Largest task in bytes.
    pub max_bytes: u64,
}

/// What is known of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts<'a> {
    pub file: &'a FileFacts,
    /// When the file was last seen to change.
    pub touched: Timestamp,
    /// An editor's lock beside it, and since when it has been seen.
    pub lock: Option<(&'a str, Timestamp)>,
    /// Some process has it open for writing.
    pub writer: Option<bool>,
    /// Somebody else's marker beside it.
    pub foreign_marker: Option<&'a str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Read it.
    Read,
    /// Not now. Look again at the given time; without one, when something changes.
    Hold(Hold, Option<Timestamp>),
    Reject(Problem),
}

/// The readiness rules of INTERFACE 1, strongest first: a foreign claim, not a regular file, empty, an editor's lock, the settle
/// time, an open writer, too large.
#[must_use]
pub fn decide(facts: &Facts<'_>, settings: &Settings, now: Timestamp) -> Decision {
    let after = |at: Timestamp, wait: Duration| {
        at.saturating_add(SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX)).unwrap_or(now)
    };
    let whole = |message: String| Decision::Reject(Problem::whole(message));

    if let Some(marker) = facts.foreign_marker {
        return Decision::Hold(Hold::OutsideClaim(format!("{marker} stands beside it")), None);
    }
    if let FileKind::Other(what) = facts.file.kind {
        return whole(format!("it is a {what}, not a regular file; tasks are never followed out of the queue"));
    }
    if facts.file.bytes == 0 {
        return Decision::Hold(Hold::Empty, None);
    }
    if let Some((lock, since)) = facts.lock {
        let until = after(since, settings.editor_hold);
        if now < until {
            return Decision::Hold(Hold::EditorLock(lock.to_owned()), Some(until));
        }
    }
    let settled = after(facts.touched, settings.settle);
    if now < settled {
        return Decision::Hold(Hold::Settling, Some(settled));
    }
    if facts.writer == Some(true) {
        return Decision::Hold(Hold::Writing, Some(after(now, WRITER_RECHECK)));
    }
    // Not while it is being written: it may become another.
    if facts.file.bytes > settings.max_bytes {
        return whole(format!(
            "it has {} bytes; at most {} are taken (dispatcher.max_task_bytes)",
            facts.file.bytes, settings.max_bytes
        ));
    }
    Decision::Read
}

/// How soon an open writer is checked again, because a close without a write sends no event. Chosen: a quarter of the
/// default settle time.
const WRITER_RECHECK: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: Settings =
        Settings { settle: Duration::from_secs(1), editor_hold: Duration::from_secs(600), max_bytes: 100 };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).expect("time")
    }

    fn file(kind: FileKind, bytes: u64) -> FileFacts {
        FileFacts { kind, bytes, modified: at(0), change: (0, 0) }
    }

    fn facts(file: &FileFacts) -> Facts<'_> {
        Facts { file, touched: at(0), lock: None, writer: Some(false), foreign_marker: None }
    }

    #[test]
    fn each_rule_holds() {
        let good = file(FileKind::Regular, 10);
        let f = facts(&good);
        assert_eq!(decide(&f, &SETTINGS, at(0)), Decision::Hold(Hold::Settling, Some(at(1))));
        assert_eq!(decide(&f, &SETTINGS, at(1)), Decision::Read);
        assert!(matches!(
            decide(&Facts { writer: Some(true), ..f.clone() }, &SETTINGS, at(5)),
            Decision::Hold(Hold::Writing, Some(_))
        ));
        assert_eq!(decide(&Facts { writer: None, ..f.clone() }, &SETTINGS, at(5)), Decision::Read);
        let locked = Facts { lock: Some((".a.md.swp", at(0))), ..f.clone() };
        assert!(matches!(decide(&locked, &SETTINGS, at(599)), Decision::Hold(Hold::EditorLock(_), Some(_))));
        assert_eq!(decide(&locked, &SETTINGS, at(600)), Decision::Read);
        let foreign = Facts { foreign_marker: Some("a.md.delegated"), ..f };
        assert!(matches!(decide(&foreign, &SETTINGS, at(9)), Decision::Hold(Hold::OutsideClaim(_), None)));
        assert_eq!(decide(&facts(&file(FileKind::Regular, 0)), &SETTINGS, at(9)), Decision::Hold(Hold::Empty, None));
        let large = file(FileKind::Regular, 101);
        assert!(matches!(decide(&facts(&large), &SETTINGS, at(9)), Decision::Reject(_)));
        assert!(matches!(decide(&facts(&large), &SETTINGS, at(0)), Decision::Hold(Hold::Settling, _)), "still written");
        assert!(matches!(decide(&facts(&file(FileKind::Other("symlink"), 9)), &SETTINGS, at(9)), Decision::Reject(_)));
    }
}
