//! A swap: the change of the active account, as a persistent sequence of steps.
//! Takes a swap and an event; returns its next step. The operator's shell link is flipped and the new account's shared
//! links are ensured before anything is stopped; only then does the new account become active and sessions move to it
//! one by one.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::ids::AccountName;

/// The topic in `health` of a swap that is half done.
pub const HEALTH: &str = "swap";

/// A swap under way. Saved before each of its steps is carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swap {
    pub number: u64,
    pub from: AccountName,
    pub to: AccountName,
    pub cause: Cause,
    pub begun: Timestamp,
    /// `Swaps::cooldown_from` as it was then.
    #[serde(default)]
    pub cooldown_from: Option<Timestamp>,
    pub step: SwapStep,
    /// Since when `step` is what it is.
    pub since: Timestamp,
}

/// Why a swap was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The active account can't be used; the words that say so.
    Out { why: String },
    /// The active account is nearly used up.
    Proactive { used_percent: u8 },
    /// A person asked for it; the request that waits for the end.
    Person { request: u64 },
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SwapStep {
    /// Turn the operator's link to the new home.
    Flip,
    /// Make sure that the new home's shared links are whole.
    Ensure,
    /// The new account is active; its sessions are moving.
    Move,
    /// Turn the link back: the new account can't be used.
    RollBack { why: String },
}

/// Everything that can happen to swaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SwapEvent {
    Begin {
        to: AccountName,
        cause: Cause,
    },
    Flipped,
    /// From here on the new account is the active one.
    Ensured,
    /// Every session has moved, or was reported as not moved.
    Moved {
        left: Vec<String>,
    },
    /// A step before the new account was active failed.
    Failed {
        why: String,
    },
    RolledBack,
    RollBackFailed {
        why: String,
    },
    /// A person has corrected a partial swap.
    ClearPartial,
}

/// The last swap that ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swapped {
    pub number: u64,
    pub from: AccountName,
    pub to: AccountName,
    pub cause: Cause,
    pub begun: Timestamp,
    #[serde(default)]
    pub cooldown_from: Option<Timestamp>,
    pub ended: Timestamp,
    /// Why it was rolled back; `None` when it was carried through.
    pub error: Option<String>,
}

/// A swap that could neither be carried through nor undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partial {
    pub swap: u64,
    pub why: String,
    pub since: Timestamp,
}

/// All there is to know of swaps.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Swaps {
    /// Of the last one begun.
    pub number: u64,
    /// Those that were rolled back, or could not be.
    pub failed: u64,
    pub current: Option<Swap>,
    pub last: Option<Swapped>,
    /// When the last one ended that the cooldown counts from: it was carried through, or failed for no fault of its target's.
    pub cooldown_from: Option<Timestamp>,
    pub partial: Option<Partial>,
}

/// Why a swap event does not apply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SwapRefusal {
    #[error("a swap to {to} is under way ({step})")]
    UnderWay { to: AccountName, step: &'static str },
    #[error(
        "swap {swap} is half done and could not be undone: {why}; put it right, then `echo clear-partial > control`"
    )]
    Partial { swap: u64, why: String },
    #[error("there is no account {0}")]
    NoAccount(AccountName),
    #[error("{0} is the active account already")]
    Active(AccountName),
    #[error("no swap is at that step")]
    NotNow,
}

impl From<&Partial> for SwapRefusal {
    fn from(partial: &Partial) -> Self {
        Self::Partial { swap: partial.swap, why: partial.why.clone() }
    }
}

impl Swaps {
    /// Those that were carried through.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.number.saturating_sub(self.failed + u64::from(self.current.is_some()))
    }
}

impl SwapStep {
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Flip => "flip",
            Self::Ensure => "ensure",
            Self::Move => "move",
            Self::RollBack { .. } => "roll back",
        }
    }
}

impl Cause {
    /// Why, in words; reads on after a colon.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Out { why } => why.clone(),
            Self::Proactive { used_percent } => format!("{used_percent} % of the account that was left is used"),
            Self::Person { .. } => "a person asked for it".to_owned(),
        }
    }

    /// Whether a person asked for it: then neither cooldown nor dwell time prevents it.
    #[must_use]
    pub fn is_person(&self) -> bool {
        match self {
            Self::Person { .. } => true,
            Self::Out { .. } | Self::Proactive { .. } => false,
        }
    }
}

/// Applies an event. Which account is active is the caller's to change: `Ensured` says when.
///
/// # Errors
/// When it does not apply; nothing has changed then.
pub fn step(swaps: &Swaps, from: &AccountName, event: &SwapEvent, now: Timestamp) -> Result<Swaps, SwapRefusal> {
    use SwapEvent as E;
    use SwapStep as S;

    let mut next = swaps.clone();
    let at = |step: &SwapStep| Some(Swap { step: step.clone(), since: now, ..swaps.current.clone()? });
    let ended = |error: Option<String>| {
        let swap = swaps.current.clone()?;
        let Swap { number, from, to, cause, begun, cooldown_from, step: _, since: _ } = swap;
        Some(Swapped { number, from, to, cause, begun, cooldown_from, ended: now, error })
    };
    match (swaps.current.as_ref().map(|swap| &swap.step), event) {
        (_, E::Begin { .. }) if swaps.partial.is_some() => {
            return Err(swaps.partial.as_ref().map_or(SwapRefusal::NotNow, SwapRefusal::from));
        }
        (Some(step), E::Begin { .. }) => {
            let to = swaps.current.as_ref().map(|swap| swap.to.clone()).ok_or(SwapRefusal::NotNow)?;
            return Err(SwapRefusal::UnderWay { to, step: step.word() });
        }
        (None, E::Begin { to, .. }) if to == from => return Err(SwapRefusal::Active(to.clone())),
        (None, E::Begin { to, cause }) => {
            next.number += 1;
            next.current = Some(Swap {
                number: next.number,
                from: from.clone(),
                to: to.clone(),
                cause: cause.clone(),
                begun: now,
                cooldown_from: swaps.cooldown_from,
                step: S::Flip,
                since: now,
            });
        }
        (Some(S::Flip), E::Flipped) => next.current = at(&S::Ensure),
        (Some(S::Ensure), E::Ensured) => next.current = at(&S::Move),
        (Some(S::Flip | S::Ensure), E::Failed { why }) => next.current = at(&S::RollBack { why: why.clone() }),
        (Some(S::Move), E::Moved { .. }) => {
            next.last = ended(None);
            next.cooldown_from = Some(now);
            next.current = None;
        }
        (Some(S::RollBack { why }), E::RolledBack) => {
            next.last = ended(Some(why.clone()));
            next.failed += 1;
            next.current = None;
        }
        (Some(S::RollBack { why: first }), E::RollBackFailed { why }) => {
            let why = format!("{first}; and turning back failed: {why}");
            next.partial = Some(Partial { swap: swaps.number, why: why.clone(), since: now });
            next.last = ended(Some(why));
            next.failed += 1;
            next.current = None;
        }
        (_, E::ClearPartial) if swaps.partial.is_some() => {
            next.partial = None;
            // What is put right is no reason to wait.
            next.last = None;
        }
        (
            Some(S::Flip | S::Ensure | S::Move | S::RollBack { .. }) | None,
            E::Flipped
            | E::Ensured
            | E::Moved { .. }
            | E::Failed { .. }
            | E::RolledBack
            | E::RollBackFailed { .. }
            | E::ClearPartial,
        ) => return Err(SwapRefusal::NotNow),
    }
    Ok(next)
}
