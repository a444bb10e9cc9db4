//! Where a command's words go and where it looks things up.

use std::io::Write;

use crate::{
    config::{Agent, Config, paths::Lookup},
    model::{evidence::Screen, homes::HomesReport, notice::Channel},
};

/// What a channel made of a test notice; why it did not go out.
pub type NoticeReport = (Channel, Result<(), String>);

/// Where a command's words go and where it looks things up; a test has its own.
pub struct Io<'a> {
    pub out: &'a mut dyn Write,
    pub err: &'a mut dyn Write,
    pub env: Lookup<'a>,
    /// Looks at the homes of all accounts and, when told so, makes what is missing. Given, because a face touches no edge.
    pub homes: &'a dyn Fn(&Config, bool) -> HomesReport,
    /// Sends a test notice through every configured channel. Given for the same reason.
    pub notify: &'a dyn Fn(&Config) -> Vec<NoticeReport>,
    /// Everything that is wrong with an agent's rules file. Given for the same reason.
    pub rules: &'a dyn Fn(&Agent) -> Option<String>,
    /// What there is to say of a version of an agent's program, by what it says itself; an error when it is not started at all.
    pub version: VersionProblem<'a>,
    /// What an agent's rules make of a screen.
    pub look: &'a dyn Fn(&Agent, &Screen) -> Result<String, String>,
    /// `out` is a terminal: colours, widths and escapes matter.
    pub terminal: bool,
    /// `err` is one: progress may be shown.
    pub err_terminal: bool,
}

type VersionProblem<'a> = &'a dyn Fn(&Agent, &str) -> Result<Option<String>, String>;
