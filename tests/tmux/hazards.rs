//! tmux bugs that crash the server or freeze every agent, each worked around: one test per row of the table in the
//! documentation of tmux's hazards. The server's pid before and after tells whether it survived.

use std::{
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use claude_failover::{
    model::pane::{Capture, Exit, Key, TerminalError},
    ports::Terminal,
    sys::tmux::{Tmux, TmuxOptions},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    helpers::helper,
    world::{World, alive, eventually, file, pane, screen, sh, tmux_id},
};

fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.cast_signed()), signal).expect("kill");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hazard_a_window_size_manual_on_our_server() {
    let world = World::new();
    let tmux = world.connect().await;
    let server = tmux.server_pid();
    world.says(&["set-option", "-g", "window-size", "manual"]);
    tmux.open(&sh("a", "exec sleep 1000")).await.expect("opening");
    assert_eq!(world.says(&["show-options", "-gv", "window-size"]), "largest");
    // The keeper's own session is made in front of the same hole.
    world.says(&["set-option", "-g", "window-size", "manual"]);
    world.says(&["kill-session", "-t", "=_claude-failover"]);
    eventually("connected again", || async { tmux.panes().await.ok() }).await;
    assert_eq!(tmux.server_pid(), server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hazard_a_window_size_manual_on_the_operators_server() {
    let world = World::new();
    world.says(&["new-session", "-d", "-s", "theirs", "sleep", "1000"]);
    let server = world.says(&["display-message", "-p", "#{pid}"]);
    let options = || TmuxOptions { ours: false, ..world.options() };
    let tmux = Tmux::connect(options()).await.expect("connecting");
    world.says(&["set-option", "-g", "window-size", "manual"]);
    let refused = tmux.open(&sh("a", "exec sleep 1000")).await;
    assert!(
        matches!(&refused, Err(TerminalError::Refused { message, .. }) if message.contains("window-size")),
        "{refused:?}"
    );
    tmux.shutdown().await;
    let down = Tmux::connect(options()).await;
    assert!(matches!(&down, Err(TerminalError::Down { message, .. }) if message.contains("window-size")), "{down:?}");
    assert_eq!(world.says(&["display-message", "-p", "#{pid}"]), server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hazard_b_paste_into_dead_pane() {
    let world = World::new();
    let tmux = world.connect().await;
    let server = tmux.server_pid();
    let opened = tmux.open(&sh("a", "exit 0")).await.expect("opening");
    eventually("it ended", || async { pane(&tmux, "a").await.filter(|p| p.exit.is_some()) }).await;
    for text in ["x".to_owned(), "x".repeat(100_000)] {
        let pasted = tmux.paste(&opened.id, &text).await;
        assert!(matches!(pasted, Err(TerminalError::Dead { .. })), "{pasted:?}");
    }
    let keyed = tmux.keys(&opened.id, &[Key("Enter".into())]).await;
    assert!(matches!(keyed, Err(TerminalError::Dead { .. })), "{keyed:?}");
    assert_eq!(world.says(&["list-buffers"]), "", "a buffer was left");
    tmux.panes().await.expect("panes");
    assert_eq!(tmux.server_pid(), server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hazard_c_a_client_that_does_not_read_freezes_no_agent() {
    let world = World::new();
    let tmux = world.connect().await;
    assert!(world.says(&["list-clients", "-F", "#{client_flags}"]).contains("no-output"));
    let client = tmux.client_pid().expect("a client");
    signal(client, Signal::SIGSTOP);
    let out = world.path("out");
    let script = format!("yes 0123456789 | head -c 20000000; echo done > {}; exec sleep 1000", out.display());
    tmux.open(&sh("a", &script)).await.expect("opening");
    file(&out).await;
    signal(client, Signal::SIGCONT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hazard_d_a_killed_daemon_leaves_no_client() {
    let world = World::new();
    let words = helper("daemon");
    let mut daemon = std::process::Command::new(&words[0])
        .args(&words[1..])
        .env("CF_SOCKET", world.socket())
        .stdout(Stdio::null())
        .spawn()
        .expect("a daemon");
    let client: u32 = file(&world.socket().with_extension("client")).await.trim().parse().expect("a pid");
    assert!(alive(client));
    // Notices that the daemon doesn't read: more than its pipe holds, so that some are pending in the server.
    signal(daemon.id(), Signal::SIGSTOP);
    world.says(&["new-session", "-d", "-s", "theirs", "sleep", "1000"]);
    let name = "n".repeat(200);
    let renames: Vec<String> = (0..500).map(|n| format!("rename-window -t =theirs: {name}{n}")).collect();
    let script = world.path("renames");
    std::fs::write(&script, renames.join("\n")).expect("a script");
    world.says(&["source-file", script.to_str().expect("UTF-8")]);
    assert!(alive(client));
    daemon.kill().expect("killing the daemon");
    daemon.wait().expect("the daemon");
    eventually("its client is gone", || async { (!alive(client)).then_some(()) }).await;
    eventually("the server knows", || async { world.says(&["list-clients"]).is_empty().then_some(()) }).await;
    // And the next daemon finds everything in order.
    let tmux = world.connect().await;
    assert_eq!(world.says(&["list-clients"]).lines().count(), 1);
    tmux.kill_server().await.expect("ending the server");
}

/// E: `refresh-client -A …:off` makes tmux stop reading a pane. F: `run-shell` with output throws the pane into view mode.
/// Neither is ever sent, nor anything else of that family.
#[test]
fn hazard_e_and_f_commands_that_are_never_sent() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/sys/tmux");
    let mut read = 0;
    for entry in std::fs::read_dir(sources).expect("the sources") {
        let path = entry.expect("an entry").path();
        let text = std::fs::read_to_string(&path).expect("a source");
        for command in ["refresh-client", "run-shell", "pipe-pane", "link-window", "set-hook", "source-file"] {
            assert!(!text.contains(&format!("\"{command}")), "{} sends {command}", path.display());
        }
        read += 1;
    }
    assert!(read > 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hazard_g_keys_into_copy_mode() {
    let world = World::new();
    let tmux = world.connect().await;
    let opened = tmux.open(&sh("a", "stty -echo; echo up; while read x; do echo got $x; done")).await.expect("opening");
    eventually("it is up", || async { screen(&tmux, &opened.id).await.contains("up").then_some(()) }).await;
    let in_mode = || world.says(&["display-message", "-p", "-t", tmux_id(&opened.id), "#{pane_in_mode}"]);
    for (mode, word) in [(&["copy-mode", "-t"][..], "one"), (&["choose-tree", "-t"][..], "two")] {
        world.says(&[mode, &[tmux_id(&opened.id)]].concat());
        assert_eq!(in_mode(), "1");
        let mut keys: Vec<Key> = word.chars().map(|c| Key(c.to_string())).collect();
        keys.push(Key("Enter".into()));
        tmux.keys(&opened.id, &keys).await.expect("keys");
        let wanted = format!("got {word}");
        eventually(&wanted, || async { screen(&tmux, &opened.id).await.contains(&wanted).then_some(()) }).await;
    }
    world.says(&["copy-mode", "-t", tmux_id(&opened.id)]);
    tmux.paste(&opened.id, "three\n").await.expect("pasting");
    eventually("the paste", || async { screen(&tmux, &opened.id).await.contains("got three").then_some(()) }).await;
    assert_eq!(in_mode(), "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hazard_h_lost_deaths_are_told_with_their_cause() {
    let world = World::new();
    let tmux = world.connect().await;
    for round in 0..30 {
        let how = if round % 2 == 0 { Exit::Status(7) } else { Exit::Signal(9) };
        let script = if round % 2 == 0 { "exit 7" } else { "kill -9 $$" };
        tmux.open(&sh("a", script)).await.expect("opening");
        let exit = eventually("the death is told", || async { pane(&tmux, "a").await?.exit }).await;
        assert_eq!(exit, how, "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hazard_i_a_tmux_that_hangs_is_not_waited_for() {
    let world = World::new();
    let hangs = world.path("tmux-hangs");
    std::fs::write(&hangs, "#!/bin/sh\nexec sleep 1000\n").expect("a program");
    std::fs::set_permissions(&hangs, std::fs::Permissions::from_mode(0o700)).expect("a program");
    let begun = Instant::now();
    let down = Tmux::connect(TmuxOptions { tmux: hangs, ..world.options() }).await;
    assert!(matches!(down, Err(TerminalError::Down { .. })), "{down:?}");
    assert!(begun.elapsed() < Duration::from_secs(6));
    // The limit that makes the real one hang is raised for a server that we start.
    let tmux = world.connect().await;
    let limits =
        std::fs::read_to_string(format!("/proc/{}/limits", tmux.server_pid().expect("a server"))).expect("limits");
    let soft = limits.lines().find(|l| l.starts_with("Max open files")).and_then(|l| l.split_whitespace().nth(3));
    let hard = limits.lines().find(|l| l.starts_with("Max open files")).and_then(|l| l.split_whitespace().nth(4));
    assert!(
        soft.and_then(|s| s.parse::<u64>().ok()).is_some_and(|n| n >= 4096) || soft == hard,
        "{soft:?} of {hard:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hazard_j_a_server_of_another_version_is_spoken_to_with_its_own_program() {
    let world = World::new();
    // The operator's server runs from a copy that an upgrade then removes; the new program can't speak with it.
    let old = world.path("tmux-old");
    let real =
        std::env::split_paths(&std::env::var_os("PATH").expect("PATH")).map(|d| d.join("tmux")).find(|p| p.is_file());
    std::fs::copy(real.expect("tmux"), &old).expect("a copy");
    std::fs::create_dir(world.path("run")).expect("a directory");
    let started = std::process::Command::new(&old)
        .args(["-f", "/dev/null", "-S"])
        .arg(world.socket())
        .args(["new-session", "-d", "-s", "theirs", "sleep", "1000"])
        .env_remove("TMUX")
        .status();
    assert!(started.expect("running the copy").success());
    std::fs::remove_file(&old).expect("removing the copy");
    let new = world.path("tmux-new");
    std::fs::write(&new, "#!/bin/sh\necho 'server exited unexpectedly'\nexit 1\n").expect("a program");
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o700)).expect("a program");
    let tmux = Tmux::connect(TmuxOptions { tmux: new, ..world.options() }).await.expect("connecting");
    assert!(pane(&tmux, "theirs").await.is_some());
    tmux.open(&sh("a", "exec sleep 1000")).await.expect("opening");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hazard_k_a_new_server_right_after_the_old_one() {
    let world = World::new();
    for round in 0..5 {
        let tmux = world.connect().await;
        let server = tmux.server_pid().expect("a server");
        for n in 0..5 {
            tmux.open(&sh(&format!("s{n}"), "exec sleep 1000")).await.unwrap_or_else(|e| panic!("round {round}: {e}"));
        }
        tmux.kill_server().await.expect("ending the server");
        assert!(!alive(server));
        assert!(matches!(tmux.panes().await, Err(TerminalError::Down { .. })));
        assert!(matches!(tmux.capture(&[], Capture::Plain).await, Ok(none) if none.is_empty()));
    }
}

/// L: what a control client like iTerm2's has not read of a dead program makes tmux up to 3.7c count past the output of the
/// next program in the same pane.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hazard_l_a_control_client_that_lags_behind_a_dead_program() {
    let world = World::new();
    let tmux = world.connect().await;
    let server = tmux.server_pid();
    let go = world.path("go");
    let script = format!("until [ -e {} ]; do sleep 0.02; done; seq 3000; exit 3", go.display());
    let mut last = tmux.open(&sh("a", &script)).await.expect("opening");
    // An ordinary client, in a pane of its own.
    let mut viewer = sh("viewer", "exec env -u TMUX tmux -u -S \"$0\" attach-session -t =a");
    viewer.argv.push(world.socket().to_str().expect("UTF-8").to_owned());
    let viewer = tmux.open(&viewer).await.expect("opening the viewer");
    let mut lagging = world.client("600", &["-C", "attach-session", "-t", "=a"]);
    let mut lagging = lagging.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a control client");
    eventually("both look", || async { pane(&tmux, "a").await.filter(|p| p.attached == 2) }).await;
    for round in 0..3 {
        std::fs::write(&go, "").expect("the word to go");
        eventually("it ended", || async { pane(&tmux, "a").await.filter(|p| p.exit.is_some()) }).await;
        std::fs::remove_file(&go).expect("no word to go");
        // Hazard A holds for new windows too.
        world.says(&["set-option", "-g", "window-size", "manual"]);
        let again = tmux.open(&sh("a", &format!("echo round {round}; {script}"))).await.expect("opening again");
        let shown = format!("round {round}");
        eventually(&shown, || async { screen(&tmux, &again.id).await.contains(&shown).then_some(()) }).await;
        eventually("it is seen", || async { screen(&tmux, &viewer.id).await.contains(&shown).then_some(()) }).await;
        let facts = "#{window_index} #{window_name} #{pane_width}x#{pane_height} #{pane_id} #{remain-on-exit}";
        let one = format!("0 agent 120x40 {} on", tmux_id(&again.id));
        assert_eq!(world.says(&["list-panes", "-s", "-t", "=a:", "-F", facts]), one);
        assert_eq!(pane(&tmux, "a").await.expect("the pane").attached, 2, "somebody was thrown out");
        assert_ne!(again.id, last.id);
        last = again;
    }
    assert_eq!(tmux.server_pid(), server);
    lagging.kill().expect("ending the control client");
    lagging.wait().expect("the control client");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hazard_l_takes_nothing_from_a_person_beside_the_dead_program() {
    let world = World::new();
    let tmux = world.connect().await;
    let first = tmux.open(&sh("a", "exit 3")).await.expect("opening");
    world.says(&["split-window", "-t", "=a:", "sleep", "1001"]);
    world.says(&["rename-window", "-t", "=a:", "named"]);
    world.says(&["new-window", "-t", "=a:", "-n", "theirs", "sleep", "1002"]);
    let mut control = world.client("600", &["-C", "attach-session", "-t", "=a"]);
    let mut control = control.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("a control client");
    eventually("ended and looked at", || async {
        pane(&tmux, "a").await.filter(|p| p.exit.is_some() && p.attached == 1)
    })
    .await;
    // One of them is looked at enlarged.
    world.says(&["resize-pane", "-Z", "-t", "=a:0.1"]);
    let facts = "#{window_id} #{window_name} #{window_active} #{window_zoomed_flag} #{pane_id} #{pane_active} \
                 #{pane_left},#{pane_top} #{pane_width}x#{pane_height}";
    let facts = || world.says(&["list-panes", "-s", "-t", "=a:", "-F", facts]);
    let before = facts();
    let again = tmux.open(&sh("a", "exec sleep 1003")).await.expect("opening again");
    assert_ne!(again.id, first.id);
    assert_eq!(facts().replace(tmux_id(&again.id), tmux_id(&first.id)), before);
    control.kill().expect("ending the control client");
    control.wait().expect("the control client");
}

/// A client that a server waits for when it shuts down, for ever.
async fn stopped_client(world: &World) -> std::process::Child {
    let mut client = std::process::Command::new("tmux");
    client.arg("-S").arg(world.socket()).args(["-C", "attach-session", "-t", "=_claude-failover"]).env_remove("TMUX");
    let client = client.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("a client");
    let pid = client.id().to_string();
    let there =
        || async { world.says(&["list-clients", "-F", "#{client_pid}"]).lines().any(|line| line == pid).then_some(()) };
    eventually("the client is there", there).await;
    signal(client.id(), Signal::SIGSTOP);
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hazard_a_server_that_shuts_down_and_waits_for_a_stopped_client() {
    let world = World::new();
    let tmux = world.connect().await;
    let first = tmux.server_pid().expect("a server");
    let mut stopped = vec![stopped_client(&world).await];
    let mut kills = vec![world.operator(&["kill-server"]).spawn().expect("a client")];
    let second = eventually("another server", || async { tmux.server_pid().filter(|pid| *pid != first) }).await;
    assert!(!alive(first), "the server that waited for its client");
    tmux.open(&sh("a", "exec sleep 1000")).await.expect("opening");
    assert_eq!(tmux.server_pid(), Some(second));
    tmux.shutdown().await;
    // The same at the start of a daemon.
    stopped.push(stopped_client(&world).await);
    kills.push(world.operator(&["kill-server"]).spawn().expect("a client"));
    let refuses = || async {
        let said = world.tmux(&["list-sessions"]).stderr;
        String::from_utf8_lossy(&said).contains("server exited unexpectedly").then_some(())
    };
    eventually("the server takes nobody any more", refuses).await;
    assert!(alive(second), "it waits for its client");
    let operators = Tmux::connect(TmuxOptions { ours: false, ..world.options() }).await;
    assert!(
        matches!(&operators, Err(TerminalError::Down { message, .. }) if message.contains("is shutting down and waits")),
        "{operators:?}"
    );
    let tmux = world.connect().await;
    assert!(!alive(second));
    assert!(tmux.server_pid().is_some_and(|pid| pid != second));
    for client in stopped.iter_mut().chain(&mut kills) {
        drop(client.kill());
        drop(client.wait());
    }
}
