//! Fake providers. Take orders and what a test makes happen; return jobs that end after a while, poll answers, errors.
//! Keep every job ever started, so that a second one for the same run is detected.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use jiff::SignedDuration;

use super::{FakeWorld, Inner};
use claude_failover::{
    model::{
        ids::ProviderName,
        provider::{Answer, Order, Progress, ProviderError, ProviderStanding},
    },
    ports::Providers,
};

/// What is true of a provider.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FakeProvider {
    /// It knows a key again; its jobs outlive the daemon. The others answer on the request's own connection.
    pub repeats: bool,
    /// What it answers to everything.
    pub trouble: Option<ProviderError>,
    /// Of 1000 looks so many are answered as if there were no such job.
    pub denies: u64,
    pub jobs: BTreeMap<String, FakeJob>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct FakeJob {
    pub key: String,
    pub prompt: String,
    /// Nanoseconds since the world began.
    pub ends: u64,
    pub fails: bool,
    pub cancelled: bool,
    /// Nobody knows of it any more: the provider forgot it, or the connection that it would be answered on is gone.
    pub lost: bool,
}

#[async_trait]
impl Providers for FakeWorld {
    async fn submit(&self, provider: &ProviderName, order: &Order) -> Result<String, ProviderError> {
        self.effect(|| format!("submit {} to {provider}", order.key), |inner| inner.begin_job(provider, order)).await
    }

    async fn look(&self, provider: &ProviderName, job: &str) -> Result<Progress, ProviderError> {
        self.see(|inner| inner.look_at_job(provider, job)).await
    }

    async fn cancel(&self, provider: &ProviderName, job: &str) -> Result<(), ProviderError> {
        self.effect(
            || format!("cancel {job} at {provider}"),
            |inner| {
                if let Some(job) = inner.providers.get_mut(provider).and_then(|row| row.jobs.get_mut(job)) {
                    job.cancelled = true;
                }
                Ok(())
            },
        )
        .await
    }

    fn repeats(&self, provider: &ProviderName) -> bool {
        self.with(|inner| inner.providers.get(provider).is_some_and(|row| row.repeats))
    }
}

impl Inner {
    fn begin_job(&mut self, provider: &ProviderName, order: &Order) -> Result<String, ProviderError> {
        let lasts = Duration::from_millis(self.rng.within(50, 20_000));
        let (now, fails) = (self.now, self.rng.chance(100));
        let row = self.providers.entry(provider.clone()).or_default();
        if let Some(trouble) = &row.trouble {
            return Err(trouble.clone());
        }
        let key = order.key.to_string();
        // What it forgot itself it does anew.
        let again = row.repeats && row.jobs.values().any(|job| job.lost && job.key == key);
        let mut known = row.jobs.iter().filter(|(_, job)| job.key == key && !(job.lost && row.repeats));
        match known.next().map(|(id, _)| id.clone()) {
            Some(id) if row.repeats => return Ok(id),
            Some(_) => self.violations.push(format!("{provider} was given run {key} twice")),
            None => {}
        }
        let id = format!("job-{}", self.number());
        self.tally.orders += 1;
        if !again {
            self.orders.push((now, provider.clone(), order.prompt.clone()));
        }
        let ends = now.saturating_add(u64::try_from(lasts.as_nanos()).unwrap_or(u64::MAX));
        let job = FakeJob { key, prompt: order.prompt.clone(), ends, fails, cancelled: false, lost: false };
        self.providers.entry(provider.clone()).or_default().jobs.insert(id.clone(), job);
        Ok(id)
    }

    fn look_at_job(&mut self, provider: &ProviderName, id: &str) -> Result<Progress, ProviderError> {
        let now = self.now;
        let Some(row) = self.providers.get(provider) else { return Ok(Progress::Unknown) };
        let denies = row.denies > 0 && self.rng.chance(row.denies);
        if let Some(trouble) = &row.trouble {
            return Err(trouble.clone());
        }
        let Some(job) = row.jobs.get(id) else { return Ok(Progress::Unknown) };
        Ok(match job {
            FakeJob { lost: true, .. } => Progress::Unknown,
            _ if denies => Progress::Unknown,
            FakeJob { cancelled: true, .. } => Progress::Failed("cancelled".to_owned()),
            FakeJob { ends, .. } if *ends > now => Progress::Running { output: Some("so far".into()) },
            FakeJob { fails: true, .. } => Progress::Failed("it did not work".to_owned()),
            FakeJob { prompt, .. } => {
                self.completed.insert(prompt.clone());
                Progress::Done(Answer { text: format!("did: {prompt}"), tokens: None, cost_usd: Some(0.01) })
            }
        })
    }

    /// Connections end with the daemon.
    pub(super) fn hang_up(&mut self) {
        for row in self.providers.values_mut().filter(|row| !row.repeats) {
            row.jobs.values_mut().for_each(|job| job.lost = true);
        }
    }

    /// A provider forgets its jobs.
    pub fn forget_jobs(&mut self, provider: &ProviderName) {
        self.note(format!("world: {provider} forgets its jobs"));
        if let Some(row) = self.providers.get_mut(provider) {
            row.jobs.values_mut().for_each(|job| job.lost = true);
        }
    }

    /// A pause that a provider asks for.
    #[must_use]
    pub fn cooling(&self, lasts: Duration) -> ProviderError {
        let lasts = SignedDuration::try_from(lasts).unwrap_or(SignedDuration::MAX);
        let until = self.timestamp().saturating_add(lasts).unwrap_or(jiff::Timestamp::MAX);
        ProviderError::Out(ProviderStanding::Cooling { why: "cooling down".to_owned(), until })
    }
}
