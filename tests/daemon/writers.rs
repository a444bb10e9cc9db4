//! Who may have a task done by which agent: by hand, detached, through services, from tasks, behind the mount.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Child, Command},
    sync::mpsc,
    time::Instant,
};

use crate::world::{Setup, World};

/// A pool whose agent anybody may use, a shell for people, and one that no task may name.
fn world(agents: u32, more: &str) -> World {
    let mut setup = Setup::agents(agents).more(more);
    setup.more_agents =
        ", sh: {kind: command, run: [bash], tasks: person}, shut: {kind: command, run: [bash]}".to_owned();
    World::start(&setup)
}

fn naming(agent: &str, text: &str) -> String {
    format!("---\nagent: {agent}\n---\n{text}\n")
}

impl World {
    /// A task of a person's that runs this script in a session.
    fn in_session(&self, id: &str, script: &str) -> String {
        let script = script.replace("$SOCK", &self.path("tmux.sock").display().to_string());
        self.submit(id, &naming("sh", &format!("MNT=$CLAUDE_FAILOVER_MOUNT\n{script}")));
        self.result(&format!("done/{id}.md"))
    }

    fn draft(&self, id: &str) -> String {
        fs::write(self.mount(&format!("drafts/{id}.md")), naming("sh", "echo ran")).expect("a draft");
        format!("mv $MNT/drafts/{id}.md $MNT/inbox/")
    }

    /// It is held, and this is why.
    #[track_caller]
    fn held(&self, id: &str, because: &str) {
        let (state, why) = (format!("tasks/{id}/state"), format!("tasks/{id}/why"));
        self.until_told(
            || format!("{id} to be held: {because}; {}", self.word(&why)),
            || self.word(&state) == "held" && self.word(&why).contains(because),
        );
    }

    /// The move was refused: nothing has happened.
    #[track_caller]
    fn refused(&self, id: &str, said: &Path) {
        self.until(&format!("{id}: an answer"), || fs::read_to_string(said).is_ok_and(|text| text.contains('\n')));
        let said = fs::read_to_string(said).unwrap_or_default();
        assert!(said.contains("Operation not permitted"), "{id}: {said}");
        assert!(self.queue(&format!("drafts/{id}.md")).exists(), "{id}");
    }
}

#[test]
fn an_agent_is_no_person_however_it_detaches() {
    let world = world(2, "");
    let go = world.path("go").display().to_string();
    let ways = [
        ("direct", "CMD > SAID 2>&1 || true"),
        ("setsid", "setsid -f bash -c 'CMD' > SAID 2>&1"),
        ("bare", "env -i setsid -f bash -c 'sleep 0.3; CMD' > SAID 2>&1"),
        ("nohup", "env -i nohup bash -c 'sleep 0.3; CMD' > SAID 2>&1 &"),
        ("double", "(env -i setsid bash -c '(sleep 0.3; CMD) &' > SAID 2>&1 &)"),
        ("run-shell", "tmux -S $SOCK run-shell -b 'bash -c \"CMD\" > SAID 2>&1'"),
        ("own-tmux", "env -i PATH=$PATH tmux -S DIR/own.sock -f /dev/null new-session -d bash -c 'CMD > SAID 2>&1'"),
        (
            "thread",
            "python3 -c 'import threading,os; t=threading.Thread(target=lambda: os.system(\"CMD\")); t.start(); t.join()' > SAID 2>&1",
        ),
        ("outlives", "env -i setsid -f bash -c 'while [ ! -e GO ]; do sleep 0.05; done; CMD' > SAID 2>&1"),
    ];
    let dir = world.path("").display().to_string();
    let said = |id: &str| world.path(&format!("{id}.said"));
    for (id, way) in ways {
        let way = way.replace("CMD", &world.draft(id).replace("$MNT", &world.path("mnt").display().to_string()));
        // What stays in its terminal session ends with its command.
        let until_it_spoke = "until [ -s SAID ]; do sleep 0.05; done";
        // What has not detached itself yet when its task is over ends with it, too.
        let detached = ["setsid", "bare", "double", "outlives"].contains(&id);
        let way = match id {
            "nohup" => format!("{way}\n{until_it_spoke}"),
            _ if detached => {
                way.replacen("bash -c '", "bash -c ': > UP; ", 1) + "\nuntil [ -e UP ]; do sleep 0.05; done"
            }
            _ => way,
        };
        let up = world.path(&format!("{id}.up")).display().to_string();
        let way = way.replace("UP", &up);
        let way = way.replace("SAID", &said(id).display().to_string()).replace("GO", &go).replace("DIR", &dir);
        world.in_session(&format!("by-{id}"), &way);
        if id != "outlives" {
            world.refused(id, &said(id));
        }
    }
    // Its session is another's by now, and then there is none.
    world.ok("for s in $MNT/sessions/pool-*; do echo restart > $s/control; done");
    world.submit("after", "something else");
    world.result("done/after.md");
    fs::write(&go, "").expect("go");
    world.refused("outlives", &said("outlives"));
    let _ = Command::new("tmux").args(["-S", &format!("{dir}/own.sock"), "kill-server"]).output();
}

#[test]
fn a_person_stays_one_however_he_works() {
    let world = world(2, "");
    let ways = [
        ("direct", "CMD"),
        ("script", "bash -c 'bash -c \"CMD\"'"),
        ("setsid", "setsid -f bash -c 'sleep 0.2; CMD'"),
        ("nohup", "nohup bash -c 'sleep 0.2; CMD' > /dev/null 2>&1 &"),
        (
            "thread",
            "python3 -c 'import threading,os; t=threading.Thread(target=lambda: os.rename(\"mnt/drafts/thread.md\", \"mnt/inbox/thread.md\")); t.start(); t.join()'",
        ),
        ("own-tmux", "tmux -S own.sock -f /dev/null new-session -d 'CMD; sleep 1000'"),
    ];
    let run = |id: &str, way: &str| world.ok(&way.replace("CMD", &world.draft(id).replace("$MNT", "mnt")));
    for (id, way) in ways {
        run(id, way);
        assert!(world.result(&format!("done/{id}.md")).contains("ran"), "{id}");
    }
    // Nobody knows in whose name a server runs a command.
    run("run-shell", &format!("tmux -S own.sock run-shell -b 'cd {} && CMD'", world.path("").display()));
    world.held("run-shell", "it is not known who wrote it");
    world.ok("tmux -S own.sock kill-server; echo release > $MNT/tasks/run-shell/control");
    world.result("done/run-shell.md");
}

#[test]
fn a_text_is_judged_by_who_wrote_it_whatever_became_of_its_name() {
    let world = world(1, "");
    // What no task may name, nobody names, and no verb opens it.
    let out = world
        .sh("printf -- '---\\nagent: shut\\n---\\nx\\n' > $MNT/drafts/shut.md; mv $MNT/drafts/shut.md $MNT/inbox/");
    assert!(String::from_utf8_lossy(&out.stderr).contains("Operation not permitted"), "{out:?}");
    world.submit("shut2", &naming("shut", "x"));
    world.held("shut2", "`tasks: person` (or `anyone`) in `agents.shut`");
    assert!(!world.sh("echo release > $MNT/tasks/shut2/control").status.success());
    world.ok("rm $MNT/inbox/shut2.md");

    // Behind the mount nobody knows who wrote: the pool's own agent does it, a shell waits for a person.
    fs::write(world.queue("inbox/plain.md"), "do it\n").expect("written");
    world.result("done/plain.md");
    fs::write(world.queue("inbox/behind.md"), naming("sh", "echo behind")).expect("written");
    world.held("behind", "a person's `echo release > control` runs this text, `tasks: anyone`");
    assert_eq!(
        world
            .events()
            .lines()
            .filter(|line| line.contains("web:behind") && line.contains("person's tasks only"))
            .count(),
        1
    );
    world.ok("echo release > $MNT/tasks/behind/control");
    world.result("done/behind.md");

    // A person's, changed behind the mount before it ran: not his any more.
    world.ok("echo pause > $MNT/control");
    world.submit("mine", &naming("sh", "echo mine"));
    world.until_word("tasks/mine/state", "queued");
    fs::OpenOptions::new()
        .append(true)
        .open(world.queue("inbox/mine.md"))
        .and_then(|mut file| std::io::Write::write_all(&mut file, b"echo and more\n"))
        .expect("appended");
    world.held("mine", "it is not known who wrote it");
    // Bookkeeping changes nothing, and saving it makes it his again.
    world.ok("echo '# ' >> $MNT/inbox/mine.md");
    world.until_word("tasks/mine/state", "queued");
    let text = fs::read_to_string(world.queue("inbox/mine.md")).expect("the task");
    fs::write(world.queue("inbox/mine.md"), text.replace("agent: sh", "agent: sh\nstatus: READ")).expect("written");
    world.until("it to be read again", || world.word("tasks/mine/task.md").contains("status: READ"));
    world.until_word("tasks/mine/state", "queued");
    world.ok("echo resume > $MNT/control");
    world.result("done/mine.md");
    assert!(!world.sh("grep -l sh $MNT/inbox/*.md").status.success());
}

#[test]
fn an_agent_gains_nothing_by_another_s_text_or_verb() {
    let world = world(2, "");
    world.submit("his", &naming("sh", "echo his"));
    world.result("done/his.md");
    fs::write(world.queue("inbox/held.md"), naming("sh", "echo held")).expect("written");
    world.held("held", "it is not known who wrote it");
    world
        .ok("echo pause > $MNT/control; echo 'a plain one' > $MNT/inbox/waits.md; echo 'another' > $MNT/inbox/over.md");
    world.until_word("tasks/over/state", "queued");
    world.ok("echo hold > $MNT/tasks/waits/control; echo hold > $MNT/tasks/over/control; echo resume > $MNT/control");
    let tries = [
        "mv $MNT/done/his.md $MNT/inbox/",
        "ln $MNT/done/his.md $MNT/inbox/linked.md",
        "echo release > $MNT/tasks/held/control",
        "echo delegate > $MNT/tasks/waits/control",
        "echo release > $MNT/tasks/waits/control",
        "echo Enter > $MNT/sessions/$CLAUDE_FAILOVER_SESSION/keys",
        "echo yes > $MNT/sessions/$CLAUDE_FAILOVER_SESSION/input",
        "echo reload > $MNT/control",
        "echo resume > $MNT/control",
        "printf -- '---\\nagent: sh\\n---\\nx\\n' > $MNT/drafts/n.md; mv $MNT/drafts/n.md $MNT/inbox/over.md",
        "mv --exchange $MNT/drafts/n.md $MNT/inbox/over.md",
        "mv $MNT/drafts/n.md $MNT/../mnt/projects/web/inbox/n2.md",
        "mv $MNT/drafts/n.md $MNT/projects/api/inbox/n3.md",
    ];
    for (n, attempt) in tries.iter().enumerate() {
        let said =
            world.in_session(&format!("try-{n}"), &format!("if ({attempt}); then echo DONE-IT; else echo REFUSED; fi"));
        assert!(said.contains("\nREFUSED") && !said.contains("\nDONE-IT"), "{attempt}: {said}");
    }
    // What is known only when it is closed is held; so is what a mapping changed after the close.
    let held = [
        ("echo", "printf -- '---\\nagent: sh\\n---\\nx\\n' > $MNT/inbox/echo.md"),
        ("retry", "cp $MNT/done/his.md $MNT/failed/retry.md; echo retry web:retry > $MNT/control"),
        (
            "mapped",
            "python3 -c 'import mmap,os\nt=b\"---\\nagent: sh\\n---\\nx\\n\"\nf=open(os.environ[\"CLAUDE_FAILOVER_MOUNT\"]+\"/inbox/mapped.md\",\"w+b\"); f.write(b\" \"*len(t)); f.flush()\nm=mmap.mmap(f.fileno(),len(t)); f.close(); m[:]=t; m.flush()'",
        ),
    ];
    for (id, attempt) in held {
        world.in_session(&format!("held-{id}"), attempt);
        world.held(id, "an agent wrote it");
    }
    // A task for the agent that anyone may use is an agent's right, and its parent is known however it was written.
    world.in_session("parent", "setsid -f bash -c 'echo child > $CLAUDE_FAILOVER_MOUNT/inbox/child.md'; sleep 0.5");
    world.result("done/child.md");
    assert!(world.word("tasks/child/why").contains("task web:parent"), "{}", world.word("tasks/child/why"));
}

#[test]
fn a_permission_outlives_the_daemon() {
    let mut world = world(1, "");
    world.ok("echo pause > $MNT/control");
    world.submit("mine", &naming("sh", "echo mine"));
    fs::write(world.queue("inbox/let-go.md"), naming("sh", "echo let go")).expect("written");
    fs::write(world.queue("inbox/other.md"), naming("sh", "echo other")).expect("written");
    world.until_word("tasks/mine/state", "queued");
    world.held("let-go", "it is not known who wrote it");
    world.ok("echo release > $MNT/tasks/let-go/control");
    world.kill_daemon();
    fs::write(world.queue("inbox/other.md"), naming("sh", "echo another")).expect("written");
    world.run();
    world.until_word("tasks/mine/state", "queued");
    world.until_word("tasks/let-go/state", "queued");
    world.held("other", "it is not known who wrote it");
    world.ok("echo resume > $MNT/control");
    world.result("done/mine.md");
    world.result("done/let-go.md");
    assert_eq!(world.word("tasks/other/state"), "held");
}

#[test]
fn tasks_that_submit_tasks_come_to_an_end() {
    let mut setup = Setup::agents(2);
    setup.agent = "sh".into();
    setup.more_agents = ", sh: {kind: command, run: [bash]}".to_owned();
    setup.brakes = ", max_depth: 2, subtasks_per_hour: 3".into();
    let mut world = World::start(&setup);
    // Each submits the next, of another name: the third of them is too deep.
    let text = "n=$(basename $(readlink $CLAUDE_FAILOVER_TASK)); n=${n#*:}\ncat $CLAUDE_FAILOVER_TASK/task.md > $CLAUDE_FAILOVER_MOUNT/inbox/${n}x.md\n";
    world.submit("r", text);
    world.held("rxxx", "dispatcher.max_depth: 2");
    assert!(world.queue("done/rxx.md").exists());
    world.kill_daemon();
    world.run();
    world.held("rxxx", "dispatcher.max_depth: 2");
    // A person lets it go; what it submits is deeper still.
    world.ok("echo release > $MNT/tasks/rxxx/control");
    world.result("done/rxxx.md");
    world.held("rxxxx", "it is 4 tasks deep");
    // And many at once, of one parent.
    world.submit("w", "for n in 1 2 3 4 5; do echo true > $CLAUDE_FAILOVER_MOUNT/inbox/w$n.md; sleep 0.2; done\n");
    world.result("done/w.md");
    for n in 1..=3 {
        world.result(&format!("done/w{n}.md"));
    }
    world.held("w4", "dispatcher.subtasks_per_hour");
    world.held("w5", "dispatcher.subtasks_per_hour");
    assert_eq!(
        world
            .events()
            .lines()
            .filter(|line| line.contains("task web:w5") && line.contains("held: "))
            .filter(|line| line.contains("subtasks"))
            .count(),
        1
    );
}

impl World {
    /// An agent's process that has cleared its environment, detached itself, and waits for `go`.
    fn orphan(&self, id: &str, then: &str) {
        let [go, said, up, script] =
            ["go", "said", "up", "sh"].map(|end| self.path(&format!("{id}.{end}")).display().to_string());
        let text =
            format!(": > {up}; while [ ! -e {go} ]; do sleep 0.05; done; ({then}) > {said} 2>&1; echo over >> {said}");
        fs::write(&script, text).expect("a script");
        // What has not detached itself yet when its task is over is ended with it.
        let detached = format!("env -i PATH=$PATH setsid -f bash {script}; until [ -e {up} ]; do sleep 0.05; done");
        self.in_session(&format!("by-{id}"), &detached);
    }

    /// What it says.
    fn go(&self, id: &str) -> String {
        fs::write(self.path(&format!("{id}.go")), "").expect("go");
        let said = self.path(&format!("{id}.said"));
        self.until("it to be over", || fs::read_to_string(&said).is_ok_and(|text| text.contains("over")));
        fs::read_to_string(said).unwrap_or_default()
    }
}

#[test]
fn the_end_of_the_tmux_server_makes_no_agent_a_person() {
    let mut world = world(1, "");
    let sock = world.path("tmux.sock").display().to_string();
    let mnt = world.path("mnt").display().to_string();
    let mv = |id: &str| format!("mv {mnt}/drafts/{id}.md {mnt}/inbox/");
    world.orphan("killed", &format!("printf -- '---\\nagent: sh\\n---\\necho ran\\n' > {mnt}/inbox/killed.md"));
    world.orphan("ended", &format!("cp {mnt}/drafts/ended.md {mnt}/drafts/e.md; mv {mnt}/drafts/e.md {mnt}/inbox/"));
    world.orphan("unseen", &format!("setsid -f bash -c '{}'; sleep 0.5", mv("unseen")));
    let own = format!("tmux -S {mnt}.own -f /dev/null new-session -d '{} 2> {mnt}.own-said; sleep 1000'", mv("own"));
    world.orphan("own", &format!("{own}; until [ -s {mnt}.own-said ]; do sleep 0.05; done; cat {mnt}.own-said"));
    world.orphan("verb", &format!("echo release > {mnt}/tasks/killed/control"));
    for id in ["ended", "unseen", "own"] {
        world.draft(id);
    }
    let refused = |world: &World, id: &str| {
        let said = world.go(id);
        assert!(said.contains("Operation not permitted"), "{id}: {said}");
    };
    world.ok(&format!("kill -9 $(tmux -S {sock} display-message -p '#{{pid}}')"));
    world.go("killed");
    world.held("killed", "an agent wrote it");
    refused(&world, "verb");
    // The same with the next server there, and after that one has ended.
    world.until("another server", || world.sh(&format!("tmux -S {sock} list-sessions")).status.success());
    world.ok(&format!("tmux -S {sock} kill-server"));
    refused(&world, "ended");
    refused(&world, "own");
    world.kill_daemon();
    world.run();
    refused(&world, "unseen");
    // A person's shell is still his, and so is what he starts or detaches now.
    world.submit("his", &naming("sh", "echo his"));
    world.result("done/his.md");
    world.draft("later");
    world.ok(&format!("tmux -S {mnt}.own kill-server; setsid -f bash -c 'sleep 0.2; {}'", mv("later")));
    world.result("done/later.md");
}

#[test]
fn no_right_is_gained_by_destroying_state() {
    let mut world = world(1, "");
    let [mnt, sock, other] = ["mnt", "tmux.sock", "other"].map(|name| world.path(name).display().to_string());
    let task = |id: &str| format!("printf -- '---\\nagent: sh\\n---\\necho ran\\n' > {mnt}/inbox/{id}.md");
    let ways = ["fresh", "garbage", "elsewhere"];
    for way in ways {
        world.orphan(way, &task(way));
    }
    let down = |world: &mut World| {
        world.kill_daemon();
        world.ok(&format!("kill -9 $(tmux -S {sock} display-message -p '#{{pid}}')"));
    };
    let holds = |world: &World, id: &str| {
        world.go(id);
        world.held(id, "an agent wrote it");
        // What a person does is his all the same.
        world.submit(&format!("after-{id}"), &naming("sh", "echo his"));
        world.result(&format!("done/after-{id}.md"));
    };
    down(&mut world);
    fs::rename(world.path("state"), world.path("state.old")).expect("moved");
    world.run();
    holds(&world, "fresh");
    down(&mut world);
    for name in ["state.json", "state.journal"] {
        fs::write(world.path("state").join(name), "garbage\n").expect("written");
    }
    world.run();
    holds(&world, "garbage");
    down(&mut world);
    world.env.push(("STATE_DIRECTORY".into(), other));
    world.run();
    holds(&world, "elsewhere");
}

#[test]
fn release_lets_go_what_was_told_and_no_more() {
    let world = world(1, "");
    let good = naming("sh", "echo GOOD");
    let evil = naming("sh", "echo EVIL");
    world.ok("echo pause > $MNT/control");
    for id in ["behind", "through"] {
        world.submit(id, &good);
        world.until_word(&format!("tasks/{id}/state"), "queued");
        world.ok(&format!("echo hold > $MNT/tasks/{id}/control"));
        world.held(id, "a person held it");
    }
    world.submit("his", &good);
    world.until_word("tasks/his/state", "queued");
    world.ok("echo hold > $MNT/tasks/his/control; echo resume > $MNT/control");
    // Nothing but the person's own word holds his own text.
    world.held("his", "written by a person");
    assert!(!world.word("tasks/his/why").contains("stays held"));
    world.ok("echo release > $MNT/tasks/his/control");
    world.result("done/his.md");

    fs::write(world.queue("inbox/behind.md"), &evil).expect("written");
    world.in_session("by", "printf -- '---\\nagent: sh\\n---\\necho EVIL\\n' > $MNT/inbox/through.md");
    for (id, who) in [("behind", "it is not known who wrote it"), ("through", "an agent wrote it")] {
        world.held(id, &format!("it stays held: agent sh does a person's tasks only, and {who}"));
        let why = world.word(&format!("tasks/{id}/why"));
        assert!(why.contains("a person held it") && !why.contains("\nwritten by a person"), "{why}");
        world.ok(&format!("echo release > $MNT/tasks/{id}/control"));
        world.held(id, who);
        assert!(!world.word(&format!("tasks/{id}/why")).contains("a person held it"));
        world.ok(&format!("echo release > $MNT/tasks/{id}/control"));
        assert!(
            world.result(&format!("done/{id}.md")).contains("EVIL"),
            "{id}: its reason was told, and it was let go"
        );
    }

    // Changed behind the mount while the earlier text is worked on.
    let go = world.path("go").display().to_string();
    world.submit("while", &naming("sh", &format!("until [ -e {go} ]; do sleep 0.05; done; echo GOOD")));
    world.until_word("tasks/while/state", "working");
    fs::write(world.queue("inbox/while.md"), &evil).expect("written");
    world.until("it to be seen", || world.word("tasks/while/why").contains("has changed since it was claimed"));
    fs::write(&go, "").expect("go");
    world.held("while", "it stays held: agent sh does a person's tasks only");
    assert!(!world.word("tasks/while/why").contains("\nwritten by a person"), "{}", world.word("tasks/while/why"));
    world.ok("echo release > $MNT/tasks/while/control");
    world.held("while", "it is not known who wrote it");
    assert!(!world.word("tasks/while/why").contains("it stays held"));

    // A failed text that was changed behind the mount is not what the person has run again.
    let second = format!("---\nagent: sh\nretries: 0\n---\n[ -e {go}-2 ]\n");
    for id in ["same", "changed"] {
        world.submit(id, &second);
        world.result(&format!("failed/{id}.md"));
    }
    fs::write(format!("{go}-2"), "").expect("go");
    let failed = world.queue("failed/changed.md");
    let text = fs::read_to_string(&failed).expect("a result");
    fs::write(&failed, text.replace("[ -e", "echo EVIL; [ -e")).expect("written");
    world.ok("echo retry same > $MNT/control; echo retry changed > $MNT/control");
    world.result("done/same.md");
    world.held("changed", "it is not known who wrote it");
    world.ok("echo release > $MNT/tasks/changed/control");
    assert!(world.result("done/changed.md").contains("EVIL"));
}

#[test]
fn a_refused_submit_says_what_decides_who_may_name_the_agent() {
    let world = world(1, "");
    let program = crate::world::program();
    let refused = world.sh(&format!("{} submit --mount $MNT --agent shut hello", program.display()));
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && told.contains("whose tasks may name that agent"), "{told}");
}

/// exec(2) closes what is marked close-on-exec under a lock that reading `/proc/PID/stat` takes (Linux 6.18), and each close
/// is a request to the mount. Nobody may wait for anybody then.
#[test]
fn a_program_that_is_started_beside_an_open_task_goes_on_at_once() {
    let world = world(1, "");
    world.until_word("sessions/pool-11/state", "idle");
    let mut task = fs::File::create(world.mount("inbox/a.md")).expect("created");
    task.write_all(naming("sh", "echo ran").as_bytes()).expect("written");
    let starts = |n: usize| {
        let begun = Instant::now();
        let mut child = start("true");
        world.until("the program to start and end", || matches!(child.try_wait(), Ok(Some(_))));
        println!("start {n}: {:?}", begun.elapsed());
    };
    (0..5).for_each(starts);
    drop(task);
    // Only a person's task may name this agent.
    assert!(world.result("done/a.md").contains("ran"));
}

/// Starts a program with everything that this one has open, which its exec(2) closes. The call itself may take for ever.
fn start(program: &'static str) -> Child {
    let (sender, started) = mpsc::channel();
    std::thread::spawn(move || sender.send(Command::new(program).spawn().expect("started")));
    started.recv_timeout(crate::world::PATIENCE).expect("exec(2) waits for the mount, and the mount for it")
}
