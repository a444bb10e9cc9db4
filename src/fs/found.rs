//! Sets aside files found in the unmounted mountpoint: what people and scripts wrote to the mount's paths while the
//! daemon was stopped. They would keep a mount from starting, or be hidden by it.
//! Leaves the mountpoint empty and moves what was there to its own directory below `found`, or says why it can't.
//! Removes nothing but empty directories.

use std::{
    io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use jiff::Timestamp;

use crate::{fs::tree::Object, model::ids::TaskId, render::clean};

/// The mode of an unmounted mountpoint: nobody but root creates anything in it.
pub(super) const CLOSED: u32 = 0o500;
/// Files named in a message; further ones are counted. Chosen: enough to recognise them in one line.
const NAMED: usize = 5;
/// Entries that are examined. Chosen: whoever has more knows by then that there is something.
const LOOKED_AT: usize = 1000;

/// Empties the mountpoint into a new directory below `found`.
///
/// # Errors
/// Why it can't be emptied, or must not: what lies there was not written to the mount.
pub(super) fn put_aside(mountpoint: &Path, found: &Path) -> Result<(), String> {
    let told = |error: io::Error| error.to_string();
    let names = |dir: &Path| -> io::Result<Vec<PathBuf>> {
        std::fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path())).collect()
    };
    let mode = mountpoint.metadata().map_err(told)?.permissions().mode() & 0o777;
    let there = names(mountpoint).map_err(told)?;
    if there.is_empty() {
        return Ok(());
    }
    // A directory that was never ours, given by mistake, is not to be emptied.
    let is_ours = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default();
        Object::Root.rows().iter().any(|row| name == row.name) || name == "projects"
    };
    if mode != CLOSED
        && let Some(other) = there.iter().find(|path| !is_ours(path))
    {
        let name = other.file_name().unwrap_or_default().display().to_string();
        return Err(format!("it holds {}, which nobody wrote to a mount; move it away", clean(&name)));
    }
    std::fs::set_permissions(mountpoint, std::fs::Permissions::from_mode(0o700)).map_err(told)?;
    if files(mountpoint).is_empty() {
        return there.iter().try_for_each(std::fs::remove_dir_all).map_err(told);
    }
    let mut dir = found.join(Timestamp::now().strftime("%Y-%m-%dT%H-%M-%SZ").to_string());
    while dir.exists() {
        dir.as_mut_os_string().push("+");
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(told)?;
    for entry in there {
        put(&entry, &dir).map_err(|why| format!("{} can't be put into {}: {why}", entry.display(), dir.display()))?;
    }
    tracing::warn!(mountpoint = %mountpoint.display(), found = %dir.display(), "something lay in the mountpoint and was put aside");
    Ok(())
}

/// Across file systems by `mv`, which knows every kind of file.
fn put(entry: &Path, dir: &Path) -> Result<(), String> {
    match std::fs::rename(entry, dir.join(entry.file_name().unwrap_or_default())) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            let moved = Command::new("mv").arg("--").arg(entry).arg(dir).stdin(Stdio::null()).output();
            let moved = moved.map_err(|error| format!("mv can't be run: {error}"))?;
            if moved.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&moved.stderr).trim().to_owned()) }
        }
        moved => moved.map_err(|error| error.to_string()),
    }
}

/// Everything below a directory that is no directory, relative to it.
fn files(dir: &Path) -> Vec<PathBuf> {
    let (mut found, mut dirs) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(below) = dirs.pop() {
        let Ok(entries) = std::fs::read_dir(dir.join(&below)) else { continue };
        for entry in entries.flatten() {
            let path = below.join(entry.file_name());
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => dirs.push(path),
                Ok(_) | Err(_) if found.len() < LOOKED_AT => found.push(path),
                Ok(_) | Err(_) => return found,
            }
        }
    }
    found.sort();
    found
}

/// What was put aside and is still there, in one line with what to do; nothing once somebody has removed it.
#[must_use]
pub fn told(found: &Path, mountpoint: &Path) -> Option<String> {
    let all = files(found);
    let is_task = |path: &&PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        let in_inbox = path.parent().and_then(Path::file_name).is_some_and(|dir| dir == "inbox");
        in_inbox && name.and_then(TaskId::from_file_name).is_some()
    };
    let (tasks, others): (Vec<&PathBuf>, Vec<&PathBuf>) = all.iter().partition(is_task);
    let first = all.first()?;
    let shown = |path: &Path| clean(&path.display().to_string());
    let list = |paths: &[&PathBuf], line: &dyn Fn(&Path) -> String| {
        let mut lines: Vec<String> = paths.iter().take(NAMED).map(|path| line(path)).collect();
        if paths.len() > NAMED {
            lines.push(format!("and {} more", paths.len() - NAMED));
        }
        lines.join("; ")
    };
    let mut text = format!(
        "while no daemon served {}, something was written there; it is in {} now (remove that directory when done)",
        mountpoint.display(),
        shown(&found.join(first.components().next()?)),
    );
    if !others.is_empty() {
        text.push_str(&format!(": {}", list(&others, &|path| shown(path))));
    }
    if !tasks.is_empty() {
        let submit = |path: &Path| {
            let into = path.components().skip(1).collect::<PathBuf>();
            format!("`mv {} {}`", shown(&found.join(path)), shown(&mountpoint.join(into)))
        };
        text.push_str(&format!("; to submit its tasks: {}", list(&tasks, &submit)));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(dir: &Path, names: &[&str]) {
        for name in names {
            let path = dir.join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            std::fs::write(path, "x").expect("written");
        }
    }

    #[test]
    fn what_was_written_to_the_mount_s_paths_is_put_aside_and_told() {
        let dir = tempfile::tempdir().expect("a directory");
        let (point, found) = (dir.path().join("mnt"), dir.path().join("state/found"));
        make(&point, &["control", "inbox/a.md", "projects/web/inbox/b.md", "projects/web/doing/x"]);
        put_aside(&point, &found).expect("put aside");
        assert!(std::fs::read_dir(&point).expect("there").next().is_none());
        let text = told(&found, &point).expect("told");
        for words in ["control", "doing/x", "/inbox/a.md ", "to submit its tasks: `mv ", "mnt/projects/web/inbox/b.md`"]
        {
            assert!(text.contains(words), "{words}: {text}");
        }
        // Again, in the same second.
        make(&point, &["status/y"]);
        put_aside(&point, &found).expect("put aside");
        assert_eq!(std::fs::read_dir(&found).expect("there").count(), 2);
        std::fs::remove_dir_all(&found).expect("removed");
        assert_eq!(told(&found, &point), None);
        // Directories alone are no loss.
        std::fs::create_dir_all(point.join("projects/web/doing")).expect("made");
        put_aside(&point, &found).expect("emptied");
        assert!(!found.exists() && std::fs::read_dir(&point).expect("there").next().is_none());
    }

    #[test]
    fn a_directory_that_was_never_a_mountpoint_is_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let (point, found) = (dir.path().join("src"), dir.path().join("found"));
        make(&point, &["inbox/a.md", "main.rs"]);
        assert!(put_aside(&point, &found).expect_err("refused").contains("main.rs"));
        assert!(point.join("main.rs").exists() && !found.exists());
        std::fs::set_permissions(&point, std::fs::Permissions::from_mode(CLOSED)).expect("set");
        put_aside(&point, &found).expect("a mountpoint of ours by its mode");
        assert!(!point.join("main.rs").exists());
    }
}
