//! CPU time of the daemon and the tmux server while nothing happens, and while agents only redraw.

use std::{io, time::Duration};

use crate::{
    measure::{Samples, cpu_of, family, ms, ratio, row, wanted},
    world::{Setup, World},
};

const QUIET_SESSIONS: u32 = 50;
const SPINNERS: u32 = 10;
const WINDOW: Duration = Duration::from_secs(30);
const ROUNDS: usize = 3;
/// Long enough for one of each kind of look that comes by time.
const SPIN_WINDOW: Duration = Duration::from_secs(15);
const PAIRS: usize = 5;
/// What a start or a stop stirs up has died down by then.
const SETTLED: Duration = Duration::from_secs(3);
/// What a start stirs up has died down by then; among it are reads of the scrollback, which come every 15 s.
const QUIET: Duration = Duration::from_secs(20);
const WANTED: Duration = Duration::from_millis(100);

pub fn quiet() -> io::Result<()> {
    let world = World::start(&Setup { sessions: QUIET_SESSIONS, ..Setup::default() })?;
    let server = world.tmux_pid()?;
    std::thread::sleep(QUIET);
    let (mut ours, mut tmux) = (Samples::default(), Samples::default());
    for _ in 0..ROUNDS {
        let (daemon, server) = spent(&family(world.daemon_pid()), server, WINDOW);
        ours.push(per_minute(daemon, WINDOW));
        tmux.push(per_minute(server, WINDOW));
    }
    let together = ours.median() + tmux.median();
    row(
        "idle, 50 quiet sessions: CPU a minute",
        &format!("{} = daemon {} + tmux server {}", ms(together), ms(ours.median()), ms(tmux.median())),
        "",
        "",
        &wanted("< 100 ms", together < WANTED),
    );
    Ok(())
}

pub fn spinners() -> io::Result<()> {
    let mut world = World::start(&Setup { sessions: SPINNERS, mode: "spinner", ..Setup::default() })?;
    let server = world.tmux_pid()?;
    let (mut ours, mut with, mut without) = (Samples::default(), Samples::default(), Samples::default());
    // The server's own cost drifts with whatever else the machine does, so neighbours in time are compared.
    let mut ratios = Vec::new();
    for round in 0..PAIRS {
        if round > 0 {
            world.run()?;
        }
        std::thread::sleep(SETTLED);
        let (daemon, busy) = spent(&family(world.daemon_pid()), server, SPIN_WINDOW);
        world.stop();
        std::thread::sleep(SETTLED);
        let (_, alone) = spent(&[], server, SPIN_WINDOW);
        ours.push(per_minute(daemon, SPIN_WINDOW));
        with.push(per_minute(busy, SPIN_WINDOW));
        without.push(per_minute(alone, SPIN_WINDOW));
        ratios.push(ratio(busy, alone));
    }
    ratios.sort_by(f64::total_cmp);
    let more = ratios.get(ratios.len() / 2).copied().unwrap_or_default();
    let percent = |ratio: f64| format!("{:+.0} %", (ratio - 1.0) * 100.0);
    row(
        "10 agents redrawing at 10 Hz: CPU of the tmux server a minute",
        &with.show(),
        &format!("no daemon: {}", without.show()),
        &format!("{} (of minima {})", percent(more), percent(ratio(with.min(), without.min()))),
        &wanted("≤ +10 %", more <= 1.1),
    );
    row(
        "… of the daemon",
        &ours.show(),
        "",
        &format!("{:.0} % of the server's", ratio(ours.median(), without.median()) * 100.0),
        "",
    );
    Ok(())
}

/// CPU time that the daemon's processes and the tmux server use in a window.
fn spent(daemon: &[u32], server: u32, window: Duration) -> (Duration, Duration) {
    let before = (cpu_of(daemon), cpu_of(&[server]));
    std::thread::sleep(window);
    (cpu_of(daemon).saturating_sub(before.0), cpu_of(&[server]).saturating_sub(before.1))
}

fn per_minute(time: Duration, window: Duration) -> Duration {
    time.mul_f64(60.0 / window.as_secs_f64())
}
