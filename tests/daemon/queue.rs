//! Tasks from file to result.

use std::fs;

use crate::world::{Setup, World};

const SH: &str = "```sh\n";

#[test]
fn a_file_in_the_inbox_becomes_a_result_in_done() {
    let world = World::start(&Setup::agents(2));
    world.ok("echo 'say it back' > $MNT/inbox/a.md");
    let result = world.result("done/a.md");
    assert!(result.starts_with("say it back\n<!-- claude-failover:result -->\n"), "{result}");
    assert!(result.contains("You said: say it back") && result.contains("status: done"), "{result}");
    world.until("the inbox to be empty", || world.inbox_is_empty());
    assert_eq!(world.ok("cat $MNT/done/a.md"), result);
    world.until_word("tasks/a/state", "done");
}

#[test]
fn every_project_is_served_through_the_mount_and_behind_it() {
    let world = World::start(&Setup::agents(2));
    world.ok("echo one > t.md; cp t.md api/.agent-queue/inbox/plain.md; mv t.md $MNT/projects/api/inbox/moved.md");
    for name in ["plain", "moved"] {
        let path = world.path(&format!("api/.agent-queue/done/{name}.md"));
        world.until(name, || path.exists());
    }
}

#[test]
fn a_broken_task_is_rejected_with_line_and_column_and_runs_when_mended() {
    let world = World::start(&Setup::agents(1));
    world.submit("a", "---\npriority: 1\nretries: many\n---\ndo it\n");
    let told = world.result("inbox/a.md.rejected");
    assert!(told.starts_with("3:10: retries:"), "{told}");
    world.until_word("tasks/a/state", "rejected");
    assert!(world.word("tasks/a/why").contains("retries"), "{}", world.word("tasks/a/why"));
    world.ok("sed -i 's/many/1/' $MNT/inbox/a.md");
    world.result("done/a.md");
    world.until("the sidecar to go", || !world.queue("inbox/a.md.rejected").exists());
}

#[test]
fn what_is_no_task_is_kept_and_ignored() {
    let world = World::start(&Setup::agents(1));
    world.ok("cd $MNT/inbox; echo x > notes.txt; echo x > .hidden.md; mkdir lock.d; echo x > a.md~; ln -s /etc/hostname l.md");
    world.submit("z", "last\n");
    world.result("done/z.md");
    for name in ["notes.txt", ".hidden.md", "lock.d", "a.md~"] {
        assert!(world.queue(&format!("inbox/{name}")).exists(), "{name}");
    }
    assert!(world.result("inbox/l.md.rejected").contains("symlink"));
}

#[test]
fn an_open_editor_holds_a_task_and_why_names_its_lock() {
    let world = World::start(&Setup::agents(1));
    world.ok("touch $MNT/inbox/.a.md.swp; echo text > $MNT/inbox/a.md");
    world.until("the lock to be named", || world.word("tasks/a/why").contains(".a.md.swp"));
    assert_eq!(world.word("tasks/a/state"), "held");
    world.ok("rm $MNT/inbox/.a.md.swp");
    world.result("done/a.md");
}

#[test]
fn a_writer_that_pauses_is_waited_for() {
    let world = World::start(&Setup::agents(1));
    world.ok("{ echo one; sleep 1; echo two; } > $MNT/inbox/a.md");
    let result = world.result("done/a.md");
    assert!(result.starts_with("one\ntwo\n"), "{result}");
    world.ok("{ echo one; sleep 1; echo two; } > web/.agent-queue/inbox/b.md");
    let result = world.result("done/b.md");
    assert!(result.starts_with("one\ntwo\n"), "{result}");
    assert!(!world.queue("done/a.1.md").exists() && !world.queue("done/b.1.md").exists());
}

#[test]
fn drafts_wait_until_they_are_moved() {
    let world = World::start(&Setup::agents(1));
    world.ok("echo later > $MNT/drafts/a.md; echo now > $MNT/inbox/b.md");
    world.result("done/b.md");
    assert!(world.queue("drafts/a.md").exists());
    world.ok("mv $MNT/drafts/a.md $MNT/inbox/");
    world.result("done/a.md");
}

#[test]
fn the_higher_priority_goes_first() {
    let world = World::start(&Setup::agents(1));
    world.ok("echo pause > $MNT/control");
    for (name, priority) in [("low", -5), ("high", 5), ("middle", 0)] {
        world.submit(name, &format!("---\npriority: {priority}\n---\n{SH}echo {name} >> ../order\n```\n"));
    }
    world.until("all to be queued", || {
        ["low", "high", "middle"].iter().all(|n| world.word(&format!("tasks/{n}/state")) == "queued")
    });
    world.ok("echo resume > $MNT/control");
    world.result("done/low.md");
    assert_eq!(fs::read_to_string(world.path("order")).expect("order"), "high\nmiddle\nlow\n");
}

#[test]
fn a_claim_by_somebody_else_is_respected() {
    let world = World::start(&Setup::agents(1));
    world.ok("echo pause > $MNT/control");
    world.ok("echo theirs > web/.agent-queue/inbox/a.md; echo '{}' > web/.agent-queue/inbox/a.md.delegated");
    world.ok("echo theirs > web/.agent-queue/inbox/b.md");
    world.until_word("tasks/b/state", "queued");
    world.until_word("tasks/a/state", "held");
    assert!(world.word("tasks/a/why").contains("a.md.delegated"));
    world.ok("mkdir web/.agent-queue/doing; mv web/.agent-queue/inbox/b.md web/.agent-queue/doing/; echo resume > $MNT/control");
    world.submit("c", "ours\n");
    world.result("done/c.md");
    assert!(!world.queue("done/a.md").exists() && !world.queue("done/b.md").exists());
    assert!(world.queue("doing/b.md").exists());
}

#[test]
fn removing_a_file_cancels_waiting_and_working() {
    let world = World::start(&Setup::agents(1));
    world.submit("long", "demo: slow=600\nwork\n");
    world.until_word("tasks/long/state", "working");
    let out = world.sh("mv $MNT/inbox/long.md $MNT/drafts/");
    assert!(String::from_utf8_lossy(&out.stderr).contains("busy"), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(world.queue("inbox/long.md").exists());
    world.submit("next", "wait\n");
    world.until_word("tasks/next/state", "queued");
    world.ok("rm $MNT/inbox/next.md");
    world.until("the waiting one to be gone", || !world.mount("tasks/next").exists());
    world.ok("rm $MNT/inbox/long.md");
    let result = world.result("failed/long.md");
    assert!(result.contains("status: cancelled"), "{result}");
    world.until("the marker to go", || world.inbox_is_empty());
}

#[test]
fn a_task_edited_while_it_runs_is_not_run_twice_and_not_lost() {
    let world = World::start(&Setup::agents(1));
    world.submit("a", &format!("{SH}echo ran >> ../count; sleep 2\n```\n"));
    world.until_word("tasks/a/state", "working");
    world.ok("echo 'a new text' > $MNT/inbox/a.md");
    world.result("done/a.md");
    world.until_word("tasks/a/state", "held");
    assert_eq!(world.ok("cat $MNT/inbox/a.md"), "a new text\n");
    assert_eq!(fs::read_to_string(world.path("count")).expect("count"), "ran\n");
    world.ok("echo release > $MNT/tasks/a/control");
    world.until("the new text to be done", || {
        fs::read_to_string(world.queue("done/a.md")).is_ok_and(|t| t.starts_with("a new text"))
    });
    assert!(world.queue("done/a.1.md").exists(), "the first result is kept");
}

#[test]
fn a_failed_task_moved_back_runs_again_without_its_old_result() {
    let world = World::start(&Setup::agents(1));
    world.submit("a", &format!("---\nretries: 0\n---\n{SH}echo well\nkill -9 $PPID\n```\n"));
    world.result("failed/a.md");
    world.ok("sed -i '/^kill/d' $MNT/failed/a.md; mv $MNT/failed/a.md $MNT/inbox/");
    let result = world.result("done/a.md");
    assert_eq!(result.matches("claude-failover:result").count(), 1, "{result}");
    assert!(result.contains("well"), "{result}");
}

#[test]
fn hostile_text_reaches_the_agent_and_nothing_else() {
    let world = World::start(&Setup::agents(1));
    let evil = "one\u{1b}[201~\ntouch pwned; $(touch pwned) `touch pwned`\n\u{3}\u{4}#{pane_id} #(touch pwned) ; kill-server\n\u{9b}201~ größe 漢字 🦀\n";
    world.submit("a", evil);
    let result = world.result("done/a.md");
    assert!(result.starts_with(evil), "the file keeps the text as written");
    assert!(result.contains("You said: one[201~\ntouch pwned;"), "{result}");
    assert!(result.contains("größe 漢字 🦀"), "{result}");
    assert!(!world.path("web/pwned").exists() && !world.path("pwned").exists());
    assert!(world.events().contains("control characters were taken out"), "the change is told");
}

#[test]
fn a_prompt_of_a_megabyte_arrives_whole() {
    let world = World::start(&Setup::agents(1));
    let line = "0123456789 äöü 漢字 the quick brown fox\n";
    let text = line.repeat(1_000_000 / line.len());
    world.submit("a", &text);
    let result = world.result("done/a.md");
    let said = result.split("You said: ").nth(1).expect("an answer");
    // The built-in agent caps what it says at 64 KiB; what it got is in its transcript.
    assert!(said.starts_with(line), "{}", &said[..100]);
    let transcripts = world.ok("cat home/projects/*/*.jsonl");
    assert!(transcripts.len() > text.len(), "{}", transcripts.len());
}

#[test]
fn a_full_queue_refuses_where_the_writer_stands() {
    let mut setup = Setup::agents(1);
    setup.settle = "100ms, max_queued: 2".into();
    let world = World::start(&setup);
    world.ok("echo pause > $MNT/control; echo 1 > $MNT/inbox/a.md; echo 2 > $MNT/inbox/b.md");
    world.until("both to be known", || ["a", "b"].iter().all(|n| world.word(&format!("tasks/{n}/state")) == "queued"));
    world.ok("echo 3 > c.md; echo 4 > $MNT/drafts/d.md; echo again > $MNT/inbox/a.md");
    for script in ["echo 3 > $MNT/inbox/c.md", "cp c.md $MNT/inbox/", "mv $MNT/drafts/d.md $MNT/inbox/"] {
        let out = world.sh(script);
        assert!(!out.status.success(), "{script}");
        assert!(String::from_utf8_lossy(&out.stderr).contains("quota"), "{}", String::from_utf8_lossy(&out.stderr));
    }
    assert!(world.queue("drafts/d.md").exists());
    world.ok("echo resume > $MNT/control");
    world.result("done/b.md");
    world.until("the queue to take it", || world.sh("cp c.md $MNT/inbox/").status.success());
    world.result("done/c.md");
}
