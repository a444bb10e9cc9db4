//! The clap command tree, from which help, the manual page and completions are generated.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::{Shell, engine::ArgValueCandidates};

use super::candidates;

/// A supervisor for coding agents in tmux whose whole state is a directory.
///
/// A task is a file in a project's .agent-queue/inbox. Moving the file is the verb, reading a file is the query.
#[derive(Debug, Parser)]
#[command(name = "claude-failover", version, max_term_width = 100, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Call,
}

/// What was asked for.
#[derive(Debug, Subcommand)]
pub enum Call {
    /// Run the daemon
    ///
    /// It stays in the foreground; a service manager starts and stops it (examples/systemd). SIGTERM ends it and leaves
    /// the agents at work, SIGHUP reads the configuration again.
    Run(RunArgs),
    /// Run the whole thing in a temporary directory with the built-in agent
    Demo(DemoArgs),
    /// Look for everything that would keep the daemon from working: every problem at once, with its place and remedy
    Check(CheckArgs),
    /// Show what an agent's rules make of a captured screen: its input box, its regions and the rules that match
    Look(LookArgs),
    /// Show accounts, sessions, queues and health
    Status(ShowArgs),
    /// Show the tasks
    Tasks(ShowArgs),
    /// Show the sessions
    Sessions(ShowArgs),
    /// Show the accounts
    Accounts(ShowArgs),
    /// Wait until something holds
    Wait(WaitArgs),
    /// Submit a task: write its text into an inbox, and print its id
    Submit(SubmitArgs),
    /// Show what happened to a task, then its result or the agent's screen
    Log(LogArgs),
    /// Attach to a session's terminal with tmux; Ctrl-b d leaves it at work
    Attach(AttachArgs),
    /// Print the mount's directory: MNT=$(claude-failover mount-path)
    MountPath(UnmountArgs),
    /// Write a first configuration from what is installed and logged in
    Init(InitArgs),
    /// Show what is saved, as JSON lines: the last checkpoint, then a record for each change since
    State(StateArgs),
    /// What agents' hooks call: takes a hook's JSON on standard input into the session's hook log
    #[command(disable_help_flag = true)]
    Hook(RawArgs),
    /// Detach a mount of ours, dead or alive; nothing mounted is success
    Unmount(UnmountArgs),
    /// Write a shell's completions to standard output
    Completions(ShellArgs),
    /// Write the manual page to standard output
    Man,
    #[command(hide = true, disable_help_flag = true)]
    DemoAgent(RawArgs),
    #[command(hide = true, disable_help_flag = true)]
    CommandAgent(RawArgs),
    #[command(hide = true, disable_help_flag = true)]
    Repeater(RawArgs),
}

/// Commands that live elsewhere in the program.
#[derive(Debug)]
pub enum Action {
    Run(RunArgs),
    Demo(DemoArgs),
    State(StateArgs),
    Hook(Vec<OsString>),
    DemoAgent(Vec<OsString>),
    CommandAgent(Vec<OsString>),
    Repeater(Vec<OsString>),
}

#[derive(Debug, Clone, Args)]
pub struct ConfigArg {
    /// The configuration [default: ~/.config/claude-failover/config.yaml, else /etc/claude-failover/config.yaml]
    #[arg(long, short, value_name = "FILE", env = "CLAUDE_FAILOVER_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub config: ConfigArg,
    /// Log for people on a terminal instead of for the journal
    #[arg(long)]
    pub foreground: bool,
}

#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// How many agents work
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=50))]
    pub agents: u32,
    /// Leave everything running, and say what to type next and how to end it
    #[arg(long)]
    pub keep: bool,
    /// End a demo that was left running, and remove its directory
    #[arg(long, value_name = "DIR", conflicts_with_all = ["keep", "agents"])]
    pub end: Option<PathBuf>,
}

/// The state directory is $STATE_DIRECTORY, or the one of the XDG base directories.
#[derive(Debug, Clone, Args)]
pub struct StateArgs {
    /// Go on with each further record
    #[arg(long, conflicts_with_all = ["backup", "restore"])]
    pub follow: bool,
    /// Write the whole state to a new file, also beside a running daemon
    #[arg(long, value_name = "FILE", conflicts_with = "restore")]
    pub backup: Option<PathBuf>,
    /// Put a backup in the place of what is saved, which is kept under another name; the daemon must be stopped
    ///
    /// What people said comes back. Tasks that were at work wait for a person, because whether they ran since is not known.
    #[arg(long, value_name = "FILE")]
    pub restore: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub struct LookArgs {
    #[command(flatten)]
    pub config: ConfigArg,
    /// The agent of the configuration
    #[arg(long, value_name = "NAME")]
    pub agent: String,
    /// The terminal's title
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub title: String,
    /// The screen as `tmux capture-pane -p` prints it; `-` is standard input
    #[arg(value_name = "FILE")]
    pub screen: PathBuf,
}

#[derive(Debug, Clone, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    pub config: ConfigArg,
    /// Create what is missing: queue directories, the state directory, the mountpoint; nothing else is changed
    #[arg(long)]
    pub fix: bool,
    /// Send a test through every channel of `notifications`, and say what came back
    #[arg(long)]
    pub notify: bool,
    /// Also write all that a report of a fault needs to one new file: versions, settings, state, log; without secrets and texts of tasks
    #[arg(long, value_name = "FILE")]
    pub bundle: Option<PathBuf>,
}

/// How a command finds the mount.
#[derive(Debug, Clone, Args)]
pub struct MountArgs {
    #[command(flatten)]
    pub config: ConfigArg,
    /// The mount's directory [default: the configuration's mount.path, else the runtime directory's]
    #[arg(long, short, value_name = "DIR", env = "CLAUDE_FAILOVER_MOUNT", hide_env_values = true)]
    pub mount: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub struct ShowArgs {
    #[command(flatten)]
    pub mount: MountArgs,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Args)]
pub struct WaitArgs {
    #[command(subcommand)]
    pub what: WaitFor,
}

#[derive(Debug, Clone, Args)]
pub struct WaitHow {
    #[command(flatten)]
    pub mount: MountArgs,
    /// Give up after this long (30s, 5m, 2h; a bare number is seconds) with exit code 4
    #[arg(long, short, value_name = "TIME", value_parser = duration)]
    pub timeout: Option<Duration>,
}

#[derive(Debug, Clone, Subcommand)]
pub enum WaitFor {
    /// Until a task is finished: exit code 0 when it is done, 1 when it failed, was cancelled or rejected
    Task {
        /// The task's id (its file name without .md), or PROJECT:ID
        #[arg(add = ArgValueCandidates::new(candidates::tasks))]
        id: String,
        #[command(flatten)]
        how: WaitHow,
    },
    /// Until no swap is under way: exit code 0, or 1 when one has failed since, or is left half done
    Swap {
        #[command(flatten)]
        how: WaitHow,
    },
    /// Until no task is queued and nobody works on one
    Idle {
        #[command(flatten)]
        how: WaitHow,
    },
}

#[derive(Debug, Clone, Args)]
pub struct SubmitArgs {
    #[command(flatten)]
    pub mount: MountArgs,
    /// The task; - or nothing reads standard input
    #[arg(value_name = "TEXT")]
    pub text: Vec<String>,
    /// The project whose inbox takes it [default: the first]
    #[arg(long, short, value_name = "NAME", add = ArgValueCandidates::new(candidates::projects))]
    pub project: Option<String>,
    /// The task's id [default: made from its first words]
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// The agent that does it
    #[arg(long, short, value_name = "AGENT")]
    pub agent: Option<String>,
    /// -100 to 100, higher first
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(-100..=100))]
    pub priority: Option<i32>,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Args)]
pub struct LogArgs {
    #[command(flatten)]
    pub mount: MountArgs,
    /// The task's id, or PROJECT:ID
    #[arg(add = ArgValueCandidates::new(candidates::tasks))]
    pub id: String,
    /// Follow until the task is finished
    #[arg(long, short)]
    pub follow: bool,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Args)]
pub struct AttachArgs {
    #[command(flatten)]
    pub mount: MountArgs,
    /// The session's name
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(candidates::sessions))]
    pub session: String,
    /// Only look: keys reach nobody
    #[arg(long, short)]
    pub read_only: bool,
}

#[derive(Debug, Clone, Args)]
pub struct InitArgs {
    #[command(flatten)]
    pub config: ConfigArg,
    /// The first project's directory [default: here]
    #[arg(long, short, value_name = "DIR")]
    pub project: Option<PathBuf>,
    /// Print it instead of writing the file
    #[arg(long)]
    pub print: bool,
}

#[derive(Debug, Clone, Args)]
pub struct UnmountArgs {
    #[command(flatten)]
    pub mount: MountArgs,
}

#[derive(Debug, Clone, Args)]
pub struct ShellArgs {
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Arguments that are passed on untouched, so that no wrong use can end in an error here: an agent takes a hook's exit
/// code 2 as a veto.
#[derive(Debug, Clone, Args)]
pub struct RawArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    pub args: Vec<OsString>,
}

/// A time with its unit; a bare number is seconds, as in a task's `timeout`.
fn duration(text: &str) -> Result<Duration, humantime::DurationError> {
    match text.parse() {
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
        Err(_) => humantime::parse_duration(text),
    }
}

/// The tree as clap knows it.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Stands before a text that looks like an option; no argument can hold it.
const TEXT: char = '\0';

/// `submit` takes texts that begin as a frontmatter, a patch or a list does. No option of ours begins so.
pub fn mark_texts(args: impl Iterator<Item = OsString>) -> impl Iterator<Item = OsString> {
    let mut submits = false;
    args.enumerate().map(move |(n, arg)| {
        submits |= n == 1 && arg == "submit";
        let bytes = arg.as_encoded_bytes();
        let is_text = bytes.starts_with(b"---") || matches!(bytes, [b'-', next, ..] if next.is_ascii_whitespace());
        if !(submits && is_text) {
            return arg;
        }
        let mut marked = OsString::from(TEXT.to_string());
        marked.push(arg);
        marked
    })
}

/// A text as it was given.
#[must_use]
pub fn unmarked(text: &str) -> &str {
    text.strip_prefix(TEXT).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn a_hook_takes_anything() {
        for args in [&["--help"][..], &["-x", "--", "y"], &["--config"], &[]] {
            let all = ["claude-failover", "hook"].iter().chain(args);
            let cli = Cli::try_parse_from(all).unwrap_or_else(|error| panic!("{args:?}: {error}"));
            let Call::Hook(raw) = cli.command else { panic!("{args:?}") };
            assert_eq!(raw.args.len(), args.len(), "{args:?}: {raw:?}");
        }
    }
}
