//! Mounts without root: the setuid helper fusermount3 mounts and passes the device back through a socket.

use std::{
    ffi::OsStr,
    io::Read as _,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    process::{Command, Stdio},
};

use crate::linux::socket::receive_fd;

const HELPER: &str = "fusermount3";
/// Tells the helper which descriptor is the socket (libfuse util/fusermount.c, `FUSE_COMMFD_ENV`).
const SOCKET_ENV: &str = "_FUSE_COMMFD";

/// A program with nothing of our environment, which holds secrets, but the way to find programs.
pub fn bare(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    command
}

/// Mounts and answers the device; the helper's own words when it refuses.
pub fn mount(path: &Path, fsname: &str, allow_other: bool) -> Result<OwnedFd, String> {
    let mut options = format!("fsname={fsname},subtype={fsname},default_permissions,nosuid,nodev,noexec");
    if allow_other {
        options.push_str(",allow_other");
    }
    let (ours, theirs) = UnixStream::pair().map_err(|error| error.to_string())?;
    // Handed over as its standard input, the socket needs no inherited descriptor.
    let mut child = bare(HELPER)
        .arg("-o")
        .arg(options)
        .arg("--")
        .arg(path)
        .env(SOCKET_ENV, "0")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{HELPER} can't be run: {error}"))?;
    let device = receive_fd(&ours);
    let mut words = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        let _ = stderr.read_to_string(&mut words);
    }
    let _ = child.wait();
    device.ok_or_else(|| format!("{HELPER}: {}", words.trim()))
}

pub fn unmount(path: &Path) -> Result<(), String> {
    let arguments = [OsStr::new("-u"), OsStr::new("-z"), OsStr::new("--"), path.as_os_str()];
    let output = bare(HELPER).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{HELPER} can't be run: {error}"))?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()) }
}
