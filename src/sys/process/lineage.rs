//! A process and its ancestors, as `/proc` tells them.
//! In: the number that the kernel gives of a caller (a thread's, maybe). Out: the line, told apart from processes that took
//! over a number meanwhile. Decides nothing: `model::writer` does.

use std::{fs, path::Path};

use super::{Stat, thread_group};
use crate::model::{
    ids::SessionName,
    writer::{Ancestor, Lineage, Unit},
};

/// Deeper than any sane process tree.
const DEEPEST: usize = 64;

/// How often a line that changed while it was read is read again.
const TRIES: usize = 4;

/// A line of ancestors; `mountpoint` is this daemon's, which tells its sessions' variables from another's.
#[must_use]
pub fn read(pid: u32, mountpoint: &Path) -> Lineage {
    let mut last = Lineage { line: Vec::new(), whole: false, unit: None };
    // Zero is a process that this one can't see.
    let Some(pid) = (pid != 0).then(|| thread_group(pid)).flatten() else { return last };
    for _ in 0..TRIES {
        last.line = Vec::new();
        last.whole = follow(pid, mountpoint, &mut last.line);
        if last.whole {
            break;
        }
    }
    last.unit = unit_of(pid);
    last
}

/// Answers whether the line was followed to its end.
fn follow(pid: u32, mountpoint: &Path, line: &mut Vec<Ancestor>) -> bool {
    let mut next = pid;
    let mut younger: Option<Stat> = None;
    while line.len() < DEEPEST {
        let Some(stat) = Stat::read(next) else {
            // With `hidepid` another user's process is there and can't be read; agents are this user's.
            return is_hidden(next) && younger.is_some_and(|child| has_parent(child, next));
        };
        // A parent is older than its child: this one took over the number of a parent that is gone. And a child whose
        // parent went away while it was looked at has another.
        if let Some(child) = younger
            && (stat.start > child.start || !has_parent(child, stat.pid))
        {
            return false;
        }
        line.push(Ancestor {
            pid: stat.pid,
            program: program_of(stat.pid),
            terminal: stat.terminal,
            marked: marked(stat.pid, mountpoint),
        });
        if stat.pid <= 1 || stat.parent == 0 {
            return true;
        }
        (next, younger) = (stat.parent, Some(stat));
    }
    false
}

fn has_parent(child: Stat, parent: u32) -> bool {
    Stat::read(child.pid).is_some_and(|now| now.start == child.start && now.parent == parent)
}

fn is_hidden(pid: u32) -> bool {
    let pid = nix::unistd::Pid::from_raw(pid.cast_signed());
    nix::sys::signal::kill(pid, None) == Err(nix::errno::Errno::EPERM)
}

fn program_of(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim_end().to_owned()
}

/// The session that the process's variables name. A process can change them: what they don't say shows nothing.
fn marked(pid: u32, mountpoint: &Path) -> Option<SessionName> {
    use std::os::unix::ffi::OsStrExt;
    let variables = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let value = |name: &[u8]| {
        let of = |word: &[u8]| word.strip_prefix(name)?.strip_prefix(b"=").map(<[u8]>::to_vec);
        variables.split(|byte| *byte == 0).find_map(of)
    };
    let session = value(b"CLAUDE_FAILOVER_SESSION")?;
    let mount = value(b"CLAUDE_FAILOVER_MOUNT")?;
    (mount == mountpoint.as_os_str().as_bytes())
        .then(|| SessionName::parse(std::str::from_utf8(&session).ok()?).ok())
        .flatten()
}

/// The systemd unit in whose control group a process is; `None` where there is no systemd.
#[must_use]
pub fn unit_of(pid: u32) -> Option<Unit> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = groups.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        (controllers.is_empty() || controllers == "name=systemd").then_some(path)
    })?;
    let is_unit = |part: &&str| part.ends_with(".service") || part.ends_with(".scope");
    let name = path.rsplit('/').find(is_unit)?.to_owned();
    let uid = nix::unistd::getuid();
    let places = ["/run/systemd/transient".to_owned(), format!("/run/user/{uid}/systemd/transient")];
    let transient = places.iter().any(|dir| Path::new(dir).join(&name).exists());
    Some(Unit { name, transient })
}

/// Whether this process is the main one of its unit: the manager started it.
#[must_use]
pub fn leads_unit() -> bool {
    let service = unit_of(std::process::id()).is_some_and(|unit| unit.name.ends_with(".service"));
    service && Stat::read(std::process::id()).is_some_and(|own| program_of(own.parent) == "systemd")
}
