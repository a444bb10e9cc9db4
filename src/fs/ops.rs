//! The mount's operations without FUSE: names, attributes, and what the other `ops_*` files share.
//! Takes inode numbers and names; returns facts or an `FsError`. Locks cover table look-ups only, never a system call,
//! and are taken in the order nodes, handles.

use std::{
    collections::{HashMap, HashSet},
    ffi::OsStr,
    fs::File,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use jiff::Timestamp;
use nix::fcntl::OFlag;

use crate::{
    fs::{
        backend::{Backend, Place, Touched},
        claims::Claims,
        error::FsError,
        handles::Handle,
        nodes::{Key, Nodes, Where},
        ops_text::Rendering,
        real::{Facts, FileId, QUEUE_DIRS, Queue, is_component, proc_path},
        repeat::{Change, Notice, Teller, ghost_attr, is_shown_twice},
        tree::{Object, Row, Spot, View, What},
        words::{Attr, Caller, For, Kind, Lasting, RealDir, lock},
    },
    model::{
        command::{Scope, Writer},
        ids::{ProjectName, SessionName},
    },
};

/// Directories kept open at once. Chosen: the five of a queue for three projects.
const DIRS_MAX: usize = 16;

pub struct Ops {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) queues: Vec<Queue>,
    pub(super) durable: bool,
    /// Sessions whose `input` is being written.
    pub(super) writing: Mutex<HashSet<SessionName>>,
    pub(super) nodes: Mutex<Nodes>,
    pub(super) handles: Mutex<HashMap<u64, Arc<Handle>>>,
    next_handle: AtomicU64,
    pub(super) rendered: Mutex<HashMap<Spot, Rendering>>,
    /// Directories used last, by inode number, each with what it is: its number may be given to another one.
    dirs: Mutex<HashMap<u64, (FileId, Arc<File>)>>,
    pub(super) claims: Mutex<Claims>,
    pub(super) events_log: PathBuf,
    /// Has what one view has seen repeated in the other.
    pub(super) teller: Option<Teller>,
    control_gid: Option<u32>,
    /// Other users get in.
    open: bool,
    uid: u32,
    gid: u32,
}

impl Ops {
    #[must_use]
    pub fn new(
        backend: Arc<dyn Backend>,
        queues: Vec<Queue>,
        events_log: PathBuf,
        durable: bool,
        control_gid: Option<u32>,
    ) -> Self {
        let mut devices = Vec::new();
        for queue in &queues {
            if !devices.contains(&queue.device) {
                devices.push(queue.device);
            }
        }
        Self {
            backend,
            queues,
            durable,
            writing: Mutex::default(),
            nodes: Mutex::new(Nodes::new(devices)),
            handles: Mutex::default(),
            next_handle: AtomicU64::new(1),
            rendered: Mutex::default(),
            dirs: Mutex::default(),
            claims: Mutex::default(),
            events_log,
            teller: None,
            control_gid,
            open: false,
            uid: nix::unistd::geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
        }
    }

    /// The same, and repeats changes for watchers of the other view.
    #[must_use]
    pub fn telling(self, teller: Teller) -> Self {
        Self { teller: Some(teller), ..self }
    }

    /// The same, and permission bits decide for other users; else nobody but the owner gets past the root directory.
    #[must_use]
    pub fn open_to_others(self, open: bool) -> Self {
        Self { open, ..self }
    }

    /// A change was made through one view of the first project: the other has not seen it.
    pub(super) fn tell_other_view(&self, dir: &RealDir, change: Change) {
        if let (Some(teller), true, Some(queue)) =
            (&self.teller, is_shown_twice(dir.queue, &dir.path), self.queues.get(dir.queue))
        {
            let other = match dir.view {
                View::Root => View::Project,
                View::Project => View::Root,
            };
            teller.send(Notice { project: queue.project.clone(), view: Some(other), change });
        }
    }

    /// What stood at a number whose name is gone, looked up once more by the repeater for those who watch it.
    pub(super) fn former(&self, number: u64) -> Option<Attr> {
        let known = lock(&self.nodes).looked_up(number);
        known.then(|| self.getattr(number, None).unwrap_or(Attr { number, ..ghost_attr(0) }))
    }

    /// Finds a name in a directory; counts as one lookup until forgotten.
    pub fn lookup(&self, parent: u64, name: &OsStr) -> Result<Attr, FsError> {
        match self.key(parent)? {
            Key::Spot(Spot { object, row: None }) => self.lookup_virtual(&object, name),
            Key::Spot(Spot { row: Some(_), .. }) | Key::File(_) => Err(FsError::NotDirectory),
            Key::Dir(..) => self.lookup_in(&self.real_dir(parent)?, name),
        }
    }

    pub(super) fn lookup_in(&self, dir: &RealDir, name: &OsStr) -> Result<Attr, FsError> {
        match self.overlay(dir, name) {
            Some(spot) => self.remember_spot(spot),
            None => self.lookup_real(dir, name),
        }
    }

    fn lookup_virtual(&self, object: &Object, name: &OsStr) -> Result<Attr, FsError> {
        let name = name.to_str().ok_or(FsError::NoEntry)?;
        let snapshot = self.backend.snapshot();
        object.since(&snapshot).ok_or(FsError::NoEntry)?;
        if let Some((index, row)) = object.rows().iter().enumerate().find(|(_, row)| row.name == name) {
            return match row.what {
                What::Queue => self.remember_base(View::Root, 0, Path::new(name)),
                What::Dir(child) => self.remember_spot(Spot::dir(child(object))),
                _ => self.remember_spot(Spot { object: object.clone(), row: Some(index) }),
            };
        }
        if *object == Object::Projects {
            let queue = self.queues.iter().position(|queue| queue.project.as_str() == name).ok_or(FsError::NoEntry)?;
            return self.remember_base(View::Project, queue, Path::new(""));
        }
        self.remember_spot(object.child(&snapshot, name).ok_or(FsError::NoEntry)?)
    }

    pub(super) fn lookup_real(&self, dir: &RealDir, name: &OsStr) -> Result<Attr, FsError> {
        if !is_component(name) {
            return Err(FsError::Invalid);
        }
        let meta = match Facts::at(&dir.file, name) {
            Err(FsError::NoEntry)
                if dir.path.as_os_str().is_empty()
                    && QUEUE_DIRS.iter().any(|fixed| name == *fixed)
                    && self.queues.get(dir.queue).is_some_and(Queue::heal) =>
            {
                Facts::at(&dir.file, name)?
            }
            other => other?,
        };
        let place = Where::Child { parent: dir.number, name: name.to_owned() };
        Ok(self.remember_real(dir.view, &meta, place))
    }

    fn remember_base(&self, view: View, queue: usize, path: &Path) -> Result<Attr, FsError> {
        let of = self.queues.get(queue).ok_or(FsError::NoEntry)?;
        let open = || of.open_at(path, OFlag::O_PATH | OFlag::O_DIRECTORY);
        let is_gone = |file: &File| Facts::of(file).is_ok_and(|facts| facts.links() == 0);
        let file = match open() {
            Ok(file) if is_gone(&file) && of.heal() => open()?,
            Err(FsError::NoEntry) if of.heal() => open()?,
            other => other?,
        };
        Ok(self.remember_real(view, &Facts::of(&file)?, Where::Base { queue, path: path.to_owned() }))
    }

    pub(super) fn remember_real(&self, view: View, facts: &Facts, place: Where) -> Attr {
        let id = facts.id();
        let key = if facts.is_dir() { Key::Dir(view, id) } else { Key::File(id) };
        facts.attr(lock(&self.nodes).remember(key, Some(place)))
    }

    fn remember_spot(&self, spot: Spot) -> Result<Attr, FsError> {
        let attr = self.spot_attr(0, &spot)?;
        let number = lock(&self.nodes).remember(Key::Spot(spot), None);
        Ok(Attr { number, ..attr })
    }

    /// How long the kernel may cache a number's attributes.
    pub fn lasting(&self, number: u64) -> Lasting {
        let nodes = lock(&self.nodes);
        let Some(node) = nodes.get(number) else { return Lasting::NOT };
        match (&node.key, &node.place) {
            (Key::Spot(spot), _) => match row_of(spot) {
                Some(row) if matches!(row.what, What::Link(_)) => Lasting::NOT,
                // Moving one leaves its name with what stands there now.
                Some(_) if matches!(spot.object, Object::Job(_)) => Lasting::NOT,
                Some(_) if Self::is_from_memory(spot) => Lasting::TEXT,
                Some(_) => Lasting::FROM_DISK,
                None if matches!(spot.object, Object::Task(..)) => Lasting::TASK,
                None => Lasting::DIR,
            },
            (Key::Dir(..), Some(Where::Base { .. })) => Lasting::QUEUE,
            (Key::Dir(..) | Key::File(_), _) => Lasting::NOT,
        }
    }

    /// What an operation on a number may wait for; `None` when it answers from memory.
    pub(super) fn waits_for(&self, number: u64) -> Option<For> {
        let nodes = lock(&self.nodes);
        match &nodes.get(number)?.key {
            Key::Dir(..) | Key::File(_) => nodes.queue(number).map(For::Queue),
            Key::Spot(spot) => self.spot_waits_for(&spot.object, row_of(spot)?),
        }
    }

    /// The same of a look-up.
    pub(super) fn lookup_waits_for(&self, parent: u64, name: &OsStr) -> Option<For> {
        let nodes = lock(&self.nodes);
        match &nodes.get(parent)?.key {
            Key::Dir(..) | Key::File(_) => nodes.queue(parent).map(For::Queue),
            Key::Spot(Spot { object: Object::Projects, .. }) => self.queue_of(name),
            Key::Spot(Spot { object, .. }) => {
                self.spot_waits_for(object, object.rows().iter().find(|row| name == row.name)?)
            }
        }
    }

    /// Some rows are read from a disk, or are where real directories begin.
    fn spot_waits_for(&self, object: &Object, row: &Row) -> Option<For> {
        match (row.what, object) {
            (What::Queue, _) => Some(For::Queue(0)),
            (What::TaskText | What::TaskResult, Object::Task(_, key) | Object::Job(key)) => {
                self.queue_of(key.project.as_str().as_ref())
            }
            (What::Log, _) => Some(For::Supervisor),
            _ => None,
        }
    }

    fn queue_of(&self, project: &OsStr) -> Option<For> {
        self.queues.iter().position(|queue| project == queue.project.as_str()).map(For::Queue)
    }

    pub fn forget(&self, number: u64, lookups: u64) {
        lock(&self.nodes).forget(number, lookups);
        lock(&self.dirs).remove(&number);
    }

    pub fn getattr(&self, number: u64, handle: Option<u64>) -> Result<Attr, FsError> {
        if let Some(Handle::Real { file, .. }) = handle.and_then(|handle| self.handle(handle).ok()).as_deref() {
            return Ok(Facts::of(&file.file)?.attr(number));
        }
        match self.key(number)? {
            Key::Spot(spot) => self.spot_attr(number, &spot),
            Key::Dir(..) | Key::File(_) => {
                // What is open needs no further descriptor: an open that made a file must not fail after it.
                let open = lock(&self.nodes).any_open(number);
                let facts = match open {
                    Some(open) => Facts::of(&open.file)?,
                    None => Facts::of(&self.real_file(number, OFlag::O_PATH)?)?,
                };
                Ok(facts.attr(number))
            }
        }
    }

    pub fn readlink(&self, number: u64) -> Result<PathBuf, FsError> {
        match self.key(number)? {
            Key::Spot(spot) => self.link_target(&spot).ok_or(FsError::Invalid),
            Key::Dir(..) => Err(FsError::Invalid),
            Key::File(_) => {
                let file = self.real_file(number, OFlag::O_PATH)?;
                let target = nix::fcntl::readlinkat(&file, "").map_err(|errno| FsError::system("readlink", errno))?;
                Ok(PathBuf::from(target))
            }
        }
    }

    fn link_target(&self, spot: &Spot) -> Option<PathBuf> {
        let What::Link(target) = row_of(spot)?.what else { return None };
        let snapshot = self.backend.snapshot();
        target(&crate::render::Picture::at(&snapshot, Timestamp::now()), &spot.object)
    }

    fn spot_attr(&self, number: u64, spot: &Spot) -> Result<Attr, FsError> {
        let snapshot = self.backend.snapshot();
        let mut changed = spot.object.since(&snapshot).ok_or(FsError::NoEntry)?;
        let Some(row) = row_of(spot) else {
            let closed = spot.object == Object::Root && !self.open;
            let mode = if closed { 0o500 } else { spot.object.mode() };
            return Ok(self.virtual_attr(number, Kind::Dir, mode, 0, changed.into(), 2));
        };
        if matches!(spot.object, Object::Accounts | Object::Root) || row.name == "events" {
            changed = snapshot.at;
        }
        if let (Object::Session(name), "pane" | "pane.ansi" | "scrollback") = (&spot.object, row.name) {
            changed = snapshot
                .sessions
                .get(name)
                .and_then(|session| session.screen.read.map(|at| snapshot.timeline.shown(at)))
                .unwrap_or(changed);
        }
        if let What::Link(_) = row.what {
            let target = self.link_target(spot).ok_or(FsError::NoEntry)?;
            let size = target.as_os_str().len() as u64;
            return Ok(self.virtual_attr(number, Kind::Symlink, row.mode, size, changed.into(), 1));
        }
        if let What::Log = row.what {
            let meta = crate::fs::log::open(&self.events_log).and_then(|file| file.metadata()).ok();
            let (size, at) = meta.map_or((0, changed.into()), |m| (m.len(), m.modified().unwrap_or(changed.into())));
            return Ok(self.virtual_attr(number, Kind::File, row.mode, size, at, 1));
        }
        let size = self.text(spot, &snapshot)?.bytes.len() as u64;
        self.told(spot, size);
        // Not what is said to an agent: that is the owner's word.
        let writable = matches!(row.what, What::Control);
        let mode = if writable && self.control_gid.is_some() { row.mode | 0o060 } else { row.mode };
        let attr = self.virtual_attr(number, Kind::File, mode, size, changed.into(), 1);
        Ok(if writable { Attr { gid: self.control_gid.unwrap_or(self.gid), ..attr } } else { attr })
    }

    fn virtual_attr(&self, number: u64, kind: Kind, mode: u16, size: u64, at: SystemTime, nlink: u32) -> Attr {
        let blocks = size.div_ceil(512);
        let (uid, gid) = (self.uid, self.gid);
        Attr { number, kind, mode, nlink, uid, gid, rdev: 0, size, blocks, atime: at, mtime: at, ctime: at }
    }

    pub(super) fn key(&self, number: u64) -> Result<Key, FsError> {
        lock(&self.nodes).get(number).map(|node| node.key.clone()).ok_or(FsError::Stale)
    }

    /// Opens a real file by its number: by its name if that is still current, else through an open handle.
    pub(super) fn real_file(&self, number: u64, flags: OFlag) -> Result<File, FsError> {
        let (place, known, open) = {
            let nodes = lock(&self.nodes);
            let known = match nodes.get(number).map(|node| &node.key) {
                Some(Key::Dir(_, id) | Key::File(id)) => *id,
                Some(Key::Spot(_)) => return Err(FsError::Special),
                None => return Err(FsError::Stale),
            };
            (nodes.path(number), known, nodes.any_open(number))
        };
        let by_name = place.ok_or(FsError::Stale).and_then(|(queue, path)| {
            let file = self.queues.get(queue).ok_or(FsError::Stale)?.open_at(&path, flags)?;
            if Facts::of(&file)?.id() == known { Ok(file) } else { Err(FsError::Stale) }
        });
        match (by_name, open) {
            (Err(FsError::NoEntry | FsError::Stale), Some(open)) => {
                let path = proc_path(&open.file);
                let flags = flags.difference(OFlag::O_NOFOLLOW) | OFlag::O_CLOEXEC;
                let fd = nix::fcntl::open(path.as_str(), flags, nix::sys::stat::Mode::empty());
                fd.map(File::from).map_err(|errno| FsError::system("open", errno))
            }
            (Err(FsError::NoEntry), None) => Err(FsError::Stale),
            (by_name, _) => by_name,
        }
    }

    pub(super) fn real_dir(&self, number: u64) -> Result<RealDir, FsError> {
        let (view, id, place) = {
            let nodes = lock(&self.nodes);
            match nodes.get(number).map(|node| &node.key) {
                Some(Key::Dir(view, id)) => (*view, *id, nodes.path(number)),
                Some(Key::Spot(Spot { row: None, .. })) => return Err(FsError::Special),
                Some(Key::Spot(_) | Key::File(_)) => return Err(FsError::NotDirectory),
                None => return Err(FsError::Stale),
            }
        };
        let (queue, path) = place.ok_or(FsError::Stale)?;
        let kept = lock(&self.dirs).get(&number).cloned();
        let file = match kept {
            Some((of, file)) if of == id => file,
            Some(_) | None => {
                let file = Arc::new(self.real_file(number, OFlag::O_PATH | OFlag::O_DIRECTORY)?);
                let mut dirs = lock(&self.dirs);
                if dirs.len() >= DIRS_MAX {
                    dirs.clear();
                }
                dirs.insert(number, (id, Arc::clone(&file)));
                file
            }
        };
        Ok(RealDir { file, number, queue, path, view })
    }

    /// The supervisor's own entry that covers this name of a queue directory.
    pub(super) fn overlay(&self, dir: &RealDir, name: &OsStr) -> Option<Spot> {
        if !dir.path.as_os_str().is_empty() {
            return None;
        }
        let object = Object::Project(self.queues.get(dir.queue)?.project.clone());
        object.since(&self.backend.snapshot())?;
        let (index, row) = object.rows().iter().enumerate().find(|(_, row)| name == row.name)?;
        Some(match row.what {
            What::Dir(child) => Spot::dir(child(&object)),
            _ => Spot { object, row: Some(index) },
        })
    }

    /// Refuses to make, remove or rename what the supervisor needs: its own entries and the four queue directories.
    pub(super) fn may_change(&self, dir: &RealDir, name: &OsStr) -> Result<(), FsError> {
        if !is_component(name) {
            return Err(FsError::Invalid);
        }
        let fixed = dir.path.as_os_str().is_empty() && QUEUE_DIRS.iter().any(|fixed| name == *fixed);
        if fixed || self.overlay(dir, name).is_some() { Err(FsError::Special) } else { Ok(()) }
    }

    pub(super) fn handle(&self, handle: u64) -> Result<Arc<Handle>, FsError> {
        lock(&self.handles).get(&handle).cloned().ok_or(FsError::BadHandle)
    }

    pub(super) fn add_handle(&self, handle: Handle) -> u64 {
        let number = self.next_handle.fetch_add(1, Ordering::Relaxed);
        lock(&self.handles).insert(number, Arc::new(handle));
        number
    }

    pub(super) fn place(&self, dir: &RealDir, name: &OsStr) -> Option<Place> {
        let project = self.queues.get(dir.queue)?.project.clone();
        Some(Place { project, dir: dir.path.clone(), name: name.to_owned() })
    }

    /// A real file's current path, for reports.
    pub(super) fn place_of(&self, number: u64) -> Option<Place> {
        let (queue, path) = lock(&self.nodes).path(number)?;
        let project: ProjectName = self.queues.get(queue)?.project.clone();
        Some(Place { project, dir: path.parent()?.to_owned(), name: path.file_name()?.to_owned() })
    }

    /// Who asks; placed where that decides whether a text may be a task.
    pub(super) fn writer_at(&self, at: Option<&Place>, caller: Caller) -> Writer {
        let writer = caller.writer();
        if at.is_some_and(Place::is_task) { self.backend.placed(writer) } else { writer }
    }

    pub(super) fn touch(&self, caller: Caller, change: Option<Touched>) {
        if let Some(change) = change {
            self.backend.touched(&change, &caller.writer());
        }
    }

    pub(super) fn scope(spot: &Spot) -> Option<Scope> {
        let row = row_of(spot)?;
        Some(match (&spot.object, row.what) {
            (Object::Session(name), What::Input) => Scope::Input(name.clone()),
            (Object::Session(name), What::Keys) => Scope::Keys(name.clone()),
            (Object::Session(name), What::Control) => Scope::Session(name.clone()),
            (Object::Task(_, key), What::Control) => Scope::Task(key.clone()),
            (Object::Accounts, What::Control) => Scope::ActiveAccount,
            (_, What::Control) => Scope::Daemon,
            _ => return None,
        })
    }
}

pub(super) fn row_of(spot: &Spot) -> Option<&'static Row> {
    spot.object.rows().get(spot.row?)
}
