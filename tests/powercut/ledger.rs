//! Records what was acknowledged, outside the machine, and reports what is missing afterwards.

use std::{collections::BTreeMap, fs};

use crate::machine::Machine;

/// Divides the task from its result.
pub const RESULT: &str = "<!-- claude-failover:result -->";

/// Where a task may be.
pub const DIRS: [&str; 4] = ["inbox", "drafts", "done", "failed"];

#[derive(Debug, Default)]
pub struct Ledger {
    /// Each task's text, from when its writer was told that it is saved.
    pub tasks: BTreeMap<String, String>,
    /// Results that a reader saw in done/ or failed/ when the task and its marker had left inbox/, with where.
    pub results: BTreeMap<String, (&'static str, String)>,
}

/// A text with a beginning and an end, of a few bytes or several pages.
pub fn text(id: &str, random: &mut fastrand::Rng) -> String {
    let lines = if random.bool() { 1 } else { random.usize(2..400) };
    let body: String = (0..lines).map(|n| format!("line {n} of the task with the number {id}.\n")).collect();
    format!("task {id} begins.\n{body}demo: ok\ntask {id} ends.\n")
}

impl Ledger {
    /// What of the ledger isn't on the disks, each with a sentence; empty when all is there.
    pub fn losses(&self, machine: &Machine) -> Vec<String> {
        let read = |dir: &str, id: &str| fs::read_to_string(machine.world.queue(&format!("{dir}/{id}.md"))).ok();
        let mut losses = Vec::new();
        for (id, text) in &self.tasks {
            let places: Vec<_> = DIRS.into_iter().filter_map(|dir| Some((dir, read(dir, id)?))).collect();
            for (dir, found) in &places {
                let result = found.strip_prefix(text.as_str());
                // A result ends with its block of facts.
                let whole = match *dir {
                    "done" | "failed" => result.is_some_and(|more| more.contains(RESULT) && more.ends_with("```\n")),
                    _ => result.is_some_and(str::is_empty),
                };
                if !whole {
                    losses.push(format!("{id} is torn in {dir}/: {} of {} bytes", found.len(), text.len()));
                }
            }
            match places.iter().map(|(dir, _)| *dir).collect::<Vec<_>>().as_slice() {
                [] => losses.push(format!("{id} is lost")),
                ["drafts"] => losses.push(format!("{id} was sent, and is back in drafts/")),
                [_] => {}
                // A result comes before its task goes, and task and marker go by one sync: until it the marker is there with
                // the task, and names the same run as the result.
                ["inbox", "done" | "failed"]
                    if !self.results.contains_key(id)
                        || machine.names("inbox").contains(&format!("{id}.md.working")) => {}
                more => losses.push(format!("{id} is in {more:?}")),
            }
        }
        for (id, (dir, seen)) in &self.results {
            if read(dir, id).as_ref() != Some(seen) {
                losses.push(format!("the result of {id}, which was seen, is not in {dir}/"));
            }
        }
        losses
    }
}

#[track_caller]
pub fn nothing_is_lost(ledger: &Ledger, machine: &Machine, round: &str) {
    let losses = ledger.losses(machine);
    assert!(losses.is_empty(), "{round}: {losses:#?}");
}
