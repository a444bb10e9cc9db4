//! Renders swaps, and what waits for an account, in `status` and `status.json`.

use serde_json::{Value, json};

use crate::{
    model::{
        session::Activity,
        swap::{Cause, SwapRefusal, SwapStep},
    },
    render::{Picture, clean, session, words},
};

/// Sentences, a line each, most pressing first; none when nobody ever swapped or waits.
#[must_use]
pub fn lines(picture: &Picture) -> Vec<String> {
    let snapshot = picture.snapshot;
    let swaps = &snapshot.swaps;
    let mut lines = Vec::new();
    if let Some(partial) = &swaps.partial {
        lines.push(SwapRefusal::from(partial).to_string());
    }
    if let Some(swap) = &swaps.current {
        let moving = snapshot.sessions.values().filter(|session| session.resume.is_some()).count();
        let moving = match swap.step {
            SwapStep::Move => format!(", sessions on their way: {moving}"),
            SwapStep::Flip | SwapStep::Ensure | SwapStep::RollBack { .. } => String::new(),
        };
        lines.push(format!(
            "swap {} from {} to {} under way for {}: {} for {}{moving}; {}",
            swap.number,
            swap.from,
            swap.to,
            words::age(picture, swap.begun),
            swap.step.word(),
            words::age(picture, swap.since),
            swap.cause.words()
        ));
    }
    if let Some(last) = &swaps.last {
        let end = match &last.error {
            None => format!("done; {}", last.cause.words()),
            Some(error) => format!("failed: {error}"),
        };
        let (ago, took) = (words::age(picture, last.ended), words::span(last.begun, last.ended));
        lines.push(format!("last swap {} from {} to {}, {ago} ago in {took}: {end}", last.number, last.from, last.to));
    }
    let parked = snapshot.sessions.values().filter(|session| session.verdict.activity == Activity::Limited);
    let parked = parked.filter_map(|session| {
        let task = snapshot.display_id(&session.task.as_ref()?.task);
        let until = session::parked_until(picture, session).map(|until| format!(", {}", words::at(picture, until)));
        Some(format!("{} (task {task}{})", session.name, until.unwrap_or_default()))
    });
    let parked: Vec<String> = parked.collect();
    if !parked.is_empty() {
        lines.push(format!("stopped by a limit: {}", parked.join(", ")));
    }
    let resets = snapshot.accounts.iter().filter_map(|account| Some((account.until()?, &account.name)));
    if let Some((until, name)) = resets.min() {
        lines.push(format!("next reset: {name} {}", words::at(picture, until)));
    }
    lines.into_iter().map(|line| clean(&line).replace('\n', " ")).collect()
}

/// The same for programs.
#[must_use]
pub fn value(picture: &Picture) -> Value {
    let swaps = &picture.snapshot.swaps;
    let under_way = swaps.current.as_ref().map(|swap| {
        json!({
            "number": swap.number,
            "from": swap.from,
            "to": swap.to,
            "cause": cause(&swap.cause),
            "why": swap.cause.words(),
            "begun": swap.begun,
            "step": swap.step.word(),
            "since": picture.shown(swap.since),
        })
    });
    let last = swaps.last.as_ref().map(|last| {
        json!({
            "number": last.number,
            "from": last.from,
            "to": last.to,
            "cause": cause(&last.cause),
            "why": last.cause.words(),
            "begun": last.begun,
            "ended": last.ended,
            "error": last.error,
        })
    });
    let partial = swaps.partial.as_ref().map(|partial| {
        json!({
            "number": partial.swap,
            "error": partial.why,
            "since": picture.shown(partial.since),
        })
    });
    json!({"under_way": under_way, "last": last, "partial": partial, "lines": lines(picture)})
}

fn cause(cause: &Cause) -> &'static str {
    match cause {
        Cause::Out { .. } => "out",
        Cause::Proactive { .. } => "proactive",
        Cause::Person { .. } => "person",
    }
}
