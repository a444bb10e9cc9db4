//! Applies session events to the world: the phase by the state table, failed starts, lines in `events`.
//! Takes an event and `now`; returns the changed world or a refusal. Pure.

use std::sync::Arc;

use jiff::Timestamp;

use super::world::{Refusal, World};
use crate::model::{
    event::{Kind, Reason},
    ids::SessionName,
    session::{self, Activity, Gone, Role, Session, SessionEvent, SessionPhase, Then, Verdict},
    task::{Phase, Status},
};

impl World {
    pub(super) fn session(&mut self, name: &SessionName, event: &SessionEvent, now: Timestamp) -> Result<(), Refusal> {
        let known = self.snapshot.sessions.get(name).cloned().ok_or_else(|| Refusal::NoSession(name.clone()))?;
        let next = session::step(&known, event, now).map_err(|e| Refusal::Session(name.clone(), e))?;
        let mut session = (*known).clone();
        let before = session.word();
        let object = format!("session {name}");

        if let Some(phase) = next {
            // The agent may go before its task is over, and go on with it in another start.
            self.remember_start(&session);
            session.since = now;
            session.phase = phase;
        }
        match event {
            SessionEvent::Opened(incarnation) => {
                session.verdict = Verdict::unknown(now);
                (session.gone, session.rests, session.talked) = (None, false, false);
                // A resumed conversation is not a fresh one.
                session.spent = session.resume.is_some();
                session.retired = false;
                session.used = now;
                if session.role == Role::Dedicated {
                    self.reopened(&mut session, incarnation, now);
                }
                self.runs_under(&session, incarnation.account.as_ref());
                let text = format!("started {} (pid {})", incarnation.agent, incarnation.pid);
                self.note(now, Kind::Session, Reason::Started, &session, text);
            }
            SessionEvent::OpenFailed(why) => {
                session.failures += 1;
                session.gone = None;
                session.since = now;
                self.note(now, Kind::Problem, Reason::StartFailed, &session, format!("could not be started: {why}"));
            }
            SessionEvent::Forgiven => {
                session.failures = 0;
            }
            SessionEvent::Resume { not_before, .. } => self.note_resume(&mut session, *not_before, now),
            SessionEvent::Resumed { .. } => self.resumed(&mut session, now),
            SessionEvent::Found { .. } => self.found(&mut session, &known, now),
            SessionEvent::Ready { .. } => self.health(&format!("session {name}"), None, now),
            SessionEvent::Died { exit, began, .. } => {
                if let SessionPhase::Dead { incarnation, .. } = &session.phase {
                    let lived = now.duration_since(incarnation.started);
                    // How a program ends its task is the task's result, which may have been filed before the end is seen.
                    session.failures = match *began {
                        true => 0,
                        false if lived >= STABLE => 1,
                        false => session.failures + 1,
                    };
                    self.note(now, Kind::Session, Reason::Exited, &session, format!("its program ended: {exit}"));
                }
            }
            SessionEvent::Ended { then } => {
                session.retired = *then == Then::Retire;
                session.rests = *then == Then::Rest;
                session.verdict = Verdict::unknown(now);
            }
            SessionEvent::Lost { .. } => {
                session.verdict = Verdict::unknown(now);
                if !matches!(known.phase, SessionPhase::Ending(_)) {
                    session.gone = Some(Gone::Lost { at: now });
                    let text = "its pane is gone: closed or given another program by somebody, or tmux ended; what is left of \
                                its program is ended";
                    self.note(now, Kind::Problem, Reason::Lost, &session, text.to_owned());
                }
            }
            SessionEvent::Assigned(assignment) => {
                session.task = Some(assignment.clone());
                session.used = now;
            }
            SessionEvent::Freed => {
                let done = session.task.as_ref().and_then(|a| self.snapshot.tasks.get(&a.task));
                // A command that can't be started is filed before its death is seen.
                let stands = match &session.phase {
                    SessionPhase::Up(incarnation) => now.duration_since(incarnation.started) >= STABLE,
                    SessionPhase::Down
                    | SessionPhase::Starting(_)
                    | SessionPhase::Ending(_)
                    | SessionPhase::Dead { .. } => false,
                };
                if done.is_some_and(
                    |task| matches!(&task.phase, Phase::Finished(f) if stands || f.ending.status == Status::Done),
                ) {
                    session.failures = 0;
                }
                self.remember_start(&session);
                session.task = None;
                session.resume = None;
                session.spent = true;
                session.used = now;
            }
            SessionEvent::Observed { verdict, conversation, .. } => {
                self.observed(&mut session, verdict, conversation.as_ref(), now);
            }
            SessionEvent::Screen(screen) => session.screen = screen.clone(),
            SessionEvent::Attached(clients) => session.attached = *clients,
            SessionEvent::Talked { .. } => session.talked = true,
            SessionEvent::Drain(drained) => {
                session.drained = *drained;
                let (reason, text) =
                    if *drained { (Reason::Drained, "drained") } else { (Reason::Undrained, "undrained") };
                self.note(now, Kind::Session, reason, &session, text.to_owned());
            }
            SessionEvent::Ending { why, failed } => {
                // One that is lost, or ended already, keeps its first reason.
                if !matches!(known.phase, SessionPhase::Ending(_)) {
                    session.gone = Some(Gone::Ended { at: now, why: why.clone() });
                    session.failures += u32::from(*failed);
                }
            }
        }
        if session.failures > known.failures
            && let Some(text) = failing(&session)
        {
            self.health(&object, Some(&text), now);
        } else if session.failures == 0 && failing(&known).is_some() {
            self.health(&object, None, now);
        }
        let after = session.word();
        session.restate(&known, now);
        if before != after && session.role == Role::Pool {
            self.note(now, Kind::Session, Reason::StateChanged, &session, format!("{before} -> {after}"));
        }
        self.snapshot.sessions.insert(name.clone(), Arc::new(session));
        Ok(())
    }

    /// Takes down which task the session's agent has, for what it may leave.
    fn remember_start(&mut self, session: &Session) {
        let incarnation = session.phase.incarnation().filter(|incarnation| !incarnation.token.is_empty());
        if let Some((incarnation, assigned)) = incarnation.zip(session.task.as_ref())
            && self.snapshot.starts.get(&incarnation.token) != Some(&assigned.task)
        {
            self.snapshot.starts.insert(incarnation.token.clone(), assigned.task.clone());
        }
    }

    fn observed(&mut self, session: &mut Session, verdict: &Verdict, conversation: Option<&String>, now: Timestamp) {
        if session.verdict.activity != verdict.activity && session.role == Role::Pool {
            let told = verdict
                .evidence
                .first()
                .map(|e| format!(": {} (from {}, rule {})", e.text, e.source, e.rule))
                .unwrap_or_default();
            match verdict.activity {
                Activity::Waiting(what) => {
                    self.note(
                        now,
                        Kind::Waiting,
                        Reason::Waiting,
                        &*session,
                        format!("waits for a person ({what}){told}"),
                    );
                }
                Activity::Limited => {
                    self.note(now, Kind::Limit, Reason::Limited, &*session, format!("stopped by a limit{told}"));
                }
                Activity::Stalled => self.note(now, Kind::Silent, Reason::Stalled, &*session, format!("stalled{told}")),
                Activity::Unknown | Activity::Idle | Activity::Working => {}
            }
        }
        let waits = |verdict: &Verdict| matches!(verdict.activity, Activity::Waiting(_));
        if matches!(session.phase, SessionPhase::Starting(_)) && waits(&session.verdict) && !waits(verdict) {
            // A person has answered: the agent's start timeout restarts.
            session.since = now;
        }
        session.verdict = verdict.clone();
        self.blame_account(session, now);
        let incarnation = match &mut session.phase {
            SessionPhase::Starting(i) | SessionPhase::Up(i) | SessionPhase::Ending(i) => i,
            SessionPhase::Dead { incarnation, .. } => incarnation,
            SessionPhase::Down => return,
        };
        if let Some(id) = conversation
            && incarnation.conversation.as_ref() != Some(id)
        {
            incarnation.conversation = Some(id.clone());
        }
    }
}

/// Failed starts in a row after which `health` reports the session. Chosen: as `session::decide::GIVE_BACK_AFTER`.
const FAILURES_TOLD: u32 = 3;

/// What `health` says of a session whose starts fail.
pub(super) fn failing(session: &Session) -> Option<String> {
    let (name, failures) = (&session.name, session.failures);
    (failures >= FAILURES_TOLD).then(|| {
        format!(
            "session {name} failed to reach its prompt {failures} times in a row; `cat sessions/{name}/why` tells more, \
             `echo restart > sessions/{name}/control` tries again at once"
        )
    })
}

/// A program that lived this long was no failed start. Chosen: failures at start show within seconds.
const STABLE: jiff::SignedDuration = jiff::SignedDuration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        live::load,
        model::{event::Event, pane::Exit, provider::Delegation, samples, session::Then},
    };

    #[test]
    fn a_program_that_ends_after_its_task_was_filed_is_no_failed_start() {
        let at = Timestamp::UNIX_EPOCH;
        let name = SessionName::parse("pool-11").expect("a name");
        for (began, word) in [(true, "idle"), (false, "dead")] {
            let mut world =
                load(None, Vec::new(), Vec::new(), Delegation::default(), "id".to_owned(), at).expect("a world");
            world.snapshot.sessions.insert(name.clone(), Arc::new(Session::new(name.clone(), Role::Pool, at)));
            for event in [
                SessionEvent::Opened(samples::incarnation(&name)),
                SessionEvent::Freed,
                SessionEvent::Died { of: "i".to_owned(), exit: Exit::Status(0), began },
                SessionEvent::Ended { then: Then::Rest },
            ] {
                world.apply(&Event::Session(name.clone(), event), at).expect("taken");
            }
            assert_eq!(world.snapshot.sessions[&name].word(), word);
        }
    }
}
