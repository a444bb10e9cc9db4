//! One line of `events`: text for people, and fields for programs that stay stable across versions.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{
    command::Writer,
    ids::{AccountName, ProjectName, ProviderName, RunId, SessionName, TaskKey},
    session::Session,
    task::{Filing, Finished, Phase, Task, Work},
};

/// One line of `events`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    pub seq: u64,
    pub time: Timestamp,
    pub kind: Kind,
    /// What happened, for programs; lines of versions before 0.6 have none.
    #[serde(default)]
    pub reason: Reason,
    #[serde(flatten)]
    pub about: About,
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

/// The object of a line: in words, and its ids for programs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// `task web:fix`, `session ccl-auto-11`, `daemon`.
    pub object: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskKey>,
    /// The task's current or last attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<ProviderName>,
}

impl About {
    /// Objects without an id: the daemon, a swap, a control file.
    #[must_use]
    pub fn words(object: impl Into<String>) -> Self {
        Self { object: object.into(), ..Self::default() }
    }

    #[must_use]
    pub fn daemon() -> Self {
        Self::words("daemon")
    }

    #[must_use]
    pub fn project(name: &ProjectName) -> Self {
        Self::words(format!("project {name}"))
    }
}

impl From<&TaskKey> for About {
    fn from(key: &TaskKey) -> Self {
        Self { task: Some(key.clone()), ..Self::words(format!("task {key}")) }
    }
}

impl From<&SessionName> for About {
    fn from(name: &SessionName) -> Self {
        Self { session: Some(name.clone()), ..Self::words(format!("session {name}")) }
    }
}

impl From<&AccountName> for About {
    fn from(name: &AccountName) -> Self {
        Self { account: Some(name.clone()), ..Self::words(format!("account {name}")) }
    }
}

impl From<&ProviderName> for About {
    fn from(name: &ProviderName) -> Self {
        Self { provider: Some(name.clone()), ..Self::words(format!("provider {name}")) }
    }
}

impl From<&Task> for About {
    fn from(task: &Task) -> Self {
        let (run, job) = match &task.phase {
            Phase::Working(run) => (Some(run), None),
            Phase::Delegated(job) => (None, Some(job)),
            Phase::Filing(Filing { work, .. }) | Phase::Finished(Finished { work, .. }) => {
                (work.as_ref().and_then(Work::run), work.as_ref().and_then(Work::job))
            }
            Phase::Held(_) | Phase::Queued | Phase::Rejected(_) => (None, None),
        };
        Self {
            run: run.map(|run| run.id.clone()).or(job.map(|job| job.run.clone())),
            session: run.map(|run| run.session.clone()),
            account: run.and_then(|run| run.account().cloned()),
            provider: job.map(|job| job.provider.clone()),
            ..Self::from(&task.key)
        }
    }
}

impl From<&Session> for About {
    fn from(session: &Session) -> Self {
        Self {
            task: session.task.as_ref().map(|assignment| assignment.task.clone()),
            run: session.task.as_ref().map(|assignment| assignment.run.clone()),
            account: session.phase.incarnation().and_then(|incarnation| incarnation.account.clone()),
            ..Self::from(&session.name)
        }
    }
}

/// A message of a service; only a line in `events`.
#[derive(Debug, Clone, PartialEq)]
pub struct Note {
    pub kind: Kind,
    pub reason: Reason,
    pub about: About,
    pub text: String,
    /// Who did it, if somebody did.
    pub writer: Option<Writer>,
}

impl Note {
    #[must_use]
    pub fn new(kind: Kind, reason: Reason, about: impl Into<About>, text: impl Into<String>) -> Self {
        Self { kind, reason, about: about.into(), text: text.into(), writer: None }
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
    /// An agent has been silent for `watcher.silent_after`.
    Silent,
    /// An agent stopped on a limit.
    Limit,
    /// An account changed its state.
    Account,
    /// A step of a swap.
    Swap,
    /// A provider changed its state.
    Provider,
    /// A verb was carried out or refused.
    Verb,
    /// Something went wrong; the text says what to do.
    Problem,
}

/// What happened. These words are stable; new ones may be added.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The daemon, or a session's program.
    Started,
    /// The daemon.
    Stopped,
    /// The configuration was read again.
    Reloaded,
    /// The configuration is wrong; the earlier one stays.
    NotReloaded,
    /// The end of the journal was unreadable and is left out.
    StateCut,
    /// The wall clock was set, or the machine slept.
    ClockChanged,
    /// A problem; `health` has it while it lasts.
    Problem,
    /// A problem is over.
    Recovered,
    /// It may run.
    Queued,
    /// It may not run; the text says why.
    Held,
    /// The frontmatter is wrong.
    Rejected,
    /// An attempt begins.
    Claimed,
    /// The agent has the prompt, or the provider the job.
    Taken,
    /// The attempt is being ended.
    Stopping,
    /// The job is being taken back.
    Recalled,
    /// Given to a provider.
    Delegated,
    /// The task.
    Done,
    /// The task, or a step of a swap.
    Failed,
    /// The task.
    Cancelled,
    /// The file is no longer there.
    Gone,
    /// The file, between directories.
    Moved,
    /// The file, by a person.
    Removed,
    /// A claim of which nothing was begun.
    ClaimReturned,
    /// A marker or text whose run has its result.
    AlreadyFiled,
    /// The job of a script that nobody waits for.
    Collected,
    /// A claim in place that nobody has touched for long.
    StaleClaim,
    /// Control characters were taken out of the prompt.
    Cleaned,
    /// The program ended by itself.
    Exited,
    /// A session's program did not start, or not come to its prompt.
    StartFailed,
    /// Of a session, an account, a provider.
    StateChanged,
    /// The pane is gone.
    Lost,
    /// For a person.
    Waiting,
    /// By the account's limit.
    Limited,
    /// The agent says that it works, but nothing changes.
    Stalled,
    /// Nothing new for `watcher.silent_after`.
    Silent,
    /// The session takes no more tasks.
    Drained,
    /// The session takes tasks again.
    Undrained,
    /// What an agent left behind.
    LeftRunning,
    /// The program is stopped to resume its conversation.
    Resuming,
    /// The conversation was resumed in another program.
    Resumed,
    /// The conversation could not be resumed.
    NotResumed,
    /// Another program runs in a person's session.
    AgentChanged,
    /// A swap.
    Begun,
    /// The shared link leads to the new account.
    LinkTurned,
    /// The new account is the active one.
    Activated,
    /// A swap.
    Completed,
    /// A swap.
    RolledBack,
    /// A swap could be neither completed nor rolled back.
    Partial,
    /// A partial swap, by the operator.
    Cleared,
    /// A swap within the cooldown, which a person asked for.
    Hasty,
    /// A verb.
    Accepted,
    /// A verb, a move, a write.
    Refused,
    /// A verb that was accepted could not be carried out.
    NotDone,
    /// A file in an inbox that is no task.
    Ignored,
    /// The janitor removes it.
    Removing,
    /// The janitor would.
    WouldRemove,
    /// Of another version.
    #[default]
    #[serde(other)]
    Other,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_flat_and_one_of_an_earlier_or_a_later_version_is_read() {
        let key = TaskKey::parse("web:fix").expect("a key");
        let line = LogLine {
            seq: 7,
            time: Timestamp::UNIX_EPOCH,
            kind: Kind::Task,
            reason: Reason::ClaimReturned,
            about: About::from(&key),
            text: "t\u{202e}".to_owned(),
            writer: None,
        };
        let json = line.json().expect("JSON");
        let expected = r#"{"seq":7,"time":"1970-01-01T00:00:00Z","kind":"task","reason":"claim-returned","object":"task web:fix","task":"web:fix","text":"t\u202e"}"#;
        assert_eq!(json, expected);
        assert_eq!(serde_json::from_str::<LogLine>(&json).expect("a line"), line);
        for reason in ["", r#""reason":"of-tomorrow","#] {
            let other = json.replace(r#""reason":"claim-returned","#, reason);
            assert_eq!(serde_json::from_str::<LogLine>(&other).expect("a line").reason, Reason::Other);
        }
    }
}
