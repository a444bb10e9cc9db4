//! Archives old results: `archive/2026-10.tar.gz` beside the archived files.
//! Takes an open `done/` or `failed/`, a month and its files; writes a gzipped tar file that holds them, complete and
//! durable. Never removes a file, and never touches an archive that it can't append to.
//!
//! Each run appends a gzip member with more tar entries and no end mark between, so `tar tzf` and `zcat` read all of
//! it.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Write as _},
    os::fd::{AsFd, OwnedFd},
};

use flate2::{Compression, read::MultiGzDecoder, write::GzEncoder};
use nix::{
    errno::Errno,
    sys::stat::{Mode, fstat, mkdirat},
    unistd::{Gid, Uid, fsync},
};

use crate::{
    linux::dirs::{Over, open_dir_at, open_file, write_whole_by},
    model::{
        ids::TaskId,
        queue::{Entry, FileKind},
        task_file::sha256,
    },
    sys::names::facts,
};

/// Name of the directory in `done/` and `failed/`.
pub const ARCHIVE: &str = "archive";
/// What tar writes after its last entry (pax, "ustar Interchange Format"): two blocks of zeros.
const END_MARK: usize = 1024;
/// The block of a tar file (pax, "ustar Interchange Format").
const BLOCK: u64 = 512;

/// Names in an archive, and the SHA-256 of what they hold.
type Held = BTreeMap<String, String>;

/// Adds the files to the month's archive. Returns those that are in it now, without those that have changed since they
/// were listed.
///
/// # Errors
/// When anything fails; the archive is as it was then.
pub fn add(dir: &OwnedFd, month: &str, files: &[Entry]) -> io::Result<Vec<TaskId>> {
    let archive = open_archive(dir)?;
    let name = format!("{month}.tar.gz");
    let mut held = held(&archive, &name).map_err(|error| {
        let text = format!("{ARCHIVE}/{name} can't be gone on with: {error}; move it aside, and another one is begun");
        io::Error::new(error.kind(), text)
    })?;
    let (mut stored, mut fresh) = (Vec::new(), Vec::new());
    for file in files {
        let Some(bytes) = unchanged(dir, file)? else { continue };
        let hash = sha256(&bytes);
        if let Some(free) = free_name(&held, &file.id, &hash) {
            held.insert(free.clone(), hash);
            fresh.push((file, free));
        }
        stored.push(file.id.clone());
    }
    if fresh.is_empty() {
        return Ok(stored);
    }
    write_whole_by(dir, &archive, &name, Over::Replace, |out| {
        match open_file(&archive, &name) {
            Ok(mut known) => drop(io::copy(&mut known, out)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let mut gzip = GzEncoder::new(out, Compression::default());
        for (file, name) in &fresh {
            match unchanged(dir, file)? {
                Some(bytes) => gzip.write_all(&tar_entry(name, file, &bytes)?)?,
                None => stored.retain(|id| *id != file.id),
            }
        }
        gzip.finish().map(drop)
    })?;
    Ok(stored)
}

fn open_archive(dir: &OwnedFd) -> io::Result<OwnedFd> {
    match mkdirat(dir, ARCHIVE, Mode::from_bits_truncate(0o777)) {
        Ok(()) => fsync(dir)?,
        Err(Errno::EEXIST) => {}
        Err(error) => return Err(error.into()),
    }
    open_dir_at(dir, ARCHIVE)
}

/// The name under which a file is to be stored; `None` when it is stored already. Another file of its name keeps that.
fn free_name(held: &Held, id: &TaskId, hash: &str) -> Option<String> {
    let numbered = (1..).map(|n: u32| format!("{id}.{n}.md"));
    for name in std::iter::once(id.file_name()).chain(numbered) {
        match held.get(&name) {
            None => return Some(name),
            Some(known) if known == hash => return None,
            Some(_) => {}
        }
    }
    None
}

/// A regular file's bytes, if it is still the same file.
fn unchanged(dir: impl AsFd, file: &Entry) -> io::Result<Option<Vec<u8>>> {
    let mut open = match open_file(dir, file.id.file_name()) {
        Ok(open) => open,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let same = |open: &File| -> io::Result<bool> {
        let now = facts(&fstat(open)?);
        Ok(now.kind == FileKind::Regular && now.change == file.file.change)
    };
    if !same(&open)? {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    open.read_to_end(&mut bytes)?;
    Ok(same(&open)?.then_some(bytes))
}

/// One file as tar has it, without the end mark.
fn tar_entry(name: &str, file: &Entry, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o600);
    header.set_mtime(u64::try_from(file.file.modified.as_second()).unwrap_or(0));
    header.set_uid(Uid::effective().as_raw().into());
    header.set_gid(Gid::effective().as_raw().into());
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_data(&mut header, name, bytes)?;
    let mut tar = tar.into_inner()?;
    tar.truncate(tar.len() - END_MARK);
    Ok(tar)
}

/// What the archive holds; nothing where there is none yet.
fn held(archive: &OwnedFd, name: &str) -> io::Result<Held> {
    let file = match open_file(archive, name) {
        Ok(file) => io::BufReader::new(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Held::new()),
        Err(error) => return Err(error),
    };
    let mut tar = tar::Archive::new(Counted { inner: MultiGzDecoder::new(file), read: 0 });
    let mut held = Held::new();
    let mut end = 0;
    for entry in tar.entries()? {
        let mut entry = entry?;
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        held.insert(entry.path()?.to_string_lossy().into_owned(), sha256(&bytes));
        end = entry.raw_file_position() + entry.size().next_multiple_of(BLOCK);
    }
    let mut rest = tar.into_inner();
    io::copy(&mut rest, &mut io::sink())?;
    if rest.read != end {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "another program has put an end mark into it"));
    }
    Ok(held)
}

struct Counted<R> {
    inner: R,
    read: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into)?;
        self.read += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, process::Command};

    use super::*;
    use crate::linux::dirs::{open_dir, stat};

    fn put(dir: &Path, name: &str, text: &str) -> Entry {
        std::fs::write(dir.join(name), text).expect("written");
        let found = stat(open_dir(dir).expect("open"), name).expect("there");
        Entry { id: TaskId::from_file_name(name).expect("a name"), file: facts(&found) }
    }

    fn sh(dir: &Path, script: &str) -> String {
        let out = Command::new("sh").args(["-c", script]).current_dir(dir).output().expect("sh");
        assert!(out.status.success() && out.stderr.is_empty(), "{script}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    fn store(dir: &Path, files: &[Entry]) -> io::Result<Vec<String>> {
        let open = open_dir(dir)?;
        add(&open, "2026-10", files).map(|ids| ids.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn standard_tools_read_what_was_added_at_several_times() {
        let temp = tempfile::tempdir().expect("a directory");
        let dir = temp.path();
        let long = format!("{}.md", "ö".repeat(60));
        let first = [put(dir, "a.md", "one\n"), put(dir, "größe 漢字.md", &"x".repeat(5000))];
        assert_eq!(store(dir, &first).expect("stored").len(), 2);
        let second = [put(dir, &long, "long\n"), put(dir, "b.md", "")];
        assert_eq!(store(dir, &second).expect("stored").len(), 2);
        let names = sh(dir, "tar tzf archive/2026-10.tar.gz --quoting-style=literal");
        assert_eq!(names, format!("a.md\ngröße 漢字.md\n{long}\nb.md\n"));
        sh(
            dir,
            "mkdir x; cd x; tar xzf ../archive/2026-10.tar.gz; for f in *.md; do cmp \"$f\" \"../$f\"; done; test -z \"$(find . -name a.md -newer ../a.md)\"",
        );
        assert!(sh(dir, "gzip -t archive/2026-10.tar.gz; zcat archive/2026-10.tar.gz").contains("one\n"));
        assert_eq!(sh(dir, "stat -c %a archive/2026-10.tar.gz; ls -A | grep -c claude-failover || true"), "600\n0\n");
    }

    #[test]
    fn nothing_is_stored_twice_and_no_name_hides_another() {
        let temp = tempfile::tempdir().expect("a directory");
        let dir = temp.path();
        let one = put(dir, "a.md", "one\n");
        store(dir, std::slice::from_ref(&one)).expect("stored");
        let inode = sh(dir, "stat -c %i archive/2026-10.tar.gz");
        assert_eq!(store(dir, &[one]).expect("again"), ["a"], "as after a crash between storing and removing");
        assert_eq!(sh(dir, "stat -c %i archive/2026-10.tar.gz"), inode, "nothing was written");
        let two = put(dir, "a.md", "two, another one\n");
        store(dir, std::slice::from_ref(&two)).expect("stored");
        store(dir, &[two]).expect("again");
        let three = put(dir, "a.1.md", "three\n");
        assert_eq!(store(dir, &[three]).expect("stored"), ["a.1"]);
        assert_eq!(sh(dir, "tar tzf archive/2026-10.tar.gz"), "a.md\na.1.md\na.1.1.md\n");
        assert_eq!(sh(dir, "tar xzOf archive/2026-10.tar.gz a.1.md"), "two, another one\n");
    }

    #[test]
    fn what_changed_or_went_is_not_stored() {
        let temp = tempfile::tempdir().expect("a directory");
        let dir = temp.path();
        let seen = [put(dir, "a.md", "one\n"), put(dir, "b.md", "two\n"), put(dir, "c.md", "three\n")];
        std::fs::write(dir.join("a.md"), "saved since\n").expect("written");
        std::fs::remove_file(dir.join("b.md")).expect("removed");
        assert_eq!(store(dir, &seen).expect("stored"), ["c"]);
        assert_eq!(sh(dir, "tar tzf archive/2026-10.tar.gz"), "c.md\n");
    }

    #[test]
    fn an_archive_that_can_not_be_gone_on_with_is_left_as_it_is() {
        let temp = tempfile::tempdir().expect("a directory");
        let dir = temp.path();
        let a = put(dir, "a.md", &"text ".repeat(1000));
        store(dir, std::slice::from_ref(&a)).expect("stored");
        let b = put(dir, "b.md", "two\n");
        let archive = dir.join("archive/2026-10.tar.gz");
        let whole = std::fs::read(&archive).expect("read");
        sh(dir, "tar czf marked.tar.gz a.md");
        let marked = std::fs::read(dir.join("marked.tar.gz")).expect("read");
        let mut torn = whole.clone();
        torn.truncate(whole.len() - 9);
        for (what, bytes) in [("torn", torn), ("with an end mark", marked), ("strange", b"hello\n".to_vec())] {
            std::fs::write(&archive, &bytes).expect("written");
            let refused = store(dir, std::slice::from_ref(&b)).expect_err(what);
            assert!(refused.to_string().contains("archive/2026-10.tar.gz can't be gone on with"), "{what}: {refused}");
            assert_eq!(std::fs::read(&archive).expect("read"), bytes, "{what}");
        }
        std::fs::write(&archive, &whole).expect("written");
        assert_eq!(store(dir, &[b]).expect("stored"), ["b"]);
    }
}
