//! The clap command tree of `ccl-delegate`, from which help and documentation are generated.
//! Parses a command line, or exits with usage and code 2. Reads no file and no variable.

use std::{path::PathBuf, time::Duration};

use clap::{Args, CommandFactory, Parser, Subcommand};

/// Delegates tasks to providers over HTTP, for shell scripts: no daemon is needed.
///
/// Environment: CCL_SECUTOOLS_URL is the job server and CCL_SECUTOOLS_MOCK_URL one for tests that takes its place;
/// CCL_SECUTOOLS_API_KEY, else SECUTOOLS_API_KEY, is its key. Without an address the configuration's providers count.
#[derive(Debug, Parser)]
#[command(name = "ccl-delegate", version, max_term_width = 100, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    pub call: Call,
    /// The configuration [default: ~/.config/claude-failover/config.yaml, else /etc/claude-failover/config.yaml]
    #[arg(long, short, value_name = "FILE", env = "CLAUDE_FAILOVER_CONFIG", hide_env_values = true, global = true)]
    pub config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum Call {
    /// Print where a task goes by the rules: a provider's word, or `local`
    Decide(TaskArgs),
    /// Hand a task in and print its job as JSON: exit code 2 when the task is local by the rules
    Submit {
        #[command(flatten)]
        task: TaskArgs,
        /// To this provider, whatever the task says
        #[arg(long, value_name = "PROVIDER")]
        provider: Option<String>,
        /// The idempotency key: submits with the same key are one job [default: a new one]
        #[arg(long, value_name = "KEY")]
        key: Option<String>,
    },
    /// Print a job's state as JSON
    Get(JobArgs),
    /// Print a job's output: exit code 1 when it failed, 4 when there is none yet
    Result {
        #[command(flatten)]
        job: JobArgs,
        /// Wait until the job has ended
        #[arg(long)]
        wait: bool,
        /// With --wait: give up after this long (seconds, or 5m, 2h) with exit code 4
        #[arg(long, value_name = "TIME", requires = "wait", value_parser = duration)]
        timeout: Option<Duration>,
    },
}

#[derive(Debug, Args)]
pub struct TaskArgs {
    /// A task file; `-` is standard input
    pub file: PathBuf,
}

#[derive(Debug, Args)]
pub struct JobArgs {
    /// The job's id
    pub job: String,
    /// The job server that has it, where several are configured [default: the first]
    #[arg(long, value_name = "PROVIDER")]
    pub provider: Option<String>,
}

/// A bare number is seconds.
fn duration(text: &str) -> Result<Duration, humantime::DurationError> {
    text.parse().map(Duration::from_secs).or_else(|_| humantime::parse_duration(text))
}

/// The tree as clap knows it.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}
