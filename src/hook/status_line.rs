//! `claude-failover hook --status-line FILE`: the status line command of our settings file.
//!
//! Takes what Claude Code passes to a status line on stdin, and the person's own settings file. Appends a line to the
//! hook log when the account's usage has changed, and prints what the person's own status line prints, if there is
//! one.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::unix::{
        fs::{MetadataExt, OpenOptionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
};

use nix::sys::memfd::{MFdFlags, memfd_create};
use serde_json::{Value, json};

/// The event's name in the hook log.
const EVENT: &str = "StatusLine";

/// Logs the account's usage if it differs from the last report: a status line runs on each redraw. The last report is
/// in a file beside the log, with the log's inode, because each start of an agent has its own log.
pub(super) fn note(log: &Path, session: Option<&str>, input: &[u8]) -> io::Result<()> {
    let data: Value = serde_json::from_slice(input).unwrap_or_default();
    // An account that is paid by use has none, nor has one before its first answer.
    let Some(limits) = data.get("rate_limits").filter(|limits| limits.is_object()) else { return Ok(()) };
    let words = || format!("{} {limits}", fs::metadata(log).map_or(0, |facts| facts.ino()));
    let mut beside = log.as_os_str().to_owned();
    beside.push(".usage");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW | libc::O_NOCTTY)
        .open(PathBuf::from(beside))?;
    let mut known = String::new();
    let read = file.read_to_string(&mut known);
    if read.is_ok() && known == words() {
        return Ok(());
    }
    super::log::append(log, session, EVENT, &json!({"rate_limits": limits}))?;
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(words().as_bytes())
}

/// Becomes the person's own status line. Comes back when there is none, or with why it can't.
pub(super) fn go_on(settings: &Path, input: &[u8]) -> io::Result<()> {
    let Ok(text) = fs::read(settings) else { return Ok(()) };
    let theirs: Value = serde_json::from_slice(&text).unwrap_or_default();
    let Some(command) = theirs.pointer("/statusLine/command").and_then(Value::as_str) else { return Ok(()) };
    let mut stdin = File::from(memfd_create("status-line", MFdFlags::MFD_CLOEXEC)?);
    stdin.write_all(input)?;
    stdin.rewind()?;
    Err(Command::new("sh").args(["-c", command]).stdin(stdin).exec())
}
