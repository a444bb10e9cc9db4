//! The owner: the single task that changes the supervisor's state.
//! Takes events that services propose and texts that people write; publishes the snapshot that everybody reads. Owns
//! the world and its journal: whatever must survive the daemon is saved before it is shown. Never touches tmux, a
//! queue file or an agent.

mod accounts;
mod ask;
mod clock;
mod hands;
mod persist;
mod providers;
mod rights;
mod session;
mod task;
mod world;

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};

pub use self::{
    hands::{Hands, NewId},
    persist::{clock, load},
    world::{Refusal, World},
};
use crate::{
    model::{
        command::{Refused, RefusedKind, Scope, Writer},
        event::{About, Event, Kind, Reason},
        snapshot::Snapshot,
    },
    ports::{Clock, StateStore},
};

/// Proposals and requests that may wait for the owner; a full queue makes the sender wait. Chosen: four times the
/// largest batch (`daemon/backend.rs`).
const QUEUE: usize = 1024;

/// A handle to the owner.
#[derive(Debug, Clone)]
pub struct Live {
    messages: mpsc::Sender<Message>,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    readers: Readers,
}

/// Everybody who waits for snapshots, each with its own channel: they are woken in the order of registration, which a
/// shared channel does not guarantee, so that a simulated run replays. `None` when the owner has stopped.
type Readers = Arc<Mutex<Option<Vec<watch::Sender<Arc<Snapshot>>>>>>;

enum Message {
    Change(Change),
    Ask { scope: Scope, text: Vec<u8>, writer: Option<Writer>, reply: oneshot::Sender<Result<(), Refused>> },
    Stop(oneshot::Sender<()>),
}

enum Change {
    /// All or nothing.
    Propose(Vec<Event>, oneshot::Sender<Result<(), Refusal>>),
    /// Each independently; refusals are only logged.
    Report(Vec<Event>, oneshot::Sender<()>),
}

impl Live {
    /// Starts the owner with a loaded world.
    pub fn start(mut world: World, clock: Arc<dyn Clock>, store: Arc<dyn StateStore>) -> Self {
        world.follow(clock.timeline(), clock.now());
        let (messages, inbox) = mpsc::channel(QUEUE);
        let (publish, snapshot) = watch::channel(Arc::new(world.snapshot.clone()));
        let readers: Readers = Arc::new(Mutex::new(Some(Vec::new())));
        let owner = Owner {
            world,
            clock,
            store,
            checkpoint_due: true,
            publish,
            readers: readers.clone(),
            unsaved_log: String::new(),
            waiting: Vec::new(),
        };
        tokio::spawn(owner.run(inbox));
        Self { messages, snapshot, readers }
    }

    /// The current snapshot.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.borrow().clone()
    }

    /// A receiver that wakes on each new snapshot.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        let (sender, receiver) = watch::channel(self.snapshot());
        if let Some(readers) = readers.as_mut() {
            readers.retain(|reader| !reader.is_closed());
            readers.push(sender);
        }
        receiver
    }

    /// Proposes events that belong together: all apply or none. Once this returns `Ok`, they are saved and shown.
    ///
    /// # Errors
    /// If one of them does not apply, the state can't be saved, or the owner has stopped.
    pub async fn propose(&self, events: Vec<Event>) -> Result<(), Refusal> {
        let (reply, answer) = oneshot::channel();
        let stopped = || Refusal::Stopped;
        self.messages.send(Message::Change(Change::Propose(events, reply))).await.map_err(|_| stopped())?;
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Reports independent events; those that don't apply are dropped.
    pub async fn report(&self, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        let (reply, answer) = oneshot::channel();
        if self.messages.send(Message::Change(Change::Report(events, reply))).await.is_ok() {
            let _ = answer.await;
        }
    }

    /// Carries out a write to a control file; returns when it is done or, after `within`, begun.
    ///
    /// # Errors
    /// If any line is invalid or can't be done; then nothing of it is begun.
    pub async fn ask(
        &self,
        scope: Scope,
        text: Vec<u8>,
        writer: Option<Writer>,
        within: Duration,
    ) -> Result<(), Refused> {
        let (reply, answer) = oneshot::channel();
        let stopped = || Refused::new(RefusedKind::Failed, "the daemon is stopping");
        self.messages.send(Message::Ask { scope, text, writer, reply }).await.map_err(|_| stopped())?;
        match tokio::time::timeout(within, answer).await {
            Ok(answered) => answered.unwrap_or_else(|_| Err(stopped())),
            Err(_begun) => Ok(()),
        }
    }

    /// Saves and stops the owner; later calls fail.
    pub async fn stop(&self) {
        let (reply, answer) = oneshot::channel();
        if self.messages.send(Message::Stop(reply)).await.is_ok() {
            let _ = answer.await;
        }
    }
}

/// A writer that waits until all its requests are carried out.
struct Waiting {
    requests: Vec<u64>,
    /// Its index among the outcomes. A query whether a text could be accepted is listed there if the answer is no.
    outcome: Option<u64>,
    scope: Scope,
    writer: Option<Writer>,
    reply: Option<oneshot::Sender<Result<(), Refused>>>,
    /// Outcomes of the completed requests.
    done: Result<Vec<String>, Refused>,
}

struct Owner {
    world: World,
    clock: Arc<dyn Clock>,
    store: Arc<dyn StateStore>,
    /// The next save is a checkpoint, and the journal restarts: it includes what the start recovered from the last one.
    checkpoint_due: bool,
    publish: watch::Sender<Arc<Snapshot>>,
    readers: Readers,
    /// Event lines that could not be written yet.
    unsaved_log: String,
    waiting: Vec<Waiting>,
}

/// How soon a wall-clock jump is noticed. Chosen: what depends on the wall clock is due in minutes or hours.
const CLOCK_EVERY: Duration = Duration::from_secs(5);
/// Journal size, in bytes, at which a checkpoint is written. Chosen: a start replays it in a moment, and checkpoints
/// stay rare.
const JOURNAL_LONG: u64 = 4 * 1024 * 1024;
/// Bytes of event lines kept for a log that can't be written. Chosen: some 3000 lines, the time it takes to free a
/// full disk.
const UNSAVED_LOG_MAX: usize = 1024 * 1024;

impl Drop for Owner {
    fn drop(&mut self) {
        // Who waits for pictures learns that none will come.
        *self.readers.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Owner {
    /// Publishes the current snapshot.
    fn show(&self) {
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshot = Arc::new(self.world.snapshot.clone());
        self.publish.send_replace(snapshot.clone());
        for reader in readers.iter_mut().flatten() {
            reader.send_replace(snapshot.clone());
        }
    }

    async fn run(mut self, mut inbox: mpsc::Receiver<Message>) {
        let mut message = self.next(&mut inbox).await;
        while let Some(this) = message.take() {
            match this {
                Message::Change(first) => {
                    // Reactions to the last snapshot come from many services at once: they are saved in one batch.
                    tokio::task::yield_now().await;
                    let mut changes = vec![first];
                    message = loop {
                        match inbox.try_recv() {
                            Ok(Message::Change(change)) => changes.push(change),
                            Ok(other @ (Message::Ask { .. } | Message::Stop(_))) => break Some(other),
                            Err(_) => break None,
                        }
                    };
                    self.change(changes).await;
                }
                Message::Ask { scope, text, writer, reply } => self.ask(&scope, &text, writer, reply).await,
                Message::Stop(reply) => {
                    let mut next = self.world.clone();
                    next.note(self.clock.now(), Kind::Daemon, Reason::Stopped, About::daemon(), "stopped".to_owned());
                    self.checkpoint_due = true;
                    let _ = self.commit(next).await;
                    let _ = reply.send(());
                    return;
                }
            }
            if message.is_none() {
                message = self.next(&mut inbox).await;
            }
        }
    }

    /// Waits for the next message, and checks the clock meanwhile: a wall-clock jump matters even without messages.
    async fn next(&mut self, inbox: &mut mpsc::Receiver<Message>) -> Option<Message> {
        loop {
            match tokio::time::timeout(CLOCK_EVERY, inbox.recv()).await {
                Ok(message) => return message,
                Err(_) if self.clock.timeline() != self.world.snapshot.timeline => {
                    let mut next = self.world.clone();
                    self.time(&mut next);
                    let _ = self.commit(next).await;
                }
                Err(_) => {}
            }
        }
    }

    /// The current time, also for the next world.
    fn time(&self, next: &mut World) -> Timestamp {
        let now = self.clock.now();
        next.follow(self.clock.timeline(), now);
        now
    }

    /// Applies pending changes independently and saves them in one batch: a save costs more than they do.
    async fn change(&mut self, changes: Vec<Change>) {
        let mut next = self.world.clone();
        let now = self.time(&mut next);
        let (mut proposed, mut reported) = (Vec::new(), Vec::new());
        for change in changes {
            match change {
                Change::Propose(events, reply) => {
                    let mut trial = next.clone();
                    match events.iter().try_for_each(|event| trial.apply(event, now)) {
                        Ok(()) => {
                            next = trial;
                            self.answer(&mut next, &events, now);
                            proposed.push(reply);
                        }
                        Err(refusal) => drop(reply.send(Err(refusal))),
                    }
                }
                Change::Report(events, reply) => {
                    let taken = report(&mut next, events, now);
                    self.answer(&mut next, &taken, now);
                    reported.push(reply);
                }
            }
        }
        if proposed.is_empty() && reported.is_empty() {
            return;
        }
        let saved = self.commit(next).await;
        match &saved {
            Ok(()) => self.reply(),
            Err(refusal) => tracing::warn!(%refusal, "events dropped; they will be reported again"),
        }
        for reply in proposed {
            let _ = reply.send(saved.clone());
        }
        for reply in reported {
            let _ = reply.send(());
        }
    }

    /// Saves what must outlive the daemon, then shows the new world. After a failure the old world stays.
    async fn commit(&mut self, mut next: World) -> Result<(), Refusal> {
        match self.save(&next).await {
            Ok(None) => {}
            Ok(Some(number)) => {
                next.journal = number;
                next.snapshot.health.remove("state");
            }
            Err(error) => {
                let text = format!(
                    "the state can't be written: {error}; nothing new is begun until it can (is the disk full?)"
                );
                tracing::error!("{text}");
                self.world.snapshot.health.insert("state".to_owned(), text.clone());
                self.world.snapshot.seq += 1;
                self.show();
                return Err(Refusal::Unsaved(text));
            }
        }
        self.unsaved_log.push_str(&next.take_log());
        if !self.unsaved_log.is_empty() {
            match self.store.append_events(&self.unsaved_log).await {
                Ok(()) => self.unsaved_log.clear(),
                // The log is a record, not the truth: work continues without it.
                Err(error) => {
                    tracing::warn!(%error, "the event log can't be written; lines are kept and tried again");
                    let excess = self.unsaved_log.len().saturating_sub(UNSAVED_LOG_MAX);
                    let cut = self.unsaved_log.char_indices().map(|(i, _)| i).find(|i| *i >= excess).unwrap_or(0);
                    self.unsaved_log.drain(..cut);
                }
            }
        }
        next.snapshot.seq += 1;
        next.snapshot.at = self.clock.wall();
        self.world = next;
        self.show();
        Ok(())
    }

    /// Saves the differences from the current world; returns the number of the record, `None` if nothing differs.
    async fn save(&mut self, next: &World) -> io::Result<Option<u64>> {
        let before = (!self.checkpoint_due).then_some(&self.world);
        let Some(record) = persist::record(before, next, || self.clock.saved())? else { return Ok(None) };
        let number = record.seq;
        if self.checkpoint_due {
            self.store.checkpoint(&persist::checkpoint(record)?).await?;
            self.checkpoint_due = false;
        } else {
            // After a failure the disk may lack deferred records too, which the next sync would not tell.
            self.checkpoint_due = true;
            self.checkpoint_due = self.store.append(&record.line()?, !record.deferred).await? >= JOURNAL_LONG;
        }
        Ok(Some(number))
    }

    async fn ask(
        &mut self,
        scope: &Scope,
        text: &[u8],
        writer: Option<Writer>,
        reply: oneshot::Sender<Result<(), Refused>>,
    ) {
        let mut next = self.world.clone();
        let now = self.time(&mut next);
        let result = ask::carry_out(&mut next, scope, text, writer.as_ref(), now);
        if result.is_err() {
            next = self.world.clone();
        }
        let told = result.as_ref().map(|_| ()).map_err(Clone::clone);
        let asks = matches!(scope, Scope::Input(_)) && text.is_empty() && told.is_ok();
        let outcome = (!asks).then(|| next.outcome(now, scope, text, writer.clone(), &told));
        let committed = self.commit(next).await;
        let result = match (result, committed) {
            (Ok(_), Err(refusal)) => {
                let refused = Refused::new(RefusedKind::Failed, refusal.to_string());
                // What could not be saved is not shown; that it was refused is.
                self.world.outcome(now, scope, text, writer.clone(), &Err(refused.clone()));
                self.show();
                Err(refused)
            }
            (result, Ok(()) | Err(_)) => result,
        };
        match result {
            Ok(requests) if !requests.is_empty() => {
                let (scope, reply) = (scope.clone(), Some(reply));
                self.waiting.push(Waiting { requests, outcome, scope, writer, reply, done: Ok(Vec::new()) });
            }
            Ok(_) => {
                let _ = reply.send(Ok(()));
            }
            Err(refused) => {
                let _ = reply.send(Err(refused));
            }
        }
    }

    /// Records in the new world the outcomes of writes whose requests are done now.
    fn answer(&mut self, next: &mut World, events: &[Event], now: Timestamp) {
        for event in events {
            let Event::RequestDone { id, result } = event else { continue };
            for waiting in self.waiting.iter_mut().filter(|waiting| waiting.requests.contains(id)) {
                waiting.requests.retain(|request| request != id);
                match (result, &mut waiting.done) {
                    (Ok(text), Ok(texts)) => texts.push(text.clone()),
                    (Err(refused), done) => *done = Err(refused.clone()),
                    (Ok(_), Err(_)) => {}
                }
                match (waiting.outcome, &waiting.done) {
                    (Some(outcome), done) => next.outcome_done(outcome, done),
                    (None, Err(refused)) => {
                        let (writer, refused) = (waiting.writer.clone(), Err(refused.clone()));
                        next.outcome(now, &waiting.scope, b"", writer, &refused);
                    }
                    (None, Ok(_)) => {}
                }
            }
        }
    }

    /// Answers writers, once the outcome is saved and shown.
    fn reply(&mut self) {
        for waiting in self.waiting.iter_mut().filter(|waiting| waiting.requests.is_empty()) {
            if let Some(reply) = waiting.reply.take() {
                let _ = reply.send(waiting.done.clone().map(|_| ()));
            }
        }
        self.waiting.retain(|waiting| waiting.reply.is_some());
    }
}

/// Applies each event independently; returns the accepted ones.
fn report(next: &mut World, events: Vec<Event>, now: Timestamp) -> Vec<Event> {
    let mut taken = Vec::with_capacity(events.len());
    for event in events {
        let mut trial = next.clone();
        match trial.apply(&event, now) {
            Ok(()) => {
                *next = trial;
                taken.push(event);
            }
            Err(refusal) => tracing::debug!(%refusal, ?event, "event not taken"),
        }
    }
    taken
}
