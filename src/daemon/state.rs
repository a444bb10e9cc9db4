//! `claude-failover state`: prints, backs up and restores the saved state.
//! Takes a state directory; prints JSON lines or writes private files. Changes nothing except with `--restore`, which
//! refuses while a daemon runs.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::{
    cli::{Exit, StateArgs},
    config::paths,
    linux::{
        dirs::{Over, open_dir, write_whole},
        lock::Lock,
    },
    live,
    model::{
        journal::{Loss, carry_over, number, read_checkpoint, records, recover},
        provider::Delegation,
    },
    sys::state::{CHECKPOINT, JOURNAL, StateDir, read, set_aside},
};

/// How often `--follow` polls. Chosen: looks immediate to a person.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Carries out the command.
#[must_use]
pub fn main(args: &StateArgs) -> Exit {
    let dir = paths::state_dir(&paths::process_env);
    let done = match (&args.backup, &args.restore) {
        (Some(file), _) => backup(&dir, file),
        (None, Some(file)) => restore(&dir, file),
        (None, None) => show(&dir, args.follow, &mut io::stdout().lock()),
    };
    match done {
        Ok(()) => Exit::Ok,
        Err(text) => {
            eprintln!("claude-failover: {text}");
            Exit::Failed
        }
    }
}

/// The checkpoint, then the journal's records, a line each.
fn show(dir: &Path, follow: bool, out: &mut dyn Write) -> Result<(), String> {
    let (mut last, mut seen) = (None, None);
    loop {
        let now = facts(dir);
        if seen != Some(now) {
            seen = Some(now);
            let stored = read(dir).map_err(|error| format!("{} can't be read: {error}", dir.display()))?;
            let checkpoint = match &stored.checkpoint {
                None if !follow => return Err(format!("nothing is saved in {}", dir.display())),
                None => None,
                Some(bytes) => Some(read_checkpoint(bytes).map_err(|error| error.to_string())?),
            };
            if let Some(checkpoint) = checkpoint.filter(|checkpoint| last.is_none_or(|last| number(checkpoint) > last))
            {
                line(out, &checkpoint)?;
                last = Some(number(&checkpoint));
            }
            for record in records(&stored.journal) {
                if last.is_some_and(|last| record.seq > last) {
                    line(out, &record)?;
                    last = Some(record.seq);
                }
            }
            let found = recover(stored.checkpoint.as_deref(), &stored.journal).map_err(|error| error.to_string())?;
            match found.loss {
                Some(loss @ Loss::Damaged { .. }) => return Err(loss.to_string()),
                // Of a running daemon's it is the record that is being written.
                Some(Loss::Torn { .. }) | None => {}
            }
        }
        if !follow {
            return Ok(());
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Characters shown of a session's token. Chosen: tells tokens apart and is useless as one.
const TOKEN_SHOWN: usize = 8;

fn line(out: &mut dyn Write, value: &impl Serialize) -> Result<(), String> {
    let value = serde_json::to_value(value).map_err(|error| error.to_string())?;
    let mut tokens = Vec::new();
    gather(&value, &mut tokens);
    let short = |token: &String| token.chars().take(TOKEN_SHOWN).collect::<String>();
    let text = tokens.iter().fold(value.to_string(), |text, token| text.replace(token, &short(token)));
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(Exit::Ok as i32),
        written => written.map_err(|error| format!("can't write the output: {error}")),
    }
}

/// What differs when something was saved since.
fn facts(dir: &Path) -> [Option<(u64, SystemTime)>; 2] {
    [CHECKPOINT, JOURNAL].map(|name| {
        let facts = dir.join(name).metadata().ok()?;
        Some((facts.len(), facts.modified().ok()?))
    })
}

fn backup(dir: &Path, file: &Path) -> Result<(), String> {
    let stored = read(dir).map_err(|error| format!("{} can't be read: {error}", dir.display()))?;
    let found = recover(stored.checkpoint.as_deref(), &stored.journal).map_err(|error| error.to_string())?;
    if let Some(loss @ Loss::Damaged { .. }) = found.loss {
        return Err(format!("{loss}; copy the files of {} themselves", dir.display()));
    }
    let state = found.state.ok_or_else(|| format!("nothing is saved in {}", dir.display()))?;
    let json = serde_json::to_vec_pretty(&state).map_err(|error| error.to_string())?;
    let (parent, name) = place(file)?;
    let written = open_dir(&parent).and_then(|parent| write_whole(parent, &name, &json, Over::Never));
    written.map_err(|error| format!("the backup can't be written to {}: {error}", file.display()))?;
    println!("{} holds the state up to record {}", file.display(), number(&state));
    Ok(())
}

fn restore(dir: &Path, file: &Path) -> Result<(), String> {
    let bytes = std::fs::read(file).map_err(|error| format!("{} can't be read: {error}", file.display()))?;
    let of_file = |error: &dyn std::error::Error| format!("{} is no backup: {error}", file.display());
    let mut state = read_checkpoint(&bytes).map_err(|error| of_file(&error))?;
    // Who worked on what when it was made says nothing of now: nothing may run twice.
    carry_over(&mut state);
    let json = serde_json::to_vec_pretty(&state).map_err(|error| of_file(&error))?;
    live::load(Some(state), Vec::new(), Vec::new(), Delegation::default(), String::new(), Timestamp::now())
        .map_err(|error| of_file(&error))?;
    let in_dir = |error: io::Error| format!("{} can't be changed: {error}", dir.display());
    StateDir::make(dir).map_err(in_dir)?;
    let _lock = Lock::take(&dir.join("lock")).map_err(|error| error.to_string())?;
    let aside = set_aside(dir, "replaced").map_err(in_dir)?;
    write_whole(open_dir(dir).map_err(in_dir)?, CHECKPOINT, &json, Over::Replace).map_err(in_dir)?;
    if !aside.is_empty() {
        println!("what was there is kept as {aside} in {}", dir.display());
    }
    println!(
        "{} is restored: what people said by verb, notices, the clock. Tasks with a claim marker wait for a person (`why` tells)",
        file.display()
    );
    Ok(())
}

/// A file's directory and name.
fn place(file: &Path) -> Result<(PathBuf, String), String> {
    let name =
        file.file_name().and_then(|name| name.to_str()).ok_or_else(|| format!("{} names no file", file.display()))?;
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok((parent.canonicalize().map_err(|error| format!("{}: {error}", parent.display()))?, name.to_owned()))
}

/// What is saved, for a report of a fault: with the length of each task's text in its place, and the secrets that are in it.
///
/// # Errors
/// In words, when nothing of it can be read.
pub fn reported(dir: &Path) -> Result<(String, Vec<String>), String> {
    let stored = read(dir).map_err(|error| format!("{} can't be read: {error}", dir.display()))?;
    let found = recover(stored.checkpoint.as_deref(), &stored.journal).map_err(|error| error.to_string())?;
    let loss = found.loss.map(|loss| format!("\n{loss}")).unwrap_or_default();
    let Some(state) = found.state else { return Ok((format!("nothing is saved{loss}"), Vec::new())) };
    let mut state = serde_json::to_value(&state).map_err(|error| error.to_string())?;
    let mut tokens = Vec::new();
    gather(&state, &mut tokens);
    leave_out(&mut state);
    let json = serde_json::to_string_pretty(&state).map_err(|error| error.to_string())?;
    Ok((json + &loss, tokens))
}

/// Keys of the state whose values are texts of tasks, of agents, of people.
const TEXTS: [&str; 4] = ["texts", "screen", "message", "output"];

/// The secrets of sessions.
fn gather(value: &Value, tokens: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, field) in fields {
                match (key.as_str(), field) {
                    ("token", Value::String(token)) if !token.is_empty() => tokens.push(token.clone()),
                    ("starts", Value::Object(starts)) => tokens.extend(starts.keys().cloned()),
                    _ => {}
                }
                gather(field, tokens);
            }
        }
        Value::Array(fields) => fields.iter().for_each(|field| gather(field, tokens)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn leave_out(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (key, field) in fields {
                if TEXTS.contains(&key.as_str()) { shorten(field) } else { leave_out(field) }
            }
        }
        Value::Array(fields) => fields.iter_mut().for_each(leave_out),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn shorten(value: &mut Value) {
    match value {
        Value::String(text) => *text = format!("({} bytes)", text.len()),
        Value::Object(fields) => fields.values_mut().for_each(shorten),
        Value::Array(fields) => fields.iter_mut().for_each(shorten),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
