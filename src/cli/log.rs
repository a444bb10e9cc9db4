//! `log ID [-f]`: prints what happened to a task, and its result.
//! Reads the task's directory in the mount, else its file in `done/` or `failed/`; prints its events as lines, then
//! the result, or the screen of the agent working on it. Changes nothing.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    args::LogArgs,
    exit::{Exit, Failure},
    mount::{ANSWERS_WITHIN, Mount},
    place, show,
    status_file::{self, Status},
    table::clean,
};
use crate::{cli::io::Io, model::footer::without_result};

/// How often a followed task is polled. Chosen: looks immediate to a person.
const EVERY: Duration = Duration::from_millis(250);

/// What the mount holds of a task.
#[derive(Debug, Default)]
struct Seen {
    /// Lines of its `events`.
    events: Vec<Value>,
    state: String,
    /// The file with its result, once it is finished.
    result: Option<String>,
    /// What the agent at work on it shows.
    screen: Option<String>,
}

/// # Errors
/// No daemon, or no such task.
pub fn run(args: &LogArgs, io: &mut Io<'_>) -> Result<Exit, Failure> {
    let mount = place::mount(&args.mount, io);
    let mut shown = 0;
    let seen = loop {
        let seen = look(&mount, &args.id)?;
        if !args.json {
            for line in seen.events.iter().filter(|line| seq(line) > shown) {
                writeln!(io.out, "{}", event(line))?;
            }
        }
        shown = seen.events.iter().map(seq).max().unwrap_or(shown).max(shown);
        if !args.follow || show::finished(&seen.state) || seen.state == "rejected" {
            break seen;
        }
        io.out.flush()?;
        std::thread::sleep(EVERY);
    };
    if args.json {
        let result = seen.result.as_deref().map(result);
        let all =
            json!({"id": args.id, "state": seen.state, "events": seen.events, "result": result, "screen": seen.screen});
        writeln!(io.out, "{all:#}")?;
        return Ok(Exit::Ok);
    }
    match (&seen.result, &seen.screen) {
        (Some(text), _) => lines(result(text), io.out)?,
        (None, Some(screen)) => {
            writeln!(io.out, "\nThe agent's screen now:\n")?;
            lines(screen.trim_end(), io.out)?;
        }
        (None, None) => {}
    }
    Ok(Exit::Ok)
}

fn look(mount: &Mount, id: &str) -> Result<Seen, Failure> {
    let status = status_file::read(mount, ANSWERS_WITHIN)?;
    let wanted = id.strip_suffix(".md").unwrap_or(id).to_owned();
    let seen = mount.look(ANSWERS_WITHIN, move |dir| found(dir, &status, &wanted))?;
    let none = || format!("there is no task {}; `claude-failover tasks` lists them", clean(id));
    seen.ok_or_else(|| Failure::Failed(none()))
}

fn found(mount: &Path, status: &Status, id: &str) -> Option<Seen> {
    let places: Vec<(PathBuf, &str)> = status
        .queues
        .iter()
        .filter_map(|queue| {
            let own = id.strip_prefix(&queue.project).and_then(|rest| rest.strip_prefix(':')).unwrap_or(id);
            (!own.contains('/')).then(|| (mount.join("projects").join(&queue.project), own))
        })
        .collect();
    let listed = places.iter().map(|(queue, own)| queue.join("tasks").join(own)).find(|dir| dir.join("state").exists());
    let read = |path: PathBuf| fs::read_to_string(path).ok();
    let Some(dir) = listed else {
        let file = |kind: &'static str| {
            let path = places.iter().map(|(queue, own)| queue.join(kind).join(format!("{own}.md"))).find_map(read)?;
            Some(Seen { state: kind.to_owned(), result: Some(path), ..Seen::default() })
        };
        return file("done").or_else(|| file("failed"));
    };
    let state = read(dir.join("state"))?.trim_end().to_owned();
    let events = read(dir.join("events")).unwrap_or_default();
    let finished = show::finished(&state);
    let session = read(dir.join("session")).map(|name| name.trim_end().to_owned()).filter(|name| !name.is_empty());
    Some(Seen {
        events: events.lines().filter_map(|line| serde_json::from_str(line).ok()).collect(),
        result: finished.then(|| read(dir.join("result.md"))).flatten(),
        screen: session
            .filter(|_| state == "working")
            .and_then(|name| read(mount.join("sessions").join(name).join("pane"))),
        state,
    })
}

/// What the file has below the task's own text.
fn result(text: &str) -> &str {
    text[without_result(text.as_bytes()).len()..].trim()
}

fn seq(line: &Value) -> u64 {
    line["seq"].as_u64().unwrap_or(0)
}

/// `20:14:03  queued`, in the local zone.
fn event(line: &Value) -> String {
    let word = |key: &str| line[key].as_str().unwrap_or_default();
    let time = match word("time").parse::<Timestamp>() {
        Ok(time) => time.to_zoned(jiff::tz::TimeZone::system()).strftime("%H:%M:%S").to_string(),
        Err(_) => word("time").to_owned(),
    };
    format!("{time}  {}", clean(word("text")))
}

fn lines(text: &str, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out)?;
    text.lines().try_for_each(|line| {
        let kept: Vec<String> = line.split('\t').map(clean).collect();
        writeln!(out, "{}", kept.join("\t"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_found_where_it_stands() {
        let dir = tempfile::tempdir().expect("tmp");
        let put = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
            fs::write(path, text).expect("write");
        };
        put("projects/web/tasks/a/state", "working\n");
        put("projects/web/tasks/a/session", "s-1\n");
        put("projects/web/tasks/a/events", "{\"seq\":3,\"time\":\"x\",\"text\":\"queued \\u001b[2J\"}\n");
        put("sessions/s-1/pane", "hello\n");
        put("projects/web/done/old.md", "do it\n");
        let status: Status = serde_json::from_str(r#"{"queues":[{"project":"web"}]}"#).expect("json");
        let seen = found(dir.path(), &status, "web:a").expect("found");
        assert_eq!((seen.state.as_str(), seen.screen.as_deref()), ("working", Some("hello\n")));
        assert_eq!(event(&seen.events[0]), "x  queued \\u{1b}[2J");
        assert_eq!(found(dir.path(), &status, "old").expect("found").state, "done");
        assert!(found(dir.path(), &status, "none").is_none());
        assert!(found(dir.path(), &status, "../../x").is_none());
    }
}
