//! Writes the status file `sessions/<pid>.json` in the format of Claude Code 2.1.
//!
//! Owns that one file: replaces it whole on each change, removes it on a clean exit, leaves it behind in a crash.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::{
    demo_agent::identity::{Identity, VERSION},
    linux::{
        dirs::{Outlives, write_private},
        process::Stat,
    },
};

/// What the agent says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Busy,
    Idle,
    WaitingForPermission,
    /// The menu of a limit is on the screen.
    WaitingInDialog,
}

/// The file, and what was last written to it.
#[derive(Debug)]
pub struct StatusFile {
    path: PathBuf,
    base: Value,
    last: Option<Status>,
}

impl StatusFile {
    pub fn new(identity: &Identity) -> Self {
        let pid = std::process::id();
        let base = json!({
            "pid": pid,
            "sessionId": identity.session_id,
            "cwd": identity.cwd,
            "startedAt": millis(),
            "procStart": proc_start().unwrap_or_default(),
            "version": VERSION,
            "kind": "interactive",
            "entrypoint": "cli",
        });
        Self { path: identity.home.join("sessions").join(format!("{pid}.json")), base, last: None }
    }

    /// Writes the status if it is a new one. A status file that cannot be written does not stop the agent.
    pub fn set(&mut self, status: Status) {
        if self.last == Some(status) {
            return;
        }
        let now = millis();
        let mut record = self.base.clone();
        match status {
            Status::Busy => record["status"] = json!("busy"),
            Status::Idle => record["status"] = json!("idle"),
            Status::WaitingForPermission => {
                record["status"] = json!("waiting");
                record["waitingFor"] = json!("permission prompt");
            }
            Status::WaitingInDialog => {
                record["status"] = json!("waiting");
                record["waitingFor"] = json!("dialog open");
            }
        }
        record["updatedAt"] = json!(now);
        record["statusUpdatedAt"] = json!(now);
        if write_private(&self.path, record.to_string().as_bytes(), Outlives::Nothing).is_ok() {
            self.last = Some(status);
        }
    }

    pub fn remove(&mut self) {
        self.last = None;
        let _ = fs::remove_file(&self.path);
    }
}

fn millis() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// Start time of this process in clock ticks after boot.
fn proc_start() -> Option<String> {
    Some(Stat::read(std::process::id())?.start.to_string())
}
