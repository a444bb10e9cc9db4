//! The program: understands its arguments and hands over.

use std::{
    io::{self, BufWriter, IsTerminal},
    process::ExitCode,
};

use claude_failover::{
    cli::{self, Action, Exit, Io, Next},
    command_agent,
    config::paths,
    demo_agent, hook,
};

fn main() -> ExitCode {
    let terminal = io::stdout().is_terminal();
    let next = cli::start(
        std::env::args_os(),
        &mut Io {
            out: &mut BufWriter::new(io::stdout()),
            err: &mut io::stderr(),
            env: &paths::process_env,
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
    let name = match action {
        Action::Run(_) => "run",
        Action::Demo(_) => "demo",
        Action::Hook(args) => return hook::run(args.into_iter()),
        Action::DemoAgent(args) => return demo_agent::run(args.into_iter()),
        Action::CommandAgent(args) => return command_agent::run(args.into_iter()),
    };
    eprintln!("claude-failover: `{name}` isn't built into this program yet");
    Exit::Failed.into()
}
