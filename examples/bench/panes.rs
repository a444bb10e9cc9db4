//! Reading every pane through the mount, beside a tmux process for each; the daemon's memory with many sessions.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::Path,
    time::{Duration, Instant},
};

use crate::{
    measure::{Samples, memory, ratio, row, wanted},
    world::{Setup, World},
};

const SESSIONS: [usize; 4] = [1, 10, 50, 200];
const ROUNDS: usize = 7;
const TIMES_FASTER: f64 = 30.0;
const MEMORY_KIB: u64 = 50 * 1024;

pub fn run() -> io::Result<()> {
    for sessions in SESSIONS {
        let world = World::start(&Setup { sessions: u32::try_from(sessions).unwrap_or(u32::MAX), ..Setup::default() })?;
        let names = world.sessions();
        if names.len() != sessions {
            return Err(world.failure("every session"));
        }
        std::thread::sleep(Duration::from_secs(3));
        let (mut ours, mut library, mut theirs) = (Samples::default(), Samples::default(), Samples::default());
        let mut buffer = vec![0; 64 << 10];
        for _ in 0..ROUNDS {
            let begun = Instant::now();
            for name in &names {
                let read = read(&world.mount(&format!("sessions/{name}/pane")), &mut buffer)?;
                shows_prompt(&buffer[..read])?;
            }
            ours.push(begun.elapsed());
            let begun = Instant::now();
            for name in &names {
                shows_prompt(&fs::read(world.mount(&format!("sessions/{name}/pane")))?)?;
            }
            library.push(begun.elapsed());
            let begun = Instant::now();
            for name in &names {
                let out = world.tmux(&["capture-pane", "-p", "-t", &format!("={name}:")])?;
                shows_prompt(&out.stdout)?;
            }
            theirs.push(begun.elapsed());
        }
        let faster = ratio(theirs.median(), ours.median());
        row(
            &format!("reading {sessions} panes"),
            &ours.show(),
            &format!("{sessions} × `tmux capture-pane -p`: {}", theirs.show()),
            &format!("{faster:.0} times faster"),
            &wanted("≥ 30", faster >= TIMES_FASTER),
        );
        row(
            "… with `std::fs::read`: fstat and a second read besides",
            &library.show(),
            "",
            &format!("{:.0} times faster", ratio(theirs.median(), library.median())),
            "",
        );
        if sessions == 200 {
            let resident = memory(world.daemon_pid(), "VmRSS");
            let peak = memory(world.daemon_pid(), "VmHWM");
            row(
                "resident memory, 200 sessions",
                &format!("{:.1} MiB (peak {:.1})", resident as f64 / 1024.0, peak as f64 / 1024.0),
                "",
                "",
                &wanted("< 50 MiB", resident < MEMORY_KIB),
            );
        }
    }
    Ok(())
}

/// open, read, close: what a program does that knows how large a screen can be.
fn read(path: &Path, buffer: &mut [u8]) -> io::Result<usize> {
    File::open(path)?.read(buffer)
}

fn shows_prompt(screen: &[u8]) -> io::Result<()> {
    let screen = String::from_utf8_lossy(screen);
    if screen.contains("ready") { Ok(()) } else { Err(io::Error::other(format!("no prompt in {screen:?}"))) }
}
