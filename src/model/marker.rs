//! The claim marker `inbox/<id>.md.working`: what it says, and whose it is.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{
    ids::{AccountName, AgentName, RunId, SessionName},
    task::Run,
};

/// The marker's JSON (INTERFACE 1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    pub run: RunId,
    pub task_sha256: String,
    /// Hash of the text without bookkeeping keys, by which the task is known again.
    pub identity: String,
    pub session: SessionName,
    pub agent: AgentName,
    pub account: Option<AccountName>,
    pub attempt: u32,
    pub since: Timestamp,
    /// The state directory that wrote it.
    pub supervisor: String,
}

impl Marker {
    #[must_use]
    pub fn of(run: &Run, supervisor: &str) -> Self {
        Self {
            run: run.id.clone(),
            task_sha256: run.text.sha256.clone(),
            identity: run.text.identity.clone(),
            session: run.session.clone(),
            agent: run.agent.clone(),
            account: run.account().cloned(),
            attempt: run.attempt,
            since: run.claimed,
            supervisor: supervisor.to_owned(),
        }
    }

    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec(self).unwrap_or_default();
        json.push(b'\n');
        json
    }

    /// `None` when it isn't a marker of this form.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}
