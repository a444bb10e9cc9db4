//! Attribution of exits: which start of which program ended, and who ended it.

use std::{fs, time::Instant};

use crate::world::{Setup, World};

/// A world whose pool runs shell scripts.
fn shell(sessions: u32) -> World {
    let mut setup = Setup::agents(sessions);
    setup.more_agents =
        ", sh: {kind: command, run: [bash]}, none: {kind: command, run: [/no/such/program], tasks: anyone}".into();
    setup.agent = "sh".into();
    World::start(&setup)
}

fn lives(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, after)| !after.starts_with('Z'))
}

#[test]
fn a_lost_pane_leaves_nothing_behind_and_speaks_for_no_later_task() {
    let world = shell(1);
    // Neither the script nor what it starts ends with its terminal.
    world.submit(
        "a",
        "---\nretries: 0\n---\ntrap '' HUP TERM\nsleep 300 & echo $! > ../left\necho $$ > ../own\nwait; echo OUTPUT OF A\n",
    );
    world.until("a to run", || world.path("own").exists());
    let pids = [world.ok("cat own"), world.ok("cat left")];
    world.tmux(&["kill-pane", "-t", "=pool-11:"]);
    world.submit("b", "echo OUTPUT OF B\n");
    let b = world.result("done/b.md");
    assert!(b.contains("OUTPUT OF B") && !b.contains("OUTPUT OF A"), "{b}");
    assert!(pids.iter().all(|pid| !lives(pid)), "ended before anything else began");
    let a = world.result("failed/a.md");
    assert!(a.contains("lost its pane in the middle of the task"), "{a}");
}

#[test]
fn a_killed_pane_and_a_killed_agent_are_tried_again_alike() {
    let world = shell(1);
    for (name, kill) in [
        ("pane", "tmux -S tmux.sock kill-pane -t =pool-11:"),
        ("agent", "kill -9 $(cat sid)"),
        ("respawn", "tmux -S tmux.sock respawn-pane -k -t =pool-11: sleep 2"),
    ] {
        world.ok("rm -f ran sid");
        world.submit(name, "echo x >> ../ran; read -r _ _ _ _ _ sid _ < /proc/$$/stat; echo $sid > ../sid\n[ $(wc -l < ../ran) = 2 ] || sleep 300\n");
        world.until("it to run", || fs::read_to_string(world.path("sid")).is_ok_and(|sid| !sid.trim().is_empty()));
        world.ok(kill);
        let result = world.result(&format!("done/{name}.md"));
        assert!(result.contains("attempts: 2"), "{result}");
    }
}

/// The program's own end is the task's result; the wrapper's is an agent that died, whoever killed either.
#[test]
fn a_failed_command_tells_how_it_ended_and_its_last_error_and_no_line_of_its_output() {
    let world = shell(1);
    world.submit(
        "status",
        "echo first line; echo early >&2; echo 'boom: it broke' >&2; echo >&2; echo last line; exit 3\n",
    );
    world.submit("silent", "echo first line; exit 4\n");
    world.submit("killed", "echo first line; echo before the end >&2; kill -9 $$\n");
    world.submit("term", "kill -TERM $$\n");
    for (id, error, output) in [
        ("status", "error: 'the command ended with exit status 3: boom: it broke'", "\nfirst line\nlast line\n"),
        ("silent", "error: the command ended with exit status 4\n", "\nfirst line\n"),
        ("killed", "error: 'the command was ended by signal 9 (SIGKILL): before the end'", "\nfirst line\n"),
        ("term", "error: the command was ended by signal 15 (SIGTERM)\n", ""),
    ] {
        let result = world.result(&format!("failed/{id}.md"));
        assert!(result.replace('"', "'").contains(error), "{result}");
        assert!(result.contains(output) && result.contains("attempts: 1"), "{result}");
    }
    world.submit("wrapper", "---\nretries: 0\n---\necho first line; kill -9 $PPID; sleep 300\n");
    let result = world.result("failed/wrapper.md");
    assert!(result.contains("sh ended in the middle of the task (signal 9)"), "{result}");
}

#[test]
fn how_a_task_ends_is_no_failed_start_and_holds_up_nobody() {
    let world = shell(1);
    for n in 0..8 {
        world.submit(&format!("f{n}"), "---\nretries: 0\n---\nexit 3\n");
    }
    world.until("all to fail", || world.ok("ls web/.agent-queue/failed").lines().count() == 8);
    world.submit("good", "echo good; exit 0\n");
    assert!(world.result("done/good.md").contains("good"));
    assert_eq!(world.word("health"), "ok", "{}", world.word("health"));
    world.until_word("sessions/pool-11/state", "idle");
    assert!(!world.word("sessions/pool-11/why").contains("failed"), "{}", world.word("sessions/pool-11/why"));
    let doubled = world.events().matches("could not").count();
    assert_eq!(doubled, 0, "{}", world.events());
    // What can't be started is.
    for n in 0..3 {
        world.submit(&format!("n{n}"), "---\nretries: 0\nagent: none\n---\nx\n");
    }
    world.until("health to say so", || world.word("health").contains("failed to reach its prompt 3 times in a row"));
    let why = world.word("sessions/pool-11/why");
    assert!(why.contains("starts in a row that failed: 3") && why.contains("tried again"), "{why}");
    let failed = fs::read_to_string(world.queue("failed/n0.md")).expect("a result");
    assert!(failed.contains("could not start /no/such/program"), "{failed}");
}

#[test]
fn a_cancelled_command_cleans_up_and_is_cancelled() {
    let world = shell(2);
    let begun = Instant::now();
    for n in 0..6 {
        let name = format!("c{n}");
        world.submit(
            &name,
            &format!("trap 'echo trapped >> ../trapped{n}; exit {n}' TERM\n: > ../up{n}\nsleep 300 & wait\n"),
        );
        world.until("it to run", || world.path(&format!("up{n}")).exists());
        world.ok(&format!("echo cancel > $MNT/tasks/{name}/control"));
        let result = world.result(&format!("failed/{name}.md"));
        assert!(result.contains("status: cancelled") && !result.contains("signal 15"), "{result}");
        assert_eq!(world.ok(&format!("cat trapped{n}")), "trapped\n", "one signal, one trap");
    }
    assert!(begun.elapsed().as_secs() < 55, "no wait for lifecycle.stop_grace (10 s a task)");
    world.submit("late", "---\ntimeout: 1s\n---\ntrap 'exit 0' TERM\nsleep 300 & wait\n");
    let result = world.result("failed/late.md");
    assert!(result.contains("timed out after 1 s"), "{result}");
    world.submit("i", "---\nretries: 0\n---\ntrap 'echo interrupted; exit 4' INT\n: > ../upi\nsleep 300 & wait\n");
    world.until("it to run", || world.path("upi").exists());
    world.until("it to be seen", || world.sh("grep -q working $MNT/sessions/pool-*/state").status.success());
    world.ok("for s in $MNT/sessions/pool-*; do [ $(cat $s/state) != working ] || echo interrupt > $s/control; done");
    assert!(world.result("failed/i.md").contains("interrupted"));
}

#[test]
fn a_pool_session_is_followed_wherever_a_person_puts_it() {
    let world = World::start(&Setup::agents(1));
    world.until_word("sessions/pool-11/state", "idle");
    for (name, touch) in [
        ("renamed", "tmux -S tmux.sock rename-session -t =pool-11 'my work'"),
        ("moved", "tmux -S tmux.sock new-session -d -s other; tmux -S tmux.sock move-window -s =pool-11: -t =other:"),
    ] {
        world.submit(name, "Say words.\n```sh\nsleep 3; echo HI\n```\n");
        world.until_word("sessions/pool-11/state", "working");
        world.ok(touch);
        let result = world.result(&format!("done/{name}.md"));
        assert!(result.contains("HI") && result.contains("attempts: 1"), "{result}");
        let names = || world.tmux(&["list-sessions", "-F", "#{session_name}"]);
        world.until("the next agent to stand in its own place", || names().lines().any(|line| line == "pool-11"));
        world.until_word("sessions/pool-11/state", "idle");
    }
    let panes = world.tmux(&["list-panes", "-a", "-F", "#{@claude_failover}"]);
    assert_eq!(panes.lines().filter(|mark| !mark.is_empty()).count(), 1, "no second agent, no dead pane: {panes}");
}

#[test]
fn a_line_that_somebody_else_writes_into_a_hook_log_is_not_believed() {
    let world = World::start(&Setup::agents(2));
    world.until_word("sessions/pool-11/state", "idle");
    world.submit("a", "```sh\nsleep 4; echo THE WORK\n```\n");
    world.until("it to be taken", || world.events().contains("taken by"));
    let forged = |event: &str, data: &str| {
        for log in ["pool-11", "pool-12"] {
            let program = crate::world::program();
            let hook = program.display();
            world.ok(&format!("echo '{data}' | {hook} hook --log state/hooks/{log}.jsonl --session {log}"));
            world.ok(&format!(
                "echo '{{\"at\":\"'$(date -u +%FT%T.%6NZ)'\",\"event\":\"{event}\",\"data\":{data}}}' >> state/hooks/{log}.jsonl"
            ));
        }
    };
    forged("Stop", r#"{"hook_event_name":"Stop","last_assistant_message":"FORGED"}"#);
    forged("StopFailure", r#"{"hook_event_name":"StopFailure","error":"authentication_failed"}"#);
    let result = world.result("done/a.md");
    assert!(result.contains("THE WORK") && !result.contains("FORGED"), "{result}");
    assert_eq!(world.word("health"), "ok");
    let log = fs::read_to_string(world.path("daemon.log")).expect("a log");
    assert!(log.matches("were not written by the agent that runs there now").count() >= 1, "it is told");
}

#[test]
fn what_a_person_says_to_an_idle_agent_is_no_part_of_the_next_task() {
    let world = World::start(&Setup::agents(1));
    world.until_word("sessions/pool-11/state", "idle");
    let pid = world.word("sessions/pool-11/pid");
    world.ok("echo hello from a person > $MNT/sessions/pool-11/input");
    world.until("it to be known", || world.word("sessions/pool-11/why").contains("somebody spoke with its agent"));
    world.until_word("sessions/pool-11/state", "idle");
    let talk = world.word("sessions/pool-11/resume-id");
    assert_eq!(world.word("sessions/pool-11/pid"), pid, "his talk stands until the session is needed");
    world.submit("a", "work\n");
    let result = world.result("done/a.md");
    assert!(!talk.is_empty() && !result.contains(&talk), "a fresh conversation: {result}");
}
