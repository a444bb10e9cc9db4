//! Initializes a new connection.
//! Takes options and a connection; returns facts about the server. Sets server-wide options only on our own server,
//! before the first agent's session; on the operator's server it only reads, and touches only the keeper's session.
//! Never leaves a global `window-size manual` set before a session is created: tmux 3.3a and 3.5a crash on it.

use std::{path::PathBuf, process::Stdio, time::Duration};

use super::{
    capture::Way,
    link::{ANSWER_WITHIN, Link},
    options::{KEEPER, TmuxOptions, inherited, left},
    quote::Command,
    spawn, text,
};
use nix::sys::signal::Signal;
use tokio::time::timeout;

use crate::linux::{
    mark,
    process::Pidfd,
    slice::{self, Children},
};

/// Timeout of a tmux command that is run as a process. Chosen: it takes 2 ms (measured); a server out of descriptors
/// hangs every client for ever.
const RUN_WITHIN: Duration = Duration::from_secs(2);

/// The server at the other end.
#[derive(Debug)]
pub struct Server {
    pub process: Pidfd,
    pub version: String,
    /// How its screens are read.
    pub capture: Way,
    /// Our own client process.
    pub client: u32,
}

/// What a client says whose connection the server closes at once: it is shutting down, and takes nobody any more (tmux's
/// client.c, `CLIENT_EXIT_LOST_SERVER`).
const LOST_SERVER: &str = "server exited unexpectedly";

/// How long a server may take to shut down. Measured: 0.35 to 1.3 s with 200 panes. Chosen: twice that.
const SHUTS_DOWN_WITHIN: Duration = Duration::from_secs(3);

/// Connects and prepares.
///
/// # Errors
/// Why there is no usable connection.
pub async fn establish(options: &TmuxOptions) -> Result<(Link, Server), String> {
    let first = attempt(options).await;
    let Some(server) = shutting_down(options, &first) else { return first };
    drop(timeout(SHUTS_DOWN_WITHIN, server.ended()).await);
    let second = attempt(options).await;
    // Another server may have come, and taken its place.
    let Some(server) = shutting_down(options, &second).filter(|still| still.pid() == server.pid()) else {
        return second;
    };
    let pid = server.pid();
    if !options.ours {
        return Err(format!(
            "tmux server {pid} is shutting down and waits for a client that doesn't end (stopped, or its terminal is): \
             end that client, or the server with `kill -9 {pid}`; its sessions are gone already"
        ));
    }
    tracing::warn!(server = pid, "the tmux server shuts down and waits for a client that doesn't end: it is killed");
    drop(server.signal(Signal::SIGKILL));
    drop(timeout(SHUTS_DOWN_WITHIN, server.ended()).await);
    attempt(options).await
}

/// The server, where it refuses connections because it is shutting down. Its sessions are gone then; it waits for its clients,
/// and one that is stopped, or whose terminal is, holds it for ever.
fn shutting_down(options: &TmuxOptions, attempt: &Result<(Link, Server), String>) -> Option<Pidfd> {
    let refused = attempt.as_ref().err()?.contains(LOST_SERVER);
    let pid = spawn::server_pid(&options.socket_path()).filter(|_| refused)?;
    Pidfd::open(pid).ok()
}

async fn attempt(options: &TmuxOptions) -> Result<(Link, Server), String> {
    defuse(options).await?;
    let mut link = Link::open(options).await?;
    let facts = link.ask(vec![
        Command::new("display-message").arg("-p").arg("#{pid} #{version}"),
        Command::new("show-environment").arg("-g"),
        Command::new("list-buffers").arg("-F").arg("#{buffer_name}"),
    ]);
    let facts = facts.await?;
    let [about, environment, buffers] = facts.blocks.as_slice() else {
        return Err(format!("tmux answered {} times to three questions", facts.blocks.len()));
    };
    let about = about.text();
    let (pid, version) = about.split_once(' ').unwrap_or((&about, ""));
    let process = pid.parse().map_err(|_| format!("tmux told no pid but {about:?}"))?;
    let process = Pidfd::open(process).map_err(|e| format!("tmux server {process}: {e}"))?;
    let mut commands = keeper_options();
    let buffers = buffers.text();
    let left = buffers.lines().filter(|name| left(name));
    commands.extend(left.map(|name| Command::new("delete-buffer").arg("-b").arg(name)));
    if options.ours {
        commands.extend(server_options(options));
        let foreign = variables(&environment.text()).into_iter().filter(|name| !inherited(name));
        commands.extend(foreign.map(|name| Command::new("set-environment").arg("-g").arg("-u").arg(name)));
        // Keys and screens pass through it. Agents get the kernel's default.
        let _ = slice::shorten(process.pid(), Children::Default);
        // Before a pane is opened.
        if let Some(number) = options.mark
            && let Err(error) = mark::put_on_tree(process.pid(), number)
        {
            tracing::warn!(%error, "the tmux server can't be marked: what agents detach and outlives it looks like a person's");
        }
    }
    for block in link.ask(commands).await?.blocks {
        if !block.ok {
            tracing::warn!(message = block.text(), version, "tmux refused an option");
        }
    }
    link.server = Some(process.pid());
    let server = Server { process, capture: Way::of(version), version: version.to_owned(), client: link.client_pid() };
    Ok((link, server))
}

/// Names of the variables in an answer of `show-environment`.
#[must_use]
pub fn variables(answer: &str) -> Vec<String> {
    // `-NAME` is one that is taken away already.
    answer
        .lines()
        .filter(|line| !line.starts_with('-'))
        .filter_map(|line| Some(line.split_once('=')?.0.to_owned()))
        .collect()
}

fn keeper_options() -> Vec<Command> {
    let keeper = format!("={KEEPER}:");
    let set = |name: &str, value: &str| Command::new("set-option").arg("-t").arg(&keeper).arg(name).arg(value);
    // When the keeper's session is killed we want to be thrown out, not moved into an agent's session.
    vec![set("detach-on-destroy", "on"), set("destroy-unattached", "off")]
}

fn server_options(options: &TmuxOptions) -> Vec<Command> {
    let set = |scope: &str, name: &str, value: &str| Command::new("set-option").arg(scope).arg(name).arg(value);
    vec![
        set("-s", "exit-empty", "off"),
        // tmux's log of commands would keep prompts, and the keys that agents are started with.
        set("-s", "message-limit", "0"),
        // An agent's escape sequences don't write to the operator's clipboard.
        set("-s", "set-clipboard", "off"),
        set("-gw", "allow-passthrough", "off"),
        // An operator who attaches and presses Escape means Escape.
        set("-s", "escape-time", "20"),
        set("-gw", "window-size", "largest"),
        set("-g", "history-limit", &options.history_limit.to_string()),
        // Nothing of an attaching operator's environment goes into a session.
        set("-g", "update-environment", ""),
        set("-g", "detach-on-destroy", "on"),
        set("-g", "destroy-unattached", "off"),
        // Names are formats, and a format can run commands.
        set("-gw", "automatic-rename", "off"),
        set("-gw", "allow-rename", "off"),
        set("-g", "set-titles", "off"),
    ]
}

/// Why sessions can't be made on a server of the operator's.
pub const WINDOW_SIZE_MANUAL: &str = "its global option window-size is \"manual\", and tmux before 3.7 crashes with all sessions \
     when a session is made then; run `tmux set -g window-size latest` (and change it in tmux.conf), or give claude-failover a socket of its own";

/// Sees to it that attaching, which makes the keeper's session where it is missing, doesn't crash a server that runs.
async fn defuse(options: &TmuxOptions) -> Result<(), String> {
    if spawn::server_pid(&options.socket_path()).is_none() {
        return Ok(());
    }
    let command: &[&str] = if options.ours {
        &["set-option", "-gw", "window-size", "largest"]
    } else {
        &["show-options", "-gwv", "window-size"]
    };
    let output = tokio::process::Command::from(run(options, command)).kill_on_drop(true).output();
    match timeout(RUN_WITHIN, output).await {
        Ok(Ok(output)) if output.stdout.starts_with(b"manual") => Err(format!("tmux isn't used: {WINDOW_SIZE_MANUAL}")),
        // No server after all: attaching starts one.
        Ok(Ok(_)) => Ok(()),
        Ok(Err(e)) => Err(format!("{} can't be run: {e}", options.tmux.display())),
        Err(_) => Err(format!("no answer within {RUN_WITHIN:?} (`tmux {}`)", command.join(" "))),
    }
}

/// Runs one command as a process of its own and gives it a text on its standard input.
///
/// # Errors
/// Why it can't be said that tmux has the whole of it.
pub async fn told(options: &TmuxOptions, words: &[&str], text: &str) -> Result<(), String> {
    use tokio::io::AsyncWriteExt;
    let mut command = run(options, words);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let failed = |e: std::io::Error| format!("{} can't be run: {e}", options.tmux.display());
    let mut child = tokio::process::Command::from(command).kill_on_drop(true).spawn().map_err(failed)?;
    let mut input = child.stdin.take();
    let exchange = async {
        if let Some(input) = &mut input {
            input.write_all(text.as_bytes()).await?;
        }
        drop(input.take());
        child.wait_with_output().await
    };
    match timeout(ANSWER_WITHIN, exchange).await {
        Ok(Ok(output)) if output.status.success() => Ok(()),
        Ok(Ok(output)) => Err(text::line(String::from_utf8_lossy(&output.stderr).trim())),
        Ok(Err(e)) => Err(failed(e)),
        Err(_) => Err(format!("no answer within {ANSWER_WITHIN:?} (`tmux {}`)", words.join(" "))),
    }
}

/// A command to run as a process of its own.
fn run(options: &TmuxOptions, words: &[&str]) -> std::process::Command {
    let program: PathBuf = spawn::program(options);
    let mut command = std::process::Command::new(program);
    command.args(options.arguments()).args(words).env_clear().envs(TmuxOptions::environment()).current_dir("/");
    command.stdin(Stdio::null()).stderr(Stdio::null());
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_read_from_an_answer() {
        assert_eq!(variables("HOME=/h\n-DISPLAY\nA_KEY=x=y\nrest of a value\n"), ["HOME", "A_KEY"]);
    }

    #[test]
    fn window_size_is_never_manual_and_no_option_is_set_for_all_on_a_foreign_server() {
        let lines: Vec<String> = server_options(&TmuxOptions::new(super::super::Socket::Default))
            .iter()
            .map(|c| c.line().to_owned())
            .collect();
        assert!(lines.iter().all(|line| !line.contains("manual")));
        assert!(
            keeper_options().iter().all(|c| c.line().contains("\"=_claude-failover:\"") && !c.line().contains("-g"))
        );
    }
}
