//! Each class of error at each kind of provider: its meaning, and the number of retries.

use std::{net::TcpListener, time::Duration};

use claude_failover::{
    config::{Provider, ProviderKind},
    model::provider::{Progress, ProviderError, ProviderStanding},
    sys::providers::Pace,
};
use jiff::{SignedDuration, Timestamp};

use crate::{
    kinds::{KEY, Peer, STREAMING, after, events, good},
    server::{Gate, Server, Step, answer, chunk, chunked, event, stream},
};

/// What becomes of a submit.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Taken,
    Refused,
    Exhausted,
    /// For this many seconds.
    Cooling(i64),
    Broken,
}

fn fate(answer: &Result<String, ProviderError>, before: Timestamp) -> Fate {
    match answer {
        Ok(_) => Fate::Taken,
        Err(ProviderError::Refused(_)) => Fate::Refused,
        Err(ProviderError::Out(ProviderStanding::Exhausted { .. })) => Fate::Exhausted,
        Err(ProviderError::Out(ProviderStanding::Broken { .. })) => Fate::Broken,
        Err(ProviderError::Out(ProviderStanding::Cooling { until, .. })) => {
            // The pause began somewhere between.
            let (longest, took) = (until.duration_since(before), Timestamp::now().duration_since(before));
            let known = [60, 31, 120].map(SignedDuration::from_secs);
            let found = known.into_iter().find(|pause| (*pause..=*pause + took).contains(&longest));
            Fate::Cooling(found.unwrap_or(longest).as_secs())
        }
        Err(ProviderError::Out(ProviderStanding::Usable)) => panic!("out and usable"),
    }
}

/// Runs one row at every kind at once. Fates and counts of requests: of a server with jobs, of one that answers on the
/// request's own connection.
async fn row(name: &str, steps: Vec<Vec<Step>>, fates: [Fate; 2], counts: [usize; 2]) {
    let kinds = ProviderKind::ALL.map(|kind| {
        let (name, steps) = (name.to_owned(), steps.clone());
        tokio::spawn(async move {
            let server = after(kind, steps);
            let pace = Pace { idle: Duration::from_secs(1), ask: Duration::from_secs(1) };
            let peer = Peer::with(kind, &server.url(), pace, |_| {});
            let before = Timestamp::now();
            let answer = peer.submit("run-1").await;
            let told = format!("{name} at {}: {answer:?}", kind.name());
            let at = usize::from(kind != ProviderKind::Secutools);
            assert_eq!(fate(&answer, before), fates[at], "{told}");
            assert!(!told.contains(KEY), "{told}");
            let requests = server.requests();
            assert_eq!(requests.len(), counts[at], "{told}");
            assert!(requests.iter().all(|request| request.header("idempotency-key") == "run-1"), "{told}");
        })
    });
    for kind in kinds {
        kind.await.unwrap_or_else(|_| panic!("{name}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_says_decides_and_is_not_asked_again() {
    let once = [1, 1];
    let said = |status, body: &str| vec![answer(status, &["content-type: application/json"], body)];
    row("wrong key", said(401, r#"{"error":{"message":"no"}}"#), [Fate::Broken; 2], once).await;
    row("its key told", said(401, &format!("Incorrect API key: {KEY}")), [Fate::Broken; 2], once).await;
    row("forbidden", said(403, ""), [Fate::Broken; 2], once).await;
    row("no such model", said(404, ""), [Fate::Broken; 2], once).await;
    row("bad request", said(400, "too long"), [Fate::Refused; 2], once).await;
    row("unprocessable", said(422, "insufficient_quota is its subject"), [Fate::Refused; 2], once).await;
    row("payment", said(402, ""), [Fate::Exhausted; 2], once).await;
    row("credit", said(400, "Your credit balance is too low"), [Fate::Exhausted; 2], once).await;
    row("quota", said(429, r#"{"error":{"code":"insufficient_quota"}}"#), [Fate::Exhausted; 2], once).await;
    row("budget", said(429, r#"{"code":"budget_limit_exceeded"}"#), [Fate::Exhausted; 2], once).await;
    row("router", said(429, "RouterRateLimitError: … cooldown 60s"), [Fate::Cooling(60); 2], once).await;
    row("gemini", said(429, r#"{"error":{"details":[{"retryDelay":"31s"}]}}"#), [Fate::Cooling(31); 2], once).await;
    row("too many", said(429, ""), [Fate::Cooling(60); 2], once).await;
    row("too many, told", vec![answer(429, &["retry-after: 120"], "")], [Fate::Cooling(120); 2], once).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_servers_own_trouble_is_tried_again() {
    let trouble = |status| answer(status, &[], "");
    row("500 once", vec![trouble(500)], [Fate::Taken; 2], [2, 2]).await;
    row("retry-after", vec![answer(503, &["retry-after: 1"], "")], [Fate::Taken; 2], [2, 2]).await;
    row("retry-after, long", vec![answer(503, &["retry-after: 120"], "")], [Fate::Cooling(120); 2], [1, 1]).await;
    row("500 again and again", vec![trouble(500); 9], [Fate::Cooling(60); 2], [4, 4]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_under_way_is_sent_again_only_where_it_is_not_paid_twice() {
    let fates = [Fate::Taken, Fate::Cooling(60)];
    row("gateway", vec![answer(504, &[], "")], fates, [2, 1]).await;
    row("closed without a word", vec![vec![]], fates, [2, 1]).await;
    row("silent", vec![vec![Step::Hang]], fates, [2, 1]).await;
    row("half a head", vec![vec![Step::Send(b"HTTP/1.1 200 O".to_vec())]], fates, [2, 1]).await;
    row("no HTTP", vec![vec![Step::Send(b"220 smtp ready\r\n".to_vec())]], fates, [2, 1]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_never_goes_along_with_a_redirect() {
    let thief = Server::always(answer(200, &[], "{}"));
    let to = format!("location: {}/elsewhere", thief.url());
    for status in [301, 302, 303, 307, 308] {
        row("redirect", vec![answer(status, &[&to], "")], [Fate::Broken; 2], [1, 1]).await;
    }
    assert_eq!(thief.requests().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_port_is_tried_again_whatever_the_kind() {
    for kind in [ProviderKind::Secutools, ProviderKind::Gemini] {
        let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address");
        let peer = Peer::new(kind, &format!("http://{port}"));
        let submit = peer.submit("run-1");
        tokio::pin!(submit);
        // Nobody is there for the first try.
        assert!(tokio::time::timeout(Duration::from_millis(200), &mut submit).await.is_err());
        let server = Server::at(&port.to_string(), move |_| good(kind, "hello"));
        assert!(submit.await.is_ok());
        assert_eq!(server.requests().len(), 1);
    }
    let peer = Peer::new(ProviderKind::Openai, "http://127.0.0.1:1");
    let before = Timestamp::now();
    let answer = peer.submit("run-1").await;
    assert_eq!(fate(&answer, before), Fate::Cooling(60), "{answer:?}");
    assert!(format!("{answer:?}").contains("4 tries"), "{answer:?}");
}

type Change = fn(&mut Provider);

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_missing_is_the_providers_trouble_and_nothing_is_sent() {
    let server = Server::always(answer(200, &[], "{}"));
    for kind in ProviderKind::ALL {
        let pace = Pace::default();
        let changes: [(&str, Change); 3] = [
            ("NO_SUCH_VARIABLE", |row| (row.key_file, row.key_env) = (None, Some("NO_SUCH_VARIABLE".into()))),
            ("/nonexistent/key", |row| row.key_file = Some("/nonexistent/key".into())),
            ("/dev/null", |row| row.key_file = Some("/dev/null".into())),
        ];
        for (what, change) in changes {
            let peer = Peer::with(kind, &server.url(), pace, change);
            let answer = peer.submit("run-1").await;
            assert_eq!(fate(&answer, Timestamp::now()), Fate::Broken);
            assert!(format!("{answer:?}").contains(what), "{answer:?}");
        }
    }
    assert_eq!(server.requests().len(), 0);
}

/// Streams `steps` and answers how the job ended.
async fn streamed(kind: ProviderKind, steps: Vec<Step>, change: impl FnOnce(&mut Provider)) -> Progress {
    let server = Server::always(std::iter::once(stream()).chain(steps).collect());
    let pace = Pace { idle: Duration::from_secs(1), ask: Duration::from_secs(1) };
    let peer = Peer::with(kind, &server.url(), pace, change);
    let job = peer.submit("run-1").await.expect("taken");
    let end = peer.end(&job).await;
    assert_eq!(server.requests().len(), 1);
    assert_eq!(peer.look(&job).await.expect("a look"), Progress::Unknown, "an end is told once");
    end
}

#[track_caller]
fn failed(end: &Progress, with: &str) {
    assert!(matches!(end, Progress::Failed(why) if why.contains(with)), "{end:?} instead of {with:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_is_no_answer() {
    for kind in STREAMING {
        let half: Vec<Step> = events(kind, "half of it").iter().take(2).map(|data| event(data)).collect();
        failed(&streamed(kind, half.clone(), |_| {}).await, "before the answer did");
        let silent = [half.clone(), vec![Step::Hang]].concat();
        failed(&streamed(kind, silent, |_| {}).await, "nothing came for 1s");
        let drip = [half.clone(), vec![Step::Drip(b": still there\n".to_vec(), Duration::from_millis(50))]].concat();
        failed(&streamed(kind, drip, |row| row.timeout = Duration::from_secs(2)).await, "nothing came");
        let flood = [half.clone(), vec![Step::Drip(vec![b'x'; 1 << 20], Duration::ZERO)]].concat();
        failed(&streamed(kind, flood, |_| {}).await, "larger than 10 MiB");
        let noise = [half, vec![event("<html>")]].concat();
        failed(&streamed(kind, noise, |_| {}).await, "no JSON");
    }
    // A chunked answer without its last chunk.
    let server = Server::always(vec![chunked(), chunk(&events(ProviderKind::Openai, "x")[1])]);
    let peer = Peer::new(ProviderKind::Openai, &server.url());
    let job = peer.submit("run-1").await.expect("taken");
    failed(&peer.end(&job).await, "the connection broke");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_purse_in_the_middle_of_an_answer_is_the_providers() {
    let error = r#"{"error": {"code": 402, "message": "Insufficient credits"}}"#;
    for kind in STREAMING {
        let half: Vec<Step> =
            events(kind, "half").iter().take(2).map(|data| event(data)).chain([event(error)]).collect();
        let end = streamed(kind, half, |_| {}).await;
        let out = matches!(&end, Progress::Declined(ProviderError::Out(ProviderStanding::Exhausted { .. })));
        assert!(out, "{end:?}");
        // Before anything was said it is as if it had not been taken.
        let server = Server::always(vec![stream(), event(error)]);
        let answer = Peer::new(kind, &server.url()).submit("run-1").await;
        assert_eq!(fate(&answer, Timestamp::now()), Fate::Exhausted, "{answer:?}");
    }
    let overloaded = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
    let server = Server::always(vec![stream(), event(overloaded)]);
    let before = Timestamp::now();
    let answer = Peer::new(ProviderKind::Anthropic, &server.url()).submit("run-1").await;
    assert_eq!(fate(&answer, before), Fate::Cooling(60), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_call_leaves_its_connection() {
    for kind in STREAMING {
        let gate = Gate::default();
        let mut steps = vec![stream(), event(&events(kind, "begun")[1]), Step::Wait(gate.clone())];
        steps.push(Step::Drip(b": more\n".to_vec(), Duration::from_millis(10)));
        let server = Server::always(steps);
        let peer = Peer::new(kind, &server.url());
        let job = peer.submit("run-1").await.expect("taken");
        use claude_failover::ports::Providers as _;
        peer.providers.cancel(&peer.name, &job).await.expect("cancelled");
        assert_eq!(peer.look(&job).await.expect("a look"), Progress::Unknown);
        gate.open();
        server.until("the connection to be left", |server| server.left() == 1);
        peer.providers.cancel(&peer.name, &job).await.expect("gone already is success");
    }
}
