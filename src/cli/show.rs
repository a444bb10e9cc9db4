//! `status`, `tasks`, `sessions`, `accounts`: prints the mount's state as aligned text or JSON.
//! Reads `status.json`. Changes nothing.

use std::io::Write;

use jiff::Timestamp;
use serde_json::Value;

use super::{
    args::ShowArgs,
    exit::{Exit, Failure},
    mount::ANSWERS_WITHIN,
    place,
    status_file::{self, Account, Session, Task},
    table::{self, Cell, Style, Tone, paint},
};
use crate::{cli::io::Io, linux::term::window_size};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Status,
    Tasks,
    Sessions,
    Accounts,
}

/// # Errors
/// No daemon, or the output can't be written.
pub fn run(part: Part, args: &ShowArgs, io: &mut Io<'_>) -> Result<Exit, Failure> {
    let mount = place::mount(&args.mount, io);
    if args.json {
        json(part, &status_file::text(&mount, ANSWERS_WITHIN)?, io)?;
        return Ok(Exit::Ok);
    }
    let style = style(io);
    let now = Timestamp::now();
    let status = || status_file::read(&mount, ANSWERS_WITHIN);
    match part {
        Part::Status => coloured(&mount.read("status", ANSWERS_WITHIN)?, style, io.out)?,
        Part::Tasks => tasks(&status()?.tasks, now, style, io.out)?,
        Part::Sessions => sessions(&status()?.sessions, now, style, io.out)?,
        Part::Accounts => accounts(&status()?.accounts, style, io.out)?,
    }
    Ok(Exit::Ok)
}

fn json(part: Part, text: &str, io: &mut Io<'_>) -> Result<(), Failure> {
    let key = match part {
        Part::Status => {
            write!(io.out, "{}{}", text, if text.ends_with('\n') { "" } else { "\n" })?;
            return Ok(());
        }
        Part::Tasks => "tasks",
        Part::Sessions => "sessions",
        Part::Accounts => "accounts",
    };
    let all: Value = serde_json::from_str(text).map_err(|error| Failure::Failed(format!("status.json: {error}")))?;
    let part = all.get(key).cloned().unwrap_or_else(|| Value::Array(Vec::new()));
    writeln!(io.out, "{part:#}")?;
    Ok(())
}

/// Colours on a terminal unless `NO_COLOR` (no-color.org) or a dumb one asks for none.
fn style(io: &Io<'_>) -> Style {
    let set = |name: &str| (io.env)(name).is_some_and(|value| !value.is_empty());
    let dumb = (io.env)("TERM").is_some_and(|term| term == "dumb");
    Style { colour: io.terminal && !set("NO_COLOR") && !dumb, width: if io.terminal { columns(io) } else { None } }
}

fn columns(io: &Io<'_>) -> Option<usize> {
    let told = (io.env)("COLUMNS").and_then(|text| text.to_str()?.parse().ok());
    told.or_else(|| Some(window_size(&std::io::stdout())?.0)).filter(|columns| *columns >= 20)
}

/// How long ago, in one or two units; the text itself when it is no time.
fn age(since: &str, now: Timestamp) -> String {
    let Ok(since_time) = since.parse::<Timestamp>() else { return since.to_owned() };
    let seconds = now.as_second().saturating_sub(since_time.as_second()).max(0);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86400 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{:02}h", seconds / 86400, seconds % 86400 / 3600),
    }
}

fn tasks(tasks: &[Task], now: Timestamp, style: Style, out: &mut dyn Write) -> std::io::Result<()> {
    let several = tasks.iter().any(|task| task.project != tasks[0].project);
    let mut headings = vec!["TASK", "STATE", "AGE", "TRIES", "SESSION", "WHY"];
    if several {
        headings.insert(1, "PROJECT");
    }
    let rows: Vec<_> = tasks
        .iter()
        .map(|task| {
            let mut row = vec![
                Cell::plain(&task.id),
                Cell::state(&task.state),
                Cell::plain(age(&task.since, now)),
                Cell::plain(&task.attempts),
                Cell::plain(&task.session),
                Cell::plain(&task.why),
            ];
            if several {
                row.insert(1, Cell::plain(&task.project));
            }
            row
        })
        .collect();
    none_or_table(out, "no tasks", &headings, &rows, style)
}

fn sessions(sessions: &[Session], now: Timestamp, style: Style, out: &mut dyn Write) -> std::io::Result<()> {
    let rows: Vec<_> = sessions
        .iter()
        .map(|session| {
            let people = if session.attached > 0 { session.attached.to_string() } else { String::new() };
            vec![
                Cell::plain(&session.name),
                Cell::state(&session.state),
                Cell::plain(age(&session.since, now)),
                Cell::plain(&session.task),
                Cell::plain(&session.agent),
                Cell::plain(&session.account),
                Cell::plain(people),
                Cell::plain(&session.why),
            ]
        })
        .collect();
    let headings = ["SESSION", "STATE", "AGE", "TASK", "AGENT", "ACCOUNT", "ATTACHED", "WHY"];
    none_or_table(out, "no sessions", &headings, &rows, style)
}

fn accounts(accounts: &[Account], style: Style, out: &mut dyn Write) -> std::io::Result<()> {
    let rows: Vec<_> = accounts
        .iter()
        .map(|account| {
            let state = if account.state.is_empty() && account.active { "active" } else { &account.state };
            let used = if account.used.is_empty() { String::new() } else { format!("{}%", account.used) };
            vec![
                Cell::plain(&account.name),
                Cell::state(state),
                Cell::plain(&account.agent),
                Cell::plain(used),
                Cell::plain(&account.until),
                Cell::plain(&account.home),
                Cell::plain(&account.why),
            ]
        })
        .collect();
    none_or_table(out, "no accounts", &["ACCOUNT", "STATE", "AGENT", "USED", "UNTIL", "HOME", "WHY"], &rows, style)
}

/// The mount's `status`, with colours.
fn coloured(text: &str, style: Style, out: &mut dyn Write) -> std::io::Result<()> {
    for (n, line) in text.lines().enumerate() {
        // The first line begins with a state; in a table it is the second word.
        let place = usize::from(n > 0);
        let word = line.split_whitespace().nth(place).unwrap_or_default().trim_end_matches(',');
        let in_table = n == 0 || !line.starts_with(' ');
        let heading = !word.is_empty() && word.chars().all(|c| c.is_ascii_uppercase());
        let tone = if heading { Tone::Heading } else { Tone::of_state(word) };
        let line = table::clean(line);
        match (line.find(word), tone) {
            (_, Tone::Heading) => writeln!(out, "{}", paint(&line, tone, style))?,
            (Some(at), _) if in_table && tone != Tone::Plain => {
                let (before, rest) = line.split_at(at);
                writeln!(out, "{before}{}{}", paint(word, tone, style), &rest[word.len()..])?;
            }
            (Some(_) | None, _) => writeln!(out, "{line}")?,
        }
    }
    Ok(())
}

/// Whether a task's state is one of the last ones.
#[must_use]
pub fn finished(state: &str) -> bool {
    matches!(state, "done" | "failed" | "cancelled")
}

fn none_or_table(
    out: &mut dyn Write,
    none: &str,
    headings: &[&str],
    rows: &[Vec<Cell>],
    style: Style,
) -> std::io::Result<()> {
    if rows.is_empty() {
        return writeln!(out, "{}", paint(none, Tone::Dim, style));
    }
    table::write(out, headings, rows, style)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_short() {
        let now: Timestamp = "2025-01-02T00:00:00Z".parse().expect("time");
        for (since, shown) in [
            ("2025-01-01T23:59:55Z", "5s"),
            ("2025-01-01T23:58:55Z", "1m05s"),
            ("2025-01-01T20:58:00Z", "3h02m"),
            ("2024-12-30T20:58:00Z", "2d03h"),
            ("2025-01-03T00:00:00Z", "0s"),
            ("later", "later"),
            ("", ""),
        ] {
            assert_eq!(age(since, now), shown);
        }
    }
}
