//! One daemon per state directory, by a lock held for life; the pid in the file is only for the error message.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::{Duration, Instant},
};

use nix::fcntl::{Flock, FlockArg};

/// How long a killed daemon may take to release the lock. Chosen: the kernel needs milliseconds, more on a busy
/// machine.
const DYING: Duration = Duration::from_secs(1);

/// The held lock; dropped, it is free.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error(
        "another claude-failover (pid {pid}) already works on {path}; stop it first, or give this one another state directory"
    )]
    Held { pid: String, path: String },
    #[error("the lock {path} can't be made: {source}")]
    Io { path: String, source: io::Error },
}

impl Lock {
    /// # Errors
    /// When another process holds it.
    pub fn take(path: &Path) -> Result<Self, LockError> {
        // A daemon killed a moment ago holds it until the kernel has cleared it away.
        let deadline = Instant::now() + DYING;
        loop {
            match Self::try_take(path) {
                Err(LockError::Held { .. }) if Instant::now() < deadline => std::thread::sleep(DYING / 20),
                taken => return taken,
            }
        }
    }

    fn try_take(path: &Path) -> Result<Self, LockError> {
        let shown = path.display().to_string();
        let io = |source: io::Error| LockError::Io { path: shown.clone(), source };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(io)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut file) => {
                file.set_len(0).map_err(io)?;
                file.rewind().map_err(io)?;
                writeln!(file, "{}", std::process::id()).map_err(io)?;
                Ok(Self { _file: file })
            }
            Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
                let mut pid = String::new();
                let _ = file.read_to_string(&mut pid);
                Err(LockError::Held { pid: pid.trim().to_owned(), path: shown })
            }
            Err((_, error)) => Err(io(error.into())),
        }
    }
}
