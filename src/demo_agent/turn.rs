//! Runs one turn of the demo agent on a thread of its own.
//!
//! Takes the prompt, its [`Plan`] and the user's commands; emits [`Event`]s for the screen, hooks and transcript
//! records. Owns what it runs. Never draws.

use std::os::fd::AsFd;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::eventfd::{EfdFlags, EventFd};
use serde_json::{Value, json};
use uuid::Uuid;

use super::hooks::Hooks;
use super::limits::Told;
use super::modes::Plan;
use super::transcript::{Task, Transcript};
use super::{block, limits};
use crate::demo_agent::identity::Identity;

/// Pause between two words of a slow turn. Chosen: visibly at work, with a few words a second.
const WORD_EVERY: Duration = Duration::from_millis(250);

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
    /// The answer is complete; something runs in the background.
    Background,
    Ended(Outcome),
}

/// How a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Answered,
    Failed,
    /// By a limit, which leaves something to choose.
    Limited,
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

/// Begins a turn of `task`, in which the user has said `prompt`. Its last event is `Ended`.
pub fn start(shared: Arc<Shared>, prompt: String, task: Task, plan: Plan, outbox: Outbox) -> std::io::Result<Handle> {
    let (orders, inbox) = mpsc::channel();
    let wake = Arc::new(EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
    let turn = Turn { shared, prompt, task, plan, outbox, inbox, wake: wake.clone() };
    std::thread::Builder::new().name("turn".into()).spawn(move || turn.run())?;
    Ok(Handle { orders, wake })
}

/// Why a turn ends before its answer.
enum Stopped {
    /// The user has broken it off.
    Interrupted,
    Refused(Told),
}

use Stopped::{Interrupted, Refused};

struct Turn {
    shared: Arc<Shared>,
    prompt: String,
    task: Task,
    plan: Plan,
    outbox: Outbox,
    inbox: Receiver<Order>,
    wake: Arc<EventFd>,
}

impl Turn {
    fn run(self) {
        self.hook("UserPromptSubmit", json!({"prompt": self.prompt}));
        self.record(|transcript| transcript.user(&self.prompt));
        let outcome = self.work().unwrap_or_else(|stopped| match stopped {
            Interrupted => {
                self.record(|transcript| transcript.interrupted("[Request interrupted by user]"));
                self.outbox.send(Event::Notice("  ⎿  Interrupted by user".into()));
                Outcome::Interrupted
            }
            Refused(told) => self.fail(told),
        });
        self.outbox.send(Event::Ended(outcome));
    }

    fn work(&self) -> Result<Outcome, Stopped> {
        self.request()?;
        if let Some(time) = self.plan.slow {
            self.stream_words(time)?;
        }
        self.pause(Duration::ZERO)?;
        self.plan.refused.map_or_else(|| self.answer(), |refusal| Err(Refused(limits::told(refusal))))
    }

    /// Where a model would be asked: refused while the home's file says so.
    fn request(&self) -> Result<(), Stopped> {
        limits::in_force(&self.shared.identity.home).map_or(Ok(()), |told| Err(Refused(told)))
    }

    fn fail(&self, told: Told) -> Outcome {
        let Told { text, error, record, menu } = told;
        self.record(|transcript| transcript.error(&text, record));
        self.outbox.send(Event::Notice(limits::shown(&text)));
        self.hook("StopFailure", json!({"error": error, "last_assistant_message": text}));
        if menu { Outcome::Limited } else { Outcome::Failed }
    }

    /// Prints a word every quarter of a second until the time is over; a resumed task continues with its next word.
    fn stream_words(&self, time: Duration) -> Result<(), Stopped> {
        let mut said = String::new();
        let result = self.say_words(time, &mut said);
        if !said.is_empty() {
            self.record(|transcript| transcript.begun(said.trim_end()));
        }
        result
    }

    fn say_words(&self, time: Duration, said: &mut String) -> Result<(), Stopped> {
        self.outbox.send(Event::Message);
        for number in self.task.words.. {
            let begins = WORD_EVERY * u32::try_from(number).unwrap_or(u32::MAX);
            let left = time.saturating_sub(begins);
            if left.is_zero() {
                break;
            }
            self.request()?;
            let word = format!("word{number} ");
            said.push_str(&word);
            self.outbox.send(Event::Text(word));
            self.pause(left.min(WORD_EVERY))?;
        }
        Ok(())
    }

    fn answer(&self) -> Result<Outcome, Stopped> {
        let block = block::find(&self.task.prompt);
        let reply = match (&self.task.output, block.or_else(|| self.plan.permission.then(|| "true".to_owned()))) {
            (Some(output), _) => self.say(output.clone()),
            (None, Some(block)) => self.run_block(&block)?,
            (None, None) => self.say(format!("You said: {}", self.task.prompt)),
        };
        self.record(|transcript| transcript.assistant(&reply));
        if let Some(time) = self.plan.background {
            let task = json!({"id": short_id(), "type": "subagent", "status": "running", "description": "demo background work"});
            self.stop(&reply, json!([task]));
            self.outbox.send(Event::Background);
            self.pause(time)?;
        }
        self.stop(&reply, json!([]));
        Ok(Outcome::Answered)
    }

    fn say(&self, reply: String) -> String {
        self.outbox.send(Event::Message);
        self.outbox.send(Event::Text(reply.clone()));
        reply
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

    fn run_block(&self, block: &str) -> Result<String, Stopped> {
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
        // Its output goes to the model.
        self.request()?;
        Ok(reply)
    }

    fn ask(&self, block: &str, tool: Value) -> Result<(), Stopped> {
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

    /// Lets time pass; an order ends it.
    fn pause(&self, time: Duration) -> Result<(), Stopped> {
        match self.inbox.recv_timeout(time) {
            Err(mpsc::RecvTimeoutError::Timeout) => Ok(()),
            Ok(_) | Err(mpsc::RecvTimeoutError::Disconnected) => Err(Interrupted),
        }
    }

    fn hook(&self, name: &str, extra: Value) {
        self.shared.hooks.fire(name, extra).wait();
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
