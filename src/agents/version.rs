//! Which version of its program an agent runs: what is passed to it, and whether that version works, depends on it.
//! In: what a program says of its version, the rules' versions. Out: a `Version`, a verdict on it. `Known` runs
//! `PROGRAM --version` once for each file that the program's name leads to, so a CLI that updates itself is asked anew.

use std::{
    collections::{BTreeMap, HashMap},
    fmt, fs,
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::Deserialize;

use crate::agents::condition::Pattern;

/// Longest that a program may take to say its version: the first start waits for it. Native ones take 0.1 s, those on node several
/// seconds on a loaded machine, and one whose version is not known gets words that it may not know.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// A version is one line.
const LONGEST_ANSWER: u64 = 4096;

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

/// What identifies a file's content without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    modified: (i64, i64),
    size: u64,
}

/// What programs say of their version, those that were asked; nothing where one doesn't say.
#[derive(Debug, Default)]
pub struct Known(Mutex<HashMap<PathBuf, (Stamp, Option<String>)>>);

impl Known {
    /// What a program says as a session with this environment starts it. Waits for the program once; whoever asks meanwhile
    /// waits with it.
    pub fn of(&self, program: &str, env: &[(String, String)]) -> Option<String> {
        let path = env.iter().find(|(name, _)| name == "PATH").map_or("", |(_, value)| value);
        let file = find(program, path)?;
        let facts = fs::metadata(&file).ok()?;
        let modified = (facts.mtime(), facts.mtime_nsec());
        let stamp = Stamp { device: facts.dev(), inode: facts.ino(), modified, size: facts.size() };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, said)) = known.get(&file).filter(|(of, _)| *of == stamp) {
            return said.clone();
        }
        let env: BTreeMap<&String, &String> = env.iter().map(|(name, value)| (name, value)).collect();
        let said = ask(&file, &env);
        known.insert(file, (stamp, said.clone()));
        said
    }
}

/// The program as a shell would find it.
fn find(program: &str, path: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(PathBuf::from(program));
    }
    std::env::split_paths(path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

fn ask(program: &Path, env: &BTreeMap<&String, &String>) -> Option<String> {
    let mut command = Command::new(program);
    command.arg("--version").env_clear().envs(env);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
    let pipe = child.stdout.take()?;
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = pipe.take(LONGEST_ANSWER).read_to_string(&mut text);
        text
    });
    let begun = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return reader.join().ok(),
            Ok(None) if begun.elapsed() < PATIENCE => std::thread::sleep(LOOK_EVERY),
            Ok(Some(_) | None) | Err(_) => {
                tracing::warn!(program = %program.display(), "the program doesn't say its version; it counts as the newest");
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

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

    #[test]
    fn a_program_is_asked_once_and_again_when_it_was_replaced() {
        let dir = tempfile::tempdir().expect("a directory");
        let env = [("PATH".to_owned(), format!("{}:/usr/bin:/bin", dir.path().display()))];
        let install = |version: &str| {
            let script = format!("#!/bin/sh\necho x >> {}/asked\necho agent {version}\n", dir.path().display());
            let new = dir.path().join("new");
            fs::write(&new, script).expect("written");
            fs::set_permissions(&new, fs::Permissions::from_mode(0o700)).expect("made a program");
            fs::rename(&new, dir.path().join("agent")).expect("installed");
        };
        let known = Known::default();
        install("1.0.0");
        for _ in 0..3 {
            assert_eq!(known.of("agent", &env).as_deref(), Some("agent 1.0.0\n"));
        }
        install("1.0.1");
        assert_eq!(known.of("agent", &env).as_deref(), Some("agent 1.0.1\n"));
        assert_eq!(fs::read_to_string(dir.path().join("asked")).expect("a count"), "x\nx\n");
        assert_eq!(known.of("no-such-agent", &env), None);
    }
}
