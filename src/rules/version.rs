//! Detects the version of an agent's program, on which its arguments and the compatibility verdict depend.
//! Takes the program's version output and the rules' versions; returns a `Version` and a verdict. Pure.

use std::fmt;

use serde::Deserialize;

use super::condition::Pattern;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Version([u32; 3]);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self([major, minor, patch]) = self;
        write!(f, "{major}.{minor}.{patch}")
    }
}

impl TryFrom<String> for Version {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::read(&text).ok_or_else(|| format!("{text:?} is no version such as 2.1.78"))
    }
}

impl Version {
    /// The first version in a text: `2.1.332 (Claude Code)`, `codex-cli 0.171.0`, `v1.2.3-beta.1`.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        text.split_whitespace().find_map(|word| {
            let mut numbers = word.trim_start_matches('v').split('.').map(|part| {
                let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
                part[..digits].parse::<u32>().ok()
            });
            let mut next = || numbers.next().flatten();
            Some(Self([next()?, next()?, next()?]))
        })
    }
}

/// Which versions of a program work.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Versions {
    /// What the program answers to `--version`, its number as the first group: a starter of somebody's has versions of its own.
    pub says: Pattern,
    /// The oldest with which everything works.
    pub whole: Version,
    /// The oldest that is started at all; what is older does the task and its end isn't seen, or doesn't start.
    pub least: Version,
}

/// What a version is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    Works,
    /// Parts don't; doc/AGENTS.md lists which.
    InPart,
    TooOld,
}

impl Versions {
    /// The version in a program's answer; `None` when it is another program's.
    #[must_use]
    pub fn read(&self, said: &str) -> Option<Version> {
        self.says.0.captures(said)?.get(1).and_then(|number| Version::read(number.as_str()))
    }

    #[must_use]
    pub fn age(&self, version: Version) -> Age {
        if version >= self.whole {
            Age::Works
        } else if version >= self.least {
            Age::InPart
        } else {
            Age::TooOld
        }
    }

    /// The verdict on the version in a program's answer.
    ///
    /// # Errors
    /// When that version is not started at all.
    pub fn judge(&self, program: &str, said: &str) -> Result<Option<String>, String> {
        let Some(version) = self.read(said) else { return Ok(None) };
        let complaint = self.complaint(program, version);
        match self.age(version) {
            Age::Works | Age::InPart => Ok(complaint),
            Age::TooOld => Err(complaint.unwrap_or_default()),
        }
    }

    /// What to say of a version with which not everything works.
    #[must_use]
    pub fn complaint(&self, program: &str, version: Version) -> Option<String> {
        let whole = self.whole;
        match self.age(version) {
            Age::Works => None,
            Age::InPart => Some(format!(
                "{program} is version {version}; {whole} or newer is needed for everything to work (doc/AGENTS.md says what doesn't)"
            )),
            Age::TooOld => Some(format!("{program} is version {version}, which is too old: install {whole} or newer")),
        }
    }
}

/// A word that is passed to an agent, from the version on that knows it.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "serde_json::Value")]
pub struct Word {
    pub word: String,
    pub since: Option<Version>,
}

impl TryFrom<serde_json::Value> for Word {
    type Error = String;
    fn try_from(value: serde_json::Value) -> Result<Self, String> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Since {
            word: String,
            since: Version,
        }
        match value {
            serde_json::Value::String(word) => Ok(Self { word, since: None }),
            other => match serde_json::from_value::<Since>(other) {
                Ok(Since { word, since }) => Ok(Self { word, since: Some(since) }),
                Err(error) => Err(format!("expected a text or {{word: TEXT, since: VERSION}}: {error}")),
            },
        }
    }
}

impl Word {
    /// The word, where this version knows it. One that nobody could ask counts as the newest.
    #[must_use]
    pub fn of(&self, version: Option<Version>) -> Option<&str> {
        let known = self.since.zip(version).is_none_or(|(since, version)| version >= since);
        known.then_some(self.word.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        Version::read(text).expect("a version")
    }

    #[test]
    fn versions_are_read_and_compared() {
        for said in ["2.1.78 (Claude Code)", "codex-cli 2.1.78", "v2.1.78-beta.1\n", "name 1.2 is 2.1.78"] {
            assert_eq!(Version::read(said).map(|v| v.to_string()).as_deref(), Some("2.1.78"), "{said}");
        }
        assert_eq!(Version::read("unknown option"), None);
        assert!(version("2.1.332") > version("2.1.78") && version("0.9.0") < version("0.156.0"));
        let says = Pattern(regex::Regex::new(r"^(\S+) \(Claude Code\)").expect("a pattern"));
        let versions = Versions { says, whole: version("2.1.78"), least: version("2.0.76") };
        assert_eq!(versions.read("2.1.78 (Claude Code)\n"), Some(version("2.1.78")));
        assert_eq!(versions.read("my-starter 0.5.0"), None, "another program's");
        assert_eq!(versions.age(version("2.1.78")), Age::Works);
        assert_eq!(versions.age(version("2.1.77")), Age::InPart);
        assert_eq!(versions.age(version("2.0.75")), Age::TooOld);
    }

    #[test]
    fn a_word_is_passed_from_its_version_on() {
        let words: Vec<Word> =
            serde_json::from_value(serde_json::json!(["a", {"word": "b", "since": "0.156.0"}])).expect("words");
        let of = |v: Option<&str>| words.iter().filter_map(|w| w.of(v.map(version))).collect::<Vec<_>>();
        assert_eq!(of(Some("0.155.9")), ["a"]);
        assert_eq!(of(Some("0.156.0")), ["a", "b"]);
        assert_eq!(of(None), ["a", "b"]);
        let bad = serde_json::from_value::<Word>(serde_json::json!({"word": "b", "from": "1"})).expect_err("a typo");
        assert!(bad.to_string().contains("since"), "{bad}");
    }
}
