//! Starts the client process `tmux -C` with its pipes.
//! Takes the program, its arguments and its environment; returns a running client. Owns the process until it is
//! reaped. tmux clients outlive a killed parent for ever, so the kernel is told to kill the client with the thread
//! that started it, and that thread lives exactly as long as the client.

use std::{
    io::{self, Read as _},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
    process::{ChildStderr, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::{
        signal::Signal,
        socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, socket, sockopt::PeerCredentials},
    },
    unistd::pipe2,
};
use tokio::{net::unix::pipe, sync::oneshot};

use super::options::{KEEPER, TmuxOptions};
use crate::linux::{
    process::{Pidfd, pidfd_open},
    spawn,
};

/// Descriptors of our server: one a pane and nine more (measured on 3.3a). Chosen: four times the kernel's terminals
/// (`/proc/sys/kernel/pty/max`, 4096). Not the hard limit, which can be a billion: agents inherit it.
const DESCRIPTORS: u64 = 16_384;

/// Bytes kept of an exited client's error output. Chosen: tmux's messages are one line.
const COMPLAINT_MAX: usize = 2_000;

/// How long a started server may take until it listens. Chosen: it takes milliseconds; without it a client would start
/// a second server.
const LISTENS_WITHIN: Duration = Duration::from_secs(2);

/// A running `tmux -C`. Dropping it kills it.
#[derive(Debug)]
pub struct ClientProcess {
    pub input: pipe::Sender,
    pub output: pipe::Receiver,
    process: Pidfd,
    /// The reading end of `input` too, to take back what the server hasn't read.
    unread: OwnedFd,
    complaint: oneshot::Receiver<String>,
}

struct Started {
    input: OwnedFd,
    output: OwnedFd,
    unread: OwnedFd,
    process: OwnedFd,
    pid: u32,
}

impl ClientProcess {
    /// Starts a client that attaches to the keeper's session, making it, and the server, where missing.
    ///
    /// # Errors
    /// Why it can't be started.
    pub async fn start(options: &TmuxOptions) -> Result<Self, String> {
        let (started_in, started) = oneshot::channel();
        let (complaint_in, complaint) = oneshot::channel();
        let options = options.clone();
        std::thread::Builder::new()
            .name("tmux-client".to_owned())
            .spawn(move || match start(&options) {
                Ok((mut child, started)) => {
                    let stderr = child.stderr.take();
                    // Nobody waits for it any more: the client is killed by the drop of its handle, or at once here.
                    if started_in.send(Ok(started)).is_err() {
                        drop(child.kill());
                    }
                    drop(child.wait());
                    drop(complaint_in.send(stderr.map(complaint_of).unwrap_or_default()));
                }
                Err(message) => drop(started_in.send(Err(message))),
            })
            .map_err(|e| format!("no thread for the tmux client: {e}"))?;
        let started = started.await.map_err(|_| "the thread of the tmux client ended".to_owned())??;
        let failed = |e: io::Error| format!("pipes of the tmux client: {e}");
        let process = Pidfd::adopt(started.process, started.pid).map_err(failed)?;
        let input = nonblocking(started.input).and_then(pipe::Sender::from_owned_fd).map_err(failed)?;
        let output = nonblocking(started.output).and_then(pipe::Receiver::from_owned_fd).map_err(failed)?;
        Ok(Self { input, output, process, unread: started.unread, complaint })
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Kills the client and withdraws every command that the server hasn't read yet, so that a stopped server doesn't
    /// run them when it continues, long after their callers got an error.
    pub fn abandon(&self) {
        drop(self.process.signal(Signal::SIGKILL));
        let Ok(file) = self.unread.try_clone().and_then(nonblocking) else { return };
        let mut file = std::fs::File::from(file);
        let mut scrap = [0; 4096];
        while file.read(&mut scrap).is_ok_and(|n| n > 0) {}
    }

    /// Waits until the client has ended and answers what it complained of.
    pub async fn ended(&mut self) -> String {
        (&mut self.complaint).await.unwrap_or_default()
    }
}

impl Drop for ClientProcess {
    fn drop(&mut self) {
        self.abandon();
    }
}

fn nonblocking(fd: OwnedFd) -> io::Result<OwnedFd> {
    let flags = OFlag::from_bits_retain(fcntl(fd.as_fd(), FcntlArg::F_GETFL)?);
    fcntl(fd.as_fd(), FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(fd)
}

fn complaint_of(stderr: ChildStderr) -> String {
    // A descendant may hold the other end open: take what is there, don't wait for its end.
    let Ok(fd) = nonblocking(stderr.into()) else { return String::new() };
    let mut bytes = vec![0; COMPLAINT_MAX];
    let length = std::fs::File::from(fd).read(&mut bytes).unwrap_or(0);
    bytes.truncate(length);
    String::from_utf8_lossy(&bytes).trim().to_owned()
}

fn start(options: &TmuxOptions) -> Result<(std::process::Child, Started), String> {
    options.prepare_directory()?;
    if options.ours && server_pid(&options.socket_path()).is_none() {
        start_server(options);
    }
    let program = program(options);
    let failed = |e: io::Error| match e.kind() {
        io::ErrorKind::NotFound => {
            format!("{} isn't installed (or not in PATH): install tmux 3.3a or later", program.display())
        }
        _ => format!("{} can't be started: {e}", program.display()),
    };
    let (their_input, input) = pipe2(OFlag::O_CLOEXEC).map_err(|e| failed(e.into()))?;
    let (output, their_output) = pipe2(OFlag::O_CLOEXEC).map_err(|e| failed(e.into()))?;
    let unread = their_input.try_clone().map_err(failed)?;
    let mut command = Command::new(&program);
    command
        .args(options.arguments())
        .args(["-C", "new-session", "-A", "-s", KEEPER, "-n", "keeper", "-c", "/"])
        // Never `%output`: tmux stops reading an agent's terminal while a client is slow to take it.
        .args(["-f", "no-output,ignore-size", "--", "sleep", "2147483647"])
        .env_clear()
        .envs(TmuxOptions::environment())
        // A server must not hold the directory, possibly our own mount, that the daemon was started in.
        .current_dir("/")
        .stdin(Stdio::from(their_input))
        .stdout(Stdio::from(their_output))
        .stderr(Stdio::piped());
    spawn::that_dies_with_us(&mut command, DESCRIPTORS);
    let child = command.spawn().map_err(failed)?;
    let pid = child.id();
    let process = pidfd_open(pid).map_err(failed)?;
    Ok((child, Started { input, output, unread, process, pid }))
}

/// Starts our server as a subreaper (`PR_SET_CHILD_SUBREAPER`), so that detached processes of agents stay below it and
/// their writes aren't taken for a person's while it lives. tmux reaps them. A server started by a client would
/// daemonize itself, and the attribute doesn't survive a fork. If this start fails, the client starts the server.
fn start_server(options: &TmuxOptions) {
    let mut command = Command::new(&options.tmux);
    command.args(options.arguments()).arg("-D").env_clear().envs(TmuxOptions::environment()).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    spawn::that_outlives_us(&mut command, DESCRIPTORS);
    let begun = Instant::now();
    match command.spawn().and_then(|mut child| child.wait()) {
        Ok(_) => {}
        Err(error) => return tracing::debug!(%error, "tmux -D could not be started; a client starts the server"),
    }
    while server_pid(&options.socket_path()).is_none() && begun.elapsed() < LISTENS_WITHIN {
        // Chosen: a server listens within milliseconds.
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The program to run as the client. Client and server of different versions often can't talk to each other after an
/// upgrade, so a server that runs already is spoken to with its own executable, even a deleted one.
pub fn program(options: &TmuxOptions) -> PathBuf {
    let Some(server) = server_pid(&options.socket_path()) else { return options.tmux.clone() };
    let theirs = PathBuf::from(format!("/proc/{server}/exe"));
    let Some(running) = identity(&theirs) else { return options.tmux.clone() };
    let ours = find_in_path(&options.tmux).and_then(|path| identity(&path));
    if ours == Some(running) { options.tmux.clone() } else { theirs }
}

fn identity(file: &Path) -> Option<(u64, u64)> {
    let facts = file.metadata().ok()?;
    Some((facts.dev(), facts.ino()))
}

fn find_in_path(program: &Path) -> Option<PathBuf> {
    if program.components().count() > 1 {
        return Some(program.to_owned());
    }
    std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(program)).find(|path| path.is_file())
}

/// The process that listens on a tmux socket; `None` when none does, or it can't take a connection just now.
#[must_use]
pub fn server_pid(path: &Path) -> Option<u32> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None).ok()?;
    connect(fd.as_raw_fd(), &UnixAddr::new(path).ok()?).ok()?;
    let pid = getsockopt(&fd, PeerCredentials).ok()?.pid();
    u32::try_from(pid).ok().filter(|pid| *pid > 0)
}
