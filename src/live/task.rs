//! Applies task events to the world: the phase by the state table, and everything else known of the task.
//! Takes an event and `now`; returns the changed world or a refusal. Pure.

use std::sync::Arc;

use jiff::Timestamp;

use super::world::{Refusal, Tried, World};
use crate::model::{
    event::{Kind, Reason},
    identity::TextFacts,
    ids::TaskKey,
    provider::{JobStop, Wish},
    snapshot::RECENT_FINISHED,
    task::{self, After, Delivery, EndedBy, Known, Phase, Status, Stop, Task, TaskEvent, TaskRefusal, Work},
};

impl World {
    pub(super) fn task(&mut self, key: &TaskKey, event: &TaskEvent, now: Timestamp) -> Result<(), Refusal> {
        let known = self.snapshot.tasks.get(key).cloned();
        let vouched;
        let event = match event {
            TaskEvent::Doubtful { text, spec, .. } if self.vouched(key, text) => {
                vouched = TaskEvent::Seen { text: text.clone(), spec: spec.clone() };
                &vouched
            }
            _ => event,
        };
        let mut task = match &known {
            // A finished task's name is free.
            Some(task) if !(matches!(task.phase, Phase::Finished(_)) && event.begins()) => (**task).clone(),
            Some(_) => self.blank(key, now),
            None if event.begins() => self.blank(key, now),
            None if matches!(event, TaskEvent::Vanished { .. }) => return Ok(()),
            None => return Err(Refusal::NoTask(key.clone())),
        };
        if let (TaskEvent::Ended { told: Some(told), .. }, Phase::Working(run)) = (event, &task.phase)
            && let Some(gone) = self.snapshot.sessions.get(&run.session).and_then(|session| session.gone.as_ref())
            && gone.at() <= *told
            && run.heard_from() <= gone.at()
        {
            return Err(Refusal::Task(key.clone(), TaskRefusal::BeingEnded(run.session.clone())));
        }
        if let TaskEvent::Ended { ending, .. } = event
            && ending.status == Status::Done
        {
            self.praise_account(&task, now);
        }
        let before = task.text.clone();
        self.learn(&mut task, event);
        let against = self.stands_against(&task, now);
        let facts = Known { text: before.as_ref(), against: against.as_ref() };
        match task::step(&task.phase, facts, event, now).map_err(|e| Refusal::Task(key.clone(), e))? {
            After::Gone => {
                self.snapshot.tasks.remove(key);
                self.overrides.remove(key);
                self.note(now, Kind::Task, Reason::Gone, key, "gone: its file was removed".to_owned());
                return Ok(());
            }
            After::Same => {}
            After::Now(phase) => self.task_moved(&mut task, phase, event, now),
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

    /// What an event changes in a task besides its phase.
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
                task.note = Some(format!("attempt {} was taken back: {why}", task.attempts));
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

    fn task_moved(&mut self, task: &mut Task, phase: Phase, event: &TaskEvent, now: Timestamp) {
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
        // A person must act: reported whatever held it before.
        let held_anew = matches!(&phase, Phase::Held(hold) if hold.needs_person()) && task.phase != phase;
        if moved {
            task.since = now;
        }
        task.phase = phase;
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
                let reason = match status {
                    Status::Done => Reason::Done,
                    Status::Failed => Reason::Failed,
                    Status::Cancelled => Reason::Cancelled,
                };
                self.note(now, Kind::Task, reason, &*task, format!("{}{by}{error}", status.word()));
                self.snapshot.tasks.keep_finished(RECENT_FINISHED - 1);
            }
            Phase::Working(run) => match &run.delivery {
                Delivery::NotBegun if run.stop != Stop::No => {
                    self.note(now, Kind::Task, Reason::Stopping, &*task, "to be stopped".to_owned());
                }
                Delivery::NotBegun => {
                    let text = format!("working: attempt {} in {} (run {})", run.attempt, run.session, run.id);
                    self.note(now, Kind::Task, Reason::Claimed, &*task, text);
                }
                Delivery::Begun | Delivery::Taken { .. } if run.stop != Stop::No => {
                    self.note(now, Kind::Task, Reason::Stopping, &*task, "to be stopped".to_owned());
                }
                Delivery::Begun => {
                    // How an earlier program went says nothing of this run.
                    if let Some(session) = self.snapshot.sessions.get_mut(&run.session) {
                        Arc::make_mut(session).gone = None;
                    }
                }
                Delivery::Taken { .. } => {
                    self.note(now, Kind::Task, Reason::Taken, &*task, format!("taken by {}", run.session));
                }
            },
            Phase::Delegated(job) => self.note_job(task, job, event, now),
            Phase::Held(hold) if moved || held_anew || hold.ended_by() == EndedBy::Release => {
                self.note(now, Kind::Task, Reason::Held, &*task, format!("held: {hold}"));
            }
            Phase::Rejected(problem) => {
                self.note(now, Kind::Task, Reason::Rejected, &*task, format!("rejected: {problem}"));
            }
            Phase::Queued => {
                let why = task.note.as_deref().map(|note| format!(": {note}")).unwrap_or_default();
                self.note(now, Kind::Task, Reason::Queued, &*task, format!("queued{why}"));
            }
            Phase::Held(_) | Phase::Filing(_) => {}
        }
    }

    /// A task of which nothing is known but what was saved of its name.
    pub(super) fn blank(&self, key: &TaskKey, now: Timestamp) -> Task {
        let origin = self.overrides.get(key).and_then(|said| said.origin.clone()).unwrap_or_default();
        Task { origin, ..Task::new(key.clone(), now) }
    }
}

/// What a task's `why` says of its file while an agent works on it.
const FILE_GONE: &str = "its file is gone from the inbox; the work goes on and its result will be filed";
const FILE_CHANGED: &str = "its file has changed since it was claimed; the earlier text is being worked on";

/// Index of a status in `Snapshot::finished`.
const _: () = assert!(Status::Done as usize == 0 && Status::Failed as usize == 1 && Status::Cancelled as usize == 2);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        live::load,
        model::{event::Event, provider::Delegation},
    };

    #[test]
    fn a_doubt_that_came_while_a_person_held_it_stays_when_he_lets_it_go() {
        let at = Timestamp::UNIX_EPOCH;
        let mut world =
            load(None, Vec::new(), Vec::new(), Delegation::default(), "id".to_owned(), at).expect("a world");
        let key = TaskKey::parse("web:a").expect("a key");
        let text = TextFacts { sha256: "1".to_owned(), identity: "1".to_owned(), bytes: 1, modified: at };
        let spec = Arc::<task::TaskSpec>::default();
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

    #[test]
    fn a_person_s_hold_outlives_a_text_that_is_broken_and_mended() {
        let at = Timestamp::UNIX_EPOCH;
        let mut world =
            load(None, Vec::new(), Vec::new(), Delegation::default(), "id".to_owned(), at).expect("a world");
        let key = TaskKey::parse("web:a").expect("a key");
        let seen = |sha: &str| TaskEvent::Seen {
            text: TextFacts { sha256: sha.to_owned(), identity: sha.to_owned(), bytes: 1, modified: at },
            spec: Arc::default(),
        };
        let problem = task::Problem { line: 2, column: 1, message: "m".to_owned() };
        let mut phase_after = |event: TaskEvent| {
            world.apply(&Event::Task(key.clone(), event), at).expect("taken");
            world.snapshot.tasks[&key].phase.clone()
        };
        assert_eq!(phase_after(seen("1")), Phase::Queued);
        assert_eq!(phase_after(TaskEvent::Hold), Phase::Held(task::Hold::ByVerb));
        assert_eq!(phase_after(TaskEvent::Rejected(problem.clone())), Phase::Rejected(problem));
        assert_eq!(phase_after(seen("2")), Phase::Held(task::Hold::ByVerb));
        assert_eq!(phase_after(TaskEvent::Release), Phase::Queued);
    }
}
