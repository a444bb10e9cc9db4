//! The ports: traits for everything outside: clock, queue directories, state files, terminal, agents.
//! `live` and the services call them; `sys` and `agents` implement them for real, `tests/sim` in memory for the
//! simulation.
//! Every method that changes something is one atomic step: after a crash it has happened whole or not at all.

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

/// What time it is. Waiting is done with tokio's timers, which the simulation pauses.
pub trait Clock: Send + Sync {
    /// Steady time (`model::steady`): everything of ours is stamped with it and counts by it.
    fn now(&self) -> Timestamp;

    /// The wall's clock, which may be set at any moment: only for what others stamp with it.
    fn wall(&self) -> Timestamp {
        self.now()
    }

    fn timeline(&self) -> Arc<Timeline> {
        Arc::default()
    }

    /// For the next daemon's clock.
    fn saved(&self) -> Option<Saved> {
        None
    }

    /// When it was, the last time that the wall's clock showed that.
    fn heard(&self, wall: Timestamp) -> Timestamp {
        let now = self.now();
        self.timeline().heard(wall, now, now)
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Terminal

/// The terminal multiplexer. Implemented by `sys::tmux` alone.
#[async_trait]
pub trait Terminal: Send + Sync {
    /// Every pane of the server, ours and strangers'. The first pane of the first window of each session only.
    async fn panes(&self) -> Result<Vec<Pane>, TerminalError>;

    /// As `panes`, for whoever asks every second: panes at which nothing was shown since the last look may be told from
    /// memory. Deaths and panes that come or go are told as they are.
    async fn glance(&self) -> Result<Vec<Pane>, TerminalError> {
        self.panes().await
    }

    /// Runs a program in the session's pane: makes the session when it is missing, else replaces what runs there in
    /// place, so that attached clients stay. The old program's whole process tree must have been ended before
    /// (`terminate`); `open` refuses a pane whose program still lives.
    async fn open(&self, launch: &Launch) -> Result<Pane, TerminalError>;

    /// Reads several panes at once; one answer for each, in order.
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

    /// From now on the pane outlives its program, so that the next one can take its place before people's eyes.
    async fn keep(&self, pane: &PaneId) -> Result<(), TerminalError>;

    /// Ends the program in the pane with what is of it: TERM, after `grace` KILL, and waits until it is gone. A pane that is
    /// dead or missing is success.
    async fn terminate(&self, pane: &PaneId, grace: Duration, background: Background) -> Result<(), TerminalError>;

    /// Ends what a program left in its terminal's session, and below that, once its pane is dead or gone. What has detached
    /// itself from the session lives on. A program that lives in its pane is left alone.
    async fn end_left(&self, of: &Incarnation, grace: Duration, background: Background) -> Result<(), TerminalError>;

    /// Removes a session whose program has ended. A missing session is success.
    async fn close(&self, session: &SessionName) -> Result<(), TerminalError>;

    /// Hints from now on. A slow receiver loses hints, not truth.
    fn hints(&self) -> tokio::sync::broadcast::Receiver<TerminalHint>;
}

// ---------------------------------------------------------------------------------------------------------------------
// Agents

/// What is known of each agent CLI. Implemented by `agents`.
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

    /// A task's text as it is typed: one that the agent would take for something else than a prompt gets words around it, and
    /// so does one that could not be told from the `ghost` that stands in the box.
    fn as_prompt(&self, _agent: &AgentName, text: String, _ghost: Option<&str>) -> String {
        text
    }

    /// Whether the agent can resume an earlier conversation.
    fn resumes(&self, _agent: &AgentName) -> bool {
        false
    }

    /// Whether a resumed conversation can be given its next prompt at the start.
    fn resumes_with_prompt(&self, _agent: &AgentName) -> bool {
        false
    }

    /// The agent that runs in a dedicated session below the process `pid`, where one does.
    async fn find(&self, _agent: &AgentName, _pid: u32) -> Option<Found> {
        None
    }

    /// The keys that stop what the agent is doing.
    fn interrupt_keys(&self, agent: Option<&AgentName>) -> Vec<String>;

    /// Prepares a start: settings file with our hooks, environment, arguments.
    async fn launch(&self, request: &LaunchRequest) -> Result<LaunchPlan, AgentError>;

    /// New structured signals (status file, hooks, transcript) since `cursor`, oldest first.
    async fn signals(&self, incarnation: &Incarnation, cursor: &mut Cursor) -> Vec<Signal>;

    /// What a screen says. Pure.
    fn look(&self, agent: &AgentName, screen: &Screen, now: Timestamp) -> Look;

    /// Tokens that the conversation used so far, if the transcript reports them.
    async fn tokens(&self, incarnation: &Incarnation) -> Option<Tokens>;

    /// The hook logs that there are.
    async fn hook_logs(&self) -> Vec<HookLog> {
        Vec::new()
    }

    /// Gives back to the disk what a hook log holds before the last line end up to `to`: lines that were read. Places in the log
    /// stay what they are. `None` stands for the whole log, which goes away.
    async fn clear_hook_log(&self, _session: &SessionName, _to: Option<u64>) -> std::io::Result<()> {
        Ok(())
    }

    /// Completes when any incarnation's structured evidence may have changed; a hint.
    async fn changed(&self);
}

// ---------------------------------------------------------------------------------------------------------------------
// Files

/// The queue directories on disk. Every change is durable when the call returns. `claim` and `file` are several steps: of what was
/// begun and not answered any number of the first may have been done.
#[async_trait]
pub trait QueueStore: Send + Sync {
    /// Makes the queue's directories where missing.
    async fn prepare(&self, project: &ProjectName) -> std::io::Result<()>;
    /// The whole inbox, without texts; or what belongs to these names.
    async fn look(&self, project: &ProjectName, names: Option<&[Ask]>) -> std::io::Result<Inbox>;
    /// Puts our marker beside a task, if its text is what is expected and nobody else has claimed it, also when it stands.
    async fn claim(
        &self,
        project: &ProjectName,
        id: &TaskId,
        expected: &Expected,
        which: Sidecar,
        marker: &[u8],
    ) -> std::io::Result<Claimed>;
    /// Puts a task's end on disk: the result, one of that name kept beside it as `<id>.<n>.md` unless it holds the same bytes; then
    /// the task and what stands beside it go from the inbox. A newer text stays, and is answered.
    async fn file(
        &self,
        project: &ProjectName,
        id: &TaskId,
        end: &End,
    ) -> std::io::Result<Option<(Vec<u8>, FileFacts)>>;
    /// Puts a file of ours beside a task.
    async fn mark(
        &self,
        project: &ProjectName,
        id: &TaskId,
        which: Sidecar,
        text: &[u8],
        over: Over,
    ) -> std::io::Result<()>;
    /// Takes files of ours away from a task. A missing one is success.
    async fn unmark(&self, project: &ProjectName, id: &TaskId, which: &[Sidecar]) -> std::io::Result<()>;
    /// The files in `done/` and `failed/` under a task's name.
    async fn results(&self, project: &ProjectName, id: &TaskId) -> std::io::Result<Vec<Filed>>;
    /// Numbers of task files in the other directories.
    async fn counts(&self, project: &ProjectName) -> std::io::Result<Counts>;
    /// The facts belong to exactly the bytes read. Never follows a symlink. `max` bytes at most, else `FileTooLarge`;
    /// `InvalidInput` when it is no regular file.
    async fn read(
        &self,
        project: &ProjectName,
        dir: QueueDir,
        id: &TaskId,
        max: u64,
    ) -> std::io::Result<(Vec<u8>, FileFacts)>;
    /// Whether a task's `workdir` is a directory of its project, every link on the way followed.
    async fn workdir(&self, _project: &ProjectName, _workdir: &str) -> std::io::Result<Workdir> {
        Ok(Workdir::Inside)
    }
    /// Removes `<id>.md` unless it has changed since `seen`, or somebody has it open for writing; answers whether it is gone.
    async fn remove_unchanged(
        &self,
        project: &ProjectName,
        dir: QueueDir,
        id: &TaskId,
        seen: &FileFacts,
    ) -> std::io::Result<bool>;
    /// The task-like names in a directory, without reading the files.
    async fn entries(&self, project: &ProjectName, dir: QueueDir) -> std::io::Result<Vec<Entry>>;
    /// Adds files of `done/` or `failed/` to the archive of that month (`2026-10`) beside them. Whole and durable when it
    /// returns; what stands in it already is not stored twice. Answers the files that stand in it now: those that have changed
    /// since they were looked at, or are being written, do not.
    async fn archive(
        &self,
        project: &ProjectName,
        dir: QueueDir,
        month: &str,
        files: &[Entry],
    ) -> std::io::Result<Vec<TaskId>>;
    /// What writers that have ended left in the queue's directories.
    async fn leftovers(&self, project: &ProjectName) -> std::io::Result<Vec<Leftover>>;
    async fn remove_leftover(&self, project: &ProjectName, leftover: &Leftover) -> std::io::Result<()>;
    /// Renames a task between queue directories, never over another (`AlreadyExists`).
    async fn shift(&self, project: &ProjectName, from: QueueDir, to: QueueDir, id: &TaskId) -> std::io::Result<()>;
    /// Waits until something in an inbox may have changed and answers what; a hint. `None` stands for anything anywhere.
    async fn changed(&self) -> Option<(ProjectName, TaskId)>;
}

/// The accounts' homes and the operator's link to the active one. Implemented by `sys::homes`.
#[async_trait]
pub trait Homes: Send + Sync {
    /// Turns the operator's link to the account's home, atomically; nothing where there is no link to turn.
    async fn flip(&self, to: &AccountName) -> std::io::Result<()>;
    /// Whether the operator's link leads to the account's home now.
    async fn leads_to(&self, account: &AccountName) -> bool;
    /// Makes sure that the home's shared links are whole: makes missing ones, refuses what points elsewhere.
    async fn ensure(&self, account: &AccountName) -> Result<(), HomeFaults>;
    /// When somebody last logged in to the account, as its files tell.
    async fn logged_in(&self, account: &AccountName) -> Option<Timestamp>;
}

/// Those who do tasks over HTTP. Implemented by `sys::providers`. Every call ends in bounded time.
#[async_trait]
pub trait Providers: Send + Sync {
    /// Hands a job in; the same key twice is one job where the provider can tell (`repeats`). Answers the job's id.
    async fn submit(&self, provider: &ProviderName, order: &Order) -> Result<String, ProviderError>;
    async fn look(&self, provider: &ProviderName, job: &str) -> Result<Progress, ProviderError>;
    /// Completes when there may be news of the job; a hint. Where one has to ask it never does.
    async fn news(&self, _provider: &ProviderName, _job: &str) {
        std::future::pending::<()>().await;
    }
    /// A job that is gone already is success.
    async fn cancel(&self, provider: &ProviderName, job: &str) -> Result<(), ProviderError>;
    /// Whether an order sent again with the same key is not a second job.
    fn repeats(&self, provider: &ProviderName) -> bool;
}

/// The daemon's own state directory.
#[async_trait]
pub trait StateStore: Send + Sync {
    /// What there is, as it is: what it means, `model::journal` knows.
    async fn load(&self) -> std::io::Result<Stored>;
    /// Adds a record to the journal and answers the journal's length. It outlives the daemon, and the machine's power too when it,
    /// or any record after it, is `durable`. One that failed is not there any more when the next is added.
    async fn append(&self, record: &[u8], durable: bool) -> std::io::Result<u64>;
    /// Replaces the checkpoint, atomic and durable; the journal, all of which is in it, is empty then. The first thing that a
    /// daemon saves.
    async fn checkpoint(&self, state: &[u8]) -> std::io::Result<()>;
    /// Sets checkpoint and journal aside under other names, and answers which.
    async fn set_aside(&self) -> std::io::Result<String>;
    /// Appends whole lines to the event log.
    async fn append_events(&self, lines: &str) -> std::io::Result<()>;
    /// The event log's length in bytes, and when a line was last added.
    async fn events_log(&self) -> std::io::Result<(u64, Timestamp)>;
    /// Sets the event log aside, in place of the one set aside before, and begins a new one.
    async fn rotate_events(&self) -> std::io::Result<()>;
}

// ---------------------------------------------------------------------------------------------------------------------
// Notices

/// The receivers of notices. Implemented by `sys::notify`.
#[async_trait]
pub trait Notifier: Send + Sync {
    /// Delivers one notice, or says within a time limit of its own why not.
    async fn send(&self, channel: Channel, notice: &Notice) -> Result<(), NoticeError>;
}
