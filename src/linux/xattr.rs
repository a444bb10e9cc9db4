//! Extended attributes by path (xattr(7)).

use std::ffi::CStr;

use nix::{errno::Errno, libc};

/// Longest value and list that Linux has (`XATTR_SIZE_MAX`, linux/limits.h).
const SIZE_MAX: usize = 65536;

/// # Errors
/// The kernel's own; `ENODATA` when there is no such attribute.
pub fn get(path: &CStr, name: &CStr) -> Result<Vec<u8>, Errno> {
    let mut value = vec![0_u8; SIZE_MAX];
    // SAFETY: both strings end in NUL and `value` is as long as the call is told.
    let size = unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    value.truncate(length(size)?);
    Ok(value)
}

/// The names, each ended by a zero byte.
///
/// # Errors
/// The kernel's own.
pub fn list(path: &CStr) -> Result<Vec<u8>, Errno> {
    let mut names = vec![0_u8; SIZE_MAX];
    // SAFETY: the path ends in NUL and `names` is as long as the call is told.
    let size = unsafe { libc::listxattr(path.as_ptr(), names.as_mut_ptr().cast(), names.len()) };
    names.truncate(length(size)?);
    Ok(names)
}

/// # Errors
/// The kernel's own.
pub fn set(path: &CStr, name: &CStr, value: &[u8], flags: i32) -> Result<(), Errno> {
    // SAFETY: both strings end in NUL and `value` is as long as the call is told.
    let done = unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), flags) };
    Errno::result(done).map(drop)
}

/// # Errors
/// The kernel's own.
pub fn remove(path: &CStr, name: &CStr) -> Result<(), Errno> {
    // SAFETY: both strings end in NUL.
    let done = unsafe { libc::removexattr(path.as_ptr(), name.as_ptr()) };
    Errno::result(done).map(drop)
}

fn length(size: isize) -> Result<usize, Errno> {
    usize::try_from(size).map_err(|_| Errno::last())
}
