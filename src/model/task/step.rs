//! The task state machine.
//! Takes a phase, what is known of the task, an event and `now`; returns the next phase, or a refusal with its reason.

use std::sync::Arc;

use jiff::Timestamp;

use super::{Delivery, EndedBy, Ending, Filing, Finished, Hold, Phase, Problem, Run, Status, Stop, TaskSpec, Work};
use crate::model::{
    identity::TextFacts,
    ids::{RunId, SessionName},
    provider::{Job, JobStop, Wish},
};

/// Everything that can happen to a task.
#[derive(Debug, Clone, PartialEq)]
pub enum TaskEvent {
    /// It is in the inbox, complete and readable.
    Seen {
        text: TextFacts,
        spec: Arc<TaskSpec>,
    },
    NotReady(Hold),
    /// As `Seen`, but only a person can release it.
    Doubtful {
        text: TextFacts,
        spec: Arc<TaskSpec>,
        why: Hold,
    },
    Rejected(Problem),
    /// Its name is gone for longer than the settle time. `by_verb`: removed through the mount, which is a cancel even at work.
    Vanished {
        by_verb: bool,
    },
    /// A foreign marker is beside it.
    OutsideClaim(String),
    /// The marker is on disk.
    Claimed(Run),
    /// The marker is gone again and nothing of this attempt can run any more.
    Unclaimed {
        run: RunId,
        why: String,
    },
    /// From here on the agent may get the prompt.
    TypingBegun {
        run: RunId,
    },
    Taken {
        run: RunId,
    },
    /// The attempt came to nothing and its agent has to be ended.
    TryAgain {
        run: RunId,
        why: String,
    },
    /// What the hand-over of its prompt waits for, or came to.
    Waits {
        run: RunId,
        why: String,
    },
    /// The provider's server failed; the same attempt resumes after a pause.
    Paused {
        run: RunId,
        why: String,
    },
    /// The marker of a job is on disk.
    Delegated(Job),
    /// The provider has taken the job and called it so.
    Submitted {
        run: RunId,
        job: String,
    },
    /// What the provider has said so far.
    Output {
        run: RunId,
        text: Arc<str>,
    },
    /// The provider does not take this text.
    RefusedBy {
        run: RunId,
        why: String,
    },
    /// `told`: when its agent reported it; else the supervisor or a provider did.
    Ended {
        run: RunId,
        ending: Ending,
        told: Option<Timestamp>,
    },
    /// Result, task file and marker are in order on disk. `kept` is a newer text that the file has: it stays.
    Filed {
        kept: Option<TextFacts>,
    },
    Cancel,
    Hold,
    Release,
    Priority(i32),
    /// A person says where it should go.
    Wish(Wish),
}

/// Why a task doesn't take an event; reads on after the task's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TaskRefusal {
    #[error("is {state}: {event} does not apply")]
    NotNow { state: &'static str, event: &'static str },
    #[error("is at another run than {run}")]
    OtherRun { run: RunId },
    #[error("has its agent in session {0} ended: what that says of its end meanwhile is an answer to this")]
    BeingEnded(SessionName),
}

/// What became of a task after an event.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "lives for one call")]
pub enum After {
    Same,
    Now(Phase),
    /// The task is gone from the queue without a result (its file vanished before any run).
    Gone,
}

impl TaskEvent {
    /// Whether it reports a file in the inbox, so that it creates the task if there is none.
    #[must_use]
    pub fn begins(&self) -> bool {
        matches!(
            self,
            Self::Seen { .. } | Self::Doubtful { .. } | Self::NotReady(_) | Self::Rejected(_) | Self::OutsideClaim(_)
        )
    }

    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Seen { .. } => "seen",
            Self::NotReady(_) => "not-ready",
            Self::Doubtful { .. } => "doubtful",
            Self::Rejected(_) => "rejected",
            Self::Vanished { .. } => "vanished",
            Self::OutsideClaim(_) => "outside-claim",
            Self::Claimed(_) => "claimed",
            Self::Unclaimed { .. } => "unclaimed",
            Self::TypingBegun { .. } => "typing-begun",
            Self::Taken { .. } => "taken",
            Self::TryAgain { .. } => "try-again",
            Self::Waits { .. } => "waits",
            Self::Paused { .. } => "paused",
            Self::Delegated(_) => "delegated",
            Self::Submitted { .. } => "submitted",
            Self::Output { .. } => "output",
            Self::RefusedBy { .. } => "refused-by",
            Self::Ended { .. } => "ended",
            Self::Filed { .. } => "filed",
            Self::Cancel => "cancel",
            Self::Hold => "hold",
            Self::Release => "release",
            Self::Priority(_) => "priority",
            Self::Wish(_) => "wish",
        }
    }
}

/// What a step depends on beside the phase: what is known of the task once the event is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known<'a> {
    /// Its file, before the event.
    pub text: Option<&'a TextFacts>,
    /// What prevents it from running: a person, a doubt, a missing right. Sorted in the order of release.
    pub against: Option<&'a Hold>,
}

/// Told of an attempt in a session while it lasts.
macro_rules! of_run {
    () => {
        TaskEvent::TypingBegun { .. }
            | TaskEvent::Taken { .. }
            | TaskEvent::TryAgain { .. }
            | TaskEvent::Waits { .. }
            | TaskEvent::Paused { .. }
    };
}

/// Told of a job at a provider.
macro_rules! of_job {
    () => {
        TaskEvent::Submitted { .. } | TaskEvent::Output { .. } | TaskEvent::RefusedBy { .. }
    };
}

/// Told of a task that is worked on, and of no other.
macro_rules! of_work {
    () => {
        of_run!() | of_job!() | TaskEvent::Unclaimed { .. } | TaskEvent::Ended { .. }
    };
}

/// What a phase becomes by an event: one cell of the table in `doc/STATES.md`.
///
/// # Errors
/// When the event does not apply; nothing has changed then.
pub fn step(phase: &Phase, known: Known<'_>, event: &TaskEvent, now: Timestamp) -> Result<After, TaskRefusal> {
    let after = cell(phase, known.text, event, now)?;
    let may_run = match (&after, event) {
        (After::Now(Phase::Queued), _) => true,
        (After::Now(Phase::Held(hold)), TaskEvent::Doubtful { why, .. }) => hold == why,
        (After::Now(_) | After::Same | After::Gone, _) => false,
    };
    Ok(match known.against.filter(|_| may_run) {
        Some(hold) if *phase == Phase::Held(hold.clone()) => After::Same,
        Some(hold) => After::Now(Phase::Held(hold.clone())),
        None => after,
    })
}

/// The same while nothing prevents it from running.
#[expect(clippy::unnested_or_patterns, reason = "the patterns of macros stand apart")]
fn cell(phase: &Phase, text: Option<&TextFacts>, event: &TaskEvent, now: Timestamp) -> Result<After, TaskRefusal> {
    use After::{Gone, Now, Same};
    use TaskEvent as E;

    let not_now = || Err(TaskRefusal::NotNow { state: phase.word(), event: event.word() });
    let cancelled =
        || Ending { error: Some("cancelled before it ran".to_owned()), ..Ending::new(Status::Cancelled, now) };
    let same_run =
        |run: &RunId, id: &RunId| if run == id { Ok(()) } else { Err(TaskRefusal::OtherRun { run: id.clone() }) };

    match phase {
        Phase::Held(hold) => match event {
            E::Seen { text: seen, .. } => {
                let known = text.is_some_and(|known| known.sha256 == seen.sha256);
                let stays = *hold == Hold::ByVerb || (known && *hold == Hold::ChangedWhileWorking);
                Ok(if stays { Same } else { Now(Phase::Queued) })
            }
            E::Doubtful { why, .. } => match hold {
                Hold::ByVerb => Ok(Same),
                _ if hold == why => Ok(Same),
                _ => Ok(Now(Phase::Held(why.clone()))),
            },
            E::NotReady(next) => match hold {
                Hold::ByVerb | Hold::ChangedWhileWorking => Ok(Same),
                _ if hold == next => Ok(Same),
                _ => Ok(Now(Phase::Held(next.clone()))),
            },
            E::Rejected(problem) => Ok(Now(Phase::Rejected(problem.clone()))),
            E::Vanished { .. } => Ok(Gone),
            E::OutsideClaim(how) => Ok(Now(Phase::Held(Hold::OutsideClaim(how.clone())))),
            E::Cancel => Ok(Now(Phase::Filing(Filing { work: None, ending: cancelled() }))),
            E::Hold => Ok(Now(Phase::Held(Hold::ByVerb))),
            E::Release => match hold.ended_by() {
                EndedBy::Release | EndedBy::Permission => Ok(Now(Phase::Queued)),
                EndedBy::Time | EndedBy::File | EndedBy::Configuration => not_now(),
            },
            // Sending it somewhere lets it go.
            E::Wish(Wish::Provider(_)) => match hold {
                Hold::ByVerb | Hold::ChangedWhileWorking => Ok(Now(Phase::Queued)),
                _ => Ok(Same),
            },
            E::Priority(_) | E::Wish(Wish::Here) => Ok(Same),
            // Nobody takes care of a job that a script began.
            E::Delegated(job) => match hold {
                Hold::OutsideClaim(_) => Ok(Now(Phase::Delegated(job.clone()))),
                _ => not_now(),
            },
            of_work!() | E::Claimed(_) | E::Filed { .. } => not_now(),
        },
        Phase::Queued => match event {
            E::Seen { .. } | E::Priority(_) | E::Release | E::Wish(_) => Ok(Same),
            E::NotReady(hold) | E::Doubtful { why: hold, .. } => Ok(Now(Phase::Held(hold.clone()))),
            E::Rejected(problem) => Ok(Now(Phase::Rejected(problem.clone()))),
            E::Vanished { .. } => Ok(Gone),
            E::OutsideClaim(how) => Ok(Now(Phase::Held(Hold::OutsideClaim(how.clone())))),
            E::Claimed(run) => Ok(Now(Phase::Working(run.clone()))),
            E::Delegated(job) => Ok(Now(Phase::Delegated(job.clone()))),
            E::Cancel => Ok(Now(Phase::Filing(Filing { work: None, ending: cancelled() }))),
            E::Hold => Ok(Now(Phase::Held(Hold::ByVerb))),
            of_work!() | E::Filed { .. } => not_now(),
        },
        Phase::Rejected(known) => match event {
            E::Seen { .. } => Ok(Now(Phase::Queued)),
            E::NotReady(hold) | E::Doubtful { why: hold, .. } => Ok(Now(Phase::Held(hold.clone()))),
            E::Rejected(problem) if problem == known => Ok(Same),
            E::Rejected(problem) => Ok(Now(Phase::Rejected(problem.clone()))),
            E::Vanished { .. } => Ok(Gone),
            E::OutsideClaim(how) => Ok(Now(Phase::Held(Hold::OutsideClaim(how.clone())))),
            E::Cancel => Ok(Now(Phase::Filing(Filing { work: None, ending: cancelled() }))),
            E::Priority(_) | E::Wish(_) => Ok(Same),
            of_work!() | E::Claimed(_) | E::Delegated(_) | E::Filed { .. } | E::Hold | E::Release => not_now(),
        },
        Phase::Working(run) => match event {
            // A running task keeps the text it was claimed with; the file is looked at again when its result is filed.
            E::Seen { .. } | E::NotReady(_) | E::Doubtful { .. } | E::Rejected(_) => Ok(Same),
            // Somebody else's claim beats ours only while nothing was typed.
            E::OutsideClaim(_) | E::Vanished { by_verb: false } => match run.delivery {
                // A cancel that was confirmed stays one.
                Delivery::NotBegun if run.stop == Stop::No => {
                    Ok(Now(Phase::Working(Run { stop: Stop::Yielded, ..run.clone() })))
                }
                Delivery::NotBegun | Delivery::Begun | Delivery::Taken { .. } => Ok(Same),
            },
            E::Vanished { by_verb: true } | E::Cancel => {
                Ok(Now(Phase::Working(Run { stop: Stop::Cancelled, ..run.clone() })))
            }
            E::Unclaimed { run: id, .. } => {
                same_run(&run.id, id)?;
                match run.stop {
                    // It came while the claim was taken back.
                    Stop::Cancelled => not_now(),
                    Stop::No | Stop::Yielded | Stop::Again => Ok(Now(Phase::Queued)),
                }
            }
            E::TypingBegun { run: id } => {
                same_run(&run.id, id)?;
                match run.delivery {
                    // A stopped run must not be typed any more.
                    Delivery::NotBegun if run.stop != Stop::No => not_now(),
                    Delivery::NotBegun => {
                        Ok(Now(Phase::Working(Run { delivery: Delivery::Begun, typed: Some(now), ..run.clone() })))
                    }
                    Delivery::Begun | Delivery::Taken { .. } => not_now(),
                }
            }
            E::Taken { run: id } => {
                same_run(&run.id, id)?;
                match run.delivery {
                    Delivery::Begun => {
                        Ok(Now(Phase::Working(Run { delivery: Delivery::Taken { at: now }, ..run.clone() })))
                    }
                    Delivery::Taken { .. } => Ok(Same),
                    Delivery::NotBegun => not_now(),
                }
            }
            E::TryAgain { run: id, .. } => {
                same_run(&run.id, id)?;
                match run.stop {
                    Stop::No => Ok(Now(Phase::Working(Run { stop: Stop::Again, ..run.clone() }))),
                    Stop::Cancelled | Stop::Yielded | Stop::Again => Ok(Same),
                }
            }
            E::Waits { run: id, .. } => {
                same_run(&run.id, id)?;
                Ok(Same)
            }
            E::Paused { run: id, .. } => {
                same_run(&run.id, id)?;
                Ok(Now(Phase::Working(Run { pauses: run.pauses + 1, ..run.clone() })))
            }
            E::Ended { run: id, ending, .. } => {
                same_run(&run.id, id)?;
                let mut ending = ending.clone();
                // It was cancelled before it failed, whatever it says.
                if run.stop == Stop::Cancelled && ending.status == Status::Failed {
                    ending.status = Status::Cancelled;
                }
                Ok(Now(Phase::Filing(Filing { work: Some(Work::Run(run.clone())), ending })))
            }
            of_job!()
            | E::Priority(_)
            | E::Claimed(_)
            | E::Delegated(_)
            | E::Filed { .. }
            | E::Hold
            | E::Release
            | E::Wish(_) => not_now(),
        },
        Phase::Delegated(job) => match event {
            // As at work: the text that was sent counts until the result is filed.
            E::Seen { .. }
            | E::NotReady(_)
            | E::Doubtful { .. }
            | E::Rejected(_)
            | E::OutsideClaim(_)
            | E::Vanished { by_verb: false } => Ok(Same),
            E::Vanished { by_verb: true } | E::Cancel => {
                Ok(Now(Phase::Delegated(Job { stop: JobStop::Cancelled, ..job.clone() })))
            }
            E::Wish(Wish::Here) => match job.stop {
                JobStop::No => Ok(Now(Phase::Delegated(Job { stop: JobStop::Recalled, ..job.clone() }))),
                JobStop::Recalled => Ok(Same),
                JobStop::Cancelled => not_now(),
            },
            E::Wish(Wish::Provider(to)) => match job.stop {
                JobStop::No if to.as_ref().is_none_or(|to| *to == job.provider) => Ok(Same),
                JobStop::No | JobStop::Recalled | JobStop::Cancelled => not_now(),
            },
            E::Submitted { run, job: id } => {
                same_run(&job.run, run)?;
                Ok(Now(Phase::Delegated(Job { id: Some(id.clone()), ..job.clone() })))
            }
            E::Output { run, text } => {
                same_run(&job.run, run)?;
                Ok(Now(Phase::Delegated(Job { output: Some(text.clone()), ..job.clone() })))
            }
            E::Unclaimed { run, .. } | E::RefusedBy { run, .. } => {
                same_run(&job.run, run)?;
                match job.stop {
                    // It came while the claim was taken back.
                    JobStop::Cancelled => not_now(),
                    JobStop::No | JobStop::Recalled => Ok(Now(Phase::Queued)),
                }
            }
            E::Ended { run, ending, .. } => {
                same_run(&job.run, run)?;
                Ok(Now(Phase::Filing(Filing { work: Some(Work::Job(job.clone())), ending: ending.clone() })))
            }
            of_run!() | E::Claimed(_) | E::Delegated(_) | E::Filed { .. } | E::Hold | E::Release | E::Priority(_) => {
                not_now()
            }
        },
        Phase::Filing(filing) => match event {
            E::Filed { kept: Some(_) } => Ok(Now(Phase::Held(Hold::ChangedWhileWorking))),
            E::Filed { kept: None } => {
                Ok(Now(Phase::Finished(Finished { work: filing.work.clone(), ending: filing.ending.clone() })))
            }
            E::Seen { .. }
            | E::NotReady(_)
            | E::Doubtful { .. }
            | E::Rejected(_)
            | E::OutsideClaim(_)
            | E::Vanished { .. } => Ok(Same),
            of_work!()
            | E::Claimed(_)
            | E::Delegated(_)
            | E::Cancel
            | E::Hold
            | E::Release
            | E::Priority(_)
            | E::Wish(_) => not_now(),
        },
        // A finished task's name is free: what appears under it now is a new task.
        Phase::Finished(_) => match event {
            E::Seen { .. } => Ok(Now(Phase::Queued)),
            E::NotReady(hold) | E::Doubtful { why: hold, .. } => Ok(Now(Phase::Held(hold.clone()))),
            E::Rejected(problem) => Ok(Now(Phase::Rejected(problem.clone()))),
            E::Vanished { .. } => Ok(Same),
            E::OutsideClaim(how) => Ok(Now(Phase::Held(Hold::OutsideClaim(how.clone())))),
            of_work!()
            | E::Claimed(_)
            | E::Delegated(_)
            | E::Filed { .. }
            | E::Cancel
            | E::Hold
            | E::Release
            | E::Priority(_)
            | E::Wish(_) => not_now(),
        },
    }
}
