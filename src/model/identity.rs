//! What identifies a task's text. Plain values; `task_file` computes the hashes.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::ids::AgentName;

/// What is known of a task's text without keeping the text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextFacts {
    /// Hex SHA-256 of the bytes.
    pub sha256: String,
    /// The same without bookkeeping keys (`status:`, `state:`) and earlier results: what makes it this task and no other.
    pub identity: String,
    pub bytes: u64,
    pub modified: Timestamp,
}

/// What a permission is for: another text, or another agent for it, is another task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// As `TextFacts::identity`.
    pub identity: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
}
