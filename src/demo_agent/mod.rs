//! The demo agent: a small program that behaves on a terminal like Claude Code.
//!
//! Takes keys on a terminal and modes that inject faults; produces a screen, hooks, a status file and a transcript in
//! Claude Code's formats, so that a supervisor can be shown and tested without an account. Owns `DEMO_AGENT_HOME`
//! (default `~/.demo-agent`). It has no model: it runs the first `sh` block of a prompt, or repeats the prompt. It
//! refuses every request while the file `limit` of its home says so (`echo $(date +%s -d '5 minutes') > HOME/limit`);
//! a prompt that begins with `continue` resumes the unanswered task of its conversation where it stopped.

mod app;
mod block;
mod hooks;
mod identity;
mod input_box;
mod keys;
mod limits;
mod modes;
mod reply;
mod screen;
mod status;
mod term;
mod transcript;
mod turn;
mod view;

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use uuid::Uuid;

use hooks::Settings;
use identity::Identity;
use modes::Modes;

#[derive(Parser)]
#[command(
    name = "demo-agent",
    version,
    about = "A stand-in for a coding agent: runs the first sh block of each prompt"
)]
struct Args {
    /// The id of the new conversation
    #[arg(long, value_name = "UUID", conflicts_with = "resume")]
    session_id: Option<Uuid>,
    /// Continue this conversation
    #[arg(long, value_name = "UUID")]
    resume: Option<String>,
    /// Hooks, in the shape of Claude Code's settings.json
    #[arg(long, value_name = "FILE")]
    settings: Option<String>,
    /// Behave like this (also in DEMO_AGENT_MODE, divided by commas): slow=SECONDS limit[=EPOCH] server-error swallow-enter=N
    /// swallow-paste=N permission background=SECONDS spinner; `once:MODE` for the first turn only
    #[arg(long, value_name = "MODE")]
    mode: Vec<String>,
    /// The first prompt
    prompt: Option<String>,
}

/// Runs the agent with the arguments after its name. Must be called before the process has started any thread.
pub fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args = match Args::try_parse_from(std::iter::once(OsString::from("demo-agent")).chain(args)) {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match prepare(&args).and_then(|(identity, settings, modes)| {
        app::run(identity, settings, modes, args.prompt).map_err(|e| format!("demo-agent: the terminal failed: {e}"))
    }) {
        Ok(code) => ExitCode::from(code),
        Err(message) => {
            if io::stdout().is_terminal() {
                term::last_words(&format!("{message}\n"));
            } else {
                let _ = writeln!(io::stderr(), "{message}");
            }
            ExitCode::FAILURE
        }
    }
}

fn prepare(args: &Args) -> Result<(Identity, Settings, Modes), String> {
    let words = std::env::var("DEMO_AGENT_MODE").unwrap_or_default();
    let words = words.split(',').chain(args.mode.iter().flat_map(|mode| mode.split(',')));
    let modes = Modes::parse(words).map_err(|e| format!("demo-agent: {e}"))?;
    let settings = match &args.settings {
        Some(settings) => Settings::read(settings).map_err(|e| format!("demo-agent: {e}"))?,
        None => Settings::default(),
    };
    let identity = identify(args)?;
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Err("demo-agent: stdin and stdout must be a terminal; run it in tmux or a shell".to_owned());
    }
    Ok((identity, settings, modes))
}

fn identify(args: &Args) -> Result<Identity, String> {
    let cwd = std::env::current_dir().map_err(|e| format!("demo-agent: the working directory is not there: {e}"))?;
    let home = match std::env::var_os("DEMO_AGENT_HOME").filter(|home| !home.is_empty()) {
        Some(home) => PathBuf::from(home),
        None => std::env::home_dir().ok_or("demo-agent: no home directory; set DEMO_AGENT_HOME")?.join(".demo-agent"),
    };
    if let Some(text) = &args.resume {
        // The wording of Claude Code.
        let unknown = || format!("No conversation found with session ID: {text}");
        let session_id = Uuid::parse_str(text).map_err(|_| unknown())?;
        let transcript = transcript::find(&home, &cwd, session_id).ok_or_else(unknown)?;
        return Ok(Identity { session_id, cwd, home, transcript, resumed: true });
    }
    let session_id = args.session_id.unwrap_or_else(Uuid::new_v4);
    let transcript = transcript::path(&home, &cwd, session_id);
    if transcript::find(&home, &cwd, session_id).is_some() {
        return Err(format!("Error: Session ID {session_id} is already in use."));
    }
    Ok(Identity { session_id, cwd, home, transcript, resumed: false })
}
