//! The delegation contract for shell scripts.

use std::process::ExitCode;

fn main() -> ExitCode {
    claude_failover::contract::main(std::env::args_os()).into()
}
