//! Classifies tmux's error messages.

use super::{parse::Block, text};
use crate::model::pane::TerminalError;

pub(super) fn gone(what: &str) -> TerminalError {
    TerminalError::Gone { what: what.to_owned() }
}

pub(super) fn refused(what: &str, message: impl Into<String>) -> TerminalError {
    TerminalError::Refused { what: what.to_owned(), message: message.into() }
}

/// The block, or what tmux's complaint means.
pub(super) fn success<'a>(what: &str, block: &'a Block) -> Result<&'a Block, TerminalError> {
    if block.ok {
        return Ok(block);
    }
    let message = text::line(&block.text());
    // "can't find pane: %9", "can't find session: x", "no such window"; the words are the same from 3.3 to 3.7.
    if message.starts_with("can't find ") { Err(gone(what)) } else { Err(refused(what, message)) }
}
