//! A task file's text: frontmatter, prompt, identity.
//! In: bytes. Out: what they mean, or what is wrong with line and column. Pure.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;
use serde_yaml::Spanned;
use sha2::{Digest, Sha256};

use crate::model::{
    ids::AgentName,
    task::{PRIORITY_RANGE, Problem, TaskSpec},
};

/// The line that begins a result (INTERFACE 3).
pub const RESULT_LINE: &str = "<!-- claude-failover:result -->";

/// Keys that scripts rewrite in place; they are no part of what a task is.
const BOOKKEEPING: [&str; 2] = ["status:", "state:"];

/// What a task file's bytes are.
#[derive(Debug, Clone, PartialEq)]
pub enum Reading {
    Ready {
        spec: Box<TaskSpec>,
        /// What the agent gets.
        prompt: String,
    },
    Empty,
    /// The frontmatter was opened and isn't closed: somebody is still writing.
    OpenFrontmatter,
    Rejected(Problem),
}

/// Reads a task file. An earlier result in it is no part of the task.
#[must_use]
pub fn read(bytes: &[u8]) -> Reading {
    let text = match std::str::from_utf8(without_result(bytes)) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(error) => {
            let before = &bytes[..error.valid_up_to()];
            let line = before.iter().filter(|b| **b == b'\n').count() + 1;
            let column = before.iter().rev().take_while(|b| **b != b'\n').count() + 1;
            return Reading::Rejected(Problem { line, column, message: "the file is not UTF-8 text".to_owned() });
        }
    };
    if text.trim().is_empty() {
        return Reading::Empty;
    }
    let (front, body) = match split(text) {
        Split::None => return Reading::Ready { spec: Box::default(), prompt: text.trim_end().to_owned() },
        Split::Open => return Reading::OpenFrontmatter,
        Split::Whole { front, body } => (front, body),
    };
    let spec = match frontmatter(front) {
        Ok(spec) => spec,
        Err(problem) => return Reading::Rejected(problem),
    };
    if body.trim().is_empty() {
        let line = front.lines().count() + 3;
        let message = "there is no text after the frontmatter: nothing to give to an agent".to_owned();
        return Reading::Rejected(Problem { line, column: 1, message });
    }
    Reading::Ready { spec: Box::new(spec), prompt: body.trim_start_matches(['\r', '\n']).trim_end().to_owned() }
}

enum Split<'a> {
    None,
    Open,
    Whole { front: &'a str, body: &'a str },
}

fn split(text: &str) -> Split<'_> {
    let mut lines = text.split_inclusive('\n');
    let Some(first) = lines.next().filter(|line| line.trim_end() == "---") else { return Split::None };
    let mut at = first.len();
    for line in lines {
        if line.trim_end() == "---" {
            return Split::Whole { front: &text[first.len()..at], body: &text[at + line.len()..] };
        }
        at += line.len();
    }
    Split::Open
}

fn frontmatter(front: &str) -> Result<TaskSpec, Problem> {
    // The file's first line is the opening `---`.
    let line_of = |line: u64| usize::try_from(line).unwrap_or(usize::MAX).saturating_add(1);
    if front.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(TaskSpec::default());
    }
    let keys: BTreeMap<String, Spanned<Value>> = serde_yaml::from_str(front).map_err(|error| {
        let at = error.location();
        Problem {
            line: at.map_or(2, |at| line_of(at.line())),
            column: at.map_or(1, |at| usize::try_from(at.column()).unwrap_or(1)),
            message: format!("the frontmatter is not valid YAML: {}", one_line(&error.without_snippet().to_string())),
        }
    })?;
    let mut spec = TaskSpec::default();
    for (key, spanned) in keys {
        let value = &spanned.value;
        let problem = |wanted: &str| Problem {
            line: line_of(spanned.defined.line()),
            column: usize::try_from(spanned.defined.column()).unwrap_or(1),
            message: format!("{key}: {} is not {wanted}", shown(value)),
        };
        match key.as_str() {
            "preferred_ai" => spec.preferred_ai = text(value),
            "allow_delegation" => spec.allow_delegation = flag(value).ok_or_else(|| problem("true or false"))?,
            "needs_claude_code" => spec.needs_claude_code = flag(value).ok_or_else(|| problem("true or false"))?,
            "complexity_hint" => spec.complexity_hint = text(value),
            "agent" => {
                let name = text(value).and_then(|name| AgentName::parse(&name).ok());
                spec.agent = Some(name.ok_or_else(|| problem("the name of an agent in the configuration"))?);
            }
            "priority" => {
                let number = number(value).and_then(|n| i32::try_from(n).ok()).filter(|n| PRIORITY_RANGE.contains(n));
                spec.priority = number.ok_or_else(|| problem("a whole number from -100 to 100"))?;
            }
            "workdir" => {
                let dir = text(value).filter(|dir| stays_inside(dir));
                spec.workdir = dir.ok_or_else(|| problem("a directory inside the project"))?;
            }
            "timeout" => {
                let duration = text(value).and_then(|t| duration(&t));
                spec.timeout = Some(duration.ok_or_else(|| problem("a duration like 90s, 30m or 2h"))?);
            }
            "retries" => {
                let number = number(value).and_then(|n| u32::try_from(n).ok()).filter(|n| *n <= 100);
                spec.retries = number.ok_or_else(|| problem("a whole number from 0 to 100"))?;
            }
            "depends_on" => {
                spec.depends_on = match value {
                    Value::Array(items) => items.iter().filter_map(text).collect(),
                    Value::Null => Vec::new(),
                    Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
                        text(value).into_iter().collect()
                    }
                };
            }
            _ => spec.unknown.push(key),
        }
    }
    Ok(spec)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() > 60 { text.chars().take(60).chain("…".chars()).collect() } else { text }
}

/// Words, numbers and booleans as text; nothing else, and not nothing.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.trim().is_empty() => Some(text.trim().to_owned()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::String(_) | Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn flag(value: &Value) -> Option<bool> {
    match text(value)?.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

fn number(value: &Value) -> Option<i64> {
    text(value)?.parse().ok()
}

/// A bare number is seconds.
fn duration(text: &str) -> Option<Duration> {
    let duration = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => humantime::parse_duration(text).ok()?,
    };
    (!duration.is_zero()).then_some(duration)
}

fn stays_inside(dir: &str) -> bool {
    use std::path::{Component, Path};
    Path::new(dir).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

/// The task's own bytes: everything before the results of ours that end the file. A marker line anywhere else is its text.
#[must_use]
pub fn without_result(bytes: &[u8]) -> &[u8] {
    let mut own = bytes;
    while let Some(result) = super::result::whole(own) {
        own = &own[..result.at];
    }
    own
}

/// Hex SHA-256.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Hash of what makes this text this task: no earlier result, no bookkeeping keys in the frontmatter, no blank end.
#[must_use]
pub fn identity(bytes: &[u8]) -> String {
    let own = without_result(bytes);
    let text = String::from_utf8_lossy(own);
    let Split::Whole { front, body } = split(&text) else { return sha256(text.trim_end().as_bytes()) };
    let kept = front.lines().filter(|line| !BOOKKEEPING.iter().any(|key| line.starts_with(key)));
    let text: String = kept.chain([body]).collect::<Vec<_>>().join("\n");
    sha256(text.trim_end().as_bytes())
}

/// Makes text safe for a terminal: line ends are LF; control characters other than newline and tab are dropped.
/// Answers the text and how many characters were dropped.
#[must_use]
pub fn clean(text: &str) -> (String, usize) {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let before = text.chars().count();
    let kept: String = text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect();
    let dropped = before - kept.chars().count();
    (kept, dropped)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> TaskSpec {
        match read(text.as_bytes()) {
            Reading::Ready { spec, .. } => *spec,
            other => panic!("{text:?}: {other:?}"),
        }
    }

    fn problem(text: &str) -> Problem {
        match read(text.as_bytes()) {
            Reading::Rejected(problem) => problem,
            other => panic!("{text:?}: {other:?}"),
        }
    }

    #[test]
    fn a_plain_text_is_a_task() {
        assert_eq!(read(b"do it\n"), Reading::Ready { spec: Box::default(), prompt: "do it".to_owned() });
        assert_eq!(read(b" \n\n"), Reading::Empty);
        assert_eq!(
            read(b"--- not a fence\nx"),
            Reading::Ready { spec: Box::default(), prompt: "--- not a fence\nx".into() }
        );
    }

    #[test]
    fn all_keys_are_read_also_as_strings() {
        let spec = spec(
            "---\npreferred_ai: gemini\nallow_delegation: \"yes\"\nneeds_claude_code: 'false'\ncomplexity_hint: high\n\
             agent: codex\npriority: \"7\"\nworkdir: sub/dir\ntimeout: 2h\nretries: 3\ndepends_on: [a, b]\nowner: me\n---\nx",
        );
        assert_eq!(spec.preferred_ai.as_deref(), Some("gemini"));
        assert!(spec.allow_delegation && !spec.needs_claude_code);
        assert_eq!((spec.priority, spec.retries), (7, 3));
        assert_eq!(spec.timeout, Some(Duration::from_secs(7200)));
        assert_eq!(spec.depends_on, ["a", "b"]);
        assert_eq!(spec.unknown, ["owner"]);
        assert_eq!(spec.workdir, "sub/dir");
    }

    #[test]
    fn an_open_frontmatter_is_not_an_error() {
        assert_eq!(read(b"---\npriority: 1\n"), Reading::OpenFrontmatter);
        assert_eq!(read(b"---\n"), Reading::OpenFrontmatter);
    }

    #[test]
    fn problems_tell_line_and_column_of_the_file() {
        let p = problem("---\npriority: 1\nretries: many\n---\nx");
        assert_eq!((p.line, p.column), (3, 10), "{p}");
        assert!(p.message.contains("retries"), "{p}");
        let p = problem("---\npriority: [1\nworkdir: .\n---\nx");
        assert!(p.line >= 2 && p.message.contains("YAML"), "{p}");
        assert_eq!(problem("---\npriority: 500\n---\nx").line, 2);
        assert!(problem("---\nworkdir: ../..\n---\nx").message.contains("inside the project"));
        assert!(problem("---\nworkdir: /etc\n---\nx").message.contains("inside the project"));
        assert_eq!(problem("---\npriority: 1\n---\n\n").line, 4);
        assert!(matches!(read(b"ab\nc\xff"), Reading::Rejected(Problem { line: 2, column: 2, .. })));
    }

    #[test]
    fn bookkeeping_never_changes_what_a_task_is() {
        let one = identity(b"---\nstatus: UNREAD\npriority: 1\n---\ndo it\n");
        assert_eq!(one, identity(b"---\nstatus: READ\npriority: 1\n---\ndo it\n"));
        assert_ne!(one, identity(b"---\nstatus: READ\npriority: 1\n---\ndo that\n"));
        assert_eq!(
            identity(b"do it\n"),
            identity(format!("do it\n\n{RESULT_LINE}\n```yaml\nstatus: done\nrun: r\n```\n").as_bytes())
        );
    }

    #[test]
    fn nothing_that_drives_a_terminal_is_left() {
        let (clean, dropped) = clean("a\u{1b}[201~b\r\nc\u{9b}d\te\u{7f}\0");
        assert_eq!(clean, "a[201~b\ncd\te");
        assert_eq!(dropped, 4);
    }
}
