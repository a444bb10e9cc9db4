//! Queue directories: what scripts and libraries need of a file system, on the mount and seen on the real disk.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    sync::Barrier,
};

use crate::world::World;

#[test]
fn what_is_written_on_one_side_is_seen_on_the_other() {
    let world = World::new();
    world.ok("echo a > inbox/a.md && [ \"$(cat \"$REAL/inbox/a.md\")\" = a ]");
    world.ok("echo b >> inbox/a.md && [ \"$(cat projects/web/inbox/a.md)\" = $'a\\nb' ]");
    world.ok("echo c >> \"$REAL/inbox/a.md\" && [ \"$(wc -l < inbox/a.md)\" = 3 ]");
    world.ok("echo d >> inbox/a.md && [ \"$(wc -l < \"$REAL/inbox/a.md\")\" = 4 ]");
    world.ok("mv \"$REAL/inbox/a.md\" \"$REAL/done/\" && [ ! -e inbox/a.md ] && [ -e done/a.md ]");
    world.ok("mkdir -p projects/web/doing projects/web/logs/.locks && mkdir -p projects/web/doing && [ -d \"$REAL/logs/.locks\" ]");
    world.ok(
        "echo s > projects/web/status.json && mv done/a.md projects/web/doing/ && mv projects/web/doing/a.md inbox/",
    );
    world.ok("echo x > projects/api/inbox/x.md && mv projects/api/inbox/x.md inbox/ && [ -e \"$REAL/inbox/x.md\" ]");
    // A real entry under one of our names is hidden, not served twice.
    world.ok("mkdir \"$REAL/tasks\" && echo no > \"$REAL/status\" && [ \"$(ls projects/web | grep -cx tasks)\" = 1 ] && ! grep -qx no projects/web/status");
}

#[test]
fn times_modes_and_sizes_are_the_real_ones() {
    let world = World::new();
    world.ok("echo a > inbox/a.md && touch -d '2001-02-03 04:05:06.123456789' inbox/a.md && [ \"$(stat -c %y inbox/a.md)\" = \"$(stat -c %y \"$REAL/inbox/a.md\")\" ]");
    world.ok("touch -d '1965-02-03 04:05:06' inbox/a.md && stat -c %y inbox/a.md | grep -q '^1965-02-03 04:05:06'");
    world.ok("touch -d '1969-12-31 23:59:58.25 UTC' inbox/a.md && [ \"$(stat -c %.2Y inbox/a.md \"$REAL/inbox/a.md\" | xargs)\" = '-1.75 -1.75' ]");
    world.ok("mv inbox/a.md drafts/ && stat -c %Y drafts/a.md | grep -q '^-'");
    world.ok("chmod 755 drafts/a.md && stat -c %A drafts/a.md | grep -q x && [ \"$(stat -c %a \"$REAL/drafts/a.md\")\" = 755 ]");
    world.ok("(umask 077; echo x > inbox/p.md; mkdir projects/web/priv) && [ \"$(stat -c %a \"$REAL/inbox/p.md\" \"$REAL/priv\" | xargs)\" = '600 700' ]");
    world.ok("(umask 0; echo x > inbox/q.md) && [ \"$(stat -c %a \"$REAL/inbox/q.md\")\" = 666 ]");
    world.ok("a=$(stat -c %y inbox); sleep 0.05; touch inbox/new; [ \"$a\" != \"$(stat -c %y inbox)\" ]");
    world.ok(
        "a=$(stat -c %i inbox/q.md); [ \"$a\" = \"$(stat -c %i inbox/q.md)\" ] && [ \"$(stat -c %h inbox/q.md)\" = 1 ]",
    );
    world.ok("truncate -s 5000 inbox/q.md && [ \"$(stat -c %s \"$REAL/inbox/q.md\")\" = 5000 ] && fallocate -l 9000 inbox/q.md && [ \"$(stat -c %s inbox/q.md)\" = 9000 ]");
    world.ok("chown $(id -u):$(id -g) inbox/q.md && df inbox > /dev/null && [ \"$(stat -f -c %l inbox)\" -ge 255 ]");
    world.ok("mkfifo projects/web/pipe && [ -p projects/web/pipe ] && rm projects/web/pipe");
    if nix::unistd::geteuid().is_root() {
        world.ok("mknod projects/web/null c 1 3 && [ \"$(stat -c %t:%T projects/web/null)\" = \"$(stat -c %t:%T \"$REAL/null\")\" ] && [ -c \"$REAL/null\" ]");
        world.fails("echo x > projects/web/null", "Permission denied");
    } else {
        world.fails("mknod projects/web/null c 1 3", "Operation not permitted");
    }
}

#[test]
fn inode_numbers_are_the_real_ones_everywhere() {
    let world = World::new();
    world.ok("mkdir -p projects/web/d/e && echo a > projects/web/d/a && echo b > inbox/b.md");
    world.ok("diff <(cd projects/web && find . -mindepth 1 \\( -path ./tasks -o -path ./delegated -o -path ./status \\) -prune -o -printf '%P %i\\n' | sort) <(cd \"$REAL\" && find . -mindepth 1 -printf '%P %i\\n' | sort)");
    // A listing says the same as `stat`, for each of the two places of a directory.
    let scan = "import os\nfor d in '.','inbox','projects/web','projects/web/d':\n  for e in os.scandir(d): assert e.inode() in (0xffffffff, os.lstat(e.path).st_ino), e.path";
    world.ok(&format!("python3 - <<'EOF'\n{scan}\nEOF"));
    // A number that is taken by an open file without a name is not given to another file.
    world.ok("exec 5> projects/web/d/open; rm projects/web/d/open; for i in $(seq 50); do echo $i > projects/web/d/f$i; done; [ \"$(stat -L -c %i /dev/fd/5 projects/web/d/f* | sort -u | wc -l)\" = 51 ]");
}

#[test]
fn names_are_bytes_and_the_disk_is_the_real_one() {
    let world = World::new();
    world.ok("for n in $'a\\xff\\xfeb.md' $'two\\nlines' ' ' -- '*' $'\\e[31m' \"$(printf 'n%.0s' {1..255})\"; do echo x > \"projects/web/$n\" && [ -e \"$REAL/$n\" ] && ln -s -- \"$n\" projects/web/l && [ \"$(cat projects/web/l)\" = x ] && rm projects/web/l \"projects/web/$n\" && [ ! -e \"$REAL/$n\" ] || exit 1; done");
    world.fails("echo x > \"projects/web/$(printf 'n%.0s' {1..256})\"", "File name too long");
    world.ok("[ \"$(stat -f -c '%b %c %s %l' inbox)\" = \"$(stat -f -c '%b %c %s %l' \"$REAL/inbox\")\" ]");
    // Deeper than one path can name.
    world.ok("cd projects/web; n=$(printf 'd%.0s' {1..200}); for i in $(seq 30); do mkdir $n && cd $n || exit 1; done; echo deep > f && [ \"$(cat f)\" = deep ] && mv f g && [ -s g ]");
}

#[test]
fn what_is_made_belongs_where_it_is_made() {
    // With `allow_other`: the kernel lets no other group in without it.
    let world = World::with(&[("MOUNT_CONTROL_GROUP", "9")]);
    world.ok("mkdir projects/web/s && chmod 2755 projects/web/s && mkdir projects/web/s/d && [ \"$(stat -c %a projects/web/s/d)\" = 2755 ]");
    if nix::unistd::geteuid().is_root() {
        world.ok("chgrp 7 projects/web/s && echo x > projects/web/s/f && [ \"$(stat -c %g \"$REAL/s/f\")\" = 7 ]");
        world.ok("setpriv --regid=9 --clear-groups touch projects/web/mine projects/web/s/theirs && [ \"$(stat -c %g \"$REAL/mine\" \"$REAL/s/theirs\" | xargs)\" = '9 7' ]");
    }
}

#[test]
fn a_mapped_page_keeps_its_place_in_a_file_that_is_appended_to() {
    for variables in [&[][..], &[("MOUNT_ORDINARY", "1")]] {
        let world = World::with(variables);
        let script = "import mmap,os\nf=os.open('inbox/m',os.O_RDWR|os.O_CREAT|os.O_APPEND)\nos.write(f,b'a'*5000)\nm=mmap.mmap(f,0)\nm[0:3]=b'map'\nm.flush()\nm.close()\nos.write(f,b'end')";
        world.ok(&format!("python3 - <<'EOF'\n{script}\nEOF"));
        world.ok("[ \"$(stat -c %s \"$REAL/inbox/m\")\" = 5003 ] && [ \"$(head -c 4 \"$REAL/inbox/m\")$(tail -c 4 inbox/m)\" = mapaaend ]");
    }
}

#[test]
fn an_open_that_must_create_fails_on_what_exists() {
    let world = World::new();
    world.fails("set -C; echo x > inbox/fix.md", "cannot overwrite");
    let path = world.mnt().join("inbox/one");
    let barrier = Barrier::new(4);
    let made = std::thread::scope(|scope| {
        let open = || {
            barrier.wait();
            OpenOptions::new().write(true).create_new(true).open(&path).is_ok()
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(open)).collect();
        threads.into_iter().filter(|_| true).map(|thread| thread.join().expect("a thread")).filter(|made| *made).count()
    });
    assert_eq!(made, 1);
}

#[test]
fn one_of_many_wins_a_lock_directory_and_a_claim() {
    let world = World::new();
    for round in 0..10 {
        let script = format!(
            "echo t > inbox/r{round}.md; for i in 1 2 3 4 5 6; do (mkdir projects/web/l{round}.d 2>/dev/null && echo $i >> \"$HOME/locks\"; \
             mv inbox/r{round}.md done/r{round}-$i.md 2>/dev/null && echo $i >> \"$HOME/claims\") & done; wait"
        );
        world.ok(&script);
    }
    let count = |name: &str| std::fs::read_to_string(world.dir.path().join(name)).expect(name).lines().count();
    assert_eq!((count("locks"), count("claims")), (10, 10));
    world.fails("mv inbox/r0.md done/", "No such file or directory");
}

#[test]
fn locks_exclude_between_processes() {
    let world = World::new();
    world.ok("touch inbox/l && exec 5> inbox/l && flock -n 5 && ! flock -n inbox/l true && ! flock -n projects/web/inbox/l true");
    world.ok("flock -n inbox/l true");
    let fcntl = "import fcntl,os,sys\nf=open('inbox/l','w')\nfcntl.lockf(f,fcntl.LOCK_EX|fcntl.LOCK_NB)\n\
                 r=os.system(\"python3 -c \\\"import fcntl;f=open('inbox/l','w');fcntl.lockf(f,fcntl.LOCK_EX|fcntl.LOCK_NB)\\\" 2>/dev/null\")\nsys.exit(r==0)";
    world.ok(&format!("python3 - <<'EOF'\n{fcntl}\nEOF"));
}

#[test]
fn renames_replace_refuse_and_exchange() {
    let world = World::new();
    world.ok("echo a > inbox/a && echo b > drafts/b && mv -n inbox/a drafts/b; [ \"$(cat drafts/b)\" = b ] && [ -e inbox/a ]");
    world.ok("mv -f inbox/a drafts/b && [ \"$(cat drafts/b)\" = a ] && [ ! -e inbox/a ]");
    let rename = |from: &str, to: &str, flags: u32| {
        let path =
            |name: &str| std::ffi::CString::new(world.mnt().join(name).as_os_str().as_encoded_bytes()).expect("a path");
        // SAFETY: both strings end in NUL.
        let done =
            unsafe { libc::renameat2(libc::AT_FDCWD, path(from).as_ptr(), libc::AT_FDCWD, path(to).as_ptr(), flags) };
        nix::errno::Errno::result(done).map(drop)
    };
    world.ok("echo x > inbox/x && echo y > done/y");
    assert_eq!(rename("inbox/x", "done/y", libc::RENAME_NOREPLACE), Err(nix::errno::Errno::EEXIST));
    assert_eq!(rename("inbox/x", "done/y", libc::RENAME_EXCHANGE), Ok(()));
    world.ok("[ \"$(cat inbox/x done/y | xargs)\" = 'y x' ]");
    assert_eq!(rename("inbox/x", "projects/api/done/z", libc::RENAME_NOREPLACE), Ok(()));
    assert!(rename("inbox/nothing", "done/z", 0) == Err(nix::errno::Errno::ENOENT));
    assert_eq!(rename("done/y", "status", 0), Err(nix::errno::Errno::EPERM));
    world.wait_for_call(&["touched Exchanged", "\"x\"", "\"y\""]);
    world.ok("mkdir -p projects/web/d/e && echo 1 > projects/web/d/e/f && cd projects/web/d && mv ../d ../g && cat e/f && echo 2 >> e/f && mv e ../h && cat ../h/f");
}

#[test]
fn an_open_file_outlives_its_name() {
    let world = World::new();
    let path = world.mnt().join("inbox/gone");
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).expect("a file");
    file.write_all(b"one").expect("a write");
    std::fs::remove_file(&path).expect("unlinked");
    file.write_all(b"two").expect("a write after the name is gone");
    assert_eq!(file.metadata().expect("facts").nlink(), 0);
    file.set_len(4).expect("truncated");
    file.seek(SeekFrom::Start(0)).expect("a seek");
    let mut text = String::new();
    file.read_to_string(&mut text).expect("a read");
    assert_eq!(text, "onet");
    file.sync_all().expect("fsync");
    // A new file of the same name is another file.
    std::fs::write(&path, "new").expect("a new file");
    assert_eq!(file.metadata().expect("facts").len(), 4);
    assert_eq!(std::fs::read(&path).expect("a read"), b"new");
}

#[test]
fn appends_of_several_processes_all_arrive() {
    let world = World::new();
    world.ok("for i in 1 2 3 4; do (for j in $(seq 50); do echo $i.$j >> inbox/log; done) & done; wait; for j in $(seq 20); do echo o.$j >> \"$REAL/inbox/log\"; echo m.$j >> inbox/log; done; [ \"$(sort -u inbox/log | wc -l)\" = 240 ]");
}

#[test]
fn links_are_stored_and_never_followed_by_the_server() {
    let world = World::new();
    world.ok("echo secret > \"$HOME/secret\"; ln -s \"$HOME/secret\" inbox/link.md && [ \"$(readlink inbox/link.md)\" = \"$HOME/secret\" ]");
    world.ok("ln -s user@host.1 'inbox/.#f.md' && rm 'inbox/.#f.md'");
    world.ok("ln inbox/fix.md inbox/again.md && [ inbox/fix.md -ef inbox/again.md ] && [ \"$(stat -c %h \"$REAL/inbox/fix.md\")\" = 2 ]");
    // A directory swapped for a link behind the mount: the path through it must not lead out.
    world.ok(
        "mkdir -p projects/web/d && echo in > projects/web/d/f && mkdir \"$HOME/out\" && echo out > \"$HOME/out/f\"",
    );
    let dir = File::open(world.mnt().join("projects/web/d")).expect("the directory");
    world.ok("mv \"$REAL/d\" \"$REAL/moved\" && ln -s \"$HOME/out\" \"$REAL/d\"");
    let opened = nix::fcntl::openat(&dir, "f", nix::fcntl::OFlag::O_RDONLY, nix::sys::stat::Mode::empty());
    if let Ok(fd) = opened {
        let mut text = String::new();
        File::from(fd).read_to_string(&mut text).expect("a read");
        assert_ne!(text, "out\n", "the server followed a link out of the queue");
    }
    let made = nix::fcntl::openat(
        &dir,
        "evil",
        nix::fcntl::OFlag::O_CREAT | nix::fcntl::OFlag::O_WRONLY,
        nix::sys::stat::Mode::S_IRWXU,
    );
    // What is made through the handle is made in the directory that was opened, wherever it is now, or not at all.
    assert_eq!(made.is_ok(), world.real("moved/evil").exists());
    assert!(!world.dir.path().join("out/evil").exists());
}

#[test]
fn attributes_holes_and_copies() {
    let world = World::new();
    let path = world.mnt().join("inbox/h");
    let file = File::options().read(true).write(true).create(true).truncate(true).open(&path).expect("a file");
    file.write_all_at(b"end", 1 << 20).expect("a write");
    let data = nix::unistd::lseek(&file, 0, nix::unistd::Whence::SeekData).expect("SEEK_DATA");
    assert!(data > 0, "the hole is a hole");
    world.ok("cp --sparse=always inbox/h inbox/h2 && cp --reflink=auto inbox/h drafts/h3 && cmp inbox/h inbox/h2 && cmp inbox/h drafts/h3");
    let attribute = "import os\np='inbox/h'\nos.setxattr(p,'user.a',b'1')\nassert os.getxattr(p,'user.a')==b'1'\nassert os.listxattr(p)==['user.a']\n\
                     os.removexattr(p,'user.a')\nassert os.listxattr(p)==[]\nassert os.listxattr('status')==[]\n\
                     import errno\ntry: os.setxattr(p,'trusted.x',b'1'); raise SystemExit(1)\nexcept OSError as e: assert e.errno==errno.ENOTSUP";
    world.ok(&format!("python3 - <<'EOF'\n{attribute}\nEOF"));
    world.ok("python3 -c \"import mmap;f=open('inbox/h','r+b');m=mmap.mmap(f.fileno(),0);m[0:3]=b'map';m.flush();m.close()\" && [ \"$(head -c 3 \"$REAL/inbox/h\")\" = map ]");
    world.ok("python3 -c \"import os;d=os.open('inbox',os.O_RDONLY);os.fsync(d);os.close(d)\" && sync -f inbox");
}

#[test]
fn a_listing_survives_what_is_done_while_it_runs() {
    let world = World::new();
    world.ok("for i in $(seq 300); do echo $i > \"$REAL/inbox/n$i.md\"; done");
    let mut seen = Vec::new();
    for entry in std::fs::read_dir(world.mnt().join("inbox")).expect("the inbox") {
        let name = entry.expect("an entry").file_name();
        let name = name.to_string_lossy().into_owned();
        if name.starts_with('n') {
            std::fs::rename(world.mnt().join("inbox").join(&name), world.mnt().join("done").join(&name))
                .expect("moved");
        }
        seen.push(name);
    }
    let all = seen.len();
    seen.sort();
    seen.dedup();
    assert_eq!((all, seen.len()), (301, 301));
    world.ok("[ \"$(ls done | wc -l)\" = 301 ] && for f in done/n*.md; do mv \"$f\" drafts/; done && [ \"$(ls drafts | wc -l)\" = 300 ]");
}

#[test]
fn changes_are_reported_with_their_writer() {
    let world = World::new();
    world.ok("echo hi > inbox/new.md");
    world.wait_for_call(&["touched Created", "\"inbox\"", "new.md", "by bash"]);
    world.wait_for_call(&["touched Opened", "new.md"]);
    world.wait_for_call(&["touched Closed", "new.md"]);
    world.ok("mv inbox/new.md drafts/d.md && ln drafts/d.md inbox/l.md && rm inbox/l.md && : >> drafts/d.md");
    world.wait_for_call(&["touched Renamed", "new.md", "d.md", "by mv"]);
    world.wait_for_call(&["touched Linked", "l.md"]);
    world.wait_for_call(&["touched Removed", "l.md", "by rm"]);
    world.wait_for_call(&["touched Closed", "d.md"]);
    world.ok("truncate -s 1 drafts/d.md");
    world.wait_for_call(&["touched Closed", "\"drafts\"", "d.md"]);
}

#[test]
fn inotify_tells_what_is_done_through_the_mount() {
    let world = World::new();
    let script = "coproc inotifywait -m -e create -e moved_to -e close_write --format '%e %f' inbox 2>&1; \
                  while read -r -t 5 line <&${COPROC[0]}; do [[ $line == Watches* ]] && break; done; \
                  echo a > inbox/.t; mv inbox/.t inbox/a.md; \
                  for i in 1 2 3; do read -r -t 5 line <&${COPROC[0]}; echo \"$line\"; done; kill $COPROC_PID";
    assert_eq!(world.ok(script), "CREATE .t\nCLOSE_WRITE,CLOSE .t\nMOVED_TO a.md\n");
}

#[test]
fn many_files_and_few_descriptors() {
    let world = World::new();
    world.ok("for d in 1 2 3; do mkdir projects/web/many$d; for i in $(seq 700); do : > \"$REAL/many$d/$i\"; done; done; ls -lR projects/web > /dev/null");
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", world.server.id())).expect("descriptors").count();
    assert!(descriptors < 40, "{descriptors} descriptors open for what is merely known");
    let file =
        File::options().write(true).create(true).custom_flags(libc::O_DIRECT).open(world.mnt().join("inbox/o_direct"));
    assert!(file.is_ok() || file.is_err_and(|error| error.raw_os_error() == Some(libc::EINVAL)));
}
