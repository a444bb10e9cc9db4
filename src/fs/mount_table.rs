//! What is mounted where, from /proc/self/mountinfo: the way to know without touching the mount.

use std::{
    ffi::OsString,
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
};

/// A line of the mount table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// `major:minor`; the minor names the FUSE connection.
    pub device: String,
    pub fstype: String,
}

impl Entry {
    /// The device as `stat(2)` gives it.
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        let (major, minor) = self.device.split_once(':')?;
        Some(nix::sys::stat::makedev(major.parse().ok()?, minor.parse().ok()?))
    }
}

/// The topmost mount at exactly this path.
#[must_use]
pub fn entry_at(path: &Path) -> Option<Entry> {
    read().into_iter().rfind(|(at, _)| at == path).map(|(_, entry)| entry)
}

/// Every place of this namespace where a file system is mounted, the topmost first.
#[must_use]
pub fn places_of(mounted: &Entry) -> Vec<PathBuf> {
    read().into_iter().rev().filter(|(_, entry)| entry == mounted).map(|(at, _)| at).collect()
}

fn read() -> Vec<(PathBuf, Entry)> {
    parse(&std::fs::read("/proc/self/mountinfo").unwrap_or_default())
}

/// proc_pid_mountinfo(5): `ID PARENT MAJOR:MINOR ROOT MOUNTPOINT OPTIONS … - FSTYPE SOURCE SUPER`.
fn parse(table: &[u8]) -> Vec<(PathBuf, Entry)> {
    let line = |line: &[u8]| {
        let mut fields = line.split(|&byte| byte == b' ');
        let (device, at) = (fields.nth(2)?, fields.nth(1)?);
        let fstype = fields.skip_while(|field| *field != b"-").nth(1)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Some((PathBuf::from(unescape(at)), Entry { device: text(device), fstype: text(fstype) }))
    };
    table.split(|&byte| byte == b'\n').filter_map(line).collect()
}

/// The kernel writes blank, tab, newline and backslash as `\ooo`.
fn unescape(field: &[u8]) -> OsString {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|digits| byte == b'\\' && digits.iter().all(|d| (b'0'..=b'7').contains(d)));
        if let Some(digits) = octal {
            out.push(digits.iter().fold(0_u8, |value, digit| value.wrapping_mul(8).wrapping_add(digit - b'0')));
            rest = &after[3..];
        } else {
            out.push(byte);
            rest = after;
        }
    }
    OsString::from_vec(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
        90 22 0:50 / /run/a\\040b rw,nosuid shared:5 - fuse.claude-failover claude-failover rw\n\
        91 22 0:51 / /run/x rw - fuse.other o rw\n92 91 0:52 / /run/x rw - fuse.claude-failover c rw\n";

    #[test]
    fn the_topmost_mount_of_a_path_is_found() {
        let table = parse(TABLE);
        let at = |path: &str| {
            let found = table.iter().rfind(|(at, _)| at == Path::new(path));
            found.map(|(_, entry)| (entry.device.clone(), entry.fstype.clone()))
        };
        let ours = "fuse.claude-failover".to_owned();
        assert_eq!(at("/run/a b"), Some(("0:50".to_owned(), ours.clone())));
        assert_eq!(at("/run/x"), Some(("0:52".to_owned(), ours)));
        assert_eq!(at("/run"), None);
    }
}
