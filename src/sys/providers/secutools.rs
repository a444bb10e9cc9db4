//! The job API (doc/PROVIDERS.md): a job is submitted, polled, and can be cancelled. The server keeps it.
//! Takes orders and job ids; returns ids and progress. Owns nothing: requests with the same key are one job there.

use std::time::Duration;

use reqwest::{RequestBuilder, Response, Url};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    key,
    send::{self, Fault, How, Sender},
    talk, words,
};
use crate::{
    config::Secret,
    model::{
        evidence::Tokens,
        provider::{Answer, Order, Progress, ProviderError},
    },
    sys::providers::row::Row,
};

/// Longest accepted job id. Chosen: above a UUID or hash; it goes into a marker and a path.
const LONGEST_ID: usize = 200;

/// The body of a submit.
#[derive(Serialize)]
struct NewJob<'a> {
    prompt: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    preferred_ai: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    complexity_hint: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    max_tokens: u32,
}

/// What the server says of a job; keys that are not here are passed over.
#[derive(Deserialize)]
struct Job {
    #[serde(alias = "job_id")]
    id: Option<Id>,
    #[serde(alias = "state")]
    status: Option<Status>,
    #[serde(alias = "result")]
    output: Option<String>,
    error: Option<Value>,
    tokens: Option<Counts>,
    cost_usd: Option<f64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Id {
    Text(String),
    Number(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    #[serde(alias = "pending", alias = "accepted")]
    Queued,
    #[serde(alias = "processing")]
    Running,
    #[serde(alias = "done", alias = "succeeded")]
    Completed,
    #[serde(alias = "error")]
    Failed,
    #[serde(alias = "canceled")]
    Cancelled,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Counts {
    input: u64,
    output: u64,
    cache_read: u64,
    cache_write: u64,
}

/// How long one poll may be retried. Chosen: the retries of `send` with their waits; the next poll follows anyway.
const ASK_WITHIN: Duration = Duration::from_secs(120);

pub async fn submit(sender: &Sender, row: &Row, order: &Order) -> Result<String, ProviderError> {
    let key = key::read(row)?;
    let job = NewJob {
        prompt: &order.prompt,
        preferred_ai: order.word.as_deref(),
        complexity_hint: order.complexity.as_deref(),
        model: row.provider.model.as_deref(),
        max_tokens: row.provider.max_tokens,
    };
    let request = sender.client.post(row.url(&row.provider.submit_path)).json(&job);
    let request = request.header("idempotency-key", order.key.0.as_str());
    let job: Job = read(ask(sender, request, key.as_ref()).await?, sender, key.as_ref()).await?;
    let id = match job.id {
        Some(Id::Text(id)) => id,
        Some(Id::Number(id)) => id.to_string(),
        None => return Err(odd("its answer to a new job has no `id`")),
    };
    if id.is_empty() || id.len() > LONGEST_ID || id.chars().any(char::is_control) {
        return Err(odd("the new job's `id` is empty, too long or holds control characters"));
    }
    Ok(id)
}

pub async fn look(sender: &Sender, row: &Row, id: &str) -> Result<Progress, ProviderError> {
    let key = key::read(row)?;
    let key = key.as_ref();
    let response = match ask(sender, sender.client.get(place(row, id)?), key).await {
        Ok(response) => response,
        Err(fault) if send::is_gone(&fault) => return Ok(Progress::Unknown),
        Err(fault) => return Err(fault.into()),
    };
    let job: Job = read(response, sender, key).await?;
    let output = job.output.map(|text| words::masked(&text, key)).filter(|text| !text.trim().is_empty());
    Ok(match job.status {
        None => return Err(odd("its answer about a job has no `status`")),
        Some(Status::Queued | Status::Running) => Progress::Running { output: output.map(Into::into) },
        Some(Status::Completed) => match output {
            None => Progress::Failed("its answer is empty".to_owned()),
            Some(text) => {
                let tokens = job.tokens.map(Tokens::from);
                let price = || Some(talk::price(&tokens?, row.provider.price.as_ref()?));
                Progress::Done(Answer { text, tokens, cost_usd: job.cost_usd.or_else(price) })
            }
        },
        Some(Status::Failed) => failed(sender, job.error, key),
        Some(Status::Cancelled) => Progress::Failed("the job was cancelled there".to_owned()),
    })
}

pub async fn cancel(sender: &Sender, row: &Row, id: &str) -> Result<(), ProviderError> {
    let key = key::read(row)?;
    match ask(sender, sender.client.delete(place(row, id)?), key.as_ref()).await {
        Ok(_) => Ok(()),
        Err(fault) if send::is_gone(&fault) => Ok(()),
        Err(fault) => Err(fault.into()),
    }
}

/// An empty purse behind the server is no fault of the task.
fn failed(sender: &Sender, error: Option<Value>, key: Option<&Secret>) -> Progress {
    let Some(error) = error.filter(|error| !error.is_null()) else {
        return Progress::Failed("the job failed there, and it does not say why".to_owned());
    };
    match sender.fault_of_provider(&error, key) {
        Some(standing) => Progress::Declined(ProviderError::Out(standing)),
        None => {
            let said = words::message(&error).unwrap_or_else(|| error.to_string());
            Progress::Failed(words::tidy(&said, key))
        }
    }
}

/// Every question may be asked twice: a new job has its key, the others change nothing.
async fn ask(sender: &Sender, request: RequestBuilder, key: Option<&Secret>) -> Result<Response, Fault> {
    let request = key::put(request, reqwest::header::AUTHORIZATION, "Bearer ", key)?;
    let how = How { key, repeats: true, wait: sender.pace.ask, deadline: Instant::now() + ASK_WITHIN };
    sender.send(&request, &how).await
}

async fn read(response: Response, sender: &Sender, key: Option<&Secret>) -> Result<Job, ProviderError> {
    let body = send::whole(response, sender.pace.ask, key).await.map_err(|why| send::cooling(why, None))?;
    serde_json::from_slice(&body).map_err(|error| odd(&format!("its answer is not as it should be: {error}")))
}

/// Where the job is; an id is somebody else's text.
fn place(row: &Row, id: &str) -> Result<Url, ProviderError> {
    if matches!(id, "" | "." | "..") {
        return Err(ProviderError::Refused(format!("{id:?} is no job's id")));
    }
    let id = id.bytes().map(|byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' | b'.' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    });
    let url = row.url(&row.provider.job_path.replace("{id}", &id.collect::<String>()));
    Url::parse(&url).map_err(|error| send::broken(format!("{url:?} is no address: {error}")))
}

fn odd(what: &str) -> ProviderError {
    send::cooling(format!("{what} (doc/PROVIDERS.md has the wire format)"), None)
}

impl From<Counts> for Tokens {
    fn from(Counts { input, output, cache_read, cache_write }: Counts) -> Self {
        Self { input, output, cache_read, cache_write }
    }
}
