//! The daemon's lifecycle: lock, state, terminal, owner, services, mount, signals; shutdown in reverse order.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use nix::sys::signal::Signal;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use super::{
    backend::{DaemonBackend, Processes},
    leftovers,
    services::{Ports, Services},
    setup,
};
use crate::{
    agents::AgentBook,
    config::{Config, load::load as load_config, paths, queue::QUEUE},
    daemon::fatal::{Fatal, fatal},
    fs::{self, Mounted},
    http,
    linux::{lock::Lock, memory},
    live::{self, World},
    model::{
        command::{Action, Refused, RefusedKind},
        event::{About, Event, Kind, Memory, Note, Reason},
        ids::{AccountName, ProjectName},
        journal::{LoadError, Loss, Recovered, State, recover},
        provider::{Provider, ProviderEvent, ProviderStanding},
    },
    ports::{Clock, StateStore},
    sys::{
        clock::SystemClock,
        disk::DiskQueue,
        homes::AccountHomes,
        notify::Receivers,
        providers::HttpProviders,
        state::StateDir,
        tmux::{Tmux, TmuxOptions},
    },
};

/// A tmux server with more memory than this, in MiB, is reported. Measured: two hundred sessions with 2000 lines of
/// scrollback each use 262. Chosen: twice that.
const TMUX_MEMORY_MAX: u64 = 512;

/// How often the daemon checks that its mount and the operator's link are intact. Chosen: as `lifecycle.reconcile`.
const LOOK_AT_MOUNT: Duration = Duration::from_secs(15);

/// In the state directory: what lay in the mountpoint at a start.
const FOUND: &str = "found";

/// Where a daemon works.
#[derive(Debug, Clone)]
pub struct Place {
    /// For `reload`.
    pub config_file: Option<PathBuf>,
    pub state_dir: PathBuf,
    pub mountpoint: PathBuf,
    /// This program's own file.
    pub exe: PathBuf,
}

/// Runs until SIGTERM or SIGINT. `ready` is called when everything answers.
///
/// # Errors
/// When something that it can't do without is missing; nothing is left mounted or locked then.
pub async fn run(config: Config, place: &Place, ready: impl FnOnce(&Daemon)) -> Result<(), Fatal> {
    let mut terminate = signal(SignalKind::terminate()).map_err(fatal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(fatal)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(fatal)?;
    let daemon = Daemon::start(config, place).await?;
    ready(&daemon);
    // Beside everything else: a look may wait for disks.
    let mut looks = Box::pin(daemon.keep_looking());
    let mut leftovers = Box::pin(daemon.keep_leftovers());
    let ended = loop {
        tokio::select! {
            _ = terminate.recv() => break Ok(()),
            _ = interrupt.recv() => break Ok(()),
            _ = hangup.recv() => {
                let text = daemon.reload();
                daemon.note(match &text { Ok(_) => Reason::Reloaded, Err(_) => Reason::NotReloaded }, match text { Ok(text) | Err(text) => text }).await;
            }
            () = daemon.carry_out() => {}
            () = daemon.wake_readers() => {}
            () = &mut looks => {}
            () = &mut leftovers => {}
            () = daemon.services.failed() => {
                break Err(Fatal("a service of the daemon ended by itself; the log tells why".to_owned()));
            }
        }
    };
    drop((looks, leftovers));
    daemon.stop().await?;
    ended
}

/// Everything that runs.
pub struct Daemon {
    pub services: Services,
    config: watch::Sender<Arc<Config>>,
    place: Place,
    mounted: Option<Mounted>,
    http: Option<http::Server>,
    queue: Arc<DiskQueue>,
    homes: AccountHomes,
    tmux: Arc<Tmux>,
    clock: Arc<dyn Clock>,
    processes: Processes,
    _lock: Lock,
}

impl Daemon {
    /// # Errors
    /// When something that it can't do without is missing.
    pub async fn start(config: Config, place: &Place) -> Result<Self, Fatal> {
        let homes = AccountHomes::new(&config);
        if let Some(complaint) = setup::complaint(&homes.faults()) {
            return Err(Fatal(complaint));
        }
        outlive_signals()?;
        let unusable = |error: std::io::Error| {
            fatal(format!("the state directory {} can't be used: {error}", place.state_dir.display()))
        };
        StateDir::make(&place.state_dir).map_err(unusable)?;
        // Before anything in it is touched: it may be another daemon's.
        let lock = Lock::take(&place.state_dir.join("lock")).map_err(fatal)?;
        let state = StateDir::open(&place.state_dir).map_err(unusable)?;
        let (saved, mut told) = earlier_state(&state).await?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::begin(live::clock(saved.as_ref(), Timestamp::now())));
        let world = load_world(&config, homes.linked().as_ref(), &state, saved, &clock, &mut told).await?;

        let mark = setup::mark(place.config_file.as_deref().unwrap_or(&place.mountpoint));
        let options = TmuxOptions { mark: Some(mark.number()), ..setup::tmux(&config) };
        let server_is_ours = options.ours;
        let tmux = Tmux::connect(options).await.map_err(|error| fatal(format!("{error}; is tmux installed?")))?;
        let base_env: BTreeMap<String, String> = std::env::vars().collect();
        let book = setup::agents(&config, &place.state_dir, &place.exe, &place.mountpoint, base_env).map_err(fatal)?;
        let mountpoint = setup::uncover_queues(&config, &place.mountpoint)?;
        let queue =
            DiskQueue::new(config.projects.iter().map(|row| (row.name.clone(), row.path.clone())), Some(&mountpoint))
                .map_err(|error| fatal(format!("inotify can't be used: {error}")))?;
        let queue = Arc::new(queue);
        let (config, receiver) = watch::channel(Arc::new(config));
        let ports = Ports {
            clock: clock.clone(),
            terminal: tmux.clone(),
            agents: Arc::new(AgentBook::new(book)),
            queue: queue.clone(),
            state: Arc::new(state.clone()),
            homes: Arc::new(homes.clone()),
            notifier: Arc::new(Receivers::new(receiver.clone())),
            providers: Arc::new(HttpProviders::new(&config.borrow()).map_err(fatal)?),
            new_id: Arc::new(|| uuid::Uuid::new_v4().to_string()),
        };
        let services = Services::start(&ports, &receiver, world).await;
        let processes = Processes::new(tmux.clone(), server_is_ours, place.mountpoint.clone(), mark);
        let mut daemon = Self {
            services,
            config,
            place: place.clone(),
            mounted: None,
            http: None,
            queue,
            homes,
            tmux,
            processes,
            clock,
            _lock: lock,
        };
        daemon.note(Reason::Started, "started".to_owned()).await;
        if let Some(cut) = told.cut {
            daemon.note(Reason::StateCut, cut).await;
        }
        if let Some(lost) = told.lost {
            daemon.problem("earlier state", lost).await;
        }
        let backend = DaemonBackend::new(daemon.services.live.clone(), receiver, daemon.processes.clone());
        if let Err(error) = daemon.mount(&state, backend.clone()).await {
            daemon.stop().await?;
            return Err(error);
        }
        if let Err(error) = daemon.serve(backend) {
            daemon.problem("http", format!("the HTTP interface can't be served: {error}; a restart tries again")).await;
        }
        Ok(daemon)
    }

    fn serve(&mut self, backend: DaemonBackend) -> std::io::Result<()> {
        let api = self.config.borrow().api.clone();
        if let Some(listen) = api.listen {
            let options = http::Options { listen, token: api.token().cloned() };
            self.http = Some(http::Server::start(options, Arc::new(backend))?);
        }
        Ok(())
    }

    async fn mount(&mut self, state: &StateDir, backend: DaemonBackend) -> Result<(), Fatal> {
        let settings = self.config.borrow().mount.clone();
        if !settings.enabled {
            return Ok(());
        }
        let options = fs::Options {
            mountpoint: self.place.mountpoint.clone(),
            durable: settings.durable,
            allow_other: settings.allow_other,
            control_gid: settings.control_group.as_deref().map(gid_of).transpose()?,
            queues: self.queues()?,
            found: self.place.state_dir.join(FOUND),
            events_log: state.events().0,
            program: Some(self.place.exe.clone()),
        };
        let mounted = Mounted::mount(&options, Arc::new(backend)).map_err(fatal)?;
        self.queue.mounted_as(mounted.device());
        let teller = mounted.teller();
        self.queue.on_change(move |change| teller.tell(change));
        self.mounted = Some(mounted);
        Ok(())
    }

    fn queues(&self) -> Result<Vec<(ProjectName, PathBuf)>, Fatal> {
        let config = self.config.borrow();
        let real = |row: &crate::config::Project| Ok((row.name.clone(), self.queue.path(&row.name).map_err(fatal)?));
        config.projects.iter().map(real).collect()
    }

    /// Where the mount is, when there is one.
    #[must_use]
    pub fn mountpoint(&self) -> Option<&Path> {
        self.mounted.as_ref().map(|_| self.place.mountpoint.as_path())
    }

    pub async fn note(&self, reason: Reason, text: String) {
        let note = Note::new(Kind::Daemon, reason, About::daemon(), text);
        self.services.live.report(vec![Event::Note(note)]).await;
    }

    async fn problem(&self, topic: &str, text: String) {
        self.services.live.report(vec![Event::Health { topic: topic.to_owned(), problem: Some(text) }]).await;
    }

    /// Looks for what agents left running, for ever. May be dropped at any time.
    async fn keep_leftovers(&self) {
        leftovers::keep(self.services.live.clone(), self.processes.clone(), self.clock.clone()).await;
    }

    /// Looks at what others may have changed, for ever. Never ends; may be dropped at any time.
    async fn keep_looking(&self) {
        let mut looks = tokio::time::interval(LOOK_AT_MOUNT);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut served = true;
        loop {
            tokio::select! {
                _ = looks.tick() => {}
                () = self.queue.healed() => {}
            }
            self.look_at_mount(&mut served).await;
            self.look_at_queues().await;
            self.look_at_homes().await;
            self.look_at_memory().await;
        }
    }

    /// Says so when somebody else unmounted the mount, when a queue that it shows isn't the one on disk, and what was found in the
    /// mountpoint.
    async fn look_at_mount(&self, served: &mut bool) {
        let Some(mounted) = &self.mounted else { return };
        let unmounted = (!mounted.is_served()).then(|| {
            format!(
                "{} was unmounted by somebody else; tasks go on, a restart mounts it again",
                mounted.path().display()
            )
        });
        if let (Some(text), true) = (&unmounted, *served) {
            tracing::warn!("{text}");
        }
        *served = unmounted.is_none();
        let found = fs::found_told(&self.place.state_dir.join(FOUND), mounted.path());
        let mut events = vec![
            Event::Health { topic: "mount".to_owned(), problem: unmounted },
            Event::Health { topic: "found".to_owned(), problem: found },
        ];
        let projects: Vec<ProjectName> = self.config.borrow().projects.iter().map(|row| row.name.clone()).collect();
        for project in projects {
            let shown = match self.queue.identity(&project).await {
                Ok(now) => mounted.shows(&project, now),
                // Gone, and recreated at once; or unknown. The inbox scan reports what persists.
                Err(_) => continue,
            };
            let problem = (!shown).then(|| {
                format!(
                    "the queue of project {project} was moved or replaced, and the mount doesn't show what stands in its place: \
                     write tasks into the project's {QUEUE}/ itself, and restart the daemon to show it"
                )
            });
            events.push(Event::Health { topic: format!("mount of {project}"), problem });
        }
        self.services.live.report(events).await;
    }

    /// Says so when git would take a queue into the repository around it, and when the mount covers files of somebody's.
    async fn look_at_queues(&self) {
        let projects = self.config.borrow().projects.iter().map(|row| row.name.clone()).collect::<Vec<_>>();
        let mut events = Vec::new();
        for project in projects {
            let Ok((in_repository, covered)) = self.queue.oddities(&project).await else { continue };
            let exposed = in_repository.then(|| {
                format!(
                    "the queue of project {project} is part of its git repository, so `git stash`, `checkout` and `clean` move its \
                     tasks; `claude-failover check --fix` writes the .gitignore that keeps it out"
                )
            });
            let covered = covered.filter(|_| self.mounted.is_some());
            let known = self.services.live.snapshot();
            for (topic, problem) in [(format!("git of {project}"), exposed), (format!("covered in {project}"), covered)]
            {
                if let Some(text) = problem.as_ref().filter(|text| known.health.get(&topic) != Some(text)) {
                    tracing::warn!("{text}");
                }
                events.push(Event::Health { topic, problem });
            }
        }
        self.services.live.report(events).await;
    }

    /// Says so when the operator's link leads elsewhere than to the active account, and when two homes hold one login. A swap under
    /// way turns the link.
    async fn look_at_homes(&self) {
        let snapshot = self.services.live.snapshot();
        if snapshot.swaps.current.is_some() {
            return;
        }
        let active: Vec<_> =
            snapshot.accounts.iter().filter(|account| account.active).map(|a| a.name.clone()).collect();
        let homes = self.homes.clone();
        let looked = tokio::task::spawn_blocking(move || (homes.astray(&active), homes.shared_logins())).await;
        let (astray, shared) = looked.unwrap_or_default();
        let shared = (!shared.is_empty()).then(|| shared.join("; "));
        let health = |topic: &str, problem| Event::Health { topic: topic.to_owned(), problem };
        self.services.live.report(vec![health("claude_link", astray), health("logins", shared)]).await;
    }

    /// Tells what the daemon and the tmux server use, and says so when the server, with which all agents would end, uses too much.
    async fn look_at_memory(&self) {
        let used = |pid| memory::memory(pid).map(|bytes| bytes.div_ceil(1 << 20));
        let (server, version) = (self.tmux.server_pid(), self.tmux.server_version().unwrap_or_default());
        let tmux = server.and_then(used);
        let memory = Memory { daemon: used(std::process::id()).unwrap_or_default(), tmux };
        let problem = tmux.filter(|used| *used > TMUX_MEMORY_MAX).map(|used| {
            // Another number each time would be another problem each time.
            let used = used / TMUX_MEMORY_MAX * TMUX_MEMORY_MAX;
            format!(
                "tmux server {} (version {version}) uses more than {used} MiB, and all agents end with it if the machine has no \
                 more: see what keeps it (scrollback of many sessions: tmux.history_limit), and when no task is at work end it \
                 with `tmux kill-server` on its socket: sessions come back by themselves",
                server.unwrap_or_default()
            )
        });
        let mut events = vec![Event::Health { topic: "tmux memory".to_owned(), problem }];
        if self.services.live.snapshot().memory != memory {
            events.push(Event::Memory(memory));
        }
        self.services.live.report(events).await;
    }

    /// Wakes poll waiters on each new snapshot. May be dropped at any time: it begins with a look.
    async fn wake_readers(&self) {
        let Some(mounted) = &self.mounted else { return std::future::pending().await };
        let mut snapshots = self.services.live.watch();
        loop {
            mounted.changed();
            if snapshots.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Waits for a request to the daemon itself and carries it out.
    pub async fn carry_out(&self) {
        let mut snapshots = self.services.live.watch();
        let id = loop {
            let snapshot = snapshots.borrow_and_update().clone();
            if let Some((id, _)) = snapshot.requests.iter().find(|(_, action)| ***action == Action::Reload) {
                break *id;
            }
            if snapshots.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let result = self.reload().map_err(|text| Refused::new(RefusedKind::Invalid, text));
        let mut events = Vec::new();
        if let Ok(text) = &result {
            self.note(Reason::Reloaded, text.clone()).await;
            // A key that was missing or wrong may be right now.
            let snapshot = self.services.live.snapshot();
            let broken = |provider: &&Provider| matches!(provider.standing, ProviderStanding::Broken { .. });
            let again = snapshot.delegation.providers.iter().filter(broken);
            events.extend(again.map(|provider| Event::Provider(provider.name.clone(), ProviderEvent::Works)));
        }
        events.push(Event::RequestDone { id, result });
        self.services.live.report(events).await;
    }

    /// Reads the configuration again and applies what can be applied live.
    ///
    /// # Errors
    /// When it can't be read or has mistakes: everything stays as it is.
    pub fn reload(&self) -> Result<String, String> {
        let Some(file) = &self.place.config_file else {
            return Err("this daemon was started without a configuration file; there is nothing to reload".to_owned());
        };
        let new = load_config(file, &paths::process_env).map_err(|error| format!("not reloaded: {error}"))?.config;
        let old = self.config.borrow().clone();
        let restart = setup::needs_restart(&old, &new);
        self.config.send_replace(setup::apply_live(&old, &new));
        Ok(match restart.as_slice() {
            [] => "reloaded".to_owned(),
            parts => format!("reloaded; a restart is needed for changes in {}", parts.join(", ")),
        })
    }

    /// Unmounts, stops the services, saves. Agents keep working.
    ///
    /// # Errors
    /// When the mount can't be detached.
    pub async fn stop(mut self) -> Result<(), Fatal> {
        drop(self.http.take());
        let unmounted = match self.mounted.take() {
            // Requests under way may still ask the owner, so it stops after the mount.
            Some(mounted) => {
                tokio::task::spawn_blocking(move || mounted.unmount()).await.map_err(fatal)?.map_err(fatal)
            }
            None => Ok(()),
        };
        self.services.stop().await;
        self.tmux.shutdown().await;
        unmounted
    }
}

/// What a start says of the state that it found.
#[derive(Default)]
struct Told {
    /// Nothing that was acknowledged as saved.
    cut: Option<String>,
    lost: Option<String>,
}

/// Loads the saved state. An unreadable one is set aside and reported; a newer one is refused.
async fn earlier_state(state: &StateDir) -> Result<(Option<State>, Told), Fatal> {
    let stored = state.load().await.map_err(|error| fatal(format!("the saved state can't be read: {error}")))?;
    let mut told = Told::default();
    match recover(stored.checkpoint.as_deref(), &stored.journal) {
        Ok(Recovered { state: found, loss: None }) => {
            let with_texts = |mut state: State| {
                state.entry("texts").or_insert_with(|| stored.texts.into_iter().collect());
                state
            };
            Ok((found.map(with_texts), told))
        }
        Ok(Recovered { state: found, loss: Some(loss @ Loss::Torn { .. }) }) => {
            tracing::warn!("{loss}");
            told.cut = Some(loss.to_string());
            Ok((found, told))
        }
        Ok(Recovered { state: found, loss: Some(loss @ Loss::Damaged { .. }) }) => {
            told.lost = Some(set_aside(state, &loss).await?);
            Ok((found, told))
        }
        Err(error @ LoadError::Newer { .. }) => Err(fatal(error)),
        Err(error @ LoadError::Broken(_)) => {
            told.lost = Some(set_aside(state, &error).await?);
            Ok((None, told))
        }
    }
}

async fn set_aside(state: &StateDir, why: &dyn std::error::Error) -> Result<String, Fatal> {
    let names = state.set_aside().await.map_err(|e| fatal(format!("{why}, and can't be set aside: {e}")))?;
    let text = format!(
        "{why}; it was set aside as {names}. Tasks are safe in their directories; those with a claim marker wait for a person \
         (`why` tells), because whether they ran is not known"
    );
    tracing::error!("{text}");
    Ok(text)
}

/// The saved world, or a new one.
async fn load_world(
    config: &Config,
    linked: Option<&AccountName>,
    state: &StateDir,
    saved: Option<State>,
    clock: &Arc<dyn Clock>,
    told: &mut Told,
) -> Result<World, Fatal> {
    let fresh = || uuid::Uuid::new_v4().to_string();
    let make = |saved: Option<State>| {
        let now = clock.now();
        let accounts = setup::accounts(config, linked, now);
        let mut world =
            live::load(saved, setup::projects(config), accounts, setup::delegation(config, now), fresh(), now)?;
        world.snapshot.pool_agent = Some(config.pool.autonomous.agent.clone());
        world.snapshot.restarts = (config.lifecycle.restart_first, config.lifecycle.restart_max);
        Ok::<World, LoadError>(world)
    };
    match make(saved) {
        Ok(world) => Ok(world),
        Err(error) => {
            told.lost = Some(set_aside(state, &error).await?);
            make(None).map_err(fatal)
        }
    }
}

fn gid_of(group: &str) -> Result<u32, Fatal> {
    let missing = || fatal(format!("mount.control_group: there is no group {group} on this machine"));
    Ok(nix::unistd::Group::from_name(group).ok().flatten().ok_or_else(missing)?.gid.as_raw())
}

/// Signals whose default is death and that come on ordinary days: SIGIO from a writer that comes just while the look for open
/// writers holds its lease, SIGXFSZ from a write past a limit of the file's size, which fails by itself. They are handled, not
/// ignored: what is started would inherit that.
fn outlive_signals() -> Result<(), Fatal> {
    for kind in [SignalKind::io(), SignalKind::from_raw(Signal::SIGXFSZ as i32)] {
        // The handler stays when its stream is dropped.
        drop(signal(kind).map_err(fatal)?);
    }
    Ok(())
}
