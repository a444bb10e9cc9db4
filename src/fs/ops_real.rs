//! Changes the real queue directories: every call uses a directory descriptor and one name, after the kernel has
//! checked permissions (`default_permissions`). Refuses changes to what the supervisor owns.

use std::{
    ffi::OsStr,
    fs::File,
    io::Read as _,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
    time::UNIX_EPOCH,
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, AtFlags, OFlag, RenameFlags},
    sys::{
        stat::{Mode, SFlag, UtimensatFlags, mkdirat, mknodat, utimensat},
        statvfs::{Statvfs, fstatvfs},
        time::TimeSpec,
    },
    unistd::{Gid, Uid, UnlinkatFlags, fchownat, linkat, symlinkat, unlinkat},
};

use crate::{
    fs::{
        backend::{Place, Touched},
        error::FsError,
        handles::{Handle, RealFile},
        nodes::{Key, Where},
        ops::Ops,
        real::{Facts, QUEUE_DIRS, proc_path, sync_dir},
        repeat::{At, Change, is_shown_twice},
        words::{Attr, Caller, Kind, Opened, RealDir, SetAttr, SetTime, lock},
    },
    model::{command::Writer, ids::TaskId},
};

/// A longer file is no task, whatever `dispatcher.max_task_bytes` says. Chosen: it is read into memory as a whole.
const TEXT_MAX: u64 = 16 * 1024 * 1024;

impl Ops {
    pub fn create(
        &self,
        parent: u64,
        name: &OsStr,
        mode: u32,
        flags: i32,
        caller: Caller,
    ) -> Result<(Attr, Opened), FsError> {
        let dir = self.real_dir(parent)?;
        self.may_change(&dir, name)?;
        self.may_come(&dir, name)?;
        let keep = libc::O_ACCMODE | libc::O_TRUNC | libc::O_SYNC | libc::O_DSYNC;
        let flags = OFlag::from_bits_truncate(flags & (keep | libc::O_EXCL));
        let base = flags | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let fresh = base | OFlag::O_CREAT | OFlag::O_EXCL;
        let (fd, created) = loop {
            match nix::fcntl::openat(&dir.file, name, fresh, Mode::from_bits_truncate(mode & 0o7777)) {
                Ok(fd) => break (fd, true),
                Err(Errno::EEXIST) if !flags.contains(OFlag::O_EXCL) => {}
                Err(errno) => return Err(FsError::system("create", errno)),
            }
            if flags.bits() & libc::O_ACCMODE != libc::O_RDONLY {
                self.may_change_marker(dir.queue, &dir.path, name, caller)?;
            }
            match nix::fcntl::openat(&dir.file, name, base, Mode::empty()) {
                Ok(fd) => break (fd, false),
                // Removed or moved at this moment; a create recreates it.
                Err(Errno::ENOENT) => {}
                Err(errno) => return Err(FsError::system("open", errno)),
            }
        };
        let file = File::from(fd);
        if created {
            settle(&dir, &file, Some(mode & 0o7777), caller);
        }
        let meta = Facts::of(&file)?;
        if !meta.is_file() {
            return Err(FsError::Stale);
        }
        let attr = self.remember_real(dir.view, &meta, child(&dir, name));
        let writable = flags.bits() & libc::O_ACCMODE != libc::O_RDONLY;
        let real = RealFile::new(file, writable, created);
        if created {
            self.touch(caller, self.place(&dir, name).map(Touched::Created));
            self.tell_other_view(&dir, Change::Made { at: At::new(&dir.path, name), dir: false });
        }
        Ok((attr, self.add_real(attr.number, real, caller)))
    }

    pub fn mkdir(&self, parent: u64, name: &OsStr, mode: u32, caller: Caller) -> Result<Attr, FsError> {
        let dir = self.real_dir(parent)?;
        self.may_change(&dir, name)?;
        let mode = mode & 0o7777;
        mkdirat(&dir.file, name, Mode::from_bits_truncate(mode)).map_err(|errno| FsError::system("mkdir", errno))?;
        self.made(&dir, name, Some(mode), caller)
    }

    /// Devices too: the kernel has asked for the right to make them, and on the mount they can't be opened (`nodev`).
    pub fn mknod(&self, parent: u64, name: &OsStr, mode: u32, device: u32, caller: Caller) -> Result<Attr, FsError> {
        let dir = self.real_dir(parent)?;
        self.may_change(&dir, name)?;
        let kind = match mode & libc::S_IFMT {
            libc::S_IFREG | 0 => SFlag::S_IFREG,
            libc::S_IFIFO => SFlag::S_IFIFO,
            libc::S_IFSOCK => SFlag::S_IFSOCK,
            libc::S_IFCHR => SFlag::S_IFCHR,
            libc::S_IFBLK => SFlag::S_IFBLK,
            _ => return Err(FsError::Invalid),
        };
        let perm = mode & 0o7777;
        mknodat(&dir.file, name, kind, Mode::from_bits_truncate(perm), device.into())
            .map_err(|errno| FsError::system("mknod", errno))?;
        self.made(&dir, name, Some(perm), caller)
    }

    pub fn symlink(&self, parent: u64, name: &OsStr, target: &Path, caller: Caller) -> Result<Attr, FsError> {
        let dir = self.real_dir(parent)?;
        self.may_change(&dir, name)?;
        symlinkat(target, &dir.file, name).map_err(|errno| FsError::system("symlink", errno))?;
        self.made(&dir, name, None, caller)
    }

    pub fn link(&self, number: u64, parent: u64, name: &OsStr, caller: Caller) -> Result<Attr, FsError> {
        let source = self.real_file(number, OFlag::O_PATH)?;
        let dir = self.real_dir(parent)?;
        self.may_change(&dir, name)?;
        self.may_come(&dir, name)?;
        // A second name outside of its inbox is the first half of taking it.
        let from = self.name_of(number);
        let may_leave = || match &from {
            Some((source, from)) => {
                self.may_change_marker(source.queue, &source.path, from, caller)?;
                if leaves_inbox((source, from), (&dir, name)) { self.may_leave(source, from, caller) } else { Ok(()) }
            }
            None => Ok(()),
        };
        may_leave()?;
        let writer = self.writer_at(self.place(&dir, name).as_ref(), caller);
        let text = self.may_be((&dir, name), || text_of(&source), &writer)?;
        if self.is_durable(&dir) {
            self.sync_file(number)?;
        }
        linkat(AT_FDCWD, proc_path(&source).as_str(), &dir.file, name, AtFlags::AT_SYMLINK_FOLLOW)
            .map_err(|errno| FsError::system("link", errno))?;
        if let Err(refused) = may_leave() {
            // Claimed between the look and the link.
            let _ = unlinkat(&dir.file, name, UnlinkatFlags::NoRemoveDir);
            return Err(refused);
        }
        self.sync_after(&[&dir])?;
        self.touch(caller, self.place(&dir, name).map(Touched::Linked));
        self.wrote((&dir, name), text, &writer);
        self.tell_other_view(&dir, Change::Made { at: At::new(&dir.path, name), dir: false });
        self.lookup_real(&dir, name)
    }

    pub fn unlink(&self, parent: u64, name: &OsStr, caller: Caller) -> Result<(), FsError> {
        self.remove(parent, name, UnlinkatFlags::NoRemoveDir, caller)
    }

    pub fn rmdir(&self, parent: u64, name: &OsStr, caller: Caller) -> Result<(), FsError> {
        self.remove(parent, name, UnlinkatFlags::RemoveDir, caller)
    }

    fn remove(&self, parent: u64, name: &OsStr, how: UnlinkatFlags, caller: Caller) -> Result<(), FsError> {
        let dir = self.real_dir(parent)?;
        self.may_change(&dir, name)?;
        self.may_vanish(&dir, name, Facts::at(&dir.file, name).ok().map(|facts| (facts.id(), facts.links())), caller)?;
        unlinkat(&dir.file, name, how).map_err(|errno| FsError::system("remove", errno))?;
        let synced = self.sync_after(&[&dir]);
        self.touch(caller, self.place(&dir, name).map(Touched::Removed));
        let is_dir = matches!(how, UnlinkatFlags::RemoveDir);
        self.tell_other_view(&dir, Change::Removed { at: At::new(&dir.path, name), dir: is_dir });
        synced
    }

    pub fn rename(&self, from: (u64, &OsStr), to: (u64, &OsStr), flags: u32, caller: Caller) -> Result<(), FsError> {
        if let Some(done) = self.rename_by_verb(from, to, flags, caller) {
            return done;
        }
        let (source, target) = (self.real_dir(from.0)?, self.real_dir(to.0)?);
        self.may_change(&source, from.1)?;
        self.may_change(&target, to.1)?;
        self.may_come(&target, to.1)?;
        for (dir, name) in [(&source, from.1), (&target, to.1)] {
            self.may_change_marker(dir.queue, &dir.path, name, caller)?;
        }
        let flags = RenameFlags::from_bits(flags).ok_or(FsError::Invalid)?;
        let exchange = flags.contains(RenameFlags::RENAME_EXCHANGE);
        let meta = Facts::at(&source.file, from.1)?;
        let (moved, is_dir) = (meta.id(), meta.is_dir());
        let back = if exchange { Some(Facts::at(&target.file, to.1)?.id()) } else { None };
        let places = (self.place(&source, from.1), self.place(&target, to.1));
        let decides = places.1.as_ref().filter(|place| place.is_task()).or(places.0.as_ref());
        let writer = self.writer_at(decides, caller);
        let text = self.may_be((&target, to.1), || text_at(&source, from.1), &writer)?;
        let text_back =
            if exchange { self.may_be((&source, from.1), || text_at(&target, to.1), &writer)? } else { None };
        if self.is_durable(&target) {
            self.sync_name(&source, from.1)?;
        }
        // Of an exchange both sides move.
        let leaves = leaves_inbox((&source, from.1), (&target, to.1));
        let also_leaves = exchange && leaves_inbox((&target, to.1), (&source, from.1));
        let may_leave = || {
            if leaves {
                self.may_leave(&source, from.1, caller)?;
            }
            if also_leaves { self.may_leave(&target, to.1, caller) } else { Ok(()) }
        };
        may_leave()?;
        nix::fcntl::renameat2(&source.file, from.1, &target.file, to.1, flags).map_err(|errno| match errno {
            Errno::ENOENT => FsError::NoEntry,
            errno => FsError::system("rename", errno),
        })?;
        if let Err(refused) = may_leave() {
            // The supervisor claimed it between the look and the move: one of the two must have it, and it may be at work.
            let back = nix::fcntl::renameat2(
                &target.file,
                to.1,
                &source.file,
                from.1,
                if exchange { flags } else { RenameFlags::RENAME_NOREPLACE },
            );
            if back.is_ok() {
                return Err(refused);
            }
        }
        {
            let mut nodes = lock(&self.nodes);
            nodes.moved(moved, source.view, child(&target, to.1));
            if let Some(back) = back {
                nodes.moved(back, target.view, child(&source, from.1));
            }
        }
        let synced = self.sync_after(&[&target, &source]);
        if let (Some(from), Some(to)) = places {
            let change = if exchange { Touched::Exchanged(from, to) } else { Touched::Renamed { from, to } };
            self.backend.touched(&change, &writer);
        }
        self.wrote((&target, to.1), text, &writer);
        self.wrote((&source, from.1), text_back, &writer);
        let (from, to) = (At::new(&source.path, from.1), At::new(&target.path, to.1));
        if source.view == target.view && [&source, &target].iter().all(|dir| is_shown_twice(dir.queue, &dir.path)) {
            if exchange {
                self.tell_other_view(&source, Change::Moved { from: to.clone(), to: from.clone(), dir: is_dir });
            }
            self.tell_other_view(&source, Change::Moved { from, to, dir: is_dir });
        } else {
            self.tell_other_view(&source, Change::Removed { at: from, dir: is_dir });
            self.tell_other_view(&target, Change::Arrived(to));
        }
        synced
    }

    pub fn setattr(&self, number: u64, set: SetAttr, handle: Option<u64>, caller: Caller) -> Result<Attr, FsError> {
        if let Key::Spot(spot) = self.key(number)? {
            if set.mode.is_some() || set.uid.is_some() || set.gid.is_some() {
                return Err(FsError::Special);
            }
            if set.size.is_some() || Self::scope(&spot).is_none() {
                Self::may_truncate(&spot)?;
            }
            return self.getattr(number, handle);
        }
        let open = handle.and_then(|handle| self.handle(handle).ok());
        let any_open = lock(&self.nodes).any_open(number);
        let found;
        let file = match &any_open {
            Some(open) => &open.file,
            None => {
                found = self.real_file(number, OFlag::O_PATH)?;
                &found
            }
        };
        let path = proc_path(file);
        if let Some(size) = set.size {
            self.may_overwrite(number, caller)?;
            let system = |error: std::io::Error| FsError::io("truncate", &error);
            match open.as_deref() {
                Some(Handle::Real { file, .. }) if file.writable => {
                    file.mark_written();
                    file.file.set_len(size).map_err(system)?;
                }
                _ => {
                    let target = self.real_file(number, OFlag::O_WRONLY | OFlag::O_NONBLOCK)?;
                    target.set_len(size).map_err(system)?;
                    // Nobody's close would put it on disk.
                    if !self.mark_open_written(number) && self.durable_place(number).is_some() {
                        sync_regular(&target)?;
                    }
                    self.touch(caller, self.place_of(number).map(Touched::Changed));
                    let at = self.place_of(number);
                    let writer = self.writer_at(at.as_ref(), caller);
                    self.tell_text(at, &target, &writer);
                }
            }
        }
        if set.uid.is_some() || set.gid.is_some() {
            let (uid, gid) = (set.uid.map(Uid::from_raw), set.gid.map(Gid::from_raw));
            fchownat(file, "", uid, gid, AtFlags::AT_EMPTY_PATH).map_err(|errno| FsError::system("chown", errno))?;
        }
        if let Some(mode) = set.mode {
            let mode = std::fs::Permissions::from_mode(mode & 0o7777);
            std::fs::set_permissions(&path, mode).map_err(|error| FsError::io("chmod", &error))?;
        }
        if set.atime.is_some() || set.mtime.is_some() {
            utimensat(AT_FDCWD, path.as_str(), &spec(set.atime), &spec(set.mtime), UtimensatFlags::FollowSymlink)
                .map_err(|errno| FsError::system("set times", errno))?;
        }
        self.getattr(number, handle)
    }

    pub fn statfs(&self, number: u64) -> Result<Option<Statvfs>, FsError> {
        if matches!(self.key(number)?, Key::Spot(_)) {
            return Ok(None);
        }
        let (queue, _) = lock(&self.nodes).path(number).ok_or(FsError::Stale)?;
        let queue = self.queues.get(queue).ok_or(FsError::Stale)?;
        // A descriptor open by path only can't be asked on older kernels.
        let root = nix::fcntl::openat(queue.root(), ".", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty());
        let root = root.map_err(|errno| FsError::system("statfs", errno))?;
        fstatvfs(&root).map(Some).map_err(|errno| FsError::system("statfs", errno))
    }

    fn made(&self, dir: &RealDir, name: &OsStr, mode: Option<u32>, caller: Caller) -> Result<Attr, FsError> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        if let Ok(fd) = nix::fcntl::openat(&dir.file, name, flags, Mode::empty()) {
            settle(dir, &File::from(fd), mode, caller);
        }
        self.sync_after(&[dir])?;
        self.touch(caller, self.place(dir, name).map(Touched::Created));
        let attr = self.lookup_real(dir, name)?;
        self.tell_other_view(dir, Change::Made { at: At::new(&dir.path, name), dir: attr.kind == Kind::Dir });
        Ok(attr)
    }

    /// What is about to take a task's name, and whether its mover may make a task of it.
    fn may_be(
        &self,
        to: (&RealDir, &OsStr),
        text: impl FnOnce() -> Option<Vec<u8>>,
        writer: &Writer,
    ) -> Result<Option<Vec<u8>>, FsError> {
        let Some(place) = self.place(to.0, to.1).filter(Place::is_task) else { return Ok(None) };
        let Some(text) = text() else { return Ok(None) };
        self.backend.may_be(&place, &text, writer).map_err(FsError::Refused)?;
        Ok(Some(text))
    }

    fn wrote(&self, at: (&RealDir, &OsStr), text: Option<Vec<u8>>, writer: &Writer) {
        if let (Some(place), Some(text)) = (self.place(at.0, at.1), text) {
            self.backend.wrote(&place, &text, writer);
        }
    }

    /// Tells whose text a task's file holds now.
    pub(super) fn tell_text(&self, at: Option<Place>, file: &File, writer: &Writer) {
        if let Some(place) = at.filter(Place::is_task)
            && let Some(text) = text_of(file)
        {
            self.backend.wrote(&place, &text, writer);
        }
    }

    /// A full queue refuses new tasks to their writer.
    fn may_come(&self, dir: &RealDir, name: &OsStr) -> Result<(), FsError> {
        match self.place(dir, name) {
            Some(place) => self.backend.admits(&place).map_err(FsError::Refused),
            None => Ok(()),
        }
    }

    fn is_durable(&self, dir: &RealDir) -> bool {
        self.durable && QUEUE_DIRS.iter().any(|name| dir.path.as_os_str() == *name)
    }

    /// Puts names on disk, the later one first: after a power cut a task may be in two places but never in none.
    fn sync_after(&self, dirs: &[&RealDir]) -> Result<(), FsError> {
        let mut synced = Vec::new();
        for dir in dirs {
            if self.is_durable(dir) && !synced.contains(&dir.path) {
                sync_dir(&dir.file)?;
                synced.push(dir.path.clone());
            }
        }
        Ok(())
    }

    /// Puts a file's content on disk before its name says that it is a task.
    fn sync_name(&self, dir: &RealDir, name: &OsStr) -> Result<(), FsError> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        // A file that its owner can't read, a socket or a link has nothing here to sync.
        let Ok(fd) = nix::fcntl::openat(&dir.file, name, flags, Mode::empty()) else { return Ok(()) };
        sync_regular(&File::from(fd))
    }

    fn sync_file(&self, number: u64) -> Result<(), FsError> {
        match self.real_file(number, OFlag::O_RDONLY | OFlag::O_NONBLOCK) {
            Ok(file) => sync_regular(&file),
            Err(_) => Ok(()),
        }
    }

    /// Whether anybody has the file open for writing.
    fn mark_open_written(&self, number: u64) -> bool {
        let handles = lock(&self.handles);
        let mut any = false;
        for handle in handles.values() {
            if let Handle::Real { number: of, file, .. } = &**handle
                && *of == number
                && file.writable
            {
                file.mark_written();
                any = true;
            }
        }
        any
    }
}

/// Whether a move takes a name out of an inbox, or makes another task of it. Any other one within the inbox may be an editor
/// that saves.
fn leaves_inbox(from: (&RealDir, &OsStr), to: (&RealDir, &OsStr)) -> bool {
    let elsewhere = (from.0.queue, &from.0.path) != (to.0.queue, &to.0.path);
    let renamed = from.1 != to.1 && to.1.to_str().and_then(TaskId::from_file_name).is_some();
    from.0.path.as_os_str() == "inbox" && (elsewhere || renamed)
}

/// A file's text by one of its descriptors, which may be for writing only. `None` for what can be no task.
fn text_of(file: &File) -> Option<Vec<u8>> {
    if !file.metadata().is_ok_and(|meta| meta.is_file() && meta.len() <= TEXT_MAX) {
        return None;
    }
    let mut text = Vec::new();
    File::open(proc_path(file)).ok()?.take(TEXT_MAX).read_to_end(&mut text).ok()?;
    Some(text)
}

fn text_at(dir: &RealDir, name: &OsStr) -> Option<Vec<u8>> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    text_of(&File::from(nix::fcntl::openat(&dir.file, name, flags, Mode::empty()).ok()?))
}

fn sync_regular(file: &File) -> Result<(), FsError> {
    if !file.metadata().is_ok_and(|meta| meta.is_file()) {
        return Ok(());
    }
    nix::unistd::fsync(file).map_err(|errno| FsError::NotDurable { what: "the file", errno })
}

fn child(dir: &RealDir, name: &OsStr) -> Where {
    Where::Child { parent: dir.number, name: name.to_owned() }
}

/// What somebody made is theirs, with the mode that the kernel asked for: our umask was applied on top of the caller's.
/// In a set-group-ID directory the group is the directory's, and a directory made there is another such one.
fn settle(dir: &RealDir, file: &File, mode: Option<u32>, caller: Caller) {
    let inherits = dir.file.metadata().is_ok_and(|meta| meta.mode() & libc::S_ISGID != 0);
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    // Only root can give to others; a group of one's own can be given by anyone.
    let to = (uid.is_root() && caller.uid != uid.as_raw()).then(|| Uid::from_raw(caller.uid));
    let group = (!inherits && caller.gid != gid.as_raw()).then(|| Gid::from_raw(caller.gid));
    if (to.is_some() || group.is_some())
        && let Err(errno) = fchownat(file, "", to, group, AtFlags::AT_EMPTY_PATH)
    {
        tracing::warn!(uid = caller.uid, gid = caller.gid, %errno, "a new file could not be given to its maker");
    }
    // After the owner, whose change takes set-user-ID away.
    if let Some(mode) = mode {
        let more = if inherits && file.metadata().is_ok_and(|meta| meta.is_dir()) { libc::S_ISGID } else { 0 };
        let _ = std::fs::set_permissions(proc_path(file), std::fs::Permissions::from_mode(mode | more));
    }
}

fn spec(time: Option<SetTime>) -> TimeSpec {
    match time {
        None => TimeSpec::UTIME_OMIT,
        Some(None) => TimeSpec::UTIME_NOW,
        Some(Some(at)) => match at.duration_since(UNIX_EPOCH) {
            Ok(since) => TimeSpec::from_duration(since),
            Err(before) => {
                let before = before.duration();
                let nanos = i64::from(before.subsec_nanos());
                let seconds = -i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
                if nanos == 0 { TimeSpec::new(seconds, 0) } else { TimeSpec::new(seconds - 1, 1_000_000_000 - nanos) }
            }
        },
    }
}
