//! File calls that the standard library lacks.

use std::{fs::File, io, os::fd::AsRawFd as _};

use nix::{errno::Errno, libc};

/// Whether somebody has the file open for writing; `None` where the file system can't tell. A read lease is refused while
/// anybody has (fcntl(2), `F_SETLEASE`).
#[must_use]
pub fn has_writer(file: &File) -> Option<bool> {
    // SAFETY: fcntl on a descriptor that we own, with integer arguments.
    let lease = |kind: libc::c_int| unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) };
    if lease(libc::F_RDLCK) == 0 {
        lease(libc::F_UNLCK);
        return Some(false);
    }
    (Errno::last() == Errno::EAGAIN).then_some(true)
}

/// Copies within the kernel; answers how much was copied.
///
/// # Errors
/// The kernel's own.
pub fn copy_range(from: &File, mut at: i64, to: &File, mut into: i64, length: usize) -> Result<usize, Errno> {
    nix::fcntl::copy_file_range(from, Some(&mut at), to, Some(&mut into), length)
}

/// Writes at the end of the file as it is at that moment.
///
/// # Errors
/// The kernel's own.
pub fn append(file: &File, data: &[u8]) -> io::Result<usize> {
    let part = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
    // SAFETY: one part, which is read only and as long as told.
    let written = unsafe { libc::pwritev2(file.as_raw_fd(), &raw const part, 1, 0, libc::RWF_APPEND) };
    usize::try_from(written).map_err(|_| io::Error::last_os_error())
}
