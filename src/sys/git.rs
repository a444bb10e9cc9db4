//! Asks git which names in an inbox it tracks, and whether it is changing the working tree now.
//! Takes the queue's directory; returns `Git`. Runs git once per change of its index, and only inside a repository.
//! Never runs what a repository's configuration names (hooks, monitors), and never changes a repository.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use crate::{config::queue::repository, model::queue::Git};

/// An older lock was left by a git that died. Chosen: longer than a checkout of a large repository.
const LOCK_MAX: Duration = Duration::from_secs(600);

/// Identifies a version of the index: git writes a new file and renames it.
type Stamp = (u64, u64, i64, i64);

#[derive(Debug)]
struct Known {
    of: Stamp,
    tracked: Arc<BTreeSet<String>>,
}

#[derive(Debug, Default)]
pub struct Repositories {
    known: Mutex<HashMap<PathBuf, Known>>,
}

impl Repositories {
    /// Must come after the look at the files: a checkout writes its index last.
    pub fn look(&self, queue: &Path) -> Git {
        let Some((above, repository)) = queue.parent().and_then(|above| Some((above, repository(above)?))) else {
            return Git::default();
        };
        let lock = repository.join("index.lock").symlink_metadata().and_then(|meta| meta.modified());
        let at_work = lock.is_ok_and(|since| SystemTime::now().duration_since(since).is_ok_and(|age| age < LOCK_MAX));
        let Ok(index) = repository.join("index").metadata() else { return Git { at_work, ..Git::default() } };
        let stamp = (index.ino(), index.size(), index.mtime(), index.mtime_nsec());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(queue).filter(|known| known.of == stamp) {
            return Git { tracked: known.tracked.clone(), at_work };
        }
        let tracked = match tracked(above, queue) {
            Ok(tracked) => Arc::new(tracked),
            Err(error) => {
                tracing::warn!(path = %queue.display(), %error, "git can't tell which tasks it tracks");
                Arc::default()
            }
        };
        known.insert(queue.to_owned(), Known { of: stamp, tracked: tracked.clone() });
        Git { tracked, at_work }
    }
}

fn tracked(above: &Path, queue: &Path) -> io::Result<BTreeSet<String>> {
    let inbox = queue.strip_prefix(above).unwrap_or(queue).join("inbox");
    let mut git = Command::new("git");
    git.args(["--no-optional-locks", "--literal-pathspecs", "-c", "safe.directory=*", "-c", "core.fsmonitor=false"]);
    git.arg("-C").arg(above).args(["ls-files", "-z", "--cached", "--"]).arg(&inbox);
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_PREFIX", "GIT_NAMESPACE"] {
        git.env_remove(name);
    }
    let out = git.stdin(Stdio::null()).output()?;
    if !out.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&out.stderr).trim().to_owned()));
    }
    let below = [inbox.as_os_str().as_bytes(), b"/"].concat();
    let names = out.stdout.split(|byte| *byte == 0).filter_map(|path| path.strip_prefix(below.as_slice()));
    Ok(names.map(|name| String::from_utf8_lossy(name).into_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git(dir: &Path, args: &[&str]) {
        let identity = ["-c", "user.name=t", "-c", "user.email=t@example.invalid"];
        let done = Command::new("git").args(identity).arg("-C").arg(dir).args(args).output().expect("git");
        assert!(done.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    fn write(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        std::fs::write(path, text).expect("written");
    }

    #[test]
    fn what_git_tracks_is_told_in_repositories_worktrees_and_below() {
        let temp = tempfile::tempdir().expect("a directory");
        let (web, repositories) = (temp.path().join("web"), Repositories::default());
        let queue = web.join("sub/.agent-queue");
        write(&queue.join("inbox/a.md"), "x");
        assert_eq!(repositories.look(&queue), Git::default(), "no repository");
        git(temp.path(), &["init", "-q", "web"]);
        assert_eq!(repositories.look(&queue), Git::default(), "no index yet");
        git(&web, &["add", "-A"]);
        git(&web, &["commit", "-qm", "all"]);
        write(&queue.join("inbox/b.md"), "x");
        let names = |git: Git| git.tracked.iter().cloned().collect::<Vec<_>>();
        assert_eq!(names(repositories.look(&queue)), ["a.md"]);
        git(&web, &["worktree", "add", "-q", "../tree"]);
        assert_eq!(names(repositories.look(&temp.path().join("tree/sub/.agent-queue"))), ["a.md"]);
        write(&web.join(".git/index.lock"), "");
        assert!(repositories.look(&queue).at_work);
        std::fs::remove_file(web.join(".git/index.lock")).expect("removed");
        git(&web, &["rm", "-q", "--cached", "sub/.agent-queue/inbox/a.md"]);
        assert_eq!(repositories.look(&queue), Git::default());
    }
}
