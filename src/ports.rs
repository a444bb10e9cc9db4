//! The ports: traits for everything outside: clock, queue directories, state files, terminal, agents.
//! `live` and the services call them; `sys` and `agents` implement them for real, `tests/sim` in memory for the
//! simulation.
//! Every method that changes something is one atomic step (`QueueStore::claim` and `file`: several): after a crash it has
//! happened whole or not at all.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;

use crate::model::{
    agent::{AgentError, Cursor, Found, HookLog, LaunchPlan, LaunchRequest, PromptBy},
    event::Counts,
    evidence::{Look, Screen, Signal, Tokens},
    homes::HomeFaults,
    ids::{AccountName, AgentName, ProjectName, ProviderName, SessionName, TaskId},
    journal::Stored,
    notice::{Channel, Notice, NoticeError},
    pane::{Background, Capture, Key, Launch, Pane, PaneId, TerminalError, TerminalHint},
    provider::{Order, Progress, ProviderError},
    queue::{Ask, Claimed, End, Entry, Expected, FileFacts, Filed, Inbox, Leftover, Over, QueueDir, Sidecar, Workdir},
    session::Incarnation,
    steady::{Saved, Timeline},
};

/// Tells the time. Waiting uses tokio's timers, which the simulation pauses.
pub trait Clock: Send + Sync {
    /// Steady time (`model::steady`), with which everything of ours is stamped and timed.
    fn now(&self) -> Timestamp;

    /// The wall clock, which may be set at any moment: only for comparison with others' timestamps.
    fn wall(&self) -> Timestamp {
        self.now()
    }

    fn timeline(&self) -> Arc<Timeline> {
        Arc::default()
    }

    /// Saved for the next daemon's clock.
    fn saved(&self) -> Option<Saved> {
        None
    }

    /// Converts a wall-clock time to steady time: the last moment at which the wall clock showed it.
    fn heard(&self, wall: Timestamp) -> Timestamp {
        let now = self.now();
        self.timeline().heard(wall, now, now)
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Terminal

/// The terminal multiplexer. Implemented only by `sys::tmux`.
#[async_trait]
pub trait Terminal: Send + Sync {
    /// Lists the server's panes, ours and foreign: the first pane of the first window of each session.
    async fn panes(&self) -> Result<Vec<Pane>, TerminalError>;

    /// As `panes`, for callers that poll every second: panes without output since the last look may come from a cache.
    /// Exits and panes that come or go are always current.
    async fn glance(&self) -> Result<Vec<Pane>, TerminalError> {
        self.panes().await
    }

    /// Runs a program in the session's pane: creates the session if missing, else replaces the program in place, so
    /// that attached clients stay. The old program's whole process tree must have been ended before (`terminate`);
    /// `open` refuses a pane whose program is alive.
    async fn open(&self, launch: &Launch) -> Result<Pane, TerminalError>;

    /// Reads several panes at once; one answer per pane, in order.
    async fn capture(
        &self,
        panes: &[PaneId],
        how: Capture,
    ) -> Result<Vec<Result<String, TerminalError>>, TerminalError>;

    /// Puts text into the pane as one bracketed paste. No Enter. Control characters other than newline and tab are an
    /// error (`TerminalError::Text`): callers clean the text before, in the model.
    async fn paste(&self, pane: &PaneId, text: &str) -> Result<(), TerminalError>;

    /// Sends keys, after leaving copy mode.
    async fn keys(&self, pane: &PaneId, keys: &[Key]) -> Result<(), TerminalError>;

    /// From now on the pane outlives its program, so that the next one can replace it under attached clients.
    async fn keep(&self, pane: &PaneId) -> Result<(), TerminalError>;

    /// Stops the program in the pane and its process tree: TERM, after `grace` KILL, and waits until it is gone. A dead
    /// or missing pane is success.
    async fn terminate(&self, pane: &PaneId, grace: Duration, background: Background) -> Result<(), TerminalError>;

    /// Stops what a program left in its terminal's session, and below that, once its pane is dead or gone. Processes
    /// that detached themselves from the session are kept. A program that is alive in its pane is left alone.
    async fn end_left(&self, of: &Incarnation, grace: Duration, background: Background) -> Result<(), TerminalError>;

    /// Removes a session whose program has exited. A missing session is success.
    async fn close(&self, session: &SessionName) -> Result<(), TerminalError>;

    /// Hints from now on. A slow receiver loses hints, not truth.
    fn hints(&self) -> tokio::sync::broadcast::Receiver<TerminalHint>;
}

// ---------------------------------------------------------------------------------------------------------------------
// Agents

/// Knowledge of each agent CLI. Implemented by `agents`.
#[async_trait]
pub trait Agents: Send + Sync {
    fn prompt_by(&self, agent: &AgentName) -> PromptBy;

    /// Whether the agent reports by hook, status file or transcript that it accepted a prompt.
    fn tells_prompts(&self, agent: &AgentName) -> bool;

    /// Whether the agent reports by hook or transcript when a turn has ended.
    fn tells_turns(&self, agent: &AgentName) -> bool;

    /// Whether the agent's transcript reports a turn's end, too. By then it has everything that the turn used.
    fn records_turns(&self, _agent: &AgentName) -> bool {
        false
    }

    /// Prepares a task's text for typing: a text that the agent would not take for a prompt, or that can't be
    /// distinguished from the `ghost` in the box, is wrapped in words.
    fn as_prompt(&self, _agent: &AgentName, text: String, _ghost: Option<&str>) -> String {
        text
    }

    /// Whether the agent can resume an earlier conversation.
    fn resumes(&self, _agent: &AgentName) -> bool {
        false
    }

    /// Whether a resumed conversation can be given its next prompt as an argument.
    fn resumes_with_prompt(&self, _agent: &AgentName) -> bool {
        false
    }

    /// Finds the agent that runs in a dedicated session below the process `pid`.
    async fn find(&self, _agent: &AgentName, _pid: u32) -> Option<Found> {
        None
    }

    /// The keys that interrupt the agent.
    fn interrupt_keys(&self, agent: Option<&AgentName>) -> Vec<String>;

    /// Prepares a launch: settings file with our hooks, environment, arguments.
    async fn launch(&self, request: &LaunchRequest) -> Result<LaunchPlan, AgentError>;

    /// New structured signals (status file, hooks, transcript) since `cursor`, oldest first.
    async fn signals(&self, incarnation: &Incarnation, cursor: &mut Cursor) -> Vec<Signal>;

    /// Interprets a screen. Pure.
    fn look(&self, agent: &AgentName, screen: &Screen, now: Timestamp) -> Look;

    /// Tokens that the conversation used so far, if the transcript reports them.
    async fn tokens(&self, incarnation: &Incarnation) -> Option<Tokens>;

    /// Lists the hook logs.
    async fn hook_logs(&self) -> Vec<HookLog> {
        Vec::new()
    }

    /// Frees the disk space of a hook log before the last line end up to `to`, which was read. Offsets stay valid.
    /// `None` deletes the whole log.
    async fn clear_hook_log(&self, _session: &SessionName, _to: Option<u64>) -> std::io::Result<()> {
        Ok(())
    }

    /// Completes when any incarnation's structured evidence may have changed; a hint.
    async fn changed(&self);
}

// ---------------------------------------------------------------------------------------------------------------------
// Files

/// The queue directories on disk. Every change is durable when the call returns. `claim` and `file` consist of several
/// steps: without an answer, any number of the first ones may have been done.
#[async_trait]
pub trait QueueStore: Send + Sync {
    /// Creates the queue's missing directories.
    async fn prepare(&self, project: &ProjectName) -> std::io::Result<()>;
    /// Lists the whole inbox, without texts; or only what belongs to these names.
    async fn look(&self, project: &ProjectName, names: Option<&[Ask]>) -> std::io::Result<Inbox>;
    /// Writes our marker beside a task if its text is as expected and nobody else has claimed it; checks again
    /// afterwards.
    async fn claim(
        &self,
        project: &ProjectName,
        id: &TaskId,
        expected: &Expected,
        which: Sidecar,
        marker: &[u8],
    ) -> std::io::Result<Claimed>;
    /// Files a task: writes the result, keeping an existing one of that name as `<id>.<n>.md` unless it has the same
    /// bytes; then removes the task and its sidecars from the inbox. A newer text stays, and is returned.
    async fn file(
        &self,
        project: &ProjectName,
        id: &TaskId,
        end: &End,
    ) -> std::io::Result<Option<(Vec<u8>, FileFacts)>>;
    /// Writes a sidecar of ours beside a task.
    async fn mark(
        &self,
        project: &ProjectName,
        id: &TaskId,
        which: Sidecar,
        text: &[u8],
        over: Over,
    ) -> std::io::Result<()>;
    /// Removes sidecars of ours. A missing one is success.
    async fn unmark(&self, project: &ProjectName, id: &TaskId, which: &[Sidecar]) -> std::io::Result<()>;
    /// The files in `done/` and `failed/` under a task's name.
    async fn results(&self, project: &ProjectName, id: &TaskId) -> std::io::Result<Vec<Filed>>;
    /// Numbers of task files in the other directories.
    async fn counts(&self, project: &ProjectName) -> std::io::Result<Counts>;
    /// Reads a file with the facts of exactly these bytes. Never follows a symlink. Returns `max` bytes at most, else
    /// `FileTooLarge`; `InvalidInput` if it is no regular file.
    async fn read(
        &self,
        project: &ProjectName,
        dir: QueueDir,
        id: &TaskId,
        max: u64,
    ) -> std::io::Result<(Vec<u8>, FileFacts)>;
    /// Whether a task's `workdir` is a directory of its project, with every link followed.
    async fn workdir(&self, _project: &ProjectName, _workdir: &str) -> std::io::Result<Workdir> {
        Ok(Workdir::Inside)
    }
    /// Removes `<id>.md` unless it has changed since `seen`, or somebody has it open for writing; returns whether it is
    /// gone.
    async fn remove_unchanged(
        &self,
        project: &ProjectName,
        dir: QueueDir,
        id: &TaskId,
        seen: &FileFacts,
    ) -> std::io::Result<bool>;
    /// Lists the task-like names in a directory, without reading the files.
    async fn entries(&self, project: &ProjectName, dir: QueueDir) -> std::io::Result<Vec<Entry>>;
    /// Adds files of `done/` or `failed/` to the archive of that month (`2026-10`) beside them. Complete and durable
    /// when it returns; nothing is stored twice. Returns the files that are archived now, without those that have
    /// changed since they were listed or are being written.
    async fn archive(
        &self,
        project: &ProjectName,
        dir: QueueDir,
        month: &str,
        files: &[Entry],
    ) -> std::io::Result<Vec<TaskId>>;
    /// Lists temporary files of dead writers in the queue's directories.
    async fn leftovers(&self, project: &ProjectName) -> std::io::Result<Vec<Leftover>>;
    async fn remove_leftover(&self, project: &ProjectName, leftover: &Leftover) -> std::io::Result<()>;
    /// Renames a task between queue directories, never over another (`AlreadyExists`).
    async fn shift(&self, project: &ProjectName, from: QueueDir, to: QueueDir, id: &TaskId) -> std::io::Result<()>;
    /// Waits until something in an inbox may have changed and returns it; a hint. `None` means anything anywhere.
    async fn changed(&self) -> Option<(ProjectName, TaskId)>;
}

/// The accounts' homes and the operator's link to the active one. Implemented by `sys::homes`.
#[async_trait]
pub trait Homes: Send + Sync {
    /// Flips the operator's link to the account's home, atomically; does nothing if there is no link.
    async fn flip(&self, to: &AccountName) -> std::io::Result<()>;
    /// Whether the operator's link points to the account's home now.
    async fn leads_to(&self, account: &AccountName) -> bool;
    /// Ensures that the home's shared links are complete: creates missing ones, refuses ones that point elsewhere.
    async fn ensure(&self, account: &AccountName) -> Result<(), HomeFaults>;
    /// When somebody last logged in to the account, by its files.
    async fn logged_in(&self, account: &AccountName) -> Option<Timestamp>;
}

/// Servers that do tasks over HTTP. Implemented by `sys::providers`. Every call ends in bounded time.
#[async_trait]
pub trait Providers: Send + Sync {
    /// Submits a job and returns its id; the same key twice is one job if the provider honours keys (`repeats`).
    async fn submit(&self, provider: &ProviderName, order: &Order) -> Result<String, ProviderError>;
    async fn look(&self, provider: &ProviderName, job: &str) -> Result<Progress, ProviderError>;
    /// Completes when there may be news of the job; a hint. Never for a provider that must be polled.
    async fn news(&self, _provider: &ProviderName, _job: &str) {
        std::future::pending::<()>().await;
    }
    /// Cancels a job. A missing one is success.
    async fn cancel(&self, provider: &ProviderName, job: &str) -> Result<(), ProviderError>;
    /// Whether the provider honours idempotency keys, so that an order may be sent again.
    fn repeats(&self, provider: &ProviderName) -> bool;
}

/// The daemon's own state directory.
#[async_trait]
pub trait StateStore: Send + Sync {
    /// Reads the stored bytes; `model::journal` interprets them.
    async fn load(&self) -> std::io::Result<Stored>;
    /// Appends a record to the journal and returns the journal's length. The record survives the daemon, and a power
    /// cut if it, or any record after it, is `durable`. A failed record is removed before the next is appended.
    async fn append(&self, record: &[u8], durable: bool) -> std::io::Result<u64>;
    /// Replaces the checkpoint, atomically and durably, and empties the journal, which it includes. The first thing
    /// that a daemon saves.
    async fn checkpoint(&self, state: &[u8]) -> std::io::Result<()>;
    /// Sets checkpoint and journal aside under other names, and returns these.
    async fn set_aside(&self) -> std::io::Result<String>;
    /// Appends whole lines to the event log.
    async fn append_events(&self, lines: &str) -> std::io::Result<()>;
    /// The event log's length in bytes, and when a line was last added.
    async fn events_log(&self) -> std::io::Result<(u64, Timestamp)>;
    /// Rotates the event log, replacing the previous rotated one.
    async fn rotate_events(&self) -> std::io::Result<()>;
}

// ---------------------------------------------------------------------------------------------------------------------
// Notices

/// The receivers of notifications. Implemented by `sys::notify`.
#[async_trait]
pub trait Notifier: Send + Sync {
    /// Delivers one notification, or says within its own time limit why not.
    async fn send(&self, channel: Channel, notice: &Notice) -> Result<(), NoticeError>;
}
