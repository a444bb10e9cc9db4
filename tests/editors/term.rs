//! A person at a terminal: a program in its own tmux server, keys, and what the screen shows.

use std::{fs, process::Command};

use crate::desk::Desk;

/// What an editor says when it doesn't trust what it sees.
const COMPLAINTS: [&str; 10] = [
    "WARNING",
    "Warning",
    "changed since",
    "changed on disk",
    "has changed",
    "Permission denied",
    "Read-only",
    "read-only",
    "rror",
    "E166",
];

/// A running program. Dropped, it is killed.
pub struct Term<'a> {
    desk: &'a Desk,
    name: String,
}

impl Desk {
    fn tmux(&self, args: &[&str]) -> String {
        let out = Command::new("tmux")
            .arg("-f")
            .arg(self.world.path("person.conf"))
            .arg("-S")
            .arg(self.world.path("person.sock"))
            .args(args)
            .env("HOME", self.world.path("user"))
            .env("SHELL", "/bin/sh")
            .env("LC_ALL", "C.UTF-8")
            .env_remove("TMUX")
            .output()
            .expect("tmux");
        assert!(out.status.success() || args[0] != "new-session", "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// Starts a command in the mount.
    pub fn terminal(&self, name: &str, command: &str) -> Term<'_> {
        let exit = self.world.path(&format!("{name}.exit"));
        let script = format!("{command}; echo $? > {}", exit.display());
        let dir = self.world.path("mnt").display().to_string();
        self.tmux(&["new-session", "-d", "-s", name, "-x", "100", "-y", "24", "-c", &dir, &script]);
        Term { desk: self, name: name.to_owned() }
    }
}

impl Term<'_> {
    pub fn screen(&self) -> String {
        self.desk.tmux(&["capture-pane", "-p", "-t", &self.name])
    }

    #[track_caller]
    pub fn sees(&self, text: &str) -> &Self {
        let mut screen = String::new();
        let shown = || format!("{text:?} on the screen of {}:\n{}", self.name, self.screen());
        self.desk.world.until_told(shown, || {
            screen = self.screen();
            let complaint = COMPLAINTS.iter().find(|complaint| screen.contains(**complaint));
            assert!(complaint.is_none(), "{} complains:\n{screen}", self.name);
            screen.contains(text)
        });
        self
    }

    #[track_caller]
    pub fn sees_no(&self, text: &str) -> &Self {
        self.desk
            .world
            .until(&format!("{text:?} to leave the screen of {}", self.name), || !self.screen().contains(text));
        self
    }

    /// Types text as it stands.
    pub fn types(&self, text: &str) -> &Self {
        self.desk.tmux(&["send-keys", "-t", &self.name, "-l", text]);
        self
    }

    /// Presses keys by tmux's names for them.
    pub fn keys(&self, keys: &[&str]) -> &Self {
        self.desk.tmux(&[&["send-keys", "-t", &self.name], keys].concat());
        self
    }

    /// Waits until the program has ended well.
    #[track_caller]
    pub fn ends(self) {
        let exit = self.desk.world.path(&format!("{}.exit", self.name));
        let mut code = String::new();
        self.desk.world.until(&format!("{} to end; its screen:\n{}", self.name, self.screen()), || {
            code = fs::read_to_string(&exit).unwrap_or_default();
            code.ends_with('\n')
        });
        assert_eq!(code.trim(), "0", "exit code of {}", self.name);
    }

    /// Kills the program as a lost connection or the OOM killer would; `-9` leaves it no last word.
    pub fn killed(self) {
        let pids = self.desk.tmux(&["list-panes", "-t", &self.name, "-F", "#{pane_pid}"]);
        self.desk.world.ok(&format!("for p in $(ps -o pid= --ppid {0}) {0}; do kill -9 $p; done", pids.trim()));
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}
