//! Renders `status.json`: `status` for programs. `version` increases when a key changes its meaning or is removed.

use serde_json::{Value, json};

use crate::{
    model::session::SessionPhase,
    render::{Picture, account, json_text, root, swap, task as task_files, words},
};

#[must_use]
pub fn status_json(picture: &Picture) -> String {
    json_text(&value(picture))
}

/// Keys whose text may quote a task, an agent, its screen or a system's error.
const QUOTING: [&str; 3] = ["why", "error", "lines"];

/// The same without what quotes somebody, and with problems by their topic only: for whom the mount's permissions don't hold.
#[must_use]
pub fn facts(picture: &Picture) -> Value {
    let mut facts = value(picture);
    leave_out_quotes(&mut facts);
    facts["health"] = json!(root::topics(picture));
    facts
}

fn leave_out_quotes(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, _| !QUOTING.contains(&key.as_str()));
            map.values_mut().for_each(leave_out_quotes);
        }
        Value::Array(items) => items.iter_mut().for_each(leave_out_quotes),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The same as a value, for other faces.
#[must_use]
pub fn value(picture: &Picture) -> Value {
    let snapshot = picture.snapshot;
    let tasks = snapshot.tasks.iter().map(|(key, task)| {
        json!({
            "id": snapshot.display_id(key),
            "project": key.project,
            "state": task.phase.word(),
            "settling": task.phase.settles(),
            "why": reasons(&task_files::why(picture, task)),
            "session": task.phase.run().map(|run| &run.session),
            "attempts": task.attempts,
            "priority": task.priority,
            "since": picture.shown(task.since),
        })
    });
    let sessions = snapshot.shown_sessions().map(|session| {
        let incarnation = session.phase.incarnation();
        let living = incarnation.filter(|_| !matches!(session.phase, SessionPhase::Dead { .. }));
        json!({
            "name": session.name,
            "state": session.word(),
            "why": one_line(&words::short_why(picture, session)),
            "task": session.task.as_ref().map(|assigned| snapshot.display_id(&assigned.task)),
            "agent": incarnation.map(|inc| &inc.agent),
            "account": incarnation.and_then(|inc| inc.account.as_ref()),
            "pid": living.map(|inc| inc.pid),
            "since": picture.shown(session.stated.since),
            "attached": session.attached,
        })
    });
    let accounts = snapshot.accounts.iter().map(|one| {
        json!({
            "name": one.name,
            "state": one.word(),
            "why": one_line(&account::why(picture, one)),
            "agent": one.agent,
            "home": one.home.to_string_lossy(),
            "active": one.active,
            "used": one.usage.used_percent(picture.now),
            "until": one.until().map(|until| words::second(picture.shown(until))),
        })
    });
    let queues = snapshot.projects.iter().map(|project| {
        let [held, queued, rejected, working, delegated] = snapshot.tasks.open_counts(&project.name);
        json!({
            "project": project.name,
            "path": project.path.to_string_lossy(),
            "queued": queued,
            "held": held,
            "working": working,
            "delegated": delegated,
            "rejected": rejected,
            "ignored": snapshot.ignored.get(&project.name).map(|files| files.as_slice()).unwrap_or_default(),
            "done": project.counts.done,
            "failed": project.counts.failed,
        })
    });
    let health = snapshot.health.iter().map(|(topic, problem)| format!("{topic}: {problem}"));
    json!({
        "version": 1,
        "at": snapshot.at,
        "pid": std::process::id(),
        "since": picture.shown(snapshot.since),
        "paused": snapshot.paused,
        "health": health.collect::<Vec<_>>(),
        "tasks": tasks.collect::<Vec<_>>(),
        "sessions": sessions.collect::<Vec<_>>(),
        "accounts": accounts.collect::<Vec<_>>(),
        "swap": swap::value(picture),
        "queues": queues.collect::<Vec<_>>(),
    })
}

/// A `why` without its first line: state and time have keys of their own.
fn reasons(text: &str) -> String {
    one_line(text.split_once('\n').map_or("", |(_, reasons)| reasons))
}

fn one_line(text: &str) -> String {
    text.trim_end().replace('\n', "; ")
}
