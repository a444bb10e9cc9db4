//! Refused requests on the wire; the full table of names is in `http::guard`.

use crate::{
    client::{Client, ask, request},
    stage::{Stage, TOKEN, quiet},
};

#[test]
fn foreign_names_and_origins_get_nothing() {
    let stage = Stage::new(quiet());
    let port = stage.address.port();
    let (own, local) = (format!("127.0.0.1:{port}"), format!("localhost:{port}"));
    let (six, foreign) = (format!("[::1]:{port}"), format!("evil.example:{port}"));
    let (own_origin, other_origin) = (format!("http://{own}"), "http://localhost:3000".to_owned());
    for (host, origin, wanted) in [
        (&own, None, 200),
        (&local, None, 200),
        (&six, None, 200),
        (&foreign, None, 403),
        (&"127.0.0.1".to_owned(), None, 403),
        (&own, Some(&own_origin), 200),
        (&local, Some(&own_origin), 403),
        (&own, Some(&other_origin), 403),
        (&foreign, Some(&format!("http://{foreign}")), 403),
    ] {
        let mut headers = vec![("Host", host.as_str())];
        headers.extend(origin.map(|origin| ("Origin", origin.as_str())));
        for path in ["/health", "/nowhere"] {
            let answer = ask(stage.address, &format!("GET {path}"), &headers);
            let wanted = if wanted == 200 && path == "/nowhere" { 404 } else { wanted };
            assert_eq!(answer.status, wanted, "{headers:?}");
            assert!(answer.header("access-control-allow-origin").is_none());
        }
    }
    // The target's own host counts too.
    let answer = ask(stage.address, &format!("GET http://{foreign}/health"), &[("Host", &own)]);
    assert_eq!(answer.status, 403);
    let mut old = Client::connect(stage.address);
    assert!(old.send("GET /health HTTP/1.0\r\n\r\n"));
    assert_eq!(old.answer(true).expect("an answer").status, 400);
}

#[test]
fn with_a_token_everything_needs_it() {
    let stage = Stage::with(quiet(), Some(TOKEN));
    for path in ["/health", "/status", "/watchdog/status", "/api/delegated/status", "/metrics", "/nowhere"] {
        for given in [None, Some("Bearer wrong"), Some("Basic eDp5"), Some("Bearer ")] {
            let headers: Vec<(&str, &str)> = given.map(|given| ("Authorization", given)).into_iter().collect();
            let answer = ask(stage.address, &format!("GET {path}"), &headers);
            assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer")), "{path} {given:?}");
            assert!(!answer.body.contains(TOKEN));
        }
    }
    let right = format!("Bearer {TOKEN}");
    assert_eq!(ask(stage.address, "GET /health", &[("Authorization", &right)]).status, 200);
    // In the address it is none: addresses are logged.
    assert_eq!(ask(stage.address, &format!("GET /health?token={TOKEN}"), &[]).status, 401);
}

#[test]
fn bodies_are_not_read() {
    let stage = Stage::new(quiet());
    for header in [("Content-Length", "1000000000000"), ("Transfer-Encoding", "chunked")] {
        let mut client = Client::connect(stage.address);
        assert!(client.send(&request(stage.address, "GET /health", &[header, ("Expect", "100-continue")])));
        let answer = client.answer(true).expect("an answer without the body");
        assert_eq!((answer.status, answer.header("connection")), (413, Some("close")), "{header:?}");
        assert!(client.is_closed());
    }
}
