//! What is measured, and what counts as growth.

use std::{fs, path::Path, time::Duration};

use crate::world::World;

/// What is looked at, in the order of `Sample::values`: name, unit, and how much more of it a minute counts as growth.
/// Threads and descriptors come and go with the load of the machine; one a task would be a hundred a minute. The memory
/// allowed is what allocators take and give back; a screen that stays is 3 kB each, some hundred a minute.
const WATCHED: [(&str, f64); 8] = [
    ("daemon memory kB", 3_000.0),
    ("daemon descriptors", 12.0),
    ("daemon threads", 20.0),
    ("daemon files", 12.0),
    ("tmux memory kB", 700.0),
    ("tmux descriptors", 3.0),
    ("tmux buffers", 1.0),
    ("tmux options and variables", 3.0),
];

/// One look at everything.
pub struct Sample {
    at: f64,
    values: [f64; WATCHED.len()],
}

impl Sample {
    pub fn take(world: &World, at: Duration, daemon: u32, server: u32) -> Self {
        let lines = |words: &[&str]| world.tmux(words).lines().count();
        let settings: usize = [
            &["show-options", "-g"][..],
            &["show-options", "-s"],
            &["show-environment", "-g"],
            &["show-hooks", "-g"],
            &["show-environment", "-t", "=pool-11:"],
            &["show-options", "-t", "=pool-11:"],
            &["show-options", "-p", "-t", "=pool-11:"],
        ]
        .iter()
        .map(|words| lines(words))
        .sum();
        let values = [
            status(daemon, "RssAnon:"),
            count(&Path::new("/proc").join(daemon.to_string()).join("fd")),
            status(daemon, "Threads:"),
            below(&world.path("state")),
            status(server, "RssAnon:"),
            count(&Path::new("/proc").join(server.to_string()).join("fd")),
            number(lines(&["list-buffers"])),
            number(settings),
        ];
        Self { at: at.as_secs_f64(), values }
    }
}

fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).expect("a small number"))
}

fn status(pid: u32, key: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("a field of the kernel's");
    line.split_whitespace().next().and_then(|word| word.parse().ok()).expect("a number")
}

fn count(dir: &Path) -> f64 {
    number(fs::read_dir(dir).map(Iterator::count).unwrap_or_default())
}

/// Files below a directory.
fn below(dir: &Path) -> f64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0.0 };
    let entries = entries.flatten().map(|entry| entry.path());
    entries.map(|path| if path.is_dir() { below(&path) } else { 1.0 }).sum()
}

/// Prints the figures and tells what grows: the slope of each, the first third left out, in which everything starts.
pub fn report(samples: &[Sample]) -> Vec<String> {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("{} samples, load {}", samples.len(), load.trim());
    println!("{:<28}{:>12}{:>12}{:>12}{:>14}{:>12}", "", "first", "last", "highest", "a minute", "allowed");
    let late = samples.get(samples.len() / 3..).unwrap_or_default();
    let mut grows = Vec::new();
    for (i, (name, allowed)) in WATCHED.iter().enumerate() {
        let points: Vec<(f64, f64)> = late.iter().map(|sample| (sample.at, sample.values[i])).collect();
        let values = || samples.iter().map(|sample| sample.values[i]);
        let slope = 60.0 * slope(&points);
        let highest = values().fold(0.0, f64::max);
        let (first, last) = (values().next().unwrap_or_default(), values().next_back().unwrap_or_default());
        println!("{name:<28}{first:>12}{last:>12}{highest:>12}{slope:>14.2}{allowed:>12}");
        if slope > *allowed {
            grows.push(format!("{name} by {slope:.1} a minute ({allowed} are allowed)"));
        }
    }
    grows
}

/// The median of the slopes between points half of the time apart: a jump in between doesn't move it.
fn slope(points: &[(f64, f64)]) -> f64 {
    let half = points.len() / 2;
    let pairs = points.iter().zip(points.iter().skip(half));
    let mut slopes: Vec<f64> = pairs.map(|((t, v), (u, w))| (w - v) / (u - t)).collect();
    slopes.sort_by(f64::total_cmp);
    slopes.get(slopes.len() / 2).copied().unwrap_or_default()
}

#[test]
fn a_slope_is_told_from_a_jump() {
    let points = |f: fn(f64) -> f64| (0..90).map(|t| (f64::from(t), f(f64::from(t)))).collect::<Vec<_>>();
    assert_eq!(slope(&points(|_| 5.0)), 0.0);
    assert!((slope(&points(|t| 3.0 * t)) - 3.0).abs() < 1e-9);
    // One that comes and goes.
    assert_eq!(slope(&points(|t| if (40.0..50.0).contains(&t) { 900.0 } else { 1.0 })), 0.0);
}
