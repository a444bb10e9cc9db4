//! Processes that agents leave running: ended with them, or kept and listed.

use std::{fs, path::Path};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::world::{Setup, World};

/// Of both kinds: an agent that is given its task, and a command that is its task.
const AGENTS: [&str; 2] = ["demo", "sh"];

fn setup(leave: bool) -> Setup {
    let mut setup = Setup::agents(1).more(&format!("watcher: {{leave_background: {leave}}}"));
    setup.more_agents = ", sh: {kind: command, run: [bash], tasks: anyone}".into();
    setup
}

/// Has an agent run a script, which writes pids into `pids`, until the task is done.
fn run(world: &World, agent: &str, name: &str, script: &str) -> Vec<i32> {
    world.ok("rm -f pids");
    let text = if agent == "sh" { script.to_owned() } else { format!("```sh\n{script}\n```") };
    world.submit(name, &format!("---\nagent: {agent}\n---\n{text}\n"));
    world.result(&format!("done/{name}.md"));
    world.ok("cat pids").lines().map(|pid| pid.parse().expect("a pid")).collect()
}

fn lives(pid: i32) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, after)| !after.starts_with('Z'))
}

fn line(world: &World, pid: i32) -> Option<String> {
    let text = world.read("leftovers").expect("leftovers");
    text.lines().find(|line| line.split_whitespace().next() == Some(&pid.to_string())).map(str::to_owned)
}

fn end(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("it lives");
}

/// One in the background, one behind `nohup`; both stay in the terminal's session.
const STAYS: &str =
    "sleep 301 >/dev/null 2>&1 & echo $! >> ../pids; nohup sleep 302 >/dev/null 2>&1 & echo $! >> ../pids";

/// A session of its own, and one whose parent has ended besides.
const DETACHES: &str = "setsid --fork bash -c 'echo $$ >> ../pids; exec sleep 303' >/dev/null 2>&1 </dev/null
(setsid bash -c 'echo $$ >> ../pids; sleep 304' >/dev/null 2>&1 </dev/null &)
until [ $(wc -l < ../pids) = 2 ]; do sleep 0.05; done";

#[test]
fn what_a_task_leaves_in_the_background_ends_with_its_agent() {
    let world = World::start(&setup(false));
    for agent in AGENTS {
        let pids = run(&world, agent, agent, STAYS);
        assert_eq!(pids.len(), 2);
        world.until("both to end", || !pids.iter().any(|pid| lives(*pid)));
    }
    assert_eq!(world.read("leftovers").expect("leftovers"), "");
}

#[test]
fn what_may_stay_stays_is_listed_and_goes_from_the_list_by_itself() {
    let world = World::start(&setup(true));
    for agent in AGENTS {
        let pids = run(&world, agent, agent, STAYS);
        world.until("both to be listed", || pids.iter().all(|pid| line(&world, *pid).is_some()));
        for (pid, command) in pids.iter().zip(["sleep 301", "sleep 302"]) {
            let line = line(&world, *pid).expect("a line");
            let words: Vec<&str> = line.split_whitespace().collect();
            assert!(words[2].starts_with("pool-1") && words[3] == agent && words[4..].join(" ") == command, "{line}");
            assert!(world.events().contains(&format!("{command} (pid {pid}, of task web:{agent})")));
        }
        assert!(world.word("status").contains("LEFT RUNNING 2"), "{}", world.word("status"));
        end(pids[0]);
        world.until("it to go from the list", || line(&world, pids[0]).is_none());
        assert!(line(&world, pids[1]).is_some() && lives(pids[1]));
        end(pids[1]);
        world.until("the list to be empty", || world.read("leftovers").is_ok_and(|text| text.is_empty()));
    }
    // Of what is stopped in its middle nothing stays.
    for agent in AGENTS {
        world.ok("rm -f pids");
        let script = format!("{STAYS}\nsleep 300");
        let text = if agent == "sh" { script } else { format!("```sh\n{script}\n```") };
        world.submit("cancelled", &format!("---\nagent: {agent}\n---\n{text}\n"));
        world.until("it to run", || world.sh("[ $(wc -l < pids) = 2 ]").status.success());
        world.ok("echo cancel > $MNT/tasks/cancelled/control");
        world.result("failed/cancelled.md");
        let pids = world.ok("rm web/.agent-queue/failed/cancelled.md; cat pids");
        world.until("both to end", || !pids.lines().any(|pid| lives(pid.parse().expect("a pid"))));
    }
}

#[test]
fn what_has_detached_itself_is_named_and_not_ended_also_after_a_restart() {
    let mut world = World::start(&setup(false));
    let mut all = Vec::new();
    for agent in AGENTS {
        let pids = run(&world, agent, agent, DETACHES);
        world.until("both to be listed", || pids.iter().all(|pid| line(&world, *pid).is_some()));
        all.extend(pids.into_iter().map(|pid| (pid, agent)));
    }
    let before = world.read("leftovers").expect("leftovers");
    world.kill_daemon();
    end(all[0].0);
    world.run();
    world.until("the three to be listed", || all[1..].iter().all(|(pid, _)| line(&world, *pid).is_some()));
    assert!(line(&world, all[0].0).is_none());
    for (pid, agent) in &all[1..] {
        let line = line(&world, *pid).expect("a line");
        assert!(lives(*pid) && line.split_whitespace().nth(3) == Some(agent), "{line}\n{before}");
    }
    assert_eq!(world.events().matches("what it left still runs").count(), 4, "each is told once");
    for (pid, _) in &all[1..] {
        end(*pid);
    }
    world.until("the list to be empty", || world.read("leftovers").is_ok_and(|text| text.is_empty()));
}
