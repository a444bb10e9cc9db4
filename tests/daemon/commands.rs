//! Commands with a running daemon, a stopped one, and one whose mount was removed.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    time::{Duration, Instant},
};

use crate::world::{Setup, World, program};

/// The program's code, output and how long it took.
fn command(world: &World, args: &str) -> (Option<i32>, String, Duration) {
    let begun = Instant::now();
    let out = world.sh(&format!("timeout -k 1 60 {} {args} --mount $MNT 2>&1", program().display()));
    (out.status.code(), String::from_utf8_lossy(&out.stdout).into_owned(), begun.elapsed())
}

/// What a command may take: 2 s for the daemon, the rest for a loaded machine.
const IN_TIME: Duration = Duration::from_secs(15);

#[test]
fn beside_a_stopped_daemon_every_command_ends_and_names_it() {
    let world = World::start(&Setup::agents(1));
    world.until_word("sessions/pool-11/state", "idle");
    let pid = world.daemon_pid();
    world.ok(&format!("kill -STOP {pid}"));
    for args in [
        "status",
        "tasks --json",
        "sessions",
        "accounts",
        "wait task x",
        "wait idle",
        "wait swap",
        "submit hello",
        "log x",
        "attach pool-11",
        "wait idle --timeout 60s",
    ] {
        let (code, text, took) = command(&world, args);
        assert_eq!(code, Some(3), "{args}: {text}");
        assert!(text.contains(&format!("the daemon (pid {pid}) does not answer")), "{args}: {text}");
        assert!(took < IN_TIME, "{args}: {took:?}");
    }
    let (code, text, took) = command(&world, "wait idle --timeout 500ms");
    assert_eq!(code, Some(4), "{text}");
    assert!(took < IN_TIME && text.contains("time is up"), "{took:?}: {text}");
    let check = format!("timeout -k 1 60 {} check --config config.yaml 2>&1", program().display());
    let out = world.sh(&check);
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert_eq!(out.status.code(), Some(1), "{text}");
    assert!(text.contains(&format!("the daemon (pid {pid}) does not answer")), "{text}");
    world.ok(&format!("kill -CONT {pid}"));
    assert_eq!(command(&world, "status").0, Some(0));
}

#[test]
fn a_task_is_submitted_waited_for_and_read() {
    let world = World::start(&Setup::agents(1));
    let (code, id, _) = command(&world, "submit 'Say it: hello!'");
    assert_eq!((code, id.as_str()), (Some(0), "say-it-hello\n"), "{id}");
    let (code, id, _) = command(&world, "submit 'Say it: hello!' --json");
    assert_eq!((code, id.as_str()), (Some(0), "{\"id\":\"say-it-hello-2\",\"project\":\"web\"}\n"));
    for id in ["say-it-hello", "say-it-hello-2"] {
        assert_eq!(command(&world, &format!("wait task {id} --timeout 60")).0, Some(0));
    }
    let (code, text, _) = command(&world, "log say-it-hello");
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("status: done") && text.contains("queued"), "{text}");
    let (code, text, _) = command(&world, "submit again --id say-it-hello");
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("already"), "{text}");
    assert_eq!(command(&world, "log nosuch").0, Some(1));
    assert_eq!(command(&world, "submit --id ../x hi").0, Some(1));
    assert_eq!(command(&world, "submit --project nosuch hi").0, Some(1));
    let (code, text, _) = command(&world, "log -f say-it-hello-2");
    assert_eq!(code, Some(0), "{text}");
    let out = world.sh(&format!("printf 'From a pipe\\n' | {} submit - --mount $MNT", program().display()));
    assert_eq!(String::from_utf8_lossy(&out.stdout), "from-a-pipe\n");
    let (_, shown, _) = command(&world, "status");
    for line in shown.lines().filter(|line| !line.starts_with(' ')) {
        assert!(line.chars().count() <= 80, "{line:?}");
    }
}

/// Who submits hears at once what can't run, and a text is never an option.
#[test]
fn what_can_not_run_is_not_submitted_and_a_text_is_no_option() {
    let world = World::start(&Setup::agents(1));
    let refused = |arguments: &str, wanted: &str| {
        let (code, text, _) = command(&world, arguments);
        assert_eq!(code, Some(2), "{arguments}: {text}");
        assert!(text.contains("not submitted") && text.contains(wanted), "{arguments}: {text}");
    };
    refused("submit --agent nope hi", "there is no agent nope in the configuration");
    refused("submit --agent 'no name' hi", "is not the name of an agent");
    refused("submit $'---\nagent: nope\nretries: x\n---\nhi'", "2:8: agent: there is no agent nope");
    refused("submit $'---\nagent: nope\nretries: x\n---\nhi'", "3:10: retries: x is not");
    refused("submit $'---\npriority: 1\n\thi'", "not closed");
    assert!(world.inbox_is_empty());
    for (arguments, id) in [
        ("submit $'---\npriority: 3\n---\nwith front'", "with-front\n"),
        ("submit '--- a/file' --priority 3 is a patch", "a-file-is-a-patch\n"),
        ("submit --priority 3 '- a list'", "a-list\n"),
    ] {
        assert_eq!(command(&world, arguments).1, id, "{arguments}");
        let id = id.trim_end();
        assert_eq!(command(&world, &format!("wait task {id} --timeout 60")).0, Some(0));
        assert!(world.read(&format!("done/{id}.md")).expect("done").contains("priority: 3"));
    }
    assert_eq!(command(&world, "submit --nosuch").0, Some(2));
}

#[test]
fn where_the_mount_was_taken_away_the_daemon_is_named() {
    let world = World::start(&Setup::agents(1));
    world.until_word("sessions/pool-11/state", "idle");
    world.ok("umount -l $MNT");
    let (code, text, _) = command(&world, "status");
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains(&format!("a daemon runs (pid {}), but serves no mount", world.daemon_pid())), "{text}");
}

#[test]
fn a_session_that_waits_is_in_the_first_line_with_what_it_asks_and_events_hold_no_debug_text() {
    let world = World::start(&Setup::agents(1).mode("permission"));
    world.submit("a", "```sh\ntouch made\n```\n");
    world.until_word("sessions/pool-11/state", "waiting");
    let (code, shown, _) = command(&world, "status");
    assert_eq!(code, Some(0));
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[0].contains("1 session waits for a person"), "{shown}");
    assert!(lines[1].contains("pool-11") && lines[1].contains("touch made"), "{shown}");
    assert!(lines[2].contains("claude-failover attach pool-11"), "{shown}");
    assert_eq!(world.read("status").expect("status").lines().next(), Some(lines[0]), "both say the same");
    world.sh("echo hello > $MNT/sessions/pool-11/input");
    let pid = world.word("sessions/pool-11/pid");
    world.ok(&format!("kill -9 {pid}"));
    world.until("the death to be told", || world.events().contains("program ended"));
    let debug = |word: &str| {
        let (name, rest) = word.split_once('(').unwrap_or_default();
        name.starts_with(|c: char| c.is_ascii_uppercase())
            && !rest.is_empty()
            && name.chars().all(char::is_alphanumeric)
    };
    for line in world.events().lines() {
        assert!(!line.split([' ', '"']).any(debug), "{line}");
    }
}

#[test]
fn a_bundle_for_a_report_holds_what_is_known_and_neither_secrets_nor_texts() {
    let mut setup = Setup::agents(1);
    setup.more_env = ", API_KEY: sk-of-the-configuration".to_owned();
    let mut world = World::start(&setup);
    world.submit("secretive", "TEXT OF THE TASK\n```sh\n: > ../up; while [ ! -e ../go ]; do sleep 0.1; done\n```\n");
    world.until("the task to run", || world.path("up").exists());
    let line = world.ok("tr '\\0' '\\n' < /proc/$(cat $MNT/sessions/pool-11/pid)/environ");
    let token =
        line.lines().find_map(|line| line.strip_prefix("CLAUDE_FAILOVER_INCARNATION=")).expect("a token").to_owned();
    let check = |world: &World, name: &str| {
        let out = world.sh(&format!("{} check --config config.yaml --bundle {name} 2>&1", program().display()));
        (out.status.code(), String::from_utf8_lossy(&out.stdout).into_owned())
    };
    let bundle = |world: &World, name: &str| {
        let (code, out) = check(world, name);
        assert!(out.contains(&format!("{name}: read it")), "{out}");
        (code, fs::read_to_string(world.path(name)).expect("a bundle"))
    };
    let (_, text) = bundle(&world, "one.txt");
    for part in [
        "=== versions ===",
        "=== check ===",
        "DEMO_AGENT_HOME",
        "=== metrics ===",
        "sessions/pool-11/why ===",
        "web:secretive",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    for secret in ["sk-of-the-configuration", token.as_str(), "TEXT OF THE TASK"] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
    let state = world.ok(&format!("{} state", program().display()));
    assert!(state.contains("pool-11") && !state.contains(&token) && state.contains(&token[..8]), "{state}");
    let mode = fs::metadata(world.path("one.txt")).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let (code, out) = check(&world, "one.txt");
    assert!(code == Some(1) && out.contains("one.txt can't be written"), "nothing is written over: {out}");
    // Who has no daemon needs a report most of all.
    world.kill_daemon();
    let (_, text) = bundle(&world, "two.txt");
    assert!(text.contains("=== mount ===") && text.contains("=== state ==="), "{text}");
    assert!(!text.contains(&token) && !text.contains("TEXT OF THE TASK"), "{text}");
}
