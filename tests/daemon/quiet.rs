//! A quiet day: what programs, tasks, moves and a restart normally do logs no warning, so that warnings are read; and
//! saves are proportional to tasks, not to polling.

use std::fs;

use crate::world::{Setup, World};

/// What programs ask of files, each kind in its own way: a terminal's settings, facts with and without a birth, attributes, ACLs,
/// locks, space, holes, copies by the kernel, names that are not there, files without a name.
const PROGRAMS: &str = r#"
cd $MNT
python3 -c '
import fcntl, os, subprocess, sys
for top, _, names in os.walk("."):
    for name in names:
        if name not in ("input", "keys"): open(os.path.join(top, name)).read()
p = "projects/web/drafts/d.md"
with open(p, "w") as f:
    f.write("x" * 5000); f.flush(); os.fsync(f.fileno()); fcntl.flock(f, fcntl.LOCK_EX); fcntl.lockf(f, fcntl.LOCK_EX)
    os.posix_fallocate(f.fileno(), 0, 9000); f.isatty(); os.ftruncate(f.fileno(), 10); os.fstatvfs(f.fileno())
a, b = os.open(p, os.O_RDWR), os.open("drafts/e.md", os.O_RDWR | os.O_CREAT)
os.copy_file_range(a, b, 10); os.sendfile(b, a, 0, 10); os.lseek(a, 0, os.SEEK_HOLE)
for call in (lambda: fcntl.ioctl(a, 0x40049409, b), lambda: fcntl.ioctl(a, 0x80086601), lambda: fcntl.ioctl(a, 1, b" "),
             lambda: os.open("drafts", os.O_TMPFILE | os.O_RDWR), lambda: os.setxattr(p, "security.x", b"1"),
             lambda: os.getxattr(p, "user.none"), lambda: os.listxattr("status"), lambda: os.chown(p, -1, 0),
             lambda: os.open("status", os.O_RDWR), lambda: os.mkfifo("drafts/f"), lambda: os.access("status", os.X_OK)):
    try: call()
    except OSError: pass
'
perl -e 'open(F, "<", "status"); -t F; print scalar <F>'
stat status inbox drafts/d.md > /dev/null; ls -laR . > /dev/null; df . > /dev/null; cat drafts/none 2> /dev/null
cp -a drafts/d.md drafts/g.md; mv drafts/g.md failed/; rm -r failed/g.md drafts/f; find . -type f > /dev/null
rsync -a drafts/ ~/copy/ 2> /dev/null; tar cf /dev/null drafts; grep -r nothing inbox drafts done; getfacl -p drafts/d.md > /dev/null 2>&1
setpriv --regid 8 --clear-groups bash -c 'echo x > drafts/h.md' 2> /dev/null
# One that is killed while it reads leaves a reply that nobody takes.
for i in 1 2 3 4 5; do timeout -s KILL 0.05 bash -c 'while :; do cat status events */*; done' > /dev/null 2>&1; done
true
"#;

#[test]
fn the_log_of_a_quiet_day_has_no_warning() {
    // The filter that a daemon has when nobody sets one.
    let env = vec![("CLAUDE_FAILOVER_LOG".to_owned(), "info".to_owned())];
    let mut world = World::start(&Setup { env, ..Setup::agents(2) });
    for round in ["one", "two"] {
        world.ok(PROGRAMS);
        world.submit(round, "work\n");
        world.ok(&format!(
            "mv $MNT/drafts/d.md $MNT/inbox/moved-{round}.md; cat $MNT/status $MNT/tasks/*/why > /dev/null"
        ));
        world.result(&format!("done/{round}.md"));
        world.result(&format!("done/moved-{round}.md"));
        world.ok("echo pause > $MNT/control; echo resume > $MNT/control");
        world.until("the inbox to be empty", || world.inbox_is_empty());
        assert_eq!(world.word("health"), "ok");
        assert_eq!(world.stop_daemon(), Some(0));
        world.run();
        world.until_word("health", "ok");
    }
    assert_eq!(world.stop_daemon(), Some(0));
    let log = fs::read_to_string(world.path("daemon.log")).expect("the log");
    let loud: Vec<&str> = log.lines().filter(|line| line.contains("WARN") || line.contains("ERROR")).collect();
    assert!(log.contains("ready") && loud.is_empty(), "{loud:#?}");
}

/// Records that a small task may cost from submit to a fresh agent; each is one `fdatasync`. Ten were measured.
const RECORDS_A_TASK: u64 = 12;

#[test]
fn a_task_costs_few_records_and_a_quiet_daemon_none() {
    let world = World::start(&Setup::agents(1));
    let records = || world.state()["journal"].as_u64().expect("a number");
    let at_rest = || {
        world.until_word("sessions/pool-11/state", "idle");
        // What a fresh agent says, and what the last one left, is looked at within a moment.
        world.until("the journal to rest", || {
            let before = records();
            std::thread::sleep(std::time::Duration::from_millis(1500));
            before == records()
        });
        records()
    };
    let before = at_rest();
    let tasks = 5;
    for n in 0..tasks {
        world.submit(&format!("t{n}"), "say it\n");
        world.result(&format!("done/t{n}.md"));
        world.until_word("sessions/pool-11/state", "idle");
    }
    let after = at_rest();
    let cost = (after - before).div_ceil(tasks);
    println!("{cost} records a task");
    assert!((3..=RECORDS_A_TASK).contains(&cost), "{cost} records a task");
    // Whoever looks, and files that are no tasks, change nothing that has to be saved.
    for n in 0..20 {
        world.ok(&format!("cat $MNT/status > /dev/null; echo x > $MNT/drafts/d{n}.md"));
    }
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert_eq!(records(), after, "a quiet daemon saves nothing");
}
