//! Prepares what a child does between fork and exec, where only async-signal-safe calls are allowed
//! (signal-safety(7)).
//! Takes a command; returns it so that its child starts in a known state.

use std::{io, os::unix::process::CommandExt as _, process::Command};

use nix::{
    libc,
    sys::{
        prctl::{set_child_subreaper, set_pdeathsig},
        resource::{Resource, getrlimit, setrlimit},
        signal::{SigSet, Signal},
    },
    unistd::{getppid, setsid},
};

/// The child blocks and ignores no signal, whoever started this process (`nohup`, `&` in a script).
pub fn with_default_signals(command: &mut Command) {
    // SAFETY: between fork and exec only signal(2) and sigprocmask(2), which are async-signal-safe.
    unsafe { command.pre_exec(default_signals) };
}

/// A child with default signals that the kernel kills with the thread that starts it, and that may have so many descriptors.
pub fn that_dies_with_us(command: &mut Command, descriptors: u64) {
    let parent = std::process::id();
    // SAFETY: between fork and exec only prctl(2), getppid(2), signal(2), sigprocmask(2), getrlimit(2) and setrlimit(2): all
    // async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            set_pdeathsig(Signal::SIGKILL)?;
            // The parent may have died before the line above.
            if getppid().as_raw() != parent.cast_signed() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            default_signals()?;
            more_descriptors(descriptors)
        });
    }
}

/// A child with default signals, a session of its own and nobody of ours as its parent, which takes in what its descendants leave
/// behind (`PR_SET_CHILD_SUBREAPER`). What `Command` knows is the first fork, which ends at once.
pub fn that_outlives_us(command: &mut Command, descriptors: u64) {
    // SAFETY: between fork and exec only setsid(2), fork(2), _exit(2), prctl(2), signal(2), sigprocmask(2), getrlimit(2) and
    // setrlimit(2), all async-signal-safe. The child that goes on is the only one that ever runs anything else.
    unsafe {
        command.pre_exec(move || {
            setsid()?;
            // Its parent is nobody of ours: it outlives the daemon, which never has to wait for it.
            match libc::fork() {
                0 => {}
                -1 => return Err(io::Error::last_os_error()),
                _ => libc::_exit(0),
            }
            set_child_subreaper(true)?;
            default_signals()?;
            more_descriptors(descriptors)
        });
    }
}

/// A program inherits blocked and ignored signals, and a shell can't even trap one that was ignored at its start.
fn default_signals() -> io::Result<()> {
    for number in 1..=libc::SIGRTMAX() {
        // SAFETY: signal(2) with the default action; it fails, rightly, for SIGKILL, SIGSTOP and the C library's own.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    Ok(SigSet::empty().thread_set_mask()?)
}

fn more_descriptors(wanted: u64) -> io::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < wanted {
        setrlimit(Resource::RLIMIT_NOFILE, wanted.min(hard), hard)?;
    }
    Ok(())
}
