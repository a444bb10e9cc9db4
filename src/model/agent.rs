//! Requests and answers of `ports::Agents`: starting an agent and reading it afterwards.
//! Plain values. Knows no agent by name.

use std::{collections::BTreeMap, path::PathBuf};

use jiff::Timestamp;

use crate::model::{
    evidence::Source,
    ids::{AccountName, AgentName, RunId, SessionName},
    pane::{Background, Launch},
};

/// What a session gets of the daemon's environment; `LC_*` besides.
pub const PASSED_ON: [&str; 9] =
    ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR", "XDG_RUNTIME_DIR"];

/// The variable in which an incarnation's processes have its token, all that it starts among them.
pub const INCARNATION: &str = "CLAUDE_FAILOVER_INCARNATION";

/// Parameters of `Agents::launch`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchRequest {
    pub session: SessionName,
    pub incarnation: String,
    /// As `Incarnation::token`.
    pub token: String,
    pub agent: AgentName,
    pub account: Option<AccountName>,
    pub workdir: PathBuf,
    /// The project's own directory, which the program must not be started outside of.
    pub project: Option<PathBuf>,
    /// Resume this conversation instead of beginning one.
    pub resume: Option<String>,
    /// Given to a resumed conversation at its start, by agents that take one so (`Agents::resumes_with_prompt`).
    pub prompt: Option<String>,
    /// With the arguments of the agent's row in the configuration.
    pub own_args: bool,
    /// For agents that get their task on standard input at start (`kind: command`).
    pub task: Option<LaunchTask>,
}

/// The task of a `command` agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchTask {
    pub run: RunId,
    pub text: String,
    /// Of what the program leaves behind.
    pub background: Background,
}

/// What to start, as `Agents` answers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchPlan {
    pub launch: Launch,
    /// The conversation's id where we can choose it before the start.
    pub conversation: Option<String>,
    /// What a person should know of the program: with its version not everything works.
    pub complaint: Option<String>,
}

/// An agent's process that somebody else started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub pid: u32,
    /// The account whose home it uses; `None` when it is nobody's.
    pub account: Option<AccountName>,
    pub conversation: Option<String>,
    /// Programs that run beside it in the same place and are not its own.
    pub others: Vec<String>,
}

/// Where the reading of an incarnation's evidence has got to. Starting from the default reads everything again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cursor {
    pub hooks: u64,
    pub transcript: u64,
    pub status: Option<(i64, u64)>,
    pub transcript_path: Option<PathBuf>,
    /// The time of the last event from each source.
    pub heard: BTreeMap<Source, Timestamp>,
    /// When everything reported by then had been read.
    pub read: Option<Timestamp>,
}

#[derive(Debug, thiserror::Error)]
#[error("agent {agent}: {message}")]
pub struct AgentError {
    pub agent: String,
    pub message: String,
}

/// How an agent takes its prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PromptBy {
    /// Bracketed paste into a running program, then Enter.
    Paste,
    /// Standard input at start; the program ends with its task.
    Stdin,
}

/// A session's hook log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookLog {
    pub session: SessionName,
    /// Where it begins: what stood before was given back to the disk.
    pub from: u64,
    pub modified: Timestamp,
    /// Everything before was read, by whoever needs it; `None` where nobody has read it yet.
    pub read_to: Option<u64>,
}

/// A process that an agent's start has left, detached or not. Its own children are not listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    pub pid: u32,
    /// Clock ticks from the machine's start to its own: with the pid its identity.
    pub start: u64,
    pub since: Timestamp,
    pub session: SessionName,
    /// The token of the start that it is of: a secret.
    pub token: String,
    /// As shown to people.
    pub command: String,
}
