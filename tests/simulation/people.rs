//! What people do: verbs, and prompts in their own sessions.

use std::time::Duration;

use claude_failover::{
    live::Live,
    model::{
        command::Scope,
        event::Event,
        ids::{AccountName, SessionName, TaskId, TaskKey},
        queue::QueueDir,
        session::Activity,
        task::{Delivery, Phase, TaskEvent},
        task_file::sha256,
    },
};
use claude_failover_sim::Inner;

use crate::{
    jobs::Fate,
    run::{DEDICATED, Life, project, session as session_name},
};

impl Life {
    pub fn ask(&self, live: &Live, scope: Scope, text: &str) {
        let (live, text) = (live.clone(), text.to_owned());
        self.world.with(|inner| inner.note(format!("person: {text:?} to {scope:?}")));
        tokio::spawn(async move { live.ask(scope, text.into_bytes(), None, Duration::from_secs(2)).await });
    }

    /// Cancels, and from the moment that it is confirmed holds the daemon to it.
    fn cancel(&self, live: &Live, key: TaskKey) {
        let (live, jobs, world) = (live.clone(), self.jobs.clone(), self.world.clone());
        world.with(|inner| inner.note(format!("person: cancel {key}")));
        tokio::spawn(async move {
            let name = key.id.file_name();
            let text = |inner: &mut Inner| inner.file(&key.project, QueueDir::Inbox, &name).map(|f| f.bytes.clone());
            // What was written a moment ago may not have been seen yet, and is another task.
            let fresh = |inner: &mut Inner| {
                let changed = inner.file(&key.project, QueueDir::Inbox, &name).map_or(0, |file| file.changed);
                inner.now.saturating_sub(changed) < 1_000_000_000
            };
            let before = if world.with(fresh) { None } else { world.with(text) };
            // A cancel is about the text that is being worked on, not about a newer one that waits in the file.
            let running = live.snapshot().tasks.get(&key).and_then(|task| {
                let run = task.phase.run().map(|run| &run.text);
                Some(run.or(task.phase.job().map(|job| &job.text))?.sha256.clone())
            });
            let meant = |bytes: &Vec<u8>| running.as_ref().is_none_or(|sha| *sha == sha256(bytes));
            let before = before.filter(meant);
            let told =
                live.ask(Scope::Task(key.clone()), b"cancel".to_vec(), None, Duration::from_secs(2)).await.is_ok();
            let snapshot = live.snapshot();
            let typing = match snapshot.tasks.get(&key).map(|task| &task.phase) {
                Some(Phase::Working(run)) => run.delivery != Delivery::NotBegun,
                Some(_) | None => false,
            };
            let (after, now) = world.with(|inner| (text(inner), inner.now));
            // An edit in between makes it unclear which text was meant.
            if let (true, false, Some(bytes)) = (told, typing, before.filter(|b| after.as_ref().is_none_or(|a| a == b)))
                && let Some(job) = jobs.lock().expect("a lock").of(&bytes)
                && job.fate == Fate::Ours
            {
                job.forbidden = Some((now, "cancelled"));
            }
        });
    }

    /// What agents wait for is answered sooner or later; what hangs is cancelled.
    pub fn people(&mut self, live: &Live) {
        let eager = if self.calm_since.is_some() { 700 } else { 150 };
        let snapshot = live.snapshot();
        for (name, session) in &snapshot.sessions {
            let asked = snapshot.requests.values().any(|action| action.session() == Some(name));
            if asked || !self.config.pool.autonomous.owns(name) || !self.rng.chance(eager) {
                continue;
            }
            match session.verdict.activity {
                Activity::Waiting(_) => self.ask(live, Scope::Keys(name.clone()), "y"),
                Activity::Limited if self.rng.chance(800) => {
                    self.ask(live, Scope::Input(name.clone()), "Continue where you stopped.");
                }
                Activity::Limited | Activity::Stalled => {
                    if let Some(assignment) = &session.task {
                        self.cancel(live, assignment.task.clone());
                    }
                }
                Activity::Unknown | Activity::Idle | Activity::Working => {}
            }
        }
    }

    pub fn any_key(&mut self) -> TaskKey {
        let name = format!("t{}", self.rng.below(self.names));
        let id = TaskId::from_file_name(&format!("{name}.md")).expect("a task name");
        TaskKey::new(&project(), &id)
    }

    pub fn act(&mut self, live: &Live) {
        let key = self.any_key();
        let sessions: Vec<SessionName> = self.config.pool.autonomous.names().collect();
        let session = self.rng.pick(&sessions).cloned().expect("a session");
        let task = Scope::Task(key.clone());
        match self.rng.below(64) {
            40..=47 => self.trouble(),
            48 | 49 => self.own_session(),
            50 => self.swap(live, None),
            51 | 52 => {
                let to = self.any_account();
                self.swap(live, to);
            }
            53 => self.clear_partial(live),
            54 | 55 => self.mend(),
            56..=58 => self.provider_trouble(),
            59..=61 => {
                let verb = self.rng.pick(&["delegate", "delegate gpu", "delegate chat"]).copied();
                self.ask(live, task, verb.unwrap_or("delegate"));
            }
            62 | 63 => {
                // It may be begun already, and is begun once more.
                let file = self.world.with(|i| i.file(&key.project, QueueDir::Inbox, &key.id.file_name()).cloned());
                if let Some(job) =
                    file.and_then(|file| self.jobs.lock().expect("a lock").of(&file.bytes).map(|job| job.allowed += 1))
                {
                    let () = job;
                    self.ask(live, task, "recall");
                }
            }
            0..=22 => self.behind_its_back(),
            23..=25 => self.cancel(live, key),
            26 => self.ask(live, task, "hold"),
            27 => self.ask(live, task, "release"),
            28 => self.ask(live, task, "priority 7"),
            29 | 30 => {
                let file = self.world.with(|i| i.file(&key.project, QueueDir::Failed, &key.id.file_name()).cloned());
                if let Some(file) = file {
                    self.jobs.lock().expect("a lock").again(&file.bytes);
                    self.ask(live, task, "retry");
                }
            }
            31 => self.ask(live, Scope::Daemon, if self.rng.clone().chance(500) { "pause" } else { "resume" }),
            32 => self.ask(live, Scope::Daemon, "resume"),
            33 => {
                let verb = self.rng.pick(&["rescan", "clean", "clean", "clean dry-run"]).copied();
                self.ask(live, Scope::Daemon, verb.unwrap_or("rescan"));
            }
            34 => self.ask(live, Scope::Session(session), "restart"),
            35 => self.ask(live, Scope::Session(session), "drain"),
            36 => self.ask(live, Scope::Session(session), "undrain"),
            37 => self.ask(live, Scope::Session(session), "exit"),
            38 => {
                let own = self.rng.pick(&DEDICATED).copied().unwrap_or(DEDICATED[0]);
                for verb in ["exit", "restart", "drain"] {
                    self.ask(live, Scope::Session(session_name(own)), verb);
                }
            }
            _ => self.remove_by_verb(live, &key),
        }
    }

    fn remove_by_verb(&mut self, live: &Live, key: &TaskKey) {
        let file = self.world.with(|inner| {
            inner.note(format!("person: rm {key}"));
            inner.take(&key.project, QueueDir::Inbox, &key.id.file_name())
        });
        if let Some(job) =
            file.and_then(|file| self.jobs.lock().expect("a lock").of(&file.bytes).map(|j| j.fate = Fate::Theirs))
        {
            let () = job;
            let (live, key) = (live.clone(), key.clone());
            tokio::spawn(
                async move { live.report(vec![Event::Task(key, TaskEvent::Vanished { by_verb: true })]).await },
            );
        }
    }

    pub fn any_account(&mut self) -> Option<AccountName> {
        let names: Vec<AccountName> = self.config.accounts.iter().map(|row| row.name.clone()).collect();
        self.rng.pick(&names).cloned()
    }

    /// Asks for a swap, by verb or by file.
    pub fn swap(&mut self, live: &Live, to: Option<AccountName>) {
        if self.config.accounts.is_empty() {
            return;
        }
        self.world.with(|inner| inner.swaps_asked += 1);
        match to {
            None => self.ask(live, Scope::Daemon, "swap"),
            Some(name) if self.rng.chance(500) => self.ask(live, Scope::ActiveAccount, name.as_str()),
            Some(name) => self.ask(live, Scope::Daemon, &format!("swap {name}")),
        }
    }

    pub fn clear_partial(&self, live: &Live) {
        self.world.with(|inner| inner.clear_asked = inner.saved.swaps.partial.is_some());
        self.ask(live, Scope::Daemon, "clear-partial");
    }

    /// Somebody logs in again, pays, mends a home.
    fn mend(&mut self) {
        if let Some(name) = self.any_account() {
            self.world.with(|inner| inner.restore(&name));
        }
    }

    /// A person works in one of his own sessions.
    fn own_session(&mut self) {
        let own = self.rng.pick(&DEDICATED).copied().unwrap_or(DEDICATED[0]);
        self.world.with(|inner| inner.say(&session_name(own), "Look into the login form with me."));
    }
}
