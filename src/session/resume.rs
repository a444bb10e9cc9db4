//! Decides whether a session's agent must be restarted to resume its conversation, and the next step of that.
//! Takes the session, the account its agent should use and `now`; returns one step, or none. Pure.
//!
//! The rule: a session whose agent runs under another account than the active one moves to that one; one stopped by a
//! limit resumes when its account is usable again. A conversation is resumed in the same window; an agent without one
//! is only stopped. Nothing is started while no account is usable.

use jiff::{SignedDuration, Timestamp};

use crate::{
    model::{
        account,
        session::{Activity, Incarnation, Resume, Role, Session, SessionPhase, Then},
        snapshot::Under,
        task::Run,
    },
    session::step::{Settings, Step, after, when},
};

/// How long a reported end of turn of an idle agent may take to become the end of its task. Chosen: two ticks of the
/// watcher.
const ENDED_WITHIN: SignedDuration = SignedDuration::from_secs(2);
/// Failed starts of a resumed conversation after which it is given up. Chosen: with the pauses a few minutes, in which
/// a passing fault ends.
pub const GIVE_UP_AFTER: u32 = 5;
/// Shortest time between two starts of one conversation under one account, whatever the clock says of its limit.
/// Chosen: no loop of starts against a limit that still holds.
const AGAIN_AFTER: SignedDuration = SignedDuration::from_secs(15);
/// How long an agent that got its prompt as an argument may be idle before the prompt is typed. Chosen: an agent that
/// takes it begins at once; a loaded machine gets the rest.
const TAKES_WITHIN: SignedDuration = SignedDuration::from_secs(5);

/// Whether the session's running agent must be replaced by one that resumes its conversation.
#[must_use]
pub fn onward(
    session: &Session,
    incarnation: &Incarnation,
    under: Under<'_>,
    settings: &Settings<'_>,
    now: Timestamp,
) -> Option<Step> {
    let limited = session.verdict.activity == Activity::Limited;
    let due = match under {
        Under::Blocked(_) => return None,
        Under::Account(account) if incarnation.account.as_ref() != Some(&account.name) => {
            let follows = session.follows(incarnation, account.active_since);
            follows.then(|| at_rest_by(session, account.active_since, settings))?
        }
        // A person's session continues by itself or by its person.
        Under::Account(_) if !limited || session.role == Role::Dedicated => return None,
        Under::Account(_) => incarnation.started.saturating_add(AGAIN_AFTER).unwrap_or(Timestamp::MAX),
        Under::NoAccount => account::limit_passes(&session.verdict).filter(|_| session.role == Role::Pool)?,
    };
    Some(when(due, now, Step::Resume))
}

/// When a session may be ended: at once when its agent does nothing, else when it has had its grace.
fn at_rest_by(session: &Session, since: Timestamp, settings: &Settings<'_>) -> Timestamp {
    match session.verdict.activity {
        // The end of a turn is on disk a moment after it is reported.
        Activity::Idle if session.task.is_some() => {
            since.max(session.verdict.since.saturating_add(ENDED_WITHIN).unwrap_or(Timestamp::MAX))
        }
        Activity::Idle | Activity::Limited | Activity::Waiting(_) | Activity::Stalled => since,
        Activity::Unknown | Activity::Working => after(since, settings.switcher.save_grace),
    }
}

/// The next step of a session that is to resume its conversation.
#[must_use]
pub fn going_on(
    session: &Session,
    resume: &Resume,
    run: Option<&Run>,
    under: Under<'_>,
    settings: &Settings<'_>,
    now: Timestamp,
) -> Step {
    match &session.phase {
        // A person may have sent it on meanwhile.
        SessionPhase::Up(incarnation)
            if incarnation.id == resume.from
                && resume.not_before > resume.since
                && session.verdict.activity == Activity::Working =>
        {
            Step::Nothing
        }
        SessionPhase::Starting(incarnation) | SessionPhase::Up(incarnation) if incarnation.id == resume.from => {
            let why = "its conversation goes on in a fresh program".to_owned();
            when(resume.not_before, now, Step::End { why, retire: false })
        }
        SessionPhase::Starting(incarnation) | SessionPhase::Up(incarnation) if matches!(under, Under::Account(account) if incarnation.account.as_ref() != Some(&account.name)) => {
            Step::Resume
        }
        SessionPhase::Starting(_) => super::step::starting(session, settings.lifecycle, now),
        SessionPhase::Up(_) => match run {
            // It got the resume text as an argument, and is at its prompt anyway.
            Some(run) if session.verdict.activity == Activity::Idle => {
                let due = session.since.saturating_add(TAKES_WITHIN).unwrap_or(Timestamp::MAX);
                when(due, now, Step::Continue(run.clone()))
            }
            Some(_) | None => Step::Nothing,
        },
        SessionPhase::Down => match under {
            // A person is not left with a dead window: his agent comes back, and waits there.
            Under::Blocked(_) if resume.conversation.is_some() && session.role == Role::Pool => Step::Nothing,
            Under::Blocked(_) | Under::NoAccount | Under::Account(_) => {
                let at = session.start_after(settings.lifecycle.restart_first, settings.lifecycle.restart_max);
                when(at, now, Step::Reopen(resume.clone()))
            }
        },
        SessionPhase::Dead { .. } => Step::Clear(Then::Start),
        SessionPhase::Ending(_) => Step::Nothing,
    }
}
