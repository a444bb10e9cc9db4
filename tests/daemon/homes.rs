//! The operator's link and the homes of two accounts, under the real daemon.

use std::{fs, os::unix::fs::symlink, process::Command};

use crate::world::{Setup, World, program};

/// Two accounts of Claude Code, which no session needs: the pool runs the demo agent.
fn two_accounts() -> World {
    let mut setup = Setup::agents(1);
    let mut world = World::prepare(&setup);
    for home in ["one", "two", "shared"] {
        fs::create_dir(world.path(home)).expect("a directory");
    }
    let at = |name: &str| world.path(name).display().to_string();
    setup.more = format!(
        "accounts: [{{name: one, home: {}}}, {{name: two, home: {}}}]\nclaude_link: {}\nshared: {{root: {}}}",
        at("one"),
        at("two"),
        at("link"),
        at("shared"),
    );
    world.configure(&setup);
    world
}

fn links_to(world: &World, to: &str) -> bool {
    fs::read_link(world.path("link")).is_ok_and(|link| link == world.path(to))
}

fn turn(world: &World, to: &str) {
    fs::remove_file(world.path("link")).expect("gone");
    symlink(world.path(to), world.path("link")).expect("a link");
}

#[test]
fn the_link_and_the_active_account_are_one() {
    let mut world = two_accounts();
    let mut check = Command::new(program());
    check.args(["check", "--fix", "--config"]).arg(world.path("config.yaml"));
    // What else it says of this machine is not the matter here.
    let _ = check.env("STATE_DIRECTORY", world.path("state")).env("HOME", world.path("home")).output().expect("run");
    assert!(links_to(&world, "one"));
    assert!(world.path("two/projects").is_dir());

    // A daemon without memory believes the link.
    turn(&world, "two");
    world.run();
    world.until_word("accounts/two/state", "active");
    assert_eq!(world.word("accounts/one/state"), "available");

    world.ok("echo swap one > $MNT/control");
    world.until_word("accounts/one/state", "active");
    assert!(links_to(&world, "one"), "{}", world.events());

    // One with memory doesn't, and says so; the link stays as the person left it.
    world.until("the swap to be over", || world.events().contains("done in"));
    world.kill_daemon();
    turn(&world, "two");
    world.run();
    assert_eq!(world.word("accounts/one/state"), "active");
    world
        .until("health to tell", || world.read("health").unwrap_or_default().contains("but the active account is one"));
    assert!(links_to(&world, "two"));
    world.ok("echo swap two > $MNT/control");
    world.until("the swap to be over", || world.events().matches("done in").count() == 2);
    assert!(links_to(&world, "two"));
}
