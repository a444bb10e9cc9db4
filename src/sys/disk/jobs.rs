//! Runs disk work of one project as one blocking job with the queue's root opened once.
//! Takes a project and the work; returns its answer. A disk that hangs delays only its own project: a read is
//! abandoned after a timeout, and nothing new starts before the disk has answered.

use std::{
    collections::HashMap,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::task::{JoinHandle, spawn_blocking};

use crate::{
    config::queue,
    linux::dirs,
    model::{ids::ProjectName, queue::QueueDir},
    sys::{
        git::Repositories,
        queue_root::{Root, Roots},
    },
};

/// How long a disk may take to answer before its project is suspended. Chosen: longer than a busy disk takes.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

pub(super) struct Jobs {
    pub(super) roots: Arc<Roots>,
    repositories: Arc<Repositories>,
    /// Projects with looks at their disk that are overdue, and how many.
    overdue: Arc<Mutex<HashMap<ProjectName, usize>>>,
}

/// One project's queue, open.
pub(super) struct Queue {
    pub(super) project: ProjectName,
    pub(super) root: Root,
    pub(super) roots: Arc<Roots>,
    pub(super) repositories: Arc<Repositories>,
}

/// Passed once: by the job, which may change something from then on, or by whoever gave it up.
#[derive(Default)]
pub(super) struct Gate(AtomicBool);

impl Gate {
    /// # Errors
    /// When somebody else has passed.
    pub(super) fn pass(&self) -> io::Result<()> {
        if self.0.swap(true, Ordering::AcqRel) { Err(hangs()) } else { Ok(()) }
    }
}

impl Jobs {
    pub(super) fn new(projects: impl IntoIterator<Item = (ProjectName, PathBuf)>, mountpoint: Option<&Path>) -> Self {
        let roots = Arc::new(Roots::new(projects, mountpoint));
        Self { roots, repositories: Arc::default(), overdue: Arc::default() }
    }

    /// Changes something. Is waited for however long it takes: what was given up could still happen.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        project: &ProjectName,
        job: impl FnOnce(&Queue) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        self.begin(project, job)?.await.map_err(io::Error::other)?
    }

    /// Looks at something, or makes what does no harm later.
    pub(super) async fn look<T: Send + 'static>(
        &self,
        project: &ProjectName,
        job: impl FnOnce(&Queue) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        self.look_then_change(project, |queue, _| job(queue)).await
    }

    /// The same for a job that changes something when it has passed the gate: until then it is given up like a look.
    pub(super) async fn look_then_change<T: Send + 'static>(
        &self,
        project: &ProjectName,
        job: impl FnOnce(&Queue, &Gate) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let gate = Arc::new(Gate::default());
        let of_job = gate.clone();
        let mut look = self.begin(project, move |queue| job(queue, &of_job))?;
        if let Ok(done) = tokio::time::timeout(ANSWERS_WITHIN, &mut look).await {
            return done.map_err(io::Error::other)?;
        }
        if gate.pass().is_err() {
            return look.await.map_err(io::Error::other)?;
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

impl Queue {
    pub(super) fn dir(&self, dir: QueueDir) -> io::Result<OwnedFd> {
        self.roots.open_dir(&self.root, dir.name())
    }

    /// The directory to put something into; made again when somebody removed it.
    pub(super) fn dir_to_fill(&self, dir: QueueDir) -> io::Result<OwnedFd> {
        match self.dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                queue::heal(&self.root.fd)?;
                self.dir(dir)
            }
            other => other,
        }
    }

    pub(super) fn prepare(&self) -> io::Result<()> {
        // A queue that is made is kept out of the repository around it.
        if queue::make_dirs(&self.root.fd)? > 0 {
            queue::ignore(&self.root.fd)?;
        }
        for dir in QueueDir::ALL {
            let open = self.dir(dir)?;
            // Another process may be at work here: `ccl-delegate`, a daemon with another state directory.
            for left in super::look::names(&open)?.iter().filter(|name| dirs::is_leftover(name)) {
                let _ = dirs::remove(&open, left);
            }
        }
        Ok(nix::unistd::fsync(dirs::open_dir_at(&self.root.fd, ".")?)?)
    }
}

fn hangs() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "its disk has not answered for a while; looked at again when it does")
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
