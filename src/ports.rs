//! The outside edges as traits: clock, queue directories, state files, terminal, agents.
//! In: calls of `live` and the services. Out: what the world answered. `sys` and `agents` implement them on the real
//! thing, `fake` in memory for the simulation. Every method that changes something is one step that happens whole or,
//! on a crash, either way: never half.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{
    event::{Counts, Ignored},
    evidence::{Look, Screen, Signal, Source, Tokens},
    ids::{AccountName, AgentName, ProjectName, ProviderName, RunId, SessionName, TaskId},
    notice::{Channel, Notice},
    provider::ProviderStanding,
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

/// One pane of one terminal server (`%7@4711`): exact, and never another pane, not even after the server was replaced.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PaneId(pub String);

/// One pane of one session as the terminal shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pane {
    pub session: SessionName,
    pub id: PaneId,
    /// Process id of the program in the pane.
    pub pid: u32,
    /// `None` while the program runs.
    pub exit: Option<Exit>,
    pub title: String,
    /// The incarnation that `open` was given, as the pane itself remembers it; `None` for a pane that somebody else made.
    pub incarnation: Option<String>,
    /// Clients of people that look at this session.
    pub attached: u32,
    /// Grows or changes whenever the pane's content may have changed; compare only.
    pub change: u64,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exit {
    Status(i32),
    Signal(i32),
    /// It is gone and nothing says how.
    Unknown,
}

impl Background {
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ends => "ends",
            Self::Stays => "stays",
        }
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(status) => write!(f, "exit status {status}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
            Self::Unknown => f.write_str("how is not known"),
        }
    }
}

/// What to run in a session's pane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    pub session: SessionName,
    /// Remembered by the pane, so that a later daemon can tell its own from a stranger's.
    pub incarnation: String,
    pub argv: Vec<String>,
    /// The whole environment beyond the terminal's own few variables.
    pub env: Vec<(String, String)>,
    pub workdir: PathBuf,
    /// Keep the dead pane and its last screen (pool sessions); else the session goes with its program (dedicated ones).
    pub keep_dead: bool,
}

/// What becomes of what a program has started in the background when it is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Background {
    /// It ends with the program: its whole process tree, and its terminal's session.
    Ends,
    /// It runs on: what has a process group of its own. The program's own group is the program.
    Stays,
}

/// How to read a pane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capture {
    /// The visible screen, text only.
    Plain,
    /// The visible screen with colours (SGR only).
    Colour,
    /// The scrollback and the visible screen, text only.
    History,
}

/// A key by tmux's name: `Enter`, `Escape`, `C-c`, `Down`, `y`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key(pub String);

/// Something the terminal reports by itself; a hint to look again, never the truth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TerminalHint {
    /// Sessions or panes came, went or died.
    Panes,
    /// The terminal server went away or came back: everything may be different.
    Server,
}

#[derive(Debug, thiserror::Error)]
pub enum TerminalError {
    /// The pane or session isn't there.
    #[error("{what}: no such pane or session")]
    Gone { what: String },
    /// The program in the pane has ended.
    #[error("{what}: the program in the pane has ended")]
    Dead { what: String },
    /// The terminal said no; its own words.
    #[error("tmux refused {what}: {message}")]
    Refused { what: String, message: String },
    /// The text holds something that must never reach a terminal.
    #[error("text for {what} was refused: {message}")]
    Text { what: String, message: String },
    /// No answer in time, or no server.
    #[error("tmux does not answer ({what}): {message}")]
    Down { what: String, message: String },
}

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

/// What a session gets of the daemon's environment; `LC_*` besides.
pub const PASSED_ON: [&str; 9] =
    ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR", "XDG_RUNTIME_DIR"];

/// The variable in which an incarnation's processes have its token, all that it starts among them.
pub const INCARNATION: &str = "CLAUDE_FAILOVER_INCARNATION";

/// What `Agents::launch` is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchRequest {
    pub session: SessionName,
    pub incarnation: String,
    /// As `Incarnation::token`.
    pub token: String,
    pub agent: AgentName,
    pub account: Option<AccountName>,
    pub workdir: PathBuf,
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
    /// The project's own directory, which the program must not be started outside of.
    pub project: Option<PathBuf>,
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
    /// When the last thing happened that each source told of.
    pub heard: BTreeMap<Source, Timestamp>,
    /// When everything that was told by then had been read.
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

/// What is known of each agent CLI. Implemented by `agents`.
#[async_trait]
pub trait Agents: Send + Sync {
    fn prompt_by(&self, agent: &AgentName) -> PromptBy;

    /// Whether the agent tells by hook, status file or transcript that it took a prompt.
    fn tells_prompts(&self, agent: &AgentName) -> bool;

    /// Whether the agent tells by hook or transcript when a turn has ended.
    fn tells_turns(&self, agent: &AgentName) -> bool;

    /// Whether the agent's transcript tells of a turn's end, too. Everything that the turn used is in it by then.
    fn records_turns(&self, _agent: &AgentName) -> bool {
        false
    }

    /// A task's text as it is typed: one that the agent would take for something else than a prompt gets words around it, and
    /// so does one that could not be told from the `ghost` that stands in the box.
    fn as_prompt(&self, _agent: &AgentName, text: String, _ghost: Option<&str>) -> String {
        text
    }

    /// Whether the agent can go on with an earlier conversation.
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

    /// Tokens that the conversation used so far, where the transcript tells.
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

/// The queue directories on disk. Every change is durable when the call returns.
#[async_trait]
pub trait QueueStore: Send + Sync {
    /// Makes the queue's directories where missing.
    async fn prepare(&self, project: &ProjectName) -> std::io::Result<()>;
    /// The whole inbox, or only what belongs to `only`.
    async fn list(&self, project: &ProjectName, only: Option<&TaskId>) -> std::io::Result<Inbox>;
    /// How many task files stand in the other directories.
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
    /// Whether some process has the file open for writing; `None` where the file system can't tell.
    async fn has_writer(&self, project: &ProjectName, dir: QueueDir, id: &TaskId) -> std::io::Result<Option<bool>>;
    /// Whether a task's `workdir` is a directory of its project, every link on the way followed.
    async fn workdir(&self, _project: &ProjectName, _workdir: &str) -> std::io::Result<Workdir> {
        Ok(Workdir::Inside)
    }
    async fn read_sidecar(&self, project: &ProjectName, id: &TaskId, which: Sidecar) -> std::io::Result<Vec<u8>>;
    /// Makes the sidecar; `AlreadyExists` when somebody was first.
    async fn write_sidecar(
        &self,
        project: &ProjectName,
        id: &TaskId,
        which: Sidecar,
        text: &[u8],
    ) -> std::io::Result<()>;
    /// Puts another text in the place of a sidecar of ours, or makes it anew.
    async fn replace_sidecar(
        &self,
        project: &ProjectName,
        id: &TaskId,
        which: Sidecar,
        text: &[u8],
    ) -> std::io::Result<()>;
    /// A missing one is success.
    async fn remove_sidecar(&self, project: &ProjectName, id: &TaskId, which: Sidecar) -> std::io::Result<()>;
    /// Writes a whole file into `done/` or `failed/`, replacing one of that name atomically. The one replaced is kept
    /// beside it as `<id>.<n>.md` unless it holds the same bytes.
    async fn file(&self, project: &ProjectName, dir: QueueDir, id: &TaskId, text: &[u8]) -> std::io::Result<()>;
    /// Removes `inbox/<id>.md`. A missing one is success.
    async fn remove(&self, project: &ProjectName, id: &TaskId) -> std::io::Result<()>;
    /// Removes `<id>.md` unless it has changed since `seen`; answers whether it is gone.
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
    /// since they were looked at do not.
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

/// Why a home can't be used: each fault one sentence with its remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct HomeFaults(pub Vec<String>);

/// Something wrong with an account's home or with the operator's link, as `check` and the daemon's start tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HomeFault {
    /// The key of the configuration that it is about.
    pub key: String,
    pub message: String,
    pub remedy: String,
    /// Nothing is in the way: it can be made.
    pub missing: bool,
}

/// What a look at all homes found, and what it made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HomesReport {
    pub made: Vec<String>,
    pub faults: Vec<HomeFault>,
    /// What keeps nothing from working and still is hardly meant.
    pub notes: Vec<String>,
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

/// What a provider is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The same for each sending of one attempt, so that a repeated one is known again.
    pub key: RunId,
    pub prompt: String,
    /// The task's `preferred_ai`: a server that chooses among several is told.
    pub word: Option<String>,
    pub complexity: Option<String>,
}

/// How a job stands.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// `output` is what there is so far, where the provider shows it.
    Running {
        output: Option<Arc<str>>,
    },
    Done(Answer),
    /// The job ended without an answer; the provider's words.
    Failed(String),
    /// The job came to nothing for a reason that another provider need not have.
    Declined(ProviderError),
    /// The provider, or this process where the answer comes on the request's own connection, knows no such job.
    Unknown,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub text: String,
    pub tokens: Option<Tokens>,
    pub cost_usd: Option<f64>,
}

/// Why a provider did not do what was asked, after every try that made sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// This request is wrong for it; others may pass.
    #[error("{0}")]
    Refused(String),
    /// It can take nothing now.
    #[error("{}", .0.why().unwrap_or_default())]
    Out(ProviderStanding),
}

/// Those who do tasks over HTTP. Implemented by `sys::providers`. Every call ends in bounded time.
#[async_trait]
pub trait Providers: Send + Sync {
    /// Hands a job in; the same key twice is one job where the provider can tell (`repeats`). Answers the job's id.
    async fn submit(&self, provider: &ProviderName, order: &Order) -> Result<String, ProviderError>;
    async fn look(&self, provider: &ProviderName, job: &str) -> Result<Progress, ProviderError>;
    /// Completes when there may be news of the job; a hint. Where one has to ask it never does.
    async fn news(&self, _provider: &ProviderName, _job: &str) {
        std::future::pending().await
    }
    /// A job that is gone already is success.
    async fn cancel(&self, provider: &ProviderName, job: &str) -> Result<(), ProviderError>;
    /// Whether an order sent again with the same key is not a second job.
    fn repeats(&self, provider: &ProviderName) -> bool;
}

/// The daemon's own state directory.
#[async_trait]
pub trait StateStore: Send + Sync {
    /// `None` when there is none yet. An unreadable one is set aside and reported as an error, never overwritten.
    async fn load(&self) -> std::io::Result<Option<Vec<u8>>>;
    /// Atomic and durable.
    async fn save(&self, state: &[u8]) -> std::io::Result<()>;
    /// Sets the present file aside under another name and answers the name.
    async fn set_aside(&self) -> std::io::Result<String>;
    /// Appends whole lines to the event log.
    async fn append_events(&self, lines: &str) -> std::io::Result<()>;
    /// The event log's length in bytes, and when a line was last added.
    async fn events_log(&self) -> std::io::Result<(u64, Timestamp)>;
    /// Sets the event log aside, in place of the one set aside before, and begins a new one.
    async fn rotate_events(&self) -> std::io::Result<()>;
    /// Keeps the text of a run, for its result; durable.
    async fn save_run(&self, run: &RunId, text: &[u8]) -> std::io::Result<()>;
    async fn load_run(&self, run: &RunId) -> std::io::Result<Vec<u8>>;
    async fn remove_run(&self, run: &RunId) -> std::io::Result<()>;
    /// Removes the texts of all other runs.
    async fn keep_runs(&self, keep: &[RunId]) -> std::io::Result<()>;
}

// ---------------------------------------------------------------------------------------------------------------------
// Notices

/// Why a notice was not delivered. The words never hold a key, a token or an address that has one in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoticeError {
    /// It may work later; `after` is what the receiver asked to wait.
    #[error("{why}")]
    Temporary { why: String, after: Option<Duration> },
    /// The same notice would be refused again.
    #[error("{0}")]
    Permanent(String),
}

/// The receivers of notices. Implemented by `sys::notify`.
#[async_trait]
pub trait Notifier: Send + Sync {
    /// Delivers one notice, or says within a time limit of its own why not.
    async fn send(&self, channel: Channel, notice: &Notice) -> Result<(), NoticeError>;
}
