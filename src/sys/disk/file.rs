//! Writes results and moves files between the queue's directories.
//! Takes an open queue; makes durable changes and returns the names used.

use std::{
    io::{self, Read as _},
    os::fd::OwnedFd,
};

use nix::{
    errno::Errno,
    fcntl::AtFlags,
    unistd::{UnlinkatFlags, fsync, linkat, unlinkat},
};

use super::{jobs::Queue, look::read_at};
use crate::{
    linux::{
        dirs::{Over, open_file, remove, rename_new, stat, write_whole},
        file::has_writer,
    },
    model::{
        footer::{end_of, run_of},
        ids::TaskId,
        queue::{End, FileFacts, QueueChange, QueueDir, Sidecar},
        task_file::identity,
    },
    sys::names::facts,
};

/// A file that holds another text than what was run.
type Newer = (Vec<u8>, FileFacts);

impl Queue {
    /// Writes the result, unless it exists already; then removes the task, unless its text differs from the one that
    /// was run; then its sidecars. Returns the other text.
    pub(super) fn file(&self, id: &TaskId, end: &End, made: &mut Vec<QueueChange>) -> io::Result<Option<Newer>> {
        // What a daemon filed that ended before it could say so stays as it is: by a clock that was set since it would read
        // otherwise.
        let is_filed = |run| self.results(id).iter().any(|(_, bytes, _)| run_of(bytes).as_ref() == Some(run));
        if let Some((dir, text)) = &end.result
            && !end.run.as_ref().is_some_and(is_filed)
        {
            self.put(*dir, id, text)?;
            made.push(QueueChange::Arrived(self.project.clone(), *dir, id.file_name()));
        }
        let inbox = self.dir(QueueDir::Inbox)?;
        let before = made.len();
        let newer = self.clear(&inbox, id, &end.own, made)?;
        for which in end.claim.into_iter().chain([Sidecar::Rejected]) {
            self.unlink(&inbox, which.beside(id), made)?;
        }
        if made.len() > before {
            fsync(&inbox)?;
        }
        Ok(newer)
    }

    /// Removes the task file, unless it holds another text than `own`; answers that.
    fn clear(&self, inbox: &OwnedFd, id: &TaskId, own: &str, made: &mut Vec<QueueChange>) -> io::Result<Option<Newer>> {
        loop {
            match read_at(inbox, id, u64::MAX) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                // A directory with a task's name is somebody's own.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    return match self.unlink(inbox, id.file_name(), made) {
                        Err(error) if error.kind() == io::ErrorKind::IsADirectory => Ok(None),
                        removed => removed.map(|()| None),
                    };
                }
                Err(error) => return Err(error),
                Ok((text, read)) if identity(&text) == own => {
                    // Somebody may have saved it between the look and the removal.
                    if stat(inbox, id.file_name()).is_ok_and(|found| facts(&found).change != read.change) {
                        continue;
                    }
                    return self.unlink(inbox, id.file_name(), made).map(|()| None);
                }
                Ok(newer) => return Ok(Some(newer)),
            }
        }
    }

    /// Takes names out of the inbox, with one sync of the directory for all; what is missing is no error.
    pub(super) fn take_away(&self, names: &[String], made: &mut Vec<QueueChange>) -> io::Result<()> {
        let inbox = self.dir(QueueDir::Inbox)?;
        let before = made.len();
        for name in names {
            self.unlink(&inbox, name.clone(), made)?;
        }
        if made.len() > before { Ok(fsync(&inbox)?) } else { Ok(()) }
    }

    fn unlink(&self, inbox: &OwnedFd, name: String, made: &mut Vec<QueueChange>) -> io::Result<()> {
        match unlinkat(inbox, name.as_str(), UnlinkatFlags::NoRemoveDir) {
            Ok(()) => made.push(QueueChange::Removed(self.project.clone(), QueueDir::Inbox, name)),
            Err(Errno::ENOENT) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn put(&self, dir: QueueDir, id: &TaskId, text: &[u8]) -> io::Result<()> {
        let open = self.dir_to_fill(dir)?;
        let name = id.file_name();
        if let Ok(mut known) = open_file(&open, &name) {
            let mut bytes = Vec::new();
            known.read_to_end(&mut bytes)?;
            // By a clock that was set since, the same end reads otherwise.
            if bytes == text || end_of(&bytes).is_some_and(|end| end_of(text) == Some(end)) {
                return Ok(());
            }
            // An earlier result of that name is kept beside the new one.
            for n in 1.. {
                match linkat(&open, name.as_str(), &open, format!("{id}.{n}.md").as_str(), AtFlags::empty()) {
                    Ok(()) => break,
                    Err(Errno::EEXIST) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        write_whole(&open, &name, text, Over::Replace)
    }

    pub(super) fn shift(
        &self,
        from: QueueDir,
        to: QueueDir,
        id: &TaskId,
        made: &mut Vec<QueueChange>,
    ) -> io::Result<()> {
        let (source, target) = (self.dir(from)?, self.dir_to_fill(to)?);
        let name = id.file_name();
        rename_new(&source, &name, &target, &name)?;
        fsync(&target)?;
        fsync(&source)?;
        made.push(QueueChange::Moved { project: self.project.clone(), from, to, name });
        Ok(())
    }

    /// Removes a file that has not changed since it was seen and that nobody writes; answers whether it is gone.
    pub(super) fn remove_unchanged(
        &self,
        dir: QueueDir,
        id: &TaskId,
        seen: &FileFacts,
        made: &mut Vec<QueueChange>,
    ) -> io::Result<bool> {
        let (open, name) = (self.dir(dir)?, id.file_name());
        match stat(&open, &name) {
            Ok(found) if facts(&found).change != seen.change || is_written(&open, &name) => Ok(false),
            Ok(_) => {
                if remove(&open, &name)? {
                    made.push(QueueChange::Removed(self.project.clone(), dir, name));
                }
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(error),
        }
    }
}

/// Whether somebody has it open for writing. Where the file system can't tell it is not, and what can't be opened may be.
pub(super) fn is_written(dir: &OwnedFd, name: &str) -> bool {
    open_file(dir, name).map_or(true, |file| has_writer(&file) == Some(true))
}
