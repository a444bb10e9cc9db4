//! Watches hook logs and status files with inotify for changes in an agent's evidence.
//! Takes directories; `changed()` completes when something in one of them may have changed. A lost notification only
//! costs time: correctness never depends on it.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

/// Watches directories that may come later than the watcher.
pub(super) struct Changes {
    notify: Arc<Notify>,
    watcher: Mutex<Watched>,
}

struct Watched {
    watcher: Option<RecommendedWatcher>,
    dirs: Vec<PathBuf>,
}

impl Changes {
    pub(super) fn new() -> Self {
        let notify = Arc::new(Notify::new());
        let wake = Arc::clone(&notify);
        // `notify_one` keeps one permit, so a change between two calls of `changed` isn't lost.
        let made = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.map_or(true, |e| !e.kind.is_access()) {
                wake.notify_one();
            }
        });
        let watcher = made
            .map_err(
                |e| tracing::warn!(error = %e, "agents' files can't be watched; they are still read at every scan"),
            )
            .ok();
        Self { notify, watcher: Mutex::new(Watched { watcher, dirs: Vec::new() }) }
    }

    /// Watches a directory from now on. One that doesn't exist yet is tried again at the next call.
    pub(super) fn watch(&self, dir: &Path) {
        let mut watched = self.watcher.lock().unwrap_or_else(PoisonError::into_inner);
        if watched.dirs.iter().any(|d| d == dir) || !dir.is_dir() {
            return;
        }
        let Some(watcher) = &mut watched.watcher else { return };
        match watcher.watch(dir, RecursiveMode::NonRecursive) {
            Ok(()) => watched.dirs.push(dir.to_owned()),
            Err(e) => tracing::debug!(dir = %dir.display(), error = %e, "a directory can't be watched"),
        }
    }

    pub(super) async fn changed(&self) {
        self.notify.notified().await;
    }
}
