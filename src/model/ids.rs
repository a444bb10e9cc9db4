//! Names of tasks, sessions, accounts and so on, validated once where they enter and trusted afterwards.
//! Turns text from files, configuration and verbs into distinct types. Owns nothing, does nothing.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a name was refused; reads on after "the name …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} name {text:?} {reason}")]
pub struct BadName {
    pub kind: &'static str,
    pub text: String,
    pub reason: &'static str,
}

/// Longest file name of a task in bytes, `.md` included (INTERFACE 1). Chosen: half of `NAME_MAX` (255), so that the
/// names of markers, sidecars and temporary files made from it fit.
pub const TASK_FILE_NAME_MAX: usize = 128;

/// What a file must end in to be a task.
pub const TASK_SUFFIX: &str = ".md";

fn word(kind: &'static str, text: &str, extra: &str, max: usize) -> Result<(), BadName> {
    let bad = |reason| Err(BadName { kind, text: text.to_owned(), reason });
    if text.is_empty() {
        return bad("is empty");
    }
    if text.len() > max {
        return bad("is too long");
    }
    if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return bad("must begin with a letter or digit");
    }
    if !text.chars().all(|c| c.is_ascii_alphanumeric() || extra.contains(c)) {
        return bad("may only hold letters, digits, '-' and '_'");
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal, $extra:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// # Errors
            /// When `text` can't be such a name.
            pub fn parse(text: &str) -> Result<Self, BadName> {
                word($kind, text, $extra, 64)?;
                Ok(Self(text.to_owned()))
            }

            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $type {
            type Error = BadName;
            fn try_from(text: String) -> Result<Self, BadName> {
                Self::parse(&text)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }
    };
}

name!(
    /// A project: one `.agent-queue` directory.
    ProjectName, "project", "-_."
);
name!(
    /// A tmux session. tmux silently rewrites `.` and `:`, so neither may occur.
    SessionName, "session", "-_"
);
name!(
    /// An account: one configuration home of an agent.
    AccountName, "account", "-_.@"
);
name!(
    /// A row of `agents:` in the configuration.
    AgentName, "agent", "-_."
);

name!(
    /// A row of `providers:` in the configuration.
    ProviderName, "provider", "-_."
);

/// A task's name without `.md`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskId(String);

impl TaskId {
    /// The id in a file name, or `None` when the name isn't a task's (INTERFACE 1): such files are kept and ignored.
    #[must_use]
    pub fn from_file_name(name: &str) -> Option<Self> {
        let stem = name.strip_suffix(TASK_SUFFIX)?;
        let first_ok = stem.starts_with(char::is_alphanumeric);
        let clean = !stem.chars().any(|c| c.is_control() || c == '/');
        (first_ok && clean && name.len() <= TASK_FILE_NAME_MAX).then(|| Self(stem.to_owned()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The task's own file name in `inbox/`, `done/` and so on.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("{}{TASK_SUFFIX}", self.0)
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A task among all projects. Written `project:id`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskKey {
    pub project: ProjectName,
    pub id: TaskId,
}

impl TaskKey {
    #[must_use]
    pub fn new(project: &ProjectName, id: &TaskId) -> Self {
        Self { project: project.clone(), id: id.clone() }
    }

    /// Reads `project:id`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (project, id) = text.split_once(':')?;
        let id = TaskId::from_file_name(&format!("{id}{TASK_SUFFIX}"))?;
        Some(Self { project: ProjectName::parse(project).ok()?, id })
    }
}

impl fmt::Display for TaskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.project, self.id)
    }
}

impl Serialize for TaskKey {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TaskKey {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom(format!("{text:?} is not project:id")))
    }
}

/// One attempt at one task; distinguishes a finished task from a new one of the same name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub String);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_md_names_are_tasks() {
        for name in ["a.md", "7.md", "fix the bug.md", "été.md", "a.b.md"] {
            assert!(TaskId::from_file_name(name).is_some(), "{name}");
        }
        let long = format!("{}.md", "a".repeat(126));
        let refused = [".a.md", "#a.md#", ".#a.md", "a.md~", "a.txt", "-a.md", "_a.md", "a\nb.md", ".md", &long];
        for name in refused {
            assert!(TaskId::from_file_name(name).is_none(), "{name}");
        }
    }

    #[test]
    fn session_names_can_not_be_rewritten_by_tmux() {
        assert!(SessionName::parse("ccl-auto-11").is_ok());
        for name in ["", "a.b", "a:b", "#(x)", "=a", "-a", "a b"] {
            assert!(SessionName::parse(name).is_err(), "{name}");
        }
    }

    #[test]
    fn keys_read_back() {
        let key = TaskKey::parse("web:fix: it").expect("a key");
        assert_eq!(TaskKey::parse(&key.to_string()), Some(key));
        assert_eq!(TaskKey::parse("web"), None);
    }
}
