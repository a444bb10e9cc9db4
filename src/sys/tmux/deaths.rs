//! Detects the exit of programs in panes through pidfds.
//! Takes panes and their pids, as listed; makes a call for each program that ended. Owns a pidfd and a task for each
//! pane. tmux itself misses exits (3.3a: up to 70 % while its utempter helper runs), so this is authoritative; the
//! call names the pane so that the server can be made to check.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::task::AbortHandle;

use crate::{
    linux::process::{Pidfd, Stat},
    model::pane::PaneId,
};

#[derive(Debug, Default)]
pub struct Deaths {
    watched: Mutex<HashMap<PaneId, Watch>>,
}

#[derive(Debug)]
struct Watch {
    pid: u32,
    ended: Arc<AtomicBool>,
    task: AbortHandle,
}

impl Deaths {
    /// Watches exactly these panes from now on. Only children of `server` are programs of panes. `on_death` is called
    /// from a task of its own, once a program.
    pub fn watch(&self, server: u32, panes: &[(PaneId, u32)], on_death: impl Fn() + Clone + Send + 'static) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted: HashMap<&PaneId, u32> = panes.iter().map(|(pane, pid)| (pane, *pid)).collect();
        watched.retain(|pane, watch| wanted.get(pane) == Some(&watch.pid) || watch.stop());
        for (pane, pid) in panes {
            if watched.contains_key(pane) {
                continue;
            }
            let Ok(handle) = Pidfd::open(*pid) else { continue };
            if Stat::read(*pid).is_none_or(|stat| stat.parent != server) {
                continue;
            }
            let ended = Arc::new(AtomicBool::new(false));
            let (flag, on_death) = (Arc::clone(&ended), on_death.clone());
            let task = tokio::spawn(async move {
                handle.ended().await;
                flag.store(true, Ordering::Release);
                on_death();
            });
            watched.insert(pane.clone(), Watch { pid: *pid, ended, task: task.abort_handle() });
        }
    }

    /// Whether the program was seen to end.
    #[must_use]
    pub fn ended(&self, pane: &PaneId, pid: u32) -> bool {
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.get(pane).is_some_and(|watch| watch.pid == pid && watch.ended.load(Ordering::Acquire))
    }
}

impl Watch {
    /// Always `false`, for `retain`.
    fn stop(&self) -> bool {
        self.task.abort();
        false
    }
}

impl Drop for Deaths {
    fn drop(&mut self) {
        for watch in self.watched.get_mut().unwrap_or_else(PoisonError::into_inner).values() {
            watch.task.abort();
        }
    }
}
