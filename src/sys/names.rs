//! Classifies file names in an inbox: a task, a task's sidecar, a program's own file, or a file that was probably
//! meant as a task. Pure.

use std::{ffi::OsStr, time::Duration};

use jiff::Timestamp;
use nix::sys::stat::{FileStat, SFlag};

use crate::model::{
    event::Ignored,
    ids::{TASK_FILE_NAME_MAX, TASK_SUFFIX, TaskId},
    queue::{FileFacts, FileKind, Sidecar},
    text,
};

pub const SIDECARS: [Sidecar; 3] = [Sidecar::Working, Sidecar::Delegated, Sidecar::Rejected];

/// A file untouched for this long is not about to be renamed. Chosen: as the default settle time.
pub const LEFT_ALONE: Duration = Duration::from_secs(1);

/// What scripts put beside a task to claim it: a file or a directory.
pub const CLAIMS: [&str; 2] = [".lock", ".claimed"];

/// Ends of names that editors and scripts give to what is not for others: backups, locks, files that are still being made.
const OWN: [&str; 14] = [
    "~",
    ".tmp",
    ".temp",
    ".swp",
    ".swo",
    ".part",
    ".partial",
    ".crdownload",
    ".bak",
    ".orig",
    ".lock",
    ".claimed",
    ".new",
    ".pid",
];

/// A sidecar's task.
#[must_use]
pub fn sidecar_of(name: &str) -> Option<(TaskId, Sidecar)> {
    SIDECARS.into_iter().find_map(|which| Some((TaskId::from_file_name(name.strip_suffix(which.suffix())?)?, which)))
}

/// The task that an editor's lock belongs to: `.NAME.swp` (vim, nano) or `.#NAME` (emacs, joe).
#[must_use]
pub fn lock_of(name: &str) -> Option<TaskId> {
    let vim = name.strip_prefix('.').and_then(|rest| rest.strip_suffix(".swp"));
    TaskId::from_file_name(name.strip_prefix(".#").or(vim)?)
}

/// The task to which a script's claim belongs.
#[must_use]
pub fn claim_of(name: &str) -> Option<TaskId> {
    CLAIMS.into_iter().find_map(|end| TaskId::from_file_name(name.strip_suffix(end)?))
}

/// The task that a name in an inbox has to do with.
#[must_use]
pub fn task_of(name: &str) -> Option<TaskId> {
    TaskId::from_file_name(name)
        .or_else(|| Some(sidecar_of(name)?.0))
        .or_else(|| lock_of(name))
        .or_else(|| claim_of(name))
}

/// Why a file is no task, if it looks as if somebody meant one: no dot name, no backup, lock or unfinished file of a program's.
#[must_use]
pub fn ignored(name: &OsStr) -> Option<Ignored> {
    let shown = text::clean(&name.to_string_lossy()).replace(['\n', '\t'], " ");
    let Some(name) = name.to_str() else {
        return Some(Ignored { name: shown, why: "its name is not UTF-8; rename it".to_owned() });
    };
    let unfinished = name.split('.').any(|part| matches!(part, "tmp" | "temp" | "part"));
    if name.starts_with(['.', '#'])
        || OWN.iter().any(|end| name.ends_with(end))
        || unfinished
        || task_of(name).is_some()
    {
        return None;
    }
    // vim looks whether it may write with this name.
    if name == "4913" {
        return None;
    }
    let why = if name.chars().any(char::is_control) {
        "its name holds control characters; rename it".to_owned()
    } else if name.len() > TASK_FILE_NAME_MAX {
        format!("its name has {} bytes, at most {TASK_FILE_NAME_MAX} are taken; give it a shorter one", name.len())
    } else {
        let stem = name.strip_suffix(TASK_SUFFIX);
        let begins = name.trim_start_matches(|c: char| !c.is_alphanumeric());
        let better = match stem {
            Some(_) => begins.to_owned(),
            None => {
                let ends = [".txt", ".markdown", TASK_SUFFIX].into_iter();
                let mut bare = ends.filter_map(|end| {
                    let (bare, tail) = begins.split_at_checked(begins.len().checked_sub(end.len())?)?;
                    tail.eq_ignore_ascii_case(end).then_some(bare)
                });
                format!("{}{TASK_SUFFIX}", bare.next().unwrap_or(begins))
            }
        };
        let rule = match stem {
            None => "a task's name ends in .md",
            Some(_) => "a task's name begins with a letter or digit",
        };
        match TaskId::from_file_name(&better) {
            Some(_) => format!("{rule}: mv {} {}", quoted(name), quoted(&better)),
            None => format!("{rule}; rename it"),
        }
    };
    Some(Ignored { name: shown, why })
}

/// As a shell takes it.
fn quoted(name: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '+' | '@' | ',' | ':');
    let name = if name.starts_with('-') { format!("./{name}") } else { name.to_owned() };
    if name.chars().all(|c| plain(c) || c == '/') { name } else { format!("'{}'", name.replace('\'', "'\\''")) }
}

/// Facts from `stat(2)` of a file in a queue.
pub(super) fn facts(stat: &FileStat) -> FileFacts {
    let kind = match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFREG => FileKind::Regular,
        SFlag::S_IFLNK => FileKind::Other("symlink"),
        SFlag::S_IFDIR => FileKind::Other("directory"),
        SFlag::S_IFIFO => FileKind::Other("FIFO"),
        SFlag::S_IFSOCK => FileKind::Other("socket"),
        _ => FileKind::Other("device"),
    };
    let nanos = i128::from(stat.st_ctime) * 1_000_000_000 + i128::from(stat.st_ctime_nsec);
    FileFacts {
        kind,
        bytes: u64::try_from(stat.st_size).unwrap_or(0),
        modified: Timestamp::new(stat.st_mtime, i32::try_from(stat.st_mtime_nsec).unwrap_or(0))
            .unwrap_or(Timestamp::UNIX_EPOCH),
        change: (nanos, stat.st_ino),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    fn why(name: &str) -> Option<String> {
        ignored(OsStr::new(name)).map(|ignored| ignored.why)
    }

    #[test]
    fn what_should_have_been_a_task_is_told_with_the_name_that_helps() {
        for (name, told) in [
            ("todo.txt", "a task's name ends in .md: mv todo.txt todo.md"),
            ("fix-login", "a task's name ends in .md: mv fix-login fix-login.md"),
            ("notes.MD", "a task's name ends in .md: mv notes.MD notes.md"),
            ("-x.md", "a task's name begins with a letter or digit: mv ./-x.md x.md"),
            ("my todo.txt", "a task's name ends in .md: mv 'my todo.txt' 'my todo.md'"),
            ("it's", "a task's name ends in .md: mv 'it'\\''s' 'it'\\''s.md'"),
            ("$.md", "a task's name begins with a letter or digit; rename it"),
            ("a\nb.md", "its name holds control characters; rename it"),
        ] {
            assert_eq!(why(name).as_deref(), Some(told), "{name:?}");
        }
        assert!(why(&format!("{}.md", "x".repeat(240))).is_some_and(|why| why.contains("243 bytes")));
        let strange = ignored(OsStr::from_bytes(b"bad\xff.md")).expect("told");
        assert_eq!(
            (strange.name.as_str(), strange.why.as_str()),
            ("bad\u{fffd}.md", "its name is not UTF-8; rename it")
        );
        assert_eq!(ignored(OsStr::new("a\n\u{1b}[2Jb.md")).expect("told").name, "a b.md");
    }

    #[test]
    fn programs_own_names_are_left_alone() {
        for name in [
            "a.md",
            "a.md.working",
            "a.md.rejected",
            ".a.md.swp",
            ".#a.md",
            "#a.md#",
            "a.md~",
            "4913",
            ".hidden",
            "x.tmp.12",
            "a.md.lock",
            "a.md.claimed",
            "queue.lock",
            "a.md.part",
            "a.tmp",
            "worker.pid",
        ] {
            assert_eq!(why(name), None, "{name}");
        }
    }
}
