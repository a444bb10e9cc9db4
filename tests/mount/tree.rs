//! Every entry of the table exists, is readable, sized and sanitized, and is read-only where it says so.

use std::{os::unix::fs::MetadataExt as _, path::Path};

use claude_failover::{
    fs::tree::{self, Row, What},
    render::{self, Picture},
};

use crate::{picture, world::World};

fn is_dir(row: &Row) -> bool {
    matches!(row.what, What::Dir(_) | What::Queue)
}

#[test]
fn every_file_of_the_table_can_be_read_and_readme_lists_it() {
    let world = World::new();
    let readme = std::fs::read_to_string(world.mnt().join("README")).expect("README");
    let places: [(&str, &[Row]); 10] = [
        ("", tree::ROOT_ROWS),
        ("tasks/fix", tree::TASK_ROWS),
        ("projects/api/tasks/only", tree::TASK_ROWS),
        ("projects/web", tree::PROJECT_ROWS),
        ("sessions/ccl-auto-11", tree::SESSION_ROWS),
        ("accounts", tree::ACCOUNTS_ROWS),
        ("accounts/compte1", tree::ACCOUNT_ROWS),
        ("accounts/compte3", tree::ACCOUNT_ROWS),
        ("providers/gemini", tree::PROVIDER_ROWS),
        ("providers/gpu", tree::PROVIDER_ROWS),
    ];
    for (place, rows) in places {
        let dir = world.mnt().join(place);
        let listed: Vec<String> = std::fs::read_dir(&dir)
            .expect("a directory")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        for row in rows {
            let path = dir.join(row.name);
            assert!(listed.iter().any(|name| name == row.name), "{} is not listed", path.display());
            assert!(readme.contains(row.name) && readme.contains(row.help), "{} is not in README", row.name);
            let meta = std::fs::symlink_metadata(&path).expect("facts");
            assert_eq!(meta.is_dir(), is_dir(row), "{}", path.display());
            assert_eq!(meta.uid(), nix::unistd::geteuid().as_raw());
            if meta.is_file() {
                let bytes = std::fs::read(&path).expect("a read");
                let text = String::from_utf8(bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                assert!(text.is_empty() || text.ends_with('\n'), "{} has no newline", path.display());
                assert_eq!(meta.mode() & 0o7777, u32::from(row.mode), "{}", path.display());
                assert_eq!(meta.nlink(), 1);
                // What `stat` says and what a reader gets agree, though ages may have grown between.
                let live = matches!(row.name, "why" | "status" | "status.json" | "metrics" | "control");
                assert!(live || meta.len() == text.len() as u64, "{}: {} {}", path.display(), meta.len(), text.len());
            }
        }
    }
}

#[test]
fn values_are_one_line_each() {
    let world = World::new();
    let read = |path: &str| std::fs::read_to_string(world.mnt().join(path)).expect(path);
    assert_eq!(read("tasks/fix/state"), "working\n");
    assert_eq!(read("tasks/held/state"), "held\n");
    assert_eq!(read("tasks/api:fix/state"), "queued\n", "an id of an earlier project is shown with its project");
    assert_eq!(read("projects/api/tasks/fix/state"), "queued\n");
    assert_eq!(read("tasks/fix/session"), "ccl-auto-11\n");
    assert_eq!(read("tasks/fix/task.md"), "fix it\n");
    std::fs::write(world.real("inbox/fix.md"), "fix more\n").expect("a change behind the mount");
    assert_eq!(read("tasks/fix/task.md"), "fix more\n");
    assert_eq!(read("tasks/old/task.md"), "old\n");
    assert!(read("tasks/old/result.md").contains("\nfine\n"));
    assert_eq!(read("sessions/ccl-auto-11/state"), "waiting\n");
    assert_eq!(read("sessions/ccl-auto-11/pid"), "4242\n");
    assert_eq!(read("sessions/ccl-auto-11/task/state"), "working\n", "through the link");
    assert_eq!(read("accounts/active"), "compte1\n");
    assert_eq!(read("accounts/compte1/sessions"), "ccl-1-web\nccl-auto-11\n");
    assert!(read("health").starts_with("degraded\ntmux: "));
    assert_eq!(read("events"), "{\"seq\":1}\n");
    let left = read("leftovers");
    let words: Vec<Vec<&str>> = left.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[0], ["PID", "SINCE", "SESSION", "TASK", "COMMAND"]);
    assert_eq!(words[1][..4], ["4711", "2026-09-21T14:13:23Z", "ccl-auto-11", "old"], "{left}");
    assert_eq!(words[2][2..], ["ccl-auto-11", "-", "npm", "run", "dev"], "{left}");
    assert!(words.len() == 3 && !left.contains("secret"), "{left}");
    assert!(read("tasks/bad/why").contains("2:3:"));
    assert!(read("sessions/ccl-auto-11/why").contains("from the screen, rule permission-box"));
    let status: serde_json::Value = serde_json::from_str(&read("status.json")).expect("JSON");
    assert_eq!(status["version"], 1);
    assert_eq!(status["tasks"].as_array().map(Vec::len), Some(8));
    assert_eq!(status["sessions"][1]["task"], "fix");
    assert_eq!(status["queues"][0]["done"], 2);
    assert!(read("metrics").contains("claude_failover_tasks{project=\"web\",state=\"working\"} 1\n"));
    assert!(world.mnt().join("sessions/ccl-auto-12/task").symlink_metadata().is_err(), "no task, no link");
    assert!(world.mnt().join("tasks/nobody").symlink_metadata().is_err());
}

#[test]
fn no_file_can_steer_a_terminal() {
    let world = World::new();
    let found = world.bash(r"LC_ALL=C grep -raP '[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]' . --exclude=pane.ansi");
    assert_eq!(found.status.code(), Some(1), "{}", String::from_utf8_lossy(&found.stdout).escape_debug());
    let colour = std::fs::read_to_string(world.mnt().join("sessions/ccl-auto-11/pane.ansi")).expect("pane.ansi");
    assert!(colour.starts_with("\u{1b}[31mred\u{1b}[0m h]0;EVIL"), "{colour:?}");
    let others = colour.matches('\u{1b}').count();
    assert_eq!(others, 2, "{colour:?}");
}

#[test]
fn what_can_only_be_read_says_so_at_open_and_nothing_special_can_be_changed() {
    let world = World::new();
    world.fails("echo b > status", "Permission denied");
    world.fails("echo b >> events", "Permission denied");
    for script in [
        "touch new",
        "mkdir new",
        "rm status",
        "rm control",
        "rmdir inbox",
        "rmdir tasks",
        "mv status state",
        "mv inbox other",
        "ln status link",
        "ln -s x link",
        "chmod 644 control",
        "mkdir tasks/mine",
        "touch sessions/ccl-auto-11/x",
        "rm tasks/fix/state",
        "mkdir accounts/new",
        "touch projects/new",
        "rm -r projects/web/tasks",
        "mv projects/web/status projects/web/x",
        "rmdir projects/web/inbox",
    ] {
        let output = world.bash(script);
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{script} succeeded");
        let words = ["Operation not permitted", "Permission denied"];
        assert!(words.iter().any(|words| err.contains(words)), "{script}: {err}");
    }
}

#[test]
fn reading_everything_ends_and_changes_nothing() {
    let world = World::new();
    let before = std::fs::read_to_string(world.mnt().join("control")).expect("control");
    world.ok("ls -lR . > /dev/null");
    world.ok("grep -r fix . > /dev/null");
    world.ok("find . -newermt 2000-01-01 > /dev/null");
    world.ok("tar cf - . | tar tf - > /dev/null");
    world.ok("cat sessions/*/input sessions/*/keys tasks/*/control > /dev/null");
    assert_eq!(world.calls(), "");
    assert_eq!(std::fs::read_to_string(world.mnt().join("control")).expect("control"), before);
    world.ok("[ -s sessions/ccl-auto-11/pane ] && [ -s status ] && [ ! -s sessions/ccl-auto-12/pid ]");
    world.ok("mkdir \"$HOME/t\" && tar cf - sessions/ccl-auto-11/pane | tar xf - -C \"$HOME/t\" && cmp \"$HOME/t/sessions/ccl-auto-11/pane\" sessions/ccl-auto-11/pane");
    world.ok("head -c 3 status && tail -c 3 status && tail -c +100000 status | wc -c | grep -qx 0");
}

#[test]
fn the_event_log_is_followed_as_it_grows() {
    let world = World::new();
    let script = "timeout 8 tail -n +1 -f events | head -n 2";
    let tail = std::thread::scope(|scope| {
        let tail = scope.spawn(|| world.bash(script));
        let log = world.dir.path().join("events.jsonl");
        std::thread::sleep(std::time::Duration::from_millis(300));
        let mut log = std::fs::OpenOptions::new().append(true).open(log).expect("the log");
        std::io::Write::write_all(&mut log, b"{\"seq\":2}\n").expect("a line");
        tail.join().expect("tail")
    });
    assert_eq!(String::from_utf8_lossy(&tail.stdout), "{\"seq\":1}\n{\"seq\":2}\n");
}

#[test]
fn renderings_need_nothing_but_a_picture() {
    let snapshot = picture::picture(Path::new("/srv"));
    let picture = Picture { snapshot: &snapshot, now: picture::at(70) };
    let status = render::status::status(&picture);
    insta_like(
        &status,
        &[
            "degraded, 2 sessions wait for a person, up 70s",
            "QUEUE",
            "SESSION",
            "ccl-auto-11",
            "waiting",
            "ACCOUNT",
            "compte1",
        ],
    );
    let json = render::status_json::value(&picture);
    for (list, keys) in [
        ("tasks", &["id", "project", "state", "settling", "why", "session", "attempts", "priority", "since"][..]),
        ("sessions", &["name", "state", "why", "task", "agent", "account", "pid", "since", "attached"][..]),
        ("accounts", &["name", "state", "why", "agent", "home", "active", "used", "until"][..]),
        (
            "queues",
            &["project", "path", "queued", "held", "working", "delegated", "rejected", "ignored", "done", "failed"][..],
        ),
    ] {
        let object = json[list][0].as_object().expect("an object");
        assert_eq!(object.keys().map(String::as_str).collect::<Vec<_>>(), keys, "{list}");
    }
}

fn insta_like(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
}

#[test]
fn a_poll_of_events_waits_until_there_is_more() {
    let mut world = World::new();
    let events = std::fs::File::open(world.mnt().join("events")).expect("events");
    let ready = |timeout: u16| {
        let interest = nix::poll::PollFlags::POLLIN;
        let mut fds = [nix::poll::PollFd::new(std::os::fd::AsFd::as_fd(&events), interest)];
        let count = nix::poll::poll(&mut fds, timeout).expect("a poll");
        if count > 0 {
            std::io::Read::read_to_end(&mut &events, &mut Vec::new()).expect("a read");
        }
        count
    };
    assert_eq!(ready(0), 1, "there is a first line");
    assert_eq!(ready(50), 0, "nothing more");
    let log = world.dir.path().join("events.jsonl");
    let stdin = world.server.stdin.take().expect("the server's input");
    let stdin = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut stdin = stdin;
            std::thread::sleep(std::time::Duration::from_millis(200));
            let mut log = std::fs::OpenOptions::new().append(true).open(log).expect("the log");
            std::io::Write::write_all(&mut log, b"{\"seq\":2}\n").expect("a line");
            std::io::Write::write_all(&mut stdin, b".").expect("a hint");
            stdin
        });
        assert_eq!(ready(10_000), 1, "woken");
        writer.join().expect("the writer")
    });
    world.server.stdin = Some(stdin);
}
