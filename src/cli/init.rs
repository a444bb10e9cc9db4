//! `init`: writes a first configuration from what is installed and logged in.
//! Looks at `$PATH`, the homes of agent CLIs and a project directory; writes a file that `check` can continue from.
//! Never overwrites an existing one and changes nothing else.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::{
    args::InitArgs,
    exit::{Exit, Failure},
    place,
};
use crate::{
    cli::io::Io,
    config::{Config, load, paths},
    linux::ask::find,
    rules::{Kind, format::Install},
};

/// An agent CLI that may be there, and what asks for it.
struct Known {
    name: String,
    kind: Kind,
    install: Install,
}

/// In the order in which one is chosen for the pool.
fn known() -> Vec<Known> {
    let known = |kind: Kind| Some(Known { name: kind.name().to_owned(), install: kind.rules().install.clone()?, kind });
    Kind::built_in().filter_map(known).collect()
}

impl Known {
    fn logged_in(&self, home: &Path) -> bool {
        self.install.logins.iter().any(|file| home.join(file).exists())
    }

    /// The home that an account of it has; others use the person's own login without one.
    fn home(&self) -> Option<&str> {
        self.kind.rules().home.as_ref().map(|home| home.default.as_str()).filter(|home| !home.is_empty())
    }

    /// Its row as the built-in one has it.
    fn row(&self) -> String {
        let config = Config::default();
        let args = config.agents.values().find(|row| row.kind == self.kind).map_or(&[] as &[String], |row| &row.args);
        let args = if args.is_empty() { String::new() } else { format!(", args: [{}]", args.join(", ")) };
        format!("{{kind: {}{args}}}", self.name)
    }
}

/// # Errors
/// A configuration is there already, no agent is installed, or the directory can't be a project.
pub fn run(args: &InitArgs, io: &mut Io<'_>) -> Result<Exit, Failure> {
    let file = args.config.config.clone().unwrap_or_else(|| place::config_file(&args.config, io));
    if !args.print && file.symlink_metadata().is_ok() {
        return Err(Failure::Failed(format!(
            "{} is there already; `claude-failover check` says what it lacks, `init --print` shows what would be written",
            file.display()
        )));
    }
    let home = paths::home(io.env).ok_or_else(|| Failure::Failed("$HOME is not set".to_owned()))?;
    let project = project(args.project.as_deref(), &home)?;
    let path = (io.env)("PATH");
    let known = known();
    let runs = |known: &&Known| known.kind.program().is_some_and(|program| find(program, path.clone()).is_some());
    let found: Vec<&Known> = known.iter().filter(runs).collect();
    let Some(first) = found.first() else {
        let ways: Vec<String> = known.iter().map(|known| format!("\n  {}", known.install.command)).collect();
        return Err(Failure::Failed(format!(
            "no agent is on $PATH; install one, then run this again:{}",
            ways.concat()
        )));
    };
    let text = configuration(&project, &found, &home);
    if args.print {
        write!(io.out, "{text}")?;
        return Ok(Exit::Ok);
    }
    write(&file, &text).map_err(|error| Failure::Failed(format!("can't write {}: {error}", file.display())))?;
    // What was written must be what `run` reads.
    load(&file, io.env).map_err(|error| Failure::Failed(error.to_string()))?;
    writeln!(io.out, "wrote {}:\n", file.display())?;
    write!(io.out, "{text}")?;
    let agent = &first.name;
    writeln!(
        io.out,
        "\nNext:\n  cd {} && {agent}      # once: answer its first questions, then leave it\n  claude-failover check --fix\n  claude-failover run --foreground",
        project.display()
    )?;
    Ok(Exit::Ok)
}

fn project(named: Option<&Path>, home: &Path) -> Result<PathBuf, Failure> {
    let dir = named.unwrap_or(Path::new("."));
    let dir = dir.canonicalize().map_err(|error| Failure::Failed(format!("{}: {error}", dir.display())))?;
    let no = |why: &str| {
        Failure::Failed(format!(
            "{} {why}; run this in the project's directory, or name one with --project",
            dir.display()
        ))
    };
    if !dir.is_dir() {
        return Err(no("is no directory"));
    }
    if dir.parent().is_none() || home.canonicalize().is_ok_and(|home| home.starts_with(&dir)) {
        return Err(no("holds more than one project"));
    }
    Ok(dir)
}

fn configuration(project: &Path, found: &[&Known], home: &Path) -> String {
    let mut out =
        String::from("# Written by `claude-failover init`. Every key with its default: config.example.yaml.\n");
    let quoted = |path: &Path| serde_json::Value::from(path.to_string_lossy().as_ref()).to_string();
    out.push_str(&format!("projects:\n  - {{name: {}, path: {}}}\n", name(project), quoted(project)));
    let chosen = found.iter().find(|known| known.logged_in(home)).or(found.first());
    let accounts: Vec<(&str, &str)> = found
        .iter()
        .filter(|known| known.logged_in(home))
        .filter_map(|known| Some((known.name.as_str(), known.home()?)))
        .collect();
    if !accounts.is_empty() {
        out.push_str("accounts:\n");
    }
    for (agent, dir) in accounts {
        out.push_str(&format!("  - {{name: {agent}-main, home: ~/{dir}, agent: {agent}}}\n"));
    }
    if let Some(known) = chosen {
        out.push_str(&format!("pool:\n  autonomous: {{min: 1, max: 2, agent: {}}}\n", known.name));
        if !known.logged_in(home) {
            out.push_str(&format!(
                "  # {0} has no login in {1} yet: start `{0}` once and log in.\n",
                known.name,
                home.display()
            ));
        }
    }
    out.push_str("agents:\n");
    for known in found {
        out.push_str(&format!("  {}: {}\n", known.name, known.row()));
    }
    out
}

/// A project's name from its directory's.
fn name(project: &Path) -> String {
    let base = project.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let name: String =
        base.chars().map(|c| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '-' }).collect();
    let name = name.trim_matches(['-', '_']);
    if name.starts_with(|c: char| c.is_ascii_alphabetic()) { name.to_owned() } else { format!("p{name}") }
}

fn write(file: &Path, text: &str) -> std::io::Result<()> {
    if let Some(dir) = file.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    let mut out = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    out.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_directories() {
        for (dir, wanted) in [("/src/Web App", "web-app"), ("/src/1st", "p1st"), ("/src/_x_", "x"), ("/src/日本", "p")]
        {
            assert_eq!(name(Path::new(dir)), wanted);
        }
    }

    #[test]
    fn who_is_logged_in_gets_the_pool() {
        let home = tempfile::tempdir().expect("tmp");
        let known = known();
        let all: Vec<&Known> = known.iter().take(2).collect();
        let text = configuration(Path::new("/src/web"), &all, home.path());
        assert!(text.contains("agent: claude}") && text.contains("no login") && !text.contains("accounts:"), "{text}");
        fs::create_dir(home.path().join(".codex")).expect("mkdir");
        fs::write(home.path().join(".codex/auth.json"), "{}").expect("write");
        let text = configuration(Path::new("/src/web"), &all, home.path());
        assert!(text.contains("max: 2, agent: codex}") && text.contains("home: ~/.codex, agent: codex"), "{text}");
    }
}
