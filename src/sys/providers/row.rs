//! A provider as configured.

use crate::{
    config::{Provider, ProviderKind},
    model::ids::ProviderName,
};

/// A row of the configuration and its name.
#[derive(Debug)]
pub(super) struct Row {
    pub name: ProviderName,
    pub provider: Provider,
}

impl Row {
    /// A job server's wire format (doc/PROVIDERS.md) demands it.
    pub fn repeats(&self) -> bool {
        self.provider.idempotent || self.provider.kind == ProviderKind::Secutools
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.provider.base_url().unwrap_or_default())
    }
}

/// Why there can't be any provider.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("the HTTP client can't be made: {0}")]
    Client(#[from] reqwest::Error),
    #[error("the built-in rules of providers' errors can't be read: {0}")]
    Rules(String),
}
