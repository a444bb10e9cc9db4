//! Sanitizes a server's error messages for people.
//! Takes an answer's status and body; returns one short line without control characters and without anybody's key.
//! Pure.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use crate::{config::Secret, model::task_file};

/// Longest message that is kept, in characters. Chosen: a few lines of `why`.
const LONGEST: usize = 300;

/// Replaces a key.
const MASK: &str = "[key]";

/// What looks like a key, also a stranger's or a shortened one: OpenAI answers a wrong key with its first and last letters.
static KEY_LIKE: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"(?i)\b(?:sk-|AIza|Bearer\s+)[A-Za-z0-9_\-.*]{4,}").ok());

/// The server's reason: its JSON's message, else its text.
pub fn reason(status: u16, body: &str, key: Option<&Secret>) -> String {
    let said = match serde_json::from_str::<Value>(body) {
        Ok(json) => message(&json).unwrap_or_else(|| json.to_string()),
        // A proxy's page says nothing that its status doesn't.
        Err(_) if body.trim_start().starts_with('<') => String::new(),
        Err(_) => body.to_owned(),
    };
    let name = reqwest::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    match (said.trim(), name) {
        ("", Some(name)) => format!("HTTP {status} {name}"),
        ("", None) => format!("HTTP {status}"),
        (said, _) => tidy(&format!("HTTP {status}: {said}"), key),
    }
}

/// The message in an error's JSON, as the known servers write it: `{error: {message}}`, `{error}`, `{message}`, `{detail}`,
/// and each of them in a list.
pub fn message(json: &Value) -> Option<String> {
    match json {
        Value::String(text) if !text.trim().is_empty() => Some(text.clone()),
        Value::Array(items) => items.first().and_then(message),
        Value::Object(fields) => {
            ["error", "message", "detail"].iter().find_map(|name| fields.get(*name).and_then(message))
        }
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

/// One line, masked, of bearable length.
pub fn tidy(text: &str, key: Option<&Secret>) -> String {
    let (text, _) = task_file::clean(text);
    let line = masked(&text.split_whitespace().collect::<Vec<_>>().join(" "), key);
    let line = KEY_LIKE.as_ref().map_or(line.clone(), |like| like.replace_all(&line, MASK).into_owned());
    if line.chars().count() <= LONGEST { line } else { line.chars().take(LONGEST - 1).chain(['…']).collect() }
}

/// The text without the key, whoever wrote it there.
pub fn masked(text: &str, key: Option<&Secret>) -> String {
    match key {
        // A shorter one is no secret, and would mask words.
        Some(key) if key.expose().len() >= 6 => text.replace(key.expose(), MASK),
        Some(_) | None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_own_words_are_found() {
        let reason = |body: &str| reason(400, body, None);
        assert_eq!(reason(r#"{"error":{"message":"no","type":"x"}}"#), "HTTP 400: no");
        assert_eq!(reason(r#"[{"error":{"message":"listed"}}]"#), "HTTP 400: listed");
        assert_eq!(reason(r#"{"error":"plain"}"#), "HTTP 400: plain");
        assert_eq!(reason(r#"{"detail":"of FastAPI"}"#), "HTTP 400: of FastAPI");
        assert_eq!(reason("just text\n"), "HTTP 400: just text");
        assert_eq!(reason("<html><body>400</body>"), "HTTP 400 Bad Request");
        assert_eq!(reason(""), "HTTP 400 Bad Request");
    }

    #[test]
    fn no_key_and_no_control_character_is_left() {
        let key = Secret::new("topsecret-1");
        assert_eq!(tidy("a\u{1b}[31m\n topsecret-1", Some(&key)), "a[31m [key]");
        assert_eq!(tidy("Incorrect API key provided: sk-abcd***wxyz.", None), "Incorrect API key provided: [key]");
        assert_eq!(tidy("Authorization: Bearer abcdef.ghi", None), "Authorization: [key]");
        let long = tidy(&"é".repeat(1000), None);
        assert_eq!(long.chars().count(), LONGEST);
        assert!(long.ends_with('…'));
    }
}
