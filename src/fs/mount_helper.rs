//! Mounting without being root: the setuid helper fusermount3 does it and hands the device over through a socket.

use std::{
    ffi::OsStr,
    io::{IoSliceMut, Read as _},
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    path::Path,
    process::{Command, Stdio},
};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

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
    let device = receive(&ours);
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

fn receive(socket: &UnixStream) -> Option<OwnedFd> {
    let mut byte = [0_u8];
    let mut parts = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!(RawFd);
    let message = loop {
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        match recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags) {
            Ok(message) => break message,
            Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return None,
        }
    };
    for control in message.cmsgs().ok()? {
        if let ControlMessageOwned::ScmRights(descriptors) = control {
            // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
            return descriptors.first().map(|&fd| unsafe { OwnedFd::from_raw_fd(fd) });
        }
    }
    None
}
