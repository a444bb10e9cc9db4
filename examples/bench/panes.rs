//! Reading every pane through the mount, beside a tmux process for each; the daemon's memory with many sessions.

use std::{
    fs, io,
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
        let (mut ours, mut theirs) = (Samples::default(), Samples::default());
        for _ in 0..ROUNDS {
            let begun = Instant::now();
            for name in &names {
                let text = fs::read_to_string(world.mount(&format!("sessions/{name}/pane")))?;
                if !text.contains("ready") {
                    return Err(io::Error::other(format!("the pane of {name} shows no prompt: {text}")));
                }
            }
            ours.push(begun.elapsed());
            let begun = Instant::now();
            for name in &names {
                let out = world.tmux(&["capture-pane", "-p", "-t", &format!("={name}:")])?;
                if !String::from_utf8_lossy(&out.stdout).contains("ready") {
                    return Err(io::Error::other(format!("tmux shows no prompt of {name}: {out:?}")));
                }
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
