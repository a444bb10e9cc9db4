//! Parses `/proc/self/mountinfo` (proc_pid_mountinfo(5)). Touches no mount, so a dead one can't hang it.

use std::{
    ffi::OsString,
    io,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use crate::config::paths::NAME;

/// A line of the mount table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// `major:minor`; the minor names the FUSE connection.
    pub device: String,
    pub point: PathBuf,
    pub fstype: String,
    pub source: String,
}

impl Entry {
    /// The device as `stat(2)` gives it.
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        let (major, minor) = self.device.split_once(':')?;
        Some(nix::sys::stat::makedev(major.parse().ok()?, minor.parse().ok()?))
    }

    /// One that this program made: a FUSE file system of our name.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        (self.fstype == "fuse" || self.fstype.starts_with("fuse.")) && self.source == NAME
    }
}

/// Everything mounted, in the kernel's order: of two at one place the later one is on top.
///
/// # Errors
/// When `/proc` can't be read.
pub fn read() -> io::Result<Vec<Entry>> {
    Ok(parse(&std::fs::read("/proc/self/mountinfo")?))
}

/// What is on top at exactly this place.
#[must_use]
pub fn at<'a>(all: &'a [Entry], point: &Path) -> Option<&'a Entry> {
    all.iter().rev().find(|mounted| mounted.point == point)
}

/// What is on top at exactly this place now.
#[must_use]
pub fn entry_at(point: &Path) -> Option<Entry> {
    read().ok()?.into_iter().rfind(|entry| entry.point == point)
}

/// Every place of this namespace where that file system is mounted, the topmost first.
#[must_use]
pub fn places_of(device: &str, fstype: &str) -> Vec<PathBuf> {
    let all = read().unwrap_or_default().into_iter().rev();
    all.filter(|entry| entry.device == device && entry.fstype == fstype).map(|entry| entry.point).collect()
}

fn parse(text: &[u8]) -> Vec<Entry> {
    text.split(|byte| *byte == b'\n').filter_map(line).collect()
}

fn line(line: &[u8]) -> Option<Entry> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let point = fields.get(4)?;
    // Optional fields end at a lone hyphen.
    let hyphen = fields.iter().skip(6).position(|field| *field == b"-")? + 6;
    let text = |n: usize| fields.get(n).map(|field| OsString::from_vec(unescape(field)).to_string_lossy().into_owned());
    Some(Entry {
        device: text(2)?,
        point: PathBuf::from(OsString::from_vec(unescape(point))),
        fstype: text(hyphen + 1)?,
        source: text(hyphen + 2)?,
    })
}

/// The kernel writes blank, tab, newline and backslash as `\ooo`.
fn unescape(field: &[u8]) -> Vec<u8> {
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
    out
}

/// The path as the kernel writes it. A mount whose daemon is dead or stopped must not be accessed, so for a mounted
/// path only the parent is resolved.
#[must_use]
pub fn resolved(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    if let (Some(parent), Some(name)) = (path.parent(), path.file_name())
        && let Ok(parent) = parent.canonicalize()
    {
        let plain = parent.join(name);
        let mounted = read().is_ok_and(|all| at(&all, &plain).is_some());
        if mounted || plain.symlink_metadata().map_or(true, |meta| !meta.is_symlink()) {
            return plain;
        }
    }
    path.canonicalize().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        let text = b"36 35 98:0 / /mnt/a\\040b rw,noatime master:1 - ext3 /dev/root rw\n\
            40 36 0:50 / /run/x rw,nosuid - fuse claude-failover rw,user_id=0\n\
            41 36 0:51 / /run/y rw shared:7 master:2 - fuse.claude-failover claude-failover rw\n\
            42 36 0:52 / /run/x rw - fuse.sshfs host:/ rw\nnonsense\n";
        let all = parse(text);
        assert_eq!(all.len(), 4);
        assert_eq!(all[0].point, Path::new("/mnt/a b"));
        assert!(all[1].is_ours() && all[2].is_ours() && !all[3].is_ours() && !all[0].is_ours());
        assert_eq!(at(&all, Path::new("/run/x")).map(|m| m.fstype.as_str()), Some("fuse.sshfs"));
        assert_eq!(at(&all, Path::new("/run")), None);
    }
}
