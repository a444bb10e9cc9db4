//! Each path against its description, and against what the mount shows.

use std::{collections::BTreeSet, path::Path};

use claude_failover::{
    http::ROUTES,
    render::{Picture, metrics, status_json},
};
use serde_json::{Value, json};

use crate::{
    client::{Answer, ask, get},
    picture,
    stage::{Stage, TOKEN, full, quiet},
};

pub fn description() -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("doc/openapi.yaml");
    serde_yaml::from_str(&std::fs::read_to_string(file).expect("read")).expect("YAML")
}

/// The schema that the description has for an answer, with what it refers to beside it.
fn schema(description: &Value, path: &str, answer: &Answer) -> Value {
    let responses = &description["paths"][path]["get"]["responses"];
    let named = responses.get(answer.status.to_string()).or_else(|| {
        let refused = &responses["default"]["$ref"];
        description.pointer(refused.as_str()?.trim_start_matches('#'))
    });
    let kind = answer.header("content-type").expect("a type").split(';').next().expect("a type").to_owned();
    let schema =
        named.unwrap_or_else(|| panic!("{path}: {} is not described", answer.status))["content"][&kind]["schema"]
            .clone();
    assert!(schema.is_object(), "{path} {}: {kind} is not described", answer.status);
    json!({"allOf": [schema], "components": description["components"]})
}

#[track_caller]
fn fits(description: &Value, path: &str, answer: &Answer) {
    let schema = schema(description, path, answer);
    let validator = jsonschema::options().should_validate_formats(true).build(&schema).expect("a schema");
    let body = if path == "/metrics" && answer.status == 200 { json!(answer.body) } else { answer.json() };
    let wrong: Vec<String> =
        validator.iter_errors(&body).map(|error| format!("{} at {}", error, error.instance_path())).collect();
    assert!(wrong.is_empty(), "{path} {}: {wrong:#?}\n{}", answer.status, answer.body);
}

#[test]
fn every_answer_is_described_and_nothing_else_is() {
    let description = description();
    let described: BTreeSet<&str> =
        description["paths"].as_object().expect("paths").keys().map(String::as_str).collect();
    let served: BTreeSet<&str> = ROUTES.iter().map(|route| route.path).collect();
    assert_eq!(described, served);
    let mut seen = BTreeSet::new();
    for snapshot in [full(), quiet()] {
        let stage = Stage::with(snapshot, Some(TOKEN));
        for path in &served {
            let token = format!("Bearer {TOKEN}");
            for headers in [&[("Authorization", token.as_str())][..], &[], &[("Host", "evil.example")]] {
                let answer = ask(stage.address, &format!("GET {path}"), headers);
                fits(&description, path, &answer);
                seen.insert((*path, answer.status));
            }
            fits(&description, path, &ask(stage.address, &format!("POST {path}"), &[("Authorization", &token)]));
        }
    }
    for path in &described {
        for status in description["paths"][path]["get"]["responses"].as_object().expect("responses").keys() {
            let Ok(status) = status.parse() else { continue };
            assert!(seen.contains(&(path, status)), "{path} {status} is described and was never seen");
        }
    }
    // The checker does check.
    let health =
        Answer { body: r#"{"status":"fine","problems":[]}"#.to_owned(), ..get(Stage::new(quiet()).address, "/health") };
    let validator = jsonschema::validator_for(&schema(&description, "/health", &health)).expect("a schema");
    assert!(!validator.is_valid(&health.json()));
}

#[test]
fn health_is_in_the_status_and_names_what_is_wrong() {
    let well = get(Stage::new(quiet()).address, "/health");
    assert_eq!((well.status, well.json()), (200, json!({"status": "ok", "problems": []})));
    let ill = get(Stage::new(full()).address, "/health");
    assert_eq!((ill.status, ill.json()), (503, json!({"status": "degraded", "problems": ["tmux"]})));
}

/// The same renderer as the mount's, less what quotes somebody.
#[test]
fn status_and_metrics_are_the_mounts() {
    let snapshot = full();
    let stage = Stage::new(snapshot.clone());
    let status = get(stage.address, "/status").json();
    let picture = Picture { snapshot: &snapshot, now: jiff::Timestamp::now() };
    let shown: Value = status_json::value(&picture);
    for list in ["tasks", "sessions", "accounts", "queues"] {
        let (here, there) = (status[list].as_array().expect("a list"), shown[list].as_array().expect("a list"));
        assert_eq!(here.len(), there.len(), "{list}");
        for (here, there) in here.iter().zip(there) {
            let kept: serde_json::Map<String, Value> = there
                .as_object()
                .expect("a row")
                .iter()
                .filter(|(key, _)| *key != "why")
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect();
            assert_eq!(*here, Value::Object(kept), "{list}");
        }
    }
    for key in ["version", "at", "pid", "since", "paused"] {
        assert_eq!(status[key], shown[key], "{key}");
    }
    assert_eq!(status["swap"]["under_way"]["to"], "compte2");

    let answer = get(stage.address, "/metrics");
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let steady = |text: &str| -> Vec<String> {
        text.lines().filter(|line| !line.starts_with("claude_failover_up_seconds ")).map(str::to_owned).collect()
    };
    assert_eq!(steady(&answer.body), steady(&metrics::metrics(&picture)));
    assert!(answer.body.contains("claude_failover_tasks{project=\"web\",state=\"working\"} 1\n"), "{}", answer.body);
}

/// The picture's foreign texts all hold these marks.
#[test]
fn nothing_that_agents_or_tasks_said_is_told() {
    let stage = Stage::new(full());
    for route in ROUTES {
        let answer = get(stage.address, route.path);
        for mark in ["EVIL", "2Jtile", "all good", "plain", "permission-box"] {
            assert!(!answer.body.contains(mark), "{}: {mark} in {}", route.path, answer.body);
        }
        assert!(answer.body.chars().all(|c| c == '\n' || !c.is_control()), "{}: {:?}", route.path, answer.body);
        assert!(!answer.body.contains("\\u00"), "{}: {}", route.path, answer.body);
    }
    assert!(picture::hostile().contains("EVIL") && picture::hostile().contains("2Jtile"), "the marks are gone");
}

/// A name may carry what it likes: the topic of a problem is cleaned too.
#[test]
fn names_are_cleaned() {
    let mut snapshot = quiet();
    snapshot.health.insert(format!("mount of {}", picture::hostile()), "x".to_owned());
    let stage = Stage::new(snapshot);
    for path in ["/health", "/status"] {
        let body = get(stage.address, path).body;
        assert!(body.contains("mount of h") && !body.contains("\\u00"), "{body}");
        assert!(body.chars().all(|c| c == '\n' || !c.is_control()), "{body:?}");
    }
}

#[test]
fn head_is_get_without_the_body() {
    let stage = Stage::new(full());
    for route in ROUTES {
        let (get, head) = (get(stage.address, route.path), ask(stage.address, &format!("HEAD {}", route.path), &[]));
        assert_eq!(head.status, get.status);
        assert_eq!(head.header("content-type"), get.header("content-type"));
        if route.path != "/metrics" {
            assert_eq!(head.header("content-length"), get.header("content-length"), "{}", route.path);
        }
        assert_eq!(get.header("cache-control"), Some("no-store"));
        assert_eq!(get.header("x-content-type-options"), Some("nosniff"));
    }
}

#[test]
fn other_methods_and_paths_are_told_so() {
    let stage = Stage::new(quiet());
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"] {
        let answer = ask(stage.address, &format!("{method} /status"), &[]);
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET,HEAD")), "{method}");
        assert!(answer.json()["error"].is_string());
    }
    for path in ["/", "/statu", "/status/", "/status/x", "//status", "/../status", "/%2e%2e/status", "/STATUS", "*"] {
        let answer = get(stage.address, path);
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert!(answer.json()["error"].is_string());
    }
    assert_eq!(get(stage.address, "/health?verbose=1&x=%00").status, 200);
}
