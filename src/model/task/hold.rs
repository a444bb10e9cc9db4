//! Why a task in the inbox doesn't run: the reason in words, and who can release it. Plain facts.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::{
    ids::{AgentName, RunId},
    writer::By,
};

/// Why a task isn't dispatched yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hold {
    /// Touched less than `dispatcher.settle` ago.
    Settling,
    /// Some process has it open for writing.
    Writing,
    /// An editor's lock is beside it.
    EditorLock(String),
    Empty,
    /// Its frontmatter was opened and isn't closed yet.
    OpenFrontmatter,
    /// Its name went away less than the settle time ago.
    Missing,
    /// Somebody else claimed it; the text says how that is known.
    OutsideClaim(String),
    /// It changed while an agent worked on the earlier text, whose result is filed.
    ChangedWhileWorking,
    /// It names tasks to wait for; that isn't built yet.
    DependsOn,
    /// A person said so (`hold`).
    ByVerb,
    /// git tracks this name beside it or its own: what a checkout brings nobody has submitted.
    Tracked(String),
    /// git is changing the working tree.
    GitAtWork,
    /// This text was run, and it came back as it was: by git, or from a copy.
    RanBefore(RunId),
    /// Somebody claimed it in place; the text names the evidence.
    InPlace(String),
    /// No task may name this agent.
    Closed(AgentName),
    /// Only a person's task may name this agent, and this one is of somebody else.
    NotPermitted(AgentName, By),
    /// Too many tasks came from tasks; the text says how many.
    Braked(String),
    /// It can't be read now; the system's words.
    Unreadable(String),
}

/// What ends a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndedBy {
    /// Its writer is done with it soon.
    Time,
    /// Its file or a sidecar is changing.
    File,
    /// A person releases this text, or it changes.
    Release,
    /// A person permits this text.
    Permission,
    Configuration,
}

impl Hold {
    #[must_use]
    pub fn ended_by(&self) -> EndedBy {
        match self {
            Self::Settling | Self::Writing | Self::Missing | Self::GitAtWork => EndedBy::Time,
            Self::EditorLock(_)
            | Self::Empty
            | Self::OpenFrontmatter
            | Self::OutsideClaim(_)
            | Self::DependsOn
            | Self::Unreadable(_) => EndedBy::File,
            Self::ByVerb | Self::ChangedWhileWorking | Self::Tracked(_) | Self::RanBefore(_) | Self::InPlace(_) => {
                EndedBy::Release
            }
            Self::NotPermitted(..) | Self::Braked(_) => EndedBy::Permission,
            Self::Closed(_) => EndedBy::Configuration,
        }
    }

    /// Whether what it may do is in question: only a person, or the configuration, lets it go.
    #[must_use]
    pub fn needs_person(&self) -> bool {
        matches!(self.ended_by(), EndedBy::Permission | EndedBy::Configuration)
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Settling => f.write_str("it was touched a moment ago; dispatched when it has been left alone for dispatcher.settle"),
            Self::Writing => f.write_str("a process still has it open for writing"),
            Self::EditorLock(lock) => write!(f, "an editor has it open: the lock {lock} stands beside it"),
            Self::Empty => f.write_str("it is empty"),
            Self::OpenFrontmatter => f.write_str("its frontmatter begins with '---' and has no closing '---' yet"),
            Self::Missing => f.write_str("its name went away a moment ago; editors do that while saving"),
            Self::OutsideClaim(how) => write!(f, "somebody else claimed it: {how}"),
            Self::ChangedWhileWorking => f.write_str(
                "it changed while the earlier text was being worked on (that result is filed); save it again or `echo release > control` to run the new text",
            ),
            Self::DependsOn => f.write_str("it has depends_on, which this version keeps but does not resolve; remove the key to run it"),
            Self::ByVerb => f.write_str("a person held it; `echo release > control` lets it go"),
            Self::Tracked(name) => write!(
                f,
                "git tracks {name}, so a checkout may have brought it; `echo release > control` runs this text, `git rm --cached` \
                 and `claude-failover check --fix` keep the queue out of the repository"
            ),
            Self::GitAtWork => f.write_str("git is changing the working tree (its index.lock is there)"),
            Self::RanBefore(run) => write!(
                f,
                "this text has run, and its file came back (git stash, checkout or reset, or an old copy); `echo release > control` \
                 runs it again, `rm` ends it; it was run {run}"
            ),
            Self::InPlace(how) => write!(f, "somebody works on it here: {how}; `echo release > control` runs it all the same"),
            Self::Closed(agent) => write!(
                f,
                "no task may name agent {agent}: `tasks: person` (or `anyone`) in `agents.{agent}` of the configuration and a restart open it"
            ),
            Self::NotPermitted(agent, by) => {
                let who = match by {
                    By::Agent => "an agent wrote it",
                    By::Unknown | By::Person => "it is not known who wrote it (a file written behind the mount, by cron and the like)",
                };
                write!(
                    f,
                    "agent {agent} does a person's tasks only, and {who}: a person's `echo release > control` runs this text, `tasks: anyone` in `agents.{agent}` all like it"
                )
            }
            Self::Braked(why) => write!(f, "{why}; a person's `echo release > control` runs it"),
            Self::Unreadable(why) => write!(f, "it can't be read: {why}"),
        }
    }
}

/// What is wrong with a task's text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// From 1.
    pub line: usize,
    pub column: usize,
    pub message: String,
}

impl Problem {
    /// Of the whole file.
    #[must_use]
    pub fn whole(message: String) -> Self {
        Self { line: 1, column: 1, message }
    }

    /// Several as one: the first, and the others each in a line of its own.
    #[must_use]
    pub fn all(mut problems: Vec<Self>) -> Option<Self> {
        problems.sort_by_key(|problem| (problem.line, problem.column));
        let more: Vec<String> = problems.iter().skip(1).map(ToString::to_string).collect();
        let first = problems.into_iter().next()?;
        let message = std::iter::once(first.message).chain(more).collect::<Vec<_>>().join("\n");
        Some(Self { message, ..first })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}
