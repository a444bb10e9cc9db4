//! Runs `PROGRAM --version` and caches the answer per file that the program's name resolves to, so a CLI that updated
//! itself is asked again. Takes a program and its environment.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    process::Command,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::linux::ask::{answer, find};

/// Longest that a program may take to print its version; the first start waits for it. Native ones take 0.1 s, those
/// on node several seconds on a loaded machine. Chosen: above both, because an agent of unknown version gets arguments
/// that it may not know.
const PATIENCE: Duration = Duration::from_secs(30);

/// What identifies a file's content without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    modified: (i64, i64),
    size: u64,
}

/// What programs say of their version, those that were asked; nothing where one doesn't say.
#[derive(Debug, Default)]
pub struct Known(Mutex<HashMap<PathBuf, (Stamp, Option<String>)>>);

impl Known {
    /// What a program says as a session with this environment starts it. Waits for the program once; whoever asks meanwhile
    /// waits with it.
    pub fn of(&self, program: &str, env: &[(String, String)]) -> Option<String> {
        let path = env.iter().find(|(name, _)| name == "PATH").map_or("", |(_, value)| value);
        let file = find(program, Some(path.into()))?;
        let facts = fs::metadata(&file).ok()?;
        let modified = (facts.mtime(), facts.mtime_nsec());
        let stamp = Stamp { device: facts.dev(), inode: facts.ino(), modified, size: facts.size() };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, said)) = known.get(&file).filter(|(of, _)| *of == stamp) {
            return said.clone();
        }
        let env = env.iter().map(|(name, value)| (name, value));
        let said = answer(Command::new(&file).arg("--version").env_clear().envs(env), PATIENCE);
        let said = said.inspect_err(|why| {
            tracing::warn!(program = %file.display(), "`--version` {why}; the program counts as the newest version");
        });
        let said = said.ok();
        known.insert(file, (stamp, said.clone()));
        said
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_program_is_asked_once_and_again_when_it_was_replaced() {
        let dir = tempfile::tempdir().expect("a directory");
        let env = [("PATH".to_owned(), format!("{}:/usr/bin:/bin", dir.path().display()))];
        let install = |version: &str| {
            let script = format!("#!/bin/sh\necho x >> {}/asked\necho agent {version}\n", dir.path().display());
            let new = dir.path().join("new");
            fs::write(&new, script).expect("written");
            fs::set_permissions(&new, fs::Permissions::from_mode(0o700)).expect("made a program");
            fs::rename(&new, dir.path().join("agent")).expect("installed");
        };
        let known = Known::default();
        install("1.0.0");
        for _ in 0..3 {
            assert_eq!(known.of("agent", &env).as_deref(), Some("agent 1.0.0\n"));
        }
        install("1.0.1");
        assert_eq!(known.of("agent", &env).as_deref(), Some("agent 1.0.1\n"));
        assert_eq!(fs::read_to_string(dir.path().join("asked")).expect("a count"), "x\nx\n");
        assert_eq!(known.of("no-such-agent", &env), None);
    }
}
