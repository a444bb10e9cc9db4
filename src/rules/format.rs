//! The format of a rules file: everything known of one agent CLI, with patterns compiled.
//! Turns a value into `Rules`. Never reads a screen or a file itself: `screen`, `records` and `agents` do, with these
//! values.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::{
    condition::{Condition, Pattern},
    limits::{LimitRule, UsageRule},
    records::RecordRule,
    version::{Versions, Word},
};
use crate::model::evidence::WaitingFor;

/// The version of the rules format that this program reads; the first.
pub const RULES_VERSION: u32 = 1;

/// Everything known of one agent CLI.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rules {
    pub version: u32,
    /// The built-in kind over which the file is merged; a file for a built-in kind is merged over that one anyway.
    pub based_on: Option<String>,
    /// The CLI's version that the rules were measured on; for people.
    pub measured: String,
    pub install: Option<Install>,
    /// Which versions of the program work; without it every one is taken as it is, and none is asked for.
    pub versions: Option<Versions>,
    pub prompt_by: PromptWay,
    /// tmux names of the keys that stop a turn.
    pub interrupt: Vec<String>,
    pub commands: Option<Commands>,
    pub home: Option<Home>,
    pub launch: LaunchRules,
    /// Which limit is which; the first that fits.
    pub limits: Vec<LimitRule>,
    pub hooks: HookRules,
    pub status: Option<StatusRules>,
    pub transcript: Option<TranscriptRules>,
    pub screen: ScreenRules,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            version: RULES_VERSION,
            based_on: None,
            measured: String::new(),
            install: None,
            versions: None,
            prompt_by: PromptWay::Paste,
            interrupt: Vec::new(),
            commands: None,
            home: None,
            launch: LaunchRules::default(),
            limits: Vec::new(),
            hooks: HookRules::default(),
            status: None,
            transcript: None,
            screen: ScreenRules::default(),
        }
    }
}

impl Rules {
    /// Whether any agent of the kind can use an account's home.
    #[must_use]
    pub fn any_home(&self) -> bool {
        self.home.as_ref().is_some_and(|home| home.any_agent)
    }
}

/// What `init` asks of a machine on which the CLI may be.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Install {
    /// What installs it.
    pub command: String,
    /// Files below `$HOME`, each of which says that somebody has logged in.
    #[serde(default)]
    pub logins: Vec<String>,
}

/// How the agent takes its prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PromptWay {
    Paste,
    Stdin,
}

/// What the agent takes for something else than a prompt when it is typed where a prompt can be.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Commands {
    /// Its own commands: how they begin, or whole words.
    pub like: Pattern,
    /// Put before a task's text that looks like one; then it is a prompt.
    pub before: String,
    /// Ends after which Enter does something else than send.
    #[serde(default)]
    pub ends: Option<Pattern>,
    /// Put behind a text with such an end.
    #[serde(default)]
    pub after: String,
}

/// The directory that holds the agent's account.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Home {
    /// The variable that names it.
    pub env: String,
    /// Where it is below `HOME` when the variable isn't set.
    pub default: String,
    /// A file that the CLI keeps beside its default home, and inside any other.
    #[serde(default)]
    pub beside: Option<String>,
    /// Any agent of the kind can use an account's home, not only the one that the account names.
    #[serde(default)]
    pub any_agent: bool,
    /// The operator's own link (`claude_link`) leads to the active account's home.
    #[serde(default)]
    pub operators_link: bool,
    /// Directories that homes share, so that one account can resume another's conversations.
    #[serde(default)]
    pub shared: Vec<String>,
    /// The key of the configuration that is for other ones.
    #[serde(default)]
    pub shared_key: Option<SharedKey>,
    /// How the first questions are answered in a home that is ours.
    #[serde(default)]
    pub answers: Option<Answers>,
    #[serde(default)]
    pub login: Login,
}

/// A list in `shared` of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SharedKey {
    Entries,
    CodexEntries,
}

/// A way to answer an agent's first questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answers {
    /// `.claude.json`, beside or inside the home.
    ClaudeJson,
    /// A table in `config.toml` that trusts the working directory.
    CodexToml,
}

/// How one logs in, and what names a login.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Login {
    /// What a person types; `{home}` is the home.
    pub command: Option<String>,
    /// The same for the default home, which the CLI finds unasked.
    pub command_default: Option<String>,
    /// The file in the home that every login and every renewal changes.
    pub file: Option<String>,
    /// Two homes that have one of these in common hold one login.
    pub marks: Vec<Mark>,
}

/// What names a login.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// A JSON file of the home.
    pub file: String,
    /// Pointers to what names the login together; nothing does where the first is missing.
    pub at: Vec<String>,
}

/// How the program is started. `{…}` placeholders are filled by `launch`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LaunchRules {
    pub program: Vec<String>,
    pub args: Vec<Word>,
    /// Instead of `args`, when a conversation is resumed.
    pub resume: Vec<Word>,
    /// Appended to `resume` if the conversation gets a prompt at once.
    pub resume_prompt: Vec<String>,
    /// In front of `args` and `resume`, where the agent's row has an `instructions_file`; empty for a CLI that takes none.
    pub instructions: Vec<String>,
    pub conversation: ConversationBy,
    pub env: BTreeMap<String, String>,
}

/// Where a conversation's id comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConversationBy {
    /// We choose a random UUID before the start.
    Chosen,
    /// The agent chooses; hooks or its transcript tell.
    Found,
    /// There is nothing to resume.
    #[default]
    None,
}

/// Hooks: how they are installed and what each event means.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HookRules {
    pub install: HookInstall,
    /// Seconds that the agent gives a hook.
    pub timeout: u32,
    /// Events to install, by the agent's names.
    pub events: Vec<Word>,
    /// Further keys of the settings file (`install: settings-file`).
    pub settings: BTreeMap<String, Value>,
    /// Where a hook's data names the transcript.
    pub transcript_path: Option<String>,
    /// The person's own settings file, for an agent that reports its usage only to a status line: ours is installed,
    /// takes the usage and prints what theirs would.
    pub status_line: Option<String>,
    pub rules: Vec<RecordRule>,
    pub usage: Vec<UsageRule>,
}

/// How our hooks reach the agent without touching anybody's files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HookInstall {
    #[default]
    None,
    /// A settings file of our own, named by `{settings}` in the arguments.
    SettingsFile,
    /// `-c hooks.…` and `-c hooks.state=…` arguments, at `{hook_flags}`.
    CodexFlags,
}

/// The agent's own status file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatusRules {
    pub path: String,
    /// Pointer to milliseconds since 1970 of the last change.
    pub at: String,
    /// Pointer to the start time of the process in clock ticks, to tell a file that a killed process left.
    #[serde(default)]
    pub process_start: Option<String>,
    /// Pointer to the conversation's id.
    #[serde(default)]
    pub conversation: Option<String>,
    pub rules: Vec<RecordRule>,
}

/// The agent's transcript: JSON lines.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TranscriptRules {
    /// Paths with `{…}` placeholders and `*` within a component.
    pub paths: Vec<String>,
    /// A file that the agent's process holds open.
    #[serde(default)]
    pub open_file: Option<Pattern>,
    /// Pointer to a record's time.
    pub at: String,
    pub rules: Vec<RecordRule>,
    #[serde(default)]
    pub usage: Vec<UsageRule>,
    #[serde(default)]
    pub tokens: Option<TokenRules>,
}

/// How tokens are counted over a transcript's records.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRules {
    pub mode: TokenMode,
    #[serde(default)]
    pub when: BTreeMap<String, Condition>,
    /// Pointers whose values together name one answer (`sum` counts each once, its last record).
    #[serde(default)]
    pub key: Vec<String>,
    pub input: String,
    pub output: String,
    pub cache_read: String,
    pub cache_write: String,
    /// The input count holds the cached tokens, too.
    #[serde(default)]
    pub input_holds_cache: bool,
    /// More transcripts beside the main one: a path below its directory.
    #[serde(default)]
    pub beside: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenMode {
    /// Each record counts one answer.
    Sum,
    /// The last record has the total.
    Last,
}

/// How to read the terminal.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScreenRules {
    pub input: Option<InputBox>,
    /// Lines above the input box that belong to the frame, not to the conversation.
    pub notice: Option<Pattern>,
    /// Text to the right of the conversation; the first group is kept.
    pub aside: Option<Pattern>,
    /// A last block that only says that the turn is over.
    pub done: Option<Pattern>,
    /// Number of commands running in the background (first group), in the last block or below the input box.
    pub shells: Option<Pattern>,
    /// A server's error, looked for on the whole screen: it can only take belief away.
    pub server_error: Option<Pattern>,
    pub rules: Vec<ScreenRule>,
}

/// The agent's input box.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputBox {
    pub shape: BoxShape,
    /// Start of the first line of the box; the text follows.
    pub prompt: Pattern,
    /// A whole line that frames the box (its lower edge in `beside-bar`), or begins a dialog.
    pub frame: Pattern,
    /// The last line of a dialog in place of the box.
    pub dialog_end: Pattern,
    /// The agent's own texts in an empty box.
    pub ghosts: Vec<Pattern>,
    pub pasted: Pattern,
    /// A line below its text which says that a shell runs what is typed: then there is no box for a prompt.
    #[serde(default)]
    pub shell: Option<Pattern>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BoxShape {
    /// Between the last two frame lines.
    BetweenLines,
    /// From the last prompt mark down to the last block of the screen, which is the footer.
    AboveFooter,
    /// From the prompt mark below the last frame line down to the last block of the screen, which is the footer.
    BelowLine,
    /// Right of a vertical bar (`prompt`) on the last frame line; the bar's last line is the agent's.
    BesideBar,
}

/// One thing to see on the terminal.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScreenRule {
    pub rule: String,
    pub region: Region,
    #[serde(rename = "match")]
    pub pattern: Pattern,
    pub mean: ScreenMeaning,
    /// Only when the input box is there.
    #[serde(default)]
    pub needs_input: bool,
}

/// Where a rule looks. Rules never see more than their region, so text that an agent quotes elsewhere is no evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Region {
    Title,
    /// The last block of the conversation: nothing but the input box or a dialog comes after it.
    Last,
    /// The same with the block above it, when the last one only says that the turn is over.
    Turn,
    /// Below the input box.
    Footer,
    /// The dialog instead of the input box.
    Dialog,
    /// The lines at the end of a screen with neither input box nor dialog.
    End,
}

/// A meaning as a screen can carry it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScreenMeaning {
    Idle,
    Busy,
    Waiting(WaitingFor),
    Failed(super::records::FailureName),
    Interrupted,
    /// The first group of the pattern is the id to resume.
    Exited,
}
