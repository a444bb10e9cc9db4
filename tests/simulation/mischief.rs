//! What scripts, editors, providers and accidents do behind the daemon's back.

use std::time::Duration;

use claude_failover::model::{
    evidence::Failure,
    limit::LimitKind,
    pane::Exit,
    provider::{ProviderError, ProviderStanding},
    queue::QueueDir,
};

use crate::{
    jobs::Fate,
    run::{Life, project, provider},
};

impl Life {
    /// What scripts, editors and accidents do, also while no daemon runs.
    pub fn behind_its_back(&mut self) {
        let key = self.any_key();
        let name = key.id.file_name();
        let marker = format!("{name}.working");
        let delegated = format!("{name}.delegated");
        let what = self.rng.below(28);
        let p = project();
        let jobs = self.jobs.clone();
        let mut jobs = jobs.lock().expect("a lock");
        let rng = &mut self.rng;
        self.world.with(|inner| {
            let inbox = QueueDir::Inbox;
            let present = inner.file(&p, inbox, &name).map(|file| file.bytes.clone());
            let claimed = inner.file(&p, inbox, &marker).is_some();
            match (what, present) {
                (0..=11, None) => {
                    let job = jobs.write(&name, rng);
                    inner.note(format!("world: writes {name}: {:?}", String::from_utf8_lossy(&job.bytes)));
                    inner.put(&p, inbox, &name, &job.bytes);
                    if rng.chance(200) {
                        inner.set_writer(&p, &name, true);
                    }
                }
                (0..=3, Some(old)) => {
                    if let Some(job) = jobs.of(&old) {
                        job.fate = Fate::Theirs;
                    }
                    let job = jobs.write(&name, rng);
                    inner.note(format!("world: edits {name}: {:?}", String::from_utf8_lossy(&job.bytes)));
                    inner.put(&p, inbox, &name, &job.bytes);
                }
                (4, Some(_)) => {
                    inner.note(format!("world: touches {name}"));
                    inner.touch(&p, inbox, &name);
                }
                (5 | 6, Some(_)) => {
                    inner.note(format!("world: closes {name}"));
                    inner.set_writer(&p, &name, false);
                }
                (7, Some(old)) => {
                    inner.note(format!("world: marks {name} as read"));
                    let text = String::from_utf8_lossy(&old).replace("status: UNREAD", "status: READ");
                    inner.put(&p, inbox, &name, text.as_bytes());
                }
                (12..=14, Some(old)) => {
                    inner.note(format!("world: takes {name} away (claimed: {claimed})"));
                    inner.take(&p, inbox, &name);
                    let now = inner.now;
                    if let Some(job) = jobs.of(&old) {
                        job.fate = Fate::Theirs;
                        if !claimed {
                            job.forbidden = Some((now, "taken away unclaimed"));
                        }
                    }
                }
                (15, Some(old)) if inner.rename(&p, (inbox, &name), (QueueDir::Drafts, &name)) => {
                    inner.note(format!("world: mv inbox/{name} drafts/ (claimed: {claimed})"));
                    let now = inner.now;
                    if let Some(job) = jobs.of(&old).filter(|_| !claimed) {
                        job.forbidden = Some((now, "moved to drafts unclaimed"));
                    }
                }
                (16 | 17, None) => {
                    for dir in [QueueDir::Drafts, QueueDir::Failed, QueueDir::Done] {
                        if inner.rename(&p, (dir, &name), (inbox, &name)) {
                            inner.note(format!("world: mv {}/{name} inbox/", dir.name()));
                            let bytes = inner.file(&p, inbox, &name).map(|file| file.bytes.clone()).unwrap_or_default();
                            jobs.again(&bytes);
                            break;
                        }
                    }
                }
                (18, Some(old)) if inner.file(&p, inbox, &delegated).is_none() => {
                    inner.note(format!("world: delegates {name} (claimed: {claimed})"));
                    inner.put(&p, inbox, &delegated, b"{\"job_id\": \"1\"}");
                    let now = inner.now;
                    if let Some(job) = jobs.of(&old).filter(|_| !claimed) {
                        job.forbidden = Some((now, "delegated by somebody else"));
                    }
                }
                (19, Some(old)) if inner.file(&p, inbox, &delegated).is_some() => {
                    inner.note(format!("world: takes {name} back from delegation"));
                    inner.take(&p, inbox, &delegated);
                    if let Some(job) = jobs.of(&old) {
                        job.forbidden = None;
                    }
                }
                (20, _) => {
                    inner.note("world: git checkout".to_owned());
                    let names: Vec<String> = inner.disk.keys().filter(|k| k.1 == inbox).map(|k| k.2.clone()).collect();
                    for name in names.iter().filter(|name| name.ends_with(".md")) {
                        if let Some(file) = inner.take(&p, inbox, name) {
                            inner.put(&p, inbox, name, &file.bytes);
                            inner.set_writer(&p, name, file.writer);
                        }
                    }
                }
                (21, _) => {
                    let living: Vec<u32> = inner
                        .programs
                        .values()
                        .filter(|program| program.exit.is_none() && inner.pool.contains(&program.session))
                        .map(|program| program.pid)
                        .collect();
                    if let Some(pid) = rng.pick(&living) {
                        inner.note(format!("world: kills {pid}"));
                        inner.end_program(*pid, Exit::Signal(9));
                    }
                }
                (22, _) if rng.chance(300) => {
                    inner.note("world: the terminal server dies".to_owned());
                    inner.kill_server(Duration::from_millis(rng.below(5000)));
                }
                (23, _) => inner.terminal_down(Duration::from_millis(rng.below(8000))),
                (24, None) => {
                    inner.note(format!("world: junk {name}"));
                    let junk: [&[u8]; 4] =
                        [b"", b"---\npriority: 1\n", b"---\nretries: x\n---\nhm", b"---\ndepends_on: [a]\n---\nhm"];
                    inner.put(&p, inbox, &name, rng.pick(&junk).copied().unwrap_or_default());
                }
                _ => {}
            }
        });
    }

    /// What happens at those who do tasks over HTTP.
    pub fn provider_trouble(&mut self) {
        let names = [provider("gpu"), provider("chat")];
        let rng = &mut self.rng;
        let Some(name) = rng.pick(&names).cloned() else { return };
        let seconds = Duration::from_secs(rng.within(1, 60));
        self.world.with(|inner| {
            let until = inner.timestamp() + seconds;
            let out = |standing| Some(ProviderError::Out(standing));
            let why = "a provider's words".to_owned();
            let trouble = match rng.below(8) {
                0 => out(ProviderStanding::Exhausted { why, until: None }),
                1 => out(ProviderStanding::Exhausted { why, until: Some(until) }),
                2 => out(ProviderStanding::Broken { why }),
                3 => Some(inner.cooling(seconds)),
                4 => Some(ProviderError::Refused(why)),
                5 => return inner.forget_jobs(&name),
                _ => None,
            };
            let denies = if trouble.is_none() && rng.chance(300) { rng.below(500) } else { 0 };
            inner.note(format!("world: {name} answers {trouble:?}, denies {denies}"));
            if let Some(row) = inner.providers.get_mut(&name) {
                (row.trouble, row.denies) = (trouble, denies);
            }
        });
    }

    /// What providers and homes do to accounts, and the clock to all.
    pub fn trouble(&mut self) {
        let name = self.any_account();
        let rng = &mut self.rng;
        let seconds = Duration::from_secs(if rng.chance(100) { rng.within(100, 900) } else { rng.within(3, 100) });
        self.world.with(|inner| match (rng.below(22), name) {
            (0..=8, Some(name)) => {
                let kinds = [LimitKind::FiveHour, LimitKind::Weekly, LimitKind::Model, LimitKind::Unknown];
                let kind = rng.pick(&kinds).copied().unwrap_or(LimitKind::FiveHour);
                inner.limit(&name, kind, seconds, rng.chance(850));
            }
            (9, Some(_)) => {
                // All at once.
                let names: Vec<_> = inner.accounts.keys().cloned().collect();
                for name in names {
                    inner.limit(&name, LimitKind::FiveHour, seconds, true);
                }
            }
            (10, Some(name)) => inner.limit(&name, LimitKind::Spend, seconds, false),
            (11 | 12, Some(name)) => inner.strike(&name, Failure::Login, seconds * 100),
            (13..=15, Some(name)) => {
                let (links, flip) = (rng.chance(700), rng.chance(400));
                inner.note(format!("world: the home of {name}: links broken {links}, link can't be turned {flip}"));
                if let Some(truth) = inner.accounts.get_mut(&name) {
                    (truth.links_broken, truth.flip_fails) = (links, flip);
                }
            }
            (16, Some(_)) => {
                let broken = rng.chance(500);
                inner.note(format!("world: no link can be turned: {broken}"));
                for truth in inner.accounts.values_mut() {
                    truth.flip_fails = broken;
                }
            }
            (17 | 18, _) => {
                let lasts = rng.within(1, 15);
                inner.note(format!("world: the provider's servers fail for {lasts} s"));
                inner.storm_until = inner.now + lasts * 1_000_000_000;
            }
            (19, _) => inner.jump(Duration::from_secs(rng.within(1, 7200))),
            (20, _) => {
                let wrong = [0, -1, -45, 45, -86_400, 86_400];
                inner.set_clock(rng.pick(&wrong).copied().unwrap_or_default());
            }
            (_, _) => {}
        });
    }
}
