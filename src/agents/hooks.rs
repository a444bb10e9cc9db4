//! Reads a session's hook log: one line per hook that the agent ran, written by `claude-failover hook`.
//! Turns the log's bytes from an offset into signals and the transcript path that the agent reported. Reads whole
//! lines only; a torn last line is left for the next read. Punches holes into the part already read, to free disk
//! space.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Seek, SeekFrom},
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use jiff::Timestamp;
use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, fallocate},
    unistd::{Whence, lseek},
};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    model::{
        agent::HookLog,
        evidence::{Signal, Source},
        ids::SessionName,
        seal::is_sealed,
    },
    rules::{
        format::HookRules,
        limits::{self, Limits},
        records,
    },
};

/// Longest line that is read, in bytes. Chosen: above anything that the hook writes, which truncates its input
/// (`hook::MAX_INPUT`, 4 MiB, at most sixfold as escaped JSON).
const LONGEST_LINE: u64 = 32 << 20;

/// One line of the log.
#[derive(Debug, Deserialize)]
struct Line {
    at: Timestamp,
    event: String,
    #[serde(default)]
    data: Value,
}

/// What a log says.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) signals: Vec<Signal>,
    pub(super) transcript: Option<PathBuf>,
    /// Lines that another incarnation, or somebody else, has written.
    pub(super) refused: usize,
}

/// Reads the log from `offset`, which moves to the end of the last whole line. Only lines with this token's seal count;
/// an empty token is of a program from before seals existed.
pub(super) fn read(rules: &HookRules, limits: Limits<'_>, log: &Path, token: &str, offset: &mut u64) -> Told {
    let mut told = Told::default();
    let read = whole_lines(log, offset, |line| {
        if !token.is_empty() && !is_sealed(line, token) {
            told.refused += 1;
            return;
        }
        let Ok(line) = serde_json::from_slice::<Line>(line) else {
            tracing::warn!(log = %log.display(), "a line of the hook log is not a hook record; it is skipped");
            return;
        };
        let path = rules.transcript_path.as_deref().and_then(|p| line.data.pointer(p)).and_then(Value::as_str);
        if let Some(path) = path.map(PathBuf::from).filter(|p| p.is_absolute()) {
            told.transcript = Some(path);
        }
        let event = Some(line.event.as_str());
        told.signals.extend(limits::usage(&rules.usage, event, &line.data, Source::Hook, line.at));
        told.signals.extend(records::read(&rules.rules, limits, event, &line.data, Source::Hook, line.at));
    });
    if let Err(error) = read {
        tracing::warn!(log = %log.display(), %error, "the hook log can't be read; it is tried again");
    }
    told
}

/// Hands out the whole lines behind `offset`, one at a time: a transcript can be large. A file shorter than `offset` is a
/// new one and read from its beginning; a missing one has no lines. What was given back to the disk is skipped (`clear`).
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
    match lseek(&file, i64::try_from(*offset).unwrap_or(i64::MAX), Whence::SeekData) {
        Ok(data) => *offset = u64::try_from(data).unwrap_or(*offset),
        // Nothing but a hole.
        Err(Errno::ENXIO) => return Ok(()),
        Err(_) => drop(file.seek(SeekFrom::Start(*offset))?),
    }
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        line.clear();
        let length = reader.read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            return Ok(());
        }
        *offset += length as u64;
        // A hole ends with a block of the disk, and the rest up to a line is zeros.
        each(&line[line.iter().position(|byte| *byte != 0).unwrap_or(line.len())..]);
    }
}

/// Where in a log somebody has read to: its inode and the place.
pub(super) type ReadTo = Mutex<HashMap<SessionName, (u64, u64)>>;

/// The hook logs below the directory.
pub(super) fn logs(dir: &Path, read_to: &ReadTo) -> Vec<HookLog> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut logs = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let session = name.to_str().and_then(|name| SessionName::parse(name.strip_suffix(".jsonl")?).ok());
        let (Some(session), Ok(facts)) = (session, entry.metadata()) else { continue };
        let modified = facts.modified().ok().and_then(|at| Timestamp::try_from(at).ok());
        let (true, Some(modified)) = (facts.is_file(), modified) else { continue };
        let known = read_to.lock().unwrap_or_else(PoisonError::into_inner).get(&session).copied();
        logs.push(HookLog {
            from: File::open(entry.path()).map_or(0, |file| beginning(&file, facts.len())),
            modified,
            read_to: known.filter(|(inode, _)| *inode == facts.ino()).map(|(_, at)| at),
            session,
        });
    }
    logs.sort_by(|a, b| a.session.cmp(&b.session));
    logs
}

/// Where a file's first data is.
fn beginning(file: &File, length: u64) -> u64 {
    match lseek(file, 0, Whence::SeekData) {
        Ok(at) => u64::try_from(at).unwrap_or(0),
        Err(Errno::ENXIO) => length,
        Err(_) => 0,
    }
}

/// Frees the disk space before the last line end up to `to`. The agent's hooks append meanwhile, and readers' offsets
/// must stay valid, so the file gets a hole and isn't shortened.
pub(super) fn clear(log: &Path, to: u64) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(log)?;
    let end = to.min(file.metadata()?.len());
    // Longer than any line that the hook writes.
    let from = end.saturating_sub(LONGEST_LINE);
    let mut tail = vec![0; usize::try_from(end - from).unwrap_or(0)];
    file.read_exact_at(&mut tail, from)?;
    let Some(at) = tail.iter().rposition(|byte| *byte == b'\n') else { return Ok(()) };
    let length = i64::try_from(from + at as u64 + 1).unwrap_or(0);
    let hollow = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    Ok(fallocate(&file, hollow, 0, length)?)
}

/// Removes a session's logs: the current one, the previous one, and the last status line report.
pub(super) fn remove(log: &Path) -> io::Result<()> {
    for end in ["", ".1", ".usage"] {
        let mut name = log.as_os_str().to_owned();
        name.push(end);
        match fs::remove_file(PathBuf::from(name)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_log_is_hollowed_out_and_no_unread_line_is_lost() {
        let temp = tempfile::tempdir().expect("a directory");
        let log = temp.path().join("s-1.jsonl");
        let mut writer = OpenOptions::new().append(true).create(true).open(&log).expect("open");
        let line = |n: u32| format!("{{\"n\": {n}, \"pad\": \"{}\"}}", "x".repeat(300));
        (0..1000).for_each(|n| writeln!(writer, "{}", line(n)).expect("written"));
        let read = |offset: &mut u64| {
            let mut lines = Vec::new();
            whole_lines(&log, offset, |line| lines.push(String::from_utf8_lossy(line).into_owned())).expect("read");
            lines
        };
        let mut offset = 0;
        assert_eq!(read(&mut offset).len(), 1000);
        writeln!(writer, "{}", line(1000)).expect("written");
        let session = SessionName::parse("s-1").expect("a name");
        let inode = fs::metadata(&log).expect("facts").ino();
        let known = ReadTo::new(HashMap::from([(session, (inode, offset))]));
        let before = logs(temp.path(), &known);
        assert_eq!(before[0].read_to, Some(offset));

        clear(&log, offset - 150_000).expect("cleared");
        let after = &logs(temp.path(), &known)[0];
        assert_eq!((before[0].from, after.from > 100_000), (0, true), "the disk has its blocks back: {after:?}");
        // A reader continues at its offset; a new one gets the remaining whole lines.
        writeln!(writer, "{}", line(1001)).expect("written");
        assert_eq!(read(&mut offset), [line(1000), line(1001)]);
        let all = read(&mut 0);
        assert!(all.len() > 400 && all.len() < 600, "{}", all.len());
        let first = 1002 - u32::try_from(all.len()).expect("few");
        assert_eq!(all, (first..1002).map(line).collect::<Vec<_>>());

        clear(&log, u64::MAX).expect("cleared");
        assert!(read(&mut 0).is_empty() && read(&mut offset).is_empty());
        writeln!(writer, "{}", line(1002)).expect("written");
        assert_eq!((read(&mut 0), read(&mut offset)), (vec![line(1002)], vec![line(1002)]));
    }
}
