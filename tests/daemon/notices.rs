//! Notifications of a real daemon, by webhook to the test's own server.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::Command,
    sync::{Arc, Mutex},
};

use serde_json::Value;

use super::failover::stage::{FAR, limit, stage, until_said};
use crate::world::{CRASH, Setup, World, program};

const SECRET: &str = "SECRET-of-the-hook";

/// What a receiver does with what comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Takes,
    /// Reads and never answers.
    Hangs,
    Refuses,
}

/// A receiver on loopback, which remembers what came.
struct Receiver {
    port: u16,
    mood: Arc<Mutex<Mood>>,
    came: Arc<Mutex<Vec<Value>>>,
}

impl Receiver {
    fn start(mood: Mood) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let receiver = Self { port, mood: Arc::new(Mutex::new(mood)), came: Arc::default() };
        let (mood, came) = (receiver.mood.clone(), receiver.came.clone());
        std::thread::spawn(move || {
            let mut held = Vec::new();
            for stream in listener.incoming().map_while(Result::ok) {
                let mood = *mood.lock().expect("a lock");
                held.extend(serve(stream, mood, &came));
            }
        });
        receiver
    }

    fn config(&self) -> String {
        format!("notifications: {{webhook: {{url: 'http://127.0.0.1:{}/{SECRET}'}}}}\n", self.port)
    }

    fn set(&self, mood: Mood) {
        *self.mood.lock().expect("a lock") = mood;
    }

    fn came(&self) -> usize {
        self.came.lock().expect("a lock").len()
    }

    fn of_kind(&self, kind: &str) -> Vec<Value> {
        self.came.lock().expect("a lock").iter().filter(|notice| notice["kind"] == kind).cloned().collect()
    }
}

/// Answers the stream when it is to be kept open.
fn serve(mut stream: TcpStream, mood: Mood, came: &Mutex<Vec<Value>>) -> Option<TcpStream> {
    let mut text = Vec::new();
    let mut part = [0; 4096];
    let notice = loop {
        let n = stream.read(&mut part).ok().filter(|n| *n > 0)?;
        text.extend_from_slice(&part[..n]);
        let Some(end) = text.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        if let Ok(notice) = serde_json::from_slice(&text[end + 4..]) {
            break notice;
        }
    };
    came.lock().expect("a lock").push(notice);
    let status = match mood {
        Mood::Takes => "200 OK",
        Mood::Refuses => "403 Forbidden",
        Mood::Hangs => return Some(stream),
    };
    let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    None
}

/// In nothing that the daemon writes or shows does the hook's secret stand.
#[track_caller]
fn keeps_its_secret(world: &World) {
    let found = world.sh(&format!("grep -rl {SECRET} $MNT/* state daemon.log"));
    assert_eq!(String::from_utf8_lossy(&found.stdout), "", "the secret is shown");
    assert!(world.word("config.yaml").contains("***"), "{}", world.word("config.yaml"));
}

#[test]
fn a_limit_and_its_swap_are_told_once_also_over_a_restart() {
    let receiver = Receiver::start(Mood::Takes);
    let mut world = stage(1, &["one", "two"], &receiver.config());
    world.submit("a", "count\ndemo: slow=4\n");
    until_said(&world, 11, "word3");
    limit(&world, "one", FAR);
    world.result("done/a.md");
    world.until("both notices", || receiver.of_kind("limit").len() == 1 && receiver.of_kind("swap").len() == 1);
    let told = receiver.of_kind("limit").remove(0);
    assert_eq!(told["title"], "Account one is at its limit", "{told}");
    assert!(told["text"].as_str().is_some_and(|text| text.contains("5-hour limit")), "{told}");
    assert_eq!(receiver.of_kind("swap")[0]["title"], "Account two is active, after one");
    world.kill_daemon();
    world.run();
    // A later incident is told, and what was told before it is not told again.
    world.submit("b", &format!("---\nretries: 0\n---\n{CRASH}"));
    world.until("a failed task's notice", || !receiver.of_kind("task-failed").is_empty());
    assert_eq!((receiver.of_kind("limit").len(), receiver.of_kind("swap").len()), (1, 1));
    keeps_its_secret(&world);
}

#[test]
fn a_receiver_that_hangs_holds_nothing_up_and_gets_its_notice_later() {
    let receiver = Receiver::start(Mood::Hangs);
    let world = stage(1, &["one", "two"], &receiver.config());
    world.submit("a", "count\ndemo: slow=4\n");
    until_said(&world, 11, "word3");
    limit(&world, "one", FAR);
    world.until("the first notice to hang", || receiver.came() == 1);
    for n in 0..10 {
        world.submit(&format!("t{n}"), "hello\n");
    }
    for n in 0..10 {
        world.result(&format!("done/t{n}.md"));
    }
    assert!(receiver.of_kind("swap").is_empty(), "all was done while the first notice still hung");
    receiver.set(Mood::Takes);
    world.until("both notices after all", || {
        receiver.of_kind("limit").len() >= 2 && receiver.of_kind("swap").len() == 1
    });
    keeps_its_secret(&world);
}

#[test]
fn a_receiver_that_refuses_stands_in_health_until_it_takes_one() {
    let receiver = Receiver::start(Mood::Refuses);
    let world = World::start(&Setup::agents(1).more(&receiver.config()));
    let fail = |name: &str| world.submit(name, &format!("---\nretries: 0\n---\n{CRASH}"));
    fail("a");
    world.until("health to tell", || world.word("health").contains("notifications.webhook: answered 403 Forbidden"));
    keeps_its_secret(&world);
    receiver.set(Mood::Takes);
    fail("b");
    world.until("health to be right again", || world.word("health") == "ok");
    assert_eq!(receiver.of_kind("task-failed").len(), 2, "each was sent once");
    // What is dead is told of by name, and another address is taken over without a restart.
    let second = Receiver::start(Mood::Takes);
    let config = fs::read_to_string(world.path("config.yaml")).expect("the configuration");
    let other = config.replace(&format!("127.0.0.1:{}/", receiver.port), &format!("127.0.0.1:{}/", second.port));
    fs::write(world.path("config.yaml"), other).expect("written");
    world.ok("echo reload > $MNT/control");
    fail("c");
    world.until("the other receiver to be told", || !second.of_kind("task-failed").is_empty());
}

#[test]
fn check_sends_a_test_through_each_channel_and_says_what_came_back() {
    let receiver = Receiver::start(Mood::Takes);
    let world = World::prepare(&Setup::agents(1).more(&receiver.config()));
    let check = |notify: &[&str]| {
        let mut command = Command::new(program());
        command.args(["check", "--config"]).arg(world.path("config.yaml")).args(notify);
        let out = command.env("STATE_DIRECTORY", world.path("state")).env("HOME", world.path("home")).output();
        let out = out.expect("ran");
        String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned()
    };
    assert!(!check(&[]).contains("webhook") && receiver.came() == 0, "only when it is asked for");
    assert!(check(&["--notify"]).contains("ok: webhook: took a test notice"));
    assert_eq!(receiver.of_kind("test").len(), 1);
    receiver.set(Mood::Refuses);
    let said = check(&["--notify"]);
    assert!(said.contains("notifications.webhook: answered 403 Forbidden"), "{said}");
    assert!(!said.contains("took a test notice"), "{said}");
}
