//! The program's entry point: parses arguments and dispatches to the command.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used))]

use std::{
    io::{self, BufWriter, IsTerminal},
    process::ExitCode,
};

use claude_failover::{
    cli::{self, Action, Io, Next},
    command_agent,
    config::paths,
    daemon, demo_agent, hook, repeater,
    sys::homes::AccountHomes,
};

fn main() -> ExitCode {
    cli::complete();
    let terminal = io::stdout().is_terminal();
    let next = cli::start(
        std::env::args_os(),
        &mut Io {
            out: &mut BufWriter::new(io::stdout()),
            err: &mut io::stderr(),
            env: &paths::process_env,
            homes: &|config, fix| AccountHomes::new(config).report(fix),
            notify: &daemon::test_notices,
            state: &daemon::state::reported,
            terminal,
            err_terminal: io::stderr().is_terminal(),
        },
    );
    match next {
        Next::Exit(exit) => exit.into(),
        Next::Do(action) => perform(action),
    }
}

fn perform(action: Action) -> ExitCode {
    match action {
        Action::Run(args) => daemon::main::main(&args).into(),
        Action::Demo(args) => daemon::demo::main(&args).into(),
        Action::State(args) => daemon::state::main(&args).into(),
        Action::Hook(args) => hook::run(args.into_iter()),
        Action::DemoAgent(args) => demo_agent::run(args.into_iter()),
        Action::CommandAgent(args) => command_agent::run(args.into_iter()),
        Action::Repeater(args) => repeater::run(args.into_iter()),
    }
}
