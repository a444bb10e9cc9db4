//! Opens the real queue directories before mounting; afterwards reaches them by descriptor only.
//! Takes a queue and a path below it; returns descriptors and facts. Never follows a symbolic link and never leaves a
//! queue directory: the kernel refuses both (`RESOLVE_BENEATH`, `RESOLVE_NO_SYMLINKS`).

use std::{
    ffi::{CStr, CString, OsStr},
    fs::File,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2},
    sys::stat::Mode,
};

use crate::{
    config::queue,
    fs::{
        error::FsError,
        words::{Attr, FSTYPE, Kind},
    },
    linux::{
        mountinfo::places_of,
        statx::{device_numbers, statx},
    },
    model::ids::ProjectName,
};

/// They are at the root for the first project, can't be removed through the mount, and changes in them are durable.
pub use crate::config::queue::DIRS as QUEUE_DIRS;

/// Longest path that the kernel takes at once, with its NUL (linux/limits.h).
const PATH_MAX: usize = libc::PATH_MAX as usize;

/// One project's `.agent-queue`.
#[derive(Debug)]
pub struct Queue {
    pub project: ProjectName,
    pub path: PathBuf,
    /// The file system that it lies on.
    pub device: u64,
    root: RwLock<Arc<OwnedFd>>,
}

/// Identifies a file, also against a later one with the same inode number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileId {
    dev: u64,
    ino: u64,
    /// Birth in nanoseconds; 0 where the file system has none.
    born: u128,
}

impl FileId {
    #[must_use]
    pub fn device(&self) -> u64 {
        self.dev
    }

    #[must_use]
    pub fn number(&self) -> u64 {
        self.ino
    }
}

/// A file's metadata by statx(2): everything in one call, also by name in a directory.
pub struct Facts(libc::statx);

impl Facts {
    pub fn of(file: &impl AsFd) -> Result<Self, FsError> {
        Self::ask(file.as_fd(), c"", libc::AT_EMPTY_PATH)
    }

    /// The metadata of a name; of a symbolic link itself.
    pub fn at(dir: &impl AsFd, name: &OsStr) -> Result<Self, FsError> {
        let name = CString::new(name.as_bytes()).map_err(|_| FsError::Invalid)?;
        Self::ask(dir.as_fd(), &name, libc::AT_SYMLINK_NOFOLLOW)
    }

    fn ask(dir: BorrowedFd<'_>, name: &CStr, flags: i32) -> Result<Self, FsError> {
        match statx(dir, name, flags, libc::STATX_BASIC_STATS | libc::STATX_BTIME) {
            Ok(facts) => Ok(Self(facts)),
            Err(Errno::ENOENT) => Err(FsError::NoEntry),
            Err(errno) => Err(FsError::system("stat", errno)),
        }
    }

    #[must_use]
    pub fn id(&self) -> FileId {
        let at = self.0.stx_btime;
        let has = self.0.stx_mask & libc::STATX_BTIME != 0;
        let born = time(&at).duration_since(UNIX_EPOCH).ok().filter(|_| has);
        let dev = libc::makedev(self.0.stx_dev_major, self.0.stx_dev_minor);
        FileId { dev, ino: self.0.stx_ino, born: born.map_or(0, |since| since.as_nanos()) }
    }

    #[must_use]
    pub fn is_dir(&self) -> bool {
        self.kind() == Kind::Dir
    }

    #[must_use]
    pub fn is_file(&self) -> bool {
        self.kind() == Kind::File
    }

    #[must_use]
    pub fn links(&self) -> u32 {
        self.0.stx_nlink
    }

    fn kind(&self) -> Kind {
        match u32::from(self.0.stx_mode) & libc::S_IFMT {
            libc::S_IFDIR => Kind::Dir,
            libc::S_IFLNK => Kind::Symlink,
            libc::S_IFIFO => Kind::Fifo,
            libc::S_IFSOCK => Kind::Socket,
            libc::S_IFCHR => Kind::Char,
            libc::S_IFBLK => Kind::Block,
            _ => Kind::File,
        }
    }

    #[must_use]
    pub fn attr(&self, number: u64) -> Attr {
        let Self(facts) = self;
        Attr {
            number,
            kind: self.kind(),
            mode: facts.stx_mode & 0o7777,
            nlink: facts.stx_nlink,
            uid: facts.stx_uid,
            gid: facts.stx_gid,
            rdev: u32::try_from(libc::makedev(facts.stx_rdev_major, facts.stx_rdev_minor)).unwrap_or(0),
            size: facts.stx_size,
            blocks: facts.stx_blocks,
            atime: time(&facts.stx_atime),
            mtime: time(&facts.stx_mtime),
            ctime: time(&facts.stx_ctime),
        }
    }
}

/// Before 1970 the nanoseconds go forward too.
fn time(at: &libc::statx_timestamp) -> SystemTime {
    let (whole, nanos) = (Duration::from_secs(at.tv_sec.unsigned_abs()), Duration::from_nanos(at.tv_nsec.into()));
    let base = if at.tv_sec < 0 { UNIX_EPOCH - whole } else { UNIX_EPOCH + whole };
    base + nanos
}

impl Queue {
    /// Opens the queue directory and makes what is missing of its four.
    ///
    /// # Errors
    /// When the directory can't be made or opened.
    pub fn open(project: ProjectName, path: &Path) -> Result<Self, std::io::Error> {
        std::fs::create_dir_all(path)?;
        let path = path.canonicalize()?;
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = nix::fcntl::openat(AT_FDCWD, &path, flags, Mode::empty())?;
        queue::make_dirs(&root)?;
        let device = nix::sys::stat::fstat(&root)?.st_dev;
        Ok(Self { project, path, device, root: RwLock::new(Arc::new(root)) })
    }

    /// Opens `path` below the queue; the empty path is the queue itself. Doesn't follow a symbolic link.
    pub fn open_at(&self, path: &Path, flags: OFlag) -> Result<File, FsError> {
        let mut rest = if path.as_os_str().is_empty() { b"." } else { path.as_os_str().as_bytes() };
        let root = self.root();
        let mut passed = None;
        while rest.len() >= PATH_MAX
            && let Some(cut) = rest[..PATH_MAX].iter().rposition(|byte| *byte == b'/')
        {
            let from = passed.as_ref().map_or(root.as_fd(), AsFd::as_fd);
            passed = Some(step(from, &rest[..cut], OFlag::O_PATH | OFlag::O_DIRECTORY)?);
            rest = &rest[cut + 1..];
        }
        step(passed.as_ref().map_or(root.as_fd(), AsFd::as_fd), rest, flags)
    }

    /// The queue directory; when it was removed and made again, the new one.
    pub fn root(&self) -> Arc<OwnedFd> {
        let root = Arc::clone(&self.root.read().unwrap_or_else(PoisonError::into_inner));
        let is_there = nix::sys::stat::fstat(&root).is_ok_and(|facts| facts.st_nlink > 0);
        if is_there { root } else { self.find_again().unwrap_or(root) }
    }

    /// Opens what is at the queue's path now, but not our own mount over it.
    pub fn find_again(&self) -> Result<Arc<OwnedFd>, Errno> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let root = File::from(nix::fcntl::openat(AT_FDCWD, &self.path, flags, Mode::empty())?);
        refuse_own_mount(&root)?;
        let root = Arc::new(OwnedFd::from(root));
        *self.root.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&root);
        Ok(root)
    }

    /// Makes again what is missing of the queue: somebody looks for it. Answers whether it is there then.
    pub fn heal(&self) -> bool {
        let lost = nix::sys::stat::fstat(self.root()).is_ok_and(|facts| facts.st_nlink == 0);
        let root = if lost && std::fs::create_dir(&self.path).is_ok() { self.find_again().ok() } else { None };
        queue::heal(root.unwrap_or_else(|| self.root())).is_ok()
    }

    /// Device and inode of the directory that is shown.
    pub fn identity(&self) -> Option<(u64, u64)> {
        let facts = nix::sys::stat::fstat(self.root()).ok()?;
        Some((facts.st_dev, facts.st_ino))
    }
}

/// Opens a path of acceptable length below a directory.
pub(super) fn step(from: BorrowedFd<'_>, path: &[u8], flags: OFlag) -> Result<File, FsError> {
    match resolve(from, path, flags, ResolveFlag::RESOLVE_NO_XDEV) {
        Err(Errno::EXDEV) => past_mounts(from, path, flags),
        other => other,
    }
    .map_err(|errno| if errno == Errno::ENOENT { FsError::NoEntry } else { FsError::system("open", errno) })
}

/// Something is mounted on the way. Our own mount must not be entered: its server would wait for itself.
fn past_mounts(from: BorrowedFd<'_>, path: &[u8], flags: OFlag) -> Result<File, Errno> {
    let mut dir: Option<File> = None;
    for (cut, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
        let name = &path[path[..cut].iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1)..cut];
        let next = resolve(dir.as_ref().map_or(from, AsFd::as_fd), name, OFlag::O_PATH, ResolveFlag::empty())?;
        refuse_own_mount(&next)?;
        dir = Some(next);
    }
    let from = dir.as_ref().map_or(from, AsFd::as_fd);
    let name = &path[path.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1)..];
    refuse_own_mount(&resolve(from, name, OFlag::O_PATH, ResolveFlag::empty())?)?;
    resolve(from, name, flags, ResolveFlag::empty())
}

fn refuse_own_mount(file: &File) -> Result<(), Errno> {
    // From memory: asking for more would be a request to ourselves.
    let (major, minor) = device_numbers(file)?;
    if places_of(&format!("{major}:{minor}"), FSTYPE).is_empty() { Ok(()) } else { Err(Errno::ELOOP) }
}

fn resolve(from: BorrowedFd<'_>, path: &[u8], flags: OFlag, more: ResolveFlag) -> Result<File, Errno> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | more);
    loop {
        match openat2(from, path, how) {
            Ok(fd) => return Ok(File::from(fd)),
            // A rename elsewhere disturbed the walk.
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Puts a directory's names on disk. `dir` may be open by path only.
pub(super) fn sync_dir(dir: &File) -> Result<(), FsError> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let lost = |errno| FsError::NotDurable { what: "the directory", errno };
    let open = nix::fcntl::openat(dir, ".", flags, Mode::empty()).map_err(lost)?;
    nix::unistd::fsync(&open).map_err(lost)
}

/// A path that reaches exactly the file behind a descriptor, symbolic links included.
#[must_use]
pub fn proc_path(fd: &impl AsRawFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Whether `name` can be one component of a path.
#[must_use]
pub fn is_component(name: &OsStr) -> bool {
    let bytes = name.as_encoded_bytes();
    !bytes.is_empty() && !bytes.contains(&b'/') && !bytes.contains(&0) && bytes != b"." && bytes != b".."
}
