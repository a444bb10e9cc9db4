//! Test file systems: small ones, and ones whose power can be cut. They are mounted in a mount namespace of the
//! calling thread (and of what it starts), so nothing of them is visible or left outside.
#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    fs::{self, File},
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
};

/// Processes that were just killed may hold a file system for so long.
const PATIENCE: Duration = Duration::from_secs(30);

/// `EXT4_GOING_FLAGS_NOLOGFLUSH` (linux/fs/ext4/ext4.h): not even the journal reaches the disk.
const NO_LOG_FLUSH: u32 = 2;

nix::ioctl_read!(
    /// `EXT4_IOC_SHUTDOWN` (include/uapi/linux/ext4.h): from now on the file system answers EIO to everything.
    shutdown, b'X', 125, u32
);

/// Gives the calling thread a mount namespace of its own. `false`, with a printed line, where that can't be; as root and
/// with `CI=true` that is a failure.
#[track_caller]
pub fn own_namespace() -> bool {
    // SAFETY: gives this thread a copy of its mounts; touches no memory.
    let own = unsafe { libc::unshare(libc::CLONE_NEWNS) } == 0
        && mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).is_ok();
    missing_unless(own, "a mount namespace, which needs root")
}

/// Whether loop devices are there, in the same manner.
#[track_caller]
pub fn has_loop_devices() -> bool {
    let found = Command::new("losetup").arg("--find").output();
    missing_unless(found.is_ok_and(|out| out.status.success()), "loop devices")
}

#[track_caller]
fn missing_unless(there: bool, what: &str) -> bool {
    let required = nix::unistd::geteuid().is_root() && std::env::var("CI").as_deref() == Ok("true");
    assert!(there || !required, "needed in CI: {what}");
    if !there {
        println!("skipped: this machine lacks {what}");
    }
    there
}

/// A file system in memory.
pub fn mount_tmpfs(at: &Path, options: &str) {
    fs::create_dir_all(at).expect("a mount point");
    mount(Some("test"), at, Some("tmpfs"), MsFlags::empty(), Some(options)).expect("a tmpfs");
}

/// A mounted file system gets other flags or options.
pub fn remount(at: &Path, flags: MsFlags, options: &str) {
    mount(None::<&str>, at, None::<&str>, flags | MsFlags::MS_REMOUNT, Some(options)).expect("remounted");
}

pub fn bind(from: &Path, to: &Path) {
    for dir in [from, to] {
        fs::create_dir_all(dir).expect("a directory");
    }
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("a bind mount");
}

/// Unmounts for good: afterwards the file system is gone, not only its name.
pub fn unmount(at: &Path) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match umount2(at, MntFlags::empty()) {
            Err(Errno::EBUSY) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
            other => return other.unwrap_or_else(|errno| panic!("unmount {}: {errno}", at.display())),
        }
    }
}

/// An ext4 on a loop device. It is written only by its journal and when asked to: what nobody synced is at risk.
pub struct Disk {
    image: PathBuf,
    pub at: PathBuf,
}

impl Disk {
    /// Makes one. The image's own directory is not put to the test: it stands for the platter.
    pub fn make(image: &Path, at: &Path) -> Self {
        File::create(image).and_then(|file| file.set_len(48 << 20)).expect("an image");
        let made = Command::new("mkfs.ext4").args(["-q", "-F", "-E", "nodiscard"]).arg(image).output();
        let made = made.expect("mkfs.ext4");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        fs::create_dir_all(at).expect("a mount point");
        Self { image: image.to_owned(), at: at.to_owned() }
    }

    /// With the journal's own timer out of the way, so that a missing fsync shows.
    pub fn mount(&self) {
        let mut command = Command::new("mount");
        let out = command.args(["-t", "ext4", "-o", "loop,commit=600"]).arg(&self.image).arg(&self.at).output();
        let out = out.expect("mount");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }

    /// What is not on disk at this moment is lost.
    pub fn cut(&self) {
        let mut how = NO_LOG_FLUSH;
        let root = File::open(&self.at).expect("the file system");
        // SAFETY: the descriptor is open, and the call reads one u32 of ours.
        unsafe { shutdown(root.as_raw_fd(), &raw mut how) }.expect("the power is cut");
    }
}
