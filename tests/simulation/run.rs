//! One simulated life: daemons that come and go, people who do things, and the end that everything must come to.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use claude_failover::model::task_file::sha256;
use claude_failover::{
    config::{Agent, AgentKind, Config, Dedicated, Project},
    daemon::services::{Ports, Services},
    fake::{Crash, FakeWorld, Faults, Inner, Rng, Tally},
    live::{Live, load},
    model::{
        command::Scope,
        event::{Counts, Event},
        ids::{AgentName, ProjectName, SessionName, TaskId, TaskKey},
        session::{Activity, SessionPhase},
        snapshot,
        task::{Delivery, Hold, Phase, TaskEvent},
        task_file::without_result,
    },
    ports::{Exit, QueueDir},
};

use crate::jobs::{Fate, Jobs};

/// How long, after everything is calm, the last task may take.
const SETTLES_WITHIN: Duration = Duration::from_secs(1800);

#[derive(Debug, Clone, Default)]
pub struct Outcome {
    pub seed: u64,
    pub violations: Vec<String>,
    pub trace: Vec<String>,
    pub tally: Tally,
    pub crashes: u64,
    pub crashes_at_risk: u64,
    pub adopted: u64,
    pub retried: u64,
    pub done: u64,
    pub cancelled: u64,
}

pub fn session(name: &str) -> SessionName {
    SessionName::parse(name).expect("a session name")
}

pub fn project() -> ProjectName {
    ProjectName::parse("web").expect("a project name")
}

pub fn config() -> Config {
    let seconds = Duration::from_secs;
    let projects = vec![Project { name: project(), path: "/web".into() }];
    let mut config = Config { projects, ..Config::default() };
    config.pool.autonomous.min = 2;
    config.pool.autonomous.max = 3;
    config.pool.dedicated = vec![Dedicated { name: session("ccl-1-web"), workdir: "/web".into(), agent: None }];
    for (name, kind) in [("mute", AgentKind::Demo), ("sh", AgentKind::Command)] {
        config.agents.insert(AgentName::parse(name).expect("an agent name"), Agent::new(kind));
    }
    config.lifecycle.start_within = seconds(20);
    config.lifecycle.restart_max = seconds(20);
    config.lifecycle.shrink_after = seconds(60);
    config.lifecycle.stop_grace = seconds(5);
    config.watcher.idle_timeout = seconds(60);
    config.watcher.silent_after = seconds(30);
    config
}

pub fn ports(world: &Arc<FakeWorld>) -> Ports {
    let ids = world.clone();
    Ports {
        clock: world.clone(),
        terminal: world.clone(),
        agents: world.clone(),
        queue: world.clone(),
        state: world.clone(),
        homes: world.clone(),
        new_id: Arc::new(move || format!("n{}", ids.with(Inner::number))),
    }
}

/// Starts the daemon's services on the world, as the daemon does.
pub async fn start(world: &Arc<FakeWorld>, config: &Arc<Config>) -> Services {
    let ports = ports(world);
    let saved = ports.state.load().await.expect("the state can be read");
    let projects = config.projects.iter().map(|p| snapshot::Project {
        name: p.name.clone(),
        path: p.path.clone(),
        counts: Counts::default(),
    });
    let loaded = load(saved.as_deref(), projects.collect(), Vec::new(), (ports.new_id)(), ports.clock.now());
    let (_keep, config) = tokio::sync::watch::channel(config.clone());
    Services::start(&ports, &config, loaded.expect("the state can be understood")).await
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime")
}

/// Everything but the world: people and the oracle.
struct Life {
    world: Arc<FakeWorld>,
    config: Arc<Config>,
    rng: Rng,
    jobs: Arc<Mutex<Jobs>>,
    outcome: Outcome,
    /// Things that people still do.
    actions: u64,
    calm_since: Option<u64>,
    finished: bool,
    names: u64,
}

pub fn simulate(seed: u64) -> Outcome {
    let world = FakeWorld::new(seed);
    let config = Arc::new(config());
    let mut rng = Rng::new(seed ^ 0x5eed);
    world.with(|inner| {
        inner.pool = config.pool.autonomous.names().collect();
        inner.dedicated.insert(session("ccl-1-web"));
        inner.latency = if rng.chance(500) { rng.within(1, 30) } else { 0 };
        for stranger in ["ccl-auto-9", "ccl-auto-14", "other"] {
            inner.open_by_hand(&session(stranger));
        }
        if rng.chance(500) {
            inner.open_by_hand(&session("ccl-1-web"));
        }
        if rng.chance(400) {
            inner.faults = Faults {
                disk: rng.below(60),
                disk_applied: rng.below(500),
                terminal: rng.below(40),
                open: rng.below(200),
            };
        }
    });
    let actions = rng.within(10, 40);
    let mut life = Life {
        world: world.clone(),
        config,
        jobs: Arc::default(),
        outcome: Outcome { seed, ..Outcome::default() },
        actions,
        calm_since: None,
        finished: false,
        names: rng.within(3, 7),
        rng,
    };
    let mut away = Duration::ZERO;
    while !life.finished {
        life.plan_crash();
        let runtime = runtime();
        runtime.block_on(async {
            world.attach(away);
            tokio::select! {
                biased;
                () = world.crashed() => {}
                () = life.daemon() => {}
            }
        });
        drop(runtime);
        world.detach();
        if !life.finished {
            life.crashed();
            away = Duration::from_millis(life.rng.within(0, 15_000));
        }
    }
    life.close()
}

impl Life {
    fn plan_crash(&mut self) {
        let plan = self.calm_since.is_none() && self.outcome.crashes < 6 && self.rng.chance(800);
        let (after, applied) = (self.rng.within(1, 120), self.rng.chance(500));
        self.world.with(|inner| inner.crash = plan.then(|| Crash { at: inner.ops + after, applied }));
    }

    fn crashed(&mut self) {
        let at_risk = self.world.with(|inner| {
            inner.disk.keys().any(|(_, dir, name)| *dir == QueueDir::Inbox && name.ends_with(".working"))
        });
        self.outcome.crashes += 1;
        self.outcome.crashes_at_risk += u64::from(at_risk);
        if !self.world.with(|inner| inner.violations.is_empty()) {
            self.finished = true;
        }
        if self.rng.chance(100) {
            self.world.with(|inner| inner.kill_server(Duration::ZERO));
        }
        for _ in 0..self.rng.below(3) {
            self.behind_its_back();
        }
    }

    fn close(mut self) -> Outcome {
        let jobs = self.jobs.lock().expect("a lock");
        self.outcome.retried = jobs.all.values().map(|job| u64::from(job.received.saturating_sub(1))).sum();
        let world = &self.world;
        world.with(|inner| {
            let count = |text: &str| inner.holding(text).len() as u64;
            self.outcome.done = count("status: done\n");
            self.outcome.cancelled = count("status: cancelled\n");
            self.outcome.tally = inner.tally;
            self.outcome.trace = std::mem::take(&mut inner.trace);
            self.outcome.violations = inner.violations.clone();
        });
        drop(jobs);
        self.outcome
    }

    /// One daemon, from its start to its crash or the end of everything.
    async fn daemon(&mut self) {
        let services = start(&self.world, &self.config).await;
        let live = services.live.clone();
        self.outcome.adopted +=
            live.snapshot().sessions.values().filter(|s| matches!(s.phase, SessionPhase::Up(_))).count() as u64;
        let mut log = 0;
        loop {
            tokio::time::sleep(Duration::from_millis(self.rng.within(1, 2500))).await;
            let snapshot = live.snapshot();
            self.world.with(|inner| {
                for line in snapshot.recent.iter().filter(|line| line.seq > log) {
                    let time = line.time.duration_since(inner.time(0)).as_secs_f64();
                    inner.trace.push(format!("{time:>10.3}    {} {}", line.object, line.text));
                }
                log = snapshot.recent.last().map_or(log, |line| line.seq);
            });
            self.check();
            if self.world.with(|inner| !inner.violations.is_empty()) || self.settled(&live) {
                self.finished = true;
                return;
            }
            self.people(&live);
            if self.calm_since.is_some() {
                continue;
            }
            if self.actions == 0 {
                self.calm_down(&live);
            } else {
                self.actions -= 1;
                self.act(&live);
            }
        }
    }

    fn check(&mut self) {
        let mut jobs = self.jobs.lock().expect("a lock");
        self.world.with(|inner| jobs.check(inner));
    }

    fn ask(&self, live: &Live, scope: Scope, text: &str) {
        let (live, text) = (live.clone(), text.to_owned());
        self.world.with(|inner| inner.note(format!("person: {text:?} to {scope:?}")));
        tokio::spawn(async move { live.ask(scope, text.into_bytes(), None, Duration::from_secs(2)).await });
    }

    /// Cancels, and from the moment that it is confirmed holds the daemon to it.
    fn cancel(&self, live: &Live, key: TaskKey) {
        let (live, jobs, world) = (live.clone(), self.jobs.clone(), self.world.clone());
        world.with(|inner| inner.note(format!("person: cancel {key}")));
        tokio::spawn(async move {
            let name = key.id.file_name();
            let text = |inner: &mut Inner| inner.file(&key.project, QueueDir::Inbox, &name).map(|f| f.bytes.clone());
            // What was written a moment ago may not have been seen yet, and is another task.
            let fresh = |inner: &mut Inner| {
                let changed = inner.file(&key.project, QueueDir::Inbox, &name).map_or(0, |file| file.changed);
                inner.now - changed < 1_000_000_000
            };
            let before = if world.with(fresh) { None } else { world.with(text) };
            // A cancel is about the text that is being worked on, not about a newer one that waits in the file.
            let running = live.snapshot().tasks.get(&key).and_then(|task| Some(task.phase.run()?.text.sha256.clone()));
            let meant = |bytes: &Vec<u8>| running.as_ref().is_none_or(|sha| *sha == sha256(bytes));
            let before = before.filter(meant);
            let told =
                live.ask(Scope::Task(key.clone()), b"cancel".to_vec(), None, Duration::from_secs(2)).await.is_ok();
            let snapshot = live.snapshot();
            let typing = match snapshot.tasks.get(&key).map(|task| &task.phase) {
                Some(Phase::Working(run)) => run.delivery != Delivery::NotBegun,
                Some(_) | None => false,
            };
            let (after, now) = world.with(|inner| (text(inner), inner.now));
            // An edit in between makes it unclear which text was meant.
            if let (true, false, Some(bytes)) = (told, typing, before.filter(|b| after.as_ref().is_none_or(|a| a == b)))
                && let Some(job) = jobs.lock().expect("a lock").of(&bytes)
                && job.fate == Fate::Ours
            {
                job.forbidden = Some((now, "cancelled"));
            }
        });
    }

    /// What agents wait for is answered sooner or later; what hangs is cancelled.
    fn people(&mut self, live: &Live) {
        let eager = if self.calm_since.is_some() { 700 } else { 150 };
        let snapshot = live.snapshot();
        for (name, session) in &snapshot.sessions {
            let asked = snapshot.requests.values().any(|action| action.session() == Some(name));
            if asked || !self.config.pool.autonomous.owns(name) || !self.rng.chance(eager) {
                continue;
            }
            match session.verdict.activity {
                Activity::Waiting(_) => self.ask(live, Scope::Keys(name.clone()), "y"),
                Activity::Limited if self.rng.chance(800) => {
                    self.ask(live, Scope::Input(name.clone()), "Continue where you stopped.");
                }
                Activity::Limited | Activity::Stalled => {
                    if let Some(assignment) = &session.task {
                        self.cancel(live, assignment.task.clone());
                    }
                }
                Activity::Unknown | Activity::Idle | Activity::Working => {}
            }
        }
    }

    fn any_key(&mut self) -> TaskKey {
        let name = format!("t{}", self.rng.below(self.names));
        let id = TaskId::from_file_name(&format!("{name}.md")).expect("a task name");
        TaskKey::new(&project(), &id)
    }

    fn act(&mut self, live: &Live) {
        let key = self.any_key();
        let sessions: Vec<SessionName> = self.config.pool.autonomous.names().collect();
        let session = self.rng.pick(&sessions).cloned().expect("a session");
        let task = Scope::Task(key.clone());
        match self.rng.below(40) {
            0..=22 => self.behind_its_back(),
            23..=25 => self.cancel(live, key),
            26 => self.ask(live, task, "hold"),
            27 => self.ask(live, task, "release"),
            28 => self.ask(live, task, "priority 7"),
            29 | 30 => {
                let file = self.world.with(|i| i.file(&key.project, QueueDir::Failed, &key.id.file_name()).cloned());
                if let Some(file) = file {
                    self.jobs.lock().expect("a lock").again(&file.bytes);
                    self.ask(live, task, "retry");
                }
            }
            31 => self.ask(live, Scope::Daemon, if self.rng.clone().chance(500) { "pause" } else { "resume" }),
            32 => self.ask(live, Scope::Daemon, "resume"),
            33 => self.ask(live, Scope::Daemon, "rescan"),
            34 => self.ask(live, Scope::Session(session), "restart"),
            35 => self.ask(live, Scope::Session(session), "drain"),
            36 => self.ask(live, Scope::Session(session), "undrain"),
            37 => self.ask(live, Scope::Session(session), "exit"),
            38 => {
                for verb in ["exit", "restart", "drain"] {
                    self.ask(live, Scope::Session(crate::run::session("ccl-1-web")), verb);
                }
            }
            _ => self.remove_by_verb(live, &key),
        }
    }

    fn remove_by_verb(&mut self, live: &Live, key: &TaskKey) {
        let file = self.world.with(|inner| {
            inner.note(format!("person: rm {key}"));
            inner.take(&key.project, QueueDir::Inbox, &key.id.file_name())
        });
        if let Some(job) =
            file.and_then(|file| self.jobs.lock().expect("a lock").of(&file.bytes).map(|j| j.fate = Fate::Theirs))
        {
            let () = job;
            let (live, key) = (live.clone(), key.clone());
            tokio::spawn(
                async move { live.report(vec![Event::Task(key, TaskEvent::Vanished { by_verb: true })]).await },
            );
        }
    }

    /// What scripts, editors and accidents do, also while no daemon runs.
    fn behind_its_back(&mut self) {
        let key = self.any_key();
        let name = key.id.file_name();
        let marker = format!("{name}.working");
        let delegated = format!("{name}.delegated");
        let what = self.rng.below(28);
        let p = project();
        let jobs = self.jobs.clone();
        let mut jobs = jobs.lock().expect("a lock");
        let rng = &mut self.rng;
        self.world.with(|inner| {
            let inbox = QueueDir::Inbox;
            let present = inner.file(&p, inbox, &name).map(|file| file.bytes.clone());
            let claimed = inner.file(&p, inbox, &marker).is_some();
            match (what, present) {
                (0..=11, None) => {
                    let job = jobs.write(&name, rng);
                    inner.note(format!("world: writes {name}: {:?}", String::from_utf8_lossy(&job.bytes)));
                    inner.put(&p, inbox, &name, &job.bytes);
                    if rng.chance(200) {
                        inner.set_writer(&p, &name, true);
                    }
                }
                (0..=3, Some(old)) => {
                    if let Some(job) = jobs.of(&old) {
                        job.fate = Fate::Theirs;
                    }
                    let job = jobs.write(&name, rng);
                    inner.note(format!("world: edits {name}: {:?}", String::from_utf8_lossy(&job.bytes)));
                    inner.put(&p, inbox, &name, &job.bytes);
                }
                (4, Some(_)) => {
                    inner.note(format!("world: touches {name}"));
                    inner.touch(&p, inbox, &name);
                }
                (5 | 6, Some(_)) => {
                    inner.note(format!("world: closes {name}"));
                    inner.set_writer(&p, &name, false);
                }
                (7, Some(old)) => {
                    inner.note(format!("world: marks {name} as read"));
                    let text = String::from_utf8_lossy(&old).replace("status: UNREAD", "status: READ");
                    inner.put(&p, inbox, &name, text.as_bytes());
                }
                (12..=14, Some(old)) => {
                    inner.note(format!("world: takes {name} away (claimed: {claimed})"));
                    inner.take(&p, inbox, &name);
                    let now = inner.now;
                    if let Some(job) = jobs.of(&old) {
                        job.fate = Fate::Theirs;
                        if !claimed {
                            job.forbidden = Some((now, "taken away unclaimed"));
                        }
                    }
                }
                (15, Some(old)) if inner.rename(&p, (inbox, &name), (QueueDir::Drafts, &name)) => {
                    inner.note(format!("world: mv inbox/{name} drafts/ (claimed: {claimed})"));
                    let now = inner.now;
                    if let Some(job) = jobs.of(&old).filter(|_| !claimed) {
                        job.forbidden = Some((now, "moved to drafts unclaimed"));
                    }
                }
                (16 | 17, None) => {
                    for dir in [QueueDir::Drafts, QueueDir::Failed, QueueDir::Done] {
                        if inner.rename(&p, (dir, &name), (inbox, &name)) {
                            inner.note(format!("world: mv {}/{name} inbox/", dir.name()));
                            let bytes = inner.file(&p, inbox, &name).map(|file| file.bytes.clone()).unwrap_or_default();
                            jobs.again(&bytes);
                            break;
                        }
                    }
                }
                (18, Some(old)) if inner.file(&p, inbox, &delegated).is_none() => {
                    inner.note(format!("world: delegates {name} (claimed: {claimed})"));
                    inner.put(&p, inbox, &delegated, b"{\"job_id\": \"1\"}");
                    let now = inner.now;
                    if let Some(job) = jobs.of(&old).filter(|_| !claimed) {
                        job.forbidden = Some((now, "delegated by somebody else"));
                    }
                }
                (19, Some(old)) if inner.file(&p, inbox, &delegated).is_some() => {
                    inner.note(format!("world: takes {name} back from delegation"));
                    inner.take(&p, inbox, &delegated);
                    if let Some(job) = jobs.of(&old) {
                        job.forbidden = None;
                    }
                }
                (20, _) => {
                    inner.note("world: git checkout".to_owned());
                    let names: Vec<String> = inner.disk.keys().filter(|k| k.1 == inbox).map(|k| k.2.clone()).collect();
                    for name in names.iter().filter(|name| name.ends_with(".md")) {
                        if let Some(file) = inner.take(&p, inbox, name) {
                            inner.put(&p, inbox, name, &file.bytes);
                            inner.set_writer(&p, name, file.writer);
                        }
                    }
                }
                (21, _) => {
                    let living: Vec<u32> = inner
                        .programs
                        .values()
                        .filter(|program| program.exit.is_none() && inner.pool.contains(&program.session))
                        .map(|program| program.pid)
                        .collect();
                    if let Some(pid) = rng.pick(&living) {
                        inner.note(format!("world: kills {pid}"));
                        inner.end_program(*pid, Exit::Signal(9));
                    }
                }
                (22, _) if rng.chance(300) => {
                    inner.note("world: the terminal server dies".to_owned());
                    inner.kill_server(Duration::from_millis(rng.below(5000)));
                }
                (23, _) => inner.terminal_down(Duration::from_millis(rng.below(8000))),
                (24, None) => {
                    inner.note(format!("world: junk {name}"));
                    let junk: [&[u8]; 4] =
                        [b"", b"---\npriority: 1\n", b"---\nretries: x\n---\nhm", b"---\ndepends_on: [a]\n---\nhm"];
                    inner.put(&p, inbox, &name, rng.pick(&junk).copied().unwrap_or_default());
                }
                _ => {}
            }
        });
    }

    /// No more faults, no more mischief; everything that somebody holds is let go.
    fn calm_down(&mut self, live: &Live) {
        self.calm_since = Some(self.world.with(|inner| {
            inner.note("world: calm".to_owned());
            inner.calm = true;
            inner.crash = None;
            inner.faults = Faults::default();
            let names: Vec<String> =
                inner.disk.keys().filter(|k| k.1 == QueueDir::Inbox).map(|k| k.2.clone()).collect();
            for name in names.iter().filter(|name| name.ends_with(".md")) {
                inner.set_writer(&project(), name, false);
            }
            inner.now
        }));
        self.ask(live, Scope::Daemon, "resume");
        for name in self.config.pool.autonomous.names() {
            self.ask(live, Scope::Session(name), "undrain");
        }
    }

    /// Whether everything has come to its end; complains when it takes too long.
    fn settled(&mut self, live: &Live) -> bool {
        let Some(since) = self.calm_since else { return false };
        let snapshot = live.snapshot();
        let mut open = Vec::new();
        let mut release = Vec::new();
        let settled = self.world.with(|inner| {
            let inbox = inner.disk.keys().filter(|(_, dir, _)| *dir == QueueDir::Inbox);
            let names: Vec<String> = inbox.map(|(_, _, name)| name.clone()).collect();
            for name in names {
                let base = name.strip_suffix(".working").or(name.strip_suffix(".rejected")).unwrap_or(&name);
                let Some(id) = TaskId::from_file_name(base) else { continue };
                let key = TaskKey::new(&project(), &id);
                let text = inner.file(&project(), QueueDir::Inbox, base).map(|file| file.bytes.clone());
                let delegated = inner.file(&project(), QueueDir::Inbox, &format!("{base}.delegated")).is_some();
                let told = snapshot.tasks.get(&key).map(|task| &task.phase);
                let rightly = match told {
                    Some(Phase::Held(hold)) => match hold {
                        Hold::OutsideClaim(_) => delegated,
                        Hold::Empty => text.as_ref().is_some_and(|text| without_result(text).is_empty()),
                        Hold::OpenFrontmatter | Hold::DependsOn => text.is_some(),
                        Hold::ChangedWhileWorking | Hold::ByVerb => {
                            release.push(key.clone());
                            false
                        }
                        Hold::Settling | Hold::Writing | Hold::EditorLock(_) | Hold::Missing | Hold::Unreadable(_) => {
                            false
                        }
                    },
                    Some(Phase::Rejected(_)) => text.as_ref().is_some_and(|text| {
                        text.windows(8).any(|part| part == b"\n---\nhm\n") || text.ends_with(b"\n---\nhm")
                    }),
                    Some(Phase::Queued | Phase::Working(_) | Phase::Filing(_) | Phase::Finished(_)) | None => false,
                };
                if !rightly || (name.ends_with(".working")) {
                    open.push(format!("{name}: {told:?}"));
                }
            }
            for task in snapshot.tasks.values() {
                if matches!(task.phase, Phase::Queued | Phase::Working(_) | Phase::Filing(_)) {
                    open.push(format!("{}: {:?}", task.key, task.phase));
                }
            }
            if open.is_empty() {
                if !inner.runs.is_empty() {
                    let runs: Vec<&String> = inner.runs.keys().collect();
                    let text = format!("texts of runs are left behind: {runs:?}");
                    inner.note(text);
                }
                return true;
            }
            if inner.now - since > u64::try_from(SETTLES_WITHIN.as_nanos()).unwrap_or(u64::MAX) {
                let sessions: Vec<String> = snapshot
                    .sessions
                    .values()
                    .map(|s| format!("{} {:?} {:?} {:?}", s.name, s.phase, s.verdict.activity, s.task))
                    .collect();
                inner.violation(format!("not settled: {}\n  {}", open.join("\n  "), sessions.join("\n  ")));
            }
            false
        });
        for key in release {
            self.ask(live, Scope::Task(key), "release");
        }
        settled
    }
}
