//! Tasks at providers: one that honours idempotency keys, as a job server does.

use std::{sync::Arc, time::Duration};

use claude_failover::{
    config::ProviderKind,
    model::{
        ids::{ProviderName, RunId},
        provider::{Order, Progress, ProviderError, ProviderStanding},
    },
    ports::Providers,
};
use claude_failover_sim::{FakeProvider, FakeWorld};

use crate::{
    kinds::{Peer, good},
    server::{Server, answer},
};

struct World {
    providers: Arc<dyn Providers>,
    _server: Option<(Server, tempfile::TempDir)>,
}

fn name() -> ProviderName {
    ProviderName::parse("p").expect("a name")
}

fn order(key: &str) -> Order {
    Order { key: RunId(key.to_owned()), prompt: "say hello".to_owned(), word: None, complexity: None }
}

fn over(server: Server, kind: ProviderKind) -> World {
    let Peer { providers, key, .. } = Peer::new(kind, &server.url());
    World { providers: Arc::new(providers), _server: Some((server, key)) }
}

async fn real() -> World {
    over(Server::always(good(ProviderKind::Openai, "hello")), ProviderKind::Openai)
}

async fn in_memory() -> World {
    let world = FakeWorld::new(1);
    world.attach(Duration::ZERO);
    world.with(|inner| inner.providers.insert(name(), FakeProvider::default()));
    World { providers: world, _server: None }
}

/// One that does not take the key.
async fn real_and_refusing() -> World {
    over(Server::always(answer(401, &[], r#"{"error": {"message": "Incorrect API key"}}"#)), ProviderKind::Openai)
}

async fn in_memory_and_refusing() -> World {
    let world = FakeWorld::new(1);
    world.attach(Duration::ZERO);
    let trouble = Some(ProviderError::Out(ProviderStanding::Broken { why: "no such key".to_owned() }));
    world.with(|inner| inner.providers.insert(name(), FakeProvider { trouble, ..FakeProvider::default() }));
    World { providers: world, _server: None }
}

contract!(super::real(), super::in_memory();
    a_job_that_was_begun_is_done_in_the_end,
    a_job_that_nobody_knows_is_unknown,
    a_job_that_was_cancelled_has_no_answer,
);

mod refusing {
    use super::a_provider_that_refuses_the_key_begins_nothing;
    contract!(super::super::real_and_refusing(), super::super::in_memory_and_refusing(); a_provider_that_refuses_the_key_begins_nothing);
}

async fn end(world: &World, job: &str) -> Progress {
    let looks = async {
        loop {
            match world.providers.look(&name(), job).await.expect("a look") {
                Progress::Running { .. } => tokio::time::sleep(Duration::from_millis(10)).await,
                ended => return ended,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), looks).await.expect("it ends")
}

async fn a_job_that_was_begun_is_done_in_the_end(world: World) {
    let job = world.providers.submit(&name(), &order("run-1")).await.expect("begun");
    match end(&world, &job).await {
        Progress::Done(answer) => assert!(answer.text.contains("hello"), "{answer:?}"),
        other => panic!("{other:?}"),
    }
}

async fn a_job_that_nobody_knows_is_unknown(world: World) {
    assert!(matches!(world.providers.look(&name(), "no-such-job").await, Ok(Progress::Unknown)));
    world.providers.cancel(&name(), "no-such-job").await.expect("one that is gone already is success");
}

async fn a_job_that_was_cancelled_has_no_answer(world: World) {
    let job = world.providers.submit(&name(), &order("run-1")).await.expect("begun");
    world.providers.cancel(&name(), &job).await.expect("cancelled");
    assert!(matches!(end(&world, &job).await, Progress::Failed(_) | Progress::Unknown));
    world.providers.cancel(&name(), &job).await.expect("again");
}

async fn a_provider_that_refuses_the_key_begins_nothing(world: World) {
    let refused = match world.providers.submit(&name(), &order("run-1")).await {
        Err(error) => error,
        // A stream's refusal comes with the first look.
        Ok(job) => world.providers.look(&name(), &job).await.expect_err("refused"),
    };
    assert!(matches!(refused, ProviderError::Out(ProviderStanding::Broken { .. })), "{refused:?}");
}
