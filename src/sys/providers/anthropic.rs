//! Anthropic's Messages API (docs.anthropic.com/en/api/messages-streaming).
//! Builds the request from an order and accumulates the streamed answer. Owns no connection; `call` reads and ends it.

use reqwest::{
    Client, RequestBuilder,
    header::{HeaderName, HeaderValue},
};
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

pub struct Anthropic;

/// The version of the protocol (docs.anthropic.com/en/api/versioning).
const VERSION: HeaderValue = HeaderValue::from_static("2023-06-01");

impl Talk for Anthropic {
    fn request(
        &self,
        client: &Client,
        row: &Row,
        key: Option<&Secret>,
        order: &Order,
    ) -> Result<RequestBuilder, ProviderError> {
        let body = json!({
            "model": row.provider.model,
            "max_tokens": row.provider.max_tokens,
            "messages": [{ "role": "user", "content": order.prompt }],
            "stream": true,
        });
        let request = client.post(row.url("/v1/messages")).header("anthropic-version", VERSION).json(&body);
        key::put(request, HeaderName::from_static("x-api-key"), "", key)
    }

    fn take(&self, event: &Value, said: &mut Said) {
        if let Some(id) = text(event, "/message/id") {
            said.id = Some(id.to_owned());
        }
        if text(event, "/delta/type") == Some("text_delta") {
            said.text.push_str(text(event, "/delta/text").unwrap_or_default());
        }
        // The whole message at once, from a server that doesn't stream.
        if text(event, "/type") == Some("message") {
            said.id = text(event, "/id").map(str::to_owned);
            said.content(&event["content"]);
        }
        let word = text(event, "/delta/stop_reason").or_else(|| text(event, "/stop_reason"));
        if let Some(word) = word {
            said.stop = Some(match word {
                "model_context_window_exceeded" => Stop::Window,
                word => Stop::of(word, &["end_turn", "stop_sequence"], &["max_tokens"]),
            });
        }
        said.over |= text(event, "/type") == Some("message_stop");
        // The first event has the input tokens, the last ones the output so far.
        for usage in ["/message/usage", "/usage"].iter().filter_map(|place| event.pointer(place)) {
            let Tokens { input, output, cache_read, cache_write } = said.tokens.unwrap_or_default();
            said.tokens = Some(Tokens {
                input: number(usage, "/input_tokens").unwrap_or(input),
                output: number(usage, "/output_tokens").unwrap_or(output),
                cache_read: number(usage, "/cache_read_input_tokens").unwrap_or(cache_read),
                cache_write: number(usage, "/cache_creation_input_tokens").unwrap_or(cache_write),
            });
        }
    }
}
