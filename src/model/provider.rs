//! Providers: model servers that do tasks over HTTP, and whether they are usable; jobs: tasks at a provider.
//! Plain values made from providers' answers. Pure; knows nothing of HTTP.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::model::{
    evidence::Tokens,
    identity::TextFacts,
    ids::{ProviderName, RunId},
    steady::Timeline,
};

/// When an exhausted provider that named no end is retried. Chosen: as for accounts (`account::TRY_AGAIN_AFTER`).
pub const TRY_AGAIN: SignedDuration = SignedDuration::from_hours(1);

/// Shortest pause of an unavailable provider. Chosen: the end it named may have passed in transit, and an immediate
/// retry would get the same answer.
pub const REST: SignedDuration = SignedDuration::from_secs(10);

/// Everything about delegation that routing needs. Without providers delegation is off.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Delegation {
    /// In the names' order.
    pub providers: Vec<Provider>,
    /// Who takes tasks that leave the choice open; first the easy ones, then medium, then hard.
    pub auto: [Vec<String>; 3],
}

impl Delegation {
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.providers.is_empty()
    }

    #[must_use]
    pub fn get(&self, name: &ProviderName) -> Option<&Provider> {
        self.providers.iter().find(|provider| provider.name == *name)
    }
}

/// A row of the configuration and its state.
#[derive(Debug, Clone, PartialEq)]
pub struct Provider {
    pub name: ProviderName,
    /// Name of its kind.
    pub kind: &'static str,
    /// Words of `preferred_ai` that mean it, its name the first.
    pub serves: Vec<String>,
    pub fallback: Vec<ProviderName>,
    pub max_jobs: u32,
    pub standing: ProviderStanding,
    /// When this state began.
    pub since: Timestamp,
    /// Since the daemon started.
    pub counters: Counters,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Counters {
    pub completed: u64,
    pub failed: u64,
    /// Sum of the costs that are known.
    pub cost_usd: f64,
}

/// Whether a provider can take jobs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProviderStanding {
    #[default]
    Usable,
    /// Its credit or budget is used up; `until` if it named an end.
    Exhausted { why: String, until: Option<Timestamp> },
    /// It asked for a pause, or did not answer.
    Cooling { why: String, until: Timestamp },
    /// It does not accept our key, or there is none: a person has to do something.
    Broken { why: String },
}

impl ProviderStanding {
    /// The same in steady time: a provider names its end in wall-clock time.
    #[must_use]
    pub fn heard(&self, timeline: &Timeline) -> Self {
        let mut heard = self.clone();
        match &mut heard {
            Self::Exhausted { until, .. } => *until = until.map(|until| timeline.steady(until)),
            Self::Cooling { until, .. } => *until = timeline.steady(*until),
            Self::Usable | Self::Broken { .. } => {}
        }
        heard
    }

    /// The same, and not tried again before `now` plus `REST`.
    #[must_use]
    pub fn rested(self, now: Timestamp) -> Self {
        let least = now.saturating_add(REST).unwrap_or(now);
        match self {
            Self::Exhausted { why, until } => Self::Exhausted { why, until: until.map(|until| until.max(least)) },
            Self::Cooling { why, until } => Self::Cooling { why, until: until.max(least) },
            Self::Usable | Self::Broken { .. } => self,
        }
    }

    /// The state word in `providers/<name>/state`.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Usable => "usable",
            Self::Exhausted { .. } => "exhausted",
            Self::Cooling { .. } => "cooling",
            Self::Broken { .. } => "broken",
        }
    }

    #[must_use]
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::Usable => None,
            Self::Exhausted { why, .. } | Self::Cooling { why, .. } | Self::Broken { why } => Some(why),
        }
    }
}

impl Provider {
    /// When it is tried again; `None` while it is usable.
    #[must_use]
    pub fn until(&self) -> Option<Timestamp> {
        let later = || self.since.saturating_add(TRY_AGAIN).unwrap_or(self.since);
        match &self.standing {
            ProviderStanding::Usable => None,
            ProviderStanding::Cooling { until, .. } => Some(*until),
            ProviderStanding::Exhausted { until, .. } => Some(until.unwrap_or_else(later)),
            // A key can be corrected behind our back.
            ProviderStanding::Broken { .. } => Some(later()),
        }
    }

    /// Whether a job may be tried at it now.
    #[must_use]
    pub fn can_try(&self, now: Timestamp) -> bool {
        self.until().is_none_or(|until| until <= now)
    }
}

/// A task at a provider: one attempt. `run` is the idempotency key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    pub run: RunId,
    pub provider: ProviderName,
    /// The provider's own id; `None` until it has answered the submit.
    #[serde(default)]
    pub id: Option<String>,
    pub claimed: Timestamp,
    /// From 1.
    pub attempt: u32,
    #[serde(default)]
    pub stop: JobStop,
    pub text: TextFacts,
    /// What the provider has said so far.
    #[serde(skip)]
    pub output: Option<Arc<str>>,
    /// Why it is not done where the task asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instead: Option<String>,
}

/// Whether a job is to end before its provider says so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobStop {
    #[default]
    No,
    /// Somebody asked for it: the task ends as cancelled.
    Cancelled,
    /// Somebody wants the task back: it waits in the inbox again, for a session here.
    Recalled,
}

/// Where a person wants a task to go, whatever its frontmatter says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wish {
    Here,
    /// To the named provider, or to the best there is.
    Provider(Option<ProviderName>),
}

/// What happened to a provider.
#[derive(Debug, Clone, PartialEq)]
pub enum ProviderEvent {
    /// It took or did a job.
    Works,
    Out(ProviderStanding),
}

/// What a provider is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The same for each sending of one attempt, so that a repeated one is known again.
    pub key: RunId,
    pub prompt: String,
    /// The task's `preferred_ai`, for a server that chooses among several.
    pub word: Option<String>,
    pub complexity: Option<String>,
}

/// A job's state.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// `output` is what there is so far, where the provider shows it.
    Running {
        output: Option<Arc<str>>,
    },
    Done(Answer),
    /// The job ended without an answer; the provider's words.
    Failed(String),
    /// The job came to nothing for a reason that another provider need not have.
    Declined(ProviderError),
    /// The provider, or this process where the answer comes on the request's own connection, knows no such job.
    Unknown,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub text: String,
    pub tokens: Option<Tokens>,
    pub cost_usd: Option<f64>,
}

/// Why a provider did not do what was asked, after every try that made sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// This request is wrong for it; others may pass.
    #[error("{0}")]
    Refused(String),
    /// It can take nothing now.
    #[error("{}", .0.why().unwrap_or_default())]
    Out(ProviderStanding),
}
