//! Connects the mount and the HTTP interface to the daemon.
//! Takes writes to control files and changes in queue directories from the mount's threads; answers in bounded time.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
};

use crate::{
    config::Config,
    fs::{self, Backend, Place, Touched},
    http,
    linux::process::{Stat, thread_group},
    live::Live,
    model::{
        command::{Refused, RefusedKind, Scope, Writer},
        event::{About, Event, Kind, Note, Reason},
        permits,
        session::Role,
        snapshot::Snapshot,
        task::{Phase, TaskEvent},
        writer::{By, Known, Mark, place},
    },
    sys::{process::lineage, tmux::Tmux},
};

/// How much longer than `control.reply_within` a writer may wait when the owner itself is slow (a stalled disk).
/// Chosen: with the default of 2 s, 5 s in all.
const OWNER_SLACK: Duration = Duration::from_secs(3);

/// Reports that may wait for the owner; beyond them a rescan finds what they would have reported. Chosen: as
/// `sys/watch.rs`.
const WAITING: usize = 4096;
/// Reports passed to the owner in one batch. Chosen: a batch is one save, and a larger one would delay others.
const AT_ONCE: usize = 256;

#[derive(Clone)]
pub struct DaemonBackend {
    live: Live,
    runtime: Handle,
    config: watch::Receiver<Arc<Config>>,
    reports: mpsc::Sender<Event>,
    missed: Arc<AtomicBool>,
    processes: Processes,
}

impl DaemonBackend {
    /// Must be called in the runtime that answers are waited for in.
    #[must_use]
    pub fn new(live: Live, config: watch::Receiver<Arc<Config>>, processes: Processes) -> Self {
        let (reports, waiting) = mpsc::channel(WAITING);
        let missed = Arc::new(AtomicBool::new(false));
        let runtime = Handle::current();
        runtime.spawn(report(live.clone(), waiting, missed.clone()));
        Self { live, runtime, config, reports, missed, processes }
    }

    /// In the order of the calls; never waits.
    fn tell(&self, event: Event) {
        if self.reports.try_send(event).is_err() && !self.missed.swap(true, Ordering::SeqCst) {
            tracing::warn!(
                "the supervisor takes no reports of the mount, as when its disk stalls: it will look at the queues again"
            );
        }
    }

    /// Moves are verbs: `events` names who made one. A rename by an editor's save isn't a verb.
    fn moved(&self, from: &Place, to: &Place, writer: &Writer) {
        let (was, is) = (from.task(), to.task());
        if was == is || (was.is_none() || is.is_none()) && (&from.project, &from.dir) == (&to.project, &to.dir) {
            return;
        }
        if let Some(key) = was {
            self.note(&key, Reason::Moved, format!("moved to {}", named(to)), writer);
        }
        if let Some(key) = is {
            self.note(&key, Reason::Moved, format!("moved from {}", named(from)), writer);
        }
    }

    fn note(&self, about: impl Into<About>, reason: Reason, text: String, writer: &Writer) {
        let writer = Some(writer.clone());
        self.tell(Event::Note(Note { writer, ..Note::new(Kind::Verb, reason, about, text) }));
    }
}

/// Forwards reports in order, and triggers a rescan if there were too many.
async fn report(live: Live, mut waiting: mpsc::Receiver<Event>, missed: Arc<AtomicBool>) {
    let mut events = Vec::new();
    while waiting.recv_many(&mut events, AT_ONCE).await > 0 {
        live.report(std::mem::take(&mut events)).await;
        if waiting.is_empty() && missed.swap(false, Ordering::SeqCst) {
            let _ = live.ask(Scope::Daemon, b"rescan\n".to_vec(), None, OWNER_SLACK).await;
        }
    }
}

/// How a place is named to people.
fn named(place: &Place) -> String {
    format!("{}:{}", place.project, place.dir.join(&place.name).display())
}

/// What of processes the mount's writers are placed by.
#[derive(Clone)]
pub struct Processes {
    pub tmux: Arc<Tmux>,
    /// The server is ours alone, and takes in every orphan.
    pub server_is_ours: bool,
    pub mountpoint: PathBuf,
    pub unit: Option<String>,
    pub leads_unit: bool,
    pub mark: Mark,
}

impl Processes {
    #[must_use]
    pub fn new(tmux: Arc<Tmux>, server_is_ours: bool, mountpoint: PathBuf, mark: Mark) -> Self {
        let unit = lineage::unit_of(std::process::id()).map(|unit| unit.name);
        Self { tmux, server_is_ours, mountpoint, unit, leads_unit: lineage::leads_unit(), mark }
    }

    fn known(&self, snapshot: &Snapshot) -> Known {
        let server = self.tmux.server_pid();
        let agents = snapshot.sessions.values().filter_map(|session| {
            let pid = session.phase.incarnation()?.pid;
            // A person's session has its agent below a shell of his.
            let starter = server.filter(|_| session.role == Role::Pool);
            Some((session.name.clone(), pid, starter))
        });
        Known {
            server: server.filter(|_| self.server_is_ours),
            agents: agents.collect(),
            unit: self.unit.clone(),
            leads_unit: self.leads_unit,
            mark: self.mark,
        }
    }

    fn placed(&self, mut writer: Writer, snapshot: &Snapshot) -> Writer {
        let lineage = lineage::read(writer.pid, &self.mountpoint);
        (writer.by, writer.session) = place(&lineage, &self.known(snapshot));
        // Somebody else of this machine is no person whose right this is: tasks run as the owner.
        let owner = nix::unistd::geteuid().as_raw();
        if writer.uid != owner && writer.uid != 0 {
            writer.by = writer.by.min(By::Unknown);
        }
        writer
    }
}

impl Backend for DaemonBackend {
    fn snapshot(&self) -> Arc<Snapshot> {
        self.live.snapshot()
    }

    fn placed(&self, writer: Writer) -> Writer {
        self.processes.placed(writer, &self.live.snapshot())
    }

    fn may_speak(&self, scope: &Scope, writer: &Writer) -> Result<(), Refused> {
        // Asked for nothing, so that the refusal stands where all do: who may not, and an agent that could take no text now.
        self.control(scope.clone(), b"", writer)
    }

    fn may_be(&self, place: &Place, text: &[u8], writer: &Writer) -> Result<(), Refused> {
        // Of whom it isn't known who it is, the task is held.
        let Some(key) = place.task().filter(|_| writer.by != By::Unknown) else { return Ok(()) };
        let snapshot = self.live.snapshot();
        let agent = permits::bound(&snapshot.rights, &key.id, text).and_then(|bound| bound.agent);
        let Some(hold) = snapshot.rights.against(agent.as_ref(), writer.by) else { return Ok(()) };
        let told = format!("refused: {hold}");
        if snapshot.recent.last().is_none_or(|line| line.text != told) {
            self.note(&key, Reason::Refused, told, writer);
        }
        Err(Refused::new(RefusedKind::NotPermitted, hold.to_string()))
    }

    fn wrote(&self, place: &Place, text: &[u8], writer: &Writer) {
        if let Some(key) = place.task() {
            let origin = permits::origin(&self.live.snapshot(), &key, writer, text);
            self.tell(Event::Origin(key, origin));
        }
    }

    fn control(&self, scope: Scope, text: &[u8], writer: &Writer) -> Result<(), Refused> {
        // A text for an agent comes when its writer may be gone; it was placed when the writer began.
        let writer = if let Scope::Input(_) = scope { writer.clone() } else { self.placed(writer.clone()) };
        let within = self.config.borrow().control.reply_within;
        let asked = self.live.ask(scope, text.to_vec(), Some(writer), within);
        let slow = || Refused::new(RefusedKind::TryAgain, "the supervisor does not answer; is its disk stalled?");
        self.runtime
            .block_on(async { tokio::time::timeout(within + OWNER_SLACK, asked).await })
            .unwrap_or_else(|_| Err(slow()))
    }

    fn admits(&self, place: &Place) -> Result<(), Refused> {
        let Some(key) = place.task() else { return Ok(()) };
        let most = u64::from(self.config.borrow().dispatcher.max_queued);
        let snapshot = self.live.snapshot();
        let known = snapshot.tasks.get(&key).is_some_and(|task| !matches!(task.phase, Phase::Finished(_)));
        let open: u64 = snapshot.tasks.open_counts(&key.project).iter().sum();
        if known || open < most {
            return Ok(());
        }
        let text = format!(
            "project {} has {open} tasks in its inbox; at most {most} are taken (dispatcher.max_queued)",
            key.project
        );
        Err(Refused::new(RefusedKind::Full, text))
    }

    fn touched(&self, change: &Touched, writer: &Writer) {
        match change {
            // The disk's own events wake the queue; what they don't tell is who moved, and that a removal was meant.
            Touched::Renamed { from, to } => self.moved(from, to, writer),
            Touched::Exchanged(one, other) => {
                self.moved(one, other, writer);
                self.moved(other, one, writer);
            }
            Touched::Removed(place) => {
                if let Some(key) = place.task() {
                    self.note(&key, Reason::Removed, "removed from inbox".to_owned(), writer);
                    self.tell(Event::Task(key, TaskEvent::Vanished { by_verb: true }));
                }
            }
            Touched::Refused { at, text } => {
                let about = at.task().map_or_else(|| About::words(named(at)), |key| About::from(&key));
                self.note(about, Reason::Refused, format!("refused: {text}"), writer);
            }
            Touched::Created(_)
            | Touched::Opened { .. }
            | Touched::Closed { .. }
            | Touched::Changed(_)
            | Touched::Linked(_) => {}
        }
    }

    fn process(&self, thread: u32) -> Option<fs::Process> {
        let pid = thread_group(thread)?;
        Some(fs::Process { pid, start: Stat::read(pid)?.start })
    }

    fn config_text(&self) -> String {
        let config = self.config.borrow();
        // A configuration that was read can be written.
        serde_yaml::to_string(config.as_ref()).unwrap_or_default()
    }
}

impl http::Backend for DaemonBackend {
    fn snapshot(&self) -> Arc<Snapshot> {
        self.live.snapshot()
    }

    fn idle_timeout(&self) -> Duration {
        self.config.borrow().watcher.idle_timeout
    }

    fn listening(&self, outcome: Result<SocketAddr, String>) {
        self.tell(Event::Health { topic: "http".to_owned(), problem: outcome.err() });
    }
}
