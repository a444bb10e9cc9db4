//! The other terminal editors. Those with a lock file hold the task while it exists.

use crate::{
    desk::{Desk, has, names},
    term::Term,
};

/// How an editor is used: opened, its text replaced, saved, left.
struct Editor {
    name: &'static str,
    command: &'static str,
    /// What its screen shows when a new file is open.
    open: &'static str,
    /// Keys that empty the buffer.
    clear: &'static [&'static str],
    /// Keys before and after the text.
    insert: &'static [&'static str],
    /// What its screen shows while text is typed; a key after Escape would otherwise be taken for one with Alt.
    inserting: Option<&'static str>,
    inserted: &'static [&'static str],
    save: &'static [&'static str],
    /// What its screen shows when it has saved.
    saved: &'static str,
    quit: &'static [&'static str],
    /// Its lock while the text is changed and not saved, `{}` for the file's name.
    lock: Option<&'static str>,
    /// Leaves `FILE~`.
    backup: bool,
}

const EDITORS: [Editor; 9] = [
    Editor {
        name: "nvim",
        command: "nvim -u NONE -i NONE --cmd 'set backupskip='",
        open: "0,0-1",
        clear: &[":%d", "Enter"],
        insert: &["i"],
        inserting: Some("-- INSERT --"),
        inserted: &["Escape"],
        save: &[":w", "Enter"],
        saved: "written",
        quit: &[":q", "Enter"],
        lock: None,
        backup: false,
    },
    Editor {
        name: "nano",
        command: "nano --ignorercfiles",
        open: "GNU nano",
        clear: &["M-\\", "M-T"],
        insert: &[],
        inserting: None,
        inserted: &[],
        save: &["C-o", "Enter"],
        saved: "Wrote",
        quit: &["C-x"],
        lock: None,
        backup: false,
    },
    Editor {
        name: "nano-lock",
        command: "nano --ignorercfiles -G -B",
        open: "GNU nano",
        clear: &["M-\\", "M-T"],
        insert: &[],
        inserting: None,
        inserted: &[],
        save: &["C-o", "Enter"],
        saved: "Wrote",
        quit: &["C-x"],
        lock: Some(".{}.swp"),
        backup: true,
    },
    Editor {
        name: "emacs",
        command: "emacs -nw -Q --eval '(setq backup-enable-predicate (lambda (_) t))'",
        open: "Fundamental",
        clear: &["C-x", "h", "C-w"],
        insert: &[],
        inserting: None,
        inserted: &["Enter"],
        save: &["C-x", "C-s"],
        saved: "Wrote",
        quit: &["C-x", "C-c"],
        lock: Some(".#{}"),
        backup: true,
    },
    Editor {
        name: "joe",
        command: "joe -nobackups",
        open: "Joe's Own Editor",
        clear: &["C-k", "u", "C-y", "C-y", "C-y"],
        insert: &[],
        inserting: None,
        inserted: &[],
        save: &["C-k", "d", "Enter"],
        saved: "saved",
        quit: &["C-c"],
        lock: Some(".#{}"),
        backup: false,
    },
    Editor {
        name: "joe-backup",
        command: "joe",
        open: "Joe's Own Editor",
        clear: &["C-k", "u", "C-y", "C-y", "C-y"],
        insert: &[],
        inserting: None,
        inserted: &[],
        save: &["C-k", "d", "Enter"],
        saved: "saved",
        quit: &["C-c"],
        lock: Some(".#{}"),
        backup: true,
    },
    Editor {
        name: "micro",
        command: "micro",
        open: "ft:",
        clear: &["C-a", "Delete"],
        insert: &[],
        inserting: None,
        inserted: &[],
        save: &["C-s"],
        saved: "Saved",
        quit: &["C-q"],
        lock: None,
        backup: false,
    },
    Editor {
        name: "kak",
        command: "kak -n",
        open: "client",
        clear: &["%", "d"],
        insert: &["i"],
        inserting: Some("insert"),
        inserted: &["Escape"],
        save: &[":w; echo -- %sh{echo sav''ed}", "Enter"],
        saved: "saved",
        quit: &[":q", "Enter"],
        lock: None,
        backup: false,
    },
    Editor {
        name: "kak-replace",
        command: "kak -n -e 'set global writemethod replace'",
        open: "client",
        clear: &["%", "d"],
        insert: &["i"],
        inserting: Some("insert"),
        inserted: &["Escape"],
        save: &[":w; echo -- %sh{echo sav''ed}", "Enter"],
        saved: "saved",
        quit: &[":q", "Enter"],
        lock: None,
        backup: false,
    },
];

impl Editor {
    fn program(&self) -> &str {
        self.command.split(' ').next().unwrap_or_default()
    }

    fn types(&self, term: &Term<'_>, text: &str) {
        term.keys(self.insert).types(text).sees(text).keys(self.inserted);
        if let Some(shown) = self.inserting {
            term.sees_no(shown);
        }
    }

    fn use_it(&self, desk: &Desk) {
        let (new, old) = (format!("{}-new", self.name), format!("{}-old", self.name));
        // A new file, while the queue is paused as for the other: which text is final must not depend on how fast we type.
        let term = desk.terminal(&new, &format!("{} inbox/{new}.md", self.command));
        term.sees(self.open);
        self.types(&term, &format!("{new} final"));
        term.keys(self.save).sees(self.saved);
        term.keys(self.quit);
        term.ends();

        desk.queued(&old, "old\n");
        let term = desk.terminal(&old, &format!("{} inbox/{old}.md", self.command));
        term.sees("old");
        for text in ["between", &format!("{old} final")] {
            term.keys(self.clear);
            self.types(&term, text);
            if let Some(lock) = self.lock {
                desk.held_by(&old, &lock.replace("{}", &format!("{old}.md")));
            }
            term.keys(self.save).sees(self.saved);
        }
        term.keys(self.quit);
        term.ends();
        desk.world.until_word(&format!("tasks/{old}/state"), "queued");
    }
}

fn edited_once(program: &str) {
    if !has(&[program, "tmux"]) {
        return;
    }
    let desk = Desk::new();
    desk.pause();
    let mut cases = Vec::new();
    for editor in EDITORS.iter().filter(|editor| editor.program() == program) {
        editor.use_it(&desk);
        cases.extend(["new", "old"].map(|kind| format!("{}-{kind}", editor.name)));
    }
    assert!(!cases.is_empty(), "{program} stands in no row");
    // Backups that the editor is meant to leave.
    for editor in EDITORS.iter().filter(|editor| editor.program() == program && editor.backup) {
        desk.quietly(&format!("rm inbox/{}-old.md~", editor.name));
    }
    let left = names(&desk.world.queue("inbox"));
    assert!(left.iter().all(|name| name.ends_with(".md")), "left in the inbox: {left:?}");
    desk.resume();
    let cases: Vec<_> = cases.iter().map(|id| (id.as_str(), format!("{id} final"))).collect();
    desk.once(&cases.iter().map(|(id, text)| (*id, text.as_str())).collect::<Vec<_>>());
}

#[test]
fn neovim_saves_once() {
    edited_once("nvim");
}

#[test]
fn nano_saves_once() {
    edited_once("nano");
}

#[test]
fn emacs_saves_once() {
    edited_once("emacs");
}

#[test]
fn joe_saves_once() {
    edited_once("joe");
}

#[test]
fn micro_saves_once() {
    edited_once("micro");
}

#[test]
fn kakoune_saves_once() {
    edited_once("kak");
}
