//! Notifications: what is sent to people who aren't looking.
//! Plain values, and one line of text for each kind. A notification is about an incident, whose name stays the same
//! while it lasts, across restarts too.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Kinds of notifications.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoticeKind {
    /// An account is at its limit.
    Limit,
    /// Another account is active, and the sessions have moved.
    Swap,
    /// A swap was rolled back.
    SwapFailed,
    /// A swap could neither be carried through nor undone.
    PartialSwap,
    /// No account of an agent can be used.
    AllOut,
    TaskFailed,
    /// An agent waits for a person.
    Waiting,
    /// A provider has no credit or budget left.
    Credit,
    /// An agent at work has said nothing for `watcher.silent_after`.
    Silent,
    /// `health` has a problem.
    Degraded,
    /// A test.
    Test,
}

impl NoticeKind {
    /// Those that the supervisor sends by itself.
    pub const ALL: [Self; 10] = [
        Self::Limit,
        Self::Swap,
        Self::SwapFailed,
        Self::PartialSwap,
        Self::AllOut,
        Self::TaskFailed,
        Self::Waiting,
        Self::Credit,
        Self::Silent,
        Self::Degraded,
    ];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::Swap => "swap",
            Self::SwapFailed => "swap-failed",
            Self::PartialSwap => "partial-swap",
            Self::AllOut => "all-out",
            Self::TaskFailed => "task-failed",
            Self::Waiting => "waiting",
            Self::Credit => "credit",
            Self::Silent => "silent",
            Self::Degraded => "degraded",
            Self::Test => "test",
        }
    }

    /// Whether its end is reported too: kinds that block everything until somebody acts.
    #[must_use]
    pub fn tells_end(self) -> bool {
        match self {
            Self::PartialSwap | Self::AllOut | Self::Credit | Self::Degraded => true,
            Self::Limit
            | Self::Swap
            | Self::SwapFailed
            | Self::TaskFailed
            | Self::Waiting
            | Self::Silent
            | Self::Test => false,
        }
    }
}

/// Where notices go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Channel {
    Telegram,
    Resend,
    Webhook,
}

impl Channel {
    pub const ALL: [Self; 3] = [Self::Telegram, Self::Resend, Self::Webhook];

    /// Its key below `notifications` in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Telegram => "telegram",
            Self::Resend => "resend",
            Self::Webhook => "webhook",
        }
    }
}

/// Longest text of a notification, in characters. Chosen: short enough to read on a phone, and below the smallest
/// channel limit (Telegram, 4096).
const TEXT_MAX: usize = 1500;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    pub kind: NoticeKind,
    /// Names what it is about; stays the same while that lasts.
    pub incident: String,
    /// It is over.
    pub over: bool,
    pub title: String,
    pub text: String,
    /// When it began, or was over.
    pub at: Timestamp,
}

impl Notice {
    /// A notice of something that has begun. What agents and files say comes into it as data: control characters become
    /// blanks, and a long text is cut.
    #[must_use]
    pub fn new(kind: NoticeKind, incident: String, title: &str, text: &str, at: Timestamp) -> Self {
        Self { kind, incident, over: false, title: clean(title), text: clean(text), at }
    }
}

fn clean(text: &str) -> String {
    let text = super::text::clean(text);
    let mut out: String = text.chars().take(TEXT_MAX).map(|c| if c == '\t' { ' ' } else { c }).collect();
    if text.chars().nth(TEXT_MAX).is_some() {
        out.push('…');
    }
    out
}

/// A notice that was decided on, and the channels that have not got it yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    pub notice: Notice,
    #[serde(default)]
    pub to: Vec<Channel>,
}

/// What happens to notices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoticeEvent {
    /// To be sent to these channels; to none if it only has to be remembered as reported.
    Told(Told),
    /// A channel has the notice of that time, or was given up.
    Sent { incident: String, at: Timestamp, channel: Channel },
    /// The incident is no more.
    Forgotten { incident: String },
}

/// Why a notice was not delivered. The words never hold a key, a token or an address that has one in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoticeError {
    /// It may work later; `after` is what the receiver asked to wait.
    #[error("{why}")]
    Temporary { why: String, after: Option<Duration> },
    /// The same notice would be refused again.
    #[error("{0}")]
    Permanent(String),
}
