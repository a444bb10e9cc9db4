//! Mounts and unmounts: detaches a dead mount, opens the real directories, mounts, later unmounts, and verifies each
//! step.
//! Mounts by itself because fuser 0.18's unmount may hit a later mount at the same path and its `AutoUnmount` leaves
//! dangling mounts (fuser commits 172815c, 1a7842e). Never touches a path below the mountpoint.

use std::{
    fs::{DirBuilder, File},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
};

use crate::{
    fs::{
        backend::Backend,
        found,
        fuse::Adapter,
        mount_helper,
        ops::Ops,
        real::Queue,
        repeat::{Table, Teller},
        repeating::Repeating,
        waiters::Waiters,
        words::{FSTYPE, THREADS},
    },
    linux::mountinfo::{Entry, entry_at, places_of},
    model::ids::ProjectName,
};

const FSNAME: &str = "claude-failover";
/// How long a mountpoint may take to show that its server is alive. Chosen: as commands wait (`cli/mount.rs`).
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// How long the worker threads may take to end after unmounting before the connection is aborted. Chosen: they end at
/// once unless one hangs.
const END_WITHIN: Duration = Duration::from_millis(500);

/// What to mount and how.
#[derive(Debug, Clone)]
pub struct Options {
    pub mountpoint: PathBuf,
    /// Each project's `.agent-queue`, the first project first.
    pub queues: Vec<(ProjectName, PathBuf)>,
    /// Where what lies in the mountpoint is put.
    pub found: PathBuf,
    /// The event log that `events` shows.
    pub events_log: PathBuf,
    /// What was saved in a queue is on disk when the call returns.
    pub durable: bool,
    pub allow_other: bool,
    /// Group that may write verbs besides the owner; matters with `allow_other` only.
    pub control_gid: Option<u32>,
    /// This program, which repeats for watchers what they have not seen; without it nothing is repeated.
    pub program: Option<PathBuf>,
}

/// Why there is no mount.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    #[error("the mountpoint {path} can't be used: {reason}; choose another with `mount.path`")]
    Mountpoint { path: PathBuf, reason: String },
    #[error("{path} is served by another process that still answers; stop that daemon or choose another `mount.path`")]
    Alive { path: PathBuf },
    #[error(
        "{path} is a mount of ours whose server neither answers nor is dead; end the daemon that serves it, or `claude-failover unmount`"
    )]
    Hung { path: PathBuf },
    #[error("the queue {path} can't be opened: {source}")]
    Queue { path: PathBuf, source: std::io::Error },
    #[error("/dev/fuse can't be opened: {0}; load the fuse module, and in a container pass the device in")]
    NoFuse(std::io::Error),
    #[error("mounting on {path} failed: {reason}")]
    Mount { path: PathBuf, reason: String },
    #[error("unmounting {path} failed: {reason}")]
    Unmount { path: PathBuf, reason: String },
}

/// A living mount. Dropping it unmounts too, without the words of what went wrong.
pub struct Mounted {
    path: PathBuf,
    entry: Entry,
    waiters: Arc<Waiters>,
    ops: Arc<Ops>,
    /// Says how the serving threads ended.
    ended: Receiver<std::io::Result<()>>,
    /// Ends the repeating.
    over: Arc<AtomicBool>,
    teller: Teller,
    unmounted: bool,
}

impl Mounted {
    /// Mounts and answers when the kernel has agreed on the protocol and requests are served.
    ///
    /// # Errors
    /// If anything prevents it; then nothing is left mounted.
    pub fn mount(options: &Options, backend: Arc<dyn Backend>) -> Result<Self, MountError> {
        let path = prepare(options)?;
        let mut queues = Vec::new();
        for (project, at) in &options.queues {
            let queue =
                Queue::open(project.clone(), at).map_err(|source| MountError::Queue { path: at.clone(), source })?;
            refuse_nested(&path, &queue.path)?;
            queues.push(queue);
        }
        let (teller, notices) = Teller::new();
        let ops = Ops::new(backend, queues, options.events_log.clone(), options.durable, options.control_gid);
        let ops = Arc::new(ops.telling(teller.clone()).open_to_others(options.allow_other));

        // The directory below the mount: closed as soon as it is covered, so that nobody writes into it while no daemon is there.
        let below = File::open(&path)
            .map_err(|error| MountError::Mountpoint { path: path.clone(), reason: error.to_string() })?;
        let device = mount_device(&path, options.allow_other)?;
        if let Err(error) = below.set_permissions(std::fs::Permissions::from_mode(found::CLOSED)) {
            tracing::warn!(%error, "the mountpoint's mode can't be set");
        }
        drop(below);
        let fail = |reason: String| {
            let _ = detach(&path);
            Err(MountError::Mount { path: path.clone(), reason })
        };
        let mut config = fuser::Config::default();
        config.n_threads = Some(THREADS);
        config.acl = if options.allow_other { fuser::SessionACL::All } else { fuser::SessionACL::Owner };
        let waiters = Arc::new(Waiters::default());
        let table = Arc::new(Table::default());
        let notifier = Arc::new(OnceLock::new());
        let adapter = Adapter::new(Arc::clone(&ops), Arc::clone(&waiters), Arc::clone(&table), Arc::clone(&notifier));
        let session = match fuser::Session::from_fd(adapter, device, config.acl, config) {
            Ok(session) => session,
            Err(error) => return fail(format!("the kernel's greeting failed: {error}")),
        };
        let _ = notifier.set(session.notifier());
        let Some(entry) = entry_at(&path).filter(|entry| entry.fstype == FSTYPE) else {
            return fail("it does not show in the mount table".to_owned());
        };
        let (say, ended) = channel();
        let serve = move || {
            let _ = say.send(session.run());
        };
        if let Err(error) = std::thread::Builder::new().name("mount".to_owned()).spawn(serve) {
            return fail(format!("no thread: {error}"));
        }
        tracing::info!(path = %path.display(), "mounted");
        let over = Arc::new(AtomicBool::new(false));
        if let (Some(program), Some(device)) = (options.program.clone(), entry.number()) {
            let (mountpoint, ended) = (path.clone(), Arc::clone(&over));
            let repeating = Repeating { ops: Arc::clone(&ops), table, program, mountpoint, device, ended };
            let thread = std::thread::Builder::new().name("repeat".to_owned()).spawn(move || repeating.run(&notices));
            if let Err(error) = thread {
                tracing::warn!(%error, "no thread: watchers of the mount don't see the supervisor's changes");
            }
        }
        Ok(Self { path, entry, waiters, ops, ended, over, teller, unmounted: false })
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes what the supervisor changes on disk, for those who watch the mount.
    #[must_use]
    pub fn teller(&self) -> Teller {
        self.teller.clone()
    }

    /// Wakes poll waiters on files that changed with the new snapshot.
    pub fn changed(&self) {
        self.waiters.wake(&self.ops);
    }

    /// The mount's device, as `stat(2)` gives it.
    #[must_use]
    pub fn device(&self) -> u64 {
        self.entry.number().unwrap_or_default()
    }

    /// Whether requests are still served: false after somebody else unmounted it.
    #[must_use]
    pub fn is_served(&self) -> bool {
        entry_at(&self.path).is_some_and(|entry| entry.device == self.entry.device)
    }

    /// Whether the mount shows this directory as the project's queue. If another one is at the path by now, it is
    /// opened first.
    #[must_use]
    pub fn shows(&self, project: &ProjectName, identity: (u64, u64)) -> bool {
        let queue = self.ops.queues.iter().find(|queue| queue.project == *project);
        queue.is_some_and(|queue| {
            queue.identity() == Some(identity) || queue.find_again().is_ok() && queue.identity() == Some(identity)
        })
    }

    /// Unmounts, open files or not, and waits until the serving threads have ended.
    ///
    /// # Errors
    /// When it is still mounted afterwards.
    pub fn unmount(mut self) -> Result<(), MountError> {
        self.take_down()
    }

    fn take_down(&mut self) -> Result<(), MountError> {
        if std::mem::replace(&mut self.unmounted, true) {
            return Ok(());
        }
        self.over.store(true, Ordering::SeqCst);
        // A device's number is freed with its file system and given to the next mount, which may be another daemon's. So the
        // places are looked up while ours is there, or at least still lives: copies of it, over a queue for example, would be dead.
        let goes_on = || matches!(self.ended.recv_timeout(GONE_WITHIN), Err(RecvTimeoutError::Timeout));
        let lives = self.is_served() || goes_on();
        for place in if lives { places_of(&self.entry.device, &self.entry.fstype) } else { Vec::new() } {
            match detach(&place) {
                Ok(()) => {}
                Err(error) if place == self.path => return Err(error),
                Err(error) => tracing::warn!(%error, "a copy of the mount stays and answers nothing any more"),
            }
        }
        if let Err(RecvTimeoutError::Timeout) = self.ended.recv_timeout(END_WITHIN) {
            // Somebody holds a file open, or another namespace has a copy of the mount: cut the connection.
            let minor = self.entry.device.rsplit(':').next().unwrap_or_default();
            let abort = Path::new("/sys/fs/fuse/connections").join(minor).join("abort");
            if let Err(error) = std::fs::write(&abort, "1") {
                tracing::warn!(path = %abort.display(), %error, "the mount's connection could not be cut; it ends with its last open file");
            }
            let _ = self.ended.recv_timeout(END_WITHIN);
        }
        if self.is_served() {
            return Err(MountError::Unmount { path: self.path.clone(), reason: "it is still mounted".to_owned() });
        }
        Ok(())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = self.take_down() {
            tracing::warn!(%error, "unmounting");
        }
    }
}

/// Makes the mountpoint ready: there, emptied, ours, nobody else's mount on it. Answers its real path.
fn prepare(options: &Options) -> Result<PathBuf, MountError> {
    let given = &options.mountpoint;
    let bad = |reason: String| MountError::Mountpoint { path: given.clone(), reason };
    let (Some(parent), Some(name)) = (given.parent(), given.file_name()) else {
        return Err(bad("it has no name".to_owned()));
    };
    DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(|error| bad(error.to_string()))?;
    let parent = parent.canonicalize().map_err(|error| bad(error.to_string()))?;
    let mode = parent.metadata().map_err(|error| bad(error.to_string()))?.mode();
    if mode & 0o022 != 0 && mode & 0o1000 == 0 {
        return Err(bad(format!("others can write to {} and could swap it", parent.display())));
    }
    let path = parent.join(name);
    detach_dead(&path)?;
    match std::fs::symlink_metadata(&path) {
        Ok(meta) if !meta.is_dir() => return Err(bad("it is not a directory".to_owned())),
        Ok(meta) if meta.uid() != nix::unistd::geteuid().as_raw() => {
            return Err(bad("it belongs to somebody else".to_owned()));
        }
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            DirBuilder::new().mode(0o700).create(&path).map_err(|error| bad(error.to_string()))?;
        }
        Err(error) => return Err(bad(error.to_string())),
    }
    // Mounting takes the right to write it (fusermount3).
    let opened = std::fs::Permissions::from_mode(0o700);
    let log = options.events_log.parent().and_then(|dir| dir.canonicalize().ok());
    if let Some(log) = log
        && log.starts_with(&path)
    {
        return Err(bad("the event log would lie below it".to_owned()));
    }
    found::put_aside(&path, &options.found).map_err(bad)?;
    std::fs::set_permissions(&path, opened).map_err(|error| bad(error.to_string()))?;
    Ok(path)
}

/// A queue below the mount, or the mount in a queue, would have the server wait for itself.
fn refuse_nested(path: &Path, queue: &Path) -> Result<(), MountError> {
    let reason = if queue.starts_with(path) {
        format!("the queue {} would lie below it", queue.display())
    } else if path.starts_with(queue) {
        format!("it lies in the queue {}", queue.display())
    } else {
        return Ok(());
    };
    Err(MountError::Mountpoint { path: path.to_owned(), reason })
}

/// How long the worker threads may take to notice that their file system is gone. Chosen: an aborted connection frees
/// them in 3 ms (measured).
const GONE_WITHIN: Duration = Duration::from_millis(100);

/// Mounts stacked at one place that are detached, one a turn. Chosen: more than anybody stacks by accident; a loop
/// must end.
const STACKED_MAX: usize = 16;

/// Detaches what a killed daemon left mounted. Living and foreign mounts are refused.
///
/// # Errors
/// When something that must stay is mounted there, or the dead mount can't be detached.
pub fn detach_dead(path: &Path) -> Result<(), MountError> {
    uncover(path)?;
    match entry_at(path) {
        None => Ok(()),
        Some(entry) => {
            let reason = format!("{} is mounted there", entry.fstype);
            Err(MountError::Mountpoint { path: path.to_owned(), reason })
        }
    }
}

/// The same, with foreign mounts left in peace: down to the first of them.
///
/// # Errors
/// When a mount of ours there is served, or can't be detached.
pub fn uncover(path: &Path) -> Result<(), MountError> {
    for _ in 0..STACKED_MAX {
        if entry_at(path).is_none_or(|entry| entry.fstype != FSTYPE) {
            return Ok(());
        }
        match answers(path) {
            Some(true) => return Err(MountError::Alive { path: path.to_owned() }),
            None => return Err(MountError::Hung { path: path.to_owned() }),
            Some(false) => detach(path)?,
        }
    }
    Err(MountError::Unmount { path: path.to_owned(), reason: "one mount lies below the other without end".to_owned() })
}

/// Whether somebody serves the mount; `None` when that can't be known in time. A child asks, so that only a child hangs.
fn answers(path: &Path) -> Option<bool> {
    let mut stat = mount_helper::bare("stat");
    // `-f`: statfs(2) always asks the server. The kernel remembers the directory's own facts for a while, and those of a
    // server killed a moment ago would pass for an answer.
    stat.arg("-f").arg("--").arg(path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = stat.spawn().ok()?;
    let until = Instant::now() + ANSWER_WITHIN;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status.success()),
            // Chosen: a live server answers `stat` within milliseconds.
            Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(5)),
            Ok(None) | Err(_) => {
                let _ = child.kill();
                // Reaped elsewhere: it may hang until the server answers.
                std::thread::spawn(move || child.wait());
                return None;
            }
        }
    }
}

/// Mounts and answers the descriptor to serve: by `mount(2)` where that is allowed, else by fusermount3.
///
/// The kernel lets everybody ask (`allow_other`), for without that it keeps out programs of the same user that have another group
/// (`sg`, set-group-ID mail tools). Who gets in is then decided by the root directory's mode, by permission bits and, request by
/// request, by the serving library.
fn mount_device(path: &Path, allow_other: bool) -> Result<OwnedFd, MountError> {
    let by_helper = || {
        let mounted = mount_helper::mount(path, FSNAME, true);
        // Without `user_allow_other` in /etc/fuse.conf the helper refuses.
        let mounted = if allow_other { mounted } else { mounted.or_else(|_| mount_helper::mount(path, FSNAME, false)) };
        mounted.map_err(|reason| MountError::Mount { path: path.to_owned(), reason })
    };
    let device = match File::options().read(true).write(true).open("/dev/fuse") {
        Ok(device) => device,
        // Some systems let the helper alone open it.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return by_helper(),
        Err(error) => return Err(MountError::NoFuse(error)),
    };
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let fd = device.as_raw_fd();
    let data = format!("fd={fd},rootmode=40000,user_id={uid},group_id={gid},default_permissions,allow_other");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    match mount(Some(FSNAME), path, Some(FSTYPE), flags, Some(data.as_str())) {
        Ok(()) => {
            // Copies in other namespaces would keep the mount alive.
            let _ = mount(None::<&str>, path, None::<&str>, MsFlags::MS_PRIVATE, None::<&str>);
            Ok(device.into())
        }
        Err(Errno::EPERM) => {
            drop(device);
            by_helper()
        }
        Err(errno) => Err(MountError::Mount { path: path.to_owned(), reason: errno.to_string() }),
    }
}

/// Takes the topmost mount off the path, in use or not.
fn detach(path: &Path) -> Result<(), MountError> {
    let result = match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) => Ok(()),
        Err(Errno::EPERM) => mount_helper::unmount(path),
        Err(errno) => Err(errno.to_string()),
    };
    result.map_err(|reason| MountError::Unmount { path: path.to_owned(), reason })
}
