//! Tiny tasks in a row: how many a second, and what each costs the disk. The program's size.

use std::{
    fs, io,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    measure::{cpu_of, family, ms, row},
    world::{Setup, World, program},
};

const SESSIONS: u32 = 8;
const TASKS: usize = 160;
const TRACED: usize = 20;

pub fn run() -> io::Result<()> {
    let world = World::start(&Setup { sessions: SESSIONS, ..Setup::default() })?;
    let before = cpu_of(&family(world.daemon_pid()));
    let took = batch(&world, "a", TASKS)?;
    let cpu = cpu_of(&family(world.daemon_pid())).saturating_sub(before);
    row(
        "throughput: tiny tasks, 8 sessions, a fresh agent each",
        &format!("{:.1} a second", TASKS as f64 / took.as_secs_f64()),
        "",
        "",
        "",
    );
    row("… CPU of the daemon a task", &ms(cpu / u32::try_from(TASKS).unwrap_or(1)), "", "", "");
    match syncs(&world) {
        Ok(count) => {
            row("… fsync(2) a task, by the daemon", &format!("{:.1}", count as f64 / TRACED as f64), "", "", "");
        }
        Err(error) => eprintln!("bench: fsyncs could not be counted: {error}"),
    }
    row("size of the program", &format!("{:.1} MiB", fs::metadata(program()?)?.len() as f64 / 1_048_576.0), "", "", "");
    Ok(())
}

/// Writes tasks into the mount's inbox and waits until all are done.
fn batch(world: &World, prefix: &str, count: usize) -> io::Result<Duration> {
    let begun = Instant::now();
    for i in 0..count {
        fs::write(world.mount(&format!("inbox/{prefix}{i}.md")), format!("hello {i}\n"))?;
    }
    let done = |i: usize| world.queue(&format!("done/{prefix}{i}.md")).exists();
    let mut next = 0;
    world.until("every task to be done", |_| {
        while next < count && done(next) {
            next += 1;
        }
        next == count
    })?;
    Ok(begun.elapsed())
}

/// How often the daemon syncs while `TRACED` tasks are done.
fn syncs(world: &World) -> io::Result<u64> {
    world.until("quiet", World::all_idle)?;
    let trace = world.path("strace.out");
    let mut strace = Command::new("strace")
        .args(["-f", "-qq", "-e", "trace=fsync,fdatasync", "-o"])
        .arg(&trace)
        .args(["-p", &world.daemon_pid().to_string()])
        .stdin(Stdio::null())
        .spawn()?;
    std::thread::sleep(Duration::from_secs(1));
    let done = batch(world, "b", TRACED).and_then(|_| world.until("quiet", World::all_idle));
    if let Ok(pid) = i32::try_from(strace.id()) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGINT);
    }
    strace.wait()?;
    done?;
    let text = fs::read_to_string(&trace)?;
    Ok(text.lines().filter(|line| line.contains("sync(")).count() as u64)
}
