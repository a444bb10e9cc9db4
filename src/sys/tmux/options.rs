//! Options of the tmux server: where it is and how its client is started.
//! Takes configuration; returns arguments and environment of the client process. Passes on only listed environment
//! variables: the first client's environment is in every later pane.

use std::{
    ffi::OsString,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

/// The session that keeps the server alive and holds our connection.
pub const KEEPER: &str = "_claude-failover";

/// All of our buffers' names begin so; the process id follows.
const BUFFER: &str = "claude-failover-";

/// Name of a buffer of ours.
#[must_use]
pub fn buffer(name: &str) -> String {
    format!("{BUFFER}{}-{name}", std::process::id())
}

/// Whether a buffer was left by an earlier connection of ours, or by a daemon that is gone.
#[must_use]
pub fn left(buffer: &str) -> bool {
    let pid = buffer.strip_prefix(BUFFER).and_then(|rest| rest.split_once('-')?.0.parse::<u32>().ok());
    pid.is_some_and(|pid| pid == std::process::id() || !Path::new("/proc").join(pid.to_string()).exists())
}

/// What a pane inherits besides `Launch.env` and tmux's own variables. `LC_*` too.
const INHERITED: [&str; 10] =
    ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TERM", "TMPDIR", "XDG_RUNTIME_DIR"];

/// Whether a variable may pass from our environment, or the server's, into a pane.
#[must_use]
pub fn inherited(name: &str) -> bool {
    INHERITED.contains(&name) || name.starts_with("LC_")
}

/// Which tmux server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Socket {
    /// The operator's own (`tmux` without options).
    Default,
    /// `-L NAME`
    Name(String),
    /// `-S PATH`
    Path(PathBuf),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TmuxOptions {
    pub socket: Socket,
    /// The server is the daemon's alone: no configuration file is read and server-wide options are set. Otherwise
    /// options are set only on the sessions and windows that the daemon makes. `history_limit` then has no effect,
    /// because tmux takes it from the session that exists before the pane does: the operator's setting rules.
    pub ours: bool,
    /// Lines of scrollback of a pane.
    pub history_limit: u32,
    /// Size of every pane, whoever attaches.
    pub width: u16,
    pub height: u16,
    /// The tmux program.
    pub tmux: PathBuf,
    /// Marks everything that the panes' programs start (`linux::mark`); without it nothing is marked.
    pub mark: Option<u64>,
}

impl TmuxOptions {
    /// Defaults for a socket; every server but the operator's default one counts as ours.
    #[must_use]
    pub fn new(socket: Socket) -> Self {
        let ours = socket != Socket::Default;
        Self { socket, ours, history_limit: 5000, width: 120, height: 40, tmux: PathBuf::from("tmux"), mark: None }
    }

    /// The path tmux itself derives for the socket (tmux(1), `-L`).
    #[must_use]
    pub fn socket_path(&self) -> PathBuf {
        let name = match &self.socket {
            Socket::Path(path) => return path.clone(),
            Socket::Default => "default",
            Socket::Name(name) => name,
        };
        let tmp = std::env::var_os("TMUX_TMPDIR").map_or_else(|| PathBuf::from("/tmp"), PathBuf::from);
        tmp.join(format!("tmux-{}", nix::unistd::getuid())).join(name)
    }

    /// Words before the command. `-u`: without it text beyond ASCII comes back as `_`.
    #[must_use]
    pub fn arguments(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec!["-u".into()];
        match &self.socket {
            Socket::Default => {}
            Socket::Name(name) => words.extend(["-L".into(), name.into()]),
            Socket::Path(path) => words.extend(["-S".into(), path.into()]),
        }
        if self.ours {
            words.extend(["-f".into(), "/dev/null".into()]);
        }
        words
    }

    /// The client's whole environment, and with it the server's when this client starts it.
    #[must_use]
    pub fn environment() -> Vec<(OsString, OsString)> {
        let passes = |name: &OsString| name.to_str().is_some_and(|n| inherited(n) || n == "TMUX_TMPDIR");
        std::env::vars_os().filter(|(name, _)| passes(name)).collect()
    }

    /// Makes the directory of a socket given by path, for us alone; tmux makes only its own.
    ///
    /// # Errors
    /// When it can't be made, or somebody else could replace the socket.
    pub fn prepare_directory(&self) -> Result<(), String> {
        let Socket::Path(path) = &self.socket else { return Ok(()) };
        let parent = path.parent().unwrap_or(Path::new("."));
        let failed = |e: std::io::Error| format!("directory {} of the tmux socket: {e}", parent.display());
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(failed)?;
        let facts = parent.metadata().map_err(failed)?;
        let foreign = facts.uid() != nix::unistd::getuid().as_raw() && facts.uid() != 0;
        let writable = facts.mode() & 0o022 != 0 && facts.mode() & 0o1000 == 0;
        if foreign || writable {
            return Err(format!(
                "directory {} of the tmux socket can be written by others; use one of mode 0700 that is yours",
                parent.display()
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_buffers_that_nobody_uses_any_more_are_left() {
        assert!(left(&buffer("1")) && left("claude-failover-4194999-1"));
        for other in
            ["claude-failover-1-x", "buffer0", "claude-failover", "claude-failover-notes", "claude-failover-x-1"]
        {
            assert!(!left(other), "{other}");
        }
    }

    #[test]
    fn secrets_are_not_inherited() {
        for name in ["PATH", "LC_ALL", "LC_CTYPE", "TERM"] {
            assert!(inherited(name), "{name}");
        }
        for name in ["ANTHROPIC_API_KEY", "CLAUDE_CONFIG_DIR", "SSH_AUTH_SOCK", "TMUX", "LD_PRELOAD", "PATHS"] {
            assert!(!inherited(name), "{name}");
        }
    }

    #[test]
    fn only_a_server_of_ours_skips_the_operators_configuration() {
        let words = |socket| TmuxOptions::new(socket).arguments();
        assert_eq!(words(Socket::Default), ["-u"]);
        assert_eq!(words(Socket::Name("x".into())), ["-u", "-L", "x", "-f", "/dev/null"]);
        assert_eq!(words(Socket::Path("/s".into())), ["-u", "-S", "/s", "-f", "/dev/null"]);
    }
}
