//! Tasks over HTTP: the port `Providers` for real servers.
//! Takes orders and the configuration's rows; returns job ids, progress, answers with tokens and cost, and errors.
//! Owns the calls whose answers are streamed. Never prints a key, never follows a redirect, never retries a rejected
//! request.

mod anthropic;
mod call;
mod errors;
mod gemini;
mod key;
mod openai;
mod row;
mod secutools;
mod send;
mod sse;
mod talk;
mod words;

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;

pub use key::SECUTOOLS_KEYS;
pub use row::SetupError;
pub use send::Pace;

use crate::{
    config::{Config, Provider, ProviderKind},
    model::{
        ids::ProviderName,
        provider::{Order, Progress, ProviderError},
    },
    ports::Providers,
};
use call::Calls;
use row::Row;
use send::Sender;
use talk::Talk;

/// The configured providers.
pub struct HttpProviders {
    rows: BTreeMap<ProviderName, Arc<Row>>,
    sender: Arc<Sender>,
    calls: Calls,
}

impl HttpProviders {
    /// # Errors
    /// When the machine's certificates can't be read.
    pub fn new(config: &Config) -> Result<Self, SetupError> {
        Self::of(config.providers.clone().into_iter().collect(), Pace::default())
    }

    /// These rows, at this pace.
    ///
    /// # Errors
    /// As `new`.
    pub fn of(rows: BTreeMap<ProviderName, Provider>, pace: Pace) -> Result<Self, SetupError> {
        let row = |(name, provider): (ProviderName, Provider)| (name.clone(), Arc::new(Row { name, provider }));
        Ok(Self {
            rows: rows.into_iter().map(row).collect(),
            sender: Arc::new(Sender::new(pace)?),
            calls: Calls::default(),
        })
    }

    fn row(&self, name: &ProviderName) -> Result<&Arc<Row>, ProviderError> {
        let gone = || ProviderError::Refused(format!("no provider is called `{name}` in the configuration any more"));
        self.rows.get(name).ok_or_else(gone)
    }
}

/// How the kinds speak whose answer comes on the request's own connection; `None` for the one with jobs.
fn talk(kind: ProviderKind) -> Option<&'static dyn Talk> {
    match kind {
        ProviderKind::Secutools => None,
        ProviderKind::Openai => Some(&openai::Openai),
        ProviderKind::Anthropic => Some(&anthropic::Anthropic),
        ProviderKind::Gemini => Some(&gemini::Gemini),
    }
}

#[async_trait]
impl Providers for HttpProviders {
    async fn submit(&self, provider: &ProviderName, order: &Order) -> Result<String, ProviderError> {
        let row = self.row(provider)?;
        match talk(row.provider.kind) {
            None => secutools::submit(&self.sender, row, order).await,
            Some(talk) => self.calls.submit(&self.sender, row, talk, order).await,
        }
    }

    async fn look(&self, provider: &ProviderName, job: &str) -> Result<Progress, ProviderError> {
        let row = self.row(provider)?;
        match talk(row.provider.kind) {
            None => secutools::look(&self.sender, row, job).await,
            Some(_) => Ok(self.calls.look(provider, job)),
        }
    }

    async fn news(&self, provider: &ProviderName, job: &str) {
        self.calls.ended(provider, job).await;
    }

    async fn cancel(&self, provider: &ProviderName, job: &str) -> Result<(), ProviderError> {
        let row = self.row(provider)?;
        match talk(row.provider.kind) {
            None => secutools::cancel(&self.sender, row, job).await,
            Some(_) => {
                self.calls.cancel(provider, job);
                Ok(())
            }
        }
    }

    fn repeats(&self, provider: &ProviderName) -> bool {
        self.rows.get(provider).is_some_and(|row| row.repeats())
    }
}
