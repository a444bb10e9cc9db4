//! The daemon crashes or is stopped; tasks and agents continue.

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
fn a_record_that_was_not_written_whole_is_cut_off_and_told() {
    let mut world = World::start(&Setup::agents(1));
    world.submit("a", "```sh\necho x >> ../count; sleep 3; echo finished\n```\n");
    world.until("the agent to have it", || world.events().contains("taken by"));
    world.kill_daemon();
    let journal = world.path("state/state.journal");
    let mut bytes = fs::read(&journal).expect("a journal");
    bytes.extend_from_slice(b"00000200 0badcafe {\"seq\":");
    fs::write(&journal, bytes).expect("written");
    world.run();
    assert!(world.events().contains("was not written whole"), "{}", world.events());
    assert!(world.result("done/a.md").contains("attempts: 1"));
    assert_eq!((count(&world), world.word("health")), (1, "ok".to_owned()));
}

#[test]
fn a_damaged_journal_is_set_aside_what_people_said_stays_and_nothing_runs_again() {
    let mut world = World::start(&Setup::agents(1));
    world.ok("echo later > $MNT/drafts/b.md; echo pause > $MNT/control; mv $MNT/drafts/b.md $MNT/inbox/");
    world.ok("until echo hold > $MNT/tasks/b/control; do sleep 0.1; done; echo resume > $MNT/control");
    world.stop_daemon();
    world.run();
    world.submit("a", "```sh\necho x >> ../count; sleep 600\n```\n");
    world.until("the task to begin", || count(&world) == 1);
    world.kill_daemon();
    let journal = world.path("state/state.journal");
    let mut bytes = fs::read(&journal).expect("a journal");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(&journal, &bytes).expect("written");
    world.run();
    assert_eq!(fs::read(world.path("state/state.journal.unreadable.1")).expect("kept"), bytes);
    assert!(world.path("state/state.json.unreadable.1").exists());
    world.until_word("tasks/a/state", "held");
    world.until_word("tasks/b/state", "held");
    let health = world.read("health").expect("health");
    assert!(health.starts_with("degraded") && health.contains("the journal is damaged"), "{health}");
    world.submit("c", "and on\n");
    world.result("done/c.md");
    assert_eq!(count(&world), 1, "the marked task waits for a person");
}

#[test]
fn the_saved_state_is_shown_backed_up_beside_the_daemon_and_restored_without_it() {
    let mut world = World::start(&Setup::agents(1));
    let program = crate::world::program().display().to_string();
    world.ok("echo pause > $MNT/control; echo later > $MNT/inbox/b.md");
    world.ok("until echo hold > $MNT/tasks/b/control; do sleep 0.1; done; echo resume > $MNT/control");
    world.submit("a", "```sh\necho x >> ../count; sleep 600\n```\n");
    world.until("the task to begin", || count(&world) == 1);

    let shown = world.ok(&format!("{program} state"));
    let lines: Vec<serde_json::Value> =
        shown.lines().map(|line| serde_json::from_str(line).expect("JSON lines")).collect();
    assert!(lines[0]["supervisor"].is_string() && lines.len() > 3, "{shown}");
    let numbers: Vec<u64> = lines.iter().filter_map(|line| line.get("seq").or(line.get("journal"))?.as_u64()).collect();
    assert!(numbers.windows(2).all(|two| two[0] + 1 == two[1]) && numbers.len() == lines.len(), "{numbers:?}");

    world.ok(&format!("{program} state --backup backup.json; test $(stat -c %a backup.json) = 600"));
    assert!(!world.sh(&format!("{program} state --backup backup.json")).status.success(), "never over another");
    let refused = world.sh(&format!("{program} state --restore backup.json"));
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && told.contains(&world.daemon_pid().to_string()), "{told}");

    world.kill_daemon();
    world.ok("echo '{' > torn.json");
    assert!(!world.sh(&format!("{program} state --restore torn.json")).status.success());
    let before = fs::read(world.path("state/state.journal")).expect("a journal");
    world.ok(&format!("{program} state --restore backup.json"));
    assert_eq!(fs::read(world.path("state/state.journal.replaced.1")).expect("kept"), before);
    world.run();
    world.until_word("tasks/a/state", "held");
    world.until_word("tasks/b/state", "held");
    assert_eq!(world.word("health"), "ok");
    world.submit("c", "and on\n");
    world.result("done/c.md");
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
