//! What goes wrong around a daemon: bad tasks, missing directories, full disks, people's hands in the pool.

use std::{fs, process::Command};

use crate::world::{Setup, World};

#[test]
fn an_agent_that_can_t_start_fails_its_task_and_holds_up_nobody_else() {
    let mut setup = Setup::agents(1);
    setup.more_agents = ", nope: {kind: command, run: [/no/such/program]}".into();
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
    let mut world = World::start(&Setup::agents(1));
    world.ok("mkdir web/sub");
    world.submit("a", "---\nworkdir: sub\nretries: 2\n---\nwork\ndemo: slow=2\ndemo: crash\n");
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
    world.ok(r#"python3 - <<'END'
import json,time
s=json.load(open('state/state.json'))
s['runs'][0]['run']['delivery']='begun'
s['runs'][0]['run']['claimed']=time.strftime('%Y-%m-%dT%H:%M:%SZ',time.gmtime(time.time()+1))
json.dump(s,open('state/state.json','w'))
END
sleep 1.2"#);
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
