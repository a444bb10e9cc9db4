//! The operations without a mount: cases that are hard to provoke through the kernel.

use std::{ffi::OsStr, path::Path, sync::Arc};

use claude_failover::fs::{Caller, FsError, Kind, Ops, Queue, ROOT, SetAttr};

use crate::{picture, world::FakeDaemon};

const ME: Caller = Caller { uid: 0, gid: 0, pid: 1 };

fn ops(dir: &Path) -> Ops {
    let queues = ["web", "api"]
        .map(|name| Queue::open(picture::project(name), &dir.join(name).join(".agent-queue")).expect("a queue"));
    Ops::new(Arc::new(FakeDaemon::new(dir)), queues.into(), dir.join("events.jsonl"), true, None)
}

fn walk(ops: &Ops, path: &str) -> Result<u64, FsError> {
    path.split('/').try_fold(ROOT, |at, name| ops.lookup(at, OsStr::new(name)).map(|attr| attr.number))
}

fn errno<T>(result: Result<T, FsError>) -> i32 {
    result.err().map_or(0, |error| error.errno())
}

#[test]
fn a_file_has_one_number_and_a_directory_one_for_each_place() {
    let dir = tempfile::tempdir().expect("a directory");
    let ops = ops(dir.path());
    std::fs::write(dir.path().join("web/.agent-queue/inbox/a.md"), "a").expect("a file");
    assert_eq!(walk(&ops, "inbox/a.md").expect("here"), walk(&ops, "projects/web/inbox/a.md").expect("there"));
    assert_ne!(walk(&ops, "inbox").expect("here"), walk(&ops, "projects/web/inbox").expect("there"));
}

#[test]
fn a_replaced_file_gets_another_number_and_the_old_one_is_stale() {
    let dir = tempfile::tempdir().expect("a directory");
    let ops = ops(dir.path());
    let real = dir.path().join("web/.agent-queue/inbox/a.md");
    std::fs::write(&real, "a").expect("a file");
    let old = walk(&ops, "inbox/a.md").expect("the old one");
    let open = ops.open(old, libc::O_RDONLY, ME).expect("open");
    std::fs::remove_file(&real).expect("removed");
    std::fs::write(&real, "new").expect("a file");
    let new = walk(&ops, "inbox/a.md").expect("the new one");
    assert_ne!(old, new);
    assert_eq!(ops.read(open.handle, 0, 10).expect("the old text"), b"a");
    assert_eq!(ops.getattr(old, None).expect("through the open file").nlink, 0);
    ops.release(open.handle).expect("released");
    assert_eq!(errno(ops.getattr(old, None)), libc::ESTALE);
    ops.forget(old, 1);
    assert_eq!(ops.getattr(new, None).expect("the new one").size, 3);
}

#[test]
fn names_that_are_paths_are_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let ops = ops(dir.path());
    let inbox = walk(&ops, "inbox").expect("the inbox");
    for name in ["..", ".", "", "a/b", "../x", "a\0b"] {
        let name = OsStr::new(name);
        assert_ne!(errno(ops.lookup(inbox, name)), 0, "{name:?}");
        assert_ne!(errno(ops.create(inbox, name, 0o644, libc::O_WRONLY, ME)), 0, "{name:?}");
        assert_ne!(errno(ops.mkdir(inbox, name, 0o755, ME)), 0, "{name:?}");
        assert_ne!(errno(ops.unlink(inbox, name, ME)), 0, "{name:?}");
        assert_ne!(errno(ops.rename((inbox, name), (inbox, OsStr::new("x")), 0, ME)), 0, "{name:?}");
    }
}

#[test]
fn a_handle_never_shows_two_pictures() {
    let dir = tempfile::tempdir().expect("a directory");
    let ops = ops(dir.path());
    let number = walk(&ops, "control").expect("control");
    let reader = ops.open(number, libc::O_RDONLY, ME).expect("open");
    let before = ops.read(reader.handle, 0, 10_000).expect("a read");
    let writer = ops.open(number, libc::O_WRONLY | libc::O_APPEND, ME).expect("open");
    assert_eq!(ops.write(writer.handle, 77, b"rescan\n", false, ME).expect("a verb"), 7);
    assert_eq!(ops.read(reader.handle, 0, 10_000).expect("a read"), before);
    let later = ops.open(number, libc::O_RDONLY, ME).expect("open");
    let after = ops.read(later.handle, 0, 10_000).expect("a read");
    assert!(after.len() > before.len());
    assert_eq!(ops.getattr(number, None).expect("facts").size, after.len() as u64);
    assert_eq!(ops.read(reader.handle, 1 << 40, 10).expect("past the end"), b"");
    ops.setattr(number, SetAttr { size: Some(0), ..SetAttr::default() }, None, ME).expect("truncation means nothing");
}

#[test]
fn a_lost_write_is_told_and_stays_lost() {
    // A full file system: writes to it fail, and what could not be kept must reach the caller.
    let dir = tempfile::tempdir().expect("a directory");
    let small = dir.path().join("web");
    std::fs::create_dir(&small).expect("a directory");
    let size = Some("size=64k");
    nix::mount::mount(Some("none"), &small, Some("tmpfs"), nix::mount::MsFlags::empty(), size).expect("a tmpfs");
    let result = std::panic::catch_unwind(|| {
        let ops = ops(dir.path());
        let inbox = walk(&ops, "inbox").expect("the inbox");
        let (_, open) = ops.create(inbox, OsStr::new("big.md"), 0o644, libc::O_WRONLY, ME).expect("created");
        let mut errors = Vec::new();
        for chunk in 0..32 {
            match ops.write(open.handle, chunk * 4096, &[b'x'; 4096], false, ME) {
                Ok(_) => {}
                Err(error) => errors.push(error.errno()),
            }
        }
        assert!(errors.iter().all(|errno| *errno == libc::ENOSPC) && !errors.is_empty(), "{errors:?}");
        ops.release(open.handle).expect("released");
    });
    let _ = nix::mount::umount2(&small, nix::mount::MntFlags::MNT_DETACH);
    result.expect("the test's body");
}

#[test]
fn queue_directories_are_listed_as_what_they_hold() {
    let dir = tempfile::tempdir().expect("a directory");
    let ops = ops(dir.path());
    let real = dir.path().join("web/.agent-queue");
    std::fs::create_dir(real.join("doing")).expect("a directory");
    std::os::unix::fs::symlink("x", real.join("link")).expect("a link");
    std::fs::write(real.join("file"), "").expect("a file");
    let project = walk(&ops, "projects/web").expect("the project");
    let handle = ops.opendir(project).expect("open");
    let mut found = Vec::new();
    ops.readdir(handle, 0, |_, _, kind, name| {
        found.push((name.to_string_lossy().into_owned(), kind));
        false
    })
    .expect("listed");
    found.sort_by(|a, b| a.0.cmp(&b.0));
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [".", "..", "delegated", "doing", "done", "drafts", "failed", "file", "inbox", "link", "status", "tasks"]
    );
    let kind = |name: &str| found.iter().find(|(found, _)| found == name).map(|(_, kind)| *kind);
    assert_eq!((kind("link"), kind("file"), kind("tasks")), (Some(Kind::Symlink), Some(Kind::File), Some(Kind::Dir)));
    // From an offset on, the same snapshot goes on.
    let mut rest = 0;
    ops.readdir(handle, 4, |_, _, _, _| {
        rest += 1;
        false
    })
    .expect("listed");
    assert_eq!(rest, found.len() - 4);
    ops.releasedir(handle);
    assert_eq!(errno(ops.readdir(handle, 0, |_, _, _, _| false)), libc::EBADF);
}
