//! LiteLLM's real proxy: its answers are understood, and a task is done through it.

use claude_failover::{
    config::ProviderKind,
    model::provider::{Progress, ProviderError, ProviderStanding},
    sys::providers::Pace,
};

use crate::{
    kinds::Peer,
    litellm_proxy::{KEY, Proxy},
    world::{Setup, World},
};

fn peer(proxy: &Proxy, model: &str, key: &str) -> (Peer, tempfile::NamedTempFile) {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), key).expect("written");
    let peer = Peer::with(ProviderKind::Openai, &proxy.url(), Pace::default(), |row| {
        row.model = Some(model.to_owned());
        row.key_file = Some(file.path().to_owned());
    });
    (peer, file)
}

async fn asked(proxy: &Proxy, model: &str, key: &str) -> Result<Progress, ProviderError> {
    let (peer, _key) = peer(proxy, model, key);
    let job = peer.submit("run-1").await?;
    assert!(job.starts_with("chatcmpl-"), "{job}");
    Ok(peer.end(&job).await)
}

/// The state's word, and the reason.
#[track_caller]
fn out(answer: Result<Progress, ProviderError>) -> (&'static str, String) {
    match answer {
        Err(ProviderError::Out(standing)) => (standing.word(), standing.why().unwrap_or_default().to_owned()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_its_answers_means_what_it_means() {
    let Some(mut proxy) = Proxy::start() else { return };
    let answer = asked(&proxy, "good", KEY).await;
    let Ok(Progress::Done(answer)) = answer else { panic!("{answer:?}") };
    assert_eq!(answer.text, "hello from the proxy");
    assert!(answer.tokens.is_some_and(|tokens| tokens.input > 0 && tokens.output > 0), "{answer:?}");
    assert!(answer.cost_usd.is_some_and(|cost| cost > 0.0), "{answer:?}");

    assert_eq!(out(asked(&proxy, "limited", KEY).await).0, "cooling");
    // Now the proxy itself leaves the model alone and says for how long.
    let before = jiff::Timestamp::now();
    match asked(&proxy, "limited", KEY).await {
        Err(ProviderError::Out(ProviderStanding::Cooling { why, until })) => {
            assert!(why.contains("Try again in"), "{why}");
            let pause = until.duration_since(before).as_secs();
            assert!((50..=65).contains(&pause), "{pause}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(out(asked(&proxy, "broken", KEY).await).0, "cooling");
    // The first answer spends the budget; the proxy counts a moment later.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let (word, why) = loop {
        match asked(&proxy, "poor", KEY).await {
            Ok(Progress::Done(_)) if std::time::Instant::now() < deadline => {}
            answer => break out(answer),
        }
    };
    assert_eq!(word, "exhausted", "{why}");
    assert!(why.contains("budget"), "{why}");
    assert_eq!(out(asked(&proxy, "nobody", KEY).await).0, "broken");
    assert_eq!(out(asked(&proxy, "good", "sk-wrong-key-of-nobody").await).0, "broken");
    proxy.end();
    let (word, why) = out(asked(&proxy, "good", KEY).await);
    assert_eq!(word, "cooling");
    assert!(why.contains("127.0.0.1") && !why.contains(KEY), "{why}");
}

#[test]
fn a_task_that_prefers_gemini_is_done_through_it_and_an_empty_budget_is_passed_by() {
    let Some(proxy) = Proxy::start() else { return };
    let row = |name: &str, model: &str, more: &str| {
        format!(
            "  {name}: {{kind: openai, url: '{}', model: {model}, key_env: TEST_KEY, poll: 100ms{more}}}\n",
            proxy.url()
        )
    };
    let rows = row("gemini", "good", "") + &row("poor", "poor", ", fallback: [gemini]");
    let mut setup = Setup::agents(1).more(&format!("providers:\n{rows}"));
    setup.env = vec![("TEST_KEY".to_owned(), KEY.to_owned())];
    let world = World::start(&setup);
    let task = |ai: &str| format!("---\npreferred_ai: {ai}\nallow_delegation: true\n---\nsay hello\n");
    world.submit("a", &task("gemini"));
    let result = world.result("done/a.md");
    for part in ["hello from the proxy", "provider: gemini", "job: chatcmpl-", "cost_usd: 0.0"] {
        assert!(result.contains(part), "no {part:?} in {result}");
    }
    // The first of these spends all there is; from then on the next in the chain does them.
    let mut n = 0;
    loop {
        n += 1;
        world.submit(&format!("b{n}"), &task("poor"));
        let result = world.result(&format!("done/b{n}.md"));
        if result.contains("provider: gemini") {
            break;
        }
        assert!(n < 20 && result.contains("provider: poor"), "{result}");
    }
    assert!(world.events().contains("exhausted"), "{}", world.events());
}
