//! Identifies who writes: a person, an agent of a session, or unknown.
//! Takes a process with its ancestors as the kernel describes them, and what is known of this daemon. Pure.
//!
//! The first rule that matches wins:
//! 1. it is an agent, or a descendant of one: an agent of that session;
//! 2. it or an ancestor carries a session's variables: an agent of that session. Their absence proves nothing;
//! 3. it descends from our tmux server, which adopts every orphan of a pane (`PR_SET_CHILD_SUBREAPER`) and runs
//!    `run-shell` commands: an agent;
//! 4. it carries the mark of our tmux server, which the kernel hands on from parent to child: an agent, also of a server
//!    that has ended, whatever is left of the daemon's state;
//! 5. it is in the control group of the daemon's own service: an agent, since the daemon starts nothing else;
//! 6. its ancestors can't be followed to the end, or it carries another mark than the daemon's own: unknown;
//! 7. it was started by a service that runs anybody's commands (cron, at, a transient unit, a command of some tmux
//!    server without a terminal): unknown;
//! 8. else a person: a shell in a terminal, an editor, a user's unit, and what they start, detached or not.
//!
//! Unknown counts as an agent wherever a right would be gained.

use serde::{Deserialize, Serialize};

use crate::model::ids::SessionName;

/// What kind of writer it is, the one with the least right first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    Agent,
    #[default]
    Unknown,
    Person,
}

impl By {
    fn is_unknown(&self) -> bool {
        *self == Self::Unknown
    }
}

/// Who wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Writer {
    pub uid: u32,
    pub pid: u32,
    /// Name of the program; empty when it was gone before it could be asked.
    pub program: String,
    #[serde(default, skip_serializing_if = "By::is_unknown")]
    pub by: By,
    /// Whose agent it is, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionName>,
}

/// One process of a line of ancestors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ancestor {
    pub pid: u32,
    pub program: String,
    /// It has a controlling terminal.
    pub terminal: bool,
    /// The session that its variables name, of this daemon's.
    pub marked: Option<SessionName>,
}

/// The systemd unit whose control group a process is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    pub name: String,
    /// Made for one command (`systemd-run`), by no file.
    pub transient: bool,
}

/// A process and what it descends from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lineage {
    /// The process itself first.
    pub line: Vec<Ancestor>,
    /// The line ends where the kernel's does. Else one of it went away before it was asked, or there is none to see.
    pub whole: bool,
    pub unit: Option<Unit>,
    /// The number that it carries (`linux::mark`); `None` when it was gone before it could be asked.
    pub mark: Option<u64>,
}

/// What our tmux server carries, and with it all that its panes ever start: a number that a process inherits, keeps whatever
/// becomes of its parents, and can only lower (`linux::mark`). The configuration that the daemon serves is in it: one that an
/// agent starts, as a test does, knows its own agents from those who work with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// What the daemon itself carries.
    own: u64,
    number: u64,
}

/// The upper 16 bits of our marks. Chosen: no limit that anybody sets has them.
const MARK: u64 = 0x0CFA << 48;
/// The outermost nesting level, 16 bits: each daemon started below another carries one less.
const NESTED: u64 = 0xFFFF;

impl Mark {
    /// That of a daemon which carries `own` itself, and serves the configuration of this id.
    #[must_use]
    pub fn new(own: u64, id: u32) -> Self {
        let level = is_mark(own).then_some((own >> 32) & NESTED);
        let below = level.map_or(NESTED, |level| level.saturating_sub(1));
        let fresh = MARK | below << 32 | u64::from(id);
        // One that an agent of ours has started again carries it already.
        let number = if is_mark(own) && id_of(own) == id { own } else { fresh.min(own.saturating_sub(1)) };
        Self { own, number }
    }

    /// For the tmux server.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// What a process's number says of it, if anything.
    fn tells(&self, number: Option<u64>) -> Option<By> {
        match number {
            Some(number) if is_mark(number) && id_of(number) == id_of(self.number) => Some(By::Agent),
            // It was lowered on the way from what the daemon was started with, by another daemon or by the process.
            Some(number) if number < self.own => Some(By::Unknown),
            Some(_) => None,
            None => Some(By::Unknown),
        }
    }
}

impl Default for Mark {
    fn default() -> Self {
        Self::new(u64::MAX, 0)
    }
}

fn is_mark(number: u64) -> bool {
    number >> 48 == MARK >> 48
}

fn id_of(number: u64) -> u32 {
    u32::try_from(number & u64::from(u32::MAX)).unwrap_or_default()
}

/// What the processes of this daemon are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// The tmux server, when it is ours alone.
    pub server: Option<u32>,
    /// Each session's agent, and the process that started it where only that one can have.
    pub agents: Vec<(SessionName, u32, Option<u32>)>,
    /// The daemon's own unit.
    pub unit: Option<String>,
    /// The daemon is its main process.
    pub leads_unit: bool,
    /// What our server carries.
    pub mark: Mark,
}

/// Services that run what anybody asked them to.
const FOR_OTHERS: [&str; 5] = ["cron", "crond", "atd", "fcron", "anacron"];

/// Who the process is, and whose agent.
#[must_use]
pub fn place(lineage: &Lineage, known: &Known) -> (By, Option<SessionName>) {
    let line = &lineage.line;
    let parent = |n: usize| line.get(n + 1).map(|parent| parent.pid);
    let is_agent = |n: usize, step: &Ancestor| {
        // A number may be another process's by now: an agent of the pool is a child of its server and of nobody else.
        let same = |(_, pid, starter): &&(SessionName, u32, Option<u32>)| {
            *pid == step.pid && starter.is_none_or(|starter| parent(n) == Some(starter))
        };
        known.agents.iter().find(same).map(|(session, ..)| session)
    };
    let found = line.iter().enumerate().find_map(|(n, step)| is_agent(n, step).or(step.marked.as_ref()));
    if let Some(session) = found {
        return (By::Agent, Some(session.clone()));
    }
    if line.iter().any(|step| known.server == Some(step.pid)) {
        return (By::Agent, None);
    }
    let marked = known.mark.tells(lineage.mark);
    if marked == Some(By::Agent) {
        return (By::Agent, None);
    }
    let same_unit = known.unit.is_some() && lineage.unit.as_ref().map(|unit| &unit.name) == known.unit.as_ref();
    if same_unit && known.leads_unit {
        return (By::Agent, None);
    }
    let for_others = line.iter().any(|step| FOR_OTHERS.contains(&step.program.as_str()));
    let of_a_server = line.windows(2).any(|pair| pair[1].program == "tmux: server" && !pair[0].terminal);
    let transient = !same_unit && lineage.unit.as_ref().is_some_and(runs_one_command);
    if line.is_empty() || !lineage.whole || marked.is_some() || for_others || of_a_server || transient {
        return (By::Unknown, None);
    }
    (By::Person, None)
}

/// Desktops start what a person clicks on as transient units too; those are named so.
fn runs_one_command(unit: &Unit) -> bool {
    unit.transient && unit.name.ends_with(".service") && !unit.name.starts_with("app-")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: u32 = 50;
    const AGENT: u32 = 100;

    /// A line of `pid:program`, with `~` behind what has no terminal and `@` behind what carries the variables.
    fn line(words: &str) -> Lineage {
        let step = |word: &str| {
            let (pid, program) = word.split_once(':').expect("pid:program");
            Ancestor {
                pid: pid.parse().expect("a pid"),
                program: program.trim_matches(['~', '@']).replace('_', " "),
                terminal: !program.contains('~'),
                marked: program.contains('@').then(|| name("s-1")),
            }
        };
        Lineage { line: words.split_whitespace().map(step).collect(), whole: true, unit: None, mark: Some(u64::MAX) }
    }

    fn name(text: &str) -> SessionName {
        SessionName::parse(text).expect("a name")
    }

    fn known() -> Known {
        Known { server: Some(SERVER), agents: vec![(name("s-1"), AGENT, Some(SERVER))], ..Known::default() }
    }

    #[test]
    fn ancestors_tell_who_writes() {
        use By::{Agent, Person, Unknown};
        let s1 = Some(name("s-1"));
        let table = [
            ("an agent", "100:claude 50:tmux:_server~ 1:init~", (Agent, s1.clone())),
            ("its tool", "102:mv 101:bash 100:claude 50:tmux:_server~ 1:init~", (Agent, s1.clone())),
            ("setsid -f, nohup &, a double fork", "103:mv~ 50:tmux:_server~ 1:init~", (Agent, None)),
            ("the same with its variables", "103:mv~@ 50:tmux:_server~ 1:init~", (Agent, s1.clone())),
            ("run-shell of our server", "104:mv~ 105:sh~ 50:tmux:_server~ 1:init~", (Agent, None)),
            ("an orphan of a server that is gone, with its variables", "103:mv~@ 1:init~", (Agent, s1.clone())),
            (
                "a tmux of its own, started in a pane",
                "9:mv 8:sh 7:tmux:_server~ 50:tmux:_server~ 1:init~",
                (Agent, None),
            ),
            ("its number used again", "102:mv 100:bash 99:sshd 1:init~", (Person, None)),
            ("a shell in a terminal", "9:mv 8:bash 7:gnome-terminal- 6:systemd~ 1:systemd~", (Person, None)),
            ("ssh", "9:mv 8:bash 7:sshd~ 6:sshd~ 1:systemd~", (Person, None)),
            ("a person's own tmux", "9:mv 8:bash 7:tmux:_server~ 1:systemd~", (Person, None)),
            ("run-shell of a person's tmux", "9:mv~ 8:sh~ 7:tmux:_server~ 1:systemd~", (Unknown, None)),
            ("an editor without a terminal", "9:node~ 8:node~ 1:systemd~", (Person, None)),
            ("a user's unit", "9:mv~ 8:dispatcher.sh~ 6:systemd~ 1:systemd~", (Person, None)),
            ("detached by a person", "9:mv~ 1:systemd~", (Person, None)),
            ("cron", "9:mv~ 8:sh~ 7:cron~ 6:cron~ 1:systemd~", (Unknown, None)),
            ("at", "9:mv~ 8:sh~ 7:atd~ 1:systemd~", (Unknown, None)),
            ("nobody that can be seen", "", (Unknown, None)),
        ];
        for (what, words, expected) in table {
            assert_eq!(place(&line(words), &known()), expected, "{what}");
        }
        let cut = Lineage { whole: false, ..line("9:mv 8:bash") };
        assert_eq!(place(&cut, &known()).0, Unknown, "an ancestor that was gone");
    }

    #[test]
    fn a_mark_outlives_everything_that_can_be_destroyed() {
        use By::{Agent, Person, Unknown};
        let of = |own, number| {
            let known = Known { mark: Mark::new(own, 7), ..known() };
            place(&Lineage { mark: number, ..line("9:mv~ 1:init~") }, &known).0
        };
        let ours = Mark::new(u64::MAX, 7).number();
        let others = Mark::new(u64::MAX, 8).number();
        assert_eq!(of(u64::MAX, Some(u64::MAX)), Person);
        assert_eq!(of(u64::MAX, Some(ours)), Agent, "an orphan of a server that is gone");
        assert_eq!(of(u64::MAX, Some(others)), Unknown, "of another daemon's");
        for lowered in [0, 1000, ours - 1, ours - (1 << 32)] {
            assert_ne!(of(u64::MAX, Some(lowered)), Person, "lowered by itself to {lowered}");
        }
        assert_eq!(of(u64::MAX, None), Unknown, "it was gone");
        assert_eq!(
            (of(ours, Some(ours)), of(ours, Some(u64::MAX))),
            (Agent, Person),
            "an agent started the daemon again"
        );
        assert_eq!(Mark::new(ours, 7).number(), ours);
        // A daemon that an agent of another one starts, as when it tests this program.
        let nested = Mark::new(others, 7).number();
        assert!(nested < others);
        assert_eq!((of(others, Some(others)), of(others, Some(nested))), (Person, Agent));
        assert_eq!(of(u64::MAX, Some(nested)), Agent);
        // Where an administrator's limit leaves less room.
        assert!(Mark::new(1000, 7).number() < 1000);
        assert_eq!((of(1000, Some(999)), of(1000, Some(1000))), (Unknown, Person));
    }

    #[test]
    fn a_control_group_survives_everything() {
        let unit = |name: &str, transient| Some(Unit { name: name.to_owned(), transient });
        let of = |unit| Lineage { unit, ..line("9:mv~ 8:sh~ 6:systemd~ 1:systemd~") };
        let who = |unit, known: &Known| place(&of(unit), known).0;
        assert_eq!(who(unit("run-r1.service", true), &known()), By::Unknown, "systemd-run");
        assert_eq!(who(unit("app-konsole@1.service", true), &known()), By::Person, "a desktop's terminal");
        assert_eq!(who(unit("session-3.scope", true), &known()), By::Person, "a login");
        assert_eq!(who(unit("dispatcher.service", false), &known()), By::Person, "a unit by a file");
        let service = Known { unit: Some("cf.service".to_owned()), leads_unit: true, ..known() };
        assert_eq!(who(unit("cf.service", false), &service), By::Agent, "what the service left behind");
        let inside = Known { unit: Some("run-r1.service".to_owned()), leads_unit: false, ..known() };
        assert_eq!(who(unit("run-r1.service", true), &inside), By::Person, "the daemon was started there too");
    }
}
