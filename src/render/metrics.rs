//! Renders `metrics`: Prometheus text from a table of names, types and help.

use std::{fmt::Write as _, sync::Arc};

use crate::{
    model::{
        account::{self, Account},
        limit::{LimitKind, Window},
        session::{Activity, Session},
    },
    render::{Picture, clean},
};

/// Labels and a value.
type Sample = (Vec<(&'static str, String)>, f64);

/// One metric. Names end in their unit; `_total` only counts up.
#[derive(Debug)]
pub struct Metric {
    pub name: &'static str,
    pub kind: &'static str,
    pub help: &'static str,
    samples: fn(&Picture) -> Vec<Sample>,
}

pub const METRICS: &[Metric] = &[
    Metric {
        name: "claude_failover_up_seconds",
        kind: "gauge",
        help: "Seconds since the daemon started.",
        samples: up,
    },
    Metric {
        name: "claude_failover_memory_bytes",
        kind: "gauge",
        help: "Memory of the daemon and of the tmux server with its scrollback, in whole MiB.",
        samples: memory,
    },
    Metric { name: "claude_failover_paused", kind: "gauge", help: "1 while nothing is dispatched.", samples: paused },
    Metric {
        name: "claude_failover_problems",
        kind: "gauge",
        help: "Reasons why health is degraded.",
        samples: problems,
    },
    Metric { name: "claude_failover_tasks", kind: "gauge", help: "Unfinished tasks by state.", samples: tasks },
    Metric {
        name: "claude_failover_queue_files",
        kind: "gauge",
        help: "Files in drafts, done and failed.",
        samples: files,
    },
    Metric {
        name: "claude_failover_tasks_finished_total",
        kind: "counter",
        help: "Tasks finished since the daemon started, by status.",
        samples: finished,
    },
    Metric { name: "claude_failover_sessions", kind: "gauge", help: "Sessions by state.", samples: sessions },
    Metric {
        name: "claude_failover_account_active",
        kind: "gauge",
        help: "1 for the account that new sessions of its agent run under.",
        samples: active,
    },
    Metric {
        name: "claude_failover_account_state",
        kind: "gauge",
        help: "1 for the state that the account is in.",
        samples: account_states,
    },
    Metric {
        name: "claude_failover_account_used_percent",
        kind: "gauge",
        help: "How much of a window of the account is used, as its agents were told last.",
        samples: used,
    },
    Metric {
        name: "claude_failover_sessions_limited",
        kind: "gauge",
        help: "Sessions stopped by a limit or a lost login of their account.",
        samples: limited,
    },
    Metric {
        name: "claude_failover_swaps_total",
        kind: "counter",
        help: "Swaps that ended, by result; kept over restarts.",
        samples: swaps,
    },
];

#[must_use]
pub fn metrics(picture: &Picture) -> String {
    let mut out = String::new();
    for metric in METRICS {
        let _ = writeln!(out, "# HELP {0} {1}\n# TYPE {0} {2}", metric.name, metric.help, metric.kind);
        for (labels, value) in (metric.samples)(picture) {
            let labels: Vec<String> =
                labels.iter().map(|(name, text)| format!("{name}=\"{}\"", escape(text))).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            let _ = writeln!(out, "{}{labels} {value}", metric.name);
        }
    }
    out
}

fn escape(text: &str) -> String {
    clean(text).replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
fn count(number: u64) -> f64 {
    number as f64
}

fn up(picture: &Picture) -> Vec<Sample> {
    vec![(vec![], picture.now.duration_since(picture.snapshot.since).as_secs_f64().max(0.0))]
}

fn memory(picture: &Picture) -> Vec<Sample> {
    let memory = picture.snapshot.memory;
    let of = [("daemon", Some(memory.daemon)), ("tmux", memory.tmux)];
    let told = of.into_iter().filter_map(|(of, mebibytes)| Some((of, mebibytes?)));
    told.map(|(of, mebibytes)| (vec![("of", of.to_owned())], count(mebibytes << 20))).collect()
}

fn paused(picture: &Picture) -> Vec<Sample> {
    vec![(vec![], f64::from(u8::from(picture.snapshot.paused)))]
}

fn problems(picture: &Picture) -> Vec<Sample> {
    vec![(vec![], count(picture.snapshot.health.len() as u64))]
}

fn tasks(picture: &Picture) -> Vec<Sample> {
    let mut samples = Vec::new();
    for project in picture.snapshot.projects.iter() {
        let counts = picture.snapshot.tasks.open_counts(&project.name);
        for (state, number) in ["held", "queued", "rejected", "working", "delegated"].into_iter().zip(counts) {
            let labels = vec![("project", project.name.to_string()), ("state", state.to_owned())];
            samples.push((labels, count(number)));
        }
    }
    samples
}

fn files(picture: &Picture) -> Vec<Sample> {
    let mut samples = Vec::new();
    for project in picture.snapshot.projects.iter() {
        let counts = project.counts;
        for (dir, number) in [("drafts", counts.drafts), ("done", counts.done), ("failed", counts.failed)] {
            samples.push((vec![("project", project.name.to_string()), ("directory", dir.to_owned())], count(number)));
        }
    }
    samples
}

fn finished(picture: &Picture) -> Vec<Sample> {
    let words = ["done", "failed", "cancelled"].into_iter();
    words.zip(picture.snapshot.finished).map(|(word, n)| (vec![("status", word.to_owned())], count(n))).collect()
}

fn sessions(picture: &Picture) -> Vec<Sample> {
    let mut by_state = std::collections::BTreeMap::new();
    for session in picture.snapshot.shown_sessions() {
        *by_state.entry(session.word()).or_insert(0) += 1;
    }
    by_state.into_iter().map(|(state, n)| (vec![("state", state.to_owned())], count(n))).collect()
}

fn limited(picture: &Picture) -> Vec<Sample> {
    let stands = |session: &&Arc<Session>| session.verdict.activity == Activity::Limited;
    vec![(vec![], count(picture.snapshot.shown_sessions().filter(stands).count() as u64))]
}

fn swaps(picture: &Picture) -> Vec<Sample> {
    let swaps = &picture.snapshot.swaps;
    let results = [("done", swaps.done()), ("failed", swaps.failed)];
    results.map(|(word, n)| (vec![("result", word.to_owned())], count(n))).into()
}

fn account_states(picture: &Picture) -> Vec<Sample> {
    let accounts = picture.snapshot.accounts.iter();
    let states = accounts.flat_map(|account| account::WORDS.map(|word| (account, word)));
    let sample = |(account, word): (&Account, &str)| {
        let labels = vec![("account", account.name.to_string()), ("state", word.to_owned())];
        (labels, f64::from(u8::from(account.word() == word)))
    };
    states.map(sample).collect()
}

fn used(picture: &Picture) -> Vec<Sample> {
    let accounts = picture.snapshot.accounts.iter();
    let windows =
        accounts.flat_map(|account| account.usage.0.iter().map(move |(kind, window)| (account, kind, window)));
    let sample = |(account, kind, window): (&Account, &LimitKind, &Window)| {
        let labels = vec![("account", account.name.to_string()), ("window", super::words::kebab(kind))];
        (labels, f64::from(window.used_percent_at(picture.now)))
    };
    windows.map(sample).collect()
}

fn active(picture: &Picture) -> Vec<Sample> {
    let accounts = picture.snapshot.accounts.iter();
    let sample = |account: &Account| {
        let labels = vec![("account", account.name.to_string()), ("agent", account.agent.to_string())];
        (labels, f64::from(u8::from(account.active)))
    };
    accounts.map(sample).collect()
}
