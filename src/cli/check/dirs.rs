//! Checks directories: projects, queues, state, mountpoint.

use std::{
    io::ErrorKind,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    unistd::{AccessFlags, access, geteuid},
};

use crate::{
    cli::{
        check::{report::Report, scene::Scene},
        mount::{ANSWERS_WITHIN, Mount},
    },
    config::queue::{IGNORE, IGNORE_ALL, QUEUE, covered, is_in_repository, queue_dir},
    linux::mountinfo,
    model::{
        ids::TaskId,
        task_file::{Reading, meant, read},
    },
};

/// Its contents.
const QUEUE_DIRS: [&str; 4] = ["inbox", "drafts", "done", "failed"];

enum Dir {
    Usable,
    Missing,
    Wrong(String),
}

fn look(path: &Path, flags: AccessFlags) -> Dir {
    match std::fs::metadata(path) {
        Ok(meta) if !meta.is_dir() => Dir::Wrong("isn't a directory".to_owned()),
        Ok(_) => match access(path, flags) {
            Ok(()) => Dir::Usable,
            Err(error) => Dir::Wrong(format!("can't be used by us: {}", error.desc())),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => match std::fs::symlink_metadata(path) {
            Ok(_) => Dir::Wrong("is a symbolic link to nothing".to_owned()),
            Err(_) => Dir::Missing,
        },
        Err(error) => Dir::Wrong(format!("can't be looked at: {error}")),
    }
}

fn writable() -> AccessFlags {
    AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK
}

/// The nearest directory above that exists must let us make the rest.
fn can_be_made(path: &Path) -> Result<(), String> {
    let Some(above) = path.ancestors().skip(1).find(|dir| dir.symlink_metadata().is_ok()) else { return Ok(()) };
    match look(above, AccessFlags::W_OK | AccessFlags::X_OK) {
        Dir::Usable | Dir::Missing => Ok(()),
        Dir::Wrong(why) => Err(format!("{} {why}", above.display())),
    }
}

fn make(path: &Path, mode: u32) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(mode).create(path)
}

pub fn projects(scene: &Scene<'_>, report: &mut Report) {
    let point = mountinfo::resolved(&scene.point);
    for (n, project) in scene.config.projects.iter().enumerate() {
        let key = format!("projects[{n}].path");
        let shown = project.path.display();
        match look(&project.path, AccessFlags::R_OK | AccessFlags::X_OK) {
            Dir::Usable => {}
            Dir::Missing => {
                report.problem(key, format!("{shown} doesn't exist"), format!("mkdir -p {shown}, or mend the path"));
                continue;
            }
            Dir::Wrong(why) => {
                report.problem(
                    key,
                    format!("{shown} {why}"),
                    "the project is a directory that the daemon's user can use",
                );
                continue;
            }
        }
        let real = match queue_dir(&project.path, |at| at == point) {
            Ok(real) => real,
            Err(error) => {
                report.problem(key, error.to_string(), "let it lead to a directory, or remove it");
                continue;
            }
        };
        let mut missing = Vec::new();
        let before = report.problems();
        for dir in QUEUE_DIRS {
            let path = real.join(dir);
            match look(&path, writable()) {
                Dir::Usable => {}
                Dir::Missing => missing.push(path),
                Dir::Wrong(why) => {
                    report.problem(
                        &key,
                        format!("{} {why}", path.display()),
                        "the daemon's user must own it and have all rights",
                    );
                }
            }
        }
        queue(&key, &missing, project.name.as_str(), scene, report);
        keep_out(&key, &real, project.name.as_str(), scene, report);
        if let Some(text) = covered(&real).filter(|_| scene.config.mount.enabled) {
            report.problem(&key, text, "mv them to another name");
        }
        unknown_keys(&real.join("inbox"), project.name.as_str(), report);
        if missing.is_empty() && report.problems() == before {
            report.ok(format!("project {}: {}", project.name, real.display()));
        }
    }
}

/// Keeps the queue out of the repository around it.
fn keep_out(key: &str, queue: &Path, project: &str, scene: &Scene<'_>, report: &mut Report) {
    let ignore = queue.join(IGNORE);
    if scene.fix && queue.is_dir() && !ignore.exists() {
        match std::fs::write(&ignore, IGNORE_ALL) {
            Ok(()) => report.ok(format!("made {}", ignore.display())),
            Err(error) => report.problem(key, format!("can't make {}: {error}", ignore.display()), "make it by hand"),
        }
    }
    if queue.is_dir() && is_in_repository(queue, queue) {
        report.problem(
            key,
            format!("the queue of project {project} is part of a git repository, which moves its tasks on stash, checkout and clean"),
            format!("check --fix, or: echo '*' > {}", ignore.display()),
        );
    }
}

/// Keys of waiting tasks that were most likely meant to be others.
fn unknown_keys(inbox: &Path, project: &str, report: &mut Report) {
    for entry in std::fs::read_dir(inbox).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| TaskId::from_file_name(name).is_some()) else { continue };
        if !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        let Ok(Reading::Ready { spec, .. }) = std::fs::read(entry.path()).map(|text| read(&text)) else { continue };
        for (key, near) in spec.unknown.iter().filter_map(|key| Some((key, meant(key)?))) {
            report.note(format!("project {project}: {name}: unknown key `{key}`; did you mean `{near}`?"));
        }
    }
}

fn queue(key: &str, missing: &[PathBuf], project: &str, scene: &Scene<'_>, report: &mut Report) {
    let Some(first) = missing.first() else { return };
    if let Err(why) = can_be_made(first) {
        report.problem(key, format!("{} is missing and can't be made: {why}", first.display()), "chown or chmod it");
    } else if !scene.fix {
        report.note(format!("project {project}: its queue isn't whole; `run` and `check --fix` make what is missing"));
    } else {
        for path in missing {
            match make(path, 0o755) {
                Ok(()) => report.ok(format!("made {}", path.display())),
                Err(error) => report.problem(key, format!("can't make {}: {error}", path.display()), "make it by hand"),
            }
        }
    }
}

pub fn state(dir: &Path, scene: &Scene<'_>, report: &mut Report) {
    let shown = dir.display();
    match look(dir, writable()) {
        Dir::Usable => match std::fs::symlink_metadata(dir) {
            Ok(meta) if meta.is_symlink() => report.problem(
                "",
                format!("the state directory {shown} is a symbolic link"),
                "name the directory that it leads to, in $STATE_DIRECTORY or $XDG_STATE_HOME",
            ),
            Ok(meta) if meta.uid() != geteuid().as_raw() => report.problem(
                "",
                format!("the state directory {shown} belongs to user {}", meta.uid()),
                "chown it, or set $XDG_STATE_HOME or $STATE_DIRECTORY to a directory of your own",
            ),
            Ok(meta) if meta.mode() & 0o077 != 0 => report.problem(
                "",
                format!("others can look into the state directory {shown} (mode {:04o})", meta.mode() & 0o7777),
                format!("chmod 700 {shown}"),
            ),
            Ok(_) => report.ok(format!("state directory: {shown}")),
            Err(error) => report.problem("", format!("the state directory {shown}: {error}"), "see what is there"),
        },
        Dir::Missing => match can_be_made(dir) {
            Err(why) => report.problem(
                "",
                format!("the state directory {shown} can't be made: {why}"),
                "make it by hand, mode 0700",
            ),
            Ok(()) if scene.fix => match make(dir, 0o700) {
                Ok(()) => report.ok(format!("made {shown}")),
                Err(error) => report.problem("", format!("can't make {shown}: {error}"), "make it by hand, mode 0700"),
            },
            Ok(()) => report.note(format!("state directory: {shown} will be made")),
        },
        Dir::Wrong(why) => {
            report.problem("", format!("the state directory {shown} {why}"), "it must be ours, mode 0700");
        }
    }
}

pub fn mountpoint(scene: &Scene<'_>, report: &mut Report) {
    let point = scene.point.as_path();
    let key = "mount.path";
    let shown = point.display();
    let resolved = mountinfo::resolved(point);
    nested(&resolved, scene, report);
    let mounted = mountinfo::read().unwrap_or_default();
    if let Some(there) = mountinfo::at(&mounted, &resolved) {
        let mount = Mount::new(point.to_owned(), scene.env);
        // The kernel remembers the root's facts for a moment, also those of a daemon that was just killed; statfs(2) asks it,
        // but tells other users nothing, where stat(2) refuses them.
        let look = |dir: &Path| {
            std::fs::metadata(dir).map_err(|error| error.raw_os_error().map(Errno::from_raw))?;
            nix::sys::statvfs::statvfs(dir).map_err(Some)
        };
        let answers = match mount.look(ANSWERS_WITHIN, look) {
            Ok(answers) => answers,
            Err(stopped) if there.is_ours() => {
                let told = stopped.to_string();
                let (what, remedy) = told.split_once("\n  ").unwrap_or((&told, "see what it waits for"));
                report.problem(key, what.to_owned(), remedy);
                return;
            }
            Err(_) => Err(None),
        };
        match (there.is_ours(), answers) {
            (true, Ok(_)) => report.ok(format!("mount: {shown}, served at the moment")),
            (true, Err(Some(Errno::EACCES))) => report.problem(
                key,
                format!("another user's daemon serves {shown}"),
                "give this one another `mount.path`",
            ),
            (true, Err(_)) => report.problem(
                key,
                format!("{shown} is the mount of a daemon that is gone"),
                "claude-failover unmount (the next start does it too)",
            ),
            (false, _) => report.problem(
                key,
                format!("a {} file system of {:?} is mounted at {shown}", there.fstype, there.source),
                "give another `mount.path`",
            ),
        }
        return;
    }
    match look(point, writable()) {
        Dir::Usable => match std::fs::read_dir(point).map(|mut entries| entries.next().is_none()) {
            Ok(true) => report.ok(format!("mountpoint: {shown}")),
            Ok(false) => report.note(format!(
                "mountpoint: {shown} isn't empty; the start puts what was written to the mount's paths into found/ of the state \
                 directory, and refuses to begin when anything else lies there"
            )),
            Err(error) => report.problem(key, format!("can't list {shown}: {error}"), "give another `mount.path`"),
        },
        Dir::Missing => match can_be_made(point) {
            Err(why) => report.problem(
                key,
                format!("the mountpoint {shown} can't be made: {why}"),
                "set $XDG_RUNTIME_DIR (a login session has it), or give another `mount.path`",
            ),
            Ok(()) if scene.fix => match make(point, 0o700) {
                Ok(()) => report.ok(format!("made {shown}")),
                Err(error) => report.problem(key, format!("can't make {shown}: {error}"), "give another `mount.path`"),
            },
            Ok(()) => report.note(format!("mountpoint: {shown} will be made")),
        },
        Dir::Wrong(why) => report.problem(key, format!("the mountpoint {shown} {why}"), "give another `mount.path`"),
    }
}

/// A queue under the mount would be hidden by it; a mount in a queue would serve itself.
fn nested(point: &Path, scene: &Scene<'_>, report: &mut Report) {
    for project in &scene.config.projects {
        let queue = mountinfo::resolved(&project.path).join(QUEUE);
        let why = if point.starts_with(&queue) {
            "lies in the queue of"
        } else if queue.starts_with(point) {
            "would hide the queue of"
        } else {
            continue;
        };
        report.problem(
            "mount.path",
            format!("the mountpoint {} {why} the project {}", point.display(), project.name),
            "give another `mount.path`",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::queue::QueueDir;

    #[test]
    fn the_queue_has_the_daemon_s_directories() {
        assert_eq!(QUEUE_DIRS, QueueDir::ALL.map(QueueDir::name));
    }
}
