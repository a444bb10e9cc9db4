//! Archiving of old results and trimming of long logs by the real daemon.

use std::fs;

use crate::{
    tracer::{Fault, Tracer},
    world::{Setup, World, is_root},
};

const RESULT: &str = "<!-- claude-failover:result -->";

/// A result as the daemon writes it, of a task that ended on that day of October 2025.
fn result(id: &str, day: u32) -> String {
    format!(
        "do {id}\n{RESULT}\n\nYou said: {id}\n\n```yaml\nstatus: done\nrun: run-{id}\naccounts: []\nattempts: 1\nfinished: 2025-10-{day:02}T10:00:00Z\n```\n"
    )
}

fn world() -> World {
    let world = World::start(&Setup::agents(1));
    world.submit("fresh", "say it\n");
    world.result("done/fresh.md");
    for (path, text) in [
        ("done/a.md", result("a", 1)),
        ("done/b.md", result("b", 2)),
        ("failed/c.md", result("c", 3).replace("status: done", "status: failed")),
        // Without its end, the file's time counts.
        ("done/d.md", result("d", 4).replace("finished: ", "other: ")),
        ("done/notes.txt", "somebody's own\n".to_owned()),
        ("done/list.md", "- somebody's own\n".to_owned()),
    ] {
        fs::write(world.queue(path), text).expect("written");
    }
    world.ok("mkdir web/.agent-queue/done/sub.md; touch -d 2025-11-05T00:00:00Z web/.agent-queue/done/{d.md,notes.txt,list.md,fresh.md}");
    world
}

fn listing(world: &World) -> String {
    world.ok("cd web/.agent-queue; find done failed -printf '%p %s %T@\\n' | sort")
}

#[test]
fn old_results_go_into_archives_that_standard_tools_read() {
    let world = world();
    let before = listing(&world);
    world.ok("echo clean dry-run > $MNT/control");
    assert_eq!(listing(&world), before, "a dry run changes nothing");
    let told = world.word("control");
    assert!(told.contains("nothing was changed; 4 would go"), "{told}");
    for name in ["done/a.md", "done/b.md", "failed/c.md", "done/d.md"] {
        assert!(world.events().contains(&format!("{name} would go")), "{name}: {}", world.events());
    }

    world.ok("inotifywait -m -e delete --format %f $MNT/done > seen.txt 2> watch.txt & echo $! > watcher");
    world.until("the watcher", || fs::read_to_string(world.path("watch.txt")).is_ok_and(|t| t.contains("established")));
    world.ok("stat $MNT/done/a.md; echo clean > $MNT/control");
    let told = world.word("control");
    assert!(told.contains("4 results archived, 0 removed"), "{told}");
    assert_eq!(
        world.ok("cd $MNT; ls done failed"),
        "done:\narchive\nfresh.md\nlist.md\nnotes.txt\nsub.md\n\nfailed:\narchive\n"
    );
    assert!(!world.sh("stat $MNT/done/a.md || stat $MNT/projects/web/done/a.md").status.success(), "the caches know");
    assert_eq!(world.ok("tar tzf $MNT/done/archive/2025-10.tar.gz"), "a.md\nb.md\n");
    assert_eq!(world.ok("tar tzf $MNT/done/archive/2025-11.tar.gz"), "d.md\n");
    assert_eq!(world.ok("tar xzOf $MNT/done/archive/2025-10.tar.gz b.md"), result("b", 2));
    assert!(world.ok("zcat $MNT/failed/archive/2025-10.tar.gz").contains("run: run-c"));
    for name in ["done/a.md goes into done/archive/2025-10.tar.gz", "failed/c.md goes into failed/archive"] {
        assert!(world.events().contains(name), "{name}: {}", world.events());
    }
    world.until("the watcher to hear of it", || {
        fs::read_to_string(world.path("seen.txt")).is_ok_and(|t| t.contains("a.md"))
    });
    world.ok("kill $(cat watcher)");

    // Out of the archive and back to work.
    world.ok("cd home; tar xzf $MNT/done/archive/2025-10.tar.gz a.md; mv a.md $MNT/inbox/");
    assert!(world.result("done/a.md").contains("You said: do a"));
    assert_eq!(world.word("health"), "ok");
}

#[test]
fn what_somebody_writes_or_works_on_stays_and_wrong_verbs_are_refused() {
    let world = world();
    world.ok("echo pause > $MNT/control; echo 'do it again' > $MNT/inbox/b.md");
    world.until_word("tasks/b/state", "queued");
    let open = fs::OpenOptions::new().append(true).open(world.queue("done/a.md")).expect("open");
    let through = fs::OpenOptions::new().append(true).open(world.mount("failed/c.md")).expect("open");
    world.ok("echo clean > $MNT/control");
    assert_eq!(world.ok("ls web/.agent-queue/done"), "a.md\narchive\nb.md\nfresh.md\nlist.md\nnotes.txt\nsub.md\n");
    assert!(world.queue("failed/c.md").exists());
    drop((open, through));
    world.ok("rm $MNT/inbox/b.md");
    world.until("b to be forgotten", || !world.mount("tasks/b").exists());
    world.ok("echo clean > $MNT/control");
    assert!(
        !world.queue("done/a.md").exists()
            && !world.queue("done/b.md").exists()
            && !world.queue("failed/c.md").exists()
    );
    assert!(!world.sh("echo clean everything > $MNT/control").status.success());
    assert!(world.word("control").contains("clean everything"));
}

#[test]
fn by_itself_it_believes_two_looks_and_follows_its_settings() {
    let mut world = World::prepare(
        &Setup::agents(0).more("janitor: {interval: 300ms, keep_done: 10d, keep_failed: null, archive: false}"),
    );
    fs::create_dir_all(world.queue("done")).expect("made");
    fs::create_dir_all(world.queue("failed")).expect("made");
    fs::write(world.queue("done/a.md"), result("a", 1)).expect("written");
    fs::write(world.queue("failed/b.md"), result("b", 1)).expect("written");
    // A writer that is no more, and one that is.
    let mut gone = std::process::Command::new("true").spawn().expect("started");
    let left = world.queue(&format!("failed/.claude-failover-{}-7", gone.id()));
    let alive = world.queue(&format!("failed/.claude-failover-{}-7", std::process::id()));
    gone.wait().expect("ended");
    fs::write(&alive, "half").expect("written");
    world.run();
    fs::write(&left, "half").expect("written");
    world.until("the old result to go", || !world.queue("done/a.md").exists());
    world.until("what the dead writer left to go", || !left.exists());
    assert!(world.queue("failed/b.md").exists() && alive.exists() && !world.queue("done/archive").exists());
    assert!(
        world.events().contains("done/a.md is removed: its task ended at 2025-10-01T10:00:00Z"),
        "{}",
        world.events()
    );
    assert!(world.events().contains("the process that was writing it is no more"));
}

#[test]
fn a_long_event_log_is_set_aside_while_it_is_followed() {
    let world = World::start(&Setup::agents(0));
    world.ok("tail -n 0 -f $MNT/events > followed 2> tail.err & echo $! > follower");
    let length = |name: &str| fs::metadata(world.path(name)).map_or(0, |facts| facts.len());
    world.ok("head -c 70000000 /dev/zero | tr '\\0' '\\n' >> state/events.jsonl");
    world.until("who follows it to have read it", || length("followed") >= 70_000_000);
    world.ok("echo clean > $MNT/control");
    world.until("the log to be set aside", || world.path("state/events.1.jsonl").exists());
    assert!(length("state/events.1.jsonl") > 70_000_000 && length("state/events.jsonl") < 10_000);
    world.ok("echo pause > $MNT/control");
    world.until("who follows it to go on", || {
        fs::read_to_string(world.path("followed")).is_ok_and(|t| t.contains("pause"))
    });
    world.ok("kill $(cat follower)");
    assert!(world.ok("cat $MNT/events").contains("pause"));
}

/// The daemon is killed before each call that changes something while it archives: every result is in its directory or in the
/// archive, the next run stores none twice, and the archive is whole at any time.
#[test]
fn kill_9_at_every_call_of_an_archive() {
    if !is_root() {
        return;
    }
    let mut world = World::start(&Setup::agents(0));
    let put = |world: &World| {
        for id in ["a", "b", "c"] {
            fs::write(world.queue(&format!("done/{id}.md")), result(id, 1)).expect("written");
        }
        let _ = fs::remove_dir_all(world.queue("done/archive"));
        let _ = fs::remove_file(world.path("state/events.1.jsonl"));
    };
    let clean = |world: &World, what: Option<(usize, Fault)>| {
        let tracer = Tracer::attach(world.daemon_pid(), &[world.path("web")], what);
        world.sh("echo clean > $MNT/control");
        world.until("the end", || tracer.is_over() || !world.queue("done/c.md").exists());
        tracer.end()
    };
    put(&world);
    let calls = clean(&world, None).calls;
    assert!(calls.len() > 8, "{calls:#?}");
    let stored = "test ! -e done/archive/2025-10.tar.gz || tar tzf done/archive/2025-10.tar.gz";
    for at in 1..=calls.len() {
        put(&world);
        let watched = clean(&world, Some((at, Fault::Kill)));
        assert!(watched.killed, "{:?}", watched.calls);
        let hit = &watched.hit;
        let there = world.ok(&format!("cd web/.agent-queue; {{ ls done; {stored}; }} | grep '^[abc].md$' | sort -u"));
        assert_eq!(there, "a.md\nb.md\nc.md\n", "killed at {hit:?}");
        world.kill_daemon();
        world.run();
        world.ok("echo clean > $MNT/control");
        assert_eq!(world.ok("tar tzf web/.agent-queue/done/archive/2025-10.tar.gz"), "a.md\nb.md\nc.md\n", "{hit:?}");
        assert_eq!(world.ok("ls -A web/.agent-queue/done"), "archive\n", "killed at {hit:?}");
    }
}
