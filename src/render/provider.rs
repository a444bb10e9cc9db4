//! Renders `providers/<name>/`.
//! Takes a snapshot and a provider; returns single values, sentences or JSON without control characters. Reads and
//! keeps nothing.

use std::fmt::Write as _;

use serde_json::json;

use crate::{
    model::{
        provider::{Job, Provider},
        task::Task,
    },
    render::{Picture, clean, json_text, words},
};

#[must_use]
pub fn state(_: &Picture, provider: &Provider) -> String {
    words::line(provider.standing.word())
}

#[must_use]
pub fn why(picture: &Picture, provider: &Provider) -> String {
    let mut out = format!("{} {}\n", provider.standing.word(), words::since(picture, provider.since));
    if let Some(why) = provider.standing.why() {
        let _ = writeln!(out, "{}", why.replace('\n', " "));
    }
    if let Some(until) = provider.until() {
        let _ = writeln!(out, "tried again {}", words::at(picture, until));
    }
    clean(&out)
}

#[must_use]
pub fn jobs(picture: &Picture, provider: &Provider) -> String {
    let line = |(task, job): (&Task, &Job)| {
        let id = job.id.as_deref().unwrap_or("-");
        words::line(&format!("{} {id} {}", picture.snapshot.display_id(&task.key), picture.shown(job.claimed)))
    };
    own(picture, provider).map(line).collect()
}

#[must_use]
pub fn counters(picture: &Picture, provider: &Provider) -> String {
    let counters = &provider.counters;
    json_text(&json!({
        "active": own(picture, provider).count(),
        "completed": counters.completed,
        "failed": counters.failed,
        "cost_usd": counters.cost_usd,
    }))
}

/// The tasks at it, with their jobs.
pub fn own<'a>(picture: &Picture<'a>, provider: &'a Provider) -> impl Iterator<Item = (&'a Task, &'a Job)> {
    let tasks = picture.snapshot.tasks.delegated();
    tasks.filter_map(|task| Some((&**task, task.phase.delegated()?))).filter(|(_, job)| job.provider == provider.name)
}
