//! Listings and `status` when there is much: how their cost grows.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    measure::{Samples, ms, ratio, row, wanted},
    world::{Setup, World},
};

const ROUNDS: usize = 7;
const SESSIONS: u32 = 200;
const WAITING: [usize; 2] = [1_000, 10_000];
const DONE: [usize; 3] = [1_000, 10_000, 100_000];
/// A rendered text serves again for a second (`fs/ops_text.rs`).
const RENDERED_ANEW: Duration = Duration::from_millis(1100);
/// Times differ by this much between two runs of the same.
const ALIKE: f64 = 1.25;

pub fn listings() -> io::Result<()> {
    let mut world = World::prepare()?;
    world.begin(&Setup { sessions: 1, ..Setup::default() })?;
    for flags in [&["-f"][..], &[], &["-l"]] {
        let mut before: Option<(usize, Duration)> = None;
        for done in DONE {
            results(&world, done)?;
            let (mut ours, mut theirs) = (Samples::default(), Samples::default());
            for _ in 0..ROUNDS {
                ours.push(ls(flags, &world.mount("done"))?);
                theirs.push(ls(flags, &world.queue("done"))?);
            }
            let grown = before.map(|(fewer, took)| ratio(ours.median(), took) / (done as f64 / fewer as f64));
            row(
                &format!("`ls {}` of done/ with {done} results", flags.join(" ")),
                &ours.show(),
                &format!("the real directory: {}", theirs.show()),
                &format!("{:.1}", ratio(ours.median(), theirs.median())),
                &grown.map_or(String::new(), |each| {
                    wanted(&format!("linear (an entry costs {each:.2} of one before)"), each <= ALIKE)
                }),
            );
            before = Some((done, ours.median()));
        }
        fs::remove_dir_all(world.queue("done"))?;
        fs::create_dir(world.queue("done"))?;
    }
    Ok(())
}

pub fn status() -> io::Result<()> {
    let world = World::start(&Setup { sessions: SESSIONS, ..Setup::default() })?;
    fs::write(world.mount("control"), "pause\n")?;
    let mut took = Vec::new();
    for waiting in WAITING {
        for n in 0..waiting {
            fs::write(world.queue(&format!("inbox/w{n:05}.md")), format!("task {n}\n"))?;
        }
        fs::write(world.mount("control"), "rescan\n")?;
        let known = format!(",state=\"queued\"}} {waiting}");
        world
            .until("every task to be seen", |world| world.word("metrics").lines().any(|line| line.ends_with(&known)))?;
        took.push(read_status(&world, &format!("{SESSIONS} sessions, {waiting} waiting, nothing done"))?);
    }
    let grown = ratio(took[1], took[0]);
    results(&world, DONE[2])?;
    fs::write(world.mount("control"), "rescan\n")?;
    std::thread::sleep(Duration::from_secs(5));
    let full = read_status(&world, &format!("the same and {} results in done/", DONE[2]))?;
    row("… ten times the waiting tasks", &format!("{grown:.1} times"), "", "", &wanted("linear: ≤ 10", grown <= 10.0));
    let more = ratio(full, took[1]);
    row("… finished tasks", &format!("{more:.2} times"), "", "", &wanted("independent: 1", more <= ALIKE));
    Ok(())
}

fn read_status(world: &World, with: &str) -> io::Result<Duration> {
    let (mut fresh, mut again) = (Samples::default(), Samples::default());
    for _ in 0..ROUNDS {
        std::thread::sleep(RENDERED_ANEW);
        for samples in [&mut fresh, &mut again] {
            let begun = Instant::now();
            let mut text = String::new();
            File::open(world.mount("status"))?.read_to_string(&mut text)?;
            samples.push(begun.elapsed());
        }
    }
    row(
        &format!("reading `status`: {with}"),
        &fresh.show(),
        &format!("a moment later, rendered already: {}", ms(again.median())),
        "",
        "",
    );
    Ok(fresh.median())
}

/// Makes the real `done/` hold so many results.
fn results(world: &World, done: usize) -> io::Result<()> {
    for n in 0..done {
        let path = world.queue(&format!("done/t{n:06}.md"));
        if !path.exists() {
            let run = format!("00000000-0000-4000-8000-{n:012}");
            let yaml = format!("status: done\nrun: {run}\nsession: pool-1\nattempts: 1");
            fs::write(path, format!("task {n}\n<!-- claude-failover:result -->\ndone\n```yaml\n{yaml}\n```\n"))?;
        }
    }
    Ok(())
}

fn ls(flags: &[&str], dir: &Path) -> io::Result<Duration> {
    let begun = Instant::now();
    let done = Command::new("ls").args(flags).arg(dir).stdout(Stdio::null()).status()?.success();
    if done { Ok(begun.elapsed()) } else { Err(io::Error::other(format!("ls of {}", dir.display()))) }
}
