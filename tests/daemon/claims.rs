//! Scripts that claim tasks on the mount beside the supervisor: each task has exactly one winner, whatever method a
//! script uses.

use std::fs;

use crate::world::{Setup, World};

/// Agents that log each start in `ran` and work until there is `go`.
fn world(agents: u32) -> World {
    let temp = World::prepare(&Setup::agents(0));
    let run = format!(
        ", sh: {{kind: command, run: [sh, -c, 't=$(cat); echo \"$t\" >> \"$0\"; until [ -e \"$1\" ]; do sleep 0.02; done', {}, {}]}}",
        temp.path("ran").display(),
        temp.path("go").display()
    );
    let mut world = temp;
    world.configure(&Setup { more_agents: run, agent: "sh".into(), settle: "20ms".into(), ..Setup::agents(agents) });
    world.run();
    world
}

/// A world whose task `x` is at work.
fn at_work() -> World {
    let world = world(1);
    world.submit("x", "text of x\n");
    world.until("the agent to be at it", || world.path("ran").exists());
    world
}

#[test]
fn the_marker_of_a_task_at_work_can_not_be_taken_away() {
    let world = at_work();
    world.ok("mkdir $MNT/projects/web/doing; echo other > $MNT/drafts/other");
    let before = world.ok("cat $MNT/inbox/x.md.working");
    let renameat2 = |flag: u32, one: &str, other: &str| {
        format!(
            "python3 -c 'import ctypes,os,sys\nl=ctypes.CDLL(None,use_errno=True)\nr=l.renameat2(-100,sys.argv[1].encode(),-100,sys.argv[2].encode(),{flag})\nsys.exit(os.strerror(ctypes.get_errno()) if r else 0)' {one} {other}"
        )
    };
    for (inbox, elsewhere) in [
        ("$MNT/inbox", "$MNT/drafts"),
        ("$MNT/projects/web/inbox", "$MNT/projects/web/doing"),
        ("$MNT/inbox", "$MNT/projects/api/inbox"),
    ] {
        let marker = format!("{inbox}/x.md.working");
        for script in [
            format!("mv {marker} {elsewhere}/"),
            format!("mv {marker} {inbox}/mine"),
            format!("mv {marker} $HOME/"),
            format!("mv -f {elsewhere}/other {marker}"),
            renameat2(1, &marker, &format!("{elsewhere}/new")),
            renameat2(2, &marker, "$MNT/drafts/other"),
            renameat2(2, "$MNT/drafts/other", &marker),
            format!("rm -f {marker}"),
            format!("unlink {marker}"),
            format!("ln {marker} {elsewhere}/second"),
            format!("echo mine > {marker}"),
            format!("echo mine >> {marker}"),
            format!("cp $MNT/drafts/other {marker}"),
            format!("truncate -s 0 {marker}"),
            format!("python3 -c 'import os; os.open(\"'{marker}'\", os.O_RDWR)'"),
            // And its task.
            format!("mv {inbox}/x.md {elsewhere}/"),
            format!("ln {inbox}/x.md {elsewhere}/x.md"),
        ] {
            // `mv -f` above needs something to move.
            world.ok(&format!("[ -e {elsewhere}/other ] || echo o > {elsewhere}/other"));
            let out = world.sh(&format!("HOME=$PWD/home; {script}"));
            let said = String::from_utf8_lossy(&out.stderr).to_lowercase();
            assert!(!out.status.success() && said.contains("busy"), "{script}: {said}");
        }
        world.ok(&format!("chmod 640 {marker}; touch {marker}; rm -f {elsewhere}/second"));
    }
    assert_eq!(world.ok("cat $MNT/inbox/x.md.working"), before);
    assert_eq!(world.word("tasks/x/state"), "working");
    // Told where people look, and not once for each try.
    let told = world.events().lines().filter(|line| line.contains("refused: x.md.working is the")).count();
    assert!((1..=2).contains(&told), "{told}: {}", world.events());
    // Of others, and of no task, nothing is kept.
    world.ok(
        "echo theirs > $MNT/inbox/y.md.working; mv $MNT/inbox/y.md.working $MNT/drafts/; rm $MNT/drafts/y.md.working",
    );
    // With the end of the task it goes, and `rm` is a cancel all the while.
    world.ok("rm $MNT/inbox/x.md");
    world.result("failed/x.md");
    world.until("the marker to go", || world.inbox_is_empty());
}

/// Each of the tasks is either where scripts put theirs, or done by the supervisor, and never both.
#[track_caller]
fn exactly_one(world: &World, tasks: usize, theirs: &str) {
    fs::write(world.path("go"), "").expect("written");
    world.until("an empty inbox", || world.inbox_is_empty());
    let taken = world.ok(&format!("cd {theirs}; ls | grep -v '[.]md$' || true; ls | grep '[.]md$' | sort"));
    let done = world.ok("cd web/.agent-queue; ls done failed | grep '[.]md$' | sort");
    let ran = world.ok("sort ran || true");
    let ids = |text: &str| text.lines().map(|line| line.trim_end_matches(".md").to_owned()).collect::<Vec<_>>();
    let (taken, done, ran) = (ids(&taken), ids(&done), ids(&ran));
    assert_eq!(done, ran, "what is filed is what was done");
    let mut all = [taken.clone(), done.clone()].concat();
    all.sort();
    let wanted: Vec<String> = (100..100 + tasks).map(|n| format!("t{n}")).collect();
    assert_eq!(all, wanted, "taken: {taken:?}, done: {done:?}");
    assert!(!done.is_empty(), "the supervisor had none: nothing was at risk");
}

fn submit(world: &World, tasks: usize) {
    world.ok(&format!("for n in $(seq 100 {}); do echo t$n > $MNT/inbox/t$n.md; done", 99 + tasks));
}

#[test]
fn scripts_that_move_whatever_they_find_and_the_supervisor_share_the_tasks() {
    for claim in [
        // A dispatcher's loop (enclaive, task-queue.sh): no filter, and the exit code decides.
        "for f in $MNT/inbox/*; do mv \"$f\" $D/ 2> /dev/null; done",
        "find $MNT/inbox -maxdepth 1 -type f -exec mv {} $D/ ';' 2> /dev/null",
        "cd $MNT/projects/web/inbox; for f in *; do mv -n \"$f\" $D/ 2> /dev/null; done",
        "cd $MNT/inbox; for f in *; do ln \"$f\" $D/\"$f\" 2> /dev/null && rm -f \"$f\"; done",
    ] {
        let world = world(2);
        world.ok("mkdir $MNT/projects/web/doing");
        submit(&world, 30);
        world.until("some to be at work", || world.path("ran").exists());
        world.ok(&format!("D=$MNT/projects/web/doing; for i in 1 2; do {claim}; done; true"));
        exactly_one(&world, 30, "web/.agent-queue/doing");
    }
}

#[test]
fn a_move_out_of_the_mount_is_refused_at_work_and_rm_cancels() {
    let world = at_work();
    for mover in [
        "mv $MNT/inbox/x.md out/",
        "mv $MNT/projects/web/inbox/x.md out/",
        "python3 -c 'import os, shutil; shutil.move(os.environ[\"MNT\"] + \"/inbox/x.md\", \"out/y\")'",
        // As a program with threads does.
        "python3 -c 'import os, sys, threading; p = os.environ[\"MNT\"] + \"/inbox/x.md\"\nt = threading.Thread(target=lambda: open(p).read()); t.start(); t.join(); os.unlink(p)'",
    ] {
        let out = world.sh(&format!("mkdir -p out; {mover}"));
        let said = String::from_utf8_lossy(&out.stderr).to_lowercase();
        assert!(!out.status.success() && said.contains("busy"), "{mover}: {said}");
        assert!(world.mount("inbox/x.md").exists());
    }
    assert_eq!(world.word("tasks/x/state"), "working");
    let told = world.read("tasks/x/events").expect("its events");
    assert!(told.contains("echo cancel > tasks/x/control") && told.matches("refused:").count() == 1, "{told}");
    // Nobody is at it: it goes, as everywhere.
    world.ok("echo pause > $MNT/control; echo idle > $MNT/inbox/idle.md");
    world.until_word("tasks/idle/state", "queued");
    world.ok("mv $MNT/inbox/idle.md out/");
    // `rm`, also after others have read it, cancels.
    world.ok("cat $MNT/inbox/x.md; rm $MNT/inbox/x.md");
    world.result("failed/x.md");
}

#[test]
fn a_refused_delegation_is_told_once_with_its_reason() {
    let world = World::start(&Setup::agents(1));
    world.ok("echo pause > $MNT/control; echo x > $MNT/inbox/x.md");
    let out = world.sh("mv $MNT/inbox/x.md $MNT/delegated/");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(said.contains("No such device or address"), "{said}");
    let told = |text: &str| text.matches("the configuration has no providers").count();
    assert_eq!(told(&world.events()), 1, "{}", world.events());
    let control = world.read("control").expect("control") + &world.read("tasks/x/control").expect("the task's");
    assert!((1..=2).contains(&told(&control)), "{control}");
    // What isn't there is refused at once.
    assert!(String::from_utf8_lossy(&world.sh("mv $MNT/inbox/y.md $MNT/delegated/").stderr).contains("No such file"));
}
