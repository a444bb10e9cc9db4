//! One turn of the demonstration agent, on a thread of its own.
//!
//! In: the prompt, its [`Plan`] and the user's orders. Out: [`Event`]s for the screen, hooks and transcript records.
//! It owns what it runs. It never draws.

use std::os::fd::AsFd;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::eventfd::{EfdFlags, EventFd};
use serde_json::{Value, json};
use uuid::Uuid;

use super::hooks::Hooks;
use super::modes::{Ending, Plan};
use super::transcript::Transcript;
use super::{Identity, block, limits};

/// What the user wants of a running turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Interrupt,
    Allow,
    Deny,
}

/// What the screen has to know.
#[derive(Debug)]
pub enum Event {
    /// A new message of the agent begins.
    Message,
    /// More of the current message.
    Text(String),
    /// A line that is no message, such as an error.
    Notice(String),
    /// Waits for leave to run this.
    Ask(String),
    /// Leave was given.
    Running,
    /// The answer is out, something goes on behind it.
    Background,
    /// The process is to end right here, with this status or by a kill.
    Crash(Option<i32>),
    Ended(Outcome),
}

/// How a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Answered,
    Failed,
    Interrupted,
}

/// Events on their way to the main loop, which sleeps on the descriptor.
#[derive(Debug, Clone)]
pub struct Outbox {
    pub events: Sender<Event>,
    pub wake: Arc<EventFd>,
}

impl Outbox {
    fn send(&self, event: Event) {
        let _ = self.events.send(event);
        let _ = self.wake.write(1);
    }
}

/// What all turns of a process share.
#[derive(Debug)]
pub struct Shared {
    pub identity: Identity,
    pub hooks: Hooks,
    pub transcript: Mutex<Transcript>,
}

/// A running turn, for its user.
#[derive(Debug)]
pub struct Handle {
    orders: Sender<Order>,
    wake: Arc<EventFd>,
}

impl Handle {
    pub fn order(&self, order: Order) {
        let _ = self.orders.send(order);
        if order == Order::Interrupt {
            let _ = self.wake.write(1);
        }
    }
}

/// Begins a turn. Its last event is `Ended`, or `Crash`.
pub fn start(shared: Arc<Shared>, prompt: String, plan: Plan, outbox: Outbox) -> std::io::Result<Handle> {
    let (orders, inbox) = mpsc::channel();
    let wake = Arc::new(EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
    let turn = Turn { shared, prompt, plan, outbox, inbox, wake: wake.clone() };
    std::thread::Builder::new().name("turn".into()).spawn(move || turn.run())?;
    Ok(Handle { orders, wake })
}

/// The user has broken the turn off.
struct Interrupted;

struct Turn {
    shared: Arc<Shared>,
    prompt: String,
    plan: Plan,
    outbox: Outbox,
    inbox: Receiver<Order>,
    wake: Arc<EventFd>,
}

impl Turn {
    fn run(self) {
        self.hook("UserPromptSubmit", json!({"prompt": self.prompt}));
        self.record(|transcript| transcript.user(&self.prompt));
        let outcome = self.work().unwrap_or_else(|Interrupted| {
            self.record(|transcript| transcript.interrupted("[Request interrupted by user]"));
            self.outbox.send(Event::Notice("  ⎿  Interrupted by user".into()));
            Outcome::Interrupted
        });
        self.outbox.send(Event::Ended(outcome));
    }

    fn work(&self) -> Result<Outcome, Interrupted> {
        if self.plan.ending == Ending::Stall {
            return self.pause(None).map(|()| Outcome::Answered);
        }
        if let Some(time) = self.plan.slow {
            self.stream_words(time)?;
        }
        self.pause(Some(Duration::ZERO))?;
        match self.plan.ending {
            Ending::Answer => self.answer(),
            Ending::Stall => self.pause(None).map(|()| Outcome::Answered),
            Ending::Crash { status } => {
                self.outbox.send(Event::Message);
                self.outbox.send(Event::Text("I have begun to look at th".into()));
                self.outbox.send(Event::Crash(status));
                self.pause(None).map(|()| Outcome::Failed)
            }
            Ending::Limit { reset } => {
                let limit = limits::five_hour(reset);
                self.fail(&limit.text, format!("  ⎿  {}", limit.text), "rate_limit", limit.record);
                Ok(Outcome::Failed)
            }
            Ending::ServerError => {
                let text = limits::SERVER_ERROR;
                let record = json!({"error": "server_error", "apiErrorStatus": 500});
                self.fail(text, format!("● {text}"), "server_error", record);
                Ok(Outcome::Failed)
            }
        }
    }

    fn fail(&self, text: &str, shown: String, error: &str, record: Value) {
        self.record(|transcript| transcript.error(text, record));
        self.outbox.send(Event::Notice(shown));
        self.hook("StopFailure", json!({"error": error, "last_assistant_message": text}));
    }

    /// Says a word every quarter of a second until the time is over.
    fn stream_words(&self, time: Duration) -> Result<(), Interrupted> {
        let end = Instant::now() + time;
        let mut said = String::new();
        self.outbox.send(Event::Message);
        for number in 0.. {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let word = format!("word{number} ");
            said.push_str(&word);
            self.outbox.send(Event::Text(word));
            self.pause(Some(left.min(Duration::from_millis(250))))?;
        }
        self.record(|transcript| transcript.assistant(said.trim_end()));
        Ok(())
    }

    fn answer(&self) -> Result<Outcome, Interrupted> {
        let block = block::find(&self.prompt);
        let reply = match block.or_else(|| self.plan.permission.then(|| "true".to_owned())) {
            Some(block) => self.run_block(&block)?,
            None => {
                let reply = format!("You said: {}", self.prompt);
                self.outbox.send(Event::Message);
                self.outbox.send(Event::Text(reply.clone()));
                reply
            }
        };
        self.record(|transcript| transcript.assistant(&reply));
        if let Some(time) = self.plan.background {
            let task = json!({"id": short_id(), "type": "subagent", "status": "running", "description": "demo background work"});
            self.stop(&reply, json!([task]));
            self.outbox.send(Event::Background);
            self.pause(Some(time))?;
        }
        self.stop(&reply, json!([]));
        Ok(Outcome::Answered)
    }

    fn stop(&self, reply: &str, background: Value) {
        let extra = json!({
            "stop_hook_active": false,
            "last_assistant_message": reply,
            "background_tasks": background,
            "session_crons": [],
        });
        self.hook("Stop", extra);
    }

    fn run_block(&self, block: &str) -> Result<String, Interrupted> {
        let id = format!("toolu_{}", Uuid::new_v4().simple());
        let tool = json!({"tool_name": "Bash", "tool_input": {"command": block}, "tool_use_id": id});
        self.record(|transcript| transcript.tool_use(&id, block));
        self.hook("PreToolUse", tool.clone());
        if self.plan.permission {
            self.ask(block, tool.clone())?;
        }
        self.outbox.send(Event::Message);
        let mut line_open = false;
        let show = |piece: String| {
            line_open = !piece.ends_with('\n') && (line_open || !piece.is_empty());
            self.outbox.send(Event::Text(piece));
        };
        let (output, failure) = match block::run(block, &self.shared.identity.cwd, self.wake.as_fd(), show) {
            Ok(block::Ended::Exited { output, failure }) => (output, failure),
            Ok(block::Ended::Interrupted) => return Err(Interrupted),
            Err(error) => (String::new(), Some(format!("could not run the block with sh: {error}"))),
        };
        let mut reply = output;
        if let Some(failure) = &failure {
            let divider = if reply.is_empty() { "" } else { "\n" };
            reply.push_str(&format!("{divider}{failure}"));
            self.outbox.send(Event::Text(format!("{}{failure}", if line_open { "\n" } else { "" })));
        }
        self.record(|transcript| transcript.tool_result(&id, &reply, failure.is_some()));
        let mut done = tool;
        done["tool_response"] = json!({"stdout": reply, "stderr": "", "interrupted": false});
        self.hook("PostToolUse", done);
        Ok(reply)
    }

    fn ask(&self, block: &str, tool: Value) -> Result<(), Interrupted> {
        self.outbox.send(Event::Ask(block.to_owned()));
        self.hook("PermissionRequest", tool);
        let message = json!({"message": "demo-agent needs your permission", "notification_type": "permission_prompt"});
        self.hook("Notification", message);
        match self.inbox.recv() {
            Ok(Order::Allow) => {
                self.outbox.send(Event::Running);
                Ok(())
            }
            Ok(Order::Deny | Order::Interrupt) | Err(_) => Err(Interrupted),
        }
    }

    /// Lets time pass, or for ever; an order ends it.
    fn pause(&self, time: Option<Duration>) -> Result<(), Interrupted> {
        let order = match time {
            Some(time) => match self.inbox.recv_timeout(time) {
                Ok(order) => Some(order),
                Err(mpsc::RecvTimeoutError::Timeout) => None,
                Err(mpsc::RecvTimeoutError::Disconnected) => Some(Order::Interrupt),
            },
            None => Some(self.inbox.recv().unwrap_or(Order::Interrupt)),
        };
        order.map_or(Ok(()), |_| Err(Interrupted))
    }

    fn hook(&self, name: &str, extra: Value) {
        if !self.plan.no_hooks {
            self.shared.hooks.fire(name, extra).wait();
        }
    }

    fn record(&self, write: impl FnOnce(&mut Transcript) -> std::io::Result<()>) {
        let mut transcript = self.shared.transcript.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = write(&mut transcript) {
            self.outbox.send(Event::Notice(format!("  ⎿  could not write the transcript: {error}")));
        }
    }
}

fn short_id() -> String {
    Uuid::new_v4().simple().to_string().chars().take(8).collect()
}
