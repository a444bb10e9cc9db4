//! Why an operation failed, and the only mapping from that to errno and log level.

use crate::model::command::{Refused, RefusedKind};

/// What went wrong, in the mount's own words.
#[derive(Debug, thiserror::Error)]
pub enum FsError {
    #[error("no such file or directory")]
    NoEntry,
    /// A system call on a real queue directory failed.
    #[error("{what}: {errno}")]
    System { what: &'static str, errno: nix::errno::Errno },
    /// Making a promised write durable failed.
    #[error("{what} could not be put on disk: {errno}")]
    NotDurable { what: &'static str, errno: nix::errno::Errno },
    /// A verb was refused; `control` has the sentence too.
    #[error("{0}")]
    Refused(Refused),
    #[error("it can only be read")]
    ReadOnly,
    #[error("the supervisor's own entries can't be made, removed, renamed or changed")]
    Special,
    #[error("not a directory")]
    NotDirectory,
    #[error("is a directory")]
    IsDirectory,
    #[error("not a symbolic link or no longer what it was")]
    Invalid,
    #[error("it was replaced on disk behind the mount")]
    Stale,
    #[error("no such open file")]
    BadHandle,
    #[error("not supported here")]
    NotSupported,
    #[error("no such attribute")]
    NoAttribute,
    /// The caller's buffer is too small.
    #[error("result too large for the buffer")]
    Range,
    /// A handler panicked; the panic's words.
    #[error("internal error: {0}")]
    Panicked(String),
}

impl FsError {
    #[must_use]
    pub fn system(what: &'static str, errno: nix::errno::Errno) -> Self {
        Self::System { what, errno }
    }

    #[must_use]
    pub fn io(what: &'static str, error: &std::io::Error) -> Self {
        Self::System { what, errno: nix::errno::Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)) }
    }

    /// The number that the caller's system call returns.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            Self::NoEntry => libc::ENOENT,
            Self::System { errno, .. } | Self::NotDurable { errno, .. } => *errno as i32,
            Self::Refused(refused) => match refused.kind {
                RefusedKind::Invalid => libc::EINVAL,
                RefusedKind::NotFound => libc::ENOENT,
                RefusedKind::Busy => libc::EBUSY,
                RefusedKind::Unavailable => libc::ENXIO,
                RefusedKind::TryAgain => libc::EAGAIN,
                RefusedKind::Failed => libc::EIO,
                RefusedKind::Unclean => libc::EUCLEAN,
                RefusedKind::NotPermitted => libc::EPERM,
                RefusedKind::TooLong => libc::EMSGSIZE,
                RefusedKind::Full => libc::EDQUOT,
            },
            Self::ReadOnly => libc::EACCES,
            Self::Special => libc::EPERM,
            Self::NotDirectory => libc::ENOTDIR,
            Self::IsDirectory => libc::EISDIR,
            Self::Invalid => libc::EINVAL,
            Self::Stale => libc::ESTALE,
            Self::BadHandle => libc::EBADF,
            Self::NotSupported => libc::EOPNOTSUPP,
            Self::NoAttribute => libc::ENODATA,
            Self::Range => libc::ERANGE,
            Self::Panicked(_) => libc::EIO,
        }
    }

    /// How loud it is in the log: a missing name is daily life, a write that could not be kept is not.
    #[must_use]
    pub fn level(&self) -> tracing::Level {
        match self {
            Self::NoEntry
            | Self::ReadOnly
            | Self::Special
            | Self::NotDirectory
            | Self::IsDirectory
            | Self::Invalid
            | Self::Stale
            | Self::BadHandle
            | Self::NotSupported
            | Self::NoAttribute
            | Self::Range => tracing::Level::DEBUG,
            Self::Refused(_) => tracing::Level::INFO,
            Self::System { errno, .. } => match *errno as i32 {
                libc::EIO | libc::ENOSPC | libc::EDQUOT | libc::EROFS | libc::EMFILE | libc::ENFILE => {
                    tracing::Level::ERROR
                }
                _ => tracing::Level::DEBUG,
            },
            Self::NotDurable { .. } | Self::Panicked(_) => tracing::Level::ERROR,
        }
    }
}
