//! Google's generateContent API (ai.google.dev/api/generate-content), streamed.
//! Builds the request from an order and accumulates the streamed answer. Owns no connection; `call` reads and ends it.

use reqwest::{Client, RequestBuilder, header::HeaderName};
use serde_json::{Value, json};

use super::{
    key,
    talk::{Said, Stop, Talk, number, text},
};
use crate::{
    config::Secret,
    model::{
        evidence::Tokens,
        provider::{Order, ProviderError},
    },
    sys::providers::row::Row,
};

pub struct Gemini;

impl Talk for Gemini {
    fn request(
        &self,
        client: &Client,
        row: &Row,
        key: Option<&Secret>,
        order: &Order,
    ) -> Result<RequestBuilder, ProviderError> {
        let model = row.provider.model.as_deref().unwrap_or_default();
        let model = model.strip_prefix("models/").unwrap_or(model);
        let body = json!({
            "contents": [{ "role": "user", "parts": [{ "text": order.prompt }] }],
            "generationConfig": { "maxOutputTokens": row.provider.max_tokens },
        });
        let url = row.url(&format!("/v1beta/models/{model}:streamGenerateContent?alt=sse"));
        // In a header and not in the address, which proxies write into their logs.
        key::put(client.post(url).json(&body), HeaderName::from_static("x-goog-api-key"), "", key)
    }

    fn take(&self, event: &Value, said: &mut Said) {
        if let Some(id) = text(event, "/responseId") {
            said.id = Some(id.to_owned());
        }
        let parts = event.pointer("/candidates/0/content/parts").and_then(Value::as_array);
        for part in parts.into_iter().flatten() {
            if part.get("thought").and_then(Value::as_bool) != Some(true) {
                said.text.push_str(text(part, "/text").unwrap_or_default());
            }
        }
        // A prompt that is refused has no candidate.
        if let Some(word) =
            text(event, "/candidates/0/finishReason").or_else(|| text(event, "/promptFeedback/blockReason"))
        {
            said.stop = Some(Stop::of(word, &["STOP"], &["MAX_TOKENS"]));
        }
        if event.get("usageMetadata").is_some_and(Value::is_object) {
            let count = |name: &str| number(event, &format!("/usageMetadata/{name}")).unwrap_or(0);
            let all = count("promptTokenCount");
            let cache_read = count("cachedContentTokenCount");
            let output = count("candidatesTokenCount") + count("thoughtsTokenCount");
            said.tokens = Some(Tokens { input: all.saturating_sub(cache_read), output, cache_read, cache_write: 0 });
        }
    }
}
