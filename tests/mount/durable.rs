//! Durability: what is on disk when a call has returned, and the error when it can't be. strace watches the server and
//! makes its system calls fail.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use crate::world::World;

/// Watches the server's calls named in `trace`; with `inject`, they fail.
struct Strace(Child);

impl Strace {
    fn attach(world: &World, arguments: &[&str]) -> Self {
        let mut child = Command::new("strace")
            .args(["-f", "-y", "-p", &world.server.id().to_string(), "-o"])
            .arg(world.dir.path().join("trace"))
            .args(arguments)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("these tests need strace");
        let words = BufReader::new(child.stderr.take().expect("its words")).lines().next();
        let words = words.and_then(Result::ok).unwrap_or_default();
        assert!(words.contains("attached"), "strace: {words}");
        Self(child)
    }

    /// Detaches and answers the calls of the server, in order.
    fn end(mut self, world: &World) -> Vec<String> {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.0.id()).expect("a pid"));
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("ended");
        self.0.wait().expect("waited");
        let trace = std::fs::read_to_string(world.dir.path().join("trace")).expect("the trace");
        trace.lines().filter(|line| line.contains('(')).map(str::to_owned).collect()
    }
}

/// Positions of the first lines that hold each of `parts`, which must come in this order.
#[track_caller]
fn in_order(trace: &[String], parts: &[&[&str]]) {
    let mut from = 0;
    for part in parts {
        let at = trace[from..].iter().position(|line| part.iter().all(|text| line.contains(text)));
        let Some(at) = at else { panic!("{part:?} does not follow in {trace:#?}") };
        from += at + 1;
    }
}

#[test]
fn what_is_saved_or_moved_into_the_inbox_is_on_disk_when_the_call_returns() {
    let world = World::new();
    world.ok("mkdir projects/web/doing && echo m > projects/web/doing/m.md");
    let strace = Strace::attach(&world, &["-e", "trace=fsync,renameat2,unlinkat"]);
    world.ok("echo x > inbox/x.md");
    world.ok("mv projects/web/doing/m.md inbox/");
    world.ok("mv inbox/m.md done/");
    world.ok("rm inbox/x.md");
    world.ok("echo log > projects/web/log");
    world.ok("echo long > inbox/t.md");
    let trace = strace.end(&world);
    // An empty file is not worth one: it came after the write.
    in_order(&trace, &[&["fsync(", "x.md"]]);
    assert!(trace.iter().any(|line| line.contains("fsync(") && line.contains("/inbox>")), "{trace:#?}");
    in_order(
        &trace,
        &[
            &["fsync(", "doing/m.md"],
            &["renameat2(", "m.md"],
            &["fsync(", "/inbox>"],
            &["renameat2(", "m.md"],
            &["fsync(", "/done>"],
            &["fsync(", "/inbox>"],
            &["unlinkat(", "x.md"],
            &["fsync(", "/inbox>"],
        ],
    );
    assert!(!trace.iter().any(|line| line.contains("fsync(") && line.contains("/log>")), "only queues cost an fsync");
    // Cut off without an open: no close will come.
    let strace = Strace::attach(&world, &["-e", "trace=fsync,ftruncate"]);
    world.ok("python3 -c \"import os;os.truncate('inbox/t.md',2)\"");
    in_order(&strace.end(&world), &[&["ftruncate(", "t.md"], &["fsync(", "t.md"]]);
}

#[test]
fn what_is_written_under_a_hidden_name_is_put_on_disk_by_the_move_that_makes_a_task_of_it() {
    let world = World::new();
    let strace = Strace::attach(&world, &["-e", "trace=fsync,renameat2"]);
    world.ok("echo x > inbox/.x.part");
    world.ok("mv inbox/.x.part inbox/x.md");
    let trace = strace.end(&world);
    in_order(&trace, &[&["fsync(", ".x.part"], &["renameat2(", "x.md"], &["fsync(", "/inbox>"]]);
    assert_eq!(trace.iter().filter(|line| line.contains("fsync(")).count(), 2, "{trace:#?}");
}

#[test]
fn a_write_that_can_not_be_kept_fails_for_its_writer() {
    let world = World::new();
    world.ok("mkdir projects/web/doing && echo m > projects/web/doing/m.md && echo keep > \"$HOME/a\"");
    let strace = Strace::attach(&world, &["-e", "trace=fsync", "-e", "inject=fsync:error=EIO"]);
    world.fails("cp \"$HOME/a\" inbox/a.md", "Input/output error");
    world.fails("dd if=\"$HOME/a\" of=inbox/b.md", "Input/output error");
    world.fails("mv projects/web/doing/m.md inbox/", "Input/output error");
    world.fails("mkdir inbox/d", "Input/output error");
    world.fails(
        "python3 -c \"import os;f=os.open('inbox/c',os.O_CREAT|os.O_WRONLY);os.write(f,b'x');os.fsync(f)\"",
        "Input/output error",
    );
    strace.end(&world);
    // What was refused before its name was a task still stands where it was; the mount works again.
    world.ok("[ -e projects/web/doing/m.md ] && mv projects/web/doing/m.md inbox/ && cp \"$HOME/a\" inbox/a.md && cmp \"$HOME/a\" inbox/a.md");
}

#[test]
fn a_file_whose_fsync_failed_once_is_never_called_good_again() {
    let world = World::new();
    let path = world.mnt().join("inbox/f.md");
    let file = std::fs::File::create(&path).expect("a file");
    std::io::Write::write_all(&mut &file, b"x").expect("a write");
    let strace = Strace::attach(&world, &["-e", "trace=fsync", "-e", "inject=fsync:error=EIO:when=1"]);
    assert!(file.sync_all().is_err());
    assert!(file.sync_all().is_err(), "the second fsync of the same descriptor says nothing of the lost pages");
    strace.end(&world);
    drop(file);
    std::fs::File::open(&path).expect("a new open").sync_all().expect("a new open is a new promise");
}

#[test]
fn data_goes_past_the_server_where_the_kernel_lets_it() {
    let script = "echo x > inbox/x.md && cat inbox/x.md > /dev/null && echo y >> inbox/x.md";
    let calls = |world: &World| {
        let strace = Strace::attach(world, &["-e", "trace=pread64,pwrite64,pwritev2,ioctl"]);
        world.ok(script);
        assert_eq!(std::fs::read(world.real("inbox/x.md")).expect("a read"), b"x\ny\n");
        strace.end(world)
    };
    let trace = calls(&World::new());
    let given = trace.iter().any(|line| line.contains("ioctl(") && !line.contains("EPERM") && !line.contains("= -1"));
    let seen = trace.iter().any(|line| line.contains("x.md") && (line.contains("64(") || line.contains("pwritev2(")));
    assert!(given != seen, "either the kernel has the file or the server reads and writes it: {trace:#?}");
    let trace = calls(&World::with(&[("MOUNT_ORDINARY", "1")]));
    in_order(&trace, &[&["pwrite64(", "x.md"], &["pread64(", "x.md"], &["pwritev2(", "x.md"]]);
}
