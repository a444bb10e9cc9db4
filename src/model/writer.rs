//! Identifies who writes: a person, an agent of a session, or unknown.
//! Takes a process with its ancestors as the kernel describes them, and what is known of this daemon. Pure.
//!
//! The first rule that matches wins:
//! 1. it is an agent, or a descendant of one: an agent of that session;
//! 2. it or an ancestor carries a session's variables: an agent of that session. Their absence proves nothing;
//! 3. it descends from our tmux server, which adopts every orphan of a pane (`PR_SET_CHILD_SUBREAPER`) and runs
//!    `run-shell` commands: an agent;
//! 4. it is in the control group of the daemon's own service: an agent, since the daemon starts nothing else;
//! 5. its ancestors can't be followed to the end: unknown;
//! 6. our tmux server has ended since boot, and this may be an orphan of that one: it ends at a process that adopts
//!    orphans, and it neither predates that server nor was seen outside of it while it lived: unknown;
//! 7. it was started by a service that runs anybody's commands (cron, at, a transient unit, a command of some tmux
//!    server without a terminal): unknown;
//! 8. else a person: a shell in a terminal, an editor, a user's unit, and what they start, detached or not.
//!
//! Unknown counts as an agent wherever a right would be gained.

use std::{collections::HashSet, sync::Arc};

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
    /// Clock ticks since the machine's start.
    pub start: u64,
    /// The terminal session that it is in, and the start of that one's leader where it lives. A process can leave its
    /// session for a new one; none can enter another's.
    pub session: u32,
    pub leader: Option<u64>,
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
    /// The login that the kernel's audit counts it to, where nobody but the kernel's owner changes that.
    pub login: Option<u32>,
}

/// Our tmux servers since the machine started: what is saved of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Servers {
    /// Which start of the machine.
    pub boot: String,
    /// When the first of them began, in clock ticks.
    pub first: u64,
    /// The last one: pid and start.
    pub last: (u32, u64),
    pub login: Option<u32>,
    /// One of them has ended: its orphans are anywhere.
    pub lost: bool,
    /// Processes that were seen outside of it while it lived, by pid and start; known once it is lost.
    #[serde(default)]
    pub outside: Vec<(u32, u64)>,
}

/// What tells an orphan of a server that has ended from others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lost {
    /// When the first of our servers began.
    pub first: u64,
    pub login: Option<u32>,
    /// Processes that may have taken in its orphans, by pid and start.
    pub reapers: Arc<HashSet<(u32, u64)>>,
    /// Processes that were seen outside of it while it lived, by pid and start.
    pub outside: Arc<HashSet<(u32, u64)>>,
}

impl Lost {
    fn takes_orphans(&self, step: &Ancestor) -> bool {
        // Another daemon's ancestors are not known: by its name one counts as such sooner than not.
        step.pid == 1 || step.program == "systemd" || self.reapers.contains(&(step.pid, step.start))
    }

    fn is_outside(&self, step: &Ancestor) -> bool {
        let was_outside = |pid: u32, start: u64| start < self.first || self.outside.contains(&(pid, start));
        was_outside(step.pid, step.start) || step.leader.is_some_and(|start| was_outside(step.session, start))
    }

    /// Whether a process may descend from an orphan. A parent that took it in shows nothing.
    fn may_hold(&self, lineage: &Lineage) -> bool {
        if lineage.login.zip(self.login).is_some_and(|(one, other)| one != other) {
            return false;
        }
        for (n, step) in lineage.line.iter().enumerate() {
            if n > 0 && self.takes_orphans(step) {
                // Its own child and no orphan, when it was born in its terminal session.
                return lineage.line[n - 1].session != step.session || !self.is_outside(step);
            }
            if self.is_outside(step) {
                return false;
            }
        }
        false
    }
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
    /// A server of ours has ended since the machine started.
    pub lost: Option<Lost>,
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
    let same_unit = known.unit.is_some() && lineage.unit.as_ref().map(|unit| &unit.name) == known.unit.as_ref();
    if same_unit && known.leads_unit {
        return (By::Agent, None);
    }
    let for_others = line.iter().any(|step| FOR_OTHERS.contains(&step.program.as_str()));
    let of_a_server = line.windows(2).any(|pair| pair[1].program == "tmux: server" && !pair[0].terminal);
    let transient = !same_unit && lineage.unit.as_ref().is_some_and(runs_one_command);
    let orphan = known.lost.as_ref().is_some_and(|lost| lost.may_hold(lineage));
    if line.is_empty() || !lineage.whole || orphan || for_others || of_a_server || transient {
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

    /// A line of `pid:program`, with `~` behind what has no terminal `@` behind what carries the variables, `<` behind what is
    /// older than our server.
    fn line(words: &str) -> Lineage {
        let step = |word: &str| {
            let (pid, program) = word.split_once(':').expect("pid:program");
            Ancestor {
                pid: pid.parse().expect("a pid"),
                program: program.trim_matches(['~', '@', '<']).replace('_', " "),
                start: if program.contains('<') { 10 } else { 1000 },
                session: pid.parse().expect("a pid"),
                leader: None,
                terminal: !program.contains('~'),
                marked: program.contains('@').then(|| name("s-1")),
            }
        };
        Lineage { line: words.split_whitespace().map(step).collect(), whole: true, unit: None, login: None }
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
    fn what_may_be_an_orphan_of_a_server_that_ended_is_nobody() {
        use By::{Agent, Person, Unknown};
        let lost = Lost {
            first: 100,
            login: Some(3),
            reapers: Arc::new([(60, 10)].into()),
            outside: Arc::new([(8, 1000)].into()),
        };
        let known = Known { lost: Some(lost), ..known() };
        let table = [
            ("an orphan", "9:mv~ 1:init~<", Unknown),
            ("its descendant in a terminal of its own", "9:mv 8:sh 7:tmux:_server~ 1:init~<", Person),
            ("the same, never seen outside", "9:mv 7:tmux:_server~ 1:init~<", Unknown),
            ("one that calls itself a terminal", "9:mv 7:gnome-terminal-~ 6:systemd~< 1:systemd~<", Unknown),
            ("taken in by an ancestor of the server", "9:mv~ 60:bash< 59:sshd~< 1:systemd~<", Unknown),
            ("a shell that is older", "9:mv 61:bash< 60:sshd~< 1:systemd~<", Person),
            ("a new login at a server that is older", "9:mv 7:bash 6:sshd~ 5:sshd~< 1:systemd~<", Person),
            ("a new window of an older terminal", "9:mv 7:bash 6:konsole~< 5:systemd~< 1:systemd~<", Person),
            ("in a session that was seen outside", "8:mv~ 1:init~<", Person),
            ("one from outside of this container", "9:mv 7:bash", Person),
            ("an agent of the next server", "9:mv 50:tmux:_server~ 1:init~<", Agent),
            ("the machine's first process itself", "1:init~<", Person),
        ];
        for (what, words, expected) in table {
            assert_eq!(place(&line(words), &known).0, expected, "{what}");
        }
        let foreground = Ancestor { leader: Some(10), ..line("9:mv").line[0].clone() };
        let of = |login| {
            let orphan = Lineage { login, ..line("9:mv~ 1:init~<") };
            place(&orphan, &known).0
        };
        assert_eq!((of(Some(4)), of(Some(3)), of(None)), (Person, Unknown, Unknown), "another login");
        let mut job = line("9:mv 60:bash< 1:init~<");
        job.line[0] = foreground;
        assert_eq!(place(&job, &known).0, Person, "a command in the shell that started the daemon");
        job.line[0] = Ancestor { leader: None, session: 60, ..job.line[0].clone() };
        assert_eq!(place(&job, &known).0, Person, "the same, where its terminal session's leader is gone");
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
