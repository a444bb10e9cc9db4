//! The queue directories on a real disk (port `QueueStore`).
//! Takes projects and their paths; returns the inboxes' contents and makes durable changes. Every call reopens the
//! directories, so a queue replaced meanwhile (git checkout) is noticed. Never waits for a writer or a reader, and
//! never goes through our own mount (`queue_root`).
//!
//! Each call is one blocking job on the open queue (`jobs`): `look` reads it, `claim` claims a task, `file` files its
//! result.

mod claim;
mod file;
mod jobs;
mod look;

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock},
};

use async_trait::async_trait;
use nix::sys::stat::fstat;
use tokio::task::spawn_blocking;

use self::jobs::{Gate, Jobs, Queue, lock};
use super::{
    archive,
    watch::{Watch, Watched},
};
use crate::{
    config::queue::{self, covered, is_in_repository},
    linux::dirs,
    model::{
        event::Counts,
        ids::{ProjectName, TaskId},
        queue::{
            Ask, Claimed, End, Entry, Expected, FileFacts, Filed, Inbox, Leftover, Over, QueueChange, QueueDir,
            Sidecar, Workdir,
        },
    },
    ports::QueueStore,
};

/// The directory's change time, and how many tasks stood in it.
type Counted = ((i64, i64), u64);

const COUNTED: [QueueDir; 3] = [QueueDir::Drafts, QueueDir::Done, QueueDir::Failed];

pub struct DiskQueue {
    jobs: Jobs,
    watch: Watch,
    /// Counts by directory and its change time: a directory that has not changed is not read again.
    counted: Mutex<HashMap<ProjectName, [Option<Counted>; COUNTED.len()]>>,
    healed: tokio::sync::Notify,
    /// Hears of every change made here.
    listener: OnceLock<Listener>,
}

type Listener = Box<dyn Fn(&QueueChange) + Send + Sync>;

impl DiskQueue {
    /// Takes the projects' own directories, and where our mount is or will be.
    ///
    /// # Errors
    /// When the system gives no inotify instance.
    pub fn new(
        projects: impl IntoIterator<Item = (ProjectName, PathBuf)>,
        mountpoint: Option<&Path>,
    ) -> io::Result<Self> {
        Ok(Self {
            jobs: Jobs::new(projects, mountpoint),
            watch: Watch::new()?,
            counted: Mutex::default(),
            healed: tokio::sync::Notify::new(),
            listener: OnceLock::new(),
        })
    }

    /// Reports every change made here from now on to `listener`, which must not block. The first listener stays.
    pub fn on_change(&self, listener: impl Fn(&QueueChange) + Send + Sync + 'static) {
        let _ = self.listener.set(Box::new(listener));
    }

    /// Makes a change and reports it, including what was done before a failure.
    async fn change<T: Send + 'static>(
        &self,
        project: &ProjectName,
        job: impl FnOnce(&Queue, &mut Vec<QueueChange>) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let whole = |queue: &Queue| {
            let mut made = Vec::new();
            let done = job(queue, &mut made);
            Ok((done, made))
        };
        self.tell(self.jobs.change(project, whole).await?)
    }

    fn tell<T>(&self, (done, made): (io::Result<T>, Vec<QueueChange>)) -> io::Result<T> {
        if let Some(listener) = self.listener.get() {
            made.iter().for_each(listener);
        }
        done
    }

    /// The mount is there, and this is its device.
    pub fn mounted_as(&self, device: u64) {
        self.jobs.roots.mounted_as(device);
    }

    /// Where the project's real queue directory is, there or not.
    ///
    /// # Errors
    /// When `.agent-queue` is a link that leads nowhere.
    pub fn path(&self, project: &ProjectName) -> io::Result<PathBuf> {
        self.jobs.roots.path(project)
    }

    /// Device and inode of the directory that is the project's queue at this moment.
    ///
    /// # Errors
    /// When it isn't there.
    pub async fn identity(&self, project: &ProjectName) -> io::Result<(u64, u64)> {
        let facts = self.jobs.look(project, |queue| Ok(fstat(&queue.root.fd)?)).await?;
        Ok((facts.st_dev, facts.st_ino))
    }

    /// What a person should know of a project's queue directory: that git would take it in, and what the mount covers.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn oddities(&self, project: &ProjectName) -> io::Result<(bool, Option<String>)> {
        let look = |queue: &Queue| {
            let path = queue.roots.path(&queue.project)?;
            Ok((is_in_repository(&path, &queue.root.path), covered(&queue.root.path)))
        };
        self.jobs.look(project, look).await
    }

    /// Something of a queue was made again: what was said of it may not be true any more.
    pub async fn healed(&self) {
        self.healed.notified().await;
    }

    /// Recreates removed directories of the project's queue, and watches its current directories.
    async fn watch(&self, project: &ProjectName) -> io::Result<()> {
        let look = |queue: &Queue| {
            // Where that is not possible the inbox may still be there.
            let healed = queue::heal(&queue.root.fd).unwrap_or(false);
            let (root, inbox) = (fstat(&queue.root.fd)?, fstat(queue.dir(QueueDir::Inbox)?)?);
            Ok((healed, (queue.root.path.clone(), root.st_ino), inbox.st_ino))
        };
        let (healed, (root, root_inode), inode) = self.jobs.look(project, look).await?;
        self.watch.add(project, root.join(QueueDir::Inbox.name()), inode, Watched::Inbox);
        self.watch.add(project, root, root_inode, Watched::Queue);
        if healed {
            self.healed.notify_one();
        }
        Ok(())
    }
}

#[async_trait]
impl QueueStore for DiskQueue {
    async fn prepare(&self, project: &ProjectName) -> io::Result<()> {
        let made = self.path(project)?;
        let made = spawn_blocking(move || std::fs::create_dir(made)).await.map_err(io::Error::other)?;
        made.or_else(|error| if error.kind() == io::ErrorKind::AlreadyExists { Ok(()) } else { Err(error) })?;
        self.jobs.look(project, Queue::prepare).await?;
        self.healed.notify_one();
        self.watch(project).await
    }

    async fn look(&self, project: &ProjectName, names: Option<&[Ask]>) -> io::Result<Inbox> {
        match names.map(<[Ask]>::to_vec) {
            Some(names) => self.jobs.look(project, move |queue| queue.look_at(&names)).await,
            None => {
                // A directory that was replaced has no watch any more.
                self.watch(project).await?;
                self.jobs.look(project, Queue::look).await
            }
        }
    }

    async fn claim(
        &self,
        project: &ProjectName,
        id: &TaskId,
        expected: &Expected,
        which: Sidecar,
        marker: &[u8],
    ) -> io::Result<Claimed> {
        let (id, expected, marker) = (id.clone(), expected.clone(), marker.to_vec());
        let whole = move |queue: &Queue, gate: &Gate| {
            let mut made = Vec::new();
            let done = queue.claim(&id, &expected, (which, &marker), gate, &mut made);
            Ok((done, made))
        };
        self.tell(self.jobs.look_then_change(project, whole).await?)
    }

    async fn file(&self, project: &ProjectName, id: &TaskId, end: &End) -> io::Result<Option<(Vec<u8>, FileFacts)>> {
        let (id, end) = (id.clone(), end.clone());
        self.change(project, move |queue, made| queue.file(&id, &end, made)).await
    }

    async fn mark(
        &self,
        project: &ProjectName,
        id: &TaskId,
        which: Sidecar,
        text: &[u8],
        over: Over,
    ) -> io::Result<()> {
        let (id, text) = (id.clone(), text.to_vec());
        self.change(project, move |queue, made| queue.mark(&id, which, &text, over, made)).await
    }

    async fn unmark(&self, project: &ProjectName, id: &TaskId, which: &[Sidecar]) -> io::Result<()> {
        let (id, which) = (id.clone(), which.to_vec());
        self.change(project, move |queue, made| queue.unmark(&id, &which, made)).await
    }

    async fn results(&self, project: &ProjectName, id: &TaskId) -> io::Result<Vec<Filed>> {
        let id = id.clone();
        self.jobs.look(project, move |queue| Ok(queue.results(&id))).await
    }

    async fn counts(&self, project: &ProjectName) -> io::Result<Counts> {
        let known = lock(&self.counted).get(project).copied().unwrap_or_default();
        let look = move |queue: &Queue| {
            let mut counted = known;
            for (known, dir) in counted.iter_mut().zip(COUNTED) {
                let open = queue.dir(dir)?;
                let stat = fstat(&open)?;
                let changed = (stat.st_mtime, stat.st_mtime_nsec);
                if known.is_none_or(|(at, _)| at != changed) {
                    *known = Some((changed, look::count(&open)?));
                }
            }
            Ok(counted)
        };
        let counted = self.jobs.look(project, look).await?;
        lock(&self.counted).insert(project.clone(), counted);
        let [drafts, done, failed] = counted.map(|counted| counted.map_or(0, |(_, count)| count));
        Ok(Counts { drafts, done, failed })
    }

    async fn read(
        &self,
        project: &ProjectName,
        dir: QueueDir,
        id: &TaskId,
        max: u64,
    ) -> io::Result<(Vec<u8>, FileFacts)> {
        let id = id.clone();
        self.jobs.look(project, move |queue| queue.read(dir, &id, max)).await
    }

    async fn workdir(&self, project: &ProjectName, workdir: &str) -> io::Result<Workdir> {
        let workdir = workdir.to_owned();
        self.jobs.look(project, move |queue| queue.workdir(&workdir)).await
    }

    async fn remove_unchanged(
        &self,
        project: &ProjectName,
        dir: QueueDir,
        id: &TaskId,
        seen: &FileFacts,
    ) -> io::Result<bool> {
        let (id, seen) = (id.clone(), *seen);
        self.change(project, move |queue, made| queue.remove_unchanged(dir, &id, &seen, made)).await
    }

    async fn entries(&self, project: &ProjectName, dir: QueueDir) -> io::Result<Vec<Entry>> {
        self.jobs.look(project, move |queue| queue.entries(dir)).await
    }

    async fn archive(
        &self,
        project: &ProjectName,
        dir: QueueDir,
        month: &str,
        files: &[Entry],
    ) -> io::Result<Vec<TaskId>> {
        let (month, mut files) = (month.to_owned(), files.to_vec());
        let add = move |queue: &Queue, _: &mut Vec<QueueChange>| {
            let open = queue.dir(dir)?;
            files.retain(|entry| !file::is_written(&open, &entry.id.file_name()));
            archive::add(&open, &month, &files)
        };
        self.change(project, add).await
    }

    async fn leftovers(&self, project: &ProjectName) -> io::Result<Vec<Leftover>> {
        self.jobs.look(project, Queue::leftovers).await
    }

    async fn remove_leftover(&self, project: &ProjectName, leftover: &Leftover) -> io::Result<()> {
        let Leftover { dir, name, .. } = leftover.clone();
        self.change(project, move |queue, _| dirs::remove(queue.dir(dir)?, &name).map(drop)).await
    }

    async fn shift(&self, project: &ProjectName, from: QueueDir, to: QueueDir, id: &TaskId) -> io::Result<()> {
        let id = id.clone();
        self.change(project, move |queue, made| queue.shift(from, to, &id, made)).await
    }

    async fn changed(&self) -> Option<(ProjectName, TaskId)> {
        self.watch.next().await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::{SignedDuration, Timestamp};

    use super::*;
    use crate::{
        config::queue::QUEUE,
        model::{
            ids::RunId,
            queue::{FileKind, Read},
            result,
            steady::{self, Steady},
            task::{Ending, Status},
            task_file::{Reading, identity, read, sha256},
        },
    };

    struct World {
        temp: tempfile::TempDir,
        store: DiskQueue,
        project: ProjectName,
    }

    async fn world() -> World {
        let temp = tempfile::tempdir().expect("a directory");
        let project = ProjectName::parse("web").expect("name");
        let store = DiskQueue::new([(project.clone(), temp.path().to_owned())], None).expect("a store");
        store.prepare(&project).await.expect("prepared");
        World { temp, store, project }
    }

    impl World {
        fn path(&self, name: &str) -> PathBuf {
            self.temp.path().join(QUEUE).join(name)
        }
    }

    fn ask(text: &str) -> Ask {
        Ask { id: id(text), read: Read::Unless { change: None, max: 99 } }
    }

    fn expected(text: &[u8]) -> Expected {
        let Reading::Ready { spec, .. } = read(text) else { panic!("no task") };
        Expected { sha256: sha256(text), spec: Arc::from(spec), max: 99 }
    }

    fn id(text: &str) -> TaskId {
        TaskId::from_file_name(&format!("{text}.md")).expect("an id")
    }

    #[tokio::test]
    async fn an_inbox_is_sorted_into_tasks_sidecars_and_locks() {
        let w = world().await;
        for name in ["a.md", "a.md.working", "b.md.delegated", ".a.md.swp", ".#b.md", "notes.txt", "a.md~", "4913"] {
            std::fs::write(w.path("inbox").join(name), "x").expect("written");
        }
        std::fs::create_dir(w.path("inbox/d.md")).expect("made");
        std::os::unix::fs::symlink("/etc/hostname", w.path("inbox/l.md")).expect("made");
        let inbox = w.store.look(&w.project, None).await.expect("looked");
        let kinds: Vec<_> = inbox.tasks.iter().map(|t| (t.id.as_str(), t.file.kind)).collect();
        assert_eq!(
            kinds,
            [("a", FileKind::Regular), ("d", FileKind::Other("directory")), ("l", FileKind::Other("symlink"))]
        );
        assert_eq!(inbox.sidecars.len(), 2);
        assert_eq!(inbox.locks.len(), 2);
        let one = w.store.look(&w.project, Some(&[ask("a")])).await.expect("looked");
        assert_eq!((one.tasks.len(), one.sidecars.len(), one.locks.len()), (1, 1, 1));
        assert_eq!(one.texts[&id("a")].read.as_ref().expect("read").0, b"x");
        assert!(w.store.read(&w.project, QueueDir::Inbox, &id("l"), 99).await.is_err());
    }

    #[tokio::test]
    async fn an_open_writer_is_seen() {
        let w = world().await;
        let path = w.path("inbox/a.md");
        let writer = std::fs::File::create(&path).expect("open");
        let seen =
            || async { w.store.look(&w.project, Some(&[ask("a")])).await.expect("looked").texts[&id("a")].writer };
        assert_eq!(seen().await, Some(true));
        drop(writer);
        assert_eq!(seen().await, Some(false));
    }

    /// A daemon ended between the result and the removal of the task, and the clock was set before the next one began.
    #[tokio::test]
    async fn the_end_of_a_task_that_never_ran_is_filed_once_also_by_a_clock_that_was_set() {
        let w = world().await;
        let (p, a) = (&w.project, id("a"));
        let reading = |count: i64, ahead: i64| steady::Reading {
            boot: "b".to_owned(),
            count: SignedDuration::from_secs(count),
            asleep: SignedDuration::ZERO,
            wall: Timestamp::from_second(1_000_000 + count + ahead).expect("a time"),
        };
        let mut steady = Steady::begin(None, &reading(0, 0));
        let cancelled = |steady: &mut Steady, ahead: i64| {
            let mut ending = Ending::failed("cancelled".to_owned(), steady.now(&reading(10, ahead)));
            ending.status = Status::Cancelled;
            ending
        };
        let ending = cancelled(&mut steady, 0);
        let file = async |ending: &Ending, steady: &Steady| {
            std::fs::write(w.path("inbox/a.md"), "task").expect("written");
            let text = result::render(b"task", None, ending, steady.timeline());
            let end = End { run: None, result: Some((QueueDir::Failed, text)), own: identity(b"task"), claim: None };
            w.store.file(p, &a, &end).await.expect("filed");
            std::fs::read_dir(w.path("failed")).expect("looked").count()
        };
        assert_eq!(file(&ending, &steady).await, 1);
        for ahead in [-45, 86_400, 0] {
            steady.now(&reading(20, ahead));
            assert_eq!(file(&ending, &steady).await, 1, "{ahead}");
        }
        let again = Ending { at: steady.now(&reading(30, 0)), ..ending };
        assert_eq!(file(&again, &steady).await, 2, "another end of the same text");
    }

    #[tokio::test]
    async fn a_marker_is_made_once_and_a_result_never_overwrites_another() {
        let w = world().await;
        let (p, a) = (&w.project, id("a"));
        std::fs::write(w.path("inbox/a.md"), "task").expect("written");
        let task = expected(b"task");
        let claim = |which| w.store.claim(p, &a, &task, which, b"1");
        assert_eq!(claim(Sidecar::Working).await.expect("made"), Claimed::Ours(b"task".to_vec()));
        for which in [Sidecar::Working, Sidecar::Delegated] {
            assert_eq!(claim(which).await.expect("tried"), Claimed::Taken);
        }
        assert!(!w.path("inbox/a.md.delegated").exists());
        for text in ["one", "one", "two", "three"] {
            let end = End {
                run: None,
                result: Some((QueueDir::Done, text.into())),
                own: identity(b"another"),
                claim: Some(Sidecar::Working),
            };
            let newer = w.store.file(p, &a, &end).await.expect("filed");
            assert_eq!(newer.map(|(text, _)| text), Some(b"task".to_vec()));
        }
        assert!(!w.path("inbox/a.md.working").exists());
        let mut names: Vec<_> =
            std::fs::read_dir(w.path("done")).expect("looked").map(|e| e.expect("entry").file_name()).collect();
        names.sort();
        assert_eq!(names, ["a.1.md", "a.2.md", "a.md"]);
        assert_eq!(std::fs::read(w.path("done/a.md")).expect("read"), b"three");
        assert_eq!(w.store.counts(p).await.expect("counted").done, 3);
    }

    #[tokio::test]
    async fn a_claim_of_what_is_not_there_any_more_leaves_no_marker() {
        let w = world().await;
        let claim = || async {
            let claimed = w.store.claim(&w.project, &id("a"), &expected(b"task"), Sidecar::Working, b"1").await;
            claimed.expect("tried")
        };
        assert_eq!(claim().await, Claimed::Moved);
        std::fs::write(w.path("inbox/a.md"), "another").expect("written");
        assert_eq!(claim().await, Claimed::Moved);
        assert_eq!(std::fs::read_dir(w.path("inbox")).expect("listed").count(), 1);
    }

    #[tokio::test]
    async fn a_filed_task_goes_with_what_stands_beside_it_and_is_not_filed_twice() {
        let w = world().await;
        for name in ["a.md", "a.md.working", "a.md.rejected", "b.md"] {
            std::fs::write(w.path("inbox").join(name), "task").expect("written");
        }
        let result =
            |text: &str| format!("{text}\n<!-- claude-failover:result -->\n```yaml\nstatus: done\nrun: 7\n```\n");
        let end = |text: &str| End {
            run: Some(RunId("7".to_owned())),
            result: Some((QueueDir::Done, result(text).into())),
            own: identity(b"task"),
            claim: Some(Sidecar::Working),
        };
        for text in ["first", "told again"] {
            assert!(w.store.file(&w.project, &id("a"), &end(text)).await.expect("filed").is_none());
        }
        let left = std::fs::read_dir(w.path("inbox")).expect("listed").map(|entry| entry.expect("one").file_name());
        assert_eq!(left.collect::<Vec<_>>(), ["b.md"]);
        assert!(std::fs::read_to_string(w.path("done/a.md")).expect("read").starts_with("first"));
        assert_eq!(std::fs::read_dir(w.path("done")).expect("listed").count(), 1);
    }

    #[tokio::test]
    async fn changes_behind_our_back_are_hinted_at() {
        let w = world().await;
        let wait = |want: TaskId| {
            let store = &w.store;
            async move {
                let deadline = std::time::Duration::from_secs(10);
                let hint = async {
                    loop {
                        match store.changed().await {
                            Some((_, id)) if id == want => return,
                            Some(_) | None => {}
                        }
                    }
                };
                tokio::time::timeout(deadline, hint).await.expect("a hint");
            }
        };
        std::fs::write(w.path("inbox/a.md"), "x").expect("written");
        wait(id("a")).await;
        std::fs::rename(w.path("inbox/a.md"), w.path("inbox/b.md")).expect("moved");
        wait(id("b")).await;
        // A replaced directory, as git makes them.
        std::fs::rename(w.path("inbox"), w.path("old")).expect("moved");
        std::fs::create_dir(w.path("inbox")).expect("made");
        w.store.look(&w.project, None).await.expect("looked");
        std::fs::write(w.path("inbox/c.md"), "x").expect("written");
        wait(id("c")).await;
        // Removed and made again, which gives the same inode number here and there.
        for round in 0..3 {
            std::fs::remove_dir_all(w.path("inbox")).expect("removed");
            std::fs::create_dir(w.path("inbox")).expect("made");
            let everything = async { while w.store.changed().await.is_some() {} };
            tokio::time::timeout(std::time::Duration::from_secs(10), everything)
                .await
                .expect("a hint to look everywhere");
            w.store.look(&w.project, None).await.expect("looked");
            let name = format!("d{round}");
            std::fs::write(w.path("inbox").join(format!("{name}.md")), "x").expect("written");
            wait(id(&name)).await;
        }
    }

    #[tokio::test]
    async fn a_new_queue_keeps_git_out_and_one_of_a_person_s_stays_as_it_is() {
        let w = world().await;
        assert_eq!(std::fs::read(w.path(".gitignore")).expect("made"), b"*\n");
        std::fs::remove_file(w.path(".gitignore")).expect("removed");
        w.store.prepare(&w.project).await.expect("prepared");
        assert!(!w.path(".gitignore").exists(), "somebody took it away");
    }

    #[tokio::test]
    async fn a_workdir_never_leaves_its_project() {
        let w = world().await;
        let at = |name: &str| w.temp.path().join(name);
        std::fs::create_dir_all(at("sub/in")).expect("made");
        for (link, to) in [("etc", "/etc"), ("up", ".."), ("in", "sub/in"), ("sub/etc", "../../.."), ("loop", "loop")] {
            std::os::unix::fs::symlink(to, at(link)).expect("a link");
        }
        for (dir, leads) in [
            (".", Workdir::Inside),
            ("sub/in", Workdir::Inside),
            ("in", Workdir::Inside),
            ("etc", Workdir::Outside),
            ("etc/ssl", Workdir::Outside),
            ("up", Workdir::Outside),
            ("sub/etc", Workdir::Outside),
            ("loop", Workdir::Outside),
            ("none", Workdir::Missing),
        ] {
            assert_eq!(w.store.workdir(&w.project, dir).await.expect("looked"), leads, "{dir}");
        }
    }

    #[tokio::test]
    async fn more_changes_than_can_wait_mean_that_everything_is_looked_at() {
        let w = world().await;
        // More than the channel holds, and what of it the watcher's thread has not taken yet is more than the kernel holds.
        for n in 0..15_000 {
            std::fs::write(w.path("inbox").join(format!("t{}.md", n % 5000)), "x").expect("written");
        }
        let everything = async { while w.store.changed().await.is_some() {} };
        tokio::time::timeout(std::time::Duration::from_secs(30), everything)
            .await
            .expect("the hint to look everywhere");
        assert_eq!(w.store.look(&w.project, None).await.expect("looked").tasks.len(), 5000);
    }
}
