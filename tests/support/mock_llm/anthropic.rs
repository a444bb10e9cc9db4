//! The Anthropic Messages API as Claude Code uses it: streamed answers, errors, unified rate-limit headers.

use std::{
    io,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

use super::{
    Call, Claim, Mode, Plan,
    http::{Client, Header},
};

/// Days of the weekly window that are left.
const WEEK_LEFT: u64 = 5 * 86_400;

/// Text of the last user message without system reminders, and whether it brings a tool's result.
pub fn last_prompt(body: &Value) -> (String, bool) {
    let messages = body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let Some(last) = messages.iter().rev().find(|m| m["role"] == "user") else { return (String::new(), false) };
    match &last["content"] {
        Value::String(text) => (text.clone(), false),
        Value::Array(parts) => {
            let texts = parts.iter().filter(|p| p["type"] == "text").filter_map(|p| p["text"].as_str());
            let real: Vec<&str> = texts.filter(|t| !t.trim_start().starts_with("<system-reminder>")).collect();
            (real.join("\n"), parts.iter().any(|p| p["type"] == "tool_result"))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => (String::new(), false),
    }
}

fn unified(mode: Mode, reset_in: Duration) -> Vec<Header> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (five, seven) = (now + reset_in.as_secs(), now + WEEK_LEFT);
    let (status, claim) = match mode {
        Mode::Limit(claim) => ("rejected", claim),
        Mode::Warn => ("allowed_warning", Claim::FiveHour),
        _ => ("allowed", Claim::FiveHour),
    };
    let weekly = claim == Claim::SevenDay;
    let of = |this: bool| if this { status } else { "allowed" };
    let used = |this: bool, low: &str| match mode {
        Mode::Limit(_) if this => "1.0".to_owned(),
        Mode::Warn if this => "0.93".to_owned(),
        _ => low.to_owned(),
    };
    let name = |part: &'static str, value: String| (part, value);
    let mut headers = vec![
        name("anthropic-ratelimit-unified-status", status.to_owned()),
        name("anthropic-ratelimit-unified-reset", if weekly { seven } else { five }.to_string()),
        name(
            "anthropic-ratelimit-unified-representative-claim",
            if weekly { "seven_day" } else { "five_hour" }.to_owned(),
        ),
        name("anthropic-ratelimit-unified-fallback-percentage", "0.5".to_owned()),
        name("anthropic-ratelimit-unified-overage-status", "rejected".to_owned()),
        name("anthropic-ratelimit-unified-overage-disabled-reason", "org_level_disabled".to_owned()),
        name("anthropic-ratelimit-unified-5h-status", of(!weekly).to_owned()),
        name("anthropic-ratelimit-unified-5h-reset", five.to_string()),
        name("anthropic-ratelimit-unified-5h-utilization", used(!weekly, "0.42")),
        name("anthropic-ratelimit-unified-7d-status", of(weekly).to_owned()),
        name("anthropic-ratelimit-unified-7d-reset", seven.to_string()),
        name("anthropic-ratelimit-unified-7d-utilization", used(weekly, "0.17")),
    ];
    if mode == Mode::Warn {
        headers.push(name("anthropic-ratelimit-unified-5h-surpassed-threshold", "0.9".to_owned()));
    }
    headers
}

fn error(mode: Mode) -> Option<(u16, &'static str, &'static str)> {
    Some(match mode {
        Mode::Ok | Mode::Slow | Mode::Hang | Mode::Reset | Mode::Warn | Mode::MidStream => return None,
        Mode::Limit(_) => {
            (429, "rate_limit_error", "This request would exceed your account's rate limit. Please try again later.")
        }
        Mode::RateLimit => (
            429,
            "rate_limit_error",
            "This request would exceed your organization's rate limit of 50,000 input tokens per minute.",
        ),
        Mode::ServerError => (500, "api_error", "Internal server error"),
        Mode::Overloaded => (529, "overloaded_error", "Overloaded"),
        Mode::BadKey => (401, "authentication_error", "invalid x-api-key"),
        Mode::ExpiredToken => (
            401,
            "authentication_error",
            "OAuth token has expired. Please obtain a new token or refresh your existing token.",
        ),
        Mode::NoCredit => (402, "billing_error", "Your credit balance is too low to access the Anthropic API."),
        Mode::Forbidden => (403, "permission_error", "Your organization does not have access to Claude."),
        Mode::NoModel => (404, "not_found_error", "model: claude-nonexistent"),
        Mode::TooLong => (400, "invalid_request_error", "prompt is too long: 250000 tokens > 200000 maximum"),
    })
}

pub async fn answer(client: Client, body: &Value, plan: &Plan, mode: Mode, reset_in: Duration) -> io::Result<()> {
    let mut headers = vec![("request-id", format!("req_mock{}", fastrand::u32(..)))];
    if let Some((status, kind, message)) = error(mode) {
        if matches!(mode, Mode::Limit(_)) {
            headers.extend(unified(mode, reset_in));
            headers.push(("retry-after", reset_in.as_secs().to_string()));
        }
        if mode == Mode::RateLimit {
            headers.push(("retry-after", "10".to_owned()));
        }
        let error = json!({"type": "error", "error": {"type": kind, "message": message}});
        return client.json(status, &headers, &error).await;
    }
    headers.extend(unified(mode, reset_in));
    let id = format!("msg_mock{:016x}", fastrand::u64(..));
    let mut blocks = vec![json!({"type": "text", "text": plan.text})];
    blocks.extend(plan.call.as_ref().map(|call| {
        let (name, input) = match call {
            Call::Shell { command, escalate: _ } => ("Bash", json!({"command": command, "description": "Mock command"})),
            Call::Background { command } => {
                ("Bash", json!({"command": command, "description": "Mock background", "run_in_background": true}))
            }
            Call::Question { question } => (
                "AskUserQuestion",
                json!({"questions": [{"question": question, "header": "Question", "multiSelect": false, "options": [
                    {"label": "First", "description": "the one"}, {"label": "Second", "description": "the other"}]}]}),
            ),
            Call::Subagent { prompt } => (
                "Agent",
                json!({"description": "mock subagent", "prompt": prompt, "subagent_type": "general-purpose", "run_in_background": false}),
            ),
        };
        json!({"type": "tool_use", "id": format!("toolu_{:016x}", fastrand::u64(..)), "name": name, "input": input})
    }));
    let stop = if plan.call.is_some() { "tool_use" } else { "end_turn" };
    let out = 10 + plan.text.len() / 4;
    let mut message = json!({
        "id": id, "type": "message", "role": "assistant", "model": body["model"], "content": [],
        "stop_reason": null, "stop_sequence": null,
        "usage": {"input_tokens": 100, "cache_creation_input_tokens": 20, "cache_read_input_tokens": 3000,
                  "output_tokens": 1, "service_tier": "standard"},
    });
    if body["stream"] != true {
        message["content"] = Value::Array(blocks);
        message["stop_reason"] = json!(stop);
        message["usage"]["output_tokens"] = json!(out);
        return client.json(200, &headers, &message).await;
    }
    let mut events = client.events(&headers).await?;
    events.send("message_start", &json!({"type": "message_start", "message": message})).await?;
    events.send("ping", &json!({"type": "ping"})).await?;
    if mode == Mode::MidStream {
        let error = json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}});
        events.send("error", &error).await?;
        return events.end().await;
    }
    for (index, block) in blocks.iter().enumerate() {
        let mut empty = block.clone();
        let deltas: Vec<Value> = if block["type"] == "text" {
            empty["text"] = json!("");
            plan.pieces.iter().map(|p| json!({"type": "text_delta", "text": p})).collect()
        } else {
            empty["input"] = json!({});
            vec![json!({"type": "input_json_delta", "partial_json": block["input"].to_string()})]
        };
        let start = json!({"type": "content_block_start", "index": index, "content_block": empty});
        events.send("content_block_start", &start).await?;
        for delta in deltas {
            // The pause is the product: an answer that takes time.
            tokio::time::sleep(plan.pause).await;
            let delta = json!({"type": "content_block_delta", "index": index, "delta": delta});
            events.send("content_block_delta", &delta).await?;
        }
        events.send("content_block_stop", &json!({"type": "content_block_stop", "index": index})).await?;
    }
    let delta = json!({"stop_reason": stop, "stop_sequence": null});
    events
        .send("message_delta", &json!({"type": "message_delta", "delta": delta, "usage": {"output_tokens": out}}))
        .await?;
    events.send("message_stop", &json!({"type": "message_stop"})).await?;
    events.end().await
}
