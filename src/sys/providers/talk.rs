//! What the kinds of servers have in common whose answer comes on the request's own connection.
//! In: an order and its row; the events of an answer. Out: a request; the answer so far. Pure.

use reqwest::{Client, RequestBuilder};
use serde_json::Value;

use super::Row;
use crate::{
    config::{Price, Secret},
    model::evidence::Tokens,
    ports::{Answer, Order, ProviderError},
};

/// How one kind of server speaks.
pub trait Talk: Send + Sync {
    /// # Errors
    /// When the key can't stand in a header.
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
}

/// Why a server said no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// It was done.
    End,
    /// The answer was longer than `max_tokens`.
    Length,
    /// It does not want to; its own word.
    Declined(String),
}

impl Stop {
    /// By a server's word: one in `ends` is the ordinary end, one in `lengths` a cut.
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
    /// The whole answer, or why it is none.
    pub fn finish(self, row: &Row) -> Result<Answer, String> {
        let Self { mut text, tokens, cost_usd, stop, .. } = self;
        match stop {
            None => return Err("the connection ended before the answer did".to_owned()),
            Some(Stop::Declined(word)) => return Err(format!("it declined to answer: {word}")),
            Some(Stop::End | Stop::Length) if text.trim().is_empty() => return Err("its answer is empty".to_owned()),
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

pub fn number(json: &Value, pointer: &str) -> Option<u64> {
    json.pointer(pointer).and_then(Value::as_u64)
}
