//! Notifications through the real HTTP client to the test's own loopback server, which answers well, badly, late or
//! not at all.
//! Checks the request, how each answer is interpreted, and that no secret ever appears in a message.

use std::{sync::Arc, time::Duration};

use claude_failover::{
    config::{self, Config},
    model::notice::{Channel, Notice, NoticeError, NoticeKind},
    ports::Notifier as _,
    sys::notify::Receivers,
};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
};

const TOKEN: &str = "12345:SECRET-bot-token";
const KEY: &str = "re_SECRET-key";
const PATH: &str = "SECRET-hook-path";

/// What the server does with a request.
#[derive(Debug, Clone)]
enum Answer {
    /// Status line, headers and body.
    Says(&'static str, &'static str, String),
    /// Gives everything back that it was sent, secrets included, after so many other characters.
    Echoes(&'static str, usize),
    /// Closes the connection without a word.
    Cuts,
    /// Begins an answer and closes.
    CutsHalfWay,
}

#[derive(Debug)]
struct Request {
    line: String,
    headers: String,
    body: Value,
}

/// A server that answers every request the same way, and tells what came.
async fn server(answer: Answer) -> (u16, mpsc::UnboundedReceiver<Request>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (tell, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, answer.clone(), tell.clone()));
        }
    });
    (port, told)
}

async fn serve(mut stream: TcpStream, answer: Answer, tell: mpsc::UnboundedSender<Request>) {
    let mut text = Vec::new();
    let mut part = [0; 4096];
    let (head, length) = loop {
        let Ok(n @ 1..) = stream.read(&mut part).await else { return };
        text.extend_from_slice(&part[..n]);
        let Some(end) = text.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&text[..end]).into_owned();
        let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        break (head, end + 4 + length.unwrap_or(0));
    };
    while text.len() < length {
        let Ok(n @ 1..) = stream.read(&mut part).await else { return };
        text.extend_from_slice(&part[..n]);
    }
    let (line, headers) = head.split_once("\r\n").expect("headers");
    let body = serde_json::from_slice(&text[head.len() + 4..]).unwrap_or_default();
    let _ = tell.send(Request { line: line.to_owned(), headers: headers.to_owned(), body });
    let said = match answer {
        Answer::Says(status, headers, body) => {
            format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
        }
        Answer::Echoes(status, before) => {
            let body = format!("{}{head}\u{1b}[31m", "x".repeat(before));
            format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
        }
        Answer::Cuts => return,
        Answer::CutsHalfWay => "HTTP/1.1 200".to_owned(),
    };
    let _ = stream.write_all(said.as_bytes()).await;
}

fn configured(port: u16) -> Arc<Config> {
    let env = |name: &str| match name {
        "HOME" => Some("/home/ada".into()),
        "TOKEN" => Some(TOKEN.into()),
        "KEY" => Some(KEY.into()),
        "HOOK" => Some(format!("http://127.0.0.1:{port}/{PATH}?x=SECRET-query").into()),
        _ => None,
    };
    let text = format!(
        "notifications:\n  telegram: {{chat_id: \"-100\", token_env: TOKEN, url: 'http://127.0.0.1:{port}'}}\n  \
         resend: {{from: a@b.c, to: [d@e.f, g@h.i], key_env: KEY, url: 'http://127.0.0.1:{port}/'}}\n  \
         webhook: {{url_env: HOOK, key_env: KEY}}\n"
    );
    let loaded = config::parse(&text, std::path::Path::new("/x/config.yaml"), &env);
    Arc::new(loaded.unwrap_or_else(|problems| panic!("{problems}")).config)
}

fn notice() -> Notice {
    Notice::new(
        NoticeKind::Limit,
        "limit one".to_owned(),
        "Account one is at its limit",
        "5-hour",
        Timestamp::UNIX_EPOCH,
    )
}

async fn send(port: u16, channel: Channel) -> Result<(), NoticeError> {
    let (_keep, config) = watch::channel(configured(port));
    Receivers::new(config).send(channel, &notice()).await
}

#[track_caller]
fn secret_free(text: &str) {
    for part in ["SECRET", TOKEN, KEY, PATH] {
        assert!(!text.contains(part), "{text}");
    }
}

fn says(status: &'static str, body: &str) -> Answer {
    Answer::Says(status, "", body.to_owned())
}

#[tokio::test]
async fn each_channel_sends_what_its_receiver_wants() {
    let (port, mut requests) = server(says("200 OK", "{\"ok\":true}")).await;
    for channel in Channel::ALL {
        send(port, channel).await.expect("taken");
        let request = requests.recv().await.expect("a request");
        let headers = request.headers.to_lowercase();
        assert!(headers.contains("content-type: application/json"), "{headers}");
        let bearer = headers.contains(&format!("authorization: bearer {}", KEY.to_lowercase()));
        match channel {
            Channel::Telegram => {
                assert_eq!(request.line, format!("POST /bot{TOKEN}/sendMessage HTTP/1.1"));
                assert_eq!(request.body["chat_id"], "-100");
                assert_eq!(request.body["text"], "Account one is at its limit\n\n5-hour");
                assert!(!bearer);
            }
            Channel::Resend => {
                assert_eq!(request.line, "POST /emails HTTP/1.1");
                assert_eq!(request.body["to"], json!(["d@e.f", "g@h.i"]));
                assert_eq!(request.body["subject"], "Account one is at its limit");
                assert!(bearer && headers.contains("idempotency-key: "), "{headers}");
            }
            Channel::Webhook => {
                assert_eq!(request.line, format!("POST /{PATH}?x=SECRET-query HTTP/1.1"));
                assert_eq!(request.body["incident"], "limit one");
                assert!(bearer, "{headers}");
            }
        }
    }
}

#[tokio::test]
async fn an_answer_says_whether_to_try_again() {
    let telegram =
        "{\"ok\":false,\"error_code\":429,\"description\":\"Too Many Requests\",\"parameters\":{\"retry_after\":7}}";
    let after = |seconds| Some(Duration::from_secs(seconds));
    let cases: [(Answer, Option<Option<Duration>>); 12] = [
        (Answer::Says("429 Too Many Requests", "Retry-After: 9\r\n", String::new()), Some(after(9))),
        (Answer::Echoes("500 Internal Server Error", 0), Some(None)),
        (Answer::Echoes("503 Service Unavailable", 185), Some(None)),
        (says("408 Request Timeout", ""), Some(None)),
        (says("409 Conflict", "{\"name\":\"concurrent_idempotent_requests\"}"), Some(None)),
        (Answer::Cuts, Some(None)),
        (Answer::CutsHalfWay, Some(None)),
        (Answer::Echoes("400 Bad Request", 0), None),
        (Answer::Echoes("401 Unauthorized", 110), None),
        (says("404 Not Found", ""), None),
        (Answer::Says("307 Temporary Redirect", "Location: http://127.0.0.1:1/x\r\n", String::new()), None),
        (says("409 Conflict", "{\"name\":\"invalid_idempotent_request\"}"), None),
    ];
    for (answer, wanted) in cases {
        let (port, mut requests) = server(answer.clone()).await;
        for channel in Channel::ALL {
            let error = send(port, channel).await.expect_err("refused");
            let text = format!("{error} {error:?}");
            secret_free(&text);
            assert!(text.contains(&format!("notifications.{}: ", channel.name())), "{text}");
            assert!(!error.to_string().contains(char::is_control), "{text}");
            match (&error, wanted) {
                (NoticeError::Temporary { after, .. }, Some(wanted)) => assert_eq!(*after, wanted, "{answer:?}"),
                (NoticeError::Permanent(_), None) => {}
                (NoticeError::Temporary { .. } | NoticeError::Permanent(_), _) => panic!("{answer:?}: {error:?}"),
            }
            requests.recv().await.expect("it was asked");
        }
    }
    let (port, _requests) = server(says("429 Too Many Requests", telegram)).await;
    let error = send(port, Channel::Telegram).await.expect_err("refused");
    assert!(
        matches!(error, NoticeError::Temporary { after, .. } if after == Some(Duration::from_secs(7))),
        "{error:?}"
    );
}

/// Nobody listens; or somebody takes the connection and never answers.
#[tokio::test]
async fn a_dead_receiver_is_tried_again_later() {
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address").port();
    for channel in Channel::ALL {
        let error = send(closed, channel).await.expect_err("nobody is there");
        assert!(matches!(error, NoticeError::Temporary { after: None, .. }), "{error:?}");
        assert!(error.to_string().contains("no answer"), "{error}");
        secret_free(&format!("{error} {error:?}"));
    }
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = silent.local_addr().expect("an address").port();
    // All three at once: each waits for its own time limit.
    let sent = [0, 1, 2].map(|n| tokio::spawn(send(port, Channel::ALL[n])));
    for sent in sent {
        let error = sent.await.expect("ended").expect_err("no answer");
        assert!(matches!(error, NoticeError::Temporary { .. }) && error.to_string().contains("timed out"), "{error:?}");
        secret_free(&format!("{error} {error:?}"));
    }
    drop(silent);
}

#[test]
fn the_configuration_shows_no_secret() {
    let config = configured(1);
    let shown = format!("{} {config:?}", serde_yaml::to_string(&*config).expect("yaml"));
    secret_free(&shown);
    assert!(shown.contains("token_env: TOKEN") && shown.contains("url_env: HOOK"), "{shown}");
    let text = "notifications: {webhook: {url: 'https://hooks.example/SECRET'}}\n";
    let env = |name: &str| (name == "HOME").then(|| "/home/ada".into());
    let loaded = config::parse(text, std::path::Path::new("/x/config.yaml"), &env).expect("good");
    let shown = format!("{} {:?}", serde_yaml::to_string(&loaded.config).expect("yaml"), loaded.config);
    secret_free(&shown);
    assert!(shown.contains("url: '***'") || shown.contains("url: \"***\"") || shown.contains("url: ***"), "{shown}");
}
