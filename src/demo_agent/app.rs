//! Main loop of the demo agent: waits for a key, a signal, an event of the turn or a timer, then redraws.
//!
//! Owns the terminal, the status file and the queue of prompts. Never blocks on a turn or a hook, except when it
//! exits.

mod drawing;
mod typing;

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use serde_json::json;

use super::hooks::{Hooks, LIMIT, Settings};
use super::input_box::InputBox;
use super::keys::Decoder;
use super::limits;
use super::modes::{Modes, Plan};
use super::reply::Reply;
use super::screen::Screen;
use super::status::{Status, StatusFile};
use super::term::{self, RawMode};
use super::transcript::{self, Said, Task, Transcript};
use super::turn::{self, Event, Handle, Order, Outbox, Outcome, Shared};
use super::view::first_row;
use crate::demo_agent::identity::{Identity, VERSION};

/// A lone ESC followed by silence of this length is the Escape key. Chosen: a sequence arrives in one read.
const ESCAPE_WAIT: Duration = Duration::from_millis(25);
/// The spinner's period. Chosen: as agents spin, 10 times a second.
const SPIN: Duration = Duration::from_millis(100);

/// Why the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    /// `/exit`, or Ctrl-C twice.
    Asked,
    Signal(Signal),
    /// Nobody can type any more.
    TerminalGone,
}

struct Ask {
    command: String,
    yes: bool,
}

struct Busy {
    handle: Handle,
    plan: Plan,
    started: Instant,
    ask: Option<Ask>,
    background: bool,
}

enum Phase {
    Idle,
    Busy(Busy),
    /// A limit has ended the turn and leaves something to choose.
    LimitMenu,
}

struct App {
    shared: Arc<Shared>,
    modes: Modes,
    /// Turns of this process that have ended.
    ended: usize,
    phase: Phase,
    prompts: VecDeque<String>,
    input: InputBox,
    decoder: Decoder,
    /// Enter keys still to be eaten.
    eat: u32,
    /// Pastes that were lost.
    lost: u32,
    /// Ctrl-C was the last key.
    armed: bool,
    reply: Reply,
    screen: Screen,
    status: StatusFile,
    spun: usize,
    outbox: Outbox,
    events: Receiver<Event>,
}

/// Runs the agent on its terminal; the result is the exit status.
pub fn run(identity: Identity, settings: Settings, modes: Modes, prompt: Option<String>) -> io::Result<u8> {
    let signals = term::signals()?;
    let raw = RawMode::enter()?;
    let (events, inbox) = mpsc::channel();
    let wake = Arc::new(EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
    let mut app = App {
        status: StatusFile::new(&identity),
        shared: Arc::new(Shared {
            hooks: Hooks::new(settings, &identity),
            transcript: Mutex::new(Transcript::new(&identity)),
            identity,
        }),
        modes,
        ended: 0,
        phase: Phase::Idle,
        prompts: prompt.into_iter().collect(),
        input: InputBox::default(),
        decoder: Decoder::default(),
        eat: 0,
        lost: 0,
        armed: false,
        reply: Reply::default(),
        screen: Screen::new(term::size(io::stdin().as_fd())),
        spun: 0,
        outbox: Outbox { events, wake },
        events: inbox,
    };
    raw.discard_input();
    app.ready();
    let exit = app.live(&signals);
    app.leave(exit.as_ref().ok().copied());
    drop(raw);
    Ok(match exit? {
        Exit::Asked => {
            term::last_words(&format!(
                "Resume this session with:\ndemo-agent --resume {}\n",
                app.shared.identity.session_id
            ));
            0
        }
        Exit::Signal(signal) => u8::try_from(128 + signal as i32).unwrap_or(1),
        Exit::TerminalGone => 1,
    })
}

impl App {
    fn live(&mut self, signals: &SignalFd) -> io::Result<Exit> {
        loop {
            self.draw();
            let wake = self.outbox.wake.clone();
            let stdin = io::stdin();
            let mut fds = [signals.as_fd(), wake.as_fd(), stdin.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
            let quiet = match poll(&mut fds, self.timeout()) {
                Ok(n) => n == 0,
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let ready = fds.map(|fd| fd.any().unwrap_or(false));
            if quiet && self.decoder.waits_after_escape() {
                let keys = self.decoder.flush_escape();
                if let Some(exit) = self.keys(keys) {
                    return Ok(exit);
                }
            }
            if ready[0]
                && let Some(exit) = self.signals(signals)
            {
                return Ok(exit);
            }
            if ready[1] {
                let _ = wake.read();
                self.turn_events();
            }
            if ready[2] {
                let mut bytes = [0; 16 << 10];
                match nix::unistd::read(&stdin, &mut bytes) {
                    // EIO: the terminal has hung up, tty_ioctl(4).
                    Ok(0) | Err(Errno::EIO) => return Ok(Exit::TerminalGone),
                    Ok(n) => {
                        let keys = self.decoder.feed(&bytes[..n]);
                        if let Some(exit) = self.keys(keys) {
                            return Ok(exit);
                        }
                    }
                    Err(Errno::EINTR | Errno::EAGAIN) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }

    fn signals(&mut self, signals: &SignalFd) -> Option<Exit> {
        while let Ok(Some(info)) = signals.read_signal() {
            match Signal::try_from(info.ssi_signo.cast_signed()) {
                Ok(Signal::SIGWINCH) => self.screen.resize(term::size(io::stdin().as_fd())),
                Ok(signal) => return Some(Exit::Signal(signal)),
                Err(_) => {}
            }
        }
        None
    }

    /// The modes that hold right now.
    fn plan(&self) -> Plan {
        match &self.phase {
            Phase::Busy(busy) => busy.plan.clone(),
            Phase::Idle | Phase::LimitMenu => self.modes.process(self.ended),
        }
    }

    /// The input box appears.
    fn ready(&mut self) {
        let cols = self.screen.cols();
        let identity = &self.shared.identity;
        self.reply.line(&format!("demo-agent {VERSION} · {}", identity.cwd.display()), cols);
        if identity.resumed {
            for said in transcript::read(&identity.transcript).unwrap_or_default() {
                match said {
                    Said::User(text) => self.reply.line(&first_row(&text, cols), cols),
                    Said::Assistant(text) => {
                        self.reply.begin();
                        self.reply.push(&text, cols);
                    }
                    Said::Error(text) => self.reply.line(&limits::shown(&text), cols),
                }
            }
            self.reply.end();
        }
        let source = if identity.resumed { "resume" } else { "startup" };
        self.shared.hooks.fire("SessionStart", json!({"source": source})).forget();
        self.next_prompt();
    }

    /// Begins the next prompt's turn, or rests.
    fn next_prompt(&mut self) {
        let Some(prompt) = self.prompts.pop_front() else {
            self.phase = Phase::Idle;
            return self.status.set(Status::Idle);
        };
        let cols = self.screen.cols();
        self.reply.line(&first_row(&prompt, cols), cols);
        let (task, plan) = match transcript::unfinished(&self.shared.identity.transcript, &prompt) {
            Some(task) => {
                let plan = self.modes.plan_again(self.ended, &task.prompt);
                (task, plan)
            }
            None => (Task::new(&prompt), self.modes.plan(self.ended, &prompt)),
        };
        match turn::start(self.shared.clone(), prompt, task, plan.clone(), self.outbox.clone()) {
            Ok(handle) => {
                self.phase = Phase::Busy(Busy { handle, plan, started: Instant::now(), ask: None, background: false });
                self.status.set(Status::Busy);
            }
            Err(error) => {
                self.reply.line(&format!("  ⎿  could not begin the turn: {error}"), cols);
                self.phase = Phase::Idle;
                self.status.set(Status::Idle);
            }
        }
    }

    fn turn_events(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            let cols = self.screen.cols();
            match (event, &mut self.phase) {
                (Event::Message, _) => self.reply.begin(),
                (Event::Text(text), _) => self.reply.push(&text, cols),
                (Event::Notice(line), _) => self.reply.line(&line, cols),
                (Event::Ask(command), Phase::Busy(busy)) => {
                    busy.ask = Some(Ask { command, yes: true });
                    self.status.set(Status::WaitingForPermission);
                }
                (Event::Running, Phase::Busy(busy)) => {
                    busy.ask = None;
                    self.status.set(Status::Busy);
                }
                (Event::Background, Phase::Busy(busy)) => {
                    busy.background = true;
                    self.reply.end();
                }
                (Event::Ended(outcome), Phase::Busy(busy)) => {
                    let seconds = busy.started.elapsed().as_secs();
                    self.reply.end();
                    if outcome == Outcome::Answered {
                        self.reply.line(&format!("✻ Worked for {seconds}s"), cols);
                    }
                    self.ended += 1;
                    if outcome == Outcome::Limited {
                        self.phase = Phase::LimitMenu;
                        self.status.set(Status::WaitingInDialog);
                    } else {
                        self.next_prompt();
                    }
                }
                (
                    Event::Ask(_) | Event::Running | Event::Background | Event::Ended(_),
                    Phase::Idle | Phase::LimitMenu,
                ) => {}
            }
        }
    }

    fn timeout(&self) -> PollTimeout {
        let due = match &self.phase {
            Phase::Idle if self.plan().spinner => Some(SPIN),
            Phase::Idle | Phase::LimitMenu => None,
            Phase::Busy(busy) if busy.ask.is_some() || busy.background => None,
            Phase::Busy(busy) => {
                Some(Duration::from_millis(1000 - u64::from(busy.started.elapsed().subsec_millis()).min(999)))
            }
        };
        let due =
            if self.decoder.waits_after_escape() { Some(due.map_or(ESCAPE_WAIT, |d| d.min(ESCAPE_WAIT))) } else { due };
        due.map_or(PollTimeout::NONE, |due| PollTimeout::try_from(due).unwrap_or(PollTimeout::MAX))
    }

    /// Stops what runs, runs the hooks, and restores the screen.
    fn leave(&mut self, exit: Option<Exit>) {
        if let Phase::Busy(busy) = &self.phase {
            busy.handle.order(Order::Interrupt);
            let deadline = Instant::now() + LIMIT + LIMIT;
            let left = || deadline.saturating_duration_since(Instant::now());
            while let Ok(event) = self.events.recv_timeout(left()) {
                if matches!(event, Event::Ended(_)) {
                    break;
                }
            }
        }
        let reason = if exit == Some(Exit::Asked) { "prompt_input_exit" } else { "other" };
        self.shared.hooks.fire("SessionEnd", json!({"reason": reason})).wait();
        self.status.remove();
        let finished = self.reply.take();
        self.screen.draw(&finished, Vec::new(), (0, 0), "");
    }
}
