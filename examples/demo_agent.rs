//! The demonstration agent, the hook command and the command agent as one small program: the first argument picks.

use std::process::ExitCode;

use claude_failover::{command_agent, demo_agent, hook};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1).peekable();
    match args.peek().and_then(|first| first.to_str()) {
        Some("hook") => hook::run(args.skip(1)),
        Some("command-agent") => command_agent::run(args.skip(1)),
        _ => demo_agent::run(args),
    }
}
