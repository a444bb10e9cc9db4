//! `statx(2)`: a file's metadata in one call, also by name in a directory.

use std::{
    ffi::CStr,
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd},
};

use nix::{errno::Errno, libc, sys::stat::makedev};

/// # Errors
/// The kernel's own.
pub fn statx(dir: BorrowedFd<'_>, name: &CStr, flags: i32, wanted: u32) -> Result<libc::statx, Errno> {
    let mut facts = MaybeUninit::uninit();
    // SAFETY: the descriptor is open, the name ends in NUL, and the structure is ours.
    let asked = unsafe { libc::statx(dir.as_raw_fd(), name.as_ptr(), flags, wanted, facts.as_mut_ptr()) };
    Errno::result(asked)?;
    // SAFETY: a call that succeeds has filled it.
    Ok(unsafe { facts.assume_init() })
}

/// Major and minor number of the device of what is open, from memory: unlike `fstat(2)` never asks a file system's server, which
/// may be ourselves (`AT_STATX_DONT_SYNC`).
///
/// # Errors
/// The kernel's own.
pub fn device_numbers(file: &impl AsFd) -> Result<(u32, u32), Errno> {
    let facts = statx(file.as_fd(), c"", libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC, 0)?;
    Ok((facts.stx_dev_major, facts.stx_dev_minor))
}

/// The same, as `stat(2)` gives it.
///
/// # Errors
/// The kernel's own.
pub fn device(file: &impl AsFd) -> Result<u64, Errno> {
    let (major, minor) = device_numbers(file)?;
    Ok(makedev(major.into(), minor.into()))
}
