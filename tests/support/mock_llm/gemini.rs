//! Gemini's `generateContent` as Gemini CLI 0.61.0 uses it: streamed answers, errors, the model router's JSON.

use std::io;

use serde_json::{Map, Value, json};

use super::{Call, Mode, Plan, http::Client};

/// Text of the last message of the user's, and whether the contents end with a tool's result.
pub fn last_prompt(body: &Value) -> (String, bool) {
    let contents = body["contents"].as_array().map(Vec::as_slice).unwrap_or_default();
    let parts = |content: &Value| content["parts"].as_array().cloned().unwrap_or_default();
    let after_tool = contents.last().is_some_and(|last| parts(last).iter().any(|p| !p["functionResponse"].is_null()));
    let users = contents.iter().rev().filter(|content| content["role"].as_str().is_none_or(|role| role == "user"));
    let text = |content: &Value| {
        let texts: Vec<String> = parts(content).iter().filter_map(|p| Some(p["text"].as_str()?.to_owned())).collect();
        (!texts.is_empty()).then(|| texts.join("\n"))
    };
    (users.into_iter().find_map(text).unwrap_or_default(), after_tool)
}

/// The conversation itself offers functions; titles and the router's questions don't.
pub fn is_main(body: &Value) -> bool {
    let tools = body["tools"].as_array().map(Vec::as_slice).unwrap_or_default();
    tools.iter().any(|tool| tool["functionDeclarations"].as_array().is_some_and(|functions| !functions.is_empty()))
}

fn error(mode: Mode) -> Option<(u16, Value)> {
    let plain = |code: u16, status: &str, message: &str, details: Value| {
        Some((code, json!({"code": code, "message": message, "status": status, "details": details})))
    };
    match mode {
        Mode::Ok | Mode::Slow | Mode::Hang | Mode::Reset | Mode::Warn | Mode::MidStream => None,
        Mode::Limit(_) | Mode::NoCredit => plain(
            429,
            "RESOURCE_EXHAUSTED",
            "You exceeded your current quota, please check your plan and billing details. Quota exceeded for quota metric \
             'Gemini 2.5 Pro Requests' and limit 'Gemini 2.5 Pro Requests per day per user per tier'",
            json!([{"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [
                {"quotaMetric": "generativelanguage.googleapis.com/generate_content_paid_tier_requests",
                 "quotaId": "GenerateRequestsPerDayPerProjectPerModel", "quotaValue": "100"}]}]),
        ),
        Mode::RateLimit => plain(
            429,
            "RESOURCE_EXHAUSTED",
            "Resource has been exhausted (e.g. check quota).",
            json!([{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "2s"}]),
        ),
        Mode::ServerError => plain(500, "INTERNAL", "An internal error has occurred.", json!([])),
        Mode::Overloaded => plain(503, "UNAVAILABLE", "The model is overloaded. Please try again later.", json!([])),
        Mode::BadKey | Mode::ExpiredToken => {
            plain(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", json!([]))
        }
        Mode::Forbidden => plain(403, "PERMISSION_DENIED", "Permission denied.", json!([])),
        Mode::NoModel => plain(404, "NOT_FOUND", "models/mock is not found.", json!([])),
        Mode::TooLong => plain(400, "INVALID_ARGUMENT", "The input token count exceeds the maximum.", json!([])),
    }
}

/// `path` ends with `MODEL:METHOD`.
pub async fn answer(client: Client, path: &str, body: &Value, plan: &Plan, mode: Mode) -> io::Result<()> {
    if path.ends_with(":countTokens") {
        return client.json(200, &[], &json!({"totalTokens": 100})).await;
    }
    if let Some((status, error)) = error(mode) {
        return client.json(status, &[], &json!({"error": error})).await;
    }
    let part = |parts: Value, end: bool| {
        let mut candidate = json!({"content": {"role": "model", "parts": parts}, "index": 0});
        let mut answer = json!({"modelVersion": "mock", "responseId": "mock"});
        if end {
            candidate["finishReason"] = json!("STOP");
            answer["usageMetadata"] = json!({"promptTokenCount": 3000, "candidatesTokenCount": 50,
                "totalTokenCount": 3058, "cachedContentTokenCount": 2000, "thoughtsTokenCount": 8});
        }
        answer["candidates"] = json!([candidate]);
        answer
    };
    let call = match &plan.call {
        Some(Call::Shell { command, .. } | Call::Background { command }) => {
            let args = json!({"command": command, "description": "Mock command"});
            json!([{"functionCall": {"name": "run_shell_command", "args": args}}])
        }
        Some(Call::Subagent { .. } | Call::Question { .. }) | None => json!([{"text": ""}]),
    };
    if !path.ends_with(":streamGenerateContent") {
        return client
            .json(200, &[], &part(json!([{"text": structured(body).unwrap_or(plan.text.clone())}]), true))
            .await;
    }
    let mut events = client.events(&[]).await?;
    for piece in &plan.pieces {
        // The pause is the product: an answer that takes time.
        tokio::time::sleep(plan.pause).await;
        events.data(&part(json!([{"text": piece}]), false)).await?;
    }
    events.data(&part(call, true)).await?;
    events.end().await
}

/// What the CLI asks for its own sake comes with a schema: which model, who speaks next.
fn structured(body: &Value) -> Option<String> {
    let settings = &body["generationConfig"];
    let schema =
        (settings["responseMimeType"] == "application/json").then(|| settings["responseJsonSchema"].to_string())?;
    let known = json!({"reasoning": "mock", "next_speaker": "user", "model_choice": "flash",
        "complexity_reasoning": "mock", "complexity_score": 10});
    let asked: Map<String, Value> = known
        .as_object()?
        .iter()
        .filter(|(key, _)| schema.contains(*key))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    Some(Value::Object(asked).to_string())
}
