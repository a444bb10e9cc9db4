//! Generates inotify events for changes that did not go through the watched directory: inotify reports only system
//! calls made through it.
//! Changes that the supervisor makes on disk, and those made through the other view of the first project, are repeated
//! through the mount by a child process (`repeater`), whose calls are answered here without effect. Watchers get the
//! same events as on a plain disk. Owns the child and the table of its pending calls. Nothing waits for it: killed,
//! stopped or missing, it costs watchers events and nothing else.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::SystemTime,
};

use crate::{
    fs::{
        real::QUEUE_DIRS,
        tree::View,
        words::{Attr, Kind, lock},
    },
    model::{ids::ProjectName, queue::QueueChange},
};

/// Changes that may wait to be repeated; more are lost to watchers, as with inotify's own queue. Chosen: as
/// `sys/watch.rs`.
const WAITING: usize = 4096;
/// The name that a file which arrives whole has before: as on disk, a dot name (`sys/dirs.rs`).
pub(super) const TEMPORARY: &str = ".claude-failover-new";
/// Inode numbers of what exists only for the child: bit 62, above every other number (`nodes`).
const GHOSTS: u64 = 1 << 62;
/// The one handle of the child; every other number is smaller.
pub(super) const GHOST_HANDLE: u64 = u64::MAX;

/// A name in a queue, relative to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct At {
    pub dir: PathBuf,
    pub name: OsString,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    Made {
        at: At,
        dir: bool,
    },
    Written(At),
    /// A whole file took the name.
    Arrived(At),
    Moved {
        from: At,
        to: At,
        dir: bool,
    },
    Removed {
        at: At,
        dir: bool,
    },
}

/// A change, and through which view of its project it has not been seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Notice {
    pub project: ProjectName,
    /// `None`: through none.
    pub view: Option<View>,
    pub change: Change,
}

/// Takes changes to be repeated; never waits.
#[derive(Debug, Clone)]
pub struct Teller(SyncSender<Notice>);

impl Teller {
    pub(super) fn new() -> (Self, Receiver<Notice>) {
        let (sender, receiver) = sync_channel(WAITING);
        (Self(sender), receiver)
    }

    /// The supervisor itself has made a change on disk.
    pub fn tell(&self, change: &QueueChange) {
        let (project, change) = match change {
            QueueChange::Arrived(project, dir, name) => (project, Change::Arrived(At::new(dir.name(), name))),
            QueueChange::Removed(project, dir, name) => {
                (project, Change::Removed { at: At::new(dir.name(), name), dir: false })
            }
            QueueChange::Moved { project, from, to, name } => {
                let (from, to) = (At::new(from.name(), name), At::new(to.name(), name));
                (project, Change::Moved { from, to, dir: false })
            }
        };
        self.send(Notice { project: project.clone(), view: None, change });
    }

    pub(super) fn send(&self, notice: Notice) {
        if self.0.try_send(notice).is_err() {
            tracing::debug!("a change is not repeated for watchers: too many wait, or nobody repeats any more");
        }
    }
}

impl At {
    pub fn new(dir: impl Into<PathBuf>, name: impl Into<OsString>) -> Self {
        Self { dir: dir.into(), name: name.into() }
    }

    fn sibling(&self, name: &str) -> Self {
        Self::new(self.dir.clone(), name)
    }
}

/// Whether a directory of the first project is shown at the mount's root too.
pub(super) fn is_shown_twice(queue: usize, dir: &Path) -> bool {
    let top = dir.components().next().map(std::path::Component::as_os_str);
    queue == 0 && QUEUE_DIRS.iter().any(|name| top == Some(OsStr::new(name)))
}

/// One call of the child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Call {
    Make { at: At, dir: bool },
    Write(At),
    Move { from: At, to: At, dir: bool },
    Remove { at: At, dir: bool },
}

/// The calls that give a change's events to those directories that could be watched. What arrives whole is made, written and
/// renamed, as it is on disk.
pub(super) fn calls(change: &Change, could_be_watched: impl Fn(&Path) -> bool) -> Vec<Call> {
    let watched = |at: &At| could_be_watched(&at.dir);
    match change.clone() {
        Change::Made { at, dir } if watched(&at) => vec![Call::Make { at, dir }],
        Change::Written(at) if watched(&at) => vec![Call::Write(at)],
        Change::Arrived(at) if watched(&at) => {
            let new = at.sibling(TEMPORARY);
            vec![
                Call::Make { at: new.clone(), dir: false },
                Call::Write(new.clone()),
                Call::Move { from: new, to: at, dir: false },
            ]
        }
        Change::Removed { at, dir } if watched(&at) => vec![Call::Remove { at, dir }],
        Change::Moved { from, to, dir } => match (watched(&from), watched(&to)) {
            (true, true) => vec![Call::Move { from, to, dir }],
            (true, false) => vec![Call::Remove { at: from, dir }],
            (false, true) if dir => vec![Call::Make { at: to, dir }],
            (false, true) => calls(&Change::Arrived(to), could_be_watched),
            (false, false) => Vec::new(),
        },
        Change::Made { .. } | Change::Written(_) | Change::Arrived(_) | Change::Removed { .. } => Vec::new(),
    }
}

impl Call {
    /// For the child: the verb and its paths below `base`, each ended by a zero byte.
    pub fn request(&self, base: &Path) -> Vec<u8> {
        let (verb, paths) = match self {
            Self::Make { at, dir: false } => ("make", vec![at]),
            Self::Make { at, dir: true } => ("make-dir", vec![at]),
            Self::Write(at) => ("write", vec![at]),
            Self::Move { from, to, .. } => ("move", vec![from, to]),
            Self::Remove { at, dir: false } => ("remove", vec![at]),
            Self::Remove { at, dir: true } => ("remove-dir", vec![at]),
        };
        let mut request = verb.as_bytes().to_vec();
        for at in paths {
            request.push(0);
            request.extend(base.join(&at.dir).join(&at.name).as_os_str().as_bytes());
        }
        request.push(0);
        request
    }

    /// The names in the call, each with what the child sees there: nothing, or a ghost.
    pub fn seen(&self) -> Vec<(&At, Option<Kind>)> {
        let kind = |dir: bool| if dir { Kind::Dir } else { Kind::File };
        match self {
            Self::Make { at, .. } => vec![(at, None)],
            Self::Write(at) => vec![(at, Some(Kind::File))],
            Self::Move { from, to, dir } => vec![(from, Some(kind(*dir))), (to, None)],
            Self::Remove { at, dir } => vec![(at, Some(kind(*dir)))],
        }
    }
}

/// What the child sees at one name while a call is under way.
#[derive(Debug, Clone)]
pub(super) struct Sight {
    /// Number of the directory.
    pub parent: u64,
    pub name: OsString,
    pub shows: Shows,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shows {
    Nothing,
    Ghost(Kind),
    /// The file that stood there, for those who watch the file itself.
    Former(u64),
}

/// The call under way.
#[derive(Debug)]
struct Expected {
    pid: u32,
    sights: Vec<Sight>,
    makes: Kind,
}

/// What the child is about to do; asked for each request that could be its own.
#[derive(Debug, Default)]
pub(super) struct Table {
    expected: Mutex<Option<Expected>>,
    ghosts: AtomicU64,
}

impl Table {
    pub fn expect(&self, pid: u32, call: &Call, sights: Vec<Sight>) {
        let makes = if matches!(call, Call::Make { dir: true, .. }) { Kind::Dir } else { Kind::File };
        *lock(&self.expected) = Some(Expected { pid, sights, makes });
    }

    pub fn clear(&self) {
        *lock(&self.expected) = None;
    }

    /// What the child is shown there; `None` for everybody else, and for other names.
    pub fn sight(&self, pid: u32, parent: u64, name: &OsStr) -> Option<Shows> {
        let expected = lock(&self.expected);
        let expected = expected.as_ref().filter(|expected| expected.pid == pid)?;
        expected.sights.iter().find(|sight| sight.parent == parent && sight.name == name).map(|sight| sight.shows)
    }

    /// Whether a change that is asked for is the child's: it is answered and not made. What it makes is of this kind.
    pub fn pretends(&self, pid: u32) -> Option<Kind> {
        lock(&self.expected).as_ref().filter(|expected| expected.pid == pid).map(|expected| expected.makes)
    }

    pub fn ghost(&self, kind: Kind) -> Attr {
        let number = GHOSTS + 2 * self.ghosts.fetch_add(1, Ordering::Relaxed) + u64::from(kind == Kind::Dir);
        ghost_attr(number)
    }
}

pub(super) fn is_ghost(number: u64) -> bool {
    number >= GHOSTS
}

/// A ghost's facts follow from its number.
pub(super) fn ghost_attr(number: u64) -> Attr {
    let (kind, mode, nlink) = if number.is_multiple_of(2) { (Kind::File, 0o600, 1) } else { (Kind::Dir, 0o700, 2) };
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    let at = SystemTime::now();
    Attr { number, kind, mode, nlink, uid, gid, rdev: 0, size: 0, blocks: 0, atime: at, mtime: at, ctime: at }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(dir: &str, name: &str) -> At {
        At::new(dir, name)
    }

    #[test]
    fn a_move_is_told_where_it_can_be_seen() {
        let change = Change::Moved { from: at("failed", "a.md"), to: at("inbox", "a.md"), dir: false };
        let told = |watched: &[&str]| {
            calls(&change, |dir| watched.iter().any(|one| dir == Path::new(one)))
                .iter()
                .map(|call| String::from_utf8_lossy(&call.request(Path::new(""))).replace('\0', " "))
                .collect::<String>()
        };
        assert_eq!(told(&["failed", "inbox"]), "move failed/a.md inbox/a.md ");
        assert_eq!(told(&["failed"]), "remove failed/a.md ");
        let new = format!("inbox/{TEMPORARY}");
        assert_eq!(told(&["inbox"]), format!("make {new} write {new} move {new} inbox/a.md "));
        assert_eq!(told(&[]), "");
    }

    #[test]
    fn only_the_child_sees_ghosts_and_only_while_it_is_at_it() {
        let table = Table::default();
        let call = Call::Remove { at: at("inbox", "a.md"), dir: false };
        let sight = Sight { parent: 7, name: "a.md".into(), shows: Shows::Ghost(Kind::File) };
        table.expect(42, &call, vec![sight]);
        assert_eq!(table.sight(42, 7, "a.md".as_ref()), Some(Shows::Ghost(Kind::File)));
        assert_eq!(table.sight(42, 7, "b.md".as_ref()), None);
        assert_eq!(table.sight(43, 7, "a.md".as_ref()), None);
        assert_eq!((table.pretends(43), table.pretends(42)), (None, Some(Kind::File)));
        table.clear();
        assert_eq!((table.sight(42, 7, "a.md".as_ref()), table.pretends(42)), (None, None));
        let ghost = table.ghost(Kind::Dir);
        assert!(is_ghost(ghost.number) && ghost_attr(ghost.number).kind == Kind::Dir);
    }
}
