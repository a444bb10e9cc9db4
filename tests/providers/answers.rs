//! Successful answers: the request, streamed text, tokens, cost, ids; jobs at a job server.

use claude_failover::{
    config::{Price, ProviderKind},
    model::{
        evidence::Tokens,
        provider::{Answer, Progress, ProviderError, ProviderStanding},
    },
    ports::Providers as _,
};
use serde_json::{Value, json};

use crate::{
    kinds::{KEY, Peer, STREAMING, events, good},
    server::{Gate, Request, Server, Step, answer, event, stream},
};

const PRICE: Price = Price { input: 2.0, output: 10.0 };

fn pace() -> claude_failover::sys::providers::Pace {
    claude_failover::sys::providers::Pace::default()
}

#[track_caller]
fn done(end: Progress) -> Answer {
    match end {
        Progress::Done(answer) => answer,
        Progress::Running { .. } | Progress::Failed(_) | Progress::Declined(_) | Progress::Unknown => panic!("{end:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_is_asked_in_its_own_way() {
    let at = |request: &Request, place: &str| request.body.pointer(place).cloned().unwrap_or_default();
    for kind in ProviderKind::ALL {
        let server = Server::always(good(kind, "hello"));
        let peer = Peer::new(kind, &server.url());
        peer.submit("run-1").await.expect("taken");
        let request = server.requests().remove(0);
        assert_eq!(request.method, "POST");
        assert_eq!(request.header("idempotency-key"), "run-1");
        let (path, key, prompt) = match kind {
            ProviderKind::Secutools => ("/api/v1/jobs", "authorization", "/prompt"),
            ProviderKind::Openai => ("/chat/completions", "authorization", "/messages/0/content"),
            ProviderKind::Anthropic => ("/v1/messages", "x-api-key", "/messages/0/content"),
            ProviderKind::Gemini => {
                ("/v1beta/models/m-1:streamGenerateContent?alt=sse", "x-goog-api-key", "/contents/0/parts/0/text")
            }
        };
        assert_eq!(request.path, path);
        assert_eq!(request.header(key).trim_start_matches("Bearer "), KEY);
        assert_eq!(at(&request, prompt), "say hello");
        match kind {
            ProviderKind::Secutools => {
                assert_eq!(at(&request, "/preferred_ai"), "gpu");
                assert_eq!(at(&request, "/complexity_hint"), "low");
            }
            ProviderKind::Openai | ProviderKind::Anthropic => {
                assert_eq!(at(&request, "/max_tokens"), 8192);
                assert_eq!(at(&request, "/stream"), true);
            }
            ProviderKind::Gemini => assert_eq!(at(&request, "/generationConfig/maxOutputTokens"), 8192),
        }
        assert_eq!(peer.providers.repeats(&peer.name), kind == ProviderKind::Secutools);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_grows_and_ends_with_tokens_and_cost() {
    for kind in STREAMING {
        let gate = Gate::default();
        let script = gate.clone();
        let server = Server::start(move |_| {
            let events = events(kind, "the first part, ");
            let mut steps = vec![stream()];
            // All that is said of the text, once; then the rest.
            let text = events.iter().position(|data| data.contains("first")).expect("the text");
            steps.extend(events[..=text].iter().map(|data| event(data)));
            steps.push(Step::Wait(script.clone()));
            steps.extend(events[text..].iter().map(|data| event(&data.replace("first part, ", "second"))));
            steps
        });
        let peer = Peer::with(kind, &server.url(), pace(), |row| row.price = Some(PRICE));
        let job = peer.submit("run-1").await.expect("taken");
        let seen = peer.until(&job, |progress| *progress != Progress::Running { output: None }).await;
        assert_eq!(seen, Progress::Running { output: Some("the first part, ".into()) });
        gate.open();
        let answer = done(peer.end(&job).await);
        assert_eq!(answer.text, "the first part, the second");
        assert_eq!(answer.tokens, Some(Tokens { input: 900, output: 200, cache_read: 100, cache_write: 0 }));
        // 1000 × 2 $ and 200 × 10 $ a million.
        assert_eq!(answer.cost_usd, Some(0.004));
        let id = match kind {
            ProviderKind::Openai => "chatcmpl-1",
            ProviderKind::Anthropic => "msg_1",
            ProviderKind::Gemini | ProviderKind::Secutools => "g-1",
        };
        assert_eq!(job, id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cost_is_the_providers_own_or_the_tables_or_none() {
    let told = json!({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1, "cost": 0.5}}).to_string();
    let untold = json!({"choices": [], "usage": null}).to_string();
    let said = json!({"choices": [{"delta": {"content": "x"}, "finish_reason": "stop"}]}).to_string();
    for (usage, price, expected) in
        [(&told, Some(PRICE), Some(0.5)), (&told, None, Some(0.5)), (&untold, Some(PRICE), None), (&untold, None, None)]
    {
        let server = Server::always(vec![stream(), event(&said), event(usage), event("[DONE]")]);
        let peer = Peer::with(ProviderKind::Openai, &server.url(), pace(), |row| row.price = price);
        let job = peer.submit("run-1").await.expect("taken");
        assert_eq!(job, "run-1", "without an id of its own");
        assert_eq!(done(peer.end(&job).await).cost_usd, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_stream_is_understood() {
    let body = json!({"id": "c", "choices": [{"message": {"content": "whole"}, "finish_reason": "stop"}]}).to_string();
    let server = Server::always(answer(200, &["content-type: application/json"], &body));
    let peer = Peer::new(ProviderKind::Openai, &server.url());
    let job = peer.submit("run-1").await.expect("taken");
    assert_eq!(done(peer.end(&job).await).text, "whole");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_answer_says_so_and_one_that_is_none_fails() {
    let ends = |kind, text: &str, from: &str, to: &str| {
        let events = events(kind, text);
        let events = events.iter().map(|data| event(&data.replace(from, to)));
        Server::always(std::iter::once(stream()).chain(events).collect())
    };
    for (kind, end, length, declined) in [
        (ProviderKind::Openai, r#""stop""#, r#""length""#, r#""content_filter""#),
        (ProviderKind::Anthropic, r#""end_turn""#, r#""max_tokens""#, r#""refusal""#),
        (ProviderKind::Gemini, r#""STOP""#, r#""MAX_TOKENS""#, r#""SAFETY""#),
    ] {
        let run = async |server: Server| {
            let peer = Peer::new(kind, &server.url());
            let job = peer.submit("run-1").await.expect("taken");
            peer.end(&job).await
        };
        let text = done(run(ends(kind, "long", end, length)).await).text;
        assert!(text.starts_with("long\n\n[Cut off here") && text.contains("8192"), "{text}");
        let end = run(ends(kind, "I won't", end, declined)).await;
        assert!(matches!(&end, Progress::Failed(why) if why.contains(declined.trim_matches('"'))), "{end:?}");
        let end = run(ends(kind, "  ", "-", "-")).await;
        assert!(matches!(&end, Progress::Failed(why) if why.contains("empty")), "{end:?}");
        // A key that comes back is not shown.
        let text = done(run(ends(kind, &format!("your key is {KEY}!"), "-", "-")).await).text;
        assert!(!text.contains(KEY), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_one_id_are_kept_apart() {
    let server =
        Server::start(|request| good(ProviderKind::Openai, &format!("for {}", request.header("idempotency-key"))));
    let peer = Peer::new(ProviderKind::Openai, &server.url());
    let one = peer.submit("run-1").await.expect("taken");
    let two = peer.submit("run-2").await.expect("taken");
    assert_ne!(one, two);
    assert_eq!(done(peer.end(&two).await).text, "for run-2");
    assert_eq!(done(peer.end(&one).await).text, "for run-1");
}

/// Asks a job server once about a job; its answer and what came of it.
async fn looked(status: u16, body: &Value) -> Result<Progress, ProviderError> {
    let server = Server::always(answer(status, &[], &body.to_string()));
    Peer::with(ProviderKind::Secutools, &server.url(), pace(), |row| row.price = Some(PRICE)).look("job-1").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_servers_words_are_understood() {
    let running = |output: Option<&str>| Ok(Progress::Running { output: output.map(Into::into) });
    let tokens = json!({"input": 1000, "output": 200});
    let answer = |cost_usd| {
        let tokens = Some(Tokens { input: 1000, output: 200, cache_read: 0, cache_write: 0 });
        Ok(Progress::Done(Answer { text: "42".to_owned(), tokens, cost_usd: Some(cost_usd) }))
    };
    let rows = [
        (json!({"id": "job-1", "status": "queued"}), running(None)),
        (json!({"status": "running", "output": "so far", "unknown": 1}), running(Some("so far"))),
        (json!({"status": "completed", "output": "42", "tokens": tokens}), answer(0.004)),
        (json!({"status": "completed", "output": "42", "tokens": tokens, "cost_usd": 0.5}), answer(0.5)),
        (json!({"status": "completed", "output": " "}), Ok(Progress::Failed("its answer is empty".into()))),
        (json!({"status": "failed", "error": "broke"}), Ok(Progress::Failed("broke".into()))),
        (json!({"status": "failed", "error": {"message": "m"}}), Ok(Progress::Failed("m".into()))),
        (json!({"status": "cancelled"}), Ok(Progress::Failed("the job was cancelled there".into()))),
    ];
    for (body, expected) in rows {
        assert_eq!(looked(200, &body).await, expected, "{body}");
    }
    assert_eq!(looked(404, &json!({})).await, Ok(Progress::Unknown));
    for odd in [json!({"status": "strange"}), json!({}), json!([1]), json!({"status": 1})] {
        let answer = looked(200, &odd).await;
        assert!(matches!(answer, Err(ProviderError::Out(ProviderStanding::Cooling { .. }))), "{odd}: {answer:?}");
    }
    for error in ["credit balance too low", "litellm.types.router.RouterRateLimitError: cooldown 60s"] {
        let end = looked(200, &json!({"status": "failed", "error": error})).await;
        assert!(matches!(end, Ok(Progress::Declined(ProviderError::Out(_)))), "{error}: {end:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_servers_answer_may_be_cut_or_huge_and_its_ids_strange() {
    let huge = Server::always(vec![stream(), Step::Drip(vec![b' '; 1 << 20], std::time::Duration::ZERO)]);
    let half = Server::always(vec![Step::Send(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{\"status\"".to_vec())]);
    for (server, word) in [(huge, "larger than 10 MiB"), (half, "connection broke")] {
        let answer = Peer::new(ProviderKind::Secutools, &server.url()).look("job-1").await;
        assert!(answer.as_ref().is_err_and(|error| error.to_string().contains(word)), "{answer:?}");
    }
    for (body, taken) in [
        (json!({"id": 7}), true),
        (json!({"job_id": "x"}), true),
        (json!({"id": ""}), false),
        (json!({"id": "a\u{1b}[2J"}), false),
        (json!({"id": "x".repeat(500)}), false),
        (json!({}), false),
    ] {
        let server = Server::always(answer(200, &[], &body.to_string()));
        assert_eq!(Peer::new(ProviderKind::Secutools, &server.url()).submit("run-1").await.is_ok(), taken, "{body}");
    }
    let server = Server::always(answer(200, &[], r#"{"status": "queued"}"#));
    let peer = Peer::new(ProviderKind::Secutools, &server.url());
    for (id, path) in [("a/../b?c", "/api/v1/jobs/a%2F..%2Fb%3Fc"), ("plain-1", "/api/v1/jobs/plain-1")] {
        peer.look(id).await.expect("a look");
        assert_eq!(server.requests().last().expect("one").path, path);
    }
    assert!(matches!(peer.look("..").await, Err(ProviderError::Refused(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_cancelled_where_it_is() {
    for (status, good) in [(200, true), (204, true), (404, true), (410, true), (403, false)] {
        let server = Server::always(answer(status, &[], ""));
        let peer = Peer::new(ProviderKind::Secutools, &server.url());
        assert_eq!(peer.providers.cancel(&peer.name, "job-1").await.is_ok(), good, "{status}");
        let request = server.requests().remove(0);
        assert_eq!((request.method.as_str(), request.path.as_str()), ("DELETE", "/api/v1/jobs/job-1"));
        assert_eq!(request.header("authorization"), format!("Bearer {KEY}"));
    }
}
