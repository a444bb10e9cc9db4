//! The whole state of the supervisor and what each event makes of it.
//! In: events and `now`. Out: the changed world or a refusal. Pure: no file, no clock, no task.

use std::sync::Arc;

use jiff::Timestamp;

use crate::model::{
    agent::Leftover,
    command::{Refused, Scope, Writer},
    event::{Event, Ignored, Kind, LogLine},
    identity::{Bound, TextFacts},
    ids::{AccountName, ProjectName, ProviderName, SessionName, TaskKey},
    notice::{NoticeEvent, Told},
    provider::{JobStop, Wish},
    session::{self, Activity, Gone, Role, Session, SessionEvent, SessionPhase, SessionRefusal, Then, Verdict},
    snapshot::{Outcome, RECENT_EVENTS, RECENT_FINISHED, RECENT_OUTCOMES, Snapshot},
    swap::SwapRefusal,
    task::{self, After, Delivery, Origin, Phase, Status, Stop, Task, TaskEvent, TaskRefusal, TaskSpec, Work},
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
    pub fn note(&mut self, now: Timestamp, kind: Kind, object: &str, text: String) {
        self.note_by(now, kind, object, text, None);
    }

    pub(super) fn note_by(&mut self, now: Timestamp, kind: Kind, object: &str, text: String, writer: Option<Writer>) {
        self.event_seq += 1;
        let time = self.snapshot.timeline.shown(now);
        let line = Arc::new(LogLine { seq: self.event_seq, time, kind, object: object.to_owned(), text, writer });
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
            Event::Servers(servers) => {
                let known = self.snapshot.servers.replace(servers.clone());
                if servers.lost && !known.is_some_and(|known| known.lost && known.boot == servers.boot) {
                    self.note(now, Kind::Daemon, "daemon", LOST.to_owned());
                }
                Ok(())
            }
            Event::RequestDone { id, result } => {
                if let Some(action) = self.snapshot.requests.remove(id)
                    && let Err(refused) = result
                {
                    self.note(now, Kind::Verb, "daemon", format!("{} was not done: {refused}", action.words()));
                }
                Ok(())
            }
            Event::Note { kind, object, text, writer } => {
                self.note_by(now, *kind, object, text.clone(), writer.clone());
                Ok(())
            }
        }
    }

    /// Each file is told once.
    fn ignored(&mut self, project: &ProjectName, files: &Arc<Vec<Ignored>>, now: Timestamp) {
        let before = self.snapshot.ignored.get(project).cloned().unwrap_or_default();
        for file in files.iter().filter(|file| !before.contains(file)) {
            let text = format!("inbox/{} is no task: {}", file.name, file.why);
            self.note(now, Kind::Problem, &format!("queue {project}"), text);
        }
        if files.is_empty() {
            self.snapshot.ignored.remove(project);
        } else if before != *files {
            self.snapshot.ignored.insert(project.clone(), files.clone());
        }
    }

    /// Each process is told once; those that a daemon finds at its start were told by the last one.
    fn leftovers(&mut self, found: &Arc<Vec<Leftover>>, over: &[String], now: Timestamp) {
        if let Some(before) = self.snapshot.leftovers.clone() {
            let known = |one: &Leftover| before.iter().any(|other| (other.pid, other.start) == (one.pid, one.start));
            for one in found.iter().filter(|one| !known(one)) {
                let task = self.snapshot.starts.get(&one.token);
                let of_task = task.map(|task| format!(", of task {task}")).unwrap_or_default();
                let text =
                    format!("its agent is gone; what it left still runs: {} (pid {}{of_task})", one.command, one.pid);
                self.note(now, Kind::Session, &format!("session {}", one.session), text);
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
                self.note(now, Kind::Problem, "daemon", text.to_owned());
                self.snapshot.health.insert(topic.to_owned(), text.to_owned());
            }
            None => {
                self.note(now, Kind::Daemon, "daemon", format!("right again: {topic}"));
                self.snapshot.health.remove(topic);
            }
        }
    }

    fn task(&mut self, key: &TaskKey, event: &TaskEvent, now: Timestamp) -> Result<(), Refusal> {
        let known = self.snapshot.tasks.get(key).cloned();
        let vouched;
        let event = match event {
            TaskEvent::Doubtful { text, spec, .. } if self.vouched(key, text) => {
                vouched = TaskEvent::Seen { text: text.clone(), spec: spec.clone() };
                &vouched
            }
            _ => event,
        };
        let mut task = match (&known, event) {
            (Some(task), _) => (**task).clone(),
            (
                None,
                TaskEvent::Seen { .. }
                | TaskEvent::Doubtful { .. }
                | TaskEvent::NotReady(_)
                | TaskEvent::Rejected(_)
                | TaskEvent::OutsideClaim(_),
            ) => self.blank(key, now),
            (None, TaskEvent::Vanished { .. }) => return Ok(()),
            (None, _) => return Err(Refusal::NoTask(key.clone())),
        };
        let was_finished = matches!(task.phase, Phase::Finished(_));
        if let (TaskEvent::Ended { told: Some(told), .. }, Phase::Working(run)) = (event, &task.phase)
            && let Some(gone) = self.snapshot.sessions.get(&run.session).and_then(|session| session.gone.as_ref())
            && gone.at() <= *told
            && run.heard_from() <= gone.at()
        {
            return Err(Refusal::Task(key.clone(), TaskRefusal::BeingEnded(run.session.clone())));
        }
        let after =
            task::step(&task.phase, task.text.as_ref(), event, now).map_err(|e| Refusal::Task(key.clone(), e))?;

        let phase = match after {
            After::Gone => {
                self.snapshot.tasks.remove(key);
                self.overrides.remove(key);
                self.note(now, Kind::Task, &format!("task {key}"), "gone: its file was removed".to_owned());
                return Ok(());
            }
            After::Same => None,
            After::Now(phase) => Some(phase),
        };
        if was_finished && phase.is_some() {
            task = self.blank(key, now);
        }
        if let TaskEvent::Ended { ending, .. } = event
            && ending.status == Status::Done
        {
            self.praise_account(&task, now);
        }
        self.learn(&mut task, event);
        if let Some(phase) = phase {
            self.task_moved(&mut task, phase, event, now);
        }
        self.judge(&mut task, now);
        let open = |task: &Task| task.phase.open_run().cloned();
        if let Some(run) = known.as_deref().and_then(open).filter(|run| task.phase.open_run() != Some(run)) {
            self.snapshot.texts.remove(&run);
        }
        if known.as_deref() != Some(&task) {
            self.snapshot.tasks.insert(key.clone(), Arc::new(task));
        }
        Ok(())
    }

    /// Whether a person has let this text run.
    fn vouched(&self, key: &TaskKey, text: &TextFacts) -> bool {
        self.overrides.get(key).is_some_and(|said| said.vouched.as_ref() == Some(&text.sha256))
    }

    /// What an event tells about a task beside its phase.
    fn learn(&mut self, task: &mut Task, event: &TaskEvent) {
        match event {
            TaskEvent::Seen { text, spec } | TaskEvent::Doubtful { text, spec, .. }
                if !matches!(task.phase, Phase::Working(_) | Phase::Delegated(_) | Phase::Filing(_)) =>
            {
                task.text = Some(text.clone());
                task.spec = spec.clone();
                task.doubt = if let TaskEvent::Doubtful { why, .. } = event { Some(why.clone()) } else { None };
                let known = self.overrides.get(&task.key);
                task.priority = known.and_then(|o| o.priority).unwrap_or(spec.priority);
                // Another text is another task, with all its attempts.
                let tried = known.and_then(|o| o.tried.as_ref()).filter(|tried| tried.identity == text.identity);
                task.attempts = tried.map_or(0, |tried| tried.attempts);
                task.refused_by = tried.map(|tried| tried.refused_by.clone()).unwrap_or_default();
                task.wish = known.and_then(|o| o.wish.clone());
            }
            TaskEvent::Seen { text, spec } | TaskEvent::Doubtful { text, spec, .. } => {
                let at_work = task.phase.run().map(|run| &run.text).or(task.phase.job().map(|job| &job.text));
                let changed = at_work.is_some_and(|known| known.identity != text.identity);
                if !changed && task.spec != *spec {
                    // A restart brings back the run and not what its file asks for; the next attempt needs that.
                    task.spec = spec.clone();
                    let said = self.overrides.get(&task.key).and_then(|o| o.priority);
                    task.priority = said.unwrap_or(spec.priority);
                }
                task.note = changed.then(|| FILE_CHANGED.to_owned());
            }
            TaskEvent::Vanished { by_verb: false } => {
                let goes_on = match &task.phase {
                    Phase::Working(run) => run.stop == Stop::No,
                    Phase::Delegated(job) => job.stop == JobStop::No,
                    Phase::Held(_) | Phase::Queued | Phase::Rejected(_) | Phase::Filing(_) | Phase::Finished(_) => {
                        false
                    }
                };
                if goes_on {
                    task.note = Some(FILE_GONE.to_owned());
                }
            }
            TaskEvent::Claimed(run) => {
                task.attempts = run.attempt;
                task.note = None;
            }
            TaskEvent::Delegated(job) => {
                task.attempts = job.attempt;
                task.note = None;
            }
            TaskEvent::RefusedBy { why, .. } => {
                if let Phase::Delegated(job) = &task.phase {
                    task.note = Some(format!("provider {} did not take it: {why}", job.provider));
                    task.refused_by.push(job.provider.clone());
                }
            }
            TaskEvent::Wish(wish) => {
                task.wish = Some(wish.clone());
                let said = self.overrides.entry(task.key.clone()).or_default();
                said.wish = Some(wish.clone());
                if matches!(wish, Wish::Provider(_)) {
                    said.held = false;
                    said.kept = None;
                    // Whoever sends it wants it tried again.
                    task.refused_by.clear();
                }
            }
            TaskEvent::Filed { kept: Some(text) } => {
                self.overrides.entry(task.key.clone()).or_default().kept = Some(text.sha256.clone());
                task.text = Some(text.clone());
                task.attempts = 0;
                task.note = None;
                task.doubt = None;
            }
            // What the file holds was not known to be read: whatever it holds is what was cancelled.
            TaskEvent::Cancel if !matches!(task.phase, Phase::Working(_) | Phase::Delegated(_)) => task.text = None,
            TaskEvent::TryAgain { why, .. } | TaskEvent::Paused { why, .. } | TaskEvent::Waits { why, .. } => {
                task.note = Some(why.clone());
            }
            // What was waited for has come.
            TaskEvent::TypingBegun { .. } => task.note = None,
            TaskEvent::Unclaimed { why, .. } => {
                task.note = Some(format!("attempt {} was taken back: {why}", task.attempts))
            }
            TaskEvent::Priority(n) => {
                task.priority = *n;
                self.overrides.entry(task.key.clone()).or_default().priority = Some(*n);
            }
            TaskEvent::Hold => {
                let said = self.overrides.entry(task.key.clone()).or_default();
                said.held = true;
                said.released = None;
            }
            TaskEvent::Release => self.release(task),
            // What was said of its file is over with its run.
            TaskEvent::Ended { .. }
                if task.note.as_deref().is_some_and(|note| [FILE_GONE, FILE_CHANGED].contains(&note)) =>
            {
                task.note = None;
            }
            TaskEvent::NotReady(_)
            | TaskEvent::Rejected(_)
            | TaskEvent::Vanished { by_verb: true }
            | TaskEvent::OutsideClaim(_)
            | TaskEvent::Taken { .. }
            | TaskEvent::Submitted { .. }
            | TaskEvent::Output { .. }
            | TaskEvent::Ended { .. }
            | TaskEvent::Filed { kept: None }
            | TaskEvent::Cancel => {}
        }
    }

    fn task_moved(&mut self, task: &mut Task, mut phase: Phase, event: &TaskEvent, now: Timestamp) {
        let may_run = match &phase {
            Phase::Queued => true,
            Phase::Held(hold) => task.doubt.as_ref() == Some(hold),
            Phase::Rejected(_) | Phase::Working(_) | Phase::Delegated(_) | Phase::Filing(_) | Phase::Finished(_) => {
                false
            }
        };
        if may_run {
            let said = self.said_against(task).into_iter().next();
            let hold = said.or_else(|| task.bound().and_then(|text| self.against(task, &text, now)));
            phase = hold.map_or(Phase::Queued, Phase::Held);
        }
        if let TaskEvent::Unclaimed { .. } = event
            && let Phase::Working(run) = &task.phase
            && run.delivery == Delivery::NotBegun
        {
            // Nothing was tried, so nothing is used up.
            task.attempts = task.attempts.saturating_sub(1);
        }
        let text = match (event, &task.phase) {
            (TaskEvent::Unclaimed { .. }, Phase::Working(run)) => Some(&run.text),
            (TaskEvent::Unclaimed { .. } | TaskEvent::RefusedBy { .. }, Phase::Delegated(job)) => {
                // What no provider has done uses nothing up.
                task.attempts = task.attempts.saturating_sub(1);
                Some(&job.text)
            }
            _ => None,
        };
        if let Some(text) = text {
            let refused_by = task.refused_by.clone();
            let tried = Tried { identity: text.identity.clone(), attempts: task.attempts, refused_by };
            self.overrides.entry(task.key.clone()).or_default().tried = Some(tried);
        }
        let moved = task.phase.word() != phase.word();
        // A person has to act: that is told whatever held it before.
        let held_anew = matches!(&phase, Phase::Held(hold) if hold.needs_person()) && task.phase != phase;
        if moved {
            task.since = now;
        }
        task.phase = phase;
        let object = format!("task {}", task.key);
        match &task.phase {
            Phase::Finished(finished) => {
                let status = finished.ending.status;
                self.snapshot.finished[status as usize] += 1;
                self.overrides.remove(&task.key);
                let error = finished.ending.error.as_deref().map(|e| format!(": {e}")).unwrap_or_default();
                let by = match &finished.work {
                    None => String::new(),
                    Some(Work::Run(run)) => format!(" in {}", run.session),
                    Some(Work::Job(job)) => format!(" at {}", job.provider),
                };
                let (work, ending) = (finished.work.clone(), finished.ending.clone());
                if let Some(Work::Job(job)) = work {
                    self.count_job(&job, &ending);
                }
                self.note(now, Kind::Task, &object, format!("{}{by}{error}", status.word()));
                self.snapshot.tasks.keep_finished(RECENT_FINISHED - 1);
            }
            Phase::Working(run) => match &run.delivery {
                Delivery::NotBegun if run.stop != Stop::No => {
                    self.note(now, Kind::Task, &object, "to be stopped".to_owned())
                }
                Delivery::NotBegun => {
                    let text = format!("working: attempt {} in {} (run {})", run.attempt, run.session, run.id);
                    self.note(now, Kind::Task, &object, text);
                }
                Delivery::Begun | Delivery::Taken { .. } if run.stop != Stop::No => {
                    self.note(now, Kind::Task, &object, "to be stopped".to_owned());
                }
                Delivery::Begun => {
                    // How an earlier program went says nothing of this run.
                    if let Some(session) = self.snapshot.sessions.get_mut(&run.session) {
                        Arc::make_mut(session).gone = None;
                    }
                }
                Delivery::Taken { .. } => self.note(now, Kind::Task, &object, format!("taken by {}", run.session)),
            },
            Phase::Delegated(job) => self.note_job(&object, &job.clone(), event, now),
            Phase::Held(hold) if moved || held_anew || hold.awaits_release() => {
                self.note(now, Kind::Task, &object, format!("held: {hold}"))
            }
            Phase::Rejected(problem) => self.note(now, Kind::Task, &object, format!("rejected: {problem}")),
            Phase::Queued => {
                let why = task.note.as_deref().map(|note| format!(": {note}")).unwrap_or_default();
                self.note(now, Kind::Task, &object, format!("queued{why}"));
            }
            Phase::Held(_) | Phase::Filing(_) => {}
        }
    }

    fn session(&mut self, name: &SessionName, event: &SessionEvent, now: Timestamp) -> Result<(), Refusal> {
        let known = self.snapshot.sessions.get(name).cloned().ok_or_else(|| Refusal::NoSession(name.clone()))?;
        let next = session::step(&known, event, now).map_err(|e| Refusal::Session(name.clone(), e))?;
        let mut session = (*known).clone();
        let before = session.word();
        let object = format!("session {name}");

        if let Some(phase) = next {
            // The agent may go before its task is over, and go on with it in another start.
            self.remember_start(&session);
            session.since = now;
            session.phase = phase;
        }
        match event {
            SessionEvent::Opened(incarnation) => {
                session.verdict = Verdict::unknown(now);
                (session.gone, session.rests, session.talked) = (None, false, false);
                // What goes on with a conversation is no fresh one.
                session.spent = session.resume.is_some();
                session.retired = false;
                session.used = now;
                if session.role == Role::Dedicated {
                    self.reopened(&mut session, incarnation, now);
                }
                self.runs_under(&session, incarnation.account.as_ref());
                self.note(
                    now,
                    Kind::Session,
                    &object,
                    format!("started {} (pid {})", incarnation.agent, incarnation.pid),
                );
            }
            SessionEvent::OpenFailed(why) => {
                session.failures += 1;
                session.gone = None;
                session.since = now;
                self.note(now, Kind::Problem, &object, format!("could not be started: {why}"));
            }
            SessionEvent::Forgiven => {
                session.failures = 0;
            }
            SessionEvent::Resume { not_before, .. } => self.note_resume(&mut session, *not_before, now),
            SessionEvent::Resumed { .. } => self.resumed(&mut session, now),
            SessionEvent::Found { .. } => self.found(&mut session, &known, now),
            SessionEvent::Ready { .. } => self.health(&format!("session {name}"), None, now),
            SessionEvent::Died { exit, began, .. } => {
                if let SessionPhase::Dead { incarnation, .. } = &session.phase {
                    let lived = now.duration_since(incarnation.started);
                    // How a program ends its task is the task's result, which may have been filed before the end is seen.
                    session.failures = match *began {
                        true => 0,
                        false if lived >= STABLE => 1,
                        false => session.failures + 1,
                    };
                    self.note(now, Kind::Session, &object, format!("its program ended: {exit}"));
                }
            }
            SessionEvent::Ended { then } => {
                session.retired = *then == Then::Retire;
                session.rests = *then == Then::Rest;
                session.verdict = Verdict::unknown(now);
            }
            SessionEvent::Lost { .. } => {
                session.verdict = Verdict::unknown(now);
                if !matches!(known.phase, SessionPhase::Ending(_)) {
                    session.gone = Some(Gone::Lost { at: now });
                    let text = "its pane is gone: closed or given another program by somebody, or tmux ended; what is left of \
                                its program is ended";
                    self.note(now, Kind::Problem, &object, text.to_owned());
                }
            }
            SessionEvent::Assigned(assignment) => {
                session.task = Some(assignment.clone());
                session.used = now;
            }
            SessionEvent::Freed => {
                let done = session.task.as_ref().and_then(|a| self.snapshot.tasks.get(&a.task));
                // A command that can't be started is filed before its death is seen.
                let stands = match &session.phase {
                    SessionPhase::Up(incarnation) => now.duration_since(incarnation.started) >= STABLE,
                    SessionPhase::Down
                    | SessionPhase::Starting(_)
                    | SessionPhase::Ending(_)
                    | SessionPhase::Dead { .. } => false,
                };
                if done.is_some_and(
                    |task| matches!(&task.phase, Phase::Finished(f) if stands || f.ending.status == Status::Done),
                ) {
                    session.failures = 0;
                }
                self.remember_start(&session);
                session.task = None;
                session.resume = None;
                session.spent = true;
                session.used = now;
            }
            SessionEvent::Observed { verdict, conversation, .. } => {
                self.observed(&mut session, verdict, conversation.as_ref(), now);
            }
            SessionEvent::Screen(screen) => session.screen = screen.clone(),
            SessionEvent::Attached(clients) => session.attached = *clients,
            SessionEvent::Talked { .. } => session.talked = true,
            SessionEvent::Drain(drained) => {
                session.drained = *drained;
                self.note(now, Kind::Session, &object, if *drained { "drained" } else { "undrained" }.to_owned());
            }
            SessionEvent::Ending { why, failed } => {
                // One that is lost, or ended already, keeps its first reason.
                if !matches!(known.phase, SessionPhase::Ending(_)) {
                    session.gone = Some(Gone::Ended { at: now, why: why.clone() });
                    session.failures += u32::from(*failed);
                }
            }
        }
        if session.failures > known.failures
            && let Some(text) = failing(&session)
        {
            self.health(&object, Some(&text), now);
        } else if session.failures == 0 && failing(&known).is_some() {
            self.health(&object, None, now);
        }
        let after = session.word();
        session.restate(&known, now);
        if before != after && session.role == Role::Pool {
            self.note(now, Kind::Session, &object, format!("{before} -> {after}"));
        }
        self.snapshot.sessions.insert(name.clone(), Arc::new(session));
        Ok(())
    }

    /// Takes down which task the session's agent has, for what it may leave.
    fn remember_start(&mut self, session: &Session) {
        let incarnation = session.phase.incarnation().filter(|incarnation| !incarnation.token.is_empty());
        if let Some((incarnation, assigned)) = incarnation.zip(session.task.as_ref())
            && self.snapshot.starts.get(&incarnation.token) != Some(&assigned.task)
        {
            self.snapshot.starts.insert(incarnation.token.clone(), assigned.task.clone());
        }
    }

    fn observed(&mut self, session: &mut Session, verdict: &Verdict, conversation: Option<&String>, now: Timestamp) {
        let object = format!("session {}", session.name);
        if session.verdict.activity != verdict.activity && session.role == Role::Pool {
            let told = verdict
                .evidence
                .first()
                .map(|e| format!(": {} (from {}, rule {})", e.text, e.source, e.rule))
                .unwrap_or_default();
            match verdict.activity {
                Activity::Waiting(what) => {
                    self.note(now, Kind::Waiting, &object, format!("waits for a person ({what}){told}"));
                }
                Activity::Limited => self.note(now, Kind::Limit, &object, format!("stopped by a limit{told}")),
                Activity::Stalled => self.note(now, Kind::Silent, &object, format!("stalled{told}")),
                Activity::Unknown | Activity::Idle | Activity::Working => {}
            }
        }
        let waits = |verdict: &Verdict| matches!(verdict.activity, Activity::Waiting(_));
        if matches!(session.phase, SessionPhase::Starting(_)) && waits(&session.verdict) && !waits(verdict) {
            // A person has answered: the agent's time to start begins anew.
            session.since = now;
        }
        session.verdict = verdict.clone();
        self.blame_account(session, now);
        let incarnation = match &mut session.phase {
            SessionPhase::Starting(i) | SessionPhase::Up(i) | SessionPhase::Ending(i) => i,
            SessionPhase::Dead { incarnation, .. } => incarnation,
            SessionPhase::Down => return,
        };
        if let Some(id) = conversation
            && incarnation.conversation.as_ref() != Some(id)
        {
            incarnation.conversation = Some(id.clone());
        }
    }

    /// A task of which nothing is known but what was saved of its name.
    pub(super) fn blank(&self, key: &TaskKey, now: Timestamp) -> Task {
        Task {
            key: key.clone(),
            text: None,
            spec: Arc::new(TaskSpec::default()),
            priority: 0,
            phase: Phase::Held(task::Hold::Settling),
            since: now,
            attempts: 0,
            origin: self.overrides.get(key).and_then(|said| said.origin.clone()).unwrap_or_default(),
            wish: None,
            refused_by: Vec::new(),
            note: None,
            doubt: None,
            also: Vec::new(),
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
        let told = match result {
            Ok(()) => format!("{shown:?}: ok"),
            Err(refused) => format!("{shown:?}: refused: {refused}"),
        };
        self.note_by(now, Kind::Verb, &file, told, writer.clone());
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

/// What a task's `why` says of its file while an agent works on it.
const FILE_GONE: &str = "its file is gone from the inbox; the work goes on and its result will be filed";
const FILE_CHANGED: &str = "its file has changed since it was claimed; the earlier text is being worked on";

/// What follows from the end of a tmux server of ours.
const LOST: &str = "the tmux server has ended, and what agents detached may run on outside of the next one: until the machine starts \
     again, a writer that began after it and can't be told from that counts as unknown";

/// Failed starts in a row from which on a session is a problem for `health`.
const FAILURES_TOLD: u32 = 3;

/// What `health` says of a session whose starts fail.
pub(super) fn failing(session: &Session) -> Option<String> {
    let (name, failures) = (&session.name, session.failures);
    (failures >= FAILURES_TOLD).then(|| {
        format!(
            "session {name} failed to reach its prompt {failures} times in a row; `cat sessions/{name}/why` tells more, \
             `echo restart > sessions/{name}/control` tries again at once"
        )
    })
}

/// A program that lived this long was no failed start.
const STABLE: jiff::SignedDuration = jiff::SignedDuration::from_secs(60);

/// Index of a status in `Snapshot::finished`.
const _: () = assert!(Status::Done as usize == 0 && Status::Failed as usize == 1 && Status::Cancelled as usize == 2);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        live::load,
        model::{
            ids::AgentName,
            pane::{Exit, PaneId},
            provider::Delegation,
            session::{Incarnation, Then},
        },
    };

    #[test]
    fn a_program_that_ends_after_its_task_was_filed_is_no_failed_start() {
        let at = Timestamp::UNIX_EPOCH;
        let name = SessionName::parse("pool-11").expect("a name");
        for (began, word) in [(true, "idle"), (false, "dead")] {
            let mut world =
                load(None, Vec::new(), Vec::new(), Delegation::default(), "id".to_owned(), at).expect("a world");
            world.snapshot.sessions.insert(name.clone(), Arc::new(Session::new(name.clone(), Role::Pool, at)));
            let incarnation = Incarnation {
                id: "i".to_owned(),
                session: name.clone(),
                agent: AgentName::parse("sh").expect("a name"),
                account: None,
                workdir: "/".into(),
                conversation: None,
                pane: PaneId("%1".to_owned()),
                pid: 7,
                started: at,
                token: String::new(),
            };
            for event in [
                SessionEvent::Opened(incarnation),
                SessionEvent::Freed,
                SessionEvent::Died { of: "i".to_owned(), exit: Exit::Status(0), began },
                SessionEvent::Ended { then: Then::Rest },
            ] {
                world.apply(&Event::Session(name.clone(), event), at).expect("taken");
            }
            assert_eq!(world.snapshot.sessions[&name].word(), word);
        }
    }

    #[test]
    fn a_doubt_that_came_while_a_person_held_it_stays_when_he_lets_it_go() {
        let at = Timestamp::UNIX_EPOCH;
        let mut world =
            load(None, Vec::new(), Vec::new(), Delegation::default(), "id".to_owned(), at).expect("a world");
        let key = TaskKey::parse("web:a").expect("a key");
        let text = TextFacts { sha256: "1".to_owned(), identity: "1".to_owned(), bytes: 1, modified: at };
        let spec = Arc::new(TaskSpec::default());
        let doubt = task::Hold::Tracked("a.md".to_owned());
        let seen = TaskEvent::Seen { text: text.clone(), spec: spec.clone() };
        let doubtful = TaskEvent::Doubtful { text, spec, why: doubt.clone() };
        let mut phase_after = |event: &TaskEvent| {
            world.apply(&Event::Task(key.clone(), event.clone()), at).expect("taken");
            let task = &world.snapshot.tasks[&key];
            (task.phase.clone(), task.also.clone())
        };
        let held = |hold: &task::Hold| Phase::Held(hold.clone());
        phase_after(&seen);
        assert_eq!(phase_after(&TaskEvent::Hold), (held(&task::Hold::ByVerb), vec![]));
        assert_eq!(phase_after(&doubtful), (held(&task::Hold::ByVerb), vec![doubt.clone()]));
        assert_eq!(phase_after(&TaskEvent::Release), (held(&doubt), vec![]));
        assert_eq!(phase_after(&doubtful).0, held(&doubt));
        assert_eq!(phase_after(&TaskEvent::Release).0, Phase::Queued);
        assert_eq!(phase_after(&doubtful).0, Phase::Queued, "it was told and let go");
    }
}
