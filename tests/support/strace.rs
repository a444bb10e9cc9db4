//! Makes system calls of a running process fail, or do nothing.
#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

/// Detached when dropped.
pub struct Strace(Option<Child>);

impl Strace {
    /// `inject` as strace(1) takes it; `paths` narrow it to calls on these (all, when empty).
    pub fn inject(pid: u32, inject: &str, paths: &[&Path]) -> Self {
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o", "/dev/null", "-e", inject, "-p", &pid.to_string()]);
        for path in paths {
            command.arg("-P").arg(path);
        }
        // `-qq` says nothing when it has attached; /proc does.
        let child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("these tests need strace");
        let mut strace = Self(Some(child));
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while !is_traced(pid) {
            assert!(std::time::Instant::now() < deadline, "strace did not attach: {}", strace.end());
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        strace
    }

    fn end(&mut self) -> String {
        let Some(mut child) = self.0.take() else { return String::new() };
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT);
        let words = child.stderr.take().map(|words| BufReader::new(words).lines().map_while(Result::ok).collect());
        let _ = child.wait();
        words.unwrap_or_default()
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        self.end();
    }
}

/// All threads are.
fn is_traced(pid: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    threads.filter_map(Result::ok).all(|thread| {
        let status = std::fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        !status.lines().any(|line| line.split_whitespace().eq(["TracerPid:", "0"]))
    })
}
