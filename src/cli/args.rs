//! The command tree. Help, manual page and completions come from it.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

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
    /// Give up after this long (30s, 5m, 2h) with exit code 4
    #[arg(long, short, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub timeout: Option<Duration>,
}

#[derive(Debug, Clone, Subcommand)]
pub enum WaitFor {
    /// Until a task is finished: exit code 0 when it is done, 1 when it failed, was cancelled or rejected
    Task {
        /// The task's id (its file name without .md), or PROJECT:ID
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

/// The tree as clap knows it.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
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
