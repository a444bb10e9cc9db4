//! Marks a process and everything that it will ever start.
//! The mark is a hard limit that no process can raise without `CAP_SYS_RESOURCE`, of a resource that Linux has not used since 2.4
//! (`RLIMIT_LOCKS`, getrlimit(2)). It survives fork, exec, setsid, a cleared environment, another parent, another user namespace.
//! Decides nothing: `model::writer` does.

use std::{fs, io, ptr};

use crate::linux::process::children;

/// Most processes of a tree that are visited. Chosen: more than any tree has; bounds the time.
const MOST: usize = 100_000;

/// The number that a process carries; the largest there is without a limit. `None` when there is no such process.
#[must_use]
pub fn read(pid: u32) -> Option<u64> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    // Its soft limit, then its hard one.
    let hard = limits.lines().find_map(|line| line.strip_prefix("Max file locks"))?.split_whitespace().nth(1)?;
    if hard == "unlimited" { Some(u64::MAX) } else { hard.parse().ok() }
}

/// Marks a process.
///
/// # Errors
/// When there is none, it is somebody else's, or carries a lower number.
pub fn put(pid: u32, number: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: number, rlim_max: number };
    // SAFETY: prlimit(2) reads the structure that it is given, and writes nothing where the last pointer is null.
    let answer = unsafe { libc::prlimit(pid.cast_signed(), libc::RLIMIT_LOCKS, &raw const limit, ptr::null_mut()) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Marks a process, then what it has started already. Parents go first: what one starts meanwhile inherits it.
///
/// # Errors
/// When the process itself can't be marked.
pub fn put_on_tree(pid: u32, number: u64) -> io::Result<()> {
    put(pid, number)?;
    let (mut next, mut visited) = (children(pid), 0);
    while let Some(pid) = next.pop().filter(|_| visited < MOST) {
        visited += 1;
        // A process with a lower number is marked already, or by somebody else, which is as good.
        let _ = put(pid, number);
        next.extend(children(pid));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_mark_passes_to_everything_and_can_t_be_taken_off() {
        let script = "sleep 300 & echo $!; read go; exec env -i setsid sh -c 'sleep 300 & echo $!; wait'";
        let mut child = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut out = io::BufRead::lines(io::BufReader::new(child.stdout.take().expect("a pipe")));
        let mut line = || out.next().expect("a line").expect("read");
        let sleeper: u32 = line().parse().expect("a pid");
        assert_eq!(read(sleeper), read(std::process::id()));
        let number = read(std::process::id()).expect("own").min(1 << 60) - 1;
        put_on_tree(child.id(), number).expect("marked");
        assert_eq!((read(child.id()), read(sleeper)), (Some(number), Some(number)));
        io::Write::write_all(&mut child.stdin.take().expect("a pipe"), b"go\n").expect("told");
        let later: u32 = line().parse().expect("a pid");
        assert_eq!(read(later), Some(number), "in another session, without an environment");
        let raised = put(sleeper, number + 1);
        let privileged = fs::read_to_string("/proc/self/status").expect("status").lines().any(|line| {
            let set = line.strip_prefix("CapEff:").and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
            // CAP_SYS_RESOURCE (capabilities(7)).
            set.is_some_and(|set| set & (1 << 24) != 0)
        });
        assert_eq!(raised.is_ok(), privileged);
        for pid in [sleeper, later, child.id()] {
            let _ = Command::new("kill").arg("-9").arg(pid.to_string()).status();
        }
        let _ = child.wait();
    }
}
