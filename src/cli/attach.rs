//! `attach NAME`: shows a session's terminal with tmux's own client.
//! Reads from the mount which tmux server the session lives in; this process then becomes `tmux attach`.

use std::{os::unix::process::CommandExt, process::Command};

use serde_json::Value;

use super::{
    args::AttachArgs,
    exit::{Exit, Failure},
    mount::{ANSWERS_WITHIN, Mount},
    place, status_file,
    table::clean,
};
use crate::{cli::io::Io, config::paths::NAME};

/// # Errors
/// No daemon, no such session, or tmux can't be started.
pub fn run(args: &AttachArgs, io: &mut Io<'_>) -> Result<Exit, Failure> {
    let mount = place::mount(&args.mount, io);
    let status = status_file::read(&mount, ANSWERS_WITHIN)?;
    if !status.sessions.iter().any(|session| session.name == args.session) {
        let known: Vec<&str> = status.sessions.iter().map(|session| session.name.as_str()).collect();
        let known = if known.is_empty() { "there are none".to_owned() } else { clean(&known.join(", ")) };
        return Err(Failure::Failed(format!("there is no session {}; known: {known}", clean(&args.session))));
    }
    if !io.terminal {
        return Err(Failure::Failed("attach needs a terminal on standard output".to_owned()));
    }
    let mut tmux = Command::new("tmux");
    tmux.args(server(&mount)?);
    // Inside another tmux the client would refuse to nest; this is a server of its own.
    tmux.env_remove("TMUX").args(["attach-session", "-t"]).arg(format!("={}", args.session));
    if args.read_only {
        tmux.arg("-r");
    }
    Err(Failure::Failed(format!("can't start tmux: {}", tmux.exec())))
}

/// tmux's options for the server of `tmux.socket`, from the daemon's own configuration.
fn server(mount: &Mount) -> Result<Vec<String>, Failure> {
    let text = mount.read("config.yaml", ANSWERS_WITHIN)?;
    let config: Value = serde_yaml::from_str(&text)
        .map_err(|error| Failure::Failed(format!("can't read {}/config.yaml: {error}", mount.dir.display())))?;
    Ok(options(config["tmux"]["socket"].as_str()))
}

fn options(socket: Option<&str>) -> Vec<String> {
    match socket {
        None => vec!["-L".to_owned(), NAME.to_owned()],
        Some("default") => Vec::new(),
        Some(path) if path.contains('/') => vec!["-S".to_owned(), path.to_owned()],
        Some(name) => vec!["-L".to_owned(), name.to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_socket_has_its_option() {
        assert_eq!(options(None), ["-L", "claude-failover"]);
        assert!(options(Some("default")).is_empty());
        assert_eq!(options(Some("mine")), ["-L", "mine"]);
        assert_eq!(options(Some("/tmp/t.sock")), ["-S", "/tmp/t.sock"]);
    }
}
