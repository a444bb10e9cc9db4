//! What is known of one agent CLI, as data: types of the rules file, the built-in files, and how an override is merged.
//! In: YAML text and the configuration's partial override. Out: `Rules`, every pattern compiled.
//! Never reads a screen or a file itself: `screen`, `records`, `launch` do that with these values.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::{
    agents::{
        condition::{Condition, Pattern},
        limits::{LimitRule, UsageRule},
        records::RecordRule,
        version::{Versions, Word},
    },
    model::evidence::WaitingFor,
};

/// The version of the rules format that this program reads.
pub const RULES_VERSION: u32 = 1;

const BUILT_IN: [(Kind, &str); 6] = [
    (Kind::Claude, include_str!("rules/claude.yaml")),
    (Kind::Codex, include_str!("rules/codex.yaml")),
    (Kind::Gemini, include_str!("rules/gemini.yaml")),
    (Kind::Opencode, include_str!("rules/opencode.yaml")),
    (Kind::Demo, include_str!("rules/demo.yaml")),
    (Kind::Command, include_str!("rules/command.yaml")),
];

/// Which built-in rules an agent starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Claude,
    Codex,
    Gemini,
    Opencode,
    Demo,
    Command,
}

impl Kind {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Claude => "claude",
            Self::Codex => "codex",
            Self::Gemini => "gemini",
            Self::Opencode => "opencode",
            Self::Demo => "demo",
            Self::Command => "command",
        }
    }
}

/// Why rules can't be used.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    #[error("the rules of {agent} can't be read: {message}")]
    Bad { agent: String, message: String },
    #[error("the rules of {agent} have version {found}, this program reads version {RULES_VERSION}")]
    Version { agent: String, found: u32 },
}

/// Everything known of one agent CLI.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    pub version: u32,
    /// The CLI's version that the rules were measured on; for people.
    pub measured: String,
    /// Which versions of the program work; without it every one is taken as it is, and none is asked for.
    #[serde(default)]
    pub versions: Option<Versions>,
    pub prompt_by: PromptWay,
    /// tmux names of the keys that stop a turn.
    #[serde(default)]
    pub interrupt: Vec<String>,
    #[serde(default)]
    pub commands: Option<Commands>,
    #[serde(default)]
    pub home: Option<Home>,
    pub launch: LaunchRules,
    /// Which limit is which; the first that fits.
    #[serde(default)]
    pub limits: Vec<LimitRule>,
    #[serde(default)]
    pub hooks: HookRules,
    #[serde(default)]
    pub status: Option<StatusRules>,
    #[serde(default)]
    pub transcript: Option<TranscriptRules>,
    #[serde(default)]
    pub screen: ScreenRules,
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
}

/// How the program is started. `{…}` placeholders are filled by `launch`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaunchRules {
    pub program: Vec<String>,
    #[serde(default)]
    pub args: Vec<Word>,
    /// Instead of `args`, when a conversation is resumed.
    #[serde(default)]
    pub resume: Vec<Word>,
    /// Behind `resume`, when the conversation is to go on with a prompt at once.
    #[serde(default)]
    pub resume_prompt: Vec<String>,
    pub conversation: ConversationBy,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

/// Where a conversation's id comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConversationBy {
    /// We choose a random UUID before the start.
    Chosen,
    /// The agent chooses; hooks or its transcript tell.
    Found,
    /// There is nothing to resume.
    None,
}

/// Hooks: how they are handed to the agent and what each event means.
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
    /// The person's own settings file, when the agent tells its usage only to a status line: ours is installed, takes the
    /// usage and shows what theirs would.
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
    /// Each record tells of one answer.
    Sum,
    /// The last record tells the total.
    Last,
}

/// How to read the terminal.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScreenRules {
    pub input: Option<InputBox>,
    /// Lines above the input box that belong to the frame, not to the conversation.
    pub notice: Option<Pattern>,
    /// What stands right of the conversation; the first group stays.
    pub aside: Option<Pattern>,
    /// A last block that only says that the turn is over.
    pub done: Option<Pattern>,
    /// How many commands go on in the background (first group), in the last block or below the input box.
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
    /// The last line of a dialog that stands where the box would be.
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
    /// Right of a vertical bar (`prompt`) that stands on the last frame line; the bar's last line is the agent's.
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
    /// The dialog that stands instead of the input box.
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

impl Rules {
    /// The built-in rules of a kind, with a partial override merged over them.
    ///
    /// # Errors
    /// When the override has an unknown key, a bad pattern or another version.
    pub fn load(agent: &str, kind: Kind, over: Option<&Value>) -> Result<Self, RulesError> {
        let bad = |message: String| RulesError::Bad { agent: agent.to_owned(), message };
        let value = laid_over(kind, over.unwrap_or(&Value::Null)).map_err(bad)?;
        let rules: Self = serde_json::from_value(value).map_err(|e| bad(e.to_string()))?;
        if rules.version != RULES_VERSION {
            return Err(RulesError::Version { agent: agent.to_owned(), found: rules.version });
        }
        Ok(rules)
    }
}

/// The built-in rules of a kind with a partial override merged over them; `Null` is none.
pub(super) fn laid_over(kind: Kind, over: &Value) -> Result<Value, String> {
    let text = BUILT_IN.iter().find(|(k, _)| *k == kind).map_or("", |(_, text)| *text);
    let mut value: Value = serde_yaml::from_str(text).map_err(|e| e.to_string())?;
    if let Some(base) = value.as_object_mut().and_then(|map| map.remove("based_on")) {
        let base = BUILT_IN.iter().find(|(k, _)| base == k.name()).map_or("", |(_, text)| *text);
        let mut below: Value = serde_yaml::from_str(base).map_err(|e| e.to_string())?;
        merge(&mut below, &value);
        value = below;
    }
    if !over.is_null() {
        merge(&mut value, over);
    }
    Ok(value)
}

/// Lays `over` on `base`: objects key by key; lists of named rules by their `rule` (a known name replaces, a new one comes
/// first); everything else is replaced.
pub fn merge(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (Value::Array(base), Value::Array(over))
            if !over.is_empty() && over.iter().all(|v| v.get("rule").is_some()) =>
        {
            for value in over.iter().rev() {
                match base.iter_mut().find(|b| b.get("rule") == value.get("rule")) {
                    Some(known) => merge(known, value),
                    None => base.insert(0, value.clone()),
                }
            }
        }
        (base, over) => *base = over.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_built_in_loads() {
        for (kind, _) in BUILT_IN {
            assert!(Rules::load(kind.name(), kind, None).is_ok(), "{}", kind.name());
        }
    }

    #[test]
    fn an_override_changes_only_what_it_names() {
        let over = json!({
            "launch": {"args": ["--mine"]},
            "screen": {"rules": [{"rule": "mine", "region": "last", "match": "^!", "mean": "busy"}]},
        });
        let plain = Rules::load("a", Kind::Claude, None).expect("built-in");
        let rules = Rules::load("a", Kind::Claude, Some(&over)).expect("merged");
        let words = |words: &[Word]| words.iter().map(|word| word.word.clone()).collect::<Vec<_>>();
        assert_eq!(words(&rules.launch.args), ["--mine"]);
        assert_eq!(words(&rules.launch.resume), words(&plain.launch.resume));
        assert_eq!(rules.screen.rules.len(), plain.screen.rules.len() + 1);
        assert_eq!(rules.screen.rules[0].rule, "mine");
    }

    #[test]
    fn a_typo_is_an_error() {
        let error = Rules::load("a", Kind::Claude, Some(&json!({"lunch": {}}))).expect_err("unknown key");
        assert!(error.to_string().contains("lunch"), "{error}");
        let version = Rules::load("a", Kind::Claude, Some(&json!({"version": 9}))).expect_err("version");
        assert!(version.to_string().contains('9'), "{version}");
    }
}
