//! The status file `sessions/<pid>.json`, in the shape that Claude Code 2.1 keeps.
//!
//! It owns that one file: replaced whole at each change, removed at a clean end, left behind by a crash.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::Identity;

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
            "version": super::VERSION,
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
        if replace(&self.path, record.to_string().as_bytes()).is_ok() {
            self.last = Some(status);
        }
    }

    pub fn remove(&mut self) {
        self.last = None;
        let _ = fs::remove_file(&self.path);
    }
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    private_dir(dir)?;
    let draft = path.with_extension("json.tmp");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(bytes)?;
    fs::rename(&draft, path)
}

/// Makes a directory that nobody else may enter, with its parents.
pub fn private_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

fn millis() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// Start time of this process in clock ticks after boot: field 22 of `/proc/self/stat`, proc_pid_stat(5).
fn proc_start() -> Option<String> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name in field 2 may hold blanks and brackets, so counting starts behind its last bracket, at field 3.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19).map(str::to_owned)
}
