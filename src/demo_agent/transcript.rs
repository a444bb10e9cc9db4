//! Writes the conversation in Claude Code's record format: one JSON object a line.
//!
//! Appends what was said to `<uuid>.jsonl`; reads the old lines of a resumed conversation. Owns the end of the file.
//! Never rewrites a line.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    demo_agent::identity::{Identity, VERSION},
    linux::dirs::private_dir,
};

/// The model's name in the records; synthetic errors have `<synthetic>`, as Claude Code's.
const MODEL: &str = "demo-1";

/// Appends to one conversation.
#[derive(Debug)]
pub struct Transcript {
    path: PathBuf,
    session_id: Uuid,
    cwd: PathBuf,
    file: Option<File>,
    parent: Option<String>,
    /// Characters of the last thing the user said: the input of the next answer.
    asked: usize,
}

impl Transcript {
    pub fn new(identity: &Identity) -> Self {
        Self {
            path: identity.transcript.clone(),
            session_id: identity.session_id,
            cwd: identity.cwd.clone(),
            file: None,
            parent: None,
            asked: 0,
        }
    }

    pub fn user(&mut self, text: &str) -> io::Result<()> {
        self.asked = text.chars().count();
        self.append("user", json!({"role": "user", "content": text}), json!({}))
    }

    /// What Claude Code writes when a turn was broken off.
    pub fn interrupted(&mut self, text: &str) -> io::Result<()> {
        self.append("user", json!({"role": "user", "content": [{"type": "text", "text": text}]}), json!({}))
    }

    /// The answer, which ends the turn.
    pub fn assistant(&mut self, text: &str) -> io::Result<()> {
        self.said(text, json!("end_turn"))
    }

    /// Text that more follows on.
    pub fn begun(&mut self, text: &str) -> io::Result<()> {
        self.said(text, Value::Null)
    }

    fn said(&mut self, text: &str, stop: Value) -> io::Result<()> {
        let message = self.message(MODEL, json!([{"type": "text", "text": text}]), text, stop);
        self.append("assistant", message, json!({"requestId": format!("req_{}", Uuid::new_v4().simple())}))
    }

    pub fn tool_use(&mut self, id: &str, command: &str) -> io::Result<()> {
        let content = json!([{"type": "tool_use", "id": id, "name": "Bash", "input": {"command": command}}]);
        let message = self.message(MODEL, content, command, json!("tool_use"));
        self.append("assistant", message, json!({"requestId": format!("req_{}", Uuid::new_v4().simple())}))
    }

    pub fn tool_result(&mut self, id: &str, output: &str, failed: bool) -> io::Result<()> {
        self.asked = output.chars().count();
        let content = json!([{"type": "tool_result", "tool_use_id": id, "content": output, "is_error": failed}]);
        self.append("user", json!({"role": "user", "content": content}), json!({}))
    }

    /// A record of an error; `extra` holds what distinguishes it (`error`, `quotaLimits` …).
    pub fn error(&mut self, text: &str, mut extra: Value) -> io::Result<()> {
        self.asked = 0;
        extra["isApiErrorMessage"] = json!(true);
        let message = self.message("<synthetic>", json!([{"type": "text", "text": text}]), "", json!("stop_sequence"));
        self.append("assistant", message, extra)
    }

    fn message(&self, model: &str, content: Value, said: &str, stop: Value) -> Value {
        json!({
            "id": format!("msg_{}", Uuid::new_v4().simple()),
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": content,
            "stop_reason": stop,
            "usage": {
                "input_tokens": tokens(self.asked),
                "output_tokens": tokens(said.chars().count()),
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0,
            },
        })
    }

    fn append(&mut self, kind: &str, message: Value, extra: Value) -> io::Result<()> {
        let uuid = Uuid::new_v4().to_string();
        let mut record = json!({
            "parentUuid": self.parent,
            "isSidechain": false,
            "userType": "external",
            "cwd": self.cwd,
            "sessionId": self.session_id,
            "version": VERSION,
            "type": kind,
            "message": message,
            "uuid": uuid,
            "timestamp": jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
        });
        if let (Some(record), Value::Object(extra)) = (record.as_object_mut(), extra) {
            record.extend(extra);
        }
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                private_dir(self.path.parent().unwrap_or(Path::new(".")))?;
                self.file.insert(OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path)?)
            }
        };
        file.write_all(format!("{record}\n").as_bytes())?;
        self.parent = Some(uuid);
        Ok(())
    }
}

/// A token is taken for four characters.
fn tokens(characters: usize) -> usize {
    characters.div_ceil(4)
}

/// Where the conversation of `cwd` lies: `projects/<cwd with / -> ->/<uuid>.jsonl`.
pub fn path(home: &Path, cwd: &Path, session_id: Uuid) -> PathBuf {
    let project = cwd.to_string_lossy().replace('/', "-");
    home.join("projects").join(project).join(format!("{session_id}.jsonl"))
}

/// Finds a conversation, first among those of `cwd`, then among all.
pub fn find(home: &Path, cwd: &Path, session_id: Uuid) -> Option<PathBuf> {
    let own = path(home, cwd, session_id);
    if own.is_file() {
        return Some(own);
    }
    let projects = fs::read_dir(home.join("projects")).ok()?;
    projects.flatten().map(|dir| dir.path().join(format!("{session_id}.jsonl"))).find(|path| path.is_file())
}

/// Something that was said, for redrawing.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    User(String),
    Assistant(String),
    Error(String),
}

/// The old lines of a conversation. Lines that are no records of what was said are skipped.
pub fn read(path: &Path) -> io::Result<Vec<Said>> {
    let text = String::from_utf8_lossy(&fs::read(path)?).into_owned();
    Ok(text.lines().filter_map(|line| said(&serde_json::from_str(line).ok()?)).collect())
}

/// A task, and how far it is.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Task {
    pub prompt: String,
    /// Words that were said before the answer.
    pub words: usize,
    /// What its block gave, if it was run to its end.
    pub output: Option<String>,
}

impl Task {
    pub fn new(prompt: &str) -> Self {
        Self { prompt: prompt.to_owned(), ..Self::default() }
    }
}

/// Whether a prompt asks for a task to be taken up again.
fn goes_on(prompt: &str) -> bool {
    prompt.trim_start().get(..8).is_some_and(|word| word.eq_ignore_ascii_case("continue"))
}

/// The task that `prompt` takes up again: the last one that was given and not answered.
pub fn unfinished(path: &Path, prompt: &str) -> Option<Task> {
    let text = goes_on(prompt).then(|| fs::read(path).ok()).flatten()?;
    let mut task: Option<Task> = None;
    for line in String::from_utf8_lossy(&text).lines() {
        let Ok(record) = serde_json::from_str::<Value>(line) else { continue };
        let message = &record["message"];
        let block = &message["content"][0];
        match (record["type"].as_str(), &message["content"], &mut task) {
            (Some("user"), Value::String(prompt), Some(_)) if goes_on(prompt) => {}
            (Some("user"), Value::String(prompt), _) => task = Some(Task::new(prompt)),
            (Some("user"), _, Some(task)) => {
                task.output = block["content"].as_str().map(str::to_owned).or(task.output.take());
            }
            (Some("assistant"), _, _) if message["stop_reason"] == "end_turn" => task = None,
            (Some("assistant"), _, Some(task)) if message["stop_reason"].is_null() => {
                task.words += block["text"].as_str().unwrap_or_default().split_whitespace().count();
            }
            _ => {}
        }
    }
    task
}

fn said(record: &Value) -> Option<Said> {
    let content = &record["message"]["content"];
    let text = match content {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => blocks.iter().find_map(|block| block["text"].as_str())?.to_owned(),
        _ => return None,
    };
    match record["type"].as_str()? {
        "user" => Some(Said::User(text)),
        "assistant" if record["isApiErrorMessage"] == true => Some(Said::Error(text)),
        "assistant" => Some(Said::Assistant(text)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_not_answered_is_taken_up_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.jsonl");
        let session_id = Uuid::new_v4();
        let cwd = PathBuf::from("/");
        let mut file = Transcript { path: path.clone(), session_id, cwd, file: None, parent: None, asked: 0 };
        file.user("first").unwrap();
        file.begun("word0 word1").unwrap();
        file.error("You've hit your 5-hour limit", json!({})).unwrap();
        let task = Task { prompt: "first".into(), words: 2, output: None };
        assert_eq!(unfinished(&path, "Continue where you stopped."), Some(task));
        assert_eq!(unfinished(&path, "what now?"), None);
        file.user("continue").unwrap();
        file.begun("word2").unwrap();
        file.tool_use("id", "echo").unwrap();
        file.tool_result("id", "out", false).unwrap();
        file.interrupted("[Request interrupted by user]").unwrap();
        let task = Task { prompt: "first".into(), words: 3, output: Some("out".into()) };
        assert_eq!(unfinished(&path, "continue"), Some(task));
        file.assistant("answer").unwrap();
        assert_eq!(unfinished(&path, "continue"), None);
    }
}
