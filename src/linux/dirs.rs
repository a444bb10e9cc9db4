//! Durable directory operations, with which every file of ours is written.
//! Takes an open directory and a name. Never follows a symlink and never leaves a partial file under a final name.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Write as _},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    },
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, RenameFlags, open, openat, renameat2},
    sys::{
        signal::kill,
        stat::{FileStat, Mode, fstatat},
    },
    unistd::{Pid, UnlinkatFlags, fsync, linkat, unlinkat},
};

/// Beginning of the names of our unfinished files; a dot name is never a task.
pub const TEMPORARY: &str = ".claude-failover-";

static COUNTER: AtomicU64 = AtomicU64::new(0);

/// Opens a directory. The last component is not followed when it is a symlink.
///
/// # Errors
/// When it isn't there or isn't a directory.
pub fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    Ok(open(path, flags, Mode::empty())?)
}

/// Opens a directory inside another.
///
/// # Errors
/// When it isn't there, is a symlink or isn't a directory.
pub fn open_dir_at(dir: impl AsFd, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    Ok(openat(dir, name, flags, Mode::empty())?)
}

/// Opens an existing file for reading, without waiting for anybody (FIFOs) and without following a symlink.
///
/// # Errors
/// When it isn't there or can't be read.
pub fn open_file(dir: impl AsFd, name: impl AsRef<OsStr>) -> io::Result<File> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    Ok(File::from(openat(dir, name.as_ref(), flags, Mode::empty())?))
}

/// The entry's own facts, of a symlink those of the link.
///
/// # Errors
/// `NotFound` when it isn't there.
pub fn stat(dir: impl AsFd, name: impl AsRef<OsStr>) -> io::Result<FileStat> {
    Ok(fstatat(dir, name.as_ref(), AtFlags::AT_SYMLINK_NOFOLLOW)?)
}

/// What a new name may do to one that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    Replace,
    /// `AlreadyExists` when the name is taken.
    Never,
}

/// Writes a whole file: under a temporary name, fsynced, renamed, the directory fsynced. Mode 0600 from the first byte.
///
/// # Errors
/// When any step fails; the name is as it was then.
pub fn write_whole(dir: impl AsFd, name: &str, bytes: &[u8], over: Over) -> io::Result<()> {
    write_whole_by(&dir, &dir, name, over, |file| file.write_all(bytes))
}

/// The same, by a writer, with the temporary name in another directory of the same file system.
///
/// # Errors
/// When any step fails; the name is as it was then.
pub fn write_whole_by(
    beside: impl AsFd,
    dir: impl AsFd,
    name: &str,
    over: Over,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    write_beside(beside.as_fd(), dir.as_fd(), name, over, Outlives::PowerCut, write)
}

/// What a file has to survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outlives {
    PowerCut,
    /// Its only reader is the program started next, and each start rewrites it, so no start waits for the disk.
    Nothing,
}

/// Replaces a file of ours at any place, 0600 from its first byte, and makes its directory where missing. One that is so already
/// stays.
///
/// # Errors
/// When any step fails; the name is as it was then.
pub fn write_private(path: &Path, bytes: &[u8], outlives: Outlives) -> io::Result<()> {
    let private = |facts: fs::Metadata| facts.is_file() && facts.permissions().mode() & 0o777 == 0o600;
    if fs::symlink_metadata(path).is_ok_and(private) && fs::read(path).is_ok_and(|known| known == bytes) {
        return Ok(());
    }
    let name = path.file_name().and_then(OsStr::to_str).ok_or(io::ErrorKind::InvalidInput)?;
    let parent = path.parent().unwrap_or(Path::new("."));
    private_dir(parent)?;
    // An account's home may be reached by a link.
    let dir = open(parent, OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    write_beside(dir.as_fd(), dir.as_fd(), name, Over::Replace, outlives, |file| file.write_all(bytes))
}

/// Makes a directory, 0700, with what is missing above it.
///
/// # Errors
/// When it can't be made.
pub fn private_dir(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

fn write_beside(
    beside: BorrowedFd<'_>,
    dir: BorrowedFd<'_>,
    name: &str,
    over: Over,
    outlives: Outlives,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let durable = outlives == Outlives::PowerCut;
    let temporary = format!("{TEMPORARY}{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let mut file = File::from(openat(beside, temporary.as_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
    let whole = write(&mut file).and_then(|()| if durable { file.sync_all() } else { Ok(()) });
    // Closed first: a watcher of close events must not see the name that others see arrive.
    drop(file);
    let written = whole.and_then(|()| match over {
        Over::Replace => Ok(renameat2(beside, temporary.as_str(), dir, name, RenameFlags::empty())?),
        Over::Never => rename_new(beside, &temporary, dir, name),
    });
    if let Err(error) = written {
        let _ = unlinkat(beside, temporary.as_str(), UnlinkatFlags::NoRemoveDir);
        return Err(error);
    }
    if durable { Ok(fsync(dir)?) } else { Ok(()) }
}

/// Renames to a name that must be free.
///
/// # Errors
/// `AlreadyExists` when it is taken.
pub fn rename_new(from_dir: impl AsFd, from: &str, to_dir: impl AsFd, to: &str) -> io::Result<()> {
    let (from_dir, to_dir) = (from_dir.as_fd(), to_dir.as_fd());
    match renameat2(from_dir, from, to_dir, to, RenameFlags::RENAME_NOREPLACE) {
        // Some file systems don't know the flag; link has the same promise.
        Err(Errno::EINVAL) => {
            linkat(from_dir, from, to_dir, to, AtFlags::empty())?;
            Ok(unlinkat(from_dir, from, UnlinkatFlags::NoRemoveDir)?)
        }
        other => Ok(other?),
    }
}

/// Removes a name; a missing one is success. Answers whether it was there.
///
/// # Errors
/// When it is there and can't be removed, or the directory can't be synced.
pub fn remove(dir: impl AsFd, name: &str) -> io::Result<bool> {
    let dir = dir.as_fd();
    match unlinkat(dir, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) => Ok(fsync(dir).map(|()| true)?),
        Err(Errno::ENOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether an interrupted `write_whole` left this name: the process that it names is no more. One whose number another program
/// has now is left for later.
#[must_use]
pub fn is_leftover(name: &str) -> bool {
    let number = name.strip_prefix(TEMPORARY).and_then(|rest| rest.split_once('-')?.0.parse().ok());
    number.is_some_and(|pid: i32| pid > 0 && kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH))
}

/// Removes what an interrupted `write_whole` of an earlier process left, for whoever holds the directory's lock.
pub fn sweep(dir: impl AsFd, names: impl Iterator<Item = String>) {
    let dir = dir.as_fd();
    let ours = format!("{TEMPORARY}{}-", std::process::id());
    for name in names.filter(|name| name.starts_with(TEMPORARY) && !name.starts_with(&ours)) {
        let _ = unlinkat(dir, name.as_str(), UnlinkatFlags::NoRemoveDir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_written_whole_and_private() {
        let temp = tempfile::tempdir().expect("a directory");
        let dir = open_dir(temp.path()).expect("open");
        write_whole(&dir, "a", b"one", Over::Never).expect("written");
        assert_eq!(
            write_whole(&dir, "a", b"two", Over::Never).map_err(|e| e.kind()),
            Err(io::ErrorKind::AlreadyExists)
        );
        assert_eq!(fs::read(temp.path().join("a")).expect("read"), b"one");
        write_whole(&dir, "a", b"two", Over::Replace).expect("replaced");
        assert_eq!(fs::read(temp.path().join("a")).expect("read"), b"two");
        let mode = fs::metadata(temp.path().join("a")).expect("stat").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(temp.path()).expect("list").count(), 1);
    }

    #[test]
    fn only_a_dead_writer_s_file_is_a_leftover() {
        let mut child = std::process::Command::new("true").spawn().expect("started");
        let pid = child.id();
        child.wait().expect("ended");
        assert!(is_leftover(&format!("{TEMPORARY}{pid}-0")));
        for name in
            [&format!("{TEMPORARY}{}-0", std::process::id()), ".claude-failover-new", ".claude-failover-x-1", "a.md"]
        {
            assert!(!is_leftover(name), "{name}");
        }
    }

    #[test]
    fn a_symlink_is_never_followed() {
        let temp = tempfile::tempdir().expect("a directory");
        std::os::unix::fs::symlink("/etc/hostname", temp.path().join("a.md")).expect("link");
        let dir = open_dir(temp.path()).expect("open");
        assert!(open_file(&dir, "a.md").is_err());
        std::os::unix::fs::symlink("/etc", temp.path().join("inbox")).expect("link");
        assert!(open_dir_at(&dir, "inbox").is_err());
    }
}
