//! Wall-clock jumps: the daemon and agents see the wall clock change while monotonic clocks continue.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};

use crate::world::{Setup, World};

/// A clock that was set back by 45 s must not hold anything up for as long.
const SOON: Duration = Duration::from_secs(30);

const OFFSETS: [i64; 5] = [0, -45, 86_400, 0, -86_400];

/// The wall's clock of daemon, agents and their hooks is moved by what the file `ahead` holds.
fn world() -> World {
    let mut world = World::prepare(&Setup::default());
    let shim = world.path("clock.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/clock_shim.c");
    let built = Command::new("cc").args(["-O2", "-shared", "-fPIC", "-o"]).arg(&shim).arg(source).status();
    assert!(built.is_ok_and(|status| status.success()), "cc builds the shim");
    let vars = [("LD_PRELOAD", shim), ("CLOCK_SHIM", world.path("ahead"))];
    let vars = vars.map(|(name, path)| (name.to_owned(), path.display().to_string()));
    let more_env = vars.iter().map(|(name, value)| format!(", {name}: {value}")).collect();
    set(&world, 0);
    world.configure(&Setup { env: vars.to_vec(), more_env, ..Setup::agents(1) });
    world.run();
    world
}

fn set(world: &World, ahead: i64) {
    fs::write(world.path("ahead.new"), ahead.to_string()).expect("written");
    fs::rename(world.path("ahead.new"), world.path("ahead")).expect("renamed");
}

#[track_caller]
fn is_done_soon(world: &World, name: &str, what: &str) {
    let begun = Instant::now();
    world.submit(name, "```sh\necho done by now\n```\n");
    assert!(world.result(&format!("done/{name}.md")).contains("done by now"));
    assert!(begun.elapsed() < SOON, "{what}: {:?}", begun.elapsed());
}

/// How old the session's state is by its own word, on the clock that is wrong by `ahead`.
fn age(world: &World, ahead: i64) -> SignedDuration {
    let since = world.status()["sessions"][0]["since"].as_str().unwrap_or_default().parse::<Timestamp>();
    let wall = Timestamp::now() + SignedDuration::from_secs(ahead);
    wall.duration_since(since.expect("a time"))
}

#[test]
fn tasks_start_within_seconds_wherever_the_clock_is_set() {
    let world = world();
    for (number, ahead) in OFFSETS.into_iter().enumerate() {
        set(&world, ahead);
        is_done_soon(&world, &format!("t{number}"), &format!("{ahead} s"));
        world.until_word("sessions/pool-11/state", "idle");
        let age = age(&world, ahead);
        let soon = SignedDuration::try_from(SOON).expect("a time");
        assert!(age.abs() < soon, "the age of its state at {ahead} s: {age}");
    }
    let health = world.word("health");
    assert!(health.starts_with("ok"), "{health}");
}

#[test]
fn tasks_start_within_seconds_after_a_restart_with_a_state_from_the_future() {
    let mut world = world();
    for (number, ahead) in OFFSETS.into_iter().enumerate() {
        is_done_soon(&world, &format!("before{number}"), "before the restart");
        world.kill_daemon();
        set(&world, ahead);
        world.run();
        is_done_soon(&world, &format!("after{number}"), &format!("{ahead} s, after a restart"));
    }
}

#[test]
fn a_timeout_counts_the_time_that_has_passed_and_a_task_at_work_goes_on_over_jumps() {
    let mut world = world();
    let task = "---\ntimeout: 10m\n---\n```sh\necho x >> ../count; until [ -e ../go ]; do sleep 0.1; done; echo finished\n```\n";
    for (number, ahead) in [10_800, -86_400].into_iter().enumerate() {
        let name = format!("long{number}");
        world.submit(&name, task);
        world.until("the task to begin", || world.ok("cat count || :").lines().count() == number + 1);
        set(&world, ahead);
        world.until("the jump to be seen", || world.events().matches("the clock went").count() > number);
        assert_eq!(world.word(&format!("tasks/{name}/state")), "working");
        world.kill_daemon();
        world.run();
        assert_eq!(world.word(&format!("tasks/{name}/state")), "working", "after a restart");
        fs::write(world.path("go"), "").expect("written");
        let result = world.result(&format!("done/{name}.md"));
        assert!(result.contains("finished") && result.contains("attempts: 1"), "{result}");
        let seconds = result.lines().find_map(|line| line.strip_prefix("seconds: ")?.parse::<u64>().ok());
        assert!(seconds.is_some_and(|seconds| seconds < 120), "{result}");
        fs::remove_file(world.path("go")).expect("removed");
    }
    assert_eq!(world.ok("cat count").lines().count(), 2);
}
