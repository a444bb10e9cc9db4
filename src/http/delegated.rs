//! `/api/delegated/status`: tasks at providers.
//! Renders a snapshot as JSON, or nothing if no providers are configured. Omits text that providers sent.

use serde_json::{Value, json};

use crate::{
    model::provider::Provider,
    render::{self, Picture},
};

pub fn status(picture: &Picture) -> Option<Value> {
    let snapshot = picture.snapshot;
    let delegation = &snapshot.delegation;
    if !delegation.is_on() {
        return None;
    }
    let jobs = snapshot.tasks.delegated().filter_map(|task| {
        let job = task.phase.delegated()?;
        Some(json!({
            "id": snapshot.display_id(&task.key),
            "project": task.key.project,
            "provider": job.provider,
            "job": job.id.as_deref().filter(|id| is_plain(id)),
            "since": picture.shown(job.claimed),
        }))
    });
    let jobs: Vec<Value> = jobs.collect();
    let providers = &delegation.providers;
    let cost_usd: f64 = providers.iter().map(|provider| provider.counters.cost_usd).sum();
    Some(json!({
        "version": 1,
        "at": snapshot.at,
        "enabled": true,
        "active": jobs.len(),
        "completed": providers.iter().map(|provider| provider.counters.completed).sum::<u64>(),
        "failed": providers.iter().map(|provider| provider.counters.failed).sum::<u64>(),
        // The sum of no floats is -0.
        "cost_usd": cost_usd + 0.0,
        "providers": providers.iter().map(|provider| row(picture, provider)).collect::<Vec<_>>(),
        "jobs": jobs,
    }))
}

/// An id is a provider's word: one that is more than an id is not passed on.
fn is_plain(id: &str) -> bool {
    id.chars().all(|c| c.is_ascii_graphic())
}

fn row(picture: &Picture, provider: &Provider) -> Value {
    json!({
        "name": provider.name,
        "kind": provider.kind,
        "state": provider.standing.word(),
        "since": picture.shown(provider.since),
        "until": provider.until().map(|until| picture.shown(until)),
        "active": render::provider::own(picture, provider).count(),
        "max_jobs": provider.max_jobs,
        "completed": provider.counters.completed,
        "failed": provider.counters.failed,
        "cost_usd": provider.counters.cost_usd,
    })
}
