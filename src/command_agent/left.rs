//! Cleans up processes that a program leaves running: ends those still in the terminal's session, reports those that
//! left it.
//! Looks at this process's children, which as a subreaper include every orphan below it; sends TERM and KILL and
//! returns names. Signals only its own children: their pids can't be reused before they are reaped here.

use std::{
    io,
    os::fd::AsFd,
    time::{Duration, Instant},
};

use clap::ValueEnum;
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        prctl,
        signal::{Signal, kill},
        signalfd::SignalFd,
        wait::{Id, WaitPidFlag, waitid, waitpid},
    },
    unistd::{Pid, getsid},
};

use crate::linux::{peek, process::children};

/// How long leftovers may take to act on TERM. Chosen: half of the default `lifecycle.stop_grace`.
const GRACE: Duration = Duration::from_secs(5);
/// How long a child may take from its fork to its setsid(2). Chosen: microseconds when idle; a busy machine gets many
/// time slices.
const DETACHES_WITHIN: Duration = Duration::from_millis(250);
/// Poll interval meanwhile: the kernel reports no setsid(2). Chosen: 25 polls within `DETACHES_WITHIN`.
const POLL_EVERY: Duration = Duration::from_millis(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Background {
    Ends,
    Stays,
}

/// From now on orphans below this process become its children.
pub(super) fn adopt() -> io::Result<()> {
    Ok(prctl::set_child_subreaper(true)?)
}

/// Takes the exit status of every ended child but the program itself, whose status is the result.
pub(super) fn reap(program: Pid) {
    let peek = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    while let Ok(ended) = waitid(Id::All, peek)
        && let Some(pid) = ended.pid().filter(|pid| *pid != program)
    {
        let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG));
    }
}

/// A leftover as it is reported.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Left {
    stayed: Vec<String>,
    detached: Vec<String>,
}

impl Left {
    /// Lines for the end of the result; nothing where nothing is left.
    pub(super) fn told(&self, background: Background) -> String {
        let line = |what: &str, names: &[String]| match names {
            [] => String::new(),
            names => format!("\n[{what}: {}]\n", names.join(", ")),
        };
        let stayed = match background {
            Background::Ends => "Ended with the command, which left it in the background",
            Background::Stays => "Still running in the background, where the command left it",
        };
        line(stayed, &self.stayed) + &line("Still running, because it detached itself", &self.detached)
    }
}

/// What is left below this process, once the program has ended. What may still be on its way out of the session gets a
/// moment for it: `setsid -f` and its like return before their child has left.
pub(super) fn settled() -> Left {
    let until = Instant::now() + DETACHES_WITHIN;
    loop {
        let left = look();
        if left.stayed.is_empty() || Instant::now() >= until {
            return left;
        }
        std::thread::sleep(POLL_EVERY);
    }
}

fn look() -> Left {
    let mut left = Left::default();
    let mut level = children(std::process::id());
    while !level.is_empty() {
        for pid in &level {
            let Some(name) = peek::told(*pid) else { continue };
            let list = if stayed(*pid) { &mut left.stayed } else { &mut left.detached };
            list.push(format!("{name} (pid {pid})"));
        }
        level = level.into_iter().flat_map(children).collect();
    }
    left
}

/// Ends what stayed in the session, TERM and then KILL, with what it leaves behind in turn.
pub(super) fn end(signals: &SignalFd) {
    let kill_at = Instant::now() + GRACE;
    let mut told = Vec::new();
    loop {
        // No program any more: every child is one that was left.
        reap(Pid::from_raw(0));
        let left: Vec<u32> = children(std::process::id()).into_iter().filter(|pid| stayed(*pid)).collect();
        if left.is_empty() {
            return;
        }
        let now = Instant::now();
        for pid in left.iter().filter(|pid| now >= kill_at || !told.contains(*pid)) {
            let child = Pid::from_raw(pid.cast_signed());
            if now >= kill_at {
                let _ = kill(child, Signal::SIGKILL);
            } else {
                let _ = kill(child, Signal::SIGTERM);
                // A stopped program can't act on TERM.
                let _ = kill(child, Signal::SIGCONT);
            }
        }
        told = left;
        // Chosen: SIGCHLD wakes it earlier; orphans that appear meanwhile are found five times a second.
        let pause = kill_at.saturating_duration_since(now).clamp(Duration::from_millis(10), Duration::from_millis(200));
        let pause = PollTimeout::try_from(pause).unwrap_or(PollTimeout::ZERO);
        let _ = poll(&mut [PollFd::new(signals.as_fd(), PollFlags::POLLIN)], pause);
        while let Ok(Some(_)) = signals.read_signal() {}
    }
}

/// Whether a process is in this process's terminal session.
fn stayed(pid: u32) -> bool {
    let session = getsid(Some(Pid::from_raw(pid.cast_signed())));
    session.is_ok_and(|session| getsid(None) == Ok(session))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_in_a_line_each() {
        assert_eq!(Left::default().told(Background::Ends), "");
        let left = Left { stayed: vec!["a (pid 1)".into(), "b (pid 2)".into()], detached: vec!["c (pid 3)".into()] };
        let told = left.told(Background::Ends);
        assert!(told.contains("background: a (pid 1), b (pid 2)]\n") && told.contains("detached itself: c (pid 3)]\n"));
        assert!(
            left.told(Background::Stays)
                .contains("Still running in the background, where the command left it: a (pid 1)")
        );
    }
}
