//! Verbs: each write taken whole, refusals returned to the writer, outcomes readable.

use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};

use crate::world::World;

#[test]
fn refusals_reach_the_shell_with_their_errno() {
    let world = World::new();
    world.fails("echo explode > control", "Invalid argument");
    world.fails("echo explode >> control", "Invalid argument");
    world.fails("printf 'cancel nobody' > control", "No such file or directory");
    world.fails("echo resume > control", "Device or resource busy");
    world.fails("echo retry x > control", "Resource temporarily unavailable");
    world.fails("echo reload > control", "Input/output error");
    world.fails("head -c 5000 /dev/zero | tr '\\0' '#' | dd of=control bs=8k iflag=fullblock", "Message too long");
    world.fails("printf '\\377\\n' > control", "Invalid argument");
    world.fails("echo delete > tasks/fix/control", "Invalid argument");
    world.fails("echo 'y;n' > sessions/ccl-auto-11/keys", "Invalid argument");
    world.fails("echo pause > tasks/nobody/control", "No such file or directory");
    for shell in ["sh -c", "bash -c", "bash -ec"] {
        let output = world.bash(&format!("{shell} 'echo explode > control; exit $?'"));
        assert!(!output.status.success(), "{shell}");
    }
    for tool in [
        "tee control",
        "dd of=control",
        "cp /dev/stdin control",
        "perl -e 'open F,\">control\"; print F <STDIN>; close F or exit 1'",
    ] {
        let output = world.bash(&format!("set -o pipefail; echo explode | {tool}"));
        assert!(!output.status.success(), "{tool}");
    }
    assert_eq!(world.calls(), "", "nothing was done");
    let control = world.ok("cat control");
    assert!(control.contains("\"explode\\n\": EINVAL: unknown verb in \"explode\"; known: swap pause"), "{control}");
    let uid = nix::unistd::geteuid();
    assert!(control.contains(&format!("(uid {uid} pid ")) && control.contains(" bash)"), "{control}");
}

#[test]
fn a_write_is_carried_out_whole_or_not_at_all() {
    let world = World::new();
    world.ok("echo pause > control && [ \"$(grep -c '\"paused\": true' status.json)\" = 1 ]");
    world.ok("echo rescan >> control");
    world.ok("printf 'rescan' > control");
    world.ok("cat > control <<EOF\n# two verbs\n\nrescan\ncancel web:fix\nEOF");
    world.fails("cat > control <<EOF\nrescan\nexplode\nEOF", "Invalid argument");
    world.ok("truncate -s 0 control && echo rescan | dd of=control seek=7 conv=notrunc 2>/dev/null");
    world.ok("echo hold > tasks/fix/control && echo 'priority 7' > projects/web/tasks/fix/control");
    world.ok("echo drain > sessions/ccl-auto-11/control && echo 'C-c Enter' > sessions/ccl-auto-11/keys");
    let calls = world.calls();
    assert_eq!(calls.matches("verb Rescan").count(), 4, "{calls}");
    for verb in ["Pause", "Cancel(Text(\"web:fix\"))", "Hold(", "Priority(", "Drain(", "Keys("] {
        assert_eq!(calls.matches(&format!("verb {verb}")).count(), 1, "{verb}: {calls}");
    }
}

#[test]
fn editing_control_with_vim_does_nothing_odd() {
    let world = World::new();
    // The buffer is the help, all comments, and one bad line: vim must see the refusal and nothing may be done.
    let output = world.bash("timeout 20 vim -es -u NONE -n control -c '$put =\"explode\"' -c 'w!' -c 'cq' < /dev/null");
    assert!(!output.status.success());
    assert_eq!(world.calls(), "");
    world.ok("[ ! -e 4913 ] && [ ! -e control~ ]");
}

#[test]
fn text_for_an_agent_is_one_message_when_the_file_is_closed() {
    let world = World::new();
    world.ok("{ echo one; sleep 0.2; /bin/echo two; printf 'thr\\303'; printf '\\251e'; } > sessions/ccl-1-web/input");
    let line = world.wait_for_call(&["Input("]);
    assert!(line.contains(r#""one\ntwo\nthrée""#), "{line}");
    assert_eq!(world.calls().matches("Input(").count(), 1);
    world.fails("echo x > sessions/ccl-auto-12/input", "No such device or address");
    world.fails("exec 5> sessions/ccl-1-web/input; echo x > sessions/ccl-1-web/input", "Device or resource busy");
    world.fails("printf '\\377' > sessions/ccl-1-web/input", "Invalid argument");
    world.fails("head -c 1100000 /dev/zero | tr '\\0' a | cat > sessions/ccl-1-web/input", "Message too long");
}

#[test]
fn an_open_input_without_text_delivers_nothing() {
    let world = World::new();
    world.ok(": > sessions/ccl-1-web/input; : > sessions/ccl-1-web/input; cat sessions/ccl-1-web/input");
    world.ok("echo rescan > control");
    assert!(!world.calls().contains("Input("), "{}", world.calls());
}

#[test]
fn a_panic_in_a_handler_is_eio_and_the_mount_lives_on() {
    let world = World::new();
    for _ in 0..20 {
        world.fails("echo '# panic' > control", "Input/output error");
    }
    world.ok("cat status > /dev/null && echo x > inbox/x.md && cat inbox/x.md");
}

#[test]
fn shared_with_others_the_permission_bits_hold_and_the_group_may_use_verbs() {
    assert!(nix::unistd::geteuid().is_root(), "this test becomes another user and needs root");
    let world = World::with(&[("MOUNT_CONTROL_GROUP", "4321")]);
    world.ok("chmod 755 \"$HOME\" && mkdir -m 1777 projects/web/open");
    let other = |groups: &str, script: &str| {
        let become_user = format!("setpriv --reuid 65534 --regid 65534 {groups}");
        world.bash(&format!("{become_user} bash -c '{script}'"))
    };
    let stranger = "--clear-groups";
    for script in ["grep -q compte1 status", "ls inbox", "echo x > projects/web/open/x"] {
        let output = other(stranger, script);
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    }
    world.ok("[ \"$(stat -c %u \"$REAL/open/x\")\" = 65534 ]");
    // The kernel has root's attributes of everything by now; they must not open anything to others.
    world.ok("cat events config.yaml control sessions/ccl-auto-11/pane > /dev/null");
    let refused = [
        "cat events",
        "cat config.yaml",
        "cat sessions/ccl-auto-11/pane",
        "cat control",
        "echo pause > control",
        "echo compte2 > accounts/active",
        "echo hold > tasks/fix/control",
        "echo Enter > sessions/ccl-auto-11/keys",
        "echo hi > sessions/ccl-auto-11/input",
        "echo x > inbox/x.md",
        "rm inbox/fix.md",
    ];
    for script in refused {
        assert!(!other(stranger, script).status.success(), "{script}");
    }
    let member = other("--groups 4321", "echo pause > control");
    assert!(member.status.success(), "{}", String::from_utf8_lossy(&member.stderr));
    let member = other("--groups 4321", "echo compte2 > accounts/active");
    assert!(member.status.success(), "{}", String::from_utf8_lossy(&member.stderr));
    assert_eq!(world.calls().matches("verb ").count(), 2);
}

#[test]
fn other_users_get_nothing() {
    assert!(nix::unistd::geteuid().is_root(), "this test becomes another user and needs root");
    let world = World::new();
    world.ok("chmod 755 \"$HOME\"; ls -l > /dev/null; cat status > /dev/null");
    let path = world.mnt();
    for script in ["cat status", "ls", "echo pause > control", "stat status"] {
        let script = format!("cd / ; cd {} && {script}", path.display());
        let output = world.bash(&format!("setpriv --reuid 65534 --regid 65534 --clear-groups bash -c '{script}'"));
        assert!(!output.status.success(), "{script}");
    }
    // Nor through a descriptor that root opened for reading only.
    let readable = std::fs::File::open(path.join("control")).expect("control");
    let again = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path.join("control"));
    assert!((&readable).write_all(b"pause\n").is_err() && again.is_ok());
    assert_eq!(world.calls(), "");
}

#[test]
fn a_full_queue_and_an_unused_session() {
    let world = World::new();
    world.fails("echo x > inbox/one-too-many.md", "quota");
    assert!(!world.ok("ls sessions").contains("ccl-auto-13"));
}
