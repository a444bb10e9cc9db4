//! inotify on the inboxes, as hints.
//! In: directories. Out: names that may have changed. A lost or overflowed event becomes "look at everything"; the scan is the
//! truth.

use std::{
    collections::HashMap,
    io,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use notify::{
    EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode},
};
use tokio::sync::mpsc;

use super::names::task_of;
use crate::model::ids::{ProjectName, TaskId};

/// Hints that may wait; one more, and everything is looked at.
const WAITING: usize = 4096;

type Hint = Option<(ProjectName, TaskId)>;

pub struct Watch {
    watcher: Mutex<RecommendedWatcher>,
    hints: tokio::sync::Mutex<mpsc::Receiver<Hint>>,
    overflow: Arc<tokio::sync::Notify>,
    /// Inbox paths, the projects they belong to, and the inode that is watched.
    inboxes: Arc<Mutex<HashMap<PathBuf, (ProjectName, u64)>>>,
}

impl Watch {
    /// # Errors
    /// When the system gives no inotify instance.
    pub fn new() -> io::Result<Self> {
        let (sender, hints) = mpsc::channel(WAITING);
        let overflow = Arc::new(tokio::sync::Notify::new());
        let inboxes: Arc<Mutex<HashMap<PathBuf, (ProjectName, u64)>>> = Arc::default();
        let (overflowed, known) = (overflow.clone(), inboxes.clone());
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            for hint in hints_of(event, &known) {
                if sender.try_send(hint).is_err() {
                    overflowed.notify_one();
                }
            }
        })
        .map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Self { watcher: Mutex::new(watcher), hints: tokio::sync::Mutex::new(hints), overflow, inboxes })
    }

    /// Watches a queue's inbox, again when the directory was replaced. A queue that can't be watched is scanned all the same.
    pub fn add(&self, project: &ProjectName, inbox: PathBuf, inode: u64) {
        let Ok(mut watcher) = self.watcher.lock() else { return };
        // notify's thread answers `watch` only after the callback has returned, and the callback takes the other lock: it must
        // not be held while the watcher is asked.
        let Ok(mut inboxes) = self.inboxes.lock() else { return };
        // By whatever path it is known: while the mount stands over the queue that is another one.
        if inboxes.values().any(|(of, known)| of == project && *known == inode) {
            return;
        }
        inboxes.insert(inbox.clone(), (project.clone(), inode));
        drop(inboxes);
        let _ = watcher.unwatch(&inbox);
        if let Err(error) = watcher.watch(&inbox, RecursiveMode::NonRecursive) {
            tracing::warn!(path = %inbox.display(), %error, "no inotify watch; changes there are seen by the scan only");
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

fn hints_of(event: notify::Result<notify::Event>, inboxes: &Mutex<HashMap<PathBuf, (ProjectName, u64)>>) -> Vec<Hint> {
    let Ok(event) = event else { return vec![None] };
    if event.need_rescan() {
        return vec![None];
    }
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => {}
        EventKind::Access(_) => return Vec::new(),
        EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) | EventKind::Other => {}
    }
    let Ok(mut inboxes) = inboxes.lock() else { return vec![None] };
    // The kernel's watch goes with its directory. The next one may have the same inode number, so the entry goes too.
    if matches!(event.kind, EventKind::Remove(_)) {
        let before = inboxes.len();
        inboxes.retain(|inbox, _| !event.paths.contains(inbox));
        if inboxes.len() < before {
            return vec![None];
        }
    }
    let hint = |path: &PathBuf| -> Option<Hint> {
        if inboxes.contains_key(path) {
            // The inbox itself: renamed, replaced.
            return Some(None);
        }
        let (project, _) = inboxes.get(path.parent()?)?;
        Some(Some((project.clone(), task_of(path.file_name()?.to_str()?)?)))
    };
    event.paths.iter().filter_map(hint).collect()
}
