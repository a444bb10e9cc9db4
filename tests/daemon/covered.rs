//! A queue path that leads into the mount: the mount's project directory bind-mounted over `.agent-queue`, or
//! `.agent-queue` a link to it. Scripts keep using the old path, and the daemon never goes through its own mount.

use std::{fs, os::unix::fs::symlink, path::Path};

use crate::{
    disks::{bind, own_namespace},
    world::{Setup, World, detach},
};

/// What scripts do, by the old path.
#[track_caller]
fn works(world: &World, round: &str) {
    let script = "cd web && echo one > .agent-queue/inbox/one-R.md && echo two > .agent-queue/drafts/two-R.md &&
        mv .agent-queue/drafts/two-R.md .agent-queue/inbox/ && mkdir .agent-queue/R.lock && rmdir .agent-queue/R.lock";
    world.ok(&script.replace('R', round));
    for task in ["one", "two"] {
        let text = world.result(&format!("done/{task}-{round}.md"));
        assert!(text.contains("status: done"), "{text}");
        assert_eq!(world.read(&format!("done/{task}-{round}.md")).expect("in the mount"), text);
    }
    world.until("the inbox to be empty", || world.inbox_is_empty());
    world.until("nothing but ok", || world.word("health") == "ok");
    assert_eq!(world.events().matches("removed from inbox").count(), 0, "the daemon went through its mount");
}

fn mounts_at(path: &Path) -> usize {
    let table = fs::read_to_string("/proc/thread-self/mountinfo").expect("mounts");
    table.lines().filter(|line| line.split(' ').nth(4) == path.to_str()).count()
}

#[test]
fn the_mount_s_project_directory_may_stand_over_the_queue() {
    if !own_namespace() {
        return;
    }
    let mut world = World::start(&Setup::agents(1));
    let queue = world.queue("");
    let queue = Path::new(queue.to_str().expect("a path").trim_end_matches('/'));
    bind(&world.mount("projects/web"), queue);
    works(&world, "covered");
    // Another one that was moved is shown by what stands in its place.
    world.ok("mv api/.agent-queue api/away; echo rescan > $MNT/control");
    world.until("the look", || {
        let script = "echo x > $MNT/projects/api/drafts/x 2> /dev/null && [ -e api/.agent-queue/drafts/x ]";
        world.sh(script).status.success()
    });
    world.ok("rm -r api/.agent-queue; mv api/away api/.agent-queue");
    // Ended well, it leaves nothing dead behind.
    assert_eq!(world.stop_daemon(), Some(0));
    assert_eq!(mounts_at(queue), 0);
    world.ok("echo three > web/.agent-queue/inbox/three.md");
    world.run();
    world.result("done/three.md");
    // Killed, it leaves a dead one, and the next start takes that away.
    bind(&world.mount("projects/web"), queue);
    world.kill_daemon();
    assert!(!world.sh("timeout 10 ls web/.agent-queue").status.success());
    world.run();
    assert_eq!(mounts_at(queue), 0);
    works(&world, "again");
    // So does `unmount`.
    bind(&world.mount("projects/web"), queue);
    world.kill_daemon();
    world.ok(&format!("{} unmount --mount $MNT", crate::world::program().display()));
    assert_eq!(mounts_at(queue), 0);
    world.ok("ls web/.agent-queue/done/three.md");
}

#[test]
fn the_queue_may_be_a_link_into_the_mount() {
    let mut world = World::start(&Setup::agents(1));
    works(&world, "plain");
    world.ok("mv web/.agent-queue web/.agent-queue.real && ln -s $MNT/projects/web web/.agent-queue");
    works(&world, "linked");
    // There before the mount is.
    assert_eq!(world.stop_daemon(), Some(0));
    let check = format!("{} check --config config.yaml", crate::world::program().display());
    let told = String::from_utf8_lossy(&world.sh(&check).stdout).into_owned();
    assert!(told.contains("web/.agent-queue.real"), "{told}");
    world.ok("echo early > web/.agent-queue.real/inbox/early.md");
    world.run();
    world.result("done/early.md");
    works(&world, "later");
    world.kill_daemon();
    world.run();
    works(&world, "killed");
    // The first project's directories stand at the mount's root too.
    world.ok("ln -sfn $MNT web/.agent-queue");
    world.ok(
        "echo root > web/.agent-queue/drafts/root.md && mv web/.agent-queue/drafts/root.md web/.agent-queue/inbox/",
    );
    world.result("done/root.md");
    assert!(!world.path("web/.agent-queue.real/web").exists());
}

#[test]
fn a_link_in_a_project_that_never_had_a_queue() {
    let mut world = World::prepare(&Setup::agents(1));
    symlink(world.mount("projects/web"), world.path("web/.agent-queue")).expect("a link");
    world.run();
    works(&world, "fresh");
    assert!(world.path("web/.agent-queue.real/done/one-fresh.md").exists());
}

#[test]
fn the_mount_over_a_part_of_the_queue_is_refused_and_hangs_nobody() {
    if !own_namespace() {
        return;
    }
    let world = World::start(&Setup::agents(1));
    bind(&world.mount("inbox"), &world.queue("inbox"));
    world.ok("timeout 10 bash -c 'echo rescan > $MNT/control'");
    world.until("health to tell", || world.word("health").contains("stands over .agent-queue/inbox alone"));
    // More at once than there are threads.
    world.ok("for i in $(seq 20); do timeout 20 bash -c 'ls -l $MNT/inbox $MNT/projects/web; echo x > $MNT/inbox/x.md' & done &> /dev/null; wait; cat $MNT/status");
    detach(&world.queue("inbox"));
    works(&world, "after");
}
