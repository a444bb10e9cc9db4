//! The body of `claude-failover command-agent`: any program as an agent, one task a run.
//!
//! In: a task file, given to the program as its stdin. Out: the program's stdout on the pane, and two lines in the session's hook log
//! (`CommandStart`, `CommandEnd`) in the format of [`crate::hook`]. It owns the child process and its process group.
//! It never interprets the task's text, and never outlives the child.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, PipeReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};

use clap::Parser;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::hook;

/// How much of the end of stdout is kept as the task's result.
pub const KEPT: usize = 256 << 10;
/// The most that a pipe can hold for an unprivileged process (`/proc/sys/fs/pipe-max-size`, pipe(7)): what an ended child can have left in it.
const MAX_PIPE: usize = 1 << 20;
/// The status of a command that cannot be started, as a shell reports it (POSIX sh, 2.8.2).
const CANNOT_START: u8 = 127;

#[derive(Parser)]
#[command(name = "claude-failover command-agent", about = "Run a program with a task on its stdin")]
struct Args {
    /// The task's text, the program's stdin
    #[arg(long, value_name = "FILE")]
    task: PathBuf,
    /// The session's hook log
    #[arg(long, value_name = "FILE")]
    log: PathBuf,
    /// The session's name, copied into the log's lines
    #[arg(long, value_name = "NAME")]
    session: Option<String>,
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
    let log = |event: &str, data: Value| {
        if let Err(error) = hook::append(&args.log, args.session.as_deref(), event, &data) {
            report(&format!("could not append {event} to {}: {error}", args.log.display()));
        }
    };
    let (signals, mut child, stdout) = match start(&args) {
        Ok(started) => started,
        Err(message) => {
            report(&message);
            log("CommandEnd", json!({"status": CANNOT_START, "message": message, "truncated": false}));
            return ExitCode::from(CANNOT_START);
        }
    };
    log("CommandStart", json!({"pid": child.id()}));
    let mut kept = Tail::default();
    let status = match supervise(&signals, &mut child, stdout, &mut kept) {
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
        (None, signal) => json!({"signal": signal}),
    };
    end["message"] = Value::String(kept.text());
    end["truncated"] = Value::Bool(kept.truncated);
    log("CommandEnd", end);
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    ExitCode::from(u8::try_from(code & 0xff).unwrap_or(u8::MAX))
}

fn report(message: &str) {
    let _ = writeln!(io::stderr(), "claude-failover command-agent: {message}");
}

fn start(args: &Args) -> Result<(SignalFd, Child, PipeReader), String> {
    let task = File::open(&args.task).map_err(|e| format!("could not read the task {}: {e}", args.task.display()))?;
    let mut wanted = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGCHLD] {
        wanted.add(signal);
    }
    // Blocked before the child exists, so that no signal can fall between start and watch. The standard library unblocks all in the child.
    wanted.thread_block().map_err(|e| format!("could not block signals: {e}"))?;
    let signals = SignalFd::with_flags(&wanted, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(|e| format!("could not listen for signals: {e}"))?;
    let (reader, writer) = io::pipe().map_err(|e| format!("could not make a pipe for stdout: {e}"))?;
    let child = Command::new(&args.program[0])
        .args(&args.program[1..])
        .stdin(Stdio::from(task))
        .stdout(Stdio::from(writer))
        .process_group(0)
        .spawn()
        .map_err(|e| format!("could not start {}: {e}; check the agent's command", args.program[0].display()))?;
    Ok((signals, child, reader))
}

/// Copies stdout and forwards signals until the child has ended. A background process that keeps stdout open does not hold the end up.
fn supervise(signals: &SignalFd, child: &mut Child, mut stdout: PipeReader, kept: &mut Tail) -> io::Result<ExitStatus> {
    let group = Pid::from_raw(child.id().cast_signed());
    let mut open = true;
    let mut drained = 0;
    loop {
        let status = child.try_wait()?;
        let timeout = if status.is_some() { PollTimeout::ZERO } else { PollTimeout::NONE };
        let mut fds = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        if open {
            fds.push(PollFd::new(stdout.as_fd(), PollFlags::POLLIN));
        }
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let readable = fds.get(1).and_then(PollFd::any).unwrap_or(false);
        if readable && drained < MAX_PIPE {
            let mut chunk = [0; 16 << 10];
            match stdout.read(&mut chunk)? {
                0 => open = false,
                n => {
                    kept.push(&chunk[..n]);
                    drained += if status.is_some() { n } else { 0 };
                    // The pane may be gone while the result still counts.
                    let _ = io::stdout().write_all(&chunk[..n]).and_then(|()| io::stdout().flush());
                }
            }
        } else if let Some(status) = status {
            return Ok(status);
        }
        while let Ok(Some(info)) = signals.read_signal() {
            match Signal::try_from(info.ssi_signo.cast_signed()) {
                Ok(Signal::SIGCHLD) | Err(_) => {}
                Ok(signal) => drop(killpg(group, signal)),
            }
        }
    }
}

/// The last [`KEPT`] bytes of a stream.
#[derive(Default)]
struct Tail {
    bytes: VecDeque<u8>,
    truncated: bool,
}

impl Tail {
    fn push(&mut self, chunk: &[u8]) {
        self.bytes.extend(chunk);
        let over = self.bytes.len().saturating_sub(KEPT);
        self.truncated |= over > 0;
        self.bytes.drain(..over);
    }

    fn text(&self) -> String {
        let (front, back) = self.bytes.as_slices();
        let bytes = [front, back].concat();
        // A cut stream may begin inside a character (at most three continuation bytes, RFC 3629).
        let skip = if self.truncated { bytes.iter().take(3).take_while(|b| **b & 0xc0 == 0x80).count() } else { 0 };
        String::from_utf8_lossy(&bytes[skip..]).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_keeps_the_end_and_starts_at_a_character() {
        let mut tail = Tail::default();
        tail.push("é".repeat(KEPT / 2).as_bytes());
        assert!(!tail.truncated);
        tail.push(b"z");
        assert!(tail.truncated);
        let text = tail.text();
        assert!(text.starts_with('é') && text.ends_with('z'));
    }
}
