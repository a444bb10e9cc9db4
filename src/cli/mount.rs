//! Reads the mount from a command, with timeouts.
//! Takes the mount's directory; each read answers in bounded time, or says who should be serving it. Every read runs
//! on its own thread, because a stopped daemon answers no system call and such a call can't be interrupted.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::mpsc,
    time::Duration,
};

use nix::errno::Errno;

use super::exit::Failure;
use crate::{
    config::paths::{self, Lookup},
    linux::locks,
};

/// How long the daemon may take to answer. Chosen: it answers from memory, so this is far more than it needs.
pub const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

/// The mount that a command means.
#[derive(Debug, Clone)]
pub struct Mount {
    pub dir: PathBuf,
    /// The lock of the daemon that would serve it.
    lock: PathBuf,
}

impl Mount {
    #[must_use]
    pub fn new(dir: PathBuf, env: Lookup<'_>) -> Self {
        Self { dir, lock: paths::state_dir(env).join("lock") }
    }

    /// Runs `look` on a thread of its own.
    ///
    /// # Errors
    /// `NoDaemon` when it takes longer than `within`.
    pub fn look<T: Send + 'static>(
        &self,
        within: Duration,
        look: impl FnOnce(&Path) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let (tell, answer) = mpsc::channel();
        let dir = self.dir.clone();
        // A thread that never gets its answer ends with the program.
        std::thread::spawn(move || tell.send(look(&dir)));
        answer.recv_timeout(within).map_err(|_| Failure::NoDaemon(self.stopped(within)))
    }

    /// What a file of the mount says.
    ///
    /// # Errors
    /// `NoDaemon` when no daemon serves the mount, or it doesn't answer `within`.
    pub fn read(&self, file: &str, within: Duration) -> Result<String, Failure> {
        let path = self.dir.join(file);
        self.look(within, move |_| fs::read_to_string(path))?.map_err(|error| self.refused(file, &error))
    }

    /// The names in a directory of the mount.
    ///
    /// # Errors
    /// No daemon, or a stopped one.
    pub fn list(&self, dir: &str, within: Duration) -> Result<Vec<String>, Failure> {
        let path = self.dir.join(dir);
        let names = move |_: &Path| {
            let names = fs::read_dir(path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
            names.collect::<io::Result<Vec<_>>>()
        };
        self.look(within, names)?.map_err(|error| self.refused(dir, &error))
    }

    /// Why a call on the mount failed, as a failure of the command.
    #[must_use]
    pub fn refused(&self, file: &str, error: &io::Error) -> Failure {
        let at = self.dir.display();
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOTCONN | Errno::ECONNABORTED | Errno::ECONNREFUSED) => Failure::NoDaemon(format!(
                "the daemon that served {at} is gone and left its mount behind.\n  Start it again with `claude-failover run`, or detach the mount with `claude-failover unmount`."
            )),
            _ if error.kind() == io::ErrorKind::PermissionDenied => Failure::Failed(format!(
                "can't read {at}/{file}: {error}.\n  The mount belongs to another user; `mount.allow_other` in the configuration opens it."
            )),
            _ if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Failure::NoDaemon(self.absent())
            }
            _ => Failure::Failed(format!("can't read {at}/{file}: {error}")),
        }
    }

    /// That no mount is there, and what to do.
    #[must_use]
    pub fn absent(&self) -> String {
        let at = self.dir.display();
        match self.daemon() {
            Some(pid) => format!(
                "a daemon runs (pid {pid}), but serves no mount at {at}.\n  If something unmounted it, restart the daemon; the agents stay at work. --mount or --config names another place."
            ),
            None => format!(
                "no daemon at {at}.\n  Start one with `claude-failover run`; --mount or --config names another place."
            ),
        }
    }

    fn stopped(&self, within: Duration) -> String {
        let at = self.dir.display();
        // A rest of a patience has odd nanoseconds.
        let millis = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        let within = humantime::format_duration(Duration::from_millis(millis.next_multiple_of(10)));
        match self.daemon() {
            Some(pid) => format!(
                "the daemon (pid {pid}) does not answer at {at} within {within}.\n  If it was stopped: kill -CONT {pid}. If it hangs: kill -9 {pid}, then `claude-failover run`; agents and tasks stay."
            ),
            None => format!(
                "nothing answers at {at} within {within}, and no daemon holds {}.\n  `claude-failover unmount` detaches the mount.",
                self.lock.display()
            ),
        }
    }

    /// The process that holds the state directory's lock (proc_locks(5)).
    #[must_use]
    pub fn daemon(&self) -> Option<u32> {
        let inode = fs::metadata(&self.lock).ok()?.ino();
        locks::holder(inode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_that_takes_too_long_is_no_daemon() {
        let mount = Mount::new(PathBuf::from("/mnt"), &|_| None);
        let (keep, hung) = mpsc::channel::<()>();
        let slow = mount.look(Duration::from_millis(20), move |_| hung.recv());
        assert!(matches!(slow, Err(Failure::NoDaemon(why)) if why.contains("within 20ms")));
        drop(keep);
        assert_eq!(mount.look(ANSWERS_WITHIN, |dir| dir.to_owned()).ok(), Some(PathBuf::from("/mnt")));
    }
}
