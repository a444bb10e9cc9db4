//! Normal answers of each kind of server, and provider rows that talk to it.

use std::{collections::BTreeMap, time::Duration};

use claude_failover::{
    config::{Provider, ProviderKind},
    model::{
        ids::{ProviderName, RunId},
        provider::{Order, Progress, ProviderError},
    },
    ports::Providers,
    sys::providers::{HttpProviders, Pace},
};
use serde_json::json;

use crate::server::{Server, Step, answer, event, stream};

pub const KEY: &str = "test-key-0123456789";

/// Longest that anything here may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// One provider `p`.
pub struct Peer {
    pub providers: HttpProviders,
    pub name: ProviderName,
    #[allow(dead_code, reason = "held; the suite of contracts takes it along")]
    pub key: tempfile::TempDir,
}

impl Peer {
    pub fn new(kind: ProviderKind, url: &str) -> Self {
        Self::with(kind, url, Pace { idle: Duration::from_secs(20), ask: Duration::from_secs(20) }, |_| {})
    }

    pub fn with(kind: ProviderKind, url: &str, pace: Pace, change: impl FnOnce(&mut Provider)) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("key");
        std::fs::write(&file, format!("{KEY}\n")).expect("written");
        let name = ProviderName::parse("p").expect("a name");
        let mut row = Provider::new(kind);
        row.url = Some(url.to_owned());
        row.model = (kind != ProviderKind::Secutools).then(|| "m-1".to_owned());
        row.key_file = Some(file);
        change(&mut row);
        let providers = HttpProviders::of(BTreeMap::from([(name.clone(), row)]), pace).expect("made");
        Self { providers, name, key: dir }
    }

    pub async fn submit(&self, run: &str) -> Result<String, ProviderError> {
        let order = Order {
            key: RunId(run.to_owned()),
            prompt: "say hello".to_owned(),
            word: Some("gpu".to_owned()),
            complexity: Some("low".to_owned()),
        };
        self.providers.submit(&self.name, &order).await
    }

    pub async fn look(&self, job: &str) -> Result<Progress, ProviderError> {
        self.providers.look(&self.name, job).await
    }

    /// Looks until the job runs no more.
    pub async fn end(&self, job: &str) -> Progress {
        self.until(job, |progress| !matches!(progress, Progress::Running { .. })).await
    }

    pub async fn until(&self, job: &str, holds: impl Fn(&Progress) -> bool) -> Progress {
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                let progress = self.look(job).await.expect("a look");
                if holds(&progress) {
                    return progress;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        waited.await.expect("the job to get there in time")
    }
}

pub const STREAMING: [ProviderKind; 3] = [ProviderKind::Openai, ProviderKind::Anthropic, ProviderKind::Gemini];

/// The events of an answer with this text, as the kind's documents show them.
pub fn events(kind: ProviderKind, text: &str) -> Vec<String> {
    match kind {
        ProviderKind::Secutools => Vec::new(),
        ProviderKind::Openai => vec![
            json!({"id": "chatcmpl-1", "choices": [{"delta": {"role": "assistant", "content": ""}}]}).to_string(),
            json!({"id": "chatcmpl-1", "choices": [{"delta": {"content": text}}]}).to_string(),
            json!({"id": "chatcmpl-1", "choices": [{"delta": {}, "finish_reason": "stop"}]}).to_string(),
            json!({"id": "chatcmpl-1", "choices": [], "usage": {"prompt_tokens": 1000, "completion_tokens": 200,
                "prompt_tokens_details": {"cached_tokens": 100}}})
            .to_string(),
            "[DONE]".to_owned(),
        ],
        ProviderKind::Anthropic => vec![
            json!({"type": "message_start", "message": {"id": "msg_1", "usage": {"input_tokens": 900,
                "cache_read_input_tokens": 100, "output_tokens": 1}}})
            .to_string(),
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})
                .to_string(),
            json!({"type": "ping"}).to_string(),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}})
                .to_string(),
            json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 200}})
                .to_string(),
            json!({"type": "message_stop"}).to_string(),
        ],
        ProviderKind::Gemini => vec![
            json!({"responseId": "g-1", "candidates": [{"content": {"parts": [{"text": "hidden", "thought": true}]}}]})
                .to_string(),
            json!({"responseId": "g-1", "candidates": [{"content": {"parts": [{"text": text}]}}]}).to_string(),
            json!({"responseId": "g-1", "candidates": [{"content": {"parts": []}, "finishReason": "STOP"}],
                "usageMetadata": {"promptTokenCount": 1000, "cachedContentTokenCount": 100, "candidatesTokenCount": 150,
                "thoughtsTokenCount": 50}})
            .to_string(),
        ],
    }
}

/// A good answer to a submit.
pub fn good(kind: ProviderKind, text: &str) -> Vec<Step> {
    match kind {
        ProviderKind::Secutools => answer(202, &[], r#"{"id": "job-1", "status": "queued"}"#),
        ProviderKind::Openai | ProviderKind::Anthropic | ProviderKind::Gemini => {
            let events = events(kind, text);
            std::iter::once(stream()).chain(events.iter().map(|data| event(data))).collect()
        }
    }
}

/// A server that does these steps first and is well then.
pub fn after(kind: ProviderKind, mut first: Vec<Vec<Step>>) -> Server {
    first.reverse();
    let first = std::sync::Mutex::new(first);
    Server::start(move |_| first.lock().expect("whole").pop().unwrap_or_else(|| good(kind, "hello")))
}
