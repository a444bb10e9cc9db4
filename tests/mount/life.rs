//! Mounting, unmounting, and what a killed daemon leaves behind.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::{Duration, Instant},
};

use claude_failover::fs::MountError;

use crate::world::{self, World};

fn mounts_at(path: &Path) -> usize {
    let table = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    table.lines().filter(|line| line.split(' ').nth(4) == path.to_str()).count()
}

fn mount(options: &claude_failover::fs::Options, dir: &Path) -> Result<(), MountError> {
    let daemon = std::sync::Arc::new(world::FakeDaemon::new(dir));
    claude_failover::fs::Mounted::mount(options, daemon).and_then(claude_failover::fs::Mounted::unmount)
}

#[test]
fn mounted_with_care_and_gone_afterwards() {
    let world = World::new();
    let options = world.ok("grep ' mnt\\| fuse.claude-failover ' /proc/self/mountinfo | grep \"$HOME\"");
    for word in ["nosuid", "nodev", "noexec", "default_permissions", " claude-failover "] {
        assert!(options.contains(word), "{word} is missing in {options}");
    }
    let path = world.mnt();
    let keep = std::fs::File::open(path.join("inbox/fix.md")).expect("an open file");
    let begin = Instant::now();
    let dir = world.dir.path().to_owned();
    // A program stands in the mount and holds a file while the daemon ends.
    let mut shell =
        std::process::Command::new("sleep").arg("30").current_dir(path.join("inbox")).spawn().expect("sleep");
    let mut world = world;
    drop(world.server.stdin.take());
    let status = world.server.wait().expect("the server");
    assert!(status.success(), "{status}");
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    assert_eq!(mounts_at(&path), 0);
    assert_eq!(std::fs::metadata(dir.join("mnt")).expect("the mountpoint").permissions().mode() & 0o777, 0o500);
    drop(keep);
    shell.kill().expect("killed");
    shell.wait().expect("waited");
}

#[test]
fn a_killed_daemon_leaves_the_queue_and_the_next_one_mounts_again() {
    let mut world = World::new();
    for round in 0..5 {
        world.ok(&format!("echo {round} > inbox/k{round}.md"));
        world.server.kill().expect("killed");
        world.server.wait().expect("waited");
        assert_eq!(mounts_at(&world.mnt()), 1, "the dead mount is still there");
        assert!(std::fs::read_dir(world.mnt()).is_err());
        // The real directory works all the while.
        std::fs::write(world.real("inbox/dead.md"), format!("{round}")).expect("a write");
        assert_eq!(
            std::fs::read_to_string(world.real(&format!("inbox/k{round}.md"))).expect("a read"),
            format!("{round}\n")
        );
        let begin = Instant::now();
        world.server = World::start(world.dir.path(), &[]);
        assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
        assert_eq!(mounts_at(&world.mnt()), 1);
        world.ok(&format!("[ \"$(cat inbox/dead.md)\" = {round} ] && cat status > /dev/null"));
    }
}

#[test]
fn what_was_being_written_when_the_daemon_was_killed_has_no_writer_once_it_is_closed() {
    let mut world = World::new();
    let file = std::fs::OpenOptions::new().append(true).open(world.mnt().join("inbox/fix.md")).expect("open");
    // Somebody stays in the mount, so the kernel keeps it.
    let inside = std::fs::File::open(world.mnt()).expect("the mount");
    world.server.kill().expect("killed");
    world.server.wait().expect("waited");
    drop(file);
    let real = std::fs::File::open(world.real("inbox/fix.md")).expect("the real file");
    // SAFETY: takes numbers only.
    let lease = || unsafe { libc::fcntl(std::os::fd::AsRawFd::as_raw_fd(&real), libc::F_SETLEASE, libc::F_RDLCK) };
    let until = Instant::now() + Duration::from_secs(10);
    while lease() != 0 {
        assert!(Instant::now() < until, "the dead mount still counts as a writer");
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(inside);
}

#[test]
fn a_living_or_hung_daemon_is_not_disturbed() {
    let world = World::new();
    let options = world::options(world.dir.path());
    assert!(matches!(mount(&options, world.dir.path()), Err(MountError::Alive { .. })));
    let server = nix::unistd::Pid::from_raw(i32::try_from(world.server.id()).expect("a pid"));
    nix::sys::signal::kill(server, nix::sys::signal::Signal::SIGSTOP).expect("stopped");
    let hung = mount(&options, world.dir.path());
    nix::sys::signal::kill(server, nix::sys::signal::Signal::SIGCONT).expect("continued");
    assert!(matches!(hung, Err(MountError::Hung { .. })), "{hung:?}");
    world.ok("cat status > /dev/null");
}

#[test]
fn places_that_can_not_be_a_mountpoint_are_refused_with_the_reason() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = |mountpoint: &str| claude_failover::fs::Options {
        mountpoint: dir.path().join(mountpoint),
        ..world::options(dir.path())
    };
    let refused = |mountpoint: &str, words: &str| {
        let error = mount(&options(mountpoint), dir.path()).expect_err("refused").to_string();
        assert!(error.contains(words) && error.contains(mountpoint), "{error}");
        assert_eq!(mounts_at(&dir.path().join(mountpoint)), 0);
    };
    std::fs::create_dir(dir.path().join("full")).expect("a directory");
    std::fs::write(dir.path().join("full/x"), "x").expect("a file");
    refused("full", "it holds x");
    std::fs::write(dir.path().join("file"), "x").expect("a file");
    refused("file", "not a directory");
    std::os::unix::fs::symlink(dir.path().join("full"), dir.path().join("link")).expect("a link");
    refused("link", "not a directory");
    refused("web/.agent-queue/mnt", "lies in the queue");
    std::fs::create_dir(dir.path().join("open")).expect("a directory");
    std::fs::set_permissions(dir.path().join("open"), std::fs::Permissions::from_mode(0o777)).expect("a mode");
    refused("open/mnt", "others can write");
    std::fs::create_dir(dir.path().join("strange")).expect("a directory");
    let strange = dir.path().join("strange");
    nix::mount::mount(Some("none"), &strange, Some("tmpfs"), nix::mount::MsFlags::empty(), None::<&str>)
        .expect("a tmpfs");
    let error = mount(&options("strange"), dir.path()).expect_err("refused").to_string();
    nix::mount::umount(&strange).expect("unmounted");
    assert!(error.contains("tmpfs is mounted there"), "{error}");
    std::fs::create_dir(dir.path().join("theirs")).expect("a directory");
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(dir.path().join("theirs"), Some(65534), None).expect("given away");
        refused("theirs", "belongs to somebody else");
    }
    let below = dir.path().join("around/web/.agent-queue");
    let queues = vec![(crate::picture::project("web"), below)];
    let error = mount(&claude_failover::fs::Options { queues, ..options("around") }, dir.path()).expect_err("refused");
    assert!(error.to_string().contains("would lie below it"), "{error}");
    // One that is missing is made, with what leads to it, for its owner only.
    mount(&options("not/there/yet"), dir.path()).expect("mounted");
    for (made, mode) in [("not", 0o700), ("not/there", 0o700), ("not/there/yet", 0o500)] {
        assert_eq!(std::fs::metadata(dir.path().join(made)).expect(made).permissions().mode() & 0o777, mode);
    }
    let log_below =
        claude_failover::fs::Options { events_log: dir.path().join("a/state/events.jsonl"), ..options("a") };
    std::fs::create_dir_all(dir.path().join("a/state")).expect("directories");
    assert!(mount(&log_below, dir.path()).is_err());
}

#[test]
fn the_owner_gets_in_with_every_group_and_nobody_else_does() {
    assert!(nix::unistd::geteuid().is_root(), "this test becomes another user and needs root");
    let world = World::new();
    std::fs::set_permissions(world.dir.path(), std::fs::Permissions::from_mode(0o755)).expect("a way in");
    let mnt = world.mnt().display().to_string();
    assert_eq!(world.ok("stat -c %a ."), "500\n");
    // Programs of the same user with another group: `sg`, set-group-ID mail tools.
    let script = format!(
        "cd {mnt} && cat status > /dev/null && echo x > projects/web/sg.lock && [ \"$(stat -c %g projects/web/sg.lock)\" = 8 ]
         ln projects/web/sg.lock projects/web/b.lock && rm projects/web/?*.lock && echo rescan > control && ls -lR . > /dev/null"
    );
    world.ok(&format!("setpriv --regid 8 --clear-groups bash -ec '{script}'"));
    // Another user, also by what the kernel knows by now, and past the root directory by a bind mount.
    world.ok("cat status inbox/fix.md projects/web/inbox/fix.md; ls -lR . > /dev/null; mkdir -p \"$HOME/bound\"");
    let nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all";
    let bound = world.dir.path().join("bound").display().to_string();
    let looks = format!(
        "mount --bind {mnt}/projects/web {bound}; ls -lR {bound} > /dev/null; cat {bound}/inbox/fix.md > /dev/null
         for try in 'ls {mnt}' 'cat {mnt}/status' 'cat {mnt}/projects/web/inbox/fix.md' 'cd {mnt}/inbox' 'echo pause > {mnt}/control' \
             'ls {bound}/inbox' 'cat {bound}/inbox/fix.md' 'cat {bound}/status' 'echo x > {bound}/inbox/n.md' 'rm -f {bound}/inbox/fix.md' \
             'mkdir {bound}/d' 'mv {bound}/inbox/fix.md {bound}/drafts/' 'cat {bound}/tasks/fix/state' 'df {mnt}'; do
           if {nobody} bash -c \"$try\" 2> /dev/null; then echo \"got in: $try\"; fi
         done"
    );
    let out = std::process::Command::new("unshare").args(["-m", "bash", "-c", &looks]).output().expect("unshare");
    assert!(out.status.success() && out.stdout.is_empty(), "{}", String::from_utf8_lossy(&out.stdout));
    assert!(!world.calls().contains("nobody"), "{}", world.calls());
    world.ok("cat inbox/fix.md");
}

#[test]
fn without_being_root_the_helper_mounts() {
    assert!(nix::unistd::geteuid().is_root(), "this test becomes another user and needs root");
    let dir = tempfile::tempdir().expect("a directory");
    let user = nix::unistd::Uid::from_raw(65534);
    nix::unistd::chown(dir.path(), Some(user), Some(nix::unistd::Gid::from_raw(65534))).expect("given away");
    // The program must lie where that user can reach it.
    let program = dir.path().join("server");
    std::fs::copy(std::env::current_exe().expect("this program"), &program).expect("a copy");
    // In a namespace of its own, with a device that everybody may open, as on most systems.
    let script = r#"
        mknod -m 666 "$D/fuse" c 10 229 && mount --bind "$D/fuse" /dev/fuse || exit 9
        as="setpriv --reuid 65534 --regid 65534 --clear-groups"
        mkfifo "$D/alive"
        MOUNT_SERVE=$D $as "$D/server" --exact serve_a_mount --ignored --nocapture < "$D/alive" > /dev/null &
        exec 3> "$D/alive"
        for i in $(seq 1000); do [ -e "$D/ready" ] && break; sleep 0.01; done
        $as bash -ec 'cd "$D/mnt"; grep -q compte1 status; echo x > inbox/x.md; cmp inbox/x.md ../web/.agent-queue/inbox/x.md
            echo rescan > control; [ "$(stat -c %u inbox/x.md)" = 65534 ]; ! echo x > status' || exit 8
        ! ls "$D/mnt" || exit 7
        exec 3>&-
        wait $! || exit 6
        ! grep -q " $D/mnt " /proc/self/mountinfo
    "#;
    let output = std::process::Command::new("unshare")
        .args(["-m", "bash", "-c", script])
        .env("D", dir.path())
        .stdin(std::process::Stdio::null())
        .output()
        .expect("unshare");
    assert!(output.status.success(), "{}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
}

/// The number of a mount that has ended is given to the next one.
#[test]
fn a_daemon_that_ends_takes_nobody_else_s_mount_along() {
    let rounds = 12;
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(move || {
                for round in 0..rounds {
                    let world = World::new();
                    // Others end meanwhile.
                    for _ in 0..20 {
                        let draft = world.mnt().join("drafts/a.md");
                        std::fs::write(&draft, "text\n").unwrap_or_else(|error| panic!("round {round}: {error}"));
                        std::fs::remove_file(&draft).unwrap_or_else(|error| panic!("round {round}: {error}"));
                    }
                }
            });
        }
    });
}
