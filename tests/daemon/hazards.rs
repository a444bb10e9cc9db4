//! Faults around a daemon: invalid tasks, missing directories, full disks, people interfering with the pool.

use std::{fs, process::Command};

use crate::world::{CRASH, Setup, World};

#[test]
fn an_agent_that_can_t_start_fails_its_task_and_holds_up_nobody_else() {
    let mut setup = Setup::agents(1);
    setup.more_agents = ", nope: {kind: command, run: [/no/such/program], tasks: anyone}".into();
    let world = World::start(&setup);
    world.submit("bad", "---\nagent: nope\npriority: 9\n---\nnever begins\n");
    world.submit("good", "say it\n");
    world.result("done/good.md");
    let result = world.result("failed/bad.md");
    assert!(result.contains("/no/such/program"), "{result}");
}

#[test]
fn a_missing_workdir_rejects_its_task_until_it_is_there_and_holds_up_nobody_else() {
    let world = World::start(&Setup::agents(1));
    world.submit("bad", "---\nworkdir: not/there\npriority: 9\n---\nfirst its directory\n");
    world.submit("good", "say it\n");
    world.result("done/good.md");
    assert!(world.result("inbox/bad.md.rejected").contains("not/there"));
    world.ok("mkdir -p web/not/there");
    world.result("done/bad.md");
}

#[test]
fn what_a_task_asks_for_outlives_a_restart() {
    let mut world = World::start(&Setup::agents(3));
    world.ok("mkdir web/sub");
    world.submit("a", &format!("---\nworkdir: sub\nretries: 2\n---\nwork\ndemo: slow=2\n{CRASH}"));
    world.until_word("tasks/a/state", "working");
    world.until("the agent to have it", || world.events().contains("taken by"));
    world.kill_daemon();
    world.run();
    let result = world.result("failed/a.md");
    assert!(result.contains("attempts: 3"), "{result}");
    let sub = world.path("web/sub").display().to_string();
    let transcripts = world.ok("cat home/projects/*/*.jsonl");
    assert!(transcripts.contains(&format!("\"cwd\":\"{sub}\"")), "{transcripts}");
}

#[test]
fn a_refused_second_daemon_touches_nothing_of_the_first() {
    let world = World::start(&Setup::agents(1));
    let log = world.path("state/events.jsonl");
    let filler = "x".repeat(1023) + "\n";
    let mut text = fs::read_to_string(&log).expect("log");
    text.push_str(&filler.repeat(17 * 1024));
    fs::write(&log, &text).expect("written");
    let unfinished = world.path("state/.claude-failover-1-1");
    fs::write(&unfinished, "being written").expect("written");
    let out = Command::new(crate::world::program())
        .args(["run", "--config"])
        .arg(world.path("config.yaml"))
        .env("STATE_DIRECTORY", world.path("state"))
        .output()
        .expect("ran");
    assert_eq!(out.status.code(), Some(1));
    assert!(!world.path("state/events.1.jsonl").exists(), "its log was taken away");
    assert!(unfinished.exists(), "its unfinished file was removed");
}

#[test]
fn a_name_that_is_no_file_can_be_cancelled_and_leaves_no_trouble() {
    let world = World::start(&Setup::agents(1));
    world.ok(
        "ln -s /etc/hostname $MNT/inbox/l.md; mkfifo web/.agent-queue/inbox/f.md; mkdir web/.agent-queue/inbox/d.md",
    );
    for name in ["l", "f", "d"] {
        world.until_word(&format!("tasks/{name}/state"), "rejected");
        world.sh(&format!("echo cancel > $MNT/tasks/{name}/control"));
    }
    world.submit("z", "last\n");
    world.result("done/z.md");
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert_eq!(world.word("health"), "ok");
}

#[test]
fn a_person_s_half_typed_text_is_not_sent_after_a_crash() {
    let mut world = World::start(&Setup::agents(1));
    world.submit("a", "---\nretries: 0\n---\nthe task\ndemo: slow=600\n");
    world.until("the agent to have it", || world.events().contains("taken by"));
    world.kill_daemon();
    world.tmux(&["send-keys", "-t", "=pool-11:", "Escape"]);
    world.until("the turn to end", || {
        !world.tmux(&["capture-pane", "-p", "-t", "=pool-11:"]).contains("esc to interrupt")
    });
    world.tmux(&["send-keys", "-t", "=pool-11:", "-l", "a person writes this"]);
    // As a daemon leaves it that ends between saying that it types and typing.
    let mut state = world.state();
    let run = &mut state["tasks"]["web:a"]["work"]["run"];
    let later = (jiff::Timestamp::now() + jiff::SignedDuration::from_secs(1)).to_string();
    run["delivery"] = "begun".into();
    run["claimed"] = later.clone().into();
    run["typed"] = later.into();
    world.save_state(&state);
    std::thread::sleep(std::time::Duration::from_millis(1200));
    world.run();
    world.until("an end", || world.queue("done/a.md").exists() || world.queue("failed/a.md").exists());
    let said = world.ok("cat home/projects/*/*.jsonl || true");
    assert!(!said.contains("a person writes this"), "{said}");
}

#[test]
fn nothing_secret_is_readable_by_others_or_in_a_pane() {
    let world = World::start(&Setup::agents(1));
    world.submit("a", "the secret text of a task\ndemo: slow=600\n");
    world.until("the agent to have it", || world.events().contains("taken by"));
    let open = world.ok("find state tmux.sock web/.agent-queue/inbox/*.working -perm /077");
    assert_eq!(open, "");
    let pid = world.word("sessions/pool-11/pid");
    let server = world.tmux(&["display-message", "-p", "#{pid}"]);
    for pid in [pid.as_str(), server.trim()] {
        let environment = fs::read(format!("/proc/{pid}/environ")).expect("readable");
        assert!(!String::from_utf8_lossy(&environment).contains("FAKE_API_KEY"), "{pid}");
    }
    let ps = world.ok("ps axww -o args");
    let telling: Vec<&str> =
        ps.lines().filter(|l| l.contains("the secret text") || l.contains("a-secret-of")).collect();
    assert!(telling.is_empty(), "{telling:?}");
}

#[test]
fn a_split_a_renamed_and_a_killed_session_lose_no_task() {
    let world = World::start(&Setup::agents(3));
    for n in 11..14 {
        world.until_word(&format!("sessions/pool-{n}/state"), "idle");
    }
    world.tmux(&["split-window", "-t", "=pool-11:", "sh"]);
    world.tmux(&["rename-session", "-t", "=pool-12", "mine"]);
    world.tmux(&["kill-session", "-t", "=pool-13"]);
    for n in 0..6 {
        world.submit(&format!("t{n}"), &format!("```sh\necho {n} >> ../ran\n```\n"));
    }
    for n in 0..6 {
        world.result(&format!("done/t{n}.md"));
    }
    let mut ran: Vec<String> = world.ok("cat ran").lines().map(str::to_owned).collect();
    ran.sort();
    assert_eq!(ran, ["0", "1", "2", "3", "4", "5"]);
}

#[test]
fn a_stopped_tmux_server_delays_and_nothing_more() {
    let world = World::start(&Setup::agents(2));
    let pid = world.tmux(&["display-message", "-p", "#{pid}"]).trim().to_owned();
    world.ok(&format!("kill -STOP {pid}"));
    for n in 0..4 {
        world.submit(&format!("t{n}"), &format!("```sh\necho {n} >> ../ran\n```\n"));
    }
    std::thread::sleep(std::time::Duration::from_secs(8));
    assert!(world.read("status").is_ok(), "the mount answers");
    world.ok(&format!("kill -CONT {pid}"));
    for n in 0..4 {
        world.result(&format!("done/t{n}.md"));
    }
    assert_eq!(world.ok("sort ran"), "0\n1\n2\n3\n");
}

/// A small file system of its own over a directory; `false` where that isn't allowed.
fn small_disk(dir: &std::path::Path) -> bool {
    let flags = nix::mount::MsFlags::empty();
    nix::mount::mount(Some("tmpfs"), dir, Some("tmpfs"), flags, Some("size=512k,mode=700")).is_ok()
}

#[test]
fn a_full_state_disk_begins_nothing_and_loses_nothing() {
    let mut world = World::prepare(&Setup::agents(2));
    fs::create_dir(world.path("state")).expect("made");
    if !small_disk(&world.path("state")) {
        return;
    }
    world.run();
    for n in 0..2 {
        world.submit(&format!("w{n}"), &format!("```sh\necho w{n} >> ../ran; sleep 2\n```\n"));
    }
    world.until("both to run", || fs::read_to_string(world.path("ran")).is_ok_and(|t| t.lines().count() == 2));
    world.sh("cat /dev/zero > state/filler");
    world.submit("late", "```sh\necho late >> ../ran\n```\n");
    world.until("it to be told", || world.word("health").contains("can't be written"));
    std::thread::sleep(std::time::Duration::from_secs(4));
    assert!(!world.ok("cat ran").contains("late"));
    world.ok("rm state/filler");
    for name in ["w0", "w1", "late"] {
        world.result(&format!("done/{name}.md"));
    }
    world.until("all to be right again", || world.word("health") == "ok");
    assert_eq!(world.ok("sort ran"), "late\nw0\nw1\n");
    world.stop_daemon();
    crate::world::detach(&world.path("state"));
}

#[test]
fn a_full_queue_disk_loses_nothing() {
    let mut world = World::prepare(&Setup::agents(2));
    if !small_disk(&world.path("web")) {
        return;
    }
    world.run();
    for n in 0..2 {
        world.submit(&format!("w{n}"), &format!("```sh\necho w{n} >> {}; sleep 1\n```\n", world.path("ran").display()));
    }
    world.until("both to run", || fs::read_to_string(world.path("ran")).is_ok_and(|t| t.lines().count() == 2));
    world.ok(&format!("echo '```sh\necho late >> {}\n```' > $MNT/inbox/late.md", world.path("ran").display()));
    world.sh("cat /dev/zero > web/filler");
    world.until("it to be told", || world.word("health").contains("can't be written"));
    assert!(!world.sh("echo 'a task that does not fit' > $MNT/inbox/more.md").status.success(), "told where it stands");
    world.ok("rm web/filler");
    for name in ["w0", "w1", "late"] {
        world.result(&format!("done/{name}.md"));
    }
    world.until("all to be right again", || world.word("health") == "ok");
    assert_eq!(world.ok("sort ran"), "late\nw0\nw1\n");
    world.stop_daemon();
    crate::world::detach(&world.path("web"));
}

#[test]
fn two_daemons_on_one_project_run_each_task_once() {
    let one = World::start(&Setup::agents(2));
    let mut two = World::prepare(&Setup::agents(2));
    let config = fs::read_to_string(two.path("config.yaml")).expect("config");
    let web = two.path("web").display().to_string();
    fs::write(two.path("config.yaml"), config.replace(&web, &one.path("web").display().to_string())).expect("written");
    two.run();
    for n in 0..20 {
        one.submit(&format!("t{n}"), &format!("```sh\necho {n} >> ../ran\n```\n"));
    }
    for n in 0..20 {
        one.result(&format!("done/t{n}.md"));
    }
    let ran = one.ok("sort -n ran");
    let all: String = (0..20).map(|n| format!("{n}\n")).collect();
    assert_eq!(ran, all);
    one.until("the inbox to be empty", || one.inbox_is_empty());
}

#[test]
fn a_tmux_server_killed_again_and_again_runs_nothing_twice() {
    let world = World::start(&Setup::agents(2));
    let mut random = fastrand::Rng::with_seed(11);
    for n in 0..8 {
        world.submit(&format!("t{n}"), &format!("---\nretries: 0\n---\n```sh\necho {n} >> ../ran\n```\n"));
    }
    for _ in 0..8 {
        std::thread::sleep(std::time::Duration::from_millis(random.u64(20..400)));
        world.tmux(&["kill-server"]);
    }
    for n in 0..8 {
        let ended = |dir: &str| world.queue(&format!("{dir}/t{n}.md")).exists();
        world.until(&format!("an end of t{n}"), || ended("done") || ended("failed"));
        assert!(ended("done") != ended("failed"));
    }
    let ran = world.sh("sort ran | uniq -d");
    assert!(ran.stdout.is_empty(), "{}", String::from_utf8_lossy(&ran.stdout));
}

#[test]
fn a_queue_moved_away_under_the_mount_is_served_in_its_place() {
    let world = World::start(&Setup::agents(1));
    world.ok("mv web/.agent-queue web/old; echo rescan > $MNT/control");
    world.until("the queue to be made again", || world.queue("inbox").exists() && world.queue("done").exists());
    world.ok("echo task > web/.agent-queue/inbox/a.md; echo rescan > $MNT/control");
    world.result("done/a.md");
    world.until("the mount to show it", || world.read("done/a.md").is_ok());
}

#[test]
fn a_task_in_a_session_that_became_a_person_s_comes_to_an_end() {
    let mut world = World::start(&Setup::agents(1));
    world.submit("a", "```sh\necho x >> ../count; sleep 600\n```\n");
    world.until("the task to begin", || world.path("count").exists());
    let pid = world.word("sessions/pool-11/pid");
    world.kill_daemon();
    let config = fs::read_to_string(world.path("config.yaml")).expect("config");
    let dedicated = format!("pool:\n  dedicated: [{{name: pool-11, workdir: {}}}]", world.path("web").display());
    let config = config.replace("pool:", &dedicated).replace("start_index: 11", "start_index: 12");
    fs::write(world.path("config.yaml"), config).expect("written");
    world.run();
    assert!(world.result("failed/a.md").contains("not run again"));
    world.submit("b", "and on\n");
    world.result("done/b.md");
    assert_eq!(world.word("sessions/pool-11/state"), "dedicated");
    assert!(world.path(&format!("/proc/{pid}")).exists(), "the person's program was ended");
}
