//! `health` and `control` at the root.

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

#[must_use]
pub fn control(picture: &Picture) -> String {
    words::control(DAEMON_VERBS, picture.snapshot.outcomes.iter())
}
