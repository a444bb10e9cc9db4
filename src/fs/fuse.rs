//! The FUSE adapter, and the only file that speaks the protocol: translates requests to `Ops` and replies. A panic
//! below answers EIO and the mount keeps running.

use std::{
    ffi::OsStr,
    fs::File,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, Mutex, OnceLock, atomic::Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use fuser::{
    BackingId, CopyFileRangeFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    InitFlags, IoctlFlags, KernelConfig, LockOwner, Notifier, OpenFlags, PollEvents, PollFlags, PollNotifier,
    RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry,
    ReplyIoctl, ReplyLseek, ReplyOpen, ReplyPoll, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use crate::fs::{
    error::FsError,
    ops::Ops,
    passthrough::Passthrough,
    real::proc_path,
    repeat::{GHOST_HANDLE, Shows, Table, ghost_attr, is_ghost},
    slow::{Place, Slow},
    waiters::Waiters,
    words::{Attr, Caller, For, Kind, MOMENT, Opened, Ready, SetAttr, UNKNOWN_NUMBER, lock},
};

/// Attributes are cached only where `Lasting` says so: the queue directories change behind the mount.
const TTL: Duration = Duration::ZERO;
/// Always 0: inode numbers are never reused (`nodes`), so none needs a generation.
const GENERATION: Generation = Generation(0);
/// Largest write in one request: 256 pages, the kernel's default maximum (`FUSE_MAX_MAX_PAGES`, fs/fuse).
const WRITE_MAX: u32 = 1024 * 1024;
/// The queues may be on a file system that is itself stacked on another (overlayfs), as in containers. The kernel's
/// own maximum (`FILESYSTEM_MAX_STACK_DEPTH`, linux/fs.h).
const STACK_MAX: u32 = 2;

/// Of an entry of a listing with facts that has none. The kernel shows name and kind of an entry whose size can't be true, and
/// looks it up when somebody asks (`fuse_invalid_attr` in its fs/fuse/readdir.c). Without a number `readdir(3)` would skip it.
const NO_FACTS: FileAttr = FileAttr {
    ino: INodeNo(UNKNOWN_NUMBER),
    size: u64::MAX,
    blocks: 0,
    atime: UNIX_EPOCH,
    mtime: UNIX_EPOCH,
    ctime: UNIX_EPOCH,
    crtime: UNIX_EPOCH,
    kind: FileType::Directory,
    perm: 0,
    nlink: 0,
    uid: 0,
    gid: 0,
    rdev: 0,
    blksize: 0,
    flags: 0,
};

#[derive(Clone)]
pub struct Adapter {
    ops: Arc<Ops>,
    waiters: Arc<Waiters>,
    passthrough: Arc<Passthrough>,
    repeats: Arc<Table>,
    slow: Slow,
    /// Set when there is a connection to the kernel.
    notifier: Arc<OnceLock<Notifier>>,
}

impl Adapter {
    pub fn new(ops: Arc<Ops>, waiters: Arc<Waiters>, repeats: Arc<Table>, notifier: Arc<OnceLock<Notifier>>) -> Self {
        let slow = Slow::new(ops.queues.len());
        Self { ops, waiters, passthrough: Arc::default(), repeats, slow, notifier }
    }

    /// Makes the kernel request this inode's attributes again. Attributes only: dropping data here could deadlock.
    fn forget_facts(&self, ino: INodeNo) {
        if let Some(notifier) = self.notifier.get() {
            // What it doesn't know it has forgotten.
            let _ = notifier.inval_inode(ino, -1, 0);
        }
    }

    /// Carries out and answers what changes something, and so may wait for a disk or a verb.
    fn slowly(&self, ino: INodeNo, request: impl FnOnce(&Self) + Send + 'static) {
        self.slowly_for(self.ops.waits_for(ino.0).unwrap_or(For::Supervisor), request);
    }

    /// Carries out and answers a look at what is on a disk, or else in memory.
    fn looks(&self, waits_for: Option<For>, request: impl FnOnce(&Self) + Send + 'static) {
        match waits_for {
            Some(what) => self.slowly_for(what, request),
            None => request(self),
        }
    }

    /// A request that nobody has a place for answers EIO when it is dropped.
    fn slowly_for(&self, what: For, request: impl FnOnce(&Self) + Send + 'static) {
        self.carry_out(self.slow.begin(what), request);
    }

    /// The same for what the kernel asks while it keeps others in the whole mount waiting: it looks names up and renames under
    /// one lock (`lock_rename`). When the time is up the reply is dropped, which is EIO, and the request finds none.
    fn in_time<R: Send + 'static>(
        &self,
        what: For,
        reply: R,
        request: impl FnOnce(&Self, &Mutex<Option<R>>) + Send + 'static,
    ) {
        let reply = Arc::new(Mutex::new(Some(reply)));
        let mut place = self.slow.begin(what);
        if let Place::Here(under_way) | Place::Aside(under_way) = &mut place {
            let reply = Arc::clone(&reply);
            under_way.in_time(move || drop(lock(&reply).take()));
        }
        self.carry_out(place, move |this| request(this, &reply));
    }

    fn carry_out(&self, place: Place, request: impl FnOnce(&Self) + Send + 'static) {
        match place {
            Place::Here(_under_way) => request(self),
            Place::Aside(under_way) => {
                let this = self.clone();
                let work = move || {
                    request(&this);
                    drop(under_way);
                };
                if let Err(error) = std::thread::Builder::new().name("slow".to_owned()).spawn(work) {
                    tracing::error!(%error, "no thread for a request: its caller gets an error");
                }
            }
            Place::Full => tracing::error!("too many requests wait for the disk or for verbs; one more gets an error"),
        }
    }

    /// The kernel's word for an open real file whose data it handles itself.
    fn backing(
        &self,
        ino: INodeNo,
        handle: u64,
        ask: impl FnOnce(&File) -> io::Result<BackingId>,
    ) -> Option<Arc<BackingId>> {
        let real = self.ops.real_handle(handle)?;
        // The kernel opens the file anew for each open and needs this one as a name. It keeps it until a killed daemon's mount is
        // gone, which may be long: one that is open for writing would look like a writer all the while.
        let word = self
            .passthrough
            .opened(ino.0, || if real.writable { ask(&File::open(proc_path(&real.file))?) } else { ask(&real.file) })?;
        real.unseen.store(true, Ordering::SeqCst);
        Some(word)
    }

    fn looked_up(&self, reply: ReplyEntry, result: Result<Attr, Errno>) {
        match result {
            Ok(attr) => {
                let lasting = self.ops.lasting(attr.number);
                let facts = lasting.facts.max(MOMENT);
                reply.entry_with_ttls(&facts, &lasting.name, &file_attr(attr), GENERATION);
            }
            Err(errno) => reply.error(errno),
        }
    }

    /// What the repeater is to see at a name that its present call is about; `None` for everybody else.
    fn shown(&self, request: &Request, parent: u64, name: &OsStr) -> Option<Result<Attr, Errno>> {
        Some(match self.repeats.sight(request.pid(), parent, name)? {
            Shows::Nothing => Err(Errno::ENOENT),
            Shows::Ghost(kind) => Ok(self.repeats.ghost(kind)),
            Shows::Former(number) => Ok(self.ops.former(number).unwrap_or_else(|| self.repeats.ghost(Kind::File))),
        })
    }

    /// The repeater's changes are answered and not made.
    fn pretends(&self, request: &Request) -> Option<Kind> {
        self.repeats.pretends(request.pid())
    }

    /// Runs one operation; a panic in it is an error like any other.
    fn run<T>(&self, what: &'static str, operation: impl FnOnce(&Ops) -> Result<T, FsError>) -> Result<T, Errno> {
        let result = catch_unwind(AssertUnwindSafe(|| operation(&self.ops))).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            Err(FsError::Panicked(text.unwrap_or_else(|| "a panic without words".to_owned())))
        });
        result.map_err(|error| {
            match error.level() {
                tracing::Level::ERROR => tracing::error!(what, %error, "mount"),
                tracing::Level::INFO => tracing::info!(what, %error, "mount"),
                _ => tracing::debug!(what, %error, "mount"),
            }
            Errno::from_i32(error.errno())
        })
    }
}

fn caller(request: &Request) -> Caller {
    Caller { uid: request.uid(), gid: request.gid(), pid: request.pid() }
}

/// fuser 0.18 takes the nanoseconds of a time before 1970 for a part of the way back (`system_time_from_time`): undone here.
fn as_sent(at: SystemTime) -> SystemTime {
    match UNIX_EPOCH.duration_since(at) {
        Ok(before) => {
            UNIX_EPOCH - Duration::from_secs(before.as_secs()) + Duration::from_nanos(before.subsec_nanos().into())
        }
        Err(_) => at,
    }
}

fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Dir => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::NamedPipe,
        Kind::Socket => FileType::Socket,
        Kind::Char => FileType::CharDevice,
        Kind::Block => FileType::BlockDevice,
    }
}

fn file_attr(attr: Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(attr.number),
        size: attr.size,
        blocks: attr.blocks,
        atime: attr.atime,
        mtime: attr.mtime,
        ctime: attr.ctime,
        crtime: attr.ctime,
        kind: file_type(attr.kind),
        perm: attr.mode,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev,
        blksize: 4096,
        flags: 0,
    }
}

fn entry(reply: ReplyEntry, result: Result<Attr, Errno>) {
    match result {
        Ok(attr) => reply.entry_with_ttls(&MOMENT, &TTL, &file_attr(attr), GENERATION),
        Err(errno) => reply.error(errno),
    }
}

fn empty(reply: ReplyEmpty, result: Result<(), Errno>) {
    match result {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

fn attr(reply: ReplyAttr, result: Result<Attr, Errno>) {
    match result {
        Ok(attr) => reply.attr(&TTL, &file_attr(attr)),
        Err(errno) => reply.error(errno),
    }
}

/// Answers as `getxattr(2)` does: the size when the caller gave no room.
fn xattr(reply: ReplyXattr, size: u32, result: Result<Vec<u8>, Errno>) {
    match result {
        Ok(value) if size == 0 => reply.size(u32::try_from(value.len()).unwrap_or(u32::MAX)),
        Ok(value) if value.len() <= size as usize => reply.data(&value),
        Ok(_) => reply.error(Errno::from_i32(FsError::Range.errno())),
        Err(errno) => reply.error(errno),
    }
}

fn open_flags(opened: Opened) -> FopenFlags {
    let mut flags = FopenFlags::empty();
    flags.set(FopenFlags::FOPEN_DIRECT_IO, opened.direct);
    flags.set(FopenFlags::FOPEN_NOFLUSH, opened.quiet);
    flags
}

impl Filesystem for Adapter {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // The page cache is dropped when size or mtime change: files change behind the mount.
        let _ = config.add_capabilities(InitFlags::FUSE_AUTO_INVAL_DATA);
        let _ = config.add_capabilities(InitFlags::FUSE_PARALLEL_DIROPS);
        // Facts come with a listing when it is followed by looks at what it lists (`ls -l`).
        let _ = config.add_capabilities(InitFlags::FUSE_DO_READDIRPLUS | InitFlags::FUSE_READDIRPLUS_AUTO);
        let _ = config.set_max_write(WRITE_MAX);
        // Reads of a disk that answers nothing must not take the places of all others (`fuse_get_req` counts reads ahead).
        let _ = config.set_max_background(u16::MAX);
        let _ = config.set_congestion_threshold(u16::MAX);
        if config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok() && config.set_max_stack_depth(STACK_MAX).is_ok()
        {
            self.passthrough.enable();
        }
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if let Some(shown) = self.shown(request, parent.0, name) {
            return entry(reply, shown);
        }
        let Some(what) = self.ops.lookup_waits_for(parent.0, name) else {
            let result = self.run("lookup", |ops| ops.lookup(parent.0, name));
            return self.looked_up(reply, result);
        };
        let name = name.to_owned();
        self.in_time(what, reply, move |this, reply| {
            let result = this.run("lookup", |ops| ops.lookup(parent.0, &name));
            match (lock(reply).take(), result) {
                (Some(reply), result) => this.looked_up(reply, result),
                (None, Ok(attr)) => this.ops.forget(attr.number, 1),
                (None, Err(_)) => {}
            }
        });
    }

    fn forget(&self, _: &Request, ino: INodeNo, nlookup: u64) {
        self.ops.forget(ino.0, nlookup);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, fh: Option<FileHandle>, reply: ReplyAttr) {
        if is_ghost(ino.0) {
            return attr(reply, Ok(ghost_attr(ino.0)));
        }
        let looked = move |this: &Self, reply: &Mutex<Option<ReplyAttr>>| {
            let result = this.run("getattr", |ops| ops.getattr(ino.0, fh.map(|fh| fh.0)));
            match (lock(reply).take(), result) {
                (Some(reply), Ok(attr)) => reply.attr(&this.ops.lasting(ino.0).facts, &file_attr(attr)),
                (Some(reply), Err(errno)) => reply.error(errno),
                (None, _) => {}
            }
        };
        // The kernel asks it of a directory before it renames in it, too.
        match self.ops.waits_for(ino.0) {
            Some(what) => self.in_time(what, reply, looked),
            None => looked(self, &Mutex::new(Some(reply))),
        }
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let time = |time: TimeOrNow| match time {
            TimeOrNow::SpecificTime(at) => Some(as_sent(at)),
            TimeOrNow::Now => None,
        };
        let set = SetAttr { mode, uid, gid, size, atime: atime.map(time), mtime: mtime.map(time) };
        let caller = caller(request);
        self.slowly(ino, move |this| {
            attr(reply, this.run("setattr", |ops| ops.setattr(ino.0, set, fh.map(|fh| fh.0), caller)));
        });
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        self.looks(self.ops.waits_for(ino.0), move |this| match this.run("readlink", |ops| ops.readlink(ino.0)) {
            Ok(target) => reply.data(target.as_os_str().as_encoded_bytes()),
            Err(errno) => reply.error(errno),
        });
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        if let Some(kind) = self.pretends(request) {
            return entry(reply, Ok(self.repeats.ghost(kind)));
        }
        let (name, caller) = (name.to_owned(), caller(request));
        self.slowly(parent, move |this| {
            entry(reply, this.run("mknod", |ops| ops.mknod(parent.0, &name, mode, rdev, caller)));
        });
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, _umask: u32, reply: ReplyEntry) {
        if let Some(kind) = self.pretends(request) {
            return entry(reply, Ok(self.repeats.ghost(kind)));
        }
        let (name, caller) = (name.to_owned(), caller(request));
        self.slowly(parent, move |this| {
            entry(reply, this.run("mkdir", |ops| ops.mkdir(parent.0, &name, mode, caller)));
        });
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        if self.pretends(request).is_some() {
            return reply.ok();
        }
        let (name, caller) = (name.to_owned(), caller(request));
        self.slowly(parent, move |this| {
            empty(reply, this.run("unlink", |ops| ops.unlink(parent.0, &name, caller)));
        });
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        if self.pretends(request).is_some() {
            return reply.ok();
        }
        let (name, caller) = (name.to_owned(), caller(request));
        self.slowly(parent, move |this| {
            empty(reply, this.run("rmdir", |ops| ops.rmdir(parent.0, &name, caller)));
        });
    }

    fn symlink(&self, request: &Request, parent: INodeNo, link_name: &OsStr, target: &Path, reply: ReplyEntry) {
        let (name, target, caller) = (link_name.to_owned(), target.to_owned(), caller(request));
        self.slowly(parent, move |this| {
            entry(reply, this.run("symlink", |ops| ops.symlink(parent.0, &name, &target, caller)));
        });
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if self.pretends(request).is_some() {
            return reply.ok();
        }
        let (name, newname, caller) = (name.to_owned(), newname.to_owned(), caller(request));
        let what = self.ops.waits_for(parent.0).unwrap_or(For::Supervisor);
        self.in_time(what, reply, move |this, reply| {
            let (from, to) = ((parent.0, name.as_os_str()), (newparent.0, newname.as_os_str()));
            let result = this.run("rename", |ops| ops.rename(from, to, flags.bits(), caller));
            if let Some(reply) = lock(reply).take() {
                empty(reply, result);
            }
        });
    }

    fn link(&self, request: &Request, ino: INodeNo, newparent: INodeNo, newname: &OsStr, reply: ReplyEntry) {
        let (name, caller) = (newname.to_owned(), caller(request));
        self.slowly(newparent, move |this| {
            entry(reply, this.run("link", |ops| ops.link(ino.0, newparent.0, &name, caller)));
        });
    }

    fn open(&self, request: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if is_ghost(ino.0) {
            return reply.opened(FileHandle(GHOST_HANDLE), FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_NOFLUSH);
        }
        let caller = caller(request);
        self.looks(self.ops.waits_for(ino.0), move |this| {
            match this.run("open", |ops| ops.open(ino.0, flags.0, caller)) {
                Ok(opened) => {
                    if opened.size_changed {
                        this.forget_facts(ino);
                    }
                    let handle = FileHandle(opened.handle);
                    match this.backing(ino, opened.handle, |file| reply.open_backing(file)) {
                        Some(word) => reply.opened_passthrough(handle, open_flags(opened), &word),
                        None => reply.opened(handle, open_flags(opened)),
                    }
                }
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.looks(self.ops.waits_for(ino.0), move |this| {
            match this.run("read", |ops| ops.read(fh.0, offset, size as usize)) {
                Ok(data) => reply.data(&data),
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn write(
        &self,
        request: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        if fh.0 == GHOST_HANDLE {
            return reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX));
        }
        // A mapped page has its place, whatever the file was opened with.
        let append = flags.0 & libc::O_APPEND != 0 && !write_flags.contains(WriteFlags::FUSE_WRITE_CACHE);
        let (data, caller) = (data.to_owned(), caller(request));
        self.slowly(ino, move |this| match this.run("write", |ops| ops.write(fh.0, offset, &data, append, caller)) {
            Ok(written) => reply.written(u32::try_from(written).unwrap_or(u32::MAX)),
            Err(errno) => reply.error(errno),
        });
    }

    fn flush(&self, request: &Request, ino: INodeNo, fh: FileHandle, _lock_owner: LockOwner, reply: ReplyEmpty) {
        let caller = caller(request);
        self.slowly(ino, move |this| {
            empty(reply, this.run("flush", |ops| ops.flush(fh.0, caller)));
        });
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        if fh.0 == GHOST_HANDLE {
            return reply.ok();
        }
        self.waiters.remove(fh.0);
        self.passthrough.closed(ino.0);
        self.slowly(ino, move |this| {
            empty(reply, this.run("release", |ops| ops.release(fh.0)));
        });
    }

    fn fsync(&self, _: &Request, ino: INodeNo, fh: FileHandle, datasync: bool, reply: ReplyEmpty) {
        self.slowly(ino, move |this| {
            empty(reply, this.run("fsync", |ops| ops.fsync(fh.0, datasync)));
        });
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        self.looks(self.ops.waits_for(ino.0), move |this| match this.run("opendir", |ops| ops.opendir(ino.0)) {
            Ok(handle) => reply.opened(FileHandle(handle), FopenFlags::empty()),
            Err(errno) => reply.error(errno),
        });
    }

    fn readdir(&self, _: &Request, ino: INodeNo, fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        self.looks(self.ops.waits_for(ino.0), move |this| {
            let result = this.run("readdir", |ops| {
                ops.readdir(fh.0, offset, |number, next, kind, name| {
                    reply.add(INodeNo(number), next, file_type(kind), name)
                })
            });
            match result {
                Ok(()) => reply.ok(),
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn readdirplus(&self, _: &Request, ino: INodeNo, fh: FileHandle, offset: u64, mut reply: ReplyDirectoryPlus) {
        self.looks(self.ops.waits_for(ino.0), move |this| {
            let result = this.run("readdirplus", |ops| {
                ops.readdir_with_facts(ino.0, fh.0, offset, |next, kind, name, facts| match facts {
                    Some(attr) => {
                        let facts = file_attr(attr);
                        reply.add(facts.ino, next, name, &MOMENT, &facts, GENERATION)
                    }
                    None => {
                        let facts = FileAttr { kind: file_type(kind), ..NO_FACTS };
                        reply.add(facts.ino, next, name, &TTL, &facts, GENERATION)
                    }
                })
            });
            match result {
                Ok(()) => reply.ok(),
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn releasedir(&self, _: &Request, _ino: INodeNo, fh: FileHandle, _flags: OpenFlags, reply: ReplyEmpty) {
        self.ops.releasedir(fh.0);
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        self.slowly(ino, move |this| {
            empty(reply, this.run("fsyncdir", |ops| ops.fsyncdir(fh.0)));
        });
    }

    fn statfs(&self, _: &Request, ino: INodeNo, reply: ReplyStatfs) {
        self.looks(self.ops.waits_for(ino.0), move |this| match this.run("statfs", |ops| ops.statfs(ino.0)) {
            Ok(Some(s)) => {
                let narrow = |size: u64| u32::try_from(size).unwrap_or(u32::MAX);
                reply.statfs(
                    s.blocks(),
                    s.blocks_free(),
                    s.blocks_available(),
                    s.files(),
                    s.files_free(),
                    narrow(s.block_size()),
                    narrow(s.name_max()),
                    narrow(s.fragment_size()),
                );
            }
            Ok(None) => reply.statfs(0, 0, 0, 0, 0, 4096, 255, 4096),
            Err(errno) => reply.error(errno),
        });
    }

    fn setxattr(
        &self,
        _: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let (name, value) = (name.to_owned(), value.to_owned());
        self.slowly(ino, move |this| {
            empty(reply, this.run("setxattr", |ops| ops.setxattr(ino.0, &name, &value, flags)));
        });
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let name = name.to_owned();
        self.looks(self.ops.waits_for(ino.0), move |this| {
            xattr(reply, size, this.run("getxattr", |ops| ops.getxattr(ino.0, &name)));
        });
    }

    fn listxattr(&self, _: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        self.looks(self.ops.waits_for(ino.0), move |this| {
            xattr(reply, size, this.run("listxattr", |ops| ops.listxattr(ino.0)));
        });
    }

    fn removexattr(&self, _: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = name.to_owned();
        self.slowly(ino, move |this| {
            empty(reply, this.run("removexattr", |ops| ops.removexattr(ino.0, &name)));
        });
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let (name, caller) = (name.to_owned(), caller(request));
        self.slowly(parent, move |this| {
            match this.run("create", |ops| ops.create(parent.0, &name, mode, flags, caller)) {
                Ok((attr, opened)) => {
                    let handle = FileHandle(opened.handle);
                    let facts = file_attr(attr);
                    match this.backing(facts.ino, opened.handle, |file| reply.open_backing(file)) {
                        Some(word) => {
                            reply.created_passthrough(&TTL, &facts, GENERATION, handle, open_flags(opened), &word);
                        }
                        None => reply.created(&TTL, &facts, GENERATION, handle, open_flags(opened)),
                    }
                }
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn poll(
        &self,
        _: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        ph: PollNotifier,
        events: PollEvents,
        flags: PollFlags,
        reply: ReplyPoll,
    ) {
        if flags.contains(PollFlags::FUSE_POLL_SCHEDULE_NOTIFY) {
            // Before looking, so that no news falls between the look and the wait.
            self.waiters.add(fh.0, ph);
        }
        let writable = PollEvents::POLLOUT | PollEvents::POLLWRNORM;
        let readable = PollEvents::POLLIN | PollEvents::POLLRDNORM;
        match self.run("poll", |ops| ops.is_ready(fh.0)) {
            Ok(Ready::Not) => reply.poll(events & writable),
            Ok(Ready::ToRead) => reply.poll(events & (readable | writable)),
            Ok(Ready::Changed) => reply.poll(events & (readable | writable | PollEvents::POLLPRI)),
            Ok(Ready::Gone) => reply.poll((events & readable) | PollEvents::POLLHUP),
            Err(errno) => reply.error(errno),
        }
    }

    /// A program that asks whether a file is a terminal, at each open (Python, Perl), and what else a device can be asked.
    fn ioctl(
        &self,
        _: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        _cmd: u32,
        _in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOTTY);
    }

    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        self.slowly(ino, move |this| {
            empty(reply, this.run("fallocate", |ops| ops.fallocate(fh.0, offset, length, mode)));
        });
    }

    fn lseek(&self, _: &Request, ino: INodeNo, fh: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        self.looks(self.ops.waits_for(ino.0), move |this| {
            match this.run("lseek", |ops| ops.lseek(fh.0, offset, whence)) {
                Ok(offset) => reply.offset(offset),
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn copy_file_range(
        &self,
        _: &Request,
        _ino_in: INodeNo,
        fh_in: FileHandle,
        offset_in: u64,
        ino_out: INodeNo,
        fh_out: FileHandle,
        offset_out: u64,
        len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        // The answer has 32 bits; a shorter copy is a right one.
        let len = len.min(0x4000_0000);
        self.slowly(ino_out, move |this| {
            match this.run("copy", |ops| ops.copy_range((fh_in.0, offset_in), (fh_out.0, offset_out), len)) {
                Ok(copied) => reply.written(u32::try_from(copied).unwrap_or(u32::MAX)),
                Err(errno) => reply.error(errno),
            }
        });
    }
}
