//! `man` and `completions`: the manual page generated from the command tree, and shell scripts that call back into it.

use std::io::Write;

use clap_complete::{Shell, env::Shells};
use clap_mangen::Man;

use super::{
    args,
    exit::{Exit, Failure},
};
use crate::cli::io::Io;

const NAME: &str = "claude-failover";
/// The variable by which a shell's completion script asks the program.
pub const COMPLETE: &str = "CLAUDE_FAILOVER_COMPLETE";
/// The option as clap_mangen writes it.
const HELP: &str = "\\-\\-help";
const HELP_IN_SYNOPSIS: &str = " [\\fB\\-h\\fR|\\fB\\-\\-help\\fR]";

/// A script that asks this program at each completion, so that it knows today's tasks and sessions.
///
/// # Errors
/// When the output can't be written.
pub fn completions(shell: Shell, io: &mut Io<'_>) -> Result<Exit, Failure> {
    let mut text = Vec::new();
    let shells = Shells::builtins();
    let name = shell.to_string();
    let completer = shells.completer(&name).ok_or_else(|| Failure::Failed(format!("no completions for {name}")))?;
    completer.write_registration(COMPLETE, NAME, NAME, NAME, &mut text)?;
    io.out.write_all(&text)?;
    Ok(Exit::Ok)
}

/// All commands on one page.
///
/// # Errors
/// When the output can't be written.
pub fn page(io: &mut Io<'_>) -> Result<Exit, Failure> {
    let mut tree = args::command();
    tree.build();
    let mut text = Vec::new();
    let main = Man::new(tree.clone()).section("1").date("").manual("User Commands");
    main.render_title(&mut text)?;
    main.render_name_section(&mut text)?;
    main.render_synopsis_section(&mut text)?;
    main.render_description_section(&mut text)?;
    text.extend_from_slice(b".SH COMMANDS\n");
    let mut all = Vec::new();
    flatten(&tree, "", &mut all);
    for (path, command) in all {
        one(&path, command, &mut text)?;
    }
    text.extend_from_slice(REST.as_bytes());
    io.out.write_all(&text)?;
    Ok(Exit::Ok)
}

/// Every command that can be typed, `wait task` included.
fn flatten<'a>(tree: &'a clap::Command, before: &str, out: &mut Vec<(String, &'a clap::Command)>) {
    for command in tree.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help") {
        let path = format!("{before}{}", command.get_name());
        if command.get_subcommands().next().is_some() {
            flatten(command, &format!("{path} "), out);
        } else {
            out.push((path, command));
        }
    }
}

fn one(path: &str, command: &clap::Command, out: &mut Vec<u8>) -> Result<(), Failure> {
    let man = Man::new(command.clone());
    let mut body = Vec::new();
    man.render_synopsis_section(&mut body)?;
    man.render_description_section(&mut body)?;
    let shown = |arg: &clap::Arg| !arg.is_hide_set() && !["help", "version"].contains(&arg.get_id().as_str());
    if command.get_arguments().any(shown) {
        man.render_options_section(&mut body)?;
    }
    writeln!(out, ".SS {path}")?;
    let body = String::from_utf8_lossy(&body);
    let mut lines = body.lines().peekable();
    while let Some(line) = lines.next() {
        match line {
            // The sections of a command are paragraphs of its subsection.
            ".SH SYNOPSIS" | ".SH DESCRIPTION" | ".SH OPTIONS" => writeln!(out, ".PP")?,
            // Groff's quoting preamble occurs once, in the title.
            ".ie \\n(.g .ds Aq \\(aq" | ".el .ds Aq '" => {}
            // Every command has --help; saying it each time hides the rest.
            tag if tag.starts_with(".TP") && lines.peek().is_some_and(|next| next.contains(HELP)) => {
                while lines.next_if(|next| !next.starts_with(".TP")).is_some() {}
            }
            text => writeln!(out, "{}", text.replace(HELP_IN_SYNOPSIS, ""))?,
        }
    }
    Ok(())
}

const REST: &str = r#".SH "EXIT STATUS"
.TP
0
It worked, or holds. A closed pipe counts as this.
.TP
1
It failed, or \fBcheck\fR found a problem.
.TP
2
Wrong use.
.TP
3
No daemon serves the mount.
.TP
4
Time was up.
.SH ENVIRONMENT
.TP
CLAUDE_FAILOVER_CONFIG, CLAUDE_FAILOVER_MOUNT
As \-\-config and \-\-mount.
.TP
STATE_DIRECTORY, XDG_STATE_HOME
Where state is kept: the first, else claude\-failover in the second, else ~/.local/state/claude\-failover.
.TP
RUNTIME_DIRECTORY, XDG_RUNTIME_DIR
Where the mount is unless the configuration says.
.TP
NO_COLOR
No colours.
.SH FILES
.TP
~/.config/claude\-failover/config.yaml, /etc/claude\-failover/config.yaml
The configuration; config.example.yaml shows every key.
.TP
\fIproject\fR/.agent\-queue/{inbox,drafts,done,failed}
A project's queue: a task is a file in inbox.
.TP
\fImount\fR/README
What is in the mount and which verbs its files take.
.SH "SEE ALSO"
.BR tmux (1),
.BR fusermount3 (1),
.BR systemd.service (5)
"#;
