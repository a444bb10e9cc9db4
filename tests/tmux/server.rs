//! The tmux server's lifecycle and ownership.

use std::time::{Duration, Instant};

use claude_failover::{
    model::pane::{Background, Capture, Key, TerminalError, TerminalHint},
    ports::Terminal,
    sys::tmux::{KEEPER, Tmux, TmuxOptions},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::world::{World, alive, eventually, pane, screen, sh, tmux_id};

fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.cast_signed()), signal).expect("kill");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_keeper_is_there_and_not_shown() {
    let world = World::new();
    let tmux = world.connect().await;
    assert_eq!(tmux.panes().await.expect("panes"), []);
    assert_eq!(world.says(&["list-sessions", "-F", "#{session_name}"]), KEEPER);
    let pid: u32 = world.says(&["display-message", "-p", "#{pid}"]).parse().expect("a pid");
    assert_eq!(tmux.server_pid(), Some(pid));
    let directory = std::fs::metadata(world.path("run")).expect("the directory");
    let socket = std::fs::metadata(world.socket()).expect("the socket");
    use std::os::unix::fs::PermissionsExt;
    assert_eq!((directory.permissions().mode() & 0o777, socket.permissions().mode() & 0o077), (0o700, 0));
    // A stranger's session is shown, without an incarnation.
    world.says(&["new-session", "-d", "-s", "theirs", "sleep", "1000"]);
    let theirs = pane(&tmux, "theirs").await.expect("theirs");
    assert_eq!((theirs.incarnation, theirs.attached), (None, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_outlive_the_daemon_and_are_found_again() {
    let world = World::new();
    let tmux = world.connect().await;
    let opened = tmux.open(&sh("a", "exec sleep 1000")).await.expect("opening");
    let (server, client) = (tmux.server_pid(), tmux.client_pid().expect("a client"));
    let begun = Instant::now();
    tmux.shutdown().await;
    assert!(begun.elapsed() < Duration::from_millis(1_500), "the client had to be killed");
    eventually("our client left", || async { (!alive(client)).then_some(()) }).await;
    assert_eq!(world.says(&["list-clients"]), "");
    assert!(matches!(tmux.panes().await, Err(TerminalError::Down { .. })));
    let again = world.connect().await;
    assert_eq!(again.server_pid(), server);
    let found = pane(&again, "a").await.expect("the session");
    assert_eq!((found.id, found.pid, found.incarnation), (opened.id, opened.pid, Some("inc-a".into())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_terminal_leaves_no_client() {
    let world = World::new();
    let tmux = world.connect().await;
    let client = tmux.client_pid().expect("a client");
    drop(tmux);
    eventually("our client left", || async { (!alive(client)).then_some(()) }).await;
    eventually("the server knows", || async { world.says(&["list-clients"]).is_empty().then_some(()) }).await;
}

async fn comes_back_empty(how: Signal) {
    let world = World::new();
    let tmux = world.connect().await;
    let opened = tmux.open(&sh("a", "exec sleep 1000")).await.expect("opening");
    let mut hints = tmux.hints();
    let server = tmux.server_pid().expect("a server");
    signal(server, how);
    let hinted = async { while hints.recv().await.expect("a hint") != TerminalHint::Server {} };
    tokio::time::timeout(Duration::from_secs(10), hinted).await.expect("a hint of the server");
    let panes = eventually("connected again", || async { tmux.panes().await.ok() }).await;
    assert_eq!(panes, []);
    assert_ne!(tmux.server_pid(), Some(server));
    tmux.terminate(&opened.id, Duration::ZERO, Background::Ends).await.expect("a missing pane is success");
    tmux.open(&sh("a", "exec sleep 1000")).await.expect("opening again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_killed_is_started_again() {
    comes_back_empty(Signal::SIGKILL).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_ended_is_started_again() {
    comes_back_empty(Signal::SIGTERM).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_client_or_keeper_is_replaced_and_programs_live() {
    let world = World::new();
    let tmux = world.connect().await;
    let opened = tmux.open(&sh("a", "exec sleep 1000")).await.expect("opening");
    let server = tmux.server_pid();
    for lose in 0..3 {
        let client = tmux.client_pid().expect("a client");
        match lose {
            0 => signal(client, Signal::SIGKILL),
            1 => drop(world.says(&["detach-client", "-s", KEEPER])),
            _ => {
                // Without "detach-on-destroy" the client would be moved into the agent's session.
                world.says(&["set-option", "-t", &format!("={KEEPER}:"), "detach-on-destroy", "off"]);
                world.says(&["kill-session", "-t", &format!("={KEEPER}")]);
            }
        }
        eventually("there is another client", || async { tmux.client_pid().filter(|now| *now != client) }).await;
        let found = eventually("panes are listed", || async { tmux.panes().await.ok() }).await;
        assert_eq!(found.iter().map(|p| (p.pid, p.attached)).collect::<Vec<_>>(), [(opened.pid, 0)]);
        assert_eq!(
            (tmux.server_pid(), world.says(&["list-clients", "-F", "#{client_session}"])),
            (server, KEEPER.to_owned())
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_server_is_down_within_five_seconds_and_wakes_up_without_surprises() {
    let world = World::new();
    let tmux = world.connect().await;
    let opened = tmux.open(&sh("a", "stty -echo; echo up; while read x; do echo got $x; done")).await.expect("opening");
    eventually("it is up", || async { screen(&tmux, &opened.id).await.contains("up").then_some(()) }).await;
    let server = tmux.server_pid().expect("a server");
    signal(server, Signal::SIGSTOP);
    let begun = Instant::now();
    let keys = [Key("l".into()), Key("a".into()), Key("t".into()), Key("e".into()), Key("Enter".into())];
    let (listed, pasted, keyed) =
        tokio::join!(tmux.panes(), tmux.paste(&opened.id, "late\n"), tmux.keys(&opened.id, &keys));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(matches!(listed, Err(TerminalError::Down { .. })), "{listed:?}");
    assert!(matches!(pasted, Err(TerminalError::Down { .. })), "{pasted:?}");
    assert!(matches!(keyed, Err(TerminalError::Down { .. })), "{keyed:?}");
    let begun = Instant::now();
    assert!(tmux.panes().await.is_err());
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    signal(server, Signal::SIGCONT);
    let found = eventually("panes are listed", || async { tmux.panes().await.ok() }).await;
    assert_eq!(found.iter().map(|p| p.pid).collect::<Vec<_>>(), [opened.pid]);
    // What was answered with "down" must not happen afterwards.
    tmux.paste(&opened.id, "now\n").await.expect("pasting");
    eventually("the paste", || async { screen(&tmux, &opened.id).await.contains("got now").then_some(()) }).await;
    let seen = screen(&tmux, &opened.id).await;
    assert!(!seen.contains("late"), "{seen}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_program_is_named() {
    let world = World::new();
    let missing = Tmux::connect(TmuxOptions { tmux: "/nonexistent/tmux".into(), ..world.options() }).await;
    assert!(
        matches!(&missing, Err(TerminalError::Down { message, .. }) if message.contains("/nonexistent/tmux") && message.contains("install")),
        "{missing:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operators_server_keeps_its_options_and_its_secrets() {
    let world = World::new();
    let mut start = world.operator(&["new-session", "-d", "-s", "theirs", "sleep", "1000"]);
    assert!(start.env("SECRET_API_KEY", "canary").status().expect("their server").success());
    world.says(&["set-option", "-g", "detach-on-destroy", "off"]);
    world.says(&["set-option", "-gw", "remain-on-exit", "on"]);
    world.says(&["set-option", "-gw", "automatic-rename", "on"]);
    world.says(&["set-environment", "-g", "LATER_SECRET", "canary"]);
    let globals = || {
        [&["show-options", "-g"][..], &["show-options", "-gw"], &["show-options", "-s"], &["show-environment", "-g"]]
            .map(|w| world.says(w))
    };
    let before = globals();
    let tmux = Tmux::connect(TmuxOptions { ours: false, ..world.options() }).await.expect("connecting");
    let out = world.path("out");
    let mut launch = sh("a", &format!("env -0 > {0}.env; echo done > {0}; read line", out.display()));
    launch.env = vec![("OWN".into(), "mine".into())];
    launch.keep_dead = false;
    let opened = tmux.open(&launch).await.expect("opening");
    crate::world::file(&out).await;
    let env = std::fs::read_to_string(out.with_extension("env")).expect("env");
    assert!(env.contains("OWN=mine") && !env.contains("canary"), "{env}");
    assert_eq!(globals(), before);
    // Per window: their remain-on-exit doesn't keep our session.
    tmux.keys(&opened.id, &[Key("Enter".into())]).await.expect("Enter");
    eventually("the session is gone", || async { pane(&tmux, "a").await.is_none().then_some(()) }).await;
    assert!(pane(&tmux, "theirs").await.is_some());
    tmux.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_ours_that_somebody_else_started_is_cleaned() {
    let world = World::new();
    let mut start = world.operator(&["new-session", "-d", "-s", "theirs", "sleep", "1000"]);
    assert!(start.env("SECRET_API_KEY", "canary").status().expect("their server").success());
    let _tmux = world.connect().await;
    assert!(!world.says(&["show-environment", "-g"]).contains("canary"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pane_of_a_lost_server_is_no_pane_of_the_next() {
    let world = World::new();
    let tmux = world.connect().await;
    let before = tmux.open(&sh("a", "exec cat")).await.expect("opening");
    signal(tmux.server_pid().expect("a server"), Signal::SIGKILL);
    eventually("connected again", || async { tmux.panes().await.ok() }).await;
    // The new server counts from %0 again: this is the number that the other agent's pane had.
    let other = tmux.open(&sh("b", "exec cat")).await.expect("opening another");
    assert_eq!(tmux_id(&before.id), tmux_id(&other.id));
    let pasted = tmux.paste(&before.id, "for a\n").await;
    assert!(matches!(pasted, Err(TerminalError::Gone { .. })), "{pasted:?}");
    let keyed = tmux.keys(&before.id, &[Key("x".into())]).await;
    assert!(matches!(keyed, Err(TerminalError::Gone { .. })), "{keyed:?}");
    let both = tmux.capture(&[before.id.clone(), other.id.clone()], Capture::Plain).await.expect("capturing");
    assert!(matches!(both.as_slice(), [Err(TerminalError::Gone { .. }), Ok(_)]), "{both:?}");
    tmux.terminate(&before.id, Duration::ZERO, Background::Ends).await.expect("a missing pane is success");
    assert!(alive(other.pid));
    tmux.paste(&other.id, "for b\n").await.expect("pasting");
    eventually("the paste", || async { screen(&tmux, &other.id).await.contains("for b").then_some(()) }).await;
    assert!(!screen(&tmux, &other.id).await.contains("for a"));
}
