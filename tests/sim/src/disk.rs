//! The queue directories, and what people and scripts do in them behind the daemon's back.

use std::io::{Error, ErrorKind, Result};

use async_trait::async_trait;

use super::{Crash, FakeWorld, Inner};
use claude_failover::{
    model::{
        event::Counts,
        footer::run_of,
        ids::{ProjectName, TaskId},
        queue::{
            Ask, Claimed, End, Entry, Expected, FileFacts, FileKind, Filed, Inbox, Leftover, Mark, Over, QueueDir,
            Read, Sidecar, Text,
        },
        task_file::identity,
    },
    ports::QueueStore,
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

const SIDECARS: [Sidecar; 3] = [Sidecar::Working, Sidecar::Delegated, Sidecar::Rejected];

fn key(project: &ProjectName, dir: QueueDir, name: &str) -> Key {
    (project.clone(), dir, name.to_owned())
}

/// The task that a name in the inbox belongs to, and what the file is to it.
enum Name {
    Task(TaskId),
    Beside(TaskId, Sidecar),
    Lock(TaskId),
}

fn name_of(name: &str) -> Option<Name> {
    for which in SIDECARS {
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

    /// The files of a directory.
    fn within(&self, project: &ProjectName, dir: QueueDir) -> impl Iterator<Item = (&str, &File)> {
        let files = self.disk.range(key(project, dir, "")..);
        let within = move |((p, d, _), _): &(&Key, &File)| p == project && *d == dir;
        files.take_while(within).map(|((.., name), file)| (name.as_str(), file))
    }

    fn results(&self, project: &ProjectName) -> impl Iterator<Item = (QueueDir, &str, &File)> {
        let dirs = [QueueDir::Done, QueueDir::Failed].into_iter();
        dirs.flat_map(|dir| self.within(project, dir).map(move |(name, file)| (dir, name, file)))
    }

    fn facts(&self, file: &File) -> FileFacts {
        FileFacts {
            kind: FileKind::Regular,
            bytes: file.bytes.len() as u64,
            modified: self.time(file.modified),
            change: (self.time(file.changed).as_nanosecond(), file.inode),
        }
    }

    fn read(&self, project: &ProjectName, dir: QueueDir, id: &TaskId, max: u64) -> Result<(Vec<u8>, FileFacts)> {
        let file = self.get(project, dir, &id.file_name())?;
        if file.bytes.len() as u64 > max {
            return Err(Error::from(ErrorKind::FileTooLarge));
        }
        Ok((file.bytes.clone(), self.facts(file)))
    }

    fn results_of(&self, project: &ProjectName, id: &TaskId) -> Vec<Filed> {
        let result = |dir| {
            let (bytes, facts) = self.read(project, dir, id, u64::MAX).ok()?;
            Some((dir, bytes, facts))
        };
        [QueueDir::Done, QueueDir::Failed].into_iter().filter_map(result).collect()
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
        let claimed = self.file(project, QueueDir::Inbox, &Sidecar::Working.beside(id)).is_some();
        if !stored || writer || claimed {
            let text = format!("stored {stored}, being written {writer}, its task at work {claimed}");
            self.violation(format!("{}/{name} is removed: {text}", dir.name()));
        }
    }

    /// The daemon may only take a text out of the inbox that stands in `done/` or `failed/`.
    fn watch_removal(&mut self, project: &ProjectName, id: &TaskId) {
        let Some(file) = self.file(project, QueueDir::Inbox, &id.file_name()) else { return };
        let own = identity(&file.bytes);
        let kept = self.results(project).any(|(_, _, file)| identity(&file.bytes) == own);
        if !kept {
            let text = String::from_utf8_lossy(&file.bytes).into_owned();
            self.violation(format!("inbox/{} is removed and its text is in no result: {text:?}", id.file_name()));
        }
    }

    fn watch_result(&mut self, project: &ProjectName, dir: QueueDir, id: &TaskId, text: &[u8]) {
        let Some(run) = run_of(text) else { return };
        let name = id.file_name();
        let twice = self
            .results(project)
            .find(|(d, n, file)| (*d, *n) != (dir, name.as_str()) && run_of(&file.bytes).as_ref() == Some(&run));
        if self.archives.iter().any(|((p, ..), bytes)| p == project && run_of(bytes).as_ref() == Some(&run)) {
            self.violation(format!("run {run} has a result in an archive and {}/{name}", dir.name()));
        } else if let Some((other, other_name, _)) = twice {
            let (other, other_name) = (other.name(), other_name.to_owned());
            self.violation(format!("run {run} has two results: {other}/{other_name} and {}/{name}", dir.name()));
        }
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

impl FakeWorld {
    /// Writes a result; one of that name is kept beside it.
    async fn put_result(&self, project: &ProjectName, dir: QueueDir, id: &TaskId, text: &[u8]) -> Result<()> {
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
}

#[async_trait]
impl QueueStore for FakeWorld {
    async fn prepare(&self, project: &ProjectName) -> Result<()> {
        self.effect(|| format!("prepare {project}"), |_| Ok(())).await
    }

    async fn look(&self, project: &ProjectName, names: Option<&[Ask]>) -> Result<Inbox> {
        self.see(|inner| {
            let mut inbox = Inbox::default();
            let mut add = |name: &str, file: &File| match name_of(name) {
                Some(Name::Task(id)) => inbox.tasks.push(Entry { id, file: inner.facts(file) }),
                Some(Name::Beside(id, which)) => inbox.sidecars.push(Mark { id, which, bytes: file.bytes.clone() }),
                Some(Name::Lock(id)) => inbox.locks.push((id, name.to_owned())),
                None => {}
            };
            match names {
                None => inner.within(project, QueueDir::Inbox).for_each(|(name, file)| add(name, file)),
                Some(names) => {
                    for Ask { id, .. } in names {
                        let beside = SIDECARS.into_iter().map(|which| which.beside(id));
                        for name in [id.file_name(), format!(".{}.swp", id.file_name())].into_iter().chain(beside) {
                            if let Some(file) = inner.file(project, QueueDir::Inbox, &name) {
                                add(&name, file);
                            }
                        }
                    }
                }
            }
            for Ask { id, read } in names.into_iter().flatten() {
                let (Read::Unless { change, max }, Ok(file)) =
                    (read, inner.get(project, QueueDir::Inbox, &id.file_name()))
                else {
                    continue;
                };
                if *change != Some(inner.facts(file).change) {
                    let read = inner.read(project, QueueDir::Inbox, id, *max);
                    let text = Text { writer: Some(file.writer), read, results: inner.results_of(project, id) };
                    inbox.texts.insert(id.clone(), text);
                }
            }
            match inner.disk_fault() {
                Some((error, _)) => Err(error),
                None => Ok(inbox),
            }
        })
        .await
    }

    async fn claim(
        &self,
        project: &ProjectName,
        id: &TaskId,
        expected: &Expected,
        which: Sidecar,
        marker: &[u8],
    ) -> Result<Claimed> {
        let as_expected = |inner: &mut Inner| match inner.read(project, QueueDir::Inbox, id, expected.max) {
            Ok((text, _)) => Ok(Some(text).filter(|text| expected.is(text))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        let Some(text) = self.see(as_expected).await? else { return Ok(Claimed::Moved) };
        match self.mark(project, id, which, marker, Over::Never).await {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(Claimed::Taken),
            marked => marked?,
        }
        let others = [Sidecar::Working, Sidecar::Delegated].into_iter().filter(|other| *other != which);
        let lost = self.see(|inner| {
            let mut others = others.map(|other| inner.file(project, QueueDir::Inbox, &other.beside(id)).is_some());
            if others.any(|there| there) {
                Some(Claimed::Taken)
            } else {
                as_expected(inner).is_ok_and(|text| text.is_none()).then_some(Claimed::Moved)
            }
        });
        let Some(lost) = lost.await else { return Ok(Claimed::Ours(text)) };
        self.unmark(project, id, &[which]).await?;
        Ok(lost)
    }

    async fn file(&self, project: &ProjectName, id: &TaskId, end: &End) -> Result<Option<(Vec<u8>, FileFacts)>> {
        let filed = self.see(|inner| inner.results_of(project, id)).await;
        let is_there = |run| filed.iter().any(|(_, bytes, _)| run_of(bytes).as_ref() == Some(run));
        if let Some((dir, text)) = end.result.as_ref().filter(|_| !end.run.as_ref().is_some_and(is_there)) {
            self.put_result(project, *dir, id, text).await?;
        }
        let newer = loop {
            match self.read(project, QueueDir::Inbox, id, u64::MAX).await {
                Err(error) if error.kind() == ErrorKind::NotFound => break None,
                Err(error) => return Err(error),
                Ok((text, seen)) if identity(&text) == end.own => {
                    if self.remove_unchanged(project, QueueDir::Inbox, id, &seen).await? {
                        break None;
                    }
                }
                Ok(newer) => break Some(newer),
            }
        };
        let beside: Vec<Sidecar> = end.claim.into_iter().chain([Sidecar::Rejected]).collect();
        self.unmark(project, id, &beside).await?;
        Ok(newer)
    }

    async fn mark(&self, project: &ProjectName, id: &TaskId, which: Sidecar, text: &[u8], over: Over) -> Result<()> {
        let name = which.beside(id);
        self.effect(
            || format!("write {name}"),
            |inner| {
                if over == Over::Never && inner.file(project, QueueDir::Inbox, &name).is_some() {
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

    async fn unmark(&self, project: &ProjectName, id: &TaskId, which: &[Sidecar]) -> Result<()> {
        for name in which.iter().map(|which| which.beside(id)) {
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
            .await?;
        }
        Ok(())
    }

    async fn results(&self, project: &ProjectName, id: &TaskId) -> Result<Vec<Filed>> {
        Ok(self.see(|inner| inner.results_of(project, id)).await)
    }

    async fn counts(&self, project: &ProjectName) -> Result<Counts> {
        self.see(|inner| {
            let count = |dir: QueueDir| {
                let names = inner.within(project, dir).map(|(name, _)| name);
                names.filter(|name| TaskId::from_file_name(name).is_some()).count() as u64
            };
            Ok(Counts { drafts: count(QueueDir::Drafts), done: count(QueueDir::Done), failed: count(QueueDir::Failed) })
        })
        .await
    }

    async fn read(&self, project: &ProjectName, dir: QueueDir, id: &TaskId, max: u64) -> Result<(Vec<u8>, FileFacts)> {
        self.see(|inner| inner.read(project, dir, id, max)).await
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
                if inner.facts(file).change != seen.change || (dir != QueueDir::Inbox && file.writer) {
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
            let entry = |(name, file): (&str, &File)| {
                Some(Entry { id: TaskId::from_file_name(name)?, file: inner.facts(file) })
            };
            Ok(inner.within(project, dir).filter_map(entry).collect())
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
                        let same = |known: &&File| inner.facts(known).change == file.change && !known.writer;
                        let Some(known) = known.filter(same) else {
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
