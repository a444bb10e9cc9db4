//! inotify watches on the inboxes, and on the queues in case a directory is removed, as hints.
//! Takes directories; returns names that may have changed. A lost event or overflow becomes a full scan; the scan is
//! the truth.

use std::{
    collections::HashMap,
    ffi::OsString,
    io,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use notify::{
    EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode, ModifyKind, RenameMode},
};
use tokio::sync::mpsc;

use super::names::{LEFT_ALONE, ignored, task_of};
use crate::{
    config::queue::DIRS,
    model::ids::{ProjectName, TaskId},
};

/// Hints that may wait; one more causes a full scan. Chosen: a checkout's worth of files; inotify's own queue holds
/// 16384 (inotify(7)).
const WAITING: usize = 4096;

/// How long a queue that lost a directory is left alone: `rm -rf` and `git clean` remove one after the other, and a
/// directory recreated meanwhile would be in their way. Chosen: removing a few directories takes milliseconds.
const TAKEN_AWAY: Duration = Duration::from_millis(200);
/// Longest postponement while it continues. Chosen: the inbox should exist again before anybody misses it.
const TAKEN_AWAY_MOST: Duration = Duration::from_secs(2);

/// A file that is no task and is written again and again (a log, say) is ignored after this many events, because each
/// causes a full scan. The periodic scan finds it. Chosen: no editor's save comes near.
const STRANGE_MOST: u32 = 100;

type Hint = Option<(ProjectName, TaskId)>;

/// What a directory is watched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watched {
    /// Names in it that may be tasks.
    Inbox,
    /// Its four directories.
    Queue,
}

/// A watched directory.
struct Dir {
    project: ProjectName,
    inode: u64,
    what: Watched,
    /// How often names in it that are no task's were news.
    strange: HashMap<OsString, u32>,
}

type Dirs = Arc<Mutex<HashMap<PathBuf, Dir>>>;

/// The content of an event.
#[derive(Debug, PartialEq, Eq)]
enum News {
    Hint(Hint),
    /// A directory of a queue went or came.
    Directory,
    /// A file that is no task's came or went.
    Strange,
}

pub struct Watch {
    watcher: Mutex<RecommendedWatcher>,
    hints: tokio::sync::Mutex<mpsc::Receiver<Hint>>,
    overflow: Arc<tokio::sync::Notify>,
    dirs: Dirs,
}

impl Watch {
    /// # Errors
    /// When the system gives no inotify instance.
    pub fn new() -> io::Result<Self> {
        let (sender, hints) = mpsc::channel(WAITING);
        let overflow = Arc::new(tokio::sync::Notify::new());
        let dirs = Dirs::default();
        let (overflowed, known) = (overflow.clone(), dirs.clone());
        let (later, still) = (Later::new(TAKEN_AWAY), Later::new(LEFT_ALONE + TAKEN_AWAY));
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            for news in news_of(event, &known) {
                match news {
                    News::Hint(hint) => {
                        if sender.try_send(hint).is_err() {
                            overflowed.notify_one();
                        }
                    }
                    News::Directory => later.look(&overflowed),
                    News::Strange => still.look(&overflowed),
                }
            }
        })
        .map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Self { watcher: Mutex::new(watcher), hints: tokio::sync::Mutex::new(hints), overflow, dirs })
    }

    /// Watches a queue or its inbox, again when the directory was replaced. What can't be watched is scanned all the same.
    pub fn add(&self, project: &ProjectName, path: PathBuf, inode: u64, what: Watched) {
        let Ok(mut watcher) = self.watcher.lock() else { return };
        // notify's thread answers `watch` only after the callback has returned, and the callback takes the other lock: it must
        // not be held while the watcher is asked.
        let Ok(mut dirs) = self.dirs.lock() else { return };
        // By whatever path it is known: while the mount covers the queue that is a different one.
        if dirs.values().any(|dir| dir.project == *project && dir.what == what && dir.inode == inode) {
            return;
        }
        dirs.insert(path.clone(), Dir { project: project.clone(), inode, what, strange: HashMap::new() });
        drop(dirs);
        let _ = watcher.unwatch(&path);
        if let Err(error) = watcher.watch(&path, RecursiveMode::NonRecursive) {
            tracing::warn!(path = %path.display(), %error, "no inotify watch; changes there are seen by the scan only");
        }
    }

    /// The next hint.
    pub async fn next(&self) -> Hint {
        let mut hints = self.hints.lock().await;
        tokio::select! {
            () = self.overflow.notified() => None,
            hint = hints.recv() => match hint {
                Some(hint) => hint,
                None => std::future::pending().await,
            }
        }
    }
}

/// A look at everything, once nothing of its kind has come for a moment.
struct Later {
    quiet: Duration,
    /// Tells the thread that waits for it of the next one; without a thread there is nobody to take it.
    waits: Mutex<Option<std::sync::mpsc::Sender<()>>>,
}

impl Later {
    fn new(quiet: Duration) -> Self {
        Self { quiet, waits: Mutex::default() }
    }

    fn look(&self, overflow: &Arc<tokio::sync::Notify>) {
        let Ok(mut waits) = self.waits.lock() else { return overflow.notify_one() };
        if waits.as_ref().is_some_and(|thread| thread.send(()).is_ok()) {
            return;
        }
        let (sender, came) = std::sync::mpsc::channel();
        *waits = Some(sender);
        let (overflow, quiet) = (overflow.clone(), self.quiet);
        std::thread::spawn(move || {
            let until = Instant::now() + TAKEN_AWAY_MOST;
            while came.recv_timeout(quiet).is_ok() && Instant::now() < until {}
            // Before the look: what comes from now on has one of its own.
            drop(came);
            overflow.notify_one();
        });
    }
}

fn news_of(event: notify::Result<notify::Event>, dirs: &Dirs) -> Vec<News> {
    let Ok(event) = event else { return vec![News::Hint(None)] };
    if event.need_rescan() {
        return vec![News::Hint(None)];
    }
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => {}
        EventKind::Access(_) => return Vec::new(),
        EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) | EventKind::Other => {}
    }
    let Ok(mut dirs) = dirs.lock() else { return vec![News::Hint(None)] };
    let comes_or_goes = match event.kind {
        EventKind::Create(_) | EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)) => true,
        EventKind::Any | EventKind::Access(_) | EventKind::Modify(_) | EventKind::Other => false,
    };
    let goes = matches!(event.kind, EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From)));
    let mut news = |path: &PathBuf| -> Option<News> {
        if dirs.contains_key(path) {
            return comes_or_goes.then_some(News::Directory);
        }
        let dir = dirs.get_mut(path.parent()?)?;
        let name = path.file_name()?;
        match (dir.what, name.to_str().and_then(task_of)) {
            (Watched::Inbox, Some(task)) => Some(News::Hint(Some((dir.project.clone(), task)))),
            (Watched::Inbox, None) => {
                ignored(name)?;
                if goes {
                    return dir.strange.remove(name).map(|_| News::Strange);
                }
                let told = dir.strange.entry(name.to_owned()).or_default();
                *told = told.saturating_add(1);
                (*told <= STRANGE_MOST).then_some(News::Strange)
            }
            (Watched::Queue, _) => (comes_or_goes && DIRS.iter().any(|dir| name == *dir)).then_some(News::Directory),
        }
    };
    let news = event.paths.iter().filter_map(&mut news).collect();
    // The kernel's watch goes with its directory. The next one may have the same inode number, so the entry goes too.
    if matches!(event.kind, EventKind::Remove(_)) {
        dirs.retain(|path, _| !event.paths.contains(path));
    }
    news
}
