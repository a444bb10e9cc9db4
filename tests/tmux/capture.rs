//! Captures: the same bytes by either method, nothing left in the server, and a person's own buffers unchanged.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use claude_failover::{
    model::pane::{Capture, Key, Pane},
    ports::Terminal,
    sys::tmux::{Tmux, text},
};

use crate::world::{World, eventually, pane, sh, tmux_id};

/// What captures have to bring home unchanged.
fn awkward() -> Vec<Vec<u8>> {
    let mut ascii: String = (' '..='~').collect();
    ascii.extend(['\n', '\\', '\n']);
    let texts = [
        "",
        "one line",
        "spaces behind   \n\n\nbelow a gap\n\n\n\n",
        "C:\\temp\\new \\033[1m \\$HOME $HOME ${x} $_ $1 $ $\n$\\a \\\\ \\\n~ #{pane_id} #(x) \"'`; {}\n%end 1 2 1",
        "日本語 全角ａｂｃ 한국어 🦀 👩‍👩‍👧 👍🏽 🇩🇪 ⚠️ 1️⃣ e\u{301}a\u{308} n\u{303} ก็ हिन्दी عربى \u{200b}\u{2060}\u{feff}|\u{a0}|\u{ad}|",
        "wide at the edge: 日本語日本語日本語日本語日本語日本語日本語日本語日本語日本語日本語日本語日本語日本語日本語日本語日本語日本語日本語日本語日本語",
        "\u{1b}[1;31mred\u{1b}[0m \u{1b}[38;2;1;2;3mtrue\u{1b}[48;5;9mcolour\u{1b}[0m \u{1b}[4:3mcurly\u{1b}[0m \u{1b}(0lqqk\u{1b}(B",
        "\u{1b}]8;;https://example.org/$HOME\\\u{1b}\\link\u{1b}]8;;\u{1b}\\ behind a link",
        "a\ttab\t$x\u{8}\u{8}back\rhead",
    ];
    let mut all: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    all.push(ascii.into_bytes());
    all.push(
        (0..60)
            .fold(String::new(), |mut all, i| {
                let _ok = writeln!(all, "{i} {}", "x$y\\".repeat(50));
                all
            })
            .into(),
    );
    all.push(b"no UTF-8: \xff \xc3( \xe2\x82 \x80 end".to_vec());
    all
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut files: Vec<PathBuf> =
        entries.map(|entry| entry.expect("an entry").path()).filter(|p| p.is_file()).collect();
    files.sort();
    files
}

/// Shows one file after the other, each when Enter is pressed; the pane's title tells which one stands there whole.
async fn shower(world: &World, tmux: &Tmux, files: &[PathBuf]) -> Pane {
    let mut script = "stty -echo; ".to_owned();
    for (i, file) in files.iter().enumerate() {
        let _ok = write!(
            script,
            "read x; printf '\\033[0m\\033(B\\033[H\\033[2J\\033[3J'; cat '{}'; printf '\\033]2;shown-{i}\\007'; ",
            file.display()
        );
    }
    script.push_str("exec sleep 1000");
    let path = world.path("shower.sh");
    std::fs::write(&path, script).expect("the script");
    tmux.open(&sh("a", &format!("exec sh {}", path.display()))).await.expect("opening")
}

async fn ways_agree(files: &[PathBuf]) {
    let world = World::new();
    let tmux = world.connect().await;
    let opened = shower(&world, &tmux, files).await;
    let client = |extra: &[&str]| {
        let words = [&["capture-pane", "-p", "-t", tmux_id(&opened.id)], extra].concat();
        let output = world.tmux(&words);
        assert!(output.status.success());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.strip_suffix('\n').expect("a line's end").to_owned()
    };
    for (i, file) in files.iter().enumerate() {
        tmux.keys(&opened.id, &[Key("Enter".into())]).await.expect("Enter");
        let title = format!("shown-{i}");
        eventually(&title, || async { pane(&tmux, "a").await.filter(|pane| pane.title == title) }).await;
        for (how, extra) in [(Capture::Plain, &[][..]), (Capture::Colour, &["-e"]), (Capture::History, &["-S", "-"])] {
            let ours = tmux.capture(std::slice::from_ref(&opened.id), how).await.expect("capturing");
            let ours = ours.into_iter().next().expect("one answer").expect("a screen");
            let theirs = client(extra);
            let theirs = if how == Capture::Colour { text::coloured(&theirs) } else { text::plain(&theirs) };
            assert_eq!(ours, theirs, "{} {how:?}", file.display());
        }
    }
    assert_eq!(world.says(&["list-buffers"]), "", "a buffer was left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_screen_known_of_agents_comes_home_unchanged() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut shown = files(&tests.join("panes"));
    shown.extend(files(&tests.join("tmux/screens")));
    // More of them can be named: screens of other agents and versions.
    shown.extend(std::env::var_os("CF_SCREENS").map(|dir| files(Path::new(&dir))).unwrap_or_default());
    assert!(shown.len() > 170, "{}", shown.len());
    ways_agree(&shown).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn awkward_screens_come_home_unchanged() {
    let dir = tempfile::tempdir().expect("a directory");
    let write = |(i, bytes): (usize, &Vec<u8>)| {
        let path = dir.path().join(i.to_string());
        std::fs::write(&path, bytes).expect("writing");
        path
    };
    let files: Vec<PathBuf> = awkward().iter().enumerate().map(write).collect();
    ways_agree(&files).await;
}

/// Memory that is the server's alone, in kB.
fn anonymous(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("RssAnon");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_keeps_nothing_of_what_was_looked_at_or_pasted() {
    let world = World::new();
    let tmux = world.connect().await;
    let server = tmux.server_pid().expect("a server");
    let fill = "i=0; while [ $i -lt 39 ]; do printf '%0119d\\n' $i; i=$((i+1)); done; stty -echo; exec cat >/dev/null";
    let opened = tmux.open(&sh("a", fill)).await.expect("opening");
    let full = || async { screen_of(&tmux, &opened).await.filter(|screen| screen.len() > 4_000) };
    eventually("the screen is full", full).await;
    let many = vec![opened.id.clone(); 50];
    let long = "words ".repeat(2_000);
    let round = || async {
        for how in [Capture::Plain, Capture::Colour, Capture::History, Capture::Plain] {
            let screens = tmux.capture(&many, how).await.expect("capturing");
            assert!(screens.iter().all(Result::is_ok));
        }
        tmux.paste(&opened.id, "short").await.expect("pasting");
        tmux.paste(&opened.id, &long).await.expect("pasting");
    };
    for _ in 0..5 {
        round().await;
    }
    let before = anonymous(server);
    for _ in 0..15 {
        round().await;
    }
    // 3,000 screens of 4.8 kB would be 14 MB.
    let grown = anonymous(server).saturating_sub(before);
    assert!(grown < 2_500, "{grown} kB stay in the server");
    assert_eq!(world.says(&["list-buffers"]), "", "a buffer was left");
    assert!(!world.says(&["show-messages"]).contains("short"), "tmux keeps what was pasted");
}

async fn screen_of(tmux: &Tmux, pane: &Pane) -> Option<String> {
    tmux.capture(std::slice::from_ref(&pane.id), Capture::Plain).await.ok()?.pop()?.ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_persons_buffers_keep_their_names_and_their_order() {
    let world = World::new();
    let tmux = world.connect().await;
    let opened = tmux.open(&sh("a", "stty -echo; echo up; exec cat >/dev/null")).await.expect("opening");
    world.says(&["set-option", "-g", "buffer-limit", "2"]);
    for words in [&["one"][..], &["-b", "kept", "two"], &["three"], &["-b", "claude-failover", "four"]] {
        world.says(&[&["set-buffer"], words].concat());
    }
    let list = ["list-buffers", "-F", "#{buffer_name} #{buffer_sample} #{buffer_created}"];
    // The newest one is what a paste of theirs would bring.
    let theirs = || (world.says(&list), world.says(&["show-buffer"]));
    let before = theirs();
    for how in [Capture::Plain, Capture::Colour, Capture::History] {
        tmux.capture(&[opened.id.clone(), opened.id.clone()], how).await.expect("capturing");
    }
    tmux.paste(&opened.id, "text").await.expect("pasting");
    tmux.paste(&opened.id, &"long ".repeat(2_000)).await.expect("pasting");
    assert_eq!(theirs(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn buffers_that_a_lost_connection_left_are_removed() {
    let world = World::new();
    let tmux = world.connect().await;
    world.says(&["set-buffer", "-b", &format!("claude-failover-{}-7", std::process::id()), "a prompt"]);
    world.says(&["set-buffer", "-b", "claude-failover-4194999-7", "another daemon's, which is gone"]);
    world.says(&["set-buffer", "-b", "claude-failover-1-7", "another daemon's"]);
    tmux.shutdown().await;
    let _again = world.connect().await;
    assert_eq!(world.says(&["list-buffers", "-F", "#{buffer_name}"]), "claude-failover-1-7");
}
