//! Process identity that survives pid reuse; `tree` ends whole process trees.
//! Takes pids; returns what the kernel reports. Owns only the pidfds it opens. Never signals a bare pid, only a pidfd
//! whose process the caller checks once more after opening it.

use std::{
    fs, io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    sync::Arc,
};

use tokio::{
    io::{Interest, unix::AsyncFd},
    task::{JoinError, spawn_blocking},
};

use crate::linux::{
    peek::{self, Answer, Part, Silent},
    shared::Shared,
};

pub mod tree;

/// A handle to one process, for as long as it is held; never another process of the same number.
#[derive(Debug)]
pub struct Pidfd {
    fd: AsyncFd<OwnedFd>,
    pid: u32,
}

impl Pidfd {
    /// Opens a handle. Must run inside a tokio runtime with I/O.
    ///
    /// # Errors
    /// When there is no such process (`NotFound`) or no descriptor is left.
    pub fn open(pid: u32) -> io::Result<Self> {
        Self::adopt(pidfd_open(pid)?, pid)
    }

    /// Takes over a descriptor that [`pidfd_open`] gave on another thread.
    ///
    /// # Errors
    /// When the runtime can't watch it.
    pub fn adopt(fd: OwnedFd, pid: u32) -> io::Result<Self> {
        // SAFETY: an OwnedFd answers the same open descriptor for as long as it lives, and AsyncFd owns it until then.
        let fd = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?;
        Ok(Self { fd, pid })
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal, as a queued one: the command agent, which passes a signal on to its program, can tell it from a
    /// `kill` that was meant for it alone.
    ///
    /// # Errors
    /// `NotFound` when the process is gone.
    pub fn signal(&self, signal: nix::sys::signal::Signal) -> io::Result<()> {
        // SAFETY: all of a siginfo_t may be zero.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        info.si_signo = signal as libc::c_int;
        info.si_code = libc::SI_QUEUE;
        // SAFETY: pidfd_send_signal(2) takes a descriptor that we own, a number, and a siginfo of that number.
        let answer = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.fd.get_ref().as_raw_fd(),
                signal as libc::c_int,
                &raw const info,
                0,
            )
        };
        if answer == 0 { Ok(()) } else { Err(no_process_is_not_found(io::Error::last_os_error())) }
    }

    /// Completes when the process has ended, reaped or not.
    pub async fn ended(&self) {
        // The only error is a runtime that shuts down, and then nobody waits any more.
        let _readable = self.fd.readable().await;
    }

    /// Whether the process has ended, reaped or not.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        let mut poll = libc::pollfd { fd: self.fd.get_ref().as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: poll(2) on one descriptor that we own, without waiting.
        unsafe { libc::poll(&raw mut poll, 1, 0) == 1 }
    }
}

/// A bare pidfd, for threads outside the runtime.
///
/// # Errors
/// `NotFound` when there is no such process.
pub fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    let pid = i32::try_from(pid).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: pidfd_open(2) takes two numbers; the descriptor it answers is ours alone (and close-on-exec).
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    match i32::try_from(fd) {
        // SAFETY: a non-negative answer is a fresh descriptor that nothing else owns.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(no_process_is_not_found(io::Error::last_os_error())),
    }
}

fn no_process_is_not_found(error: io::Error) -> io::Error {
    if error.raw_os_error() == Some(libc::ESRCH) { io::ErrorKind::NotFound.into() } else { error }
}

/// The processes that a process has started and that still are its children. The kernel lists them by the thread that started
/// them (proc_tid_children(5)).
#[must_use]
pub fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("children")).ok());
    let text = lists.collect::<String>();
    text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// The name of a process's program, as `ps` shows it: its first fifteen bytes.
#[must_use]
pub fn name(pid: u32) -> Option<String> {
    let name = fs::read(format!("/proc/{pid}/comm")).ok()?;
    Some(String::from_utf8_lossy(name.strip_suffix(b"\n").unwrap_or(&name)).into_owned())
}

/// The process that a thread is of; `None` when there is no such thread.
#[must_use]
pub fn thread_group(thread: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
}

/// What `/proc/PID/stat` says (proc(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    pub pid: u32,
    pub parent: u32,
    pub group: u32,
    pub session: u32,
    /// The controlling terminal's device; 0 without one.
    pub terminal: i64,
    /// The process group in front there.
    pub front: i64,
    pub zombie: bool,
    /// Clock ticks since boot: with the pid the process's identity.
    pub start: u64,
}

/// Of a process whose `stat` can't be read: later than any start.
const UNKNOWN_START: u64 = u64::MAX;

impl Stat {
    /// Its process group is the one that its terminal listens to.
    #[must_use]
    pub fn group_is_in_front(&self) -> bool {
        i64::from(self.group) == self.front
    }

    /// `None` if there is no such process. Never waits long: if `stat` can't be read now (in exec(2), at a dead disk)
    /// it returns what `status` has, without start time and terminal.
    #[must_use]
    pub fn read(pid: u32) -> Option<Self> {
        Self::of(pid, peek::one(pid, Part::Stat))
    }

    fn of(pid: u32, told: Answer) -> Option<Self> {
        match told {
            Ok(line) => Self::parse(pid, &line),
            Err(Silent::NotOurs) => None,
            Err(Silent::Late) => Self::of_status(pid, &fs::read_to_string(format!("/proc/{pid}/status")).ok()?),
        }
    }

    /// Its start is not known.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        self.start == UNKNOWN_START
    }

    /// Whether it may be the process that began then.
    #[must_use]
    pub fn may_have_begun(&self, start: u64) -> bool {
        self.start == start || self.is_stuck()
    }

    fn of_status(pid: u32, status: &str) -> Option<Self> {
        // Of several numbers the first is the one in the reader's namespace.
        let field = |key: &str| status.lines().find_map(|line| line.strip_prefix(key))?.split_ascii_whitespace().next();
        let id = |key: &str| field(key)?.parse().ok();
        Some(Self {
            pid,
            parent: id("PPid:")?,
            group: id("NSpgid:")?,
            session: id("NSsid:")?,
            terminal: 0,
            front: -1,
            zombie: matches!(field("State:"), Some("Z" | "X")),
            start: UNKNOWN_START,
        })
    }

    fn parse(pid: u32, stat: &[u8]) -> Option<Self> {
        // The command's name may hold spaces and parentheses; the fields follow the last one.
        let after = stat.iter().rposition(|&b| b == b')')? + 1;
        let fields: Vec<&str> = std::str::from_utf8(stat.get(after..)?).ok()?.split_ascii_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        let id = |at: usize| u32::try_from(number(at)?).ok();
        Some(Self {
            pid,
            parent: id(1)?,
            group: id(2)?,
            session: id(3)?,
            terminal: fields.get(4)?.parse().ok()?,
            front: fields.get(5)?.parse().ok()?,
            zombie: matches!(fields.first(), Some(&("Z" | "X"))),
            start: number(19)?,
        })
    }

    /// Every process there is, as it was at some moment after the call. Reading them is a few milliseconds on a busy machine: too
    /// long for the runtime's own threads, and for each of many callers.
    ///
    /// # Errors
    /// When the runtime is going down.
    pub async fn every() -> Result<Arc<Vec<Self>>, JoinError> {
        static LAST: Shared<Arc<Vec<Stat>>> = Shared::new();
        LAST.get(async { spawn_blocking(Self::all).await.map(Arc::new) }).await
    }

    fn all() -> Vec<Self> {
        let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
        let pids: Vec<u32> = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
        pids.iter().zip(peek::all(&pids, Part::Stat)).filter_map(|(pid, told)| Self::of(*pid, told)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_parentheses_are_read_past() {
        let line = b"7 (a) b (c)) S 1 7 7 34817 7 0 0 0 0 0 0 0 0 0 20 0 1 0 4242 0";
        let expected =
            Stat { pid: 7, parent: 1, group: 7, session: 7, terminal: 34817, front: 7, zombie: false, start: 4242 };
        assert_eq!(Stat::parse(7, line), Some(expected));
    }

    #[test]
    fn what_stat_does_not_tell_status_does() {
        let own = std::process::id();
        let status = fs::read_to_string("/proc/self/status").expect("readable");
        let (told, expected) = (Stat::of_status(own, &status).expect("told"), Stat::read(own).expect("it lives"));
        assert!(told.is_stuck() && !expected.is_stuck());
        assert_eq!(Stat { terminal: 0, front: -1, start: told.start, ..expected }, told);
    }
}
