//! What agents do, and how the supervisor reacts.

use std::{
    fs,
    time::{Duration, Instant},
};

use crate::world::{CRASH, Setup, World};

#[test]
fn an_agent_that_crashes_is_started_again_and_its_task_tried_again() {
    let world = World::start(&Setup::agents(1));
    world.submit("a", &format!("---\nretries: 1\n---\n{CRASH}"));
    let result = world.result("failed/a.md");
    assert!(result.contains("attempts: 2") && result.contains("ended in the middle"), "{result}");
    assert!(result.contains("The last screen:"), "{result}");
    world.until_word("sessions/pool-11/state", "idle");
}

#[test]
fn text_for_a_dialog_is_refused_at_once() {
    let world = World::start(&Setup::agents(1));
    world.submit("a", "demo: permission\n```sh\necho allowed\n```\n");
    world.until_word("sessions/pool-11/state", "waiting");
    let begun = Instant::now();
    let out = world.sh("echo hello there > $MNT/sessions/pool-11/input");
    let told = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!out.status.success() && told.to_lowercase().contains("busy"), "{told}");
    assert!(begun.elapsed() < Duration::from_secs(5), "it took {:?}", begun.elapsed());
    world.ok("echo 1 > $MNT/sessions/pool-11/keys");
    let result = world.result("done/a.md");
    assert!(result.contains("allowed") && !result.contains("hello there"), "{result}");
}

#[test]
fn why_tells_of_a_draft_that_stands_in_the_box() {
    let world = World::start(&Setup::agents(1));
    world.until_word("sessions/pool-11/state", "idle");
    world.tmux(&["send-keys", "-t", "=pool-11:", "-l", "draft"]);
    world.until("the draft to show", || world.word("sessions/pool-11/pane").contains("draft"));
    // Two texts in one box are neither's.
    let begun = Instant::now();
    let out = world.sh("echo mine > $MNT/sessions/pool-11/input");
    let told = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!out.status.success() && told.to_lowercase().contains("busy"), "{told}");
    assert!(begun.elapsed() < Duration::from_secs(5), "it took {:?}", begun.elapsed());
    let refused = "EBUSY: its input box holds a text already (\"draft\")";
    assert!(world.word("sessions/pool-11/input").contains(refused), "{}", world.word("sessions/pool-11/input"));
    world.submit("a", "the task\n");
    world.until_told(
        || world.word("tasks/a/why"),
        || world.word("tasks/a/why").contains("somebody's text stands in the input box of pool-11: \"draft\""),
    );
    world.ok("echo BSpace BSpace BSpace BSpace BSpace > $MNT/sessions/pool-11/keys");
    let result = world.result("done/a.md");
    assert!(result.contains("attempts: 1") && !result.contains("draft"), "{result}");
}

/// A session in whose box a person has begun a text is chosen last, and his text stays.
#[test]
fn a_session_with_a_draft_is_chosen_last() {
    let world = World::start(&Setup::agents(2));
    for name in ["pool-11", "pool-12"] {
        world.until_word(&format!("sessions/{name}/state"), "idle");
    }
    // As a person types: the box empty, filled, and looked at.
    world.tmux(&["send-keys", "-t", "=pool-11:", "-l", "half a thought"]);
    world.until("the text", || world.read("sessions/pool-11/pane").is_ok_and(|pane| pane.contains("half a thought")));
    for id in ["a", "b"] {
        world.submit(id, "the task\n");
        let result = world.result(&format!("done/{id}.md"));
        assert!(result.contains("session: pool-12"), "{result}");
    }
    assert!(world.word("sessions/pool-11/pane").contains("half a thought"));
    // Nobody else is there: it waits for him, and says so.
    world.ok("echo drain > $MNT/sessions/pool-12/control");
    world.submit("c", "the task\n");
    world.until_told(
        || world.word("tasks/c/why"),
        || world.word("tasks/c/why").contains("somebody's text stands in the input box of pool-11"),
    );
    world.tmux(&["send-keys", "-t", "=pool-11:", "C-c"]);
    let result = world.result("done/c.md");
    assert!(result.contains("session: pool-11") && result.contains("You said: the task"), "{result}");
}

#[test]
fn a_task_without_retries_fails_at_the_first_crash() {
    let world = World::start(&Setup::agents(1));
    world.submit("a", &format!("---\nretries: 0\n---\n{CRASH}"));
    let result = world.result("failed/a.md");
    assert!(result.contains("attempts: 1"), "{result}");
    world.submit("b", "and on\n");
    world.result("done/b.md");
}

#[test]
fn a_permission_prompt_waits_for_a_person_who_answers_by_key() {
    let world = World::start(&Setup::agents(1));
    world.submit("a", "demo: permission\n```sh\necho allowed\n```\n");
    world.until_word("sessions/pool-11/state", "waiting");
    assert!(world.events().contains("\"kind\":\"waiting\""));
    assert!(world.word("sessions/pool-11/why").contains("ermission"), "{}", world.word("sessions/pool-11/why"));
    assert!(!world.queue("done/a.md").exists());
    world.ok("echo 1 > $MNT/sessions/pool-11/keys");
    assert!(world.result("done/a.md").contains("allowed"));
}

#[test]
fn work_in_the_background_is_waited_for() {
    let world = World::start(&Setup::agents(1));
    world.submit("a", "demo: background=2\nwork\n");
    world.until("the first stop", || world.ok("cat state/hooks/pool-11.jsonl* || true").contains("\"running\""));
    assert!(!world.queue("done/a.md").exists(), "a stop with background work is not the end");
    world.result("done/a.md");
}

/// A program may draw its input box before it listens.
#[test]
fn a_lost_paste_is_pasted_again() {
    let world = World::start(&Setup::agents(1).mode("swallow-paste=2"));
    world.submit("a", "---\nretries: 0\n---\nthe long text\nof two lines\n");
    let result = world.result("done/a.md");
    assert!(result.contains("attempts: 1") && result.matches("the long text").count() == 2, "{result}");
}

#[test]
fn a_swallowed_enter_is_pressed_again() {
    let world = World::start(&Setup::agents(1).mode("swallow-enter=3"));
    world.submit("a", &format!("{}the end\n", "line\n".repeat(20)));
    world.result("done/a.md");
    assert_eq!(world.events().matches("working: attempt").count(), 1);
}

#[test]
fn a_task_that_takes_too_long_is_ended() {
    let world = World::start(&Setup::agents(1));
    world.submit("a", "---\ntimeout: 1s\n---\ndemo: slow=600\n");
    let result = world.result("failed/a.md");
    assert!(result.contains("timed out after 1 s"), "{result}");
    world.submit("b", "and on\n");
    world.result("done/b.md");
}

#[test]
fn a_limit_parks_the_task_and_a_server_error_never_looks_like_one() {
    let world = World::start(&Setup::agents(2).more("watcher: {server_retries: 0}"));
    world.submit("server", "---\nretries: 0\n---\ndemo: server-error\n");
    let result = world.result("failed/server.md");
    assert!(result.contains("error:"), "{result}");
    world.submit("parked", "demo: limit\n");
    world.until("a limited session", || world.status()["sessions"].to_string().contains("\"limited\""));
    assert_eq!(world.word("tasks/parked/state"), "working");
    // The agent has no account to change: what else there is waits with it.
    world.submit("waits", "hello\n");
    world.until("the second task", || {
        world.mount("tasks/waits/state").exists() && world.word("tasks/waits/state") == "queued"
    });
    assert_eq!(world.events().matches("\"kind\":\"limit\"").count(), 1, "{}", world.events());
}

#[test]
fn each_task_gets_a_fresh_conversation_in_its_own_directory() {
    let world = World::start(&Setup::agents(1));
    world.submit("a", "```sh\npwd; echo $CLAUDE_FAILOVER_SESSION $CLAUDE_FAILOVER_MOUNT\n```\n");
    let first = world.result("done/a.md");
    world.ok(
        "mkdir api/sub; printf -- '---\\nworkdir: sub\\n---\\n```sh\\npwd\\n```\\n' > $MNT/projects/api/inbox/b.md",
    );
    let path = world.path("api/.agent-queue/done/b.md");
    world.until("b", || path.exists());
    let second = fs::read_to_string(path).expect("readable");
    assert!(first.contains(&format!("{}\n", world.path("web").display())), "{first}");
    assert!(
        first.contains(&format!("pool-11 {}", world.mount("").display()).trim_end_matches('/').to_owned()),
        "{first}"
    );
    assert!(second.contains(&format!("{}\n", world.path("api/sub").display())), "{second}");
    let id = |text: &str| text.lines().find(|l| l.starts_with("resume_id:")).map(str::to_owned);
    assert!(id(&first).is_some() && id(&first) != id(&second));
}

#[test]
fn an_agent_dispatches_a_sub_task_and_reads_its_result() {
    let world = World::start(&Setup::agents(2));
    world.submit(
        "parent",
        "```sh\ncd $CLAUDE_FAILOVER_MOUNT\nprintf 'demo: slow=1\\nhello child\\n' > inbox/child.md\n\
         until grep -q parent tasks/child/why; do sleep 0.05; done 2> /dev/null; cat tasks/child/why > $OLDPWD/../child.why\n\
         until [ -e done/child.md ]; do sleep 0.05; done; grep said done/child.md; readlink $CLAUDE_FAILOVER_TASK\n```\n",
    );
    let result = world.result("done/parent.md");
    assert!(
        result.contains("You said: ") && result.contains("hello child") && result.contains("tasks/parent"),
        "{result}"
    );
    let why = fs::read_to_string(world.path("child.why")).expect("why");
    assert!(why.contains("parent"), "{why}");
}

#[test]
fn a_dedicated_session_is_there_and_left_alone() {
    let more = "  dedicated: [{name: mine, workdir: /tmp}]";
    let world = World::start(&Setup::agents(1).more(more));
    world.until("the session", || world.tmux(&["list-sessions"]).contains("mine"));
    world.submit("a", "work\n");
    world.result("done/a.md");
    assert_eq!(world.word("sessions/mine/state"), "dedicated");
    for verb in ["exit", "restart", "drain"] {
        assert!(!world.sh(&format!("echo {verb} > $MNT/sessions/mine/control")).status.success(), "{verb}");
    }
    let pid = world.tmux(&["display-message", "-p", "-t", "=mine:", "#{pane_pid}"]);
    world.submit("b", "work\n");
    world.result("done/b.md");
    assert_eq!(world.tmux(&["display-message", "-p", "-t", "=mine:", "#{pane_pid}"]), pid);
}

#[test]
fn any_command_can_be_an_agent() {
    let mut setup = Setup::agents(1);
    setup.more_agents =
        ", up: {kind: command, run: [tr, a-z, A-Z], tasks: person}, bad: {kind: command, run: [sh, -c, 'cat; exit 3'], tasks: person}".into();
    let world = World::start(&setup);
    world.submit("a", "---\nagent: up\n---\nshout this\n");
    world.submit("b", "---\nagent: bad\nretries: 0\n---\nfail\n");
    assert!(world.result("done/a.md").contains("SHOUT THIS"));
    let failed = world.result("failed/b.md");
    assert!(failed.contains("exit status 3"), "{failed}");
    world.submit("c", "and the pool's own agent again\n");
    world.result("done/c.md");
}

#[test]
fn the_operator_s_client_stays_attached_while_the_session_is_recycled() {
    let world = World::start(&Setup::agents(1));
    world.until_word("sessions/pool-11/state", "idle");
    // `script` gives the client a terminal.
    let client = format!("tmux -S {} attach -t =pool-11", world.path("tmux.sock").display());
    let mut child = std::process::Command::new("script")
        .args(["-qec", &client, "/dev/null"])
        .env("TERM", "xterm")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("script");
    let clients = || world.tmux(&["list-clients", "-F", "#{client_session}"]);
    world.until("the client", || clients().contains("pool-11"));
    world.submit("a", "work\n");
    world.result("done/a.md");
    world.submit("b", "work\n");
    world.result("done/b.md");
    world.until_word("sessions/pool-11/state", "idle");
    assert!(clients().contains("pool-11"), "{}", clients());
    child.kill().expect("killed");
    child.wait().expect("waited for");
}

#[test]
fn a_person_s_half_typed_text_is_never_mixed_with_a_task() {
    let world = World::start(&Setup::agents(1));
    world.until_word("sessions/pool-11/state", "idle");
    world.tmux(&["send-keys", "-t", "=pool-11:", "-l", "half a thought"]);
    world.until("the text", || world.read("sessions/pool-11/pane").is_ok_and(|pane| pane.contains("half a thought")));
    world.submit("a", "the task\n");
    world.until_word("tasks/a/state", "working");
    assert!(!world.read("sessions/pool-11/pane").expect("pane").contains("the task"));
    world.tmux(&["send-keys", "-t", "=pool-11:", "C-c"]);
    let result = world.result("done/a.md");
    assert!(result.contains("You said: the task"), "{result}");
}

#[test]
fn an_agent_that_can_not_start_is_a_problem_of_health_and_restart_tries_again_at_once() {
    let mut setup = Setup::agents(1);
    setup.agent = "broken".into();
    setup.more_agents = ", broken: {kind: demo, program: ./gone}".into();
    let more = "lifecycle: {restart_first: 100ms, restart_max: 10m}";
    let world = World::start(&setup.more(more));
    world.until("health to tell", || world.read("health").is_ok_and(|text| text.contains("pool-11")));
    assert_eq!(world.word("sessions/pool-11/state"), "dead");
    let failures = || world.events().matches("session pool-11").count();
    let before = failures();
    world.ok("echo restart > $MNT/sessions/pool-11/control");
    world.until("another try", || failures() > before);
}
