//! Reads the mount's `status.json` leniently, since an older or newer daemon may omit or add keys.
//! Returns its text and the parts that this version shows. Never changes anything.

use std::time::Duration;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{exit::Failure, mount::Mount};

/// Anything missing, null or of another type is the default.
fn lenient<'de, D: Deserializer<'de>, T: Default + serde::de::DeserializeOwned>(
    deserializer: D,
) -> Result<T, D::Error> {
    let value = Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
}

/// A text, or a number or boolean as text.
fn word<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::Null => String::new(),
        Value::String(text) => text,
        other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => other.to_string(),
    })
}

macro_rules! lenient {
    ($(#[$doc:meta])* $name:ident { $($with:literal $key:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq, Deserialize)]
        pub struct $name { $(#[serde(default, deserialize_with = $with)] pub $key: $type,)* }
    };
}

lenient! {
    /// The whole file.
    Status {
        "word" since: String,
        "lenient" pid: Option<u64>,
        "lenient" paused: bool,
        "lenient" health: Vec<String>,
        "lenient" tasks: Vec<Task>,
        "lenient" sessions: Vec<Session>,
        "lenient" accounts: Vec<Account>,
        "lenient" swap: Swaps,
        "lenient" queues: Vec<Queue>,
    }
}

lenient! {
    Task {
        "word" id: String,
        "word" project: String,
        "word" state: String,
        "lenient" settling: bool,
        "word" why: String,
        "word" session: String,
        "word" attempts: String,
        "word" since: String,
    }
}

lenient! {
    Session {
        "word" name: String,
        "word" state: String,
        "word" why: String,
        "word" task: String,
        "word" agent: String,
        "word" account: String,
        "word" since: String,
        "lenient" attached: u64,
    }
}

lenient! {
    Account {
        "word" name: String,
        "word" state: String,
        "word" why: String,
        "word" agent: String,
        "word" home: String,
        "lenient" active: bool,
        "word" used: String,
        "word" until: String,
    }
}

lenient! {
    Swaps {
        "lenient" under_way: Option<Swap>,
        "lenient" last: Option<Swap>,
        "lenient" partial: Option<Swap>,
        "lenient" lines: Vec<String>,
    }
}

lenient! {
    /// One swap: under way, ended or left half done. Each has some of these.
    Swap {
        "word" number: String,
        "word" from: String,
        "word" to: String,
        "word" step: String,
        "word" error: String,
    }
}

lenient! {
    Queue {
        "word" project: String,
        "word" path: String,
        "lenient" queued: u64,
        "lenient" held: u64,
        "lenient" working: u64,
        "lenient" rejected: u64,
        "lenient" done: u64,
        "lenient" failed: u64,
    }
}

/// The file's text.
///
/// # Errors
/// `NoDaemon` when no daemon serves the mount, or it doesn't answer `within`.
pub fn text(mount: &Mount, within: Duration) -> Result<String, Failure> {
    mount.read("status.json", within)
}

/// The file as values.
///
/// # Errors
/// As `text`, and when it isn't JSON.
pub fn read(mount: &Mount, within: Duration) -> Result<Status, Failure> {
    parse(&text(mount, within)?)
        .map_err(|error| Failure::Failed(format!("{}/status.json: {error}", mount.dir.display())))
}

fn parse(text: &str) -> Result<Status, serde_json::Error> {
    serde_json::from_str(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_versions_are_read_as_far_as_they_go() {
        let status =
            parse(r#"{"version":9,"pid":"x","tasks":[{"id":7,"new":1,"session":null,"attempts":2}],"queues":3}"#);
        let status = status.expect("json");
        assert_eq!(status.tasks.len(), 1);
        assert_eq!((status.tasks[0].id.as_str(), status.tasks[0].session.as_str()), ("7", ""));
        assert_eq!(status.tasks[0].attempts, "2");
        assert!(status.queues.is_empty() && status.pid.is_none());
        assert!(parse("[").is_err());
    }
}
