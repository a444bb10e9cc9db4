//! The programs in the panes: agents that behave by a script, and the operator's shells.
//! In: pastes, keys, time. Out: a screen, signals, an exit, and a record of every prompt received.

use std::time::Duration;

use super::{Inner, Reception};
use crate::{
    model::{
        evidence::{Failure, Meaning, Signal, Source, WaitingFor},
        ids::SessionName,
        limit::{Limit, LimitKind},
    },
    ports::{Exit, Launch, QueueDir},
};

/// What an agent does with its first prompt, one beat after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    Work(Duration),
    /// Asks a person for permission and waits for `y`.
    Permission,
    /// The turn ends while a background task runs on; it ends for good that much later.
    Background(Duration),
    ServerError,
    /// Stopped by a limit; after that time a message makes it go on.
    Limit(Duration),
    Die(Exit),
    /// At work for ever.
    Stall,
}

/// How an agent behaves. The default is one that simply works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// From the start to the prompt; `None`: it never comes.
    pub start: Option<Duration>,
    /// Ends instead of showing its prompt.
    pub dies_on_start: bool,
    /// From the paste to the text in the box.
    pub paste: Duration,
    /// A paste shows as a placeholder.
    pub collapse: bool,
    /// Enters that are swallowed.
    pub swallow: u32,
    /// From the Enter to the first signal that says so.
    pub tell: Duration,
    /// Ends right after taking the prompt, before it told anybody.
    pub dies_on_prompt: bool,
    pub beats: Vec<Beat>,
    /// Ignores TERM for so long.
    pub deaf: Duration,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            start: Some(Duration::from_millis(300)),
            dies_on_start: false,
            paste: Duration::from_millis(10),
            collapse: false,
            swallow: 0,
            tell: Duration::from_millis(20),
            dies_on_prompt: false,
            beats: vec![Beat::Work(Duration::from_secs(2))],
            deaf: Duration::from_millis(50),
        }
    }
}

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
    pub(super) kind: Kind,
    pub(super) deaf: Duration,
    /// Text in the input box.
    input: String,
    /// Text on its way into the box.
    coming: String,
    beat: usize,
    recovered: bool,
    /// Changes with each new thing to do, so that what was due before is void.
    doing: u64,
}

/// Something that happens by itself.
#[derive(Debug, Clone)]
pub(super) enum Due {
    Ready(u32),
    PasteShows(u32),
    Told(u32, Meaning, Source),
    Begin { pid: u32, doing: u64 },
    BeatOver { pid: u32, doing: u64 },
    Recovered(u32),
    Exit(u32, Exit),
}

impl Program {
    fn new(inner: &mut Inner, session: &SessionName, incarnation: &str, kind: Kind, script: Script) -> Self {
        Self {
            pid: u32::try_from(inner.number()).unwrap_or(u32::MAX),
            session: session.clone(),
            incarnation: incarnation.to_owned(),
            exit: None,
            state: if kind == Kind::Shell { State::Shell } else { State::Starting },
            deaf: script.deaf,
            script,
            signals: Vec::new(),
            task: None,
            kind,
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
        let kind = request.as_ref().map_or(Kind::Shell, |request| super::agents::kind(&request.agent));
        let script = if kind == Kind::Shell { Script::default() } else { inner.script() };
        let program = Self::new(inner, &launch.session, &launch.incarnation, kind, script);
        inner.tally.programs += 1;
        let pid = program.pid;
        let task = request.and_then(|request| request.task);
        match (kind, task) {
            (Kind::Shell, _) => {}
            (Kind::Command, Some(task)) => {
                inner.schedule(Duration::ZERO, Due::Told(pid, taken(task.text), Source::Process))
            }
            (Kind::Telling | Kind::Mute | Kind::Command, _) if program.script.dies_on_start => {
                inner.schedule(Duration::from_millis(200), Due::Exit(pid, Exit::Status(1)));
            }
            (Kind::Telling | Kind::Mute | Kind::Command, _) => {
                if let Some(start) = program.script.start {
                    inner.schedule(start, Due::Ready(pid));
                }
            }
        }
        program
    }

    pub(super) fn title(&self) -> String {
        format!("{:?}", self.state)
    }

    /// First line: the state; then the input box.
    pub(super) fn screen(&self) -> String {
        let state = match self.state {
            State::Starting => "starting",
            State::Prompt | State::Limited => "ready",
            State::Working => "busy",
            State::Permission => "permission",
            State::Shell => "shell",
        };
        let input = if self.script.collapse && !self.input.is_empty() { "[Pasted text]" } else { &self.input };
        format!("{state}\n> {input}")
    }

    /// Whether it is in the middle of a task.
    #[must_use]
    pub fn at_work(&self) -> bool {
        self.exit.is_none() && self.task.is_some() && matches!(self.state, State::Working | State::Permission)
    }
}

fn taken(prompt: String) -> Meaning {
    Meaning::PromptTaken { prompt: Some(prompt) }
}

impl Inner {
    fn script(&mut self) -> Script {
        if let Some(script) = self.scripts.pop_front() {
            return script;
        }
        let mut rng = self.rng.fork();
        let millis = Duration::from_millis;
        let mut script = Script {
            start: Some(millis(rng.within(50, 1500))),
            paste: millis(rng.within(0, 60)),
            tell: millis(rng.within(1, 300)),
            beats: vec![Beat::Work(millis(rng.within(100, 8000)))],
            deaf: millis(rng.within(1, 300)),
            collapse: rng.chance(300),
            ..Script::default()
        };
        if self.calm {
            return script;
        }
        script.dies_on_start = rng.chance(60);
        if rng.chance(25) {
            script.start = None;
        }
        if rng.chance(250) {
            script.swallow = u32::try_from(rng.within(1, 3)).unwrap_or(1);
        }
        if rng.chance(10) {
            script.swallow = 50;
        }
        if rng.chance(40) {
            script.paste = millis(rng.within(200, 12_000));
        }
        script.dies_on_prompt = rng.chance(60);
        if rng.chance(60) {
            script.deaf = millis(rng.within(1000, 20_000));
        }
        let work = Beat::Work(millis(rng.within(100, 20_000)));
        match rng.below(20) {
            0 | 1 => script.beats.extend([Beat::Permission, work]),
            2 => script.beats.push(Beat::Background(millis(rng.within(500, 9000)))),
            3 | 4 => script.beats.push(Beat::ServerError),
            5 => script.beats.extend([Beat::Limit(millis(rng.within(1000, 30_000))), work]),
            6 | 7 => script.beats.push(Beat::Die(Exit::Signal(11))),
            8 => script.beats.push(Beat::Stall),
            9 => script.beats = vec![Beat::Work(millis(5))],
            _ => {}
        }
        script
    }

    /// A pane's content may be different now.
    fn redraw(&mut self, pid: u32) {
        let change = self.change();
        if let Some(pane) = self.panes.values_mut().find(|pane| pane.pid == pid) {
            pane.change = change;
        }
        self.woken.panes = true;
    }

    fn signal(&mut self, pid: u32, source: Source, meaning: Meaning) {
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
            Due::Ready(pid) | Due::PasteShows(pid) | Due::Told(pid, ..) | Due::Recovered(pid) | Due::Exit(pid, _) => {
                *pid
            }
            Due::Begin { pid, .. } | Due::BeatOver { pid, .. } => *pid,
        };
        let Some(program) = self.programs.get_mut(&pid).filter(|program| program.exit.is_none()) else { return };
        match due {
            Due::Ready(_) => {
                program.state = State::Prompt;
                let conversation = format!("conversation-{}", program.incarnation);
                self.signal(pid, Source::Hook, Meaning::Started { conversation });
                self.signal(pid, Source::StatusFile, Meaning::Idle);
                self.redraw(pid);
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
                self.next_beat(pid);
            }
            Due::Begin { .. } | Due::BeatOver { .. } => {}
            Due::Recovered(_) => program.recovered = true,
            Due::Exit(_, exit) => self.end_program(pid, exit),
        }
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
    fn receive(&mut self, pid: u32, text: String) {
        let now = self.now;
        let Some(program) = self.programs.get_mut(&pid) else { return };
        let (session, incarnation) = (program.session.clone(), program.incarnation.clone());
        let limited = program.state == State::Limited;
        program.state = State::Working;
        if limited {
            // A message after a limit: it goes on where it was, or is stopped again.
            program.beat += usize::from(program.recovered);
            self.signal(pid, Source::Hook, taken(text));
            self.signal(pid, Source::StatusFile, Meaning::Busy);
            self.next_beat(pid);
            return;
        }
        program.task = Some(text.clone());
        program.beat = 0;
        let (tell, dies) = (program.script.tell, program.script.dies_on_prompt);
        self.tally.receptions += 1;
        self.note(format!("  {session}: {pid} receives {:?}", text.chars().take(40).collect::<String>()));
        self.watch_reception(&session, &text, pid);
        self.receptions.push(Reception { text: text.clone(), at: now, pid, session, incarnation });
        if dies {
            self.end_program(pid, Exit::Signal(11));
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
                && crate::model::marker::Marker::read(bytes).is_some_and(|marker| marker.session == *session)
        };
        let marked =
            self.disk.iter().any(|((_, dir, name), file)| *dir == QueueDir::Inbox && marker(name, &file.bytes));
        if !marked {
            self.violation(format!("{session} received a task without a marker on disk: {text:?}"));
        }
    }

    fn next_beat(&mut self, pid: u32) {
        let doing = self.number();
        let Some(program) = self.programs.get_mut(&pid) else { return };
        program.doing = doing;
        program.state = State::Working;
        let over = Due::BeatOver { pid, doing };
        match program.script.beats.get(program.beat).copied() {
            Some(Beat::Work(time)) => self.schedule(time, over),
            Some(Beat::Permission) => {
                program.state = State::Permission;
                self.signal(pid, Source::StatusFile, Meaning::Waiting { what: WaitingFor::Permission });
            }
            Some(Beat::Background(time)) => {
                let message = Some("one task is still running".to_owned());
                self.signal(pid, Source::Hook, Meaning::TurnEnded { message, background: 1 });
                self.schedule(time, over);
            }
            Some(Beat::ServerError) => self.turn_failed(pid, Failure::Server, State::Prompt),
            Some(Beat::Limit(time)) => {
                let limit = Limit { kind: LimitKind::FiveHour, resets_at: None };
                self.turn_failed(pid, Failure::Limit(limit), State::Limited);
                self.schedule(time, Due::Recovered(pid));
            }
            Some(Beat::Die(exit)) => self.end_program(pid, exit),
            Some(Beat::Stall) => {}
            None if program.kind == Kind::Command => {
                self.signal(
                    pid,
                    Source::Hook,
                    Meaning::TurnEnded { message: Some("output".to_owned()), background: 0 },
                );
                self.schedule(Duration::from_millis(5), Due::Exit(pid, Exit::Status(0)));
            }
            None => {
                program.state = State::Prompt;
                self.signal(
                    pid,
                    Source::Hook,
                    Meaning::TurnEnded { message: Some("all done".to_owned()), background: 0 },
                );
                self.signal(pid, Source::StatusFile, Meaning::Idle);
            }
        }
        self.redraw(pid);
    }

    fn turn_failed(&mut self, pid: u32, failure: Failure, state: State) {
        if let Some(program) = self.programs.get_mut(&pid) {
            program.state = state;
        }
        let message = format!("{failure:?}");
        self.signal(pid, Source::Hook, Meaning::TurnFailed { failure, message });
        self.signal(pid, Source::StatusFile, Meaning::Idle);
    }
}
