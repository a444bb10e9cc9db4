//! `claude-failover hook`: the command that an agent's hooks call.
//!
//! Takes one JSON object on stdin; appends exactly one line to the session's hook log. Owns nothing. Never fails the
//! agent (the exit status is always 0; 2 would block the agent's turn), never writes to stdout (agents feed a hook's
//! stdout to the model) and never takes longer than [`LIMIT`]. As a status line (`status_line`) it prints what the
//! person's own status line would.

pub mod log;
mod status_line;

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};

use crate::hook::log::append;

/// The command exits after this time at the latest, also when a file system hangs. Chosen: agents wait for their
/// hooks; below a second nobody notices.
pub const LIMIT: Duration = Duration::from_millis(950);
/// How long to wait for the end of stdin, which an agent may leave open. Chosen: leaves time to write within `LIMIT`.
const READ_LIMIT: Duration = Duration::from_millis(700);
/// Once a whole JSON value has arrived, silence of this length counts as the end of stdin. Chosen: an agent writes it
/// in one go.
const QUIET: Duration = Duration::from_millis(100);
/// Bytes that are read; the rest is discarded. Chosen: above any hook's input but a huge tool result.
const MAX_INPUT: usize = 4 << 20;
/// Longer strings are truncated. Chosen: one tool result must not fill the log.
const MAX_STRING: usize = 256 << 10;
/// How much of an input that isn't JSON is kept. Chosen: enough for a person to recognise it.
const MAX_HEAD: usize = 1024;

/// The event name of a line whose input was no JSON object with a `hook_event_name`.
pub const UNREADABLE: &str = "Unreadable";

#[derive(Parser)]
#[command(name = "claude-failover hook", about = "Append one hook event from stdin to a session's hook log")]
struct Args {
    /// The session's hook log; created with mode 0600 when missing
    #[arg(long, value_name = "FILE")]
    log: PathBuf,
    /// The session's name, copied into the line
    #[arg(long, value_name = "NAME")]
    session: Option<String>,
    /// Be a status line: log what is used of the account, then go on as the one of this settings file
    #[arg(long, value_name = "FILE")]
    status_line: Option<PathBuf>,
}

/// Runs the command with the arguments after its name. Always succeeds; faults go to stderr only.
pub fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args = match Args::try_parse_from(std::iter::once(OsString::from("claude-failover hook")).chain(args)) {
        Ok(args) => args,
        Err(error) => {
            let _ = write!(io::stderr(), "{error}");
            return ExitCode::SUCCESS;
        }
    };
    // A write into a hung file system cannot be given a time limit, the process can.
    std::thread::spawn(|| {
        std::thread::sleep(LIMIT);
        std::process::exit(0);
    });
    let input = read_input(io::stdin(), Instant::now() + READ_LIMIT);
    if let Some(settings) = &args.status_line {
        let noted = status_line::note(&args.log, args.session.as_deref(), &input.bytes);
        if let Err(error) = noted.and_then(|()| status_line::go_on(settings, &input.bytes)) {
            let _ = writeln!(io::stderr(), "claude-failover hook: the status line failed: {error}");
        }
        return ExitCode::SUCCESS;
    }
    let (event, data) = parse(&input);
    if let Err(error) = append(&args.log, args.session.as_deref(), &event, &data) {
        let _ = writeln!(
            io::stderr(),
            "claude-failover hook: could not append {event} to {}: {error}; the event is lost",
            args.log.display()
        );
    }
    ExitCode::SUCCESS
}

struct Input {
    bytes: Vec<u8>,
    /// Why `bytes` is not the whole of what the agent wrote.
    cut: Option<&'static str>,
}

fn read_input(mut stdin: impl Read + AsFd, deadline: Instant) -> Input {
    let mut bytes = Vec::new();
    let mut chunk = [0; 64 << 10];
    let mut cut = None;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Input { bytes, cut: cut.or(Some("stdin was still open when the time was over")) };
        }
        let wait = if bytes.is_empty() { left } else { left.min(QUIET) };
        let timeout = PollTimeout::try_from(wait.max(Duration::from_millis(1))).unwrap_or(PollTimeout::ZERO);
        match poll(&mut [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) if cut.is_none() && is_json(&bytes) => return Input { bytes, cut: None },
            Ok(0) | Err(Errno::EINTR) => continue,
            Ok(_) => {}
            Err(_) => return Input { bytes, cut: Some("stdin cannot be polled") },
        }
        match stdin.read(&mut chunk) {
            Ok(0) => return Input { bytes, cut },
            Ok(n) => {
                let room = MAX_INPUT - bytes.len();
                if n > room {
                    cut = Some("the input is longer than 4 MiB");
                }
                bytes.extend_from_slice(&chunk[..n.min(room)]);
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
            Err(_) => return Input { bytes, cut: Some("stdin cannot be read") },
        }
    }
}

fn is_json(bytes: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok()
}

/// The event's name and its data. Input that was cut keeps the members that arrived whole, so that a huge tool result
/// does not hide which event it was; input that arrived whole but is no JSON object is not guessed at.
fn parse(input: &Input) -> (String, Value) {
    let text = String::from_utf8_lossy(&input.bytes);
    let mut members = Map::new();
    let parsed = Members(&mut members).deserialize(&mut serde_json::Deserializer::from_str(&text));
    let reason = match (parsed, input.cut) {
        (Ok(()), None) => None,
        (Ok(()) | Err(_), Some(cut)) => Some(cut.to_owned()),
        (Err(_), None) if text.trim().is_empty() => Some("nothing on stdin".to_owned()),
        (Err(error), None) => {
            members.clear();
            Some(error.to_string())
        }
    };
    let event = members.get("hook_event_name").and_then(Value::as_str).map(str::to_owned);
    if let Some(reason) = reason {
        members.insert("hook_input_error".to_owned(), Value::String(reason));
    }
    if event.is_none() {
        members.insert("hook_input_head".to_owned(), Value::String(head(&text, MAX_HEAD).to_owned()));
    }
    let mut data = Value::Object(members);
    cut_strings(&mut data);
    (event.unwrap_or_else(|| UNREADABLE.to_owned()), data)
}

/// Reads an object's members one by one into a map that stays filled when the text ends too early.
struct Members<'a>(&'a mut Map<String, Value>);

impl<'de> DeserializeSeed<'de> for Members<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = ();
    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("a JSON object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            let value = map.next_value::<Value>()?;
            self.0.insert(key, value);
        }
        Ok(())
    }
}

fn cut_strings(value: &mut Value) {
    match value {
        Value::String(text) => {
            if text.len() > MAX_STRING {
                let kept = head(text, MAX_STRING).len();
                let dropped = text.len() - kept;
                text.truncate(kept);
                text.push_str(&format!("…[cut: {dropped} bytes left out]"));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(cut_strings),
        Value::Object(members) => members.values_mut().for_each(cut_strings),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The longest beginning of `text` that is no longer than `limit` bytes and ends between characters.
fn head(text: &str, limit: usize) -> &str {
    let mut end = limit.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn input(text: &str, cut: Option<&'static str>) -> Input {
        Input { bytes: text.as_bytes().to_vec(), cut }
    }

    #[test]
    fn cut_input_keeps_its_whole_members_and_nested_names_do_not_count() {
        let (event, data) = parse(&input(r#"{"hook_event_name":"PostToolUse","tool_response":"aaa"#, Some("cut")));
        assert_eq!(event, "PostToolUse");
        assert_eq!(data["hook_input_error"], "cut");
        let (event, _) = parse(&input(r#"{"tool_input":{"hook_event_name":"Stop"},"x":"#, Some("cut")));
        assert_eq!(event, UNREADABLE);
    }

    #[test]
    fn whole_input_that_is_no_json_is_not_guessed_at() {
        let (event, data) = parse(&input(r#"{"hook_event_name":"Stop",}"#, None));
        assert_eq!(event, UNREADABLE);
        assert!(data["hook_input_head"].as_str().unwrap().contains("Stop"));
        assert_eq!(parse(&input("", None)).1["hook_input_error"], "nothing on stdin");
    }

    #[test]
    fn long_strings_are_cut_between_characters() {
        let long = format!("x{}", "é".repeat(MAX_STRING));
        let (_, data) = parse(&input(&json!({"hook_event_name": "Stop", "a": [long]}).to_string(), None));
        let text = data["a"][0].as_str().unwrap();
        assert!(text.len() < MAX_STRING + 64 && text.contains("[cut: "), "{}", text.len());
    }

    #[test]
    fn a_line_after_half_a_line_starts_on_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("s.jsonl");
        std::fs::write(&log, "{\"half").unwrap();
        append(&log, Some("s"), "Stop", &json!({})).unwrap();
        let text = std::fs::read_to_string(&log).unwrap();
        assert!(text.starts_with("{\"half\n{\"at\":"), "{text}");
    }
}
