//! One simulated run: daemons that come and go, people who do things, and the rest state that everything must reach.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use claude_failover::{
    config::{Account, Agent, Config, Dedicated, Env, Project, Provider, ProviderKind, Telegram, Webhook},
    daemon::{
        services::{Ports, Services},
        setup,
    },
    live::{clock, load},
    model::{
        ids::{AccountName, AgentName, ProjectName, ProviderName, SessionName},
        journal::{Loss, recover},
        queue::QueueDir,
        rights::Tasks,
        session::SessionPhase,
    },
    rules::Kind,
};
use claude_failover_sim::{Crash, FakeAccount, FakeProvider, FakeWorld, Faults, Inner, Promises, Rng, Tally};

use crate::jobs::Jobs;

#[derive(Debug, Clone, Default)]
pub struct Outcome {
    pub seed: u64,
    pub violations: Vec<String>,
    pub trace: Vec<String>,
    pub tally: Tally,
    pub crashes: u64,
    pub crashes_at_risk: u64,
    pub crashes_in_swap: u64,
    pub crashes_with_job: u64,
    pub done_by_provider: u64,
    pub in_doubt: u64,
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

pub fn account(name: &str) -> AccountName {
    AccountName::parse(name).expect("an account name")
}

fn agent(name: &str) -> AgentName {
    AgentName::parse(name).expect("an agent name")
}

/// A shell, an agent that the daemon starts, and a session in which a person starts his own.
pub const DEDICATED: [&str; 3] = ["ccl-1-web", "ccl-2-web", "ccl-3-web"];

/// A configuration with that many accounts for `claude` and `typed`, and one for `mute` or none.
pub fn config(accounts: usize, mute: bool) -> Config {
    let seconds = Duration::from_secs;
    let projects = vec![Project { name: project(), path: "/web".into() }];
    let mut config = Config { projects, ..Config::default() };
    config.pool.autonomous.min = 2;
    config.pool.autonomous.max = 3;
    let own =
        |name: &str, of: Option<&str>| Dedicated { name: session(name), workdir: "/web".into(), agent: of.map(agent) };
    config.pool.dedicated = vec![own(DEDICATED[0], None), own(DEDICATED[1], Some("claude")), own(DEDICATED[2], None)];
    for (name, kind) in [("mute", "demo"), ("sh", "command"), ("typed", "claude")] {
        config.agents.insert(agent(name), Agent { tasks: Some(Tasks::Anyone), ..Agent::new(Kind::new(kind)) });
    }
    let row = |name: &str, of: &str| Account {
        name: account(name),
        home: format!("/homes/{name}").into(),
        agent: agent(of),
        env: Env::default(),
        owned: false,
    };
    config.accounts = ["work", "home", "spare"].iter().take(accounts).map(|name| row(name, "claude")).collect();
    config.accounts.extend(mute.then(|| row("quiet", "mute")));
    config.lifecycle.start_within = seconds(20);
    config.lifecycle.restart_max = seconds(20);
    config.lifecycle.shrink_after = seconds(60);
    config.lifecycle.stop_grace = seconds(5);
    config.watcher.idle_timeout = seconds(60);
    config.watcher.silent_after = seconds(30);
    config.watcher.server_pause = seconds(2);
    config.watcher.server_retries = 2;
    config.quota.reactivate_cooldown = seconds(20);
    config.quota.min_dwell = seconds(5);
    config.notifications.telegram = Some(Telegram::new("1".to_owned()));
    config.notifications.webhook = Some(Webhook::default());
    config
}

pub fn provider(name: &str) -> ProviderName {
    ProviderName::parse(name).expect("a provider's name")
}

/// One that knows its jobs again, and one whose answers come on the request's own connection.
pub fn delegate(config: &mut Config) {
    let row = |kind, max_jobs| Provider { max_jobs, poll: Duration::from_secs(2), ..Provider::new(kind) };
    let gpu = Provider { fallback: vec![provider("chat")], ..row(ProviderKind::Secutools, 2) };
    config.providers = [(provider("gpu"), gpu), (provider("chat"), row(ProviderKind::Openai, 1))].into();
    config.delegation.auto.medium = vec!["chat".to_owned(), "gpu".to_owned()];
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
        providers: world.clone(),
        notifier: world.clone(),
        new_id: Arc::new(move || format!("n{}", ids.with(Inner::number))),
    }
}

/// What the world has to know of the configuration.
pub fn furnish(inner: &mut Inner, config: &Config) {
    inner.pool = config.pool.autonomous.names().collect();
    inner.dedicated = config.pool.dedicated.iter().map(|row| row.name.clone()).collect();
    inner.accounts = config.accounts.iter().map(|row| (row.name.clone(), FakeAccount::default())).collect();
    let fake = |repeats| FakeProvider { repeats, ..FakeProvider::default() };
    let known_again = |row: &Provider| row.kind == ProviderKind::Secutools;
    inner.providers = config.providers.iter().map(|(name, row)| (name.clone(), fake(known_again(row)))).collect();
    inner.link = config.accounts.first().map(|row| row.name.clone());
    inner.promises =
        Promises { cooldown: config.quota.reactivate_cooldown, proactive_percent: config.quota.proactive_percent };
}

/// Starts the daemon's services on the world, as the daemon does.
pub async fn start(world: &Arc<FakeWorld>, config: &Arc<Config>) -> Services {
    let ports = ports(world);
    let stored = ports.state.load().await.expect("the state can be read");
    let found = recover(stored.checkpoint.as_deref(), &stored.journal).expect("the state can be understood");
    assert!(!matches!(found.loss, Some(Loss::Damaged { .. })), "{:?}", found.loss);
    let saved = found.state;
    world.with(|inner| {
        let anew = inner.rng.chance(250) || std::mem::take(&mut inner.power_cut);
        let clock = clock(saved.as_ref(), inner.timestamp());
        inner.begin_clock(clock, anew);
    });
    let now = ports.clock.now();
    let accounts = setup::accounts(config, world.with(|inner| inner.link.clone()).as_ref(), now);
    let loaded = load(saved, setup::projects(config), accounts, setup::delegation(config, now), (ports.new_id)(), now);
    let (_keep, config) = tokio::sync::watch::channel(config.clone());
    Services::start(&ports, &config, loaded.expect("the state can be understood")).await
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime")
}

/// Everything but the world: people and the oracle.
pub struct Life {
    pub world: Arc<FakeWorld>,
    pub config: Arc<Config>,
    pub rng: Rng,
    pub jobs: Arc<Mutex<Jobs>>,
    pub outcome: Outcome,
    /// Things that people still do.
    pub actions: u64,
    pub calm_since: Option<u64>,
    pub finished: bool,
    pub names: u64,
    /// People leave accounts alone that time may bring back.
    pub patient: bool,
}

pub fn simulate(seed: u64) -> Outcome {
    let world = FakeWorld::new(seed);
    let mut rng = Rng::new(seed ^ 0x5eed);
    let accounts = [0, 1, 2, 2, 2, 2, 3, 3, 3, 3][usize::try_from(rng.below(10)).unwrap_or(0)];
    let mut config = config(accounts, rng.chance(300));
    config.quota.proactive_percent = rng.chance(300).then_some(80);
    let mut other = Rng::new(seed ^ 0xa9e);
    let keep = |rng: &mut Rng| rng.chance(800).then(|| Duration::from_secs(rng.within(1, 30)));
    (config.janitor.keep_done, config.janitor.keep_failed) = (keep(&mut other), keep(&mut other));
    config.janitor.interval = Duration::from_secs(other.within(3, 20));
    if other.chance(700) {
        delegate(&mut config);
    }
    let config = Arc::new(config);
    world.with(|inner| {
        furnish(inner, &config);
        inner.latency = if rng.chance(500) { rng.within(1, 30) } else { 0 };
        inner.shown_only = if rng.chance(300) { rng.below(600) } else { 0 };
        for stranger in ["ccl-auto-9", "ccl-auto-14", "other"] {
            inner.open_by_hand(&session(stranger));
        }
        if rng.chance(500) {
            inner.open_by_hand(&session(DEDICATED[0]));
        }
        if rng.chance(700)
            && let Some(row) = config.accounts.first()
        {
            inner.agent_by_hand(&session(DEDICATED[2]), &row.name);
        }
        if rng.chance(400) {
            inner.faults = Faults {
                disk: rng.below(60),
                disk_applied: rng.below(500),
                terminal: rng.below(40),
                open: rng.below(200),
                notices: rng.below(600),
            };
        }
    });
    let actions = rng.within(15, 50);
    let mut life = Life {
        world: world.clone(),
        config,
        jobs: Arc::default(),
        outcome: Outcome { seed, ..Outcome::default() },
        actions,
        calm_since: None,
        finished: false,
        names: rng.within(3, 7),
        patient: rng.chance(50),
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
        let plan = self.calm_since.is_none() && self.outcome.crashes < 8 && self.rng.chance(800);
        let (after, applied) = (self.rng.within(1, 150), self.rng.chance(500));
        self.world.with(|inner| inner.crash = plan.then(|| Crash { at: inner.ops + after, applied }));
    }

    fn crashed(&mut self) {
        let (at_risk, in_swap, with_job) = self.world.with(|inner| {
            let at_risk = inner.disk.keys().any(|(_, dir, name)| *dir == QueueDir::Inbox && name.ends_with(".working"));
            let job = |name: &str| name.ends_with(".delegated");
            let with_job = inner.disk.keys().any(|(_, dir, name)| *dir == QueueDir::Inbox && job(name));
            (at_risk, inner.saved.swaps.current.is_some(), with_job)
        });
        self.outcome.crashes += 1;
        self.outcome.crashes_at_risk += u64::from(at_risk);
        self.outcome.crashes_in_swap += u64::from(in_swap);
        self.outcome.crashes_with_job += u64::from(with_job);
        if !self.world.with(|inner| inner.violations.is_empty()) {
            self.finished = true;
        }
        match self.rng.below(10) {
            0 => self.world.with(|inner| inner.kill_server(Duration::ZERO)),
            1..=3 => self.world.with(Inner::cut_power),
            _ => {}
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
            jobs.check_results(inner);
            let count = |text: &str| inner.holding(text).len() as u64;
            self.outcome.done = count("status: done\n");
            self.outcome.cancelled = count("status: cancelled\n");
            self.outcome.done_by_provider = count("did: Please do");
            self.outcome.in_doubt = count("whether it did the task is not known");
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
                    inner.trace.push(format!("{time:>10.3}    {} {}", line.about.object, line.text));
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
                if self.rng.chance(200) {
                    self.help_accounts(&live);
                }
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
}
