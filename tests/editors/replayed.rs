//! Replays save sequences of editors that can't run here, call by call as measured.

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use crate::desk::Desk;

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// VS Code: in place, truncated first (microsoft/vscode, diskFileSystemProvider.ts).
fn code(path: &Path, text: &str) {
    let _ = fs::metadata(path);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o666).open(path).expect("open");
    file.write_all(text.as_bytes()).expect("written");
    file.sync_data().expect("synced");
    drop(file);
    assert_eq!(fs::metadata(path).expect("stat").len(), text.len() as u64, "VS Code compares the size after saving");
}

/// VS Code, for files that it saves atomically.
fn code_atomic(path: &Path, text: &str) {
    let temporary = beside(path, ".vsctmp");
    code(&temporary, text);
    fs::rename(&temporary, path).expect("renamed");
}

/// JetBrains' safe write (merofeev/docker-windows-volume-watcher issue 15).
fn jetbrains(path: &Path, text: &str) {
    let (temporary, old) = (beside(path, "___jb_tmp___"), beside(path, "___jb_old___"));
    let mut file = File::create(&temporary).expect("created");
    file.write_all(text.as_bytes()).expect("written");
    file.sync_all().expect("synced");
    drop(file);
    if path.exists() {
        fs::rename(path, &old).expect("renamed away");
        fs::rename(&temporary, path).expect("renamed back");
        fs::remove_file(&old).expect("removed");
    } else {
        fs::rename(&temporary, path).expect("renamed");
    }
}

/// JetBrains as seen on Linux: a backup copy, then in place.
fn jetbrains_copy(path: &Path, text: &str) {
    let backup = beside(path, "~");
    if path.exists() {
        fs::copy(path, &backup).expect("copied");
    }
    fs::write(path, text).expect("written");
    if backup.exists() {
        fs::remove_file(&backup).expect("removed");
    }
}

/// Helix: renamed away, written anew (helix-editor/helix issue 11714).
fn helix(path: &Path, text: &str) {
    let backup = beside(path, "Ab3xYz.bck");
    if path.exists() {
        fs::rename(path, &backup).expect("renamed away");
    }
    let mut file = File::create(path).expect("created");
    file.write_all(text.as_bytes()).expect("written");
    file.sync_all().expect("synced");
    drop(file);
    if backup.exists() {
        fs::set_permissions(path, fs::metadata(&backup).expect("stat").permissions()).expect("chmod");
        fs::remove_file(&backup).expect("removed");
    }
}

/// gedit and other users of GIO (glib, glocalfileoutputstream.c).
fn gio(path: &Path, text: &str) {
    let dir = path.parent().expect("a directory");
    if !path.exists() {
        let mut file = OpenOptions::new().write(true).create_new(true).open(path).expect("created");
        return file.write_all(text.as_bytes()).expect("written");
    }
    let temporary = dir.join(".goutputstream-A1B2C3");
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary).expect("created");
    let meta = fs::metadata(path).expect("stat");
    let (uid, gid) = (nix::unistd::getuid(), nix::unistd::getgid());
    nix::unistd::fchown(&file, Some(uid), Some(gid)).expect("chown");
    file.set_permissions(meta.permissions()).expect("chmod");
    file.write_all(text.as_bytes()).expect("written");
    file.sync_all().expect("synced");
    drop(file);
    fs::hard_link(path, beside(path, "~")).expect("linked");
    fs::rename(&temporary, path).expect("renamed");
    fs::remove_file(beside(path, "~")).expect("removed");
}

/// Claude Code's own edits; it leaves orphans (anthropics/claude-code issue 60146).
fn claude(path: &Path, text: &str) {
    let temporary = beside(path, ".tmp.4711.1a2b3c");
    fs::write(&temporary, text).expect("written");
    fs::rename(&temporary, path).expect("renamed");
    fs::write(beside(path, ".tmp.4711.orphan"), "an orphan").expect("written");
    fs::remove_file(beside(path, ".tmp.4711.orphan")).expect("removed");
}

/// Saves a text under a path.
type Save = fn(&Path, &str);

const SAVES: [(&str, Save); 7] = [
    ("code", code),
    ("code-atomic", code_atomic),
    ("jetbrains", jetbrains),
    ("jetbrains-copy", jetbrains_copy),
    ("helix", helix),
    ("gio", gio),
    ("claude", claude),
];

#[test]
fn new_files_and_second_saves_are_one_task() {
    let desk = Desk::new();
    for (name, save) in SAVES {
        desk.until_an_agent_is_free();
        let path = desk.world.mount(&format!("inbox/{name}.md"));
        save(&path, "a first thought");
        save(&path, &format!("{name} final\n"));
        let read = fs::read_to_string(&path).expect("readable after the save");
        assert_eq!(read, format!("{name} final\n"), "{name}");
    }
    let cases: Vec<_> = SAVES.iter().map(|(name, _)| (*name, format!("{name} final"))).collect();
    desk.once(&cases.iter().map(|(id, text)| (*id, text.as_str())).collect::<Vec<_>>());
}

#[test]
fn a_waiting_task_is_replaced_and_runs_once() {
    let desk = Desk::new();
    desk.pause();
    for (name, save) in SAVES {
        desk.queued(name, "old\n");
        save(&desk.world.mount(&format!("inbox/{name}.md")), &format!("{name} final\n"));
    }
    desk.resume();
    let cases: Vec<_> = SAVES.iter().map(|(name, _)| (*name, format!("{name} final"))).collect();
    desk.once(&cases.iter().map(|(id, text)| (*id, text.as_str())).collect::<Vec<_>>());
}
