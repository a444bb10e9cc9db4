//! The supervisor's whole state, and how each event changes it.
//! Takes events and `now`; returns the changed world or a refusal. Pure: no file, no clock, no task.

use std::sync::Arc;

use jiff::Timestamp;

use crate::model::{
    agent::Leftover,
    command::{Refused, Scope, Writer},
    event::{About, Event, Ignored, Kind, LogLine, Note, Reason},
    identity::Bound,
    ids::{AccountName, ProjectName, ProviderName, SessionName, TaskKey},
    notice::{NoticeEvent, Told},
    provider::Wish,
    session::SessionRefusal,
    snapshot::{Outcome, RECENT_EVENTS, RECENT_OUTCOMES, Snapshot},
    swap::SwapRefusal,
    task::{Origin, Phase, Task, TaskRefusal},
};

/// Why the owner did not take an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("task {0} {1}")]
    Task(TaskKey, TaskRefusal),
    #[error("session {0} {1}")]
    Session(SessionName, SessionRefusal),
    #[error("there is no task {0}")]
    NoTask(TaskKey),
    #[error("there is no session {0}")]
    NoSession(SessionName),
    #[error("there is no account {0}")]
    NoAccount(AccountName),
    #[error(transparent)]
    Swap(#[from] SwapRefusal),
    #[error("{0}")]
    Unsaved(String),
    #[error("the daemon is stopping")]
    Stopped,
}

/// What is known of a waiting task that its file doesn't hold: what a person said, what was tried.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Override {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    #[serde(default)]
    pub held: bool,
    /// Attempts that came to nothing, of the text with this identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tried: Option<Tried>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wish: Option<Wish>,
    /// Hash of a text that came while an earlier one was being worked on: it waits for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<String>,
    /// Hash of a text that a person let run although there was a doubt about it (git, an earlier run, a claim in place).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vouched: Option<String>,
    /// The text that a person let go, whoever wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released: Option<Bound>,
    /// Where it comes from, when what it may do hangs on that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

/// Attempts used up so far, kept so that a restart doesn't give a task its retries again.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Tried {
    pub identity: String,
    pub attempts: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused_by: Vec<ProviderName>,
}

/// Everything. Cloning is cheap: the parts are shared.
#[derive(Debug, Clone)]
pub struct World {
    pub snapshot: Snapshot,
    pub overrides: imbl::OrdMap<TaskKey, Override>,
    pub event_seq: u64,
    pub request_seq: u64,
    /// When tasks were submitted from tasks, by the first of these; within the last hour.
    pub submitted: imbl::OrdMap<Option<TaskKey>, Vec<Timestamp>>,
    /// The number of the last record of the journal.
    pub journal: u64,
    log: imbl::Vector<Arc<LogLine>>,
}

impl World {
    #[must_use]
    pub fn new(snapshot: Snapshot) -> Self {
        Self {
            snapshot,
            overrides: imbl::OrdMap::new(),
            event_seq: 0,
            request_seq: 0,
            submitted: imbl::OrdMap::new(),
            journal: 0,
            log: imbl::Vector::new(),
        }
    }

    /// The event lines since the last call, as JSON lines.
    pub(super) fn take_log(&mut self) -> String {
        let lines = std::mem::take(&mut self.log);
        lines.iter().filter_map(|line| line.json()).map(|line| line + "\n").collect()
    }

    /// Writes a line of `events`.
    pub fn note(&mut self, now: Timestamp, kind: Kind, reason: Reason, about: impl Into<About>, text: String) {
        self.note_by(now, Note::new(kind, reason, about, text));
    }

    pub(super) fn note_by(&mut self, now: Timestamp, note: Note) {
        self.event_seq += 1;
        let time = self.snapshot.timeline.shown(now);
        let Note { kind, reason, about, text, writer } = note;
        let line = Arc::new(LogLine { seq: self.event_seq, time, kind, reason, about, text, writer });
        self.log.push_back(line.clone());
        self.snapshot.recent.push_back(line);
        while self.snapshot.recent.len() > RECENT_EVENTS {
            self.snapshot.recent.pop_front();
        }
    }

    /// Takes one event.
    ///
    /// # Errors
    /// When it does not apply; the world may be half changed then and is thrown away by the caller.
    pub fn apply(&mut self, event: &Event, now: Timestamp) -> Result<(), Refusal> {
        match event {
            Event::Task(key, event) => self.task(key, event, now),
            Event::Text(run, text) => {
                self.snapshot.texts.insert(run.clone(), text.clone());
                Ok(())
            }
            Event::Origin(key, origin) => {
                self.origin(key, origin, now);
                Ok(())
            }
            Event::Session(name, event) => self.session(name, event, now),
            Event::Account(name, event) => self.account(name, event, now),
            Event::Swap { from, event } => self.swap(from, event, now),
            Event::Provider(name, event) => {
                self.provider(name, event, now);
                Ok(())
            }
            Event::Counts { project, counts } => {
                if let Some(at) = self.snapshot.projects.iter().position(|p| p.name == *project && p.counts != *counts)
                {
                    Arc::make_mut(&mut self.snapshot.projects)[at].counts = *counts;
                }
                Ok(())
            }
            Event::Ignored { project, files } => {
                self.ignored(project, files, now);
                Ok(())
            }
            Event::Stands { task, since } => {
                if let Some(known) = self.snapshot.tasks.get(task).filter(|known| known.since > *since)
                    && matches!(known.phase, Phase::Held(_) | Phase::Queued | Phase::Rejected(_))
                {
                    let known = Task { since: *since, ..(**known).clone() };
                    self.snapshot.tasks.insert(task.clone(), Arc::new(known));
                }
                Ok(())
            }
            Event::Health { topic, problem } => {
                self.health(topic, problem.as_deref(), now);
                Ok(())
            }
            Event::Rights(rights) => {
                self.snapshot.rights = rights.clone();
                self.judge_all(now);
                Ok(())
            }
            Event::Notice(event) => {
                self.notice(event);
                Ok(())
            }
            Event::Memory(memory) => {
                self.snapshot.memory = *memory;
                Ok(())
            }
            Event::Leftovers { found, over } => {
                self.leftovers(found, over, now);
                Ok(())
            }
            Event::RequestDone { id, result } => {
                if let Some(action) = self.snapshot.requests.remove(id)
                    && let Err(refused) = result
                {
                    let text = format!("{} was not done: {refused}", action.words());
                    self.note(now, Kind::Verb, Reason::NotDone, About::daemon(), text);
                }
                Ok(())
            }
            Event::Note(note) => {
                self.note_by(now, note.clone());
                Ok(())
            }
        }
    }

    /// Each file is reported once.
    fn ignored(&mut self, project: &ProjectName, files: &Arc<Vec<Ignored>>, now: Timestamp) {
        let before = self.snapshot.ignored.get(project).cloned().unwrap_or_default();
        for file in files.iter().filter(|file| !before.contains(file)) {
            let text = format!("inbox/{} is no task: {}", file.name, file.why);
            self.note(now, Kind::Problem, Reason::Ignored, About::words(format!("queue {project}")), text);
        }
        if files.is_empty() {
            self.snapshot.ignored.remove(project);
        } else if before != *files {
            self.snapshot.ignored.insert(project.clone(), files.clone());
        }
    }

    /// Each process is reported once; those found at startup were reported by the last daemon.
    fn leftovers(&mut self, found: &Arc<Vec<Leftover>>, over: &[String], now: Timestamp) {
        if let Some(before) = self.snapshot.leftovers.clone() {
            let known = |one: &Leftover| before.iter().any(|other| (other.pid, other.start) == (one.pid, one.start));
            for one in found.iter().filter(|one| !known(one)) {
                let task = self.snapshot.starts.get(&one.token);
                let of_task = task.map(|task| format!(", of task {task}")).unwrap_or_default();
                let text =
                    format!("its agent is gone; what it left still runs: {} (pid {}{of_task})", one.command, one.pid);
                self.note(now, Kind::Session, Reason::LeftRunning, &one.session, text);
            }
        }
        for token in over {
            self.snapshot.starts.remove(token);
        }
        self.snapshot.leftovers = Some(found.clone());
    }

    fn notice(&mut self, event: &NoticeEvent) {
        let notices = &mut self.snapshot.notices;
        match event {
            NoticeEvent::Told(told) => {
                notices.insert(told.notice.incident.clone(), Arc::new(told.clone()));
            }
            NoticeEvent::Sent { incident, at, channel } => {
                let Some(told) = notices.get(incident).filter(|told| told.notice.at == *at).cloned() else {
                    return;
                };
                let to = told.to.iter().copied().filter(|other| other != channel).collect();
                notices.insert(incident.clone(), Arc::new(Told { to, ..(*told).clone() }));
            }
            NoticeEvent::Forgotten { incident } => drop(notices.remove(incident)),
        }
    }

    pub(super) fn health(&mut self, topic: &str, problem: Option<&str>, now: Timestamp) {
        let known = self.snapshot.health.get(topic).map(String::as_str);
        if known == problem {
            return;
        }
        match problem {
            Some(text) => {
                self.note(now, Kind::Problem, Reason::Problem, About::daemon(), text.to_owned());
                self.snapshot.health.insert(topic.to_owned(), text.to_owned());
            }
            None => {
                self.note(now, Kind::Daemon, Reason::Recovered, About::daemon(), format!("recovered: {topic}"));
                self.snapshot.health.remove(topic);
            }
        }
    }

    /// Records what became of a write to a control file; answers where, for `outcome_done`.
    pub(super) fn outcome(
        &mut self,
        now: Timestamp,
        scope: &Scope,
        text: &[u8],
        writer: Option<Writer>,
        result: &Result<(), Refused>,
    ) -> u64 {
        let file = match scope {
            Scope::Daemon => "control".to_owned(),
            Scope::ActiveAccount => "accounts/active".to_owned(),
            Scope::Task(key) => format!("tasks/{key}/control"),
            Scope::Session(name) => format!("sessions/{name}/control"),
            Scope::Input(name) => format!("sessions/{name}/input"),
            Scope::Keys(name) => format!("sessions/{name}/keys"),
        };
        let shown: String = String::from_utf8_lossy(text).trim().chars().take(200).collect();
        let (reason, told) = match result {
            Ok(()) => (Reason::Accepted, format!("{shown:?}: ok")),
            Err(refused) => (Reason::Refused, format!("{shown:?}: refused: {refused}")),
        };
        let about = match scope {
            Scope::Daemon | Scope::ActiveAccount => About::default(),
            Scope::Task(key) => About::from(key),
            Scope::Session(name) | Scope::Input(name) | Scope::Keys(name) => About::from(name),
        };
        let about = About { object: file.clone(), ..about };
        self.note_by(now, Note { writer: writer.clone(), ..Note::new(Kind::Verb, reason, about, told) });
        let result = match result {
            Ok(()) => Ok("ok".to_owned()),
            Err(refused) => Err((refused.kind, refused.message.clone())),
        };
        let outcomes = Arc::make_mut(&mut self.snapshot.outcomes);
        let at = self.snapshot.timeline.shown(now);
        outcomes.push_back(Outcome { seq: self.event_seq, at, writer, file, text: shown, result });
        while outcomes.len() > RECENT_OUTCOMES {
            outcomes.pop_front();
        }
        self.event_seq
    }

    /// Tells what became of a write that was only begun when it was recorded.
    pub(super) fn outcome_done(&mut self, seq: u64, result: &Result<Vec<String>, Refused>) {
        let outcomes = Arc::make_mut(&mut self.snapshot.outcomes);
        if let Some(outcome) = outcomes.iter_mut().find(|outcome| outcome.seq == seq) {
            outcome.result = match result {
                Ok(texts) => Ok(texts.iter().filter(|text| !text.is_empty()).cloned().collect::<Vec<_>>().join("; ")),
                Err(refused) => Err((refused.kind, refused.message.clone())),
            };
        }
    }

    /// The number for a new request.
    pub(super) fn next_request(&mut self) -> u64 {
        self.request_seq += 1;
        self.request_seq
    }
}
