//! Nobody blocks anybody else: slow verbs, hung disks, readers that never finish.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{hung_disk::HungDisk, world::World};

/// More than the mount has threads.
const MANY: usize = 24;

/// Directories that the server keeps open for a while, and a few descriptors more.
const KEPT: usize = 20;

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn bash(world: &World, script: &str) -> Child {
    let mut command = Command::new("bash");
    command.args(["-c", script]).current_dir(world.mnt()).env("REAL", world.real(""));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("bash")
}

fn descriptors(world: &World) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", world.server.id())).expect("the server's descriptors").count()
}

/// Everything but the second project's queue goes on: what is being written there, the kernel itself keeps from readers.
fn all_is_well(world: &World) {
    world.ok("timeout 10 cat status health events control sessions/*/state sessions/*/pane tasks/*/why accounts/*/why > /dev/null");
    world.ok("timeout 10 ls -lR inbox drafts done failed tasks sessions accounts projects/web > /dev/null");
}

#[test]
fn verbs_that_take_their_time_hold_up_nobody_else() {
    let world = World::new();
    // The kernel lets one at a time write a file, so as many as there are.
    let files = world
        .ok("ls control accounts/active tasks/*/control projects/*/tasks/*/control sessions/*/control sessions/*/keys");
    let mut writers: Vec<Child> = files.lines().map(|file| bash(&world, &format!("echo '# wait' > {file}"))).collect();
    assert!(writers.len() > 15, "{files}");
    until("every writer to wait", || world.calls().matches("waiting").count() == writers.len());
    all_is_well(&world);
    world.ok("timeout 10 bash -c 'echo x > inbox/x.md && mv inbox/x.md drafts/ && rm drafts/x.md'");
    // One that is killed while it waits takes nobody with it.
    writers[0].kill().expect("killed");
    std::fs::write(world.dir.path().join("go"), "").expect("go");
    for mut writer in writers {
        writer.wait().expect("ended");
    }
    all_is_well(&world);
}

/// A disk of its own, over the second project. Dropped, it moves again and goes.
struct Disk(PathBuf);

impl Disk {
    /// `None` where that isn't allowed.
    fn over(project: &Path) -> Option<Self> {
        let image = project.with_extension("image");
        let (image, at) = (image.display(), project.display());
        let made = sh(&format!("truncate -s 16M {image} && mkfs.ext4 -q {image} && mount -o loop {image} {at}"));
        assert!(made || std::env::var("CI").as_deref() != Ok("true"), "loop devices are needed in CI");
        made.then(|| Self(project.to_owned()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        sh(&format!("umount -l {}", self.0.display()));
    }
}

/// Stands still until it is dropped.
struct Frozen(PathBuf);

impl Drop for Frozen {
    fn drop(&mut self) {
        assert!(sh(&format!("fsfreeze -u {}", self.0.display())), "thawed");
    }
}

fn sh(script: &str) -> bool {
    Command::new("sh").args(["-c", script]).status().is_ok_and(|status| status.success())
}

/// Threads of the server that wait for a disk.
fn stuck(world: &World) -> usize {
    let threads = std::fs::read_dir(format!("/proc/{}/task", world.server.id())).expect("threads");
    let stats = threads.filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("stat")).ok());
    stats.filter(|stat| stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" D"))).count()
}

#[test]
fn a_disk_that_stands_still_holds_up_its_own_writers_only() {
    let mut world = World::new();
    world.server.kill().expect("killed");
    world.server.wait().expect("ended");
    let project = world.dir.path().join("api");
    let disk = Disk::over(&project);
    world.server = World::start(world.dir.path(), &[]);
    if disk.is_none() {
        println!("skipped: no disk of its own can be made here");
        return;
    }
    // The kernel lets one at a time make something in a directory.
    world.ok(&format!("mkdir projects/api/d{{0..{}}}", MANY - 1));
    assert!(sh(&format!("fsfreeze -f {}", project.display())), "frozen");
    let frozen = Frozen(project);
    let writers: Vec<Child> = (0..MANY)
        .map(|n| {
            let write = ["echo one > W", "mkdir d-W && echo one > W", "echo one > t-W && mv t-W W"][n % 3];
            bash(&world, &format!("cd projects/api/d{n}; {}", write.replace('W', "w")))
        })
        .collect();
    until("the writers to stand still", || stuck(&world) >= MANY);
    all_is_well(&world);
    world.ok("timeout 10 bash -c 'echo x > inbox/x.md && mv inbox/x.md drafts/ && rm drafts/x.md'");
    drop(frozen);
    for mut writer in writers {
        assert!(writer.wait().expect("ended").success());
    }
    world.ok(&format!("[ \"$(cat projects/api/d[0-9]*/w | wc -l)\" = {MANY} ]"));
    drop(world);
}

#[test]
fn a_disk_that_answers_nothing_holds_up_its_own_readers_only() {
    let mut world = World::new();
    world.server.kill().expect("killed");
    world.server.wait().expect("ended");
    let disk = HungDisk::mount(&world.dir.path().join("api/.agent-queue"));
    world.server = World::start(world.dir.path(), &[]);
    world.ok("[ \"$(cat projects/api/inbox/far.md)\" = 'far away' ] && ls -l projects/api/*");
    let open = File::open(world.mnt().join("projects/api/inbox/far.md")).expect("open");
    disk.hang();
    let looks =
        ["cat P/inbox/far.md", "stat P/inbox", "ls -l P", "echo x > P/inbox/x.md", "getfattr -d P/inbox/far.md"];
    let before = threads(&world);
    let others_are_well = || {
        world.ok("timeout 10 cat status health events control sessions/*/state tasks/*/why tasks/fix/* > /dev/null");
        world.ok("timeout 10 ls -lR inbox drafts done failed sessions accounts projects/web tasks/fix > /dev/null");
        // Of the names in our own directories nothing is asked of a disk.
        let listed = world.ok("timeout 10 ls . projects tasks tasks/* && timeout 10 find tasks -maxdepth 1");
        assert!(
            ["inbox", "api", "tasks/api:fix"].iter().all(|name| listed.lines().any(|line| line == *name)),
            "{listed}"
        );
    };
    let mut readers: Vec<Child> =
        (0..MANY).map(|n| bash(&world, &looks[n % looks.len()].replace('P', "projects/api"))).collect();
    until("each to wait on a thread of its own", || threads(&world) >= before + MANY / 2);
    others_are_well();
    world.ok(
        "timeout 10 bash -c 'ls -l inbox projects/web; echo x > inbox/x.md && mv inbox/x.md drafts/ && rm drafts/x.md'",
    );
    world.ok("timeout 10 bash -c 'echo pause > control'");
    // There is an end to how many may wait; the others are told.
    let crowd = "for i in $(seq 400); do stat projects/api 2>> $HOME/refused > /dev/null & done; wait";
    let mut many = Command::new("bash");
    let many = many.args(["-c", crowd]).current_dir(world.mnt()).env("HOME", world.dir.path());
    let mut crowd = many.spawn().expect("bash");
    let refused = || std::fs::read_to_string(world.dir.path().join("refused")).unwrap_or_default();
    until("the last ones to be refused", || refused().matches("Input/output error").count() > 100);
    others_are_well();
    world.ok("timeout 10 bash -c 'echo resume > control; echo x > inbox/x.md && rm inbox/x.md'");
    disk.go_on();
    for reader in &mut readers {
        reader.wait().expect("ended");
    }
    crowd.wait().expect("ended");
    until("the threads to end", || threads(&world) <= before + 1);
    world.ok("[ \"$(cat projects/api/inbox/far.md)\" = 'far away' ]");
    drop(open);
}

#[test]
fn a_rename_on_a_disk_that_answers_nothing_ends_for_the_kernel_lets_nobody_else_rename() {
    let mut world = World::new();
    world.server.kill().expect("killed");
    world.server.wait().expect("ended");
    let disk = HungDisk::mount(&world.dir.path().join("api/.agent-queue"));
    world.server = World::start(world.dir.path(), &[]);
    let rename = "import os; a, b = (os.open('projects/api/' + d, os.O_RDONLY) for d in ('inbox', 'drafts'))
open(os.environ['HOME'] + '/opened', 'w'); input()
try: os.rename('far.md', 'far.md', src_dir_fd=a, dst_dir_fd=b)
except OSError as error: print(error.errno)";
    let mut stuck = Command::new("python3")
        .args(["-c", rename])
        .current_dir(world.mnt())
        .env("HOME", world.dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3");
    until("the directories to be open", || world.dir.path().join("opened").exists());
    disk.hang();
    let before = disk.waiting();
    stuck.stdin.take().expect("its input").write_all(b"\n").expect("go");
    until("the rename to wait", || disk.waiting() > before);
    world.ok("timeout 50 mv inbox/fix.md drafts/ && timeout 10 mv drafts/fix.md inbox/");
    let said = stuck.wait_with_output().expect("ended").stdout;
    assert_eq!(String::from_utf8_lossy(&said).trim(), libc::EIO.to_string());
    disk.go_on();
    world.ok("cat projects/api/inbox/far.md");
}

fn threads(world: &World) -> usize {
    std::fs::read_dir(format!("/proc/{}/task", world.server.id())).expect("threads").count()
}

#[test]
fn a_thousand_readers_that_read_no_further_hold_up_nobody() {
    let world = World::new();
    all_is_well(&world);
    let before = descriptors(&world);
    let names = ["events", "status", "control", "sessions/ccl-auto-11/pane", "inbox/fix.md"];
    let mut readers: Vec<File> = Vec::new();
    for n in 0..1000 {
        let mut file = File::open(world.mnt().join(names[n % names.len()])).expect("open");
        file.read_exact(&mut [0]).expect("one byte");
        readers.push(file);
    }
    all_is_well(&world);
    world.ok("timeout 10 bash -c 'echo pause > control; echo x > inbox/x.md; rm inbox/x.md'");
    // Every one still has what it began to read.
    let mut rest = String::new();
    readers[0].read_to_string(&mut rest).expect("the rest");
    assert_eq!(rest, "\"seq\":1}\n");
    drop(readers);
    until("the descriptors to be given back", || descriptors(&world) <= before + KEPT);
}

#[test]
fn readers_killed_in_the_middle_leave_nothing_behind() {
    let world = World::new();
    all_is_well(&world);
    let before = descriptors(&world);
    for _ in 0..5 {
        let mut readers: Vec<Child> = (0..20)
            .map(|n| {
                let file = ["events", "status", "inbox/fix.md", "tasks/fix/why"][n % 4];
                bash(&world, &format!("exec 5< {file}; while :; do cat {file} > /dev/null; done"))
            })
            .collect();
        let poller = "import select\nf=open('events');f.read();p=select.poll();p.register(f);p.poll(60000)";
        readers.push(bash(&world, &format!("exec python3 -c \"{poller}\"")));
        until("the readers to be at it", || descriptors(&world) >= before + 8);
        for reader in &mut readers {
            reader.kill().expect("killed");
            reader.wait().expect("ended");
        }
        all_is_well(&world);
    }
    until("the descriptors to be given back", || descriptors(&world) <= before + KEPT);
}
