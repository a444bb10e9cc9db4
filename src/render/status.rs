//! `status`: everything at a glance, for people.

use std::fmt::Write as _;

use crate::render::{Picture, clean, swap, words};

/// Longest cell of foreign text, in characters.
const CELL_MAX: usize = 60;

#[must_use]
pub fn status(picture: &Picture) -> String {
    let snapshot = picture.snapshot;
    let now = picture.now;
    let mut out = if snapshot.health.is_empty() { "ok".to_owned() } else { "degraded".to_owned() };
    if snapshot.paused {
        out.push_str(", paused: nothing is dispatched");
    }
    let _ = writeln!(out, ", up {}", words::age(now, snapshot.since));
    for (topic, problem) in &snapshot.health {
        let _ = writeln!(out, "  {}", cell(&format!("{topic}: {problem}"), 200));
    }
    for line in swap::lines(picture) {
        let _ = writeln!(out, "  {}", cell(&line, 200));
    }

    let mut rows =
        vec![heading(&["QUEUE", "QUEUED", "HELD", "WORKING", "DELEGATED", "REJECTED", "DONE", "FAILED", "PATH"])];
    for project in snapshot.projects.iter() {
        let [held, queued, rejected, working, delegated] = snapshot.open_counts(&project.name);
        let numbers = [queued, held, working, delegated, rejected, project.counts.done, project.counts.failed];
        let mut row = vec![project.name.to_string()];
        row.extend(numbers.iter().map(u64::to_string));
        row.push(cell(&project.path.to_string_lossy(), 200));
        rows.push(row);
    }
    section(&mut out, &rows);

    let mut rows = vec![heading(&["SESSION", "STATE", "AGE", "TASK", "AGENT", "ACCOUNT", "WHY"])];
    for session in snapshot.shown_sessions() {
        let incarnation = session.phase.incarnation();
        rows.push(vec![
            session.name.to_string(),
            session.word().to_owned(),
            words::age(now, session.since),
            session.task.as_ref().map_or_else(dash, |assigned| cell(&snapshot.display_id(&assigned.task), CELL_MAX)),
            incarnation.map_or_else(dash, |inc| inc.agent.to_string()),
            incarnation.and_then(|inc| inc.account.as_ref()).map_or_else(dash, ToString::to_string),
            cell(&words::short_why(picture, session), CELL_MAX),
        ]);
    }
    section(&mut out, &rows);

    let mut rows = vec![heading(&["ACCOUNT", "STATE", "AGENT", "USED", "UNTIL", "HOME"])];
    for one in snapshot.accounts.iter() {
        rows.push(vec![
            one.name.to_string(),
            one.word().to_owned(),
            one.agent.to_string(),
            one.usage.used_percent(now).map_or_else(dash, |used| format!("{used}%")),
            one.until().map_or_else(dash, |until| words::second(until).to_string()),
            cell(&one.home.to_string_lossy(), 200),
        ]);
    }
    section(&mut out, &rows);
    out
}

fn section(out: &mut String, rows: &[Vec<String>]) {
    if rows.len() > 1 {
        out.push('\n');
        out.push_str(&words::table(rows));
    }
}

fn heading(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn dash() -> String {
    "-".to_owned()
}

/// One line of at most `max` characters.
fn cell(text: &str, max: usize) -> String {
    let text = clean(text).replace(['\n', '\t'], " ");
    if text.chars().count() <= max { text } else { text.chars().take(max - 1).chain(['…']).collect() }
}
