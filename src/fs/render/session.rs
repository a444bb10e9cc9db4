//! `sessions/<name>/`.

use std::{fmt::Write as _, path::PathBuf};

use crate::{
    fs::{
        clean, clean_colour,
        render::words,
        tree::{Object, Picture},
    },
    model::{
        command::{SESSION_VERBS, Verb},
        session::{Role, Session, SessionPhase},
    },
    ports::Exit,
};

#[must_use]
pub fn state(_: &Picture, session: &Session) -> String {
    words::line(session.word())
}

#[must_use]
pub fn why(picture: &Picture, session: &Session) -> String {
    let now = picture.now;
    let mut out = format!("{} {}\n", session.word(), words::since(now, session.since));
    if session.role == Role::Dedicated {
        out.push_str("dedicated to a person: never dispatched to, never ended\n");
    }
    let phase = match &session.phase {
        SessionPhase::Down => "no program runs in it".to_owned(),
        SessionPhase::Starting(inc) => {
            format!(
                "{} was started as pid {}, {} ago, and has not shown its prompt yet",
                inc.agent,
                inc.pid,
                words::age(now, inc.started)
            )
        }
        SessionPhase::Up(inc) => {
            format!("{} runs as pid {}, {}", inc.agent, inc.pid, words::since(now, inc.started))
        }
        SessionPhase::Ending(inc) => format!("{} (pid {}) is being ended", inc.agent, inc.pid),
        SessionPhase::Dead { incarnation, exit, at } => {
            let how = match exit {
                Exit::Status(status) => format!("with status {status}"),
                Exit::Signal(signal) => format!("by signal {signal}"),
                Exit::Unknown => "and nothing says how".to_owned(),
            };
            format!("{} (pid {}) ended {how}, {} ago", incarnation.agent, incarnation.pid, words::age(now, *at))
        }
    };
    let _ = writeln!(out, "{phase}");
    let mut evidence = session.verdict.evidence.iter();
    if let Some(first) = evidence.next() {
        let _ = writeln!(out, "{}: {}", words::kebab(&session.verdict.activity), words::signal(now, first));
    }
    for signal in evidence {
        let _ = writeln!(out, "overruled: {}", words::signal(now, signal));
    }
    let _ = writeln!(out, "last change at the agent: {} ago", words::age(now, session.verdict.last_change));
    if session.drained {
        out.push_str("drained: takes no new task; `echo undrain > control` lets it take tasks again\n");
    }
    if session.failures > 0 {
        let _ = writeln!(out, "starts in a row that failed or died early: {}", session.failures);
        // What a shell or an agent says when it can't start is on the screen and nowhere else.
        if let Some(line) = session.screen.plain.lines().rev().find(|line| !line.trim().is_empty()) {
            let _ = writeln!(out, "the last line of its screen: {}", line.trim());
        }
    }
    if session.attached > 0 {
        let _ = writeln!(out, "people looking at it: {}", session.attached);
    }
    clean(&out)
}

#[must_use]
pub fn task_link(picture: &Picture, object: &Object) -> Option<PathBuf> {
    let Object::Session(name) = object else { return None };
    let task = &picture.snapshot.sessions.get(name)?.task.as_ref()?.task;
    // A task that is gone from the picture would leave the link dangling.
    picture
        .snapshot
        .tasks
        .contains_key(task)
        .then(|| PathBuf::from("../../tasks").join(picture.snapshot.display_id(task)))
}

#[must_use]
pub fn agent(_: &Picture, session: &Session) -> String {
    session.phase.incarnation().map_or_else(String::new, |inc| words::line(inc.agent.as_str()))
}

#[must_use]
pub fn account(_: &Picture, session: &Session) -> String {
    let account = session.phase.incarnation().and_then(|inc| inc.account.as_ref());
    account.map_or_else(String::new, |account| words::line(account.as_str()))
}

#[must_use]
pub fn resume_id(_: &Picture, session: &Session) -> String {
    let id = session.phase.incarnation().and_then(|inc| inc.conversation.as_ref());
    id.map_or_else(String::new, |id| words::line(id))
}

#[must_use]
pub fn pid(_: &Picture, session: &Session) -> String {
    match &session.phase {
        SessionPhase::Starting(inc) | SessionPhase::Up(inc) | SessionPhase::Ending(inc) => format!("{}\n", inc.pid),
        SessionPhase::Down | SessionPhase::Dead { .. } => String::new(),
    }
}

#[must_use]
pub fn pane(_: &Picture, session: &Session) -> String {
    clean(&session.screen.plain)
}

#[must_use]
pub fn pane_ansi(_: &Picture, session: &Session) -> String {
    clean_colour(&session.screen.colour)
}

#[must_use]
pub fn scrollback(_: &Picture, session: &Session) -> String {
    clean(&session.screen.history)
}

/// What reading `control`, `input` and `keys` of a session gives.
#[must_use]
pub fn control(picture: &Picture, session: &Session, file: &str) -> String {
    const INPUT: &[Verb] =
        &[Verb { name: "TEXT", args: "", help: "delivered to the agent as one message when the file is closed" }];
    const KEYS: &[Verb] = &[Verb { name: "KEY…", args: "", help: "tmux key names: Enter Escape C-c Up y" }];
    let verbs = match file {
        "input" => INPUT,
        "keys" => KEYS,
        _ => SESSION_VERBS,
    };
    let path = format!("sessions/{}/{file}", session.name);
    words::control(verbs, picture.snapshot.outcomes.iter().filter(|outcome| outcome.file == path))
}
