//! Pre-answers an agent's first-run dialogs (trust, onboarding) in account homes marked `owned`.
//! Takes the home, the working directory and the agent's environment; adds what is missing to `.claude.json` or
//! `config.toml` and keeps everything else. Must never touch a home that isn't `owned`; the caller checks.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::{
    linux::dirs::{Outlives, write_private},
    rules::{format::Answers, merge},
};

/// Number of last characters that Claude Code stores of an approved key (measured on 2.1.329).
const KEY_TAIL: usize = 20;

/// One account's home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountHome {
    pub home: PathBuf,
    /// It belongs to this program: first-run dialogs may be answered in it.
    pub owned: bool,
    /// Variables of this account alone.
    pub env: BTreeMap<String, String>,
}

/// Adds the answers that are missing. Does nothing when they are all there. `beside` is the directory around the home when
/// the agent finds that home unasked.
///
/// # Errors
/// When a file of the home can't be read or written, or isn't what it should be: then it is left as it is.
pub fn prepare(
    answers: Answers,
    home: &Path,
    beside: Option<&Path>,
    workdir: &Path,
    env: &BTreeMap<String, String>,
) -> io::Result<()> {
    match answers {
        Answers::ClaudeJson => {
            claude_json(beside.unwrap_or(home), workdir, env.get("ANTHROPIC_API_KEY").map(String::as_str))
        }
        Answers::CodexToml => codex_toml(home, workdir),
    }
}

fn claude_json(home: &Path, workdir: &Path, key: Option<&str>) -> io::Result<()> {
    let path = home.join(".claude.json");
    let before: Value = match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| invalid(&path, &e.to_string()))?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => json!({}),
        Err(e) => return Err(e),
    };
    if !before.is_object() {
        return Err(invalid(&path, "it holds no JSON object"));
    }
    let mut after = before.clone();
    let workdir = workdir.to_string_lossy();
    merge(
        &mut after,
        &json!({
            "hasCompletedOnboarding": true,
            "hasSeenAutoDefaultNotice": true,
            "projects": { workdir: { "hasTrustDialogAccepted": true } },
        }),
    );
    if let Some(key) = key {
        let skip = key.chars().count().saturating_sub(KEY_TAIL);
        let tail = Value::String(key.chars().skip(skip).collect());
        let mut approved =
            after.pointer("/customApiKeyResponses/approved").and_then(Value::as_array).cloned().unwrap_or_default();
        if !approved.contains(&tail) {
            approved.push(tail);
        }
        merge(&mut after, &json!({"customApiKeyResponses": {"approved": approved}}));
    }
    if after == before {
        return Ok(());
    }
    write_private(&path, &serde_json::to_vec_pretty(&after)?, Outlives::PowerCut)
}

fn codex_toml(home: &Path, workdir: &Path) -> io::Result<()> {
    let path = home.join("config.toml");
    let before = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(e),
    };
    let header = format!("[projects.{}]", Value::String(workdir.to_string_lossy().into_owned()));
    if before.lines().any(|l| l.trim() == header) {
        return Ok(());
    }
    let gap = if before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
    write_private(&path, format!("{before}{gap}\n{header}\ntrust_level = \"trusted\"\n").as_bytes(), Outlives::PowerCut)
}

fn invalid(path: &Path, why: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("{} can't be completed: {why}; mend or remove the file", path.display()),
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_was_there_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join(".claude.json");
        fs::write(&file, r#"{"mine": 1, "projects": {"/a": {"x": 2}}, "customApiKeyResponses": {"rejected": ["r"]}}"#)
            .expect("written");
        let env = BTreeMap::from([("ANTHROPIC_API_KEY".to_owned(), format!("sk-{}", "k".repeat(30)))]);
        prepare(Answers::ClaudeJson, dir.path(), None, Path::new("/a"), &env).expect("prepared");
        prepare(Answers::ClaudeJson, dir.path(), None, Path::new("/b"), &env).expect("prepared twice");
        let now: Value = serde_json::from_slice(&fs::read(&file).expect("read")).expect("JSON");
        assert_eq!(now["mine"], 1);
        assert_eq!(now["projects"]["/a"], json!({"x": 2, "hasTrustDialogAccepted": true}));
        assert_eq!(now["projects"]["/b"]["hasTrustDialogAccepted"], true);
        assert_eq!(now["customApiKeyResponses"], json!({"rejected": ["r"], "approved": ["k".repeat(20)]}));
        assert_eq!(fs::metadata(&file).expect("facts").permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_broken_file_is_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join(".claude.json");
        fs::write(&file, "{").expect("written");
        prepare(Answers::ClaudeJson, dir.path(), None, Path::new("/a"), &BTreeMap::new()).expect_err("refused");
        assert_eq!(fs::read_to_string(&file).expect("read"), "{");
    }

    #[test]
    fn codex_trust_is_appended_once() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("config.toml"), "model = \"x\"").expect("written");
        for _ in 0..2 {
            prepare(Answers::CodexToml, dir.path(), None, Path::new("/a"), &BTreeMap::new()).expect("prepared");
        }
        let text = fs::read_to_string(dir.path().join("config.toml")).expect("read");
        assert_eq!(text, "model = \"x\"\n\n[projects.\"/a\"]\ntrust_level = \"trusted\"\n");
    }
}
