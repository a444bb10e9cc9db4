//! Cost of a task doesn't grow with the queue: the whole daemon in memory, with few and with many waiting tasks.
//! Compares this thread's CPU time, not wall time; `cargo run --example bench flat` measures the real thing.

use std::{sync::Arc, time::Duration};

use claude_failover::{
    config::{Config, Project},
    daemon::services::{Ports, Services},
    live::load,
    model::{
        event::Counts,
        ids::ProjectName,
        provider::Delegation,
        queue::QueueDir,
        snapshot::{self, Snapshot},
    },
};
use claude_failover_sim::{FakeWorld, Inner};

const SESSIONS: u32 = 4;
const FEW: usize = 100;
const MANY: usize = 3000;
/// Done before the clock begins: the start looks at everything once.
const WARM: u64 = 10;
const MEASURED: u64 = 50;
/// What is walked through for each task would make it thirty times as much.
const AT_MOST: f64 = 2.0;

#[test]
fn a_task_costs_the_same_however_many_wait() {
    let (few, many) = (cost(FEW), cost(MANY));
    let ratio = many.as_secs_f64() / few.as_secs_f64();
    println!("{MEASURED} tasks: {few:?} with {FEW} waiting, {many:?} with {MANY}: {ratio:.2} ×");
    assert!(ratio < AT_MOST, "{few:?} with {FEW} waiting, {many:?} with {MANY}: {ratio:.2} ×");
}

/// Processor time of the measured tasks.
fn cost(waiting: usize) -> Duration {
    let project = ProjectName::parse("web").expect("a name");
    let projects = vec![Project { name: project.clone(), path: "/web".into() }];
    let mut config = Config { projects, ..Config::default() };
    (config.pool.autonomous.min, config.pool.autonomous.max) = (SESSIONS, SESSIONS);
    // Looks at everything cost what there is, and come by time.
    config.lifecycle.reconcile = Duration::from_secs(24 * 3600);
    config.janitor.interval = Duration::from_secs(24 * 3600);
    let world = FakeWorld::new(7);
    world.with(|inner| {
        inner.calm = true;
        inner.pool = config.pool.autonomous.names().collect();
        for n in 0..waiting {
            inner.put(&project, QueueDir::Inbox, &format!("t{n:05}.md"), format!("task {n}\n").as_bytes());
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        world.attach(Duration::ZERO);
        let ids = world.clone();
        let ports = Ports {
            clock: world.clone(),
            terminal: world.clone(),
            agents: world.clone(),
            queue: world.clone(),
            state: world.clone(),
            homes: world.clone(),
            providers: world.clone(),
            notifier: world.clone(),
            new_id: Arc::new(move || format!("id-{}", ids.with(Inner::number))),
        };
        let projects = vec![snapshot::Project { name: project, path: "/web".into(), counts: Counts::default() }];
        let loaded = load(None, projects, Vec::new(), Delegation::default(), "flat".to_owned(), ports.clock.now());
        let (_keep, config) = tokio::sync::watch::channel(Arc::new(config));
        let services = Services::start(&ports, &config, loaded.expect("a world")).await;
        let mut snapshots = services.live.watch();
        let mut until = async |count: u64| {
            let ends = |snapshot: &Arc<Snapshot>| snapshot.finished.iter().sum::<u64>() >= count;
            snapshots.wait_for(ends).await.expect("the owner");
        };
        until(WARM).await;
        let before = cpu();
        until(WARM + MEASURED).await;
        let used = cpu().saturating_sub(before);
        services.stop().await;
        used
    })
}

fn cpu() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a clock").into()
}
