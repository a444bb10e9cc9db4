//! Wakes poll(2) and epoll waiters on open files.
//! Takes the kernel's notifiers and each new snapshot; wakes those whose file has changed.

use std::{collections::HashMap, sync::Mutex};

use fuser::PollNotifier;

use crate::fs::{
    error::FsError,
    handles::{Handle, Shown},
    ops::Ops,
    words::{Ready, Text, lock},
};

/// Notifiers by handle: an open file has one.
#[derive(Debug, Default)]
pub struct Waiters(Mutex<HashMap<u64, PollNotifier>>);

impl Waiters {
    pub fn add(&self, handle: u64, notifier: PollNotifier) {
        lock(&self.0).insert(handle, notifier);
    }

    pub fn remove(&self, handle: u64) {
        lock(&self.0).remove(&handle);
    }

    /// Wakes those for whom there is something new.
    pub fn wake(&self, ops: &Ops) {
        let handles: Vec<u64> = lock(&self.0).keys().copied().collect();
        for handle in handles {
            if ops.is_ready(handle).is_ok_and(|ready| ready == Ready::Not) {
                continue;
            }
            let notifier = lock(&self.0).remove(&handle);
            if let Some(notifier) = notifier {
                // One that has gone meanwhile is no loss.
                let _ = notifier.notify();
            }
        }
    }
}

impl Ops {
    /// Whether a reader would get something that it has not read. What comes from the disk is always ready, as files are.
    pub fn is_ready(&self, handle: u64) -> Result<Ready, FsError> {
        match &*self.handle(handle)? {
            Handle::Log(log) => {
                let more = lock(log).has_more().map_err(|error| FsError::io("stat", &error))?;
                Ok(if more { Ready::ToRead } else { Ready::Not })
            }
            Handle::Text(shown) | Handle::Control { shown, .. } if !Self::is_from_memory(&shown.spot) => {
                Ok(Ready::ToRead)
            }
            Handle::Text(shown) | Handle::Control { shown, .. } => {
                let news = self.news(shown);
                let mut text = lock(&shown.text);
                Ok(match news {
                    Ok(None) if text.read_to < text.bytes.len() => Ready::ToRead,
                    Ok(None) => Ready::Not,
                    Ok(Some(_)) => {
                        text.renew = true;
                        Ready::Changed
                    }
                    Err(_) => Ready::Gone,
                })
            }
            Handle::Input { .. } | Handle::Real { .. } | Handle::Dir(_) | Handle::RealDir { .. } => Ok(Ready::ToRead),
        }
    }

    /// The present text where it differs from the shown one by more than the passing of time.
    fn news(&self, shown: &Shown) -> Result<Option<Text>, FsError> {
        let snapshot = self.backend.snapshot();
        let (bytes, seq, at) = {
            let text = lock(&shown.text);
            (text.bytes.clone(), text.seq, text.at)
        };
        if seq == snapshot.seq {
            return Ok(None);
        }
        let then = self.render(&shown.spot, &snapshot, at)?.into_bytes();
        if *then == *bytes {
            lock(&shown.text).seq = snapshot.seq;
            return Ok(None);
        }
        self.text(&shown.spot, &snapshot).map(Some)
    }

    /// A rewound reader that was notified of a change gets the new text; nobody else ever sees two.
    pub(super) fn renew(&self, shown: &Shown) -> Result<(), FsError> {
        if std::mem::take(&mut lock(&shown.text).renew)
            && let Some(text) = self.news(shown)?
        {
            lock(&shown.text).show(text);
        }
        Ok(())
    }
}
