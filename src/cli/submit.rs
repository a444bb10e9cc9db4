//! `submit [TEXT|-]`: creates a task in an inbox of the mount.
//! Takes the text from the arguments or standard input; the file appears complete, and its id is printed.

use std::{
    fs::{self, OpenOptions},
    io::{IsTerminal, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, RenameFlags, renameat2},
};
use serde_json::{Value, json};

use super::{
    args::{SubmitArgs, unmarked},
    exit::{Exit, Failure},
    mount::{ANSWERS_WITHIN, Mount},
    place,
    status_file::{self, Status},
    table::clean,
};
use crate::{
    cli::io::Io,
    model::{
        ids::{AgentName, TaskId},
        task_file::{Reading, Rules, read_by},
    },
};

/// Longest id made from a text, in bytes. Chosen: readable in a listing, and below the 128 of a task's name.
const ID_MAX: usize = 40;
/// Tasks of one text distinguished by a number. Chosen: more is a script in a loop.
const SAME_NAME: u32 = 1000;

/// # Errors
/// No daemon, no text, no such project, a name that is taken, or the mount refuses the file.
pub fn run(args: &SubmitArgs, io: &mut Io<'_>) -> Result<Exit, Failure> {
    let mount = place::mount(&args.mount, io);
    let status = status_file::read(&mount, ANSWERS_WITHIN)?;
    let project = project(&status, args.project.as_deref())?;
    let text = text(args)?;
    if text.trim().is_empty() {
        return Err(Failure::Failed(
            "the task is empty; give its text, or - to read it from standard input".to_owned(),
        ));
    }
    let body = with_options(args, &text)?;
    refuse_what_is_rejected(&mount, &body, body != text)?;
    let id = match &args.id {
        Some(id) => {
            let id = id.strip_suffix(".md").unwrap_or(id);
            let wrong = || {
                Failure::Failed(format!(
                    "{id:?} can't be a task's id: letters, digits, - and _, beginning with a letter or digit, at most 125 bytes"
                ))
            };
            let id = TaskId::from_file_name(&format!("{id}.md")).ok_or_else(wrong)?.to_string();
            match place_file(&mount, &project, &id, &body)? {
                Placed::Done => id,
                Placed::Taken => {
                    return Err(Failure::Failed(format!(
                        "project {project} has a task {id} already; give another --id"
                    )));
                }
            }
        }
        None => {
            let slug = slug(&text);
            let names = (1..SAME_NAME).map(|n| if n == 1 { slug.clone() } else { format!("{slug}-{n}") });
            let mut placed = None;
            for id in names.filter(|id| !status.tasks.iter().any(|task| task.project == project && task.id == *id)) {
                if matches!(place_file(&mount, &project, &id, &body)?, Placed::Done) {
                    placed = Some(id);
                    break;
                }
            }
            placed.ok_or_else(|| Failure::Failed(format!("no free name like {slug} is left; give one with --id")))?
        }
    };
    if args.json {
        writeln!(io.out, "{}", json!({"id": id, "project": project}))?;
    } else {
        writeln!(io.out, "{id}")?;
    }
    Ok(Exit::Ok)
}

/// The project whose inbox takes it: the one named, else the first.
fn project(status: &Status, wanted: Option<&str>) -> Result<String, Failure> {
    let names: Vec<&str> = status.queues.iter().map(|queue| queue.project.as_str()).collect();
    let found = match wanted {
        Some(wanted) => names.iter().find(|name| **name == wanted),
        None => names.first(),
    };
    let none = || match wanted {
        Some(wanted) => format!("there is no project {}; known: {}", clean(wanted), clean(&names.join(", "))),
        None => "the daemon has no project; add one to `projects` in its configuration".to_owned(),
    };
    found.map(|name| (*name).to_owned()).ok_or_else(|| Failure::Failed(none()))
}

fn text(args: &SubmitArgs) -> Result<String, Failure> {
    let from_stdin = args.text.is_empty() || args.text == ["-"];
    if !from_stdin {
        let words: Vec<&str> = args.text.iter().map(|text| unmarked(text)).collect();
        return Ok(format!("{}\n", words.join(" ")));
    }
    if args.text.is_empty() && std::io::stdin().is_terminal() {
        return Err(Failure::Failed("there is no text; give it as an argument, or - to type it here".to_owned()));
    }
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| Failure::Failed(format!("can't read the task from standard input: {error}")))?;
    Ok(text)
}

/// The text with the options as frontmatter.
fn with_options(args: &SubmitArgs, text: &str) -> Result<String, Failure> {
    let mut front = String::new();
    if let Some(agent) = &args.agent {
        front.push_str(&format!("agent: {}\n", json!(agent)));
    }
    if let Some(priority) = args.priority {
        front.push_str(&format!("priority: {priority}\n"));
    }
    if front.is_empty() {
        return Ok(text.to_owned());
    }
    if text.lines().next().is_some_and(|line| line.trim_end() == "---") {
        return Err(Failure::Failed(
            "the text has a frontmatter of its own; write agent and priority there, without --agent and --priority"
                .to_owned(),
        ));
    }
    Ok(format!("---\n{front}---\n{text}"))
}

/// A task that the daemon would reject is not written: who submits it is still there to hear why.
fn refuse_what_is_rejected(mount: &Mount, body: &str, by_options: bool) -> Result<(), Failure> {
    // The owner's alone; for others the daemon says it, in `.rejected`.
    let Ok(text) = mount.read("config.yaml", ANSWERS_WITHIN) else { return Ok(()) };
    let config: Value = serde_yaml::from_str(&text).unwrap_or_default();
    let agents = config["agents"].as_object().into_iter().flat_map(|agents| agents.keys());
    let rules = Rules {
        agents: agents.filter_map(|name| AgentName::parse(name).ok()).collect(),
        reject_unknown: config["dispatcher"]["unknown_keys"] == "reject",
    };
    let why = match read_by(body.as_bytes(), &rules) {
        Reading::Ready { .. } | Reading::Empty => return Ok(()),
        Reading::OpenFrontmatter => "its frontmatter, which begins with ---, is not closed by another ---".to_owned(),
        Reading::Rejected(problem) if by_options => problem.message,
        Reading::Rejected(problem) => problem.to_string(),
    };
    Err(Failure::Usage(format!("this task could not run, so it is not submitted: {}", clean(&why))))
}

enum Placed {
    Done,
    /// The inbox, or a result, has one of this name.
    Taken,
}

/// Writes the file under a hidden name, then gives it its own, which must be free.
fn place_file(mount: &Mount, project: &str, id: &str, body: &str) -> Result<Placed, Failure> {
    let (project, id, body) = (project.to_owned(), id.to_owned(), body.to_owned());
    let name = format!("projects/{project}/inbox/{id}.md");
    let done = mount.look(ANSWERS_WITHIN * 5, move |dir| {
        let queue = dir.join("projects").join(project);
        write(&queue, &id, &body)
    })?;
    done.map_err(|error| {
        // The mount's own refusal; the file system's is EACCES.
        let refused = error.raw_os_error() == Some(libc::EPERM);
        let why = if refused {
            "; the daemon does not take it from you: `tasks` in an agent's row of the configuration says whose tasks may name that \
             agent (person, anyone, by default nobody's), and a restart applies a change; `events` in the mount has the reason"
        } else {
            ""
        };
        Failure::Failed(format!("can't write {}/{name}: {error}{why}", mount.dir.display()))
    })
}

fn write(queue: &Path, id: &str, body: &str) -> std::io::Result<Placed> {
    let taken = |dir: &str| queue.join(dir).join(format!("{id}.md")).symlink_metadata().is_ok();
    if ["done", "failed"].into_iter().any(taken) {
        return Ok(Placed::Taken);
    }
    let inbox = queue.join("inbox");
    let hidden = inbox.join(format!(".{id}.{}.tmp", std::process::id()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&hidden)?;
    let written = file.write_all(body.as_bytes()).and_then(|()| file.sync_all());
    drop(file);
    let target = inbox.join(format!("{id}.md"));
    let placed =
        written.and_then(|()| match renameat2(AT_FDCWD, &hidden, AT_FDCWD, &target, RenameFlags::RENAME_NOREPLACE) {
            Ok(()) => Ok(Placed::Done),
            Err(Errno::EEXIST) => Ok(Placed::Taken),
            Err(error) => Err(error.into()),
        });
    if !matches!(placed, Ok(Placed::Done)) {
        let _ = fs::remove_file(&hidden);
    }
    placed
}

/// An id from a text's first words: `Fix the login (now)` is `fix-the-login-now`.
fn slug(text: &str) -> String {
    let mut out = String::new();
    let mut front = text.lines().next().is_some_and(|line| line.trim_end() == "---");
    let body = text.lines().skip(usize::from(front)).find(|line| {
        if front {
            front = line.trim_end() != "---";
            return false;
        }
        line.chars().any(char::is_alphanumeric)
    });
    for c in body.unwrap_or_default().chars().flat_map(char::to_lowercase) {
        if out.len() >= ID_MAX {
            break;
        }
        if c.is_ascii_alphanumeric() {
            out.push(c);
        } else if !out.is_empty() && !out.ends_with('-') {
            out.push('-');
        }
    }
    let out = out.trim_end_matches('-');
    if out.is_empty() { "task".to_owned() } else { out.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_comes_from_the_first_words() {
        assert_eq!(slug("Fix the login (now)!\nmore"), "fix-the-login-now");
        assert_eq!(slug("\n  ---x\nb"), "x");
        assert_eq!(slug("---\nagent: sh\n---\n\nDo it"), "do-it");
        assert_eq!(slug("日本"), "task");
        assert_eq!(slug(&"long ".repeat(30)).len(), 39);
    }

    #[test]
    fn a_name_is_taken_once() {
        let dir = tempfile::tempdir().expect("tmp");
        for sub in ["inbox", "done", "failed"] {
            fs::create_dir(dir.path().join(sub)).expect("mkdir");
        }
        assert!(matches!(write(dir.path(), "a", "x"), Ok(Placed::Done)));
        assert!(matches!(write(dir.path(), "a", "y"), Ok(Placed::Taken)));
        fs::write(dir.path().join("done/b.md"), "old").expect("write");
        assert!(matches!(write(dir.path(), "b", "y"), Ok(Placed::Taken)));
        assert_eq!(fs::read_to_string(dir.path().join("inbox/a.md")).expect("read"), "x");
        assert_eq!(fs::read_dir(dir.path().join("inbox")).expect("list").count(), 1, "no litter");
    }
}
