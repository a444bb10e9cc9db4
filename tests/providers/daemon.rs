//! The real daemon with loopback providers: routing, the contents of results, restarts.

use std::{fs, sync::Arc, sync::atomic::Ordering};

use claude_failover::config::ProviderKind;

use crate::{
    job_server::Jobs,
    kinds::{KEY, events, good},
    server::{Gate, Server, Step, answer, event, stream},
    world::{Setup, World},
};

/// A task for the provider of this name.
fn task(ai: &str) -> String {
    format!("---\npreferred_ai: {ai}\nallow_delegation: true\n---\nsay hello\n")
}

pub fn setup(providers: &str) -> Setup {
    let mut setup = Setup::agents(1).more(&format!("providers:\n{providers}"));
    setup.env = vec![("TEST_KEY".to_owned(), KEY.to_owned())];
    setup
}

pub fn openai(name: &str, server: &Server, more: &str) -> String {
    let url = server.url();
    format!("  {name}: {{kind: openai, url: '{url}', model: m-1, key_env: TEST_KEY, poll: 100ms{more}}}\n")
}

pub fn secutools(server: &Server) -> String {
    format!("  secutools: {{kind: secutools, url: '{}', key_env: TEST_KEY, poll: 100ms}}\n", server.url())
}

#[track_caller]
pub fn has(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|found| found.trim() == *line), "no line {line:?} in\n{text}");
    }
}

#[test]
fn a_task_for_a_provider_is_done_there_with_its_job_and_cost_and_nobodys_key_is_shown() {
    let server = Server::always(good(ProviderKind::Openai, "hello from afar"));
    let world = World::start(&setup(&openai("gemini", &server, ", price: {input: 2, output: 10}")));
    world.submit("a", &task("gemini"));
    let result = world.result("done/a.md");
    has(&result, &["hello from afar", "status: done", "provider: gemini", "job: chatcmpl-1", "cost_usd: 0.004"]);
    assert!(result.starts_with(&task("gemini")), "{result}");
    world.until("the inbox to be empty", || world.inbox_is_empty());
    assert_eq!(server.requests().len(), 1);
    let request = &server.requests()[0];
    assert_eq!(request.header("authorization"), format!("Bearer {KEY}"));
    assert_eq!(request.body["messages"][0]["content"], "say hello");
    // Nothing that is written or shown has the key: state, log, queue, and every file of the mount.
    let found = world.ok(&format!("grep -rlF {KEY} state daemon.log web api \"$MNT\" 2>/dev/null || true"));
    assert_eq!(found, "");
}

#[test]
fn an_answer_is_seen_while_it_grows_and_a_cancel_leaves_the_connection() {
    let gate = Gate::default();
    let text = &events(ProviderKind::Openai, "so far so good")[1];
    let drip = Step::Drip(b": more\n".to_vec(), std::time::Duration::from_millis(10));
    let server = Server::always(vec![stream(), event(text), Step::Wait(gate.clone()), drip]);
    let world = World::start(&setup(&openai("gemini", &server, "")));
    world.submit("a", &task("gemini"));
    world.until("the job's id in the marker", || {
        fs::read_to_string(world.queue("inbox/a.md.delegated")).is_ok_and(|marker| marker.contains("chatcmpl-1"))
    });
    world.ok("echo cancel > \"$MNT/tasks/a/control\"");
    has(&world.result("failed/a.md"), &["status: cancelled", "provider: gemini"]);
    gate.open();
    server.until("the connection to be left", |server| server.left() == 1);
}

#[test]
fn a_provider_that_runs_dry_makes_way_for_the_next_then_for_a_session_here() {
    let dry = Server::always(answer(402, &[], r#"{"error": {"message": "Insufficient credits"}}"#));
    let limited = Server::always(answer(429, &[], "litellm.types.router.RouterRateLimitError: cooldown 60s"));
    let rows = openai("first", &dry, ", fallback: [second]") + &openai("second", &limited, "");
    let world = World::start(&setup(&rows));
    for name in ["a", "b"] {
        world.submit(name, &task("first"));
        let result = world.result(&format!("done/{name}.md"));
        has(&result, &["status: done", "agent: demo"]);
        assert!(!result.contains("provider:"), "{result}");
    }
    // Each was asked once: the second task knew.
    assert_eq!((dry.requests().len(), limited.requests().len()), (1, 1));
    let incidents =
        |name: &str| world.events().lines().filter(|line| line.contains(&format!("\"provider {name}\""))).count();
    assert_eq!((incidents("first"), incidents("second")), (1, 1), "{}", world.events());
}

#[test]
fn a_purse_that_is_empty_in_the_middle_of_a_job_costs_the_task_nothing() {
    let error = r#"{"error": {"code": 402, "message": "Insufficient credits"}}"#;
    let dry = Server::always(vec![stream(), event(&events(ProviderKind::Openai, "half")[1]), event(error)]);
    let good = Server::always(good(ProviderKind::Openai, "all of it"));
    let world = World::start(&setup(&(openai("first", &dry, ", fallback: [second]") + &openai("second", &good, ""))));
    world.submit("a", &task("first"));
    has(&world.result("done/a.md"), &["all of it", "provider: second"]);
}

#[test]
fn a_job_at_a_job_server_is_waited_for_across_a_restart() {
    let jobs = Arc::new(Jobs::default());
    let server = jobs.serve();
    let mut world = World::start(&setup(&secutools(&server)));
    world.submit("a", &task("gpu"));
    let marker = world.queue("inbox/a.md.delegated");
    world.until("the job's id in the marker", || fs::read_to_string(&marker).is_ok_and(|text| text.contains("job-0")));
    world.kill_daemon();
    world.run();
    world.until_word("tasks/a/state", "delegated");
    jobs.finished.store(true, Ordering::SeqCst);
    has(
        &world.result("done/a.md"),
        &["did: say hello", "provider: secutools", "job: job-0", "cost_usd: 0.25", "attempts: 1"],
    );
    assert_eq!(jobs.count(), 1);
    assert_eq!(server.requests()[0].body["preferred_ai"], "gpu");
}

#[test]
fn a_crash_between_a_submit_and_its_answer_makes_no_second_job() {
    let gate = Gate::default();
    let jobs = Arc::new(Jobs::default());
    let behind = jobs.serve();
    let (hold, port) = (gate.clone(), behind.url());
    // The job is begun, its answer does not come back.
    let server = Server::start(move |request| {
        let key = request.header("idempotency-key").to_owned();
        let forwarded = std::process::Command::new("curl")
            .args([
                "-s",
                "-X",
                &request.method,
                "-H",
                &format!("idempotency-key: {key}"),
                "-d",
                &request.body.to_string(),
            ])
            .arg(format!("{port}{}", request.path))
            .output()
            .expect("curl");
        let held = (request.method == "POST").then(|| Step::Wait(hold.clone()));
        held.into_iter().chain(answer(200, &[], &String::from_utf8_lossy(&forwarded.stdout))).collect()
    });
    let mut world = World::start(&setup(&secutools(&server)));
    world.submit("a", &task("gpu"));
    world.until("the job to begin", || jobs.count() == 1);
    world.kill_daemon();
    gate.open();
    jobs.finished.store(true, Ordering::SeqCst);
    world.run();
    has(&world.result("done/a.md"), &["did: say hello", "job: job-0"]);
    let posts: Vec<_> = server.requests().into_iter().filter(|request| request.method == "POST").collect();
    assert_eq!((posts.len(), jobs.count()), (2, 1), "sent again under the same key");
}

#[test]
fn a_call_that_a_crash_cut_off_is_in_doubt_and_not_sent_again() {
    let text = events(ProviderKind::Openai, "half").remove(1);
    let server = Server::always(vec![stream(), event(&text), Step::Hang]);
    let mut world = World::start(&setup(&openai("gemini", &server, "")));
    world.submit("a", &task("gemini"));
    let marker = world.queue("inbox/a.md.delegated");
    world.until("the job's id in the marker", || {
        fs::read_to_string(&marker).is_ok_and(|text| text.contains("chatcmpl-1"))
    });
    world.kill_daemon();
    world.run();
    let result = world.result("failed/a.md");
    assert!(result.contains("not sent again") && result.contains("provider: gemini"), "{result}");
    world.until("the inbox to be empty", || world.inbox_is_empty());
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_job_that_fails_there_fails_here_and_one_that_is_taken_back_is_cancelled_there() {
    let jobs = Arc::new(Jobs::default());
    let server = jobs.serve();
    let world = World::start(&setup(&secutools(&server)));
    world.submit("a", &task("gpu"));
    world.until("the job", || jobs.count() == 1);
    world.until("recalled", || world.sh("echo recall > \"$MNT/tasks/a/control\"").status.success());
    has(&world.result("done/a.md"), &["agent: demo"]);
    assert!(jobs.cancelled.load(Ordering::SeqCst));
    jobs.fails.store(true, Ordering::SeqCst);
    jobs.finished.store(true, Ordering::SeqCst);
    world.submit("b", &task("gpu"));
    let result = world.result("failed/b.md");
    assert!(result.contains("it broke") && result.contains("provider: secutools"), "{result}");
}

#[test]
fn a_key_that_comes_later_is_seen_and_who_went_elsewhere_is_told() {
    let server = Server::always(good(ProviderKind::Openai, "hello from afar"));
    let mut world = World::prepare(&setup(""));
    let url = server.url();
    let row = format!("  gemini: {{kind: openai, url: '{url}', model: m-1, key_file: key}}\n");
    world.configure(&setup(&row));
    world.run();
    world.until_word("sessions/pool-11/state", "idle");
    world.submit("a", &task("gemini"));
    let result = world.result("done/a.md");
    let told = "preferred_ai is gemini, but provider gemini is broken: the key file";
    assert!(result.contains(told), "{result}");
    assert!(world.word("tasks/a/why").contains(told), "{}", world.word("tasks/a/why"));
    world.submit("b", &task("nobody"));
    assert!(world.result("done/b.md").contains("no provider has that name or serves it; known: gemini"));
    world.ok(&format!("printf {KEY} > key; echo reload > $MNT/control"));
    world.until_word("providers/gemini/state", "usable");
    world.submit("c", &task("gemini"));
    has(&world.result("done/c.md"), &["hello from afar", "provider: gemini"]);
    // And over a restart.
    world.ok("rm key");
    world.submit("d", &task("gemini"));
    assert!(world.result("done/d.md").contains("is broken"));
    assert_eq!(world.stop_daemon(), Some(0));
    world.ok(&format!("printf {KEY} > key"));
    world.run();
    world.until_word("providers/gemini/state", "usable");
    world.submit("e", &task("gemini"));
    has(&world.result("done/e.md"), &["hello from afar", "provider: gemini"]);
}
