//! Ending programs: the whole tree, and nothing else.

use std::time::{Duration, Instant};

use claude_failover::{
    model::pane::{Background, Exit, Launch, TerminalHint},
    ports::Terminal,
};

use crate::world::{World, alive, eventually, file, pane, session, sh};

const GRACE: Duration = Duration::from_millis(300);

async fn pids(path: &std::path::Path, count: usize) -> Vec<u32> {
    eventually("all told their pids", || async {
        let pids: Vec<u32> = std::fs::read_to_string(path).ok()?.lines().filter_map(|l| l.parse().ok()).collect();
        (pids.len() == count).then_some(pids)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_whole_tree_ends_and_neighbours_live() {
    let world = World::new();
    let tmux = world.connect().await;
    let out = world.path("pids");
    // Leader, child, grandchild in its own session, an orphan; all deaf to TERM and HUP.
    let script = format!(
        "trap '' TERM HUP; me() {{ echo $1 >> {o}; }}; me $$; \
         (trap '' TERM HUP; sh -c 'echo $$ >> {o}; exec sleep 1000' & wait) & \
         setsid sh -c 'trap \"\" TERM HUP; echo $$ >> {o}; while :; do sleep 1; done' & \
         (sh -c 'trap \"\" TERM HUP; echo $$ >> {o}; while :; do sleep 1; done' &) ; \
         while :; do sleep 1; done",
        o = out.display()
    );
    let opened = tmux.open(&sh("a", &script)).await.expect("a");
    let neighbour = tmux.open(&sh("b", "exec sleep 1000")).await.expect("b");
    let mut outside = std::process::Command::new("sleep").arg("1000").spawn().expect("a stranger");
    let tree = pids(&out, 4).await;
    assert!(tree.iter().all(|pid| alive(*pid)));
    tmux.terminate(&opened.id, GRACE, Background::Ends).await.expect("ending");
    assert_eq!(tree.iter().filter(|pid| alive(**pid)).count(), 0);
    assert_eq!(pane(&tmux, "a").await.expect("the pane stays").exit, Some(Exit::Signal(9)));
    assert!(alive(neighbour.pid) && outside.try_wait().expect("the stranger").is_none());
    outside.kill().expect("ending the stranger");
    outside.wait().expect("the stranger");
    tmux.terminate(&opened.id, GRACE, Background::Ends).await.expect("a dead pane is success");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_heeds_term_is_not_killed_and_not_waited_for() {
    let world = World::new();
    let tmux = world.connect().await;
    let out = world.path("out");
    let script = format!(
        "trap 'echo bye > {0}; exit 7' TERM; echo ready > {0}.ready; while :; do sleep 0.05; done",
        out.display()
    );
    let opened = tmux.open(&sh("a", &script)).await.expect("opening");
    file(&out.with_extension("ready")).await;
    let begun = Instant::now();
    tmux.terminate(&opened.id, Duration::from_secs(30), Background::Ends).await.expect("ending");
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(file(&out).await, "bye\n");
    assert_eq!(pane(&tmux, "a").await.expect("the pane").exit, Some(Exit::Status(7)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_program_left_behind_ends_too() {
    let world = World::new();
    let tmux = world.connect().await;
    let out = world.path("pids");
    let script = format!(
        "(trap '' HUP; sh -c 'echo $$ >> {0}; exec sleep 1000' &) ; while ! [ -s {0} ]; do sleep 0.01; done; exit 0",
        out.display()
    );
    let opened = tmux.open(&sh("a", &script)).await.expect("opening");
    let left = pids(&out, 1).await;
    eventually("the program ended", || async { pane(&tmux, "a").await.filter(|p| p.exit.is_some()) }).await;
    assert!(alive(left[0]));
    tmux.terminate(&opened.id, GRACE, Background::Ends).await.expect("ending");
    assert!(!alive(left[0]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_in_the_background_stays_when_it_may() {
    let world = World::new();
    let tmux = world.connect().await;
    let out = world.path("pids");
    let script = format!(
        "sleep 1000 & echo $! >> {0}; setsid sh -c 'echo $$ >> {0}; exec sleep 1000' & \
         while [ $(wc -l < {0}) != 2 ]; do sleep 0.01; done; set -m; sleep 1000 & echo $! >> {0}; wait",
        out.display()
    );
    let opened = tmux.open(&sh("a", &script)).await.expect("opening");
    let left = pids(&out, 3).await;
    tmux.terminate(&opened.id, GRACE, Background::Stays).await.expect("ending");
    assert!(pane(&tmux, "a").await.expect("the pane").exit.is_some());
    let alive: Vec<bool> = left.iter().map(|pid| alive(*pid)).collect();
    assert_eq!(alive, [false, true, true], "what shares the program's own process group is the program");
    let again = tmux.open(&sh("a", "exec sleep 1000")).await.expect("its pane is free");
    tmux.terminate(&again.id, GRACE, Background::Ends).await.expect("ending");
    for pid in &left[1..] {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.cast_signed()), nix::sys::signal::Signal::SIGKILL)
            .expect("it lives on");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_is_hinted_at_once() {
    let world = World::new();
    let tmux = world.connect().await;
    let opened = tmux.open(&sh("a", "exec sleep 1000")).await.expect("opening");
    // Hints of the opening itself.
    let mut hints = tmux.hints();
    while tokio::time::timeout(Duration::from_millis(200), hints.recv()).await.is_ok() {}
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(opened.pid.cast_signed()), nix::sys::signal::Signal::SIGKILL)
        .expect("kill");
    let hint = tokio::time::timeout(Duration::from_secs(5), hints.recv()).await.expect("a hint").expect("a hint");
    assert_eq!(hint, TerminalHint::Panes);
    assert_eq!(pane(&tmux, "a").await.expect("the pane").exit, Some(Exit::Signal(9)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_s_pane_is_kept_for_the_next_program_and_goes_with_it() {
    let world = World::new();
    let tmux = world.connect().await;
    let of_person = |incarnation: &str| Launch {
        incarnation: incarnation.into(),
        keep_dead: false,
        ..sh("mine", "exec sleep 1000")
    };
    let first = tmux.open(&of_person("i1")).await.expect("opening");
    let mut client = world.operator(&["-C", "attach", "-t", "=mine"]);
    let mut client =
        client.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null()).spawn().expect("tmux");
    let attached = || async { pane(&tmux, "mine").await.filter(|pane| pane.attached == 1) };
    eventually("the client", attached).await;
    world.says(&["resize-window", "-t", "=mine:", "-x", "77", "-y", "22"]);

    tmux.keep(&first.id).await.expect("keeping");
    tmux.terminate(&first.id, GRACE, Background::Ends).await.expect("ending");
    let dead = attached().await.expect("the pane and the client stay");
    assert!(dead.exit.is_some() && dead.id == first.id);
    let second = tmux.open(&of_person("i2")).await.expect("opening in place");
    assert_ne!(second.pid, first.pid);
    attached().await.expect("the client stays");
    assert_eq!(world.says(&["display-message", "-p", "-t", "=mine:", "#{window_width}x#{window_height}"]), "77x22");

    // From now on the session goes with its program again.
    tmux.terminate(&second.id, GRACE, Background::Ends).await.expect("ending");
    eventually("the session is gone", || async { pane(&tmux, "mine").await.is_none().then_some(()) }).await;
    client.kill().expect("ending the client");
    client.wait().expect("the client");
    tmux.keep(&second.id).await.expect("a pane that is gone is success");
    tmux.close(&session("mine")).await.expect("so is a session");
}
