//! `mv` into `delegated/` and back on the real daemon: who does the task, what is shown, what a crash leaves.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    sync::{Arc, atomic::Ordering},
};

use claude_failover::config::ProviderKind;

use crate::{
    daemon::{has, openai, secutools, setup},
    job_server::Jobs,
    kinds::events,
    server::{Gate, Server, Step, event, stream},
    world::World,
};

/// Says nothing of providers.
const PLAIN: &str = "say hello\n";

#[test]
fn a_task_that_is_moved_into_delegated_is_done_there_and_its_answer_grows_where_it_is_read() {
    let gate = Gate::default();
    let all = events(ProviderKind::Openai, "one two");
    let (first, rest) = all.split_at(2);
    let mut steps = vec![stream()];
    steps.extend(first.iter().map(|text| event(text)));
    steps.push(Step::Wait(gate.clone()));
    steps.extend(rest.iter().map(|text| event(text)));
    let server = Server::always(steps);
    let world = World::start(&setup(&openai("gemini", &server, "")));
    world.ok("echo pause > \"$MNT/control\"");
    world.submit("a", PLAIN);
    let task = world.mount("inbox/a.md");
    let number = fs::metadata(&task).expect("a task").ino();
    // At once: it may not be a task yet.
    world.ok("mv \"$MNT/inbox/a.md\" \"$MNT/delegated/\"");
    assert_eq!(world.ok("cd \"$MNT/delegated\" && ls | tr '\\n' ' '"), "a.json a.md ");
    assert_eq!(fs::metadata(&task).expect("it stays").ino(), number);
    world.ok("echo resume > \"$MNT/control\"");
    world.until_word("tasks/a/state", "delegated");
    world.until("some of the answer", || world.read("tasks/a/result.md").is_ok_and(|text| !text.is_empty()));
    assert_eq!(world.word("providers/gemini/state"), "usable");
    assert!(world.word("providers/gemini/jobs").starts_with("a "), "{}", world.word("providers/gemini/jobs"));
    let why = world.word("tasks/a/why");
    assert!(why.contains("route: gemini, then a session here (a person sent it there)"), "{why}");
    gate.open();
    has(&world.result("done/a.md"), &["status: done", "provider: gemini"]);
    assert_eq!(world.ok("ls \"$MNT/delegated\""), "");
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_move_that_has_returned_outlives_a_crash_and_a_move_back_takes_the_task_back() {
    let jobs = Arc::new(Jobs::default());
    let server = jobs.serve();
    let mut world = World::start(&setup(&secutools(&server)));
    world.ok("echo pause > \"$MNT/control\"");
    world.submit("a", PLAIN);
    world.ok("mv \"$MNT/inbox/a.md\" \"$MNT/delegated/\"");
    world.kill_daemon();
    world.run();
    world.until("it to be shown", || world.mount("delegated/a.md").exists());
    world.ok("echo resume > \"$MNT/control\"");
    world.until("the job", || jobs.count() == 1);
    world.ok("mv -f \"$MNT/delegated/a.md\" \"$MNT/inbox/\"");
    assert_eq!(world.ok("ls \"$MNT/delegated\""), "");
    has(&world.result("done/a.md"), &["agent: demo"]);
    assert!(jobs.cancelled.load(Ordering::SeqCst));
    assert_eq!(jobs.count(), 1);
}

#[test]
fn without_providers_nothing_is_sent_anywhere() {
    let world = World::start(&setup("  {}\n"));
    world.ok("echo pause > \"$MNT/control\"");
    world.submit("a", PLAIN);
    let out = world.sh("mv \"$MNT/inbox/a.md\" \"$MNT/delegated/\"");
    assert!(!out.status.success(), "{out:?}");
    assert_eq!(fs::read_to_string(world.mount("inbox/a.md")).expect("it stays"), PLAIN);
    assert_eq!(world.ok("ls \"$MNT/delegated\" \"$MNT/providers\" | wc -w"), "2\n");
    let said = world.word("tasks/a/control");
    assert!(said.contains("no provider"), "{said}");
}
