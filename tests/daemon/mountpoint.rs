//! The mountpoint while nothing is mounted, and interference with the mount and the queues behind it: nothing blocks a
//! start, nothing is lost, and all of it is reported.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use crate::world::{Setup, World, detach, is_root};

#[test]
fn what_lies_in_the_mountpoint_at_a_start_is_put_aside_and_told() {
    if !is_root() {
        return;
    }
    let mut world = World::start(&Setup::agents(1));
    for round in 0..2 {
        if round == 0 {
            assert_eq!(world.stop_daemon(), Some(0));
        } else {
            world.kill_daemon();
            detach(&world.path("mnt"));
        }
        let mode = fs::metadata(world.path("mnt")).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o500, "nobody but root writes there");
        // As scripts begin, and people with a command from yesterday; root may.
        world.ok("mkdir -p $MNT/projects/web/doing $MNT/projects/web/inbox $MNT/junk; echo pause > $MNT/control");
        world.ok("echo late > $MNT/projects/web/inbox/late.md; ln -s nowhere $MNT/junk/link; mkfifo $MNT/junk/pipe");
        world.run();
        world.until("health to tell", || world.word("health").contains("something was written there"));
        let health = world.word("health");
        for words in ["/control", "/junk/link", "/junk/pipe", "to submit its tasks: `mv "] {
            assert!(health.contains(words), "{words}: {health}");
        }
        let line = health.split('`').find(|part| part.starts_with("mv ")).expect("the line that submits it");
        world.ok(line);
        assert!(world.result("done/late.md").starts_with("late\n<!--"));
        world.until("the inbox to be empty", || world.inbox_is_empty());
        world.ok("[ \"$(cat state/found/*/control)\" = pause ]; rm -r state/found");
        world.until_word("health", "ok");
    }
    // Directories alone are nothing to tell.
    assert_eq!(world.stop_daemon(), Some(0));
    world.ok("mkdir -p $MNT/projects/web/doing");
    world.run();
    assert!(!world.path("state/found").exists());
}

#[test]
fn the_mount_taken_away_by_somebody_else_is_a_warning_and_work_goes_on() {
    if !is_root() {
        return;
    }
    let world = World::start(&Setup::agents(1));
    world.until_word("sessions/pool-11/state", "idle");
    detach(&world.path("mnt"));
    let log = || fs::read_to_string(world.path("daemon.log")).unwrap_or_default();
    let told = || {
        log().lines().filter(|line| line.contains("WARN") && line.contains("was unmounted by somebody else")).count()
    };
    world.until("the warning", || told() > 0);
    fs::write(world.queue("inbox/a.md"), "work\n").expect("written");
    world.result("done/a.md");
    assert_eq!(told(), 1);
}

#[test]
fn a_queue_removed_and_made_again_is_shown_again() {
    let world = World::start(&Setup::agents(1));
    world.ok("ls $MNT/inbox $MNT/projects/web/inbox");
    for (round, away) in
        ["rm -rf web/.agent-queue", "mv web/.agent-queue web/old", "rm -rf web/.agent-queue/*"].into_iter().enumerate()
    {
        world.ok(&format!("{away}; echo rescan > $MNT/control"));
        world.until("the queue to be made again", || {
            ["inbox", "drafts", "done", "failed"].iter().all(|dir| world.queue(dir).exists())
        });
        world.until(&format!("the mount to show it again after {away:?}"), || {
            world.sh(&format!("echo work > $MNT/inbox/a{round}.md")).status.success()
                && world.queue(&format!("inbox/a{round}.md")).exists()
                || world.queue(&format!("done/a{round}.md")).exists()
        });
        world.result(&format!("done/a{round}.md"));
        world.until("the project's view to show it", || {
            world.read(&format!("projects/web/done/a{round}.md")).is_ok_and(|text| text.contains("status: done"))
        });
    }
    world.until_word("health", "ok");
}

#[test]
fn an_abstract_notify_socket_is_told_when_the_daemon_is_ready() {
    use std::os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    };
    let mut world = World::prepare(&Setup::agents(0));
    let name = format!("cf-{}", world.path("").display());
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let socket = UnixDatagram::bind_addr(&address).expect("bound");
    socket.set_read_timeout(Some(Duration::from_secs(30))).expect("set");
    world.notify = Some(format!("@{name}").into());
    world.run();
    let mut said = [0; 64];
    let length = socket.recv(&mut said).expect("told");
    assert_eq!(&said[..length], b"READY=1\n");
}
