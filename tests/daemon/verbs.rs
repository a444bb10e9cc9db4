//! Control verbs and their outcomes.

use crate::world::{Setup, World};

#[test]
fn a_bad_verb_fails_where_the_writer_stands_and_is_quoted() {
    let world = World::start(&Setup::agents(1));
    for shell in ["bash", "dash"] {
        let out = world.sh(&format!("{shell} -c 'echo explode > $MNT/control'"));
        assert!(!out.status.success(), "{shell}");
    }
    let out = world.sh("echo explode > $MNT/control");
    assert!(String::from_utf8_lossy(&out.stderr).contains("Invalid argument"));
    assert!(world.read("control").expect("control").contains("explode"));
    assert!(!world.sh("echo cancel nothing > $MNT/control").status.success());
    assert!(
        !world
            .sh("printf 'pause\\nexplode\\n' | dd of=$MNT/control bs=4096 iflag=fullblock 2>/dev/null")
            .status
            .success()
    );
    assert_eq!(world.status()["paused"], false, "nothing of a refused write is done");
}

#[test]
fn cancel_hold_release_priority_and_retry() {
    let world = World::start(&Setup::agents(1));
    world.ok("echo pause > $MNT/control; echo text > $MNT/inbox/a.md; echo text > $MNT/inbox/b.md");
    world.until("both to be queued", || {
        world.word("tasks/a/state") == "queued" && world.word("tasks/b/state") == "queued"
    });
    world.ok("echo hold > $MNT/tasks/a/control; echo priority 9 > $MNT/tasks/b/control");
    assert_eq!(world.word("tasks/a/state"), "held");
    world.ok("echo resume > $MNT/control");
    world.result("done/b.md");
    assert_eq!(world.word("tasks/a/state"), "held");
    world.ok("echo cancel a > $MNT/control");
    let result = world.result("failed/a.md");
    assert!(result.contains("status: cancelled"), "{result}");
    world.until_word("tasks/a/state", "cancelled");
    world.ok("echo retry a > $MNT/control");
    world.until("the task to be held or done", || {
        world.queue("done/a.md").exists() || world.word("tasks/a/state") == "held"
    });
    world.result("done/a.md");
}

#[test]
fn session_verbs_input_and_keys() {
    let world = World::start(&Setup::agents(1));
    world.until_word("sessions/pool-11/state", "idle");
    let pid = world.word("sessions/pool-11/pid");
    world.ok("echo restart > $MNT/sessions/pool-11/control");
    world.until("another process", || {
        let now = world.word("sessions/pool-11/pid");
        now != pid && world.word("sessions/pool-11/state") == "idle"
    });
    world.ok("echo drain > $MNT/sessions/pool-11/control; echo text > $MNT/inbox/a.md");
    world.until_word("tasks/a/state", "queued");
    world.ok("echo 'hello agent' > $MNT/sessions/pool-11/input");
    world.until("the answer", || {
        world.read("sessions/pool-11/pane").is_ok_and(|pane| pane.contains("You said: hello agent"))
    });
    assert_eq!(world.word("tasks/a/state"), "queued", "a drained session takes no task");
    world.ok("echo undrain > $MNT/sessions/pool-11/control");
    world.result("done/a.md");
    assert!(!world.sh("echo '-t x' > $MNT/sessions/pool-11/keys").status.success());
}

#[test]
fn interrupt_stops_a_turn_and_the_task_waits_for_a_person() {
    let world = World::start(&Setup::agents(1));
    world.submit("a", "demo: slow=600\n");
    world.until_word("sessions/pool-11/state", "working");
    world.ok("echo interrupt > $MNT/sessions/pool-11/control");
    world.until_word("sessions/pool-11/state", "waiting");
    let why = world.read("sessions/pool-11/why").expect("why");
    assert!(why.contains("waiting (interrupted)") && why.contains("sessions/pool-11/input"), "{why}");
    // No dialog: a person says how it goes on.
    world.ok("echo 'say hello' > $MNT/sessions/pool-11/input");
    assert!(world.result("done/a.md").contains("You said: say hello"));

    world.submit("b", "demo: slow=600\n");
    world.until_word("sessions/pool-11/state", "working");
    world.ok("echo interrupt > $MNT/sessions/pool-11/control");
    world.until_word("sessions/pool-11/state", "waiting");
    world.ok("echo cancel > $MNT/tasks/b/control");
    world.result("failed/b.md");
}

#[test]
fn reload_applies_what_it_can_and_says_what_it_can_not() {
    let world = World::start(&Setup::agents(1));
    world.ok("sed -i 's/settle: 100ms/settle: 300ms/; s/100x30/120x30/' config.yaml; echo reload > $MNT/control");
    world.until("the new value", || world.read("config.yaml").is_ok_and(|text| text.contains("300ms")));
    assert!(world.events().contains("a restart is needed for changes in tmux"), "{}", world.events());
    let control = world.read("control").expect("control");
    assert!(control.contains(": ok: ") && control.contains("a restart is needed for changes in tmux"), "{control}");
    world.ok("echo 'nonsense: 1' >> config.yaml");
    assert!(!world.sh("echo reload > $MNT/control").status.success());
    assert!(world.read("control").expect("control").contains("nonsense"));
}

#[test]
fn commands_read_the_same_state() {
    let world = World::start(&Setup::agents(1));
    world.submit("a", "work\n");
    let run = |args: &str| world.sh(&format!("{} {args} --mount $MNT", crate::world::program().display()));
    let out = run("wait task a --timeout 60s");
    assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(run("wait idle --timeout 60s").status.code(), Some(0));
    assert!(String::from_utf8_lossy(&run("tasks").stdout).contains('a'));
    assert!(String::from_utf8_lossy(&run("sessions").stdout).contains("pool-11"));
    assert!(String::from_utf8_lossy(&run("status").stdout).contains("pool-11"));
}

/// A version with which not everything works stays in `health` while the agent runs.
#[test]
fn a_version_that_works_in_part_stays_in_health() {
    let world = World::prepare(&Setup::agents(1));
    let rules = "versions: {says: '^claude-failover (\\d+\\.\\d+\\.\\d+)', whole: 99.0.0, least: 0.1.0}\n";
    std::fs::write(world.path("old.yaml"), rules).expect("written");
    world.ok("sed -i 's/kind: demo/kind: demo, rules: old.yaml/' config.yaml");
    let mut world = world;
    world.run();
    world.until_word("sessions/pool-11/state", "idle");
    let health = world.read("health").expect("health");
    assert!(health.contains("99.0.0 or newer is needed"), "{health}");
    assert!(!world.events().contains("recovered: "), "{}", world.events());
}
