//! Sends one request to a provider, with retries.
//! Takes a request and its row; returns a 2xx answer, or why there is none. Retries server errors, never client
//! errors. Doesn't read the body of a successful answer.

use std::{error::Error, time::Duration};

use jiff::{Timestamp, fmt::rfc2822};
use reqwest::{RequestBuilder, Response, StatusCode, header};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    errors::{Rules, Verdict},
    words,
};
use crate::{
    config::Secret,
    model::provider::{ProviderError, ProviderStanding},
    sys::{http, providers::row::SetupError},
};

/// Largest body that is read. Chosen: far above any model's longest answer; bounds the memory.
pub const LARGEST: usize = 10 * 1024 * 1024;

/// Largest body of an error that is read. Chosen: errors are a few hundred bytes, or a proxy's HTML page.
const LARGEST_ERROR: usize = 64 * 1024;

/// Requests after the first one (INTERFACE 5). Chosen: with the pauses, 3.5 s of outage are bridged.
const RETRIES: u32 = 3;

/// The first pause; each further one is twice as long (INTERFACE 5). Chosen: short, since most overloads last a
/// moment.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// A `retry-after` up to this is waited for; a longer one becomes the provider's pause. Chosen: the task would
/// otherwise occupy its place for nothing.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Pause of a provider that is down, or names no end of its pause. Chosen: the window of most rate limits is a minute.
const COOLING: Duration = Duration::from_secs(60);

/// Longest pause, whatever the server says. Chosen: a mistaken date must not disable a provider for longer than a day.
const LONGEST_COOLING: Duration = Duration::from_secs(24 * 3600);

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Between two pieces of an answer, and before the first one.
    pub idle: Duration,
    /// A question after a job.
    pub ask: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        // Chosen: reasoning models are silent for minutes before their first word; a job server answers from memory.
        Self { idle: Duration::from_secs(300), ask: Duration::from_secs(30) }
    }
}

/// Why there is no good answer.
#[derive(Debug)]
pub struct Fault {
    /// The last answer's status, where there was one.
    pub status: Option<u16>,
    pub error: ProviderError,
}

impl From<Fault> for ProviderError {
    fn from(fault: Fault) -> Self {
        fault.error
    }
}

impl From<ProviderError> for Fault {
    fn from(error: ProviderError) -> Self {
        Self { status: None, error }
    }
}

/// How a request is sent.
pub struct How<'a> {
    pub key: Option<&'a Secret>,
    /// Sent twice it does nothing twice. Otherwise it is sent again only when the server can't have begun on it.
    pub repeats: bool,
    /// For the beginning of one answer.
    pub wait: Duration,
    /// For all of it.
    pub deadline: Instant,
}

pub struct Sender {
    pub client: reqwest::Client,
    pub pace: Pace,
    rules: Rules,
}

/// One try's end.
enum Try {
    Good(Response),
    Again { status: Option<u16>, why: String, after: Option<Duration> },
    Never(Fault),
}

impl Sender {
    pub fn new(pace: Pace) -> Result<Self, SetupError> {
        Ok(Self { client: http::client()?, pace, rules: Rules::built_in().map_err(SetupError::Rules)? })
    }

    /// Sends until there is a good answer, or none to be had.
    pub async fn send(&self, request: &RequestBuilder, how: &How<'_>) -> Result<Response, Fault> {
        let mut pause = FIRST_PAUSE;
        let mut tries = 0;
        loop {
            let Some(this) = request.try_clone() else {
                return Err(refused("the request can't be sent twice".to_owned()).into());
            };
            tries += 1;
            let (status, why, after) = match self.attempt(this, how).await {
                Try::Good(response) => return Ok(response),
                Try::Never(fault) => return Err(fault),
                Try::Again { status, why, after } => (status, why, after),
            };
            let wait = after.unwrap_or_default().max(jittered(pause));
            let in_time = Instant::now() + wait < how.deadline;
            if tries > RETRIES || after.is_some_and(|after| after > LONGEST_WAIT) || !in_time {
                let why = if tries == 1 { why } else { format!("{why} ({tries} tries)") };
                return Err(Fault { status, error: cooling(why, after) });
            }
            tracing::debug!(tries, why, "a provider's request is sent again");
            tokio::time::sleep(wait).await;
            pause *= 2;
        }
    }

    async fn attempt(&self, request: RequestBuilder, how: &How<'_>) -> Try {
        let until = how.deadline.min(Instant::now() + how.wait);
        let response = match tokio::time::timeout_at(until, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) if error.is_builder() => {
                let why = format!("the request can't be made: {}", chain(error, how.key));
                return Try::Never(broken(why).into());
            }
            Ok(Err(error)) => {
                let sent = !error.is_connect();
                return lost(chain(error, how.key), sent, how);
            }
            Err(_) => return lost(format!("no answer within {}", humantime::format_duration(how.wait)), true, how),
        };
        let status = response.status();
        if status.is_success() {
            return Try::Good(response);
        }
        let code = status.as_u16();
        if status.is_redirection() && response.headers().contains_key(header::LOCATION) {
            return Try::Never(Fault { status: Some(code), error: broken(redirected(&response)) });
        }
        let after = retry_after(&response);
        let body = tokio::time::timeout(self.pace.ask, head(response)).await.unwrap_or_default();
        let after = after.or_else(|| pause_in(&body));
        let why = words::reason(code, &body, how.key);
        match self.rules.judge(code, &body) {
            Verdict::Again => Try::Again { status: Some(code), why, after },
            Verdict::Lost => lost(why, true, how),
            verdict => Try::Never(Fault { status: Some(code), error: meant(verdict, why, after) }),
        }
    }

    /// What an error means that came in the middle of an answer.
    pub fn judge(&self, error: &Value, key: Option<&Secret>) -> ProviderError {
        let (verdict, why) = self.verdict(error, key);
        meant(verdict, why, None)
    }

    /// A provider's state after a job that ended with this error; `None` if the job is to blame.
    pub fn fault_of_provider(&self, error: &Value, key: Option<&Secret>) -> Option<ProviderStanding> {
        let (verdict, why) = self.verdict(error, key);
        let out = matches!(verdict, Verdict::Exhausted | Verdict::Cooling(_));
        match meant(verdict, why, None) {
            ProviderError::Out(standing) if out => Some(standing),
            ProviderError::Out(_) | ProviderError::Refused(_) => None,
        }
    }

    fn verdict(&self, error: &Value, key: Option<&Secret>) -> (Verdict, String) {
        let body = error.to_string();
        let code = error.pointer("/error/code").or_else(|| error.pointer("/code"));
        let code = code.and_then(|code| code.as_u64().or_else(|| code.as_str()?.parse().ok()));
        let code = code.and_then(|code| u16::try_from(code).ok()).filter(|code| (400..600).contains(code));
        let why = words::tidy(&words::message(error).unwrap_or_else(|| body.clone()), key);
        (self.rules.judge(code.unwrap_or(500), &body), why)
    }
}

fn meant(verdict: Verdict, why: String, after: Option<Duration>) -> ProviderError {
    match verdict {
        Verdict::Again | Verdict::Lost => cooling(why, after),
        Verdict::Exhausted => ProviderError::Out(ProviderStanding::Exhausted { why, until: after.map(later) }),
        Verdict::Cooling(told) => cooling(why, after.or(told)),
        Verdict::Broken => broken(why),
        Verdict::Refused => refused(why),
    }
}

/// A request without an answer. What the server may have begun on is not sent again where that could be paid twice.
fn lost(why: String, sent: bool, how: &How<'_>) -> Try {
    if sent && !how.repeats {
        let why = format!("{why}; not sent again, because it could be paid twice");
        return Try::Never(cooling(why, None).into());
    }
    Try::Again { status: None, why, after: None }
}

/// What went wrong, with its causes and without the address, whose path and query are nobody's business.
pub fn chain(error: reqwest::Error, key: Option<&Secret>) -> String {
    let host = error.url().and_then(|url| url.host_str()).map(str::to_owned);
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let next_text = next.to_string();
        if !text.contains(&next_text) {
            text = format!("{text}: {next_text}");
        }
        cause = next.source();
    }
    let text = host.map_or(text.clone(), |host| format!("{host}: {text}"));
    words::tidy(&text, key)
}

fn redirected(response: &Response) -> String {
    let to = response.headers().get(header::LOCATION).and_then(|to| to.to_str().ok());
    let host = to.and_then(|to| response.url().join(to).ok()).and_then(|url| url.host_str().map(str::to_owned));
    let host = host.as_deref().unwrap_or("another place");
    format!("redirected to {host}: not followed, because the key would go with it; put the final address into `url`")
}

/// Seconds or a date (RFC 9110, 10.2.3).
fn retry_after(response: &Response) -> Option<Duration> {
    let text = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok()?,
        Err(_) => {
            let at = rfc2822::parse(&text.replace("GMT", "+0000")).ok()?.timestamp();
            Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default()
        }
    };
    Some(wait.min(LONGEST_COOLING))
}

/// "Please try again in 7m12s.", as OpenAI writes it where it sends no header.
fn pause_in(body: &str) -> Option<Duration> {
    let (_, rest) = body.split_once("try again in ")?;
    let told: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '.').collect();
    let told = told.trim_end_matches('.');
    // Its seconds have fractions, which the parser of durations doesn't know.
    let (whole, fraction) = told.split_once('.').unwrap_or((told, ""));
    let unit = if fraction.is_empty() { "" } else { fraction.trim_start_matches(|c: char| c.is_ascii_digit()) };
    let wait = humantime::parse_duration(&format!("{whole}{unit}")).ok()?;
    // Rounded up: a pause that ends too early is a pause that was not kept.
    let up = Duration::from_secs(u64::from(!fraction.is_empty() && unit == "s"));
    Some((wait + up).min(LONGEST_COOLING))
}

/// The beginning of an error's body.
async fn head(mut response: Response) -> String {
    let mut body = Vec::new();
    while let Ok(Some(piece)) = response.chunk().await {
        body.extend_from_slice(&piece);
        if body.len() > LARGEST_ERROR {
            body.truncate(LARGEST_ERROR);
            break;
        }
    }
    String::from_utf8_lossy(&body).into_owned()
}

/// The whole body of a good answer, up to `LARGEST`.
pub async fn whole(mut response: Response, idle: Duration, key: Option<&Secret>) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(piece) = next(&mut response, idle, key).await? {
        body.extend_from_slice(&piece);
        if body.len() > LARGEST {
            return Err(too_large());
        }
    }
    Ok(body)
}

/// The next piece of an answer.
pub async fn next(response: &mut Response, idle: Duration, key: Option<&Secret>) -> Result<Option<Vec<u8>>, String> {
    match tokio::time::timeout(idle, response.chunk()).await {
        Ok(Ok(piece)) => Ok(piece.map(Vec::from)),
        Ok(Err(error)) => Err(format!("the connection broke before the answer's end: {}", chain(error, key))),
        Err(_) => Err(format!("nothing came for {}", humantime::format_duration(idle))),
    }
}

pub fn too_large() -> String {
    format!("the answer is larger than {} MiB: reading stopped", LARGEST / 1024 / 1024)
}

pub fn is_gone(fault: &Fault) -> bool {
    fault.status == Some(StatusCode::NOT_FOUND.as_u16()) || fault.status == Some(StatusCode::GONE.as_u16())
}

pub fn broken(why: String) -> ProviderError {
    ProviderError::Out(ProviderStanding::Broken { why })
}

fn refused(why: String) -> ProviderError {
    ProviderError::Refused(why)
}

pub fn cooling(why: String, told: Option<Duration>) -> ProviderError {
    ProviderError::Out(ProviderStanding::Cooling { why, until: later(told.unwrap_or(COOLING)) })
}

fn later(wait: Duration) -> Timestamp {
    let now = Timestamp::now();
    now.checked_add(wait.min(LONGEST_COOLING)).unwrap_or(now)
}

/// Many who failed together don't come back together.
fn jittered(pause: Duration) -> Duration {
    let noise = uuid::Uuid::new_v4().as_bytes()[0];
    pause.mul_f64(1.0 + f64::from(noise) / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_found_in_words() {
        let told = |text: &str| pause_in(text).map(|pause| pause.as_millis());
        assert_eq!(told("Rate limit reached. Please try again in 7m12s. Visit"), Some(432_000));
        assert_eq!(told("Please try again in 1.898s"), Some(2_000));
        assert_eq!(told("try again in 350ms"), Some(350));
        assert_eq!(told("try again in 6h0m0s"), Some(21_600_000));
        assert_eq!(told("try again in a while"), None);
        assert_eq!(told("try again later"), None);
    }
}
