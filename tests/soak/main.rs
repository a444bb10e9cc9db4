//! Nothing grows over time: the daemon and its tmux server under tasks, swaps, readers and long prompts, sampled each
//! second.
//! Two minutes at most by default; `make soak` asks for 20 (`SOAK_SECONDS`). Prints its measurements.

mod sample;
#[path = "../support/daemon.rs"]
mod world;

use std::{
    fs,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use sample::{Sample, report};
use world::{Setup, World};

/// Without `SOAK_SECONDS`.
const SECONDS: u64 = 75;
const SESSIONS: u32 = 4;
/// Names of tasks are used again, so that results replace each other and no directory grows.
const NAMES: u64 = 8;

fn seconds() -> u64 {
    std::env::var("SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SECONDS)
}

fn prepare() -> World {
    let mut setup = Setup::agents(SESSIONS);
    let mut world = World::prepare(&setup);
    let row = |name: &str| {
        let home = world.path(name);
        fs::create_dir(&home).expect("made");
        format!("{{name: {name}, home: {}, agent: demo}}", home.display())
    };
    let rows = [row("one"), row("two")].join(", ");
    setup.more = format!(
        "accounts: [{rows}]\nclaude_link: {}\nshared: {{root: {}}}\n",
        world.path("link").display(),
        world.path("shared").display(),
    );
    world.configure(&setup);
    let file = world.path("config.yaml");
    let config = fs::read_to_string(&file).expect("the configuration");
    // Scrollback fills up and stays; a short one is full at once.
    fs::write(&file, config.replace("size: 100x30", "size: 100x30, history_limit: 50")).expect("written");
    world.ok(&format!(
        "STATE_DIRECTORY=$PWD/state {} check --fix --config {}",
        world::program().display(),
        file.display()
    ));
    world
}

/// A task that fills its agent's screen, and every fifth one longer than what goes on a command line of tmux.
fn task(n: u64) -> String {
    let lines = "for i in $(seq 60); do echo \"$i $(printf '%085d' $i)\"; done; sleep 1";
    let long = if n.is_multiple_of(5) { "many words ".repeat(1_000) } else { "few words".to_owned() };
    format!("{long}\n```sh\n{lines}\n```\n")
}

/// Keeps the queue filled.
fn submit(world: &World, over: &AtomicBool, submitted: &AtomicU64) {
    while !over.load(Ordering::Relaxed) {
        for name in 0..NAMES {
            let path = world.queue(&format!("inbox/soak-{name}.md"));
            if !path.exists() {
                let n = submitted.fetch_add(1, Ordering::Relaxed);
                let draft = world.queue(&format!("drafts/soak-{name}.md"));
                let written = fs::write(&draft, task(n)).and_then(|()| fs::rename(&draft, &path));
                written.expect("submitted");
                for old in ["done", "failed"] {
                    let _none = fs::remove_file(world.queue(&format!("{old}/soak-{name}.md")));
                }
            }
        }
        thread::sleep(Duration::from_millis(200));
    }
}

/// Reads what people and scripts read, all the time.
fn read(world: &World, over: &AtomicBool) {
    let files = ["status", "status.json", "metrics", "health", "control"].map(|file| world.mount(file));
    while !over.load(Ordering::Relaxed) {
        for file in &files {
            drop(fs::read(file));
        }
        for n in 11..11 + SESSIONS {
            for file in ["why", "pane", "pane.ansi", "history", "state"] {
                drop(fs::read(world.mount(&format!("sessions/pool-{n}/{file}"))));
            }
        }
        for name in 0..NAMES {
            drop(fs::read(world.mount(&format!("tasks/soak-{name}/why"))));
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// Moves everything to the other account now and then.
fn swap(world: &World, over: &AtomicBool) {
    let mut next = Instant::now() + Duration::from_secs(5);
    while !over.load(Ordering::Relaxed) {
        if Instant::now() >= next {
            // Refused while one is under way.
            let _refused = fs::write(world.mount("control"), "swap\n");
            next = Instant::now() + Duration::from_secs(10);
        }
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn nothing_grows_with_time() {
    let mut world = prepare();
    world.run();
    let (over, submitted) = (AtomicBool::new(false), AtomicU64::new(0));
    let (daemon, server) = (world.daemon_pid(), world.tmux(&["display-message", "-p", "#{pid}"]));
    let server: u32 = server.trim().parse().expect("the server's pid");
    let mut samples = Vec::new();
    let whole = thread::scope(|scope| {
        let world = &world;
        scope.spawn(|| submit(world, &over, &submitted));
        scope.spawn(|| read(world, &over));
        scope.spawn(|| swap(world, &over));
        let begun = Instant::now();
        let until = begun + Duration::from_secs(seconds());
        // A panic must end the others, too.
        let measured = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            while Instant::now() < until {
                samples.push(Sample::take(world, begun.elapsed(), daemon, server));
                thread::sleep(Duration::from_secs(1));
            }
        }));
        over.store(true, Ordering::Relaxed);
        measured
    });
    whole.expect("measured to the end");
    let swaps = world.events().lines().filter(|line| line.contains("swap") && line.contains(" done in ")).count();
    println!("{} tasks submitted, {swaps} swaps", submitted.load(Ordering::Relaxed));
    assert!(submitted.load(Ordering::Relaxed) > seconds() / 4, "hardly a task was done\n{}", world.events());
    assert!(swaps > 0, "no swap\n{}", world.events());
    let grows = report(&samples);
    assert!(grows.is_empty(), "it grows: {}", grows.join("; "));
}
