//! README's failover, typed word for word.

use std::{
    fs,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use super::stage::fact;
use crate::world::{PATIENCE, detach, program};

/// What a person gets from `demo --keep`; dropped, it is ended as the demonstration says.
struct Kept {
    temp: tempfile::TempDir,
    said: String,
}

impl Kept {
    fn demo() -> Self {
        let temp = tempfile::Builder::new().prefix("cf-").tempdir().expect("a directory");
        let out = Command::new(program()).args(["demo", "--keep"]).env("TMPDIR", temp.path()).output().expect("ran");
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(out.status.success(), "{said}{}", String::from_utf8_lossy(&out.stderr));
        Self { temp, said }
    }

    /// A line of its last words.
    fn line(&self, start: &str) -> &str {
        let mut lines = self.said.lines().map(str::trim_start);
        lines.rfind(|line| line.starts_with(start)).unwrap_or_else(|| panic!("no {start}: {}", self.said))
    }

    fn dir(&self) -> PathBuf {
        PathBuf::from(self.line("cd ").split([' ', ';']).nth(1).expect("a directory"))
    }

    /// Types a line in the shell where the `cd` line was typed.
    #[track_caller]
    fn types(&self, line: &str) -> String {
        let script = format!("{}\n{line}", self.line("cd "));
        let out = Command::new("bash").args(["-c", &script]).current_dir(self.temp.path()).output().expect("bash");
        assert!(out.status.success(), "{line}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).into_owned()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let dir = self.dir();
        let ended = Command::new(program()).args(["demo", "--end"]).arg(&dir).output();
        detach(&dir.join("mnt"));
        if !std::thread::panicking() {
            let ended = ended.expect("ran");
            assert!(ended.status.success() && !dir.exists(), "{}", String::from_utf8_lossy(&ended.stderr));
        }
    }
}

#[test]
fn readme_s_failover_can_be_typed_as_it_stands() {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).expect("README.md");
    let section = readme.split("\n## Failover\n").nth(1).expect("the section");
    let block = section.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).expect("its commands");
    let demo = Kept::demo();
    assert!(demo.said.contains("from one to two done"), "{}", demo.said);
    let mut shown = String::new();
    for line in block.lines() {
        if line.starts_with("tail -f ") {
            // A person watches until the task is done.
            let done = demo.dir().join("mnt/done/words.md");
            let deadline = Instant::now() + PATIENCE;
            while !done.exists() {
                assert!(Instant::now() < deadline, "never done:\n{}", demo.types("cat $MNT/events"));
                std::thread::sleep(Duration::from_millis(50));
            }
        } else {
            shown.push_str(&demo.types(line));
        }
    }
    assert!(shown.starts_with("two\n"), "{shown}");
    assert!(shown.contains("You've hit your 5-hour limit"), "{shown}");
    assert_eq!(fact(&shown, "accounts"), ["two", "one"], "{shown}");
    assert_eq!(fact(&shown, "attempts"), ["1"], "{shown}");
    assert_eq!(demo.types("cat $MNT/accounts/active"), "one\n");
}
