//! Lists directories from a snapshot taken at opendir, so entries that come and go don't disturb a listing.

use std::{
    ffi::{OsStr, OsString},
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    sync::{Mutex, PoisonError},
};

use nix::{dir::Type, fcntl::OFlag};

use crate::fs::{
    error::FsError,
    handles::{DirEntry, Handle},
    nodes::Key,
    ops::{Ops, row_of},
    real::sync_dir,
    tree::{Object, Spot, View, What},
    words::{Attr, Kind, RealDir, UNKNOWN_NUMBER, lock},
};
use crate::render::Picture;

impl Ops {
    pub fn opendir(&self, number: u64) -> Result<u64, FsError> {
        match self.key(number)? {
            Key::Spot(spot) if spot.row.is_none() => Ok(self.add_handle(Handle::Dir(self.virtual_entries(&spot)?))),
            Key::Spot(_) | Key::File(_) => Err(FsError::NotDirectory),
            Key::Dir(..) => {
                let dir = self.real_dir(number)?;
                Ok(self.add_handle(Handle::RealDir { number, dir: dir.file, entries: Mutex::default() }))
            }
        }
    }

    /// Calls `add` with each entry from `offset` on and the offset after it, until `add` says that its buffer is full.
    pub fn readdir(
        &self,
        handle: u64,
        offset: u64,
        mut add: impl FnMut(u64, u64, Kind, &OsStr) -> bool,
    ) -> Result<(), FsError> {
        let from = usize::try_from(offset).map_err(|_| FsError::Invalid)?;
        if offset == 0 {
            self.list_again(handle)?;
        }
        let handle = self.handle(handle)?;
        let guard;
        let entries: &[DirEntry] = match &*handle {
            Handle::Dir(entries) => entries,
            Handle::RealDir { entries, .. } => {
                guard = entries.lock().unwrap_or_else(PoisonError::into_inner);
                &guard
            }
            Handle::Text(_) | Handle::Log(_) | Handle::Control { .. } | Handle::Input { .. } | Handle::Real { .. } => {
                return Err(FsError::NotDirectory);
            }
        };
        for (index, entry) in entries.iter().enumerate().skip(from) {
            if add(entry.number, index as u64 + 1, entry.kind, &entry.name) {
                break;
            }
        }
        Ok(())
    }

    /// The same with each entry's facts, which count as one look-up of it. `None` for the two dots, and for what in our own
    /// directories is read from a disk: those never wait for one. What has gone since the listing was taken is left out.
    pub fn readdir_with_facts(
        &self,
        parent: u64,
        handle: u64,
        offset: u64,
        mut add: impl FnMut(u64, Kind, &OsStr, Option<Attr>) -> bool,
    ) -> Result<(), FsError> {
        // Found once for all of its entries.
        let dir = if let Handle::RealDir { number, .. } = &*self.handle(handle)? {
            Some(self.real_dir(*number)?)
        } else {
            None
        };
        self.readdir(handle, offset, |_, next, kind, name| {
            if name == "." || name == ".." || dir.is_none() && self.lookup_waits_for(parent, name).is_some() {
                return add(next, kind, name, None);
            }
            let found = match &dir {
                Some(dir) => self.lookup_in(dir, name),
                None => self.lookup(parent, name),
            };
            let Ok(attr) = found else { return false };
            let full = add(next, kind, name, Some(attr));
            if full {
                self.forget(attr.number, 1);
            }
            full
        })
    }

    /// At the start, and after `rewinddir`, which shows what is there now.
    fn list_again(&self, handle: u64) -> Result<(), FsError> {
        if let Handle::RealDir { number, entries, .. } = &*self.handle(handle)? {
            let fresh = self.real_entries(&self.real_dir(*number)?)?;
            *lock(entries) = fresh;
        }
        Ok(())
    }

    pub fn releasedir(&self, handle: u64) {
        lock(&self.handles).remove(&handle);
    }

    pub fn fsyncdir(&self, handle: u64) -> Result<(), FsError> {
        match &*self.handle(handle)? {
            Handle::RealDir { dir, .. } => sync_dir(dir),
            Handle::Dir(_)
            | Handle::Text(_)
            | Handle::Log(_)
            | Handle::Control { .. }
            | Handle::Input { .. }
            | Handle::Real { .. } => Ok(()),
        }
    }

    fn virtual_entries(&self, spot: &Spot) -> Result<Vec<DirEntry>, FsError> {
        let snapshot = self.backend.snapshot();
        spot.object.since(&snapshot).ok_or(FsError::NoEntry)?;
        let picture = Picture::at(&snapshot, snapshot.at);
        let mut entries = dots();
        for row in spot.object.rows() {
            let kind = match row.what {
                What::Dir(_) | What::Queue => Kind::Dir,
                What::Link(target) if target(&picture, &spot.object).is_none() => continue,
                What::Link(_) => Kind::Symlink,
                _ => Kind::File,
            };
            if matches!(row.what, What::Queue) && self.queues.is_empty() {
                continue;
            }
            entries.push(entry(row.name, kind));
        }
        entries.extend(
            spot.object
                .children(&snapshot)
                .iter()
                .map(|(name, child)| entry(name, if child.row.is_some() { Kind::File } else { Kind::Dir })),
        );
        if spot.object == Object::Projects {
            entries.extend(self.queues.iter().map(|queue| entry(queue.project.as_str(), Kind::Dir)));
        }
        Ok(entries)
    }

    fn real_entries(&self, dir: &RealDir) -> Result<Vec<DirEntry>, FsError> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let open = nix::dir::Dir::openat(&dir.file, ".", flags, nix::sys::stat::Mode::empty());
        let mut open = open.map_err(|errno| FsError::system("list", errno))?;
        let device = dir.file.metadata().map_err(|error| FsError::io("stat", &error))?.dev();
        let mut entries = dots();
        for found in open.iter() {
            let found = found.map_err(|errno| FsError::system("list", errno))?;
            let name = OsStr::from_bytes(found.file_name().to_bytes());
            if name == "." || name == ".." || self.overlay(dir, name).is_some() {
                continue;
            }
            let kind = match found.file_type() {
                Some(Type::Directory) => Kind::Dir,
                Some(Type::Symlink) => Kind::Symlink,
                Some(Type::Fifo) => Kind::Fifo,
                Some(Type::Socket) => Kind::Socket,
                Some(Type::CharacterDevice) => Kind::Char,
                Some(Type::BlockDevice) => Kind::Block,
                Some(Type::File) | None => Kind::File,
            };
            let view = if kind == Kind::Dir { dir.view } else { View::Project };
            let number = lock(&self.nodes).real_number(view, device, found.ino()).unwrap_or(UNKNOWN_NUMBER);
            entries.push(DirEntry { number, kind, name: name.to_owned() });
        }
        if dir.path.as_os_str().is_empty()
            && let Some(queue) = self.queues.get(dir.queue)
        {
            let object = Object::Project(queue.project.clone());
            let shown =
                object.rows().iter().enumerate().filter(|(_, row)| self.overlay(dir, row.name.as_ref()).is_some());
            for (index, _) in shown {
                let spot = Spot { object: object.clone(), row: Some(index) };
                let Some(row) = row_of(&spot) else { continue };
                entries.push(entry(row.name, if matches!(row.what, What::Dir(_)) { Kind::Dir } else { Kind::File }));
            }
        }
        Ok(entries)
    }
}

fn dots() -> Vec<DirEntry> {
    vec![entry(".", Kind::Dir), entry("..", Kind::Dir)]
}

fn entry(name: &str, kind: Kind) -> DirEntry {
    DirEntry { number: UNKNOWN_NUMBER, kind, name: OsString::from(name) }
}
