//! Measures the daemon beside other ways of doing the same: `cargo run --release --example bench [NAME…]`.
//!
//! In: names of benchmarks (none: all). Out: one table row a measurement, on standard output. Everything is real: the release
//! program as a child process, a tmux server and a FUSE mount in a temporary directory, the built-in agent. What is compared
//! is measured in turns in one run, because absolute times on a shared machine say little.

mod delegated;
mod dispatch;
mod files;
mod flat;
mod hammer;
mod idle;
mod large;
mod limit;
mod measure;
mod panes;
mod peers;
mod reader;
mod start;
mod stub;
mod swap;
mod tasks;
mod world;

use std::process::ExitCode;

/// A benchmark: its name on the command line, what it measures, how.
type Bench = (&'static str, &'static str, fn() -> std::io::Result<()>);

const BENCHES: [Bench; 15] = [
    ("files", "what the mount's operations cost beside other file systems", files::run),
    ("lists", "ls of a directory with up to 100,000 results", large::listings),
    ("status", "reading `status` with much to tell", large::status),
    ("dispatch", "rename(2) into the inbox until the prompt's first byte is read by the agent", dispatch::quiet),
    ("hammer", "the same while eight processes hammer the mount", dispatch::hammered),
    ("panes", "reading every session's pane; memory", panes::run),
    ("idle", "CPU time while nothing happens", idle::quiet),
    ("spin", "CPU time while agents only redraw", idle::spinners),
    ("start", "start with a full queue", start::run),
    ("tasks", "tiny tasks in a row; what each costs", tasks::run),
    ("flat", "what a task costs with few and with many others waiting", flat::run),
    ("delegated", "tasks at a provider: how many a second, memory", delegated::run),
    ("submit", "a task until it is at its provider, also while many jobs end at once", delegated::latency),
    ("limit", "the record of a limit until the swap is begun", limit::run),
    ("swap", "every session moved to another account", swap::run),
];

fn main() -> ExitCode {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    // `cargo bench`-style callers add it.
    args.retain(|arg| arg != "--bench");
    match args.first().map(String::as_str) {
        Some(reader::READER) => return reader::start(&args[1..]),
        Some(reader::PUMP) => return reader::pump(&args[1..]),
        Some(hammer::HAMMER) => return hammer::run(&args[1..]),
        Some(stub::STUB) => return stub::run(&args[1..]),
        _ => {}
    }
    if let Some(unknown) = args.iter().find(|arg| !BENCHES.iter().any(|(name, ..)| name == arg)) {
        eprintln!("bench: there is no {unknown}; known:");
        for (name, what, _) in BENCHES {
            eprintln!("  {name:10} {what}");
        }
        return ExitCode::from(2);
    }
    measure::heading();
    let mut failed = false;
    for (name, _, run) in BENCHES.into_iter().filter(|(name, ..)| args.is_empty() || args.iter().any(|a| a == name)) {
        if let Err(error) = run() {
            eprintln!("bench: {name} could not be measured: {error}");
            failed = true;
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
