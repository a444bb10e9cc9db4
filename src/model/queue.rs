//! Queue directories: what they may contain, and the result of one look.
//! Plain values. Touches no file.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{
    event::Ignored,
    ids::{ProjectName, RunId, TaskId},
    task::TaskSpec,
    task_file::{Reading, read, sha256},
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

    /// Its name beside a task.
    #[must_use]
    pub fn beside(self, id: &TaskId) -> String {
        format!("{}{}", id.file_name(), self.suffix())
    }
}

/// A file of that kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    pub id: TaskId,
    pub which: Sidecar,
    /// Empty when it can't be read.
    pub bytes: Vec<u8>,
}

/// A name to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    pub id: TaskId,
    pub read: Read,
}

/// Whether the text is wanted too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    No,
    /// Unless it is known: the file has not changed since this.
    Unless {
        change: Option<(i128, u64)>,
        max: u64,
    },
}

/// A task's text, and what has to be known before it is taken for whole.
#[derive(Debug)]
pub struct Text {
    /// Whether some process has it open for writing; `None` where the file system can't tell.
    pub writer: Option<bool>,
    /// As `QueueStore::read`.
    pub read: std::io::Result<(Vec<u8>, FileFacts)>,
    /// As `QueueStore::results`.
    pub results: Vec<Filed>,
}

/// A result: its place, bytes and facts.
pub type Filed = (QueueDir, Vec<u8>, FileFacts);

/// What a task has to be to be claimed.
#[derive(Debug, Clone)]
pub struct Expected {
    pub sha256: String,
    pub spec: Arc<TaskSpec>,
    pub max: u64,
}

impl Expected {
    /// A changed file that a person released may hold anything; and after a restart the frontmatter of a run given back is not
    /// known before its file was read.
    #[must_use]
    pub fn is(&self, text: &[u8]) -> bool {
        // Words choose by the text, which is the same.
        let own = || TaskSpec { by_words: None, ..(*self.spec).clone() };
        sha256(text) == self.sha256 && matches!(read(text), Reading::Ready { spec, .. } if *spec == own())
    }
}

/// What became of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// The marker is written; the text.
    Ours(Vec<u8>),
    /// The file isn't what it was.
    Moved,
    /// A foreign marker exists.
    Taken,
    NoWorkdir,
}

/// What is put on disk of a task's end.
#[derive(Debug, Clone)]
pub struct End {
    /// Nothing is written when its result is there already.
    pub run: Option<RunId>,
    pub result: Option<(QueueDir, Vec<u8>)>,
    /// Which text goes from the inbox, by its identity.
    pub own: String,
    pub claim: Option<Sidecar>,
}

/// What a file of ours may do to one of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    Replace,
    /// `AlreadyExists` when the name is taken.
    Never,
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
#[derive(Debug, Default)]
pub struct Inbox {
    pub tasks: Vec<Entry>,
    /// Of those that were asked for theirs.
    pub texts: BTreeMap<TaskId, Text>,
    /// Sidecars present, also those whose task is gone.
    pub sidecars: Vec<Mark>,
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
