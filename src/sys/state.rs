//! The daemon's state directory (port `StateStore`): `state.json`, `events.jsonl`, texts of runs.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use jiff::Timestamp;

use super::dirs::{Over, open_dir, open_file, remove, sweep, write_whole};
use crate::{model::ids::RunId, ports::StateStore};

const EVENTS: &str = "events.jsonl";
/// The event log that was set aside.
const EARLIER_EVENTS: &str = "events.1.jsonl";

#[derive(Clone)]
pub struct StateDir {
    path: PathBuf,
    events: Arc<Mutex<File>>,
    events_len: Arc<AtomicU64>,
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
        for dir in [path.to_owned(), path.join("runs"), path.join("hooks")] {
            Self::make(&dir)?;
        }
        let events = open_events(path)?;
        let len = events.metadata()?.len();
        for dir in [path.to_owned(), path.join("runs")] {
            let names = std::fs::read_dir(&dir)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
            sweep(open_dir(&dir)?, names.collect::<Vec<_>>().into_iter());
        }
        Ok(Self {
            path: path.to_owned(),
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

    fn run_name(run: &RunId) -> io::Result<String> {
        let plain = run.0.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') && !run.0.is_empty();
        if plain {
            Ok(format!("{run}.md"))
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "not an id of a run"))
        }
    }
}

fn open_events(dir: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).read(true).mode(0o600).open(dir.join(EVENTS))
}

fn broken_lock<T>(_: T) -> io::Error {
    io::Error::other("the event log's lock is broken")
}

#[async_trait]
impl StateStore for StateDir {
    async fn load(&self) -> io::Result<Option<Vec<u8>>> {
        self.run(|this| match std::fs::read(this.path.join("state.json")) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        })
        .await
    }

    async fn save(&self, state: &[u8]) -> io::Result<()> {
        let state = state.to_vec();
        self.run(move |this| write_whole(open_dir(&this.path)?, "state.json", &state, Over::Replace)).await
    }

    async fn set_aside(&self) -> io::Result<String> {
        self.run(|this| {
            for n in 1.. {
                let name = format!("state.json.unreadable.{n}");
                let dir = open_dir(&this.path)?;
                match super::dirs::rename_new(&dir, "state.json", &dir, &name) {
                    Ok(()) => return Ok(name),
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    Err(error) => return Err(error),
                }
            }
            Err(io::Error::other("no free name"))
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

    async fn save_run(&self, run: &RunId, text: &[u8]) -> io::Result<()> {
        let (name, text) = (Self::run_name(run)?, text.to_vec());
        self.run(move |this| write_whole(open_dir(&this.path.join("runs"))?, &name, &text, Over::Replace)).await
    }

    async fn load_run(&self, run: &RunId) -> io::Result<Vec<u8>> {
        let name = Self::run_name(run)?;
        self.run(move |this| {
            let mut bytes = Vec::new();
            open_file(open_dir(&this.path.join("runs"))?, name)?.read_to_end(&mut bytes)?;
            Ok(bytes)
        })
        .await
    }

    async fn remove_run(&self, run: &RunId) -> io::Result<()> {
        let name = Self::run_name(run)?;
        self.run(move |this| remove(open_dir(&this.path.join("runs"))?, &name).map(drop)).await
    }

    async fn keep_runs(&self, keep: &[RunId]) -> io::Result<()> {
        let keep: Vec<String> = keep.iter().filter_map(|run| Self::run_name(run).ok()).collect();
        self.run(move |this| {
            for entry in std::fs::read_dir(this.path.join("runs"))? {
                let name = entry?.file_name();
                if let Some(name) = name.to_str()
                    && name.ends_with(".md")
                    && !keep.iter().any(|kept| kept == name)
                {
                    remove(open_dir(&this.path.join("runs"))?, name)?;
                }
            }
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
