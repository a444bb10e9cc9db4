//! Starts a program in a session's pane.
//! Takes a launch; returns the pane. All changes are made by one command line, which the server runs without
//! interruption: a daemon that dies before or after leaves no half-made session. No shell, format or other session's
//! environment sees the launch's words: they are separate arguments of a constant script, and variables of this one
//! start.

use super::{
    Tmux,
    list::{self, MARK, OWNER, Row},
    options::inherited,
    parse::Block,
    quote::Command,
    setup::{WINDOW_SIZE_MANUAL, variables},
};
use crate::{
    linux::mark,
    model::pane::{Launch, Pane, TerminalError},
    sys::tmux::errors::{gone, refused, success},
};

/// Run with the working directory as `$0` and the program as `$@`. tmux alone would start a missing directory's program
/// at home, tell nothing of a missing program, and give a single word to a shell. The trap runs only when there is nothing
/// to run: tmux may drop what a program writes in its last moment, and this is the reason why nothing started.
const SCRIPT: &str = r#"trap 'sleep 0.2' EXIT; cd -- "$0" && exec "$@""#;

/// What a new session runs until, on the same line, the program replaces it. A session made with the program itself
/// would keep the program's variables for every later window.
const PLACEHOLDER: [&str; 2] = ["sleep", "2147483647"];

/// What is known of the server and the session before it is touched.
struct Before {
    row: Option<Row>,
    /// Variables that tmux would pass on and that aren't ours to pass on.
    foreign: Vec<String>,
    window_size: String,
    /// Somebody else's control client takes the panes' output.
    output_taken: bool,
}

impl Tmux {
    pub(super) async fn open_session(&self, launch: &Launch) -> Result<Pane, TerminalError> {
        let what = format!("opening session {}", launch.session);
        check(launch, &what)?;
        let directory = launch.workdir.clone();
        match tokio::fs::metadata(&directory).await {
            Ok(facts) if facts.is_dir() => {}
            Ok(_) => return Err(refused(&what, format!("{} is not a directory", directory.display()))),
            Err(e) => return Err(refused(&what, format!("working directory {}: {e}", directory.display()))),
        }
        let server = Some(self.server_pid().ok_or_else(|| self.down(&what))?);
        let before = self.before(server, launch, &what).await?;
        let line = match &before.row {
            // What a person made of its place is his: the next program gets a session of its own name again.
            Some(row) if row.dead && !row.home => {
                self.guard_window_size(server, &before, &what).await?;
                self.create(launch, &before.foreign).after(&close_dead(row))
            }
            Some(row) if row.dead => self.again(launch, row, server, &before, &what).await?,
            Some(row) if self.deaths.ended(&row.target.id(), row.pid) => {
                // tmux missed the death; the list reminds it.
                self.rows().await?;
                self.again(launch, row, server, &before, &what).await?
            }
            Some(row) => return Err(refused(&what, format!("the program in pane {} still runs", row.target))),
            None => {
                self.guard_window_size(server, &before, &what).await?;
                self.create(launch, &before.foreign)
            }
        };
        let answer = self.ask(server, &what, vec![line]).await?;
        if let Some(failed) = answer.blocks.iter().find(|block| !block.ok) {
            if before.row.is_none() && answer.blocks.first().is_some_and(|first| first.ok) {
                // The session was made and something after it failed: don't leave the placeholder.
                let undo = Command::new("kill-session").arg("-t").arg(format!("={}:", launch.session));
                drop(self.ask(server, &what, vec![undo]).await);
            }
            return Err(refused(&what, failed.text()));
        }
        let rows = answer.blocks.last().map(|block| self.lister.rows(&block.text())).unwrap_or_default();
        let opened = rows.into_iter().find(|row| row.incarnation.as_deref() == Some(&launch.incarnation));
        let opened = opened.ok_or_else(|| gone(&what))?;
        // On a server of our own it has that already.
        if let Some(number) = self.options.mark.filter(|_| !self.options.ours) {
            let _ = mark::put_on_tree(opened.pid, number);
        }
        // A list of all takes the new program under watch, and tells what came of one that ended at once. It runs either
        // way: a list that fails must not make it look as if it had not been started.
        let rows = self.rows().await.unwrap_or_default();
        let now = rows.into_iter().find(|row| row.target == opened.target && row.pid == opened.pid);
        Ok(now.unwrap_or(opened).into_pane())
    }

    async fn before(&self, server: Option<u32>, launch: &Launch, what: &str) -> Result<Before, TerminalError> {
        let session = format!("={}:", launch.session);
        let questions = vec![
            Command::new("show-options").arg("-gwv").arg("window-size"),
            Command::new("show-environment").arg("-g"),
            self.lister.owned(&launch.session),
            Command::new("show-environment").arg("-t").arg(&session),
            Command::new("list-clients").arg("-F").arg("#{client_flags}"),
        ];
        let answer = self.ask(server, what, questions).await?;
        let [window_size, global, panes, own, clients] = answer.blocks.as_slice() else {
            return Err(TerminalError::Down {
                what: what.to_owned(),
                message: format!("{} answers to 5 questions", answer.blocks.len()),
            });
        };
        let rows = self.lister.rows(&success(what, panes)?.text());
        let row = rows.into_iter().find(|row| row.session == launch.session);
        let text = |block: &Block| if block.ok { block.text() } else { String::new() };
        let mut foreign = variables(&text(global));
        foreign.extend(variables(&text(own)));
        foreign.retain(|name| !inherited(name));
        foreign.sort_unstable();
        foreign.dedup();
        let output_taken = text(clients).lines().any(takes_output);
        Ok(Before { row, foreign, window_size: text(window_size), output_taken })
    }

    /// The line that starts the program of a session whose last one is dead.
    async fn again(
        &self,
        launch: &Launch,
        row: &Row,
        server: Option<u32>,
        before: &Before,
        what: &str,
    ) -> Result<Command, TerminalError> {
        let replace = self.replace(launch, row, &before.foreign);
        if !before.output_taken {
            return Ok(replace);
        }
        self.guard_window_size(server, before, what).await?;
        // A program that came to life meanwhile is not killed: then tmux refuses the other line.
        let test = Command::new("if-shell").args(["-F", "-t", &row.target.pane, "#{pane_dead}"]);
        Ok(test.arg(self.renew(launch, row, &before.foreign).line()).arg(replace.line()))
    }

    /// tmux before 3.7 crashes when a session or a window is made while this is "manual" for all.
    async fn guard_window_size(&self, server: Option<u32>, before: &Before, what: &str) -> Result<(), TerminalError> {
        if before.window_size != "manual" {
            return Ok(());
        }
        if !self.options.ours {
            return Err(refused(what, WINDOW_SIZE_MANUAL));
        }
        let set = Command::new("set-option").arg("-gw").arg("window-size").arg("largest");
        let answer = self.ask(server, what, vec![set]).await?;
        answer.blocks.first().map_or(Ok(()), |block| success(what, block).map(drop))
    }

    fn create(&self, launch: &Launch, foreign: &[String]) -> Command {
        let (width, height) = (self.options.width.to_string(), self.options.height.to_string());
        let session = format!("={}:", launch.session);
        Command::new("new-session")
            .args(["-d", "-s", launch.session.as_str(), "-x", &width, "-y", &height, "-n", "agent", "-c", "/", "--"])
            .args(PLACEHOLDER)
            .then(&self.settings(launch, &session, foreign))
            .then(&respawn(launch, &session, &["-k"]))
            .then(&mark(launch, &session))
            .then(&self.lister.of_session(&session))
    }

    fn replace(&self, launch: &Launch, row: &Row, foreign: &[String]) -> Command {
        // Without -k, so that tmux itself refuses a program that lives.
        respawn(launch, &row.target.pane, &[])
            .then(&mark(launch, &row.target.pane))
            .then(&self.lister.of_session(&format!("={}:", launch.session)))
            .after(&self.settings_again(launch, row, foreign))
    }

    /// A new pane in the dead one's place; the window, whoever looks at it and what a person opened beside it stay.
    /// tmux up to 3.7c keeps how far control clients had read the dead program's output, and counts it from the respawned
    /// program's first byte: it then reads past its memory, and crashes with all sessions (tmux issue 5498). A new pane
    /// counts from nothing.
    fn renew(&self, launch: &Launch, row: &Row, foreign: &[String]) -> Command {
        let (session, dead) = (format!("={}:", launch.session), row.target.pane.as_str());
        // The new window is the session's current one, which `session` means, until it goes with the dead pane.
        program(launch, Command::new("new-window").args(["-t", &session]))
            .then(&mark(launch, &session))
            .then(&Command::new("swap-pane").args(["-d", "-Z", "-s", dead, "-t", &session]))
            .then(&Command::new("kill-pane").args(["-t", dead]))
            .then(&self.lister.of_session(&session))
            .after(&self.settings_again(launch, row, foreign))
    }

    /// Options of a session whose last program is dead. A person's keeps the size and the options that he gave it.
    fn settings_again(&self, launch: &Launch, row: &Row, foreign: &[String]) -> Command {
        if launch.keep_dead {
            self.settings(launch, &row.target.pane, foreign)
        } else {
            without(launch, foreign, remain(launch, &row.target.pane))
        }
    }

    /// Options of the one session and window.
    fn settings(&self, launch: &Launch, target: &str, foreign: &[String]) -> Command {
        let session = format!("={}:", launch.session);
        let of_window = |name, value| of_window(target, name, value);
        let of_session = |name: &str, value: &str| Command::new("set-option").args(["-q", "-t", &session, name, value]);
        let (width, height) = (self.options.width.to_string(), self.options.height.to_string());
        let settings = remain(launch, target)
            // tmux's own line about the death would push the screen's first line out.
            .then(&of_window("remain-on-exit-format", ""))
            .then(&of_window("automatic-rename", "off"))
            .then(&of_window("allow-rename", "off"))
            .then(&of_session("destroy-unattached", "off"))
            // A person whose session ends is thrown out, not moved into another agent's session.
            .then(&of_session("detach-on-destroy", "on"))
            // new-session's own size is ignored while somebody is attached elsewhere; and this one stays.
            .then(&Command::new("resize-window").args(["-t", target, "-x", &width, "-y", &height]));
        without(launch, foreign, settings)
    }
}

/// Whether a client with these flags is sent what programs write. Ours isn't.
fn takes_output(flags: &str) -> bool {
    let has = |flag| flags.split(',').any(|one| one == flag);
    has("control-mode") && !has("no-output")
}

fn of_window(target: &str, name: &str, value: &str) -> Command {
    Command::new("set-option").args(["-q", "-w", "-t", target, name, value])
}

fn remain(launch: &Launch, target: &str) -> Command {
    of_window(target, "remain-on-exit", if launch.keep_dead { "on" } else { "off" })
}

/// Takes variables out of what the session passes on.
fn without(launch: &Launch, foreign: &[String], line: Command) -> Command {
    let session = format!("={}:", launch.session);
    let remove = |name: &String| Command::new("set-environment").args(["-t", &session, "-r", name]);
    foreign.iter().map(remove).fold(line, |line, next| line.then(&next))
}

fn respawn(launch: &Launch, target: &str, flags: &[&str]) -> Command {
    program(launch, Command::new("respawn-pane").args(flags).args(["-t", target]))
}

/// Adds what runs to a command that makes a pane run.
fn program(launch: &Launch, command: Command) -> Command {
    use std::os::unix::ffi::OsStrExt;
    let variables = launch.env.iter().flat_map(|(name, value)| ["-e".to_owned(), format!("{name}={value}")]);
    command
        .args(["-c", "/"])
        .args(variables)
        .args(["--", "/bin/sh", "-c", SCRIPT])
        .arg(launch.workdir.as_os_str().as_bytes())
        .args(&launch.argv)
}

fn mark(launch: &Launch, target: &str) -> Command {
    let set = |name: &str, value: &str| Command::new("set-option").args(["-p", "-t", target, name, value]);
    set(MARK, &launch.incarnation).then(&set(OWNER, launch.session.as_str()))
}

/// Removes a pane, if its program is still dead.
pub(super) fn close_dead(row: &Row) -> Command {
    let kill = Command::new("kill-pane").args(["-t", &row.target.pane]);
    Command::new("if-shell").args(["-F", "-t", &row.target.pane, "#{pane_dead}"]).arg(kill.line())
}

/// Refuses what tmux can't carry.
fn check(launch: &Launch, what: &str) -> Result<(), TerminalError> {
    use std::os::unix::ffi::OsStrExt;
    if launch.argv.first().is_none_or(String::is_empty) {
        return Err(refused(what, "there is no program to run"));
    }
    if !list::mark_ok(&launch.incarnation) {
        return Err(refused(what, "an incarnation is made of letters, digits and -_.:"));
    }
    if !launch.workdir.is_absolute() {
        return Err(refused(what, format!("working directory {} is not absolute", launch.workdir.display())));
    }
    if let Some((name, _)) = launch.env.iter().find(|(name, _)| name.is_empty() || name.contains('=')) {
        return Err(refused(what, format!("{name:?} can't be a variable's name")));
    }
    let words = launch.argv.iter().chain(launch.env.iter().flat_map(|(name, value)| [name, value]));
    if words.map(|word| word.as_bytes()).chain([launch.workdir.as_os_str().as_bytes()]).any(|word| word.contains(&0)) {
        return Err(refused(what, "a NUL can't be in a program's words, variables or directory"));
    }
    Ok(())
}
