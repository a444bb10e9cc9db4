//! Shell completion candidates: names that the daemon knows now. Empty without a daemon; never an error, never slow.

use std::time::Duration;

use clap_complete::CompletionCandidate;

use super::{
    mount::Mount,
    status_file::{self, Status},
};
use crate::config::paths;

/// Timeout of completion. Chosen: a person waits with a finger on the key.
const WITHIN: Duration = Duration::from_millis(500);

fn names(pick: impl Fn(&Status) -> Vec<(String, String)>) -> Vec<CompletionCandidate> {
    let env = &paths::process_env;
    let dir = env("CLAUDE_FAILOVER_MOUNT").map_or_else(|| paths::mountpoint(env), Into::into);
    let Ok(status) = status_file::read(&Mount::new(dir, env), WITHIN) else { return Vec::new() };
    let candidate = |(name, help): (String, String)| CompletionCandidate::new(name).help(Some(help.into()));
    pick(&status).into_iter().map(candidate).collect()
}

pub fn tasks() -> Vec<CompletionCandidate> {
    names(|status| status.tasks.iter().map(|task| (task.id.clone(), task.state.clone())).collect())
}

pub fn sessions() -> Vec<CompletionCandidate> {
    names(|status| status.sessions.iter().map(|session| (session.name.clone(), session.state.clone())).collect())
}

pub fn projects() -> Vec<CompletionCandidate> {
    names(|status| status.queues.iter().map(|queue| (queue.project.clone(), queue.path.clone())).collect())
}
