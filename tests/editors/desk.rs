//! A daemon with agents, a person's home, and the question that every case ends with: was it dispatched exactly once?

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Output,
};

use serde_json::Value;

use crate::world::{Setup, World};

/// Divides the task from its result.
const RESULT: &str = "<!-- claude-failover:result -->";

pub struct Desk {
    pub world: World,
}

/// Whether the programs are there. A missing one is a printed line, and with `CI=true` a failure.
#[track_caller]
pub fn has(programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = |program: &&&str| std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
    let missing: Vec<_> = programs.iter().filter(|program| !found(program)).collect();
    assert!(
        missing.is_empty() || std::env::var("CI").as_deref() != Ok("true"),
        "needed in CI, see scripts/setup: {missing:?}"
    );
    if !missing.is_empty() {
        println!("skipped: not installed: {missing:?}");
    }
    missing.is_empty()
}

impl Desk {
    /// A few agents, and the settle time that users have by default.
    pub fn new() -> Self {
        Self::with(Setup { settle: "1s".to_owned(), ..Setup::agents(3) })
    }

    pub fn with(setup: Setup) -> Self {
        let world = World::start(&setup);
        fs::create_dir(world.path("user")).expect("a home");
        // A server that ended with one program's session could be met ending by the next program.
        fs::write(world.path("person.conf"), "set -g exit-empty off\n").expect("written");
        let desk = Self { world };
        desk.until_an_agent_is_free();
        desk
    }

    /// With nobody free to take it, it would not show that a task is handed over too early.
    #[track_caller]
    pub fn until_an_agent_is_free(&self) {
        let free = |session: &String| {
            let is = |file: &str| format!("sessions/{session}/{file}");
            self.world.word(&is("state")) == "idle" && !self.world.mount(&is("task")).is_symlink()
        };
        self.world.until("an agent to be free", || names(&self.world.mount("sessions")).iter().any(free));
    }

    /// A shell command of a person whose working directory is the mount.
    pub fn sh(&self, script: &str) -> Output {
        self.world.sh(&format!("export HOME=\"$PWD/user\"; REAL=\"$PWD/web/.agent-queue\"; cd \"$MNT\"; {script}"))
    }

    /// The same, without a word of complaint.
    #[track_caller]
    pub fn quietly(&self, script: &str) -> String {
        let out = self.sh(script);
        let complaint = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.success() && complaint.is_empty(), "{script}: {}: {complaint}", out.status);
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// Nothing is dispatched until `resume`.
    pub fn pause(&self) {
        self.quietly("echo pause > control");
    }

    pub fn resume(&self) {
        self.quietly("echo resume > control");
    }

    /// Writes a task that waits in the paused queue.
    #[track_caller]
    pub fn queued(&self, id: &str, text: &str) {
        fs::write(self.world.mount(&format!("inbox/{id}.md")), text).expect("written");
        self.world.until_word(&format!("tasks/{id}/state"), "queued");
    }

    /// The task is held because an editor has it open, and `why` names the lock.
    #[track_caller]
    pub fn held_by(&self, id: &str, lock: &str) {
        let why = format!("tasks/{id}/why");
        self.world.until(&format!("{why} to name {lock}"), || self.world.word(&why).contains(lock));
        assert_eq!(self.world.word(&format!("tasks/{id}/state")), "held", "{id}");
    }

    /// Each task was given to an agent once, with this text, and there was nothing else.
    #[track_caller]
    pub fn once(&self, cases: &[(&str, &str)]) {
        let world = &self.world;
        for (id, text) in cases {
            let result = world.result(&format!("done/{id}.md"));
            let (task, told) = result.split_once(RESULT).expect("a result");
            assert_eq!(task.trim_end(), text.trim_end(), "{id}");
            assert!(told.contains("\nattempts: 1\n"), "{id}: {told}");
        }
        // One more, so that whatever a late event might start has had its turn.
        world.submit("the-last", "the last\n");
        world.result("done/the-last.md");
        world.until("the inbox to hold no task", || names(&world.queue("inbox")).iter().all(|n| !n.contains(".md")));
        let mut done: Vec<&str> = cases.iter().map(|(id, _)| *id).chain(["the-last"]).collect();
        done.sort_unstable();
        let mut found: Vec<String> =
            names(&world.queue("done")).iter().map(|name| name.trim_end_matches(".md").to_owned()).collect();
        found.sort_unstable();
        assert_eq!(found, done, "results in done/");
        assert_eq!(names(&world.queue("failed")), [""; 0], "failed/");
        let prompts = self.prompts();
        for (id, text) in cases {
            let got = prompts.iter().filter(|prompt| prompt.trim_end() == text.trim_end()).count();
            let same = cases.iter().filter(|(_, other)| other.trim_end() == text.trim_end()).count();
            assert_eq!(got, same, "{id}: agents got {prompts:?}");
        }
        assert_eq!(prompts.len(), cases.len() + 1, "agents got {prompts:?}");
    }

    /// Everything that agents were told, from their own records.
    pub fn prompts(&self) -> Vec<String> {
        let mut prompts = Vec::new();
        for record in files_below(&self.world.path("home")).iter().filter(|p| p.extension() == Some("jsonl".as_ref())) {
            for line in fs::read_to_string(record).expect("a record").lines() {
                let record: Value = serde_json::from_str(line).expect("JSON");
                if let (Some("user"), Some(text)) = (record["type"].as_str(), record["message"]["content"].as_str()) {
                    prompts.push(text.to_owned());
                }
            }
        }
        prompts
    }
}

pub fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("a directory");
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let entries: io::Result<Vec<_>> = fs::read_dir(dir).and_then(Iterator::collect);
    let mut files = Vec::new();
    for path in entries.unwrap_or_default().iter().map(fs::DirEntry::path) {
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files
}
