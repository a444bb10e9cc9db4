//! Finds the top-level keys of a YAML text, even if parts of it aren't YAML.
//! Returns the readable keys, and each unreadable place with a description. Pure.

use std::{borrow::Cow, collections::BTreeMap, ops::Range};

use serde_json::Value;
use serde_yaml::{Location, Spanned};

use super::task::Problem;

pub type Keys = BTreeMap<String, Spanned<Value>>;

/// More mistakes than this are reported as one: the text isn't YAML. Chosen: each costs another parse of the whole
/// text.
const MOST: usize = 20;

/// Reads a mapping; lines and columns count from 1 in this text. What isn't YAML is left out, and the rest is read all the same.
#[must_use]
pub fn keys(text: &str) -> (Keys, Vec<Problem>) {
    let whole = match parse(text) {
        Ok(keys) => return (keys, Vec::new()),
        Err(problem) => problem,
    };
    if whole.message == TOO_MUCH {
        return (Keys::new(), vec![whole]);
    }
    let mut lines: Vec<Cow<'_, str>> = text.split_inclusive('\n').map(Cow::Borrowed).collect();
    let entries = entries(&lines);
    let mut problems = Vec::new();
    for entry in &entries {
        let alone = |lines: &[Cow<'_, str>]| match lines[entry.start].starts_with('\t') {
            true => Err(Problem { line: 1, column: 1, message: TAB.to_owned() }),
            false => parse(&lines[entry.clone()].concat()),
        };
        // An alias is defined in another entry.
        let Some(problem) = alone(&lines).err().filter(|problem| !problem.message.contains("alias")) else { continue };
        let at = (entry.start + problem.line - 1).min(entry.end - 1);
        let line = blank(&mut lines[at]);
        let quote = problem.message == OPEN_QUOTE;
        let column = if quote { line.find(['"', '\'']).map(|n| line[..n].chars().count() + 1) } else { None };
        problems.push(Problem { line: at + 1, column: column.unwrap_or(problem.column), ..problem });
        if alone(&lines).is_err() {
            lines[entry.clone()].iter_mut().for_each(|line| drop(blank(line)));
        }
        if problems.len() >= MOST {
            return (Keys::new(), problems);
        }
    }
    // What is wrong only beside the others: a key that stands twice, an alias of nothing.
    while problems.len() < MOST {
        let problem = match parse(&lines.concat()) {
            Ok(keys) => return (keys, problems),
            Err(problem) => problem,
        };
        let Some(entry) = entries.iter().find(|entry| entry.contains(&(problem.line - 1))) else { break };
        problems.push(problem);
        if lines[entry.clone()].iter().all(|line| line.trim().is_empty()) {
            break;
        }
        lines[entry.clone()].iter_mut().for_each(|line| drop(blank(line)));
    }
    if problems.is_empty() {
        problems.push(whole);
    }
    (Keys::new(), problems)
}

/// Takes a line out, and leaves everything else at its place.
fn blank<'a>(line: &mut Cow<'a, str>) -> Cow<'a, str> {
    let end = if line.ends_with('\n') { "\n" } else { "" };
    let blank = " ".repeat(line.len() - end.len()) + end;
    std::mem::replace(line, blank.into())
}

/// The lines of each top key. A line that a tab indents is one of its own: YAML takes no tab there.
fn entries(lines: &[Cow<'_, str>]) -> Vec<Range<usize>> {
    let begins = |line: &str| !line.trim().is_empty() && !line.starts_with([' ', '#', '-', ']', '}', ',']);
    let mut starts: Vec<usize> =
        lines.iter().enumerate().skip(1).filter(|(_, line)| begins(line.as_ref())).map(|at| at.0).collect();
    starts.insert(0, 0);
    let ends = starts.iter().skip(1).copied().chain([lines.len()]);
    starts.iter().copied().zip(ends).map(|(start, end)| start..end).collect()
}

fn parse(text: &str) -> Result<Keys, Problem> {
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(Keys::new());
    }
    serde_yaml::from_str(text).map_err(|error| {
        let (line, column) = error.location().map_or((1, 1), |at| place(&at));
        Problem { line: line.max(1), column, message: words(&error.without_snippet().to_string()) }
    })
}

/// Line and column.
#[must_use]
pub fn place(at: &Location) -> (usize, usize) {
    (usize::try_from(at.line()).unwrap_or(usize::MAX), usize::try_from(at.column()).unwrap_or(1))
}

/// The content at a place.
#[must_use]
pub fn source<'a>(at: &Location, text: &'a str) -> Option<&'a str> {
    let begin = usize::try_from(at.span().byte_offset()?).ok()?;
    let length = usize::try_from(at.span().byte_len()?).ok()?;
    text.get(begin..begin.checked_add(length)?)
}

const TOO_MUCH: &str = "it is too large or nests too deeply";
const TAB: &str = "a tab can't indent a line; use spaces";
const OPEN_QUOTE: &str = "the quote that begins here is not closed";

/// A parser's message without its own position and without advice to programmers.
#[must_use]
pub fn words(message: &str) -> String {
    let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    let has = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if has(&["budget", "recursion", "depth"]) {
        return TOO_MUCH.to_owned();
    }
    if has(&["in multiline quoted scalar", "quoted scalar, found unexpected end", "unclosed quote"]) {
        return OPEN_QUOTE.to_owned();
    }
    if has(&["found a tab", "tabs disallowed"]) {
        return TAB.to_owned();
    }
    if has(&["expected mapping start", "simple key expected"]) {
        return "expected `key: value`".to_owned();
    }
    let end = [" at line ", ", set ", " (set ", "; use "].iter().filter_map(|mark| message.find(mark)).min();
    message[..end.unwrap_or(message.len())].trim_start_matches("error: ").trim_end_matches([',', ':', ' ']).to_owned()
}
