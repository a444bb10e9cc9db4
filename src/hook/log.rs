//! Appends lines to a session's hook log: each written whole and signed with the token of the incarnation that writes
//! it.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use serde_json::{Value, json};

use crate::{
    linux::{
        peek::{self, Part},
        process::Stat,
    },
    model::{agent::INCARNATION, seal::seal},
};

/// How many ancestors are searched for the agent. Chosen: a hook is run by the agent, or by a shell or two below it.
const ANCESTORS: u32 = 8;

/// Appends one line in the hook log's format. One `write`, so lines of concurrent writers never mix.
///
/// Refuses anything but a regular file: a pipe or device could block, and a link could lead out of the state directory.
pub fn append(log: &Path, session: Option<&str>, event: &str, data: &Value) -> io::Result<()> {
    let at = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW | libc::O_NOCTTY)
        .open(log)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut line = Vec::new();
    if ends_mid_line(&mut file)? {
        line.push(b'\n');
    }
    let object = json!({"at": at, "session": session, "event": event, "data": data}).to_string();
    line.extend(match token() {
        Some(token) => seal(&object, &token).into_bytes(),
        None => object.into_bytes(),
    });
    line.push(b'\n');
    let written = file.write(&line)?;
    if written < line.len() {
        return Err(io::Error::new(
            io::ErrorKind::StorageFull,
            format!("only {written} of {} bytes fitted", line.len()),
        ));
    }
    Ok(())
}

/// The token of the incarnation that this process belongs to, from its own environment or, where an agent keeps that from its
/// hooks, from the agent's.
fn token() -> Option<String> {
    let own = std::env::var(INCARNATION).ok().filter(|token| !token.is_empty());
    own.or_else(|| {
        let mut pid = nix::unistd::getppid().as_raw().cast_unsigned();
        for _ in 0..ANCESTORS {
            let environment = peek::one(pid, Part::Environment).ok()?;
            let found = peek::variable(&environment, INCARNATION);
            if let Some(token) = found.filter(|token| !token.is_empty()) {
                return String::from_utf8(token.to_vec()).ok();
            }
            pid = Stat::read(pid)?.parent;
        }
        None
    })
}

/// A disk that was full may have left half a line behind; the next line must not be glued to it.
fn ends_mid_line(file: &mut File) -> io::Result<bool> {
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last[0] != b'\n')
}
