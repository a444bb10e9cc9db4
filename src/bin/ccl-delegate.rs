//! The delegation contract for shell scripts.
//! In: arguments, the environment, a task's text. Out: what `contract` says, and its exit code. Decides nothing.

use std::process::ExitCode;

fn main() -> ExitCode {
    claude_failover::contract::main(std::env::args_os()).into()
}
