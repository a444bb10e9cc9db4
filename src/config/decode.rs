//! From a tree of nodes to typed values, gathering every problem on the way.
//! In: nodes. Out: values, problems with places, and where each key stands. Decides nothing about meaning beyond one value.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Serialize, Serializer};

use super::{
    error::{Place, Problem},
    node::{Key, Node, Value},
    paths::{self, Lookup},
    units::{Bytes, Env, Secret, Size, Socket},
};
use crate::model::ids::{AccountName, AgentName, ProjectName, SessionName};

/// What decoding needs and gathers.
pub struct Context<'a> {
    /// Relative paths begin here.
    pub base: &'a Path,
    pub home: Option<&'a Path>,
    pub env: Lookup<'a>,
    pub problems: Vec<Problem>,
    /// Dotted path of each key that stands in the file (`pool.dedicated[0].name`) and its place.
    pub places: BTreeMap<String, Place>,
    path: String,
}

impl<'a> Context<'a> {
    #[must_use]
    pub fn new(base: &'a Path, home: Option<&'a Path>, env: Lookup<'a>) -> Self {
        Self { base, home, env, problems: Vec::new(), places: BTreeMap::new(), path: String::new() }
    }

    fn problem(&mut self, place: Place, message: impl Into<String>) {
        self.problems.push(Problem::new(place, message));
    }

    fn within<T>(&mut self, step: &str, place: Place, act: impl FnOnce(&mut Self) -> T) -> T {
        let outer = self.path.len();
        if !step.starts_with('[') && outer > 0 {
            self.path.push('.');
        }
        self.path.push_str(step);
        self.places.insert(self.path.clone(), place);
        let answer = act(self);
        self.path.truncate(outer);
        answer
    }
}

/// A value that can stand in the configuration.
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
    /// Reports keys that are not in `known`. `later` are keys of other versions. `Null` is a mapping without keys.
    pub fn open(node: &'n Node, known: &[&str], later: &[&[&str]], context: &mut Context<'_>) -> Option<Self> {
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
            context.problem(key.place, unknown(&key.text, known, later));
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

fn unknown(key: &str, known: &[&str], later: &[&[&str]]) -> String {
    if later.iter().any(|keys| keys.contains(&key)) {
        return format!("`{key}` is not in this version; take it out");
    }
    match nearest(key, known.iter().copied()) {
        Some(near) => format!("unknown key `{key}`; did you mean `{near}`?"),
        None => format!("unknown key `{key}`; known here: {}", known.join(", ")),
    }
}

/// The known word that a mistyped one most likely stands for.
#[must_use]
pub fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace('-', "_");
    known
        .map(|name| (strsim::normalized_damerau_levenshtein(&plain(word), &plain(name)), name))
        .filter(|(likeness, _)| *likeness >= 0.6)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
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

impl Setting for bool {
    fn decode(node: &Node, context: &mut Context<'_>) -> Option<Self> {
        scalar(node, "true or false", context, |text| text.parse().ok())
    }
    fn show<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_bool(*self)
    }
}

impl Setting for u32 {
    fn decode(node: &Node, context: &mut Context<'_>) -> Option<Self> {
        scalar(node, "a whole number", context, |text| text.replace('_', "").parse().ok())
    }
    fn show<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_u32(*self)
    }
}

impl Setting for String {
    fn decode(node: &Node, context: &mut Context<'_>) -> Option<Self> {
        text(node, "a text", context).map(str::to_owned)
    }
    fn show<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self)
    }
}

impl Setting for Duration {
    fn decode(node: &Node, context: &mut Context<'_>) -> Option<Self> {
        scalar(node, "a time such as 500ms, 30s, 5m or 2h", context, |text| humantime::parse_duration(text).ok())
    }
    fn show<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&humantime::format_duration(*self))
    }
}

impl Setting for Bytes {
    fn decode(node: &Node, context: &mut Context<'_>) -> Option<Self> {
        scalar(node, "a size such as 64KiB or 1MiB", context, Self::parse)
    }
    fn show<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl Setting for Size {
    fn decode(node: &Node, context: &mut Context<'_>) -> Option<Self> {
        scalar(node, "a terminal size such as 200x50 (10 to 1000 each)", context, Self::parse)
    }
    fn show<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl Setting for PathBuf {
    fn decode(node: &Node, context: &mut Context<'_>) -> Option<Self> {
        let written = text(node, "a path", context)?;
        match paths::resolve(written, context.base, context.home) {
            Ok(path) => Some(path),
            Err(why) => {
                context.problem(node.place, format!("the path {written:?} {why}"));
                None
            }
        }
    }
    fn show<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.to_string_lossy())
    }
}

impl Setting for Socket {
    fn decode(node: &Node, context: &mut Context<'_>) -> Option<Self> {
        if node.value == Value::Null {
            return Some(Self::Private);
        }
        let written = text(node, "a tmux socket: null, default, a name, or a path with a /", context)?;
        match written {
            "default" => Some(Self::Default),
            path if path.contains('/') || path == "~" => PathBuf::decode(node, context).map(Self::Path),
            name if !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) => {
                Some(Self::Name(name.to_owned()))
            }
            other => {
                context.problem(
                    node.place,
                    format!("{other:?} is no name for a tmux socket; use letters, digits, - and _"),
                );
                None
            }
        }
    }
    fn show<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Private => s.serialize_none(),
            Self::Default => s.serialize_str("default"),
            Self::Name(name) => s.serialize_str(name),
            Self::Path(path) => path.show(s),
        }
    }
}

/// A variable's value: a text, `{from_env: NAME}`, or `{from_file: PATH}` without the newline at its end.
fn secret(node: &Node, context: &mut Context<'_>) -> Option<Secret> {
    let Value::Map(rows) = &node.value else {
        return text(node, "a text, {from_env: NAME} or {from_file: PATH}", context).map(Secret::new);
    };
    let fields = Fields::open(node, &["from_env", "from_file"], &[], context)?;
    if rows.len() != 1 {
        context.problem(node.place, "expected exactly one of from_env and from_file");
        return None;
    }
    if let Some(name) = fields.take::<Option<String>>("from_env", || None, context) {
        let found = (context.env)(&name).and_then(|value| value.into_string().ok());
        if found.is_none() {
            context.problem(node.place, format!("the environment variable {name} isn't set here"));
        }
        return found.map(Secret::kept_elsewhere);
    }
    let file = fields.take::<Option<PathBuf>>("from_file", || None, context)?;
    match std::fs::read_to_string(&file) {
        Ok(text) => Some(Secret::kept_elsewhere(text.strip_suffix('\n').unwrap_or(&text))),
        Err(why) => {
            context.problem(node.place, format!("can't read {}: {why}", file.display()));
            None
        }
    }
}

impl Setting for Env {
    fn decode(node: &Node, context: &mut Context<'_>) -> Option<Self> {
        let Value::Map(rows) = &node.value else {
            if node.value == Value::Null {
                return Some(Self::default());
            }
            context.problem(node.place, format!("expected variables and their values, found {}", node.kind()));
            return None;
        };
        let mut env = Self::default();
        for (key, value) in rows {
            let fits = !key.text.is_empty() && !key.text.contains(['=', '\0']);
            if !fits {
                context.problem(key.place, format!("{:?} can't name an environment variable", key.text));
            } else if let Some(value) = secret(value, context) {
                env.0.insert(key.text.clone(), value);
            }
        }
        Some(env)
    }
    fn show<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.serialize(s)
    }
}

impl<T: Setting> Setting for Option<T> {
    fn decode(node: &Node, context: &mut Context<'_>) -> Option<Self> {
        if node.value == Value::Null { Some(None) } else { T::decode(node, context).map(Some) }
    }
    fn show<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Some(value) => value.show(s),
            None => s.serialize_none(),
        }
    }
}

impl<T: Setting> Setting for Vec<T> {
    fn decode(node: &Node, context: &mut Context<'_>) -> Option<Self> {
        let items = match &node.value {
            Value::List(items) => items,
            Value::Null => return Some(Self::new()),
            Value::Text(_) | Value::Map(_) => {
                context.problem(node.place, format!("expected a list, found {}", node.kind()));
                return None;
            }
        };
        let mut list = Self::new();
        for (n, item) in items.iter().enumerate() {
            // A wrong item is left out, so that the others are still looked at; numbers in `places` stay the file's.
            list.extend(context.within(&format!("[{n}]"), item.place, |context| T::decode(item, context)));
        }
        Some(list)
    }
    fn show<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(self.iter().map(Shown))
    }
}

macro_rules! names {
    ($($type:ident)*) => { $(
        impl Setting for $type {
            fn decode(node: &Node, context: &mut Context<'_>) -> Option<Self> {
                let written = text(node, "a name", context)?;
                match Self::parse(written) {
                    Ok(name) => Some(name),
                    Err(bad) => {
                        context.problem(node.place, bad.to_string());
                        None
                    }
                }
            }
            fn show<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(self.as_str())
            }
        }
    )* };
}
names!(ProjectName SessionName AccountName AgentName);

impl<T: Setting> Setting for BTreeMap<AgentName, T> {
    fn decode(node: &Node, context: &mut Context<'_>) -> Option<Self> {
        let rows = match &node.value {
            Value::Map(rows) => rows,
            Value::Null => return Some(Self::new()),
            Value::Text(_) | Value::List(_) => {
                context.problem(node.place, format!("expected names with their settings, found {}", node.kind()));
                return None;
            }
        };
        let mut map = Self::new();
        for (key, value) in rows {
            let value = context.within(&key.text, key.place, |context| T::decode(value, context));
            match AgentName::parse(&key.text) {
                Ok(name) => map.extend(value.map(|value| (name, value))),
                Err(bad) => context.problem(key.place, bad.to_string()),
            }
        }
        Some(map)
    }
    fn show<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(self.iter().map(|(name, value)| (name.as_str(), Shown(value))))
    }
}

/// A mapping whose keys are all optional: the struct, its defaults, how it is read and shown, from one table.
macro_rules! section {
    ($(#[$doc:meta])* $name:ident { $($(#[$key_doc:meta])* $key:ident: $type:ty = $default:expr;)* } $(later $later:expr)?) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name { $($(#[$key_doc])* pub $key: $type,)* }

        impl $name {
            /// Keys of this mapping.
            pub const KEYS: &[&str] = &[$(stringify!($key)),*];
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($key: $default,)* }
            }
        }

        impl $crate::config::decode::Setting for $name {
            fn decode(
                node: &$crate::config::node::Node,
                context: &mut $crate::config::decode::Context<'_>,
            ) -> Option<Self> {
                let later: &[&[&str]] = &[$($later)?];
                let fields = $crate::config::decode::Fields::open(node, Self::KEYS, later, context)?;
                Some(Self { $($key: fields.take(stringify!($key), || $default, context),)* })
            }
            $crate::config::decode::show_fields!($($key)*);
        }

        $crate::config::decode::serialize_as_shown!($name);
    };
}

/// A mapping with required keys (`key: Type;`) before optional ones (`key: Type = default;`).
macro_rules! row {
    ($(#[$doc:meta])* $name:ident {
        $($(#[$must_doc:meta])* $must:ident: $must_type:ty;)+
        --
        $($(#[$key_doc:meta])* $key:ident: $type:ty = $default:expr;)*
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name { $($(#[$must_doc])* pub $must: $must_type,)+ $($(#[$key_doc])* pub $key: $type,)* }

        impl $name {
            /// Keys of this mapping.
            pub const KEYS: &[&str] = &[$(stringify!($must),)+ $(stringify!($key)),*];

            /// One with defaults for everything that isn't required.
            #[must_use]
            pub fn new($($must: $must_type),+) -> Self {
                Self { $($must,)+ $($key: $default,)* }
            }
        }

        impl $crate::config::decode::Setting for $name {
            fn decode(
                node: &$crate::config::node::Node,
                context: &mut $crate::config::decode::Context<'_>,
            ) -> Option<Self> {
                let fields = $crate::config::decode::Fields::open(node, Self::KEYS, &[], context)?;
                $(let $must = fields.require(stringify!($must), context);)+
                $(let $key = fields.take(stringify!($key), || $default, context);)*
                Some(Self { $($must: $must?,)+ $($key,)* })
            }
            $crate::config::decode::show_fields!($($must)+ $($key)*);
        }

        $crate::config::decode::serialize_as_shown!($name);
    };
}

macro_rules! show_fields {
    ($($key:ident)*) => {
        fn show<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            use serde::ser::SerializeMap;
            let mut map = serializer.serialize_map(None)?;
            $(map.serialize_entry(stringify!($key), &$crate::config::decode::Shown(&self.$key))?;)*
            map.end()
        }
    };
}

macro_rules! serialize_as_shown {
    ($name:ident) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                $crate::config::decode::Setting::show(self, serializer)
            }
        }
    };
}

pub(super) use {row, section, serialize_as_shown, show_fields};
