//! A terminal in front of the agent that stamps when bytes arrive.
//!
//! The agent runs on an inner terminal; a pump carries bytes between it and the pane. The moment its `read(2)` of the pane
//! returns is appended to a file, with the first bytes. The agent keeps the process id that the pane knows.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
        unix::{fs::PermissionsExt, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    thread,
};

use crate::measure::monotonic;

pub const READER: &str = "_reader";
pub const PUMP: &str = "_pump";

/// A script that can stand for the agent's program; everything typed at it is stamped in `stamps`.
pub fn script(dir: &Path, stamps: &Path) -> io::Result<PathBuf> {
    let path = dir.join("reader.sh");
    let text = format!(
        "#!/bin/sh\nexec '{}' {READER} '{}' '{}' demo-agent \"$@\"\n",
        std::env::current_exe()?.display(),
        stamps.display(),
        crate::world::program()?.display(),
    );
    fs::write(&path, text)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700))?;
    Ok(path)
}

/// `_reader STAMPS PROGRAM ARGS…`: starts the pump, then becomes the program.
pub fn start(args: &[String]) -> ExitCode {
    let error = become_program(args);
    eprintln!("bench reader: {error}");
    ExitCode::FAILURE
}

fn become_program(args: &[String]) -> io::Error {
    let run = || -> io::Result<io::Error> {
        let [stamps, program, rest @ ..] = args else { return Err(io::Error::other("STAMPS PROGRAM ARGS…")) };
        let mut size: libc::winsize = nix::pty::Winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: fills a structure of ours.
        if unsafe { libc::ioctl(io::stdin().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let pty = nix::pty::openpty(&size, None)?;
        let master = pty.master;
        nix::fcntl::fcntl(&master, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()))?;
        let pump =
            Command::new(std::env::current_exe()?).args([PUMP, stamps, &master.as_raw_fd().to_string()]).spawn()?;
        drop(pump);
        drop(master);
        let inner = || pty.slave.try_clone().map(Stdio::from);
        Ok(Command::new(program).args(rest).stdin(inner()?).stdout(inner()?).stderr(inner()?).exec())
    };
    run().unwrap_or_else(|error| error)
}

/// `_pump STAMPS FD`: carries bytes until either side ends.
pub fn pump(args: &[String]) -> ExitCode {
    match carry(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench pump: {error}");
            ExitCode::FAILURE
        }
    }
}

fn carry(args: &[String]) -> io::Result<()> {
    let [stamps, fd] = args else { return Err(io::Error::other("STAMPS FD")) };
    let fd = fd.parse().map_err(io::Error::other)?;
    // SAFETY: the reader opened it for us and passed it on; nobody else in this process uses it.
    let master = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    let outer = io::stdin().as_fd().try_clone_to_owned()?;
    let mut raw = nix::sys::termios::tcgetattr(&outer)?;
    nix::sys::termios::cfmakeraw(&mut raw);
    nix::sys::termios::tcsetattr(&outer, nix::sys::termios::SetArg::TCSANOW, &raw)?;
    let mut screen = master.try_clone()?;
    let shown = thread::spawn(move || {
        // Linux answers EIO when the agent's side is closed.
        let mut chunk = [0; 16 << 10];
        while let Ok(n @ 1..) = screen.read(&mut chunk) {
            if io::stdout().write_all(&chunk[..n]).and_then(|()| io::stdout().flush()).is_err() {
                break;
            }
        }
        std::process::exit(0);
    });
    let mut stamps = OpenOptions::new().append(true).create(true).open(stamps)?;
    let (mut keys, mut agent) = (File::from(outer), master);
    let mut chunk = [0; 16 << 10];
    loop {
        let n = keys.read(&mut chunk)?;
        let now = monotonic();
        if n == 0 {
            break;
        }
        let first = String::from_utf8_lossy(&chunk[..n.min(24)]).escape_default().to_string();
        stamps.write_all(format!("{now} {first}\n").as_bytes())?;
        agent.write_all(&chunk[..n])?;
    }
    let _ = shown.join();
    Ok(())
}

/// The first stamp after `since` whose bytes hold `text`.
pub fn first_after(stamps: &Path, since: u64, text: &str) -> Option<u64> {
    let all = fs::read_to_string(stamps).ok()?;
    all.lines().rev().map_while(|line| line.split_once(' ')).find_map(|(at, bytes)| {
        let at: u64 = at.parse().ok()?;
        (at > since && bytes.contains(text)).then_some(at)
    })
}
