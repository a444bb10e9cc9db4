//! An account's limits: kind, reset time, and usage of each window.
//! Plain data that `agents` reads from records and screens. Knows no banner's text.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Which allowance is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LimitKind {
    FiveHour,
    Weekly,
    /// Of one model; others may still answer.
    Model,
    /// A ceiling on spending that a person set: time alone does not lift it.
    Spend,
    /// Prepaid credit: time alone does not bring it back.
    Credit,
    /// The agent did not say.
    Unknown,
}

impl LimitKind {
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::FiveHour => "5-hour limit",
            Self::Weekly => "weekly limit",
            Self::Model => "limit of one model",
            Self::Spend => "spend limit",
            Self::Credit => "credit used up",
            Self::Unknown => "limit of an unknown kind",
        }
    }

    /// Whether it ends by itself.
    #[must_use]
    pub fn resets(self) -> bool {
        match self {
            Self::FiveHour | Self::Weekly | Self::Model | Self::Unknown => true,
            Self::Spend | Self::Credit => false,
        }
    }
}

/// A limit that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    pub kind: LimitKind,
    /// When it ends, if the agent reported it.
    pub resets_at: Option<Timestamp>,
}

/// Usage of each window of an account, as last reported to its agents.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Usage(pub BTreeMap<LimitKind, Window>);

/// One window of an allowance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// 0 to 100.
    pub used_percent: u8,
    pub resets_at: Option<Timestamp>,
    /// When it was reported.
    pub at: Timestamp,
}

impl Window {
    /// How much of it is used; nothing once its reset has passed.
    #[must_use]
    pub fn used_percent_at(&self, now: Timestamp) -> u8 {
        match self.resets_at {
            Some(reset) if reset <= now => 0,
            Some(_) | None => self.used_percent,
        }
    }
}

impl Usage {
    /// The fullest window in percent; a window whose reset has passed counts as empty. `None` when nothing is known.
    #[must_use]
    pub fn used_percent(&self, now: Timestamp) -> Option<u8> {
        self.0.values().map(|window| window.used_percent_at(now)).max()
    }

    /// Takes newer windows over known ones.
    pub fn learn(&mut self, newer: &Self) {
        for (kind, window) in &newer.0 {
            let known = self.0.get(kind);
            if known.is_none_or(|known| known.at <= window.at) {
                self.0.insert(*kind, *window);
            }
        }
    }
}
