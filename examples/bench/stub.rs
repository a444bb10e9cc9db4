//! An agent that costs nothing: it shows its prompt at once, tells its hooks' words at once, works for ever, and ends on TERM
//! at once. What is left of a start or a stop is the supervisor's own time and tmux's.
//!
//! In: the arguments of the built-in agent, `STUB_HOOKS`, `STUB_STAMPS`. Out: a screen and hook lines in Claude Code's shapes,
//! and the moment at which its screen stood. It runs no hook program.

use std::{
    env,
    fs::OpenOptions,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde_json::{Value, json};

use crate::measure::monotonic;

pub const STUB: &str = "_stub";

struct Stub {
    session: String,
    log: PathBuf,
    typed: String,
    busy: bool,
}

/// `_stub ARGS…`: the agent.
pub fn run(args: &[String]) -> ExitCode {
    match live(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench stub: {error}");
            ExitCode::FAILURE
        }
    }
}

fn live(args: &[String]) -> io::Result<()> {
    let after = |word: &str| args.iter().position(|arg| arg == word).and_then(|at| args.get(at + 1));
    let var = |name: &str| env::var(name).map_err(|_| io::Error::other(format!("{name} is not set")));
    let session = var("CLAUDE_FAILOVER_SESSION")?;
    let log = Path::new(&var("STUB_HOOKS")?).join(format!("{session}.jsonl"));
    let mut stub = Stub { session, log, typed: String::new(), busy: false };
    let mut raw = nix::sys::termios::tcgetattr(io::stdin())?;
    nix::sys::termios::cfmakeraw(&mut raw);
    nix::sys::termios::tcsetattr(io::stdin(), nix::sys::termios::SetArg::TCSANOW, &raw)?;
    let conversation = after("--session-id").or_else(|| after("--resume"));
    stub.hook("SessionStart", json!({"session_id": conversation}))?;
    match after("--") {
        Some(prompt) => stub.take(prompt)?,
        None => stub.draw()?,
    }
    let line = format!("{} {}\n", monotonic(), stub.session);
    OpenOptions::new().append(true).create(true).open(var("STUB_STAMPS")?)?.write_all(line.as_bytes())?;
    let mut chunk = [0; 4096];
    loop {
        let n = io::stdin().read(&mut chunk)?;
        if n == 0 {
            return Ok(());
        }
        for key in String::from_utf8_lossy(&chunk[..n]).chars() {
            match key {
                '\r' => stub.take(&stub.typed.clone())?,
                key => stub.typed.push(key),
            }
        }
        stub.draw()?;
    }
}

impl Stub {
    fn take(&mut self, prompt: &str) -> io::Result<()> {
        self.typed.clear();
        self.busy = true;
        self.draw()?;
        self.hook("UserPromptSubmit", json!({"prompt": prompt}))
    }

    fn draw(&self) -> io::Result<()> {
        let (mark, line) = (if self.busy { '⠂' } else { '✳' }, "─".repeat(40));
        let mut out = io::stdout().lock();
        write!(out, "\x1b]2;{mark} stub\x07\x1b[H\x1b[2J{line}\r\n❯ {}\r\n{line}\r\n", self.typed)?;
        out.flush()
    }

    fn hook(&self, event: &str, data: Value) -> io::Result<()> {
        let at = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
        let line = json!({"at": at, "session": self.session, "event": event, "data": data});
        let mut log = OpenOptions::new().append(true).create(true).open(&self.log)?;
        log.write_all(format!("{line}\n").as_bytes())
    }
}

/// When each start since `since` had its screen up, by the clock that all processes share.
pub fn starts(stamps: &Path, since: u64) -> Vec<u64> {
    let all = std::fs::read_to_string(stamps).unwrap_or_default();
    let times = all.lines().filter_map(|line| line.split_once(' ')?.0.parse().ok());
    times.filter(|at| *at > since).collect()
}
