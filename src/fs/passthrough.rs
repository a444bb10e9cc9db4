//! FUSE passthrough: the kernel reads, writes and maps the real file behind an open one without the daemon
//! (`FUSE_PASSTHROUGH`, Linux 6.9 and root).
//! On open and close of real files, registers a backing id, or falls back to the ordinary path. Owns the backing ids.
//! Everything but data still goes through the daemon.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use fuser::BackingId;

use crate::fs::words::lock;

/// All opens of a file at one time are alike and share one word: the kernel refuses a mixture.
#[derive(Debug, Default)]
struct Shared {
    /// Set by the first open; another that comes meanwhile waits for it.
    word: Arc<OnceLock<Option<Arc<BackingId>>>>,
    opens: usize,
}

#[derive(Debug, Default)]
pub struct Passthrough {
    /// Whether it is worth asking. Never on again once it is off, so a file's opens stay alike.
    on: AtomicBool,
    files: Mutex<HashMap<u64, Shared>>,
}

impl Passthrough {
    /// The kernel can.
    pub fn enable(&self) {
        self.on.store(true, Ordering::SeqCst);
    }

    /// A real file is being opened; `ask` asks the kernel for its word.
    pub fn opened(&self, number: u64, ask: impl FnOnce() -> io::Result<BackingId>) -> Option<Arc<BackingId>> {
        let word = {
            let mut files = lock(&self.files);
            if !self.on.load(Ordering::SeqCst) && !files.contains_key(&number) {
                return None;
            }
            let shared = files.entry(number).or_default();
            shared.opens += 1;
            Arc::clone(&shared.word)
        };
        // Two opens at once must not get two words; and a disk that doesn't answer holds up the opens of that file only.
        word.get_or_init(|| self.ask(ask)).clone()
    }

    /// It is closed.
    pub fn closed(&self, number: u64) {
        let mut files = lock(&self.files);
        let Some(shared) = files.get_mut(&number) else { return };
        shared.opens -= 1;
        if shared.opens == 0 {
            files.remove(&number);
        }
    }

    fn ask(&self, ask: impl FnOnce() -> io::Result<BackingId>) -> Option<Arc<BackingId>> {
        match ask() {
            Ok(word) => Some(Arc::new(word)),
            Err(error) => {
                // The right to it, which won't come; other reasons are one file's.
                if error.kind() == io::ErrorKind::PermissionDenied {
                    self.on.store(false, Ordering::SeqCst);
                }
                tracing::debug!(%error, "file data goes through the daemon");
                None
            }
        }
    }
}
