//! The trait that the mount requires of the daemon, and the types in which the mount reports changes.

use std::{ffi::OsString, path::PathBuf, sync::Arc};

use crate::model::{
    command::{Refused, Scope, Writer},
    ids::{ProjectName, TaskId, TaskKey},
    snapshot::Snapshot,
};

/// What the mount needs of the daemon.
pub trait Backend: Send + Sync + 'static {
    /// The current snapshot.
    fn snapshot(&self) -> Arc<Snapshot>;

    /// Carries out every line of one write, or none. Answers in bounded time; success after that time means *begun*.
    ///
    /// # Errors
    /// The errno's kind and the sentence that `control` shows.
    fn control(&self, scope: Scope, text: &[u8], writer: &Writer) -> Result<(), Refused>;

    /// Whether a name may come into being in a queue directory.
    ///
    /// # Errors
    /// The errno's kind and a sentence: the queue is full.
    fn admits(&self, place: &Place) -> Result<(), Refused>;

    /// The same writer, placed: who that is.
    fn placed(&self, writer: Writer) -> Writer {
        writer
    }

    /// Whether this writer may write to a session at all, and whether its agent could accept a text now; checked before
    /// accepting a text whose refusal nobody would see.
    ///
    /// # Errors
    /// The errno's kind and a sentence.
    fn may_speak(&self, _scope: &Scope, _writer: &Writer) -> Result<(), Refused> {
        Ok(())
    }

    /// Whether this writer may make a task of this text there.
    ///
    /// # Errors
    /// The errno's kind and a sentence.
    fn may_be(&self, _place: &Place, _text: &[u8], _writer: &Writer) -> Result<(), Refused> {
        Ok(())
    }

    /// This writer produced the current text: wrote, moved, linked or truncated it. Must not block.
    fn wrote(&self, _place: &Place, _text: &[u8], _writer: &Writer) {}

    /// Something changed in a queue directory through the mount. Called after the change; a hint, so it must not wait.
    fn touched(&self, change: &Touched, writer: &Writer);

    /// The process that a thread is of; none for one that is not of our PID namespace or has ended.
    fn process(&self, thread: u32) -> Option<Process>;

    /// The effective configuration with its secrets masked.
    fn config_text(&self) -> String;
}

/// One process, however often its number is given again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    /// As the kernel counts it (proc(5)).
    pub start: u64,
}

/// A name in a project's queue directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub project: ProjectName,
    /// Relative to `.agent-queue`; empty for the queue directory itself.
    pub dir: PathBuf,
    pub name: OsString,
}

impl Place {
    /// Whether a file there is a task.
    #[must_use]
    pub fn is_task(&self) -> bool {
        self.task().is_some()
    }

    /// The task of this file.
    #[must_use]
    pub fn task(&self) -> Option<TaskKey> {
        let id = TaskId::from_file_name(self.name.to_str()?).filter(|_| self.dir.as_os_str() == "inbox")?;
        Some(TaskKey::new(&self.project, &id))
    }
}

/// A change made through the mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Touched {
    /// A name came into being: file, directory, symbolic link.
    Created(Place),
    /// Somebody holds it open for writing, until `Closed` with the same handle.
    Opened {
        at: Place,
        handle: u64,
    },
    /// The last descriptor of a writing open is closed. `at` is its present name.
    Closed {
        at: Place,
        handle: u64,
    },
    /// Its size or content changed without an open of its own (`truncate`).
    Changed(Place),
    Renamed {
        from: Place,
        to: Place,
    },
    Exchanged(Place, Place),
    Linked(Place),
    Removed(Place),
    /// Somebody tried to take what is the supervisor's at the moment, and was refused. Once a while for each name.
    Refused {
        at: Place,
        text: String,
    },
}
