//! Events proposed to the owner, and lines written to `events`.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

pub use super::line::{About, Kind, LogLine, Note, Reason};
use crate::model::{
    account::AccountEvent,
    agent::Leftover,
    command::Refused,
    ids::{AccountName, ProjectName, ProviderName, RunId, SessionName, TaskKey},
    notice::NoticeEvent,
    provider::ProviderEvent,
    rights::Rights,
    session::SessionEvent,
    swap::SwapEvent,
    task::{Origin, TaskEvent},
};

/// Everything that happens, as services propose it.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    Task(TaskKey, TaskEvent),
    /// The text that a run is about to be claimed with, as it was read; kept until its result is filed.
    Text(RunId, Arc<str>),
    /// Who wrote a task's file, learned at the mount.
    Origin(TaskKey, Origin),
    Session(SessionName, SessionEvent),
    Account(AccountName, AccountEvent),
    /// About the swap from the active account that `from` names.
    Swap {
        from: AccountName,
        event: SwapEvent,
    },
    Provider(ProviderName, ProviderEvent),
    /// File counts of the directories that aren't read file by file.
    Counts {
        project: ProjectName,
        counts: Counts,
    },
    /// Files in an inbox that are no task for their name.
    Ignored {
        project: ProjectName,
        files: Arc<Vec<Ignored>>,
    },
    /// Since when a task's file has stood where it is, learned at the first look of a daemon.
    Stands {
        task: TaskKey,
        since: Timestamp,
    },
    /// Something is wrong with the world, or right again.
    Health {
        topic: String,
        problem: Option<String>,
    },
    /// The configuration says now whose tasks may do what.
    Rights(Arc<Rights>),
    /// A notification is due, or was sent.
    Notice(NoticeEvent),
    /// How much memory is in use.
    Memory(Memory),
    /// What agents that are gone left running; of the starts in `over` nothing runs any more.
    Leftovers {
        found: Arc<Vec<Leftover>>,
        over: Vec<String>,
    },
    /// A request was carried out or refused.
    RequestDone {
        id: u64,
        result: Result<String, Refused>,
    },
    /// Something worth a line in `events` and nothing else.
    Note(Note),
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub drafts: u64,
    pub done: u64,
    pub failed: u64,
}

/// A file in an inbox that is no task for its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ignored {
    /// As people can read it.
    pub name: String,
    /// What is wrong with it, and what helps.
    pub why: String,
}

/// Memory in use, in whole MiB: polled, and reported when it differs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    pub daemon: u64,
    /// `None` without a connection to the server.
    pub tmux: Option<u64>,
}
