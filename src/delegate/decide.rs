//! Decides what a job's progress means for its task.
//! Takes a job, its provider's answer and `now`; returns the next action. Pure.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};

use crate::{
    config::{Config, ProviderKind},
    model::{
        ids::ProviderName,
        marker::DelegatedMarker,
        provider::{Job, JobStop, Progress, ProviderError, ProviderStanding},
        task::{Ending, Status},
    },
};

/// First pause between two polls of a new job; it doubles up to the provider's `poll`. Chosen: a fast answer isn't
/// kept waiting.
pub const FIRST_LOOK: Duration = Duration::from_millis(100);

/// How long the result of a script's own job waits for its script. Chosen: scripts poll every few seconds.
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

/// The next action, and the provider's new state.
#[derive(Debug, Clone, PartialEq)]
pub struct News {
    pub next: Next,
    pub standing: Option<ProviderStanding>,
}

/// How to continue a job that has no follower yet.
#[must_use]
pub fn begin(job: &Job, left: bool, repeats: bool, now: Timestamp) -> Next {
    match (job.stop, &job.id) {
        (JobStop::Cancelled | JobStop::Recalled, None) if !left => stopped(job, now),
        (JobStop::Cancelled | JobStop::Recalled, _) => Next::Cancel,
        (JobStop::No, Some(_)) => Next::Look(Duration::ZERO),
        // The last daemon may have sent it or not.
        (JobStop::No, None) if left && !repeats => Next::End(Ending::failed(in_doubt(&job.provider), now)),
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
            ..Ending::failed(String::new(), now)
        })),
        // What came before it broke off was shown, and may have been paid for.
        Ok(Progress::Failed(why)) => works(Next::End(Ending {
            message: job.output.as_ref().map(|output| format!("{output}\n\n[The answer broke off here.]")),
            ..Ending::failed(format!("provider {}: {why}", job.provider), now)
        })),
        Ok(Progress::Declined(error)) => submitted(job, &error, now),
        Ok(Progress::Unknown) if repeats => quiet(Next::Submit),
        Ok(Progress::Unknown) => quiet(Next::End(Ending::failed(in_doubt(&job.provider), now))),
        Err(ProviderError::Refused(why)) => quiet(Next::End(Ending::failed(
            format!("provider {} refuses to tell of the job: {why}", job.provider),
            now,
        ))),
        // It has the job all the same.
        Err(ProviderError::Out(standing)) => News { next: later, standing: Some(standing) },
    }
}

/// The end of a job that a person stopped, once it was cancelled at its provider.
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
    (now.duration_since(job.claimed) >= after).then(|| Ending::failed(text, now))
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
    Ending { status: Status::Cancelled, ..Ending::failed(format!("cancelled at {}", job.provider), now) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{identity::TextFacts, ids::RunId, provider::Answer};

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn job(stop: JobStop, id: Option<&str>) -> Job {
        Job {
            run: RunId("run-1".into()),
            provider: ProviderName::parse("p").expect("a name"),
            id: id.map(str::to_owned),
            claimed: NOW,
            attempt: 1,
            stop,
            text: TextFacts { sha256: String::new(), identity: String::new(), bytes: 0, modified: NOW },
            output: None,
            instead: None,
        }
    }

    /// The next step's word, and the status where it is an end.
    fn word(next: &Next) -> &'static str {
        match next {
            Next::Submit => "submit",
            Next::Look(_) => "look",
            Next::Output(_) => "output",
            Next::Cancel => "cancel",
            Next::GiveBack { refused: true, .. } => "back, refused",
            Next::GiveBack { refused: false, .. } => "back",
            Next::End(ending) => ending.status.word(),
        }
    }

    const STOPS: [JobStop; 3] = [JobStop::No, JobStop::Cancelled, JobStop::Recalled];

    #[test]
    fn a_job_goes_on_from_where_the_last_daemon_left_it() {
        // By stop; then: ours without an id, ours with one, left behind without an id, left behind with one.
        let expected = [
            ["submit", "look", "?", "look"],
            ["cancelled", "cancel", "cancel", "cancel"],
            ["back", "cancel", "cancel", "cancel"],
        ];
        for (stop, row) in STOPS.into_iter().zip(expected) {
            for (at, (left, id)) in
                [(false, None), (false, Some("1")), (true, None), (true, Some("1"))].into_iter().enumerate()
            {
                for repeats in [true, false] {
                    // What may have been sent is sent again only where it is known again.
                    let doubt = if repeats { "submit" } else { "failed" };
                    let expected = if row[at] == "?" { doubt } else { row[at] };
                    let next = begin(&job(stop, id), left, repeats, NOW);
                    assert_eq!(word(&next), expected, "{stop:?}, id {id:?}, left {left}, repeats {repeats}");
                }
            }
        }
    }

    fn cooling() -> ProviderStanding {
        ProviderStanding::Cooling { why: "not now".to_owned(), until: NOW }
    }

    #[test]
    fn a_submit_in_vain_gives_the_task_back_and_never_fails_it() {
        for (error, back, standing) in [
            (ProviderError::Refused("too long".to_owned()), "back, refused", None),
            (ProviderError::Out(cooling()), "back", Some(cooling())),
        ] {
            for (stop, expected) in STOPS.into_iter().zip([back, "cancelled", back]) {
                let news = submitted(&job(stop, None), &error, NOW);
                assert_eq!((word(&news.next), &news.standing), (expected, &standing), "{stop:?} {error}");
            }
        }
    }

    #[test]
    fn each_answer_to_a_look_leads_somewhere() {
        let seconds = Duration::from_secs;
        let look = |answer, repeats| looked(&job(JobStop::No, Some("1")), answer, repeats, seconds(1), seconds(9), NOW);
        let usable = Some(ProviderStanding::Usable);
        let answer = Answer { text: "42".to_owned(), tokens: None, cost_usd: Some(0.5) };
        let refused = || ProviderError::Refused("no".to_owned());
        for (answer, repeats, expected, standing) in [
            (Ok(Progress::Running { output: None }), false, "look", None),
            (Ok(Progress::Running { output: Some("4".into()) }), false, "output", usable.clone()),
            (Ok(Progress::Done(answer)), false, "done", usable.clone()),
            (Ok(Progress::Failed("broke".to_owned())), false, "failed", usable),
            // Somebody's empty purse is no failure of the task.
            (Ok(Progress::Declined(ProviderError::Out(cooling()))), false, "back", Some(cooling())),
            (Ok(Progress::Declined(refused())), false, "back, refused", None),
            (Ok(Progress::Unknown), true, "submit", None),
            (Ok(Progress::Unknown), false, "failed", None),
            (Err(refused()), true, "failed", None),
            // It has the job all the same.
            (Err(ProviderError::Out(cooling())), true, "look", Some(cooling())),
        ] {
            let news = look(answer.clone(), repeats);
            assert_eq!((word(&news.next), news.standing), (expected, standing), "{answer:?}");
        }
    }

    #[test]
    fn what_was_shown_is_not_shown_again_and_pauses_grow_up_to_the_poll() {
        let mut job = job(JobStop::No, Some("1"));
        job.output = Some("so far".into());
        let (poll, mut pause, mut pauses) = (Duration::from_millis(700), Duration::ZERO, Vec::new());
        for _ in 0..6 {
            let answer = Ok(Progress::Running { output: Some("so far".into()) });
            let Next::Look(wait) = looked(&job, answer, true, pause, poll, NOW).next else { panic!("no look") };
            pause = wait;
            pauses.push(wait.as_millis());
        }
        assert_eq!(pauses, [100, 200, 400, 700, 700, 700]);
    }

    #[test]
    fn a_job_is_overdue_at_its_timeout_and_not_before() {
        let at = |seconds| NOW.saturating_add(SignedDuration::from_secs(seconds)).expect("a time");
        let hour = Duration::from_secs(3600);
        assert_eq!(overdue(&job(JobStop::No, None), hour, at(3599)), None);
        let ending = overdue(&job(JobStop::No, None), hour, at(3600)).expect("overdue");
        assert!(ending.error.is_some_and(|why| why.contains("1h")));
        assert_eq!(overdue(&job(JobStop::No, None), Duration::MAX, at(3600)), None);
    }

    #[test]
    fn a_scripts_marker_means_a_row_by_name_or_a_job_server_by_word() {
        let mut config = Config::default();
        for (name, kind) in
            [("a", ProviderKind::Openai), ("jobs", ProviderKind::Secutools), ("gpu", ProviderKind::Gemini)]
        {
            config.providers.insert(ProviderName::parse(name).expect("a name"), crate::config::Provider::new(kind));
        }
        for (word, expected) in
            [("a", Some("a")), ("gpu", Some("gpu")), ("claude-api", Some("jobs")), ("nobody", None), ("", None)]
        {
            let marker = DelegatedMarker { job_id: None, provider: word.to_owned(), submitted_at: None, ours: None };
            let found = meant(&marker, &config);
            assert_eq!(found.as_ref().map(ProviderName::as_str), expected, "{word:?}");
        }
    }
}
