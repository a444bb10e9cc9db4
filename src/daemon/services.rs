//! Starts and stops all services together.
//! Takes ports, configuration and a loaded world; returns the owner's handle and the running tasks. The simulation
//! starts exactly this on its fakes.

use std::sync::Arc;

use tokio::{sync::watch, task::JoinSet};

use crate::{
    agents::SteadyAgents,
    config::Config,
    delegate::Delegate,
    dispatcher::Dispatcher,
    janitor::Janitor,
    live::{Hands, Live, World},
    model::{
        event::Event,
        ids::SessionName,
        session::{Role, Session},
        task::{Ending, Filing, Phase, Task, Work},
    },
    notify::Notices,
    ports::{Agents, Clock, Homes, Notifier, Providers, QueueStore, StateStore, Terminal},
    queue::Queue,
    quota::Quota,
    session::Sessions,
    switcher::Switcher,
    watcher::Watcher,
};

/// The outside world as the services see it.
#[derive(Clone)]
pub struct Ports {
    pub clock: Arc<dyn Clock>,
    pub terminal: Arc<dyn Terminal>,
    pub agents: Arc<dyn Agents>,
    pub queue: Arc<dyn QueueStore>,
    pub state: Arc<dyn StateStore>,
    pub homes: Arc<dyn Homes>,
    pub providers: Arc<dyn Providers>,
    pub notifier: Arc<dyn Notifier>,
    /// Makes ids that never come twice.
    pub new_id: Arc<dyn Fn() -> String + Send + Sync>,
}

/// What runs.
pub struct Services {
    pub live: Live,
    tasks: tokio::sync::Mutex<JoinSet<()>>,
}

impl Services {
    /// Starts the owner, brings in order what an earlier daemon left, then starts every service.
    pub async fn start(ports: &Ports, config: &watch::Receiver<Arc<Config>>, mut world: World) -> Self {
        fit_to_config(&mut world, &config.borrow(), &ports.clock);
        world.snapshot.rights = Arc::new(config.borrow().rights());
        let live = Live::start(world, ports.clock.clone(), ports.state.clone());
        let agents: Arc<dyn Agents> =
            Arc::new(SteadyAgents { agents: ports.agents.clone(), clock: ports.clock.clone() });
        let hands = Hands {
            live: live.clone(),
            config: config.clone(),
            clock: ports.clock.clone(),
            terminal: ports.terminal.clone(),
            agents,
            queue: ports.queue.clone(),
            state: ports.state.clone(),
            homes: ports.homes.clone(),
            providers: ports.providers.clone(),
            notifier: ports.notifier.clone(),
            new_id: ports.new_id.clone(),
        };
        let sessions = Sessions::new(hands.clone());
        sessions.clear_strays().await;
        let mut queue = Queue::new(hands.clone());
        queue.prepare().await;
        // The first look finds which sessions and runs survived, before anything acts on them.
        let mut watcher = Watcher::new(hands.clone());
        watcher.look().await;
        let dispatcher = Dispatcher::new(hands.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(queue.run());
        tasks.spawn(watcher.run());
        tasks.spawn(sessions.run());
        tasks.spawn(dispatcher.run());
        tasks.spawn(Quota { hands: hands.clone() }.run());
        tasks.spawn(Delegate::new(hands.clone()).run());
        tasks.spawn(Switcher { hands: hands.clone() }.run());
        tasks.spawn(Notices { hands: hands.clone() }.run());
        tasks.spawn(Janitor::new(hands).run());
        tasks.spawn(follow_rights(live.clone(), config.clone()));
        Self { live, tasks: tokio::sync::Mutex::new(tasks) }
    }

    /// Stops the services, then the owner. Agents keep working; the next daemon recovers them.
    pub async fn stop(self) {
        self.tasks.into_inner().shutdown().await;
        self.live.stop().await;
    }

    /// Completes when a service has ended by itself, which is a fault.
    pub async fn failed(&self) {
        let _ = self.tasks.lock().await.join_next().await;
    }
}

/// Tells the owner what a configuration that was read again says of rights; ends with the owner.
async fn follow_rights(live: Live, mut config: watch::Receiver<Arc<Config>>) {
    while config.changed().await.is_ok() {
        let rights = config.borrow_and_update().rights();
        live.report(vec![Event::Rights(Arc::new(rights))]).await;
    }
    std::future::pending::<()>().await;
}

/// Sessions of the configuration are there; others that still exist take no new task.
fn fit_to_config(world: &mut World, config: &Config, clock: &Arc<dyn Clock>) {
    let now = clock.now();
    let sessions = &mut world.snapshot.sessions;
    let mut wanted: Vec<(SessionName, Role)> =
        config.pool.dedicated.iter().map(|row| (row.name.clone(), Role::Dedicated)).collect();
    wanted.extend(config.pool.autonomous.names().map(|name| (name, Role::Pool)));
    let stale: Vec<SessionName> =
        sessions.keys().filter(|name| !wanted.iter().any(|(wanted, _)| wanted == *name)).cloned().collect();
    for name in stale {
        let Some(session) = sessions.get(&name).cloned() else { continue };
        if session.role == Role::Dedicated || session.task.is_none() {
            sessions.remove(&name);
        } else {
            sessions.insert(name, Arc::new(Session { drained: true, ..(*session).clone() }));
        }
    }
    for (name, role) in wanted {
        match sessions.get(&name).cloned() {
            Some(known) if known.role == role => {}
            Some(_) | None => {
                sessions.insert(name.clone(), Arc::new(Session::new(name, role, now)));
            }
        }
    }
    // An assignment without its run, or a run without its assignment, is not left standing.
    let assigned: Vec<_> = sessions.values().filter_map(|s| s.task.as_ref().map(|a| a.run.clone())).collect();
    let orphans: Vec<_> = world
        .snapshot
        .tasks
        .iter()
        .filter(|(_, task)| matches!(&task.phase, Phase::Working(run) if !assigned.contains(&run.id)))
        .map(|(key, task)| (key.clone(), task.clone()))
        .collect();
    for (key, task) in orphans {
        let Some(run) = task.phase.run() else { continue };
        match world.snapshot.sessions.get(&run.session).cloned() {
            Some(session) if session.role == Role::Pool && session.task.is_none() => {
                let assignment = crate::model::session::Assignment { task: key, run: run.id.clone() };
                let session = Session { task: Some(assignment), ..(*session).clone() };
                world.snapshot.sessions.insert(run.session.clone(), Arc::new(session));
            }
            // Nobody would ever end it: a person has the session now.
            Some(_) | None => {
                let error = format!(
                    "session {} is not the pool's any more; the agent may have done some of it, so it is not run again by \
                     itself",
                    run.session
                );
                let ending = Ending::failed(error, now);
                let phase = Phase::Filing(Filing { work: Some(Work::Run(run.clone())), ending });
                world.snapshot.tasks.insert(key, Arc::new(Task { phase, ..(*task).clone() }));
            }
        }
    }
}
