//! Rights: other users on a shared mount, files that aren't tasks, and foreign text that must not steer a terminal.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    process::Output,
};

use crate::world::{Setup, World, is_root};

/// A mount shared with everybody, its directories open to them, and a way to be somebody else.
fn shared(group: &str) -> World {
    assert!(nix::unistd::geteuid().is_root(), "this test becomes another user and needs root");
    let world = World::prepare(&Setup::agents(1));
    let config = fs::read_to_string(world.path("config.yaml")).expect("the configuration");
    let config = config.replace("mount: {path:", &format!("mount: {{allow_other: true, control_group: {group}, path:"));
    fs::write(world.path("config.yaml"), config).expect("written");
    let mut world = world;
    world.run();
    world.ok("chmod 755 . && chmod 1777 web/.agent-queue/inbox web/.agent-queue/drafts");
    world
}

/// As nobody, of the group with this number or of none.
fn nobody(world: &World, group: &str, script: &str) -> Output {
    world.sh(&format!("setpriv --reuid 65534 --regid 65534 {group} bash -c '{script}'"))
}

#[test]
fn a_shared_mount_takes_tasks_of_others_and_verbs_of_the_group_only() {
    if !is_root() {
        return;
    }
    let world = shared("daemon");
    let gid = nix::unistd::Group::from_name("daemon").expect("groups").expect("a group").gid;
    let stranger = "--clear-groups";
    let out = nobody(&world, stranger, "echo of nobody > $MNT/drafts/a.md && mv $MNT/drafts/a.md $MNT/inbox/a.md");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    world.result("done/a.md");
    let why = world.word("tasks/a/why");
    assert!(why.contains("written by nobody who could be placed (mv, uid 65534, pid "), "{why}");
    // Names of others' files are theirs: in a sticky directory nobody else moves or removes them.
    world.ok("echo pause > $MNT/control; echo of root > $MNT/inbox/b.md");
    world.until_word("tasks/b/state", "queued");
    for script in [
        "rm -f $MNT/inbox/b.md",
        "mv $MNT/inbox/b.md $MNT/drafts/",
        "echo resume > $MNT/control",
        "echo cancel > $MNT/tasks/b/control",
        "echo hi > $MNT/sessions/pool-11/input",
        "echo Enter > $MNT/sessions/pool-11/keys",
        "cat $MNT/sessions/pool-11/pane",
        "cat $MNT/events",
        "cat $MNT/tasks/b/task.md",
        "cat $MNT/tasks/a/result.md",
        "setfattr -n user.task.state -v done $MNT/inbox/b.md",
    ] {
        assert!(!nobody(&world, stranger, script).status.success(), "{script}");
    }
    for script in ["grep -q pool-11 $MNT/status", "grep -q queued $MNT/tasks/b/state"] {
        assert!(nobody(&world, stranger, script).status.success(), "{script}");
    }
    assert_eq!(world.word("tasks/b/state"), "queued");
    let out = nobody(
        &world,
        &format!("--groups {gid}"),
        "echo priority 7 > $MNT/tasks/b/control && echo resume > $MNT/control",
    );
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    world.result("done/b.md");
    let control = world.read("control").expect("control");
    let line = control.lines().find(|line| line.contains("\"resume\"")).expect("the outcome");
    assert!(line.contains("(uid 65534 pid ") && line.contains(" bash)"), "{line}");
    let told = world.events();
    let line = told.lines().find(|line| line.contains("priority 7") && line.contains("65534")).expect("events");
    assert!(line.contains("\"program\":\"bash\""), "{line}");
}

#[test]
fn set_user_id_bits_mean_nothing() {
    if !is_root() {
        return;
    }
    let world = shared("daemon");
    world.ok("cp $(command -v id) $MNT/drafts/id && chmod 6755 $MNT/drafts/id");
    assert_eq!(fs::metadata(world.queue("drafts/id")).expect("facts").mode() & 0o7777, 0o6755, "kept as on any disk");
    let out = nobody(&world, "--clear-groups", "$MNT/drafts/id -u");
    assert!(!out.status.success() && out.stdout.is_empty(), "{out:?}");
    // Written by somebody else, a file loses them, as on any disk.
    world.ok("chmod 4777 $MNT/drafts/id");
    let out = nobody(&world, "--clear-groups", "echo evil >> $MNT/drafts/id");
    assert!(out.status.success(), "{out:?}");
    assert_eq!(fs::metadata(world.queue("drafts/id")).expect("facts").permissions().mode() & 0o6000, 0);
}

#[test]
fn what_is_no_file_is_never_a_task_and_never_followed() {
    if !is_root() {
        return;
    }
    let world = World::start(&Setup::agents(1));
    world.ok("echo 'a secret' > secret; chmod 600 secret");
    world.ok("cd $MNT/inbox && ln -s ../../../secret link.md && ln -s /etc/passwd far.md && mkfifo pipe.md && mkdir dir.md && mknod null.md c 1 3 && ln -s none dangling.md");
    let kinds = [
        ("link", "symlink"),
        ("far", "symlink"),
        ("dangling", "symlink"),
        ("pipe", "fifo"),
        ("dir", "directory"),
        ("null", "device"),
    ];
    for (id, kind) in kinds {
        world.until_word(&format!("tasks/{id}/state"), "rejected");
        let why = world.word(&format!("tasks/{id}/why"));
        assert!(why.to_lowercase().contains(kind) && why.contains("never followed"), "{id}: {why}");
        assert_eq!(world.read(&format!("tasks/{id}/task.md")).unwrap_or_default(), "", "{id}");
        // A read of it as a task can't wait for a writer that never comes.
        world.sh(&format!("timeout 10 cat $MNT/tasks/{id}/* > /dev/null; [ $? != 124 ]"));
    }
    // One that takes a real task's place while it waits.
    world.ok("echo pause > $MNT/control; echo real > $MNT/inbox/swap.md");
    world.until_word("tasks/swap/state", "queued");
    world.ok("cd web/.agent-queue/inbox && ln -s ../../../secret t && mv -T t swap.md; echo resume > $MNT/control");
    world.until_word("tasks/swap/state", "rejected");
    world.submit("last", "and on\n");
    world.result("done/last.md");
    assert!(!world.sh("grep -r 'a secret' home web/.agent-queue/done web/.agent-queue/failed state").status.success());
    world.ok("rm -rf $MNT/inbox/*");
    world.until("all to be gone", || world.inbox_is_empty());
}

#[test]
fn no_foreign_text_steers_a_terminal() {
    let world = World::start(&Setup::agents(1));
    // DEL, C0, C1 as characters and as bare bytes, and what terminals obey.
    let evil = r"x\033]0;T\007\033[6n\033[2J\177\302\233\302\220q\007\010y";
    let bytes = format!(r"{evil}\233");
    world.ok(&format!("printf '{evil} said\\n' > $MNT/inbox/said.md"));
    world.ok(&format!("printf -- '```sh\\nprintf \"{evil} shown\\\\n\"; sleep 1\\n```\\n' > $MNT/inbox/shown.md"));
    world.ok(&format!("printf -- '---\\npriority: \"{evil}\"\\n---\\nx\\n' > $MNT/inbox/bad.md"));
    world.ok(&format!(
        "printf -- '---\\n{evil}: 1\\n---\\nx\\n' > $MNT/drafts/odd.md; mv $MNT/drafts/odd.md $MNT/inbox/"
    ));
    world.ok(&format!("printf '{bytes}\\n' > $MNT/inbox/bytes.md"));
    world.ok(&format!("touch \"$MNT/inbox/$(printf '{evil}').md\"; mkdir \"$MNT/drafts/$(printf '{bytes}')\""));
    world.sh(&format!("printf '{bytes}' > $MNT/control; printf 'cancel {evil}\\n' > $MNT/control; printf '{evil}' > $MNT/sessions/pool-11/keys"));
    world.sh("cp $(command -v bash) ./$'p\\e[2J\\x7f' && ./$'p\\e[2J\\x7f' -c 'echo rescan > $MNT/control; echo x > $MNT/inbox/prog.md'");
    world.ok(&format!("echo x > $MNT/inbox/away.md; mv $MNT/inbox/away.md \"$MNT/drafts/$(printf '{evil}').md\""));
    for id in ["said", "shown", "prog"] {
        world.result(&format!("done/{id}.md"));
    }
    world.until_word("tasks/bad/state", "rejected");
    let looked = "LC_ALL=C grep -raP '[\\x00-\\x08\\x0b-\\x1f\\x7f]|\\xc2[\\x80-\\x9f]' --exclude=pane.ansi \
                  README control status* health events metrics config.yaml tasks sessions accounts projects/*/tasks projects/*/status";
    let found = world.sh(&format!("cd $MNT && {looked}"));
    assert_eq!(found.status.code(), Some(1), "{}", String::from_utf8_lossy(&found.stdout).escape_debug());
    // Nor is anything there that isn't UTF-8, and the log is JSON line by line.
    world.ok("cd $MNT && cat README control status status.json health events tasks/*/why tasks/*/events sessions/*/pane | iconv -f UTF-8 -t UTF-8 > /dev/null");
    world.ok("python3 -c 'import json,sys\nfor l in open(sys.argv[1]): json.loads(l)' $MNT/events");
    let colours = world.ok("cat $MNT/sessions/*/pane.ansi | sed 's/\\x1b\\[[0-9;:]*m//g' | LC_ALL=C tr -d '\\11\\12\\40-\\176\\200-\\377' | wc -c");
    assert_eq!(colours.trim(), "0", "colours and nothing else");
}

#[test]
fn a_state_directory_that_others_could_change_stops_the_start() {
    if !is_root() {
        return;
    }
    let world = World::prepare(&Setup::agents(1));
    let daemon = format!(
        "HOME=$PWD/home STATE_DIRECTORY=$PWD/state timeout 20 {} run --foreground --config config.yaml 2>&1",
        crate::world::program().display()
    );
    let ways = [
        ("mkdir -m 0777 state", "others can write into it (mode 0777): chmod 700"),
        ("mkdir -m 0770 state", "others can write into it (mode 0770)"),
        ("mkdir real && ln -s real state", "it is a symbolic link to"),
        ("mkdir -m 0700 state && chown 65534 state", "it belongs to user 65534"),
    ];
    for (way, said) in ways {
        world.ok(way);
        let out = world.sh(&daemon);
        let text = String::from_utf8_lossy(&out.stdout);
        assert!(!out.status.success() && out.status.code() != Some(124) && text.contains(said), "{way}: {text}");
        world.ok("rm -rf state");
    }
}

#[test]
fn the_control_group_s_word_is_not_the_owner_s() {
    if !is_root() {
        return;
    }
    let world = shared("daemon");
    let gid = nix::unistd::Group::from_name("daemon").expect("groups").expect("a group").gid;
    let member = |script: &str| nobody(&world, &format!("--groups {gid}"), script).status.success();
    world.until_word("sessions/pool-11/state", "idle");
    assert!(member("echo drain > $MNT/sessions/pool-11/control && echo undrain > $MNT/sessions/pool-11/control"));
    for script in ["echo hi > $MNT/sessions/pool-11/input", "echo Enter > $MNT/sessions/pool-11/keys"] {
        assert!(!member(script), "{script}");
    }
}
