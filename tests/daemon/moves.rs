//! `mv` as a verb: every move between the queue directories, in both views and across projects, and what is refused.

use std::{fs, process::Command};

use crate::world::{CRASH, Setup, World, is_root};

/// A paused daemon with a waiting task in each given place, `PROJECT/DIR/NAME`.
fn paused(tasks: &[&str]) -> World {
    let world = World::start(&Setup::agents(1));
    world.ok("echo pause > $MNT/control");
    for task in tasks {
        world.ok(&format!("echo 'text of {task}' > $MNT/projects/{task}.md"));
    }
    world
}

#[track_caller]
fn refused(world: &World, script: &str, words: &str) {
    let out = world.sh(script);
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success(), "{script}");
    assert!(said.contains(words), "{script}: {said}");
}

#[test]
fn sent_taken_back_and_sent_again_in_both_views() {
    let world = paused(&["web/drafts/a", "api/drafts/b"]);
    let round = |id: &str, there: &str, back: &str| {
        world.ok(there);
        world.until_word(&format!("tasks/{id}/state"), "queued");
        world.ok(back);
        world.until(&format!("{id} to be gone"), || !world.mount(&format!("tasks/{id}")).exists());
    };
    let web = "$MNT/projects/web";
    round("a", "mv $MNT/drafts/a.md $MNT/inbox/", "mv $MNT/inbox/a.md $MNT/drafts/");
    round("a", &format!("mv {web}/drafts/a.md {web}/inbox/"), &format!("mv {web}/inbox/a.md {web}/drafts/"));
    round("a", &format!("mv $MNT/drafts/a.md {web}/inbox/"), &format!("mv {web}/inbox/a.md $MNT/drafts/"));
    round("b", "mv $MNT/projects/api/drafts/b.md $MNT/inbox/", "mv $MNT/inbox/b.md $MNT/projects/api/drafts/");
    // Under another name, and into another project.
    round("c", "mv $MNT/drafts/a.md $MNT/inbox/c.md", "mv $MNT/inbox/c.md $MNT/projects/api/drafts/a.md");
    world.ok("mv $MNT/projects/api/drafts/*.md $MNT/projects/api/inbox/; echo resume > $MNT/control");
    for (id, text) in [("a", "web/drafts/a"), ("b", "api/drafts/b")] {
        let done = world.path(&format!("api/.agent-queue/done/{id}.md"));
        world.until(id, || done.exists());
        assert!(fs::read_to_string(done).expect("text").starts_with(&format!("text of {text}\n<!--")));
    }
    assert_eq!(world.events().matches("taken by").count(), 2, "{}", world.events());
    // Who moved what is told.
    let events = world.events();
    for text in ["moved from web:drafts/a.md", "moved to web:drafts/a.md", "moved to api:drafts/a.md"] {
        let line = events.lines().find(|line| line.contains(text)).expect(text);
        assert!(line.contains("\"program\":\"mv\"") && line.contains("\"uid\":"), "{line}");
    }
}

#[test]
fn done_and_failed_tasks_run_again() {
    let world = World::start(&Setup::agents(1));
    let ran = |id: &str| {
        let taken = |line: &&str| line.contains(&format!("web:{id}\"")) && line.contains("taken by");
        world.events().lines().filter(taken).count()
    };
    for (id, more) in [("fine", ""), ("sad", CRASH)] {
        world.submit(id, &format!("---\nretries: 0\n---\nwork\n{more}"));
    }
    world.result("done/fine.md");
    world.result("failed/sad.md");
    world.until("the inbox to be empty", || world.inbox_is_empty());
    world.ok("mv $MNT/done/fine.md $MNT/inbox/; mv $MNT/projects/web/failed/sad.md $MNT/inbox/");
    world.until("both to run again", || ran("fine") == 2 && ran("sad") == 2);
    let fine = world.result("done/fine.md");
    world.result("failed/sad.md");
    assert_eq!(fine.matches("claude-failover:result").count(), 1, "{fine}");
    // And in another project, which is another task.
    world.until("the inbox to be empty", || world.inbox_is_empty());
    world.ok("mv $MNT/done/fine.md $MNT/projects/api/inbox/other.md");
    let done = world.path("api/.agent-queue/done/other.md");
    world.until("it to run there", || done.exists());
    assert_eq!(ran("fine"), 2);
    assert!(!world.queue("done/fine.md").exists());
}

#[test]
fn a_task_at_work_stays_and_every_refusal_changes_nothing() {
    let world = World::start(&Setup::agents(1));
    world.submit("long", "demo: slow=600\nat it\n");
    world.until_word("tasks/long/state", "working");
    world
        .ok("echo draft > $MNT/drafts/d.md; echo other > $MNT/projects/api/drafts/d.md; mkdir $MNT/projects/web/doing");
    let exchange = |one: &str, other: &str| {
        format!(
            "python3 -c 'import ctypes,os,sys\nl=ctypes.CDLL(None,use_errno=True)\nr=l.renameat2(-100,sys.argv[1].encode(),-100,sys.argv[2].encode(),2)\nsys.exit(os.strerror(ctypes.get_errno()) if r else 0)' {one} {other}"
        )
    };
    let before = world.ok("find web/.agent-queue api/.agent-queue -type f | sort | xargs sha256sum");
    let web = "$MNT/projects/web";
    for script in [
        "mv $MNT/inbox/long.md $MNT/drafts/".to_owned(),
        "mv $MNT/inbox/long.md $MNT/done/".to_owned(),
        "mv $MNT/inbox/long.md $MNT/failed/".to_owned(),
        format!("mv {web}/inbox/long.md {web}/drafts/"),
        format!("mv {web}/inbox/long.md {web}/doing/"),
        format!("mv $MNT/inbox/long.md {web}/doing/"),
        "mv $MNT/inbox/long.md $MNT/projects/api/inbox/".to_owned(),
        "mv $MNT/inbox/long.md $MNT/inbox/again.md".to_owned(),
        format!("mv $MNT/inbox/long.md {web}/inbox/again.md"),
        exchange("$MNT/inbox/long.md", "$MNT/drafts/d.md"),
        exchange("$MNT/drafts/d.md", "$MNT/inbox/long.md"),
        exchange("$MNT/projects/api/drafts/d.md", &format!("{web}/inbox/long.md")),
    ] {
        refused(&world, &script, "busy");
    }
    refused(&world, "mv -n $MNT/drafts/d.md $MNT/inbox/ && mv $MNT/drafts/none.md $MNT/inbox/", "No such file");
    world.ok("mv $MNT/inbox/d.md $MNT/drafts/");
    // Whom the kernel lets ask at all: a directory that moves to another parent has to be writable itself.
    let words = if is_root() { "not permitted" } else { "denied" };
    refused(&world, "mv $MNT/drafts $MNT/projects/web/doing/", words);
    refused(&world, "mv $MNT/drafts/d.md $MNT/tasks/", "not permitted");
    refused(&world, "mv $MNT/drafts/d.md $MNT/sessions/pool-11/input", "");
    refused(&world, "mv $MNT/tasks/long/task.md $MNT/inbox/x.md", "");
    world.ok("rm -f $MNT/inbox/x.md");
    world.until("no other task", || !world.mount("tasks/x").exists() && !world.mount("tasks/d").exists());
    assert_eq!(world.ok("find web/.agent-queue api/.agent-queue -type f | sort | xargs sha256sum"), before);
    assert_eq!(world.word("tasks/long/state"), "working");
    // An editor's way of saving is none of these.
    world.ok("cp $MNT/inbox/long.md $MNT/inbox/.long.tmp; mv $MNT/inbox/.long.tmp $MNT/inbox/long.md");
    assert_eq!(world.word("tasks/long/state"), "working");
    world.ok(&format!("rm {web}/inbox/long.md"));
    assert!(world.result("failed/long.md").contains("status: cancelled"));
    let events = world.events();
    let line = events.lines().find(|line| line.contains("removed from inbox")).expect("who removed it");
    assert!(line.contains("\"program\":\"rm\"") && line.contains("task web:long"), "{line}");
}

#[test]
fn a_removed_task_is_cancelled_whatever_its_state() {
    let world = paused(&["web/inbox/queued", "web/inbox/held", "api/inbox/there"]);
    world.ok("printf -- '---\\npriority: much\\n---\\nx\\n' > $MNT/inbox/bad.md");
    world.until_word("tasks/held/state", "queued");
    world.ok("echo hold > $MNT/tasks/held/control");
    for (id, state) in [("queued", "queued"), ("held", "held"), ("bad", "rejected"), ("there", "queued")] {
        world.until_word(&format!("tasks/{id}/state"), state);
    }
    world.ok(
        "rm $MNT/inbox/queued.md $MNT/projects/web/inbox/held.md $MNT/inbox/bad.md $MNT/projects/api/inbox/there.md",
    );
    for id in ["queued", "held", "bad", "there"] {
        world.until(&format!("{id} to be gone"), || !world.mount(&format!("tasks/{id}")).exists());
    }
    world.until("the sidecar to go", || world.inbox_is_empty());
    world.ok("echo resume > $MNT/control");
    world.submit("last", "and on\n");
    world.result("done/last.md");
    assert_eq!(world.events().matches("taken by").count(), 1, "{}", world.events());
}

#[test]
fn the_attributes_of_a_task_s_file_follow_its_task() {
    let world = paused(&["web/inbox/a"]);
    let has = |file: &str, state: &str| {
        let out =
            Command::new("getfattr").args(["--only-values", "-n", "user.task.state"]).arg(world.mount(file)).output();
        out.expect("getfattr").stdout == state.as_bytes()
    };
    world.until("it to be queued", || has("inbox/a.md", "queued"));
    world.ok("echo hold > $MNT/tasks/a/control");
    assert!(has("inbox/a.md", "held"));
    world.ok("echo release > $MNT/tasks/a/control; echo resume > $MNT/control");
    world.until("it to be done", || has("done/a.md", "done"));
    assert_eq!(world.ok("getfattr -d web/.agent-queue/done/a.md"), "", "nothing is stored");
    assert!(world.ok("getfattr -d $MNT/projects/web/done/a.md").contains("user.task.session=\"pool-11\""));
}

#[test]
fn a_poll_of_a_task_s_and_a_session_s_state_wakes_at_each_change() {
    let world = World::start(&Setup::agents(1));
    world.until_word("sessions/pool-11/state", "idle");
    world.ok("echo pause > $MNT/control");
    world.submit("a", "demo: slow=600\nwork\n");
    world.until_word("tasks/a/state", "queued");
    let follow = r"
import os, select, sys
f = os.open(sys.argv[1], os.O_RDONLY)
p = select.epoll()
p.register(f, select.EPOLLIN | select.EPOLLPRI)
open(sys.argv[3], 'w').close()
while True:
    if not p.poll(60):
        sys.exit('nothing came')
    os.lseek(f, 0, 0)
    word = os.read(f, 100).decode().strip()
    while os.read(f, 100): pass
    print(word, flush=True)
    if word == sys.argv[2]:
        sys.exit(0)
";
    fs::write(world.path("follow.py"), follow).expect("written");
    let seen = std::thread::scope(|scope| {
        let task = scope.spawn(|| world.ok("timeout 90 python3 follow.py $MNT/tasks/a/state cancelled one"));
        let session = scope.spawn(|| world.ok("timeout 90 python3 follow.py $MNT/sessions/pool-11/state working two"));
        world.until("both to follow", || ["one", "two"].iter().all(|name| world.path(name).exists()));
        world.ok("echo resume > $MNT/control");
        let session = session.join().expect("the session's follower");
        world.ok("rm $MNT/inbox/a.md");
        (task.join().expect("the task's follower"), session)
    });
    assert!(seen.0.contains("working\n") && seen.0.ends_with("cancelled\n"), "{}", seen.0);
    assert!(seen.1.ends_with("working\n"), "{}", seen.1);
}

#[test]
fn a_task_at_work_that_is_renamed_on_disk_keeps_its_run_and_its_new_name_is_another_task() {
    let world = World::start(&Setup::agents(2));
    let dir = world.path("").display().to_string();
    let text = format!("```sh\necho ran >> {dir}/ran; until [ -e {dir}/go ]; do sleep 0.05; done\n```\n");
    world.submit("a", &text);
    world.until("the work to begin", || world.path("ran").exists());
    world.ok("mv web/.agent-queue/inbox/a.md web/.agent-queue/inbox/b.md");
    world.until("the new name to run as a task of its own", || world.ok("cat ran") == "ran\nran\n");
    assert_eq!(world.word("tasks/a/state"), "working");
    assert!(world.word("tasks/a/why").contains("its file is gone from the inbox"), "{}", world.word("tasks/a/why"));
    fs::write(world.path("go"), "").expect("written");
    for id in ["a", "b"] {
        let result = world.result(&format!("done/{id}.md"));
        assert!(result.starts_with(&text) && result.contains("status: done"), "{result}");
    }
    world.until("the inbox to be empty", || world.inbox_is_empty());
    assert_eq!(world.ok("cat ran"), "ran\nran\n");
    assert_eq!(world.events().matches("taken by").count(), 2, "{}", world.events());
}

#[test]
fn a_task_at_work_that_is_taken_away_on_disk_keeps_its_run() {
    let world = World::start(&Setup::agents(2));
    let dir = world.path("").display().to_string();
    let text = format!("```sh\necho ran >> {dir}/ran; until [ -e {dir}/go ]; do sleep 0.05; done\n```\n");
    world.submit("a", &text);
    world.until("the work to begin", || world.path("ran").exists());
    world.ok("mv web/.agent-queue/inbox/a.md web/.agent-queue/drafts/a.md; echo rescan > $MNT/control");
    // Brought back, it is the task that is at work already.
    world.ok("mv web/.agent-queue/drafts/a.md web/.agent-queue/inbox/a.md; echo rescan > $MNT/control");
    world.ok("mv web/.agent-queue/inbox/a.md web/.agent-queue/drafts/a.md; echo rescan > $MNT/control");
    world.submit("last", "and on\n");
    world.result("done/last.md");
    assert_eq!(world.word("tasks/a/state"), "working");
    fs::write(world.path("go"), "").expect("written");
    assert!(world.result("done/a.md").starts_with(&text));
    world.until("the inbox to be empty", || world.inbox_is_empty());
    assert_eq!(fs::read_to_string(world.queue("drafts/a.md")).expect("the draft"), text, "it stays where it was put");
    assert_eq!(world.ok("cat ran"), "ran\n");
}
