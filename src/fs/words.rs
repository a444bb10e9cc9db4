//! Plain types and constants shared by the files of the mount: the caller, attributes and how long they may be cached,
//! real directories.
//! Answers no requests.

use std::{
    fs::File,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use jiff::Timestamp;

use crate::{
    fs::tree::View,
    linux::process,
    model::{command::Writer, writer::By},
};

/// Inode number of the mount's root (`FUSE_ROOT_ID`, linux/fuse.h).
pub const ROOT: u64 = 1;

/// How long the kernel may cache names of our tables. Chosen: they don't change while the daemon runs; long enough
/// that look-ups don't show in measurements.
const NAME_LASTS: Duration = Duration::from_secs(60);

/// Cache time that covers consecutive calls: the `stat` that a look-up was made for, the parts of one path. Chosen:
/// such calls are microseconds apart, and a person never sees a state that old.
pub const MOMENT: Duration = Duration::from_millis(5);

/// An inode number that means unknown (`FUSE_UNKNOWN_INO`, linux/fuse.h).
pub(super) const UNKNOWN_NUMBER: u64 = 0xffff_ffff;

/// The file system type in /proc/mounts, by which our mounts are recognised.
pub const FSTYPE: &str = "fuse.claude-failover";

/// FUSE worker threads. Chosen: two suffice for speed (measured on two cores); the others may be blocked by a disk or
/// a verb (`slow`).
pub(super) const THREADS: usize = 8;

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    pub uid: u32,
    pub gid: u32,
    pub pid: u32,
}

impl Caller {
    /// The same with its program's name, for the record.
    #[must_use]
    pub fn writer(self) -> Writer {
        let program = crate::render::clean(&process::name(self.pid).unwrap_or_default());
        Writer { uid: self.uid, pid: self.pid, program, by: By::Unknown, session: None }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    File,
    Dir,
    Symlink,
    Fifo,
    Socket,
    Char,
    Block,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attr {
    pub number: u64,
    pub kind: Kind,
    pub mode: u16,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u32,
    pub size: u64,
    pub blocks: u64,
    pub atime: SystemTime,
    pub mtime: SystemTime,
    pub ctime: SystemTime,
}

/// A real directory, open for `*at` calls.
pub(super) struct RealDir {
    pub file: Arc<File>,
    pub number: u64,
    pub queue: usize,
    pub path: PathBuf,
    pub view: View,
}

/// How long the kernel may cache a name and its attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lasting {
    pub name: Duration,
    pub facts: Duration,
}

impl Lasting {
    /// Queue directories change behind the mount.
    pub(super) const NOT: Self = Self { name: Duration::ZERO, facts: Duration::ZERO };
    /// Our own directories: their names are fixed while they exist, and only their times ever change, which may be
    /// shown a second late. Looking up each part of a path again took most of the time of reading a file (measured).
    pub(super) const DIR: Self = Self { name: NAME_LASTS, facts: Duration::from_secs(1) };
    /// A task's name may come to mean another task.
    pub(super) const TASK: Self = Self { name: Duration::ZERO, ..Self::DIR };
    /// Our own files. Whoever opens one whose size has changed makes the kernel drop the attributes (`Opened`).
    pub(super) const TEXT: Self = Self { name: NAME_LASTS, facts: MOMENT };
    /// Their size changes without notice.
    pub(super) const FROM_DISK: Self = Self { name: NAME_LASTS, facts: Duration::ZERO };
    /// A queue and its four directories, which nobody can move through the mount. Chosen: if it is done on the disk,
    /// look-ups by path find the new one after that time.
    pub(super) const QUEUE: Self = Self { name: Duration::from_millis(100), facts: MOMENT };
}

/// A lock whose holder panicked guards tables that are whole between statements.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What work may wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum For {
    /// The supervisor, and everything else of our own.
    Supervisor,
    /// The disk of a queue, by its place in the list.
    Queue(usize),
}

/// What an open gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    pub handle: u64,
    /// The kernel must not cache it: live text, and control files.
    pub direct: bool,
    /// Closing it does nothing.
    pub quiet: bool,
    /// A size reported before this may be wrong for the text of this open.
    pub size_changed: bool,
}

/// A time to set; `None` is now.
pub type SetTime = Option<SystemTime>;

/// What `setattr` changes.
#[derive(Debug, Clone, Copy, Default)]
pub struct SetAttr {
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub atime: Option<SetTime>,
    pub mtime: Option<SetTime>,
}

/// What a poll is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// Everything was read and nothing is new.
    Not,
    /// Reading gives something.
    ToRead,
    /// It has changed since it was opened or read: a read at offset 0 gives the new text.
    Changed,
    /// Its object is gone.
    Gone,
}

/// A rendered file.
#[derive(Debug, Clone)]
pub struct Text {
    pub bytes: Arc<[u8]>,
    /// The snapshot that it was made from.
    pub seq: u64,
    /// The time from which ages in it are computed.
    pub at: Timestamp,
}

impl Text {
    /// The event log before its first line.
    pub(super) fn empty() -> Self {
        Self { bytes: Arc::from([]), seq: 0, at: Timestamp::UNIX_EPOCH }
    }
}
