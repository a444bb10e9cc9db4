//! Swaps that fail.

use std::fs;

use super::{
    refused,
    stage::{account, limit, linked_stage, session, swaps, until_said, went_on},
};
use crate::world::World;

fn leads(world: &World) -> std::path::PathBuf {
    fs::read_link(world.path("link")).expect("a link")
}

/// A directory stands where the account's conversations should lead to what all share.
fn break_home(world: &World, name: &str) {
    let projects = world.path(name).join("projects");
    fs::remove_file(&projects).expect("a link");
    fs::create_dir(&projects).expect("made");
}

#[test]
fn a_target_that_is_not_whole_is_rolled_back() {
    let world = linked_stage(1, &["one", "two"], "");
    world.submit("a", "count\ndemo: slow=6\n");
    until_said(&world, 11, "word1");
    break_home(&world, "two");
    let out = world.sh("echo swap > $MNT/control");
    let told = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!out.status.success() && told.contains("Input/output error"), "{told}");
    assert!(world.events().contains("link turned to two"), "it was under way: {}", world.events());
    assert!(world.events().contains("rolled back"), "{}", world.events());
    assert_eq!((world.word("accounts/active"), leads(&world)), ("one".to_owned(), world.path("one")));
    assert_eq!(account(&world, "two", "state"), "broken");
    let health = world.read("health").expect("health");
    assert!(health.contains("two/projects"), "{health}");
    assert!(world.read("control").expect("control").contains("rolled back"), "{}", world.word("control"));
    // Nothing was stopped for it.
    went_on(&world, "a", 24, &["one"]);
}

#[test]
fn a_broken_target_is_not_tried_again_and_again() {
    let world = linked_stage(1, &["one", "two", "three"], "");
    world.until_word("sessions/pool-11/state", "idle");
    break_home(&world, "two");
    world.submit("a", "count\ndemo: slow=3\n");
    until_said(&world, 11, "word1");
    limit(&world, "one", super::FAR);
    went_on(&world, "a", 12, &["one", "three"]);
    assert_eq!(swaps(&world), 2, "one to each: {}", world.events());
    assert_eq!(leads(&world), world.path("three"));
}

#[test]
fn a_link_that_can_not_be_turned_stops_the_swap_and_nothing_else() {
    let world = linked_stage(1, &["one", "two"], "");
    world.until_word("sessions/pool-11/state", "idle");
    fs::remove_file(world.path("link")).expect("removed");
    fs::write(world.path("link"), "mine").expect("written");
    refused(&world, "echo swap > $MNT/control", "EIO");
    assert_eq!(fs::read_to_string(world.path("link")).expect("read"), "mine", "what is no link is left alone");
    assert_eq!(world.word("accounts/active"), "one");
    assert!(!world.word("health").contains("half done"), "nothing was changed: {}", world.word("health"));
}

#[test]
fn a_swap_that_can_not_be_undone_stops_all_swaps_until_a_person_has_looked() {
    let mut world = linked_stage(1, &["one", "two"], "quota: {reactivate_cooldown: 1h}");
    world.until_word("sessions/pool-11/state", "idle");
    let unclean = |world: &World, script: &str| {
        let out = world.sh(script);
        let told = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!out.status.success() && told.contains("Structure needs cleaning"), "{script}: {told}");
    };
    // A daemon ended while it took a swap back, and the link can't be turned any more.
    world.stop_daemon();
    let mut saved = world.state();
    let now = jiff::Timestamp::now().to_string();
    saved["swaps"] = serde_json::json!({"number": 1, "current": {
        "number": 1, "from": "one", "to": "two", "cause": {"out": {"why": "a limit"}}, "begun": now,
        "step": {"roll-back": {"why": "its home is not whole"}}, "since": now,
    }});
    world.save_state(&saved);
    fs::remove_file(world.path("link")).expect("removed");
    std::os::unix::fs::symlink(world.path("two"), world.path("link")).expect("made");
    fs::create_dir(world.path(".link.claude-failover")).expect("made");
    world.run();
    world.until("the half done swap", || world.word("health").contains("degraded"));
    unclean(&world, "echo swap > $MNT/control");
    unclean(&world, "echo two > $MNT/accounts/active");
    assert_eq!(world.word("accounts/active"), "one");
    // It is remembered, and no limit makes a swap of it.
    world.submit("a", "count\ndemo: slow=3\n");
    until_said(&world, 11, "word1");
    limit(&world, "one", super::FAR);
    world.until_word("sessions/pool-11/state", "limited");
    fs::remove_dir(world.path(".link.claude-failover")).expect("removed");
    fs::remove_file(world.path("link")).expect("removed");
    std::os::unix::fs::symlink(world.path("one"), world.path("link")).expect("made");
    world.kill_daemon();
    world.run();
    unclean(&world, "echo swap > $MNT/control");
    assert_eq!(swaps(&world), 0, "{}", world.events());
    assert_eq!(session(&world, 11, "account"), "one");
    world.ok("echo clear-partial > $MNT/control");
    went_on(&world, "a", 12, &["one", "two"]);
    assert_eq!(leads(&world), world.path("two"));
    world.until_word("health", "ok");
}
