//! The built-in rules files, and how one is merged over another.
//! Takes names; returns values. `build.rs` lists the files, so a new one needs no line here.

use serde_json::Value;

/// Each kind's name and text.
const FILES: &[(&str, &str)] = &include!(concat!(env!("OUT_DIR"), "/built_in.rs"));

/// The names of the built-in kinds.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|(name, _)| *name)
}

/// The whole rules of a built-in kind; nothing for another name.
pub(super) fn rules(name: &str) -> Option<Value> {
    let (_, text) = FILES.iter().find(|(known, _)| *known == name)?;
    // A test holds that each of them can be read.
    let own: Value = serde_yaml::from_str(text).ok()?;
    let base = own.get("based_on").and_then(Value::as_str).and_then(rules);
    Some(laid_over(&base.unwrap_or_default(), &own))
}

/// `over` laid on `base`.
pub(super) fn laid_over(base: &Value, over: &Value) -> Value {
    let mut value = base.clone();
    merge(&mut value, over);
    value
}

/// Lays `over` on `base`: objects key by key; lists of named rules by their `rule` (a known name replaces, a new one comes
/// first); everything else is replaced.
pub fn merge(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (Value::Array(base), Value::Array(over))
            if !over.is_empty() && over.iter().all(|v| v.get("rule").is_some()) =>
        {
            for value in over.iter().rev() {
                match base.iter_mut().find(|b| b.get("rule") == value.get("rule")) {
                    Some(known) => merge(known, value),
                    None => base.insert(0, value.clone()),
                }
            }
        }
        (base, over) => *base = over.clone(),
    }
}
