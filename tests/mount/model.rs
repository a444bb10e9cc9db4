//! Model test: the same random operations on the mount and on a plain directory give equal outcomes and equal trees.
//!
//! `PROPTEST_CASES` sets how many (for each kind of mount). Inherent differences are in `differs`.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    ffi::{CString, OsStr},
    fs::File,
    os::{
        fd::{AsRawFd as _, FromRawFd as _},
        unix::{
            ffi::OsStrExt as _,
            fs::{FileExt as _, FileTypeExt, MetadataExt as _, PermissionsExt as _},
        },
    },
    path::{Path, PathBuf},
};

use nix::errno::Errno;
use proptest::{
    prelude::*,
    test_runner::{Config, TestCaseError, TestRunner},
};

use crate::world::World;

/// Cases served by one mount, well within its watchdog's time.
const CASES_A_WORLD: u32 = 25;

#[derive(Debug, Clone)]
enum Op {
    Open {
        slot: usize,
        path: String,
        flags: i32,
        mode: u32,
    },
    Close {
        slot: usize,
    },
    Write {
        slot: usize,
        at: Option<u16>,
        length: u16,
        byte: u8,
    },
    Read {
        slot: usize,
        at: Option<u16>,
        length: u16,
    },
    Seek {
        slot: usize,
        to: i32,
        whence: i32,
    },
    Truncate {
        path: String,
        length: i32,
    },
    SetAppend {
        slot: usize,
    },
    TruncateOpen {
        slot: usize,
        length: u16,
    },
    Allocate {
        slot: usize,
        mode: i32,
        at: u16,
        length: u16,
    },
    Copy {
        from: (usize, u16),
        to: (usize, u16),
        length: u16,
    },
    MapWrite {
        slot: usize,
        at: u16,
        length: u16,
        byte: u8,
    },
    Sync {
        slot: usize,
    },
    Rename {
        from: String,
        to: String,
        flags: u32,
    },
    Link {
        from: String,
        to: String,
        follow: bool,
    },
    Symlink {
        target: String,
        path: String,
    },
    ReadLink {
        path: String,
    },
    Mkdir {
        path: String,
        mode: u32,
    },
    MakeNode {
        path: String,
        kind: u32,
    },
    Rmdir {
        path: String,
    },
    Unlink {
        path: String,
    },
    Chmod {
        path: String,
        mode: u32,
    },
    ChmodOpen {
        slot: usize,
        mode: u32,
    },
    Utimes {
        path: String,
        times: [(i32, u32); 2],
        follow: bool,
    },
    SetXattr {
        path: String,
        name: usize,
        length: u16,
        flags: i32,
    },
    GetXattr {
        path: String,
        name: usize,
        room: usize,
    },
    ListXattr {
        path: String,
    },
    RemoveXattr {
        path: String,
        name: usize,
    },
    Stat {
        path: String,
    },
    StatOpen {
        slot: usize,
    },
    List {
        path: String,
    },
    /// Lists `path`, carrying out `between` after the first entries.
    ListDuring {
        path: String,
        between: Box<Op>,
    },
}

const SLOTS: usize = 3;
const XATTRS: [&str; 3] = ["user.a", "user.b", "user."];

/// One side: a directory of its own and the files open in it.
struct Side {
    root: PathBuf,
    open: [Option<File>; SLOTS],
}

impl Side {
    fn new(above: &Path) -> Self {
        // Links may lead a few directories up.
        let root = above.join("u/v/w");
        std::fs::create_dir_all(&root).expect("a root");
        Self { root, open: Default::default() }
    }

    fn path(&self, path: &str) -> CString {
        // `?` stands for a byte that is no UTF-8.
        let bytes: Vec<u8> = path.bytes().map(|byte| if byte == b'?' { 0xff } else { byte }).collect();
        CString::new(self.root.join(OsStr::from_bytes(&bytes)).as_os_str().as_bytes()).expect("a path")
    }

    fn slot(&self, slot: usize) -> Result<&File, Errno> {
        self.open[slot].as_ref().ok_or(Errno::EBADF)
    }

    /// Carries it out; answers what the caller would see.
    fn run(&mut self, op: &Op) -> Result<String, Errno> {
        // SAFETY (of every call below): strings end in NUL, descriptors are open, buffers are as long as told.
        match op {
            Op::Open { slot, path, flags, mode } => {
                let path = self.path(path);
                self.open[*slot] = None;
                let flags = flags | libc::O_CLOEXEC | libc::O_NONBLOCK;
                let fd = Errno::result(unsafe { libc::open(path.as_ptr(), flags, *mode) })?;
                self.open[*slot] = Some(unsafe { File::from_raw_fd(fd) });
                Ok(String::new())
            }
            Op::Close { slot } => {
                let file = self.open[*slot].take().ok_or(Errno::EBADF)?;
                Errno::result(unsafe { libc::close(std::os::fd::IntoRawFd::into_raw_fd(file)) }).map(text)
            }
            Op::Write { slot, at, length, byte } => {
                let (file, data) = (self.slot(*slot)?, vec![*byte; (*length).into()]);
                match at {
                    Some(at) => raw(file.write_at(&data, (*at).into())).map(text),
                    None => raw(std::io::Write::write(&mut &*file, &data)).map(text),
                }
            }
            Op::Read { slot, at, length } => {
                let (file, mut data) = (self.slot(*slot)?, vec![0; (*length).into()]);
                let read = match at {
                    Some(at) => raw(file.read_at(&mut data, (*at).into()))?,
                    None => raw(std::io::Read::read(&mut &*file, &mut data))?,
                };
                Ok(runs(&data[..read]))
            }
            Op::Seek { slot, to, whence } => {
                let file = self.slot(*slot)?;
                // Places in a directory are each file system's own numbers.
                if raw(file.metadata())?.is_dir() {
                    return Ok(String::new());
                }
                let fd = file.as_raw_fd();
                Errno::result(unsafe { libc::lseek(fd, (*to).into(), *whence) }).map(text)
            }
            Op::Truncate { path, length } => {
                Errno::result(unsafe { libc::truncate(self.path(path).as_ptr(), (*length).into()) }).map(text)
            }
            // Not taken off again: where the kernel handles the data, it keeps the flag that the file was opened with.
            Op::SetAppend { slot } => {
                let fd = self.slot(*slot)?.as_raw_fd();
                Errno::result(unsafe { libc::fcntl(fd, libc::F_SETFL, libc::O_APPEND) }).map(text)
            }
            Op::TruncateOpen { slot, length } => {
                let fd = self.slot(*slot)?.as_raw_fd();
                Errno::result(unsafe { libc::ftruncate(fd, (*length).into()) }).map(text)
            }
            Op::Allocate { slot, mode, at, length } => {
                let fd = self.slot(*slot)?.as_raw_fd();
                Errno::result(unsafe { libc::fallocate(fd, *mode, (*at).into(), (*length).into()) }).map(text)
            }
            Op::Copy { from, to, length } => {
                let (source, target) = (self.slot(from.0)?.as_raw_fd(), self.slot(to.0)?.as_raw_fd());
                let (mut at, mut into) = (i64::from(from.1), i64::from(to.1));
                let copied =
                    unsafe { libc::copy_file_range(source, &raw mut at, target, &raw mut into, (*length).into(), 0) };
                Errno::result(copied).map(text)
            }
            Op::MapWrite { slot, at, length, byte } => {
                let file = self.slot(*slot)?;
                let size = raw(file.metadata())?.len();
                // Past the end is a SIGBUS.
                if size < u64::from(*at) + u64::from(*length) || *length == 0 {
                    return Ok("past the end".into());
                }
                let size = usize::try_from(size).expect("a size");
                unsafe {
                    let (rights, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
                    let map = libc::mmap(std::ptr::null_mut(), size, rights, shared, file.as_raw_fd(), 0);
                    if map == libc::MAP_FAILED {
                        return Err(Errno::last());
                    }
                    libc::memset(map.byte_add((*at).into()), i32::from(*byte), (*length).into());
                    let done = Errno::result(libc::msync(map, size, libc::MS_SYNC)).map(text);
                    libc::munmap(map, size);
                    done
                }
            }
            Op::Sync { slot } => Errno::result(unsafe { libc::fsync(self.slot(*slot)?.as_raw_fd()) }).map(text),
            Op::Rename { from, to, flags } => {
                let (from, to, here) = (self.path(from), self.path(to), libc::AT_FDCWD);
                Errno::result(unsafe { libc::renameat2(here, from.as_ptr(), here, to.as_ptr(), *flags) }).map(text)
            }
            Op::Link { from, to, follow } => {
                let (from, to, here) = (self.path(from), self.path(to), libc::AT_FDCWD);
                let flags = if *follow { libc::AT_SYMLINK_FOLLOW } else { 0 };
                Errno::result(unsafe { libc::linkat(here, from.as_ptr(), here, to.as_ptr(), flags) }).map(text)
            }
            Op::Symlink { target, path } => {
                let target = CString::new(target.as_str()).expect("a target");
                Errno::result(unsafe { libc::symlink(target.as_ptr(), self.path(path).as_ptr()) }).map(text)
            }
            Op::ReadLink { path } => {
                let target = raw(std::fs::read_link(OsStr::from_bytes(self.path(path).as_bytes())))?;
                Ok(target.display().to_string())
            }
            Op::Mkdir { path, mode } => {
                Errno::result(unsafe { libc::mkdir(self.path(path).as_ptr(), *mode) }).map(text)
            }
            Op::MakeNode { path, kind } => {
                Errno::result(unsafe { libc::mknod(self.path(path).as_ptr(), kind | 0o640, 0) }).map(text)
            }
            Op::Rmdir { path } => Errno::result(unsafe { libc::rmdir(self.path(path).as_ptr()) }).map(text),
            Op::Unlink { path } => Errno::result(unsafe { libc::unlink(self.path(path).as_ptr()) }).map(text),
            Op::Chmod { path, mode } => {
                Errno::result(unsafe { libc::chmod(self.path(path).as_ptr(), *mode) }).map(text)
            }
            Op::ChmodOpen { slot, mode } => {
                Errno::result(unsafe { libc::fchmod(self.slot(*slot)?.as_raw_fd(), *mode) }).map(text)
            }
            Op::Utimes { path, times, follow } => {
                let spec =
                    |(seconds, nanos): (i32, u32)| libc::timespec { tv_sec: seconds.into(), tv_nsec: nanos.into() };
                let times = times.map(spec);
                let flags = if *follow { 0 } else { libc::AT_SYMLINK_NOFOLLOW };
                let path = self.path(path);
                Errno::result(unsafe { libc::utimensat(libc::AT_FDCWD, path.as_ptr(), times.as_ptr(), flags) })
                    .map(text)
            }
            Op::SetXattr { path, name, length, flags } => {
                let (path, name, value) = (self.path(path), xattr(*name), vec![b'v'; (*length).into()]);
                let value = (value.as_ptr().cast(), value.len());
                Errno::result(unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), value.0, value.1, *flags) })
                    .map(text)
            }
            Op::GetXattr { path, name, room } => {
                let (path, name, mut value) = (self.path(path), xattr(*name), vec![0_u8; *room]);
                let size = unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), *room) };
                Errno::result(size).map(|size| format!("{size} {}", runs(&value)))
            }
            Op::ListXattr { path } => {
                let (path, mut names) = (self.path(path), [0_u8; 256]);
                let size = Errno::result(unsafe { libc::listxattr(path.as_ptr(), names.as_mut_ptr().cast(), 256) })?;
                let names = &names[..usize::try_from(size).expect("a size")];
                Ok(names
                    .split(|byte| *byte == 0)
                    .map(|name| String::from_utf8_lossy(name))
                    .collect::<BTreeSet<_>>()
                    .into_iter()
                    .collect::<Vec<_>>()
                    .join(" "))
            }
            Op::RemoveXattr { path, name } => {
                Errno::result(unsafe { libc::removexattr(self.path(path).as_ptr(), xattr(*name).as_ptr()) }).map(text)
            }
            Op::Stat { path } => {
                raw(std::fs::metadata(OsStr::from_bytes(self.path(path).as_bytes()))).map(|meta| facts(&meta))
            }
            Op::StatOpen { slot } => raw(self.slot(*slot)?.metadata()).map(|meta| facts(&meta)),
            Op::List { path } => {
                let entries = raw(std::fs::read_dir(OsStr::from_bytes(self.path(path).as_bytes())))?;
                let mut names = BTreeSet::new();
                for entry in entries {
                    let entry = raw(entry)?;
                    let kind = raw(entry.file_type())?;
                    names.insert(format!("{:?} {kind:?}", entry.file_name()));
                }
                Ok(format!("{names:?}"))
            }
            Op::ListDuring { path, between } => self.list_during(path, between),
        }
    }

    /// What was there before and after must be listed, and nothing twice.
    fn list_during(&mut self, path: &str, between: &Op) -> Result<String, Errno> {
        let dir = PathBuf::from(OsStr::from_bytes(self.path(path).as_bytes()));
        let names = || raw(std::fs::read_dir(&dir)).map(|all| all.flatten().map(|entry| entry.file_name()).collect());
        let before: BTreeSet<_> = names()?;
        let mut listing = raw(std::fs::read_dir(&dir))?;
        let mut seen = Vec::new();
        seen.extend(listing.next().and_then(Result::ok).map(|entry| entry.file_name()));
        let outcome = self.run(between);
        for entry in listing {
            seen.push(raw(entry)?.file_name());
        }
        let after: BTreeSet<_> = names().unwrap_or_default();
        let all = seen.len();
        let seen: BTreeSet<_> = seen.into_iter().collect();
        assert_eq!(seen.len(), all, "an entry was listed twice");
        assert!(before.intersection(&after).all(|name| seen.contains(name)), "{before:?} {seen:?} {after:?}");
        Ok(format!("{outcome:?}"))
    }

    /// The whole tree, one entry a line.
    fn tree(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut left = vec![self.root.clone()];
        while let Some(dir) = left.pop() {
            for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
                let path = entry.path();
                let meta = std::fs::symlink_metadata(&path).expect("facts");
                let what = if meta.is_dir() {
                    left.push(path.clone());
                    String::new()
                } else if meta.is_symlink() {
                    format!("{:?}", std::fs::read_link(&path))
                } else if meta.is_file() {
                    std::fs::read(&path).map_or_else(|error| error.to_string(), |data| runs(&data))
                } else {
                    String::new()
                };
                let name = path.strip_prefix(&self.root).expect("below");
                lines.push(format!("{name:?} {} {what}", facts(&meta)));
            }
        }
        lines.sort();
        lines
    }

    fn end(self, above: &Path) {
        let mut left = vec![above.to_owned()];
        while let Some(dir) = left.pop() {
            let _ = std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700));
            let dirs = std::fs::read_dir(&dir).into_iter().flatten().flatten();
            left.extend(
                dirs.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()),
            );
        }
        std::fs::remove_dir_all(above).expect("cleared");
    }
}

fn raw<T>(result: std::io::Result<T>) -> Result<T, Errno> {
    result.map_err(|error| error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw))
}

fn text(number: impl ToString) -> String {
    number.to_string()
}

fn xattr(name: usize) -> CString {
    CString::new(XATTRS[name]).expect("a name")
}

/// Equal bytes in a row as their number: short, and says where sides differ.
fn runs(data: &[u8]) -> String {
    data.chunk_by(|a, b| a == b).map(|run| format!("{}*{} ", run[0], run.len())).collect()
}

/// What must be equal. Times of today are nobody's choice; old ones were set.
fn facts(meta: &std::fs::Metadata) -> String {
    let changed =
        if meta.mtime() > 1_500_000_000 { "new".to_owned() } else { format!("{}.{}", meta.mtime(), meta.mtime_nsec()) };
    // What is written into a pipe is no file's: FUSE has no call that would tell the server of it.
    let changed = if meta.file_type().is_fifo() { "pipe".to_owned() } else { changed };
    let size = if meta.is_dir() { 0 } else { meta.len() };
    format!("{:o} links {} owner {}:{} size {size} {changed}", meta.mode(), meta.nlink(), meta.uid(), meta.gid())
}

/// What differs by nature: FUSE (fuser 0.18) has no such call and says so wherever the plain directory would do it.
fn differs(op: &Op) -> Option<Errno> {
    match op {
        Op::Open { flags, .. } if flags & libc::O_TMPFILE == libc::O_TMPFILE => Some(Errno::EOPNOTSUPP),
        _ => None,
    }
}

fn path() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec!["a", "b", "c", "d"]);
    prop_oneof![
        8 => name.clone().prop_map(str::to_owned),
        6 => (name.clone(), name.clone()).prop_map(|(one, two)| format!("{one}/{two}")),
        2 => (name.clone(), name.clone(), name).prop_map(|(one, two, three)| format!("{one}/{two}/{three}")),
        1 => prop::sample::select(vec!["a/", "b/.", "a/..", ".", "a/../b", "n?me", "new\nline", "a//b"]).prop_map(str::to_owned),
        1 => prop::sample::select(vec![255_usize, 256]).prop_map(|length| "n".repeat(length)),
    ]
}

fn flags() -> impl Strategy<Value = i32> {
    let access = prop::sample::select(vec![libc::O_RDONLY, libc::O_WRONLY, libc::O_RDWR, libc::O_RDWR]);
    let more = prop::sample::subsequence(
        vec![
            libc::O_CREAT,
            libc::O_CREAT,
            libc::O_EXCL,
            libc::O_TRUNC,
            libc::O_APPEND,
            libc::O_NOFOLLOW,
            libc::O_DIRECTORY,
        ],
        0..4,
    );
    let normal = (access, more).prop_map(|(access, more)| more.into_iter().fold(access, |all, flag| all | flag));
    prop_oneof![20 => normal, 1 => Just(libc::O_TMPFILE | libc::O_RDWR), 2 => Just(libc::O_PATH)]
}

fn op() -> BoxedStrategy<Op> {
    let slot = || 0..SLOTS;
    let mode = || prop::sample::select(vec![0o644, 0o600, 0o755, 0o4755, 0o2755, 0o1777, 0o000, 0o400]);
    let length = || prop_oneof![0_u16..40, 4000_u16..4200, 0_u16..20000];
    let at = || prop::option::of(length());
    let name = || 0..XATTRS.len();
    let time = || {
        let set = (-5_i32..1_000_000_000, 0_u32..1_000_000_000);
        prop_oneof![4 => set, 1 => Just((0, 0x3fff_fffe)), 1 => Just((0, 0x3fff_ffff)), 1 => Just((0, 1_000_000_000))]
    };
    let whence =
        prop::sample::select(vec![libc::SEEK_SET, libc::SEEK_CUR, libc::SEEK_END, libc::SEEK_DATA, libc::SEEK_HOLE]);
    let allocate = prop::sample::select(vec![0, 0, 1, 2, 3, 0x10, 0x11]);
    let target = prop::sample::select(vec!["a", "b", "../a", "../b", "a/b", "missing", "d", "", "."]);
    let kind = prop::sample::select(vec![libc::S_IFIFO, libc::S_IFSOCK, libc::S_IFREG, libc::S_IFDIR]);
    let base = prop_oneof![
        10 => (slot(), path(), flags(), mode()).prop_map(|(slot, path, flags, mode)| Op::Open { slot, path, flags, mode }),
        2 => slot().prop_map(|slot| Op::Close { slot }),
        8 => (slot(), at(), length(), any::<u8>()).prop_map(|(slot, at, length, byte)| Op::Write { slot, at, length, byte }),
        6 => (slot(), at(), length()).prop_map(|(slot, at, length)| Op::Read { slot, at, length }),
        3 => (slot(), -10_i32..20000, whence).prop_map(|(slot, to, whence)| Op::Seek { slot, to, whence }),
        2 => (path(), -1_i32..9000).prop_map(|(path, length)| Op::Truncate { path, length }),
        1 => slot().prop_map(|slot| Op::SetAppend { slot }),
        3 => (slot(), length()).prop_map(|(slot, length)| Op::TruncateOpen { slot, length }),
        3 => (slot(), allocate, length(), length()).prop_map(|(slot, mode, at, length)| Op::Allocate { slot, mode, at, length }),
        3 => ((slot(), length()), (slot(), length()), length()).prop_map(|(from, to, length)| Op::Copy { from, to, length }),
        3 => (slot(), length(), length(), any::<u8>()).prop_map(|(slot, at, length, byte)| Op::MapWrite { slot, at, length, byte }),
        1 => slot().prop_map(|slot| Op::Sync { slot }),
        8 => (path(), path(), prop::sample::select(vec![0, 0, 1, 2, 3, 8])).prop_map(|(from, to, flags)| Op::Rename { from, to, flags }),
        3 => (path(), path(), any::<bool>()).prop_map(|(from, to, follow)| Op::Link { from, to, follow }),
        3 => (target, path()).prop_map(|(target, path)| Op::Symlink { target: target.to_owned(), path }),
        1 => path().prop_map(|path| Op::ReadLink { path }),
        5 => (path(), mode()).prop_map(|(path, mode)| Op::Mkdir { path, mode: mode | 0o700 }),
        1 => (path(), kind).prop_map(|(path, kind)| Op::MakeNode { path, kind }),
        3 => path().prop_map(|path| Op::Rmdir { path }),
        4 => path().prop_map(|path| Op::Unlink { path }),
        2 => (path(), mode()).prop_map(|(path, mode)| Op::Chmod { path, mode }),
        1 => (slot(), mode()).prop_map(|(slot, mode)| Op::ChmodOpen { slot, mode }),
        3 => (path(), [time(), time()], any::<bool>()).prop_map(|(path, times, follow)| Op::Utimes { path, times, follow }),
        3 => (path(), name(), 0_u16..300, 0..4).prop_map(|(path, name, length, flags)| Op::SetXattr { path, name, length, flags }),
        2 => (path(), name(), prop::sample::select(vec![0_usize, 10, 300])).prop_map(|(path, name, room)| Op::GetXattr { path, name, room }),
        1 => path().prop_map(|path| Op::ListXattr { path }),
        1 => (path(), name()).prop_map(|(path, name)| Op::RemoveXattr { path, name }),
        3 => path().prop_map(|path| Op::Stat { path }),
        2 => slot().prop_map(|slot| Op::StatOpen { slot }),
        2 => path().prop_map(|path| Op::List { path }),
    ];
    let base = base.boxed();
    let during =
        (prop_oneof![Just(".".to_owned()), path()], base.clone().prop_filter("differs", |op| differs(op).is_none()))
            .prop_map(|(path, between)| Op::ListDuring { path, between: Box::new(between) });
    prop_oneof![20 => base, 1 => during].boxed()
}

fn check(world: &World, ops: &[Op]) -> Result<(), TestCaseError> {
    let (mounted, plain) = (world.mnt().join("projects/web/case"), world.dir.path().join("case"));
    let (mut ours, mut theirs) = (Side::new(&mounted), Side::new(&plain));
    let mut result = Ok(());
    for (step, op) in ops.iter().enumerate() {
        let (our, mut their) = (ours.run(op), theirs.run(op));
        if let (Some(errno), Ok(_), Op::Open { slot, .. }) = (differs(op), &their, op) {
            theirs.open[*slot] = None;
            their = Err(errno);
        }
        if our != their {
            result = Err(TestCaseError::fail(format!("step {step} {op:?}\nmount: {our:?}\nplain: {their:?}")));
            break;
        }
    }
    if result.is_ok() {
        let (our, their) = (ours.tree(), theirs.tree());
        if our != their {
            result = Err(TestCaseError::fail(format!("trees\nmount: {our:#?}\nplain: {their:#?}")));
        }
    }
    ours.end(&mounted);
    theirs.end(&plain);
    result
}

fn compare(variables: &[(&str, &str)]) {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(100);
    let world = RefCell::new((World::with(variables), 0));
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 2000, ..Config::default() };
    let ops = prop::collection::vec(op(), 1..60);
    let outcome = TestRunner::new(config).run(&ops, |ops| {
        let mut world = world.borrow_mut();
        world.1 += 1;
        if u32::is_multiple_of(world.1, CASES_A_WORLD) {
            world.0 = World::with(variables);
        }
        check(&world.0, &ops)
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

#[test]
fn the_mount_does_what_a_plain_directory_does() {
    compare(&[]);
}

#[test]
fn so_it_does_where_data_goes_through_the_server() {
    compare(&[("MOUNT_ORDINARY", "1")]);
}
