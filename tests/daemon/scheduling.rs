//! Scheduler settings: the daemon and its tmux server get short slices, agents may be niced.

use std::fs;

use crate::world::{Setup, World};

/// The slice of each thread of a process, in nanoseconds, where the kernel shows it.
fn slices(pid: &str) -> Option<Vec<u64>> {
    let threads = fs::read_dir(format!("/proc/{}/task", pid.trim())).ok()?;
    let of = |text: String| {
        let line = text.lines().find(|line| line.starts_with("se.slice"))?.to_owned();
        line.rsplit(' ').next()?.parse().ok()
    };
    threads.map(|thread| of(fs::read_to_string(thread.ok()?.path().join("sched")).ok()?)).collect()
}

#[test]
fn the_daemon_and_its_terminal_are_chosen_soon_and_agents_stand_back() {
    let mut setup = Setup::agents(1);
    setup.more_agents = ", sh: {kind: command, run: [bash]}".into();
    setup.agent = "sh, nice: 7".into();
    let world = World::start(&setup);
    world.submit("a", "nice > ../nice; echo $$ > ../pid; while [ ! -e ../go ]; do sleep 0.1; done\n");
    world.until("the task to run", || world.path("pid").exists());
    let agent = fs::read_to_string(world.path("pid")).expect("a pid");
    assert_eq!(world.ok("cat nice"), "7\n");
    let daemon = world.daemon_pid().to_string();
    let server = world.tmux(&["display-message", "-p", "#{pid}"]);
    if let Some(seen) = slices(&daemon).filter(|seen| !seen.is_empty()) {
        if seen.contains(&100_000) {
            assert_eq!(seen, vec![100_000; seen.len()], "every thread of the daemon");
            assert_eq!(slices(&server), Some(vec![100_000]), "the terminal server");
            let agents = slices(&agent).unwrap_or_default();
            assert!(agents.iter().all(|slice| *slice > 100_000), "an agent: {agents:?}");
        } else {
            println!("skipped: this kernel takes no slices");
        }
    }
    fs::write(world.path("go"), "").expect("written");
    world.result("done/a.md");
}
