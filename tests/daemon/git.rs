//! Queues in git repositories: what git adds is held, what it removes is reported, and nothing runs twice.

use std::fs;

use crate::world::{Setup, World};

const COUNT: &str = "```sh\necho ran >> ../count\n```\n";
const GIT: &str = "git() { command git -C web -c user.name=t -c user.email=t@example.invalid \"$@\"; }; ";

fn ran(world: &World) -> usize {
    fs::read_to_string(world.path("count")).unwrap_or_default().lines().count()
}

fn git(world: &World, script: &str) -> String {
    world.ok(&format!("{GIT}{script}"))
}

/// A repository around the queue; `open`: one that takes the queue in.
fn repository(open: bool) -> World {
    let mut world = World::prepare(&Setup::agents(1).more("lifecycle: {reconcile: 1s}"));
    if open {
        for dir in ["inbox", "drafts", "done", "failed"] {
            fs::create_dir_all(world.queue(dir)).expect("made");
        }
    }
    git(&world, "git init -q -b main; echo code > web/code; git add code; git commit -qm first");
    world.run();
    world
}

fn after_all(world: &World) {
    world.submit("last", "the last one\n");
    world.result("done/last.md");
}

#[test]
fn a_new_queue_is_no_part_of_the_repository() {
    let world = repository(false);
    assert_eq!(fs::read_to_string(world.queue(".gitignore")).expect("made"), "*\n");
    world.ok("echo pause > $MNT/control");
    world.submit("a", COUNT);
    world.submit("b", COUNT);
    world.until_word("tasks/b/state", "queued");
    assert_eq!(git(&world, "git add -A; git status --porcelain"), "");
    git(
        &world,
        "echo more >> web/code; git stash -q; git stash pop -q; git stash -uq; git reset -q --hard; git checkout -q -- .; git clean -fdq; git stash pop -q",
    );
    world.ok("echo resume > $MNT/control");
    world.result("done/a.md");
    world.result("done/b.md");
    assert_eq!(ran(&world), 2);
    assert!(!world.word("health").contains("git"), "{}", world.word("health"));
}

#[test]
fn a_branch_s_task_is_held_until_a_person_releases_it() {
    let world = repository(true);
    git(&world, "git checkout -qb pr; mkdir -p web/.agent-queue/inbox");
    let held =
        |id: &str| world.until("it to be held", || world.word(&format!("tasks/{id}/why")).contains("git tracks"));
    world.ok("echo pause > $MNT/control");
    for n in 0..3 {
        world.submit(&format!("fix{n}"), COUNT);
    }
    git(&world, "git add -A; git commit -qm tasks; git checkout -q main");
    world.until("the tasks to be gone", || world.inbox_is_empty());
    world.ok("echo resume > $MNT/control");
    git(&world, "git checkout -q pr");
    held("fix0");
    git(
        &world,
        "git checkout -q main; git checkout -q pr; git reset -q --hard; rm web/.agent-queue/inbox/fix1.md; git checkout -q -- .",
    );
    held("fix1");
    after_all(&world);
    assert_eq!(ran(&world), 0);
    held("fix2");
    world.ok("echo release > $MNT/tasks/fix2/control");
    world.result("done/fix2.md");
    assert_eq!(ran(&world), 1);
    assert!(world.word("health").contains("part of its git repository"), "{}", world.word("health"));
    let fix = format!("{} check --fix --config config.yaml", crate::world::program().display());
    world.sh(&fix);
    world.until("health", || !world.word("health").contains("git repository"));
}

#[test]
fn what_git_brings_back_never_runs_again() {
    let world = repository(true);
    world.submit(
        "x",
        "```sh\necho ran >> ../count; git add -A; git -c user.name=t -c user.email=t@e commit -qm wip\n```\n",
    );
    world.result("done/x.md");
    world.until("the inbox to be empty", || world.inbox_is_empty());
    git(&world, "git ls-files | grep -q inbox/x.md.working; git stash -q");
    world.until("it to be held", || world.word("tasks/x/state") == "held");
    after_all(&world);
    assert_eq!(ran(&world), 1);
    git(&world, "git reset -q --hard; git checkout -q -- .");
    after_all(&world);
    assert_eq!((ran(&world), world.word("tasks/x/state")), (1, "held".to_owned()));
}

#[test]
fn a_marker_whose_run_is_filed_and_an_old_copy_of_a_text_run_nothing() {
    let world = repository(false);
    world.submit(
        "m",
        "```sh\necho ran >> ../count; cp -p .agent-queue/inbox/m.md .agent-queue/inbox/m.md.working ../\n```\n",
    );
    world.result("done/m.md");
    world.until("the inbox to be empty", || world.inbox_is_empty());
    // As stash pop does: both with the time of now.
    world.ok("touch m.md; cp m.md.working m.md web/.agent-queue/inbox/");
    world.until("it to be held", || world.word("tasks/m/why").contains("this text has run"));
    world.ok("rm web/.agent-queue/inbox/m.md web/.agent-queue/inbox/m.md.working");
    world.until("it to be gone", || world.word("tasks/m/state") == "?");
    // An old copy alone.
    world.ok("touch -d '1 hour ago' m.md; cp -p m.md web/.agent-queue/inbox/");
    world.until("it to be held", || world.word("tasks/m/why").contains("this text has run"));
    after_all(&world);
    assert_eq!(ran(&world), 1);
    world.ok("echo release > $MNT/tasks/m/control");
    world.until("it to run again", || ran(&world) == 2);
    world.until("the inbox to be empty", || world.inbox_is_empty());
    // Sent anew it is a task like any other.
    world.ok("cat m.md > $MNT/inbox/m.md");
    world.until("it to run again", || ran(&world) == 3);
}

#[test]
fn a_queue_that_was_taken_away_is_made_again_and_served_at_once() {
    let world = repository(false);
    world.submit("a", COUNT);
    world.result("done/a.md");
    for round in ["rm -rf web/.agent-queue", "command git -C web clean -qfdx", "rm -rf web/.agent-queue/inbox"] {
        world.ok(round);
        world.until("the inbox to be there again", || world.queue("inbox").is_dir() && world.queue("done").is_dir());
        world.until("the watch", || !world.word("health").contains("inbox/ can't be read"));
        let id = format!("t{}", round.len());
        fs::write(world.queue(&format!("inbox/{id}.md")), COUNT).expect("written");
        world.result(&format!("done/{id}.md"));
        // The mount shows the new one.
        world.until("the mount to show it", || {
            world
                .sh(&format!("echo x > $MNT/drafts/{id}.md && mv $MNT/drafts/{id}.md $MNT/projects/web/inbox/m{id}.md"))
                .status
                .success()
        });
        world.result(&format!("done/m{id}.md"));
    }
    assert_eq!(ran(&world), 4);
}

#[test]
fn each_directory_of_a_queue_that_is_taken_away_is_made_again_at_once() {
    // Far between looks: what is made again is so because its end was noticed.
    let mut world = World::prepare(&Setup::agents(1).more("lifecycle: {reconcile: 1h}"));
    world.ok("git init -q web");
    world.run();
    for gone in ["inbox", "drafts", "done", "failed", ""] {
        let _ = world.ok(&format!("rm -rf web/.agent-queue/{gone}"));
        world.until("it to be made again", || {
            ["inbox", "drafts", "done", "failed"].iter().all(|dir| world.queue(dir).is_dir())
        });
        assert_eq!(fs::read_to_string(world.queue(".gitignore")).expect("there"), "*\n");
        world.ok("ls $MNT/drafts $MNT/done $MNT/failed $MNT/projects/web/inbox $MNT/projects/web/failed");
        // Written through the mount, the watch on the new inbox tells of it, and its result is filed.
        world.ok(&format!("echo x > $MNT/drafts/t{gone}.md; mv $MNT/drafts/t{gone}.md $MNT/inbox/"));
        world.result(&format!("done/t{gone}.md"));
        fs::write(world.queue(&format!("inbox/d{gone}.md")), "x\n").expect("written");
        world.result(&format!("done/d{gone}.md"));
        world.until("health", || {
            !["restart", "git", "can't be read"].iter().any(|word| world.word("health").contains(word))
        });
    }
}

#[test]
fn a_look_through_the_mount_finds_what_was_taken_away_a_moment_ago() {
    let world = repository(false);
    for gone in ["inbox", "drafts", "done", "failed", ""] {
        world.ok(&format!(
            "rm -rf web/.agent-queue/{gone}; echo x > $MNT/drafts/m{gone}.md && mv $MNT/drafts/m{gone}.md $MNT/inbox/"
        ));
        world.result(&format!("done/m{gone}.md"));
        assert_eq!(fs::read_to_string(world.queue(".gitignore")).expect("there"), "*\n");
    }
}

#[test]
fn a_result_makes_the_directory_that_it_is_filed_into() {
    let world = repository(false);
    world.submit("good", "```sh\nrmdir .agent-queue/done .agent-queue/failed\n```\n");
    world.result("done/good.md");
    world.submit("bad", "---\nretries: 0\n---\n```sh\nrm -rf .agent-queue/failed\nkill -9 $PPID\n```\n");
    world.result("failed/bad.md");
    world.until("health", || !world.word("health").contains("can't be written"));
}
