//! What a job's news mean for its task.
//! In: a job, what its provider answered, `now`. Out: what to do next. Pure.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};

use crate::{
    config::{Config, ProviderKind},
    model::{
        ids::ProviderName,
        marker::DelegatedMarker,
        provider::{Job, JobStop, ProviderStanding},
        task::{Ending, Status},
    },
    ports::{Progress, ProviderError},
};

/// Pause between two looks at a job that was handed in just now; it doubles up to the provider's `poll`.
pub const FIRST_LOOK: Duration = Duration::from_millis(100);

/// How long the result of a script's own job waits for its script.
pub const SCRIPT_WITHIN: SignedDuration = SignedDuration::from_secs(60);

/// What follows.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// Hand it in, for the first time or once more under the same key.
    Submit,
    /// Look at it after this pause.
    Look(Duration),
    /// There is more of an answer.
    Output(Arc<str>),
    /// Tell the provider to stop, then end or give back.
    Cancel,
    /// The task waits again; the marker has to go first.
    GiveBack {
        why: String,
        refused: bool,
    },
    End(Ending),
}

/// What follows, and how the provider stands by the way.
#[derive(Debug, Clone, PartialEq)]
pub struct News {
    pub next: Next,
    pub standing: Option<ProviderStanding>,
}

/// How a job goes on that nobody follows yet.
#[must_use]
pub fn begin(job: &Job, left: bool, repeats: bool, now: Timestamp) -> Next {
    match (job.stop, &job.id) {
        (JobStop::Cancelled | JobStop::Recalled, None) if !left => stopped(job, now),
        (JobStop::Cancelled | JobStop::Recalled, _) => Next::Cancel,
        (JobStop::No, Some(_)) => Next::Look(Duration::ZERO),
        // The last daemon may have sent it or not.
        (JobStop::No, None) if left && !repeats => Next::End(failed(in_doubt(&job.provider), now)),
        (JobStop::No, None) => Next::Submit,
    }
}

/// What the answer to a submit means; `Ok` is the job's id.
#[must_use]
pub fn submitted(job: &Job, error: &ProviderError, now: Timestamp) -> News {
    let (standing, refused) = match error {
        ProviderError::Refused(_) => (None, true),
        ProviderError::Out(standing) => (Some(standing.clone()), false),
    };
    let next = match job.stop {
        JobStop::Cancelled => stopped(job, now),
        JobStop::No | JobStop::Recalled => {
            Next::GiveBack { why: format!("{} did not take it: {error}", job.provider), refused }
        }
    };
    News { next, standing }
}

/// What a look at a job means. `pause` was the one before it.
#[must_use]
pub fn looked(
    job: &Job,
    answer: Result<Progress, ProviderError>,
    repeats: bool,
    pause: Duration,
    poll: Duration,
    now: Timestamp,
) -> News {
    let later = Next::Look((pause * 2).clamp(FIRST_LOOK, poll));
    let works = |next| News { next, standing: Some(ProviderStanding::Usable) };
    let quiet = |next| News { next, standing: None };
    match answer {
        Ok(Progress::Running { output: Some(text) }) if job.output.as_ref() != Some(&text) => works(Next::Output(text)),
        Ok(Progress::Running { .. }) => quiet(later),
        Ok(Progress::Done(answer)) => works(Next::End(Ending {
            status: Status::Done,
            message: Some(answer.text),
            error: None,
            tokens: answer.tokens,
            cost_usd: answer.cost_usd,
            ..failed(String::new(), now)
        })),
        Ok(Progress::Failed(why)) => works(Next::End(failed(format!("provider {}: {why}", job.provider), now))),
        Ok(Progress::Declined(error)) => submitted(job, &error, now),
        Ok(Progress::Unknown) if repeats => quiet(Next::Submit),
        Ok(Progress::Unknown) => quiet(Next::End(failed(in_doubt(&job.provider), now))),
        Err(ProviderError::Refused(why)) => {
            quiet(Next::End(failed(format!("provider {} refuses to tell of the job: {why}", job.provider), now)))
        }
        // It has the job all the same.
        Err(ProviderError::Out(standing)) => News { next: later, standing: Some(standing) },
    }
}

/// The end of a job that a person stopped, once its provider was told.
#[must_use]
pub fn stopped(job: &Job, now: Timestamp) -> Next {
    match job.stop {
        JobStop::Cancelled => Next::End(cancelled(job, now)),
        JobStop::No | JobStop::Recalled => {
            Next::GiveBack { why: format!("taken back from {}", job.provider), refused: false }
        }
    }
}

/// The end of a job that took too long.
#[must_use]
pub fn overdue(job: &Job, timeout: Duration, now: Timestamp) -> Option<Ending> {
    let after = SignedDuration::try_from(timeout).unwrap_or(SignedDuration::MAX);
    let text = format!(
        "provider {} took longer than {}; the job was cancelled",
        job.provider,
        humantime::format_duration(timeout)
    );
    (now.duration_since(job.claimed) >= after).then(|| failed(text, now))
}

/// The provider that a script's marker means: a row's name, or a word that a job server chooses by.
#[must_use]
pub fn meant(marker: &DelegatedMarker, config: &Config) -> Option<ProviderName> {
    let named = |(name, _): &(&ProviderName, _)| name.as_str() == marker.provider;
    let serves = |kind: ProviderKind| kind.serves().contains(&marker.provider.as_str());
    let row = config.providers.iter().find(named);
    let row = row.or_else(|| config.providers.iter().find(|(_, row)| serves(row.kind)));
    row.map(|(name, _)| name.clone())
}

fn in_doubt(provider: &ProviderName) -> String {
    format!(
        "the daemon ended while {provider} was at it, and whether it did the task is not known; it is not sent again, as it \
         may cost twice: `mv` it from failed/ to inbox/ to send it once more"
    )
}

fn cancelled(job: &Job, now: Timestamp) -> Ending {
    Ending { status: Status::Cancelled, ..failed(format!("cancelled at {}", job.provider), now) }
}

fn failed(error: String, now: Timestamp) -> Ending {
    Ending {
        status: Status::Failed,
        message: None,
        error: Some(error),
        screen: None,
        tokens: None,
        cost_usd: None,
        resume_id: None,
        at: now,
    }
}
