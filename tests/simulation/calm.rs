//! The final phase: no more faults, and everything comes to rest.

use std::time::Duration;

use claude_failover::{
    live::Live,
    model::{
        account::Standing,
        command::Scope,
        evidence::Failure,
        footer::without_result,
        ids::{TaskId, TaskKey},
        queue::QueueDir,
        snapshot::Snapshot,
        task::{Hold, Phase},
    },
};
use claude_failover_sim::{Faults, Inner};

use crate::run::{Life, project};

/// How long, after everything is calm, the last task may take.
const SETTLES_WITHIN: Duration = Duration::from_secs(1800);
/// The same where nobody helps an account whose agents don't say when its limit ends: it is tried again after an hour.
const SETTLES_ALONE: Duration = Duration::from_secs(3 * 3600);

impl Life {
    /// No more faults, no more mischief; everything that somebody holds is let go.
    pub fn calm_down(&mut self, live: &Live) {
        self.calm_since = Some(self.world.with(|inner| {
            inner.note("world: calm".to_owned());
            inner.calm = true;
            inner.crash = None;
            inner.faults = Faults::default();
            let names: Vec<String> =
                inner.disk.keys().filter(|k| k.1 == QueueDir::Inbox).map(|k| k.2.clone()).collect();
            for name in names.iter().filter(|name| name.ends_with(".md")) {
                inner.set_writer(&project(), name, false);
            }
            inner.shown_only = 0;
            inner.set_clock(0);
            inner.storm_until = 0;
            inner.providers.values_mut().for_each(|row| (row.trouble, row.denies) = (None, 0));
            let names: Vec<_> = inner.accounts.keys().cloned().collect();
            let now = inner.true_time();
            for name in names {
                let out = inner.accounts.get(&name).and_then(|truth| truth.out(now));
                let passes = matches!(out, Some(Failure::Limit(limit)) if limit.kind.resets());
                if let Some(truth) = inner.accounts.get_mut(&name) {
                    (truth.links_broken, truth.flip_fails) = (false, false);
                }
                if out.is_some() && !passes {
                    inner.restore(&name);
                }
            }
            inner.now
        }));
        self.ask(live, Scope::Daemon, "resume");
        for name in self.config.pool.autonomous.names() {
            self.ask(live, Scope::Session(name), "undrain");
        }
    }

    /// Whether everything has come to its end; complains when it takes too long.
    pub fn settled(&mut self, live: &Live) -> bool {
        let Some(since) = self.calm_since else { return false };
        let snapshot = live.snapshot();
        let mut open = Vec::new();
        let mut release = Vec::new();
        let patient = self.patient;
        let settled = self.world.with(|inner| {
            let inbox = inner.disk.keys().filter(|(_, dir, _)| *dir == QueueDir::Inbox);
            let names: Vec<String> = inbox.map(|(_, _, name)| name.clone()).collect();
            for name in names {
                let base = name.strip_suffix(".working").or(name.strip_suffix(".rejected")).unwrap_or(&name);
                let Some(id) = TaskId::from_file_name(base) else { continue };
                let key = TaskKey::new(&project(), &id);
                let text = inner.file(&project(), QueueDir::Inbox, base).map(|file| file.bytes.clone());
                let delegated = inner.file(&project(), QueueDir::Inbox, &format!("{base}.delegated")).is_some();
                let told = snapshot.tasks.get(&key).map(|task| &task.phase);
                let rightly = match told {
                    Some(Phase::Held(hold)) => match hold {
                        Hold::OutsideClaim(_) => delegated,
                        Hold::Empty => text.as_ref().is_some_and(|text| without_result(text).is_empty()),
                        Hold::OpenFrontmatter | Hold::DependsOn => text.is_some(),
                        Hold::ChangedWhileWorking | Hold::ByVerb | Hold::RanBefore(_) | Hold::InPlace(_) => {
                            release.push(key.clone());
                            false
                        }
                        Hold::Closed(_) | Hold::NotPermitted(..) | Hold::Braked(_) => false,
                        Hold::Settling
                        | Hold::Writing
                        | Hold::EditorLock(_)
                        | Hold::Missing
                        | Hold::Tracked(_)
                        | Hold::GitAtWork
                        | Hold::Unreadable(_) => false,
                    },
                    Some(Phase::Rejected(_)) => text.as_ref().is_some_and(|text| {
                        text.windows(8).any(|part| part == b"\n---\nhm\n") || text.ends_with(b"\n---\nhm")
                    }),
                    Some(
                        Phase::Queued | Phase::Working(_) | Phase::Delegated(_) | Phase::Filing(_) | Phase::Finished(_),
                    )
                    | None => false,
                };
                if !rightly || name.ends_with(".working") {
                    open.push(format!("{name}: {told:?}"));
                }
            }
            for task in snapshot.tasks.values() {
                if matches!(task.phase, Phase::Queued | Phase::Working(_) | Phase::Delegated(_) | Phase::Filing(_)) {
                    open.push(format!("{}: {:?}", task.key, task.phase));
                }
            }
            open.extend(unmoved(inner, &snapshot));
            if open.is_empty() {
                if let Some(texts) =
                    inner.state.get("texts").filter(|texts| texts.as_object().is_none_or(|texts| !texts.is_empty()))
                {
                    let text = format!("texts of runs are left behind: {texts}");
                    inner.violation(text);
                }
                return true;
            }
            let within = if patient { SETTLES_ALONE } else { SETTLES_WITHIN };
            if inner.now - since > u64::try_from(within.as_nanos()).unwrap_or(u64::MAX) {
                let sessions: Vec<String> = snapshot
                    .sessions
                    .values()
                    .map(|s| format!("{} {:?} {:?} {:?} {:?}", s.name, s.phase, s.verdict, s.screen, s.task))
                    .collect();
                inner.violation(format!("not settled: {}\n  {}", open.join("\n  "), sessions.join("\n  ")));
            }
            false
        });
        for key in release {
            self.ask(live, Scope::Task(key), "release");
        }
        settled
    }

    /// What only people can put right about accounts.
    pub fn help_accounts(&mut self, live: &Live) {
        let snapshot = live.snapshot();
        if snapshot.swaps.partial.is_some() {
            return self.clear_partial(live);
        }
        for known in snapshot.accounts.iter() {
            let whole = self.world.with(|inner| {
                let now = inner.true_time();
                inner.accounts.get(&known.name).is_some_and(|truth| truth.out(now).is_none() && !truth.links_broken)
            });
            let told = match &known.standing {
                Standing::Limited(limited) => {
                    limited.until.is_some() && (self.patient || limited.limit.resets_at.is_some())
                }
                Standing::Broken { .. } => false,
                Standing::Usable | Standing::Suspect { .. } => true,
            };
            if whole && !told {
                return self.swap(live, Some(known.name.clone()));
            }
        }
    }
}

/// What does not run under the active account, or isn't over.
fn unmoved(inner: &Inner, snapshot: &Snapshot) -> Vec<String> {
    let mut open = Vec::new();
    if let Some(swap) = &snapshot.swaps.current {
        open.push(format!("swap {} is under way: {}", swap.number, swap.step.word()));
    }
    for (name, pane) in &inner.panes {
        let Some(program) = inner.programs.get(&pane.pid).filter(|program| program.is_agent()) else { continue };
        let Some(account) = &program.account else { continue };
        // What a person has started since is his choice.
        let chosen = snapshot.sessions.get(name).is_some_and(|session| {
            let active = snapshot
                .accounts
                .iter()
                .find(|one| one.active && snapshot.account(account).is_some_and(|a| a.is_like(one)));
            let known = session.phase.incarnation().zip(active);
            known.is_some_and(|(incarnation, active)| !session.follows(incarnation, active.active_since))
        });
        if !chosen && !snapshot.account(account).is_some_and(|account| account.active) {
            open.push(format!("{name} runs under {account}, which is not active"));
        }
    }
    for session in snapshot.sessions.values().filter(|session| session.resume.is_some()) {
        open.push(format!("{} is to go on: {:?}", session.name, session.resume));
    }
    open
}
