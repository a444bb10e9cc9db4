//! Chat completions (platform.openai.com/docs/api-reference/chat), as spoken by OpenAI, LiteLLM, OpenRouter, vLLM and
//! Ollama.
//! Builds the request from an order and accumulates the streamed answer. Owns no connection; `call` reads and ends it.

use reqwest::{Client, RequestBuilder, header};
use serde_json::{Value, json};

use super::{
    key,
    talk::{Said, Stop, Talk, amount, number, text},
};
use crate::{
    config::Secret,
    model::{
        evidence::Tokens,
        provider::{Order, ProviderError},
    },
    sys::providers::row::Row,
};

pub struct Openai;

impl Talk for Openai {
    fn request(
        &self,
        client: &Client,
        row: &Row,
        key: Option<&Secret>,
        order: &Order,
    ) -> Result<RequestBuilder, ProviderError> {
        let provider = &row.provider;
        // OpenAI's newer models refuse the old name, others' servers don't know the new one.
        let most =
            if provider.base_url() == provider.kind.public_url() { "max_completion_tokens" } else { "max_tokens" };
        let body = json!({
            "model": provider.model,
            "messages": [{ "role": "user", "content": order.prompt }],
            "stream": true,
            "stream_options": { "include_usage": true },
            most: provider.max_tokens,
        });
        key::put(client.post(row.url("/chat/completions")).json(&body), header::AUTHORIZATION, "Bearer ", key)
    }

    fn take(&self, event: &Value, said: &mut Said) {
        if let Some(id) = text(event, "/id") {
            said.id.get_or_insert_with(|| id.to_owned());
        }
        // The second is what a server says that doesn't stream.
        for message in ["/choices/0/delta", "/choices/0/message"].iter().filter_map(|place| event.pointer(place)) {
            said.content(&message["content"]);
            said.refusal.push_str(text(message, "/refusal").unwrap_or_default());
        }
        if let Some(word) = text(event, "/choices/0/finish_reason") {
            said.stop = Some(Stop::of(word, &["stop", "eos", "end_turn"], &["length"]));
        }
        let (all, output) = (number(event, "/usage/prompt_tokens"), number(event, "/usage/completion_tokens"));
        if all.is_some() || output.is_some() {
            let cache_read = number(event, "/usage/prompt_tokens_details/cached_tokens").unwrap_or(0);
            let input = all.unwrap_or(0).saturating_sub(cache_read);
            said.tokens = Some(Tokens { input, output: output.unwrap_or(0), cache_read, cache_write: 0 });
        }
        // OpenRouter and LiteLLM tell what it cost (openrouter.ai/docs, "Usage Accounting").
        said.cost_usd = amount(event, "/usage/cost").or(said.cost_usd);
    }
}
