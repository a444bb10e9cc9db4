//! The real daemon's HTTP interface: a port in use, a token, and shutdown.

use std::net::{SocketAddr, TcpListener, TcpStream};

use claude_failover::http::ROUTES;

use crate::{
    client::{ask, get},
    stage::TOKEN,
    world::{Setup, World},
};

fn taken() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

#[test]
fn a_taken_port_is_told_and_tried_again() {
    let (listener, address) = taken();
    let mut world = World::start(&Setup { http: address.to_string(), ..Setup::agents(1) });
    let told = format!("http: can't listen at {address} (api.listen): Address already in use");
    world.until("health tells", || world.read("health").is_ok_and(|health| health.contains(&told)));
    // All else works.
    world.submit("one", "Say hello.");
    world.until("done", || world.queue("done/one.md").exists());

    drop(listener);
    world.until("health is well", || world.word("health") == "ok");
    assert_eq!(get(address, "/health").status, 200);
    let (here, there) = (get(address, "/status").json(), world.status());
    for key in ["version", "pid", "since"] {
        assert_eq!(here[key], there[key], "{key}");
    }
    assert_eq!(here["tasks"][0]["id"], "one");
    assert_eq!(here["tasks"][0]["state"], "done");
    assert_eq!(get(address, "/watchdog/status").json()["counters"]["done"], 1);
    assert_eq!(get(address, "/api/delegated/status").status, 404);
    assert!(get(address, "/metrics").body.contains("claude_failover_tasks_finished_total{status=\"done\"} 1\n"));

    assert_eq!(world.stop_daemon(), Some(0));
    assert!(TcpStream::connect(address).is_err(), "somebody still listens");
}

#[test]
fn the_token_is_asked_for_and_nowhere_shown() {
    let (listener, address) = taken();
    drop(listener);
    let mut world = World::prepare(&Setup::agents(1));
    std::fs::write(world.path("token"), format!("{TOKEN}\n")).expect("written");
    let token_file = world.path("token").display().to_string();
    world.configure(&Setup { http: format!("'{address}', token_file: {token_file}"), ..Setup::agents(1) });
    world.run();
    world.until("it listens", || TcpStream::connect(address).is_ok());
    for route in ROUTES {
        assert_eq!(get(address, route.path).status, 401, "{}", route.path);
        let answer = ask(address, &format!("GET {}", route.path), &[("Authorization", &format!("Bearer {TOKEN}"))]);
        assert!(matches!(answer.status, 200 | 404 | 503), "{} {}", route.path, answer.status);
        assert!(!answer.body.contains(TOKEN));
    }
    for file in ["config.yaml", "status", "status.json", "health", "events", "metrics", "control"] {
        assert!(!world.read(file).expect(file).contains(TOKEN), "{file}");
    }
    assert!(world.read("config.yaml").expect("read").contains("token_file: "));
    let log = std::fs::read_to_string(world.path("daemon.log")).expect("a log");
    assert!(!log.contains(TOKEN));
}
