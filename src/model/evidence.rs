//! Evidence about a working agent, and its source.
//! Holds signals that `agents` makes from status files, hooks, transcripts, titles and screens. Plain data, no text
//! matching: `agents` reads screens, `watcher::classify` decides.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::limit::{Limit, Usage};

/// Source of a signal, best first: the derived order is the rank (ARCHITECTURE, Evidence).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The process itself: alive or exited.
    Process,
    /// The agent's own status file.
    StatusFile,
    /// A hook that the agent ran.
    Hook,
    /// A record of the agent's transcript.
    Transcript,
    /// The terminal's title.
    Title,
    /// The text on the screen.
    Screen,
}

/// The rule of a dialog that no rule of its agent knows.
pub const UNKNOWN_DIALOG: &str = "unknown-dialog";

/// One report of one source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    /// When the source says it happened; for a screen, when it was read.
    pub at: Timestamp,
    pub source: Source,
    /// Name of the rule in the agent's rules file.
    pub rule: String,
    /// The matched text, shortened, free of control characters.
    pub text: String,
    pub meaning: Meaning,
}

/// Meaning of a signal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Meaning {
    /// The agent is up and says under which id its conversation can be resumed.
    Started { conversation: String },
    /// The agent shows its prompt and nothing runs.
    Idle,
    /// The agent is working.
    Busy,
    /// The agent accepted a prompt. The text is the agent's own copy, if it gives one.
    PromptTaken { prompt: Option<String> },
    /// The agent waits for a person.
    Waiting { what: WaitingFor },
    /// A turn ended well. If `background` sub-agents of it still run, it isn't the end. The commands `shells` keep
    /// running.
    TurnEnded {
        message: Option<String>,
        background: u32,
        #[serde(default)]
        shells: Vec<String>,
    },
    /// A turn ended in an error.
    TurnFailed { failure: Failure, message: String },
    /// A person or a verb interrupted the turn.
    Interrupted,
    /// The agent learned how much of its account's allowance is used.
    Used { usage: Usage },
    /// The agent exited by itself and left an id to resume its conversation.
    Exited { conversation: Option<String> },
}

/// What a waiting agent wants from a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WaitingFor {
    Permission,
    Question,
    /// Any other dialog: trust of a directory, login, update notice, limit menu.
    Dialog,
    /// No dialog: its turn was interrupted, its box is empty, and a person decides how to continue.
    Interrupted,
}

impl std::fmt::Display for WaitingFor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Permission => "permission",
            Self::Question => "question",
            Self::Dialog => "dialog",
            Self::Interrupted => "interrupted",
        })
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Process => "the process",
            Self::StatusFile => "the agent's status file",
            Self::Hook => "a hook",
            Self::Transcript => "the transcript",
            Self::Title => "the terminal title",
            Self::Screen => "the screen",
        })
    }
}

/// Why a turn failed. `Limit` and `Login` concern the account; the others say nothing about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// A limit of the account: usage, spending, credit.
    Limit(Limit),
    /// The provider is overloaded, throttling or down; says nothing about the account.
    Server,
    /// The login is not valid.
    Login,
    /// The request itself can't be served: too long, bad model.
    Request,
    /// A person's hook refused the prompt: the agent never accepted it.
    Refused,
    Unknown,
}

/// Token counts of a run as the agent's transcript gives them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    pub input: u64,
    pub output: u64,
    pub cache_read: u64,
    pub cache_write: u64,
}

/// One reading of a pane. `plain` has no control characters except newline.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Screen {
    pub title: String,
    pub plain: String,
}

/// Interpretation of a screen alone, by its agent's rules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Look {
    /// The agent's input box is visible and accepts text.
    pub ready: bool,
    /// Text in the input box, without the agent's own placeholder; `Some("")` is an empty box, `None` no box.
    pub input: Option<String>,
    /// The agent's own placeholder in the box, or what looks like it: it is one only if it was there before a text was
    /// pasted.
    pub ghost: Option<String>,
    /// The input box holds a collapsed paste (`[Pasted text #1 +9 lines]`).
    pub pasted: bool,
    /// Number of commands running in the background, by the screen's count.
    pub shells: u32,
    /// A server error is on the screen: a limit that only this screen shows is not believed.
    pub server_error: bool,
    /// What title and screen mean, best first.
    pub signals: Vec<Signal>,
}

impl Look {
    /// Somebody's text in the box.
    #[must_use]
    pub fn draft(&self) -> Option<&str> {
        self.input.as_deref().filter(|text| self.pasted || !text.trim().is_empty())
    }
}
