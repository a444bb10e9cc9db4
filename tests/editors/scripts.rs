//! Scripts around a queue: claims by `mv`, polling loops, locks. Forms found in public dispatcher scripts.

use std::{
    collections::BTreeMap,
    fs,
    process::{Child, Command, Stdio},
};

use crate::{
    desk::{Desk, has, names},
    world::Setup,
};

/// Claims by `mv` until nothing is left: success is mine, failure somebody else's (enclaive, task-queue.sh).
const CLAIM: &str = r#"
    cd "$MNT/projects/web" && mkdir "claimed-$ME" || exit 1
    while ls inbox/*.md > /dev/null 2>&1; do
        for task in inbox/*.md; do
            if mv "$task" "claimed-$ME/" 2> /dev/null; then sleep 0.2; fi
        done
    done"#;

fn claimer(desk: &Desk, me: &str) -> Child {
    let script = Command::new("bash").args(["-c", CLAIM]).env("ME", me).env("MNT", desk.world.path("mnt")).spawn();
    script.expect("bash")
}

#[test]
fn of_two_scripts_and_the_daemon_exactly_one_claims_a_task() {
    let desk = Desk::with(Setup { settle: "300ms".to_owned(), ..Setup::agents(3) });
    desk.pause();
    let tasks: Vec<String> = (0..30).map(|n| format!("task-{n:02}")).collect();
    for id in &tasks {
        desk.world.submit(id, &format!("the work of {id}\n"));
    }
    desk.world
        .until("all to be queued", || tasks.iter().all(|id| desk.world.word(&format!("tasks/{id}/state")) == "queued"));
    desk.resume();
    let scripts = ["one", "two"].map(|me| claimer(&desk, me));
    for mut script in scripts {
        assert!(script.wait().expect("ended").success());
    }
    let mut winners = 0;
    let mut owners: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for place in ["done", "claimed-one", "claimed-two"] {
        let found = names(&desk.world.queue(place));
        winners += usize::from(!found.is_empty());
        for name in found {
            owners.entry(name.trim_end_matches(".md").to_owned()).or_default().push(place);
        }
    }
    assert!(winners > 1, "one has won everything, so nothing was raced for: {owners:?}");
    assert_eq!(owners.keys().collect::<Vec<_>>(), tasks.iter().collect::<Vec<_>>());
    let prompts = desk.prompts();
    for (id, owners) in owners {
        let given = prompts.iter().filter(|prompt| prompt.trim_end() == format!("the work of {id}")).count();
        assert_eq!(
            (owners.len(), given),
            (1, usize::from(owners == ["done"])),
            "{id} is in {owners:?}, and {given} agents had it"
        );
    }
    assert!(names(&desk.world.queue("failed")).is_empty());
}

#[test]
fn a_task_at_work_can_be_touched_but_not_taken() {
    let desk = Desk::new();
    let text = "---\nstatus: UNREAD\n---\ndemo: slow=4\nslow work\n";
    desk.world.submit("slow", text);
    desk.world.until_word("tasks/slow/state", "working");
    for to in ["drafts", "failed", "projects/web", "projects/api/inbox"] {
        let out = desk.sh(&format!("mv inbox/slow.md {to}/"));
        let told = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!out.status.success() && told.contains("busy"), "to {to}: {told}");
    }
    desk.quietly("touch inbox/slow.md; chmod 640 inbox/slow.md; sed -i 's/status: UNREAD/status: READ/' inbox/slow.md");
    desk.quietly("mv inbox/slow.md inbox/slow.md~; mv inbox/slow.md~ inbox/slow.md");
    assert_eq!(desk.world.word("tasks/slow/state"), "working");
    let result = desk.world.result("done/slow.md");
    assert!(result.contains("\nattempts: 1\n"), "{result}");
    desk.world.until("the inbox to be empty", || desk.world.inbox_is_empty());
    assert_eq!(desk.prompts().iter().filter(|prompt| prompt.contains("slow work")).count(), 1);
    assert_eq!(names(&desk.world.queue("done")), ["slow.md"]);
}

#[test]
fn loops_that_poll_see_what_happens() {
    let desk = Desk::new();
    desk.quietly("for n in 3 1 2; do echo x > done/$n.md; touch -d \"2024-01-0$n\" done/$n.md; done");
    assert_eq!(desk.quietly("ls -tr done").split_whitespace().collect::<Vec<_>>(), ["1.md", "2.md", "3.md"]);
    assert_eq!(desk.quietly("find done -name '*.md' -mmin +1 | wc -l").trim(), "3");
    let before = desk.quietly("stat -c %.9Y done inbox");
    let events = desk.terminal("events", "timeout 60 tail -n +1 -f events | grep -m 1 'web:polled.*done'");
    let log =
        desk.terminal("log", "touch projects/web/log; timeout 60 tail -f projects/web/log | grep -m 1 'end of it'");
    desk.quietly(
        "echo 'to be polled for' > inbox/polled.md; n=0
         until [ -s done/polled.md ]; do sleep 0.2; n=$((n+1)); [ $n -lt 300 ]; done
         grep -q 'status: done' done/polled.md; while ls inbox/*.md > /dev/null 2>&1; do sleep 0.1; done",
    );
    assert_eq!(desk.quietly("find done inbox -mmin -1 -name '*.md'").trim(), "done/polled.md");
    assert_eq!(desk.quietly("ls -t done | head -1").trim(), "polled.md");
    let after = desk.quietly("stat -c %.9Y done inbox");
    for (before, after) in before.lines().zip(after.lines()) {
        assert_ne!(before, after, "the directory's time stood still");
    }
    events.ends();
    desk.quietly("echo 'end of it' >> projects/web/log");
    log.ends();
}

#[test]
fn watch_ends_when_a_result_comes() {
    if !has(&["watch", "tmux"]) {
        return;
    }
    let desk = Desk::new();
    let watch = desk.terminal("watch", "watch --chgexit --interval 0.5 'ls done'");
    watch.sees("Every 0.5s");
    desk.world.submit("seen", "to be seen\n");
    watch.ends();
    desk.once(&[("seen", "to be seen")]);
}

#[test]
fn locks_exclude() {
    if !has(&["flock", "python3"]) {
        return;
    }
    let desk = Desk::new();
    let script = r#"
        cd "$MNT/projects/web"
        for n in $(seq 20); do
            ( flock 9; c=$(cat count); sleep 0.002; echo $((c+1)) > count ) 9> count.lock
            until mkdir x.lock.d 2> /dev/null; do sleep 0.005; done
            echo $$ > x.lock.d/pid; d=$(cat dirs); sleep 0.002; echo $((d+1)) > dirs
            rm -f x.lock.d/pid; rmdir x.lock.d
        done
        python3 -c '
import fcntl
for n in range(20):
    with open("posix.lock", "a") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        n = int(open("posix").read()); open("posix", "w").write(str(n + 1))
'"#;
    desk.quietly("cd projects/web; echo 0 | tee count dirs posix > /dev/null");
    let workers: Vec<Child> = (0..3)
        .map(|_| {
            let mut bash = Command::new("bash");
            bash.args(["-ec", script]).env("MNT", desk.world.path("mnt")).stdin(Stdio::null()).spawn().expect("bash")
        })
        .collect();
    for mut worker in workers {
        assert!(worker.wait().expect("ended").success());
    }
    for counter in ["count", "dirs", "posix"] {
        assert_eq!(fs::read_to_string(desk.world.queue(counter)).expect("a count").trim(), "60", "{counter}");
    }
    // nohang and noclobber forms: whoever comes second is told at once.
    desk.quietly(
        "exec 9> projects/web/l; flock 9; ! flock -n projects/web/l true; ! (set -C; : > projects/web/l) 2> /dev/null",
    );
}
