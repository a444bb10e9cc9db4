//! Conditions of rules: patterns and comparisons on a record's values.
//! Takes a rule's condition and a record; returns whether it holds. Pure.

use std::collections::BTreeMap;

use regex::Regex;
use serde::Deserialize;
use serde_json::Value;

/// Longest `Signal::text` in characters. Chosen: a banner and its reset time fit into two lines.
pub const TEXT_MAX: usize = 200;

/// A compiled regular expression.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct Pattern(pub Regex);

impl TryFrom<String> for Pattern {
    type Error = regex::Error;
    fn try_from(text: String) -> Result<Self, regex::Error> {
        Regex::new(&text).map(Self)
    }
}

/// What a value must be like.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    Is(Value),
    Matches(Pattern),
    /// There and neither null nor false, or the opposite.
    Present(bool),
    /// A list or text with something in it, or the opposite.
    Filled(bool),
}

impl Condition {
    fn holds(&self, value: Option<&Value>) -> bool {
        let there = value.is_some_and(|v| !v.is_null() && *v != Value::Bool(false));
        match self {
            Self::Is(want) => value == Some(want),
            Self::Matches(pattern) => value.and_then(Value::as_str).is_some_and(|text| pattern.0.is_match(text)),
            Self::Present(want) => there == *want,
            Self::Filled(want) => value.is_some_and(filled) == *want,
        }
    }
}

fn filled(value: &Value) -> bool {
    match value {
        Value::Array(list) => !list.is_empty(),
        Value::String(text) => !text.is_empty(),
        Value::Object(map) => !map.is_empty(),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Whether every condition holds.
#[must_use]
pub fn all_hold(when: &BTreeMap<String, Condition>, record: &Value) -> bool {
    when.iter().all(|(pointer, condition)| condition.holds(record.pointer(pointer)))
}

/// Shortened to `TEXT_MAX` characters, in one line, free of control characters.
#[must_use]
pub fn shorten(text: &str) -> String {
    let mut words: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(TEXT_MAX + 1).collect::<String>();
    if words.chars().count() > TEXT_MAX {
        words = words.chars().take(TEXT_MAX - 1).collect();
        words.push('…');
    }
    words.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_short_and_clean() {
        let text = shorten(&format!("a\x1b[31m\n{}", "b".repeat(500)));
        assert_eq!(text.chars().count(), TEXT_MAX);
        assert!(!text.chars().any(char::is_control));
    }
}
