//! Decodes a tree of YAML nodes into typed values and collects every problem.
//! Returns values, problems with positions, and the position of each key. Checks single values only, not how they fit
//! together.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde::{Serialize, Serializer};

use super::{
    error::{Place, Problem},
    node::{Key, Node, Value},
    paths::Lookup,
    units::Secret,
};
use crate::model::spelling::nearest;

/// What decoding needs and gathers.
pub struct Context<'a> {
    /// Relative paths begin here.
    pub base: &'a Path,
    pub home: Option<&'a Path>,
    pub env: Lookup<'a>,
    pub problems: Vec<Problem>,
    /// Dotted path of each key in the file (`pool.dedicated[0].name`) and its position.
    pub places: BTreeMap<String, Place>,
    /// Dotted paths of the keys whose values could not be read.
    pub unread: BTreeSet<String>,
    /// Every secret that was met.
    pub secrets: Vec<Secret>,
    path: String,
}

impl<'a> Context<'a> {
    #[must_use]
    pub fn new(base: &'a Path, home: Option<&'a Path>, env: Lookup<'a>) -> Self {
        Self {
            base,
            home,
            env,
            problems: Vec::new(),
            places: BTreeMap::new(),
            unread: BTreeSet::new(),
            secrets: Vec::new(),
            path: String::new(),
        }
    }

    /// Remembers a secret: what shows anything of this machine leaves it out.
    pub fn keep(&mut self, secret: Secret) -> Secret {
        self.secrets.push(secret.clone());
        secret
    }

    pub fn problem(&mut self, place: Place, message: impl Into<String>) {
        self.problems.push(Problem::new(place, message));
    }

    /// Decodes with the step added to the path that `places` remembers.
    pub fn within<T>(&mut self, step: &str, place: Place, act: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let outer = self.path.len();
        if !step.starts_with('[') && outer > 0 {
            self.path.push('.');
        }
        self.path.push_str(step);
        self.places.insert(self.path.clone(), place);
        let answer = act(self);
        if answer.is_none() {
            self.unread.insert(self.path.clone());
        }
        self.path.truncate(outer);
        answer
    }

    /// Gives all that is known of one step below the path another name.
    pub fn rename(&mut self, from: &str, to: &str) {
        let renamed = |path: &String| {
            let rest = path.strip_prefix(&self.path)?.strip_prefix(from)?;
            (rest.is_empty() || rest.starts_with(['.', '['])).then(|| format!("{}{to}{rest}", self.path))
        };
        let places = std::mem::take(&mut self.places);
        self.places = places.into_iter().map(|(path, at)| (renamed(&path).unwrap_or(path), at)).collect();
        let unread = std::mem::take(&mut self.unread);
        self.unread = unread.into_iter().map(|path| renamed(&path).unwrap_or(path)).collect();
    }
}

/// A type of value in the configuration.
pub trait Setting: Sized {
    /// `None` when it is wrong; the problem is then in the context.
    fn decode(node: &Node, context: &mut Context<'_>) -> Option<Self>;

    /// # Errors
    /// The serializer's own.
    fn show<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error>;
}

/// Serializes a setting the way the file writes it.
pub struct Shown<'a, T>(pub &'a T);

impl<T: Setting> Serialize for Shown<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.show(serializer)
    }
}

/// The keys of one mapping, taken out one after another.
pub struct Fields<'n> {
    rows: Vec<&'n (Key, Node)>,
    place: Place,
}

impl<'n> Fields<'n> {
    /// Reports keys that are not in `known`. `Null` is a mapping without keys.
    pub fn open(node: &'n Node, known: &[&str], context: &mut Context<'_>) -> Option<Self> {
        let rows: Vec<_> = match &node.value {
            Value::Map(rows) => rows.iter().collect(),
            Value::Null => Vec::new(),
            Value::Text(_) | Value::List(_) => {
                let first = known.iter().take(4).copied().collect::<Vec<_>>().join(", ");
                context.problem(node.place, format!("expected a mapping of keys ({first} …), found {}", node.kind()));
                return None;
            }
        };
        for (key, _) in rows.iter().filter(|row| !known.contains(&row.0.text.as_str())) {
            context.problem(key.place, unknown(&key.text, known));
        }
        Some(Self { rows, place: node.place })
    }

    /// The key's value; what `default` gives when it isn't there or wrong (the problem is noted).
    pub fn take<T: Setting>(&self, key: &str, default: impl FnOnce() -> T, context: &mut Context<'_>) -> T {
        self.find(key, context).flatten().unwrap_or_else(default)
    }

    /// The key's value, which must be there.
    pub fn require<T: Setting>(&self, key: &str, context: &mut Context<'_>) -> Option<T> {
        self.find(key, context).unwrap_or_else(|| {
            context.problem(self.place, format!("the key `{key}` is missing here"));
            None
        })
    }

    fn find<T: Setting>(&self, key: &str, context: &mut Context<'_>) -> Option<Option<T>> {
        let (key, node) = self.rows.iter().find(|row| row.0.text == key)?;
        Some(context.within(&key.text, key.place, |context| T::decode(node, context)))
    }
}

fn unknown(key: &str, known: &[&str]) -> String {
    match nearest(key, known.iter().copied()) {
        Some(near) => format!("unknown key `{key}`; did you mean `{near}`?"),
        None => format!("unknown key `{key}`; known here: {}", known.join(", ")),
    }
}

/// The text of a scalar, or a problem that says what was expected.
pub fn text<'n>(node: &'n Node, expected: &str, context: &mut Context<'_>) -> Option<&'n str> {
    match &node.value {
        Value::Text(text) => Some(text),
        Value::Null | Value::List(_) | Value::Map(_) => {
            context.problem(node.place, format!("expected {expected}, found {}", node.kind()));
            None
        }
    }
}

/// Reads a scalar; `expected` describes it for the message.
pub fn scalar<T>(
    node: &Node,
    expected: &str,
    context: &mut Context<'_>,
    read: impl FnOnce(&str) -> Option<T>,
) -> Option<T> {
    let text = text(node, expected, context)?;
    let value = read(text);
    if value.is_none() {
        context.problem(node.place, format!("expected {expected}, found {text:?}"));
    }
    value
}
