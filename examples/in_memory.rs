//! The whole supervisor on a world in memory: three tasks, two sessions, one agent that dies, one that asks a person.
//! `cargo run --example in_memory` prints what happens, in simulated time.

use std::{sync::Arc, time::Duration};

use claude_failover::{
    config::{Config, Project},
    daemon::services::{Ports, Services},
    live::load,
    model::{
        command::Scope,
        event::Counts,
        ids::{ProjectName, TaskKey},
        pane::Exit,
        provider::Delegation,
        queue::QueueDir,
        session::Activity,
        snapshot,
        task::Phase,
    },
};
use claude_failover_sim::{Beat, FakeWorld, Script};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let project = ProjectName::parse("web")?;
    let projects = vec![Project { name: project.clone(), path: "/web".into() }];
    let mut config = Config { projects, ..Config::default() };
    config.pool.autonomous.min = 2;
    config.pool.autonomous.max = 2;

    let world = FakeWorld::new(7);
    world.with(|inner| {
        // After the scripts below, agents simply work.
        inner.calm = true;
        inner.pool = config.pool.autonomous.names().collect();
        let second = Duration::from_secs(1);
        inner.scripts.extend([
            Script { swallow: 2, ..Script::default() },
            Script { beats: vec![Beat::Work(second), Beat::Die(Exit::Signal(11))], ..Script::default() },
            Script { beats: vec![Beat::Work(second), Beat::Permission, Beat::Work(second)], ..Script::default() },
        ]);
        inner.put(&project, QueueDir::Inbox, "greet.md", b"Say hello.\n");
        inner.put(&project, QueueDir::Inbox, "mend.md", b"---\nretries: 2\n---\nMend the build.\n");
        inner.put(&project, QueueDir::Inbox, "last.md", b"---\npriority: -5\n---\nTidy up.\n");
    });

    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    runtime.block_on(async {
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
            new_id: Arc::new(move || format!("id-{}", ids.with(claude_failover_sim::Inner::number))),
        };
        let projects =
            vec![snapshot::Project { name: project.clone(), path: "/web".into(), counts: Counts::default() }];
        let loaded = load(None, projects, Vec::new(), Delegation::default(), "example".to_owned(), ports.clock.now())?;
        let (_keep, config) = tokio::sync::watch::channel(Arc::new(config));
        let services = Services::start(&ports, &config, loaded).await;
        let live = services.live.clone();
        let mut snapshots = live.watch();
        let mut printed = 0;
        loop {
            let snapshot = snapshots.borrow_and_update().clone();
            for line in snapshot.recent.iter().filter(|line| line.seq > printed) {
                println!("{}  {:<20} {}", line.time.strftime("%H:%M:%S%.3f"), line.about.object, line.text);
            }
            printed = snapshot.recent.last().map_or(printed, |line| line.seq);
            let waiting = snapshot.sessions.values().find(|s| matches!(s.verdict.activity, Activity::Waiting(_)));
            if let Some(session) = waiting {
                // A person thinks first; by then the agent has gone on from the last answer.
                tokio::time::sleep(Duration::from_secs(3)).await;
                let _ = live.ask(Scope::Keys(session.name.clone()), b"y".to_vec(), None, Duration::from_secs(2)).await;
            }
            let done = |name: &str| {
                let key = TaskKey::parse(&format!("{project}:{name}"));
                key.and_then(|key| snapshot.tasks.get(&key)).is_some_and(|t| matches!(t.phase, Phase::Finished(_)))
            };
            if ["greet", "mend", "last"].into_iter().all(done) || snapshots.changed().await.is_err() {
                break;
            }
        }
        services.stop().await;
        Ok::<(), Box<dyn std::error::Error>>(())
    })?;
    println!("\n--- done/mend.md ---");
    let file = world.with(|inner| inner.file(&project, QueueDir::Done, "mend.md").cloned());
    println!("{}", file.map(|file| String::from_utf8_lossy(&file.bytes).into_owned()).unwrap_or_default());
    Ok(())
}
