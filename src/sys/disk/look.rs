//! Reads a queue: directory contents, file contents, and who has a file open. Changes nothing.
//! Takes an open queue; returns facts about names, texts, and facts from elsewhere (locks, git).

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read as _},
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
};

use jiff::Timestamp;
use nix::{
    dir::Dir,
    sys::stat::{FileStat, fstat},
    unistd::{Whence, lseek},
};

use super::jobs::Queue;
use crate::{
    linux::{
        dirs::{self, open_file, stat},
        file::has_writer,
        locks,
    },
    model::{
        ids::TaskId,
        queue::{Ask, Claim, Entry, FileFacts, FileKind, Filed, Inbox, Leftover, Mark, QueueDir, Read, Sidecar, Text},
    },
    sys::names::{CLAIMS, LEFT_ALONE, SIDECARS, claim_of, facts, ignored, lock_of, sidecar_of},
};

/// Largest file read beside a task. Chosen: markers and sidecars take a few hundred bytes.
const BESIDE_MAX: u64 = 64 * 1024;

/// Device and inode.
type Place = (u64, u64);

impl Queue {
    pub(super) fn entries(&self, dir: QueueDir) -> io::Result<Vec<Entry>> {
        let dir = self.dir(dir)?;
        let mut entries = Vec::new();
        for id in names(&dir)?.iter().filter_map(|name| TaskId::from_file_name(name)) {
            if let Some(found) = found(&dir, id.file_name())? {
                entries.push(Entry { file: facts(&found), id });
            }
        }
        entries.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(entries)
    }

    pub(super) fn leftovers(&self) -> io::Result<Vec<Leftover>> {
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

    /// The whole inbox.
    pub(super) fn look(&self) -> io::Result<Inbox> {
        let dir = self.dir(QueueDir::Inbox)?;
        let mut inbox = Inbox::default();
        let mut places = Vec::new();
        for name in all_names(&dir)? {
            let known = name.to_str();
            if let Some(id) = known.and_then(TaskId::from_file_name) {
                if let Some(found) = found(&dir, &name)? {
                    places.push((id.clone(), (found.st_dev, found.st_ino)));
                    inbox.tasks.push(Entry { id, file: facts(&found) });
                }
            } else if let Some((id, which)) = known.and_then(sidecar_of) {
                inbox.sidecars.extend(beside(&dir, id, which));
            } else if let Some(id) = known.and_then(lock_of) {
                inbox.locks.push((id, name.to_string_lossy().into_owned()));
            } else if let Some(id) = known.and_then(claim_of) {
                let how = name.to_string_lossy().into_owned();
                let claim = |found| Claim { id, how, touched: Some(touched(&found)) };
                inbox.claims.extend(found(&dir, &name)?.map(claim));
            } else if let Some(ignored) = ignored(&name)
                && let Some(found) = found(&dir, &name)?
                && facts(&found).kind == FileKind::Regular
                && is_left_alone(&found)
            {
                inbox.ignored.push(ignored);
            }
        }
        self.elsewhere(&mut inbox, &places);
        inbox.tasks.sort_by(|a, b| a.id.cmp(&b.id));
        inbox.ignored.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(inbox)
    }

    /// What belongs to these names, and their texts where they are asked for.
    pub(super) fn look_at(&self, names: &[Ask]) -> io::Result<Inbox> {
        let dir = self.dir(QueueDir::Inbox)?;
        let mut inbox = Inbox::default();
        let mut places = Vec::new();
        for Ask { id, read } in names {
            let name = id.file_name();
            let present = |name: &str| stat(&dir, name).ok();
            if let Some(found) = present(&name) {
                places.push((id.clone(), (found.st_dev, found.st_ino)));
                let entry = Entry { id: id.clone(), file: facts(&found) };
                let is_wanted = match read {
                    Read::No => false,
                    Read::Unless { change, .. } => *change != Some(entry.file.change),
                };
                if let Read::Unless { max, .. } = read
                    && is_wanted
                    && entry.file.kind == FileKind::Regular
                {
                    inbox.texts.insert(id.clone(), self.text(&dir, id, *max));
                }
                inbox.tasks.push(entry);
            }
            inbox.sidecars.extend(SIDECARS.into_iter().filter_map(|which| beside(&dir, id.clone(), which)));
            let locks = [format!(".{name}.swp"), format!(".#{name}")].into_iter();
            inbox.locks.extend(locks.filter(|lock| present(lock).is_some()).map(|lock| (id.clone(), lock)));
            for how in CLAIMS.map(|end| format!("{name}{end}")) {
                let claim = |found| Claim { id: id.clone(), how: how.clone(), touched: Some(touched(&found)) };
                inbox.claims.extend(present(&how).map(claim));
            }
        }
        self.elsewhere(&mut inbox, &places);
        Ok(inbox)
    }

    /// What is known of an inbox's tasks from elsewhere: locks on them, and git. After the files were listed.
    fn elsewhere(&self, inbox: &mut Inbox, places: &[(TaskId, Place)]) {
        if places.is_empty() {
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
            for (id, place) in places {
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

    /// A task's text, with what has to be known before it is taken for whole.
    fn text(&self, inbox: &OwnedFd, id: &TaskId, max: u64) -> Text {
        let file = open(inbox, id);
        let writer = file.as_ref().ok().and_then(has_writer);
        Text { writer, read: file.and_then(|file| whole(&file, max)), results: self.results(id) }
    }

    /// The files in `done/` and `failed/` under a task's name.
    pub(super) fn results(&self, id: &TaskId) -> Vec<Filed> {
        let result = |dir| {
            let (bytes, facts) = self.read(dir, id, u64::MAX).ok()?;
            Some((dir, bytes, facts))
        };
        [QueueDir::Done, QueueDir::Failed].into_iter().filter_map(result).collect()
    }

    pub(super) fn read(&self, dir: QueueDir, id: &TaskId, max: u64) -> io::Result<(Vec<u8>, FileFacts)> {
        read_at(&self.dir(dir)?, id, max)
    }
}

/// Number of tasks in a directory.
pub(super) fn count(dir: &OwnedFd) -> io::Result<u64> {
    Ok(names(dir)?.iter().filter(|name| TaskId::from_file_name(name).is_some()).count() as u64)
}

/// A task's file in an open directory: its bytes, and the facts that belong to them.
pub(super) fn read_at(dir: &OwnedFd, id: &TaskId, max: u64) -> io::Result<(Vec<u8>, FileFacts)> {
    whole(&open(dir, id)?, max)
}

fn open(dir: &OwnedFd, id: &TaskId) -> io::Result<File> {
    open_file(dir, id.file_name()).map_err(|error| match stat(dir, id.file_name()).map(|found| facts(&found).kind) {
        Ok(FileKind::Other(what)) => no_file(what),
        Ok(FileKind::Regular) | Err(_) => error,
    })
}

fn whole(file: &File, max: u64) -> io::Result<(Vec<u8>, FileFacts)> {
    let before = facts(&fstat(file)?);
    if let FileKind::Other(what) = before.kind {
        return Err(no_file(what));
    }
    if before.bytes > max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("{} bytes, at most {max}", before.bytes)));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(before.bytes).unwrap_or(0).saturating_add(1));
    file.take(max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {max} bytes")));
    }
    // Facts from after the read: if it was changed meanwhile they differ from those of the listing.
    Ok((bytes, facts(&fstat(file)?)))
}

/// The files beside a task. Of an unreadable one only its existence is known.
fn beside(dir: &OwnedFd, id: TaskId, which: Sidecar) -> Option<Mark> {
    let mut bytes = Vec::new();
    let read = open_file(dir, which.beside(&id)).and_then(|file| file.take(BESIDE_MAX).read_to_end(&mut bytes));
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Ok(_) | Err(_) => Some(Mark { id, which, bytes }),
    }
}

/// `None` for what is gone since it was listed.
fn found(dir: &OwnedFd, name: impl AsRef<OsStr>) -> io::Result<Option<FileStat>> {
    match stat(dir, name) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn no_file(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("it is a {what}, not a regular file"))
}

/// Names in UTF-8.
pub(super) fn names(dir: impl AsFd) -> io::Result<Vec<String>> {
    Ok(all_names(dir)?.into_iter().filter_map(|name| name.into_string().ok()).collect())
}

fn all_names(dir: impl AsFd) -> io::Result<Vec<OsString>> {
    let fd = dir.as_fd().try_clone_to_owned()?;
    // A duplicate shares the position; a listing starts at the beginning.
    lseek(&fd, 0, Whence::SeekSet)?;
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

fn is_left_alone(stat: &FileStat) -> bool {
    let now = Timestamp::now();
    let since = now.duration_since(touched(stat));
    since.is_negative() || since.unsigned_abs() >= LEFT_ALONE
}
