//! Checks programs and devices: tmux, the agents, FUSE.

use std::{collections::BTreeSet, ffi::OsString, path::Path, process::Command, time::Duration};

use nix::unistd::Group;

use crate::{
    cli::check::{report::Report, scene::Scene},
    config::{Agent, Loaded, Socket, read_instructions},
    linux::{
        ask::{answer, find},
        slice::{self, Children},
    },
    model::ids::AgentName,
};

/// The oldest tmux with `-f no-output` for control clients (tmux CHANGES, 3.2).
const TMUX_OLDEST: (u32, u32) = (3, 2);
/// Longest path of a socket in bytes, the closing NUL included (unix(7)).
const SOCKET_PATH: usize = 108;
/// How long an agent may take to print its version. Chosen: one in JavaScript takes seconds on a busy machine, and a
/// person waits.
const PATIENCE: Duration = Duration::from_secs(15);

/// The first line of what `program argument` says, if it says something in time.
fn version(program: &Path, argument: &str) -> Result<String, String> {
    let said = answer(Command::new(program).arg(argument), PATIENCE).map_err(|why| format!("`{argument}` {why}"))?;
    Ok(said.lines().next().unwrap_or_default().trim().to_owned())
}

pub fn tmux(scene: &Scene<'_>, report: &mut Report) {
    let install = "install tmux, for example: apt install tmux";
    match find("tmux", (scene.env)("PATH")) {
        None => report.problem("", "tmux isn't on $PATH", install),
        Some(program) => match version(&program, "-V") {
            Err(why) => report.problem("", format!("{} {why}", program.display()), install),
            Ok(said) => match number(&said) {
                Some(found) if found < TMUX_OLDEST => report.problem(
                    "",
                    format!("{said} is too old"),
                    format!("tmux {}.{} or newer is needed", TMUX_OLDEST.0, TMUX_OLDEST.1),
                ),
                Some(_) | None => report.ok(said),
            },
        },
    }
    if let Socket::Path(path) = &scene.config.tmux.socket {
        if path.as_os_str().len() >= SOCKET_PATH {
            report.problem(
                "tmux.socket",
                format!("the path is longer than the {} bytes a socket may have", SOCKET_PATH - 1),
                "give a shorter one",
            );
        }
        match path.parent() {
            Some(dir) if !dir.is_dir() => {
                report.problem(
                    "tmux.socket",
                    format!("the directory {} doesn't exist", dir.display()),
                    format!("mkdir -p -m 700 {}", dir.display()),
                );
            }
            Some(_) | None => {}
        }
    }
}

/// `tmux 3.3a` is (3, 3); `tmux master` is none.
fn number(said: &str) -> Option<(u32, u32)> {
    let word = said.split_whitespace().nth(1)?;
    let word = word.trim_start_matches(|c: char| !c.is_ascii_digit());
    let (major, rest) = word.split_once('.')?;
    let minor: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Agents that the pool, an account or a dedicated session needs, and those that the file writes out for tasks to name.
pub fn agents(scene: &Scene<'_>, loaded: &Loaded, report: &mut Report) {
    let config = scene.config;
    for name in config.closed() {
        report.note(format!(
            "no task may name agent {name}: it has no `tasks`, and is not the pool's. `tasks: person` in its row opens it \
             to your own tasks, `tasks: anyone` also to agents' and to files written behind the mount"
        ));
    }
    let mut needed: BTreeSet<&AgentName> = config.accounts.iter().map(|account| &account.agent).collect();
    if config.pool.autonomous.max > 0 {
        needed.insert(&config.pool.autonomous.agent);
    }
    needed.extend(config.pool.dedicated.iter().filter_map(|dedicated| dedicated.agent.as_ref()));
    for (name, agent) in &config.agents {
        let needed = needed.contains(name);
        if needed || loaded.places.stands(&format!("agents.{name}")) {
            one(name, agent, needed, scene, report);
        }
    }
}

fn one(name: &AgentName, agent: &Agent, needed: bool, scene: &Scene<'_>, report: &mut Report) {
    if let Some(problem) = agent.kind.problem() {
        report.ready(problem.to_owned(), "mend it, or take the key out; doc/AGENTS.md describes rules files");
    }
    if let Some(Err(why)) = agent.instructions_file.as_deref().map(read_instructions) {
        report.problem(
            format!("agents.{name}.instructions_file"),
            why,
            "write there what the agent is to know with every task",
        );
    }
    let Some(program) = agent.program() else { return };
    let key = format!("agents.{name}.{}", if agent.kind.is_command() { "run" } else { "program" });
    let own_path = agent.env.iter().find(|(name, _)| *name == "PATH").map(|(_, value)| OsString::from(value.expose()));
    let Some(found) = find(program, own_path.or_else(|| (scene.env)("PATH"))) else {
        let remedy = "install it, or write its whole path; a service's $PATH is shorter than a shell's";
        let missing = format!("the agent {name} runs `{program}`, which isn't on $PATH");
        if needed {
            report.problem(key, missing, remedy);
        } else {
            report.note(format!("{missing}; only tasks that ask for it can't run"));
        }
        return;
    };
    // Of any program, and of one that stands in for this one, nobody knows what it does with an argument.
    if agent.kind.is_command() || agent.kind.program().is_none() {
        return report.ok(format!("agent {name}: {}", found.display()));
    }
    let judged = |said: &str| agent.kind.rules().versions.as_ref().map_or(Ok(None), |known| known.judge(program, said));
    match version(&found, "--version") {
        Ok(said) => match judged(&said) {
            Ok(complaint) => {
                report.ok(format!("agent {name}: {}, {said}", found.display()));
                complaint.into_iter().for_each(|complaint| report.note(format!("agent {name}: {complaint}")));
            }
            Err(why) => report.problem(key, format!("the agent {name}: {why}"), "doc/AGENTS.md has the versions"),
        },
        Err(why) => {
            report.problem(key, format!("the agent {name}: {} {why}", found.display()), "run it by hand and see");
        }
    }
}

/// The daemon's threads, and tmux, are to be chosen soon where processors are busy.
pub fn scheduler(report: &mut Report) {
    // On a thread of its own: the programs that are tried here get none of it.
    let tried = std::thread::spawn(|| slice::shorten(0, Children::Alike)).join();
    report.ok(match tried {
        Ok(Ok(true)) => "the scheduler takes short slices: dispatch stays quick where processors are busy",
        Ok(Ok(false) | Err(_)) | Err(_) => {
            "the scheduler takes no short slices (Linux 6.12 does): dispatch is slower where processors are busy"
        }
    });
}

pub fn fuse(scene: &Scene<'_>, report: &mut Report) {
    match std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse") {
        Ok(_) => report.ok("/dev/fuse can be opened"),
        Err(error) => report.problem(
            "mount.enabled",
            format!("can't open /dev/fuse: {error}"),
            "modprobe fuse; in a container pass --device /dev/fuse and the capability SYS_ADMIN; or set `mount.enabled: false`",
        ),
    }
    if !scene.root {
        match find("fusermount3", (scene.env)("PATH")) {
            Some(program) => report.ok(format!("fusermount3: {}", program.display())),
            None => report.problem(
                "",
                "fusermount3 isn't on $PATH; only root mounts without it",
                "install it, for example: apt install fuse3",
            ),
        }
    }
    if scene.config.mount.allow_other && !scene.root && !user_allow_other() {
        report.problem(
            "mount.allow_other",
            "/etc/fuse.conf doesn't let users open their mounts to others",
            "as root: echo user_allow_other >> /etc/fuse.conf",
        );
    }
    if let Some(group) = &scene.config.mount.control_group
        && !matches!(Group::from_name(group), Ok(Some(_)))
    {
        report.problem(
            "mount.control_group",
            format!("there is no group {group:?}"),
            format!("groupadd {group}, or another name"),
        );
    }
}

fn user_allow_other() -> bool {
    let text = std::fs::read("/etc/fuse.conf").unwrap_or_default();
    text.split(|byte| *byte == b'\n').any(|line| line.trim_ascii() == b"user_allow_other")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(number("tmux 3.3a"), Some((3, 3)));
        assert_eq!(number("tmux next-3.6"), Some((3, 6)));
        assert_eq!(number("tmux 2.10"), Some((2, 10)));
        assert_eq!(number("tmux master"), None);
        assert!((2, 10) < TMUX_OLDEST && (3, 2) >= TMUX_OLDEST);
    }
}
