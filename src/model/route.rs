//! Decides whether a task runs in a local session or goes to a provider, and to which (INTERFACE 5).
//! Takes its frontmatter, a person's wish and the providers; returns the providers to try in order, none for a local
//! session. Pure.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;

use crate::model::{
    ids::ProviderName,
    provider::{Delegation, Provider, Wish},
    snapshot::Snapshot,
    task::{Task, TaskSpec},
};

/// Name of a local session instead of a provider.
pub const LOCAL: &str = "local";

/// The value of `preferred_ai` for a local session (INTERFACE 5).
pub const CLAUDE_CODE: &str = "claude-code";

/// The value of `preferred_ai` that leaves the choice open.
pub const AUTO: &str = "auto";
/// The words of `complexity_hint`, in the order of the table's rows.
pub const HINTS: [&str; 3] = ["low", "medium", "high"];
/// The row of a task without a hint: index of `medium` in `HINTS`.
const MEDIUM: usize = 1;

/// What decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// There is no provider.
    Off,
    Wished,
    NeedsClaudeCode,
    PrefersClaudeCode,
    NotAllowed,
    NoPreference,
    /// The value matches no provider.
    Unknown(String),
    Preferred(String),
    /// `auto`, by the table's row for this hint.
    Auto(&'static str),
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("no provider is configured"),
            Self::Wished => f.write_str("a person sent it there"),
            Self::NeedsClaudeCode => f.write_str("needs_claude_code is set"),
            Self::PrefersClaudeCode => write!(f, "preferred_ai is {CLAUDE_CODE}"),
            Self::NotAllowed => f.write_str("allow_delegation is not set"),
            Self::NoPreference => f.write_str("it has no preferred_ai"),
            Self::Unknown(word) => write!(f, "no provider is meant by preferred_ai {word:?}"),
            Self::Preferred(word) => write!(f, "preferred_ai is {word}"),
            Self::Auto(hint) => write!(f, "preferred_ai is {AUTO}, complexity {hint}"),
        }
    }
}

/// Where a task goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Providers in the order in which they are tried; after the last comes a session here.
    pub chain: Vec<ProviderName>,
    pub rule: Rule,
}

/// Where a task goes at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pick {
    /// A session here.
    Here,
    Provider(ProviderName),
    /// To this provider, once one of its jobs has ended.
    Wait(ProviderName),
}

/// The rules, the first that applies: a person's wish, `needs_claude_code`, `preferred_ai: claude-code`,
/// `allow_delegation`, `preferred_ai`, here.
#[must_use]
pub fn route(spec: &TaskSpec, wish: Option<&Wish>, delegation: &Delegation) -> Route {
    let here = |rule| Route { chain: Vec::new(), rule };
    if !delegation.is_on() {
        return here(Rule::Off);
    }
    let word = spec.preferred_ai.as_deref().map(str::to_ascii_lowercase);
    match wish {
        Some(Wish::Here) => return here(Rule::Wished),
        Some(Wish::Provider(Some(name))) => {
            return Route { chain: chain(std::slice::from_ref(name), delegation), rule: Rule::Wished };
        }
        Some(Wish::Provider(None)) => {
            let first = word.as_deref().map(|word| meant(word, spec, delegation).0).unwrap_or_default();
            let first = if first.is_empty() { names(&delegation.auto[hint(spec).0]) } else { first };
            let all = || delegation.providers.iter().map(|provider| provider.name.clone()).collect();
            let first = if first.is_empty() { all() } else { first };
            return Route { chain: chain(&first, delegation), rule: Rule::Wished };
        }
        None => {}
    }
    if spec.needs_claude_code {
        return here(Rule::NeedsClaudeCode);
    }
    if word.as_deref() == Some(CLAUDE_CODE) {
        return here(Rule::PrefersClaudeCode);
    }
    if !spec.allow_delegation {
        return here(Rule::NotAllowed);
    }
    match word.as_deref() {
        None => here(Rule::NoPreference),
        Some(word) => {
            let (first, rule) = meant(word, spec, delegation);
            Route { chain: chain(&first, delegation), rule }
        }
    }
}

/// Where the task goes now: the first of its chain that can take it and has not refused it.
#[must_use]
pub fn pick(task: &Task, delegation: &Delegation, busy: &BTreeMap<ProviderName, u32>, now: Timestamp) -> Pick {
    let route = route(&task.spec, task.wish.as_ref(), delegation);
    let open = |name: &&ProviderName| {
        !task.refused_by.contains(name) && delegation.get(name).is_some_and(|provider| provider.can_try(now))
    };
    match route.chain.iter().find(open).and_then(|name| delegation.get(name)) {
        None => Pick::Here,
        Some(Provider { name, max_jobs, .. }) if busy.get(name).is_none_or(|jobs| jobs < max_jobs) => {
            Pick::Provider(name.clone())
        }
        Some(Provider { name, .. }) => Pick::Wait(name.clone()),
    }
}

/// Why a task that asks for a provider is done elsewhere: by `to`, or by a session here. `None` where it goes where it asked.
#[must_use]
pub fn instead(task: &Task, delegation: &Delegation, to: Option<&ProviderName>) -> Option<String> {
    let word = task.spec.preferred_ai.as_deref().filter(|word| !word.eq_ignore_ascii_case(CLAUDE_CODE));
    let route = route(&task.spec, task.wish.as_ref(), delegation);
    let asked = match (&route.rule, word) {
        (Rule::Wished, _) => "a person sent it to a provider".to_owned(),
        (_, Some(word)) => format!("preferred_ai is {word}"),
        (_, None) => return None,
    };
    match &route.rule {
        Rule::NeedsClaudeCode | Rule::PrefersClaudeCode | Rule::NoPreference => None,
        Rule::Off | Rule::NotAllowed => Some(format!("{asked}, but {}", route.rule)),
        Rule::Unknown(_) => {
            let known: Vec<&str> = delegation.providers.iter().map(|provider| provider.name.as_str()).collect();
            Some(format!("{asked}, but no provider has that name or serves it; known: {}", known.join(", ")))
        }
        Rule::Wished | Rule::Preferred(_) | Rule::Auto(_) => {
            let passed = route.chain.iter().take_while(|name| Some(*name) != to);
            let passed: Vec<String> =
                passed.map(|name| format!("provider {name} {}", out(task, delegation, name))).collect();
            (!passed.is_empty()).then(|| format!("{asked}, but {}", passed.join("; ")))
        }
    }
}

/// Why a provider does not take the task now.
fn out(task: &Task, delegation: &Delegation, name: &ProviderName) -> String {
    let standing = delegation.get(name).map(|provider| (provider.standing.word(), provider.standing.why()));
    match standing {
        _ if task.refused_by.contains(name) => "refused it".to_owned(),
        Some((word, Some(why))) => format!("is {word}: {why}"),
        Some((_, None)) => "could not take it".to_owned(),
        None => "is not configured".to_owned(),
    }
}

/// How many jobs each provider has.
#[must_use]
pub fn busy(snapshot: &Snapshot) -> BTreeMap<ProviderName, u32> {
    let mut busy = BTreeMap::new();
    if snapshot.delegation.is_on() {
        for task in snapshot.tasks.delegated() {
            if let Some(job) = task.phase.delegated() {
                *busy.entry(job.provider.clone()).or_default() += 1;
            }
        }
    }
    busy
}

/// The providers that a value matches.
fn meant(word: &str, spec: &TaskSpec, delegation: &Delegation) -> (Vec<ProviderName>, Rule) {
    if word == AUTO {
        let (row, hint) = hint(spec);
        let table = &delegation.auto[row];
        if table.first().is_some_and(|first| first != LOCAL) {
            return (names(table), Rule::Auto(hint));
        }
    }
    let named = delegation.providers.iter().filter(|provider| provider.name.as_str().eq_ignore_ascii_case(word));
    let serving = delegation.providers.iter().filter(|provider| {
        !provider.name.as_str().eq_ignore_ascii_case(word)
            && provider.serves.iter().any(|w| w.eq_ignore_ascii_case(word))
    });
    let first: Vec<ProviderName> = named.chain(serving).map(|provider| provider.name.clone()).collect();
    let rule = match (word, first.is_empty()) {
        (AUTO, true) => Rule::Auto(hint(spec).1),
        (_, true) => Rule::Unknown(word.to_owned()),
        (_, false) => Rule::Preferred(word.to_owned()),
    };
    (first, rule)
}

/// The names in a table's row up to the local session.
fn names(row: &[String]) -> Vec<ProviderName> {
    row.iter().take_while(|word| *word != LOCAL).filter_map(|word| ProviderName::parse(word).ok()).collect()
}

/// The task's `complexity_hint` if the table doesn't have it: it counts as `medium`.
#[must_use]
pub fn unknown_hint(spec: &TaskSpec) -> Option<&str> {
    let known = |word: &str| HINTS.iter().any(|hint| hint.eq_ignore_ascii_case(word));
    spec.complexity_hint.as_deref().filter(|word| !known(word))
}

/// The row of the table for the task's `complexity_hint`; a missing or unknown hint counts as medium.
fn hint(spec: &TaskSpec) -> (usize, &'static str) {
    let of_word = |word: &str| HINTS.iter().position(|hint| hint.eq_ignore_ascii_case(word));
    let row = spec.complexity_hint.as_deref().and_then(of_word).unwrap_or(MEDIUM);
    (row, HINTS[row])
}

/// The providers followed by their fallbacks, each once.
fn chain(first: &[ProviderName], delegation: &Delegation) -> Vec<ProviderName> {
    let mut out: Vec<ProviderName> = Vec::new();
    let mut next: Vec<&ProviderName> = first.iter().rev().collect();
    while let Some(name) = next.pop() {
        if out.contains(name) {
            continue;
        }
        let Some(provider) = delegation.get(name) else { continue };
        out.push(name.clone());
        next.extend(provider.fallback.iter().rev());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        ids::TaskKey,
        provider::{Counters, ProviderStanding},
        task::Phase,
    };

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn provider(name: &str, serves: &[&str], fallback: &[&str]) -> Provider {
        Provider {
            name: ProviderName::parse(name).expect("a name"),
            kind: "openai",
            serves: std::iter::once(name).chain(serves.iter().copied()).map(str::to_owned).collect(),
            fallback: fallback.iter().map(|name| ProviderName::parse(name).expect("a name")).collect(),
            max_jobs: 2,
            standing: ProviderStanding::Usable,
            since: NOW,
            counters: Counters::default(),
        }
    }

    /// `a` falls back to `b`, `b` to `c` and back to `a`; `c` serves `gpu`, and hard things are done here.
    fn delegation() -> Delegation {
        let auto = [["b"].as_slice(), &["c", "local", "a"], &["local"]];
        Delegation {
            providers: vec![provider("a", &[], &["b"]), provider("b", &[], &["c", "a"]), provider("c", &["gpu"], &[])],
            auto: auto.map(|row| row.iter().map(|word| (*word).to_owned()).collect()),
        }
    }

    fn names(route: &Route) -> String {
        route.chain.iter().map(ProviderName::as_str).collect::<Vec<_>>().join(" ")
    }

    /// INTERFACE 5. The first row that fits; `*` fits everything. Columns: a person's wish, needs_claude_code, preferred_ai,
    /// allow_delegation, complexity_hint; the chain (empty: a session here).
    const TABLE: [[&str; 6]; 16] = [
        ["here", "*", "*", "*", "*", ""],
        ["to b", "*", "*", "*", "*", "b c a"],
        ["to best", "*", "gpu", "*", "*", "c"],
        ["to best", "*", "A", "*", "*", "a b c"],
        // Nobody in particular: by the table of `auto`; nobody there either: all, in the names' order.
        ["to best", "*", "*", "*", "low", "b c a"],
        ["to best", "*", "*", "*", "high", "a b c"],
        ["to best", "*", "*", "*", "*", "c"],
        ["-", "true", "*", "*", "*", ""],
        ["-", "*", "claude-code", "*", "*", ""],
        ["-", "*", "*", "false", "*", ""],
        ["-", "*", "-", "*", "*", ""],
        ["-", "*", "A", "*", "*", "a b c"],
        ["-", "*", "gpu", "*", "*", "c"],
        ["-", "*", "auto", "*", "low", "b c a"],
        ["-", "*", "auto", "*", "high", ""],
        ["-", "*", "auto", "*", "*", "c"],
    ];

    #[test]
    fn the_decision_table_holds_in_every_cell() {
        let mut used = [false; TABLE.len()];
        for wish in ["-", "here", "to b", "to best"] {
            for needs in ["true", "false"] {
                for preferred in ["-", "claude-code", "A", "gpu", "auto", "nobody"] {
                    for allow in ["true", "false"] {
                        for hint in ["-", "low", "medium", "high", "odd"] {
                            let cell = [wish, needs, preferred, allow, hint];
                            let fits =
                                |row: &[&str; 6]| cell.iter().zip(row).all(|(cell, row)| *row == "*" || cell == row);
                            let at = TABLE.iter().position(fits);
                            // Without a row: nobody is meant.
                            let expected = at.map_or("", |at| TABLE[at][5]);
                            if let Some(at) = at {
                                used[at] = true;
                            }
                            let given = |word: &str| (word != "-").then(|| word.to_owned());
                            let spec = TaskSpec {
                                preferred_ai: given(preferred),
                                allow_delegation: allow == "true",
                                needs_claude_code: needs == "true",
                                complexity_hint: given(hint),
                                ..TaskSpec::default()
                            };
                            let wished = match wish {
                                "here" => Some(Wish::Here),
                                "to b" => Some(Wish::Provider(ProviderName::parse("b").ok())),
                                "to best" => Some(Wish::Provider(None)),
                                _ => None,
                            };
                            let found = route(&spec, wished.as_ref(), &delegation());
                            assert_eq!(names(&found), expected, "{cell:?}: {}", found.rule);
                            // Without providers there is no delegation.
                            let off = route(&spec, wished.as_ref(), &Delegation::default());
                            assert_eq!((names(&off).as_str(), off.rule), ("", Rule::Off), "{cell:?}");
                        }
                    }
                }
            }
        }
        assert!(used.iter().all(|used| *used), "a row that nothing meets: {used:?}");
    }

    #[test]
    fn the_rule_that_decided_is_told() {
        let rule = |front: TaskSpec| route(&front, None, &delegation()).rule.to_string();
        let spec = TaskSpec { allow_delegation: true, preferred_ai: Some("nobody".into()), ..TaskSpec::default() };
        assert_eq!(rule(spec.clone()), "no provider is meant by preferred_ai \"nobody\"");
        assert_eq!(rule(TaskSpec { needs_claude_code: true, ..spec.clone() }), "needs_claude_code is set");
        assert_eq!(rule(TaskSpec { allow_delegation: false, ..spec }), "allow_delegation is not set");
    }

    #[test]
    fn a_hint_that_is_no_word_of_the_table_is_told() {
        let with = |hint: &str| TaskSpec { complexity_hint: Some(hint.to_owned()), ..TaskSpec::default() };
        assert_eq!(unknown_hint(&with("huge")), Some("huge"));
        assert_eq!(unknown_hint(&with("LOW")), None);
        assert_eq!(unknown_hint(&TaskSpec::default()), None);
    }

    #[test]
    fn the_first_of_the_chain_that_can_take_it_is_picked() {
        let spec = TaskSpec { allow_delegation: true, preferred_ai: Some("a".into()), ..TaskSpec::default() };
        let key = TaskKey::parse("web:x").expect("a key");
        let mut task = Task { spec: spec.into(), phase: Phase::Queued, ..Task::new(key, NOW) };
        let [a, b, c] = ["a", "b", "c"].map(|name| ProviderName::parse(name).expect("a name"));
        let free = BTreeMap::new();
        let mut delegation = delegation();
        assert_eq!(pick(&task, &delegation, &free, NOW), Pick::Provider(a.clone()));
        // A full one is waited for: it can take it, only later.
        assert_eq!(pick(&task, &delegation, &BTreeMap::from([(a.clone(), 1)]), NOW), Pick::Provider(a.clone()));
        assert_eq!(pick(&task, &delegation, &BTreeMap::from([(a.clone(), 2)]), NOW), Pick::Wait(a.clone()));
        let until = NOW.saturating_add(jiff::SignedDuration::from_secs(60)).expect("a time");
        delegation.providers[0].standing = ProviderStanding::Cooling { why: String::new(), until };
        assert_eq!(pick(&task, &delegation, &free, NOW), Pick::Provider(b.clone()));
        assert_eq!(pick(&task, &delegation, &free, until), Pick::Provider(a.clone()), "its pause is over");
        task.refused_by.push(b);
        assert_eq!(pick(&task, &delegation, &free, NOW), Pick::Provider(c.clone()));
        delegation.providers[2].standing = ProviderStanding::Exhausted { why: String::new(), until: None };
        assert_eq!(pick(&task, &delegation, &free, NOW), Pick::Here);
    }
}
