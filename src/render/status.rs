//! Renders `status`: an overview for people in 80 columns. `claude-failover status` prints the same.

use std::fmt::Write as _;

use crate::{
    model::{
        session::{Activity, Role, Session},
        task::{Phase, Task},
    },
    render::{Picture, clean, swap, task as task_files, words},
};

/// Columns of a plain terminal.
const WIDTH: usize = 80;
/// Longest name in a column that isn't the last. Chosen: three such columns leave room in `WIDTH`.
const NAME_MAX: usize = 24;
/// Unfinished tasks listed; `claude-failover tasks` has all. Chosen: with the sessions it fits on a screen.
const TASKS_MAX: usize = 20;

#[must_use]
pub fn status(picture: &Picture) -> String {
    let snapshot = picture.snapshot;
    let now = picture.now;
    let mut out = if snapshot.health.is_empty() { "ok".to_owned() } else { "degraded".to_owned() };
    let waiting: Vec<_> = snapshot.shown_sessions().filter(|session| waits(session)).collect();
    match waiting.len() {
        0 => {}
        1 => out.push_str(", 1 session waits for a person"),
        n => {
            let _ = write!(out, ", {n} sessions wait for a person");
        }
    }
    if snapshot.paused {
        out.push_str(", paused: nothing is dispatched");
    }
    let _ = writeln!(out, ", up {}", words::age(picture, snapshot.since));
    for session in waiting {
        let asked = words::short_why(picture, session);
        let asked = format!("  {} for {}: {asked}", session.name, words::age(picture, session.stated.since));
        let _ = writeln!(out, "{}", words::cut(&line(&asked), WIDTH));
        let _ = writeln!(out, "    answer it: claude-failover attach {}", session.name);
    }
    for (topic, problem) in &snapshot.health {
        out.push_str(&told(&format!("{topic}: {problem}")));
    }
    let left = snapshot.leftovers.as_ref().map_or(0, |found| found.len());
    if left > 0 {
        let _ = writeln!(out, "  LEFT RUNNING {left} by agents that are gone: see the mount's leftovers");
    }
    for text in swap::lines(picture) {
        out.push_str(&told(&text));
    }

    for (project, files) in &snapshot.ignored {
        let _ = writeln!(out, "  IGNORED {} in the inbox of {project}:", files.len());
        for file in files.iter().take(3) {
            out.push_str(&words::wrapped(&line(&format!("{}: {}", file.name, file.why)), 4, WIDTH));
        }
        if files.len() > 3 {
            let _ = writeln!(out, "    … (`cat projects/{project}/status`)");
        }
    }

    let mut rows = vec![heading(&["PROJECT", "QUEUED", "HELD", "WORKING", "DELEGATED", "REJECTED", "DONE", "FAILED"])];
    for project in snapshot.projects.iter() {
        let [held, queued, rejected, working, delegated] = snapshot.tasks.open_counts(&project.name);
        let numbers = [queued, held, working, delegated, rejected, project.counts.done, project.counts.failed];
        let mut row = vec![name(project.name.as_str())];
        row.extend(numbers.iter().map(u64::to_string));
        rows.push(row);
    }
    section(&mut out, &rows);

    let mut rows = vec![heading(&["SESSION", "STATE", "AGE", "TASK", "ACCOUNT", "WHY"])];
    for session in snapshot.shown_sessions() {
        let account = session.phase.incarnation().and_then(|inc| inc.account.as_ref());
        rows.push(vec![
            name(session.name.as_str()),
            session.word().to_owned(),
            words::age(picture, session.stated.since),
            session.task.as_ref().map_or_else(dash, |assigned| name(&snapshot.display_id(&assigned.task))),
            account.map_or_else(dash, |account| name(account.as_str())),
            line(&words::short_why(picture, session)),
        ]);
    }
    section(&mut out, &rows);

    let mut rows = vec![heading(&["ACCOUNT", "STATE", "AGENT", "USED", "UNTIL"])];
    for one in snapshot.accounts.iter() {
        rows.push(vec![
            name(one.name.as_str()),
            one.word().to_owned(),
            name(one.agent.as_str()),
            one.usage.used_percent(now).map_or_else(dash, |used| format!("{used}%")),
            one.until().map_or_else(dash, |until| words::second(picture.shown(until)).to_string()),
        ]);
    }
    section(&mut out, &rows);

    let open = snapshot.tasks.values().filter(|task| !matches!(task.phase, Phase::Finished(_)));
    let mut rows = vec![heading(&["TASK", "STATE", "AGE", "WHERE", "WHY"])];
    rows.extend(open.take(TASKS_MAX).map(|task| task_row(picture, task)));
    section(&mut out, &rows);
    let more = snapshot.tasks.open().saturating_sub(TASKS_MAX);
    if more > 0 {
        let _ = writeln!(out, "and {more} more: claude-failover tasks");
    }
    out
}

fn task_row(picture: &Picture, task: &Task) -> Vec<String> {
    let place = task_files::place(task);
    vec![
        name(&picture.snapshot.display_id(&task.key)),
        task.phase.word().to_owned(),
        words::age(picture, task.since),
        if place.is_empty() { dash() } else { name(&place) },
        line(&task_files::reason(picture, task)),
    ]
}

/// Whether it goes no further until a person does something.
fn waits(session: &Session) -> bool {
    matches!(session.verdict.activity, Activity::Waiting(_)) && session.role != Role::Dedicated
}

fn section(out: &mut String, rows: &[Vec<String>]) {
    if rows.len() > 1 {
        out.push('\n');
        out.push_str(&words::table(rows, WIDTH));
    }
}

fn heading(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn dash() -> String {
    "-".to_owned()
}

/// A sentence of the head, all of it.
fn told(text: &str) -> String {
    words::wrapped(&line(text), 2, WIDTH)
}

fn line(text: &str) -> String {
    clean(text).replace(['\n', '\t'], " ")
}

fn name(text: &str) -> String {
    words::cut(&line(text), NAME_MAX)
}
