//! Claims a task on disk: writes the marker and answers whether the task is ours. All changes to markers are here.
//! Takes an open queue; makes durable changes and returns the names used.

use std::io;

use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2},
    sys::stat::Mode,
};

use super::{
    jobs::{Gate, Queue},
    look::read_at,
};
use crate::{
    linux::dirs::{self, stat, write_whole},
    model::{
        ids::TaskId,
        queue::{Claimed, Expected, Over, QueueChange, QueueDir, Sidecar, Workdir},
    },
};

impl Queue {
    /// Writes our marker beside a task whose text is as expected. Somebody may move the file away, or claim it, during
    /// the write; then the task is theirs, so both are checked once more afterwards.
    pub(super) fn claim(
        &self,
        id: &TaskId,
        expected: &Expected,
        (which, marker): (Sidecar, &[u8]),
        gate: &Gate,
        made: &mut Vec<QueueChange>,
    ) -> io::Result<Claimed> {
        let dir = self.dir(QueueDir::Inbox)?;
        let text = || match read_at(&dir, id, expected.max) {
            Ok((text, _)) => Ok(Some(text).filter(|text| expected.is(text))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        let Some(first) = text()? else { return Ok(Claimed::Moved) };
        if self.workdir(&expected.spec.workdir)? != Workdir::Inside {
            return Ok(Claimed::NoWorkdir);
        }
        gate.pass()?;
        let name = which.beside(id);
        match write_whole(&dir, &name, marker, dirs::Over::Never) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(Claimed::Taken),
            written => written?,
        }
        made.push(QueueChange::Arrived(self.project.clone(), QueueDir::Inbox, name));
        let others = [Sidecar::Working, Sidecar::Delegated].into_iter().filter(|other| *other != which);
        let mut others = others.map(|other| stat(&dir, other.beside(id)));
        let lost = if others.any(|other| other.is_ok()) {
            Claimed::Taken
        } else if text().is_ok_and(|text| text.is_some()) {
            return Ok(Claimed::Ours(first));
        } else {
            Claimed::Moved
        };
        self.unmark(id, &[which], made)?;
        Ok(lost)
    }

    /// Puts one of our own files beside a task.
    pub(super) fn mark(
        &self,
        id: &TaskId,
        which: Sidecar,
        text: &[u8],
        over: Over,
        made: &mut Vec<QueueChange>,
    ) -> io::Result<()> {
        let name = which.beside(id);
        let over = match over {
            Over::Replace => dirs::Over::Replace,
            Over::Never => dirs::Over::Never,
        };
        write_whole(self.dir(QueueDir::Inbox)?, &name, text, over)?;
        made.push(QueueChange::Arrived(self.project.clone(), QueueDir::Inbox, name));
        Ok(())
    }

    /// Removes the files beside a task; missing ones are no error.
    pub(super) fn unmark(&self, id: &TaskId, which: &[Sidecar], made: &mut Vec<QueueChange>) -> io::Result<()> {
        let names: Vec<String> = which.iter().map(|which| which.beside(id)).collect();
        self.take_away(&names, made)
    }

    /// Where a task's `workdir` leads, every link on the way followed.
    pub(super) fn workdir(&self, workdir: &str) -> io::Result<Workdir> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let project = open(self.roots.project(&self.project)?, flags, Mode::empty())?;
        let how =
            OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        match openat2(&project, workdir, how) {
            Ok(_) => Ok(Workdir::Inside),
            Err(Errno::EXDEV | Errno::ELOOP) => Ok(Workdir::Outside),
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES) => Ok(Workdir::Missing),
            Err(error) => Err(error.into()),
        }
    }
}
