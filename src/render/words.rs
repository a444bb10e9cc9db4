//! Text fragments shared by several renderers.

use std::fmt::Write as _;

use jiff::Timestamp;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::{
    model::{
        command::{RefusedKind, Verb},
        evidence::{Failure, Meaning, Signal, UNKNOWN_DIALOG, WaitingFor},
        ids::SessionName,
        session::{Activity, Session, SessionPhase},
        snapshot::Outcome,
    },
    render::{Picture, clean},
};

/// One value and a newline; nothing at all where there is no value.
#[must_use]
pub fn line(value: &str) -> String {
    if value.is_empty() { String::new() } else { format!("{}\n", clean(value).replace('\n', " ")) }
}

/// `90s`, `12m`, `3h`, `5d`.
#[must_use]
pub fn age(picture: &Picture, at: Timestamp) -> String {
    span(picture.shown(at), picture.shown(picture.now))
}

/// The time from one to another, so shortened.
#[must_use]
pub fn span(from: Timestamp, to: Timestamp) -> String {
    let seconds = to.duration_since(from).as_secs().max(0);
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7199 => format!("{}m", seconds / 60),
        7200..=172_799 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86400),
    }
}

/// A time to the second, for people.
#[must_use]
pub fn second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// `since 2026-01-01T00:00:00Z (12m)`.
#[must_use]
pub fn since(picture: &Picture, at: Timestamp) -> String {
    format!("since {} ({})", second(picture.shown(at)), age(picture, at))
}

/// `at 2026-01-01T00:00:00Z (in 12m)`.
#[must_use]
pub fn at(picture: &Picture, at: Timestamp) -> String {
    let (now, at) = (picture.shown(picture.now), picture.shown(at));
    format!("at {} (in {})", second(at), span(now, at))
}

/// One signal as a sentence: source, rule, matched text, age.
#[must_use]
pub fn signal(picture: &Picture, signal: &Signal) -> String {
    let meaning = match &signal.meaning {
        Meaning::Started { .. } => "started".to_owned(),
        Meaning::Idle => "idle".to_owned(),
        Meaning::Busy => "busy".to_owned(),
        Meaning::PromptTaken { .. } => "prompt taken".to_owned(),
        Meaning::Waiting { .. } if signal.rule == UNKNOWN_DIALOG => "waiting (an unknown dialog)".to_owned(),
        Meaning::Waiting { what } => format!("waiting ({})", kebab(what)),
        Meaning::TurnEnded { background, shells, .. } => turn_ended(*background, shells.len()),
        Meaning::TurnFailed { failure, message } => format!("turn failed ({}): {message}", failure_word(failure)),
        Meaning::Interrupted => "interrupted".to_owned(),
        Meaning::Used { .. } => "usage told".to_owned(),
        Meaning::Exited { .. } => "exited".to_owned(),
    };
    let source = signal.source;
    let text = if signal.text.is_empty() { String::new() } else { format!(", matched {:?}", clean(&signal.text)) };
    clean(&format!("{meaning}, from {source}, rule {}{text}, {} ago", signal.rule, age(picture, signal.at)))
        .replace('\n', " ")
}

fn turn_ended(background: u32, shells: usize) -> String {
    let plural = |count: usize, one: &str| if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") };
    match (usize::try_from(background).unwrap_or(usize::MAX), shells) {
        (0, 0) => "turn ended".to_owned(),
        (0, shells) => format!("turn ended, {} still running", plural(shells, "shell")),
        (agents, 0) => format!("turn ended, {} still at work", plural(agents, "sub-agent")),
        (agents, shells) => {
            format!(
                "turn ended, {} still at work, {} still running",
                plural(agents, "sub-agent"),
                plural(shells, "shell")
            )
        }
    }
}

fn failure_word(failure: &Failure) -> &'static str {
    match failure {
        Failure::Limit(limit) => limit.kind.word(),
        Failure::Server => "the provider's server",
        Failure::Login => "login lost",
        Failure::Request => "request",
        Failure::Refused => "prompt refused",
        Failure::Unknown => "unknown",
    }
}

/// The word that serde writes for a plain enum, with the word inside where there is one.
pub fn kebab(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(serde_json::Value::Object(map)) if map.len() == 1 => {
            map.iter().map(|(word, inside)| format!("{word} ({})", inside.as_str().unwrap_or_default())).collect()
        }
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}

/// What a person can do about an agent that waits for one.
#[must_use]
pub fn answer(what: WaitingFor, name: &SessionName) -> String {
    match what {
        WaitingFor::Permission | WaitingFor::Question | WaitingFor::Dialog => {
            format!("answer it: claude-failover attach {name}")
        }
        WaitingFor::Interrupted => {
            format!("say how it goes on: a text to sessions/{name}/input, or claude-failover attach {name}")
        }
    }
}

/// A session's `why` in one line, the cause first.
#[must_use]
pub fn short_why(picture: &Picture, session: &Session) -> String {
    match (&session.verdict.activity, &session.verdict.asked) {
        (Activity::Waiting(what), Some(asked)) => return format!("{what}: {}", one_line(asked)),
        (Activity::Waiting(WaitingFor::Interrupted), None) => {
            return "its turn was interrupted; a text to `input` lets it go on".to_owned();
        }
        (Activity::Waiting(WaitingFor::Permission | WaitingFor::Question | WaitingFor::Dialog), None)
        | (
            Activity::Unknown | Activity::Idle | Activity::Working | Activity::Stalled | Activity::Limited,
            Some(_) | None,
        ) => {}
    }
    match (session.verdict.evidence.first(), &session.phase) {
        (Some(first), _) => signal(picture, first),
        (None, SessionPhase::Down) if session.failures > 0 => {
            format!("starts in a row that failed: {}", session.failures)
        }
        (None, SessionPhase::Down) if session.rests => {
            format!("idle; last task ended {}", second(picture.shown(session.since)))
        }
        (None, phase) => phase_of(picture, phase),
    }
}

/// What runs in a session.
#[must_use]
pub fn phase_of(picture: &Picture, phase: &SessionPhase) -> String {
    match phase {
        SessionPhase::Down => "no program runs in it".to_owned(),
        SessionPhase::Starting(inc) => {
            let ago = age(picture, inc.started);
            format!("{} was started as pid {}, {ago} ago, and has not shown its prompt yet", inc.agent, inc.pid)
        }
        SessionPhase::Up(inc) => format!("{} runs as pid {}, {}", inc.agent, inc.pid, since(picture, inc.started)),
        SessionPhase::Ending(inc) => format!("{} (pid {}) is being ended", inc.agent, inc.pid),
        SessionPhase::Dead { incarnation: inc, exit, at } => {
            format!("{} (pid {}) ended ({exit}), {} ago", inc.agent, inc.pid, age(picture, *at))
        }
    }
}

/// A text in lines of at most so many columns, broken at blanks; those behind the first are indented by two more.
#[must_use]
pub fn wrapped(text: &str, indent: usize, width: usize) -> String {
    let mut out = " ".repeat(indent);
    let mut used = indent;
    for (n, word) in text.split_whitespace().enumerate() {
        if n > 0 && used + 1 + word.width() > width {
            let _ = write!(out, "\n{}", " ".repeat(indent + 2));
            used = indent + 2;
        } else if n > 0 {
            out.push(' ');
            used += 1;
        }
        out.push_str(word);
        used += word.width();
    }
    out.push('\n');
    out
}

/// Lines joined by ` / `, blanks made single.
#[must_use]
pub fn one_line(text: &str) -> String {
    let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" / ")
}

/// Columns padded to the widest cell. The last one is cut where its line would pass `width` columns; 0: never.
pub fn table(rows: &[Vec<String>], width: usize) -> String {
    /// Columns that the last one keeps in any case. Chosen: a cut name or sentence is still recognisable.
    const LEAST: usize = 12;
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let wide = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.width()).max();
    let widths: Vec<usize> = (0..columns).map(|column| wide(column).unwrap_or(0)).collect();
    let before: usize = widths.iter().rev().skip(1).map(|width| width + 2).sum();
    let room = if width == 0 { usize::MAX } else { width.saturating_sub(before).max(LEAST) };
    let mut out = String::new();
    for row in rows {
        let mut text = String::new();
        for (n, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let cell = if n + 1 == columns { cut(cell, room) } else { cell.clone() };
            let _ = write!(text, "{cell}{}", " ".repeat(width.saturating_sub(cell.width()) + 2));
        }
        out.push_str(text.trim_end());
        out.push('\n');
    }
    out
}

/// The text in at most so many columns of a terminal.
#[must_use]
pub fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut used = 1;
    let fits = |c: &char| {
        used += c.width().unwrap_or(0);
        used <= width
    };
    text.chars().take_while(fits).chain(['…']).collect()
}

/// What reading a control file gives: the verbs, then outcomes, newest last.
pub fn control<'a>(verbs: &[Verb], outcomes: impl Iterator<Item = &'a Outcome>) -> String {
    let mut out = String::new();
    for verb in verbs {
        let call = if verb.args.is_empty() { verb.name.to_owned() } else { format!("{} {}", verb.name, verb.args) };
        let _ = writeln!(out, "# {call:<14} {}", verb.help);
    }
    for outcome in outcomes {
        let writer = outcome.writer.as_ref().map_or_else(
            || "unknown writer".to_owned(),
            |writer| format!("uid {} pid {} {}", writer.uid, writer.pid, writer.program),
        );
        let result = match &outcome.result {
            Ok(text) if text.is_empty() || text == "ok" => "ok".to_owned(),
            Ok(text) => format!("ok: {text}"),
            Err((kind, text)) => format!("{}: {text}", errno_name(*kind)),
        };
        let text =
            format!("# {} {} ({}) {:?}: {result}", second(outcome.at), outcome.file, writer.trim(), outcome.text);
        let _ = writeln!(out, "{}", clean(&text).replace('\n', " "));
    }
    out
}

#[must_use]
pub fn errno_name(kind: RefusedKind) -> &'static str {
    match kind {
        RefusedKind::Invalid => "EINVAL",
        RefusedKind::NotFound => "ENOENT",
        RefusedKind::Busy => "EBUSY",
        RefusedKind::Unavailable => "ENXIO",
        RefusedKind::TryAgain => "EAGAIN",
        RefusedKind::Failed => "EIO",
        RefusedKind::Unclean => "EUCLEAN",
        RefusedKind::NotPermitted => "EPERM",
        RefusedKind::TooLong => "EMSGSIZE",
        RefusedKind::Full => "EDQUOT",
    }
}
