//! Processes that use a directory as fast as they can: two each that stat, list, read, and make and move files.
//! In: the directory, a mount or a plain one that was prepared. Out: load, until it is dropped.

use std::{
    fs, io,
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
};

pub const HAMMER: &str = "_hammer";
pub const PROCESSES: usize = 8;
const WAYS: [&str; 4] = ["stat", "list", "read", "move"];

pub struct Hammers(Vec<Child>);

impl Hammers {
    pub fn start(dir: &Path) -> io::Result<Self> {
        let mut hammers = Self(Vec::new());
        for n in 0..PROCESSES {
            let mut command = Command::new(std::env::current_exe()?);
            command.arg(HAMMER).arg(WAYS[n % WAYS.len()]).arg(dir).stdin(Stdio::null());
            hammers.0.push(command.spawn()?);
        }
        Ok(hammers)
    }
}

impl Drop for Hammers {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What a mount has by itself.
pub fn prepare(dir: &Path) -> io::Result<()> {
    ["inbox", "drafts", "done", "sessions/pool-1"].iter().try_for_each(|name| fs::create_dir_all(dir.join(name)))?;
    ["status", "status.json", "health", "sessions/pool-1/pane"]
        .iter()
        .try_for_each(|name| fs::write(dir.join(name), "text\n"))
}

/// `_hammer WAY DIR`: until it is killed.
pub fn run(args: &[String]) -> ExitCode {
    let [way, dir] = args else { return ExitCode::from(2) };
    let dir = Path::new(dir);
    let mut n = 0_u64;
    loop {
        n += 1;
        let done = match way.as_str() {
            "stat" => ["status", "inbox", "sessions/pool-1/pane", "done"]
                .iter()
                .try_for_each(|name| fs::metadata(dir.join(name)).map(drop)),
            "list" => ["", "done", "sessions/pool-1"]
                .iter()
                .try_for_each(|name| fs::read_dir(dir.join(name))?.try_for_each(|entry| entry?.metadata().map(drop))),
            "read" => ["status", "status.json", "health", "sessions/pool-1/pane"]
                .iter()
                .try_for_each(|name| fs::read(dir.join(name)).map(drop)),
            _ => {
                let half = dir.join(format!("drafts/.{}.part", std::process::id()));
                fs::write(&half, format!("draft {n}\n"))
                    .and_then(|()| fs::rename(&half, dir.join(format!("drafts/{}.md", std::process::id()))))
            }
        };
        // What is listed may be gone again; anything else would be a hammer that does nothing.
        if let Err(error) = done
            && error.kind() != io::ErrorKind::NotFound
        {
            eprintln!("bench hammer: {way}: {error}");
            return ExitCode::FAILURE;
        }
    }
}
