//! Processes of this machine: identity that survives pid reuse, trees, and ending a tree.
//! In: pids. Out: signals to exactly the processes that belong to a tree. Owns nothing but the pidfds it opens.
//! Never signals by bare pid: a pidfd is opened first and the process looked at again, so a reused pid is never hit.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    time::Duration,
};

use tokio::{
    io::{Interest, unix::AsyncFd},
    time::Instant,
};

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

    /// Sends a signal.
    ///
    /// # Errors
    /// `NotFound` when the process is gone.
    pub fn signal(&self, signal: nix::sys::signal::Signal) -> io::Result<()> {
        // SAFETY: pidfd_send_signal(2) takes a descriptor that we own, a number, and no siginfo.
        let answer = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.fd.get_ref().as_raw_fd(),
                signal as libc::c_int,
                std::ptr::null::<libc::siginfo_t>(),
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

/// What `/proc/PID/stat` says (proc(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    pub pid: u32,
    pub parent: u32,
    pub group: u32,
    pub session: u32,
    pub zombie: bool,
    /// Clock ticks since boot: with the pid the process's identity.
    pub start: u64,
}

impl Stat {
    /// `None` when there is no such process.
    #[must_use]
    pub fn read(pid: u32) -> Option<Self> {
        Self::parse(pid, &fs::read(format!("/proc/{pid}/stat")).ok()?)
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
            zombie: matches!(fields.first(), Some(&("Z" | "X"))),
            start: number(19)?,
        })
    }

    /// Every process there is.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        pids.filter_map(Self::read).collect()
    }
}

/// The parent of a process; `None` when there is no such process.
#[must_use]
pub fn parent_of(pid: u32) -> Option<u32> {
    Stat::read(pid).map(|stat| stat.parent)
}

/// The tree of a program that leads a terminal's session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Root {
    /// The program's pid, which is also its terminal session's number.
    pub pid: u32,
    /// Only a child of this process can be the root; guards against a reused pid.
    pub parent: u32,
}

/// Members of the tree among `all`: descendants, and everything in a session or process group that a member leads.
/// `known` holds members of earlier looks, whose children may have lost their parent meanwhile. `proof` decides for
/// processes that only the root's session number ties to a root that is gone.
#[must_use]
pub fn tree(all: &[Stat], root: Root, known: &HashMap<u32, u64>, proof: impl Fn(u32) -> bool) -> Vec<Stat> {
    // Neither they nor what they started for themselves belongs to the tree.
    let own = std::process::id();
    let spared = |pid: u32| pid <= 1 || pid == own || pid == root.parent;
    let by_pid: HashMap<u32, &Stat> = all.iter().map(|stat| (stat.pid, stat)).collect();
    let root_lives = by_pid.get(&root.pid).is_some_and(|stat| stat.parent == root.parent);
    // A number still means the member that we knew unless another process carries it now.
    let same = |pid: &u32, start: &u64| by_pid.get(pid).is_none_or(|stat| stat.start == *start);
    let mut leaders: HashSet<u32> = known.iter().filter(|(pid, start)| same(pid, start)).map(|(pid, _)| *pid).collect();
    if root_lives {
        leaders.insert(root.pid);
    }
    let mut members: HashSet<u32> = leaders.iter().copied().filter(|pid| by_pid.contains_key(pid)).collect();
    if !root_lives && !by_pid.contains_key(&root.pid) {
        members.extend(all.iter().filter(|s| s.session == root.pid && proof(s.pid)).map(|s| s.pid));
        leaders.extend(&members);
    }
    loop {
        let more: Vec<u32> = all
            .iter()
            .filter(|s| !members.contains(&s.pid) && !spared(s.pid))
            .filter(|s| [s.parent, s.session, s.group].iter().any(|id| leaders.contains(id)))
            .map(|s| s.pid)
            .collect();
        if more.is_empty() {
            break;
        }
        members.extend(&more);
        leaders.extend(&more);
    }
    all.iter().filter(|s| members.contains(&s.pid) && !s.zombie).copied().collect()
}

/// How long KILL may take before the process counts as stuck in the kernel.
const KILL_WITHIN: Duration = Duration::from_secs(5);

/// Ends a tree: TERM to every member, KILL to those left after `grace`, and waits until none is left. Processes that
/// the tree starts meanwhile are ended too.
///
/// # Errors
/// The pids that outlive KILL.
pub async fn end_tree(
    root: Root,
    grace: Duration,
    proof: impl Fn(u32) -> bool + Clone + Send + 'static,
) -> Result<(), Vec<u32>> {
    use nix::sys::signal::Signal;
    let kill_at = Instant::now() + grace;
    let mut known: HashMap<u32, u64> = HashMap::new();
    let mut held: HashMap<u32, Pidfd> = HashMap::new();
    let mut pause = Duration::from_millis(10);
    loop {
        let killing = Instant::now() >= kill_at;
        let (earlier, proof) = (known.clone(), proof.clone());
        // Reading /proc is a few milliseconds on a busy machine: too long for the runtime's own threads.
        let look = tokio::task::spawn_blocking(move || tree(&Stat::all(), root, &earlier, proof)).await;
        let members = look.unwrap_or_default();
        held.retain(|_, fd| !fd.has_ended());
        if members.is_empty() && held.is_empty() {
            return Ok(());
        }
        if Instant::now() >= kill_at + KILL_WITHIN {
            let mut left: Vec<u32> = held.keys().copied().collect();
            left.sort_unstable();
            return Err(left);
        }
        for member in members {
            let fresh = !held.contains_key(&member.pid);
            if fresh {
                let Ok(fd) = Pidfd::open(member.pid) else { continue };
                // The pid may have changed hands between the look and the handle.
                if Stat::read(member.pid).is_none_or(|now| now.start != member.start) {
                    continue;
                }
                known.insert(member.pid, member.start);
                held.insert(member.pid, fd);
            }
            let Some(fd) = held.get(&member.pid) else { continue };
            // A member that has just ended needs no signal.
            if killing {
                drop(fd.signal(Signal::SIGKILL));
            } else if fresh {
                drop(fd.signal(Signal::SIGTERM));
                // A stopped program can't act on TERM.
                drop(fd.signal(Signal::SIGCONT));
            }
        }
        let next = if killing { Instant::now() + pause } else { kill_at.min(Instant::now() + pause) };
        drop(tokio::time::timeout_at(next, all_ended(&held)).await);
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}

async fn all_ended(held: &HashMap<u32, Pidfd>) {
    for fd in held.values() {
        fd.ended().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(pid: u32, parent: u32, group: u32, session: u32) -> Stat {
        Stat { pid, parent, group, session, zombie: false, start: u64::from(pid) }
    }

    const ROOT: Root = Root { pid: 100, parent: 50 };

    fn pids(all: &[Stat], known: &[(u32, u64)], proof: impl Fn(u32) -> bool) -> Vec<u32> {
        tree(all, ROOT, &known.iter().copied().collect(), proof).iter().map(|s| s.pid).collect()
    }

    #[test]
    fn a_tree_is_descendants_and_the_sessions_and_groups_they_lead() {
        let all = [
            stat(50, 1, 50, 50),
            stat(60, 50, 60, 60),    // another pane
            stat(100, 50, 100, 100), // the root
            stat(101, 100, 101, 100),
            stat(102, 101, 102, 102), // its own session
            stat(103, 1, 101, 100),   // orphan in the root's session
            stat(104, 1, 102, 102),   // orphan in a member's session
            stat(105, 1, 105, 105),   // stranger
        ];
        assert_eq!(pids(&all, &[], |_| false), [100, 101, 102, 103, 104]);
    }

    #[test]
    fn a_pid_in_other_hands_is_no_root() {
        let all = [stat(50, 1, 50, 50), stat(100, 1, 100, 100), stat(101, 100, 100, 100)];
        assert!(pids(&all, &[], |_| true).is_empty());
    }

    #[test]
    fn survivors_of_a_dead_root_need_a_proof() {
        let all = [stat(50, 1, 50, 50), stat(101, 1, 100, 100), stat(102, 101, 102, 102), stat(103, 1, 103, 100)];
        assert!(pids(&all, &[], |_| false).is_empty());
        assert_eq!(pids(&all, &[], |pid| pid == 101), [101, 102]);
    }

    #[test]
    fn orphans_of_known_members_belong_and_a_reused_number_does_not() {
        let all = [
            stat(50, 1, 50, 50),
            stat(100, 50, 100, 100),
            stat(201, 1, 201, 200),
            stat(301, 300, 301, 301),
            stat(300, 1, 300, 300),
        ];
        assert_eq!(pids(&all, &[(200, 200), (300, 299)], |_| false), [100, 201]);
    }

    #[test]
    fn the_server_and_ourselves_are_spared() {
        let own = std::process::id();
        let all = [stat(50, 100, 100, 100), stat(100, 50, 100, 100), stat(own, 100, 100, 100), stat(2, own, own, own)];
        assert_eq!(pids(&all, &[], |_| true), [100]);
    }

    #[test]
    fn names_with_parentheses_are_read_past() {
        let line = b"7 (a) b (c)) S 1 7 7 34817 7 0 0 0 0 0 0 0 0 0 20 0 1 0 4242 0";
        let expected = Stat { pid: 7, parent: 1, group: 7, session: 7, zombie: false, start: 4242 };
        assert_eq!(Stat::parse(7, line), Some(expected));
    }
}
