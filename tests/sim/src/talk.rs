//! Conversations, which outlive the programs that hold them, and what interrupts them.

use std::time::Duration;

use jiff::SignedDuration;

use super::{
    Beat, Inner,
    program::{Due, Kind, Program, State},
};
use claude_failover::model::{
    agent::Found,
    evidence::{Failure, Meaning, Source},
    ids::{AccountName, SessionName},
    limit::{Limit, LimitKind, Usage, Window},
};

/// What an agent is told to go on; anything else is a task of its own. The default of `switcher.resume_text`.
pub(super) const GO_ON: &str = "Continue where you stopped.";
/// What an agent may say at the end of a task about limits.
pub(super) const QUOTING: &str = "All done. The log said: You've hit your limit · resets 3am, and API Error: 429.";

/// One reading of a screen that lasts no longer is no evidence.
const APART: Duration = Duration::from_millis(600);

/// A conversation as its agent has it on disk: known from its first prompt on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    pub task: Option<String>,
    pub beats: Vec<Beat>,
    pub beat: usize,
    /// The words of a limit at its end, which every program that takes it up shows again.
    pub shows: Option<Failure>,
}

/// A limit's words on a screen.
pub(super) fn banner(failure: &Failure) -> String {
    match failure {
        Failure::Limit(Limit { resets_at: Some(at), .. }) => format!("\nlimit {}", at.as_second()),
        Failure::Limit(Limit { resets_at: None, .. }) => "\nlimit".to_owned(),
        Failure::Login => "\nlogin".to_owned(),
        Failure::Server | Failure::Request | Failure::Refused | Failure::Unknown => String::new(),
    }
}

/// Reads `banner`.
pub(super) fn read_banner(line: &str) -> Option<Failure> {
    if line == "login" {
        return Some(Failure::Login);
    }
    let rest = line.strip_prefix("limit")?;
    let resets_at = rest.trim().parse().ok().and_then(|second| jiff::Timestamp::from_second(second).ok());
    Some(Failure::Limit(Limit { kind: LimitKind::FiveHour, resets_at }))
}

impl Inner {
    /// Writes the conversation of a program to its disk.
    pub(super) fn remember(&mut self, pid: u32) {
        let Some(program) = self.programs.get(&pid) else { return };
        let (Some(id), Some(_)) = (&program.conversation, &program.task) else { return };
        let conversation = Conversation {
            task: program.task.clone(),
            beats: program.script.beats.clone(),
            beat: program.beat,
            shows: program.shows,
        };
        self.conversations.insert(id.clone(), conversation);
    }

    /// A program takes up a conversation; answers whether it is known.
    pub(super) fn take_up(&mut self, program: &mut Program, id: &str) -> bool {
        let Some(known) = self.conversations.get(id).cloned() else { return false };
        program.script.beats = known.beats;
        program.script.dies_on_prompt = false;
        program.beat = known.beat;
        program.task = known.task;
        program.shows = known.shows;
        true
    }

    /// Its account has just been struck. What still waits for its hook has asked for nothing yet: it learns of it when it begins.
    pub(super) fn struck(&mut self, pid: u32) {
        let in_hook = |due: &Due| matches!(due, Due::Told(of, _, Source::Hook) if *of == pid);
        if self.due.values().any(in_hook) {
            return;
        }
        let Some(program) = self.programs.get(&pid).filter(|program| program.state == State::Working) else { return };
        if let Some(failure) = self.out(program.account.as_ref()) {
            self.stopped(pid, failure);
        }
    }

    /// Its turn fails because of its account; the agent says so, or only shows it.
    pub(super) fn stopped(&mut self, pid: u32, failure: Failure) {
        let (at, doing) = (self.steady_time(), self.number());
        let silent = matches!(failure, Failure::Limit(_)) && self.rng.chance(self.shown_only);
        let Some(program) = self.programs.get_mut(&pid).filter(|program| program.exit.is_none()) else { return };
        program.doing = doing;
        // Its screen shows the last one, read perhaps before it struck once more.
        program.struck = program.struck.or(Some(at));
        program.shows = Some(failure);
        let (kind, account) = (program.kind, program.account.clone());
        let text = format!("  {}: {pid} is stopped by its account (only shown: {silent})", program.session);
        self.note(text);
        if kind == Kind::Command {
            self.turn_failed(pid, failure, State::Limited);
            return self.end_program(pid, claude_failover::model::pane::Exit::Status(1));
        }
        if silent {
            self.set(pid, State::Limited);
            self.signal(pid, Source::StatusFile, Meaning::Idle);
        } else {
            if let Some(truth) = account.and_then(|account| self.accounts.get_mut(&account)) {
                truth.told.push(at);
            }
            self.turn_failed(pid, failure, State::Limited);
        }
        self.remember(pid);
        self.redraw(pid);
    }

    /// At work, with a text about limits where a limit would be told of. For a moment it may say that it is idle.
    pub(super) fn quote(&mut self, pid: u32, time: Duration) {
        let limit = Limit { kind: LimitKind::FiveHour, resets_at: None };
        self.tally.quotes += 1;
        if let Some(program) = self.programs.get_mut(&pid) {
            program.shows = Some(Failure::Limit(limit));
        }
        if time < APART {
            self.signal(pid, Source::StatusFile, Meaning::Idle);
        }
    }

    /// The agent is told how much of its account's allowance is used.
    pub(super) fn tell_usage(&mut self, pid: u32) {
        let at = self.timestamp();
        let used_percent = u8::try_from(self.rng.within(40, 99)).unwrap_or(99);
        let resets_at = at.saturating_add(SignedDuration::from_hours(1)).ok();
        let usage = Usage([(LimitKind::FiveHour, Window { used_percent, resets_at, at })].into());
        self.signal(pid, Source::Transcript, Meaning::Used { usage });
    }

    /// A person starts an agent in a shell of his own.
    pub fn agent_by_hand(&mut self, session: &SessionName, account: &AccountName) -> u32 {
        let program = Program::by_hand(self, session, account);
        self.note(format!("person: starts an agent in {session} under {account}"));
        self.show(session, program, None, false)
    }

    /// A person says something to the agent in a session of his, when it stands at its prompt.
    pub fn say(&mut self, session: &SessionName, text: &str) {
        let Some(pid) = self.panes.get(session).map(|pane| pane.pid) else { return };
        let ready = |program: &&Program| {
            program.kind == Kind::Telling
                && program.exit.is_none()
                && matches!(program.state, State::Prompt | State::Limited)
        };
        if self.programs.get(&pid).as_ref().is_some_and(ready) {
            self.note(format!("person: says {text:?} in {session}"));
            self.receive(pid, text.to_owned());
        }
    }

    /// The agent that runs in a pane, as its processes tell.
    pub(super) fn found(&self, pid: u32) -> Option<Found> {
        let program =
            self.programs.get(&pid).filter(|program| program.kind == Kind::Telling && program.exit.is_none())?;
        let known = program.conversation.clone().filter(|id| self.conversations.contains_key(id));
        Some(Found {
            pid: program.below_shell.unwrap_or(pid),
            account: program.account.clone(),
            conversation: known,
            others: Vec::new(),
        })
    }
}
