//! Exit codes (INTERFACE 6) and the failures that map to them.

use std::{fmt, process::ExitCode};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Ok = 0,
    /// It was tried and failed, or what was waited for can't be any more.
    Failed = 1,
    Usage = 2,
    NoDaemon = 3,
    TimedOut = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed; its text goes to standard error.
#[derive(Debug)]
pub enum Failure {
    Failed(String),
    /// What was asked for can't be, whatever the daemon does.
    Usage(String),
    NoDaemon(String),
    TimedOut(String),
    /// Its own output could not be written; a broken pipe counts as success.
    Broken(std::io::Error),
}

impl Failure {
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Failed(_) | Self::Broken(_) => Exit::Failed,
            Self::Usage(_) => Exit::Usage,
            Self::NoDaemon(_) => Exit::NoDaemon,
            Self::TimedOut(_) => Exit::TimedOut,
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Broken(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(text) | Self::Usage(text) | Self::NoDaemon(text) | Self::TimedOut(text) => f.write_str(text),
            Self::Broken(error) => write!(f, "can't write the output: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_the_documented_ones() {
        let codes = [Exit::Ok, Exit::Failed, Exit::Usage, Exit::NoDaemon, Exit::TimedOut].map(|exit| exit as u8);
        assert_eq!(codes, [0, 1, 2, 3, 4]);
        assert_eq!(Failure::NoDaemon(String::new()).exit(), Exit::NoDaemon);
        assert_eq!(Failure::TimedOut(String::new()).exit(), Exit::TimedOut);
        assert_eq!(Failure::Failed(String::new()).exit(), Exit::Failed);
    }
}
