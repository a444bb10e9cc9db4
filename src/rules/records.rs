//! Interprets an agent's JSON records (hook data, status file, transcript line) by rules.
//! Takes one JSON value and a list of rules, of which the first match wins; returns at most one meaning. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    model::{
        evidence::{Failure, Meaning, Signal, Source, WaitingFor},
        limit::{Limit, LimitKind},
    },
    rules::{
        condition::{Condition, Pattern, all_hold, shorten},
        limits::Limits,
    },
};

/// One kind of record and what it means.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordRule {
    pub rule: String,
    /// Hook event; nothing for other records.
    #[serde(default)]
    pub event: Option<String>,
    /// JSON pointer to what must be there.
    #[serde(default)]
    pub when: BTreeMap<String, Condition>,
    /// Template of the text to show people; by default what the meaning holds.
    #[serde(default)]
    pub text: Option<String>,
    pub mean: RecordMeaning,
}

/// A failure as rules name it; which limit it is, the `limits` of the rules tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureName {
    Limit,
    /// A limit that counts as used up credit where its words don't say which it is.
    Credit,
    Server,
    Login,
    Request,
    Refused,
    Unknown,
}

impl FailureName {
    /// The failure; `limit` says which limit, if it is one.
    #[must_use]
    pub fn failure(self, limit: impl FnOnce() -> Limit) -> Failure {
        match self {
            Self::Limit => Failure::Limit(limit()),
            Self::Credit => match limit() {
                Limit { kind: LimitKind::Unknown, resets_at } => {
                    Failure::Limit(Limit { kind: LimitKind::Credit, resets_at })
                }
                known => Failure::Limit(known),
            },
            Self::Server => Failure::Server,
            Self::Login => Failure::Login,
            Self::Request => Failure::Request,
            Self::Refused => Failure::Refused,
            Self::Unknown => Failure::Unknown,
        }
    }
}

/// A meaning with its parts taken from the record. Texts are templates: `{/pointer}` is replaced; a template that is
/// nothing but a pointer to nothing gives no text.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum RecordMeaning {
    Started {
        conversation: String,
    },
    Idle,
    Busy,
    PromptTaken {
        #[serde(default)]
        prompt: Option<String>,
        /// What the agent adds to a prompt; taken out.
        #[serde(default)]
        drop: Option<Pattern>,
    },
    Waiting(WaitingFor),
    TurnEnded {
        #[serde(default)]
        message: Option<String>,
        /// Pointer to a list of running work.
        #[serde(default)]
        background: Option<String>,
        /// Which of these are commands and not sub-agents.
        #[serde(default)]
        shells: BTreeMap<String, Condition>,
        /// Pointer to such a one's command line.
        #[serde(default)]
        command: Option<String>,
    },
    TurnFailed {
        /// When `by` says nothing.
        failure: FailureName,
        /// Pointer to the agent's name of the failure.
        #[serde(default)]
        by: Option<String>,
        #[serde(default)]
        table: BTreeMap<String, FailureName>,
        #[serde(default)]
        message: Option<String>,
        /// What is no part of the message; taken out.
        #[serde(default)]
        drop: Option<Pattern>,
        /// Pointer to the agent's name of the limit.
        #[serde(default)]
        limit: Option<String>,
        /// Pointer to the epoch second at which a limit ends.
        #[serde(default)]
        until: Option<String>,
    },
    Interrupted,
    Exited {
        #[serde(default)]
        conversation: Option<String>,
    },
    /// A record that is known and says nothing.
    Nothing,
}

/// The signal that a record gives, if any.
#[must_use]
pub fn read(
    rules: &[RecordRule],
    limits: Limits<'_>,
    event: Option<&str>,
    record: &Value,
    source: Source,
    at: Timestamp,
) -> Option<Signal> {
    let rule = rules.iter().find(|r| r.event.as_deref() == event && all_hold(&r.when, record))?;
    let meaning = rule.mean.fill(record, limits, at)?;
    let own = rule.text.as_deref().and_then(|template| fill(template, record));
    let text =
        own.or_else(|| describe(&meaning)).or_else(|| event.map(str::to_owned)).unwrap_or_else(|| rule.rule.clone());
    Some(Signal { at, source, rule: rule.rule.clone(), text: shorten(&text), meaning })
}

impl RecordMeaning {
    /// `None` when the rule says that the record means nothing, or a part it can't do without is missing.
    fn fill(&self, record: &Value, limits: Limits<'_>, at: Timestamp) -> Option<Meaning> {
        let optional = |template: &Option<String>| template.as_deref().and_then(|t| fill(t, record));
        Some(match self {
            Self::Started { conversation } => Meaning::Started { conversation: fill(conversation, record)? },
            Self::Idle => Meaning::Idle,
            Self::Busy => Meaning::Busy,
            Self::PromptTaken { prompt, drop } => {
                let prompt = optional(prompt).map(|text| match drop {
                    Some(added) => added.0.replace_all(&text, "").trim().to_owned(),
                    None => text,
                });
                Meaning::PromptTaken { prompt }
            }
            Self::Waiting(what) => Meaning::Waiting { what: *what },
            Self::TurnEnded { message, background, shells, command } => {
                let list = background.as_deref().and_then(|p| record.pointer(p)).and_then(Value::as_array);
                let all = list.map(Vec::as_slice).unwrap_or_default();
                let commands = all.iter().filter(|task| !shells.is_empty() && all_hold(shells, task));
                let name = |task: &Value| task.pointer(command.as_deref()?)?.as_str().map(shorten);
                let shells: Vec<String> = commands.map(|task| name(task).unwrap_or_default()).collect();
                let background = u32::try_from(all.len() - shells.len()).unwrap_or(u32::MAX);
                Meaning::TurnEnded { message: optional(message), background, shells }
            }
            Self::TurnFailed { failure, by, table, message, drop, limit, until } => {
                let word = |pointer: &Option<String>| record.pointer(pointer.as_deref()?)?.as_str();
                let named = word(by);
                let failure = named.and_then(|name| table.get(name)).copied().unwrap_or(*failure);
                let message = optional(message).or_else(|| named.map(str::to_owned)).unwrap_or_default();
                let message = match drop {
                    Some(other) => other.0.replace_all(&message, "").trim().to_owned(),
                    None => message,
                };
                let until = until.as_deref().and_then(|p| record.pointer(p)).and_then(Value::as_i64);
                let resets_at = until.and_then(|s| Timestamp::from_second(s).ok());
                let failure = failure.failure(|| limits.limit(word(limit), resets_at, &message, at));
                Meaning::TurnFailed { failure, message }
            }
            Self::Interrupted => Meaning::Interrupted,
            Self::Exited { conversation } => Meaning::Exited { conversation: optional(conversation) },
            Self::Nothing => return None,
        })
    }
}

fn describe(meaning: &Meaning) -> Option<String> {
    match meaning {
        Meaning::Started { conversation } => Some(conversation.clone()),
        Meaning::PromptTaken { prompt } => prompt.clone(),
        Meaning::TurnEnded { message, .. } => message.clone(),
        Meaning::TurnFailed { message, .. } => Some(message.clone()),
        Meaning::Exited { conversation } => conversation.clone(),
        Meaning::Idle | Meaning::Busy | Meaning::Waiting { .. } | Meaning::Interrupted | Meaning::Used { .. } => None,
    }
}

/// Fills `{/pointer}` places. `None` when every place was empty and the template holds nothing else.
fn fill(template: &str, record: &Value) -> Option<String> {
    let mut out = String::new();
    let mut rest = template;
    let mut missing = false;
    while let Some((before, after)) = rest.split_once("{/") {
        let Some((pointer, tail)) = after.split_once('}') else { break };
        out.push_str(before);
        match record.pointer(&format!("/{pointer}")) {
            Some(Value::String(text)) => out.push_str(text),
            Some(value @ (Value::Number(_) | Value::Bool(_))) => out.push_str(&value.to_string()),
            Some(Value::Null | Value::Array(_) | Value::Object(_)) | None => missing = true,
        }
        rest = tail;
    }
    out.push_str(rest);
    (!(missing && out.trim().is_empty())).then_some(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn templates_take_what_is_there() {
        let record = json!({"a": {"b": "x"}, "n": 3});
        assert_eq!(fill("{/a/b}", &record).as_deref(), Some("x"));
        assert_eq!(fill("status {/n}: {/a/b}", &record).as_deref(), Some("status 3: x"));
        assert_eq!(fill("{/nothing}", &record), None);
    }
}
