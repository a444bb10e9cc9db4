//! `check --bundle`: writes one text file with everything a bug report needs.
//! Collects the result of `check`, the configuration, the mount, the saved state and the service's log into a new file
//! with mode 0600. Contains no secret of the configuration or the state and no task text; task names and words of
//! agents may be in it.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use crate::{
    cli::{exit::Failure, io::Io, mount::Mount},
    config::{Loaded, MASK, paths},
    linux::dirs::{Over, open_dir, write_whole},
};

/// How long each part may take; a hung daemon leaves its part empty. Chosen: a second more than other commands wait.
const ANSWERS_WITHIN: Duration = Duration::from_secs(3);
/// Lines of the service's log and of `events`. Chosen: about a day of a pool, and still readable.
const LINES: usize = 500;
/// Shorter secrets aren't masked. Chosen: they are no secrets, and would match in every other word.
const SHORTEST: usize = 6;

/// # Errors
/// When the file can't be written.
pub fn write(
    file: &Path,
    checked: &str,
    loaded: Option<&Loaded>,
    mount: &Path,
    io: &mut Io<'_>,
) -> Result<(), Failure> {
    let mut secrets: Vec<String> =
        loaded.iter().flat_map(|loaded| &loaded.secrets).map(|secret| secret.expose().to_owned()).collect();
    let state = match (io.state)(&paths::state_dir(io.env)) {
        Ok((state, found)) => {
            secrets.extend(found);
            state
        }
        Err(why) => why,
    };
    let mut text = String::from(
        "claude-failover: for a report of a fault. Secrets are left out, and texts of tasks; names and words of agents are not. \
         Read it before you send it.\n",
    );
    let mut section = |head: &str, body: &str| {
        let _ = write!(text, "\n=== {head} ===\n{}\n", body.trim_end());
    };
    section("versions", &versions());
    section("check", checked);
    if let Some(loaded) = loaded {
        let shown = serde_yaml::to_string(&loaded.config).unwrap_or_else(|error| error.to_string());
        section("configuration, with defaults", &shown);
    }
    let mount = Mount::new(mount.to_owned(), io.env);
    if let Err(failure) = from_mount(&mount, &mut section) {
        section("mount", &failure.to_string());
    }
    section("state", &state);
    section("log", &log());
    let masked = masked(text, &secrets);
    let failed = |why: &dyn std::fmt::Display| Failure::Failed(format!("{} can't be written: {why}", file.display()));
    let name = file.file_name().and_then(|name| name.to_str()).ok_or_else(|| failed(&"it names no file"))?;
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.map_or_else(|| PathBuf::from("."), Path::to_owned);
    let written = open_dir(&parent).and_then(|parent| write_whole(parent, name, masked.as_bytes(), Over::Never));
    written.map_err(|error| failed(&error))?;
    writeln!(io.out, "{}: read it, and send it with your report", file.display())?;
    Ok(())
}

/// What the daemon shows of itself; up to where it answers.
fn from_mount(mount: &Mount, section: &mut impl FnMut(&str, &str)) -> Result<(), Failure> {
    for name in ["status", "health", "metrics", "events", "leftovers"] {
        section(name, &last_lines(&mount.read(name, ANSWERS_WITHIN)?));
    }
    for dir in ["sessions", "tasks"] {
        for name in mount.list(dir, ANSWERS_WITHIN)? {
            match mount.read(&format!("{dir}/{name}/why"), ANSWERS_WITHIN) {
                Ok(why) => {
                    section(&format!("{dir}/{name}/why"), &why.lines().map(unquoted).collect::<Vec<_>>().join("\n"));
                }
                Err(failure @ Failure::NoDaemon(_)) => return Err(failure),
                // It is gone meanwhile.
                Err(Failure::Failed(_) | Failure::Usage(_) | Failure::TimedOut(_) | Failure::Broken(_)) => {}
            }
        }
    }
    Ok(())
}

/// A line of `why` without what its rule matched, which may be a task's text.
fn unquoted(line: &str) -> String {
    let quote = line.split_once("matched \"").and_then(|(before, rest)| Some((before, rest.rsplit_once('"')?)));
    match quote {
        Some((before, (matched, after))) => format!("{before}matched {} bytes{after}", matched.len()),
        None => line.to_owned(),
    }
}

fn masked(text: String, secrets: &[String]) -> String {
    let mut secrets: Vec<&String> = secrets.iter().filter(|secret| secret.len() >= SHORTEST).collect();
    // One may be part of another.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets.into_iter().fold(text, |text, secret| text.replace(secret.as_str(), MASK))
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

fn versions() -> String {
    let mut out = format!("claude-failover {}\n", env!("CARGO_PKG_VERSION"));
    if let Ok(system) = nix::sys::utsname::uname() {
        let (release, machine) = (system.release().to_string_lossy(), system.machine().to_string_lossy());
        let _ = writeln!(out, "Linux {release} {machine}");
    }
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    out + release.lines().find(|line| line.starts_with("PRETTY_NAME=")).unwrap_or_default()
}

/// What the service manager kept of the daemon's standard error.
fn log() -> String {
    let lines = LINES.to_string();
    for more in [&["--user"][..], &[]] {
        let mut command = Command::new("journalctl");
        command.args(more).args(["--unit", "claude-failover", "--no-pager", "--quiet", "--lines", &lines]);
        if let Ok(output) = command.stdin(Stdio::null()).stderr(Stdio::null()).output()
            && !output.stdout.is_empty()
        {
            return String::from_utf8_lossy(&output.stdout).into_owned();
        }
    }
    "the service manager keeps none of unit claude-failover; add what the daemon wrote to its standard error".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_s_match_is_left_out() {
        assert_eq!(unquoted(r#"taken, matched "say "hi"", 3s ago"#), "taken, matched 8 bytes, 3s ago");
        assert_eq!(unquoted("no match"), "no match");
    }

    #[test]
    fn secrets_are_masked_the_longest_first() {
        let secrets = ["sk-abcdef", "sk-abcdef-more", "1"].map(str::to_owned);
        assert_eq!(masked("a sk-abcdef-more b sk-abcdef c 1".to_owned(), &secrets), "a *** b *** c 1");
    }
}
