//! Extracts limits, their reset times and usage from an agent's records and messages.
//! Takes an agent's rules, its records and texts; returns `Limit` and `Usage`. Pure.

use std::collections::BTreeMap;

use jiff::{Timestamp, tz::TimeZone};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    model::{
        evidence::{Meaning, Signal, Source},
        limit::{Limit, LimitKind, Usage, Window},
        reset,
    },
    rules::condition::{Condition, Pattern, all_hold, shorten},
};

/// One kind of limit and how the agent calls it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitRule {
    pub rule: String,
    pub kind: LimitKind,
    /// The agent's own name of it in its records.
    #[serde(default)]
    pub name: Option<Pattern>,
    /// Its words in messages.
    #[serde(default)]
    pub text: Option<Pattern>,
}

/// Distinguishes limits of one agent.
#[derive(Debug, Clone, Copy)]
pub struct Limits<'a> {
    pub rules: &'a [LimitRule],
    /// Where times without a zone belong.
    pub zone: &'a TimeZone,
}

impl Limits<'_> {
    /// The limit in a message. A record's fields (`name`, `resets_at`) take precedence over the message's words.
    #[must_use]
    pub fn limit(&self, name: Option<&str>, resets_at: Option<Timestamp>, text: &str, at: Timestamp) -> Limit {
        let is = |pattern: &Option<Pattern>, text: &str| pattern.as_ref().is_some_and(|p| p.0.is_match(text));
        let by_name = name.and_then(|name| self.rules.iter().find(|rule| is(&rule.name, name)));
        let by_words = |text: &str| self.rules.iter().find(|rule| is(&rule.text, text));
        // What was reached comes first; other limits and what can be done stand behind a dot.
        let first = text.split(['·', '∙']).next().unwrap_or(text);
        let rule = by_name.or_else(|| by_words(first)).or_else(|| by_words(text));
        let kind = rule.map_or(LimitKind::Unknown, |rule| rule.kind);
        Limit { kind, resets_at: resets_at.or_else(|| reset::parse(text, at, self.zone)) }
    }
}

/// One window of an allowance in a record. Read beside the record's meaning.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsageRule {
    pub rule: String,
    /// Hook event; nothing for other records.
    #[serde(default)]
    pub event: Option<String>,
    #[serde(default)]
    pub when: BTreeMap<String, Condition>,
    pub kind: LimitKind,
    /// Pointer to the percentage.
    pub used: String,
    /// Pointer to the epoch second of its reset.
    pub resets_at: String,
}

/// Usage from a record, all windows together.
#[must_use]
pub fn usage(
    rules: &[UsageRule],
    event: Option<&str>,
    record: &Value,
    source: Source,
    at: Timestamp,
) -> Option<Signal> {
    let mut usage = Usage::default();
    let mut name = None;
    for rule in rules.iter().filter(|r| r.event.as_deref() == event && all_hold(&r.when, record)) {
        let Some(percent) = record.pointer(&rule.used).and_then(Value::as_f64).and_then(percent) else { continue };
        let resets_at = record.pointer(&rule.resets_at).and_then(Value::as_i64);
        let resets_at = resets_at.and_then(|second| Timestamp::from_second(second).ok());
        usage.0.insert(rule.kind, Window { used_percent: percent, resets_at, at });
        name.get_or_insert(&rule.rule);
    }
    let rule = name?.clone();
    let words: Vec<String> = usage.0.iter().map(|(kind, w)| format!("{} {} %", kind.word(), w.used_percent)).collect();
    Some(Signal { at, source, rule, text: shorten(&words.join(", ")), meaning: Meaning::Used { usage } })
}

/// A whole percentage; the window is not full before all of it is used.
fn percent(value: f64) -> Option<u8> {
    let whole = value.clamp(0.0, 100.0).floor();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 100 fit")]
    value.is_finite().then_some(whole as u8)
}
