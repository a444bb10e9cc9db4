//! `ccl-delegate` as scripts call it, and `examples/dispatcher.sh` with it: on a plain directory, and on the mount
//! beside a daemon.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    job_server::Jobs,
    kinds::KEY,
    server::{Server, answer},
    world::{PATIENCE, Setup, World},
};

const TASK: &str = "---\npreferred_ai: gpu\nallow_delegation: true\n---\nsay hello\n";
const LOCAL: &str = "---\npreferred_ai: gpu\n---\nsay hello\n";
const DELEGATE: &str = env!("CARGO_BIN_EXE_ccl-delegate");
const DISPATCHER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/dispatcher.sh");

/// A call in an empty environment but for what a script has and these variables.
fn call(env: &[(&str, &str)], args: &[&str], stdin: &str) -> Output {
    let mut child = Command::new(DELEGATE)
        .args(args)
        .env_clear()
        .env("HOME", "/nonexistent")
        .envs(env.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    // One that needs no text may end before it is read.
    let _ = child.stdin.take().expect("a pipe").write_all(stdin.as_bytes());
    child.wait_with_output().expect("ended")
}

#[track_caller]
fn said(out: &Output, code: i32) -> String {
    let (text, told) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert_eq!(out.status.code(), Some(code), "{text}{told}");
    assert!(!text.contains(KEY) && !told.contains(KEY), "{text}{told}");
    text.trim_end().to_owned()
}

fn shown(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

#[test]
fn decide_prints_a_providers_word_or_local() {
    let here = [("CCL_SECUTOOLS_URL", "http://127.0.0.1:1")];
    for (front, word) in [
        ("", "local"),
        ("preferred_ai: gpu", "local"),
        ("preferred_ai: gpu\nallow_delegation: true", "gpu"),
        ("preferred_ai: GPU\nallow_delegation: 'yes'", "gpu"),
        ("preferred_ai: gemini\nallow_delegation: true", "gemini"),
        ("preferred_ai: claude-api\nallow_delegation: true", "claude-api"),
        ("preferred_ai: auto\nallow_delegation: true", "auto"),
        ("preferred_ai: secutools\nallow_delegation: true", "secutools"),
        ("preferred_ai: nobody\nallow_delegation: true", "local"),
        ("preferred_ai: claude-code\nallow_delegation: true", "local"),
        ("preferred_ai: gpu\nallow_delegation: true\nneeds_claude_code: 1", "local"),
        ("allow_delegation: true", "local"),
    ] {
        let task = if front.is_empty() { "do it\n".to_owned() } else { format!("---\n{front}\n---\ndo it\n") };
        assert_eq!(said(&call(&here, &["decide", "-"], &task), 0), word, "{front}");
        // Without a server everything is local.
        assert_eq!(said(&call(&[], &["decide", "-"], &task), 0), "local", "{front}");
    }
    let broken = call(&here, &["decide", "-"], "---\npriority: [\n---\nx\n");
    said(&broken, 1);
    assert!(shown(&broken).contains("-:"), "{}", shown(&broken));
    let keyed = call(&[("SECUTOOLS_API_KEY", KEY)], &["decide", "-"], TASK);
    said(&keyed, 1);
    assert!(shown(&keyed).contains("CCL_SECUTOOLS_URL"), "{}", shown(&keyed));
    said(&call(&here, &["decide", "/nonexistent"], ""), 1);
    said(&call(&here, &["decide"], ""), 2);
}

#[test]
fn a_job_is_submitted_waited_for_and_its_output_printed() {
    let jobs = Arc::new(Jobs::default());
    let server = jobs.serve();
    let url = server.url();
    let env =
        [("CCL_SECUTOOLS_URL", url.as_str()), ("CCL_SECUTOOLS_API_KEY", KEY), ("SECUTOOLS_API_KEY", "another-key")];
    let job: Value = serde_json::from_str(&said(&call(&env, &["submit", "-"], TASK), 0)).expect("JSON");
    assert_eq!((&job["job_id"], &job["provider"]), (&Value::from("job-0"), &Value::from("gpu")));
    assert!(job["submitted_at"].is_string());
    let request = server.requests().remove(0);
    assert_eq!(request.header("authorization"), format!("Bearer {KEY}"));
    assert_eq!(
        (&request.body["prompt"], &request.body["preferred_ai"]),
        (&Value::from("say hello"), &Value::from("gpu"))
    );

    let get = || serde_json::from_str::<Value>(&said(&call(&env, &["get", "job-0"], ""), 0)).expect("JSON");
    assert_eq!(get()["state"], "running");
    said(&call(&env, &["result", "job-0"], ""), 4);
    said(&call(&env, &["result", "job-0", "--wait", "--timeout", "1"], ""), 4);
    jobs.finished.store(true, Ordering::SeqCst);
    assert_eq!(said(&call(&env, &["result", "job-0", "--wait"], ""), 0), "did: say hello");
    let job = get();
    assert_eq!((&job["state"], &job["output"]), (&Value::from("completed"), &Value::from("did: say hello")));
    assert_eq!((&job["cost_usd"], &job["tokens"]["output"]), (&Value::from(0.25), &Value::from(4)));
    jobs.fails.store(true, Ordering::SeqCst);
    let failed = call(&env, &["result", "job-0"], "");
    assert_eq!(said(&failed, 1), "");
    assert!(shown(&failed).contains("it broke"), "{}", shown(&failed));
    said(&call(&env, &["get", "job-99"], ""), 1);
    said(&call(&env, &["result", "job-99"], ""), 1);
}

#[test]
fn one_key_is_one_job_and_what_is_local_is_not_sent() {
    let jobs = Arc::new(Jobs::default());
    let server = jobs.serve();
    let url = server.url();
    let dead = ("CCL_SECUTOOLS_URL", "http://127.0.0.1:1");
    let env = [dead, ("CCL_SECUTOOLS_MOCK_URL", url.as_str())];
    for _ in 0..2 {
        said(&call(&env, &["submit", "-", "--key", "k-1"], TASK), 0);
    }
    assert_eq!(jobs.count(), 1);
    let local = call(&env, &["submit", "-"], LOCAL);
    assert_eq!(said(&local, 2), "");
    assert!(shown(&local).contains("allow_delegation"), "{}", shown(&local));
    said(&call(&env, &["submit", "-", "--provider", "nobody"], TASK), 2);
    assert_eq!(jobs.count(), 1);
    // Told to, whatever the task says.
    said(&call(&env, &["submit", "-", "--provider", "gpu"], LOCAL), 0);
    assert_eq!(jobs.count(), 2);
}

#[test]
fn a_server_that_can_not_be_asked_says_nothing_of_the_job() {
    let refusing = Server::always(answer(401, &[], &format!("no such key: {KEY}")));
    let url = refusing.url();
    let env = [("CCL_SECUTOOLS_URL", url.as_str()), ("SECUTOOLS_API_KEY", KEY)];
    for args in [&["get", "job-0"][..], &["result", "job-0"]] {
        said(&call(&env, args, ""), 4);
    }
    said(&call(&env, &["submit", "-"], TASK), 1);
}

#[test]
fn the_configurations_providers_count_where_no_address_is_set() {
    let jobs = Arc::new(Jobs::default());
    let (server, dry) = (jobs.serve(), Server::always(answer(402, &[], "")));
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("config.yaml");
    let config = format!(
        "projects: [{{name: web, path: {}}}]\nproviders:\n  dry: {{kind: secutools, url: '{}', key_env: K, fallback: [good]}}\n  \
         good: {{kind: secutools, url: '{}', key_env: K}}\n  chat: {{kind: openai, model: m, key_env: K}}\n",
        dir.path().display(),
        dry.url(),
        server.url()
    );
    fs::write(&file, config).expect("written");
    let file = file.display().to_string();
    let env = [("CLAUDE_FAILOVER_CONFIG", file.as_str()), ("K", KEY)];
    let task = |ai: &str| TASK.replace("gpu", ai);
    let job: Value = serde_json::from_str(&said(&call(&env, &["submit", "-"], &task("dry")), 0)).expect("JSON");
    assert_eq!((&job["job_id"], &job["provider"]), (&Value::from("job-0"), &Value::from("good")));
    said(&call(&env, &["get", "job-0", "--provider", "good"], ""), 0);
    assert_eq!(said(&call(&env, &["decide", "-"], &task("chat")), 0), "chat");
    // Its answer would end with this call.
    said(&call(&env, &["submit", "-"], &task("chat")), 2);
}

/// One pass of the dispatcher.
#[track_caller]
fn pass(queue: &Path, url: &str) {
    let out = Command::new("bash")
        .args(["-eu", DISPATCHER])
        .arg(queue)
        .env("CCL_DELEGATE", DELEGATE)
        .env("CCL_SECUTOOLS_URL", url)
        .env("CCL_SECUTOOLS_API_KEY", KEY)
        .env("CLAUDE_FAILOVER_CONFIG", "/nonexistent")
        .output()
        .expect("bash");
    assert!(out.status.success(), "{}{}", String::from_utf8_lossy(&out.stdout), shown(&out));
    assert!(!shown(&out).contains(KEY));
}

fn json(file: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(file).expect("readable")).expect("JSON")
}

#[track_caller]
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("one").file_name());
    let mut names: Vec<String> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn the_dispatcher_takes_a_task_from_inbox_to_done_on_a_plain_directory() {
    let jobs = Arc::new(Jobs::default());
    let server = jobs.serve();
    let dir = tempfile::tempdir().expect("a directory");
    let queue = dir.path();
    fs::create_dir(queue.join("inbox")).expect("made");
    fs::write(queue.join("inbox/a.md"), TASK).expect("written");
    fs::write(queue.join("inbox/b.md"), LOCAL).expect("written");
    pass(queue, &server.url());
    let marker = json(&queue.join("inbox/a.md.delegated"));
    assert_eq!((&marker["job_id"], &marker["provider"]), (&Value::from("job-0"), &Value::from("gpu")));
    let status = json(&queue.join("status.json"));
    assert_eq!(status["state"], "delegated_to_secutools");
    assert_eq!(status["tasks"]["a"]["job_id"], "job-0");
    pass(queue, &server.url());
    assert_eq!(names(&queue.join("inbox")), ["a.md", "a.md.delegated", "b.md"]);

    // A crash after the submit, before its answer was written: the same key, the same job.
    let key = marker["key"].as_str().expect("a key");
    let before = format!("{{\"provider\":\"gpu\",\"key\":\"{key}\",\"by\":\"dispatcher.sh\"}}\n");
    fs::write(queue.join("inbox/a.md.delegated"), before).expect("written");
    pass(queue, &server.url());
    assert_eq!(jobs.count(), 1);

    jobs.finished.store(true, Ordering::SeqCst);
    pass(queue, &server.url());
    assert_eq!(names(&queue.join("inbox")), ["b.md"]);
    let result = fs::read_to_string(queue.join("done/a.md")).expect("readable");
    assert!(result.starts_with(&format!("{TASK}<!-- claude-failover:result -->\n\ndid: say hello\n")), "{result}");
    assert!(result.contains("status: done\nprovider: gpu\njob: \"job-0\"\n"), "{result}");
    assert_eq!(json(&queue.join("status.json"))["state"], "idle");

    jobs.fails.store(true, Ordering::SeqCst);
    fs::write(queue.join("inbox/c.md"), TASK).expect("written");
    // Others' claims are theirs.
    fs::write(queue.join("inbox/d.md"), TASK).expect("written");
    fs::write(queue.join("inbox/d.md.working"), "{}").expect("written");
    fs::write(queue.join("inbox/e.md"), TASK).expect("written");
    fs::write(queue.join("inbox/e.md.delegated"), "{\"job_id\":\"job-0\",\"provider\":\"gpu\"}").expect("written");
    pass(queue, &server.url());
    let result = fs::read_to_string(queue.join("failed/c.md")).expect("readable");
    assert!(result.contains("status: failed") && result.contains("it broke"), "{result}");
    assert_eq!(names(&queue.join("inbox")), ["b.md", "d.md", "d.md.working", "e.md", "e.md.delegated"]);
    // Nobody there: the task stays for a session.
    fs::write(queue.join("inbox/f.md"), TASK).expect("written");
    pass(queue, "http://127.0.0.1:1");
    assert!(queue.join("inbox/f.md").exists() && !queue.join("inbox/f.md.delegated").exists());
}

#[test]
fn the_dispatcher_works_beside_a_daemon_on_the_mount() {
    let jobs = Arc::new(Jobs::default());
    let server = jobs.serve();
    // A daemon that knows no provider; it holds new tasks long enough for a script to be first.
    let mut setup = Setup::agents(1);
    setup.settle = "5s".to_owned();
    let world = World::start(&setup);
    let queue = world.mount("projects/web");
    world.submit("a", TASK);
    pass(&queue, &server.url());
    assert_eq!(jobs.count(), 1);
    assert_eq!(json(&queue.join("status.json"))["state"], "delegated_to_secutools");
    // The daemon leaves it alone, and works on.
    world.submit("b", LOCAL);
    assert!(world.result("done/b.md").contains("agent: demo"));
    world.until_word("tasks/a/state", "held");
    jobs.finished.store(true, Ordering::SeqCst);
    let deadline = Instant::now() + PATIENCE;
    while !world.queue("done/a.md").exists() {
        assert!(Instant::now() < deadline, "never filed");
        pass(&queue, &server.url());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(world.result("done/a.md").contains("did: say hello"));
    world.until("the inbox to be empty", || world.inbox_is_empty());
    assert_eq!(jobs.count(), 1);
    // No session ever had it.
    let of = |task: &str| {
        world
            .events()
            .lines()
            .filter(|line| line.contains(&format!("\"task web:{task}\"")))
            .collect::<Vec<_>>()
            .join("\n")
    };
    assert!(of("b").contains("pool-11") && !of("a").contains("pool-11"), "{}", world.events());
}

#[test]
fn the_dispatcher_is_sound_shell() {
    match Command::new("shellcheck").arg(DISPATCHER).output() {
        Ok(out) => assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout)),
        Err(error) => {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "shellcheck is needed in CI: {error}");
            println!("skipped: shellcheck can't be started: {error}");
        }
    }
}
