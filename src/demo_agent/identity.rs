//! The agent's conversation id and where the conversation is stored.

use std::path::PathBuf;

use uuid::Uuid;

/// The version that the header, the status file and the transcript tell.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Which conversation this is, and where it is kept.
#[derive(Debug, Clone)]
pub struct Identity {
    pub session_id: Uuid,
    pub cwd: PathBuf,
    pub home: PathBuf,
    pub transcript: PathBuf,
    pub resumed: bool,
}
