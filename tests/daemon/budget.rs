//! Budget of one task: fsyncs and disk jobs, as the kernel counts them. Performance is lost one small step at a time,
//! and nobody notices a single step; this fails when the total exceeds the budget. `--nocapture` prints it, with the
//! system calls and threads: those grow with the time that a task takes on a busy machine, so a limit on them would
//! measure the machine.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::world::{Setup, World, is_root};

/// What may be spent. Measured: 3 and 9 syncs; one more each, for a look that a busy machine repeats.
#[derive(Debug)]
struct Budget {
    syncs: usize,
    /// Times that a queue's root is opened: each is a job that is handed to another thread and back.
    jobs: usize,
}

/// From the name's arrival in the inbox to the paste, to an agent that stands at its prompt.
const DISPATCH: Budget = Budget { syncs: 4, jobs: 7 };
/// A whole tiny task with a fresh agent behind it, on the average.
const TASK: Budget = Budget { syncs: 10, jobs: 8 };
const TASKS: usize = 8;

/// A running strace(1), and where it writes.
struct Trace(Child, std::path::PathBuf);

impl Trace {
    fn of(world: &World) -> Self {
        let out = world.path("strace.out");
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-s", "200", "-o"]).arg(&out).args(["-p", &world.daemon_pid().to_string()]);
        let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("these tests need strace");
        let threads = Path::new("/proc").join(world.daemon_pid().to_string()).join("task");
        let is_traced = |status: &str| !status.lines().any(|line| line.split_whitespace().eq(["TracerPid:", "0"]));
        world.until("strace at every thread", || {
            fs::read_dir(&threads).expect("a daemon").flatten().all(|thread| {
                // One that has ended needs no tracer.
                fs::read_to_string(thread.path().join("status")).is_ok_and(|status| is_traced(&status))
                    || !thread.path().exists()
            })
        });
        Self(child, out)
    }

    /// Lines of whole calls: the thread, then the call.
    fn end(mut self) -> Vec<String> {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.0.id()).expect("a pid"));
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("sent");
        self.0.wait().expect("ended");
        let text = String::from_utf8_lossy(&fs::read(&self.1).expect("written")).into_owned();
        text.lines().filter(|line| !line.contains(" resumed>")).map(str::to_owned).collect()
    }
}

impl Budget {
    /// `lines` are the calls of this many tasks.
    fn holds(&self, lines: &[String], times: usize) {
        let with = |what: &str| lines.iter().filter(|line| line.contains(what)).count();
        let threads: BTreeSet<&str> = lines.iter().filter_map(|line| line.split_whitespace().next()).collect();
        let syncs = with("fsync(") + with("fdatasync(");
        let jobs = with("/.agent-queue\", O_RDONLY|O_NOFOLLOW|O_CLOEXEC|O_PATH|O_DIRECTORY");
        let [calls, syncs, jobs] = [lines.len(), syncs, jobs].map(|count| count / times);
        let told = format!("{calls} calls, {syncs} syncs, {jobs} jobs, {} threads; at most {self:?}", threads.len());
        println!("{told}");
        assert!(syncs > 0 && jobs > 0, "nothing was counted: {told}");
        assert!(syncs <= self.syncs && jobs <= self.jobs, "{told}");
    }
}

/// A task that takes its place in the real inbox by one rename, as scripts submit.
fn submit(world: &World, name: &str) {
    fs::write(world.queue("drafts/one"), format!("hello {name}\n")).expect("written");
    fs::rename(world.queue("drafts/one"), world.queue(&format!("inbox/{name}.md"))).expect("moved");
}

#[test]
fn a_task_keeps_to_its_budget() {
    if !is_root() {
        return;
    }
    let world = World::start(&Setup { settle: "0s".to_owned(), ..Setup::agents(1) });
    let rests = || world.word("sessions/pool-11/state") == "idle" && world.inbox_is_empty();
    let done = |name: &str| world.queue(&format!("done/{name}.md")).exists();
    submit(&world, "warm");
    world.until("the first task", || done("warm") && rests());

    let trace = Trace::of(&world);
    submit(&world, "one");
    world.until("one task", || done("one"));
    let lines = trace.end();
    let begin = lines.iter().position(|line| line.contains("one.md")).expect("it was seen");
    let paste = lines.iter().position(|line| line.contains("paste-buffer")).expect("it was typed");
    DISPATCH.holds(&lines[begin..paste], 1);

    world.until("rest", rests);
    let trace = Trace::of(&world);
    for n in 0..TASKS {
        submit(&world, &format!("n{n}"));
        // Nothing of the mount is asked meanwhile: that would count.
        while !done(&format!("n{n}")) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    TASK.holds(&trace.end(), TASKS);
}
