//! The conversation on disk, in Claude Code's record shape: one JSON object a line.
//!
//! In: what was said. Out: lines appended to `<uuid>.jsonl`, and the old lines of a conversation that is resumed.
//! It owns the file's end. It never rewrites a line.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use uuid::Uuid;

use super::Identity;
use super::status::private_dir;

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

    pub fn assistant(&mut self, text: &str) -> io::Result<()> {
        let message = self.message(MODEL, json!([{"type": "text", "text": text}]), text);
        self.append("assistant", message, json!({"requestId": format!("req_{}", Uuid::new_v4().simple())}))
    }

    pub fn tool_use(&mut self, id: &str, command: &str) -> io::Result<()> {
        let content = json!([{"type": "tool_use", "id": id, "name": "Bash", "input": {"command": command}}]);
        let message = self.message(MODEL, content, command);
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
        let message = self.message("<synthetic>", json!([{"type": "text", "text": text}]), "");
        self.append("assistant", message, extra)
    }

    fn message(&self, model: &str, content: Value, said: &str) -> Value {
        json!({
            "id": format!("msg_{}", Uuid::new_v4().simple()),
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": content,
            "stop_reason": "end_turn",
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
            "version": super::VERSION,
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
