//! Finds who holds a lock on a file (flock(2), fcntl(2)) without taking one: probing would make somebody else's
//! attempt fail.
//! Reads the kernel's table; returns pids by device and inode. Locks of other pid namespaces aren't in it.

use std::{collections::HashMap, path::PathBuf};

use nix::sys::stat::makedev;

use super::peek;

/// Holders by device and inode. Leases and those who wait are left out.
#[must_use]
pub fn held() -> HashMap<(u64, u64), i32> {
    parse(&std::fs::read_to_string("/proc/locks").unwrap_or_default())
}

/// Who holds a lock on the file of this inode number, on whatever device: some file systems tell another one here.
#[must_use]
pub fn holder(inode: u64) -> Option<u32> {
    let (_, pid) = held().into_iter().find(|((_, number), _)| *number == inode)?;
    u32::try_from(pid).ok()
}

/// `1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF`, by proc_locks(5).
fn parse(table: &str) -> HashMap<(u64, u64), i32> {
    let holder = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        words.next().filter(|kind| matches!(*kind, "FLOCK" | "POSIX" | "OFDLCK"))?;
        let pid = words.nth(2)?.parse().ok()?;
        let mut place = words.next()?.split(':');
        let mut device = || u64::from_str_radix(place.next()?, 16).ok();
        let device = makedev(device()?, device()?);
        Some(((device, place.next()?.parse().ok()?), pid))
    };
    table.lines().filter_map(holder).collect()
}

/// Files at which a process holds locks, by the paths under which it opened them. Asks only the process table: the file system
/// that they lie on may be our own.
#[must_use]
pub fn files_of(pid: i32) -> Vec<PathBuf> {
    let Ok(pid) = u32::try_from(pid) else { return Vec::new() };
    let is_locked = |number: &str| {
        std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).is_ok_and(|text| text.contains("\nlock:"))
    };
    let files = peek::files(pid).into_iter();
    files.filter(|(number, _)| is_locked(number)).map(|(_, path)| path).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn the_kernel_s_table_is_read() {
        let table = "1: FLOCK  ADVISORY  WRITE 12 08:01:5678 0 EOF\n1: -> FLOCK  ADVISORY  WRITE 13 08:01:5678 0 EOF\n\
            2: LEASE  ACTIVE    READ  14 08:01:9 0 EOF\n3: POSIX  ADVISORY  READ  15 fd:00:7 0 EOF\nnonsense\n";
        let held = parse(table);
        assert_eq!(held.get(&(makedev(8, 1), 5678)), Some(&12));
        assert_eq!(held.get(&(makedev(0xfd, 0), 7)), Some(&15));
        assert_eq!(held.len(), 2);
    }

    #[test]
    fn a_lock_that_is_held_is_seen() {
        let file = tempfile::tempfile().expect("a file");
        let meta = file.metadata().expect("facts");
        let of = |held: HashMap<(u64, u64), i32>| held.get(&(meta.dev(), meta.ino())).copied();
        assert_eq!(of(held()), None);
        file.lock().expect("locked");
        assert!(!files_of(std::process::id().cast_signed()).is_empty());
        // A file system with a device per volume (btrfs) reports another one here.
        if let Some(pid) = of(held()) {
            assert_eq!(holder(meta.ino()), Some(std::process::id()));
            assert_eq!(pid, std::process::id().cast_signed());
        }
    }
}
