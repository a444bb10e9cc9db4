//! What is sent to the owner, and what is written to `events`.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{
    account::AccountEvent,
    agent::Leftover,
    command::{Refused, Writer},
    ids::{AccountName, ProjectName, ProviderName, RunId, SessionName, TaskKey},
    notice::NoticeEvent,
    provider::ProviderEvent,
    rights::Rights,
    session::SessionEvent,
    swap::SwapEvent,
    task::{Origin, TaskEvent},
    writer::Servers,
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
    /// How many files stand in the directories that aren't read one by one.
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
    /// People are to be told of something, or were.
    Notice(NoticeEvent),
    /// How much memory is in use.
    Memory(Memory),
    /// What agents that are gone left running; of the starts in `over` nothing runs any more.
    Leftovers {
        found: Arc<Vec<Leftover>>,
        over: Vec<String>,
    },
    /// Another tmux server was met, or one has ended.
    Servers(Arc<Servers>),
    /// A request was carried out or refused.
    RequestDone {
        id: u64,
        result: Result<String, Refused>,
    },
    /// Something worth a line in `events` and nothing else.
    Note {
        kind: Kind,
        object: String,
        text: String,
        /// Who did it, where somebody did.
        writer: Option<Writer>,
    },
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

/// One line of `events`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    pub seq: u64,
    pub time: Timestamp,
    pub kind: Kind,
    /// `task web:fix`, `session ccl-auto-11`, `daemon`.
    pub object: String,
    pub text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writer: Option<Writer>,
}

impl LogLine {
    /// The line as JSON, without any harmful character: JSON itself escapes C0 only.
    #[must_use]
    pub fn json(&self) -> Option<String> {
        let json = serde_json::to_string(self).ok()?;
        let mut out = String::with_capacity(json.len());
        for c in json.chars() {
            if super::text::is_harmful(c) {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            } else {
                out.push(c);
            }
        }
        Some(out)
    }
}

/// Kinds of lines in `events`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The daemon started or stopped.
    Daemon,
    /// A task changed its state.
    Task,
    /// A session changed its state.
    Session,
    /// An agent waits for a person.
    Waiting,
    /// An agent has said nothing for `watcher.silent_after`.
    Silent,
    /// An agent stopped on a limit.
    Limit,
    /// An account came into another standing.
    Account,
    /// A step of a swap.
    Swap,
    /// A provider came into another standing.
    Provider,
    /// A verb was carried out or refused.
    Verb,
    /// Something went wrong; the text says what to do.
    Problem,
}

/// What is in use, in whole MiB: it is looked at again and again, and told when it differs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    pub daemon: u64,
    /// `None` without a connection to the server.
    pub tmux: Option<u64>,
}
