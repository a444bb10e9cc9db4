//! Requests and answers of `ports::Agents`: starting an agent and reading it afterwards.
//! Plain values. Knows no agent by name.

use std::{collections::BTreeMap, path::PathBuf};

use jiff::Timestamp;

use crate::model::{
    evidence::Source,
    ids::{AccountName, AgentName, RunId, SessionName},
    pane::{Background, Launch},
};

/// The variables that a session gets of the daemon's environment; `LC_*` too.
pub const PASSED_ON: [&str; 9] =
    ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR", "XDG_RUNTIME_DIR"];

/// The variable with the incarnation's token in all its processes and their descendants.
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
    /// The project's own directory, outside of which the program must not be started.
    pub project: Option<PathBuf>,
    /// Resume this conversation instead of starting one.
    pub resume: Option<String>,
    /// The first prompt of a resumed conversation, for agents that accept one (`Agents::resumes_with_prompt`).
    pub prompt: Option<String>,
    /// With the arguments of the agent's row in the configuration.
    pub own_args: bool,
    /// For agents that get their task on standard input (`kind: command`).
    pub task: Option<LaunchTask>,
}

/// The task of a `command` agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchTask {
    pub run: RunId,
    pub text: String,
    /// What happens to the program's background processes.
    pub background: Background,
}

/// What to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchPlan {
    pub launch: Launch,
    /// The conversation's id, if it can be chosen before the start.
    pub conversation: Option<String>,
    /// A warning about the program: its version doesn't support everything.
    pub complaint: Option<String>,
}

/// An agent's process that somebody else started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub pid: u32,
    /// The account whose home it uses, if any.
    pub account: Option<AccountName>,
    pub conversation: Option<String>,
    /// Other programs running in the same place.
    pub others: Vec<String>,
}

/// Read positions in an incarnation's evidence. The default reads everything again.
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

/// How an agent gets its prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PromptBy {
    /// Bracketed paste into a running program, then Enter.
    Paste,
    /// Standard input at its start; the program exits with its task.
    Stdin,
}

/// A session's hook log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookLog {
    pub session: SessionName,
    /// Where it begins: the part before was freed.
    pub from: u64,
    pub modified: Timestamp,
    /// Everything before was read by all readers; `None` if nobody has read it yet.
    pub read_to: Option<u64>,
}

/// A process that an agent's start has left, detached or not. Its own children are not listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    pub pid: u32,
    /// Clock ticks from boot to its start: its identity together with the pid.
    pub start: u64,
    pub since: Timestamp,
    pub session: SessionName,
    /// The token of its start: a secret.
    pub token: String,
    /// As shown to people.
    pub command: String,
}
