//! `claude-failover repeater`: a small child process that repeats changes through the mount, so that inotify reports
//! them to watchers (`fs/repeat.rs` explains why, and answers it).
//!
//! Arguments: the mountpoint and its device number. Reads NUL-terminated fields on stdin: a verb and its paths below
//! the mount. Writes one byte per call made. Exits when its stdin closes, that is with the daemon. Never touches
//! anything outside that mount, and never stays in it.

use std::{
    ffi::{OsStr, OsString},
    io::{self, BufRead, BufReader, Write as _},
    os::{
        fd::OwnedFd,
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
    process::ExitCode,
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, open, openat, renameat},
    sys::{
        prctl::set_pdeathsig,
        signal::Signal,
        stat::{Mode, SFlag, fstat, mkdirat, mknodat},
    },
    unistd::{UnlinkatFlags, unlinkat, write},
};

/// Works until the input ends.
pub fn run(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let (Some(mountpoint), Some(device)) = (args.next(), args.next().and_then(|text| text.to_str()?.parse().ok()))
    else {
        return ExitCode::from(2);
    };
    // Also when it is stopped and doesn't see its input end.
    let _ = set_pdeathsig(Signal::SIGKILL);
    match serve(&mountpoint, device) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn serve(mountpoint: &OsStr, device: u64) -> io::Result<()> {
    let mut requests = BufReader::new(io::stdin());
    let mut done = io::stdout();
    while let Some(verb) = field(&mut requests)? {
        let path = field(&mut requests)?.unwrap_or_default();
        let to = if verb == "move" { field(&mut requests)? } else { None };
        // What it comes to is of no interest here: the change itself was made long ago.
        let _ = repeat(mountpoint, device, &verb, &path, to.as_deref());
        done.write_all(b"\n")?;
        done.flush()?;
    }
    Ok(())
}

fn field(requests: &mut impl BufRead) -> io::Result<Option<OsString>> {
    let mut bytes = Vec::new();
    requests.read_until(0, &mut bytes)?;
    Ok(if bytes.pop() == Some(0) { Some(OsString::from_vec(bytes)) } else { None })
}

fn repeat(mountpoint: &OsStr, device: u64, verb: &OsStr, path: &OsStr, to: Option<&OsStr>) -> Result<(), Errno> {
    let root = root(mountpoint, device)?;
    match (verb.as_bytes(), to) {
        (b"make", _) => mknodat(&root, path, SFlag::S_IFREG, Mode::S_IRUSR | Mode::S_IWUSR, 0),
        (b"make-dir", _) => mkdirat(&root, path, Mode::S_IRWXU),
        (b"write", _) => {
            let file = openat(&root, path, OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
            write(&file, b"\n").map(drop)
        }
        (b"move", Some(to)) => renameat(&root, path, &root, to),
        (b"remove", _) => unlinkat(&root, path, UnlinkatFlags::NoRemoveDir),
        (b"remove-dir", _) => unlinkat(&root, path, UnlinkatFlags::RemoveDir),
        _ => Err(Errno::EINVAL),
    }
}

/// Opened for each request: a descriptor that is kept would keep others from unmounting.
fn root(mountpoint: &OsStr, device: u64) -> Result<OwnedFd, Errno> {
    let root = open(mountpoint, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    if fstat(&root)?.st_dev == device { Ok(root) } else { Err(Errno::ENODEV) }
}
