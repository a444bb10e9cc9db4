//! Receives a descriptor from another process (unix(7), `SCM_RIGHTS`).

use std::{
    io::IoSliceMut,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

/// Waits for a message and takes the descriptor in it; none when it has none, or the other end is gone.
#[must_use]
pub fn receive_fd(socket: &UnixStream) -> Option<OwnedFd> {
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
