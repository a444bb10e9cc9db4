//! Scripts that claim a task in place, and files whose names make them no tasks.

use std::{
    fs,
    time::{Duration, Instant},
};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use crate::world::{Setup, World};

const COUNT: &str = "```sh\necho ran >> ../count\n```\n";

fn ran(world: &World) -> usize {
    fs::read_to_string(world.path("count")).unwrap_or_default().lines().count()
}

fn setup() -> Setup {
    Setup { settle: "100ms, claim_hold: 6s".to_owned(), ..Setup::agents(1).more("lifecycle: {reconcile: 1s}") }
}

#[test]
fn a_lock_beside_a_task_holds_it_until_it_is_given_up_or_left_behind() {
    let world = World::start(&setup());
    world.ok("mkdir $MNT/inbox/a.md.lock; : > $MNT/inbox/b.md.claimed");
    for id in ["a", "b", "last"] {
        world.submit(id, COUNT);
    }
    world.result("done/last.md");
    for (id, lock) in [("a", "a.md.lock"), ("b", "b.md.claimed")] {
        world.until("the lock to be named", || world.word(&format!("tasks/{id}/why")).contains(lock));
    }
    assert_eq!(ran(&world), 1);
    world.ok("rmdir $MNT/inbox/a.md.lock");
    world.result("done/a.md");
    // Nobody touches the other one any more.
    world.result("done/b.md");
    assert!(world.events().contains("b.md.claimed beside it has not been touched"), "{}", world.events());
    assert_eq!(ran(&world), 3);
}

#[test]
fn a_task_that_goes_with_its_lock_is_the_scripts() {
    let world = World::start(&Setup { settle: "500ms".to_owned(), ..setup() });
    world.ok("mkdir $MNT/inbox/a.md.lock $MNT/projects/web/doing");
    world.submit("a", COUNT);
    world.until("the lock to be named", || world.word("tasks/a/why").contains("a.md.lock"));
    world.ok("rmdir $MNT/inbox/a.md.lock; mv $MNT/inbox/a.md $MNT/projects/web/doing/");
    world.submit("last", COUNT);
    world.result("done/last.md");
    assert_eq!(ran(&world), 1);
}

#[test]
fn a_lock_on_a_task_holds_it_on_disk_and_through_the_mount() {
    for place in [".agent-queue/inbox", "../mnt/inbox", "../mnt/projects/web/inbox"] {
        let world = World::start(&setup());
        world.ok(&format!("cd web; echo x > {place}/.a; flock {place}/.a sh -c 'mv {place}/.a {place}/a.md; echo up > ../up; while [ -e ../up ]; do sleep 0.1; done' > /dev/null 2>&1 &"));
        world.until("the lock to be told", || world.word("tasks/a/why").contains("holds a lock on it"));
        fs::remove_file(world.path("up")).expect("let go");
        world.result("done/a.md");
    }
}

#[test]
fn a_status_that_becomes_a_claim_holds_and_one_that_came_with_the_task_does_not() {
    let world = World::start(&setup());
    world.ok("echo pause > $MNT/control");
    for (id, status) in [("a", "pending"), ("b", "claimed")] {
        world.submit(id, &format!("---\nstatus: {status}\n---\n{COUNT}"));
        world.until_word(&format!("tasks/{id}/state"), "queued");
    }
    world.ok("sed -i 's/pending/in_progress/' $MNT/inbox/a.md");
    world.until("the status to be told", || world.word("tasks/a/why").contains("status: in_progress"));
    world.ok("echo resume > $MNT/control");
    world.result("done/b.md");
    assert_eq!(ran(&world), 1);
    world.ok("echo release > $MNT/tasks/a/control");
    world.result("done/a.md");
}

#[test]
fn a_name_that_is_no_task_s_is_told_where_people_look() {
    let world = World::start(&Setup::agents(1));
    world.ok("cd $MNT/inbox; echo x > todo.txt; echo x > ./-x.md; echo x > fix-login; mkdir doing; echo x > a.md~; echo x > .hid; echo x > x.tmp.12");
    let told = |text: &str| world.word("status").contains(text);
    let begun = Instant::now();
    world.until("the names to be told", || told("IGNORED 3 in the inbox of web"));
    // Written is not left alone for a second yet, and a loaded machine is slow; a full look comes every 15 s.
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert!(told("mv todo.txt todo.md") && told("mv ./-x.md x.md"), "{}", world.word("status"));
    assert!(world.word("projects/web/status").contains("IGNORED fix-login: "));
    assert_eq!(world.events().matches("inbox/todo.txt is no task").count(), 1);
    world.ok("cd $MNT/inbox; mv todo.txt todo.md; rm ./-x.md fix-login");
    world.result("done/todo.md");
    world.until("the line to go", || !told("IGNORED"));
    let begun = Instant::now();
    world.ok("cd $MNT/inbox; for n in 1 2 3 4 5 6 7 8; do echo $n >> notes; sleep 0.2; done");
    world.until("the name to be told", || told("mv notes notes.md"));
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
}

#[test]
fn a_rejection_always_tells_today_s_reasons_each_with_its_place() {
    let world = World::start(&Setup { settle: "0s".to_owned(), ..setup() });
    world.submit("r", "---\nagent: nosuch\npriority: 010\n---\nx\n");
    let told = world.result("inbox/r.md.rejected");
    assert_eq!(
        told.lines().map(|line| &line[..3]).collect::<Vec<_>>(),
        ["2:8", "3:11".get(..3).expect("text")],
        "{told}"
    );
    assert!(told.contains("010 is not a whole number"), "{told}");
    world.submit("r", "---\npriority: banana\n---\nx\n");
    world.until("the new reason", || {
        fs::read_to_string(world.queue("inbox/r.md.rejected"))
            .is_ok_and(|told| told.starts_with("2:11: priority: banana"))
    });
    world.submit("w", "---\npriority: 1\nworkdir: gone\n---\nx\n");
    assert!(world.result("inbox/w.md.rejected").starts_with("3:10: workdir:"));
}

#[test]
fn a_workdir_that_a_link_leads_out_of_the_project_is_refused() {
    let world = World::start(&setup());
    world.ok("ln -s /etc web/link; mkdir -p web/sub/in; ln -s sub/in web/good");
    world.submit("bad", "---\nworkdir: link\n---\nx\n");
    assert!(world.result("inbox/bad.md.rejected").starts_with("2:10: workdir: link leads out of the project"));
    world.submit("good", "---\nworkdir: good\n---\n```sh\npwd -P > ../../../where\n```\n");
    world.result("done/good.md");
    assert!(fs::read_to_string(world.path("where")).expect("where").trim().ends_with("web/sub/in"));
    // A link that takes the place of a directory while the task waits.
    world.ok("echo pause > $MNT/control");
    world.submit("late", "---\nworkdir: sub\n---\n```sh\necho x > ran-outside\n```\n");
    world.until_word("tasks/late/state", "queued");
    world.ok("mv web/sub web/old; mkdir out; ln -s ../out web/sub; echo resume > $MNT/control");
    assert!(world.result("inbox/late.md.rejected").contains("leads out"));
    assert!(!world.path("out/ran-outside").exists());
}

/// A directory of a project and a link out of it, which change places all the time.
struct Exchanged {
    world: World,
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Exchanged {
    fn start(setup: &Setup) -> Self {
        let world = World::start(setup);
        world.ok("mkdir web/d out; ln -s ../out web/e");
        let (d, e) = (world.path("web/d"), world.path("web/e"));
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (over, begun) = (stop.clone(), Instant::now());
        let thread = std::thread::spawn(move || {
            while !over.load(std::sync::atomic::Ordering::Relaxed) && begun.elapsed().as_secs() < 20 {
                for _ in 0..2 {
                    renameat2(AT_FDCWD, &d, AT_FDCWD, &e, RenameFlags::RENAME_EXCHANGE).expect("exchanged");
                }
            }
        });
        Self { world, stop, thread: Some(thread) }
    }

    /// The directory's number: a name would be of the place.
    fn settle(&mut self) -> u64 {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        self.thread.take().map(std::thread::JoinHandle::join).expect("runs").expect("exchanged");
        let [d, e] = ["web/d", "web/e"].map(|path| fs::symlink_metadata(self.world.path(path)).expect("there"));
        std::os::unix::fs::MetadataExt::ino(if d.is_dir() { &d } else { &e })
    }

    fn is_over(&self, name: &str) -> bool {
        ["done", "failed"].iter().any(|dir| self.world.queue(dir).join(format!("{name}.md")).exists())
    }
}

#[test]
fn a_workdir_that_is_exchanged_with_a_link_all_the_time_is_never_left() {
    let mut setup = setup();
    setup.more_agents = ", sh: {kind: command, run: [bash], tasks: anyone}".to_owned();
    let mut exchanged = Exchanged::start(&setup);
    // Few: a command that is refused is a failed start, and each makes the next one wait longer.
    let names: Vec<String> = (0..4).map(|n| format!("t{n}")).collect();
    let begun = Instant::now();
    for name in &names {
        let text = "---\nagent: sh\nworkdir: d\nretries: 0\n---\nstat -L -c %i /proc/self/cwd\n";
        exchanged.world.submit(name, text);
    }
    exchanged.world.until("some tasks to end", || {
        names.iter().filter(|name| exchanged.is_over(name)).count() > 2 || begun.elapsed().as_secs() > 15
    });
    let inside = exchanged.settle();
    exchanged.world.until("a task to end", || names.iter().any(|name| exchanged.is_over(name)));
    for name in names.iter().filter(|name| exchanged.is_over(name)) {
        match fs::read_to_string(exchanged.world.queue(&format!("done/{name}.md"))) {
            Ok(result) => assert!(result.contains(&format!("\n{inside}\n")), "not in {inside}: {result}"),
            Err(_) => {
                let result = fs::read_to_string(exchanged.world.queue(&format!("failed/{name}.md"))).expect("a result");
                assert!(result.contains("the task not started"), "{result}");
            }
        }
    }
}

/// The same of an agent that gets its prompt later: its own directory is inside. (What it makes of the path afterwards is its own.)
#[test]
fn a_prompted_agent_is_never_started_in_a_directory_that_a_link_leads_out_to() {
    let setup = Setup::agents(1).more("lifecycle: {reconcile: 1s, restart_first: 50ms, restart_max: 100ms}");
    let mut exchanged = Exchanged::start(&setup);
    let names: Vec<String> = (0..6).map(|n| format!("t{n}")).collect();
    let begun = Instant::now();
    for name in &names {
        let text = "---\nworkdir: d\nretries: 9\n---\n```sh\necho inode $(stat -L -c %i /proc/$PPID/cwd)\n```\n";
        exchanged.world.submit(name, text);
    }
    exchanged.world.until("some tasks to end", || {
        names.iter().filter(|name| exchanged.is_over(name)).count() > 3 || begun.elapsed().as_secs() > 15
    });
    let inside = exchanged.settle();
    exchanged.world.until("a task to end", || names.iter().any(|name| exchanged.is_over(name)));
    for name in names.iter().filter(|name| exchanged.is_over(name)) {
        if let Ok(result) = fs::read_to_string(exchanged.world.queue(&format!("done/{name}.md"))) {
            assert!(result.contains(&format!("inode {inside}")), "not in {inside}: {result}");
        }
    }
}

#[test]
fn retry_finds_a_task_of_any_project_after_a_restart_and_its_age_goes_on() {
    let mut world = World::start(&setup());
    world.ok("printf -- '---\\nretries: 0\\n---\\n```sh\\nkill -9 $PPID\\n```\\n' > $MNT/projects/api/inbox/bad.md");
    let failed = world.path("api/.agent-queue/failed/bad.md");
    world.until("it to fail", || failed.exists());
    world.submit("r", "---\npriority: much\n---\nx\n");
    world.until_word("tasks/r/state", "rejected");
    let since = |world: &World| world.status()["tasks"][0]["since"].as_str().unwrap_or_default().to_owned();
    world.until("a task", || !since(&world).is_empty());
    let before = since(&world);
    world.stop_daemon();
    world.run();
    world.until_word("tasks/r/state", "rejected");
    assert_eq!(since(&world)[..18], before[..18]);
    world.ok("echo retry bad > $MNT/control");
    world.until("it to run again", || world.events().matches("api:bad\"").count() > 1 && failed.exists());
    assert!(!world.sh("echo retry nosuch > $MNT/control").status.success());
}

#[test]
fn tasks_that_settle_count_for_wait_idle() {
    let world = World::start(&Setup { settle: "1s".to_owned(), ..setup() });
    let bin = crate::world::program();
    world.ok(&format!(
        "for i in 1 2 3; do echo hi > $MNT/inbox/c$i.md; done; sleep 0.2; {} wait idle --mount $MNT -t 60s",
        bin.display()
    ));
    for i in 1..=3 {
        assert!(world.queue(&format!("done/c{i}.md")).exists(), "c{i}");
    }
}

#[test]
fn files_that_the_mount_covers_are_told() {
    let world = World::prepare(&setup());
    fs::create_dir_all(world.queue("tasks")).expect("made");
    fs::write(world.queue("tasks/hanzo.yaml"), "x").expect("written");
    let mut world = world;
    world.run();
    world.until("it to be told", || world.word("health").contains("tasks/hanzo.yaml"));
    let check = world.sh(&format!("{} check --config config.yaml", crate::world::program().display()));
    assert!(String::from_utf8_lossy(&check.stdout).contains("tasks/hanzo.yaml"));
}

#[test]
fn a_status_that_a_script_writes_before_the_task_has_settled_is_a_claim() {
    let mut setup = Setup::agents(1);
    setup.settle = "3s".to_owned();
    let world = World::start(&setup);
    world.until_word("sessions/pool-11/state", "idle");
    for (name, to) in [("mount", "$MNT/inbox"), ("disk", "web/.agent-queue/inbox")] {
        let write = format!("printf -- '---\\nstatus: open\\n---\\nsay it\\n' > {to}/{name}.md; sleep 1");
        world.ok(&format!("{write}; sed -i 's/status: open/status: in_progress/' {to}/{name}.md"));
        world.until("the status to be told", || {
            world.sh(&format!("grep -q 'status: in_progress' $MNT/tasks/{name}/why")).status.success()
        });
        assert_eq!(world.word(&format!("tasks/{name}/state")), "held");
    }
    // Written so from the first it is a word of its writer's.
    world.ok("printf -- '---\\nstatus: in_progress\\n---\\nsay it\\n' > $MNT/drafts/own.md; mv $MNT/drafts/own.md $MNT/inbox/");
    world.result("done/own.md");
}

#[test]
fn a_marker_that_is_left_of_a_run_that_is_over_holds_no_other_text() {
    let world = World::start(&Setup::agents(1));
    let marker = "web/.agent-queue/inbox/a.md.working";
    world.submit("a", "```sh\n: > ../up; while [ ! -e ../go ]; do sleep 0.1; done\n```\n");
    world.until("the task to run", || world.path("up").exists());
    world.ok(&format!("cp {marker} marker"));
    fs::write(world.path("go"), "").expect("written");
    world.result("done/a.md");
    world.ok(&format!("cp marker {marker}"));
    world.submit("a", "```sh\necho two >> ../ran\n```\n");
    world.until("the other text to run", || world.path("ran").exists());
    world.until("its end", || world.inbox_is_empty());
    assert!(!world.path(marker).exists());
}
