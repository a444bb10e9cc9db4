//! Runs the hook commands of a settings file one after the other on a thread of its own.
//!
//! Takes events; starts child processes with the event's JSON on stdin. Owns these children and kills slow ones.
//! Ignores their output and exit status.

use std::collections::HashMap;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::demo_agent::identity::Identity;

/// A hook that takes longer is killed. Chosen: twice what our own hook may take (`hook::LIMIT`).
pub const LIMIT: Duration = Duration::from_secs(2);

/// The part of Claude Code's settings that matters here.
#[derive(Debug, Default, Deserialize)]
pub struct Settings {
    #[serde(default)]
    hooks: HashMap<String, Vec<Matcher>>,
}

#[derive(Debug, Deserialize)]
struct Matcher {
    /// Tool names divided by `|`; empty, `*` or missing is every tool. Only tool events have one.
    #[serde(default)]
    matcher: String,
    #[serde(default)]
    hooks: Vec<Hook>,
}

#[derive(Debug, Deserialize)]
struct Hook {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    command: String,
}

impl Settings {
    /// Reads a settings file, or the JSON itself when the argument is an object.
    pub fn read(argument: &str) -> Result<Self, String> {
        let text = if argument.trim_start().starts_with('{') {
            argument.to_owned()
        } else {
            std::fs::read_to_string(Path::new(argument))
                .map_err(|e| format!("could not read settings {argument}: {e}"))?
        };
        serde_json::from_str(&text).map_err(|e| format!("settings {argument} are not valid: {e}"))
    }

    fn commands(&self, event: &str, tool: Option<&str>) -> Vec<String> {
        let of_tool = |matcher: &Matcher| {
            matches!(matcher.matcher.as_str(), "" | "*")
                || tool.is_none_or(|tool| matcher.matcher.split('|').any(|m| m == tool))
        };
        let matchers = self.hooks.get(event).into_iter().flatten().filter(|matcher| of_tool(matcher));
        let hooks = matchers.flat_map(|matcher| &matcher.hooks).filter(|hook| hook.kind == "command");
        hooks.map(|hook| hook.command.clone()).collect()
    }
}

struct Job {
    commands: Vec<String>,
    event: String,
    /// Dropped when all commands have ended.
    _done: Sender<()>,
}

/// Where events go in; they are worked off in order.
#[derive(Debug)]
pub struct Hooks {
    settings: Settings,
    common: Value,
    jobs: Sender<Job>,
}

/// A queued event.
#[must_use]
pub struct Fired(Receiver<()>);

impl Fired {
    /// Waits until the event's hooks, and all before, have ended; each has at most [`LIMIT`].
    pub fn wait(self) {
        let _ = self.0.recv();
    }

    pub fn forget(self) {}
}

impl Hooks {
    pub fn new(settings: Settings, identity: &Identity) -> Self {
        let (jobs, work) = mpsc::channel::<Job>();
        std::thread::spawn(move || {
            for job in work {
                job.commands.iter().for_each(|command| run(command, &job.event));
            }
        });
        let common = json!({
            "session_id": identity.session_id,
            "transcript_path": identity.transcript,
            "cwd": identity.cwd,
        });
        Self { settings, common, jobs }
    }

    /// Hands an event over; `extra` are its own keys beside the common ones.
    pub fn fire(&self, name: &str, extra: Value) -> Fired {
        let (done, ended) = mpsc::channel();
        let commands = self.settings.commands(name, extra["tool_name"].as_str());
        if !commands.is_empty() {
            let mut event = self.common.clone();
            event["hook_event_name"] = json!(name);
            if let (Some(event), Value::Object(extra)) = (event.as_object_mut(), extra) {
                event.extend(extra);
            }
            let _ = self.jobs.send(Job { commands, event: event.to_string(), _done: done });
        }
        Fired(ended)
    }
}

fn run(command: &str, event: &str) {
    let deadline = Instant::now() + LIMIT;
    let spawned = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn();
    let Ok(mut child) = spawned else { return };
    if let Some(mut stdin) = child.stdin.take() {
        let event = event.to_owned();
        // On a thread of its own, for a hook need not read. It ends with the hook at the latest: that closes the pipe.
        std::thread::spawn(move || drop(stdin.write_all(event.as_bytes())));
    }
    if !ended_by(&mut child, deadline) {
        let _ = killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL);
        let _ = child.wait();
    }
}

fn ended_by(child: &mut Child, deadline: Instant) -> bool {
    // Doubles to 20 ms. Chosen: a hook takes a few milliseconds.
    let mut pause = Duration::from_millis(1);
    loop {
        match child.try_wait() {
            Ok(Some(_)) | Err(_) => return true,
            Ok(None) if Instant::now() >= deadline => return false,
            Ok(None) => std::thread::sleep(pause),
        }
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matchers_choose_by_tool() {
        let settings = Settings::read(
            r#"{"hooks":{"PreToolUse":[{"matcher":"Edit|Bash","hooks":[{"type":"command","command":"a"}]},
                {"matcher":"Edit","hooks":[{"type":"command","command":"b"}]},{"hooks":[{"type":"prompt"},{"type":"command","command":"c"}]}]}}"#,
        )
        .unwrap();
        assert_eq!(settings.commands("PreToolUse", Some("Bash")), ["a", "c"]);
        assert!(settings.commands("Stop", None).is_empty());
        assert!(Settings::read("{").is_err());
    }
}
