//! Real programs save and move files on the mount as anywhere else.

use crate::world::World;

#[test]
fn file_tools_do_their_work() {
    let world = World::new();
    world.ok("echo a > \"$HOME/a\" && cp \"$HOME/a\" inbox/a.md && cp -p inbox/a.md inbox/b.md && cp -a inbox/b.md drafts/ && cmp inbox/a.md drafts/b.md");
    world.ok("install -m 640 \"$HOME/a\" inbox/i.md && [ \"$(stat -c %a inbox/i.md)\" = 640 ]");
    world.ok("echo m > /dev/shm/m.$$ && mv /dev/shm/m.$$ inbox/m.md && [ \"$(cat inbox/m.md)\" = m ]");
    world.ok("rsync -a \"$HOME/a\" inbox/r.md && echo more >> \"$HOME/a\" && rsync -a --inplace \"$HOME/a\" inbox/r.md && cmp \"$HOME/a\" inbox/r.md");
    world.ok("echo t | tee inbox/t.md > /dev/null && dd if=inbox/t.md of=inbox/d.md 2> /dev/null && cmp inbox/t.md inbox/d.md");
    world.ok("printf 'status: UNREAD\\n' > inbox/s.md && sed -i 's/UNREAD/READ/' inbox/s.md && grep -qx 'status: READ' inbox/s.md");
    world.ok("sed -i.bak 's/READ/DONE/' inbox/s.md && [ -e inbox/s.md.bak ] && perl -i.orig -pe 's/DONE/X/' inbox/s.md && grep -q X inbox/s.md && [ -e inbox/s.md.orig ]");
    world.ok("python3 -c \"import shutil,tempfile,os;shutil.copy2('inbox/s.md','inbox/c.md');shutil.move('inbox/c.md','drafts/c.md');f=tempfile.NamedTemporaryFile('w',dir='inbox',suffix='.tmp',delete=False);f.write('n');f.flush();os.fsync(f.fileno());f.close();os.replace(f.name,'inbox/n.md')\" && [ \"$(cat inbox/n.md)\" = n ]");
    world.ok("tar cf - inbox | tar xf - -C \"$HOME\" && diff -r inbox \"$HOME/inbox\"");
    world.ok("exec 3> inbox/slow.md; echo one >&3; [ \"$(cat inbox/slow.md)\" = one ]; echo two >&3; exec 3>&-; [ \"$(wc -l < inbox/slow.md)\" = 2 ]");
    world.ok("mkdir projects/web/x.lock.d && echo $$ > projects/web/x.lock.d/pid && rm -rf projects/web/x.lock.d && [ ! -e \"$REAL/x.lock.d\" ]");
    world.ok("find inbox -mmin -5 -name '*.md' -print0 | xargs -0 ls -t > /dev/null && rm -rf inbox/* && [ -d inbox ] && [ -z \"$(ls inbox)\" ]");
    let left = std::fs::read_dir(world.real("inbox")).expect("the inbox").count();
    assert_eq!(left, 0);
}

#[test]
fn editors_save_new_and_existing_files() {
    let world = World::new();
    for (name, script) in [
        ("vim", "vim -es -u NONE +'call setline(1, \"new\")' +w +'call setline(1, \"TEXT\")' +wq {}"),
        ("vim, backup copy", "vim -es -u NONE +'set bkc=yes bk' +'call setline(1, \"TEXT\")' +wq {}"),
        ("vim, swap and undo", "vim -es -u NONE +'set undofile swapfile' +'call setline(1, \"TEXT\")' +wq {}"),
        ("emacs", "emacs -Q --batch {} --eval '(progn (erase-buffer) (insert \"TEXT\\n\") (save-buffer))'"),
        ("ed", "printf '%s\\n' ',d' a TEXT . w q | ed -s {}"),
    ] {
        let program = script.split(' ').next().unwrap_or_default();
        if name != "vim" && !world.bash(&format!("command -v {program}")).status.success() {
            eprintln!("{program} is not installed; {name} not tried");
            continue;
        }
        for file in ["inbox/fresh.md", "inbox/there.md"] {
            world
                .ok(&format!("rm -f inbox/*; [ {file} = inbox/fresh.md ] && [ {program} != ed ] || echo old > {file}"));
            let script = script.replace("{}", file);
            let output = world.bash(&format!("timeout 30 {script} < /dev/null"));
            // The pipe of ed has its own input.
            let output = if program == "printf" { world.bash(&script) } else { output };
            let text =
                std::fs::read_to_string(world.dir.path().join("web/.agent-queue").join(file)).unwrap_or_default();
            let err = String::from_utf8_lossy(&output.stderr);
            assert_eq!(text.trim_end(), "TEXT", "{name} on {file}: {err}");
        }
    }
}

#[test]
fn nano_saves() {
    let world = World::new();
    if !world.bash("command -v nano && command -v script").status.success() {
        eprintln!("nano or script is not installed; not tried");
        return;
    }
    let keys = "(sleep 1; printf 'TEXT\\017\\r'; sleep 1; printf '\\030'; sleep 1)";
    world.ok(&format!("{keys} | TERM=xterm timeout 20 script -qec 'nano inbox/n.md' /dev/null > /dev/null"));
    assert_eq!(std::fs::read_to_string(world.real("inbox/n.md")).expect("the file").trim_end(), "TEXT");
}
