//! Finds a project's queue directory: `.agent-queue`, the directory it links to, or `.agent-queue.real` when it links
//! into the mount.
//! Takes the project's directory and how to recognise the mount; creates what is missing. Never looks at anything
//! below the mount.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Write as _},
    os::fd::AsFd,
    path::{Component, Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, openat},
    sys::stat::{Mode, mkdirat},
};

/// Name of a project's queue directory.
pub const QUEUE: &str = ".agent-queue";
/// The queue's own directory in a project whose `QUEUE` is a link into the mount.
pub const QUEUE_BEHIND: &str = ".agent-queue.real";

/// The directories that every queue has (INTERFACE 1).
pub const DIRS: [&str; 4] = ["inbox", "drafts", "done", "failed"];

/// The file in a queue that keeps it out of the repository around it, and what it says.
pub const IGNORE: &str = ".gitignore";
pub const IGNORE_ALL: &[u8] = b"*\n";

/// Makes what is missing of a queue's four directories; answers how many were missing.
///
/// # Errors
/// When one can't be made.
pub fn make_dirs(queue: impl AsFd) -> io::Result<usize> {
    let mut made = 0;
    for dir in DIRS {
        match mkdirat(&queue, dir, Mode::from_bits_truncate(0o777)) {
            Ok(()) => made += 1,
            Err(Errno::EEXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(made)
}

/// Recreates removed directories of a queue in use. A queue that lost all of them is a new one, which git should
/// ignore; in one that lost a few, `.gitignore` stays as the person left it.
///
/// # Errors
/// When something can't be made.
pub fn heal(queue: impl AsFd) -> io::Result<bool> {
    let made = make_dirs(&queue)?;
    if made == DIRS.len() {
        ignore(&queue)?;
    }
    Ok(made > 0)
}

/// Has git leave the queue alone. What a person wrote there stays.
///
/// # Errors
/// When the file can't be written.
pub fn ignore(queue: impl AsFd) -> io::Result<()> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    match openat(queue, IGNORE, flags, Mode::from_bits_truncate(0o644)) {
        Ok(file) => File::from(file).write_all(IGNORE_ALL),
        Err(Errno::EEXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// As many links in one path as the kernel follows (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// The queue's own directory, whether it exists or not. `is_mount` is called for each directory on the way before it is
/// accessed.
///
/// # Errors
/// When a link can't be followed to its end.
pub fn queue_dir(project: &Path, is_mount: impl Fn(&Path) -> bool) -> io::Result<PathBuf> {
    let queue = project.join(QUEUE);
    if is_mount(&queue) || !queue.symlink_metadata().is_ok_and(|meta| meta.is_symlink()) {
        return Ok(queue);
    }
    match follow(&queue, is_mount) {
        Ok(Some(end)) => Ok(end),
        Ok(None) => Ok(project.join(QUEUE_BEHIND)),
        Err(error) => {
            Err(io::Error::new(error.kind(), format!("{} is a link that leads nowhere: {error}", queue.display())))
        }
    }
}

/// The entries that the mount lays over a project's queue directory (INTERFACE 4).
pub const COVERING: [&str; 3] = ["tasks", "delegated", "status"];

/// Covered files named in a message. Chosen: enough to recognise them in one line.
const NAMED_MAX: usize = 5;

/// What of a queue directory can't be seen through the mount, because entries of the mount's own cover it; one sentence.
#[must_use]
pub fn covered(queue: &Path) -> Option<String> {
    let mut found = Vec::new();
    for name in COVERING {
        let path = queue.join(name);
        match path.read_dir() {
            Ok(entries) => {
                found.extend(entries.flatten().map(|entry| format!("{name}/{}", entry.file_name().to_string_lossy())));
            }
            Err(_) if path.symlink_metadata().is_ok() => found.push(name.to_owned()),
            Err(_) => {}
        }
    }
    found.sort();
    let more = if found.len() > NAMED_MAX { format!(" and {} more", found.len() - NAMED_MAX) } else { String::new() };
    found.truncate(NAMED_MAX);
    let named = found.join(", ");
    (!found.is_empty()).then(|| {
        format!("the mount's own tasks/, delegated/ and status cover {named}{more}: rename these directories, or use the real one")
    })
}

/// The directory of the repository that `dir` lies in: `.git`, or where a file of that name (a worktree, a submodule) leads.
#[must_use]
pub fn repository(dir: &Path) -> Option<PathBuf> {
    dir.ancestors().find_map(|dir| {
        let git = dir.join(".git");
        let meta = git.metadata().ok()?;
        if meta.is_dir() {
            return git.join("HEAD").exists().then_some(git);
        }
        let text = std::fs::read_to_string(&git).ok()?;
        Some(dir.join(text.strip_prefix("gitdir:")?.trim()))
    })
}

/// Whether git would take this queue into the repository around it.
#[must_use]
pub fn is_in_repository(queue: &Path, opened: &Path) -> bool {
    opened.join(IGNORE).symlink_metadata().is_err() && queue.parent().and_then(repository).is_some()
}

/// The end of a path, every link followed; `None` when it leads into the mount.
fn follow(path: &Path, is_mount: impl Fn(&Path) -> bool) -> io::Result<Option<PathBuf>> {
    // The next part last.
    let mut rest: Vec<OsString> = reversed(&std::path::absolute(path)?);
    let (mut at, mut links) = (PathBuf::from("/"), 0);
    while let Some(part) = rest.pop() {
        if part == ".." {
            at.pop();
            continue;
        }
        at.push(part);
        if is_mount(&at) {
            return Ok(None);
        }
        if !at.symlink_metadata()?.is_symlink() {
            continue;
        }
        links += 1;
        if links > LINKS_MAX {
            return Err(io::Error::other("too many links"));
        }
        let target = at.read_link()?;
        at.pop();
        if target.is_absolute() {
            at = PathBuf::from("/");
        }
        rest.extend(reversed(&target));
    }
    Ok(Some(at))
}

fn reversed(path: &Path) -> Vec<OsString> {
    let parts = path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    parts.rev().map(|part| part.as_os_str().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_link_leads_to_a_directory_of_its_own_or_into_the_mount() {
        let temp = tempfile::tempdir().expect("a directory");
        let dir = temp.path().canonicalize().expect("a path");
        let mount = dir.join("mnt");
        let found = |target: Option<&Path>| {
            let project = tempfile::tempdir_in(&dir).expect("a project");
            if let Some(target) = target {
                symlink(target, project.path().join(QUEUE)).expect("a link");
            }
            let found = queue_dir(project.path(), |at| at == mount);
            found.map(|at| at.strip_prefix(project.path()).map_or(at.clone(), Path::to_owned)).map_err(|e| e.kind())
        };
        let own = |name: &str| Ok(PathBuf::from(name));
        std::fs::create_dir(dir.join("data")).expect("a directory");
        symlink(&mount, dir.join("run")).expect("a link");
        symlink("loop", dir.join("loop")).expect("a link");
        assert_eq!(found(None), own(QUEUE));
        assert_eq!(found(Some(&dir.join("data"))), Ok(dir.join("data")));
        assert_eq!(found(Some(Path::new("../data/../data/."))), Ok(dir.join("data")));
        // Whether it is mounted or not.
        for target in [mount.join("projects/web"), dir.join("run/projects/web"), dir.join("data/../mnt")] {
            assert_eq!(found(Some(&target)), own(QUEUE_BEHIND), "{}", target.display());
        }
        assert_eq!(found(Some(&dir.join("none"))), Err(io::ErrorKind::NotFound));
        assert_eq!(found(Some(&dir.join("loop"))), Err(io::ErrorKind::Other));
    }
}
