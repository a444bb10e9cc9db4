//! Sends one request to a notification receiver and interprets its answer.
//! Returns delivered, or why not. Every secret that was sent is masked in what a receiver says.

use std::{error::Error as _, time::Duration};

use reqwest::{RequestBuilder, StatusCode, header::RETRY_AFTER};

use crate::{
    config::{MASK, Secret},
    model::notice::NoticeError,
};

/// Longest that a receiver may take to answer. Chosen: n8n answers when its workflow has ended.
const ANSWERS_WITHIN: Duration = Duration::from_secs(20);

/// Bytes read of an answer. Chosen: above any error message.
const ANSWER_READ: usize = 16 * 1024;

/// Characters shown of it. Chosen: one sentence.
const ANSWER_TOLD: usize = 200;

/// In the answer (409) while an earlier request with the same key is under way
/// (<https://resend.com/docs/dashboard/emails/idempotency-keys>).
const CONCURRENT: &str = "concurrent_idempotent_requests";

pub(super) fn permanent(why: impl Into<String>) -> NoticeError {
    NoticeError::Permanent(why.into())
}

pub(super) fn client() -> Result<reqwest::Client, NoticeError> {
    crate::sys::http::client().map_err(|error| permanent(format!("no TLS: {}", words(error))))
}

/// Sends a request and weighs the answer. `retry_after` finds in an answer's body how long to wait,
/// `took` whether a good answer means what it says.
pub(super) async fn post(
    request: RequestBuilder,
    secrets: &[&Secret],
    retry_after: fn(&str) -> Option<u64>,
    took: fn(&str) -> bool,
) -> Result<(), NoticeError> {
    let temporary = |why: String, after| NoticeError::Temporary { why: scrub(&why, secrets), after };
    let sent = request.timeout(ANSWERS_WITHIN).send().await;
    let mut response = sent.map_err(|error| match error.is_builder() {
        // A key with a line break in it, say.
        true => permanent(scrub(&format!("it can't be asked: {}", words(error)), secrets)),
        false => temporary(format!("no answer: {}", words(error)), None),
    })?;
    let status = response.status();
    let header = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let mut body = Vec::new();
    // Some answer with their status and then cut the connection.
    while let Ok(Some(part)) = response.chunk().await {
        body.extend_from_slice(&part);
        if body.len() >= ANSWER_READ {
            break;
        }
    }
    let body = String::from_utf8_lossy(&body);
    let taken = status.is_success() && took(&body);
    if taken {
        return Ok(());
    }
    // Before it is cut: half a secret would not be found.
    let told: String = scrub(&body, secrets).chars().take(ANSWER_TOLD).collect();
    let told: String = told.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let why = match status {
        _ if status.is_redirection() => {
            format!("answered {status}; redirects are not followed, give the final address")
        }
        _ if told.trim().is_empty() => format!("answered {status}"),
        _ => format!("answered {status}: {}", told.trim()),
    };
    // A page of somebody between us and the receiver, a portal's say, is gone some day.
    let foreign = status.is_success() && serde_json::from_str::<serde_json::Value>(&body).is_err();
    let later = foreign || [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&status);
    if later || status.is_server_error() || body.contains(CONCURRENT) {
        let after = header.or_else(|| retry_after(&body)).map(Duration::from_secs);
        return Err(temporary(why, after));
    }
    Err(permanent(why))
}

/// What went wrong and why, without the address.
fn words(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(why) = cause {
        let why_text = why.to_string();
        if !text.contains(&why_text) {
            text.push_str(&format!(": {why_text}"));
        }
        cause = why.source();
    }
    text
}

fn scrub(text: &str, secrets: &[&Secret]) -> String {
    let known = secrets.iter().map(|secret| secret.expose().trim()).filter(|secret| !secret.is_empty());
    known.fold(text.to_owned(), |text, secret| text.replace(secret, MASK))
}
