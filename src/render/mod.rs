//! Renders text and JSON from one snapshot: pure functions, one file per kind of object.
//! Takes a snapshot and the time; sanitizes foreign text. Knows no face; reads and keeps nothing.

pub mod account;
mod colour;
pub mod metrics;
pub mod project;
pub mod provider;
pub mod root;
pub mod session;
pub mod status;
pub mod status_json;
pub mod swap;
pub mod task;
pub mod words;

use jiff::Timestamp;

use crate::model::snapshot::Snapshot;

pub use crate::model::text::clean;
pub use colour::clean_colour;

/// JSON for people and programs, free of control characters.
#[must_use]
pub fn json_text(value: &serde_json::Value) -> String {
    // JSON escapes C0; DEL and C1 are removed.
    format!("{}\n", clean(&format!("{value:#}")))
}

/// What a rendering is made from.
#[derive(Debug, Clone, Copy)]
pub struct Picture<'a> {
    pub snapshot: &'a Snapshot,
    /// Steady time, for ages; the files themselves tell absolute times too.
    pub now: Timestamp,
}

impl<'a> Picture<'a> {
    /// As of this wall-clock time.
    #[must_use]
    pub fn at(snapshot: &'a Snapshot, wall: Timestamp) -> Self {
        Self { snapshot, now: snapshot.timeline.steady(wall) }
    }

    /// A time of the snapshot as people read it.
    #[must_use]
    pub fn shown(&self, at: Timestamp) -> Timestamp {
        self.snapshot.timeline.shown(at)
    }
}
