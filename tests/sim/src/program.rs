//! The programs in the panes: scripted agents, and the operator's shells.
//! Takes pastes, keys and time; returns a screen, signals, an exit, and a record of every prompt received.

use std::time::Duration;

use jiff::Timestamp;

use super::{Beat, Inner, Reception, Script, talk::GO_ON};
use claude_failover::model::{
    evidence::{Failure, Meaning, Signal, Source, WaitingFor},
    ids::{AccountName, SessionName},
    limit::{Limit, LimitKind},
    pane::{Exit, Launch},
    queue::QueueDir,
};

/// Which of the three fake CLIs it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Tells everything by status file and hooks.
    Telling,
    /// Shows a screen and tells nothing.
    Mute,
    /// Gets its task at the start and ends with it.
    Command,
    Shell,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Starting,
    Prompt,
    Working,
    Permission,
    Limited,
    Shell,
}

/// A process.
#[derive(Debug, Clone)]
pub struct Program {
    pub pid: u32,
    pub session: SessionName,
    pub incarnation: String,
    /// `None` while it lives.
    pub exit: Option<Exit>,
    pub state: State,
    pub script: Script,
    pub signals: Vec<Signal>,
    /// What was received as a task, last.
    pub task: Option<String>,
    /// The account whose home it uses.
    pub account: Option<AccountName>,
    pub conversation: Option<String>,
    /// When its account stopped it last.
    pub struck: Option<Timestamp>,
    pub(super) kind: Kind,
    pub(super) deaf: Duration,
    /// Its screen shows the words of a limit: its own, one of the conversation that it went on with, or a quoted one.
    pub(super) shows: Option<Failure>,
    /// Given at its start.
    pub(super) prompt: Option<String>,
    /// Its own process where it runs below a shell, which stays when it ends.
    pub(super) below_shell: Option<u32>,
    /// Text in the input box.
    input: String,
    /// Text on its way into the box.
    coming: String,
    pub(super) beat: usize,
    recovered: bool,
    /// Changes with each new thing to do, so that what was due before is void.
    pub(super) doing: u64,
}

/// Something that happens by itself.
#[derive(Debug, Clone)]
pub(super) enum Due {
    Ready(u32),
    PasteShows(u32),
    Told(u32, Meaning, Source),
    Begin {
        pid: u32,
        doing: u64,
    },
    BeatOver {
        pid: u32,
        doing: u64,
    },
    Recovered(u32),
    /// Its account was struck a moment ago: the next request fails.
    Struck(u32),
    /// It is ended from outside.
    Exit(u32, Exit),
    /// It ends by itself.
    Leave(u32, Exit),
}

impl Program {
    fn new(inner: &mut Inner, session: &SessionName, incarnation: &str, kind: Kind, script: Script) -> Self {
        Self {
            pid: pid_of(inner),
            session: session.clone(),
            incarnation: incarnation.to_owned(),
            exit: None,
            state: if kind == Kind::Shell { State::Shell } else { State::Starting },
            deaf: script.deaf,
            script,
            signals: Vec::new(),
            task: None,
            account: None,
            conversation: None,
            struck: None,
            kind,
            shows: None,
            prompt: None,
            below_shell: None,
            input: String::new(),
            coming: String::new(),
            beat: 0,
            recovered: false,
            doing: 0,
        }
    }

    pub(super) fn shell(inner: &mut Inner, session: &SessionName) -> Self {
        Self::new(inner, session, "", Kind::Shell, Script::default())
    }

    pub(super) fn launched(inner: &mut Inner, launch: &Launch) -> Self {
        let request = inner.launches.get(&launch.incarnation).cloned();
        let below_shell = launch.argv.first().is_some_and(|program| program == "/bin/sh");
        let only_shell = below_shell && !launch.argv.get(2).is_some_and(|script| script.starts_with("\"$@\""));
        let kind = match &request {
            Some(request) if !only_shell => super::agents::kind(&request.agent),
            Some(_) | None => Kind::Shell,
        };
        let script = if kind == Kind::Shell { Script::default() } else { inner.script() };
        let mut program = Self::new(inner, &launch.session, &launch.incarnation, kind, script);
        inner.tally.programs += 1;
        let pid = program.pid;
        let Some(request) = request.filter(|_| kind != Kind::Shell) else { return program };
        program.account = request.account.clone();
        program.below_shell = below_shell.then(|| pid_of(inner));
        program.prompt.clone_from(&request.prompt);
        if kind == Kind::Telling {
            program.conversation =
                request.resume.clone().or_else(|| Some(format!("conversation-{}", launch.incarnation)));
        }
        let known = request.resume.is_none_or(|id| inner.take_up(&mut program, &id));
        match (kind, request.task) {
            (Kind::Shell, _) => {}
            (Kind::Command, Some(task)) => {
                inner.schedule(Duration::ZERO, Due::Told(pid, taken(task.text), Source::Process));
            }
            (Kind::Telling | Kind::Mute | Kind::Command, _) if program.script.dies_on_start || !known => {
                inner.schedule(Duration::from_millis(200), Due::Leave(pid, Exit::Status(1)));
            }
            (Kind::Telling | Kind::Mute | Kind::Command, _) => {
                if let Some(start) = program.script.start {
                    inner.schedule(start, Due::Ready(pid));
                }
            }
        }
        program
    }

    /// An agent that a person has started in his own shell.
    pub(super) fn by_hand(inner: &mut Inner, session: &SessionName, account: &AccountName) -> Self {
        let script = Script { beats: inner.script().beats, ..Script::default() };
        let mut program = Self::new(inner, session, "", Kind::Telling, script);
        program.account = Some(account.clone());
        program.conversation = Some(format!("conversation-by-hand-{}", program.pid));
        program.below_shell = Some(pid_of(inner));
        inner.schedule(Duration::from_millis(300), Due::Ready(program.pid));
        program
    }

    pub(super) fn title(&self) -> String {
        format!("{:?}", self.state)
    }

    /// First line: the state; then the words of a limit, where it shows any; then the input box.
    pub(super) fn screen(&self) -> String {
        let state = match self.state {
            State::Starting => "starting",
            State::Prompt | State::Limited => "ready",
            State::Working => "busy",
            State::Permission => "permission",
            State::Shell => "shell",
        };
        let input = if self.script.collapse && !self.input.is_empty() { "[Pasted text]" } else { &self.input };
        let limit = self.shows.as_ref().map(super::talk::banner).unwrap_or_default();
        format!("{state}{limit}\n> {input}")
    }

    /// Whether the process is the pane's or the agent's below it.
    pub(super) fn is(&self, pid: u32) -> bool {
        self.pid == pid || self.below_shell == Some(pid)
    }

    /// Whether an agent runs, and not only the shell that it leaves behind.
    #[must_use]
    pub fn is_agent(&self) -> bool {
        self.exit.is_none() && self.kind != Kind::Shell
    }

    /// Whether it is in the middle of a turn.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.exit.is_none() && matches!(self.state, State::Working | State::Permission)
    }

    /// Whether it is in the middle of a task.
    #[must_use]
    pub fn at_work(&self) -> bool {
        self.is_busy() && self.task.is_some()
    }
}

fn pid_of(inner: &mut Inner) -> u32 {
    u32::try_from(inner.number()).unwrap_or(u32::MAX)
}

pub(super) fn taken(prompt: String) -> Meaning {
    Meaning::PromptTaken { prompt: Some(prompt) }
}

impl Inner {
    /// A pane's content may be different now.
    pub(super) fn redraw(&mut self, pid: u32) {
        let change = self.change();
        if let Some(pane) = self.panes.values_mut().find(|pane| pane.pid == pid) {
            pane.change = change;
        }
        self.woken.panes = true;
    }

    pub(super) fn signal(&mut self, pid: u32, source: Source, meaning: Meaning) {
        let at = self.timestamp();
        let Some(program) = self.programs.get_mut(&pid) else { return };
        if !matches!(program.kind, Kind::Telling | Kind::Command) || program.exit.is_some() {
            return;
        }
        let text = format!("{meaning:?}").chars().take(40).collect();
        program.signals.push(Signal { at, source, rule: "fake".to_owned(), text, meaning });
        self.woken.evidence = true;
    }

    pub(super) fn happen(&mut self, due: Due) {
        let pid = match &due {
            Due::Ready(pid) | Due::PasteShows(pid) | Due::Told(pid, ..) | Due::Recovered(pid) => *pid,
            Due::Struck(pid) | Due::Exit(pid, _) | Due::Leave(pid, _) => *pid,
            Due::Begin { pid, .. } | Due::BeatOver { pid, .. } => *pid,
        };
        let Some(program) = self.programs.get_mut(&pid).filter(|program| program.exit.is_none()) else { return };
        match due {
            Due::Ready(_) => {
                program.state = State::Prompt;
                let conversation = program.conversation.clone().unwrap_or_default();
                let prompt = program.prompt.take();
                self.signal(pid, Source::Hook, Meaning::Started { conversation });
                self.signal(pid, Source::StatusFile, Meaning::Idle);
                self.redraw(pid);
                if let Some(text) = prompt {
                    self.receive(pid, text);
                }
            }
            Due::PasteShows(_) => {
                let text = std::mem::take(&mut program.coming);
                program.input.push_str(&text);
                self.redraw(pid);
            }
            // A command's task is there from the start.
            Due::Told(_, Meaning::PromptTaken { prompt: Some(text) }, Source::Process) => self.receive(pid, text),
            Due::Told(_, meaning, source) => self.signal(pid, source, meaning),
            Due::Begin { doing, .. } if program.doing == doing => self.next_beat(pid),
            Due::BeatOver { doing, .. } if program.doing == doing => {
                program.beat += 1;
                if program.shows.is_some() {
                    self.signal(pid, Source::StatusFile, Meaning::Busy);
                }
                self.next_beat(pid);
            }
            Due::Begin { .. } | Due::BeatOver { .. } => {}
            Due::Recovered(_) => program.recovered = true,
            Due::Struck(_) => self.struck(pid),
            Due::Exit(_, exit) => self.end_program(pid, exit),
            Due::Leave(_, exit) => self.leave(pid, exit),
        }
    }

    /// An agent ends by itself; a shell that it ran below stays.
    fn leave(&mut self, pid: u32, exit: Exit) {
        let Some(program) = self.programs.get_mut(&pid).filter(|program| program.exit.is_none()) else { return };
        if program.below_shell.take().is_none() {
            return self.end_program(pid, exit);
        }
        let conversation = program.conversation.clone();
        self.signal(pid, Source::Hook, Meaning::Exited { conversation });
        let Some(program) = self.programs.get_mut(&pid) else { return };
        program.kind = Kind::Shell;
        program.state = State::Shell;
        program.doing = 0;
        (program.account, program.conversation, program.task, program.shows) = (None, None, None, None);
        program.input.clear();
        self.redraw(pid);
    }

    /// A process ends, and with it what it was doing.
    pub fn end_program(&mut self, pid: u32, exit: Exit) {
        let Some(program) = self.programs.get_mut(&pid).filter(|program| program.exit.is_none()) else { return };
        program.exit = Some(exit);
        let session = program.session.clone();
        self.tally.deaths += 1;
        self.note(format!("  {session}: {pid} ended, {exit:?}"));
        let here = self.panes.get(&session).is_some_and(|pane| pane.pid == pid && !pane.keep_dead);
        if here {
            self.panes.remove(&session);
        }
        self.redraw(pid);
    }

    pub(super) fn pasted(&mut self, pid: u32, text: &str) {
        let Some(program) = self.programs.get_mut(&pid) else { return };
        program.coming.push_str(text);
        let after = program.script.paste;
        self.schedule(after, Due::PasteShows(pid));
    }

    pub(super) fn pressed(&mut self, pid: u32, key: &str) {
        let Some(program) = self.programs.get_mut(&pid) else { return };
        match (program.state, key) {
            (State::Permission, "y") => {
                program.state = State::Working;
                program.beat += 1;
                self.signal(pid, Source::StatusFile, Meaning::Busy);
                self.next_beat(pid);
            }
            (State::Prompt | State::Limited, "Enter") if program.script.swallow > 0 && !program.input.is_empty() => {
                program.script.swallow -= 1;
                self.tally.swallowed += 1;
            }
            (State::Prompt | State::Limited, "Enter") if !program.input.is_empty() => {
                let text = std::mem::take(&mut program.input);
                self.tally.collapsed += u64::from(self.programs.get(&pid).is_some_and(|p| p.script.collapse));
                self.receive(pid, text);
            }
            (State::Working, "Escape") => {
                program.state = State::Prompt;
                program.doing += 1;
                self.signal(pid, Source::Hook, Meaning::Interrupted);
                self.signal(pid, Source::StatusFile, Meaning::Idle);
            }
            (
                State::Starting | State::Prompt | State::Working | State::Permission | State::Limited | State::Shell,
                _,
            ) => {}
        }
        self.redraw(pid);
    }

    /// The agent has a prompt now: the moment that everything is about.
    pub(super) fn receive(&mut self, pid: u32, text: String) {
        let now = self.now;
        let Some(program) = self.programs.get_mut(&pid) else { return };
        let (session, incarnation) = (program.session.clone(), program.incarnation.clone());
        let limited = program.state == State::Limited && program.account.is_none();
        program.state = State::Working;
        program.shows = None;
        if limited || (text.starts_with(GO_ON) && program.kind != Kind::Command) {
            // A message after a limit: it goes on where it was, or is stopped again.
            program.beat += usize::from(std::mem::take(&mut program.recovered));
            self.note(format!("  {session}: {pid} is told to go on"));
            self.signal(pid, Source::Hook, taken(text));
            self.signal(pid, Source::StatusFile, Meaning::Busy);
            self.next_beat(pid);
            return;
        }
        program.task = Some(text.clone());
        program.beat = 0;
        let (tell, dies) = (program.script.tell, program.script.dies_on_prompt);
        self.remember(pid);
        if self.pool.contains(&session) {
            self.tally.receptions += 1;
            self.note(format!("  {session}: {pid} receives {:?}", text.chars().take(40).collect::<String>()));
            self.watch_reception(&session, &text, pid);
            self.receptions.push(Reception { text: text.clone(), at: now, pid, session, incarnation });
        }
        if dies {
            self.leave(pid, Exit::Signal(11));
            return;
        }
        self.signal(pid, Source::StatusFile, Meaning::Busy);
        // The agent waits for its hook before it begins.
        self.schedule(tell, Due::Told(pid, taken(text), Source::Hook));
        let doing = self.number();
        if let Some(program) = self.programs.get_mut(&pid) {
            program.doing = doing;
        }
        self.schedule(tell, Due::Begin { pid, doing });
        self.redraw(pid);
    }

    /// What must hold at the very moment an agent gets a task.
    fn watch_reception(&mut self, session: &SessionName, text: &str, pid: u32) {
        let other = self.programs.values().find(|p| p.pid != pid && p.at_work() && p.task.as_deref() == Some(text));
        if let Some(other) = other.map(|p| p.session.clone()) {
            self.violation(format!("a task was given to {session} while {other} works on it: {text:?}"));
        }
        let marker = |name: &str, bytes: &[u8]| {
            name.ends_with(".working")
                && claude_failover::model::marker::Marker::read(bytes).is_some_and(|marker| marker.session == *session)
        };
        let marked =
            self.disk.iter().any(|((_, dir, name), file)| *dir == QueueDir::Inbox && marker(name, &file.bytes));
        if !marked {
            self.violation(format!("{session} received a task without a marker on disk: {text:?}"));
        }
        let tasks = self.durable.get("tasks").and_then(|tasks| tasks.as_object()).into_iter().flatten();
        let mut runs = tasks.map(|(_, task)| &task["work"]["run"]).filter(|run| run["session"] == session.as_str());
        if !runs.any(|run| run["delivery"] != "not-begun") {
            self.violation(format!("{session} received a task that a power cut lets begin again: {text:?}"));
        }
    }

    pub(super) fn next_beat(&mut self, pid: u32) {
        let doing = self.number();
        let Some(program) = self.programs.get_mut(&pid).filter(|program| program.exit.is_none()) else { return };
        program.doing = doing;
        program.state = State::Working;
        program.shows = None;
        let account = program.account.clone();
        let over = Due::BeatOver { pid, doing };
        let beat = program.script.beats.get(program.beat).copied();
        self.remember(pid);
        if let Some(failure) = self.out(account.as_ref()) {
            return self.stopped(pid, failure);
        }
        match beat {
            Some(Beat::Work(_)) if self.now < self.storm_until => self.server_error(pid),
            Some(Beat::Work(time)) => self.schedule(time, over),
            Some(Beat::Permission) => {
                self.set(pid, State::Permission);
                self.signal(pid, Source::StatusFile, Meaning::Waiting { what: WaitingFor::Permission });
            }
            Some(Beat::Background(time)) => {
                let message = Some("one task is still running".to_owned());
                self.signal(pid, Source::Hook, Meaning::TurnEnded { message, background: 1, shells: Vec::new() });
                self.schedule(time, over);
            }
            Some(Beat::Quote(time)) => {
                self.quote(pid, time);
                self.schedule(time, over);
            }
            Some(Beat::ServerError) => self.server_error(pid),
            Some(Beat::Limit(time)) => match account {
                Some(account) => {
                    self.pass(pid);
                    let told = self.rng.chance(700);
                    self.limit(&account, LimitKind::FiveHour, time, told);
                    if let Some(failure) = self.out(Some(&account)) {
                        self.stopped(pid, failure);
                    }
                }
                None => {
                    let limit = Limit { kind: LimitKind::FiveHour, resets_at: None };
                    self.turn_failed(pid, Failure::Limit(limit), State::Limited);
                    self.schedule(time, Due::Recovered(pid));
                }
            },
            Some(Beat::Die(exit)) => {
                self.pass(pid);
                self.leave(pid, exit);
            }
            Some(Beat::Stall) => {}
            None => self.turn_over(pid),
        }
        self.redraw(pid);
    }

    fn turn_over(&mut self, pid: u32) {
        let Some(program) = self.programs.get(&pid) else { return };
        let message = if program.beat % 2 == 0 { super::talk::QUOTING } else { "all done" };
        if program.kind == Kind::Command {
            self.signal(
                pid,
                Source::Hook,
                Meaning::TurnEnded { message: Some("output".to_owned()), background: 0, shells: Vec::new() },
            );
            self.schedule(Duration::from_millis(5), Due::Exit(pid, Exit::Status(0)));
            return;
        }
        let account = program.account.is_some();
        if let Some(task) = program.task.clone() {
            self.completed.insert(task);
        }
        if account && self.rng.chance(300) {
            self.tell_usage(pid);
        }
        self.set(pid, State::Prompt);
        self.signal(
            pid,
            Source::Hook,
            Meaning::TurnEnded { message: Some(message.to_owned()), background: 0, shells: Vec::new() },
        );
        self.signal(pid, Source::StatusFile, Meaning::Idle);
    }

    pub(super) fn set(&mut self, pid: u32, state: State) {
        if let Some(program) = self.programs.get_mut(&pid) {
            program.state = state;
        }
    }

    /// It will not come to the present beat again.
    fn pass(&mut self, pid: u32) {
        if let Some(program) = self.programs.get_mut(&pid) {
            program.beat += 1;
        }
        self.remember(pid);
    }

    fn server_error(&mut self, pid: u32) {
        self.turn_failed(pid, Failure::Server, State::Prompt);
    }

    pub(super) fn turn_failed(&mut self, pid: u32, failure: Failure, state: State) {
        self.set(pid, state);
        let message = match failure {
            Failure::Server => "529 overloaded: this request would exceed the rate limit".to_owned(),
            Failure::Limit(_) | Failure::Login | Failure::Request | Failure::Refused | Failure::Unknown => {
                format!("{failure:?}")
            }
        };
        self.signal(pid, Source::Hook, Meaning::TurnFailed { failure, message });
        self.signal(pid, Source::StatusFile, Meaning::Idle);
    }
}
