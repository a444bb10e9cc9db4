//! Invariants of accounts and swaps, checked against what the daemon saves and does.
//! Takes each saved state, each start and end of a program and each flip of the link; returns violations and counts.

use std::{collections::BTreeMap, time::Duration};

use jiff::SignedDuration;
use serde::Deserialize;
use serde_json::Value;

use super::{Inner, Program};
use claude_failover::model::{
    account::{Limited, Standing},
    agent::LaunchRequest,
    ids::{AccountName, SessionName},
    journal::State,
    limit::Usage,
    pane::Launch,
    session::Resume,
    swap::{Cause, Swap, SwapStep, Swapped, Swaps},
};

/// What of the configuration promises depend on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Promises {
    pub cooldown: Duration,
    pub proactive_percent: Option<u32>,
}

/// What the daemon has saved, as far as it is about accounts.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Saved {
    pub accounts: BTreeMap<AccountName, SavedAccount>,
    pub swaps: Swaps,
}

/// An account as it was saved.
#[derive(Debug, Clone, Deserialize)]
pub struct SavedAccount {
    pub active: bool,
    pub standing: Standing,
    pub usage: Usage,
}

impl SavedAccount {
    fn is_out(&self) -> bool {
        matches!(self.standing, Standing::Limited(_) | Standing::Broken { .. })
    }
}

impl Inner {
    /// Looks at a state that was saved, when it says something new of accounts.
    pub(super) fn watch_state(&mut self, state: &State) {
        let same = |part: &&str| state.get(*part) == self.state.get(*part);
        if self.accounts.is_empty() || ["accounts", "swaps"].iter().all(same) {
            return;
        }
        let parts =
            ["accounts", "swaps"].into_iter().filter_map(|part| Some((part.to_owned(), state.get(part)?.clone())));
        let Ok(next) = serde_json::from_value::<Saved>(Value::Object(parts.collect())) else { return };
        let known = std::mem::replace(&mut self.saved, next.clone());
        for (name, account) in &next.accounts {
            self.watch_standing(name, known.accounts.get(name), account);
        }
        self.watch_swaps(&known, &next);
    }

    fn watch_standing(&mut self, name: &AccountName, before: Option<&SavedAccount>, after: &SavedAccount) {
        let same = before.is_some_and(|before| before.standing == after.standing);
        match &after.standing {
            _ if same => {}
            Standing::Limited(Limited { signal, .. }) | Standing::Broken { signal: Some(signal), .. }
                if !self.is_true(name, signal) =>
            {
                self.violation(format!("{name} is called out on what is not so: {signal:?}"));
            }
            Standing::Broken { signal: None, why, .. }
                if self.accounts.get(name).is_some_and(|truth| !truth.links_broken && !truth.was_broken) =>
            {
                self.violation(format!("{name} is called broken and is whole: {why}"));
            }
            Standing::Usable => match before.map(|before| &before.standing) {
                Some(Standing::Suspect { .. }) => self.tally.cleared += 1,
                Some(Standing::Limited(limited)) if limited.until.is_some_and(|until| until <= self.steady_time()) => {
                    self.tally.resets += 1;
                }
                Some(Standing::Limited(_) | Standing::Broken { .. } | Standing::Usable) | None => {}
            },
            Standing::Suspect { .. } | Standing::Limited(_) | Standing::Broken { .. } => {}
        }
    }

    fn watch_swaps(&mut self, known: &Saved, next: &Saved) {
        let (old, new) = (&known.swaps, &next.swaps);
        let active = next.accounts.iter().filter(|(_, account)| account.active).map(|(name, _)| name.clone());
        let active: Vec<AccountName> = active.collect();
        let out = |saved: &Saved| !saved.accounts.is_empty() && saved.accounts.values().all(SavedAccount::is_out);
        self.tally.all_out += u64::from(out(next) && !out(known));

        if let Some(swap) = &new.current
            && old.current.as_ref().is_none_or(|before| before.number != swap.number)
        {
            if old.current.is_some() && new.last.as_ref().map(|last| last.number) != Some(swap.number - 1) {
                self.violation(format!("swap {} begins while another is under way", swap.number));
            }
            if old.partial.is_some() || new.partial.is_some() {
                self.violation(format!("swap {} begins while one is half done", swap.number));
            }
            self.watch_begin(known, swap);
            self.link_before = self.link.clone();
        }
        if old.partial.is_some() && new.partial.is_none() {
            if !std::mem::take(&mut self.clear_asked) {
                self.violation("a half done swap is called put right and nobody said so".to_owned());
            }
            // What a person has put right is no reason to wait any more.
            self.ended.pop_if(|last| last.error.is_some());
        }
        self.tally.partial += u64::from(old.partial.is_none() && new.partial.is_some());

        if let Some(last) = new.last.as_ref().filter(|last| Some(*last) != old.last.as_ref()) {
            match &last.error {
                None => self.tally.swaps += 1,
                Some(_) => self.tally.rolled_back += 1,
            }
            let stands = if last.error.is_none() { &last.to } else { &last.from };
            if !active.contains(stands) {
                self.violation(format!("after swap {} {stands} should be active: {active:?}", last.number));
            }
            let begun = new.current.is_some();
            let untouched = last.error.is_some() && self.link == self.link_before;
            if new.partial.is_none() && !begun && self.link.as_ref() != Some(stands) && !untouched {
                let link = self.link.clone();
                self.violation(format!("after swap {} the link should lead to {stands}: {link:?}", last.number));
            }
            self.ended.push(last.clone());
        }

        for name in &active {
            let before = known.accounts.get(name);
            if before.is_some_and(|before| !before.active) && self.ensured.as_ref() != Some(name) {
                self.violation(format!("{name} is made active and its links were not found whole"));
            }
        }
    }

    /// Whether a swap may begin.
    fn watch_begin(&mut self, known: &Saved, swap: &Swap) {
        let cooldown = SignedDuration::try_from(self.promises.cooldown).unwrap_or_default();
        let number = swap.number;
        if let Cause::Person { .. } = swap.cause {
            if self.swaps_asked == 0 {
                self.violation(format!("swap {number} is said to be a person's, and nobody asked"));
            }
            return;
        }
        // One that failed because its target is broken says nothing of another target.
        let broken = |name: &AccountName| {
            let target = known.accounts.get(name);
            target.is_some_and(|target| matches!(target.standing, Standing::Broken { .. }))
        };
        let counts = |last: &&Swapped| last.error.is_none() || !broken(&last.to);
        if let Some(last) = self.ended.iter().rev().find(counts)
            && swap.begun.duration_since(last.ended) < cooldown
        {
            let text = format!("swap {number} begins within the cooldown of swap {}: {swap:?}", last.number);
            self.violation(text);
        }
        let from = known.accounts.get(&swap.from);
        let rightly = match (&swap.cause, from) {
            (Cause::Out { .. }, Some(from)) => from.is_out(),
            (Cause::Proactive { .. }, Some(from)) => {
                let used = from.usage.0.values().map(|window| u32::from(window.used_percent)).max();
                self.promises.proactive_percent.is_some_and(|limit| used.is_some_and(|used| used >= limit))
            }
            (Cause::Out { .. } | Cause::Proactive { .. } | Cause::Person { .. }, _) => false,
        };
        if !rightly {
            self.violation(format!("swap {number} begins without a reason: {swap:?}"));
        }
        self.tally.proactive += u64::from(matches!(swap.cause, Cause::Proactive { .. }));
    }

    /// The link is turned only where the journal says so.
    pub(super) fn watch_flip(&mut self, to: &AccountName) {
        let journalled = self.saved.swaps.current.as_ref().is_some_and(|swap| match &swap.step {
            SwapStep::Flip => swap.to == *to,
            SwapStep::RollBack { .. } => swap.from == *to,
            SwapStep::Ensure | SwapStep::Move => false,
        });
        if !journalled {
            let swap = self.saved.swaps.current.clone();
            self.violation(format!("the link is turned to {to} and the journal does not say so: {swap:?}"));
        }
    }

    /// What is noted of a session that is to go on.
    fn resume_of(&self, session: &SessionName) -> Option<Resume> {
        let resume = self.state.get("sessions")?.get(session.as_str())?.get("resume")?;
        serde_json::from_value(resume.clone()).ok()?
    }

    /// A program of a person's is ended only to go on with its conversation, which is noted before.
    pub(super) fn watch_dedicated_end(&mut self, session: &SessionName, program: &Program) {
        let noted = self.resume_of(session).filter(|resume| resume.from == program.incarnation);
        let text = match noted {
            None => Some("nothing is noted of going on".to_owned()),
            Some(_) if !program.is_agent() => Some("a person's shell is in it".to_owned()),
            Some(_)
                if program
                    .account
                    .as_ref()
                    .and_then(|name| self.saved.accounts.get(name))
                    .is_some_and(|one| one.active) =>
            {
                Some("it runs under the active account".to_owned())
            }
            Some(noted) => {
                let known = program.conversation.as_ref().filter(|id| self.conversations.contains_key(*id));
                let right = known.is_none() || noted.conversation.as_ref() == known;
                (!right).then(|| format!("{:?} is noted of conversation {known:?}", noted.conversation))
            }
        };
        if let Some(text) = text {
            self.violation(format!("the program in session {session} is ended: {text}"));
        }
        let conversation = program.conversation.clone().filter(|id| self.conversations.contains_key(id));
        self.left.insert(session.clone(), conversation);
    }

    /// What may be started, and with which words.
    pub(super) fn watch_start(&mut self, launch: &Launch, request: Option<&LaunchRequest>) {
        let name = &launch.session;
        let dedicated = !self.pool.contains(name);
        if let Some(conversation) = self.left.remove(name) {
            let resumed = request.and_then(|request| request.resume.clone());
            if conversation.is_some() && resumed != conversation {
                self.violation(format!("session {name} had {conversation:?} and goes on with {resumed:?}"));
            }
            self.tally.dedicated_moved += u64::from(resumed.is_some());
        }
        let Some(request) = request else { return };
        if dedicated && (request.prompt.is_some() || request.task.is_some()) {
            self.violation(format!("a prompt is given to session {name}, which is a person's: {request:?}"));
        }
        let Some(id) = &request.resume else { return };
        let held = |program: &&Program| program.is_agent() && program.conversation.as_ref() == Some(id);
        if let Some(other) = self.programs.values().find(held).map(|program| program.session.clone()) {
            self.violation(format!("{id} is resumed in {name} while a program in {other} holds it"));
        }
        if !dedicated {
            let before = self.programs.values().rev().find(|program| program.conversation.as_ref() == Some(id));
            let moved = before.is_some_and(|before| before.account != request.account);
            let at_work = before.is_some_and(|before| before.struck.is_none() && before.task.is_some());
            self.tally.moved += u64::from(moved);
            self.tally.moved_at_work += u64::from(moved && at_work);
        }
    }
}
