//! Stands in for providers until they are built.

use async_trait::async_trait;

use crate::{
    model::{ids::ProviderName, provider::ProviderStanding},
    ports::{Order, Progress, ProviderError, Providers},
};

pub struct Absent;

fn absent() -> ProviderError {
    ProviderError::Out(ProviderStanding::Broken { why: "not in this version".to_owned() })
}

#[async_trait]
impl Providers for Absent {
    async fn submit(&self, _: &ProviderName, _: &Order) -> Result<String, ProviderError> {
        Err(absent())
    }
    async fn look(&self, _: &ProviderName, _: &str) -> Result<Progress, ProviderError> {
        Err(absent())
    }
    async fn cancel(&self, _: &ProviderName, _: &str) -> Result<(), ProviderError> {
        Err(absent())
    }
    fn repeats(&self, _: &ProviderName) -> bool {
        false
    }
}
