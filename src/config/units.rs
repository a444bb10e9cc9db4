//! Configuration values with units or special rules: byte sizes, terminal sizes, secrets, environments, tmux sockets.
//! Parses their text into checked values that print as they were written. Owns nothing.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use serde::{Serialize, Serializer};

/// A number of bytes, written `1MiB`, `64KiB`, `10MB` or plain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

const UNITS: [(&str, u64); 7] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

impl Bytes {
    /// `None` when the text is no size.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let split = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let number: u64 = number.replace('_', "").parse().ok()?;
        let unit = unit.trim();
        let factor = match unit {
            "" | "B" => 1,
            other => UNITS.iter().find(|(name, _)| *name == other)?.1,
        };
        number.checked_mul(factor).map(Self)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, factor) in UNITS.iter().take(3).rev() {
            if self.0 >= *factor && self.0.is_multiple_of(*factor) {
                return write!(f, "{}{name}", self.0 / factor);
            }
        }
        write!(f, "{}", self.0)
    }
}

/// A terminal's size in characters, written `200x50`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    pub width: u16,
    pub height: u16,
}

impl Size {
    /// `None` when the text is no `WIDTHxHEIGHT` with both between 10 and 1000.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (width, height) = text.trim().split_once('x')?;
        let size = Self { width: width.parse().ok()?, height: height.parse().ok()? };
        let sane = 10..=1000;
        (sane.contains(&size.width) && sane.contains(&size.height)).then_some(size)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// Which tmux server the sessions live in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Socket {
    /// Our own server, `-L claude-failover`. Written `null`.
    Private,
    /// The operator's default server. Written `default`.
    Default,
    /// `-L NAME`.
    Name(String),
    /// `-S PATH`; anything with a `/`.
    Path(PathBuf),
}

/// A text that can't be printed by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    text: String,
    /// It came from the environment or a file, so it is hidden whatever its name.
    kept_elsewhere: bool,
}

/// Replaces a secret wherever configuration is shown.
pub const MASK: &str = "***";

impl Secret {
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), kept_elsewhere: false }
    }

    /// One that came from the environment or a file of its own.
    #[must_use]
    pub fn kept_elsewhere(text: impl Into<String>) -> Self {
        Self { text: text.into(), kept_elsewhere: true }
    }

    /// The text itself, for the one place that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(MASK)
    }
}

/// A secret that an environment variable holds (`key_env: NAME`); shown by the variable's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FromEnv {
    pub name: String,
    /// The words of what is wrong where there is none: only who needs it has to know.
    pub secret: Result<Secret, String>,
}

/// A secret that a file of its own holds (`key_file: PATH`); shown by the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FromFile {
    pub path: PathBuf,
    pub secret: Result<Secret, String>,
}

/// The secret of a pair `X_env`, `X_file`; `None` when neither is given.
///
/// # Errors
/// In words, when the one that is given holds no secret.
pub fn secret_of<'a>(env: Option<&'a FromEnv>, file: Option<&'a FromFile>) -> Result<Option<&'a Secret>, &'a str> {
    let found = env.map(|env| &env.secret).or(file.map(|file| &file.secret));
    found.map(|found| found.as_ref().map_err(String::as_str)).transpose()
}

/// Environment variables. Shown with the values of secret-looking names masked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Env(pub BTreeMap<String, Secret>);

impl Env {
    /// Names and values, in the names' order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Secret)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(Secret::expose)
    }

    /// The texts themselves, for a process that is started with them.
    #[must_use]
    pub fn exposed(&self) -> BTreeMap<String, String> {
        self.iter().map(|(name, value)| (name.to_owned(), value.expose().to_owned())).collect()
    }

    /// Names of variables whose secret is in the configuration's own text.
    pub fn written_out(&self) -> impl Iterator<Item = &str> {
        self.iter().filter(|(name, value)| !value.kept_elsewhere && hide(name, value)).map(|(name, _)| name)
    }
}

/// Whether a variable of this name most likely holds a secret.
#[must_use]
pub fn looks_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    ["KEY", "TOKEN", "SECRET", "PASSW", "CREDENTIAL", "AUTH"].iter().any(|part| name.contains(part))
}

pub(super) fn hide(name: &str, value: &Secret) -> bool {
    // A URL may carry a password of its own.
    value.kept_elsewhere || looks_secret(name) || value.text.contains("://") && value.text.contains('@')
}

impl Serialize for Env {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(
            self.0.iter().map(|(name, value)| (name, if hide(name, value) { MASK } else { value.text.as_str() })),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_back() {
        for (text, bytes) in [("1MiB", 1 << 20), ("64 KiB", 65536), ("10MB", 10_000_000), ("12", 12), ("1_000", 1000)] {
            let size = Bytes::parse(text).expect(text);
            assert_eq!(size.0, bytes);
            assert_eq!(Bytes::parse(&size.to_string()), Some(size));
        }
        for text in ["", "x", "1 mib", "-1", "99999999999GiB", "1.5MiB"] {
            assert_eq!(Bytes::parse(text), None, "{text}");
        }
        assert_eq!(Size::parse("200x50").map(|s| s.to_string()), Some("200x50".to_owned()));
        for text in ["200", "0x50", "x", "200x", "2000x50"] {
            assert_eq!(Size::parse(text), None, "{text}");
        }
    }

    #[test]
    fn secrets_can_not_be_printed() {
        let env =
            Env([("OPENAI_API_KEY", "hunter2"), ("LANG", "C")].map(|(n, v)| (n.to_owned(), Secret::new(v))).into());
        let shown = serde_json::to_string(&env).expect("json");
        assert_eq!(shown, r#"{"LANG":"C","OPENAI_API_KEY":"***"}"#);
        assert!(!format!("{env:?}").contains("hunter2"));
    }
}
