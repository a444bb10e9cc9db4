//! vim: every way it saves, its swap file as a lock, and how it exits.

use std::fs;

use crate::{
    desk::{Desk, has, names},
    term::Term,
    world::Setup,
};

/// No plugins, no start-up screen; swap as by default. `backupskip` would exempt the tests' directory from all that is tried.
const VIM: &str = "vim -u NONE -N -i NONE --cmd 'set shortmess+=I noshowcmd backupskip='";

fn replace(term: &Term<'_>, text: &str) {
    term.types(&format!(":%d|call setline(1,'{text}')|echo 'typed'")).keys(&["Enter"]).sees("typed");
    term.types(":w").keys(&["Enter"]).sees("written");
}

#[test]
fn every_way_of_saving_is_one_task() {
    if !has(&["vim", "tmux"]) {
        return;
    }
    let desk = Desk::new();
    let ways = [
        ("auto", "set bkc=auto"),
        ("yes", "set bkc=yes"),
        ("no", "set bkc=no"),
        ("keep", "set bkc=auto backup"),
        ("undo", "set undofile"),
        ("bare", "set nowritebackup noswapfile"),
    ];
    // A new file.
    for (name, set) in ways {
        let id = format!("new-{name}");
        let term = desk.terminal(&id, &format!("{VIM} --cmd '{set}' inbox/{id}.md"));
        term.sees("[New]");
        replace(&term, &format!("{name} new"));
        term.types(":q").keys(&["Enter"]);
        term.ends();
    }
    for (name, _) in ways {
        desk.world.result(&format!("done/new-{name}.md"));
    }
    // A task that waits already: two saves, the lock beside it.
    desk.pause();
    for (name, set) in ways {
        let id = format!("old-{name}");
        desk.queued(&id, "old\n");
        let term = desk.terminal(&id, &format!("{VIM} --cmd '{set}' inbox/{id}.md"));
        term.sees("old");
        replace(&term, "between");
        replace(&term, &format!("{name} final"));
        if name != "bare" {
            desk.held_by(&id, &format!(".{id}.md.swp"));
        }
        term.types(":q").keys(&["Enter"]);
        term.ends();
        desk.world.until_word(&format!("tasks/{id}/state"), "queued");
    }
    desk.resume();
    let cases: Vec<(String, String)> = ways
        .iter()
        .flat_map(|(name, _)| {
            [(format!("new-{name}"), format!("{name} new")), (format!("old-{name}"), format!("{name} final"))]
        })
        .collect();
    let left = names(&desk.world.queue("inbox"));
    let asked_for = [".old-undo.md.un~", ".new-undo.md.un~", "old-keep.md~"];
    for name in left.iter().filter(|name| !name.starts_with("old-") || name.ends_with('~')) {
        assert!(asked_for.contains(&name.as_str()), "{name} was left in the inbox");
    }
    desk.quietly("rm inbox/old-keep.md~ inbox/.*.un~");
    desk.once(&cases.iter().map(|(id, text)| (id.as_str(), text.as_str())).collect::<Vec<_>>());
}

#[test]
fn an_open_vim_holds_a_new_task_until_it_quits() {
    if !has(&["vim", "tmux"]) {
        return;
    }
    let desk = Desk::new();
    let term = desk.terminal("two", &format!("{VIM} inbox/two.md"));
    term.sees("[New]");
    replace(&term, "first");
    desk.held_by("two", ".two.md.swp");
    replace(&term, "second");
    desk.held_by("two", ".two.md.swp");
    term.types(":q").keys(&["Enter"]);
    term.ends();
    desk.once(&[("two", "second")]);
}

#[test]
fn leaving_without_saving_changes_nothing() {
    if !has(&["vim", "tmux"]) {
        return;
    }
    let desk = Desk::new();
    desk.pause();
    desk.queued("kept", "as it was\n");
    for (id, first) in [("kept", "as it was"), ("never", "[New]")] {
        let term = desk.terminal(id, &format!("{VIM} inbox/{id}.md"));
        term.sees(first);
        term.types("oother text").sees("other text").keys(&["Escape"]).sees_no("-- INSERT --");
        term.types(":q!").keys(&["Enter"]);
        term.ends();
    }
    desk.world.until_word("tasks/kept/state", "queued");
    desk.resume();
    desk.once(&[("kept", "as it was")]);
    assert!(!desk.world.mount("tasks/never").exists());
}

#[test]
fn a_killed_vim_holds_its_task_for_editor_hold_and_no_longer() {
    if !has(&["vim", "tmux"]) {
        return;
    }
    let desk = Desk::with(Setup { settle: "1s, editor_hold: 4s".to_owned(), ..Setup::agents(1) });
    let term = desk.terminal("killed", &format!("{VIM} inbox/killed.md"));
    term.sees("[New]");
    replace(&term, "saved");
    term.types("ounsaved").sees("unsaved");
    desk.held_by("killed", ".killed.md.swp");
    term.killed();
    desk.world.result("done/killed.md");
    assert!(desk.world.queue("inbox/.killed.md.swp").exists(), "vim was not killed with its swap file open");
    fs::remove_file(desk.world.mount("inbox/.killed.md.swp")).expect("removed");
    desk.once(&[("killed", "saved")]);
}
