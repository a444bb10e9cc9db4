//! Timers for re-checking names: finds the next one due without scanning all.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;

use crate::model::ids::TaskKey;

#[derive(Debug, Default)]
pub(super) struct Wakes {
    at: HashMap<TaskKey, Timestamp>,
    order: BTreeSet<(Timestamp, TaskKey)>,
}

impl Wakes {
    /// Looks at it then, and at no other time; never, without a time.
    pub fn set(&mut self, key: &TaskKey, at: Option<Timestamp>) {
        let known = match at {
            Some(at) => self.at.insert(key.clone(), at),
            None => self.at.remove(key),
        };
        if known == at {
            return;
        }
        if let Some(known) = known {
            self.order.remove(&(known, key.clone()));
        }
        self.order.extend(at.map(|at| (at, key.clone())));
    }

    pub fn get(&self, key: &TaskKey) -> Option<Timestamp> {
        self.at.get(key).copied()
    }

    pub fn next(&self) -> Option<Timestamp> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Those whose time has come; each look sets the next time itself.
    pub fn due(&mut self, now: Timestamp) -> Vec<TaskKey> {
        let mut due = Vec::new();
        while let Some((at, key)) = self.order.pop_first() {
            if at > now {
                self.order.insert((at, key));
                break;
            }
            self.at.remove(&key);
            due.push(key);
        }
        due
    }
}
