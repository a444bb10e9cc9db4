//! Shared code for servers that stream the answer on the request's own connection.
//! Builds the request from an order and its row; accumulates the answer from its events. Pure.

use reqwest::{Client, RequestBuilder};
use serde_json::Value;

use crate::{
    config::{Price, Secret},
    model::{
        evidence::Tokens,
        provider::{Answer, Order, ProviderError},
    },
    sys::providers::row::Row,
};

/// How one kind of server speaks.
pub trait Talk: Send + Sync {
    /// # Errors
    /// If the key can't be put into a header.
    fn request(
        &self,
        client: &Client,
        row: &Row,
        key: Option<&Secret>,
        order: &Order,
    ) -> Result<RequestBuilder, ProviderError>;

    /// Takes one event of the answer, or all of it at once. It is no error: those look alike everywhere.
    fn take(&self, event: &Value, said: &mut Said);
}

/// What a server has said so far.
#[derive(Debug, Default)]
pub struct Said {
    /// The server's own id of the answer.
    pub id: Option<String>,
    pub text: String,
    pub tokens: Option<Tokens>,
    pub cost_usd: Option<f64>,
    pub stop: Option<Stop>,
    /// The protocol's own end arrived: nothing follows, whatever the connection does.
    pub over: bool,
    /// Why it does not want to, in its own words.
    pub refusal: String,
    /// A kind of content that can't be shown as text.
    pub foreign: Option<String>,
}

/// Why a server said no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// It was done.
    End,
    /// The answer was longer than `max_tokens`.
    Length,
    /// Question and answer together were longer than the model's context window.
    Window,
    /// A refusal, in the model's words.
    Declined(String),
}

impl Stop {
    /// From a server's finish reason: one in `ends` is the normal end, one in `lengths` a cut.
    pub fn of(word: &str, ends: &[&str], lengths: &[&str]) -> Self {
        if ends.contains(&word) {
            Self::End
        } else if lengths.contains(&word) {
            Self::Length
        } else {
            Self::Declined(word.to_owned())
        }
    }
}

impl Said {
    /// Takes a content: a text, or a list of typed parts. Thoughts are passed over.
    pub fn content(&mut self, content: &Value) {
        match content {
            Value::String(text) => self.text.push_str(text),
            Value::Array(parts) => parts.iter().for_each(|part| self.part(part)),
            Value::Object(_) => self.part(content),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn part(&mut self, part: &Value) {
        match part.get("type").and_then(Value::as_str) {
            Some("text" | "output_text") => self.text.push_str(text(part, "/text").unwrap_or_default()),
            None if part.is_string() => self.content(part),
            None if part.get("text").is_some_and(Value::is_string) => self.content(&part["text"]),
            Some("refusal") => self.refusal.push_str(text(part, "/refusal").unwrap_or_default()),
            Some(kind) if ["think", "reason"].iter().any(|word| kind.contains(word)) => {}
            kind => self.foreign = Some(kind.unwrap_or("unknown").to_owned()),
        }
    }

    /// The whole answer, or why it is none.
    pub fn finish(self, row: &Row) -> Result<Answer, String> {
        let Self { mut text, tokens, cost_usd, stop, refusal, foreign, .. } = self;
        if let Some(kind) = foreign {
            return Err(format!("its answer holds {kind} content, which can't be shown as text"));
        }
        match stop {
            None => return Err("the connection ended before the answer did".to_owned()),
            Some(Stop::Declined(word)) => {
                let said = if refusal.is_empty() { word } else { refusal };
                return Err(format!("it declined to answer: {said}"));
            }
            Some(Stop::End | Stop::Length | Stop::Window) if text.trim().is_empty() => {
                return Err(if refusal.is_empty() {
                    "its answer is empty".to_owned()
                } else {
                    format!("it declined to answer: {refusal}")
                });
            }
            Some(Stop::Window) => {
                text.push_str(&format!(
                    "\n\n[Cut off here: the context window of the model at {} is full.]\n",
                    row.name
                ));
            }
            Some(Stop::Length) => {
                text.push_str(&format!(
                    "\n\n[Cut off here: longer than `max_tokens` of the provider {}, {}.]\n",
                    row.name, row.provider.max_tokens
                ));
            }
            Some(Stop::End) => {}
        }
        let cost_usd = cost_usd.or_else(|| Some(price(&tokens?, row.provider.price.as_ref()?)));
        Ok(Answer { text, tokens, cost_usd })
    }
}

/// What tokens cost by the table; those read from and written to a cache count as any other input.
pub fn price(tokens: &Tokens, price: &Price) -> f64 {
    let input = tokens.input.saturating_add(tokens.cache_read).saturating_add(tokens.cache_write);
    #[expect(clippy::cast_precision_loss, reason = "no answer has 2^52 tokens")]
    let (input, output) = (input as f64, tokens.output as f64);
    (input * price.input + output * price.output) / 1e6
}

/// A text in the JSON, where there is one with something in it.
pub fn text<'a>(json: &'a Value, pointer: &str) -> Option<&'a str> {
    json.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// A count; some servers write it as a text or with a fraction of nothing.
pub fn number(json: &Value, pointer: &str) -> Option<u64> {
    let value = json.pointer(pointer)?;
    let count = |amount: f64| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole, and within the range")]
        (amount >= 0.0 && amount.fract() == 0.0 && amount < 1e15).then_some(amount as u64)
    };
    value.as_u64().or_else(|| count(amount(json, pointer)?))
}

/// A number, also one written as a text.
pub fn amount(json: &Value, pointer: &str) -> Option<f64> {
    let value = json.pointer(pointer)?;
    value.as_f64().or_else(|| value.as_str()?.trim().parse().ok()).filter(|amount: &f64| amount.is_finite())
}
