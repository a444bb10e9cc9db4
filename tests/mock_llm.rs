//! The loopback server that replaces the providers: per-key modes, streams, its log.

use std::time::Duration;

use serde_json::{Value, json};

#[path = "support/mock_llm.rs"]
mod mock_llm;

use mock_llm::{Claim, MockLlm, Mode};

async fn ask(mock: &MockLlm, path: &str, key: &str, prompt: &str) -> (u16, String) {
    let body = if path.ends_with("responses") {
        json!({"stream": true, "tools": [{"name": "exec_command"}],
               "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": prompt}]}]})
    } else {
        json!({"stream": true, "tools": [{"name": "Bash"}], "messages": [{"role": "user", "content": [
            {"type": "text", "text": "<system-reminder>not this</system-reminder>"}, {"type": "text", "text": prompt}]}]})
    };
    let request = claude_failover::sys::http::client()
        .expect("a client")
        .post(format!("http://127.0.0.1:{}/v1/{path}", mock.port()));
    let answer = request.bearer_auth(key).json(&body).send().await.expect("an answer");
    (answer.status().as_u16(), answer.text().await.expect("its text"))
}

#[tokio::test]
async fn one_account_can_be_limited_while_another_works() {
    let mock = MockLlm::start().await;
    mock.set_for("a", Mode::Limit(Claim::FiveHour));
    for path in ["messages", "responses"] {
        assert_eq!(ask(&mock, path, "a", "hello").await.0, 429, "{path}");
        let (status, text) = ask(&mock, path, "b", "hello").await;
        assert_eq!(status, 200, "{path}");
        let streamed: String = text
            .lines()
            .filter_map(|l| serde_json::from_str::<Value>(l.strip_prefix("data: ")?).ok())
            .filter_map(|e| e["delta"].as_str().or(e["delta"]["text"].as_str()).map(str::to_owned))
            .collect();
        assert_eq!(streamed, "MOCK-REPLY done: 5 chars received.", "{path}");
    }
    let keys: Vec<String> = mock.requests().into_iter().map(|r| r.key).collect();
    assert_eq!(keys, ["a", "b", "a", "b"]);
    assert!(mock.requests().iter().all(|r| r.prompt == "hello" && r.main));
}

#[tokio::test]
async fn a_mode_can_hold_for_a_number_of_calls() {
    let mock = MockLlm::start().await;
    mock.set_for_next("a", Mode::Overloaded, 2);
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(ask(&mock, "messages", "a", "x").await.0);
    }
    assert_eq!(seen, [529, 529, 200]);
}

#[tokio::test]
async fn commands_become_tool_calls() {
    let mock = MockLlm::start().await;
    let (_, text) = ask(&mock, "messages", "a", "RUN: echo hi").await;
    assert!(text.contains(r#""partial_json":"{\"command\":\"echo hi\""#), "{text}");
    let (_, text) = ask(&mock, "responses", "a", "ESCALATE RUN: echo hi").await;
    assert!(text.contains("require_escalated"), "{text}");
    mock.wait(Duration::from_secs(1), "two requests", |all| (all.len() == 2).then_some(())).await;
}
