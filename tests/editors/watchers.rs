//! inotifywait on the mount with the flags that scripts use: it reports what others do through the mount and what the
//! supervisor does, through both views of the first project, as on the disk below.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use crate::{
    desk::{Desk, has},
    world::World,
};

struct Watcher<'a> {
    world: &'a World,
    child: Child,
    log: PathBuf,
}

impl<'a> Watcher<'a> {
    /// Starts inotifywait and waits until it watches.
    fn start(desk: &'a Desk, name: &str, args: &str) -> Self {
        let world = &desk.world;
        let (log, told) = (world.path(&format!("{name}.log")), world.path(&format!("{name}.err")));
        let child = Command::new("sh")
            .args(["-c", &format!("exec inotifywait {args}")])
            .current_dir(world.path(""))
            .env("MNT", world.path("mnt"))
            .env("REAL", world.path("web/.agent-queue"))
            .stdin(Stdio::null())
            .stdout(fs::File::create(&log).expect("a log"))
            .stderr(fs::File::create(&told).expect("a log"))
            .spawn()
            .expect("inotifywait");
        world.until("the watches", || fs::read_to_string(&told).unwrap_or_default().contains("established"));
        Self { world, child, log }
    }

    fn lines(&self) -> Vec<String> {
        fs::read_to_string(&self.log).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    #[track_caller]
    fn tells(&self, line: &str) {
        let what = || format!("{line:?} from inotifywait, which told {:?}", self.lines());
        self.world.until_told(what, || self.lines().iter().any(|told| told == line));
    }

    /// For a watcher without `-m`: it has seen something and has ended well.
    #[track_caller]
    fn wakes(mut self) -> String {
        let mut status = None;
        self.world.until("inotifywait to wake", || {
            status = self.child.try_wait().expect("waited for");
            status.is_some()
        });
        assert!(status.is_some_and(|status| status.success()));
        self.lines().join("\n").trim_end().to_owned()
    }
}

impl Drop for Watcher<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The repeater's process number, once there is one.
fn repeater(world: &World) -> String {
    let mut pid = String::new();
    world.until("the repeater", || {
        let out = world.sh(&format!("ps -o pid=,args= --ppid {}", world.daemon_pid()));
        let lines = String::from_utf8_lossy(&out.stdout).into_owned();
        let line = lines.lines().find(|line| line.contains(" repeater ") && !line.contains("defunct"));
        pid = line.and_then(|line| line.split_whitespace().next()).unwrap_or_default().to_owned();
        !pid.is_empty()
    });
    pid
}

#[test]
fn the_mount_tells_what_the_disk_below_tells() {
    if !has(&["inotifywait"]) {
        return;
    }
    let desk = Desk::new();
    let dirs = ["inbox", "drafts", "done", "failed"];
    let flags = "-m -e create -e moved_to -e moved_from -e delete -e close_write --format '%f %e'";
    let watch = |name: &str, base: &str| -> Vec<Watcher<'_>> {
        let each = dirs
            .iter()
            .map(|dir| Watcher::start(&desk, &format!("{name}-{dir}"), &format!("{flags} \"{base}/{dir}\"")));
        each.collect()
    };
    let real = watch("real", "$REAL");
    let root = watch("root", "$MNT");
    let project = watch("project", "$MNT/projects/web");

    desk.quietly("echo written > inbox/a.md");
    desk.world.result("done/a.md");
    desk.quietly("echo drafted > projects/web/drafts/b.md; mv projects/web/drafts/b.md projects/web/inbox/");
    desk.world.result("done/b.md");
    desk.quietly("echo across > drafts/c.md; mv drafts/c.md projects/web/inbox/");
    desk.world.result("done/c.md");
    desk.quietly("printf -- '---\\nretries: x\\n---\\nwrong\\n' > inbox/d.md");
    desk.world.result("inbox/d.md.rejected");
    desk.quietly("mv inbox/d.md failed/");
    desk.world.until("the sidecar to go", || !desk.world.queue("inbox/d.md.rejected").exists());
    desk.quietly("mkdir inbox/lock.d; rmdir inbox/lock.d; ln done/a.md drafts/a.txt; mv failed/d.md drafts/d.md");
    desk.quietly("touch inbox/the-end; mv inbox/the-end done/the-end");

    for view in [&real, &root, &project] {
        view[2].tells("the-end MOVED_TO");
    }
    for (i, dir) in dirs.iter().enumerate() {
        // By name: the supervisor's changes are told a moment later, and what others do meanwhile comes before.
        let told = |view: &[Watcher<'_>], is_disk: bool| -> BTreeMap<String, Vec<String>> {
            let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for line in view[i].lines() {
                let (name, event) = line.split_once(' ').expect("a name and an event");
                // The supervisor's unfinished files have other names on disk; a move from view to view is told as it
                // looks in each.
                if !name.starts_with(".claude-failover") && (name, *dir) != ("c.md", "drafts") {
                    let events = told.entry(name.to_owned()).or_default();
                    // Below the mount one close may be two: the server has the file open too. On the mount it never is.
                    if !is_disk || events.last().is_none_or(|last| last != event) {
                        events.push(event.to_owned());
                    }
                }
            }
            told
        };
        assert_eq!(told(&root, false), told(&real, true), "{dir} at the root");
        assert_eq!(told(&project, false), told(&real, true), "{dir} in the project");
    }
    assert!(real[2].lines().iter().any(|line| line == "a.md MOVED_TO"), "{:?}", real[2].lines());
    assert!(real[0].lines().iter().any(|line| line == "a.md.working DELETE"), "{:?}", real[0].lines());
}

#[test]
fn scripts_that_wait_are_woken() {
    if !has(&["inotifywait"]) {
        return;
    }
    let desk = Desk::new();
    // By the supervisor.
    let result = Watcher::start(&desk, "result", "-e create -e moved_to --include '[.]md$' \"$MNT/done\"");
    let written = Watcher::start(&desk, "written", "-e close_write \"$MNT/projects/web/done\"");
    let marker = Watcher::start(&desk, "marker", "-e moved_to --include 'working$' \"$MNT/inbox\"");
    desk.pause();
    desk.queued("a", "do it\n");
    let gone = Watcher::start(&desk, "gone", "-e delete_self \"$MNT/inbox/a.md\"");
    desk.resume();
    assert!(marker.wakes().ends_with("MOVED_TO a.md.working"));
    assert!(gone.wakes().ends_with("a.md DELETE_SELF"));
    assert!(result.wakes().ends_with("MOVED_TO a.md"));
    written.wakes();
    // By others.
    desk.quietly("echo 1 > drafts/log");
    let grows = Watcher::start(&desk, "grows", "-e modify \"$MNT/drafts/log\"");
    let saved = Watcher::start(&desk, "saved", "-e close_write \"$MNT/drafts\"");
    desk.quietly("echo 2 >> drafts/log");
    assert!(grows.wakes().ends_with("log MODIFY"));
    assert!(saved.wakes().ends_with("CLOSE_WRITE,CLOSE log"));
    // A dispatcher script as it is found (spaceos-core, spaceos-dispatcher.sh): every file once.
    let many = Watcher::start(
        &desk,
        "many",
        "-m -e create -e moved_to --format '%w %f' \"$MNT/inbox\" \"$MNT/projects/api/inbox\"",
    );
    desk.quietly("echo x > ~/b.md; cp ~/b.md projects/api/inbox/; mv ~/b.md inbox/");
    for line in ["projects/api/inbox/ b.md", "inbox/ b.md"] {
        many.tells(&format!("{}/{line}", desk.world.path("mnt").display()));
    }
    desk.world.result("done/b.md");
    let seen = many.lines().iter().filter(|line| line.ends_with(" b.md")).count();
    assert_eq!(seen, 2, "{:?}", many.lines());
}

#[test]
fn a_killed_or_stopped_repeater_costs_nobody_anything_but_events() {
    if !has(&["inotifywait"]) {
        return;
    }
    let mut desk = Desk::new();
    let watcher = Watcher::start(&desk, "done", "-m -e moved_to --format %f \"$MNT/done\"");
    let submit = |id: &str| {
        desk.world.submit(id, &format!("{id}\n"));
        desk.world.result(&format!("done/{id}.md"));
    };
    submit("a");
    watcher.tells("a.md");
    // Killed: the next is started by itself.
    desk.world.ok(&format!("kill -9 {}", repeater(&desk.world)));
    let mut n = 0;
    desk.world.until("a result to be told again", || {
        n += 1;
        submit(&format!("killed{n}"));
        watcher.lines().iter().any(|line| line.starts_with("killed"))
    });
    // Stopped: tasks and everybody on the mount go on, and it is replaced.
    let stopped = repeater(&desk.world);
    desk.world.ok(&format!("kill -STOP {stopped}"));
    submit("stopped");
    desk.quietly("ls done inbox > /dev/null; echo x > drafts/x; mv drafts/x failed/x; rm failed/x");
    desk.world.until("the stopped one to be gone", || {
        n += 1;
        submit(&format!("on{n}"));
        watcher.lines().iter().any(|line| line.starts_with("on"))
    });
    assert_ne!(repeater(&desk.world), stopped);
    drop(watcher);
    // The daemon is killed while it is stopped in the middle of its work.
    let last = repeater(&desk.world);
    desk.world.ok(&format!("kill -STOP {last}"));
    desk.world.submit("last", "last\n");
    desk.world.result("done/last.md");
    desk.world.kill_daemon();
    desk.world.until("the repeater to end", || !PathBuf::from(format!("/proc/{last}")).exists());
    desk.world.run();
    desk.world.submit("after", "after\n");
    desk.world.result("done/after.md");
}

/// Who creates a file gets it, whatever others, the supervisor and the repeater do in the same directories.
#[test]
fn creating_never_finds_nothing_beside_a_busy_repeater() {
    if !has(&["inotifywait"]) {
        return;
    }
    let desk = Desk::new();
    let dirs = ["drafts", "failed", "projects/web/drafts", "projects/web/failed"];
    let _watchers: Vec<Watcher<'_>> = (dirs.iter().enumerate())
        .map(|(n, dir)| Watcher::start(&desk, &format!("all{n}"), &format!("-m -e create -e moved_to \"$MNT/{dir}\"")))
        .collect();
    let slow = std::env::var("SLOW").is_ok_and(|value| value == "1");
    let each = if slow { 25_000 } else { 500 };
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let writers: Vec<_> = (dirs.iter().enumerate())
            .map(|(n, dir)| {
                let dir = desk.world.mount(dir);
                scope.spawn(move || {
                    for i in 0..each {
                        // Now and then a name that another writer, in the other view, makes and removes too.
                        let path =
                            dir.join(if i % 3 == 0 { "same.md".to_owned() } else { format!("w{n}-{}.md", i % 50) });
                        fs::write(&path, "drafted\n")
                            .unwrap_or_else(|error| panic!("{} of {i}: {error}", path.display()));
                        let _ = fs::remove_file(&path);
                    }
                })
            })
            .collect();
        let submitter = scope.spawn(|| {
            let mut n = 0;
            while !ended.load(Ordering::SeqCst) {
                n += 1;
                desk.world.submit(&format!("t{n}"), "do it\n");
                desk.world.result(&format!("done/t{n}.md"));
            }
            n
        });
        for writer in writers {
            writer.join().expect("every file could be made");
        }
        ended.store(true, Ordering::SeqCst);
        println!("{} creates beside {} tasks", each * dirs.len(), submitter.join().expect("tasks"));
    });
}
