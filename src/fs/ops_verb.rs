//! Renames that are verbs: moves into `delegated/` and back. The file stays in place; what changes is who does the
//! task.
//! Turns a rename's two names into a verb for the supervisor, or a refusal. Moves nothing itself.

use std::{
    ffi::OsStr,
    time::{Duration, Instant},
};

use crate::{
    fs::{
        error::FsError,
        nodes::Key,
        ops::Ops,
        real::Facts,
        tree::{Object, Spot},
        words::Caller,
    },
    model::{
        command::Scope,
        ids::{TaskId, TaskKey},
    },
};

/// How long a file that was just saved may take to become a task. Chosen: the daemon is notified at once; a rename
/// should not block for longer.
const SEEN_WITHIN: Duration = Duration::from_secs(1);
/// Chosen: fifty polls within `SEEN_WITHIN`, each from memory.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

impl Ops {
    /// `None` when the move has nothing to do with `delegated/`.
    pub(super) fn rename_by_verb(
        &self,
        from: (u64, &OsStr),
        to: (u64, &OsStr),
        flags: u32,
        caller: Caller,
    ) -> Option<Result<(), FsError>> {
        let delegated = |number| match self.key(number) {
            Ok(Key::Spot(Spot { object: object @ Object::Delegated(_), row: None })) => Some(object),
            Ok(_) | Err(_) => None,
        };
        let (out, back) = (delegated(to.0), delegated(from.0));
        let (object, inbox, verb) = match (out, back) {
            (None, None) => return None,
            (Some(object), None) => (object, from.0, "delegate"),
            (None, Some(object)) => (object, to.0, "recall"),
            (Some(_), Some(_)) => return Some(Err(FsError::Special)),
        };
        let exchange = flags & libc::RENAME_EXCHANGE != 0;
        Some(if exchange { Err(FsError::Invalid) } else { self.tell_move(&object, inbox, from.1, to.1, verb, caller) })
    }

    fn tell_move(
        &self,
        delegated: &Object,
        inbox: u64,
        name: &OsStr,
        new_name: &OsStr,
        verb: &str,
        caller: Caller,
    ) -> Result<(), FsError> {
        let dir = self.real_dir(inbox)?;
        let project = self.queues.get(dir.queue).map(|queue| queue.project.clone());
        let project = project.filter(|_| dir.path.as_os_str() == "inbox").ok_or(FsError::Special)?;
        let same = delegated.delegates(&self.backend.snapshot()).as_ref() == Some(&project) && name == new_name;
        let id = new_name.to_str().and_then(TaskId::from_file_name).filter(|_| same).ok_or(FsError::Special)?;
        let key = TaskKey::new(&project, &id);
        // What was written a moment ago may not have been seen by the supervisor; what isn't there never will be.
        let begun = Instant::now();
        while !self.backend.snapshot().tasks.contains_key(&key) && begun.elapsed() < SEEN_WITHIN {
            Facts::at(&dir.file, name)?;
            std::thread::sleep(LOOK_AGAIN);
        }
        // Asked once: every refusal is logged.
        self.backend.control(Scope::Task(key), verb.as_bytes(), &caller.writer()).map_err(FsError::Refused)
    }
}
