//! Extended attributes of real files. Only `user.` names are served: the others steer the system, not the queue.

use std::{
    ffi::{CString, OsStr},
    os::unix::ffi::OsStrExt as _,
};

use nix::{errno::Errno, fcntl::OFlag};

use crate::fs::{error::FsError, nodes::Key, ops::Ops, real::proc_path};

/// Longest value and list that Linux has (`XATTR_SIZE_MAX`, linux/limits.h).
const SIZE_MAX: usize = 65536;

impl Ops {
    pub fn getxattr(&self, number: u64, name: &OsStr) -> Result<Vec<u8>, FsError> {
        // Asked of every file by `ls -l` and before every write: answered without touching the disk.
        if !served(name) {
            return Err(FsError::NoAttribute);
        }
        let Some(path) = self.xattr_path(number)? else { return Err(FsError::NoAttribute) };
        let name = c_string(name.as_bytes())?;
        let mut value = vec![0_u8; SIZE_MAX];
        // SAFETY: both strings end in NUL and `value` is as long as the call is told.
        let size = unsafe { libc::getxattr(path.0.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
        value.truncate(length(size)?);
        Ok(value)
    }

    /// Names, each with its NUL.
    pub fn listxattr(&self, number: u64) -> Result<Vec<u8>, FsError> {
        let Some(path) = self.xattr_path(number)? else { return Ok(Vec::new()) };
        let mut names = vec![0_u8; SIZE_MAX];
        // SAFETY: the string ends in NUL and `names` is as long as the call is told.
        let size = unsafe { libc::listxattr(path.0.as_ptr(), names.as_mut_ptr().cast(), names.len()) };
        match length(size) {
            Ok(size) => names.truncate(size),
            Err(FsError::System { errno: Errno::ENOTSUP, .. }) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        }
        let kept = names.split_inclusive(|&byte| byte == 0).filter(|name| served(OsStr::from_bytes(name)));
        Ok(kept.flatten().copied().collect())
    }

    pub fn setxattr(&self, number: u64, name: &OsStr, value: &[u8], flags: i32) -> Result<(), FsError> {
        let Some(path) = self.xattr_path(number)? else { return Err(FsError::Special) };
        if !served(name) {
            return Err(FsError::NotSupported);
        }
        let name = c_string(name.as_bytes())?;
        // SAFETY: both strings end in NUL and `value` is as long as the call is told.
        let done = unsafe { libc::setxattr(path.0.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), flags) };
        Errno::result(done).map(drop).map_err(|errno| FsError::system("set attribute", errno))
    }

    pub fn removexattr(&self, number: u64, name: &OsStr) -> Result<(), FsError> {
        let Some(path) = self.xattr_path(number)? else { return Err(FsError::Special) };
        if !served(name) {
            return Err(FsError::NoAttribute);
        }
        let name = c_string(name.as_bytes())?;
        // SAFETY: both strings end in NUL.
        let done = unsafe { libc::removexattr(path.0.as_ptr(), name.as_ptr()) };
        Errno::result(done).map(drop).map_err(|errno| FsError::system("remove attribute", errno))
    }

    /// A path to the real file, with the descriptor that it goes through. `None` for the supervisor's own.
    fn xattr_path(&self, number: u64) -> Result<Option<(CString, std::fs::File)>, FsError> {
        if matches!(self.key(number)?, Key::Spot(_)) {
            return Ok(None);
        }
        let file = self.real_file(number, OFlag::O_PATH)?;
        Ok(Some((c_string(proc_path(&file).as_bytes())?, file)))
    }
}

fn served(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b"user.")
}

fn c_string(bytes: &[u8]) -> Result<CString, FsError> {
    CString::new(bytes).map_err(|_| FsError::Invalid)
}

fn length(size: isize) -> Result<usize, FsError> {
    usize::try_from(size).map_err(|_| match Errno::last() {
        Errno::ENODATA => FsError::NoAttribute,
        errno => FsError::system("attribute", errno),
    })
}
