//! What is behind an open file: a variant for each kind of open.

use std::{
    ffi::OsString,
    fs::File,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use crate::{
    fs::ops::Kind,
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

    /// Whether it was written through this handle; what the kernel writes past us counts, as it can't be told.
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

#[derive(Debug)]
pub enum Handle {
    /// A rendered file; the bytes never change under a reader.
    Text(Arc<[u8]>),
    /// The event log, read where it stands on disk.
    Log {
        file: File,
        read_to: AtomicU64,
    },
    /// A control file: each write is whole. Reading gives the text as rendered at open.
    Control {
        scope: Scope,
        text: Arc<[u8]>,
    },
    Input {
        message: Message,
        text: Arc<[u8]>,
    },
    /// `writer` is who opened it for writing: the kernel doesn't say who closes it.
    Real {
        number: u64,
        file: Arc<RealFile>,
        writer: Option<Writer>,
    },
    Dir(Vec<DirEntry>),
    RealDir {
        number: u64,
        dir: Arc<File>,
        entries: Mutex<Vec<DirEntry>>,
    },
}
