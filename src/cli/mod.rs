//! The command line: argument parsing, and the commands that run without a daemon of their own.
//! Turns arguments and environment into text and an exit code, or an `Action` that another part carries out. Reads the
//! mount like any other program and talks to the supervisor in no other way.

mod args;
mod attach;
mod candidates;
mod check;
mod exit;
mod init;
mod io;
mod log;
mod look;
mod man;
mod mount;
mod mount_path;
mod place;
mod show;
mod status_file;
mod submit;
mod table;
mod unmount;
mod wait;

use clap::{CommandFactory, FromArgMatches};
use std::ffi::OsString;

pub use args::{Action, Cli, DemoArgs, RunArgs, StateArgs, command};
pub use exit::{Exit, Failure};
pub use io::{Io, NoticeReport};
pub use mount::Mount;

/// What is to be done after the arguments were understood.
#[derive(Debug)]
pub enum Next {
    Exit(Exit),
    /// For the caller: these commands live elsewhere.
    Do(Action),
}

/// Answers a shell that asks for completions, and ends the program then; else does nothing.
pub fn complete() {
    clap_complete::CompleteEnv::with_factory(command).var(man::COMPLETE).complete();
}

/// Reads the arguments and carries out what this module can.
pub fn start(args: impl Iterator<Item = OsString>, io: &mut Io<'_>) -> Next {
    let matches = match command().try_get_matches_from(args::mark_texts(args)) {
        Ok(matches) => matches,
        Err(error) => return Next::Exit(refuse(&error, io)),
    };
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => return Next::Exit(refuse(&error.format(&mut Cli::command()), io)),
    };
    match cli.command {
        args::Call::Run(run) => Next::Do(Action::Run(run)),
        args::Call::Demo(demo) => Next::Do(Action::Demo(demo)),
        args::Call::State(state) => Next::Do(Action::State(state)),
        args::Call::Hook(raw) => Next::Do(Action::Hook(raw.args)),
        args::Call::DemoAgent(raw) => Next::Do(Action::DemoAgent(raw.args)),
        args::Call::CommandAgent(raw) => Next::Do(Action::CommandAgent(raw.args)),
        args::Call::Repeater(raw) => Next::Do(Action::Repeater(raw.args)),
        args::Call::Check(check) => finish(check::run(&check, io), io),
        args::Call::Look(args) => finish(look::run(&args, io), io),
        args::Call::Status(show) => finish(show::run(show::Part::Status, &show, io), io),
        args::Call::Tasks(show) => finish(show::run(show::Part::Tasks, &show, io), io),
        args::Call::Sessions(show) => finish(show::run(show::Part::Sessions, &show, io), io),
        args::Call::Accounts(show) => finish(show::run(show::Part::Accounts, &show, io), io),
        args::Call::Wait(wait) => finish(wait::run(&wait, io), io),
        args::Call::Submit(submit) => finish(submit::run(&submit, io), io),
        args::Call::Log(log) => finish(log::run(&log, io), io),
        args::Call::Attach(attach) => finish(attach::run(&attach, io), io),
        args::Call::MountPath(mount) => finish(mount_path::run(&mount, io), io),
        args::Call::Init(init) => finish(init::run(&init, io), io),
        args::Call::Unmount(unmount) => finish(unmount::run(&unmount, io), io),
        args::Call::Completions(shell) => finish(man::completions(shell.shell, io), io),
        args::Call::Man => finish(man::page(io), io),
    }
}

fn finish(result: Result<Exit, Failure>, io: &mut Io<'_>) -> Next {
    let result = result.and_then(|exit| io.out.flush().map(|()| exit).map_err(Failure::from));
    Next::Exit(match result {
        Ok(exit) => exit,
        Err(Failure::Broken(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => Exit::Ok,
        Err(failure) => {
            // Nothing is left to report to when this fails too.
            let _ = writeln!(io.err, "claude-failover: {failure}");
            failure.exit()
        }
    })
}

/// `--help` and `--version` are answers, all else is a wrong use.
fn refuse(error: &clap::Error, io: &mut Io<'_>) -> Exit {
    let text = error.render();
    if error.use_stderr() {
        let _ = write!(io.err, "{text}");
        return Exit::Usage;
    }
    let written = if io.terminal { write!(io.out, "{}", text.ansi()) } else { write!(io.out, "{text}") };
    match written.and_then(|()| io.out.flush()) {
        Ok(()) => Exit::Ok,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Exit::Ok,
        Err(_) => Exit::Failed,
    }
}
