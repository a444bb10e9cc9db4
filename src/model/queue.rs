//! Queue directories: what may be in them, and what one look finds there.
//! In: plain values. Out: plain values. No file is touched here.

use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{
    event::Ignored,
    ids::{ProjectName, TaskId},
};

/// A directory of a project's queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QueueDir {
    Inbox,
    Drafts,
    Done,
    Failed,
}

impl QueueDir {
    pub const ALL: [Self; 4] = [Self::Inbox, Self::Drafts, Self::Done, Self::Failed];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Inbox => "inbox",
            Self::Drafts => "drafts",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

/// A file beside a task: `inbox/<id>.md.<suffix>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sidecar {
    Working,
    Delegated,
    Rejected,
}

impl Sidecar {
    #[must_use]
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Working => ".working",
            Self::Delegated => ".delegated",
            Self::Rejected => ".rejected",
        }
    }
}

/// What a look into a queue directory finds of one task-like name, without reading the file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Entry {
    pub id: TaskId,
    pub file: FileFacts,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileFacts {
    pub kind: FileKind,
    pub bytes: u64,
    pub modified: Timestamp,
    /// Changes on every change of content, name or attributes (ctime and inode); compare only.
    pub change: (i128, u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileKind {
    Regular,
    /// Symlink, directory, FIFO, device, or a regular file with several hard links out of the queue: never read.
    Other(&'static str),
}

/// One look at an inbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inbox {
    pub tasks: Vec<Entry>,
    /// Sidecars present, also those whose task is gone.
    pub sidecars: Vec<(TaskId, Sidecar)>,
    /// Editor locks (`.NAME.swp`, `.#NAME`): the task and the lock's file name.
    pub locks: Vec<(TaskId, String)>,
    /// Claims that scripts make in place.
    pub claims: Vec<Claim>,
    /// Files that are no task for their name, in a whole look only.
    pub ignored: Vec<Ignored>,
    pub git: Git,
}

/// A claim that a script makes beside a task or on it, without moving it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub id: TaskId,
    /// `x.md.lock`, `a lock of process 71`: what people see of it.
    pub how: String,
    /// When it was last touched; `None` for one that holds as long as it is there.
    pub touched: Option<Timestamp>,
}

/// What git has to do with an inbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Git {
    /// Names in the inbox that it tracks: what it brings there nobody has submitted.
    pub tracked: Arc<BTreeSet<String>>,
    /// It is changing the working tree now; what it tracks is known afterwards.
    pub at_work: bool,
}

/// Where a task's `workdir` leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workdir {
    Inside,
    /// A symbolic link on the way leads out of the project.
    Outside,
    Missing,
}

/// A change that the store itself has made in a queue directory, after it was made: the name in it, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueueChange {
    /// A whole file took the name, over an earlier one or not.
    Arrived(ProjectName, QueueDir, String),
    Removed(ProjectName, QueueDir, String),
    Moved {
        project: ProjectName,
        from: QueueDir,
        to: QueueDir,
        name: String,
    },
}

/// What an interrupted write left in a queue directory: never a task's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Leftover {
    pub dir: QueueDir,
    pub name: String,
    /// As `FileFacts::change`.
    pub change: (i128, u64),
}
