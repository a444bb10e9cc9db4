//! Live files: reads, poll wake-ups, behaviour under tools, and a task's state on its file.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Seek as _, Write as _},
    os::{fd::AsFd as _, unix::fs::PermissionsExt as _},
    path::{Path, PathBuf},
};

use nix::{
    poll::{PollFd, PollFlags, poll},
    sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
};

use crate::world::World;

/// What a poll answers within so many milliseconds; empty when nothing.
fn polled(file: &File, within: u16) -> PollFlags {
    let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLIN | PollFlags::POLLPRI)];
    poll(&mut fds, within).expect("a poll");
    fds[0].revents().unwrap_or(PollFlags::empty())
}

fn read(file: &mut File) -> String {
    let mut text = String::new();
    file.rewind().expect("rewound");
    file.read_to_string(&mut text).expect("text");
    text
}

/// The files of the supervisor's own below a directory, links not followed.
fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let entry = entry.expect("an entry");
        let (kind, name) = (entry.file_type().expect("a kind"), entry.file_name());
        let real = ["inbox", "drafts", "done", "failed"].iter().any(|real| name == *real);
        if kind.is_dir() && !real {
            files(&entry.path(), found);
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
}

#[test]
fn a_poll_wakes_when_the_file_has_changed_and_a_rewound_reader_gets_the_new_text() {
    let mut world = World::new();
    let open = |name: &str| {
        let mut file = File::open(world.mnt().join(name)).expect(name);
        assert_eq!(polled(&file, 0), PollFlags::POLLIN, "{name}: there is something to read");
        let text = read(&mut file);
        assert_eq!(polled(&file, 0), PollFlags::empty(), "{name}: nothing new");
        (file, text)
    };
    let (mut active, before) = open("accounts/active");
    let (mut control, outcomes) = open("control");
    let (mut state, word) = open("accounts/compte2/state");
    let (mut session, asleep) = open("sessions/ccl-auto-11/state");
    let (task, _) = open("tasks/fix/state");
    assert_eq!((before.as_str(), word.as_str()), ("compte1\n", "available\n"));
    let epoll = Epoll::new(EpollCreateFlags::empty()).expect("epoll");
    epoll.add(&state, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLPRI, 7)).expect("added");

    let mut stdin = world.server.stdin.take().expect("the server's input");
    let path = world.mnt().join("accounts/active");
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let mut events = [EpollEvent::empty()];
            assert_eq!(epoll.wait(&mut events, EpollTimeout::from(20_000_u16)), Ok(1), "woken");
            assert_eq!(events[0].data(), 7);
        });
        std::fs::write(path, "compte2\n").expect("a swap");
        stdin.write_all(b".").expect("word of a new picture");
        waiter.join().expect("the waiter");
    });
    world.server.stdin = Some(stdin);

    let changed = PollFlags::POLLIN | PollFlags::POLLPRI;
    for file in [&active, &control, &state] {
        assert_eq!(polled(file, 20_000), changed);
    }
    assert_eq!(read(&mut active), "compte2\n");
    assert_eq!(read(&mut state), "active\n");
    assert!(read(&mut control).len() > outcomes.len());
    for file in [&active, &control, &state, &session, &task] {
        assert_eq!(polled(file, 0), PollFlags::empty(), "all is read");
    }
    assert_eq!(read(&mut session), asleep);
}

#[test]
fn whoever_does_not_poll_has_one_picture_for_as_long_as_the_file_is_open() {
    let world = World::new();
    let mut file = File::open(world.mnt().join("accounts/active")).expect("active");
    assert_eq!(read(&mut file), "compte1\n");
    world.ok("echo compte2 > accounts/active");
    assert_eq!(read(&mut file), "compte1\n");
    world.ok("[ \"$(cat accounts/active)\" = compte2 ]");
}

#[test]
fn a_control_file_can_always_be_written_and_a_real_file_always_be_read() {
    let world = World::new();
    let mut control = OpenOptions::new().read(true).write(true).open(world.mnt().join("control")).expect("control");
    read(&mut control);
    let mut fds = [PollFd::new(control.as_fd(), PollFlags::POLLIN | PollFlags::POLLOUT)];
    assert_eq!(poll(&mut fds, 0_u16), Ok(1));
    assert_eq!(fds[0].revents(), Some(PollFlags::POLLOUT));
    for name in ["inbox/fix.md", "tasks/old/result.md"] {
        let mut file = File::open(world.mnt().join(name)).expect(name);
        read(&mut file);
        assert_eq!(polled(&file, 0), PollFlags::POLLIN, "{name}: as a file on disk");
    }
}

#[test]
fn what_can_not_be_written_fails_at_open_in_every_way_of_opening() {
    let world = World::new();
    let mut found = Vec::new();
    files(&world.mnt(), &mut found);
    assert!(found.len() > 60, "{}", found.len());
    let mut refused = 0;
    for path in found {
        let writable = path.metadata().expect("facts").permissions().mode() & 0o200 != 0;
        if writable {
            continue;
        }
        refused += 1;
        let way = |set: &dyn Fn(&mut OpenOptions) -> &mut OpenOptions| {
            let error = set(&mut OpenOptions::new()).open(&path).expect_err("refused");
            assert_eq!(error.raw_os_error(), Some(libc::EACCES), "{}", path.display());
        };
        way(&|options| options.write(true));
        way(&|options| options.read(true).write(true));
        way(&|options| options.append(true));
        way(&|options| options.write(true).truncate(true));
        way(&|options| options.write(true).create(true));
        assert!(OpenOptions::new().write(true).create_new(true).open(&path).is_err());
        assert_eq!(nix::unistd::truncate(&path, 0), Err(nix::errno::Errno::EACCES), "{}", path.display());
    }
    assert!(refused > 50, "{refused}");
    assert_eq!(world.calls(), "");
}

#[test]
fn tools_see_ordinary_files_all_over_the_mount() {
    let world = World::new();
    world.ok("[ -s status ] && [ -s sessions/ccl-auto-11/pane ] && [ ! -s accounts/compte2/resets-at ]");
    // Sizes are true: what `stat` tells is what is read.
    world.ok(
        "for f in README config.yaml accounts/active tasks/*/state sessions/*/pane sessions/*/keys tasks/*/result.md; do \
         [ \"$(stat -c %s $f)\" = \"$(wc -c < $f)\" ] || { echo \"$f\"; exit 1; }; done",
    );
    world.ok("mkdir \"$HOME/c\" && cp -a README accounts/active tasks sessions \"$HOME/c/\" && diff -r tasks/fix \"$HOME/c/tasks/fix\" -x why && cmp README \"$HOME/c/README\"");
    world.ok("mkdir \"$HOME/r\" && rsync -a tasks accounts sessions \"$HOME/r/\" && diff -r accounts/compte2 \"$HOME/r/accounts/compte2\" -x home -x why");
    world.ok("mkdir \"$HOME/t\" && tar cf - . | tar xf - -C \"$HOME/t\" && cmp README \"$HOME/t/README\" && [ -d \"$HOME/t/projects/web/inbox\" ]");
    world.ok("timeout 20 grep -rl compte1 . > \"$HOME/found\" && grep -qx ./accounts/active \"$HOME/found\"");
    world.ok(
        "diff status.json <(cat status.json) && diff -q tasks/fix/state tasks/api:fix/state > /dev/null; [ $? = 1 ]",
    );
    world
        .ok("touch -d '2001-01-01' \"$HOME/old\" && find . -newer \"$HOME/old\" -name state | grep -q tasks/fix/state");
    world.ok("touch -d 'tomorrow + 2000 days' \"$HOME/new\" && [ -z \"$(find tasks sessions accounts -newer \"$HOME/new\")\" ]");
    world.ok("TERM=dumb timeout 20 less -F status < /dev/null | cmp - status");
    world.ok("timeout 20 vim -R -es -u NONE status -c 'w! '\"$HOME/seen\" -c q < /dev/null; cmp \"$HOME/seen\" status && [ ! -e .status.swp ]");
    world.ok(
        "head -n 1 events | python3 -m json.tool > /dev/null && sort status > /dev/null && md5sum README > /dev/null",
    );
    assert_eq!(world.calls(), "", "looking changes nothing");
}

#[test]
fn a_task_s_file_tells_of_its_task() {
    let world = World::new();
    let all = world.ok("getfattr -d inbox/fix.md");
    for line in ["user.task.state=\"working\"", "user.task.session=\"ccl-auto-11\"", "user.task.attempts=\"1\""] {
        assert!(all.contains(line), "{line}: {all}");
    }
    assert!(all.contains("user.task.why="), "{all}");
    world.ok(
        "[ \"$(getfattr --only-values -n user.task.why inbox/fix.md | head -n 1)\" = \"$(head -n 1 tasks/fix/why)\" ]",
    );
    world.ok("[ \"$(getfattr --only-values -n user.task.state projects/web/done/old.md)\" = done ]");
    world.ok("echo x > inbox/unknown.md && [ -z \"$(getfattr -d inbox/unknown.md)\" ]");
    // The same name elsewhere is not the task.
    world.ok("cp inbox/fix.md drafts/ && cp inbox/fix.md done/ && [ -z \"$(getfattr -d drafts/fix.md done/fix.md)\" ]");
    // Others pass, ours can't be set, are not on disk, and hide what is.
    world.ok("setfattr -n user.mine -v 1 inbox/fix.md && getfattr -d inbox/fix.md | grep -q user.mine && getfattr -d \"$REAL/inbox/fix.md\" | grep -q user.mine");
    world.ok("! getfattr -d \"$REAL/inbox/fix.md\" | grep -q user.task");
    world.fails("setfattr -n user.task.state -v done inbox/fix.md", "Operation not supported");
    world.fails("setfattr -x user.task.state inbox/fix.md", "Operation not supported");
    world.ok("setfattr -n user.task.state -v lie \"$REAL/inbox/fix.md\" && setfattr -n user.task.other -v lie \"$REAL/inbox/fix.md\" && ! getfattr -d inbox/fix.md | grep lie");
    // Tools that keep attributes are content in both directions.
    world.ok("cp -a done/old.md \"$HOME/o.md\" && [ \"$(getfattr --only-values -n user.task.state \"$HOME/o.md\")\" = done ] && cp -a \"$HOME/o.md\" inbox/again.md");
    world.ok("cp done/old.md /dev/shm/o.$$ && setfattr -n user.task.state -v x /dev/shm/o.$$; mv /dev/shm/o.$$ inbox/moved.md && [ -z \"$(getfattr -d inbox/moved.md)\" ]");
}

#[test]
fn an_open_file_has_the_size_of_its_text_also_right_after_its_facts_were_told_of_another_one() {
    let world = World::new();
    let path = world.mnt().join("accounts/compte2/state");
    for (account, word) in [("compte2\n", "active\n"), ("compte1\n", "available\n")].repeat(20) {
        std::fs::metadata(&path).expect("facts");
        std::fs::write(world.mnt().join("accounts/active"), account).expect("a swap");
        let mut file = File::open(&path).expect("state");
        assert_eq!(file.metadata().expect("facts").len(), word.len() as u64);
        assert_eq!(read(&mut file), word);
    }
}
