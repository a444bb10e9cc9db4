//! A command's streams, variables and access to the outside, replaceable in tests.

use std::{io::Write, path::Path};

use crate::{
    config::{Config, paths::Lookup},
    model::{homes::HomesReport, notice::Channel},
};

/// The outcome of a test notification on one channel; the error if it failed.
pub type NoticeReport = (Channel, Result<(), String>);

/// The saved state and the secrets that are in it; why it can't be read.
pub type SavedState = Result<(String, Vec<String>), String>;

/// Where a command's words go and where it looks things up; a test has its own.
pub struct Io<'a> {
    pub out: &'a mut dyn Write,
    pub err: &'a mut dyn Write,
    pub env: Lookup<'a>,
    /// Checks the homes of all accounts and, with `true`, creates what is missing. Injected, because a face may not use
    /// an edge.
    pub homes: &'a dyn Fn(&Config, bool) -> HomesReport,
    /// Sends a test notification through every configured channel. Injected for the same reason.
    pub notify: &'a dyn Fn(&Config) -> Vec<NoticeReport>,
    /// The saved state without texts of tasks, and the secrets that are in it. Given for the same reason.
    pub state: &'a dyn Fn(&Path) -> SavedState,
    /// `out` is a terminal: colours, widths and escapes matter.
    pub terminal: bool,
    /// `err` is one: progress may be shown.
    pub err_terminal: bool,
}
