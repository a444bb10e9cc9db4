//! Validates a user's rules file: every mistake, with its line, its rule and a suggestion.
//! Takes the text and the name of its kind; returns its value and the resulting rules, or all its problems. Pure.
//!
//! A file merged over built-in rules is validated after the merge, because parts of a rule may be in either. Each
//! mistake is located in the user's own text and removed, and the rest is read again.

use std::path::Path;

use serde_json::Value;
use serde_path_to_error::Segment;

use super::{
    built_in::{self, laid_over},
    format::{RULES_VERSION, Rules},
};
use crate::{
    config::{
        Place, Problem, Problems,
        node::{self, Node},
    },
    model::spelling::nearest,
};

/// Mistakes reported at once. Chosen: more than anybody corrects at a time; each costs another parse.
const MOST: usize = 50;

/// Reads the text of `file`.
///
/// # Errors
/// With everything that is wrong.
pub(super) fn read(file: &Path, text: &str, kind: &str) -> Result<(Value, Rules), Problems> {
    let wrong = |mut list: Vec<Problem>| {
        list.sort_by_key(|problem| problem.place);
        Problems { file: file.to_owned(), text: text.to_owned(), list }
    };
    let tree = node::read(text).map_err(|problem| wrong(vec![problem]))?;
    let value: Value =
        serde_yaml::from_str(text).map_err(|error| wrong(vec![Problem::new(Place::START, error.to_string())]))?;
    match &tree.value {
        node::Value::Map(_) => {}
        node::Value::Null | node::Value::Text(_) | node::Value::List(_) => {
            let what = format!("expected keys such as `launch:` and `screen:`, found {}", tree.kind());
            return Err(wrong(vec![Problem::new(tree.place, what)]));
        }
    }
    let base = base(&tree, &value, kind).map_err(|problem| wrong(vec![problem]))?;
    let (rules, mut list) = merged(&tree, &value, &base);
    if list.is_empty() && rules.as_ref().is_some_and(|rules| rules.launch.program.is_empty()) {
        let what =
            format!("`launch: {{program: [PROGRAM]}}` is missing, and no built-in rules are `based_on:` for `{kind}`");
        list.push(Problem::new(tree.place, what));
    }
    rules.filter(|_| list.is_empty()).map(|rules| (value, rules)).ok_or_else(|| wrong(list))
}

/// The built-in rules over which the file is merged; none for a separate kind.
fn base(tree: &Node, value: &Value, kind: &str) -> Result<Value, Problem> {
    let Some(named) = value.get("based_on").and_then(Value::as_str) else {
        return Ok(built_in::rules(kind).unwrap_or_default());
    };
    built_in::rules(named).ok_or_else(|| {
        let place = child(tree, "based_on").map_or(Place::START, |node| node.place);
        Problem::new(
            place,
            format!("no kind `{named}` is built in; {}", near(named, &built_in::names().collect::<Vec<_>>())),
        )
    })
}

/// The rules with what is wrong in the file left out of them, and what that is.
fn merged(tree: &Node, value: &Value, base: &Value) -> (Option<Rules>, Vec<Problem>) {
    let mut found = Vec::new();
    if let Some(version) = value.get("version").filter(|version| version.as_u64() != Some(u64::from(RULES_VERSION))) {
        let place = child(tree, "version").map_or(Place::START, |node| node.place);
        let text = format!("the rules have version {version}; this program reads version {RULES_VERSION}");
        found.push(Problem::new(place, text));
    }
    let mut rest = value.clone();
    let mut taken: Vec<(Option<String>, String)> = Vec::new();
    for _ in 0..MOST {
        let merged = laid_over(base, &rest);
        let error = match serde_path_to_error::deserialize::<_, Rules>(&merged) {
            Ok(rules) => return (Some(rules), found),
            Err(error) => error,
        };
        let path: Vec<Segment> = error.path().iter().cloned().collect();
        let said = error.into_inner().to_string();
        let mut at = locate(&merged, &rest, &path);
        if let Some(name) = quoted(&said, "unknown field ").map(|name| Step::Key(name.to_owned()))
            && at.last() != Some(&name)
        {
            at.push(name);
        }
        let (place, rule) = place(tree, value, &rest, &at);
        // What was taken out because it is wrong is not missing.
        let ours = quoted(&said, "missing field ").is_some_and(|key| taken.contains(&(rule.clone(), key.to_owned())));
        if !ours {
            let shown = rule.as_ref().map_or_else(String::new, |rule| format!("rule {rule}: "));
            found.push(Problem::new(place, format!("{shown}{}", meant(&said, at.last()))));
        }
        if let Some(Step::Key(key)) = at.last() {
            taken.push((rule, key.clone()));
        }
        // A rule without its name can't be told from the others; a part that is missing is not there to be taken out.
        if said.starts_with("missing field") && at.is_empty() || !take_out(&mut rest, &at) {
            break;
        }
    }
    (None, found)
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

/// The way in the person's own value that a way in the merged rules goes; it ends where theirs has no part in it.
fn locate(merged: &Value, own: &Value, path: &[Segment]) -> Vec<Step> {
    let (mut merged, mut own, mut steps) = (merged, own, Vec::new());
    for segment in path {
        let step = match segment {
            Segment::Map { key } | Segment::Enum { variant: key } if own.get(key).is_some() => {
                merged = &merged[key.as_str()];
                Step::Key(key.clone())
            }
            Segment::Seq { index } => {
                merged = &merged[*index];
                let Some(list) = own.as_array() else { break };
                let name = merged.get("rule");
                let same = |item: &&Value| name.is_some() && item.get("rule") == name;
                let at = list.iter().position(|item| same(&item)).or_else(|| name.is_none().then_some(*index));
                match at.filter(|at| *at < list.len()) {
                    Some(at) => Step::Index(at),
                    None => break,
                }
            }
            // The name of an enum's variant that is a plain text is no step.
            Segment::Enum { .. } => continue,
            Segment::Map { .. } | Segment::Unknown => break,
        };
        own = match &step {
            Step::Key(key) => &own[key.as_str()],
            Step::Index(at) => &own[*at],
        };
        steps.push(step);
    }
    steps
}

/// Its position and rule. Items removed before it are counted again by name.
fn place(tree: &Node, whole: &Value, rest: &Value, steps: &[Step]) -> (Place, Option<String>) {
    let (mut node, mut whole, mut rest) = (Some(tree), whole, rest);
    let (mut place, mut rule) = (tree.place, None);
    for step in steps {
        match step {
            Step::Key(key) => {
                if let Some(at) = node.and_then(|node| key_place(node, key)) {
                    place = at;
                }
                node = node.and_then(|node| child(node, key));
                whole = &whole[key.as_str()];
                rest = &rest[key.as_str()];
            }
            Step::Index(at) => {
                rest = &rest[*at];
                let list = whole.as_array().map_or(&[] as &[Value], Vec::as_slice);
                let name = rest.get("rule");
                let at = list.iter().position(|item| name.is_some() && item.get("rule") == name).unwrap_or(*at);
                whole = list.get(at).unwrap_or(&Value::Null);
                rule = name.and_then(Value::as_str).map(str::to_owned);
                node = node.and_then(|node| match &node.value {
                    node::Value::List(items) => items.get(at),
                    node::Value::Null | node::Value::Text(_) | node::Value::Map(_) => None,
                });
                place = node.map_or(place, |node| node.place);
            }
        }
    }
    (place, rule)
}

fn child<'a>(node: &'a Node, key: &str) -> Option<&'a Node> {
    match &node.value {
        node::Value::Map(rows) => rows.iter().find(|(name, _)| name.text == key).map(|(_, node)| node),
        node::Value::Null | node::Value::Text(_) | node::Value::List(_) => None,
    }
}

fn key_place(node: &Node, key: &str) -> Option<Place> {
    match &node.value {
        node::Value::Map(rows) => rows.iter().find(|(name, _)| name.text == key).map(|(name, _)| name.place),
        node::Value::Null | node::Value::Text(_) | node::Value::List(_) => None,
    }
}

/// Removes the value at a place; returns whether there was one.
fn take_out(value: &mut Value, steps: &[Step]) -> bool {
    let Some((last, way)) = steps.split_last() else { return false };
    let mut at = value;
    for step in way {
        let next = match step {
            Step::Key(key) => at.get_mut(key),
            Step::Index(index) => at.get_mut(index),
        };
        match next {
            Some(next) => at = next,
            None => return false,
        }
    }
    match (at, last) {
        (Value::Object(map), Step::Key(key)) => map.shift_remove(key).is_some(),
        (Value::Array(list), Step::Index(index)) if *index < list.len() => {
            list.remove(*index);
            true
        }
        _ => false,
    }
}

/// The first word between backticks behind `start`.
fn quoted<'a>(text: &'a str, start: &str) -> Option<&'a str> {
    text.strip_prefix(start)?.strip_prefix('`')?.split('`').next()
}

fn near(word: &str, known: &[&str]) -> String {
    match nearest(word, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => "there is nothing that it could be".to_owned(),
        None => format!("known: {}", known.join(", ")),
    }
}

/// The deserializer's words in those of the configuration's own messages.
fn meant(said: &str, at: Option<&Step>) -> String {
    let known: Vec<&str> =
        said.split_once("expected ").map_or("", |(_, known)| known).split('`').skip(1).step_by(2).collect();
    let near = |word: &str| near(word, &known);
    if let Some(word) = quoted(said, "unknown field ") {
        return format!("no key is called `{word}` here; {}", near(word));
    }
    if let Some(word) = quoted(said, "unknown variant ") {
        return format!("`{word}` is not known here; {}", near(word));
    }
    if let Some(word) = quoted(said, "missing field ") {
        return format!("`{word}:` is missing");
    }
    let key = match at {
        Some(Step::Key(key)) => format!("`{key}`: "),
        Some(Step::Index(_)) | None => String::new(),
    };
    // A pattern's error draws the pattern and a caret; its last line says what is wrong.
    match said.lines().filter_map(|line| line.trim().strip_prefix("error: ")).next_back() {
        Some(why) => format!("{key}the pattern can't be read: {why}"),
        None => format!("{key}{}", said.lines().next().unwrap_or(said)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Vec<String> {
        said_of("claude", text)
    }

    fn said_of(kind: &str, text: &str) -> Vec<String> {
        match read(Path::new("r.yaml"), text, kind) {
            Ok(_) => Vec::new(),
            Err(problems) => {
                problems.list.iter().map(|p| format!("{}:{} {}", p.place.line, p.place.column, p.message)).collect()
            }
        }
    }

    #[test]
    fn what_is_right_is_no_problem() {
        let text = "launch: {args: [--mine]}\nscreen:\n  rules:\n    - {rule: busy-line, match: '^x'}\n";
        assert_eq!(said(text), Vec::<String>::new());
    }

    #[test]
    fn every_mistake_is_told_with_its_line_its_rule_and_what_was_meant() {
        let text = "\
lunch: {}
screen:
  rules:
    - {rule: mine, region: lst, match: '^x', mean: busy}
    - {rule: busy-line, match: '(x'}
    - {rule: other, region: last, match: x, mean: working}
    - {rule: third, region: last, match: x, mean: busy, neds_input: true}
    - {rule: fourth, match: x, mean: busy}
hooks:
  events: [Stop, {word: X, from: 1.0.0}]
";
        assert_eq!(
            said(text),
            [
                "1:1 no key is called `lunch` here; did you mean `launch`?",
                "4:20 rule mine: `lst` is not known here; did you mean `last`?",
                "5:25 rule busy-line: `match`: the pattern can't be read: unclosed group",
                "6:45 rule other: `working` is not known here; known: idle, busy, waiting, failed, interrupted, exited",
                "7:57 rule third: no key is called `neds_input` here; did you mean `needs_input`?",
                "8:7 rule fourth: `region:` is missing",
                "10:18 expected a text or {word: TEXT, since: VERSION}: unknown field `from`, expected `word` or `since`",
            ]
        );
    }

    #[test]
    fn what_is_no_rules_file_at_all_is_said() {
        assert_eq!(said("version: 2\n"), ["1:10 the rules have version 2; this program reads version 1"]);
        assert_eq!(said("- a\n"), ["1:1 expected keys such as `launch:` and `screen:`, found a list"]);
        assert_eq!(said("a: [\n").len(), 1);
        let nameless = "screen:\n  rules:\n    - {region: last, match: x, mean: busy}\n";
        assert_eq!(said(nameless), ["3:7 `rule:` is missing"]);
    }

    #[test]
    fn what_a_kind_of_one_s_own_lacks_is_said() {
        assert_eq!(said_of("mine", "based_on: gemini\n"), Vec::<String>::new());
        assert_eq!(said_of("mine", "launch: {program: [mine]}\n"), Vec::<String>::new());
        assert_eq!(
            said_of("mine", "measured: x\nbased_on: gemni\n"),
            ["2:11 no kind `gemni` is built in; did you mean `gemini`?"]
        );
        let alone = said_of("mine", "measured: Mine 1\n");
        assert_eq!(
            alone,
            ["1:1 `launch: {program: [PROGRAM]}` is missing, and no built-in rules are `based_on:` for `mine`"]
        );
        let text = "launch: {program: [mine]}\nscreen:\n  input: {shape: between-lnes, prompt: x}\nhome: {env: MINE}\n";
        let shape = "3:11 `between-lnes` is not known here; did you mean `between-lines`?";
        assert_eq!(said_of("mine", text), [shape, "4:1 `default:` is missing"]);
    }
}
