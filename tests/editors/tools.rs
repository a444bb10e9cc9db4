//! Programs that write files, as scripts use them: no error, one dispatch, the whole text.

use crate::desk::{Desk, has};

/// Runs each script in the mount; `@` is the task's name. The text is what must be dispatched.
fn each_once(cases: &[(&str, &str, &str)]) {
    let desk = Desk::new();
    for (id, script, _) in cases {
        desk.until_an_agent_is_free();
        desk.quietly(&script.replace('@', &format!("inbox/{id}.md")));
    }
    desk.once(&cases.iter().map(|(id, _, text)| (*id, *text)).collect::<Vec<_>>());
}

#[test]
fn copies_arrive_once() {
    if !has(&["rsync", "python3", "install"]) {
        return;
    }
    each_once(&[
        ("cp", "echo by cp > ~/cp; cp ~/cp @", "by cp"),
        (
            "cp-p",
            "echo by cp -p > ~/p; touch -d '2020-01-02 03:04:05' ~/p; cp -p ~/p @ && [ @ -ot ~/p -o ! @ -nt ~/p ]",
            "by cp -p",
        ),
        ("mv", "echo from elsewhere > /dev/shm/cf-$$; mv /dev/shm/cf-$$ @", "from elsewhere"),
        ("install", "echo by install > ~/i; install -m 640 ~/i @ && [ \"$(stat -c %a @)\" = 640 ]", "by install"),
        ("rsync", "echo by rsync > ~/r; rsync -a ~/r @", "by rsync"),
        ("inplace", "echo by inplace > ~/n; rsync -a --inplace ~/n @", "by inplace"),
        ("inplace-over", "echo short > @; echo by inplace over > ~/n; rsync -a --inplace ~/n @", "by inplace over"),
        ("copy2", "echo by copy2 > ~/c; python3 -c 'import shutil,sys;shutil.copy2(*sys.argv[1:])' ~/c @", "by copy2"),
        (
            "move",
            "echo by move > /dev/shm/cf-m$$; python3 -c 'import shutil,sys;shutil.move(*sys.argv[1:])' /dev/shm/cf-m$$ @",
            "by move",
        ),
        ("link", "echo by link > drafts/l; ln drafts/l @; rm drafts/l", "by link"),
        ("dd", "echo by dd > ~/d; dd if=$HOME/d of=@ bs=3 status=none conv=fsync", "by dd"),
        ("tar", "cd ~ && mkdir inbox && echo by tar > @ && tar cf - @ | tar xf - -C \"$MNT\"", "by tar"),
    ]);
}

#[test]
fn rewriting_in_place_is_one_task() {
    if !has(&["perl", "ed", "python3"]) {
        return;
    }
    each_once(&[
        ("sed", "echo 'a draft' > @; sed -i s/draft/sed/ @", "a sed"),
        ("sed-bak", "echo 'a draft' > @; sed -i.bak s/draft/sed-bak/ @; rm @.bak", "a sed-bak"),
        ("perl", "echo 'a draft' > @; perl -i -pe s/draft/perl/ @", "a perl"),
        ("perl-orig", "echo 'a draft' > @; perl -i.orig -pe s/draft/perl-orig/ @; rm @.orig", "a perl-orig"),
        ("ed", "echo 'a draft' > @; printf '%s\\n' s/draft/ed/ w q | ed -s @", "a ed"),
        ("ed-new", "printf '%s\\n' a 'ed anew' . 'w @' q | ed -s", "ed anew"),
        (
            "replace",
            "python3 -c 'import os,sys,tempfile;d=os.path.dirname(sys.argv[1]);f=tempfile.NamedTemporaryFile(\"w\",dir=d,suffix=\".tmp\",delete=False);f.write(\"by replace\");f.flush();os.fsync(f.fileno());f.close();os.replace(f.name,sys.argv[1]);d=os.open(d,0);os.fsync(d)' @",
            "by replace",
        ),
        ("mktemp", "t=$(mktemp inbox/.tmp.XXXXXX); echo by mktemp > $t; mv $t @", "by mktemp"),
    ]);
}

#[test]
fn shells_write_one_task() {
    each_once(&[
        ("echo", "echo one line > @ && chmod 600 @ && ls @ > /dev/null", "one line"),
        ("tee", "echo by tee | tee @ > /dev/null", "by tee"),
        ("here", "cat > @ <<END\nfirst\nsecond\nEND", "first\nsecond"),
        ("append", "echo step one > @; echo step two >> @", "step one\nstep two"),
        ("builtins", "{ echo 1; printf '2\\n'; echo 3; } > @", "1\n2\n3"),
        ("noclobber", "set -C; echo never over > @; ! { echo other > @; } 2>/dev/null", "never over"),
        ("dash", "dash -c 'echo from dash > @'", "from dash"),
    ]);
}

#[test]
fn a_slow_writer_is_waited_for() {
    // Longer than the settle time, so that nothing but the open handle tells.
    each_once(&[
        ("pause", "{ echo before; sleep 2.5; echo after; } > @", "before\nafter"),
        ("child", "exec 3> @; echo parent >&3; { sleep 2.5; echo child >&3; } & exec 3>&-; wait", "parent\nchild"),
        ("kept", "exec 3> @; echo written >&3; sleep 2.5 & exec 3>&-; wait", "written"),
        ("drip", "for n in 1 2 3 4; do echo $n; sleep 0.7; done > @", "1\n2\n3\n4"),
        ("again", "for n in 1 2 3 4; do echo n$n >> @; sleep 0.4; done", "n1\nn2\nn3\nn4"),
    ]);
}

#[test]
fn a_writer_that_still_holds_its_file_is_named_in_why() {
    let desk = Desk::new();
    let mut writer = std::process::Command::new("bash")
        .args(["-c", "exec 3> \"$1\"; echo half >&3; read -r; echo whole >&3", "-"])
        .arg(desk.world.mount("inbox/open.md"))
        .stdin(std::process::Stdio::piped())
        .spawn()
        .expect("bash");
    let why = || desk.world.word("tasks/open/why");
    desk.world.until("why to tell of the writer", || why().contains("open for writing"));
    assert_eq!(desk.world.word("tasks/open/state"), "held");
    std::io::Write::write_all(&mut writer.stdin.take().expect("a pipe"), b"\n").expect("told");
    assert!(writer.wait().expect("ended").success());
    desk.once(&[("open", "half\nwhole")]);
}
