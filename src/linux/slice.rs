//! Sets a thread's scheduling slice. A thread with a short slice is scheduled sooner after wake-up, also on a machine
//! whose processors are all busy: the daemon and the tmux server run for microseconds while others wait for them.
//! Linux 6.12 and later (EEVDF) accept a slice for ordinary threads without privilege; older kernels ignore it.

use std::{io, mem};

/// Nanoseconds: the shortest slice that the kernel takes (`sched_setattr(2)`, clamped to 0.1 ms in
/// kernel/sched/syscalls.c).
const SHORTEST: u64 = 100_000;

/// What threads and processes get that this one starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Children {
    /// The same slice.
    Alike,
    /// The kernel's default.
    Default,
}

/// Gives the shortest slice to a single-threaded process, or to the calling thread (0). Answers whether the kernel knows of
/// slices. A thread that somebody has given a policy of its own is left alone.
///
/// # Errors
/// When there is no such process, or it is somebody else's.
pub fn shorten(pid: u32, children: Children) -> io::Result<bool> {
    let mut attributes = read(pid)?;
    if i32::try_from(attributes.sched_policy) != Ok(libc::SCHED_OTHER) {
        return Ok(true);
    }
    attributes.sched_runtime = SHORTEST;
    attributes.sched_flags = match children {
        Children::Alike => 0,
        Children::Default => libc::SCHED_FLAG_RESET_ON_FORK.unsigned_abs().into(),
    };
    // SAFETY: sched_setattr(2) reads the structure that it is given, whose size it was told.
    let answer = unsafe { libc::syscall(libc::SYS_sched_setattr, pid, &raw const attributes, 0) };
    if answer != 0 {
        return Err(io::Error::last_os_error());
    }
    read(pid).map(|now| now.sched_runtime == SHORTEST)
}

fn read(pid: u32) -> io::Result<libc::sched_attr> {
    // SAFETY: all of a sched_attr may be zero.
    let mut attributes: libc::sched_attr = unsafe { mem::zeroed() };
    let size = size_of::<libc::sched_attr>();
    attributes.size = u32::try_from(size).unwrap_or_default();
    // SAFETY: sched_getattr(2) writes at most `size` bytes into the structure, which is that large.
    let answer = unsafe { libc::syscall(libc::SYS_sched_getattr, pid, &raw mut attributes, size, 0) };
    if answer == 0 { Ok(attributes) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_inherit_the_slice_and_children_do_unless_it_is_reset() {
        // A thread of its own: the slice would pass to whatever the other tests start.
        let told = std::thread::spawn(|| {
            if !shorten(0, Children::Alike).expect("set") {
                return None;
            }
            let inherited = std::thread::spawn(|| read(0).expect("read").sched_runtime).join().expect("joined");
            shorten(0, Children::Default).expect("set");
            let reset = std::thread::spawn(|| read(0).expect("read").sched_runtime).join().expect("joined");
            Some((inherited, reset))
        });
        match told.join().expect("joined") {
            Some((inherited, reset)) => {
                assert_eq!(inherited, SHORTEST);
                assert!(reset > SHORTEST, "{reset}");
            }
            None => println!("skipped: this kernel has no slices for ordinary threads"),
        }
    }

    #[test]
    fn who_is_not_there_is_an_error() {
        assert!(shorten(u32::MAX >> 1, Children::Default).is_err());
    }
}
