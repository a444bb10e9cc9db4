//! Open file handles: one enum variant for each kind of open.

use std::{
    ffi::OsString,
    fs::File,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use jiff::Timestamp;

use crate::{
    fs::{
        log::Log,
        tree::Spot,
        words::{Kind, Text},
    },
    model::{
        command::{Scope, Writer},
        ids::SessionName,
    },
};

/// An entry of a directory as it was when it was opened.
#[derive(Debug, Clone)]
pub struct DirEntry {
    pub number: u64,
    pub kind: Kind,
    pub name: OsString,
}

/// An open real file.
#[derive(Debug)]
pub struct RealFile {
    pub file: File,
    pub writable: bool,
    /// Written since it was last put on disk.
    pub dirty: AtomicBool,
    /// Written since it was opened.
    pub wrote: AtomicBool,
    /// The kernel writes past us (`passthrough`): it may be dirty at any time.
    pub unseen: AtomicBool,
    /// Made by this open; its name is not on disk yet.
    pub name_pending: AtomicBool,
    /// Putting it on disk failed once: what the kernel then says of it can't be trusted any more.
    pub lost: AtomicBool,
}

impl RealFile {
    #[must_use]
    pub fn new(file: File, writable: bool, created: bool) -> Self {
        Self {
            file,
            writable,
            dirty: AtomicBool::new(false),
            wrote: AtomicBool::new(false),
            unseen: AtomicBool::new(false),
            name_pending: AtomicBool::new(created),
            lost: AtomicBool::new(false),
        }
    }

    pub fn mark_written(&self) {
        self.dirty.store(true, Ordering::SeqCst);
        self.wrote.store(true, Ordering::SeqCst);
    }

    /// Whether it was written through this handle; with passthrough, assumed, since it can't be seen.
    pub fn was_written(&self) -> bool {
        self.wrote.load(Ordering::SeqCst) || self.writable && self.unseen.load(Ordering::SeqCst)
    }

    /// Takes the mark off. What is written unseen leaves none, but an empty file has nothing that could be lost.
    pub fn take_dirty(&self) -> bool {
        let unseen = self.writable && self.unseen.load(Ordering::SeqCst);
        self.dirty.swap(false, Ordering::SeqCst)
            || unseen && !self.file.metadata().is_ok_and(|meta| std::os::unix::fs::MetadataExt::size(&meta) == 0)
    }
}

/// Text on its way to an agent: one message, delivered when the last descriptor is closed.
#[derive(Debug)]
pub struct Message {
    pub session: SessionName,
    pub text: Mutex<Vec<u8>>,
    pub writer: Writer,
}

/// A rendered file as one open of it shows it.
#[derive(Debug)]
pub struct Shown {
    pub spot: Spot,
    pub text: Mutex<ShownText>,
}

#[derive(Debug)]
pub struct ShownText {
    pub bytes: Arc<[u8]>,
    /// The last snapshot that it was found to match.
    pub seq: u64,
    /// The time from which ages in it are computed.
    pub at: Timestamp,
    pub read_to: usize,
    /// A poll has reported a newer text, which the next read at offset 0 returns.
    pub renew: bool,
}

impl Shown {
    #[must_use]
    pub fn new(spot: Spot, text: Text) -> Self {
        let Text { bytes, seq, at } = text;
        Self { spot, text: Mutex::new(ShownText { bytes, seq, at, read_to: 0, renew: false }) }
    }
}

impl ShownText {
    pub fn show(&mut self, text: Text) {
        let Text { bytes, seq, at } = text;
        *self = Self { bytes, seq, at, read_to: 0, renew: false };
    }
}

#[derive(Debug)]
pub enum Handle {
    /// A rendered file; its bytes never change under a reader that was not notified.
    Text(Shown),
    /// The event log, read directly from disk.
    Log(Mutex<Log>),
    /// A control file: each write is whole. Reading gives the text as rendered at open.
    Control {
        scope: Scope,
        shown: Shown,
    },
    Input {
        message: Message,
        text: Arc<[u8]>,
    },
    /// `writer` is who opened it for writing, or who closed a descriptor of it with fewer rights: descriptors can be
    /// passed on.
    Real {
        number: u64,
        file: Arc<RealFile>,
        writer: Option<Mutex<Writer>>,
    },
    Dir(Vec<DirEntry>),
    RealDir {
        number: u64,
        dir: Arc<File>,
        entries: Mutex<Vec<DirEntry>>,
    },
}
