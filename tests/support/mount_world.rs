//! A real mount, served by a child process under a watchdog, over a fake backend that records what it receives.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use claude_failover::{
    fs::{Backend, Mounted, Options, Touched},
    model::{
        command::{self, Command as Verb, Refused, RefusedKind, Scope, TaskRef, Writer},
        provider::{JobStop, Wish},
        snapshot::{Outcome, Snapshot},
        task::Phase,
    },
};

use crate::picture;

/// A test that takes longer hangs; its mount is detached then so that nobody hangs with it.
const TEST_MAX: Duration = Duration::from_secs(120);

/// Stands in for the daemon. `calls` gets a line for each report and each delivered text.
pub struct FakeDaemon {
    dir: PathBuf,
    snapshot: Mutex<Arc<Snapshot>>,
    calls: Mutex<File>,
}

impl FakeDaemon {
    pub fn new(dir: &Path) -> Self {
        let calls = OpenOptions::new().create(true).append(true).open(dir.join("calls")).expect("calls");
        Self { dir: dir.to_owned(), snapshot: Mutex::new(Arc::new(picture::picture(dir))), calls: Mutex::new(calls) }
    }

    fn call(&self, line: &str) {
        let mut calls = self.calls.lock().expect("calls");
        calls.write_all(format!("{line}\n").as_bytes()).expect("a line in calls");
    }

    fn carry_out(&self, scope: &Scope, text: &[u8]) -> Result<(), Refused> {
        let refused = |kind, text: &str| Err(Refused::new(kind, text));
        assert!(!text.starts_with(b"# panic"), "asked to panic");
        if text.starts_with(b"# wait") {
            self.call("waiting");
            while !self.dir.join("go").exists() {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        for verb in command::parse(scope, text)? {
            match &verb {
                Verb::Wish(key, _) if !self.snapshot().tasks.contains_key(key) => {
                    return refused(RefusedKind::NotFound, "no such task");
                }
                Verb::Cancel(TaskRef::Text(id)) if self.snapshot().find_tasks(id).is_empty() => {
                    return refused(RefusedKind::NotFound, "no such task");
                }
                Verb::Swap(Some(name)) if self.snapshot().account(name).is_none() => {
                    return refused(RefusedKind::NotFound, "no such account");
                }
                Verb::Swap(None) => return refused(RefusedKind::TryAgain, "no other account can be used now"),
                Verb::Swap(Some(name)) if name.as_str() == "compte3" => {
                    return refused(RefusedKind::Unclean, "a swap is half done");
                }
                Verb::Resume => return refused(RefusedKind::Busy, "a swap is under way"),
                Verb::Reload => return refused(RefusedKind::Failed, "tried and undone"),
                Verb::Retry(_) => return refused(RefusedKind::TryAgain, "cooldown"),
                _ => self.call(&format!("verb {verb:?}")),
            }
        }
        Ok(())
    }
}

impl Backend for FakeDaemon {
    fn admits(&self, place: &claude_failover::fs::Place) -> Result<(), Refused> {
        let full = place.name.to_str() == Some("one-too-many.md");
        if full { Err(Refused::new(RefusedKind::Full, "the queue is full")) } else { Ok(()) }
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.lock().expect("snapshot"))
    }

    fn control(&self, scope: Scope, text: &[u8], writer: &Writer) -> Result<(), Refused> {
        let result = self.carry_out(&scope, text);
        let mut snapshot = self.snapshot.lock().expect("snapshot");
        let mut next = (**snapshot).clone();
        next.seq += 1;
        next.paused |= text == b"pause\n";
        if let (Scope::ActiveAccount, Ok(()), Ok(name)) = (&scope, &result, std::str::from_utf8(text))
            && !name.trim().is_empty()
        {
            for account in Arc::make_mut(&mut next.accounts) {
                account.active = account.name.as_str() == name.trim();
            }
        }
        if let (Scope::Task(key), Ok(())) = (&scope, &result)
            && let Some(mut known) = next.tasks.get(key).cloned()
        {
            let task = Arc::make_mut(&mut known);
            match (text, &mut task.phase) {
                (b"delegate", _) => task.wish = Some(Wish::Provider(None)),
                (b"recall", Phase::Delegated(job)) => job.stop = JobStop::Recalled,
                (b"recall", _) => task.wish = Some(Wish::Here),
                _ => {}
            }
            next.tasks.insert(key.clone(), known);
        }
        let outcome = Outcome {
            seq: 1,
            at: jiff::Timestamp::now(),
            writer: Some(writer.clone()),
            file: "control".to_owned(),
            text: String::from_utf8_lossy(text).into_owned(),
            result: result.clone().map(|()| String::new()).map_err(|refused| (refused.kind, refused.message)),
        };
        Arc::make_mut(&mut next.outcomes).push_back(outcome);
        *snapshot = Arc::new(next);
        result
    }

    fn touched(&self, change: &Touched, writer: &Writer) {
        self.call(&format!("touched {change:?} by {}", writer.program));
    }

    fn process(&self, _: u32) -> Option<claude_failover::fs::Process> {
        None
    }

    fn config_text(&self) -> String {
        "api:\n  listen: null\n".to_owned()
    }
}

pub fn options(dir: &Path) -> Options {
    Options {
        mountpoint: dir.join("mnt"),
        queues: ["web", "api"].map(|name| (picture::project(name), dir.join(name).join(".agent-queue"))).into(),
        found: dir.join("found"),
        events_log: dir.join("events.jsonl"),
        durable: true,
        allow_other: false,
        program: None,
        control_gid: None,
    }
}

/// The child's side: serves until its standard input ends.
pub fn serve(dir: &Path) {
    let group = std::env::var("MOUNT_CONTROL_GROUP").ok().and_then(|group| group.parse().ok());
    let options = Options { allow_other: group.is_some(), control_gid: group, ..options(dir) };
    if std::env::var_os("MOUNT_ORDINARY").is_some() {
        forgo_administration();
    }
    let mounted = Mounted::mount(&options, Arc::new(FakeDaemon::new(dir))).expect("mounted");
    std::fs::write(dir.join("ready"), "").expect("ready");
    // Each byte stands for a line that the daemon wrote to its event log.
    for byte in std::io::stdin().lock().bytes() {
        if byte.is_err() {
            break;
        }
        mounted.changed();
    }
    mounted.unmount().expect("unmounted");
}

/// Gives up the capabilities of root in this thread and those it starts. File data then goes the ordinary way, and
/// mounting takes fusermount3, as for any user.
fn forgo_administration() {
    // The version and shape of linux/capability.h: a header, then two times effective, permitted, inheritable.
    let header: [u32; 2] = [0x2008_0522, 0];
    let mut sets = [0_u32; 6];
    // SAFETY: both arrays have the size that this version tells of and outlive the calls.
    unsafe {
        assert_eq!(libc::syscall(libc::SYS_capget, header.as_ptr(), sets.as_mut_ptr()), 0);
        // CAP_SYS_ADMIN of the effective set.
        sets[0] &= !(1 << 21);
        assert_eq!(libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()), 0);
    }
}

/// A mount and the process that serves it.
pub struct World {
    pub dir: tempfile::TempDir,
    pub server: Child,
    done: Arc<AtomicBool>,
}

impl World {
    pub fn new() -> Self {
        Self::with(&[])
    }

    /// `variables` steer the server (`serve`).
    pub fn with(variables: &[(&str, &str)]) -> Self {
        assert!(Path::new("/dev/fuse").exists(), "these tests need /dev/fuse");
        let dir = tempfile::tempdir().expect("a directory");
        for (task, body) in [
            ("inbox/fix", "fix it\n"),
            (
                "done/old",
                "old\n<!-- claude-failover:result -->\n\nfine\n\n```yaml\nstatus: done\nrun: run-9\nfinished: 2026-09-21T14:13:20Z\n```\n",
            ),
        ] {
            let path = dir.path().join("web/.agent-queue").join(format!("{task}.md"));
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
            std::fs::write(path, body).expect("a task");
        }
        std::fs::write(dir.path().join("events.jsonl"), "{\"seq\":1}\n").expect("events");
        let server = Self::start(dir.path(), variables);
        let done = Arc::new(AtomicBool::new(false));
        let watched = (Arc::clone(&done), dir.path().join("mnt"));
        std::thread::spawn(move || {
            let until = Instant::now() + TEST_MAX;
            while !watched.0.load(Ordering::SeqCst) {
                if Instant::now() > until {
                    eprintln!("watchdog: the test hangs; detaching its mount");
                    let _ = nix::mount::umount2(&watched.1, nix::mount::MntFlags::MNT_FORCE);
                    let _ = nix::mount::umount2(&watched.1, nix::mount::MntFlags::MNT_DETACH);
                    return;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        Self { dir, server, done }
    }

    pub fn start(dir: &Path, variables: &[(&str, &str)]) -> Child {
        let _ = std::fs::remove_file(dir.join("ready"));
        let mut server = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "serve_a_mount", "--nocapture", "--ignored"])
            .env("MOUNT_SERVE", dir)
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("a server");
        let until = Instant::now() + Duration::from_secs(20);
        while !dir.join("ready").exists() {
            let ended = server.try_wait().expect("a status");
            assert!(ended.is_none(), "the server ended: {ended:?}");
            assert!(Instant::now() < until, "the server does not get ready");
            std::thread::sleep(Duration::from_millis(5));
        }
        server
    }

    pub fn mnt(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }

    pub fn real(&self, path: &str) -> PathBuf {
        self.dir.path().join("web/.agent-queue").join(path)
    }

    pub fn calls(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("calls")).expect("calls")
    }

    /// Waits until a line of the calls has all of `parts`.
    pub fn wait_for_call(&self, parts: &[&str]) -> String {
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            let calls = self.calls();
            if let Some(line) = calls.lines().find(|line| parts.iter().all(|part| line.contains(part))) {
                return line.to_owned();
            }
            assert!(Instant::now() < until, "no call with {parts:?} in:\n{calls}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Runs a bash script in the mount, with `$REAL` the first project's real queue.
    pub fn bash(&self, script: &str) -> Output {
        Command::new("bash")
            .args(["-c", script])
            .current_dir(self.mnt())
            .env("REAL", self.real(""))
            .env("HOME", self.dir.path())
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null())
            .output()
            .expect("bash")
    }

    /// The same, and it must succeed. Answers what it said.
    #[track_caller]
    pub fn ok(&self, script: &str) -> String {
        let output = self.bash(script);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{script}\n{}\nout: {out}\nerr: {err}", output.status);
        out.into_owned()
    }

    /// The same, and it must fail saying `words`.
    #[track_caller]
    pub fn fails(&self, script: &str, words: &str) {
        let output = self.bash(script);
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{script} succeeded");
        assert!(err.contains(words), "{script} said: {err}");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        drop(self.server.stdin.take());
        let until = Instant::now() + Duration::from_secs(10);
        while matches!(self.server.try_wait(), Ok(None)) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.server.kill();
        let _ = self.server.wait();
        let _ = nix::mount::umount2(&self.mnt(), nix::mount::MntFlags::MNT_DETACH);
        self.done.store(true, Ordering::SeqCst);
    }
}
