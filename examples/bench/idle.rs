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
/// What a start stirs up has died down by then; among it are reads of the scrollback, which come every 15 s.
const QUIET: Duration = Duration::from_secs(20);
const WANTED: Duration = Duration::from_millis(100);

pub fn quiet() -> io::Result<()> {
    let world = World::start(&Setup { sessions: QUIET_SESSIONS, ..Setup::default() })?;
    let server = world.tmux_pid()?;
    std::thread::sleep(QUIET);
    let (mut ours, mut tmux) = (Samples::default(), Samples::default());
    for _ in 0..ROUNDS {
        let (daemon, server) = spent(&family(world.daemon_pid()), server);
        ours.push(per_minute(daemon));
        tmux.push(per_minute(server));
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
    std::thread::sleep(QUIET);
    let (mut ours, mut with, mut without) = (Samples::default(), Samples::default(), Samples::default());
    for round in 0..ROUNDS {
        if round > 0 {
            world.run()?;
            std::thread::sleep(QUIET);
        }
        let (daemon, busy) = spent(&family(world.daemon_pid()), server);
        ours.push(per_minute(daemon));
        with.push(per_minute(busy));
        world.stop();
        std::thread::sleep(Duration::from_secs(2));
        let (_, alone) = spent(&[], server);
        without.push(per_minute(alone));
    }
    let more = ratio(with.median(), without.median());
    row(
        "10 agents redrawing at 10 Hz: CPU of the tmux server a minute",
        &with.show(),
        &format!("no daemon: {}", without.show()),
        &format!("{:+.0} %", (more - 1.0) * 100.0),
        &wanted("≤ +10 %", more <= 1.1),
    );
    row("… of the daemon", &ours.show(), "", &format!("{:+.0} %", ratio(ours.median(), without.median()) * 100.0), "");
    Ok(())
}

/// CPU time that the daemon's processes and the tmux server use in a window.
fn spent(daemon: &[u32], server: u32) -> (Duration, Duration) {
    let before = (cpu_of(daemon), cpu_of(&[server]));
    std::thread::sleep(WINDOW);
    (cpu_of(daemon).saturating_sub(before.0), cpu_of(&[server]).saturating_sub(before.1))
}

fn per_minute(time: Duration) -> Duration {
    time.mul_f64(60.0 / WINDOW.as_secs_f64())
}
