//! From `exec` to an answering mount, with a queue that has seen much.

use std::{fs, io, time::Duration};

use crate::{
    measure::{Samples, memory, row, wanted},
    world::{Setup, World},
};

const DONE: usize = 10_000;
const WAITING: usize = 1_000;
const TIMES: usize = 5;
const WANTED: Duration = Duration::from_secs(1);

pub fn run() -> io::Result<()> {
    let empty = times(0, 0)?;
    let full = times(DONE, WAITING)?;
    row(
        "start until the mount answers: 10,000 results, 1,000 waiting",
        &full.0.show(),
        &format!("an empty queue: {}", empty.0.show()),
        &format!("{:.2}", full.0.median().as_secs_f64() / empty.0.median().as_secs_f64()),
        &wanted("≤ 1 s", full.0.median() <= WANTED),
    );
    row("… resident memory then", &format!("{:.1} MiB", full.1), &format!("{:.1} MiB", empty.1), "", "");
    Ok(())
}

fn times(done: usize, waiting: usize) -> io::Result<(Samples, f64)> {
    let mut world = World::prepare()?;
    world.configure(&Setup { sessions: 1, ..Setup::default() })?;
    for dir in ["inbox", "done"] {
        fs::create_dir_all(world.queue(dir))?;
    }
    for i in 0..done {
        let result = format!(
            "---\ntask: t{i}\nstatus: done\nrun: 00000000-0000-4000-8000-{i:012}\nsession: pool-1\nattempts: 1\n---\n{}\n",
            "what the agent said. ".repeat(20)
        );
        fs::write(world.queue(&format!("done/t{i}.md")), result)?;
    }
    for i in 0..waiting {
        // The first one keeps the only agent, so that all others wait.
        fs::write(world.queue(&format!("inbox/w{i:04}.md")), format!("```sh\nsleep 86400\n```\ntask {i}\n"))?;
    }
    let mut samples = Samples::default();
    let mut resident = 0.0;
    for _ in 0..TIMES {
        samples.push(world.run()?);
        world.until("the agent", |world| !world.sessions().is_empty())?;
        std::thread::sleep(Duration::from_secs(1));
        resident = memory(world.daemon_pid(), "VmRSS") as f64 / 1024.0;
        world.stop();
    }
    Ok((samples, resident))
}
