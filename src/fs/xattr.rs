//! Extended attributes of real files. Only `user.` names are served; the others are for the system, not the queue.
//! `user.task.*` are computed from the current snapshot and never stored: a task's state, on its file.

use std::{
    ffi::{CString, OsStr},
    os::unix::ffi::OsStrExt as _,
};

use nix::{errno::Errno, fcntl::OFlag};

use crate::{
    fs::{
        error::FsError,
        nodes::Key,
        ops::Ops,
        real::proc_path,
        tree::{Object, Spot, TASK_ROWS, View},
    },
    linux::xattr,
    model::{
        ids::{TaskId, TaskKey},
        task::{Phase, Status},
    },
};

/// What begins so is the supervisor's.
const TASK_PREFIX: &str = "user.task.";
/// Files of `tasks/<id>/` that are attributes too, where they have a value.
const TASK_ATTRIBUTES: [&str; 4] = ["state", "why", "session", "attempts"];
/// Longest attribute value of ours. Chosen: one page; `why` is a few lines.
const VALUE_MAX: usize = 4096;

impl Ops {
    pub fn getxattr(&self, number: u64, name: &OsStr) -> Result<Vec<u8>, FsError> {
        // Asked of every file by `ls -l` and before every write: answered without touching the disk.
        if !served(name) {
            return Err(FsError::NoAttribute);
        }
        let Some(path) = self.xattr_path(number)? else { return Err(FsError::NoAttribute) };
        if let Some(file) = ours(name) {
            return self.task_attribute(number, &path.1, file).ok_or(FsError::NoAttribute);
        }
        let name = c_string(name.as_bytes())?;
        xattr::get(&path.0, &name).map_err(refused)
    }

    /// Names, each with its NUL.
    pub fn listxattr(&self, number: u64) -> Result<Vec<u8>, FsError> {
        let Some(path) = self.xattr_path(number)? else { return Ok(Vec::new()) };
        let names = match xattr::list(&path.0) {
            Err(Errno::ENOTSUP) => Vec::new(),
            names => names.map_err(refused)?,
        };
        let kept = names.split_inclusive(|&byte| byte == 0).filter(|name| {
            let name = OsStr::from_bytes(name);
            served(name) && ours(name).is_none()
        });
        let mut names: Vec<u8> = kept.flatten().copied().collect();
        for file in TASK_ATTRIBUTES {
            if self.task_attribute(number, &path.1, file).is_some() {
                names.extend(TASK_PREFIX.bytes().chain(file.bytes()).chain([0]));
            }
        }
        Ok(names)
    }

    pub fn setxattr(&self, number: u64, name: &OsStr, value: &[u8], flags: i32) -> Result<(), FsError> {
        let Some(path) = self.xattr_path(number)? else { return Err(FsError::Special) };
        // The word that makes copying tools pass over it in silence: `cp -a` of a result back into an inbox is no mistake.
        if !served(name) || ours(name).is_some() {
            return Err(FsError::NotSupported);
        }
        let name = c_string(name.as_bytes())?;
        xattr::set(&path.0, &name, value, flags).map_err(|errno| FsError::system("set attribute", errno))
    }

    pub fn removexattr(&self, number: u64, name: &OsStr) -> Result<(), FsError> {
        let Some(path) = self.xattr_path(number)? else { return Err(FsError::Special) };
        if !served(name) {
            return Err(FsError::NoAttribute);
        }
        if ours(name).is_some() {
            return Err(FsError::NotSupported);
        }
        let name = c_string(name.as_bytes())?;
        xattr::remove(&path.0, &name).map_err(|errno| FsError::system("remove attribute", errno))
    }

    /// Facts of the task whose file or result has this number.
    fn task_attribute(&self, number: u64, file: &std::fs::File, name: &str) -> Option<Vec<u8>> {
        let name = TASK_ATTRIBUTES.into_iter().find(|known| *known == name)?;
        let place = self.place_of(number)?;
        let key = TaskKey::new(&place.project, &TaskId::from_file_name(place.name.to_str()?)?);
        let snapshot = self.backend.snapshot();
        let stands = match &snapshot.tasks.get(&key)?.phase {
            Phase::Held(_)
            | Phase::Queued
            | Phase::Rejected(_)
            | Phase::Working(_)
            | Phase::Delegated(_)
            | Phase::Filing(_) => "inbox",
            Phase::Finished(finished) => match finished.ending.status {
                Status::Done => "done",
                Status::Failed | Status::Cancelled => "failed",
            },
        };
        // Links and the like can't have such attributes (xattr(7)).
        if place.dir.as_os_str() != stands || !file.metadata().is_ok_and(|meta| meta.is_file()) {
            return None;
        }
        let row = TASK_ROWS.iter().position(|row| row.name == name)?;
        let text = self.text(&Spot { object: Object::Task(View::Root, key), row: Some(row) }, &snapshot).ok()?;
        let value = String::from_utf8_lossy(&text.bytes);
        let value = value.trim_end();
        let value = &value[..value.floor_char_boundary(VALUE_MAX)];
        (!value.is_empty()).then(|| value.as_bytes().to_vec())
    }

    /// A path to the real file, with the descriptor that it goes through. `None` for the supervisor's own.
    fn xattr_path(&self, number: u64) -> Result<Option<(CString, std::fs::File)>, FsError> {
        if matches!(self.key(number)?, Key::Spot(_)) {
            return Ok(None);
        }
        let file = self.real_file(number, OFlag::O_PATH)?;
        Ok(Some((c_string(proc_path(&file).as_bytes())?, file)))
    }
}

fn served(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b"user.")
}

/// The rest of a name of the supervisor's own.
fn ours(name: &OsStr) -> Option<&str> {
    name.to_str()?.trim_end_matches('\0').strip_prefix(TASK_PREFIX)
}

fn c_string(bytes: &[u8]) -> Result<CString, FsError> {
    CString::new(bytes).map_err(|_| FsError::Invalid)
}

fn refused(errno: Errno) -> FsError {
    match errno {
        Errno::ENODATA => FsError::NoAttribute,
        errno => FsError::system("attribute", errno),
    }
}
