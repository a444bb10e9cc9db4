//! The queue directories, and what people and scripts do in them behind the daemon's back.

use std::io::{Error, ErrorKind, Result};

use async_trait::async_trait;

use super::{Crash, FakeWorld, Inner};
use crate::{
    model::{
        event::Counts,
        ids::{ProjectName, TaskId},
        result::run_of,
        task_file::identity,
    },
    ports::{Entry, FileFacts, FileKind, Inbox, Leftover, QueueDir, QueueStore, Sidecar},
};

/// A regular file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    pub bytes: Vec<u8>,
    /// Nanoseconds since the world began, on the wall's clock.
    pub modified: u64,
    pub changed: u64,
    pub inode: u64,
    /// Some process has it open for writing.
    pub writer: bool,
}

type Key = (ProjectName, QueueDir, String);

fn key(project: &ProjectName, dir: QueueDir, name: &str) -> Key {
    (project.clone(), dir, name.to_owned())
}

fn sidecar(id: &TaskId, which: Sidecar) -> String {
    format!("{}{}", id.file_name(), which.suffix())
}

/// The task that a name in the inbox belongs to, and what the file is to it.
enum Name {
    Task(TaskId),
    Beside(TaskId, Sidecar),
    Lock(TaskId),
}

fn name_of(name: &str) -> Option<Name> {
    for which in [Sidecar::Working, Sidecar::Delegated, Sidecar::Rejected] {
        if let Some(id) = name.strip_suffix(which.suffix()).and_then(TaskId::from_file_name) {
            return Some(Name::Beside(id, which));
        }
    }
    let lock = name.strip_prefix('.').and_then(|name| name.strip_suffix(".swp"));
    match lock.and_then(TaskId::from_file_name) {
        Some(id) => Some(Name::Lock(id)),
        None => TaskId::from_file_name(name).map(Name::Task),
    }
}

impl Inner {
    fn hint(&mut self, project: &ProjectName, name: &str) {
        let one = name_of(name).map(|name| match name {
            Name::Task(id) | Name::Beside(id, _) | Name::Lock(id) => (project.clone(), id),
        });
        self.hinted.push_back(one);
        self.woken.files = true;
    }

    /// Writes a file as any program would: a new file, or new content in the same one.
    pub fn put(&mut self, project: &ProjectName, dir: QueueDir, name: &str, bytes: &[u8]) {
        let changed = self.change();
        let now = self.true_nanos();
        let inode = match self.disk.get(&key(project, dir, name)) {
            Some(file) => file.inode,
            None => self.number(),
        };
        let writer = self.disk.get(&key(project, dir, name)).is_some_and(|file| file.writer);
        let file = File { bytes: bytes.to_vec(), modified: now, changed, inode, writer };
        self.disk.insert(key(project, dir, name), file);
        self.hint(project, name);
    }

    /// Opens a file for writing, or closes it again.
    pub fn set_writer(&mut self, project: &ProjectName, name: &str, writer: bool) {
        if let Some(file) = self.disk.get_mut(&key(project, QueueDir::Inbox, name)) {
            file.writer = writer;
        }
        self.hint(project, name);
    }

    /// Changes times only.
    pub fn touch(&mut self, project: &ProjectName, dir: QueueDir, name: &str) {
        let (changed, now) = (self.change(), self.true_nanos());
        if let Some(file) = self.disk.get_mut(&key(project, dir, name)) {
            (file.changed, file.modified) = (changed, now);
        }
        self.hint(project, name);
    }

    /// Removes a file behind the daemon's back; answers what it was.
    pub fn take(&mut self, project: &ProjectName, dir: QueueDir, name: &str) -> Option<File> {
        let file = self.disk.remove(&key(project, dir, name));
        self.hint(project, name);
        file
    }

    /// Renames a file behind the daemon's back, never over another. Answers whether it happened.
    pub fn rename(&mut self, project: &ProjectName, from: (QueueDir, &str), to: (QueueDir, &str)) -> bool {
        if self.disk.contains_key(&key(project, to.0, to.1)) {
            return false;
        }
        let Some(mut file) = self.disk.remove(&key(project, from.0, from.1)) else { return false };
        file.changed = self.change();
        self.disk.insert(key(project, to.0, to.1), file);
        self.hint(project, from.1);
        self.hint(project, to.1);
        true
    }

    #[must_use]
    pub fn file(&self, project: &ProjectName, dir: QueueDir, name: &str) -> Option<&File> {
        self.disk.get(&key(project, dir, name))
    }

    /// Every file whose bytes hold `text`, as `dir/name`.
    #[must_use]
    pub fn holding(&self, text: &str) -> Vec<String> {
        let holds = |bytes: &[u8]| find(bytes, text.as_bytes());
        let rows = self.disk.iter().filter(|(_, file)| holds(&file.bytes));
        let stored = self.archives.iter().filter(|(_, bytes)| holds(bytes));
        let rows = rows.map(|((project, dir, name), _)| format!("{project}/{}/{name}", dir.name()));
        rows.chain(stored.map(|((project, dir, month, name), _)| format!("{project}/{}/{month}/{name}", dir.name())))
            .collect()
    }

    fn facts(&self, file: &File) -> FileFacts {
        FileFacts {
            kind: FileKind::Regular,
            bytes: file.bytes.len() as u64,
            modified: self.time(file.modified),
            change: (self.time(file.changed).as_nanosecond(), file.inode),
        }
    }

    fn get(&self, project: &ProjectName, dir: QueueDir, name: &str) -> Result<&File> {
        self.file(project, dir, name).ok_or_else(|| Error::from(ErrorKind::NotFound))
    }

    /// A result may only go that is in an archive, and whose task isn't on its way.
    fn watch_going(&mut self, project: &ProjectName, dir: QueueDir, id: &TaskId) {
        let name = id.file_name();
        let Some(file) = self.file(project, dir, &name) else { return };
        let stored = |((p, d, ..), bytes): (&(ProjectName, QueueDir, String, String), &Vec<u8>)| {
            p == project && *d == dir && *bytes == file.bytes
        };
        let (stored, writer) = (self.archives.iter().any(stored), file.writer);
        let claimed = self.file(project, QueueDir::Inbox, &sidecar(id, Sidecar::Working)).is_some();
        if !stored || writer || claimed {
            let text = format!("stored {stored}, being written {writer}, its task at work {claimed}");
            self.violation(format!("{}/{name} is removed: {text}", dir.name()));
        }
    }

    /// The daemon may only take a text out of the inbox that stands in `done/` or `failed/`.
    fn watch_removal(&mut self, project: &ProjectName, id: &TaskId) {
        let Some(file) = self.file(project, QueueDir::Inbox, &id.file_name()) else { return };
        let own = identity(&file.bytes);
        let kept = self.disk.iter().any(|((p, dir, _), file)| {
            p == project && matches!(dir, QueueDir::Done | QueueDir::Failed) && identity(&file.bytes) == own
        });
        if !kept {
            let text = String::from_utf8_lossy(&file.bytes).into_owned();
            self.violation(format!("inbox/{} is removed and its text is in no result: {text:?}", id.file_name()));
        }
    }

    fn watch_result(&mut self, project: &ProjectName, dir: QueueDir, id: &TaskId, text: &[u8]) {
        let Some(run) = run_of(text) else { return };
        let name = id.file_name();
        let twice = self.disk.iter().find(|((p, d, n), file)| {
            let same = p == project && *d == dir && *n == name;
            !same && matches!(d, QueueDir::Done | QueueDir::Failed) && run_of(&file.bytes).as_ref() == Some(&run)
        });
        if self.archives.iter().any(|((p, ..), bytes)| p == project && run_of(bytes).as_ref() == Some(&run)) {
            self.violation(format!("run {run} has a result in an archive and {}/{name}", dir.name()));
        } else if let Some(((_, other, other_name), _)) = twice {
            let (other, other_name) = (other.name(), other_name.clone());
            self.violation(format!("run {run} has two results: {other}/{other_name} and {}/{name}", dir.name()));
        }
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

#[async_trait]
impl QueueStore for FakeWorld {
    async fn prepare(&self, project: &ProjectName) -> Result<()> {
        self.effect(|| format!("prepare {project}"), |_| Ok(())).await
    }

    async fn list(&self, project: &ProjectName, only: Option<&TaskId>) -> Result<Inbox> {
        self.see(|inner| {
            let mut inbox = Inbox::default();
            let wanted = |id: &TaskId| only.is_none_or(|only| only == id);
            let begin = key(project, QueueDir::Inbox, "");
            for ((p, dir, name), file) in inner.disk.range(begin..) {
                if p != project || *dir != QueueDir::Inbox {
                    break;
                }
                match name_of(name) {
                    Some(Name::Task(id)) if wanted(&id) => inbox.tasks.push(Entry { id, file: inner.facts(file) }),
                    Some(Name::Beside(id, which)) if wanted(&id) => inbox.sidecars.push((id, which)),
                    Some(Name::Lock(id)) if wanted(&id) => inbox.locks.push((id, name.clone())),
                    Some(Name::Task(_) | Name::Beside(..) | Name::Lock(_)) | None => {}
                }
            }
            match inner.disk_fault() {
                Some((error, _)) => Err(error),
                None => Ok(inbox),
            }
        })
        .await
    }

    async fn counts(&self, project: &ProjectName) -> Result<Counts> {
        self.see(|inner| {
            let count = |wanted: QueueDir| {
                let names = inner.disk.keys().filter(|(p, dir, _)| p == project && *dir == wanted);
                names.filter(|(_, _, name)| TaskId::from_file_name(name).is_some()).count() as u64
            };
            Ok(Counts { drafts: count(QueueDir::Drafts), done: count(QueueDir::Done), failed: count(QueueDir::Failed) })
        })
        .await
    }

    async fn read(&self, project: &ProjectName, dir: QueueDir, id: &TaskId, max: u64) -> Result<(Vec<u8>, FileFacts)> {
        self.see(|inner| {
            let file = inner.get(project, dir, &id.file_name())?;
            if file.bytes.len() as u64 > max {
                return Err(Error::from(ErrorKind::FileTooLarge));
            }
            Ok((file.bytes.clone(), inner.facts(file)))
        })
        .await
    }

    async fn has_writer(&self, project: &ProjectName, dir: QueueDir, id: &TaskId) -> Result<Option<bool>> {
        self.see(|inner| Ok(Some(inner.get(project, dir, &id.file_name())?.writer))).await
    }

    async fn read_sidecar(&self, project: &ProjectName, id: &TaskId, which: Sidecar) -> Result<Vec<u8>> {
        self.see(|inner| Ok(inner.get(project, QueueDir::Inbox, &sidecar(id, which))?.bytes.clone())).await
    }

    async fn write_sidecar(&self, project: &ProjectName, id: &TaskId, which: Sidecar, text: &[u8]) -> Result<()> {
        let name = sidecar(id, which);
        self.effect(
            || format!("write {name}"),
            |inner| {
                if inner.file(project, QueueDir::Inbox, &name).is_some() {
                    return Err(Error::from(ErrorKind::AlreadyExists));
                }
                inner.write(|inner| {
                    inner.put(project, QueueDir::Inbox, &name, text);
                    Ok(())
                })
            },
        )
        .await
    }

    async fn replace_sidecar(&self, project: &ProjectName, id: &TaskId, which: Sidecar, text: &[u8]) -> Result<()> {
        let name = sidecar(id, which);
        self.effect(
            || format!("replace {name}"),
            |inner| {
                inner.write(|inner| {
                    inner.put(project, QueueDir::Inbox, &name, text);
                    Ok(())
                })
            },
        )
        .await
    }

    async fn remove_sidecar(&self, project: &ProjectName, id: &TaskId, which: Sidecar) -> Result<()> {
        let name = sidecar(id, which);
        self.effect(
            || format!("remove {name}"),
            |inner| {
                if inner.file(project, QueueDir::Inbox, &name).is_none() {
                    return Ok(());
                }
                inner.write(|inner| {
                    inner.take(project, QueueDir::Inbox, &name);
                    Ok(())
                })
            },
        )
        .await
    }

    async fn file(&self, project: &ProjectName, dir: QueueDir, id: &TaskId, text: &[u8]) -> Result<()> {
        let name = id.file_name();
        self.effect(
            || format!("file {}/{name}", dir.name()),
            |inner| {
                inner.write(|inner| {
                    inner.watch_result(project, dir, id, text);
                    if let Some(known) = inner.file(project, dir, &name).filter(|file| file.bytes != text) {
                        let bytes = known.bytes.clone();
                        let free = |n: &u32| !inner.disk.contains_key(&key(project, dir, &format!("{id}.{n}.md")));
                        let n = (1..).find(free).unwrap_or(0);
                        inner.put(project, dir, &format!("{id}.{n}.md"), &bytes);
                    }
                    inner.put(project, dir, &name, text);
                    Ok(())
                })
            },
        )
        .await
    }

    async fn remove(&self, project: &ProjectName, id: &TaskId) -> Result<()> {
        let name = id.file_name();
        self.effect(
            || format!("remove {name}"),
            |inner| {
                if inner.file(project, QueueDir::Inbox, &name).is_none() {
                    return Ok(());
                }
                inner.write(|inner| {
                    inner.watch_removal(project, id);
                    inner.take(project, QueueDir::Inbox, &name);
                    Ok(())
                })
            },
        )
        .await
    }

    async fn remove_unchanged(
        &self,
        project: &ProjectName,
        dir: QueueDir,
        id: &TaskId,
        seen: &FileFacts,
    ) -> Result<bool> {
        let name = id.file_name();
        self.effect(
            || format!("remove {}/{name} if unchanged", dir.name()),
            |inner| {
                let Some(file) = inner.file(project, dir, &name) else { return Ok(true) };
                if inner.facts(file).change != seen.change {
                    return Ok(false);
                }
                inner.write(|inner| {
                    match dir {
                        QueueDir::Inbox | QueueDir::Drafts => inner.watch_removal(project, id),
                        QueueDir::Done | QueueDir::Failed => inner.watch_going(project, dir, id),
                    }
                    inner.take(project, dir, &name);
                    Ok(true)
                })
            },
        )
        .await
    }

    async fn entries(&self, project: &ProjectName, dir: QueueDir) -> Result<Vec<Entry>> {
        self.see(|inner| {
            let files = inner.disk.iter().filter(|((p, d, _), _)| p == project && *d == dir);
            let entry = |((_, _, name), file): (&Key, &File)| {
                Some(Entry { id: TaskId::from_file_name(name)?, file: inner.facts(file) })
            };
            Ok(files.filter_map(entry).collect())
        })
        .await
    }

    async fn archive(&self, project: &ProjectName, dir: QueueDir, month: &str, files: &[Entry]) -> Result<Vec<TaskId>> {
        self.effect(
            || format!("archive {} files of {}/ in {month}", files.len(), dir.name()),
            |inner| {
                inner.write(|inner| {
                    let mut stored = Vec::new();
                    for Entry { id, file } in files {
                        let known = inner.file(project, dir, &id.file_name());
                        let Some(known) = known.filter(|known| inner.facts(known).change == file.change) else {
                            continue;
                        };
                        let bytes = known.bytes.clone();
                        let at = |name: String| (project.clone(), dir, month.to_owned(), name);
                        let numbered = (1..).map(|n: u32| format!("{id}.{n}.md"));
                        for name in std::iter::once(id.file_name()).chain(numbered) {
                            match inner.archives.get(&at(name.clone())) {
                                Some(known) if *known == bytes => inner.tally.archived_again += 1,
                                Some(_) => continue,
                                None => {
                                    inner.archives.insert(at(name), bytes);
                                    inner.tally.archived += 1;
                                }
                            }
                            break;
                        }
                        stored.push(id.clone());
                    }
                    // A crash that is to come comes now and then at the worst moment.
                    if inner.rng.chance(300) {
                        let next = inner.ops + 1;
                        inner.crash = inner.crash.map(|crash| Crash { at: next, ..crash });
                    }
                    Ok(stored)
                })
            },
        )
        .await
    }

    async fn leftovers(&self, _: &ProjectName) -> Result<Vec<Leftover>> {
        Ok(Vec::new())
    }

    async fn remove_leftover(&self, _: &ProjectName, _: &Leftover) -> Result<()> {
        Ok(())
    }

    async fn shift(&self, project: &ProjectName, from: QueueDir, to: QueueDir, id: &TaskId) -> Result<()> {
        let name = id.file_name();
        self.effect(
            || format!("move {}/{name} to {}/", from.name(), to.name()),
            |inner| {
                if inner.file(project, from, &name).is_none() {
                    return Err(Error::from(ErrorKind::NotFound));
                }
                if inner.file(project, to, &name).is_some() {
                    return Err(Error::from(ErrorKind::AlreadyExists));
                }
                inner.write(|inner| {
                    inner.rename(project, (from, &name), (to, &name));
                    Ok(())
                })
            },
        )
        .await
    }

    async fn changed(&self) -> Option<(ProjectName, TaskId)> {
        loop {
            if let Some(hint) = self.with(|inner| inner.hinted.pop_front()) {
                return hint;
            }
            self.files.notified().await;
        }
    }
}
