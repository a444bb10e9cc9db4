//! `claude-failover command-agent`: runs any program as an agent, one task per run.
//!
//! Passes the task file to the program's stdin. The program's stdout goes to the pane; two lines go to the session's
//! hook log (`CommandStart`, `CommandEnd`; `CommandRefused` alone where the program can't be started) in the format of
//! [`crate::hook`]. Owns the child process, its process group, and what the child leaves behind (`left`). Never
//! interprets the task's text, and outlives the child only until what it left has ended.

mod left;
mod tail;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, PipeReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};

use clap::Parser;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, fchdir};
use serde_json::{Value, json};

use self::{left::Background, tail::Tail};
use crate::{hook, linux::spawn};

/// The most that a pipe can hold for an unprivileged process (`/proc/sys/fs/pipe-max-size`, pipe(7)): what an exited
/// child can have left in it.
const MAX_PIPE: usize = 1 << 20;
/// The status of a missing command, as a shell reports it (POSIX sh, 2.8.2).
const NOT_FOUND: u8 = 127;
/// The same of one that can't be executed.
const NOT_EXECUTABLE: u8 = 126;

#[derive(Parser)]
#[command(name = "claude-failover command-agent", about = "Run a program with a task on its stdin")]
struct Args {
    /// Become the program, which gets no task here
    #[arg(long, requires = "project", conflicts_with_all = ["task", "log"])]
    becomes: bool,
    /// The task's text, the program's stdin
    #[arg(long, value_name = "FILE", required_unless_present = "becomes")]
    task: Option<PathBuf>,
    /// The session's hook log
    #[arg(long, value_name = "FILE", required_unless_present = "becomes")]
    log: Option<PathBuf>,
    /// The session's name, copied into the log's lines
    #[arg(long, value_name = "NAME")]
    session: Option<String>,
    /// What becomes of what the program leaves behind in the terminal's session
    #[arg(long, value_enum, default_value_t = Background::Ends)]
    background: Background,
    /// The directory that the program must be started in or below
    #[arg(long, value_name = "DIR", requires = "workdir")]
    project: Option<PathBuf>,
    /// Where in the project the program is started
    #[arg(long, value_name = "DIR", requires = "project")]
    workdir: Option<PathBuf>,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    program: Vec<OsString>,
}

/// Runs the command with the arguments after its name; the exit status is the program's (128 + n for signal n).
pub fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args = match Args::try_parse_from(std::iter::once(OsString::from("claude-failover command-agent")).chain(args))
    {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let (Some(task), Some(to)) = (&args.task, &args.log) else {
        let why = become_program(&args);
        report(&why);
        return ExitCode::from(NOT_EXECUTABLE);
    };
    let log = |event: &str, data: Value| {
        if let Err(error) = hook::log::append(to, args.session.as_deref(), event, &data) {
            report(&format!("could not append {event} to {}: {error}", to.display()));
        }
    };
    let (signals, mut child, mut outputs) = match start(task, &args) {
        Ok(started) => started,
        Err((status, message)) => {
            report(&message);
            log("CommandRefused", json!({"status": status, "message": message}));
            return ExitCode::from(status);
        }
    };
    log("CommandStart", json!({"pid": child.id()}));
    let mut hung_up = false;
    let status = match supervise(&signals, &mut child, &mut outputs, &mut hung_up) {
        Ok(status) => status,
        Err(error) => {
            report(&format!("could not watch {}: {error}; it is killed", args.program[0].display()));
            let _ = killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL);
            let _ = child.wait();
            ExitStatus::from_raw(Signal::SIGKILL as i32)
        }
    };
    let mut end = match (status.code(), status.signal()) {
        (Some(code), _) => json!({"status": code}),
        (None, number) => {
            let name = number.and_then(|number| Signal::try_from(number).ok()).map(|signal| format!(" ({signal})"));
            json!({"signal": number, "name": name})
        }
    };
    // Named before anything is done to them: the result does not wait for their end.
    let left = left::settled();
    let [Output { tail: kept, .. }, Output { tail: errors, .. }] = &outputs;
    end["message"] = Value::String(kept.text() + &left.told(args.background));
    end["truncated"] = Value::Bool(kept.is_cut());
    // Reads on behind how it ended.
    end["said"] = errors.last_line().map(|line| Value::String(format!(": {line}"))).unwrap_or_default();
    // Without its terminal the program was ended from outside, as one that is killed: only a whole end is its own.
    log(if hung_up && !status.success() { "CommandLost" } else { "CommandEnd" }, end);
    match args.background {
        Background::Ends => left::end(&signals),
        Background::Stays => {}
    }
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    ExitCode::from(u8::try_from(code & 0xff).unwrap_or(u8::MAX))
}

fn report(message: &str) {
    let _ = writeln!(io::stderr(), "claude-failover command-agent: {message}");
}

/// Where the program can't be started: the exit status that says so, and the reason.
fn start(task: &Path, args: &Args) -> Result<(SignalFd, Child, [Output; 2]), (u8, String)> {
    let failed = |what: &str, error: io::Error| (NOT_EXECUTABLE, format!("could not {what}: {error}"));
    let task = File::open(task).map_err(|e| failed(&format!("read the task {}", task.display()), e))?;
    enter_workdir(args).map_err(|why| (NOT_EXECUTABLE, why))?;
    left::adopt().map_err(|e| failed("become the parent of what the program leaves behind", e))?;
    let mut wanted = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGCHLD] {
        wanted.add(signal);
    }
    // Blocked before the child exists, so that no signal can fall between start and watch.
    wanted.thread_block().map_err(|e| failed("block signals", e.into()))?;
    let signals = SignalFd::with_flags(&wanted, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(|e| failed("listen for signals", e.into()))?;
    let (stdout, to_stdout) = io::pipe().map_err(|e| failed("make a pipe for stdout", e))?;
    let (stderr, to_stderr) = io::pipe().map_err(|e| failed("make a pipe for stderr", e))?;
    let mut command = program(args);
    command.stdin(Stdio::from(task)).stdout(to_stdout).stderr(to_stderr).process_group(0);
    spawn::with_default_signals(&mut command);
    let child = command.spawn().map_err(|error| {
        let status = if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE };
        (status, format!("could not start {}: {error}; check the agent's `run`", args.program[0].display()))
    })?;
    // The command holds the other ends, as the child does.
    drop(command);
    Ok((signals, child, [Output::new(stdout, Tail::of_output()), Output::new(stderr, Tail::of_errors())]))
}

/// One stream of the program's.
struct Output {
    /// Until its end.
    pipe: Option<PipeReader>,
    tail: Tail,
}

impl Output {
    fn new(pipe: PipeReader, tail: Tail) -> Self {
        Self { pipe: Some(pipe), tail }
    }

    /// Copies what is there to the pane; answers how much that was.
    fn copy(&mut self, to: &mut impl Write) -> io::Result<usize> {
        let Some(pipe) = &mut self.pipe else { return Ok(0) };
        let mut chunk = [0; 16 << 10];
        let length = pipe.read(&mut chunk)?;
        if length == 0 {
            self.pipe = None;
        }
        self.tail.push(&chunk[..length]);
        // The pane may be gone while the result still counts.
        let _ = to.write_all(&chunk[..length]).and_then(|()| to.flush());
        Ok(length)
    }
}

fn program(args: &Args) -> Command {
    let mut command = Command::new(&args.program[0]);
    command.args(&args.program[1..]);
    // Shells trust this variable and walk its path, where a link may be by now.
    match std::env::current_dir() {
        Ok(dir) => command.env("PWD", dir),
        Err(_) => command.env_remove("PWD"),
    };
    command
}

/// Goes to the working directory and becomes the program there; answers why not.
fn become_program(args: &Args) -> String {
    match enter_workdir(args) {
        Ok(()) => format!("could not start {}: {}", args.program[0].display(), program(args).exec()),
        Err(why) => why,
    }
}

fn enter_workdir(args: &Args) -> Result<(), String> {
    let (Some(project), Some(workdir)) = (&args.project, &args.workdir) else { return Ok(()) };
    enter(project, workdir).map_err(|errno| not_entered(project, workdir, errno))
}

/// Goes to a directory of the project. The one that the kernel has found to lie beneath the project is the one that is
/// entered, whatever is put in its place meanwhile.
fn enter(project: &Path, workdir: &Path) -> nix::Result<()> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let project = open(project, flags, Mode::empty())?;
    let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    loop {
        match openat2(&project, workdir, how) {
            Ok(dir) => return fchdir(dir),
            // A rename elsewhere disturbed the walk.
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

fn not_entered(project: &Path, workdir: &Path, errno: Errno) -> String {
    let why = match errno {
        Errno::EXDEV | Errno::ELOOP => "a link there leads out of the project",
        other => other.desc(),
    };
    format!("workdir {} of {} was not entered and the task not started: {why}", workdir.display(), project.display())
}

/// Copies output and forwards signals until the child has ended. A background process that keeps a stream open does not hold the end up.
fn supervise(
    signals: &SignalFd,
    child: &mut Child,
    outputs: &mut [Output; 2],
    hung_up: &mut bool,
) -> io::Result<ExitStatus> {
    let group = Pid::from_raw(child.id().cast_signed());
    let mut drained = 0;
    loop {
        let status = child.try_wait()?;
        let timeout = if status.is_some() { PollTimeout::ZERO } else { PollTimeout::NONE };
        let [readable, failing] = ready(signals, outputs, timeout)?;
        let mut copied = 0;
        if readable && drained < 2 * MAX_PIPE {
            copied += outputs[0].copy(&mut io::stdout())?.max(1);
        }
        if failing && drained < 2 * MAX_PIPE {
            copied += outputs[1].copy(&mut io::stderr())?.max(1);
        }
        if let Some(status) = status {
            if copied == 0 {
                return Ok(status);
            }
            drained += copied;
        }
        while let Ok(Some(info)) = signals.read_signal() {
            match Signal::try_from(info.ssi_signo.cast_signed()) {
                Ok(Signal::SIGCHLD) => left::reap(group),
                Err(_) => {}
                // The daemon ends a tree by a queued signal to each process: a second one would be a second request.
                Ok(_) if info.ssi_code == libc::SI_QUEUE => {}
                Ok(signal) => {
                    *hung_up |= signal == Signal::SIGHUP;
                    let _ = killpg(group, signal);
                }
            }
        }
    }
}

/// Waits for a signal or output; answers which stream has some.
fn ready(signals: &SignalFd, outputs: &[Output; 2], timeout: PollTimeout) -> io::Result<[bool; 2]> {
    let mut fds = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
    let open: Vec<bool> = outputs.iter().map(|output| output.pipe.is_some()).collect();
    fds.extend(outputs.iter().filter_map(|output| Some(PollFd::new(output.pipe.as_ref()?.as_fd(), PollFlags::POLLIN))));
    match poll(&mut fds, timeout) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(error) => return Err(error.into()),
    }
    let mut any = fds.iter().skip(1).map(|fd| fd.any().unwrap_or(false));
    Ok([0, 1].map(|n| open[n] && any.next().unwrap_or(false)))
}
