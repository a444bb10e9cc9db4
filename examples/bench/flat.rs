//! What a task costs however many others wait: tasks of a command that does nothing, with few and with many in the inbox.

use std::{
    fs, io,
    time::{Duration, Instant},
};

use crate::{
    measure::{cpu, memory, ms, ratio, row, wanted},
    world::{Setup, World},
};

const SESSIONS: u32 = 8;
const FEW: usize = 300;
const MANY: usize = 20_000;
/// Left to itself before the clock begins: the start looks at everything once.
const WARM: usize = 50;
const MEASURED: usize = 250;
const REST: Duration = Duration::from_secs(20);
const WANTED: f64 = 1.2;

struct Found {
    a_task: Duration,
    cpu: Duration,
    /// CPU a second while they wait for a paused daemon.
    idle: Duration,
    resident: f64,
}

pub fn run() -> io::Result<()> {
    let (few, many) = (found(FEW)?, found(MANY)?);
    let second = |found: &Found| 1.0 / found.a_task.as_secs_f64().max(1e-9);
    let slower = ratio(many.a_task, few.a_task);
    row(
        "tasks of the command `true`, 8 sessions, 20,000 waiting",
        &format!("{:.0} a second", second(&many)),
        &format!("300 waiting: {:.0}", second(&few)),
        &format!("{slower:.2} × the time"),
        &wanted("≤ 1.2 ×", slower <= WANTED),
    );
    let dearer = ratio(many.cpu, few.cpu);
    row(
        "… CPU of the daemon a task",
        &ms(many.cpu),
        &ms(few.cpu),
        &format!("{dearer:.2}"),
        &wanted("≤ 1.2 ×", dearer <= WANTED),
    );
    let percent = |found: &Found| format!("{:.1} % of a core", found.idle.as_secs_f64() * 100.0);
    row(
        "… paused, while they wait",
        &percent(&many),
        &percent(&few),
        "",
        &wanted("≤ 1 %", many.idle.as_millis() <= 10),
    );
    row("… resident memory then", &format!("{:.0} MiB", many.resident), &format!("{:.0} MiB", few.resident), "", "");
    Ok(())
}

fn found(waiting: usize) -> io::Result<Found> {
    let mut world = World::prepare()?;
    let inbox = world.queue("inbox");
    world.configure(&Setup { sessions: SESSIONS, command: "true", ..Setup::default() })?;
    fs::create_dir_all(&inbox)?;
    for i in 0..waiting + WARM {
        fs::write(inbox.join(format!("t{i:05}.md")), format!("task {i}\n"))?;
    }
    world.run()?;
    let done = |world: &World| fs::read_dir(world.queue("done")).map_or(0, Iterator::count);
    world.until("the first tasks", |world| done(world) >= WARM)?;
    let (pid, first, begun) = (world.daemon_pid(), done(&world), Instant::now());
    let before = cpu(pid)?;
    world.until("the measured tasks", |world| done(world) >= first + MEASURED)?;
    let (took, used, count) = (begun.elapsed(), cpu(pid)?.saturating_sub(before), done(&world) - first);
    let count = u32::try_from(count).map_err(io::Error::other)?;
    fs::write(world.mount("control"), "pause\n")?;
    std::thread::sleep(REST / 10);
    let before = cpu(pid)?;
    std::thread::sleep(REST);
    let idle = cpu(pid)?.saturating_sub(before).div_f64(REST.as_secs_f64());
    let resident = memory(pid, "VmRSS") as f64 / 1024.0;
    Ok(Found { a_task: took / count, cpu: used / count, idle, resident })
}
