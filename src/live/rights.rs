//! Applies rights to the world: who wrote a task, and whether it may run.
//! Takes what the mount reports about writers, and the configuration; holds tasks with the reason, or releases them.
//! Pure. A task in the inbox is judged whenever its text, its writer or the configuration changes.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::world::World;
use crate::model::{
    event::{Kind, Reason},
    identity::Bound,
    ids::TaskKey,
    task::{EndedBy, Hold, Origin, Phase, Task},
    writer::By,
};

/// The window of `dispatcher.subtasks_per_hour`.
const HOUR: SignedDuration = SignedDuration::from_hours(1);

impl World {
    /// Somebody made a task of a text, or of the same text again.
    pub(super) fn origin(&mut self, key: &TaskKey, origin: &Origin, now: Timestamp) {
        let known = self.snapshot.tasks.get(key).cloned();
        let mut task = match known {
            // Whoever touches the file of a running task is not who wrote what runs.
            Some(task) if matches!(task.phase, Phase::Working(_) | Phase::Delegated(_) | Phase::Filing(_)) => return,
            Some(task) if !matches!(task.phase, Phase::Finished(_)) => (*task).clone(),
            Some(_) | None => self.blank(key, now),
        };
        let by = |origin: &Origin| origin.writer.as_ref().map_or(By::Unknown, |writer| writer.by);
        if task.origin.text.is_some() && task.origin.text == origin.text && by(&task.origin) >= by(origin) {
            // Saving what stands there, or its bookkeeping, takes nothing away.
            return;
        }
        task.origin = origin.clone();
        self.keep_origin(&task);
        self.judge(&mut task, now);
        self.snapshot.tasks.insert(key.clone(), Arc::new(task));
    }

    /// Judges every waiting task again.
    pub(super) fn judge_all(&mut self, now: Timestamp) {
        for known in self.snapshot.tasks.clone().values() {
            let mut task = (**known).clone();
            self.judge(&mut task, now);
            if **known != task {
                self.snapshot.tasks.insert(task.key.clone(), Arc::new(task));
            }
        }
    }

    /// Holds a task that may not run as it is, and lets go one that was held for that and may run now.
    pub(super) fn judge(&mut self, task: &mut Task, now: Timestamp) {
        task.also = Vec::new();
        let judged = match &task.phase {
            Phase::Queued => true,
            Phase::Held(hold) if hold.ended_by() == EndedBy::Release => {
                let objection = task.bound().and_then(|text| self.objection(task, &text, now));
                let reasons = self.said_against(task).into_iter().chain(objection);
                task.also = reasons.filter(|reason| reason != hold).collect();
                false
            }
            Phase::Held(hold) => hold.needs_person(),
            Phase::Rejected(_) | Phase::Working(_) | Phase::Delegated(_) | Phase::Filing(_) | Phase::Finished(_) => {
                false
            }
        };
        let Some(text) = task.bound().filter(|_| judged) else { return };
        let phase = self.against(task, &text, now).map_or(Phase::Queued, Phase::Held);
        if task.phase == phase {
            return;
        }
        if task.phase.word() != phase.word() {
            task.since = now;
        }
        task.phase = phase;
        let (reason, told) = if let Phase::Held(hold) = &task.phase {
            (Reason::Held, format!("held: {hold}"))
        } else {
            (Reason::Queued, "queued: it may run now".to_owned())
        };
        self.note(now, Kind::Task, reason, &*task, told);
    }

    /// Clears the one reason that the task's state shows, for this text. Other reasons keep it held and are shown next:
    /// nobody releases what they were not shown.
    pub(super) fn release(&mut self, task: &Task) {
        let Phase::Held(hold) = &task.phase else { return };
        let said = self.overrides.entry(task.key.clone()).or_default();
        match hold.ended_by() {
            EndedBy::Release if *hold == Hold::ByVerb => said.held = false,
            EndedBy::Release => {
                if *hold != Hold::ChangedWhileWorking {
                    said.vouched = task.text.as_ref().map(|text| text.sha256.clone());
                }
                // A doubt says of the same text that it is there unasked.
                said.kept = None;
            }
            EndedBy::Permission => said.released = task.bound(),
            EndedBy::Time | EndedBy::File | EndedBy::Configuration => {}
        }
    }

    /// What a person or the queue has against this text, beside whose right it is; what is let go first comes first.
    fn said_against(&self, task: &Task) -> Vec<Hold> {
        let said = self.overrides.get(&task.key).cloned().unwrap_or_default();
        let sha256 = task.text.as_ref().map(|text| text.sha256.clone());
        let is_kept = said.kept.is_some() && said.kept == sha256;
        let doubt = task.doubt.clone().filter(|_| said.vouched.is_none() || said.vouched != sha256);
        let by_verb = said.held.then_some(Hold::ByVerb);
        by_verb.into_iter().chain(doubt).chain(is_kept.then_some(Hold::ChangedWhileWorking)).collect()
    }

    /// What prevents it from running, besides the state machine's own reasons.
    pub(super) fn stands_against(&self, task: &Task, now: Timestamp) -> Option<Hold> {
        let said = self.said_against(task).into_iter().next();
        said.or_else(|| task.bound().and_then(|text| self.objection(task, &text, now)))
    }

    /// Why this text may not do what it asks for.
    fn objection(&self, task: &Task, text: &Bound, now: Timestamp) -> Option<Hold> {
        let released = self.overrides.get(&task.key).is_some_and(|said| said.released.as_ref() == Some(text));
        let by = if released { By::Person } else { task.origin.by(text) };
        let rights = &self.snapshot.rights;
        let brake = || {
            let braked = !released && !task.origin.counted;
            rights.brake(&task.origin, self.lately(task, now).len()).filter(|_| braked)
        };
        rights.against(text.agent.as_ref(), by).or_else(brake)
    }

    /// When its root and descendants submitted tasks, within the last hour.
    fn lately(&self, task: &Task, now: Timestamp) -> Vec<Timestamp> {
        let times = self.submitted.get(&task.origin.root).into_iter().flatten().copied();
        times.filter(|at| now.duration_since(*at).abs() < HOUR).collect()
    }

    /// Why it may not run; counts it, when it may, with what its root has submitted.
    fn against(&mut self, task: &mut Task, text: &Bound, now: Timestamp) -> Option<Hold> {
        if let Some(hold) = self.objection(task, text, now) {
            return Some(hold);
        }
        if task.origin.depth == 0 || task.origin.counted {
            return None;
        }
        let mut times = self.lately(task, now);
        times.push(now);
        let lately = |at: &Timestamp| now.duration_since(*at).abs() < HOUR;
        self.submitted = self
            .submitted
            .iter()
            .filter(|(_, times)| times.last().is_some_and(lately))
            .map(|(root, times)| (root.clone(), times.clone()))
            .collect();
        self.submitted.insert(task.origin.root.clone(), times);
        task.origin.counted = true;
        self.keep_origin(task);
        None
    }

    /// Saves where a waiting task comes from, when what it may do hangs on that: the queue's files don't hold it.
    fn keep_origin(&mut self, task: &Task) {
        let origin = &task.origin;
        let agent = origin.text.as_ref().and_then(|text| text.agent.as_ref());
        let by = origin.writer.as_ref().map_or(By::Unknown, |writer| writer.by);
        let hangs = self.snapshot.rights.against(agent, By::Unknown).is_some() && by == By::Person;
        let kept = (hangs || origin.depth > 0).then(|| origin.clone());
        if kept.is_none() && self.overrides.get(&task.key).is_none_or(|said| said.origin.is_none()) {
            return;
        }
        self.overrides.entry(task.key.clone()).or_default().origin = kept;
    }
}
