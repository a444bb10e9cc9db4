//! An account: one home of an agent CLI, whether it is usable, and which account to use next.
//! Takes an account and an event; returns its next state. Contains the one function that chooses an account. Pure.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::model::{
    evidence::{Failure, Meaning, Signal},
    ids::{AccountName, AgentName, SessionName},
    limit::{Limit, Usage},
    session::{Activity, Verdict},
};

/// When an account is retried after a limit without a reset time. Chosen: a fifth of the shortest window (5 hours).
pub const TRY_AGAIN_AFTER: SignedDuration = SignedDuration::from_hours(1);
/// Added to a reported reset. Chosen: a clock slightly ahead of the provider's must not retry too early.
const RESET_MARGIN: SignedDuration = SignedDuration::from_secs(2);
/// Retry delay when the reported reset has already passed, which is not believed. Chosen: short, since the limit may
/// be over, and long enough not to loop.
const STALE_RESET_AFTER: SignedDuration = SignedDuration::from_mins(1);

/// Percent that unknown usage counts as. Chosen: neither fresh nor full.
const UNKNOWN_USED: u8 = 50;

/// Every state word of `Account::word`.
pub const WORDS: [&str; 5] = ["active", "available", "limited", "suspect", "broken"];

#[derive(Debug, Clone, PartialEq)]
pub struct Account {
    pub name: AccountName,
    /// The agent of its row in the configuration.
    pub agent: AgentName,
    /// The agents that can run under it. Accounts with the same list are interchangeable.
    pub agents: Vec<AgentName>,
    pub home: std::path::PathBuf,
    /// Sessions of its kind run under it.
    pub active: bool,
    /// Since when `active` has its value.
    pub active_since: Timestamp,
    pub standing: Standing,
    /// Evidence from before this time is void: a reset has passed since, or a person said so.
    pub believed_from: Timestamp,
    pub usage: Usage,
}

/// Whether an account is usable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    Usable,
    /// A screen shows a limit that nothing else has confirmed yet.
    Suspect {
        session: SessionName,
        signal: Signal,
    },
    Limited(Limited),
    /// Its login is lost or its home is incomplete: a person must act.
    Broken {
        why: String,
        since: Timestamp,
        signal: Option<Signal>,
    },
}

/// A limit of an account, and its evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limited {
    pub limit: Limit,
    /// When it is retried; `None` waits for a person.
    pub until: Option<Timestamp>,
    pub since: Timestamp,
    pub session: SessionName,
    pub signal: Signal,
}

/// Everything that can happen to an account.
#[derive(Debug, Clone, PartialEq)]
pub enum AccountEvent {
    /// An agent learned how much is used.
    Used(Usage),
    /// A screen shows a limit.
    Suspected { session: SessionName, signal: Signal },
    /// The screen that showed a limit shows something else.
    Recovered { session: SessionName },
    /// A limit is certain.
    Limited { session: SessionName, signal: Signal, limit: Limit },
    /// It is unusable until a person acts.
    Broken { why: String, signal: Option<Signal> },
    /// The time of the retry has come.
    Reset,
    /// A person says that it is usable, has logged in again, or an agent finished a turn under it.
    Vouched { why: String },
}

impl Account {
    /// The state word in `accounts/<name>/state`.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match (&self.standing, self.active) {
            (Standing::Usable, true) => "active",
            (Standing::Usable, false) => "available",
            (Standing::Suspect { .. }, _) => "suspect",
            (Standing::Limited(_), _) => "limited",
            (Standing::Broken { .. }, _) => "broken",
        }
    }

    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.standing == Standing::Usable
    }

    /// Whether it is certainly unusable.
    #[must_use]
    pub fn is_out(&self) -> bool {
        match self.standing {
            Standing::Limited(_) | Standing::Broken { .. } => true,
            Standing::Usable | Standing::Suspect { .. } => false,
        }
    }

    /// When it is retried automatically.
    #[must_use]
    pub fn until(&self) -> Option<Timestamp> {
        match &self.standing {
            Standing::Limited(limited) => limited.until,
            Standing::Usable | Standing::Suspect { .. } | Standing::Broken { .. } => None,
        }
    }

    /// Whether the two are interchangeable.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        self.agents == other.agents
    }
}

/// An account's state after an event; `None` if it stays the same.
#[must_use]
pub fn step(account: &Account, event: &AccountEvent, now: Timestamp) -> Option<Standing> {
    use AccountEvent as E;
    use Standing as S;

    // A clock that was set back makes no evidence old.
    let old = |signal: &Signal| signal.at <= account.believed_from && account.believed_from <= now;
    match event {
        E::Used(_) => None,
        E::Suspected { signal, .. } if old(signal) => None,
        E::Suspected { session, signal } => match &account.standing {
            S::Usable => Some(S::Suspect { session: session.clone(), signal: signal.clone() }),
            S::Suspect { .. } | S::Limited(_) | S::Broken { .. } => None,
        },
        E::Recovered { session } => match &account.standing {
            S::Suspect { session: by, .. } if by == session => Some(S::Usable),
            S::Usable | S::Suspect { .. } | S::Limited(_) | S::Broken { .. } => None,
        },
        E::Limited { signal, .. } if old(signal) => None,
        E::Limited { session, signal, limit } => {
            let limited = || {
                let until = until(limit, signal.at);
                Limited { limit: *limit, until, since: signal.at, session: session.clone(), signal: signal.clone() }
            };
            match &account.standing {
                S::Usable | S::Suspect { .. } => Some(S::Limited(limited())),
                // The later word knows better, unless it knows less: two sources tell of the same.
                S::Limited(known) if known.signal.at < signal.at => {
                    let knows_an_end = limit.resets_at.is_some() || !limit.kind.resets();
                    knows_an_end.then(|| S::Limited(limited()))
                }
                // The same event, reported again by a better source.
                S::Limited(known)
                    if known.signal.at == signal.at && known.limit != *limit && limit.resets_at.is_some() =>
                {
                    Some(S::Limited(limited()))
                }
                S::Limited(_) | S::Broken { .. } => None,
            }
        }
        E::Broken { signal: Some(signal), .. } if old(signal) => None,
        E::Broken { why, signal } => match &account.standing {
            S::Broken { why: known, .. } if known == why => None,
            S::Usable | S::Suspect { .. } | S::Limited(_) | S::Broken { .. } => {
                Some(S::Broken { why: why.clone(), since: now, signal: signal.clone() })
            }
        },
        E::Reset => match &account.standing {
            S::Limited(limited) if limited.until.is_some_and(|until| until <= now) => Some(S::Usable),
            S::Limited(_) | S::Usable | S::Suspect { .. } | S::Broken { .. } => None,
        },
        E::Vouched { .. } => match &account.standing {
            S::Suspect { .. } | S::Limited(_) | S::Broken { .. } => Some(S::Usable),
            S::Usable => None,
        },
    }
}

/// When an account with such a limit is retried; `None` if time does not help.
#[must_use]
pub fn until(limit: &Limit, seen: Timestamp) -> Option<Timestamp> {
    let after = |wait: SignedDuration| seen.saturating_add(wait).unwrap_or(Timestamp::MAX);
    match limit.resets_at {
        // A reported end counts for every kind of limit: returning credit is reported with its time, too.
        Some(reset) if reset > seen => Some(reset.saturating_add(RESET_MARGIN).unwrap_or(Timestamp::MAX)),
        Some(_) => Some(after(STALE_RESET_AFTER)),
        None => limit.kind.resets().then(|| after(TRY_AGAIN_AFTER)),
    }
}

/// When the limit that stopped an agent ends, by its own evidence; `None` if it is no limit, or only a person knows.
#[must_use]
pub fn limit_passes(verdict: &Verdict) -> Option<Timestamp> {
    let signal = verdict.evidence.first().filter(|_| verdict.activity == Activity::Limited)?;
    match &signal.meaning {
        Meaning::TurnFailed { failure: Failure::Limit(limit), .. } => until(limit, signal.at),
        Meaning::TurnFailed { .. }
        | Meaning::Started { .. }
        | Meaning::Idle
        | Meaning::Busy
        | Meaning::PromptTaken { .. }
        | Meaning::Waiting { .. }
        | Meaning::TurnEnded { .. }
        | Meaning::Interrupted
        | Meaning::Used { .. }
        | Meaning::Exited { .. } => None,
    }
}

/// The account to swap to from `from`: usable, the least used first, then in the configuration's order.
#[must_use]
pub fn choose<'a>(accounts: &'a [Account], from: &Account, now: Timestamp) -> Option<&'a Account> {
    let others = accounts.iter().filter(|other| other.is_like(from) && other.name != from.name && other.is_usable());
    others.min_by_key(|other| other.usage.used_percent(now).unwrap_or(UNKNOWN_USED))
}

/// Whether the limit doesn't end with time: worth a person's attention.
#[must_use]
pub fn needs_a_person(limited: &Limited) -> bool {
    limited.until.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::limit::LimitKind;

    /// A reported end counts for every kind of limit; without one, only time-based limits end with time.
    #[test]
    fn a_told_end_counts_for_every_kind() {
        let seen: Timestamp = "2026-11-21T12:00:00Z".parse().expect("a time");
        let at = |text: &str| text.parse::<Timestamp>().ok();
        for kind in [LimitKind::FiveHour, LimitKind::Credit, LimitKind::Spend, LimitKind::Unknown] {
            let told = Limit { kind, resets_at: at("2026-11-21T13:00:00Z") };
            assert_eq!(until(&told, seen), at("2026-11-21T13:00:02Z"), "{kind:?}");
        }
        let untold = |kind| until(&Limit { kind, resets_at: None }, seen);
        assert_eq!(untold(LimitKind::Credit), None);
        assert_eq!(untold(LimitKind::Unknown), at("2026-11-21T13:00:00Z"));
    }
}
