//! A disk that stops answering, like a network disk: a small file system with a queue's directories and one task.
//! While hung, every request waits. Dropping it lets the disk answer again and removes it.
#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEntry, ReplyOpen, Request,
};

/// Names in the root; the task is in the first of them.
const DIRS: [&str; 4] = ["inbox", "drafts", "done", "failed"];
const TASK: (&str, u64, &[u8]) = ("far.md", 10, b"far away\n");
const TTL: Duration = Duration::ZERO;

#[derive(Default)]
struct Hung {
    now: Mutex<bool>,
    over: Condvar,
    waiting: AtomicUsize,
}

impl Hung {
    fn set(&self, now: bool) {
        *self.now.lock().expect("the state") = now;
        self.over.notify_all();
    }

    fn wait(&self) {
        let now = self.now.lock().expect("the state");
        self.waiting.fetch_add(usize::from(*now), Ordering::SeqCst);
        drop(self.over.wait_while(now, |now| *now).expect("the state"));
    }
}

struct Tree(Arc<Hung>);

fn attr(number: u64) -> Option<FileAttr> {
    let dir = number <= DIRS.len() as u64 + 1;
    (dir || number == TASK.1).then(|| FileAttr {
        ino: INodeNo(number),
        size: if dir { 0 } else { TASK.2.len() as u64 },
        blocks: 1,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: if dir { FileType::Directory } else { FileType::RegularFile },
        perm: if dir { 0o755 } else { 0o644 },
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    })
}

/// Each name of a directory with its number.
fn names(number: u64) -> Vec<(&'static str, u64)> {
    match number {
        1 => DIRS.into_iter().zip(2..).collect(),
        2 => vec![(TASK.0, TASK.1)],
        _ => Vec::new(),
    }
}

impl Filesystem for Tree {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.0.wait();
        let found = names(parent.0).into_iter().find(|(known, _)| name == *known);
        match found.and_then(|(_, number)| attr(number)) {
            Some(attr) => reply.entry(&TTL, &attr, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.0.wait();
        match attr(ino.0) {
            Some(attr) => reply.attr(&TTL, &attr),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        self.0.wait();
        reply.opened(FileHandle(0), FopenFlags::empty());
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        _: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.0.wait();
        let from = usize::try_from(offset).expect("small").min(TASK.2.len());
        reply.data(&TASK.2[from..]);
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        self.0.wait();
        for (n, (name, number)) in names(ino.0).into_iter().enumerate().skip(usize::try_from(offset).expect("small")) {
            let kind = if number == TASK.1 { FileType::RegularFile } else { FileType::Directory };
            if reply.add(INodeNo(number), n as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }
}

pub struct HungDisk {
    at: PathBuf,
    hung: Arc<Hung>,
    _session: BackgroundSession,
}

impl HungDisk {
    /// Mounts it; it answers.
    pub fn mount(at: &Path) -> Self {
        std::fs::create_dir_all(at).expect("a mount point");
        let hung = Arc::new(Hung::default());
        let session = fuser::spawn_mount(Tree(Arc::clone(&hung)), at, &Config::default()).expect("mounted");
        Self { at: at.to_owned(), hung, _session: session }
    }

    pub fn hang(&self) {
        self.hung.set(true);
    }

    /// Requests that have met the hung disk.
    pub fn waiting(&self) -> usize {
        self.hung.waiting.load(Ordering::SeqCst)
    }

    pub fn go_on(&self) {
        self.hung.set(false);
    }
}

impl Drop for HungDisk {
    fn drop(&mut self) {
        self.go_on();
        // Whoever still has something open there keeps it from going, not its directory.
        let _ = nix::mount::umount2(&self.at, nix::mount::MntFlags::MNT_DETACH);
    }
}
