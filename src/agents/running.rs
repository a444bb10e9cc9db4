//! Detects an agent that a person started in a session: its process, account and conversation.
//! Takes the rules, the accounts' homes and the top process of the pane. Reads `/proc` and the agent's own files, for
//! processes of this user only; a process that can't be read counts as no agent. Never signals a process.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use super::{launch, status, transcript};
use crate::{
    agents::options::{Agent, AgentBookOptions},
    linux::{
        peek::{self, Part},
        process::{self, Stat, children},
    },
    model::{agent::Found, ids::AccountName},
};

/// Programs that run an agent's script: the agent's name is their first argument that is no option.
const INTERPRETERS: [&str; 3] = ["node", "bun", "deno"];

/// The agent at the top of the process tree below `root`, `root` included. Only one that has the terminal: what a person has
/// suspended, or another program started, is not what the session shows. Where several fit (a starter and the agent
/// itself), the first whose conversation is known.
pub(super) fn find(options: &AgentBookOptions, agent: &Agent, root: u32) -> Option<Found> {
    let terminal = Stat::read(root)?.terminal;
    let names = names(options, agent);
    let mut first = None;
    let mut level = vec![root];
    while !level.is_empty() {
        for process in level.iter().filter_map(|pid| Process::read(*pid)) {
            if !(process.is_called(&names) && process.has(terminal)) {
                continue;
            }
            let found = Found { others: beside(root, process.pid), ..process.found(options, agent) };
            if found.conversation.is_some() {
                return Some(found);
            }
            first.get_or_insert(found);
        }
        level = level.iter().flat_map(|pid| children(*pid)).collect();
    }
    first
}

/// How the agent's program may be called: a file's name and the arguments that belong to it.
fn names(options: &AgentBookOptions, agent: &Agent) -> Vec<Vec<String>> {
    let exe = BTreeMap::from([("exe", options.exe.to_string_lossy().into_owned())]);
    let of_rules = agent.rules().launch.program.iter().map(|word| launch::fill(word, &exe)).collect();
    let own = agent.config.program.iter().map(|program| vec![program.clone()]);
    let mut names: Vec<Vec<String>> = own.chain([of_rules]).collect();
    names.retain(|words| !words.is_empty());
    names.iter_mut().for_each(|words| words[0] = base(&words[0]).to_owned());
    names
}

fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// A process of this user.
struct Process {
    pid: u32,
    name: String,
    stat: Stat,
    exe: Option<String>,
    argv: Vec<String>,
}

impl Process {
    fn read(pid: u32) -> Option<Self> {
        let (name, stat) = (process::name(pid)?, Stat::read(pid)?);
        let argv = peek::one(pid, Part::CommandLine).ok()?;
        let exe = peek::program(pid).and_then(|path| Some(path.file_name()?.to_str()?.to_owned()));
        let words = argv.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
        Some(Self { pid, name, stat, exe, argv: words.collect() })
    }

    /// Whether it is in front at that terminal.
    fn has(&self, terminal: i64) -> bool {
        self.stat.terminal == terminal && self.stat.group_is_in_front()
    }

    fn is_called(&self, names: &[Vec<String>]) -> bool {
        let first = self.argv.first().map(|word| base(word)).unwrap_or_default();
        let own = [first, &self.name, self.exe.as_deref().unwrap_or_default()];
        let script = INTERPRETERS.contains(&first).then(|| self.argv.iter().skip(1).position(|w| !w.starts_with('-')));
        let script = script.flatten().map(|at| at + 1);
        names.iter().any(|words| {
            let goes_on = |at: usize| self.argv.get(at + 1..).is_some_and(|rest| rest.starts_with(&words[1..]));
            let by_name = own.contains(&words[0].as_str()) && goes_on(0);
            by_name || script.is_some_and(|at| base(&self.argv[at]) == words[0] && goes_on(at))
        })
    }

    fn found(&self, options: &AgentBookOptions, agent: &Agent) -> Found {
        let home = self.home(options, agent);
        Found {
            pid: self.pid,
            account: home.as_deref().and_then(|home| account(options, home)),
            conversation: self.conversation(agent, home.as_deref()),
            others: Vec::new(),
        }
    }

    /// The home that the process was started with; an empty variable is none.
    fn home(&self, options: &AgentBookOptions, agent: &Agent) -> Option<PathBuf> {
        let rule = agent.rules().home.as_ref()?;
        let environment = peek::one(self.pid, Part::Environment).ok()?;
        let value = |name: &str| {
            let found = peek::variable(&environment, name).filter(|value| !value.is_empty())?;
            Some(PathBuf::from(std::ffi::OsStr::from_bytes(found)))
        };
        let below = || value("HOME").or_else(|| options.base_env.get("HOME").map(PathBuf::from));
        value(&rule.env).or_else(|| Some(below()?.join(&rule.default)))
    }

    /// By its own status file, by the transcript that it has open, by the arguments that it was started with.
    fn conversation(&self, agent: &Agent, home: Option<&Path>) -> Option<String> {
        let told = agent.rules().status.as_ref().zip(home).and_then(|(rules, home)| {
            let places = BTreeMap::from([("home", home.to_string_lossy().into_owned()), ("pid", self.pid.to_string())]);
            status::conversation(rules, Path::new(&launch::fill(&rules.path, &places)), self.pid)
        });
        let open = || {
            let pattern = agent.rules().transcript.as_ref()?.open_file.as_ref()?;
            named(transcript::open_file(pattern, self.pid)?.file_stem()?.to_str()?)
        };
        let given = || self.argv.iter().find(|word| launch::is_conversation(word)).cloned();
        told.filter(|id| launch::is_conversation(id)).or_else(open).or_else(given)
    }
}

/// The conversation in a transcript's name, which ends in it.
fn named(stem: &str) -> Option<String> {
    let id = stem.get(stem.len().checked_sub(launch::CONVERSATION_LENGTH)?..)?;
    launch::is_conversation(id).then(|| id.to_owned())
}

/// Whose home it is: by its name, else by where it leads.
fn account(options: &AgentBookOptions, home: &Path) -> Option<AccountName> {
    let real = fs::canonicalize(home).ok();
    let same = |other: &Path| real.is_some() && fs::canonicalize(other).ok() == real;
    let by_name = options.homes.iter().find(|(_, account)| account.home == home);
    let found = by_name.or_else(|| options.homes.iter().find(|(_, account)| same(&account.home)));
    found.map(|(name, _)| name.clone())
}

/// The names of what runs below `root` and neither leads to `agent` nor comes from it.
fn beside(root: u32, agent: u32) -> Vec<String> {
    let below = children(root);
    let leads = |pid: u32| pid == agent || holds(pid, agent);
    let (way, others): (Vec<u32>, Vec<u32>) = below.into_iter().partition(|pid| root != agent && leads(*pid));
    let others = if root == agent { Vec::new() } else { others };
    let mut names: Vec<String> = others.into_iter().filter_map(process::name).collect();
    for pid in way {
        names.extend(beside(pid, agent));
    }
    names
}

fn holds(root: u32, pid: u32) -> bool {
    children(root).into_iter().any(|child| child == pid || holds(child, pid))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_called(argv: &[&str], name: &str, exe: &str, names: &[&[&str]]) -> bool {
        let stat = Stat { pid: 1, parent: 0, group: 1, session: 1, terminal: 0, front: 1, zombie: false, start: 0 };
        let argv = argv.iter().map(|word| (*word).to_owned()).collect();
        let names: Vec<Vec<String>> = names.iter().map(|n| n.iter().map(|w| (*w).to_owned()).collect()).collect();
        Process { pid: 1, name: name.into(), stat, exe: Some(exe.to_owned()), argv }.is_called(&names)
    }

    #[test]
    fn an_agent_is_known_by_its_program_and_a_file_of_its_name_is_none() {
        let claude: &[&[&str]] = &[&["claude"]];
        assert!(is_called(&["claude", "--resume", "x"], "claude", "2.1.329", claude));
        assert!(is_called(&["/opt/bin/claude"], "MainThread", "claude", claude));
        assert!(is_called(&["node", "--no-warnings", "/usr/bin/claude", "-c"], "node", "node", claude));
        assert!(!is_called(&["vim", "/usr/bin/claude"], "vim", "vim", claude));
        assert!(!is_called(&["bash", "-c", "claude"], "bash", "bash", claude));
        assert!(!is_called(&["node", "server.js", "claude"], "node", "node", claude));
        let demo: &[&[&str]] = &[&["claude-failover", "demo-agent"]];
        assert!(is_called(
            &["/x/claude-failover", "demo-agent", "--resume"],
            "claude-failover",
            "claude-failover",
            demo
        ));
        assert!(!is_called(&["/x/claude-failover", "run"], "claude-failover", "claude-failover", demo));
    }

    #[test]
    fn a_rollout_s_name_ends_in_its_conversation() {
        let id = "0199f3b1-1111-7000-8000-00000000abcd";
        assert_eq!(named(&format!("rollout-2026-11-21T02-26-00-{id}")).as_deref(), Some(id));
        assert_eq!(named("rollout-2026-11-21T02-26-00"), None);
    }
}
