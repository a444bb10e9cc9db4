//! Slow, huge, many and incomplete requests: none keeps another client from its answer.

use std::net::Shutdown;

use claude_failover::http::MOST_CONNECTIONS;

use crate::{
    client::{Client, get, request},
    stage::{Stage, full, quiet},
};

#[test]
fn those_who_hold_connections_open_make_room_for_others() {
    let stage = Stage::new(quiet());
    let mut slow: Vec<Client> = Vec::new();
    for n in 0..1000 {
        let client = Client::connect(stage.address);
        // A third says nothing at all; some are half way through the head.
        if n % 3 > 0 {
            client.send("GET /status HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ");
        }
        slow.push(client);
        if n % 50 == 0 {
            assert_eq!(get(stage.address, "/health").status, 200, "after {n} slow ones");
        }
    }
    assert_eq!(get(stage.address, "/health").status, 200);
    // The oldest had to go.
    for client in slow.iter_mut().take(1000 - MOST_CONNECTIONS) {
        assert!(client.is_closed());
    }
}

#[test]
fn a_thousand_clients_that_stay_are_all_answered() {
    let stage = Stage::new(full());
    let mut clients: Vec<Client> = Vec::new();
    for _ in 0..1000 {
        let mut client = Client::connect(stage.address);
        assert!(client.send(&request(stage.address, "GET /status", &[])));
        assert_eq!(client.answer(true).expect("an answer").status, 200);
        clients.push(client);
    }
    // Those that are still there are answered again; the newest surely is.
    let mut newest = clients.pop().expect("a client");
    assert!(newest.send(&request(stage.address, "GET /health", &[])));
    assert_eq!(newest.answer(true).expect("an answer").status, 503);
    assert!(clients[0].is_closed());
}

/// Nobody is told to go by us: time alone does it.
#[test]
fn a_head_that_does_not_end_is_given_up() {
    let stage = Stage::new(quiet());
    let mut begun = Client::connect(stage.address);
    assert!(begun.send("GET /health HTTP/1.1\r\nHost: "));
    let mut silent = Client::connect(stage.address);
    let mut kept = Client::connect(stage.address);
    assert!(kept.send(&request(stage.address, "GET /health", &[])));
    assert_eq!(kept.answer(true).expect("an answer").status, 200);
    for (client, what) in [(&mut begun, "begun"), (&mut silent, "silent"), (&mut kept, "kept alive")] {
        assert!(client.is_closed(), "{what}");
    }
    assert_eq!(get(stage.address, "/health").status, 200);
}

#[test]
fn a_huge_head_is_refused() {
    let stage = Stage::new(quiet());
    let long = "x".repeat(32 * 1024);
    let (many, path) = ("X-Many: x\r\n".repeat(1000), format!("GET /{long}"));
    for text in [
        request(stage.address, "GET /health", &[("X-Long", &long)]),
        request(stage.address, "GET /health", &[]).trim_end().to_owned() + "\r\n" + &many + "\r\n",
        request(stage.address, &path, &[]),
    ] {
        let mut client = Client::connect(stage.address);
        client.send(&text);
        // The refusal may be lost when the server closes while we still send.
        let status = client.answer(false).map(|answer| answer.status);
        assert!(matches!(status, None | Some(431 | 414)), "{status:?}");
        assert!(client.is_closed());
    }
    // One without an end is cut off long before it is sent.
    let client = Client::connect(stage.address);
    assert!(client.send("GET /health HTTP/1.1\r\n"));
    let line = format!("X-Endless: {}\r\n", "x".repeat(8000));
    let taken = (0..8192).take_while(|_| client.send(&line)).count();
    assert!(taken < 8192, "64 MiB of a head were taken");
    assert_eq!(get(stage.address, "/health").status, 200);
}

#[test]
fn what_is_no_http_is_refused() {
    let stage = Stage::new(quiet());
    for text in [
        "\u{16}\u{3}\u{1}\0\0\0\0",
        "GET\r\n\r\n",
        "GET /health HTTP/9.9\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\0\0\0\0\r\n\r\n",
    ] {
        let mut client = Client::connect(stage.address);
        client.send(text);
        client.stream().shutdown(Shutdown::Write).expect("shut");
        let status = client.answer(false).map(|answer| answer.status);
        assert!(matches!(status, None | Some(400 | 505)), "{text:?}: {status:?}");
    }
    assert_eq!(get(stage.address, "/health").status, 200);
}

#[test]
fn requests_in_a_row_are_answered_in_a_row() {
    let stage = Stage::new(quiet());
    let mut client = Client::connect(stage.address);
    let row: String = ["/health", "/nowhere", "/metrics", "/health"]
        .map(|path| request(stage.address, &format!("GET {path}"), &[]))
        .concat();
    assert!(client.send(&row.repeat(50)));
    for n in 0..50 {
        let statuses: Vec<u16> = (0..4).filter_map(|_| client.answer(true)).map(|answer| answer.status).collect();
        assert_eq!(statuses, [200, 404, 200, 200], "row {n}");
    }
}

#[test]
fn a_half_closed_client_gets_its_answer() {
    let stage = Stage::new(full());
    let mut client = Client::connect(stage.address);
    assert!(client.send(&request(stage.address, "GET /status", &[]).repeat(2)));
    client.stream().shutdown(Shutdown::Write).expect("shut");
    for _ in 0..2 {
        assert_eq!(client.answer(true).expect("an answer").status, 200);
    }
    assert!(client.is_closed());
}

/// Who asks and never reads costs one answer's memory, and nobody else's time.
#[test]
fn a_client_that_never_reads_is_waited_for_by_nobody() {
    let stage = Stage::new(full());
    let client = Client::connect(stage.address);
    client.stream().set_write_timeout(Some(std::time::Duration::from_millis(200))).expect("set");
    let row = request(stage.address, "GET /status", &[]).repeat(100);
    let taken = (0..10_000).take_while(|_| client.send(&row)).count();
    assert!(taken < 10_000, "a million requests were taken from a client that reads nothing");
    assert_eq!(get(stage.address, "/health").status, 503);
}
