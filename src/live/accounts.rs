//! Applies account events to the world: account states, swaps, sessions that move.
//! Takes events and `now`; returns the changed world or a refusal. Pure, like the whole world.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::world::{Refusal, World};
use crate::model::{
    account::{self, Account, AccountEvent, Standing},
    event::{About, Kind, Reason},
    evidence::{Failure, Meaning, Signal, Source},
    ids::AccountName,
    limit::{Limit, LimitKind},
    session::{Activity, Incarnation, Resume, Session, Verdict},
    steady::Timeline,
    swap::{self, Swap, SwapEvent, SwapRefusal, SwapStep},
    task::{Delivery, Phase, Task},
};

impl World {
    pub(super) fn account(&mut self, name: &AccountName, event: &AccountEvent, now: Timestamp) -> Result<(), Refusal> {
        let at = self.snapshot.accounts.iter().position(|account| account.name == *name);
        let at = at.ok_or_else(|| Refusal::NoAccount(name.clone()))?;
        let known = &self.snapshot.accounts[at];
        let mut next = known.clone();
        if let AccountEvent::Used(usage) = event {
            next.usage.learn(usage);
        }
        if let Some(standing) = account::step(known, event, now) {
            next.standing = standing;
        }
        if let AccountEvent::Reset | AccountEvent::Vouched { .. } = event
            && next.standing != known.standing
        {
            next.believed_from = now;
        }
        if next == *known {
            return Ok(());
        }
        if next.standing != known.standing {
            let text = format!("{} -> {}{}", known.word(), next.word(), reason(&next, event, &self.snapshot.timeline));
            self.note(now, Kind::Account, Reason::StateChanged, name, text);
        }
        Arc::make_mut(&mut self.snapshot.accounts)[at] = next;
        Ok(())
    }

    /// An agent stopped by its account marks the account in the same snapshot: nobody sees one without the other.
    pub(super) fn blame_account(&mut self, session: &Session, now: Timestamp) {
        if session.verdict.activity != Activity::Limited {
            return;
        }
        let Some(account) = session.phase.incarnation().and_then(|incarnation| incarnation.account.clone()) else {
            return;
        };
        let verdict = &session.verdict;
        let Some(signal) = verdict.evidence.first() else { return };
        let Meaning::TurnFailed { failure, message } = &signal.meaning else { return };
        let (session, signal) = (session.name.clone(), signal.clone());
        let event = match failure {
            Failure::Limit(limit) => {
                let limit = best_told(*limit, &verdict.evidence);
                AccountEvent::Limited { session, limit, signal }
            }
            Failure::Login => {
                AccountEvent::Broken { why: format!("its login is lost: {message}"), signal: Some(signal) }
            }
            Failure::Server | Failure::Request | Failure::Refused | Failure::Unknown => return,
        };
        // An account that the configuration has no more is nobody's to blame.
        let _ = self.account(&account, &event, now);
    }

    /// A task that was begun and done under an account after it was out shows that it can be used.
    pub(super) fn praise_account(&mut self, task: &Task, now: Timestamp) {
        let Some(run) = task.phase.run() else { return };
        let Some(account) = run.account().and_then(|name| self.snapshot.account(name)) else { return };
        let out_since = match &account.standing {
            Standing::Limited(limited) => limited.since,
            Standing::Broken { since, .. } => *since,
            Standing::Usable | Standing::Suspect { .. } => return,
        };
        if run.heard_from() > out_since {
            let (name, why) = (account.name.clone(), format!("task {} was done under it since", task.key));
            let _ = self.account(&name, &AccountEvent::Vouched { why }, now);
        }
    }

    pub(super) fn swap(&mut self, from: &AccountName, event: &SwapEvent, now: Timestamp) -> Result<(), Refusal> {
        if let SwapEvent::Begin { to, .. } = event {
            let known = |name: &AccountName| self.snapshot.account(name).is_some();
            if let Some(missing) = [from, to].into_iter().find(|name| !known(name)) {
                return Err(SwapRefusal::NoAccount(missing.clone()).into());
            }
        }
        let before = self.snapshot.swaps.clone();
        let mut next = swap::step(&before, from, event, now)?;
        if let (SwapEvent::RolledBack, Some(swap)) = (event, &before.current) {
            let target = self.snapshot.account(&swap.to).map(|target| &target.standing);
            // One that is broken says nothing of another target; any other failure may meet that one, too.
            if !matches!(target, Some(Standing::Broken { .. })) {
                next.cooldown_from = Some(now);
            }
        }
        if let (SwapEvent::Ensured, Some(swap)) = (event, &before.current) {
            self.activate(&swap.to, now);
        }
        if let Some(line) = told(before.current.as_ref().or(next.current.as_ref()), event, now) {
            self.note(now, Kind::Swap, happened(event), About::words("swap"), line);
        }
        if next.partial != before.partial {
            let problem = next.partial.as_ref().map(|partial| SwapRefusal::from(partial).to_string());
            self.health(swap::HEALTH, problem.as_deref(), now);
        }
        self.snapshot.swaps = Arc::new(next);
        Ok(())
    }

    fn activate(&mut self, to: &AccountName, now: Timestamp) {
        let Some(target) = self.snapshot.account(to).cloned() else { return };
        for account in Arc::make_mut(&mut self.snapshot.accounts).iter_mut().filter(|account| account.is_like(&target))
        {
            let active = account.name == *to;
            if account.active != active {
                account.active = active;
                account.active_since = now;
            }
        }
    }

    pub(super) fn note_resume(&mut self, session: &mut Session, not_before: Option<Timestamp>, now: Timestamp) {
        let Some(incarnation) = session.phase.incarnation() else { return };
        if session.resume.as_ref().is_some_and(|known| known.from == incarnation.id) {
            return;
        }
        // A resumed agent that is resumed again keeps the same conversation.
        let known = session.resume.as_ref().and_then(|resume| resume.conversation.clone());
        session.resume = Some(Resume {
            from: incarnation.id.clone(),
            conversation: incarnation.conversation.clone().or(known),
            agent: incarnation.agent.clone(),
            workdir: incarnation.workdir.clone(),
            since: now,
            not_before: not_before.unwrap_or(now),
        });
        session.failures = 0;
        let (reason, text) = match session.resume.as_ref().and_then(|resume| resume.conversation.as_ref()) {
            Some(id) => {
                let when =
                    not_before.map(|at| format!(" at {}", self.snapshot.timeline.second(at))).unwrap_or_default();
                (Reason::Resuming, format!("stopping the agent; conversation {id} will be resumed{when}"))
            }
            None => {
                let text = "stopping the agent; its conversation is not known, so it can't be resumed";
                (Reason::NotResumed, text.to_owned())
            }
        };
        self.note(now, Kind::Swap, reason, &*session, text);
    }

    /// The time that the agent stood still is not the task's.
    pub(super) fn resumed(&mut self, session: &mut Session, now: Timestamp) {
        let Some(resume) = session.resume.take() else { return };
        let lost = now.duration_since(resume.since);
        if let Some(assignment) = &session.task
            && let Some(task) = self.snapshot.tasks.get(&assignment.task).cloned()
            && let Phase::Working(run) = &task.phase
            && let Delivery::Taken { at } = &run.delivery
        {
            let mut run = run.clone();
            run.delivery = Delivery::Taken { at: at.saturating_add(lost).unwrap_or(*at) };
            let task = Task { phase: Phase::Working(run), ..(*task).clone() };
            self.snapshot.tasks.insert(assignment.task.clone(), Arc::new(task));
        }
        let under = session.phase.incarnation().map(under).unwrap_or_default();
        let text = format!("resumed{under} after {}", seconds(lost));
        self.note(now, Kind::Swap, Reason::Resumed, &*session, text);
    }

    /// A person's session is open again: with its agent, or with a shell if that could not resume.
    pub(super) fn reopened(&mut self, session: &mut Session, incarnation: &Incarnation, now: Timestamp) {
        let object = format!("session {}", session.name);
        let failed = std::mem::take(&mut session.failures);
        self.health(&object, None, now);
        let Some(resume) = session.resume.take() else { return };
        let (kind, reason, text) = match (&incarnation.conversation, &resume.conversation) {
            (Some(_), _) => (Kind::Swap, Reason::Resumed, format!("resumed{}", under(incarnation))),
            (None, Some(id)) => {
                let text = format!("has no agent any more: conversation {id} was not resumed ({failed} failed starts)");
                (Kind::Problem, Reason::NotResumed, text)
            }
            (None, None) => {
                let text = "has no agent any more: its conversation is not known";
                (Kind::Problem, Reason::NotResumed, text.to_owned())
            }
        };
        self.note(now, kind, reason, &*session, text);
    }

    /// Another process in a person's session: what was believed of the last one is over.
    pub(super) fn found(&mut self, session: &mut Session, known: &Session, now: Timestamp) {
        let (Some(before), Some(found)) = (known.phase.incarnation(), session.phase.incarnation()) else { return };
        let other = found.account.is_none() || before.pid != found.pid;
        if other && session.resume.as_ref().is_some_and(|resume| resume.from == found.id) {
            // What was to go on is gone; whether what is there now has to is another question.
            session.resume = None;
        }
        if (before.pid, &before.account) == (found.pid, &found.account) {
            return;
        }
        let text = match (&found.account, &found.conversation) {
            (None, _) => "no agent of an account runs in it".to_owned(),
            (Some(_), None) => format!("its agent is pid {}{}, conversation not known yet", found.pid, under(found)),
            (Some(_), Some(id)) => format!("its agent is pid {}{}, conversation {id}", found.pid, under(found)),
        };
        if before.pid != found.pid {
            session.verdict = Verdict::unknown(now);
        }
        self.note(now, Kind::Session, Reason::AgentChanged, &*session, text);
    }

    /// Notes the account with the run that the session has.
    pub(super) fn runs_under(&mut self, session: &Session, account: Option<&AccountName>) {
        let (Some(assignment), Some(account)) = (&session.task, account) else { return };
        let Some(task) = self.snapshot.tasks.get(&assignment.task).cloned() else { return };
        let Phase::Working(run) = &task.phase else { return };
        let mut run = run.clone();
        if run.delivery == Delivery::NotBegun {
            // Nothing was done under another.
            run.accounts.clear();
        }
        run.runs_under(account);
        let task = Task { phase: Phase::Working(run), ..(*task).clone() };
        self.snapshot.tasks.insert(assignment.task.clone(), Arc::new(task));
    }
}

fn under(incarnation: &Incarnation) -> String {
    incarnation.account.as_ref().map(|account| format!(" under {account}")).unwrap_or_default()
}

/// What all sources together say of a limit: a record knows the second of its end, a text only the minute.
fn best_told(first: Limit, evidence: &[Signal]) -> Limit {
    let told = |signal: &Signal| {
        let Meaning::TurnFailed { failure: Failure::Limit(limit), .. } = &signal.meaning else { return None };
        Some(*limit)
    };
    let record = evidence.iter().filter(|signal| signal.source == Source::Transcript).find_map(told);
    let Some(record) = record else { return first };
    Limit {
        kind: if first.kind == LimitKind::Unknown { record.kind } else { first.kind },
        resets_at: record.resets_at.or(first.resets_at),
    }
}

fn reason(account: &Account, event: &AccountEvent, timeline: &Timeline) -> String {
    match (&account.standing, event) {
        (Standing::Limited(limited), _) => {
            let until = limited.until.map_or_else(
                || "; time alone does not lift it, a person has to".to_owned(),
                |until| format!("; tried again at {}", timeline.second(until)),
            );
            format!(": {} ({}){until}", limited.limit.kind.word(), limited.signal.text)
        }
        (Standing::Broken { why, .. }, _) => format!(": {why}"),
        (Standing::Suspect { signal, .. }, _) => {
            format!(": {} (from {}, rule {})", signal.text, signal.source, signal.rule)
        }
        (Standing::Usable, AccountEvent::Vouched { why }) => format!(": {why}"),
        (Standing::Usable, AccountEvent::Reset) => ": its limit has passed".to_owned(),
        (Standing::Usable, _) => String::new(),
    }
}

/// What `events` says of a step.
fn told(swap: Option<&Swap>, event: &SwapEvent, now: Timestamp) -> Option<String> {
    if let SwapEvent::ClearPartial = event {
        return Some("partial swap cleared by the operator".to_owned());
    }
    let swap = swap?;
    let Swap { number, from, to, .. } = swap;
    let took = seconds(now.duration_since(swap.since));
    let whole = seconds(now.duration_since(swap.begun));
    let line = match event {
        SwapEvent::Begin { cause, .. } => format!("swap {number} from {from} to {to} begun: {}", cause.words()),
        SwapEvent::Flipped => format!("swap {number}: link turned to {to} in {took}"),
        SwapEvent::Ensured => {
            format!("swap {number}: links of {to} are whole after {took}; {to} is active, sessions move")
        }
        SwapEvent::Moved { left } if left.is_empty() => {
            format!("swap {number} from {from} to {to} done in {whole}; sessions moved in {took}")
        }
        SwapEvent::Moved { left } => {
            format!(
                "swap {number} from {from} to {to} done in {whole}; not moved yet, and tried on: {}",
                left.join(", ")
            )
        }
        SwapEvent::Failed { why } => {
            let step = match &swap.step {
                SwapStep::Flip => "turning the link",
                SwapStep::Ensure => "ensuring the links",
                SwapStep::Move | SwapStep::RollBack { .. } => swap.step.word(),
            };
            format!("swap {number} to {to} failed at {step}: {why}; {from} stays active")
        }
        SwapEvent::RolledBack => format!("swap {number} rolled back in {took}; {from} is active as before"),
        SwapEvent::RollBackFailed { why } => {
            format!("swap {number} could not be rolled back: {why}; nothing swaps until `clear-partial`")
        }
        SwapEvent::ClearPartial => return None,
    };
    Some(line)
}

fn happened(event: &SwapEvent) -> Reason {
    match event {
        SwapEvent::Begin { .. } => Reason::Begun,
        SwapEvent::Flipped => Reason::LinkTurned,
        SwapEvent::Ensured => Reason::Activated,
        SwapEvent::Moved { .. } => Reason::Completed,
        SwapEvent::Failed { .. } => Reason::Failed,
        SwapEvent::RolledBack => Reason::RolledBack,
        SwapEvent::RollBackFailed { .. } => Reason::Partial,
        SwapEvent::ClearPartial => Reason::Cleared,
    }
}

fn seconds(time: SignedDuration) -> String {
    format!("{}.{:03} s", time.as_secs(), time.subsec_millis())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::provider::Delegation;
    use crate::{
        live::{load, persist},
        model::{account::Account, event::Event, ids::AgentName, journal::State, limit::Usage, swap::Cause},
    };

    fn account(name: &str, active: bool) -> Account {
        let agent = AgentName::parse("claude").expect("name");
        Account {
            name: AccountName::parse(name).expect("name"),
            agent: agent.clone(),
            agents: vec![agent],
            home: "/".into(),
            active,
            active_since: Timestamp::UNIX_EPOCH,
            standing: Standing::Usable,
            believed_from: Timestamp::UNIX_EPOCH,
            usage: Usage::default(),
        }
    }

    fn world(saved: Option<State>) -> World {
        let accounts = vec![account("one", true), account("two", false)];
        load(saved, Vec::new(), accounts, Delegation::default(), "id".to_owned(), Timestamp::UNIX_EPOCH)
            .expect("a world")
    }

    #[test]
    fn a_half_done_swap_stands_in_health_until_it_is_cleared_also_over_a_restart() {
        let mut world = world(None);
        let tell = |world: &mut World, event| {
            let from = AccountName::parse("one").expect("name");
            world.apply(&Event::Swap { from, event }, Timestamp::UNIX_EPOCH).expect("taken");
        };
        let cause = Cause::Out { why: "w".to_owned() };
        tell(&mut world, SwapEvent::Begin { to: AccountName::parse("two").expect("name"), cause });
        tell(&mut world, SwapEvent::Failed { why: "no links".to_owned() });
        assert!(world.snapshot.health.is_empty());
        tell(&mut world, SwapEvent::RollBackFailed { why: "no disk".to_owned() });
        let mut again = self::world(Some(persist::state(&world)));
        for world in [&world, &again] {
            let told = world.snapshot.health.get(swap::HEALTH).expect("in health");
            assert!(told.contains("no links") && told.contains("no disk") && told.contains("clear-partial"), "{told}");
        }
        tell(&mut again, SwapEvent::ClearPartial);
        assert!(again.snapshot.health.is_empty());
        assert_eq!((again.snapshot.swaps.done(), again.snapshot.swaps.failed), (0, 1));
    }
}
