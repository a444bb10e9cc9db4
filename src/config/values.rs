//! Decodes and prints each type of value.
//! Takes a node; returns the value, or a problem at its position. Knows no keys.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use serde::{Serialize, Serializer};

use super::{
    decode::{Context, Fields, Setting, Shown, scalar, text},
    node::{Node, Value},
    paths,
    units::{Bytes, Env, FromEnv, FromFile, Secret, Size, Socket, hide, secret_of},
};
use crate::model::ids::{AccountName, AgentName, BadName, ProjectName, ProviderName, SessionName};

/// Seconds of a day.
const DAY: u64 = 86_400;

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

impl Setting for f64 {
    fn decode(node: &Node, context: &mut Context<'_>) -> Option<Self> {
        let number = |text: &str| text.parse().ok().filter(|n: &Self| n.is_finite() && *n >= 0.0);
        scalar(node, "a number that is not negative", context, number)
    }
    fn show<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_f64(*self)
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
        match self.as_secs() {
            // Months and years are no whole days, so these are shown as they were most likely written.
            seconds if seconds >= DAY && seconds % DAY == 0 && self.subsec_nanos() == 0 => {
                s.collect_str(&format_args!("{}d", seconds / DAY))
            }
            _ => s.collect_str(&humantime::format_duration(*self)),
        }
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

impl Setting for SocketAddr {
    fn decode(node: &Node, context: &mut Context<'_>) -> Option<Self> {
        let expected = "an address and a port such as 127.0.0.1:7878 or [::1]:7878";
        scalar(node, expected, context, |text| text.parse().ok().filter(|address: &Self| address.port() != 0))
    }
    fn show<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
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
    let fields = Fields::open(node, &["from_env", "from_file"], context)?;
    if rows.len() != 1 {
        context.problem(node.place, "expected exactly one of from_env and from_file");
        return None;
    }
    let env = fields.take::<Option<FromEnv>>("from_env", || None, context);
    let file = fields.take::<Option<FromFile>>("from_file", || None, context);
    match secret_of(env.as_ref(), file.as_ref()) {
        Ok(secret) => secret.cloned(),
        Err(why) => {
            context.problem(node.place, why);
            None
        }
    }
}

impl Setting for FromEnv {
    fn decode(node: &Node, context: &mut Context<'_>) -> Option<Self> {
        let name = text(node, "the name of an environment variable", context)?.to_owned();
        let found = (context.env)(&name).and_then(|value| value.into_string().ok());
        let secret = match found {
            Some(text) => Ok(context.keep(Secret::kept_elsewhere(text))),
            None => Err(format!("the environment variable {name} isn't set here")),
        };
        Some(Self { name, secret })
    }
    fn show<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.name)
    }
}

impl Setting for FromFile {
    fn decode(node: &Node, context: &mut Context<'_>) -> Option<Self> {
        let path = PathBuf::decode(node, context)?;
        let secret = match std::fs::read_to_string(&path) {
            Ok(text) => Ok(context.keep(Secret::kept_elsewhere(text.strip_suffix('\n').unwrap_or(&text)))),
            Err(why) => Err(format!("can't read {}: {why}", path.display())),
        };
        Some(Self { path, secret })
    }
    fn show<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.path.show(s)
    }
}

/// Complains when both of `X_env` and `X_file` are given, or neither and one is needed. `at` is the mapping's path.
pub(super) fn one_secret(
    at: &str,
    name: &str,
    pair: (Option<&FromEnv>, Option<&FromFile>),
    needed: bool,
    wrong: &mut impl FnMut(&str, String),
) {
    match pair {
        (Some(_), Some(_)) => wrong(&format!("{at}.{name}_file"), format!("`{name}_env` is given too; keep one")),
        (None, None) if needed => {
            wrong(at, format!("`{name}_env` (an environment variable) or `{name}_file` (a path) is missing here"));
        }
        (Some(_) | None, None) | (None, Some(_)) => {}
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
                if hide(&key.text, &value) {
                    context.keep(value.clone());
                }
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
            // A wrong item is left out, so that the others are still looked at; numbers in `places` are the list's.
            let step = format!("[{}]", list.len());
            match context.within(&step, item.place, |context| T::decode(item, context)) {
                Some(item) => list.push(item),
                None => context.rename(&step, &format!("[wrong {n}]")),
            }
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
names!(ProjectName SessionName AccountName AgentName ProviderName);

impl<K, T> Setting for BTreeMap<K, T>
where
    K: TryFrom<String, Error = BadName> + std::fmt::Display + Ord,
    T: Setting,
{
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
            match K::try_from(key.text.clone()) {
                Ok(name) => map.extend(value.map(|value| (name, value))),
                Err(bad) => context.problem(key.place, bad.to_string()),
            }
        }
        Some(map)
    }
    fn show<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(self.iter().map(|(name, value)| (name.to_string(), Shown(value))))
    }
}
