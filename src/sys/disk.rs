//! The queue directories on a real disk (port `QueueStore`).
//! In: projects and their paths. Out: what stands in the inboxes; durable changes. Every call opens the directories anew, so
//! that a queue replaced behind our back (git checkout) is the one that is seen. Never waits for a writer or a reader, and
//! never goes through our own mount (`queue_root`).

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    io::{self, Read as _},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, open, openat2},
    libc,
    sys::stat::{FileStat, Mode, SFlag},
    unistd::{fsync, linkat},
};
use tokio::task::{JoinHandle, spawn_blocking};

use super::{
    archive,
    dirs::{self, Over, open_file, remove, rename_new, stat, write_whole},
    git::Repositories,
    locks,
    names::{CLAIMS, SIDECARS, claim_of, ignored, lock_of, sidecar_of},
    queue_root::{Root, Roots},
    watch::{Watch, Watched},
};
use crate::{
    config::queue::{self, covered, is_in_repository},
    model::{
        event::Counts,
        ids::{ProjectName, TaskId},
    },
    ports::{Claim, Entry, FileFacts, FileKind, Inbox, Leftover, QueueChange, QueueDir, QueueStore, Sidecar, Workdir},
};

/// How long a disk may take to be looked at before its project waits alone: longer than a busy one takes.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// The directory's change time, and how many tasks stood in it.
type Counted = ((i64, i64), u64);

pub struct DiskQueue {
    roots: Arc<Roots>,
    watch: Watch,
    repositories: Arc<Repositories>,
    /// Counts by directory and its change time: a directory that has not changed is not read again.
    counted: Mutex<HashMap<(ProjectName, QueueDir), Counted>>,
    /// Projects with looks at their disk that are overdue, and how many.
    overdue: Arc<Mutex<HashMap<ProjectName, usize>>>,
    healed: tokio::sync::Notify,
    /// Hears of every change made here.
    listener: OnceLock<Listener>,
}

type Listener = Box<dyn Fn(&QueueChange) + Send + Sync>;

impl DiskQueue {
    /// Takes the projects' own directories, and where our mount is or will be.
    ///
    /// # Errors
    /// When the system gives no inotify instance.
    pub fn new(
        projects: impl IntoIterator<Item = (ProjectName, PathBuf)>,
        mountpoint: Option<&Path>,
    ) -> io::Result<Self> {
        let roots = Arc::new(Roots::new(projects, mountpoint));
        let watch = Watch::new()?;
        let repositories = Arc::default();
        Ok(Self {
            roots,
            watch,
            repositories,
            counted: Mutex::default(),
            overdue: Arc::default(),
            healed: tokio::sync::Notify::new(),
            listener: OnceLock::new(),
        })
    }

    /// Has every change that is made here from now on told to `listener`, which must not wait. The first one stays.
    pub fn on_change(&self, listener: impl Fn(&QueueChange) + Send + Sync + 'static) {
        let _ = self.listener.set(Box::new(listener));
    }

    fn made(&self, change: &QueueChange) {
        if let Some(listener) = self.listener.get() {
            listener(change);
        }
    }

    async fn put_sidecar(
        &self,
        project: &ProjectName,
        id: &TaskId,
        which: Sidecar,
        text: &[u8],
        over: Over,
    ) -> io::Result<()> {
        let name = format!("{}{}", id.file_name(), which.suffix());
        let (text, made) = (text.to_vec(), name.clone());
        self.at(project, move |queue| write_whole(queue.dir(QueueDir::Inbox)?, &made, &text, over)).await?;
        self.made(&QueueChange::Arrived(project.clone(), QueueDir::Inbox, name));
        Ok(())
    }

    /// Removes a name from an inbox.
    async fn take_away(&self, project: &ProjectName, name: String) -> io::Result<()> {
        let gone = name.clone();
        if self.at(project, move |queue| remove(queue.dir(QueueDir::Inbox)?, &gone)).await? {
            self.made(&QueueChange::Removed(project.clone(), QueueDir::Inbox, name));
        }
        Ok(())
    }

    /// The mount is there, and this is its device.
    pub fn mounted_as(&self, device: u64) {
        self.roots.mounted_as(device);
    }

    /// Where the project's real queue directory is, there or not.
    ///
    /// # Errors
    /// When `.agent-queue` is a link that leads nowhere.
    pub fn path(&self, project: &ProjectName) -> io::Result<PathBuf> {
        self.roots.path(project)
    }

    /// Device and inode of the directory that is the project's queue at this moment.
    ///
    /// # Errors
    /// When it isn't there.
    pub async fn identity(&self, project: &ProjectName) -> io::Result<(u64, u64)> {
        let facts = self.look(project, |queue| Ok(nix::sys::stat::fstat(&queue.root.fd)?)).await?;
        Ok((facts.st_dev, facts.st_ino))
    }

    /// What a person should know of a project's queue directory: that git would take it in, and what the mount covers.
    ///
    /// # Errors
    /// When it can't be looked at.
    pub async fn oddities(&self, project: &ProjectName) -> io::Result<(bool, Option<String>)> {
        self.look(project, |queue| {
            let path = queue.roots.path(&queue.project)?;
            Ok((is_in_repository(&path, &queue.root.path), covered(&queue.root.path)))
        })
        .await
    }

    /// Something of a queue was made again: what was said of it may not be true any more.
    pub async fn healed(&self) {
        self.healed.notified().await;
    }

    /// Makes again what was taken away of the project's queue, and watches the directories that it has at this moment.
    async fn watch(&self, project: &ProjectName) -> io::Result<()> {
        let look = |queue: &Queue| {
            // Where that is not possible the inbox may still be there.
            let healed = queue::heal(&queue.root.fd).unwrap_or(false);
            let root = nix::sys::stat::fstat(&queue.root.fd)?;
            let inbox = nix::sys::stat::fstat(queue.dir(QueueDir::Inbox)?)?;
            Ok((healed, (queue.root.path.clone(), root.st_ino), inbox.st_ino))
        };
        let (healed, (root, root_inode), inode) = self.look(project, look).await?;
        self.watch.add(project, root.join(QueueDir::Inbox.name()), inode, Watched::Inbox);
        self.watch.add(project, root, root_inode, Watched::Queue);
        if healed {
            self.healed.notify_one();
        }
        Ok(())
    }

    /// Changes something. Is waited for however long it takes: what was given up could still happen.
    async fn at<T: Send + 'static>(
        &self,
        project: &ProjectName,
        job: impl FnOnce(&Queue) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        self.begin(project, job)?.await.map_err(io::Error::other)?
    }

    /// Looks at something, or makes what does no harm later. A disk that answers nothing holds up its own project only.
    async fn look<T: Send + 'static>(
        &self,
        project: &ProjectName,
        job: impl FnOnce(&Queue) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let mut look = self.begin(project, job)?;
        if let Ok(done) = tokio::time::timeout(ANSWERS_WITHIN, &mut look).await {
            return done.map_err(io::Error::other)?;
        }
        let (overdue, late) = (self.overdue.clone(), project.clone());
        *lock(&overdue).entry(late.clone()).or_default() += 1;
        tokio::spawn(async move {
            let _ = look.await;
            if let Some(count) = lock(&overdue).get_mut(&late) {
                *count -= 1;
            }
        });
        Err(hangs())
    }

    fn begin<T: Send + 'static>(
        &self,
        project: &ProjectName,
        job: impl FnOnce(&Queue) -> io::Result<T> + Send + 'static,
    ) -> io::Result<JoinHandle<io::Result<T>>> {
        if lock(&self.overdue).get(project).is_some_and(|count| *count > 0) {
            return Err(hangs());
        }
        let (roots, project, repositories) = (self.roots.clone(), project.clone(), self.repositories.clone());
        Ok(spawn_blocking(move || job(&Queue { root: roots.open(&project)?, project, roots, repositories })))
    }
}

fn hangs() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "its disk has not answered for a while; looked at again when it does")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One project's queue.
struct Queue {
    project: ProjectName,
    root: Root,
    roots: Arc<Roots>,
    repositories: Arc<Repositories>,
}

impl Queue {
    fn dir(&self, dir: QueueDir) -> io::Result<OwnedFd> {
        self.roots.open_dir(&self.root, dir.name())
    }

    /// The directory to put something into; made again when somebody removed it.
    fn dir_to_fill(&self, dir: QueueDir) -> io::Result<OwnedFd> {
        match self.dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                queue::heal(&self.root.fd)?;
                self.dir(dir)
            }
            other => other,
        }
    }

    fn prepare(&self) -> io::Result<()> {
        // A queue that is made is kept out of the repository around it.
        if queue::make_dirs(&self.root.fd)? > 0 {
            queue::ignore(&self.root.fd)?;
        }
        for dir in QueueDir::ALL {
            let open = self.dir(dir)?;
            // Another process may be at work here: `ccl-delegate`, a daemon with another state directory.
            for left in names(&open)?.iter().filter(|name| dirs::is_leftover(name)) {
                let _ = remove(&open, left);
            }
        }
        Ok(fsync(dirs::open_dir_at(&self.root.fd, ".")?)?)
    }

    fn entries(&self, dir: QueueDir) -> io::Result<Vec<Entry>> {
        let dir = self.dir(dir)?;
        let mut entries = Vec::new();
        for id in names(&dir)?.iter().filter_map(|name| TaskId::from_file_name(name)) {
            match stat(&dir, id.file_name()) {
                Ok(found) => entries.push(Entry { file: facts(&found), id }),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        entries.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(entries)
    }

    fn leftovers(&self) -> io::Result<Vec<Leftover>> {
        let mut left = Vec::new();
        for dir in QueueDir::ALL {
            let open = self.dir(dir)?;
            for name in names(&open)?.into_iter().filter(|name| dirs::is_leftover(name)) {
                if let Ok(found) = stat(&open, &name) {
                    left.push(Leftover { dir, name, change: facts(&found).change });
                }
            }
        }
        Ok(left)
    }

    fn list(&self) -> io::Result<Inbox> {
        let dir = self.dir(QueueDir::Inbox)?;
        let mut inbox = Inbox::default();
        let mut inodes = Vec::new();
        for name in all_names(&dir)? {
            let found = || match stat(&dir, &name) {
                Ok(found) => Ok(Some(found)),
                // Gone since it was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            };
            let known = name.to_str();
            if let Some(id) = known.and_then(TaskId::from_file_name) {
                if let Some(found) = found()? {
                    inodes.push((id.clone(), (found.st_dev, found.st_ino)));
                    inbox.tasks.push(Entry { id, file: facts(&found) });
                }
            } else if let Some((id, which)) = known.and_then(sidecar_of) {
                inbox.sidecars.push((id, which));
            } else if let Some(id) = known.and_then(lock_of) {
                inbox.locks.push((id, name.to_string_lossy().into_owned()));
            } else if let Some(id) = known.and_then(claim_of) {
                let how = name.to_string_lossy().into_owned();
                inbox.claims.extend(found()?.map(|found| Claim { id, how, touched: Some(touched(&found)) }));
            } else if let Some(ignored) = ignored(&name)
                && let Some(found) = found()?
                && facts(&found).kind == FileKind::Regular
                && is_left_alone(&found)
            {
                inbox.ignored.push(ignored);
            }
        }
        self.beside(&mut inbox, &inodes);
        inbox.tasks.sort_by(|a, b| a.id.cmp(&b.id));
        inbox.ignored.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(inbox)
    }

    fn list_one(&self, id: &TaskId) -> io::Result<Inbox> {
        let dir = self.dir(QueueDir::Inbox)?;
        let name = id.file_name();
        let present = |name: &str| stat(&dir, name).ok();
        let mut inbox = Inbox::default();
        let found = present(&name);
        let inodes: Vec<_> = found.iter().map(|found| (id.clone(), (found.st_dev, found.st_ino))).collect();
        inbox.tasks.extend(found.map(|found| Entry { id: id.clone(), file: facts(&found) }));
        let beside = SIDECARS.into_iter().filter(|which| present(&format!("{name}{}", which.suffix())).is_some());
        inbox.sidecars.extend(beside.map(|which| (id.clone(), which)));
        let locks = [format!(".{name}.swp"), format!(".#{name}")];
        inbox.locks.extend(locks.into_iter().filter(|lock| present(lock).is_some()).map(|lock| (id.clone(), lock)));
        for how in CLAIMS.map(|end| format!("{name}{end}")) {
            let claim = |found| Claim { id: id.clone(), how: how.clone(), touched: Some(touched(&found)) };
            inbox.claims.extend(present(&how).map(claim));
        }
        self.beside(&mut inbox, &inodes);
        Ok(inbox)
    }

    /// What is known of an inbox's tasks from elsewhere: locks on them, and git. After the files were listed.
    fn beside(&self, inbox: &mut Inbox, inodes: &[(TaskId, (u64, u64))]) {
        if inodes.is_empty() {
            return;
        }
        let held = locks::held();
        if !held.is_empty() {
            // A lock taken through the mount is held at the mount's own file, which is known by its path alone.
            let through = held.iter().filter(|((device, _), _)| Some(*device) == self.roots.mount_device());
            let through: HashMap<String, i32> = through
                .flat_map(|(_, pid)| locks::files_of(*pid).into_iter().map(move |path| (path, *pid)))
                .filter_map(|(path, pid)| Some((self.roots.shown_in_inbox(&self.project, &path)?, pid)))
                .collect();
            for (id, place) in inodes {
                let pid = held.get(place).or_else(|| through.get(&id.file_name()));
                let claim = |pid: &i32| Claim {
                    id: id.clone(),
                    how: format!("process {pid} holds a lock on it"),
                    touched: None,
                };
                inbox.claims.extend(pid.filter(|pid| **pid != std::process::id().cast_signed()).map(claim));
            }
        }
        if let Ok(path) = self.roots.path(&self.project) {
            inbox.git = self.repositories.look(&path);
        }
    }

    fn read(&self, dir: QueueDir, id: &TaskId, max: u64) -> io::Result<(Vec<u8>, FileFacts)> {
        let dir = self.dir(dir)?;
        let file = open_file(&dir, id.file_name()).map_err(|error| {
            match stat(&dir, id.file_name()).map(|found| facts(&found).kind) {
                Ok(FileKind::Other(what)) => no_file(what),
                Ok(FileKind::Regular) | Err(_) => error,
            }
        })?;
        let before = facts(&nix::sys::stat::fstat(&file)?);
        if let FileKind::Other(what) = before.kind {
            return Err(no_file(what));
        }
        if before.bytes > max {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("{} bytes, at most {max}", before.bytes)));
        }
        let mut bytes = Vec::new();
        (&file).take(max.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > max {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {max} bytes")));
        }
        // Facts from after the read: if it was changed meanwhile they differ from those of the listing.
        Ok((bytes, facts(&nix::sys::stat::fstat(&file)?)))
    }

    /// A read lease is refused while anybody has the file open for writing (fcntl(2), F_SETLEASE).
    fn has_writer(&self, dir: QueueDir, id: &TaskId) -> io::Result<Option<bool>> {
        let file = open_file(self.dir(dir)?, id.file_name())?;
        // SAFETY: fcntl on a descriptor that we own, with integer arguments.
        let lease = |kind: libc::c_int| unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) };
        if lease(libc::F_RDLCK) == 0 {
            lease(libc::F_UNLCK);
            return Ok(Some(false));
        }
        Ok((io::Error::last_os_error().raw_os_error() == Some(libc::EAGAIN)).then_some(true))
    }

    fn file(&self, dir: QueueDir, id: &TaskId, text: &[u8]) -> io::Result<()> {
        let open = self.dir_to_fill(dir)?;
        let name = id.file_name();
        if let Ok(mut known) = open_file(&open, &name) {
            let mut bytes = Vec::new();
            known.read_to_end(&mut bytes)?;
            if bytes == text {
                return Ok(());
            }
            // An earlier result of that name is kept beside the new one.
            for n in 1.. {
                match linkat(&open, name.as_str(), &open, format!("{id}.{n}.md").as_str(), AtFlags::empty()) {
                    Ok(()) => break,
                    Err(nix::errno::Errno::EEXIST) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        write_whole(&open, &name, text, Over::Replace)
    }

    fn shift(&self, from: QueueDir, to: QueueDir, id: &TaskId) -> io::Result<()> {
        let (from, to) = (self.dir(from)?, self.dir_to_fill(to)?);
        let name = id.file_name();
        rename_new(&from, &name, &to, &name)?;
        fsync(&to)?;
        Ok(fsync(&from)?)
    }
}

fn no_file(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("it is a {what}, not a regular file"))
}

/// Names in UTF-8.
fn names(dir: impl AsFd) -> io::Result<Vec<String>> {
    Ok(all_names(dir)?.into_iter().filter_map(|name| name.into_string().ok()).collect())
}

fn all_names(dir: impl AsFd) -> io::Result<Vec<OsString>> {
    let fd = dir.as_fd().try_clone_to_owned()?;
    // A duplicate shares the position; a listing starts at the beginning.
    // SAFETY: lseek on a descriptor that we own.
    unsafe { libc::lseek(fd.as_raw_fd(), 0, libc::SEEK_SET) };
    let mut names = Vec::new();
    for entry in Dir::from_fd(fd)?.iter() {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// When a file or directory was last touched, in whatever way.
fn touched(stat: &FileStat) -> Timestamp {
    let time =
        |seconds, nanos| Timestamp::new(seconds, i32::try_from(nanos).unwrap_or(0)).unwrap_or(Timestamp::UNIX_EPOCH);
    time(stat.st_mtime, stat.st_mtime_nsec).max(time(stat.st_ctime, stat.st_ctime_nsec))
}

/// What is not touched for a moment is no file that somebody is about to rename.
fn is_left_alone(stat: &FileStat) -> bool {
    let now = Timestamp::now();
    let since = now.duration_since(touched(stat));
    since.is_negative() || since > SignedDuration::from_secs(2)
}

pub(super) fn facts(stat: &FileStat) -> FileFacts {
    let kind = match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFREG => FileKind::Regular,
        SFlag::S_IFLNK => FileKind::Other("symlink"),
        SFlag::S_IFDIR => FileKind::Other("directory"),
        SFlag::S_IFIFO => FileKind::Other("FIFO"),
        SFlag::S_IFSOCK => FileKind::Other("socket"),
        _ => FileKind::Other("device"),
    };
    let nanos = i128::from(stat.st_ctime) * 1_000_000_000 + i128::from(stat.st_ctime_nsec);
    FileFacts {
        kind,
        bytes: u64::try_from(stat.st_size).unwrap_or(0),
        modified: Timestamp::new(stat.st_mtime, i32::try_from(stat.st_mtime_nsec).unwrap_or(0))
            .unwrap_or(Timestamp::UNIX_EPOCH),
        change: (nanos, stat.st_ino),
    }
}

#[async_trait]
impl QueueStore for DiskQueue {
    async fn prepare(&self, project: &ProjectName) -> io::Result<()> {
        let made = self.path(project)?;
        let made = spawn_blocking(move || std::fs::create_dir(made)).await.map_err(io::Error::other)?;
        made.or_else(|error| if error.kind() == io::ErrorKind::AlreadyExists { Ok(()) } else { Err(error) })?;
        self.look(project, Queue::prepare).await?;
        self.healed.notify_one();
        self.watch(project).await
    }

    async fn list(&self, project: &ProjectName, only: Option<&TaskId>) -> io::Result<Inbox> {
        match only.cloned() {
            Some(id) => self.look(project, move |queue| queue.list_one(&id)).await,
            None => {
                // A directory that was replaced has no watch any more.
                self.watch(project).await?;
                self.look(project, Queue::list).await
            }
        }
    }

    async fn counts(&self, project: &ProjectName) -> io::Result<Counts> {
        let mut counts = [0; 3];
        for (i, dir) in [QueueDir::Drafts, QueueDir::Done, QueueDir::Failed].into_iter().enumerate() {
            let key = (project.clone(), dir);
            let known = self.counted.lock().ok().and_then(|counted| counted.get(&key).copied());
            let (changed, count) = self
                .look(project, move |queue| {
                    let open = queue.dir(dir)?;
                    let stat = nix::sys::stat::fstat(&open)?;
                    let changed = (stat.st_mtime, stat.st_mtime_nsec);
                    match known {
                        Some((at, count)) if at == changed => Ok((changed, count)),
                        Some(_) | None => {
                            let tasks =
                                names(&open)?.iter().filter(|name| TaskId::from_file_name(name).is_some()).count();
                            Ok((changed, tasks as u64))
                        }
                    }
                })
                .await?;
            if let Ok(mut counted) = self.counted.lock() {
                counted.insert(key, (changed, count));
            }
            counts[i] = count;
        }
        let [drafts, done, failed] = counts;
        Ok(Counts { drafts, done, failed })
    }

    async fn read(
        &self,
        project: &ProjectName,
        dir: QueueDir,
        id: &TaskId,
        max: u64,
    ) -> io::Result<(Vec<u8>, FileFacts)> {
        let id = id.clone();
        self.look(project, move |queue| queue.read(dir, &id, max)).await
    }

    async fn has_writer(&self, project: &ProjectName, dir: QueueDir, id: &TaskId) -> io::Result<Option<bool>> {
        let id = id.clone();
        self.look(project, move |queue| queue.has_writer(dir, &id)).await
    }

    async fn workdir(&self, project: &ProjectName, workdir: &str) -> io::Result<Workdir> {
        let (dir, workdir) = (self.roots.project(project)?.to_owned(), workdir.to_owned());
        self.look(project, move |_| {
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            let project = open(&dir, flags, Mode::empty())?;
            let how =
                OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
            match openat2(&project, workdir.as_str(), how) {
                Ok(_) => Ok(Workdir::Inside),
                Err(Errno::EXDEV | Errno::ELOOP) => Ok(Workdir::Outside),
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES) => Ok(Workdir::Missing),
                Err(error) => Err(error.into()),
            }
        })
        .await
    }

    async fn read_sidecar(&self, project: &ProjectName, id: &TaskId, which: Sidecar) -> io::Result<Vec<u8>> {
        let name = format!("{}{}", id.file_name(), which.suffix());
        self.look(project, move |queue| {
            let mut bytes = Vec::new();
            open_file(queue.dir(QueueDir::Inbox)?, name)?.take(64 * 1024).read_to_end(&mut bytes)?;
            Ok(bytes)
        })
        .await
    }

    async fn write_sidecar(&self, project: &ProjectName, id: &TaskId, which: Sidecar, text: &[u8]) -> io::Result<()> {
        self.put_sidecar(project, id, which, text, Over::Never).await
    }

    async fn replace_sidecar(&self, project: &ProjectName, id: &TaskId, which: Sidecar, text: &[u8]) -> io::Result<()> {
        self.put_sidecar(project, id, which, text, Over::Replace).await
    }

    async fn remove_sidecar(&self, project: &ProjectName, id: &TaskId, which: Sidecar) -> io::Result<()> {
        let name = format!("{}{}", id.file_name(), which.suffix());
        self.take_away(project, name).await
    }

    async fn file(&self, project: &ProjectName, dir: QueueDir, id: &TaskId, text: &[u8]) -> io::Result<()> {
        let (result, text) = (id.clone(), text.to_vec());
        self.at(project, move |queue| queue.file(dir, &result, &text)).await?;
        self.made(&QueueChange::Arrived(project.clone(), dir, id.file_name()));
        Ok(())
    }

    async fn remove(&self, project: &ProjectName, id: &TaskId) -> io::Result<()> {
        self.take_away(project, id.file_name()).await
    }

    async fn remove_unchanged(
        &self,
        project: &ProjectName,
        dir: QueueDir,
        id: &TaskId,
        seen: &FileFacts,
    ) -> io::Result<bool> {
        let (id, change) = (id.clone(), seen.change);
        let look = id.clone();
        let unchanged = self.at(project, move |queue| {
            let (dir, name) = (queue.dir(dir)?, look.file_name());
            match stat(&dir, &name) {
                Ok(found) if facts(&found).change != change => Ok(Some(false)),
                Ok(_) => remove(&dir, &name).map(|removed| removed.then_some(true)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            }
        });
        let removed = unchanged.await?;
        if removed == Some(true) {
            self.made(&QueueChange::Removed(project.clone(), dir, id.file_name()));
        }
        Ok(removed.unwrap_or(true))
    }

    async fn entries(&self, project: &ProjectName, dir: QueueDir) -> io::Result<Vec<Entry>> {
        self.look(project, move |queue| queue.entries(dir)).await
    }

    async fn archive(
        &self,
        project: &ProjectName,
        dir: QueueDir,
        month: &str,
        files: &[Entry],
    ) -> io::Result<Vec<TaskId>> {
        let (month, files) = (month.to_owned(), files.to_vec());
        self.at(project, move |queue| archive::add(&queue.dir(dir)?, &month, &files)).await
    }

    async fn leftovers(&self, project: &ProjectName) -> io::Result<Vec<Leftover>> {
        self.look(project, Queue::leftovers).await
    }

    async fn remove_leftover(&self, project: &ProjectName, leftover: &Leftover) -> io::Result<()> {
        let Leftover { dir, name, .. } = leftover.clone();
        self.at(project, move |queue| remove(queue.dir(dir)?, &name).map(drop)).await
    }

    async fn shift(&self, project: &ProjectName, from: QueueDir, to: QueueDir, id: &TaskId) -> io::Result<()> {
        let moved = id.clone();
        self.at(project, move |queue| queue.shift(from, to, &moved)).await?;
        self.made(&QueueChange::Moved { project: project.clone(), from, to, name: id.file_name() });
        Ok(())
    }

    async fn changed(&self) -> Option<(ProjectName, TaskId)> {
        self.watch.next().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::queue::QUEUE;

    struct World {
        temp: tempfile::TempDir,
        store: DiskQueue,
        project: ProjectName,
    }

    async fn world() -> World {
        let temp = tempfile::tempdir().expect("a directory");
        let project = ProjectName::parse("web").expect("name");
        let store = DiskQueue::new([(project.clone(), temp.path().to_owned())], None).expect("a store");
        store.prepare(&project).await.expect("prepared");
        World { temp, store, project }
    }

    impl World {
        fn path(&self, name: &str) -> PathBuf {
            self.temp.path().join(QUEUE).join(name)
        }
    }

    fn id(text: &str) -> TaskId {
        TaskId::from_file_name(&format!("{text}.md")).expect("an id")
    }

    #[tokio::test]
    async fn an_inbox_is_sorted_into_tasks_sidecars_and_locks() {
        let w = world().await;
        for name in ["a.md", "a.md.working", "b.md.delegated", ".a.md.swp", ".#b.md", "notes.txt", "a.md~", "4913"] {
            std::fs::write(w.path("inbox").join(name), "x").expect("written");
        }
        std::fs::create_dir(w.path("inbox/d.md")).expect("made");
        std::os::unix::fs::symlink("/etc/hostname", w.path("inbox/l.md")).expect("made");
        let inbox = w.store.list(&w.project, None).await.expect("listed");
        let kinds: Vec<_> = inbox.tasks.iter().map(|t| (t.id.as_str(), t.file.kind)).collect();
        assert_eq!(
            kinds,
            [("a", FileKind::Regular), ("d", FileKind::Other("directory")), ("l", FileKind::Other("symlink"))]
        );
        assert_eq!(inbox.sidecars.len(), 2);
        assert_eq!(inbox.locks.len(), 2);
        let one = w.store.list(&w.project, Some(&id("a"))).await.expect("listed");
        assert_eq!((one.tasks.len(), one.sidecars.len(), one.locks.len()), (1, 1, 1));
        assert!(w.store.read(&w.project, QueueDir::Inbox, &id("l"), 99).await.is_err());
    }

    #[tokio::test]
    async fn an_open_writer_is_seen() {
        let w = world().await;
        let path = w.path("inbox/a.md");
        let writer = std::fs::File::create(&path).expect("open");
        assert_eq!(w.store.has_writer(&w.project, QueueDir::Inbox, &id("a")).await.expect("asked"), Some(true));
        drop(writer);
        assert_eq!(w.store.has_writer(&w.project, QueueDir::Inbox, &id("a")).await.expect("asked"), Some(false));
    }

    #[tokio::test]
    async fn a_marker_is_made_once_and_a_result_never_overwrites_another() {
        let w = world().await;
        let (p, a) = (&w.project, id("a"));
        w.store.write_sidecar(p, &a, Sidecar::Working, b"1").await.expect("made");
        let second = w.store.write_sidecar(p, &a, Sidecar::Working, b"2").await;
        assert_eq!(second.map_err(|e| e.kind()), Err(io::ErrorKind::AlreadyExists));
        for text in ["one", "one", "two", "three"] {
            w.store.file(p, QueueDir::Done, &a, text.as_bytes()).await.expect("filed");
        }
        let mut names: Vec<_> =
            std::fs::read_dir(w.path("done")).expect("listed").map(|e| e.expect("entry").file_name()).collect();
        names.sort();
        assert_eq!(names, ["a.1.md", "a.2.md", "a.md"]);
        assert_eq!(std::fs::read(w.path("done/a.md")).expect("read"), b"three");
        assert_eq!(w.store.counts(p).await.expect("counted").done, 3);
    }

    #[tokio::test]
    async fn changes_behind_our_back_are_hinted_at() {
        let w = world().await;
        let wait = |want: TaskId| {
            let store = &w.store;
            async move {
                let deadline = std::time::Duration::from_secs(10);
                let hint = async {
                    loop {
                        match store.changed().await {
                            Some((_, id)) if id == want => return,
                            Some(_) | None => {}
                        }
                    }
                };
                tokio::time::timeout(deadline, hint).await.expect("a hint");
            }
        };
        std::fs::write(w.path("inbox/a.md"), "x").expect("written");
        wait(id("a")).await;
        std::fs::rename(w.path("inbox/a.md"), w.path("inbox/b.md")).expect("moved");
        wait(id("b")).await;
        // A replaced directory, as git makes them.
        std::fs::rename(w.path("inbox"), w.path("old")).expect("moved");
        std::fs::create_dir(w.path("inbox")).expect("made");
        w.store.list(&w.project, None).await.expect("listed");
        std::fs::write(w.path("inbox/c.md"), "x").expect("written");
        wait(id("c")).await;
        // Removed and made again, which gives the same inode number here and there.
        for round in 0..3 {
            std::fs::remove_dir_all(w.path("inbox")).expect("removed");
            std::fs::create_dir(w.path("inbox")).expect("made");
            let everything = async { while w.store.changed().await.is_some() {} };
            tokio::time::timeout(std::time::Duration::from_secs(10), everything)
                .await
                .expect("a hint to look everywhere");
            w.store.list(&w.project, None).await.expect("listed");
            let name = format!("d{round}");
            std::fs::write(w.path("inbox").join(format!("{name}.md")), "x").expect("written");
            wait(id(&name)).await;
        }
    }

    #[tokio::test]
    async fn a_new_queue_keeps_git_out_and_one_of_a_person_s_stays_as_it_is() {
        let w = world().await;
        assert_eq!(std::fs::read(w.path(".gitignore")).expect("made"), b"*\n");
        std::fs::remove_file(w.path(".gitignore")).expect("removed");
        w.store.prepare(&w.project).await.expect("prepared");
        assert!(!w.path(".gitignore").exists(), "somebody took it away");
    }

    #[tokio::test]
    async fn a_workdir_never_leaves_its_project() {
        let w = world().await;
        let at = |name: &str| w.temp.path().join(name);
        std::fs::create_dir_all(at("sub/in")).expect("made");
        for (link, to) in [("etc", "/etc"), ("up", ".."), ("in", "sub/in"), ("sub/etc", "../../.."), ("loop", "loop")] {
            std::os::unix::fs::symlink(to, at(link)).expect("a link");
        }
        for (dir, leads) in [
            (".", Workdir::Inside),
            ("sub/in", Workdir::Inside),
            ("in", Workdir::Inside),
            ("etc", Workdir::Outside),
            ("etc/ssl", Workdir::Outside),
            ("up", Workdir::Outside),
            ("sub/etc", Workdir::Outside),
            ("loop", Workdir::Outside),
            ("none", Workdir::Missing),
        ] {
            assert_eq!(w.store.workdir(&w.project, dir).await.expect("looked"), leads, "{dir}");
        }
    }

    #[tokio::test]
    async fn more_changes_than_can_wait_mean_that_everything_is_looked_at() {
        let w = world().await;
        for n in 0..5000 {
            std::fs::write(w.path("inbox").join(format!("t{n}.md")), "x").expect("written");
        }
        let everything = async { while w.store.changed().await.is_some() {} };
        tokio::time::timeout(std::time::Duration::from_secs(30), everything)
            .await
            .expect("the hint to look everywhere");
        assert_eq!(w.store.list(&w.project, None).await.expect("listed").tasks.len(), 5000);
    }
}
