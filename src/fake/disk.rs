//! The queue directories, and what people and scripts do in them behind the daemon's back.

use std::io::{Error, ErrorKind, Result};

use async_trait::async_trait;

use super::{FakeWorld, Inner};
use crate::{
    model::{
        event::Counts,
        ids::{ProjectName, TaskId},
        result::run_of,
        task_file::identity,
    },
    ports::{Entry, FileFacts, FileKind, Inbox, QueueDir, QueueStore, Sidecar},
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
        let now = self.wall();
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
        let (changed, now) = (self.change(), self.wall());
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
        let holds = |file: &File| find(&file.bytes, text.as_bytes());
        let rows = self.disk.iter().filter(|(_, file)| holds(file));
        rows.map(|((project, dir, name), _)| format!("{project}/{}/{name}", dir.name())).collect()
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
        if let Some(((_, other, other_name), _)) = twice {
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

    async fn has_writer(&self, project: &ProjectName, id: &TaskId) -> Result<Option<bool>> {
        self.see(|inner| Ok(Some(inner.get(project, QueueDir::Inbox, &id.file_name())?.writer))).await
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

    async fn remove_unchanged(&self, project: &ProjectName, id: &TaskId, seen: &FileFacts) -> Result<bool> {
        let name = id.file_name();
        self.effect(
            || format!("remove {name} if unchanged"),
            |inner| {
                let Some(file) = inner.file(project, QueueDir::Inbox, &name) else { return Ok(true) };
                if inner.facts(file).change != seen.change {
                    return Ok(false);
                }
                inner.write(|inner| {
                    inner.watch_removal(project, id);
                    inner.take(project, QueueDir::Inbox, &name);
                    Ok(true)
                })
            },
        )
        .await
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
