//! inotify on the inboxes, and on the queues for a directory that is taken away, as hints.
//! In: directories. Out: names that may have changed. A lost or overflowed event becomes "look at everything"; the scan is the
//! truth.

use std::{
    collections::HashMap,
    io,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use notify::{
    EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode, ModifyKind},
};
use tokio::sync::mpsc;

use super::names::task_of;
use crate::{
    config::queue::DIRS,
    model::ids::{ProjectName, TaskId},
};

/// Hints that may wait; one more, and everything is looked at.
const WAITING: usize = 4096;

/// How long a queue that loses a directory is left alone: `rm -rf` and `git clean` take one after the other, and a directory that
/// is made again meanwhile would be in their way.
const TAKEN_AWAY: Duration = Duration::from_millis(200);
/// The most that this may be put off, where it goes on and on.
const TAKEN_AWAY_MOST: Duration = Duration::from_secs(2);

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
}

type Dirs = Arc<Mutex<HashMap<PathBuf, Dir>>>;

/// What an event tells.
#[derive(Debug, PartialEq, Eq)]
enum News {
    Hint(Hint),
    /// A directory of a queue went or came.
    Directory,
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
        let (overflowed, known, later) = (overflow.clone(), dirs.clone(), Later::default());
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            for news in news_of(event, &known) {
                match news {
                    News::Hint(hint) => {
                        if sender.try_send(hint).is_err() {
                            overflowed.notify_one();
                        }
                    }
                    News::Directory => later.look(&overflowed),
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
        // By whatever path it is known: while the mount stands over the queue that is another one.
        if dirs.values().any(|dir| dir.project == *project && dir.what == what && dir.inode == inode) {
            return;
        }
        dirs.insert(path.clone(), Dir { project: project.clone(), inode, what });
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

/// A look at everything, once no directory has come or gone for a moment.
#[derive(Default)]
struct Later {
    /// Tells the thread that waits for it of the next one; without a thread there is nobody to take it.
    waits: Mutex<Option<std::sync::mpsc::Sender<()>>>,
}

impl Later {
    fn look(&self, overflow: &Arc<tokio::sync::Notify>) {
        let Ok(mut waits) = self.waits.lock() else { return overflow.notify_one() };
        if waits.as_ref().is_some_and(|thread| thread.send(()).is_ok()) {
            return;
        }
        let (sender, came) = std::sync::mpsc::channel();
        *waits = Some(sender);
        let overflow = overflow.clone();
        std::thread::spawn(move || {
            let until = Instant::now() + TAKEN_AWAY_MOST;
            while came.recv_timeout(TAKEN_AWAY).is_ok() && Instant::now() < until {}
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
    let news = |path: &PathBuf| -> Option<News> {
        if dirs.contains_key(path) {
            return comes_or_goes.then_some(News::Directory);
        }
        let dir = dirs.get(path.parent()?)?;
        let name = path.file_name()?.to_str()?;
        match dir.what {
            Watched::Inbox => Some(News::Hint(Some((dir.project.clone(), task_of(name)?)))),
            Watched::Queue => (comes_or_goes && DIRS.contains(&name)).then_some(News::Directory),
        }
    };
    let news = event.paths.iter().filter_map(news).collect();
    // The kernel's watch goes with its directory. The next one may have the same inode number, so the entry goes too.
    if matches!(event.kind, EventKind::Remove(_)) {
        dirs.retain(|path, _| !event.paths.contains(path));
    }
    news
}
