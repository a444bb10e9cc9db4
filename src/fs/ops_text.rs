//! Text of virtual files: rendered from one snapshot, or read from the queue directory that the snapshot names.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use nix::fcntl::OFlag;

use crate::{
    fs::{
        error::FsError,
        ops::{Ops, row_of},
        tree::{Object, Spot, What},
        words::{Text, lock},
    },
    model::{
        snapshot::Snapshot,
        task::{Phase, Status, Task},
    },
    render::{self, Picture, clean},
};

/// How long a rendering is reused, so that a `stat` and the following read agree. Chosen: as the kernel caches
/// attributes of directories (`Lasting::DIR`).
const RENDERING_LIVES: Duration = Duration::from_secs(1);
/// Renderings kept at once. Chosen: a walk over the whole tree makes more, and needs none twice.
const RENDERINGS_MAX: usize = 256;
/// Largest file of a queue that `task.md` and `result.md` show. Chosen: as `ops_real::TEXT_MAX`.
const SHOWN_MAX: u64 = 16 * 1024 * 1024;

/// A rendered file that may serve again.
#[derive(Debug)]
pub(super) struct Rendering {
    made: Instant,
    text: Text,
    /// The last reported size of this file, of this or an earlier text.
    told: Option<u64>,
}

impl Ops {
    /// The text of a virtual file, rendered now or a moment ago from the same snapshot.
    pub(super) fn text(&self, spot: &Spot, snapshot: &Snapshot) -> Result<Text, FsError> {
        let at = Timestamp::now();
        let render = || {
            let bytes = self.render(spot, snapshot, at)?.into_bytes().into();
            Ok(Text { bytes, seq: snapshot.seq, at })
        };
        if !Self::is_from_memory(spot) {
            return render();
        }
        if let Some(known) = lock(&self.rendered).get(spot)
            && known.text.seq == snapshot.seq
            && known.made.elapsed() < RENDERING_LIVES
        {
            return Ok(known.text.clone());
        }
        let text = render()?;
        let mut rendered = lock(&self.rendered);
        if rendered.len() >= RENDERINGS_MAX {
            rendered.clear();
        }
        let told = rendered.get(spot).and_then(|known| known.told);
        rendered.insert(spot.clone(), Rendering { made: Instant::now(), text: text.clone(), told });
        Ok(text)
    }

    /// Records a size that is being reported; returns whether it may differ from the last one.
    pub(super) fn told(&self, spot: &Spot, size: u64) -> bool {
        lock(&self.rendered).get_mut(spot).is_none_or(|known| known.told.replace(size) != Some(size))
    }

    /// Text from the disk may change without a new snapshot.
    pub(super) fn is_from_memory(spot: &Spot) -> bool {
        !row_of(spot).is_some_and(|row| matches!(row.what, What::TaskText | What::TaskResult | What::Log))
    }

    pub(super) fn render(&self, spot: &Spot, snapshot: &Snapshot, now: Timestamp) -> Result<String, FsError> {
        let row = row_of(spot).ok_or(FsError::IsDirectory)?;
        let picture = Picture::at(snapshot, now);
        let task = || match &spot.object {
            Object::Task(_, key) | Object::Job(key) => snapshot.tasks.get(key).cloned().ok_or(FsError::NoEntry),
            _ => Err(FsError::NoEntry),
        };
        let session = || match &spot.object {
            Object::Session(name) => snapshot.sessions.get(name).cloned().ok_or(FsError::NoEntry),
            _ => Err(FsError::NoEntry),
        };
        Ok(match row.what {
            What::Root(make) => make(&picture),
            What::Task(make) => make(&picture, &*task()?),
            What::Session(make) => make(&picture, &*session()?),
            What::Account(make) => {
                let Object::Account(name) = &spot.object else { return Err(FsError::NoEntry) };
                let account = snapshot.accounts.iter().find(|account| account.name == *name);
                make(&picture, account.ok_or(FsError::NoEntry)?)
            }
            What::Project(make) => {
                let Object::Project(name) = &spot.object else { return Err(FsError::NoEntry) };
                let project = snapshot.projects.iter().find(|project| project.name == *name);
                make(&picture, project.ok_or(FsError::NoEntry)?)
            }
            What::Provider(make) => {
                let Object::Provider(name) = &spot.object else { return Err(FsError::NoEntry) };
                make(&picture, snapshot.delegation.get(name).ok_or(FsError::NoEntry)?)
            }
            What::TaskText => self.task_text(&*task()?)?,
            What::TaskResult => self.task_result(&*task()?)?,
            What::Config => clean(&self.backend.config_text()),
            What::Control | What::Input | What::Keys => match &spot.object {
                Object::Task(..) => render::task::control(&picture, &*task()?),
                Object::Session(_) => render::session::control(&picture, &*session()?, row.name),
                Object::Accounts => render::account::active(&picture),
                _ => render::root::control(&picture),
            },
            What::Log | What::Link(_) | What::Dir(_) | What::Queue => return Err(FsError::Invalid),
        })
    }

    /// The task as written: its file, or the part before the result in the filed one.
    fn task_text(&self, task: &Task) -> Result<String, FsError> {
        if let Phase::Finished(_) = task.phase {
            let filed = self.task_result(task)?;
            let own = crate::model::footer::without_result(filed.as_bytes());
            return Ok(String::from_utf8_lossy(own).into_owned());
        }
        self.shown_file(task, &["inbox"])
    }

    fn task_result(&self, task: &Task) -> Result<String, FsError> {
        let finished = match &task.phase {
            Phase::Finished(finished) => finished,
            Phase::Delegated(job) => return Ok(clean(job.output.as_deref().unwrap_or_default())),
            Phase::Held(_) | Phase::Queued | Phase::Rejected(_) | Phase::Working(_) | Phase::Filing(_) => {
                return Ok(String::new());
            }
        };
        match finished.ending.status {
            Status::Done => self.shown_file(task, &["done"]),
            Status::Failed | Status::Cancelled => self.shown_file(task, &["failed", "done"]),
        }
    }

    /// The cleaned text of a task's file in the first of `dirs` that has it; empty when none has.
    fn shown_file(&self, task: &Task, dirs: &[&str]) -> Result<String, FsError> {
        use std::io::Read as _;
        let Some(queue) = self.queues.iter().find(|queue| queue.project == task.key.project) else {
            return Ok(String::new());
        };
        for dir in dirs {
            let path = Path::new(dir).join(task.key.id.file_name());
            let file = match queue.open_at(&path, OFlag::O_RDONLY | OFlag::O_NONBLOCK) {
                Ok(file) => file,
                Err(FsError::NoEntry) => continue,
                Err(error) => return Err(error),
            };
            if !file.metadata().is_ok_and(|meta| meta.is_file()) {
                continue;
            }
            let mut bytes = Vec::new();
            file.take(SHOWN_MAX).read_to_end(&mut bytes).map_err(|error| FsError::io("read", &error))?;
            return Ok(clean(&String::from_utf8_lossy(&bytes)));
        }
        Ok(String::new())
    }
}
