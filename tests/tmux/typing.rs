//! Pastes and keys.

use std::time::Duration;

use claude_failover::{
    model::pane::{Background, Key, PaneId, TerminalError},
    ports::Terminal,
};

use crate::{
    helpers::reader,
    world::{World, eventually, file, screen, sh},
};

/// What the program read, with the line ends of a paste (CR, as every terminal sends them) turned back.
fn unwrap_paste(bytes: &[u8]) -> String {
    let text = String::from_utf8(bytes.to_vec()).expect("UTF-8");
    let inner =
        text.strip_prefix("\u{1b}[200~").and_then(|t| t.strip_suffix("\u{1b}[201~")).expect("one bracketed paste");
    inner.replace('\r', "\n")
}

async fn arrives(text: &str) {
    let world = World::new();
    let tmux = world.connect().await;
    let got = world.path("got");
    let opened = tmux.open(&reader("a", &got, 1)).await.expect("opening");
    file(&got.with_extension("ready")).await;
    tmux.paste(&opened.id, text).await.expect("pasting");
    let bytes = eventually("the paste arrived", || async { std::fs::read(&got).ok() }).await;
    let arrived = unwrap_paste(&bytes);
    let differs = arrived.bytes().zip(text.bytes()).position(|(a, b)| a != b);
    assert_eq!((arrived.len(), differs), (text.len(), None));
    assert_eq!(world.says(&["list-buffers"]), "", "a buffer was left");
}

fn awkward() -> String {
    let mut text = "-t %0 #{pane_id} #(x) $HOME ~ \"'`\\ ; { } \t\n%end 1 2 1\n\n  naïve 日本語 🦀👩‍👩‍👧 \u{202e}rtl\u{202c} a\u{301} \u{feff}\u{10ffff}".to_owned();
    text.extend(('\u{20}'..='\u{7e}').chain('\u{a0}'..='\u{2ff}'));
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_text_arrives_as_it_is() {
    arrives(&awkward()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_a_mebibyte_arrives_as_it_is() {
    let line = awkward();
    let text: String = (0..2_000).map(|i| format!("{i} {line}\n")).collect();
    assert!(text.len() > 1 << 20);
    arrives(&text).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_may_not_be_dumped_pastes_large_texts_too() {
    // The server then can't read /proc/PID/fd of ours.
    nix::sys::prctl::set_dumpable(false).expect("prctl");
    let line = awkward();
    let text: String = (0..300).map(|i| format!("{i} {line}\n")).collect();
    arrives(&text).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_characters_never_reach_a_terminal() {
    let world = World::new();
    let tmux = world.connect().await;
    let opened = tmux.open(&sh("a", "exec cat")).await.expect("opening");
    for bad in ["\u{1b}[201~\ntouch pwned\n", "a\rb", "\u{3}", "\u{4}", "\u{7f}", "\u{9b}201~", "\0", "x\u{85}"] {
        let refused = tmux.paste(&opened.id, bad).await;
        assert!(matches!(refused, Err(TerminalError::Text { .. })), "{bad:?}: {refused:?}");
    }
    tmux.paste(&opened.id, "clean").await.expect("pasting");
    eventually("it came", || async { screen(&tmux, &opened.id).await.contains("clean").then_some(()) }).await;
    assert!(!screen(&tmux, &opened.id).await.contains("201"));
    assert_eq!(world.says(&["list-buffers"]), "", "a buffer was left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pastes_into_nothing_say_so() {
    let world = World::new();
    let tmux = world.connect().await;
    let server = tmux.server_pid().expect("a server");
    for id in ["%99", "a", "%", "=a:", "%1;kill-server"].map(|id| format!("{id}@{server}")) {
        let pane = PaneId(id.clone());
        let pasted = tmux.paste(&pane, "x").await;
        assert!(matches!(pasted, Err(TerminalError::Gone { .. })), "{id}: {pasted:?}");
        let keyed = tmux.keys(&pane, &[Key("Enter".into())]).await;
        assert!(matches!(keyed, Err(TerminalError::Gone { .. })), "{id}: {keyed:?}");
        tmux.terminate(&pane, Duration::ZERO, Background::Ends)
            .await
            .unwrap_or_else(|e| assert!(matches!(e, TerminalError::Gone { .. })));
    }
    assert_eq!(world.says(&["list-buffers"]), "", "a buffer was left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_keys_and_nothing_else_is() {
    let world = World::new();
    let tmux = world.connect().await;
    let got = world.path("got");
    let script = format!(
        "stty raw -echo; echo ready > {0}.ready; head -c 12 > {0}.part; mv {0}.part {0}; exec sleep 1000",
        got.display()
    );
    let opened = tmux.open(&sh("a", &script)).await.expect("opening");
    file(&got.with_extension("ready")).await;
    let refused = tmux.keys(&opened.id, &[Key("y".into()), Key("touch pwned".into())]).await;
    assert!(matches!(refused, Err(TerminalError::Refused { .. })), "{refused:?}");
    let keys = ["y", ";", "-", "\"", "#", "Enter", "Escape", "C-c", "Down", "BSpace"].map(|key| Key(key.into()));
    tmux.keys(&opened.id, &keys).await.expect("keys");
    let bytes = eventually("the keys arrived", || async { std::fs::read(&got).ok() }).await;
    assert_eq!(bytes, b"y;-\"#\r\x1b\x03\x1b[B\x7f");
}
