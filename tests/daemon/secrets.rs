//! What agents running as the daemon's user can't read.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt as _, chown},
        process::CommandExt as _,
    },
    process::{Command, Stdio},
};

use crate::world::{Setup, World, program};

/// A user that is not root: the kernel shows root everything.
const SOMEBODY: u32 = 65534;

#[test]
fn agents_of_the_same_user_cannot_read_the_daemon_s_environment() {
    let root = nix::unistd::geteuid().is_root();
    let world = World::prepare(&Setup { more_mount: ", enabled: false".to_owned(), ..Setup::agents(0) });
    let mut daemon = Command::new(program());
    let mut reader = Command::new("sh");
    if root {
        for path in walk(world.path("")) {
            chown(path, Some(SOMEBODY), Some(SOMEBODY)).expect("chown");
        }
        daemon.uid(SOMEBODY).gid(SOMEBODY);
        reader.uid(SOMEBODY).gid(SOMEBODY);
    }
    daemon.args(["run", "--foreground", "--config"]).arg(world.path("config.yaml"));
    daemon.env("STATE_DIRECTORY", world.path("state")).env("HOME", world.path("home")).env("A_KEY", "canary");
    let mut daemon = daemon.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("started");
    let proc = format!("/proc/{}", daemon.id());
    world.until("the daemon to be up", || world.path("tmux.sock").exists());
    let owner = fs::metadata(format!("{proc}/environ")).expect("it lives").uid();
    let script = format!("cat {proc}/environ || cat {proc}/mem || ls {proc}/fd");
    let read = reader.args(["-c", &script]).output().expect("a shell");
    let told = String::from_utf8_lossy(&read.stdout).into_owned();
    daemon.kill().expect("killed");
    daemon.wait().expect("ended");
    assert_eq!(owner, 0, "{proc}/environ belongs to its user");
    assert!(!read.status.success() && !told.contains("canary"), "{told}");
}

fn walk(dir: std::path::PathBuf) -> Vec<std::path::PathBuf> {
    let mut all = vec![dir.clone()];
    for entry in fs::read_dir(&dir).expect("readable").flatten() {
        let path = entry.path();
        if path.is_dir() { all.extend(walk(path)) } else { all.push(path) }
    }
    all
}
