//! The daemon's state directory (port `StateStore`): checkpoint, journal, `events.jsonl`.
//! Takes bytes; writes durable files, private from their first byte. Knows nothing of their contents.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use jiff::Timestamp;

use crate::{
    linux::dirs::{Over, open_dir, rename_new, sweep, write_whole},
    model::journal::Stored,
    ports::StateStore,
};

pub const CHECKPOINT: &str = "state.json";
pub const JOURNAL: &str = "state.journal";
/// A directory.
const TEXTS: &str = "runs";
const EVENTS: &str = "events.jsonl";
/// The event log that was set aside.
const EARLIER_EVENTS: &str = "events.1.jsonl";

#[derive(Clone)]
pub struct StateDir {
    path: PathBuf,
    /// `None` before the first checkpoint: what an earlier daemon left is not added to.
    journal: Arc<Mutex<Option<Journal>>>,
    events: Arc<Mutex<File>>,
    events_len: Arc<AtomicU64>,
}

struct Journal {
    file: File,
    /// Up to here it is whole.
    len: u64,
    /// A failed record may follow.
    torn: bool,
}

impl Journal {
    fn append(&mut self, record: &[u8], durable: bool) -> io::Result<u64> {
        self.cut()?;
        self.torn = true;
        let written = self.file.write_all(record);
        if let Err(error) = written.and_then(|()| if durable { self.file.sync_data() } else { Ok(()) }) {
            // Who is told that it failed must not find it after a crash; what can't be cut now is cut before the next one.
            let _ = self.cut();
            return Err(error);
        }
        self.torn = false;
        self.len += record.len() as u64;
        Ok(self.len)
    }

    fn cut(&mut self) -> io::Result<()> {
        if self.torn {
            self.file.set_len(self.len)?;
            self.torn = false;
        }
        Ok(())
    }
}

impl StateDir {
    /// Makes the directory (0700) where missing and touches nothing in it.
    ///
    /// # Errors
    /// When it can't be made, or somebody else could change what is in it.
    pub fn make(path: &Path) -> io::Result<()> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let facts = path.symlink_metadata()?;
        let (own, shown) = (nix::unistd::geteuid().as_raw(), path.display());
        let why = if facts.is_symlink() {
            let to = path.canonicalize().map_or_else(|_| "another place".to_owned(), |to| to.display().to_string());
            format!("it is a symbolic link to {to}; name that directory itself in $STATE_DIRECTORY or $XDG_STATE_HOME")
        } else if facts.uid() != own {
            format!(
                "it belongs to user {}, and the daemon runs as {own}: chown {own} {shown}, or use another",
                facts.uid()
            )
        } else if facts.mode() & 0o022 != 0 {
            format!("others can write into it (mode {:04o}): chmod 700 {shown}", facts.mode() & 0o7777)
        } else {
            return Ok(());
        };
        Err(io::Error::other(why))
    }

    /// Opens the directory, making it (0700) where missing. Whoever opens it holds its lock: an earlier daemon's
    /// unfinished files are removed.
    ///
    /// # Errors
    /// When it can't be made or written.
    pub fn open(path: &Path) -> io::Result<Self> {
        for dir in [path.to_owned(), path.join("hooks")] {
            Self::make(&dir)?;
        }
        let events = open_events(path)?;
        let len = events.metadata()?.len();
        let names = std::fs::read_dir(path)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        sweep(open_dir(path)?, names.collect::<Vec<_>>().into_iter());
        Ok(Self {
            path: path.to_owned(),
            journal: Arc::default(),
            events: Arc::new(Mutex::new(events)),
            events_len: Arc::new(AtomicU64::new(len)),
        })
    }

    /// The event log, for readers, and its length so far in bytes: whole lines only.
    #[must_use]
    pub fn events(&self) -> (PathBuf, u64) {
        (self.path.join(EVENTS), self.events_len.load(Ordering::Acquire))
    }

    async fn run<T: Send + 'static>(&self, job: impl FnOnce(&Self) -> io::Result<T> + Send + 'static) -> io::Result<T> {
        let this = self.clone();
        tokio::task::spawn_blocking(move || job(&this)).await.map_err(|error| io::Error::other(error.to_string()))?
    }
}

/// What is saved in a state directory. Of a running daemon's, checkpoint and journal belong together: when another checkpoint
/// came between, both are read again.
///
/// # Errors
/// When either is there and can't be read.
pub fn read(dir: &Path) -> io::Result<Stored> {
    let bytes = |name: &str| match std::fs::read(dir.join(name)) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    let mut checkpoint = bytes(CHECKPOINT)?;
    loop {
        let journal = bytes(JOURNAL)?.unwrap_or_default();
        let again = bytes(CHECKPOINT)?;
        if again == checkpoint {
            return Ok(Stored { checkpoint, journal, texts: texts(dir)? });
        }
        checkpoint = again;
    }
}

/// The texts of runs that a daemon up to 0.5.0 left.
fn texts(dir: &Path) -> io::Result<BTreeMap<String, String>> {
    let entries = match std::fs::read_dir(dir.join(TEXTS)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        entries => entries?,
    };
    let text = |entry: io::Result<std::fs::DirEntry>| {
        let path = entry.ok()?.path();
        // What can't be read is looked for in the inbox.
        Some((path.file_stem()?.to_str()?.to_owned(), std::fs::read_to_string(&path).ok()?))
    };
    Ok(entries.filter_map(text).collect())
}

/// Sets checkpoint and journal aside, as `NAME.WORD.1` and so on; for whoever holds the directory's lock. The checkpoint goes first:
/// a journal alone is no state.
///
/// # Errors
/// When one of them is there and can't be renamed.
pub fn set_aside(path: &Path, word: &str) -> io::Result<String> {
    let dir = open_dir(path)?;
    let names = |n: u32| [CHECKPOINT, JOURNAL, TEXTS].map(|name| (name, format!("{name}.{word}.{n}")));
    let is_free = |(_, name): &(&str, String)| path.join(name).symlink_metadata().is_err();
    let free = (1..).map(names).find(|names| names.iter().all(is_free));
    let mut aside = Vec::new();
    for (name, to) in free.into_iter().flatten() {
        match rename_new(&dir, name, &dir, &to) {
            Ok(()) => aside.push(to),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(aside.join(" and "))
}

/// A file that is added to; nobody else may read it, from its first byte on.
fn open_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).read(true).mode(0o600).open(path)
}

fn open_events(dir: &Path) -> io::Result<File> {
    open_private(&dir.join(EVENTS))
}

fn broken_lock<T>(_: T) -> io::Error {
    io::Error::other("a lock of the state directory is broken")
}

#[async_trait]
impl StateStore for StateDir {
    async fn load(&self) -> io::Result<Stored> {
        self.run(|this| read(&this.path)).await
    }

    async fn append(&self, record: &[u8], durable: bool) -> io::Result<u64> {
        let record = record.to_vec();
        self.run(move |this| {
            let mut journal = this.journal.lock().map_err(broken_lock)?;
            let journal = journal.as_mut().ok_or_else(|| io::Error::other("no checkpoint was written yet"))?;
            journal.append(&record, durable)
        })
        .await
    }

    async fn checkpoint(&self, state: &[u8]) -> io::Result<()> {
        let state = state.to_vec();
        self.run(move |this| {
            let mut journal = this.journal.lock().map_err(broken_lock)?;
            *journal = None;
            let file = open_private(&this.path.join(JOURNAL))?;
            // Puts the names of both on disk. Should it end here: every record of the journal is in the checkpoint.
            write_whole(open_dir(&this.path)?, CHECKPOINT, &state, Over::Replace)?;
            file.set_len(0)?;
            // So are the texts.
            let _ = std::fs::remove_dir_all(this.path.join(TEXTS));
            *journal = Some(Journal { file, len: 0, torn: false });
            Ok(())
        })
        .await
    }

    async fn set_aside(&self) -> io::Result<String> {
        self.run(|this| {
            *this.journal.lock().map_err(broken_lock)? = None;
            set_aside(&this.path, "unreadable")
        })
        .await
    }

    async fn append_events(&self, lines: &str) -> io::Result<()> {
        let lines = lines.to_owned();
        self.run(move |this| {
            let mut events = this.events.lock().map_err(broken_lock)?;
            let before = events.metadata()?.len();
            if let Err(error) = events.write_all(lines.as_bytes()) {
                // A torn line must not stay: the lines are written again.
                let _ = events.set_len(before);
                return Err(error);
            }
            this.events_len.store(before + lines.len() as u64, Ordering::Release);
            Ok(())
        })
        .await
    }

    async fn events_log(&self) -> io::Result<(u64, Timestamp)> {
        self.run(|this| {
            let meta = this.events.lock().map_err(broken_lock)?.metadata()?;
            Ok((meta.len(), Timestamp::try_from(meta.modified()?).map_err(io::Error::other)?))
        })
        .await
    }

    async fn rotate_events(&self) -> io::Result<()> {
        self.run(|this| {
            let mut events = this.events.lock().map_err(broken_lock)?;
            std::fs::rename(this.path.join(EVENTS), this.path.join(EARLIER_EVENTS))?;
            *events = open_events(&this.path)?;
            this.events_len.store(events.metadata()?.len(), Ordering::Release);
            Ok(())
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_rotated_event_log_loses_no_line() {
        let temp = tempfile::tempdir().expect("a directory");
        let state = StateDir::open(temp.path()).expect("open");
        let text = |name: &str| std::fs::read_to_string(temp.path().join(name)).unwrap_or_default();
        for (n, rotate) in [("1\n", true), ("2\n", true), ("3\n", false)] {
            state.append_events(n).await.expect("appended");
            if rotate {
                state.rotate_events().await.expect("rotated");
                assert_eq!(state.events_log().await.expect("facts").0, 0);
            }
        }
        assert_eq!((text(EVENTS).as_str(), text(EARLIER_EVENTS).as_str()), ("3\n", "2\n"));
        assert_eq!(state.events().1, 2);
    }
}
