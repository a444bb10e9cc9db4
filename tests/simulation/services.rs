//! The daemon's services over any ports, as the daemon itself starts them.

use std::sync::Arc;

use claude_failover::{
    config::Config,
    dispatcher::Dispatcher,
    live::{Live, load},
    model::{
        session::{Role, Session},
        snapshot::Project,
    },
    ports::{Agents, Clock, QueueStore, StateStore, Terminal},
    queue::Queue,
    session::{Sessions, Tools},
    watcher::Watcher,
};
use tokio::sync::watch;

/// Every outside edge.
#[derive(Clone)]
pub struct Ports {
    pub clock: Arc<dyn Clock>,
    pub terminal: Arc<dyn Terminal>,
    pub agents: Arc<dyn Agents>,
    pub queue: Arc<dyn QueueStore>,
    pub state: Arc<dyn StateStore>,
    pub new_id: Arc<dyn Fn() -> String + Send + Sync>,
}

/// A running daemon: the owner's handle. Its tasks end with the runtime.
pub async fn start_services(ports: Ports, config: Arc<Config>) -> Live {
    let saved = ports.state.load().await.expect("the state can be read");
    let projects = config.projects.iter().map(|project| Project {
        name: project.name.clone(),
        path: project.path.clone(),
        counts: claude_failover::model::event::Counts::default(),
    });
    let now = ports.clock.now();
    let mut world = load(saved.as_deref(), projects.collect(), Vec::new(), (ports.new_id)(), now)
        .expect("the state can be understood");
    let dedicated = config.pool.dedicated.iter().map(|row| (row.name.clone(), Role::Dedicated));
    for (name, role) in dedicated.chain(config.pool.autonomous.names().map(|name| (name, Role::Pool))) {
        if !world.snapshot.sessions.contains_key(&name) {
            world.snapshot.sessions.insert(name.clone(), Arc::new(Session::new(name, role, now)));
        }
    }

    let (_, config) = watch::channel(config);
    let Ports { clock, terminal, agents, queue, state, new_id } = ports;
    let live = Live::start(world, clock.clone(), state.clone());
    let mut files = Queue::new(live.clone(), queue.clone(), state.clone(), clock.clone(), config.clone());
    files.prepare().await;
    let tools = Tools {
        live: live.clone(),
        terminal: terminal.clone(),
        agents: agents.clone(),
        queue: queue.clone(),
        state: state.clone(),
        clock: clock.clone(),
        config: config.clone(),
        new_id: new_id.clone(),
    };
    tokio::spawn(Watcher::new(live.clone(), terminal, agents, clock.clone(), config.clone()).run());
    tokio::spawn(files.run());
    tokio::spawn(Dispatcher::new(live.clone(), queue, state, clock, config, new_id).run());
    tokio::spawn(Sessions::new(tools).run());
    live
}
