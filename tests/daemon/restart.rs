//! The daemon dies or is stopped; tasks and agents go on.

use std::fs;

use crate::world::{Setup, World};

fn count(world: &World) -> usize {
    fs::read_to_string(world.path("count")).map_or(0, |text| text.lines().count())
}

#[test]
fn a_running_task_is_adopted_after_kill_9_and_done_once() {
    let mut world = World::start(&Setup::agents(2));
    world.submit("a", "```sh\necho x >> ../count; sleep 3; echo finished\n```\n");
    world.until("the task to begin", || count(&world) == 1);
    let pid = world.word("sessions/pool-11/pid");
    world.kill_daemon();
    // The real directories are usable at once.
    fs::write(world.queue("inbox/b.md"), "while it was dead\n").expect("written");
    world.run();
    let result = world.result("done/a.md");
    assert!(result.contains("finished") && result.contains("attempts: 1"), "{result}");
    world.result("done/b.md");
    assert_eq!(count(&world), 1);
    assert!(!pid.is_empty());
}

#[test]
fn a_task_that_ended_while_no_daemon_ran_is_filed_with_its_message() {
    let mut world = World::start(&Setup::agents(1));
    world.submit("a", "```sh\necho x >> ../count; sleep 1; echo the message\n```\n");
    world.until("the task to begin", || count(&world) == 1);
    world.kill_daemon();
    world.until("the agent to end its turn", || world.ok("cat state/hooks/pool-11.jsonl").contains("\"Stop\""));
    world.run();
    assert!(world.result("done/a.md").contains("the message"));
    assert_eq!(count(&world), 1);
}

#[test]
fn a_task_whose_agent_vanished_meanwhile_is_run_as_often_as_one_whose_agent_died() {
    let mut world = World::start(&Setup::agents(1));
    world.submit("a", "---\nretries: 0\n---\n```sh\necho x >> ../count; sleep 600\n```\n");
    world.until("the task to begin", || count(&world) == 1);
    world.kill_daemon();
    world.tmux(&["kill-server"]);
    world.run();
    let result = world.result("failed/a.md");
    assert!(result.contains("lost its pane in the middle of the task"), "{result}");
    world.submit("b", "and on\n");
    world.result("done/b.md");
    assert_eq!(count(&world), 1);
}

#[test]
fn a_clean_stop_unmounts_and_leaves_the_agents_at_work() {
    let mut world = World::start(&Setup::agents(1));
    world.submit("a", "```sh\necho x >> ../count; sleep 2; echo finished\n```\n");
    world.until("the task to begin", || count(&world) == 1);
    assert_eq!(world.stop_daemon(), Some(0));
    assert_eq!(fs::read_dir(world.path("mnt")).expect("a plain directory").count(), 0);
    assert!(world.tmux(&["list-sessions"]).contains("pool-11"));
    world.run();
    assert!(world.result("done/a.md").contains("finished"));
    assert_eq!(count(&world), 1);
}

#[test]
fn a_second_daemon_refuses_and_names_the_first() {
    let world = World::start(&Setup::agents(1));
    let out = std::process::Command::new(crate::world::program())
        .args(["run", "--config"])
        .arg(world.path("config.yaml"))
        .env("STATE_DIRECTORY", world.path("state"))
        .output()
        .expect("ran");
    let told = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1));
    assert!(told.contains(&world.daemon_pid().to_string()), "{told}");
}

#[test]
fn an_unreadable_state_is_set_aside_and_nothing_runs_again() {
    let mut world = World::start(&Setup::agents(1));
    world.submit("a", "```sh\necho x >> ../count; sleep 600\n```\n");
    world.until("the task to begin", || count(&world) == 1);
    world.kill_daemon();
    fs::write(world.path("state/state.json"), "{ torn").expect("written");
    world.run();
    assert!(world.path("state/state.json.unreadable.1").exists());
    world.until_word("tasks/a/state", "held");
    assert!(world.read("health").expect("health").starts_with("degraded"));
    world.submit("b", "and on\n");
    world.result("done/b.md");
    assert_eq!(count(&world), 1, "the marked task waits for a person");
}

#[test]
fn a_killed_tmux_server_is_survived() {
    let world = World::start(&Setup::agents(2));
    world.until_word("sessions/pool-11/state", "idle");
    world.tmux(&["kill-server"]);
    world.submit("a", "work\n");
    world.result("done/a.md");
}

#[test]
fn kill_9_at_any_moment_leaves_every_task_waiting_adopted_or_finished_once() {
    let mut world = World::start(&Setup::agents(3));
    let mut random = fastrand::Rng::with_seed(7);
    let tasks = 24;
    let mut submitted = 0;
    let mut at_risk = 0;
    for _ in 0..8 {
        for _ in 0..3 {
            submitted += 1;
            let text = format!("```sh\necho {submitted} >> ../ledger; sleep 0.{}\n```\n", random.u32(1..9));
            fs::write(world.queue(&format!("inbox/t{submitted}.md")), text).expect("written");
        }
        std::thread::sleep(std::time::Duration::from_millis(random.u64(50..900)));
        let marked = world.ok("ls web/.agent-queue/inbox").lines().filter(|l| l.ends_with(".working")).count();
        at_risk += marked;
        world.kill_daemon();
        world.run();
    }
    world.until("all tasks to end", || {
        let ended = world.ok("ls web/.agent-queue/done web/.agent-queue/failed");
        ended.lines().filter(|line| line.ends_with(".md")).count() >= tasks && world.inbox_is_empty()
    });
    assert!(at_risk > 0, "nothing was at risk");
    let ledger = fs::read_to_string(world.path("ledger")).expect("a ledger");
    for n in 1..=tasks {
        let runs = ledger.lines().filter(|line| *line == n.to_string()).count();
        let done = world.queue(&format!("done/t{n}.md")).exists();
        let failed = world.queue(&format!("failed/t{n}.md")).exists();
        assert!(done != failed, "t{n} is in exactly one place");
        assert!(runs <= 1, "t{n} ran {runs} times");
        assert!(!done || runs == 1, "t{n} is done without having run");
    }
}

#[test]
fn a_service_manager_is_told_when_everything_answers() {
    let mut world = World::prepare(&Setup::agents(1));
    let socket = world.path("notify.sock");
    let listener = std::os::unix::net::UnixDatagram::bind(&socket).expect("bound");
    listener.set_read_timeout(Some(crate::world::PATIENCE)).expect("set");
    world.notify = Some(socket);
    world.run();
    let mut told = [0; 64];
    let n = listener.recv(&mut told).expect("a word of the daemon");
    assert!(told[..n].starts_with(b"READY=1"), "{:?}", String::from_utf8_lossy(&told[..n]));
}

#[test]
fn an_unmounted_mount_does_not_stop_the_work() {
    let world = World::start(&Setup::agents(1));
    let out = world.sh(&format!("{} unmount --mount $MNT", crate::world::program().display()));
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    fs::write(world.queue("inbox/a.md"), "still\n").expect("written");
    world.result("done/a.md");
}
