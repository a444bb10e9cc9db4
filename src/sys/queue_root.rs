//! Opens the projects' queue directories without going through our own mount: a process that waits for the mount it
//! serves deadlocks.
//! Takes projects and their paths; returns descriptors of the real directories. Keeps the last descriptor of each,
//! which reaches the real directory while the mount covers it (a bind mount).

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2},
    sys::stat::Mode,
};

use crate::{
    config::queue::{QUEUE, queue_dir},
    linux::{dirs::open_dir_at, statx::device},
    model::ids::ProjectName,
};

/// Where our own mount is.
#[derive(Debug)]
struct Mount {
    point: PathBuf,
    /// Known once it is there.
    device: OnceLock<u64>,
}

#[derive(Debug)]
pub struct Roots {
    projects: HashMap<ProjectName, PathBuf>,
    /// Whose queue the mount shows at its root too.
    first: Option<ProjectName>,
    mount: Option<Mount>,
    last: Mutex<HashMap<ProjectName, Arc<OwnedFd>>>,
}

/// A project's real queue directory.
#[derive(Debug, Clone)]
pub struct Root {
    /// Open by path only.
    pub fd: Arc<OwnedFd>,
    /// Leads there.
    pub path: PathBuf,
}

impl Roots {
    /// `mountpoint`: where our mount is, or will be.
    pub fn new(projects: impl IntoIterator<Item = (ProjectName, PathBuf)>, mountpoint: Option<&Path>) -> Self {
        let mount = mountpoint.map(|point| Mount { point: point.to_owned(), device: OnceLock::new() });
        let projects: Vec<_> = projects.into_iter().collect();
        let first = projects.first().map(|(name, _)| name.clone());
        Self { projects: projects.into_iter().collect(), first, mount, last: Mutex::default() }
    }

    /// The mount is there, and this is its device.
    pub fn mounted_as(&self, device: u64) {
        if let Some(mount) = &self.mount {
            let _ = mount.device.set(device);
        }
    }

    /// The project's own directory.
    ///
    /// # Errors
    /// When there is no such project.
    pub fn project(&self, project: &ProjectName) -> io::Result<&Path> {
        let unknown = || io::Error::new(io::ErrorKind::NotFound, format!("there is no project {project}"));
        self.projects.get(project).map(PathBuf::as_path).ok_or_else(unknown)
    }

    /// Where the project's real queue directory is, there or not.
    ///
    /// # Errors
    /// When there is no such project, or its `.agent-queue` is a link that leads nowhere.
    pub fn path(&self, project: &ProjectName) -> io::Result<PathBuf> {
        queue_dir(self.project(project)?, |at| self.is_mount(at))
    }

    /// Opens the directory that is the project's queue at this moment.
    ///
    /// # Errors
    /// When it isn't there.
    pub fn open(&self, project: &ProjectName) -> io::Result<Root> {
        let path = self.path(project)?;
        let at = |error: Errno| {
            let error = io::Error::from(error);
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        };
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let fd = open(&path, flags, Mode::empty()).map_err(at)?;
        let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !self.is_own(&fd)? {
            let fd = Arc::new(fd);
            last.insert(project.clone(), fd.clone());
            return Ok(Root { fd, path });
        }
        // A descriptor leads below what was mounted later.
        let covered = || io::Error::other(format!("the mount stands over {}; umount it there", path.display()));
        let fd = last.get(project).cloned().ok_or_else(covered)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
        Ok(Root { fd, path })
    }

    /// Opens a directory of a queue, which may be a mount, but not ours.
    ///
    /// # Errors
    /// When it isn't there, is a symlink or isn't a directory.
    pub fn open_dir(&self, root: &Root, name: &str) -> io::Result<OwnedFd> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_NO_XDEV);
        match openat2(&root.fd, name, how) {
            Err(Errno::EXDEV) => {
                let named =
                    openat(&root.fd, name, OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW, Mode::empty())?;
                if self.is_own(&named)? {
                    let text =
                        format!("the mount stands over {QUEUE}/{name} alone; only over all of {QUEUE} it may stand");
                    return Err(io::Error::other(text));
                }
                open_dir_at(&root.fd, name)
            }
            other => Ok(other?),
        }
    }

    /// Whether our mount, or a part of it, is mounted there or will be.
    fn is_mount(&self, at: &Path) -> bool {
        let Some(mount) = &self.mount else { return false };
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let own = || open(at, flags, Mode::empty()).is_ok_and(|fd| self.is_own(&fd).unwrap_or(false));
        at == mount.point || mount.device.get().is_some() && own()
    }

    /// The name that a path of the mount shows in a project's inbox. Looks at the text alone.
    pub fn shown_in_inbox(&self, project: &ProjectName, path: &Path) -> Option<String> {
        let below = path.strip_prefix(&self.mount.as_ref()?.point).ok()?.to_str()?;
        let own =
            below.strip_prefix("projects/").and_then(|rest| rest.strip_prefix(project.as_str())?.strip_prefix('/'));
        let at_root = (self.first.as_ref() == Some(project)).then_some(below);
        let name = own.or(at_root)?.strip_prefix("inbox/")?;
        (!name.contains('/')).then(|| name.to_owned())
    }

    /// The mount's device, once it is there.
    pub fn mount_device(&self) -> Option<u64> {
        self.mount.as_ref()?.device.get().copied()
    }

    fn is_own(&self, fd: &impl AsFd) -> io::Result<bool> {
        match self.mount.as_ref().and_then(|mount| mount.device.get()) {
            Some(own) => Ok(device(fd)? == *own),
            None => Ok(false),
        }
    }
}
