//! Hangs, and exits of every kind: each leaves a defined state, and nothing waits for ever.

use std::{
    fs,
    process::{Child, Command, Stdio},
};

use crate::{
    hung_disk::HungDisk,
    world::{Setup, World},
};

fn bash(world: &World, script: &str) -> Child {
    let mut command = Command::new("bash");
    command.args(["-c", script]).env("MNT", world.mount("")).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("bash")
}

#[test]
fn with_tmux_stopped_verbs_answer_in_time_and_the_mount_all_the_while() {
    let world = World::start(&Setup::agents(2).more("control: {reply_within: 500ms}\n"));
    for n in [11, 12] {
        world.until_word(&format!("sessions/pool-{n}/state"), "idle");
    }
    let pid = world.tmux(&["display-message", "-p", "#{pid}"]).trim().to_owned();
    world.ok(&format!("kill -STOP {pid}"));
    let files =
        ["sessions/pool-11/keys", "sessions/pool-12/keys", "sessions/pool-11/control", "sessions/pool-12/control"];
    let writers: Vec<Child> = (0..20)
        .map(|n| {
            let (file, verb) = (files[n % 4], if n % 4 < 2 { "Left" } else { "undrain" });
            bash(&world, &format!("timeout -k 1 40 bash -c 'echo {verb} > $MNT/{file}'"))
        })
        .collect();
    world.ok("timeout 15 cat $MNT/status $MNT/sessions/*/pane $MNT/control > /dev/null");
    world.ok("timeout 15 bash -c 'echo later > $MNT/inbox/a.md; mv $MNT/inbox/a.md $MNT/drafts/; mv $MNT/drafts/a.md $MNT/inbox/'");
    for mut writer in writers {
        let code = writer.wait().expect("ended").code();
        assert!(matches!(code, Some(0 | 1)), "answered in time, with an error or none: {code:?}");
    }
    world.ok(&format!("kill -CONT {pid}"));
    world.result("done/a.md");
}

#[test]
fn a_disk_that_answers_nothing_holds_up_its_own_project_only() {
    let mut world = World::prepare(&Setup::agents(1));
    let disk = HungDisk::mount(&world.path("api/.agent-queue"));
    world.run();
    world.submit("before", "say it\n");
    world.result("done/before.md");
    disk.hang();
    world.ok("echo rescan > $MNT/control");
    for id in ["during", "meanwhile"] {
        world.submit(id, "say it\n");
        world.result(&format!("done/{id}.md"));
    }
    world.until("health to tell", || world.word("health").contains("project api: inbox/ can't be read: its disk"));
    world.ok("timeout 10 cat $MNT/status $MNT/status.json $MNT/tasks/*/why $MNT/sessions/*/state > /dev/null");
    disk.go_on();
    world.ok("echo rescan > $MNT/control");
    world.until_told(|| world.word("health"), || !world.word("health").contains("project api: inbox"));
    assert!(!world.events().contains("moved or replaced"), "{}", world.events());
    world.submit("after", "say it\n");
    world.result("done/after.md");
    // The daemon's end waits for no disk. (Its process does, while the kernel doesn't give a thread back.)
    disk.hang();
    world.ok("echo rescan > $MNT/control");
    world
        .until("health to tell again", || world.word("health").contains("project api: inbox/ can't be read: its disk"));
    world.ok(&format!("kill -TERM {}", world.daemon_pid()));
    world.until("the mount to go", || fs::read_dir(world.mount("")).is_ok_and(|mut names| names.next().is_none()));
    world.until("the main thread to end", || {
        world.ok(&format!("cat /proc/{}/stat", world.daemon_pid())).contains(") Z ")
    });
    disk.go_on();
    assert_eq!(world.stop_daemon(), Some(0));
}

#[test]
fn a_start_over_a_disk_that_answers_nothing_ends_with_a_word() {
    let world = World::prepare(&Setup::agents(1));
    let disk = HungDisk::mount(&world.path("api/.agent-queue"));
    disk.hang();
    let log = fs::File::create(world.path("start.log")).expect("a log");
    let mut start = Command::new(crate::world::program());
    start.args(["run", "--foreground", "--config"]).arg(world.path("config.yaml"));
    start.env("STATE_DIRECTORY", world.path("state")).env("HOME", world.path("home"));
    let mut start = start.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("a start");
    let queue = world.path("api/.agent-queue").display().to_string();
    let told = || fs::read_to_string(world.path("start.log")).unwrap_or_default();
    world.until_told(told, || told().contains(&format!("the disk of {queue} has not answered")));
    disk.go_on();
    assert_eq!(start.wait().expect("ended").code(), Some(1));
}

#[test]
fn a_daemon_that_ends_leaves_a_busy_mount_and_nobody_waits() {
    let mut world = World::start(&Setup::agents(1));
    world.submit("a", "say it\n");
    world.result("done/a.md");
    let poller =
        "import select\nf=open('events');f.read();p=select.poll();p.register(f)\nwhile True: p.poll(1000); f.read()";
    let mut busy = [
        bash(&world, "cd $MNT/inbox && exec sleep 600"),
        bash(&world, "exec 5< $MNT/done/a.md 6>> $MNT/drafts/open.md && exec sleep 600"),
        bash(&world, "cd $MNT && exec tail -f events"),
        bash(&world, &format!("cd $MNT && exec timeout 60 python3 -c \"{poller}\"")),
    ];
    world.until("the file to be open", || world.queue("drafts/open.md").exists());
    assert_eq!(world.stop_daemon(), Some(0));
    assert!(fs::read_dir(world.mount("")).expect("the mountpoint").next().is_none(), "still mounted");
    // The poller learns that its file is gone instead of waiting.
    assert!(!busy[3].wait().expect("ended").success());
    world.ok("echo x > web/.agent-queue/drafts/b.md && cat web/.agent-queue/done/a.md > /dev/null");
    world.run();
    world.ok("mv $MNT/drafts/b.md $MNT/inbox/");
    world.result("done/b.md");
    for program in &mut busy {
        let _ = program.kill();
        program.wait().expect("ended");
    }
}

#[test]
fn a_copy_of_the_mount_in_another_namespace_keeps_no_daemon_from_ending() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: a mount namespace needs root");
        return;
    }
    let mut world = World::start(&Setup::agents(1));
    world.submit("a", "say it\n");
    world.result("done/a.md");
    // A container that was started meanwhile, for example.
    let held = "exec unshare -m --propagation private bash -c 'cd $MNT/done && exec 5< a.md && echo > $MNT/drafts/in && exec sleep 600'";
    let mut other = bash(&world, held);
    world.until("the copy to be held", || world.queue("drafts/in").exists());
    let status = format!("timeout 10 nsenter -t {} -m cat $MNT/status", other.id());
    world.ok(&status);
    let pid = world.daemon_pid();
    assert_eq!(world.stop_daemon(), Some(0));
    assert!(fs::read_dir(world.mount("")).expect("the mountpoint").next().is_none(), "still mounted");
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    let told = world.sh(&status);
    assert!(String::from_utf8_lossy(&told.stderr).contains("not connected"), "{told:?}");
    world.run();
    world.submit("b", "say it\n");
    world.result("done/b.md");
    // After a kill the copy is as dead as the mount was, and in nobody's way.
    world.kill_daemon();
    world.run();
    world.submit("c", "say it\n");
    world.result("done/c.md");
    other.kill().expect("killed");
    other.wait().expect("ended");
}

#[test]
fn after_a_kill_the_queue_is_usable_at_once_and_the_dead_mount_goes() {
    let mut world = World::start(&Setup::agents(1));
    let mut inside = bash(&world, "cd $MNT/inbox && exec sleep 600");
    let mut poller = bash(
        &world,
        "cd $MNT && exec timeout 60 python3 -c \"import select\nf=open('events');f.read();p=select.poll();p.register(f)\nwhile True: p.poll(1000); f.read()\"",
    );
    world.ok("echo pause > $MNT/control; echo one > $MNT/inbox/one.md");
    world.kill_daemon();
    assert!(!world.sh("timeout 10 ls $MNT").status.success(), "a dead mount says so");
    world.ok("timeout 10 bash -c 'cat web/.agent-queue/inbox/one.md && echo two > web/.agent-queue/inbox/two.md'");
    assert!(!poller.wait().expect("ended").success(), "a poller is told");
    world.run();
    world.ok("echo resume > $MNT/control");
    for id in ["one", "two"] {
        world.result(&format!("done/{id}.md"));
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    let here = world.path("mnt").display().to_string();
    assert_eq!(mounts.lines().filter(|line| line.split(' ').nth(4) == Some(&here)).count(), 1);
    // By hand, it goes too.
    world.kill_daemon();
    let unmount = format!("{} unmount --mount $MNT", crate::world::program().display());
    world.ok(&unmount);
    world.ok(&unmount);
    assert!(fs::read_dir(world.mount("")).expect("the mountpoint").next().is_none());
    inside.kill().expect("killed");
    inside.wait().expect("ended");
}

#[test]
fn a_second_daemon_on_the_same_mountpoint_refuses_and_disturbs_nothing() {
    let world = World::start(&Setup::agents(1));
    let out = Command::new(crate::world::program())
        .args(["run", "--foreground", "--config"])
        .arg(world.path("config.yaml"))
        .env("STATE_DIRECTORY", world.path("other-state"))
        .env("HOME", world.path("home"))
        .output()
        .expect("ran");
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains("another process that still answers"), "{said}");
    world.submit("a", "and on\n");
    world.result("done/a.md");
}
