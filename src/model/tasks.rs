//! Indexes of all tasks in a snapshot, in the orders that services need.
//! Takes tasks as they change; returns all by key, the waiting ones in lanes, those of one stage, and counts. The
//! orders are updated on each change, so code that needs a few never scans all. A clone shares everything.

use std::{cmp::Reverse, ops::Deref, sync::Arc};

use imbl::{OrdMap, OrdSet};
use jiff::Timestamp;

use crate::model::{
    ids::{ProjectName, ProviderName, TaskKey},
    provider::Wish,
    task::{Phase, Task, TaskSpec},
};

/// Tasks that wait and may go to the same sessions and providers: where the first of them can't go now, none of them can.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lane {
    pub priority: Reverse<i32>,
    pub project: ProjectName,
    spec: Arc<TaskSpec>,
    wish: Option<Wish>,
    refused_by: Vec<ProviderName>,
}

/// A task's place in its lane: the oldest file first, then the name.
pub type Turn = (Option<Timestamp>, TaskKey);

/// A phase without what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Held,
    Queued,
    Rejected,
    Working,
    Delegated,
    Filing,
    Finished,
}

/// The number of variants of `Stage`.
const STAGES: usize = 7;

#[derive(Debug, Clone, Default)]
pub struct Tasks {
    all: OrdMap<TaskKey, Arc<Task>>,
    waiting: OrdMap<Lane, OrdSet<Turn>>,
    /// By stage, but for those that wait or are finished.
    others: [OrdSet<TaskKey>; STAGES],
    finished: OrdSet<(Timestamp, TaskKey)>,
    counts: OrdMap<ProjectName, [u64; STAGES]>,
}

/// Reading it is reading the map of all.
impl Deref for Tasks {
    type Target = OrdMap<TaskKey, Arc<Task>>;

    fn deref(&self) -> &Self::Target {
        &self.all
    }
}

impl FromIterator<(TaskKey, Arc<Task>)> for Tasks {
    fn from_iter<I: IntoIterator<Item = (TaskKey, Arc<Task>)>>(all: I) -> Self {
        let mut tasks = Self::default();
        all.into_iter().for_each(|(key, task)| tasks.insert(key, task));
        tasks
    }
}

impl Tasks {
    pub fn insert(&mut self, key: TaskKey, task: Arc<Task>) {
        let known = self.all.insert(key, task.clone());
        if known.as_ref().is_some_and(|known| is_placed_alike(known, &task)) {
            return;
        }
        if let Some(known) = known {
            self.forget(&known);
        }
        let stage = stage(&task.phase);
        match stage {
            Stage::Queued => drop(self.waiting.entry(lane(&task)).or_default().insert(turn(&task))),
            Stage::Finished => drop(self.finished.insert((task.since, task.key.clone()))),
            Stage::Held | Stage::Rejected | Stage::Working | Stage::Delegated | Stage::Filing => {
                self.others[stage as usize].insert(task.key.clone());
            }
        }
        self.counts.entry(task.key.project.clone()).or_insert([0; STAGES])[stage as usize] += 1;
    }

    pub fn remove(&mut self, key: &TaskKey) {
        if let Some(known) = self.all.remove(key) {
            self.forget(&known);
        }
    }

    fn forget(&mut self, task: &Task) {
        let stage = stage(&task.phase);
        match stage {
            Stage::Queued => {
                let lane = lane(task);
                if let Some(turns) = self.waiting.get_mut(&lane) {
                    turns.remove(&turn(task));
                    if turns.is_empty() {
                        self.waiting.remove(&lane);
                    }
                }
            }
            Stage::Finished => drop(self.finished.remove(&(task.since, task.key.clone()))),
            Stage::Held | Stage::Rejected | Stage::Working | Stage::Delegated | Stage::Filing => {
                self.others[stage as usize].remove(&task.key);
            }
        }
        if let Some(counts) = self.counts.get_mut(&task.key.project) {
            counts[stage as usize] -= 1;
        }
    }

    /// Those that wait, the most urgent lanes first.
    pub fn lanes(&self) -> impl Iterator<Item = (&Lane, &OrdSet<Turn>)> {
        self.waiting.iter()
    }

    #[must_use]
    pub fn is_any_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub fn held(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.of(Stage::Held)
    }

    pub fn rejected(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.of(Stage::Rejected)
    }

    pub fn working(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.of(Stage::Working)
    }

    pub fn delegated(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.of(Stage::Delegated)
    }

    pub fn filing(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.of(Stage::Filing)
    }

    /// Those whose result is on disk, the oldest first.
    pub fn finished(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.finished.iter().filter_map(|(_, key)| self.all.get(key))
    }

    /// Forgets the oldest of those until no more than `most` are left.
    pub fn keep_finished(&mut self, most: usize) {
        while self.finished.len() > most
            && let Some((_, oldest)) = self.finished.get_min().cloned()
        {
            self.remove(&oldest);
        }
    }

    fn of(&self, stage: Stage) -> impl Iterator<Item = &Arc<Task>> {
        self.others[stage as usize].iter().filter_map(|key| self.all.get(key))
    }

    /// How many are at work in a session, or were just now and have no result on disk.
    #[must_use]
    pub fn at_work(&self, project: &ProjectName) -> u64 {
        let counts = self.counts(project);
        counts[Stage::Working as usize] + counts[Stage::Filing as usize]
    }

    /// Those of one project that are not finished: held, queued, rejected, working, delegated.
    #[must_use]
    pub fn open_counts(&self, project: &ProjectName) -> [u64; 5] {
        let count = |stage: Stage| self.counts(project)[stage as usize];
        let [held, queued, rejected, delegated] =
            [Stage::Held, Stage::Queued, Stage::Rejected, Stage::Delegated].map(count);
        [held, queued, rejected, self.at_work(project), delegated]
    }

    /// How many are not finished.
    #[must_use]
    pub fn open(&self) -> usize {
        self.all.len() - self.finished.len()
    }

    fn counts(&self, project: &ProjectName) -> [u64; STAGES] {
        self.counts.get(project).copied().unwrap_or_default()
    }
}

fn stage(phase: &Phase) -> Stage {
    match phase {
        Phase::Held(_) => Stage::Held,
        Phase::Queued => Stage::Queued,
        Phase::Rejected(_) => Stage::Rejected,
        Phase::Working(_) => Stage::Working,
        Phase::Delegated(_) => Stage::Delegated,
        Phase::Filing(_) => Stage::Filing,
        Phase::Finished(_) => Stage::Finished,
    }
}

fn lane(task: &Task) -> Lane {
    Lane {
        priority: Reverse(task.priority),
        project: task.key.project.clone(),
        spec: task.spec.clone(),
        wish: task.wish.clone(),
        refused_by: task.refused_by.clone(),
    }
}

fn turn(task: &Task) -> Turn {
    (task.text.as_ref().map(|text| text.modified), task.key.clone())
}

/// Whether a task keeps its place in every order.
fn is_placed_alike(known: &Task, task: &Task) -> bool {
    let stages = (stage(&known.phase), stage(&task.phase));
    match stages {
        (Stage::Queued, Stage::Queued) => {
            known.priority == task.priority
                && known.spec == task.spec
                && known.wish == task.wish
                && known.refused_by == task.refused_by
                && turn(known) == turn(task)
        }
        (Stage::Finished, Stage::Finished) => known.since == task.since,
        (known, new) => known == new,
    }
}
