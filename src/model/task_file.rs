//! Parses a task file: frontmatter, prompt, identity.
//! Takes bytes; returns their meaning, or what is wrong with line and column. Pure.

use std::time::Duration;

use serde_json::Value;
use serde_yaml::Spanned;
use sha2::{Digest, Sha256};

use crate::model::{
    footer::without_result,
    ids::AgentName,
    spelling::nearest,
    task::{PRIORITY_RANGE, Problem, TaskSpec},
    yaml,
};

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

/// What a configuration says of frontmatters.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// The agents that there are; without any, every name will do.
    pub agents: Vec<AgentName>,
    /// Unknown keys make a task rejected.
    pub reject_unknown: bool,
}

/// Reads a task file. An earlier result in it is no part of the task.
#[must_use]
pub fn read(bytes: &[u8]) -> Reading {
    read_by(bytes, &Rules::default())
}

/// The same, with every mistake that these rules see.
#[must_use]
pub fn read_by(bytes: &[u8], rules: &Rules) -> Reading {
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
    let (spec, mut problems) = frontmatter(front, rules);
    if body.trim().is_empty() {
        let line = front.lines().count() + 3;
        let message = "there is no text after the frontmatter: nothing to give to an agent".to_owned();
        problems.push(Problem { line, column: 1, message });
    }
    if let Some(problem) = Problem::all(problems) {
        return Reading::Rejected(problem);
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

/// Position of a key's value in a task's file; the file's beginning if there is no such key.
#[must_use]
pub fn place_of(bytes: &[u8], key: &str) -> (usize, usize) {
    let text = String::from_utf8_lossy(bytes);
    let Split::Whole { front, .. } = split(text.strip_prefix('\u{feff}').unwrap_or(&text)) else { return (1, 1) };
    yaml::keys(front).0.get(key).map_or((1, 1), place)
}

/// The file's first line is the opening `---`.
fn place(value: &Spanned<Value>) -> (usize, usize) {
    let (line, column) = yaml::place(&value.defined);
    (line.saturating_add(1), column)
}

/// The keys that mean something.
pub const KEYS: [&str; 10] = [
    "preferred_ai",
    "allow_delegation",
    "needs_claude_code",
    "complexity_hint",
    "agent",
    "priority",
    "workdir",
    "timeout",
    "retries",
    "depends_on",
];

/// What the keys say, and every mistake in them.
fn frontmatter(front: &str, rules: &Rules) -> (TaskSpec, Vec<Problem>) {
    let (keys, broken) = yaml::keys(front);
    let broken = broken.into_iter().map(|problem| Problem {
        line: problem.line.saturating_add(1),
        message: format!("the frontmatter is not valid YAML: {}", problem.message),
        ..problem
    });
    let (mut spec, mut problems) = (TaskSpec::default(), broken.collect::<Vec<_>>());
    for (key, spanned) in keys {
        let value = &spanned.value;
        let mut problem = |message: String| {
            let (line, column) = place(&spanned);
            problems.push(Problem { line, column, message: format!("{key}: {message}") });
        };
        let not = |wanted: &str| format!("{} is not {wanted}", written(front, &spanned));
        match key.as_str() {
            "preferred_ai" => spec.preferred_ai = text(value),
            "complexity_hint" => spec.complexity_hint = text(value),
            "allow_delegation" | "needs_claude_code" => match flag(value) {
                Some(flag) if key == "allow_delegation" => spec.allow_delegation = flag,
                Some(flag) => spec.needs_claude_code = flag,
                None => problem(not("true or false")),
            },
            "agent" => match text(value).and_then(|name| AgentName::parse(&name).ok()) {
                Some(name) if rules.agents.is_empty() || rules.agents.contains(&name) => spec.agent = Some(name),
                Some(name) => problem(no_such_agent(&name, &rules.agents)),
                None => problem(not("the name of an agent in the configuration")),
            },
            "priority" => {
                let number = number(value).and_then(|n| i32::try_from(n).ok()).filter(|n| PRIORITY_RANGE.contains(n));
                match number {
                    Some(number) => spec.priority = number,
                    None => problem(not("a whole number from -100 to 100")),
                }
            }
            "workdir" => match text(value).filter(|dir| stays_inside(dir)) {
                Some(dir) => spec.workdir = dir,
                None => problem(not("a directory inside the project")),
            },
            "timeout" => match text(value).and_then(|t| duration(&t)) {
                Some(duration) => spec.timeout = Some(duration),
                None => problem(not("a duration like 90s, 30m or 2h")),
            },
            "retries" => match number(value).and_then(|n| u32::try_from(n).ok()).filter(|n| *n <= 100) {
                Some(number) => spec.retries = number,
                None => problem(not("a whole number from 0 to 100")),
            },
            "depends_on" => {
                spec.depends_on = match value {
                    Value::Array(items) => items.iter().filter_map(text).collect(),
                    Value::Null => Vec::new(),
                    Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
                        text(value).into_iter().collect()
                    }
                };
            }
            "status" | "state" => spec.unknown.push(key),
            _ if rules.reject_unknown => problem(match meant(&key) {
                Some(near) => format!("unknown key; did you mean `{near}`?"),
                None => format!("unknown key; there are: {}", KEYS.join(", ")),
            }),
            _ => spec.unknown.push(key),
        }
    }
    (spec, problems)
}

/// The key that an unknown one was most likely meant to be.
#[must_use]
pub fn meant(key: &str) -> Option<&'static str> {
    nearest(key, KEYS.into_iter())
}

fn no_such_agent(name: &AgentName, known: &[AgentName]) -> String {
    let names = || known.iter().map(AgentName::as_str);
    let near = nearest(name.as_str(), names());
    let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
    format!("there is no agent {name} in the configuration{near}; known: {}", names().collect::<Vec<_>>().join(", "))
}

/// A value as written; a list or a map as it was parsed.
fn written(front: &str, value: &Spanned<Value>) -> String {
    let own = yaml::source(&value.defined, front).map(str::trim).filter(|own| !own.is_empty());
    match (&value.value, own) {
        (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_), Some(own)) => short(own),
        (value, _) => short(&value.to_string()),
    }
}

fn short(text: &str) -> String {
    let text = super::text::clean(&text.split_whitespace().collect::<Vec<_>>().join(" "));
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

/// Words by which scripts claim a task in its own frontmatter.
const CLAIMED: [&str; 5] = ["claimed", "in_progress", "in-progress", "working", "running"];

/// The `status:` or `state:` of a frontmatter, where it says that somebody works on the task.
#[must_use]
pub fn claimed_by_status(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(without_result(bytes));
    let Split::Whole { front, .. } = split(text.strip_prefix('\u{feff}').unwrap_or(&text)) else { return None };
    let claims = |line: &str| {
        let word = BOOKKEEPING.iter().find_map(|key| line.strip_prefix(key))?.trim().trim_matches(['"', '\'']);
        CLAIMED.iter().any(|claimed| word.eq_ignore_ascii_case(claimed)).then(|| line.trim().to_owned())
    };
    front.lines().find_map(claims)
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
    use crate::model::footer::RESULT_LINE;

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
    fn all_mistakes_are_told_at_once_each_with_its_place_and_the_value_as_written() {
        let rules = Rules { agents: vec![AgentName::parse("claude").expect("name")], reject_unknown: true };
        let text =
            "---\nagnet: x\npriority: 010\nagent: clod\nretries: 1e1 # many\ntimeout: \"soon\"\nworkdir: ../x\n---\n";
        let Reading::Rejected(problem) = read_by(text.as_bytes(), &rules) else { panic!("taken") };
        let lines: Vec<_> = problem.to_string().lines().map(str::to_owned).collect();
        assert_eq!(
            lines,
            [
                "2:8: agnet: unknown key; did you mean `agent`?",
                "3:11: priority: 010 is not a whole number from -100 to 100",
                "4:8: agent: there is no agent clod in the configuration; known: claude",
                "5:10: retries: 1e1 is not a whole number from 0 to 100",
                "6:10: timeout: \"soon\" is not a duration like 90s, 30m or 2h",
                "7:10: workdir: ../x is not a directory inside the project",
                "9:1: there is no text after the frontmatter: nothing to give to an agent",
            ]
        );
        assert_eq!(place_of(text.as_bytes(), "workdir"), (7, 10));
    }

    /// What is no YAML hides nothing else.
    #[test]
    fn what_is_no_yaml_is_told_with_all_other_mistakes() {
        let told = |front: &str| -> Vec<String> {
            let rules = Rules { agents: vec![AgentName::parse("claude").expect("name")], reject_unknown: true };
            let Reading::Rejected(problem) = read_by(format!("---\n{front}---\nx").as_bytes(), &rules) else {
                panic!("taken: {front}")
            };
            problem.to_string().lines().map(str::to_owned).collect()
        };
        let no_yaml = "the frontmatter is not valid YAML:";
        let retries = "retries: 1e1 is not a whole number from 0 to 100";
        let agnet = "agnet: unknown key; did you mean `agent`?";
        let open = format!("{no_yaml} the quote that begins here is not closed");
        let tab = format!("{no_yaml} a tab can't indent a line; use spaces");
        let rest = "retries: 1e1\nagnet: x\n";
        let of = |line: usize| [format!("{line}:10: {retries}"), format!("{}:8: {agnet}", line + 1)];
        for (front, wanted) in [
            (format!("timeout: \"2h\n{rest}"), format!("2:10: {open}")),
            (format!("timeout: '2h\n{rest}"), format!("2:10: {open}")),
            (format!("\tpriority: 5\n{rest}"), format!("2:1: {tab}")),
            (format!("depends_on: [a\n{rest}"), format!("2:13: {no_yaml} unclosed bracket '['")),
            (format!("just words\n{rest}"), format!("2:1: {no_yaml} expected `key: value`")),
            (
                format!("priority: 1: 2\n{rest}"),
                format!("2:12: {no_yaml} mapping values are not allowed in this context"),
            ),
        ] {
            let lines = told(&front);
            let [one, two] = of(3);
            assert_eq!(lines, [wanted.clone(), one, two], "{front}");
        }
        // The same behind the others, two at once, and beside a line that only another makes wrong.
        let [one, two] = of(2);
        assert_eq!(told(&format!("{rest}timeout: \"2h\n")), [one.clone(), two.clone(), format!("4:10: {open}")]);
        assert_eq!(
            told(&format!("{rest}depends_on:\n\t- a\ntimeout: \"2h\nretries: 1\n")),
            [
                one,
                two,
                format!("5:1: {tab}"),
                format!("6:10: {open}"),
                format!("7:1: {no_yaml} duplicate mapping key: retries"),
            ]
        );
        assert_eq!(
            told("priority: *p\nretries: &p 1e1\nstate: *p\n"),
            [format!("2:11: {no_yaml} alias references unknown anchor"), format!("3:13: {retries}")]
        );
        let many = "x: @\n".repeat(30_000);
        assert_eq!(told(&many).len(), 20);
    }

    #[test]
    fn a_value_in_flow_style_is_quoted_without_what_stands_around_it() {
        let told = |front: &str| problem(&format!("---\n{front}\n---\nx")).to_string();
        assert_eq!(told("{priority: 5x, agent: a}"), "2:12: priority: 5x is not a whole number from -100 to 100");
        assert_eq!(told("{agent: a, priority: 5x}"), "2:22: priority: 5x is not a whole number from -100 to 100");
        assert_eq!(
            told("{agent: a, priority: 'a, b'} # x"),
            "2:22: priority: 'a, b' is not a whole number from -100 to 100"
        );
        assert!(told("priority: [5]").ends_with("priority: [5] is not a whole number from -100 to 100"));
        assert!(told("priority: {a: b}").ends_with("priority: {\"a\":\"b\"} is not a whole number from -100 to 100"));
    }

    #[test]
    fn messages_about_yaml_have_one_place_and_no_library_s_words() {
        let deep = format!("---\na: {}\n---\nx", "[".repeat(20_000));
        let bomb = format!("---\na: &a [{}]\nb: [{}]\n---\nx", "1,".repeat(3000), "*a,".repeat(3000));
        for text in [
            "---\npriority: 1\npriority: 2\n---\nx",
            "---\na: [1\n---\nx",
            "---\n- a\n---\nx",
            "---\na: 1\n...\nb: 1\n---\nx",
            "---\na: *b\n---\nx",
            &deep,
            &bomb,
        ] {
            let told = problem(text).to_string();
            let strange = ["Options", "Policy", "Nodes", "at line", "budget", "::", "{", "from_str"];
            assert!(!strange.iter().any(|word| told.contains(word)), "{told}");
        }
    }

    #[test]
    fn a_status_that_claims_is_seen() {
        assert_eq!(claimed_by_status(b"---\nstatus: in_progress\n---\nx").as_deref(), Some("status: in_progress"));
        assert_eq!(claimed_by_status(b"---\nstatus: UNREAD\n---\nx"), None);
        assert_eq!(claimed_by_status(b"status: claimed\n"), None);
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
