//! Finds faults of a home or of the operator's link.
//! Compares the disk with what should be there; returns each fault with its remedy, and what to create where nothing
//! is in the way. Changes nothing.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use nix::unistd::{AccessFlags, access};

use super::home::Home;
use crate::{config::SharedLink, model::homes::HomeFault};

/// What is missing, and only missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mend {
    pub dir: Option<PathBuf>,
    /// The link and where it leads.
    pub link: Option<(PathBuf, PathBuf)>,
}

/// Something wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub message: String,
    pub remedy: String,
    /// `None` when something is in the way: then a person has to look.
    pub mend: Option<Mend>,
}

impl Fault {
    fn new(message: String, remedy: String) -> Self {
        Self { message, remedy, mend: None }
    }

    fn missing(message: String, mend: Mend) -> Self {
        Self { message, remedy: "claude-failover check --fix".to_owned(), mend: Some(mend) }
    }

    /// As named for a key of the configuration.
    pub fn of(self, key: &str) -> HomeFault {
        HomeFault { key: key.to_owned(), message: self.message, remedy: self.remedy, missing: self.mend.is_some() }
    }
}

/// Where a path leads that should be a link to somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leads {
    There,
    Elsewhere(PathBuf),
    Nothing,
    /// Something else is in the link's place.
    Taken(&'static str),
    Unknown(String),
}

/// Looks at a link. Two spellings of one directory are one place.
pub fn leads(link: &Path, wanted: &Path) -> Leads {
    let unknown = |error: io::Error| Leads::Unknown(error.to_string());
    let meta = match fs::symlink_metadata(link) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Leads::Nothing,
        Err(error) => return unknown(error),
    };
    if !meta.is_symlink() {
        return Leads::Taken(if meta.is_dir() { "a directory" } else { "a file" });
    }
    let to = match fs::read_link(link) {
        Ok(to) => link.parent().unwrap_or(Path::new("/")).join(to),
        Err(error) => return unknown(error),
    };
    let same = to == wanted || place(&to).is_some_and(|to| place(wanted) == Some(to));
    if same { Leads::There } else { Leads::Elsewhere(to) }
}

/// Where a path really is, even if nothing exists there.
fn place(path: &Path) -> Option<PathBuf> {
    fs::canonicalize(path).ok().or_else(|| Some(fs::canonicalize(path.parent()?).ok()?.join(path.file_name()?)))
}

/// Everything that is wrong with a home.
pub fn home(home: &Home) -> Vec<Fault> {
    let shown = home.path.display();
    match fs::metadata(&home.path) {
        Ok(meta) if !meta.is_dir() => {
            let remedy = "a home is a directory: mend the path, or move that away".to_owned();
            return vec![Fault::new(format!("{shown} isn't a directory"), remedy)];
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return vec![Fault::new(format!("{shown} doesn't exist"), login(home))];
        }
        Err(error) => {
            let remedy = "mend the path, or the rights of the directories around it".to_owned();
            return vec![Fault::new(format!("{shown} can't be looked at: {error}"), remedy)];
        }
    }
    if let Err(error) = access(&home.path, AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK) {
        let message = format!("{shown} can't be used by us: {}", error.desc());
        return vec![Fault::new(message, "the daemon's user must own it".to_owned())];
    }
    home.links.iter().filter_map(shared).collect()
}

/// How a person makes an account's home.
fn login(home: &Home) -> String {
    let shown = home.path.display().to_string();
    let Some(login) = home.rules().map(|rules| &rules.login) else { return format!("make it: mkdir -p {shown}") };
    match (login.command_default.as_ref().filter(|_| home.is_default()), &login.command) {
        // With the variable a CLI may keep other files inside the home: one must not be taken for the other.
        (Some(command), _) => format!("log in once: {command}"),
        (None, Some(command)) => format!("log in once with this home: {}", command.replace("{home}", &shown)),
        (None, None) => format!("make it: mkdir -p {shown}"),
    }
}

/// What is wrong with one shared link.
fn shared(link: &SharedLink) -> Option<Fault> {
    let SharedLink { path, target } = link;
    let (shown, there) = (path.display(), target.display());
    let again = format!("then: rm {shown} && claude-failover check --fix");
    let made = match leads(path, target) {
        Leads::There => None,
        Leads::Nothing => Some((path.clone(), target.clone())),
        Leads::Elsewhere(to) => {
            let message = format!("{shown} leads to {}, not to {there}, which the accounts share", to.display());
            let remedy = format!("move what is in it to {there}, or set `shared` to where it leads; {again}");
            return Some(Fault::new(message, remedy));
        }
        Leads::Taken(what) => {
            let message = format!("{shown} is {what}; a link to {there}, which the accounts share, belongs there");
            let remedy = if what == "a directory" {
                format!(
                    "with no agent running, move it: mkdir -p {there} && cp -a {shown}/. {there}/ && rm -r {shown}; then: claude-failover check --fix"
                )
            } else {
                "look at what it is and move it away; then: claude-failover check --fix".to_owned()
            };
            return Some(Fault::new(message, remedy));
        }
        Leads::Unknown(why) => {
            let remedy = "the daemon's user must own the home and all in it".to_owned();
            return Some(Fault::new(format!("{shown} can't be looked at: {why}"), remedy));
        }
    };
    let dir = match fs::metadata(target) {
        Ok(meta) if meta.is_dir() => None,
        Ok(_) => {
            let remedy = "move it away; then: claude-failover check --fix".to_owned();
            return Some(Fault::new(format!("{there} isn't a directory, and {shown} must lead to one"), remedy));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(target).is_err() => {
            Some(target.clone())
        }
        Err(error) => {
            let remedy = "see what is there; it must be a directory of the daemon's user".to_owned();
            return Some(Fault::new(format!("{there}, to which {shown} must lead, can't be used: {error}"), remedy));
        }
    };
    let message = match (&made, &dir) {
        (None, None) => return None,
        (Some(_), _) => format!("{shown} is missing; it must be a link to {there}"),
        (None, Some(_)) => format!("{there} is missing; {shown} leads there"),
    };
    Some(Fault::missing(message, Mend { dir, link: made }))
}

/// What is wrong with the operator's link, which may lead to any of these homes.
pub fn link(link: &Path, homes: &[&Home]) -> Option<Fault> {
    let shown = link.display();
    if let Some(home) = homes.iter().find(|home| home.path == link) {
        let account = &home.account;
        let message = format!("{shown} is the home of account {account}, so it can't be turned to another account's");
        // What the CLI keeps beside its default home belongs inside any other one.
        let kept = home.rules().and_then(|rules| rules.beside.as_deref()).filter(|_| home.is_default());
        let kept = kept.map(|name| (name, link.with_file_name(name))).filter(|(_, file)| file.exists());
        let beside =
            kept.map_or_else(String::new, |(name, file)| format!(" && cp {} {shown}-{account}/{name}", file.display()));
        let remedy = format!(
            "with no agent running: mv {shown} {shown}-{account}{beside}, and give account {account} that home; or set `claude_link: null`"
        );
        return Some(Fault::new(message, remedy));
    }
    let first = homes.first()?;
    match leads(link, &first.path) {
        Leads::There | Leads::Elsewhere(_) => None,
        Leads::Nothing => {
            let message = format!("{shown} is missing; it must be a link to an account's home");
            Some(Fault::missing(message, Mend { dir: None, link: Some((link.to_owned(), first.path.clone())) }))
        }
        Leads::Taken(what) => {
            let message = format!("{shown} is {what}; swaps turn a link in its place");
            let remedy = "move it away (it may be a home of its own), or set `claude_link: null`".to_owned();
            Some(Fault::new(message, remedy))
        }
        Leads::Unknown(why) => {
            let remedy = "mend its rights, or set `claude_link: null`".to_owned();
            Some(Fault::new(format!("{shown} can't be looked at: {why}"), remedy))
        }
    }
}
