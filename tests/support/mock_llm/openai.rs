//! The OpenAI Responses API as Codex uses it: streamed answers, errors, usage-limit headers.

use std::{
    io,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

use super::{
    Call, Mode, Plan,
    http::{Client, Events, Header},
};

/// Text of the last user message, and whether the input ends with a tool's output.
pub fn last_prompt(body: &Value) -> (String, bool) {
    let items = body["input"].as_array().map(Vec::as_slice).unwrap_or_default();
    let after_tool = items.last().is_some_and(|i| i["type"].as_str().is_some_and(|t| t.contains("output")));
    let is_user = |i: &&Value| i["role"] == "user" && i["type"].as_str().is_none_or(|t| t == "message");
    let Some(last) = items.iter().rev().find(is_user) else { return (String::new(), after_tool) };
    let text = match &last["content"] {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|p| p["text"].as_str()).collect::<Vec<_>>().join("\n"),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => String::new(),
    };
    (text, after_tool)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn headers(reset_in: Duration) -> Vec<Header> {
    vec![
        ("x-codex-primary-used-percent", "42".to_owned()),
        ("x-codex-primary-window-minutes", "300".to_owned()),
        ("x-codex-primary-reset-at", (now() + reset_in.as_secs()).to_string()),
        ("x-codex-secondary-used-percent", "17".to_owned()),
        ("x-codex-secondary-window-minutes", "10080".to_owned()),
        ("x-codex-secondary-reset-at", (now() + 5 * 86_400).to_string()),
        ("x-request-id", format!("req_mock{}", fastrand::u32(..))),
    ]
}

pub fn error(mode: Mode, reset_in: Duration) -> Option<(u16, Value)> {
    let plain =
        |message: &str, kind: &str, code: &str| json!({"message": message, "type": kind, "param": null, "code": code});
    Some(match mode {
        Mode::Ok | Mode::Slow | Mode::Hang | Mode::Reset | Mode::Warn | Mode::MidStream => return None,
        Mode::Limit(_) => (
            429,
            json!({"type": "usage_limit_reached", "message": "The usage limit has been reached", "plan_type": "plus",
                   "resets_at": now() + reset_in.as_secs(), "resets_in_seconds": reset_in.as_secs()}),
        ),
        Mode::RateLimit => {
            (429, plain("Rate limit reached for gpt-5. Please try again in 2s.", "tokens", "rate_limit_exceeded"))
        }
        Mode::ServerError => (500, plain("The server had an error while processing your request.", "server_error", "")),
        Mode::Overloaded => (503, plain("The server is currently overloaded.", "server_error", "server_is_overloaded")),
        Mode::BadKey | Mode::ExpiredToken => {
            (401, plain("Incorrect API key provided: dummy.", "invalid_request_error", "invalid_api_key"))
        }
        Mode::NoCredit => (429, plain("You exceeded your current quota.", "insufficient_quota", "insufficient_quota")),
        Mode::Forbidden => {
            (403, plain("Country, region, or territory not supported", "request_forbidden", "unsupported"))
        }
        Mode::NoModel => (
            404,
            plain(
                "The model does not exist or you do not have access to it.",
                "invalid_request_error",
                "model_not_found",
            ),
        ),
        Mode::TooLong => (
            400,
            plain(
                "Your input exceeds the context window of this model.",
                "invalid_request_error",
                "context_length_exceeded",
            ),
        ),
    })
}

/// Events of one response carry a running number.
struct Numbered {
    events: Events,
    number: u32,
}

impl Numbered {
    async fn send(&mut self, kind: &str, mut fields: Value) -> io::Result<()> {
        self.number += 1;
        fields["type"] = json!(kind);
        fields["sequence_number"] = json!(self.number);
        self.events.send(kind, &fields).await
    }
}

pub async fn answer(client: Client, body: &Value, plan: &Plan, mode: Mode, reset_in: Duration) -> io::Result<()> {
    let headers = headers(reset_in);
    if let Some((status, error)) = error(mode, reset_in) {
        return client.json(status, &headers, &json!({"error": error})).await;
    }
    let response = json!({"id": format!("resp_mock{:016x}", fastrand::u64(..)), "object": "response", "created_at": now(),
                          "status": "in_progress", "model": body["model"], "output": []});
    let mut events = Numbered { events: client.events(&headers).await?, number: 0 };
    events.send("response.created", json!({"response": response})).await?;
    if mode == Mode::MidStream {
        let mut failed = response.clone();
        failed["status"] = json!("failed");
        failed["error"] =
            json!({"code": "rate_limit_exceeded", "message": "Rate limit reached. Please try again in 2s."});
        events.send("response.failed", json!({"response": failed})).await?;
        return events.events.end().await;
    }
    let id = format!("msg_{:016x}", fastrand::u64(..));
    let mut item = json!({"type": "message", "id": id, "role": "assistant", "status": "in_progress", "content": []});
    let part = |text: &str| json!({"type": "output_text", "text": text, "annotations": []});
    let place = json!({"item_id": id, "output_index": 0, "content_index": 0});
    let with = |key: &str, value: Value| {
        let mut fields = place.clone();
        fields[key] = value;
        fields
    };
    events.send("response.output_item.added", json!({"output_index": 0, "item": item})).await?;
    events.send("response.content_part.added", with("part", part(""))).await?;
    for piece in &plan.pieces {
        // The pause is the product: an answer that takes time.
        tokio::time::sleep(plan.pause).await;
        events.send("response.output_text.delta", with("delta", json!(piece))).await?;
    }
    events.send("response.output_text.done", with("text", json!(plan.text))).await?;
    item["status"] = json!("completed");
    item["content"] = json!([part(&plan.text)]);
    events.send("response.output_item.done", json!({"output_index": 0, "item": item})).await?;
    let mut output = vec![item];
    if let Some(call) = function_call(body, plan.call.as_ref()) {
        let mut empty = call.clone();
        empty["arguments"] = json!("");
        events.send("response.output_item.added", json!({"output_index": 1, "item": empty})).await?;
        events.send("response.output_item.done", json!({"output_index": 1, "item": call})).await?;
        output.push(call);
    }
    let mut done = response;
    done["status"] = json!("completed");
    done["output"] = Value::Array(output);
    done["usage"] = json!({"input_tokens": 3000, "input_tokens_details": {"cached_tokens": 2000}, "output_tokens": 50,
                           "output_tokens_details": {"reasoning_tokens": 8}, "total_tokens": 3050});
    events.send("response.completed", json!({"response": done})).await?;
    events.events.end().await
}

fn function_call(body: &Value, call: Option<&Call>) -> Option<Value> {
    let function = |name: &str, arguments: Value| {
        json!({"type": "function_call", "id": format!("fc_{:x}", fastrand::u64(..)), "status": "completed",
               "call_id": format!("call_{:x}", fastrand::u64(..)), "name": name, "arguments": arguments.to_string()})
    };
    let (command, escalate) = match call? {
        Call::Shell { command, escalate } => (command, *escalate),
        Call::Subagent { .. } => return None,
        Call::Background { command } => {
            return Some(function("exec_command", json!({"cmd": command, "yield_time_ms": 1000})));
        }
        Call::Question { question } => {
            let options =
                json!([{"label": "First", "description": "the one"}, {"label": "Second", "description": "the other"}]);
            let questions = json!([{"id": "q", "header": "Question", "question": question, "options": options}]);
            return Some(function("request_user_input", json!({"questions": questions})));
        }
    };
    let offers = |name: &str| body["tools"].as_array().is_some_and(|t| t.iter().any(|t| t["name"] == name));
    let (name, mut arguments) = if offers("exec_command") {
        ("exec_command", json!({"cmd": command}))
    } else {
        ("shell_command", json!({"command": command}))
    };
    if escalate {
        arguments["sandbox_permissions"] = json!("require_escalated");
        arguments["justification"] = json!("The mock wants this outside the sandbox");
    }
    Some(function(name, arguments))
}
