//! A task's phase, as everybody sees it.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{EndedBy, Filing, Finished, Hold, Problem, Run, Work};
use crate::model::{
    by_words::Found,
    command::Writer,
    identity::{Bound, TextFacts},
    ids::{AgentName, ProviderName, RunId, TaskKey},
    provider::{Job, JobStop, Wish},
    writer::By,
};

/// Bounds of `priority` (INTERFACE 4). Chosen: room for a scale by hand; the default 0 is in the middle.
pub const PRIORITY_RANGE: std::ops::RangeInclusive<i32> = -100..=100;

/// A task as everybody sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    pub key: TaskKey,
    /// `None` until its text could be read once.
    pub text: Option<TextFacts>,
    pub spec: Arc<TaskSpec>,
    /// The frontmatter's priority, or the one a person set by verb.
    pub priority: i32,
    pub phase: Phase,
    /// Since when `phase` is what it is.
    pub since: Timestamp,
    /// Attempts begun so far.
    pub attempts: u32,
    pub origin: Origin,
    /// Where a person wants it to go.
    pub wish: Option<Wish>,
    /// Providers that refused this text; not asked again.
    pub refused_by: Vec<ProviderName>,
    /// What else a person should know; a line of `why`.
    pub note: Option<String>,
    /// What is odd about this text, also while something else holds it.
    pub doubt: Option<Hold>,
    /// What holds it beside what `phase` says; stays when that is let go.
    pub also: Vec<Hold>,
}

impl Task {
    /// One of which nothing is known but its name.
    #[must_use]
    pub fn new(key: TaskKey, now: Timestamp) -> Self {
        Self {
            key,
            text: None,
            spec: Arc::default(),
            priority: 0,
            phase: Phase::Held(Hold::Settling),
            since: now,
            attempts: 0,
            origin: Origin::default(),
            wish: None,
            refused_by: Vec::new(),
            note: None,
            doubt: None,
            also: Vec::new(),
        }
    }

    /// What a permission for it is for.
    #[must_use]
    pub fn bound(&self) -> Option<Bound> {
        Some(Bound { identity: self.text.as_ref()?.identity.clone(), agent: self.spec.agent().cloned() })
    }

    /// Whether it is in `delegated/`: at a provider, or sent to one by a person and not taken back.
    #[must_use]
    pub fn is_delegated(&self) -> bool {
        match &self.phase {
            Phase::Delegated(job) => job.stop != JobStop::Recalled,
            Phase::Held(_) | Phase::Queued => matches!(self.wish, Some(Wish::Provider(_))),
            Phase::Rejected(_) | Phase::Working(_) | Phase::Filing(_) | Phase::Finished(_) => false,
        }
    }
}

/// Who wrote a task, where that is known (writes through the mount).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    pub writer: Option<Writer>,
    /// The task at whose session the writer runs.
    pub parent: Option<TaskKey>,
    /// The first of the tasks that it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<TaskKey>,
    /// How many tasks it came from; 0 for what no agent submitted.
    #[serde(default)]
    pub depth: u32,
    /// The text that the writer made a task of. Any other was written behind the mount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<Bound>,
    /// It was counted among what its root has submitted.
    #[serde(default)]
    pub counted: bool,
}

impl Origin {
    /// Who wrote this text.
    #[must_use]
    pub fn by(&self, text: &Bound) -> By {
        let own = self.text.as_ref() == Some(text);
        self.writer.as_ref().filter(|_| own).map_or(By::Unknown, |writer| writer.by)
    }
}

/// The frontmatter (INTERFACE 4).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TaskSpec {
    pub preferred_ai: Option<String>,
    pub allow_delegation: bool,
    pub needs_claude_code: bool,
    pub complexity_hint: Option<String>,
    pub agent: Option<AgentName>,
    pub priority: i32,
    /// Relative to the project.
    pub workdir: String,
    pub timeout: Option<Duration>,
    /// Attempts after the first.
    pub retries: u32,
    pub depends_on: Vec<String>,
    /// What the configuration's words make of name and text, where `agent` says nothing. Not of the frontmatter.
    pub by_words: Option<Found>,
    /// Keys that mean nothing here; named in `why`.
    pub unknown: Vec<String>,
}

impl Default for TaskSpec {
    fn default() -> Self {
        Self {
            preferred_ai: None,
            allow_delegation: false,
            needs_claude_code: false,
            complexity_hint: None,
            agent: None,
            priority: 0,
            workdir: ".".to_owned(),
            timeout: None,
            retries: 1,
            depends_on: Vec::new(),
            by_words: None,
            unknown: Vec::new(),
        }
    }
}

impl TaskSpec {
    /// The agent that the task names or that its words choose; the pool's agent if `None`.
    #[must_use]
    pub fn agent(&self) -> Option<&AgentName> {
        self.agent.as_ref().or_else(|| Some(&self.by_words.as_ref()?.agent))
    }
}

/// A task's state.
#[derive(Debug, Clone, PartialEq)]
pub enum Phase {
    /// In the inbox and not to be dispatched yet.
    Held(Hold),
    /// Ready; waits for a session.
    Queued,
    /// Can't run as it is written.
    Rejected(Problem),
    /// Claimed: the marker is on disk.
    Working(Run),
    /// At a provider: the marker is on disk.
    Delegated(Job),
    /// Its end is known; the result is being put on disk.
    Filing(Filing),
    /// Its result is on disk.
    Finished(Finished),
}

impl Phase {
    /// The identity of the text that a finished task was run with.
    #[must_use]
    pub fn text_that_ran(&self) -> Option<&String> {
        let Self::Finished(Finished { work: Some(work), .. }) = self else { return None };
        match work {
            Work::Run(run) => Some(&run.text.identity),
            Work::Job(job) => Some(&job.text.identity),
        }
    }
}

impl Phase {
    /// The state word in `tasks/<id>/state`.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Held(_) => "held",
            Self::Queued => "queued",
            Self::Rejected(_) => "rejected",
            Self::Working(_) | Self::Filing(Filing { work: None | Some(Work::Run(_)), .. }) => "working",
            Self::Delegated(_) | Self::Filing(Filing { work: Some(Work::Job(_)), .. }) => "delegated",
            Self::Finished(finished) => finished.ending.status.word(),
        }
    }

    /// Whether it is only waited for its writer to be through with it.
    #[must_use]
    pub fn settles(&self) -> bool {
        matches!(self, Self::Held(hold) if hold.ended_by() == EndedBy::Time)
    }

    /// The attempt in a session here.
    #[must_use]
    pub fn run(&self) -> Option<&Run> {
        match self {
            Self::Working(run) => Some(run),
            Self::Filing(Filing { work, .. }) | Self::Finished(Finished { work, .. }) => work.as_ref()?.run(),
            Self::Held(_) | Self::Queued | Self::Rejected(_) | Self::Delegated(_) => None,
        }
    }

    #[must_use]
    pub fn filing(&self) -> Option<&Filing> {
        if let Self::Filing(filing) = self { Some(filing) } else { None }
    }

    /// The job that it has now.
    #[must_use]
    pub fn delegated(&self) -> Option<&Job> {
        match self {
            Self::Delegated(job) => Some(job),
            Self::Held(_)
            | Self::Queued
            | Self::Rejected(_)
            | Self::Working(_)
            | Self::Filing(_)
            | Self::Finished(_) => None,
        }
    }

    /// The attempt at a provider.
    #[must_use]
    pub fn job(&self) -> Option<&Job> {
        match self {
            Self::Delegated(job) => Some(job),
            Self::Filing(Filing { work, .. }) | Self::Finished(Finished { work, .. }) => work.as_ref()?.job(),
            Self::Held(_) | Self::Queued | Self::Rejected(_) | Self::Working(_) => None,
        }
    }

    /// The attempt whose text is needed still: for its prompt, or for its result.
    #[must_use]
    pub fn open_run(&self) -> Option<&RunId> {
        self.run_id().filter(|_| !matches!(self, Self::Finished(_)))
    }

    /// The attempt, wherever it was made.
    #[must_use]
    pub fn run_id(&self) -> Option<&RunId> {
        self.run().map(|run| &run.id).or_else(|| self.job().map(|job| &job.run))
    }
}
