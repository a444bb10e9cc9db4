//! Resource exhaustion and broken resources: space, inodes, quota, descriptors, memory, a read-only disk. Reported to
//! the writer and in `health`, survived, and recovered when the condition ends. (A full disk: `hazards`.)

use std::fs;

use nix::mount::MsFlags;

use crate::{
    disks::{mount_tmpfs, own_namespace, remount},
    tracer::{CAN_CHANGE_CALLS, Fault, Tracer},
    world::{Setup, World, is_root},
};

/// A daemon with the first project or its state on a small disk, and an agent at work on task `w`.
fn at_work(small: &str) -> World {
    let mut world = World::prepare(&Setup::agents(2));
    mount_tmpfs(&world.path(small), "size=4m,mode=700");
    world.mounts = vec![world.path(small)];
    world.run();
    begin(&world);
    world
}

fn begin(world: &World) {
    let dir = world.path("").display().to_string();
    world.submit("w", &format!("```sh\necho w >> {dir}/ran; until [ -e {dir}/go ]; do sleep 0.05; done\n```\n"));
    world.ok("echo 'another day' > $MNT/drafts/later.md");
    world.until("the work to begin", || world.path("ran").exists());
}

#[track_caller]
fn refuses(world: &World, script: &str, words: &str) {
    let out = world.sh(script);
    let told = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!out.status.success() && told.contains(words), "{script}: {told}");
}

/// The condition is there: `w` ends, which can't be put on disk.
#[track_caller]
fn is_told(world: &World, words: &str) {
    fs::write(world.path("go"), "").expect("written");
    world.until_told(
        || format!("health to say {words:?}, not {:?}", world.word("health")),
        || world.word("health").contains(words),
    );
    assert!(!world.queue("done/w.md").exists() || !world.inbox_is_empty(), "it was filed all the same");
    assert!(world.read("status").is_ok() && world.read("tasks/w/why").is_ok(), "the daemon answers");
}

/// The condition is over.
#[track_caller]
fn recovers(world: &World) {
    let ran = world.path("ran").display().to_string();
    world.submit("after", &format!("```sh\necho after >> {ran}\n```\n"));
    for name in ["w", "after"] {
        world.result(&format!("done/{name}.md"));
    }
    world.until_told(
        || format!("all to be right again: {}", world.word("health")),
        || world.word("health") == "ok" && world.inbox_is_empty(),
    );
    assert_eq!(world.ok("cat ran"), "w\nafter\n");
}

#[test]
fn no_inodes_under_the_queue() {
    if !own_namespace() {
        return;
    }
    let world = at_work("web");
    let used: u64 = world.ok("df --output=iused web | tail -1").trim().parse().expect("a number");
    let options = |inodes: u64| format!("size=4m,nr_inodes={inodes}");
    remount(&world.path("web"), MsFlags::empty(), &options(used));
    refuses(&world, "echo more > $MNT/inbox/more.md", "No space left on device");
    refuses(&world, "mkdir $MNT/inbox/lock", "No space left on device");
    is_told(&world, "No space left on device");
    remount(&world.path("web"), MsFlags::empty(), &options(used + 1000));
    recovers(&world);
}

#[test]
fn no_inodes_under_the_state() {
    if !own_namespace() {
        return;
    }
    let world = at_work("state");
    let used: u64 = world.ok("df --output=iused state | tail -1").trim().parse().expect("a number");
    let options = |inodes: u64| format!("size=4m,nr_inodes={inodes}");
    remount(&world.path("state"), MsFlags::empty(), &options(used));
    // What is saved needs no new file.
    world.ok("echo pause > $MNT/control");
    assert_eq!(world.state()["paused"], true);
    world.ok("echo resume > $MNT/control");
    fs::write(world.path("go"), "").expect("written");
    remount(&world.path("state"), MsFlags::empty(), &options(used + 1000));
    recovers(&world);
}

#[test]
fn a_queue_that_can_only_be_read() {
    if !own_namespace() {
        return;
    }
    let world = at_work("web");
    remount(&world.path("web"), MsFlags::MS_RDONLY, "");
    refuses(&world, "echo more > $MNT/inbox/more.md", "Read-only file system");
    refuses(&world, "mv $MNT/drafts/later.md $MNT/inbox/", "Read-only file system");
    refuses(&world, "rm $MNT/inbox/w.md", "Read-only file system");
    is_told(&world, "Read-only file system");
    remount(&world.path("web"), MsFlags::empty(), "");
    recovers(&world);
}

/// Every change of a file below these directories fails.
fn break_disk(world: &World, dirs: &[&str], errno: i32) -> Tracer {
    let dirs: Vec<_> = dirs.iter().map(|dir| world.path(dir)).collect();
    Tracer::attach(world.daemon_pid(), &dirs, Some((1, Fault::ErrorsFrom(errno))))
}

#[test]
fn a_queue_whose_quota_is_used_up() {
    if !is_root() {
        return;
    }
    if !CAN_CHANGE_CALLS {
        return;
    }
    let world = World::start(&Setup::agents(2));
    begin(&world);
    let over = break_disk(&world, &["web"], libc::EDQUOT);
    refuses(&world, "echo more > $MNT/inbox/more.md", "Disk quota exceeded");
    is_told(&world, "the result of task web:w can't be written: Disk quota exceeded");
    over.end();
    recovers(&world);
}

#[test]
fn a_state_directory_that_can_only_be_read() {
    if !is_root() {
        return;
    }
    if !CAN_CHANGE_CALLS {
        return;
    }
    let world = World::start(&Setup::agents(2));
    begin(&world);
    // A disk with the event log open for writing is made read-only by the kernel only, when it breaks.
    let over = break_disk(&world, &["state"], libc::EROFS);
    refuses(&world, "echo pause > $MNT/control", "Input/output error");
    assert!(world.word("control").contains("Read-only file system"), "{}", world.word("control"));
    is_told(&world, "the state can't be written: Read-only file system");
    // A submit needs no state.
    world.ok("echo 'say it' > $MNT/inbox/more.md");
    over.end();
    world.result("done/more.md");
    recovers(&world);
}

#[test]
fn disks_that_answer_nothing_but_errors() {
    if !is_root() {
        return;
    }
    if !CAN_CHANGE_CALLS {
        return;
    }
    let world = World::start(&Setup::agents(2));
    begin(&world);
    let over = break_disk(&world, &["web", "state"], libc::EIO);
    refuses(&world, "cp ran $MNT/inbox/more.md", "Input/output error");
    refuses(&world, "mv $MNT/drafts/later.md $MNT/inbox/", "Input/output error");
    refuses(&world, "echo pause > $MNT/control", "Input/output error");
    is_told(&world, "the state can't be written: Input/output error");
    over.end();
    recovers(&world);
}

/// Sets a limit of the running daemon, soft only; answers the one before.
fn limit(world: &World, resource: libc::__rlimit_resource_t, soft: Option<u64>) -> u64 {
    let pid = i32::try_from(world.daemon_pid()).expect("a pid");
    let mut old = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structures are ours, and nothing is read where the pointer is null.
    let asked = unsafe { libc::prlimit64(pid, resource, std::ptr::null(), &raw mut old) };
    assert_eq!(asked, 0, "{}", std::io::Error::last_os_error());
    if let Some(soft) = soft {
        let new = libc::rlimit64 { rlim_cur: soft, ..old };
        // SAFETY: as above.
        let set = unsafe { libc::prlimit64(pid, resource, &raw const new, std::ptr::null_mut()) };
        assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
    }
    old.rlim_cur
}

#[test]
fn a_file_that_may_not_grow() {
    let world = World::start(&Setup::agents(2));
    // The state fits, a long task's result doesn't.
    let pad = "pad the task, line after line\n".repeat(8000);
    let dir = world.path("").display().to_string();
    let text = format!("{pad}```sh\necho w >> {dir}/ran; until [ -e {dir}/go ]; do sleep 0.05; done\n```\n");
    world.submit("w", &text);
    world.until("the work to begin", || world.path("ran").exists());
    let before = limit(&world, libc::RLIMIT_FSIZE, Some(128 * 1024));
    is_told(&world, "File too large");
    limit(&world, libc::RLIMIT_FSIZE, Some(before));
    recovers(&world);
    assert!(world.result("done/w.md").starts_with(&pad));
}

#[test]
fn no_more_descriptors() {
    if !is_root() {
        return;
    }
    let world = World::start(&Setup::agents(2));
    begin(&world);
    let before = limit(&world, libc::RLIMIT_NOFILE, None);
    let fds = fs::read_dir(format!("/proc/{}/fd", world.daemon_pid())).expect("a process");
    let used = fds.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u64>().ok()).max().expect("some");
    // Holes below are filled by readers of the mount; what the daemon itself had open for a moment is a hole afterwards.
    limit(&world, libc::RLIMIT_NOFILE, Some(used + 1));
    let mut held = Vec::new();
    let mut refused = 0;
    world.until("all descriptors to be used, also a moment later", || {
        match fs::OpenOptions::new().create(true).append(true).open(world.mount("drafts/held")) {
            Ok(file) => {
                refused = 0;
                held.push(file);
                assert!(held.len() < 1000, "there were always more descriptors");
            }
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{error}");
                refused += 1;
            }
        }
        refused == 10
    });
    refuses(&world, "echo more > $MNT/inbox/more.md", "Too many open files");
    is_told(&world, "Too many open files");
    // With one, two, three descriptors a create succeeds or fails, never both.
    for n in 0..4 {
        held.pop();
        let out = world.sh(&format!(": > $MNT/drafts/made-{n}"));
        assert_eq!(out.status.success(), world.path(&format!("web/.agent-queue/drafts/made-{n}")).exists(), "{out:?}");
    }
    limit(&world, libc::RLIMIT_NOFILE, Some(before));
    drop(held);
    recovers(&world);
}

#[test]
fn little_memory() {
    let world = World::start(&Setup::agents(2));
    begin(&world);
    let status = fs::read_to_string(format!("/proc/{}/status", world.daemon_pid())).expect("a process");
    let used =
        status.lines().find_map(|line| line.strip_prefix("VmData:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    limit(&world, libc::RLIMIT_DATA, Some((used.expect("a number") + 128 * 1024) * 1024));
    much_is_read_and_written(&world);
}

/// Where a memory limit of its own can be given to a process: cgroup v1 or v2.
struct MemoryLimit(std::path::PathBuf);

impl MemoryLimit {
    fn of(pid: u32, bytes: u64) -> Option<Self> {
        let places = [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
        places.iter().find_map(|(base, file)| {
            let group = Self(std::path::Path::new(base).join(format!("claude-failover-test-{pid}")));
            let made = fs::create_dir(&group.0).is_ok()
                && fs::write(group.0.join(file), bytes.to_string()).is_ok()
                && fs::write(group.0.join("cgroup.procs"), pid.to_string()).is_ok();
            made.then_some(group)
        })
    }

    fn kills(&self) -> u64 {
        let told =
            ["memory.events", "memory.oom_control"].iter().find_map(|file| fs::read_to_string(self.0.join(file)).ok());
        let told = told.expect("what the group tells of");
        told.lines().find_map(|line| line.strip_prefix("oom_kill ")).expect("kills").parse().expect("a number")
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        // It can't be removed with a process in it.
        for pid in fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default().lines() {
            let _ = fs::write(self.0.with_file_name("cgroup.procs"), pid);
        }
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn a_memory_limit_of_its_service() {
    let world = World::start(&Setup { on_disk: true, ..Setup::agents(2) });
    begin(&world);
    let Some(limit) = MemoryLimit::of(world.daemon_pid(), 32 << 20) else {
        println!("skipped: no cgroup with a memory limit can be made here");
        return;
    };
    much_is_read_and_written(&world);
    let members = fs::read_to_string(limit.0.join("cgroup.procs")).expect("members");
    assert!(members.lines().any(|pid| pid == world.daemon_pid().to_string()), "{members}");
    assert_eq!(limit.kills(), 0, "it lived all the while");
}

/// Much more than the daemon may have.
fn much_is_read_and_written(world: &World) {
    world.ok("head -c 200000000 /dev/zero | tr '\\0' x > $MNT/drafts/big && cat $MNT/drafts/big | wc -c");
    world.ok("for n in $(seq 200); do cat $MNT/status.json $MNT/events & done > /dev/null; wait");
    world.ok("for n in $(seq 40); do head -c 1000000 /dev/zero | tr '\\0' y > $MNT/drafts/d$n.md; done; mv $MNT/drafts/d*.md $MNT/inbox/");
    fs::write(world.path("go"), "").expect("written");
    world.result("done/w.md");
    world.ok("rm -f $MNT/inbox/d*.md $MNT/drafts/big");
    world.until("the daemon to be at rest", || world.inbox_is_empty());
    assert!(world.read("status").is_ok(), "the daemon answers");
}
