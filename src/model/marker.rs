//! The claim markers `inbox/<id>.md.working` and `inbox/<id>.md.delegated`: their contents and their owners.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{
    ids::{AccountName, AgentName, RunId, SessionName},
    provider::Job,
    queue::{Mark, Sidecar},
    snapshot::Snapshot,
    task::Run,
};

/// What a claim marker of ours says, of whichever kind it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnClaim {
    pub run: RunId,
    /// As `Marker::identity`.
    pub identity: String,
    pub since: Timestamp,
}

impl OwnClaim {
    /// `None` for a stranger's, and for what is no claim.
    #[must_use]
    pub fn read(mark: &Mark, supervisor: &str) -> Option<Self> {
        match mark.which {
            Sidecar::Working => {
                let marker = Marker::read(&mark.bytes).filter(|marker| marker.supervisor == supervisor)?;
                Some(Self { run: marker.run, identity: marker.identity, since: marker.since })
            }
            Sidecar::Delegated => {
                let marker = DelegatedMarker::read(&mark.bytes)?;
                let ours = marker.by(supervisor)?.clone();
                Some(Self { run: ours.run, identity: ours.identity, since: marker.submitted_at? })
            }
            Sidecar::Rejected => None,
        }
    }
}

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
    pub fn of(run: &Run, snapshot: &Snapshot) -> Self {
        Self {
            run: run.id.clone(),
            task_sha256: run.text.sha256.clone(),
            identity: run.text.identity.clone(),
            session: run.session.clone(),
            agent: run.agent.clone(),
            account: run.account().cloned(),
            attempt: run.attempt,
            since: snapshot.timeline.shown(run.claimed),
            supervisor: snapshot.supervisor.to_string(),
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

/// The JSON of `.delegated` (INTERFACE 1). Scripts write it too, with the first three keys or fewer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelegatedMarker {
    /// The provider's id of the job; absent until it has answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
    #[serde(default)]
    pub provider: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submitted_at: Option<Timestamp>,
    /// What ours say beside it.
    #[serde(flatten)]
    pub ours: Option<OurJob>,
}

/// What the supervisor's own markers of delegated tasks hold beside what everybody's do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OurJob {
    /// The idempotency key.
    pub run: RunId,
    pub task_sha256: String,
    pub identity: String,
    pub attempt: u32,
    /// The state directory that wrote it.
    pub supervisor: String,
}

impl DelegatedMarker {
    #[must_use]
    pub fn of(job: &Job, snapshot: &Snapshot) -> Self {
        Self {
            job_id: job.id.clone(),
            provider: job.provider.to_string(),
            submitted_at: Some(snapshot.timeline.shown(job.claimed)),
            ours: Some(OurJob {
                run: job.run.clone(),
                task_sha256: job.text.sha256.clone(),
                identity: job.text.identity.clone(),
                attempt: job.attempt,
                supervisor: snapshot.supervisor.to_string(),
            }),
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

    /// What ours says, where this supervisor wrote it.
    #[must_use]
    pub fn by(&self, supervisor: &str) -> Option<&OurJob> {
        self.ours.as_ref().filter(|ours| ours.supervisor == supervisor)
    }
}
