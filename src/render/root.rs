//! Renders the root's `health` and `control`.

use std::fmt::Write as _;

use crate::{
    model::command::DAEMON_VERBS,
    render::{Picture, clean, words},
};

#[must_use]
pub fn health(picture: &Picture) -> String {
    let reasons = &picture.snapshot.health;
    if reasons.is_empty() {
        return "ok\n".to_owned();
    }
    let mut out = String::from("degraded\n");
    for (topic, problem) in reasons {
        let _ = writeln!(out, "{}", clean(&format!("{topic}: {problem}")).replace('\n', " "));
    }
    out
}

/// What the problems are about, without what is said of them.
#[must_use]
pub fn topics(picture: &Picture) -> Vec<String> {
    picture.snapshot.health.keys().map(|topic| clean(topic)).collect()
}

/// What agents that are gone left running, a process a line; empty when there is nothing.
#[must_use]
pub fn leftovers(picture: &Picture) -> String {
    let found = picture.snapshot.leftovers.iter().flat_map(|found| found.iter());
    let mut rows: Vec<Vec<String>> = found
        .map(|one| {
            let task = picture.snapshot.starts.get(&one.token).map(|task| picture.snapshot.display_id(task));
            vec![
                one.pid.to_string(),
                words::second(picture.shown(one.since)).to_string(),
                one.session.to_string(),
                task.unwrap_or_else(|| "-".to_owned()),
                clean(&one.command).replace(['\n', '\t'], " "),
            ]
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    rows.insert(0, ["PID", "SINCE", "SESSION", "TASK", "COMMAND"].map(str::to_owned).into());
    words::table(&rows, 0)
}

#[must_use]
pub fn control(picture: &Picture) -> String {
    words::control(DAEMON_VERBS, picture.snapshot.outcomes.iter())
}
