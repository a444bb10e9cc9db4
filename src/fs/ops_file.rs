//! Opens, reads, writes and closes files. A virtual file is rendered once, at open; a control file takes each write
//! whole; a real file is read and written in place on disk.

use std::{
    ffi::OsString,
    fs::File,
    os::unix::fs::FileExt as _,
    path::PathBuf,
    sync::{Arc, Mutex, atomic::Ordering},
};

use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, OFlag},
};

use crate::{
    fs::{
        backend::{Place, Touched},
        error::FsError,
        handles::{Handle, Message, RealFile, Shown},
        log::Log,
        nodes::{Key, Where},
        ops::{Ops, row_of},
        real::{QUEUE_DIRS, sync_dir},
        repeat::{At, Change},
        tree::{Object, Spot, What},
        words::{Caller, Opened, RealDir, Text, lock},
    },
    linux::file,
    model::{
        command::{Refused, RefusedKind, Scope},
        evidence::WaitingFor,
        ids::SessionName,
        session::{Activity, SessionPhase},
        writer::By,
    },
};

/// Longest text for an agent (the same limit as `command::parse`). Chosen: the default of `dispatcher.max_task_bytes`.
const MESSAGE_MAX: usize = 1024 * 1024;

impl Ops {
    pub fn open(&self, number: u64, flags: i32, caller: Caller) -> Result<Opened, FsError> {
        let write = flags & libc::O_ACCMODE != libc::O_RDONLY;
        match self.key(number)? {
            Key::Spot(spot) => {
                let handle = self.open_virtual(&spot, write, caller)?;
                let size_changed = match &handle {
                    Handle::Text(shown) | Handle::Control { shown, .. } => {
                        let size = lock(&shown.text).bytes.len() as u64;
                        self.told(&spot, size)
                    }
                    Handle::Input { text, .. } => self.told(&spot, text.len() as u64),
                    Handle::Log { .. } | Handle::Real { .. } | Handle::Dir(_) | Handle::RealDir { .. } => false,
                };
                Ok(Opened { handle: self.add_handle(handle), direct: true, quiet: true, size_changed })
            }
            Key::Dir(..) => Err(FsError::IsDirectory),
            Key::File(id) => {
                // Not O_APPEND: a mapped page would be appended too. Each write tells whether it appends.
                if write {
                    self.may_overwrite(number, caller)?;
                }
                let keep = libc::O_ACCMODE | libc::O_NOATIME | libc::O_SYNC | libc::O_DSYNC;
                // O_NONBLOCK: should a fifo take the name's place at this moment, opening it must not wait.
                let open = OFlag::from_bits_truncate(flags & keep) | OFlag::O_NONBLOCK;
                let file = self.real_file(number, open)?;
                if !file.metadata().is_ok_and(|meta| meta.is_file()) {
                    return Err(FsError::Stale);
                }
                if flags & libc::O_ACCMODE != libc::O_WRONLY {
                    self.reads(number, id, caller);
                }
                Ok(self.add_real(number, RealFile::new(file, write, false), caller))
            }
        }
    }

    pub(super) fn add_real(&self, number: u64, file: RealFile, caller: Caller) -> Opened {
        let writable = file.writable;
        let quiet = !writable && !file.name_pending.load(Ordering::SeqCst);
        let file = Arc::new(file);
        let writer = writable.then(|| self.writer_at(self.place_of(number).as_ref(), caller));
        let held = writer.clone().map(Mutex::new);
        let handle = self.add_handle(Handle::Real { number, file: Arc::clone(&file), writer: held });
        lock(&self.nodes).opened(number, handle, file);
        if let (Some(writer), Some(at)) = (writer, self.place_of(number)) {
            self.backend.touched(&Touched::Opened { at, handle }, &writer);
        }
        Opened { handle, direct: false, quiet, size_changed: false }
    }

    /// The real file behind a handle.
    pub fn real_handle(&self, handle: u64) -> Option<Arc<RealFile>> {
        match &*self.handle(handle).ok()? {
            Handle::Real { file, .. } => Some(Arc::clone(file)),
            Handle::Text(_)
            | Handle::Log(_)
            | Handle::Control { .. }
            | Handle::Input { .. }
            | Handle::Dir(_)
            | Handle::RealDir { .. } => None,
        }
    }

    fn open_virtual(&self, spot: &Spot, write: bool, caller: Caller) -> Result<Handle, FsError> {
        let row = row_of(spot).ok_or(FsError::IsDirectory)?;
        if let What::Log = row.what
            && !write
        {
            let log = Log::open(&self.events_log).map(|log| Handle::Log(Mutex::new(log)));
            return Ok(log.unwrap_or_else(|_| Handle::Text(Shown::new(spot.clone(), Text::empty()))));
        }
        let scope = Self::scope(spot);
        if write && scope.is_none() {
            return Err(FsError::ReadOnly);
        }
        let text = self.text(spot, &self.backend.snapshot())?;
        match scope {
            Some(Scope::Input(session)) if write => {
                self.takes_input(&session)?;
                if !lock(&self.writing).insert(session.clone()) {
                    let sentence = format!("another text for session {session} is being written");
                    return Err(FsError::Refused(Refused::new(RefusedKind::Busy, sentence)));
                }
                let writer = self.backend.placed(caller.writer());
                if let Err(refused) = self.backend.may_speak(&Scope::Input(session.clone()), &writer) {
                    lock(&self.writing).remove(&session);
                    return Err(FsError::Refused(refused));
                }
                let message = Message { session, text: Mutex::default(), writer };
                Ok(Handle::Input { message, text: text.bytes })
            }
            Some(scope) if write => Ok(Handle::Control { scope, shown: Shown::new(spot.clone(), text) }),
            Some(_) | None => Ok(Handle::Text(Shown::new(spot.clone(), text))),
        }
    }

    /// Whether an agent is there that could take text.
    fn takes_input(&self, name: &SessionName) -> Result<(), FsError> {
        let snapshot = self.backend.snapshot();
        let session = snapshot.sessions.get(name).ok_or(FsError::NoEntry)?;
        match session.phase {
            // Said at once, and to shells too, which hear no error of a close.
            SessionPhase::Starting(_) | SessionPhase::Up(_) => match session.verdict.activity {
                Activity::Waiting(WaitingFor::Permission | WaitingFor::Question | WaitingFor::Dialog) => {
                    let sentence = format!("session {name} waits at a dialog; answer with keys");
                    Err(FsError::Refused(Refused::new(RefusedKind::Busy, sentence)))
                }
                Activity::Waiting(WaitingFor::Interrupted)
                | Activity::Unknown
                | Activity::Idle
                | Activity::Working
                | Activity::Stalled
                | Activity::Limited => Ok(()),
            },
            SessionPhase::Down | SessionPhase::Ending(_) | SessionPhase::Dead { .. } => {
                let sentence = format!("session {name} has no agent that could take text");
                Err(FsError::Refused(Refused::new(RefusedKind::Unavailable, sentence)))
            }
        }
    }

    pub fn read(&self, handle: u64, offset: u64, size: usize) -> Result<Vec<u8>, FsError> {
        match &*self.handle(handle)? {
            Handle::Text(shown) | Handle::Control { shown, .. } => {
                if offset == 0 {
                    self.renew(shown)?;
                }
                let mut text = lock(&shown.text);
                let part = part(&text.bytes, offset, size);
                text.read_to =
                    text.read_to.max(usize::try_from(offset).unwrap_or(usize::MAX).saturating_add(part.len()));
                Ok(part)
            }
            Handle::Input { text, .. } => Ok(part(text, offset, size)),
            Handle::Log(log) => lock(log).read(offset, size).map_err(|error| FsError::io("read", &error)),
            Handle::Real { file, .. } => read_at(&file.file, offset, size),
            Handle::Dir(_) | Handle::RealDir { .. } => Err(FsError::IsDirectory),
        }
    }

    /// `append`: at the end of a real file, wherever that is by now.
    pub fn write(&self, handle: u64, offset: u64, data: &[u8], append: bool, caller: Caller) -> Result<usize, FsError> {
        match &*self.handle(handle)? {
            Handle::Control { scope, .. } => {
                self.backend.control(scope.clone(), data, &caller.writer()).map_err(FsError::Refused)?;
                Ok(data.len())
            }
            Handle::Input { message, .. } => {
                self.takes_input(&message.session)?;
                add_to_message(message, data)?;
                Ok(data.len())
            }
            Handle::Real { file, .. } => {
                file.mark_written();
                let written = if append { file::append(&file.file, data) } else { file.file.write_at(data, offset) };
                written.map_err(|error| FsError::io("write", &error))
            }
            Handle::Text(_) | Handle::Log(_) => Err(FsError::ReadOnly),
            Handle::Dir(_) | Handle::RealDir { .. } => Err(FsError::IsDirectory),
        }
    }

    /// Each `close()`; what was written is on disk when this returns. Not the end of the file: shells close a duplicate
    /// before they write.
    pub fn flush(&self, handle: u64, caller: Caller) -> Result<(), FsError> {
        let handle = self.handle(handle)?;
        let Handle::Real { number, file, writer } = &*handle else { return Ok(()) };
        if let Some(writer) = writer.as_ref().filter(|_| file.was_written())
            && let Some(at) = self.place_of(*number).filter(Place::is_task)
        {
            let mut writer = lock(writer);
            if writer.pid != caller.pid || writer.by == By::Unknown {
                let closer = self.backend.placed(caller.writer());
                if closer.pid == writer.pid || closer.by < writer.by {
                    *writer = closer;
                }
            }
            self.tell_text(Some(at), &file.file, &writer);
        }
        if file.lost.load(Ordering::SeqCst) {
            return Err(FsError::NotDurable { what: "the file", errno: Errno::EIO });
        }
        if !(file.writable || file.name_pending.load(Ordering::SeqCst)) {
            return Ok(());
        }
        let Some((queue, parent)) = self.durable_place(*number) else { return Ok(()) };
        if file.take_dirty()
            && let Err(error) = file.file.sync_all()
        {
            file.lost.store(true, Ordering::SeqCst);
            let errno = Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
            return Err(FsError::NotDurable { what: "the file", errno });
        }
        if file.name_pending.swap(false, Ordering::SeqCst)
            && let Some(queue) = self.queues.get(queue)
        {
            let synced = queue.open_at(&parent, OFlag::O_PATH | OFlag::O_DIRECTORY).and_then(|dir| sync_dir(&dir));
            if synced.is_err() {
                file.name_pending.store(true, Ordering::SeqCst);
            }
            synced?;
        }
        Ok(())
    }

    /// A file's queue directory, if changes there must be durable. A hidden name is no task yet: it is synced when it
    /// is renamed or linked.
    pub(super) fn durable_place(&self, number: u64) -> Option<(usize, PathBuf)> {
        let (queue, path) = lock(&self.nodes).path(number)?;
        let parent = path.parent()?;
        let hidden = path.file_name()?.as_encoded_bytes().starts_with(b".");
        let durable = self.durable && !hidden && QUEUE_DIRS.iter().any(|dir| parent.as_os_str() == *dir);
        durable.then(|| (queue, parent.to_owned()))
    }

    pub fn fsync(&self, handle: u64, data_only: bool) -> Result<(), FsError> {
        let Handle::Real { file, .. } = &*self.handle(handle)? else { return Ok(()) };
        if file.lost.load(Ordering::SeqCst) {
            return Err(FsError::NotDurable { what: "the file", errno: Errno::EIO });
        }
        file.dirty.store(false, Ordering::SeqCst);
        let synced = if data_only { file.file.sync_data() } else { file.file.sync_all() };
        synced.map_err(|error| {
            file.lost.store(true, Ordering::SeqCst);
            FsError::NotDurable { what: "the file", errno: Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)) }
        })
    }

    /// The last descriptor is closed. Nobody hears an error of this, so none may be born here but a message's.
    pub fn release(&self, handle: u64) -> Result<(), FsError> {
        let Some(open) = lock(&self.handles).remove(&handle) else { return Err(FsError::BadHandle) };
        match &*open {
            Handle::Real { number, file, writer } => {
                let wrote = file.was_written();
                if let (Some(writer), Some(at)) = (writer, self.place_of(*number)) {
                    let writer = lock(writer);
                    // What was written by a mapping came after the last close.
                    if wrote {
                        self.tell_text(Some(at.clone()), &file.file, &writer);
                    }
                    self.backend.touched(&Touched::Closed { at, handle }, &writer);
                }
                if wrote {
                    self.tell_written(*number);
                }
                lock(&self.nodes).closed(*number, handle);
                Ok(())
            }
            Handle::Input { message, .. } => {
                lock(&self.writing).remove(&message.session);
                let text = std::mem::take(&mut *lock(&message.text));
                if text.is_empty() {
                    return Ok(());
                }
                let scope = Scope::Input(message.session.clone());
                self.backend.control(scope, &text, &message.writer).map_err(FsError::Refused)
            }
            Handle::Text(_) | Handle::Log(_) | Handle::Control { .. } | Handle::Dir(_) | Handle::RealDir { .. } => {
                Ok(())
            }
        }
    }

    fn tell_written(&self, number: u64) {
        if self.teller.is_some()
            && let Some((dir, name)) = self.name_of(number)
        {
            self.tell_other_view(&dir, Change::Written(At::new(&dir.path, name)));
        }
    }

    /// The directory and the name where a real file was seen last.
    pub(super) fn name_of(&self, number: u64) -> Option<(RealDir, OsString)> {
        let place = lock(&self.nodes).get(number)?.place.clone()?;
        match place {
            Where::Child { parent, name } => Some((self.real_dir(parent).ok()?, name)),
            Where::Base { .. } => None,
        }
    }

    pub fn lseek(&self, handle: u64, offset: i64, whence: i32) -> Result<i64, FsError> {
        let Handle::Real { file, .. } = &*self.handle(handle)? else { return Err(FsError::Invalid) };
        let whence = match whence {
            libc::SEEK_DATA => nix::unistd::Whence::SeekData,
            libc::SEEK_HOLE => nix::unistd::Whence::SeekHole,
            _ => return Err(FsError::Invalid),
        };
        nix::unistd::lseek(&file.file, offset, whence).map_err(|errno| FsError::system("seek", errno))
    }

    pub fn fallocate(&self, handle: u64, offset: u64, length: u64, mode: i32) -> Result<(), FsError> {
        let Handle::Real { file, .. } = &*self.handle(handle)? else { return Err(FsError::NotSupported) };
        let (Ok(offset), Ok(length)) = (i64::try_from(offset), i64::try_from(length)) else {
            return Err(FsError::Invalid);
        };
        file.mark_written();
        let mode = FallocateFlags::from_bits(mode).ok_or(FsError::NotSupported)?;
        nix::fcntl::fallocate(&file.file, mode, offset, length).map_err(|errno| FsError::system("allocate", errno))
    }

    pub fn copy_range(&self, from: (u64, u64), to: (u64, u64), length: u64) -> Result<usize, FsError> {
        let (source, target) = (self.handle(from.0)?, self.handle(to.0)?);
        let (Handle::Real { file: source, .. }, Handle::Real { file: target, .. }) = (&*source, &*target) else {
            return Err(FsError::NotSupported);
        };
        let (Ok(at), Ok(into)) = (i64::try_from(from.1), i64::try_from(to.1)) else {
            return Err(FsError::Invalid);
        };
        target.mark_written();
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        file::copy_range(&source.file, at, &target.file, into, length).map_err(|errno| FsError::system("copy", errno))
    }

    /// Whether the truncation of a file of the supervisor's own means anything: on control files never.
    pub(super) fn may_truncate(spot: &Spot) -> Result<(), FsError> {
        if Self::scope(spot).is_some() {
            Ok(())
        } else if spot.row.is_none() || matches!(spot.object, Object::Tasks | Object::ProjectTasks(_)) {
            Err(FsError::IsDirectory)
        } else {
            Err(FsError::ReadOnly)
        }
    }
}

fn part(bytes: &[u8], offset: u64, size: usize) -> Vec<u8> {
    let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
    bytes[from..bytes.len().min(from.saturating_add(size))].to_vec()
}

fn add_to_message(message: &Message, data: &[u8]) -> Result<(), FsError> {
    let refused = |kind, text: String| Err(FsError::Refused(Refused::new(kind, text)));
    let mut text = lock(&message.text);
    if text.len() + data.len() > MESSAGE_MAX {
        return refused(RefusedKind::TooLong, format!("a message holds at most {MESSAGE_MAX} bytes"));
    }
    let before = text.len();
    text.extend_from_slice(data);
    // A character may be cut by the end of a write; anything else that isn't UTF-8 is refused where it is written.
    if let Err(error) = std::str::from_utf8(&text)
        && error.error_len().is_some()
    {
        let at = error.valid_up_to();
        text.truncate(before);
        return refused(RefusedKind::Invalid, format!("not UTF-8 at byte {at}"));
    }
    Ok(())
}

/// Reads until the buffer is full or the file ends: the kernel takes a short answer for the end.
fn read_at(file: &File, offset: u64, size: usize) -> Result<Vec<u8>, FsError> {
    let mut buffer = vec![0; size];
    let mut filled = 0;
    while filled < size {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(FsError::io("read", &error)),
        }
    }
    buffer.truncate(filled);
    Ok(buffer)
}
