//! Converts saved states of version 1 (up to 0.5.0): their lists become keyed parts; their runs, jobs and filings
//! become tasks. Pure.

use serde_json::{Map, Value, json};

/// The version that the conversion produces.
const TO: u32 = 2;

/// As `journal::State`.
type State = Map<String, Value>;

/// `None` when it does not look like one.
pub(super) fn upgrade(mut old: State) -> Option<State> {
    let mut state = State::new();
    state.insert("version".to_owned(), TO.into());
    state.insert("journal".to_owned(), 0.into());
    for part in ["supervisor", "paused", "event_seq", "request_seq", "swaps"] {
        state.extend(old.remove(part).map(|value| (part.to_owned(), value)));
    }
    if let Some(Value::Object(mut clock)) = old.remove("clock") {
        state.extend(clock.remove("timeline").map(|timeline| ("timeline".to_owned(), timeline)));
        state.insert("clock".to_owned(), clock.into());
    }
    for part in ["accounts", "sessions", "providers"] {
        let rows = list(&mut old, part)?.into_iter().map(|row| named(row, "name"));
        state.insert(part.to_owned(), Value::Object(rows.collect::<Option<_>>()?));
    }
    let notices = list(&mut old, "notices")?.into_iter().map(|told| {
        let incident = told.pointer("/notice/incident")?.as_str()?.to_owned();
        Some((incident, told))
    });
    state.insert("notices".to_owned(), Value::Object(notices.collect::<Option<_>>()?));
    for part in ["overrides", "starts", "submitted"] {
        let pairs = list(&mut old, part)?.into_iter().map(|pair| {
            let [key, value] = <[Value; 2]>::try_from(pair.as_array()?.clone()).ok()?;
            Some((key.as_str().unwrap_or_default().to_owned(), value))
        });
        state.insert(part.to_owned(), Value::Object(pairs.collect::<Option<_>>()?));
    }
    let mut tasks = Map::new();
    for part in ["runs", "jobs", "filings"] {
        for row in list(&mut old, part)? {
            let (key, mut task) = named(row, "task")?;
            let fields = task.as_object_mut()?;
            let work =
                ["run", "job"].map(|kind| fields.remove(kind).filter(|work| !work.is_null()).map(|work| (kind, work)));
            let work = work.into_iter().flatten().next().map_or(Value::Null, |(kind, work)| json!({ kind: work }));
            fields.insert("work".to_owned(), work);
            tasks.insert(key, task);
        }
    }
    state.insert("tasks".to_owned(), tasks.into());
    Some(state)
}

/// A part that is a list; one that isn't there is empty.
fn list(state: &mut State, part: &str) -> Option<Vec<Value>> {
    match state.remove(part) {
        None => Some(Vec::new()),
        Some(Value::Array(rows)) => Some(rows),
        Some(_) => None,
    }
}

/// A row by what names it.
fn named(mut row: Value, field: &str) -> Option<(String, Value)> {
    let name = row.as_object_mut()?.remove(field)?;
    Some((name.as_str()?.to_owned(), row))
}
