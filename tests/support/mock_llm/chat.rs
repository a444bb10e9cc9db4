//! OpenAI's chat completions as opencode 1.18.33 and Qwen Code 0.24.4 use them.

use std::{io, time::Duration};

use serde_json::{Value, json};

use super::{Call, Mode, Plan, http::Client, openai};

/// Text of the last user message, and whether the messages end with a tool's output.
pub fn last_prompt(body: &Value) -> (String, bool) {
    let messages = body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let after_tool = messages.last().is_some_and(|last| last["role"] == "tool");
    let last = messages.iter().rev().find(|message| message["role"] == "user");
    let text = match last.map(|message| &message["content"]) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => parts.iter().filter_map(|p| p["text"].as_str()).collect::<Vec<_>>().join("\n"),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => String::new(),
    };
    (text, after_tool)
}

pub async fn answer(client: Client, body: &Value, plan: &Plan, mode: Mode, reset_in: Duration) -> io::Result<()> {
    if let Some((status, error)) = openai::error(mode, reset_in) {
        return client.json(status, &[], &json!({"error": error})).await;
    }
    let id = format!("chatcmpl-mock{:016x}", fastrand::u64(..));
    let usage = json!({"prompt_tokens": 3000, "completion_tokens": 50, "total_tokens": 3050,
        "prompt_tokens_details": {"cached_tokens": 2000}});
    if body["stream"] != true {
        let message = json!({"role": "assistant", "content": plan.text});
        let choices = json!([{"index": 0, "message": message, "finish_reason": "stop"}]);
        let whole =
            json!({"id": id, "object": "chat.completion", "model": body["model"], "choices": choices, "usage": usage});
        return client.json(200, &[], &whole).await;
    }
    let chunk = |choices: Value| json!({"id": id, "object": "chat.completion.chunk", "created": 0, "model": body["model"], "choices": choices});
    let delta = |delta: Value, end: Option<&str>| chunk(json!([{"index": 0, "delta": delta, "finish_reason": end}]));
    let mut events = client.events(&[]).await?;
    events.data(&delta(json!({"role": "assistant", "content": ""}), None)).await?;
    for piece in &plan.pieces {
        // The pause is the product: an answer that takes time.
        tokio::time::sleep(plan.pause).await;
        events.data(&delta(json!({"content": piece}), None)).await?;
    }
    let call = shell(body, plan.call.as_ref());
    if let Some(function) = &call {
        let id = format!("call_{:x}", fastrand::u64(..));
        let calls = json!([{"index": 0, "id": id, "type": "function", "function": function}]);
        events.data(&delta(json!({"tool_calls": calls}), None)).await?;
    }
    events.data(&delta(json!({}), Some(if call.is_some() { "tool_calls" } else { "stop" }))).await?;
    let mut last = chunk(json!([]));
    last["usage"] = usage;
    events.data(&last).await?;
    events.done().await
}

/// A command, by the name that the CLI gives to its shell.
fn shell(body: &Value, call: Option<&Call>) -> Option<Value> {
    let (Call::Shell { command, .. } | Call::Background { command }) = call? else { return None };
    let tools = body["tools"].as_array()?;
    let name = tools
        .iter()
        .filter_map(|t| t["function"]["name"].as_str())
        .find(|name| ["bash", "run_shell_command"].contains(name))?;
    let arguments = json!({"command": command, "description": "Mock command", "is_background": false});
    Some(json!({"name": name, "arguments": arguments.to_string()}))
}
