//! `ccl-delegate`: delegates tasks to providers from shell scripts.
//! Passes arguments, environment and the task's text to `contract`; prints its answer and exits with its code. Decides
//! nothing.

use std::process::ExitCode;

fn main() -> ExitCode {
    claude_failover::contract::main(std::env::args_os()).into()
}
