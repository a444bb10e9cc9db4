//! Numbers: clocks, CPU time and memory of processes, medians, rows of the table.
//! In: process ids, samples. Out: values with their unit. Starts nothing.

use std::{fs, io, time::Duration};

/// Times of one kind, in the order they were taken.
#[derive(Debug, Default, Clone)]
pub struct Samples(Vec<Duration>);

impl Samples {
    pub fn push(&mut self, sample: Duration) {
        self.0.push(sample);
    }

    /// The value below which `percent` of the samples lie.
    pub fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort();
        let at = (sorted.len().saturating_sub(1) * percent).div_ceil(100);
        sorted.get(at).copied().unwrap_or_default()
    }

    pub fn median(&self) -> Duration {
        self.percentile(50)
    }

    pub fn min(&self) -> Duration {
        self.percentile(0)
    }

    /// `median (min … 95 %)` in milliseconds.
    pub fn show(&self) -> String {
        format!("{} ({} … {})", ms(self.median()), ms(self.min()), ms(self.percentile(95)))
    }
}

pub fn ms(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1000.0;
    match ms {
        ms if ms >= 100.0 => format!("{ms:.0} ms"),
        ms if ms >= 1.0 => format!("{ms:.1} ms"),
        ms => format!("{ms:.3} ms"),
    }
}

pub fn ratio(more: Duration, less: Duration) -> f64 {
    more.as_secs_f64() / less.as_secs_f64().max(1e-9)
}

/// The columns of what `row` prints.
pub fn heading() {
    println!("| what | ours | beside it | ratio | wanted |");
    println!("|---|---|---|---|---|");
}

pub fn row(what: &str, ours: &str, beside: &str, ratio: &str, wanted: &str) {
    println!("| {what} | {ours} | {beside} | {ratio} | {wanted} |");
}

/// A target, and whether it was met.
pub fn wanted(text: &str, met: bool) -> String {
    format!("{text}: {}", if met { "met" } else { "**not met**" })
}

/// Nanoseconds of the clock that all processes share.
pub fn monotonic() -> u64 {
    let now = read_clock(libc::CLOCK_MONOTONIC).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

fn read_clock(clock: libc::clockid_t) -> io::Result<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one structure of ours.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Ok(Duration::new(seconds.map_err(io::Error::other)?, nanos.map_err(io::Error::other)?))
}

/// Runs on the last core that we may use, and so does every process that is started in it.
pub fn on_one_core<T>(run: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let size = size_of::<libc::cpu_set_t>();
    // SAFETY: a set of cores is plain bits; the calls read and write one of ours, and no core beyond its size is named.
    let (all, one, got) = unsafe {
        let (mut all, mut one): (libc::cpu_set_t, libc::cpu_set_t) = (std::mem::zeroed(), std::mem::zeroed());
        let got = libc::sched_getaffinity(0, size, &raw mut all);
        if let Some(core) = (0..size * 8).rfind(|core| libc::CPU_ISSET(*core, &all)) {
            libc::CPU_SET(core, &mut one);
        }
        (all, one, got)
    };
    let stay = |set: &libc::cpu_set_t| {
        // SAFETY: reads one set of ours.
        let done = unsafe { libc::sched_setaffinity(0, size, set) };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    if got != 0 {
        return Err(io::Error::last_os_error());
    }
    stay(&one)?;
    let ran = run();
    stay(&all)?;
    ran
}

/// CPU time that a process has used so far, its ended threads included.
pub fn cpu(pid: u32) -> io::Result<Duration> {
    let pid = i32::try_from(pid).map_err(io::Error::other)?;
    let mut clock = 0;
    // SAFETY: writes one clock id to a place of ours.
    let error = unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    read_clock(clock)
}

/// A process and everything below it.
pub fn family(root: u32) -> Vec<u32> {
    let mut family = vec![root];
    let mut at = 0;
    while let Some(pid) = family.get(at).copied() {
        at += 1;
        let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
        for task in tasks.flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            family.extend(children.split_whitespace().filter_map(|word| word.parse::<u32>().ok()));
        }
    }
    family
}

/// CPU time of several processes together; one that has ended counts nothing.
pub fn cpu_of(pids: &[u32]) -> Duration {
    pids.iter().filter_map(|pid| cpu(*pid).ok()).sum()
}

/// A line of `/proc/PID/status` in KiB.
pub fn memory(pid: u32, line: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let found = status.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(':'));
    found.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
