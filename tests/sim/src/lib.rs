//! The outside world in memory: every port, over one `FakeWorld` that outlives the daemons that run on it.
//! Takes calls of the ports and what a test makes happen; returns answers, signals, screens, and a record of what
//! every agent was given. Seeded: the same seed and calls give the same world. Owns no daemon logic.

mod agents;
mod disk;
mod homes;
mod notices;
mod program;
mod providers;
mod rng;
mod script;
mod state;
mod talk;
mod terminal;
mod watch;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use tokio::{
    sync::{Notify, broadcast},
    time::Instant,
};

pub use self::{
    disk::File,
    homes::{FakeAccount, Strike},
    notices::Delivery,
    program::{Program, State},
    providers::{FakeJob, FakeProvider},
    rng::Rng,
    script::{Beat, Script},
    talk::Conversation,
    watch::{Promises, Saved},
};
use claude_failover::{
    model::{
        agent::LaunchRequest,
        ids::{AccountName, ProjectName, ProviderName, SessionName, TaskId},
        journal::{State as SavedState, Stored},
        pane::TerminalHint,
        queue::QueueDir,
        steady::{Reading, Saved as SavedClock, Steady, Timeline},
        swap::Swapped,
    },
    ports::Clock,
};

/// Simulated time begins here.
const BEGIN: i64 = 1_800_000_000;

/// Port calls without any time passing after which a service must be going round in circles.
const CALLS_WITHOUT_TIME: u64 = 20_000;

/// A prompt that an agent received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reception {
    pub text: String,
    /// Nanoseconds since the world began.
    pub at: u64,
    pub pid: u32,
    pub session: SessionName,
    pub incarnation: String,
}

/// When the daemon dies: at the numbered effect, which is done or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crash {
    pub at: u64,
    pub applied: bool,
}

/// What goes wrong with the world for a while, as chances in a thousand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// A disk call fails (no space).
    pub disk: u64,
    /// A failing disk call was done all the same.
    pub disk_applied: u64,
    /// A terminal call gets no answer.
    pub terminal: u64,
    /// A start is refused.
    pub open: u64,
    /// A notice is refused, hangs, or is taken and the answer lost.
    pub notices: u64,
}

/// What happened, counted over a run: a simulation in which nothing was at risk proves nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub swallowed: u64,
    pub collapsed: u64,
    pub programs: u64,
    pub deaths: u64,
    pub receptions: u64,
    /// Jobs that providers began.
    pub orders: u64,
    pub faults: u64,
    /// Accounts that were struck by a limit or lost their login.
    pub strikes: u64,
    /// Texts about limits on screens where no limit was.
    pub quotes: u64,
    pub swaps: u64,
    pub rolled_back: u64,
    pub partial: u64,
    pub proactive: u64,
    pub all_out: u64,
    /// Limits that passed.
    pub resets: u64,
    /// Suspicions that came to nothing.
    pub cleared: u64,
    /// Pool sessions that went on under another account, and those of them that no limit had stopped.
    pub moved: u64,
    pub moved_at_work: u64,
    pub dedicated_moved: u64,
    pub notices: u64,
    /// Limits that a person was told of.
    pub limits_told: u64,
    pub ends_told: u64,
    /// Results that went into archives, and those of them that stood there already: a crash came between.
    pub archived: u64,
    pub archived_again: u64,
    /// Power cuts that took something of the journal.
    pub deferred_lost: u64,
}

/// The world. Cheap to share: `Arc<FakeWorld>` is every port.
pub struct FakeWorld {
    inner: Mutex<Inner>,
    files: Notify,
    evidence: Notify,
    agenda: Notify,
    crash: Notify,
    hints: broadcast::Sender<TerminalHint>,
}

/// What is in the world. Public through `FakeWorld::with`, for tests that make things happen and look at what is there.
pub struct Inner {
    pub rng: Rng,
    /// Nanoseconds since the world began, as of the last call.
    pub now: u64,
    pub disk: BTreeMap<(ProjectName, QueueDir, String), File>,
    /// What stands in archives: project, directory, month, and the file's name in it.
    pub archives: BTreeMap<(ProjectName, QueueDir, String, String), Vec<u8>>,
    /// What of the daemon's state is on disk, whole.
    pub stored: Stored,
    /// So much of the journal outlives a power cut, and the state that this makes.
    synced: usize,
    durable: SavedState,
    /// The machine starts anew before the next daemon.
    pub power_cut: bool,
    /// What stands behind the journal and was never told to be saved.
    torn: Vec<u8>,
    /// The present daemon has written a checkpoint: what an earlier one left is not added to.
    begun: bool,
    /// The state as it was saved last.
    pub state: SavedState,
    pub set_aside: u32,
    pub events: String,
    pub panes: BTreeMap<SessionName, terminal::FakePane>,
    pub programs: BTreeMap<u32, Program>,
    pub receptions: Vec<Reception>,
    /// Promises that were broken, as far as the world itself can see them.
    pub violations: Vec<String>,
    pub tally: Tally,
    pub faults: Faults,
    /// Agents do nothing odd any more.
    pub calm: bool,
    /// Chooses the script of the next agents, before chance does.
    pub scripts: VecDeque<Script>,
    /// Longest delay of a port call in milliseconds; 0 for none.
    pub latency: u64,
    /// Effects done so far, over all daemons.
    pub ops: u64,
    pub crash: Option<Crash>,
    /// The operator's sessions.
    pub dedicated: BTreeSet<SessionName>,
    /// The sessions that are the daemon's to start and end.
    pub pool: BTreeSet<SessionName>,
    /// Messages that a person asked the daemon to type into a session.
    pub asked_to_type: BTreeSet<SessionName>,
    /// The accounts as they really are.
    pub accounts: BTreeMap<AccountName, FakeAccount>,
    pub providers: BTreeMap<ProviderName, FakeProvider>,
    /// What providers were given, and when.
    pub orders: Vec<(u64, ProviderName, String)>,
    /// Where the operator's link leads.
    pub link: Option<AccountName>,
    /// What agents have on disk.
    pub conversations: BTreeMap<String, Conversation>,
    /// Tasks whose last turn an agent has brought to its end.
    pub completed: BTreeSet<String>,
    /// How often in a thousand times a limit is only on the screen.
    pub shown_only: u64,
    /// Until when every request is answered with a server's error.
    pub storm_until: u64,
    pub promises: Promises,
    /// Swaps that people asked for.
    pub swaps_asked: u64,
    /// A person said that a half done swap is put right.
    pub clear_asked: bool,
    /// What the daemon saved last.
    pub saved: Saved,
    /// Swaps that are over.
    ended: Vec<Swapped>,
    /// Where the operator's link led when the last swap began.
    link_before: Option<AccountName>,
    /// The account whose links were found whole at the last look.
    ensured: Option<AccountName>,
    /// Conversations of persons' agents that were ended to go on elsewhere.
    left: BTreeMap<SessionName, Option<String>>,
    /// How long the machine has slept.
    jumped: u64,
    /// How far the wall's clock is wrong, in seconds.
    set: i64,
    /// The daemon's clock, from its start on.
    steady: Option<Steady>,
    /// Starts of the machine.
    boots: u64,
    /// Notices that people got.
    pub delivered: Vec<Delivery>,
    /// Daemons that are gone.
    crashes: u64,
    /// A notice was refused, or an answer lost.
    notices_failed: bool,
    /// What the daemon did, for a person who reads a failing run.
    pub trace: Vec<String>,
    launches: BTreeMap<String, LaunchRequest>,
    hinted: VecDeque<Option<(ProjectName, TaskId)>>,
    due: BTreeMap<(u64, u64), program::Due>,
    next: u64,
    last_change: u64,
    terminal_down_until: u64,
    crashed: bool,
    calls: u64,
    calls_at: u64,
    /// When the present runtime began, in nanoseconds of the world.
    offset: u64,
    started: Option<Instant>,
    woken: Woken,
}

/// Who has to be told after the lock is open again.
#[derive(Default)]
struct Woken {
    files: bool,
    evidence: bool,
    agenda: bool,
    panes: bool,
    server: bool,
}

impl FakeWorld {
    #[must_use]
    pub fn new(seed: u64) -> Arc<Self> {
        let inner = Inner {
            rng: Rng::new(seed),
            now: 0,
            disk: BTreeMap::new(),
            archives: BTreeMap::new(),
            stored: Stored::default(),
            synced: 0,
            durable: SavedState::new(),
            power_cut: false,
            torn: Vec::new(),
            begun: false,
            state: SavedState::new(),
            set_aside: 0,
            events: String::new(),
            panes: BTreeMap::new(),
            programs: BTreeMap::new(),
            receptions: Vec::new(),
            violations: Vec::new(),
            tally: Tally::default(),
            faults: Faults::default(),
            calm: false,
            scripts: VecDeque::new(),
            latency: 0,
            ops: 0,
            crash: None,
            dedicated: BTreeSet::new(),
            pool: BTreeSet::new(),
            asked_to_type: BTreeSet::new(),
            accounts: BTreeMap::new(),
            providers: BTreeMap::new(),
            link: None,
            conversations: BTreeMap::new(),
            completed: BTreeSet::new(),
            orders: Vec::new(),
            shown_only: 0,
            storm_until: 0,
            promises: Promises::default(),
            swaps_asked: 0,
            clear_asked: false,
            saved: Saved::default(),
            ended: Vec::new(),
            link_before: None,
            ensured: None,
            left: BTreeMap::new(),
            jumped: 0,
            set: 0,
            steady: None,
            boots: 0,
            delivered: Vec::new(),
            crashes: 0,
            notices_failed: false,
            trace: Vec::new(),
            launches: BTreeMap::new(),
            hinted: VecDeque::new(),
            due: BTreeMap::new(),
            next: 100,
            last_change: 0,
            terminal_down_until: 0,
            crashed: false,
            calls: 0,
            calls_at: 0,
            offset: 0,
            started: None,
            woken: Woken::default(),
        };
        Arc::new(Self {
            inner: Mutex::new(inner),
            files: Notify::new(),
            evidence: Notify::new(),
            agenda: Notify::new(),
            crash: Notify::new(),
            hints: broadcast::channel(64).0,
        })
    }

    /// A new daemon begins in this runtime, whose clock must be paused. Time goes on from where the world is, `after` what
    /// passed without a daemon.
    pub fn attach(self: &Arc<Self>, after: Duration) {
        let mut inner = self.lock();
        let now = inner.now.saturating_add(nanos(after));
        inner.started = None;
        inner.advance(now);
        inner.offset = inner.now;
        inner.started = Some(Instant::now());
        inner.crashed = false;
        inner.begun = false;
        inner.hinted.clear();
        drop(inner);
        let world = self.clone();
        tokio::spawn(async move { world.keep_time().await });
    }

    /// The daemon is gone: what it still calls has no effect.
    pub fn detach(&self) {
        let mut inner = self.lock();
        inner.crashes += u64::from(!inner.crashed);
        inner.crashed = true;
        inner.started = None;
        inner.hang_up();
    }

    /// Completes when the planned crash has come.
    pub async fn crashed(&self) {
        loop {
            if self.lock().crashed {
                return;
            }
            self.crash.notified().await;
        }
    }

    /// Looks at the world, or makes something happen in it.
    pub fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.lock();
        inner.sync();
        let answer = act(&mut inner);
        let woken = std::mem::take(&mut inner.woken);
        drop(inner);
        self.wake(woken);
        answer
    }

    /// Does what becomes due by itself: agents that work on, programs that end.
    async fn keep_time(&self) {
        loop {
            let next = self.with(|inner| inner.next_due());
            match next {
                Some(wait) => tokio::select! {
                    biased;
                    () = tokio::time::sleep(wait) => {}
                    () = self.agenda.notified() => {}
                },
                None => self.agenda.notified().await,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, woken: Woken) {
        if woken.files {
            self.files.notify_one();
        }
        if woken.evidence {
            self.evidence.notify_one();
        }
        if woken.agenda {
            self.agenda.notify_one();
        }
        if woken.panes {
            let _ = self.hints.send(TerminalHint::Panes);
        }
        if woken.server {
            let _ = self.hints.send(TerminalHint::Server);
        }
    }

    /// A port call that only looks.
    async fn see<T>(&self, look: impl FnOnce(&mut Inner) -> T) -> T {
        self.delay().await;
        if self.lock().gone() {
            self.never().await;
        }
        let answer = self.with(look);
        self.delay().await;
        answer
    }

    /// A port call that changes something: one numbered step, whole or not at all.
    async fn effect<T>(&self, what: impl FnOnce() -> String, apply: impl FnOnce(&mut Inner) -> T) -> T {
        self.delay().await;
        let step = {
            let mut inner = self.lock();
            if inner.gone() {
                Step::Gone
            } else {
                inner.ops += 1;
                match inner.crash {
                    Some(crash) if inner.ops >= crash.at => {
                        let text = format!("crash at {} ({}applied)", what(), if crash.applied { "" } else { "not " });
                        inner.note(text);
                        inner.crash = None;
                        Step::Crash { applied: crash.applied }
                    }
                    Some(_) | None => {
                        inner.sync();
                        inner.note(what());
                        Step::Go
                    }
                }
            }
        };
        match step {
            Step::Go => {}
            Step::Gone => self.never().await,
            Step::Crash { applied } => {
                if applied {
                    self.with(apply);
                }
                self.detach();
                self.crash.notify_one();
                self.never().await;
                unreachable!("a crashed daemon goes on");
            }
        }
        let answer = self.with(apply);
        self.delay().await;
        answer
    }

    async fn delay(&self) {
        let wait = {
            let mut inner = self.lock();
            let most = inner.latency;
            if most > 0 && inner.rng.chance(300) { inner.rng.below(most * 1000) } else { 0 }
        };
        if wait > 0 {
            tokio::time::sleep(Duration::from_micros(wait)).await;
        }
    }

    async fn never(&self) {
        self.crash.notify_one();
        std::future::pending::<()>().await;
    }
}

enum Step {
    Go,
    Gone,
    Crash { applied: bool },
}

impl Inner {
    /// Brings the world to the runtime's present time.
    fn sync(&mut self) {
        if let Some(started) = self.started {
            let now = self.offset.saturating_add(nanos(started.elapsed()));
            self.advance(now);
        }
    }

    /// Whether the calling daemon has crashed, or runs in circles and is stopped.
    fn gone(&mut self) -> bool {
        self.sync();
        if self.calls_at == self.now {
            self.calls += 1;
            if self.calls > CALLS_WITHOUT_TIME && !self.crashed {
                self.violations.push("a service runs in circles: thousands of calls while no time passes".to_owned());
                self.crashed = true;
            }
        } else {
            self.calls_at = self.now;
            self.calls = 0;
        }
        self.crashed
    }

    /// Lets time pass up to `now`: everything due happens at its own time, in order.
    pub fn advance(&mut self, now: u64) {
        while let Some((&(at, seq), _)) = self.due.first_key_value() {
            if at > now {
                break;
            }
            let Some(due) = self.due.remove(&(at, seq)) else { break };
            self.now = self.now.max(at);
            self.happen(due);
        }
        self.now = self.now.max(now);
    }

    fn next_due(&self) -> Option<Duration> {
        let (&(at, _), _) = self.due.first_key_value()?;
        // Timers of the runtime have whole milliseconds.
        Some(Duration::from_nanos(at.saturating_sub(self.now)).max(Duration::from_millis(1)))
    }

    fn schedule(&mut self, after: Duration, due: program::Due) {
        let at = self.now.saturating_add(nanos(after));
        let seq = self.number();
        self.due.insert((at, seq), due);
        self.woken.agenda = true;
    }

    /// A number that was never given before.
    pub fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// A time that no change had before.
    fn change(&mut self) -> u64 {
        self.last_change = self.now.max(self.last_change + 1);
        self.last_change
    }

    #[must_use]
    pub fn time(&self, at: u64) -> Timestamp {
        let at = i128::from(BEGIN) * 1_000_000_000 + i128::from(at);
        Timestamp::from_nanosecond(at).unwrap_or(Timestamp::MAX)
    }

    /// What the wall's clock shows.
    #[must_use]
    pub fn timestamp(&self) -> Timestamp {
        let set = SignedDuration::from_secs(self.set);
        self.true_time().saturating_add(set).unwrap_or(Timestamp::MAX)
    }

    /// What it really is, and what providers go by.
    #[must_use]
    pub fn true_time(&self) -> Timestamp {
        self.time(self.true_nanos())
    }

    fn true_nanos(&self) -> u64 {
        self.now.saturating_add(self.jumped)
    }

    fn reading(&self) -> Reading {
        let nanos = |nanos: u64| SignedDuration::from_nanos(i64::try_from(nanos).unwrap_or(i64::MAX));
        let (count, asleep) = (nanos(self.now), nanos(self.jumped));
        Reading { boot: self.boots.to_string(), count, asleep, wall: self.timestamp() }
    }

    /// The daemon's clock.
    fn steady(&mut self) -> (&mut Steady, Reading) {
        let reading = self.reading();
        (self.steady.get_or_insert_with(|| Steady::begin(None, &reading)), reading)
    }

    /// Steady time.
    pub fn steady_time(&mut self) -> Timestamp {
        let (steady, reading) = self.steady();
        steady.now(&reading)
    }

    /// A daemon's clock begins, on a machine that was started `anew` or not.
    pub fn begin_clock(&mut self, saved: Option<SavedClock>, anew: bool) {
        self.boots += u64::from(anew);
        if let Some(saved) = saved.as_ref().filter(|_| anew) {
            // What was counted after it saved is forgotten.
            let told = self.accounts.values_mut().flat_map(|truth| &mut truth.told);
            let struck = self.programs.values_mut().filter_map(|program| program.struck.as_mut());
            told.chain(struck).for_each(|at| *at = (*at).min(saved.at));
        }
        self.steady = Some(Steady::begin(saved, &self.reading()));
    }

    /// Somebody sets the wall's clock that far wrong.
    pub fn set_clock(&mut self, wrong: i64) {
        self.set = wrong;
        self.note(format!("world: the wall's clock is {wrong} s ahead"));
    }

    /// The machine sleeps.
    pub fn jump(&mut self, by: Duration) {
        self.jumped = self.jumped.saturating_add(nanos(by));
        self.note(format!("world: the machine sleeps for {} s", by.as_secs()));
    }

    pub fn note(&mut self, text: String) {
        let line = format!("{:>10.3}  {text}", Duration::from_nanos(self.now).as_secs_f64());
        self.trace.push(line);
    }

    pub fn violation(&mut self, text: String) {
        self.note(format!("VIOLATION {text}"));
        self.violations.push(text);
    }

    fn disk_fault(&mut self) -> Option<(std::io::Error, bool)> {
        let Faults { disk, disk_applied, .. } = self.faults;
        if disk == 0 || !self.rng.chance(disk) {
            return None;
        }
        self.tally.faults += 1;
        let applied = self.rng.chance(disk_applied);
        self.note(format!("  fault: no space ({}applied)", if applied { "" } else { "not " }));
        Some((std::io::Error::from(std::io::ErrorKind::StorageFull), applied))
    }

    /// A change on the disk that may fail, before or after it was made.
    fn write<T>(&mut self, apply: impl FnOnce(&mut Self) -> std::io::Result<T>) -> std::io::Result<T> {
        match self.disk_fault() {
            None => apply(self),
            Some((error, applied)) => {
                if applied {
                    apply(self)?;
                }
                Err(error)
            }
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Clock for FakeWorld {
    fn now(&self) -> Timestamp {
        self.with(Inner::steady_time)
    }

    fn wall(&self) -> Timestamp {
        self.with(|inner| inner.timestamp())
    }

    fn timeline(&self) -> Arc<Timeline> {
        self.with(|inner| {
            let (steady, reading) = inner.steady();
            steady.now(&reading);
            steady.timeline().clone()
        })
    }

    fn saved(&self) -> Option<SavedClock> {
        self.with(|inner| {
            let (steady, reading) = inner.steady();
            Some(steady.saved(&reading))
        })
    }
}
