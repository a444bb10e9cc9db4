//! Protects claimed tasks: refuses with EBUSY to move or claim through the mount what the supervisor has claimed.
//! Takes names of an inbox and the calling process; the reason of a refusal goes to `events`, rate-limited. A claim is
//! recognised by our marker beside the file, which is written before anything else. Owns a bounded list of who
//! recently opened a task for reading. Never changes anything.

use std::{
    collections::VecDeque,
    ffi::OsStr,
    io::Read as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::fcntl::OFlag;

use crate::{
    fs::{
        backend::{Place, Process, Touched},
        error::FsError,
        ops::Ops,
        real::FileId,
        words::{Caller, RealDir, lock},
    },
    model::{
        command::{Refused, RefusedKind},
        ids::{TaskId, TaskKey},
        marker::{DelegatedMarker, Marker},
        queue::Sidecar,
        task::Phase,
    },
};

/// Largest marker read. Chosen: as for other files beside a task (`sys/disk/look.rs`).
const MARKER_MAX: u64 = 64 * 1024;
/// How long a task's reader that removes it counts as moving it. Chosen: `mv` removes right after its copy; a slow one
/// gets a minute.
const READ_LATELY: Duration = Duration::from_secs(60);
/// Readers remembered. Chosen: bounds the memory at far more clients than use a queue.
const READERS_MAX: usize = 1024;
/// A retrying script is logged once in this time. Chosen: scripts poll each second or two, and one line a minute is
/// enough.
const TOLD_AGAIN: Duration = Duration::from_secs(60);
/// Refusals remembered for that. Chosen: more scripts than anybody runs on one queue.
const TOLD_MAX: usize = 64;

/// Recent opens and reported refusals, oldest first.
#[derive(Debug, Default)]
pub(super) struct Claims {
    readers: VecDeque<(Instant, Process, FileId)>,
    told: VecDeque<(Instant, Place)>,
}

impl Claims {
    fn forget(&mut self, now: Instant) {
        while self.readers.front().is_some_and(|(at, ..)| now.duration_since(*at) > READ_LATELY) {
            self.readers.pop_front();
        }
        while self.told.front().is_some_and(|(at, _)| now.duration_since(*at) > TOLD_AGAIN) {
            self.told.pop_front();
        }
    }

    fn reads(&mut self, process: Process, file: FileId, now: Instant) {
        self.forget(now);
        self.readers.retain(|(_, known, of)| (*known, *of) != (process, file));
        if self.readers.len() >= READERS_MAX {
            self.readers.pop_front();
        }
        self.readers.push_back((now, process, file));
    }

    fn has_read(&mut self, process: Process, file: FileId, now: Instant) -> bool {
        self.forget(now);
        self.readers.iter().any(|(_, known, of)| (*known, *of) == (process, file))
    }

    /// Whether to report it now.
    fn tells(&mut self, place: &Place, now: Instant) -> bool {
        self.forget(now);
        if self.told.iter().any(|(_, told)| told == place) {
            return false;
        }
        if self.told.len() >= TOLD_MAX {
            self.told.pop_front();
        }
        self.told.push_back((now, place.clone()));
        true
    }
}

/// The task that a name in an inbox is about: its file, or one of its claim markers.
fn task_and_marker(name: &OsStr) -> Option<(TaskId, Option<Sidecar>)> {
    let name = name.to_str()?;
    let of = |sidecar: Sidecar| Some((TaskId::from_file_name(name.strip_suffix(sidecar.suffix())?)?, Some(sidecar)));
    TaskId::from_file_name(name)
        .map(|id| (id, None))
        .or_else(|| of(Sidecar::Working))
        .or_else(|| of(Sidecar::Delegated))
}

impl Ops {
    /// Refuses to take a task at work out of its inbox.
    pub(super) fn may_leave(&self, inbox: &RealDir, name: &OsStr, caller: Caller) -> Result<(), FsError> {
        let Some((id, None)) = task_and_marker(name) else { return Ok(()) };
        match self.claim(inbox.queue, &id) {
            None => Ok(()),
            Some(work) => {
                let text = format!("task {id} {work}: it can't be moved or claimed; `rm` cancels it");
                Err(self.busy(inbox.queue, &inbox.path, name, text, caller))
            }
        }
    }

    /// Refuses to move, remove, replace or overwrite the marker of a task at work: it is what keeps others from the task.
    pub(super) fn may_change_marker(
        &self,
        queue: usize,
        dir: &Path,
        name: &OsStr,
        caller: Caller,
    ) -> Result<(), FsError> {
        if dir.as_os_str() != "inbox" {
            return Ok(());
        }
        let Some((id, Some(sidecar))) = task_and_marker(name) else { return Ok(()) };
        match self.claim_by(queue, &id, sidecar) {
            None => Ok(()),
            Some(work) => {
                let text = format!(
                    "{} is the supervisor's claim: task {id} {work}; `rm {}` cancels it",
                    name.display(),
                    id.file_name()
                );
                Err(self.busy(queue, dir, name, text, caller))
            }
        }
    }

    /// Refuses to remove a task at work where that is the second half of a move: the remover has read it (`mv` to another file
    /// system), or another name leads to it (`ln`).
    pub(super) fn may_vanish(
        &self,
        dir: &RealDir,
        name: &OsStr,
        file: Option<(FileId, u32)>,
        caller: Caller,
    ) -> Result<(), FsError> {
        self.may_change_marker(dir.queue, &dir.path, name, caller)?;
        let (Some((id, None)), Some((file, links)), true) =
            (task_and_marker(name), file, dir.path.as_os_str() == "inbox")
        else {
            return Ok(());
        };
        let Some(work) = self.claim(dir.queue, &id) else { return Ok(()) };
        let has_read = |process| lock(&self.claims).has_read(process, file, Instant::now());
        let how = if links > 1 {
            "another name leads to it (`ln`)"
        } else if self.backend.process(caller.pid).is_some_and(has_read) {
            "who removes it has read it, as `mv` to another file system does"
        } else {
            return Ok(());
        };
        let text = format!(
            "task {id} {work}: not removed, because {how}; to cancel it: `rm`, or `echo cancel > tasks/{id}/control`"
        );
        Err(self.busy(dir.queue, &dir.path, name, text, caller))
    }

    /// The same of a file known by number, whose content somebody wants to change.
    pub(super) fn may_overwrite(&self, number: u64, caller: Caller) -> Result<(), FsError> {
        let at = lock(&self.nodes).path(number);
        match at.as_ref().and_then(|(queue, path)| Some((*queue, path.parent()?, path.file_name()?))) {
            Some((queue, dir, name)) => self.may_change_marker(queue, dir, name, caller),
            None => Ok(()),
        }
    }

    /// Somebody opened a file for reading.
    pub(super) fn reads(&self, number: u64, file: FileId, caller: Caller) {
        let at = lock(&self.nodes).path(number);
        let is_task = at.is_some_and(|(_, path)| {
            path.parent().is_some_and(|dir| dir.as_os_str() == "inbox")
                && path.file_name().and_then(OsStr::to_str).and_then(TaskId::from_file_name).is_some()
        });
        if is_task && let Some(process) = self.backend.process(caller.pid) {
            lock(&self.claims).reads(process, file, Instant::now());
        }
    }

    /// Who is at a task, by either marker.
    fn claim(&self, queue: usize, id: &TaskId) -> Option<String> {
        [Sidecar::Working, Sidecar::Delegated].into_iter().find_map(|sidecar| self.claim_by(queue, id, sidecar))
    }

    /// The same by one marker, where it is ours and its task is at work. One that is left of a lost state is no claim.
    fn claim_by(&self, queue: usize, id: &TaskId, sidecar: Sidecar) -> Option<String> {
        let queue = self.queues.get(queue)?;
        let path = PathBuf::from("inbox").join(format!("{}{}", id.file_name(), sidecar.suffix()));
        let file = queue.open_at(&path, OFlag::O_RDONLY | OFlag::O_NONBLOCK).ok()?;
        let mut bytes = Vec::new();
        file.take(MARKER_MAX).read_to_end(&mut bytes).ok()?;
        let snapshot = self.backend.snapshot();
        let work = match sidecar {
            Sidecar::Working => {
                let marker = Marker::read(&bytes).filter(|marker| *marker.supervisor == *snapshot.supervisor)?;
                format!("is being worked on in session {}", marker.session)
            }
            Sidecar::Delegated => {
                let marker = DelegatedMarker::read(&bytes)?;
                marker.by(&snapshot.supervisor)?;
                format!("is at provider {}", marker.provider)
            }
            Sidecar::Rejected => return None,
        };
        // The marker comes first, so a task that is still queued may be claimed already.
        match snapshot.tasks.get(&TaskKey::new(&queue.project, id)).map(|task| &task.phase) {
            Some(Phase::Queued | Phase::Working(_) | Phase::Delegated(_) | Phase::Filing(_)) => Some(work),
            Some(Phase::Held(_) | Phase::Rejected(_) | Phase::Finished(_)) | None => None,
        }
    }

    /// Says it where people look, and makes it the caller's error.
    fn busy(&self, queue: usize, dir: &Path, name: &OsStr, text: String, caller: Caller) -> FsError {
        if let Some(queue) = self.queues.get(queue) {
            let at = Place { project: queue.project.clone(), dir: dir.to_owned(), name: name.to_owned() };
            if lock(&self.claims).tells(&at, Instant::now()) {
                self.touch(caller, Some(Touched::Refused { at, text: text.clone() }));
            }
        }
        FsError::Refused(Refused::new(RefusedKind::Busy, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_tasks_and_of_their_claims_are_told_apart() {
        let named = |name: &str| task_and_marker(name.as_ref()).map(|(id, sidecar)| (id.to_string(), sidecar));
        assert_eq!(named("x.md"), Some(("x".to_owned(), None)));
        assert_eq!(named("x.md.working"), Some(("x".to_owned(), Some(Sidecar::Working))));
        assert_eq!(named("x.md.delegated"), Some(("x".to_owned(), Some(Sidecar::Delegated))));
        assert_eq!((named("x.working"), named("x.md.rejected"), named(".x.md")), (None, None, None));
    }

    #[test]
    fn the_memory_of_readers_is_bounded_and_short() {
        let mut claims = Claims::default();
        let now = Instant::now();
        let file = crate::fs::real::Facts::of(&std::fs::File::open("/").expect("the root")).expect("facts").id();
        let process = |pid| Process { pid, start: 1 };
        for pid in 0..5000 {
            claims.reads(process(pid), file, now);
            claims.reads(process(pid), file, now);
        }
        assert_eq!(claims.readers.len(), READERS_MAX);
        assert!(claims.has_read(process(4999), file, now) && !claims.has_read(process(1), file, now));
        assert!(!claims.has_read(Process { pid: 4999, start: 2 }, file, now), "its number was given again");
        assert!(!claims.has_read(process(4999), file, now + READ_LATELY + TOLD_AGAIN));
        let place = |n: usize| Place {
            project: crate::model::ids::ProjectName::parse("web").expect("a name"),
            dir: PathBuf::from("inbox"),
            name: format!("{n}.md").into(),
        };
        assert!(claims.tells(&place(1), now) && !claims.tells(&place(1), now));
        assert!((2..500).all(|n| claims.tells(&place(n), now)) && claims.told.len() == TOLD_MAX);
    }
}
