//! Checks who wrote a text and what that writer may ask for: the rule in the head of `rights`, applied to one writer.
//! Takes the snapshot, a writer and the request; returns an origin, or why not. Pure.

use crate::model::{
    command::{Command, Refused, RefusedKind},
    identity::Bound,
    ids::{TaskId, TaskKey},
    rights::Rights,
    snapshot::Snapshot,
    task::Origin,
    task_file::{self, Reading},
    writer::{By, Writer},
};

/// What a text is as a task of this name; `None` where nothing can be made of it yet.
#[must_use]
pub fn bound(rights: &Rights, id: &TaskId, text: &[u8]) -> Option<Bound> {
    match task_file::read(text) {
        Reading::Ready { mut spec, prompt } => {
            spec.by_words = rights.by_words(id, &spec, &prompt);
            Some(Bound { identity: task_file::identity(text), agent: spec.agent().cloned() })
        }
        Reading::Empty | Reading::OpenFrontmatter | Reading::Rejected(_) => None,
    }
}

/// Where a task comes from whose text this writer makes one.
#[must_use]
pub fn origin(snapshot: &Snapshot, key: &TaskKey, writer: &Writer, text: &[u8]) -> Origin {
    let session = writer.session.as_ref().and_then(|name| snapshot.sessions.get(name));
    let task = session.and_then(|session| snapshot.tasks.get(&session.task.as_ref()?.task)).filter(|t| t.key != *key);
    let parent = if writer.by == By::Agent { descends(task.map(|t| (&t.key, &t.origin))) } else { Origin::default() };
    Origin { writer: Some(writer.clone()), text: bound(&snapshot.rights, &key.id, text), ..parent }
}

pub(super) fn descends(parent: Option<(&TaskKey, &Origin)>) -> Origin {
    let Some((key, origin)) = parent else { return Origin { depth: 1, ..Origin::default() } };
    Origin {
        parent: Some(key.clone()),
        root: Some(origin.root.clone().unwrap_or_else(|| key.clone())),
        depth: origin.depth.saturating_add(1),
        ..Origin::default()
    }
}

/// Who may ask for it, the least that may.
#[must_use]
pub fn least(command: &Command) -> By {
    match command {
        // What speaks in a person's place: it answers questions, and lets go what was held for a person.
        Command::Release(_) | Command::Input(..) | Command::Keys(..) => By::Person,
        // What takes back a person's word, or speaks of accounts and the configuration; a person's scripts may, from
        // cron too.
        Command::Resume | Command::Reload | Command::Swap(_) | Command::ClearPartial | Command::Undrain(_) => {
            By::Unknown
        }
        Command::Pause
        | Command::Rescan
        | Command::Clean(_)
        | Command::Cancel(_)
        | Command::Retry(_)
        | Command::Hold(_)
        | Command::Priority(..)
        | Command::Wish(..)
        | Command::Interrupt(_)
        | Command::Exit(_)
        | Command::Restart(_)
        | Command::Drain(_) => By::Agent,
    }
}

/// Whether a writer may ask for what only these may.
///
/// # Errors
/// Why not.
pub fn may_ask(least: By, writer: Option<&Writer>, what: &str) -> Result<(), Refused> {
    let Some(writer) = writer.filter(|writer| writer.by < least) else { return Ok(()) };
    let whose = if least == By::Person { "is a person's to say" } else { "is not an agent's to say" };
    let text = format!("{what} {whose}; it was written by {}", who(writer));
    Err(Refused::new(RefusedKind::NotPermitted, text))
}

/// A writer in words.
#[must_use]
pub fn who(writer: &Writer) -> String {
    let by = match (writer.by, &writer.session) {
        (By::Agent, Some(session)) => format!("an agent in session {session}"),
        (By::Agent, None) => "an agent of a session".to_owned(),
        (By::Unknown, _) => "nobody who could be placed".to_owned(),
        (By::Person, _) => "a person".to_owned(),
    };
    format!("{by} ({}, uid {}, pid {})", writer.program, writer.uid, writer.pid)
}
