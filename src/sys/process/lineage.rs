//! Reads a process's ancestry from `/proc`.
//! Takes the number that the kernel gives of a caller (possibly a thread's); returns the chain, detecting reused pids.
//! Decides nothing: `model::writer` does.

use std::{fs, os::unix::ffi::OsStrExt as _, path::Path};

use crate::{
    linux::{
        mark,
        peek::{self, Part, Silent},
        process::{Stat, name, thread_group},
    },
    model::{
        ids::SessionName,
        writer::{Ancestor, Lineage, Unit},
    },
};

/// Longest chain that is followed. Chosen: deeper than any sane process tree.
const DEEPEST: usize = 64;

/// How often a chain that changed while it was read is read again. Chosen: a change takes microseconds, so a second
/// read is nearly always whole.
const TRIES: usize = 4;

/// A chain of ancestors; `mountpoint` is this daemon's, by which its sessions' variables are recognised.
#[must_use]
pub fn read(pid: u32, mountpoint: &Path) -> Lineage {
    let mut last = Lineage { line: Vec::new(), whole: false, unit: None, mark: None };
    // Zero is a process that this one can't see.
    let Some(pid) = (pid != 0).then(|| thread_group(pid)).flatten() else { return last };
    let mut stats = Vec::new();
    for _ in 0..TRIES {
        (last.line, stats) = (Vec::new(), Vec::new());
        last.whole = follow(pid, &mut last.line, &mut stats);
        if last.whole {
            break;
        }
    }
    mark_variables(&mut last, &stats, mountpoint);
    last.unit = unit_of(pid);
    last.mark = mark::read(pid);
    last
}

/// Whose variables the processes of a line have. One that does not answer may have anybody's: then the line is not whole.
fn mark_variables(lineage: &mut Lineage, stats: &[Stat], mountpoint: &Path) {
    let pids: Vec<u32> = lineage.line.iter().map(|step| step.pid).collect();
    let environments = peek::all(&pids, Part::Environment);
    for (n, ((step, stat), environment)) in lineage.line.iter_mut().zip(stats).zip(environments).enumerate() {
        match environment {
            Ok(environment) if Stat::read(step.pid).is_some_and(|now| now.start == stat.start) => {
                step.marked = marked(&environment, mountpoint);
            }
            Ok(_) | Err(Silent::NotOurs) => {}
            // A caller in its exec(2) can't be read before it is answered; its parents show whose it is.
            Err(Silent::Late) if n == 0 && stat.is_stuck() => {}
            Err(Silent::Late) => lineage.whole = false,
        }
    }
}

/// Answers whether the line was followed to its end.
fn follow(pid: u32, line: &mut Vec<Ancestor>, stats: &mut Vec<Stat>) -> bool {
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
            && (!stat.is_stuck() && stat.start > child.start || !has_parent(child, stat.pid))
        {
            return false;
        }
        line.push(Ancestor {
            pid: stat.pid,
            program: name(stat.pid).unwrap_or_default(),
            terminal: stat.terminal != 0,
            marked: None,
        });
        stats.push(stat);
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

/// The session of this daemon that a process's variables name. A process can change them: what they don't say shows nothing.
pub(super) fn marked(environment: &[u8], mountpoint: &Path) -> Option<SessionName> {
    let session = peek::variable(environment, "CLAUDE_FAILOVER_SESSION")?;
    let ours = peek::variable(environment, "CLAUDE_FAILOVER_MOUNT")? == mountpoint.as_os_str().as_bytes();
    SessionName::parse(std::str::from_utf8(session).ok()?).ok().filter(|_| ours)
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
    service && Stat::read(std::process::id()).is_some_and(|own| name(own.parent).unwrap_or_default() == "systemd")
}
