//! Starting programs: what they get, what they don't, and what remains.

use std::{collections::BTreeMap, path::PathBuf};

use claude_failover::{
    model::pane::{Capture, Exit, PaneId, TerminalError},
    ports::Terminal,
};

use crate::world::{World, alive, eventually, file, launch, pane, screen, session, sh};

/// Writes its words and its environment to a file, NUL after each.
const TELL: &str = r#"out=$1; shift; { printf '%s\0' "$PWD" "$@"; } > "$out.words"; env -0 > "$out.env"; echo done > "$out"; exec sleep 1000"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn words_directory_and_variables_arrive_untouched_and_nothing_is_run() {
    let world = World::new();
    let tmux = world.connect().await;
    let pwned = world.path("pwned");
    let evil = format!(
        "#(touch {p}) $(touch {p}) `touch {p}`; touch {p}\n'\"\\ #{{pane_id}} ##[x] %0 ~ \t -k é🦀 \u{7f}\u{1}",
        p = pwned.display()
    );
    let workdir = world.path("w #(touch pwned) #[a] $(x) 'q' é\nline");
    std::fs::create_dir(&workdir).expect("the directory");
    let out = world.path("out");
    let mut launch =
        launch("a", &["/bin/sh", "-c", TELL, "sh", out.to_str().expect("UTF-8"), &evil, "", ";", "a;", "-t", "--"]);
    launch.workdir.clone_from(&workdir);
    launch.env = vec![("EVIL".into(), evil.clone()), ("EMPTY".into(), String::new())];
    let opened = tmux.open(&launch).await.expect("opening");
    assert_eq!((opened.incarnation.as_deref(), opened.exit), (Some("inc-a"), None));
    file(&out).await;
    let words = std::fs::read_to_string(world.path("out.words")).expect("words");
    let expected = [workdir.to_str().expect("UTF-8"), &evil, "", ";", "a;", "-t", "--"];
    assert_eq!(words.split_terminator('\0').collect::<Vec<_>>(), expected);
    let env = std::fs::read_to_string(world.path("out.env")).expect("env");
    let env: BTreeMap<&str, &str> = env.split_terminator('\0').filter_map(|line| line.split_once('=')).collect();
    assert_eq!((env.get("EVIL"), env.get("EMPTY")), (Some(&evil.as_str()), Some(&"")));
    let allowed = "PATH HOME USER LOGNAME SHELL LANG TZ TERM TMPDIR XDG_RUNTIME_DIR TMUX TMUX_PANE TERM_PROGRAM \
         TERM_PROGRAM_VERSION COLORTERM PWD OLDPWD SHLVL _ EVIL EMPTY";
    let foreign: Vec<_> = env
        .keys()
        .filter(|name| !name.starts_with("LC_") && !allowed.split_whitespace().any(|a| a == **name))
        .collect();
    assert_eq!(foreign, Vec::<&&str>::new());
    assert!(!pwned.exists());
    // Nor is anything kept for a later window of the session.
    assert!(!world.says(&["show-environment", "-t", "=a:"]).contains("EVIL"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_word_is_a_program_not_a_shell_command() {
    let world = World::new();
    let tmux = world.connect().await;
    let pwned = world.path("pwned");
    let opened = tmux.open(&launch("a", &[&format!("true; touch {}", pwned.display())])).await.expect("opening");
    let ended = eventually("it ended", || async { pane(&tmux, "a").await.filter(|p| p.exit.is_some()) }).await;
    assert_eq!(ended.exit, Some(Exit::Status(127)));
    assert!(!pwned.exists());
    let told = screen(&tmux, &opened.id).await;
    assert!(told.contains("not found"), "a missing program is told on its screen: {told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn impossible_launches_are_refused_and_leave_nothing() {
    let world = World::new();
    let tmux = world.connect().await;
    let good = sh("a", "exec sleep 1000");
    let mut bad = vec![good.clone(); 7];
    bad[0].workdir = PathBuf::from("/nonexistent/directory");
    bad[1].workdir = PathBuf::from("relative");
    bad[2].argv.clear();
    bad[3].env = vec![("A=B".into(), "c".into())];
    bad[4].argv.push("nul\0".into());
    bad[5].incarnation = "a\tb".into();
    bad[6].workdir = PathBuf::from("/etc/passwd");
    for launch in &bad {
        let refused = tmux.open(launch).await;
        assert!(matches!(refused, Err(TerminalError::Refused { .. })), "{launch:?}: {refused:?}");
    }
    assert_eq!(tmux.panes().await.expect("panes"), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_living_program_is_never_replaced() {
    let world = World::new();
    let tmux = world.connect().await;
    let first = tmux.open(&sh("a", "exec sleep 1000")).await.expect("opening");
    let again = tmux.open(&sh("a", "exec sleep 2000")).await;
    assert!(matches!(again, Err(TerminalError::Refused { .. })), "{again:?}");
    assert!(alive(first.pid));
    let now = pane(&tmux, "a").await.expect("the pane");
    assert_eq!((now.pid, now.incarnation), (first.pid, first.incarnation));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_program_is_replaced_in_place_and_viewers_stay() {
    let world = World::new();
    let tmux = world.connect().await;
    let first = tmux.open(&sh("a", "echo before; exit 3")).await.expect("opening");
    let mut viewer = world.operator(&["-C", "attach-session", "-f", "no-output", "-t", "=a"]);
    let mut viewer =
        viewer.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null()).spawn().expect("a viewer");
    let dead = eventually("dead and viewed", || async {
        pane(&tmux, "a").await.filter(|p| p.exit.is_some() && p.attached == 1)
    });
    assert_eq!(dead.await.exit, Some(Exit::Status(3)));
    let mut next = sh("a", "exec sleep 1000");
    next.incarnation = "second".into();
    let second = tmux.open(&next).await.expect("opening again");
    assert_eq!((&second.id, second.exit, second.attached), (&first.id, None, 1));
    assert_eq!(second.incarnation.as_deref(), Some("second"));
    assert_ne!(second.pid, first.pid);
    assert!(viewer.try_wait().expect("the viewer").is_none(), "the viewer was thrown out");
    viewer.kill().expect("ending the viewer");
    viewer.wait().expect("the viewer");
    eventually("nobody looks", || async { pane(&tmux, "a").await.filter(|p| p.attached == 0) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_keeps_nothing_goes_with_its_program() {
    let world = World::new();
    let tmux = world.connect().await;
    let mut short = sh("a", "read line; exit 0");
    short.keep_dead = false;
    let opened = tmux.open(&short).await.expect("opening");
    tmux.keys(&opened.id, &[claude_failover::model::pane::Key("Enter".into())]).await.expect("Enter");
    eventually("the session is gone", || async { pane(&tmux, "a").await.is_none().then_some(()) }).await;
    let answers = tmux.capture(std::slice::from_ref(&opened.id), Capture::Plain).await.expect("capture");
    assert!(matches!(answers.as_slice(), [Err(TerminalError::Gone { .. })]), "{answers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn screens_are_read_in_order_with_and_without_colours_and_history() {
    let world = World::new();
    let tmux = world.connect().await;
    let script = r"i=0; while [ $i -lt 100 ]; do echo line $i; i=$((i+1)); done; printf '\033[31mrot\033[0m é🦀 \033]8;;http://x\007link\033]8;;\007 %s\n' '%end 1 2 1'; echo '%begin 1 2 1'; exec sleep 1000";
    let a = tmux.open(&sh("a", script)).await.expect("a");
    let b = tmux.open(&sh("b", "echo other; exec sleep 1000")).await.expect("b");
    eventually("a is drawn", || async { screen(&tmux, &a.id).await.contains("%begin").then_some(()) }).await;
    eventually("b is drawn", || async { screen(&tmux, &b.id).await.contains("other").then_some(()) }).await;
    let panes = [
        b.id.clone(),
        PaneId(format!("%9999@{}", tmux.server_pid().expect("a server"))),
        PaneId("a".into()),
        a.id.clone(),
    ];
    let plain = tmux.capture(&panes, Capture::Plain).await.expect("plain");
    assert!(plain[0].as_ref().is_ok_and(|s| s.starts_with("other\n")));
    assert!(matches!(plain[1], Err(TerminalError::Gone { .. })) && plain[2].is_err());
    let text = plain[3].as_ref().expect("a");
    assert!(text.contains("rot é🦀 link %end 1 2 1\n%begin 1 2 1\n") && !text.contains("line 0\n"), "{text}");
    let colour = tmux.capture(&panes[3..], Capture::Colour).await.expect("colour").pop().expect("one").expect("a");
    assert!(colour.contains("\u{1b}[31mrot\u{1b}[39m") && !colour.contains("\u{1b}]"), "{colour:?}");
    let history = tmux.capture(&panes[3..], Capture::History).await.expect("history").pop().expect("one").expect("a");
    assert!(history.starts_with("line 0\nline 1\n") && history.contains("line 99\nrot"), "{history}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_can_not_forge_panes_with_its_title() {
    let world = World::new();
    let tmux = world.connect().await;
    let pwned = world.path("pwned");
    let title = format!("evil\\t\\001#(touch {})\\tb\\t%%9", pwned.display());
    let script = format!(
        "printf '\\033]2;{title}\\033\\\\'; printf '\\033k#(touch {})\\033\\\\'; exec sleep 1000",
        pwned.display()
    );
    tmux.open(&sh("a", &script)).await.expect("opening");
    let seen =
        eventually("the title is there", || async { pane(&tmux, "a").await.filter(|p| p.title.contains("evil")) })
            .await;
    assert!(!seen.title.chars().any(char::is_control), "{:?}", seen.title);
    assert_eq!(seen.incarnation.as_deref(), Some("inc-a"));
    assert_eq!(tmux.panes().await.expect("panes").len(), 1);
    assert_eq!(world.says(&["list-windows", "-t", "=a:", "-F", "#{window_name}"]), "agent");
    assert!(!pwned.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn change_tells_when_there_is_something_to_read() {
    let world = World::new();
    let tmux = world.connect().await;
    // Redraws in place: same cursor, same history, and often the same second.
    let script = "stty -echo; printf '\\rA'; while read x; do printf \"\\r$x\"; done";
    let opened = tmux.open(&sh("a", script)).await.expect("opening");
    let change = || async { pane(&tmux, "a").await.expect("the pane").change };
    let quiet = || async {
        eventually("it is quiet", || async {
            let (one, two) = (change().await, change().await);
            (one == two).then_some(two)
        })
        .await
    };
    eventually("it is drawn", || async { screen(&tmux, &opened.id).await.contains('A').then_some(()) }).await;
    for letter in ["B", "C"] {
        let before = quiet().await;
        let keys = [letter, "Enter"].map(|key| claude_failover::model::pane::Key(key.into()));
        tmux.keys(&opened.id, &keys).await.expect("keys");
        eventually("it is redrawn", || async { screen(&tmux, &opened.id).await.contains(letter).then_some(()) }).await;
        assert_ne!(change().await, before);
        assert_ne!(quiet().await, before);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_exact() {
    let world = World::new();
    let tmux = world.connect().await;
    let ten = tmux.open(&sh("task-10", "exec sleep 1000")).await.expect("task-10");
    tmux.close(&session("task-1")).await.expect("a missing session is success");
    let one = tmux.open(&sh("task-1", "exit 0")).await.expect("task-1");
    assert_ne!(one.id, ten.id);
    eventually("it ended", || async { pane(&tmux, "task-1").await.filter(|p| p.exit.is_some()) }).await;
    tmux.close(&session("task-1")).await.expect("closing");
    let left: Vec<_> = tmux.panes().await.expect("panes").into_iter().map(|p| p.session).collect();
    assert_eq!(left, [session("task-10")]);
    let refused = tmux.close(&session("task-10")).await;
    assert!(matches!(refused, Err(TerminalError::Refused { .. })), "{refused:?}");
    assert!(alive(ten.pid));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn panes_have_their_size_whoever_looks() {
    let world = World::new();
    let tmux = world.connect().await;
    tmux.open(&sh("a", "exec sleep 1000")).await.expect("a");
    let mut viewer = world.operator(&["-C", "attach-session", "-t", "=a"]);
    let mut viewer =
        viewer.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null()).spawn().expect("a viewer");
    {
        use std::io::Write;
        viewer.stdin.as_mut().expect("stdin").write_all(b"refresh-client -C 60x20\n").expect("a size");
    }
    eventually("somebody looks", || async { pane(&tmux, "a").await.filter(|p| p.attached == 1) }).await;
    tmux.open(&sh("b", "exec sleep 1000")).await.expect("b");
    let sizes = world.says(&[
        "list-panes",
        "-a",
        "-f",
        "#{!=:#{session_name},_claude-failover}",
        "-F",
        "#{pane_width}x#{pane_height}",
    ]);
    assert_eq!(sizes, "120x40\n120x40");
    viewer.kill().expect("ending the viewer");
    viewer.wait().expect("the viewer");
}
