//! A task's attempts by a session or a provider, and how they ended.

use std::{path::PathBuf, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{
    evidence::Tokens,
    identity::TextFacts,
    ids::{AccountName, AgentName, RunId, SessionName},
    provider::Job,
};

/// One attempt under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    pub id: RunId,
    pub session: SessionName,
    pub agent: AgentName,
    /// The accounts it ran under, the present one last.
    #[serde(default)]
    pub accounts: Vec<AccountName>,
    /// Where the agent works; absolute.
    pub workdir: PathBuf,
    /// From 1.
    pub attempt: u32,
    /// Attempts that the task allows.
    pub attempts_allowed: u32,
    pub timeout: Option<Duration>,
    pub claimed: Timestamp,
    /// When typing began: what an agent said before is not about this run.
    #[serde(default)]
    pub typed: Option<Timestamp>,
    pub delivery: Delivery,
    #[serde(default)]
    pub stop: Stop,
    /// How often it was given a pause because the provider's server failed.
    #[serde(default)]
    pub pauses: u32,
    pub text: TextFacts,
    /// Why it is not done where the task asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instead: Option<String>,
}

/// Whether a run is to end before its agent says so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stop {
    #[default]
    No,
    /// Somebody asked for it: the task ends as cancelled.
    Cancelled,
    /// Somebody else claimed the task before anything was typed: it is theirs.
    Yielded,
    /// This attempt came to nothing; once its agent is ended, the next may begin.
    Again,
}

/// How far the prompt has got; saved before each step, so that a restart knows what may have happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Delivery {
    /// Nothing was typed.
    NotBegun,
    /// Typing has begun; the agent may or may not have the prompt.
    Begun,
    /// The agent has taken it.
    Taken { at: Timestamp },
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ending {
    pub status: Status,
    /// The agent's last message.
    pub message: Option<String>,
    pub error: Option<String>,
    /// The last screen, where there is no message or the agent died.
    pub screen: Option<String>,
    pub tokens: Option<Tokens>,
    /// In US dollars, if the provider reported it or a price is configured.
    #[serde(default)]
    pub cost_usd: Option<f64>,
    pub resume_id: Option<String>,
    /// Commands that the last turn left running and that were ended with the agent.
    #[serde(default)]
    pub ended_with_agent: Vec<String>,
    /// The same where they run on.
    #[serde(default)]
    pub left_running: Vec<String>,
    pub at: Timestamp,
}

impl Ending {
    /// One of which nothing else is known.
    #[must_use]
    pub fn new(status: Status, at: Timestamp) -> Self {
        Self {
            status,
            message: None,
            error: None,
            screen: None,
            tokens: None,
            cost_usd: None,
            resume_id: None,
            ended_with_agent: Vec::new(),
            left_running: Vec::new(),
            at,
        }
    }

    #[must_use]
    pub fn failed(error: String, at: Timestamp) -> Self {
        Self { error: Some(error), ..Self::new(Status::Failed, at) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    Done,
    Failed,
    Cancelled,
}

impl Status {
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Filing {
    /// `None` when it was cancelled before any run.
    pub work: Option<Work>,
    pub ending: Ending,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    pub work: Option<Work>,
    pub ending: Ending,
}

/// One attempt, wherever it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// In a session here.
    Run(Run),
    /// At a provider.
    Job(Job),
}

impl Work {
    #[must_use]
    pub fn id(&self) -> &RunId {
        match self {
            Self::Run(run) => &run.id,
            Self::Job(job) => &job.run,
        }
    }

    /// The text that is worked on.
    #[must_use]
    pub fn text(&self) -> &TextFacts {
        match self {
            Self::Run(run) => &run.text,
            Self::Job(job) => &job.text,
        }
    }

    /// From 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        match self {
            Self::Run(run) => run.attempt,
            Self::Job(job) => job.attempt,
        }
    }

    /// Why it is not done where the task asked.
    #[must_use]
    pub fn instead(&self) -> Option<&str> {
        match self {
            Self::Run(run) => run.instead.as_deref(),
            Self::Job(job) => job.instead.as_deref(),
        }
    }

    /// When the attempt began.
    #[must_use]
    pub fn claimed(&self) -> Timestamp {
        match self {
            Self::Run(run) => run.claimed,
            Self::Job(job) => job.claimed,
        }
    }

    #[must_use]
    pub fn run(&self) -> Option<&Run> {
        match self {
            Self::Run(run) => Some(run),
            Self::Job(_) => None,
        }
    }

    #[must_use]
    pub fn job(&self) -> Option<&Job> {
        match self {
            Self::Run(_) => None,
            Self::Job(job) => Some(job),
        }
    }
}

impl Run {
    /// The account it runs under.
    #[must_use]
    pub fn account(&self) -> Option<&AccountName> {
        self.accounts.last()
    }

    /// Notes under which account its agent runs.
    pub fn runs_under(&mut self, account: &AccountName) {
        if self.account() != Some(account) {
            self.accounts.push(account.clone());
        }
    }

    /// From when on the agent's words are about this run.
    #[must_use]
    pub fn heard_from(&self) -> Timestamp {
        self.typed.unwrap_or(self.claimed)
    }
}
