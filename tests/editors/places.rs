//! Usual setups of `.agent-queue`: a symbolic link into the mount, or the mount's project directory bind-mounted over
//! it.

use std::{
    fs,
    os::unix::fs::symlink,
    process::{Command, Stdio},
};

use crate::desk::{Desk, has};

/// A script that lives in a project and knows nothing but its `.agent-queue`.
const SCRIPT: &str = r#"
    set -e
    cd "$PROJECT/.agent-queue"
    exec 9> dispatch.lock; flock -n 9
    mkdir -p doing logs
    echo "written in $NAME" > inbox/$NAME-a.md
    echo "copied in NAME" > doing/b; sed -i "s/NAME/$NAME/" doing/b; mv doing/b inbox/$NAME-b.md
    for id in a b; do until [ -s done/$NAME-$id.md ]; do sleep 0.1; done; done
    while ls inbox/$NAME-*.md > /dev/null 2>&1; do sleep 0.1; done
    echo done >> logs/$NAME
    [ "$(stat -c %i done)" = "$(stat -c %i "$PROJECT/.agent-queue/done")" ]
"#;

fn cases(names: &[&str]) -> Vec<(String, String)> {
    let case = |name: &&str| {
        [(format!("{name}-a"), format!("written in {name}")), (format!("{name}-b"), format!("copied in {name}"))]
    };
    names.iter().flat_map(case).collect()
}

fn once(desk: &Desk, names: &[&str]) {
    let cases = cases(names);
    desk.once(&cases.iter().map(|(id, text)| (id.as_str(), text.as_str())).collect::<Vec<_>>());
}

#[test]
fn the_queue_may_be_a_link_into_the_mount() {
    let desk = Desk::new();
    let checkout = desk.world.path("checkout");
    fs::create_dir(&checkout).expect("made");
    symlink(desk.world.mount("projects/web"), checkout.join(".agent-queue")).expect("linked");
    desk.quietly(&format!("PROJECT={}; NAME=link; {SCRIPT}", checkout.display()));
    assert!(desk.world.queue("logs/link").exists());
    once(&desk, &["link"]);
}

/// As root, or as root of a user namespace of one's own.
fn unshare() -> Option<&'static str> {
    let allowed = |flags: &str| {
        Command::new("unshare")
            .args([flags, "true"])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    let found = ["-m", "-rm"].into_iter().find(|flags| allowed(flags));
    assert!(found.is_some() || std::env::var("CI").as_deref() != Ok("true"), "mount namespaces are needed in CI");
    if found.is_none() {
        println!("skipped: no mount namespace may be made here");
    }
    found
}

#[test]
fn the_mount_may_be_bound_over_the_queue() {
    let Some(unshare) = has(&["unshare"]).then(unshare).flatten() else { return };
    let mut desk = Desk::new();
    let project = desk.world.path("web");
    let bind = "mount --bind \"$MNT/projects/web\" \"$PROJECT/.agent-queue\"";
    let enter =
        |rest: &str| format!("PROJECT={} NAME=bound unshare {unshare} bash -ec '{bind}\n{rest}'", project.display());
    desk.quietly(&format!("export MNT; {}", enter(&SCRIPT.replace('\'', "\""))));
    once(&desk, &["bound"]);

    // A namespace that keeps its copy of the mount doesn't keep the daemon from ending, nor the next from starting.
    let held = desk.world.path("held");
    let keep = enter(&format!("touch {}; exec sleep 600", held.display()));
    let mut keeper = Command::new("bash")
        .args(["-c", &format!("exec env {keep}")])
        .env("MNT", desk.world.path("mnt"))
        .spawn()
        .expect("bash");
    desk.world.until("the namespace", || held.exists());
    assert_eq!(desk.world.stop_daemon(), Some(0));
    assert!(fs::read_dir(desk.world.mount("")).expect("the mountpoint").next().is_none(), "still mounted");
    assert!(desk.world.queue("done/bound-a.md").exists());
    desk.world.run();
    desk.world.submit("next", "next\n");
    desk.world.result("done/next.md");
    keeper.kill().expect("killed");
    keeper.wait().expect("ended");
}
