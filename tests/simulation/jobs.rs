//! The texts that the simulated people submit, and what may happen to each: the oracle's memory.

use std::collections::BTreeMap;

use claude_failover::model::queue::QueueDir;
use claude_failover_sim::{Inner, Rng};

/// Where a text is, as far as people made it so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It must stand somewhere in the queue.
    Ours,
    /// Taken out of the queue, removed, or overwritten by somebody else than the daemon.
    Theirs,
}

/// One text of one task; an edited task is another text.
#[derive(Debug, Clone)]
pub struct Job {
    pub name: String,
    pub bytes: Vec<u8>,
    pub attempts: u32,
    /// Prompts that agents and providers may receive of it in all.
    pub allowed: u32,
    pub received: u32,
    /// No agent may receive it after this time, and why.
    pub forbidden: Option<(u64, &'static str)>,
    pub fate: Fate,
}

#[derive(Debug, Default)]
pub struct Jobs {
    pub all: BTreeMap<String, Job>,
    seen: usize,
    seen_orders: usize,
    count: u32,
}

impl Jobs {
    /// A new text for a task of that name; what stood there before is overwritten.
    pub fn write(&mut self, name: &str, rng: &mut Rng) -> Job {
        self.count += 1;
        let token = format!("job-{};", self.count);
        let retries = rng.below(3);
        let mut front = String::new();
        if rng.chance(500) || retries != 1 {
            front.push_str(&format!("---\nretries: {retries}\npriority: {}\n", rng.within(0, 20)));
            match rng.below(8) {
                0 => front.push_str("agent: mute\n"),
                1 => front.push_str("agent: sh\n"),
                2 => front.push_str("workdir: sub\n"),
                3 | 4 => front.push_str("agent: typed\n"),
                _ => {}
            }
            if rng.chance(150) {
                front.push_str("timeout: 15s\n");
            }
            if rng.chance(400) {
                let word = rng.pick(&["gpu", "chat", "auto", "nobody", "claude-code"]).copied().unwrap_or("auto");
                front.push_str(&format!("allow_delegation: {}\npreferred_ai: {word}\n", rng.chance(900)));
            }
            front.push_str("status: UNREAD\n---\n");
        }
        let attempts = u32::try_from(retries).unwrap_or(0) + 1;
        let bytes = format!("{front}Please do {token} and say so.\n").into_bytes();
        let job = Job {
            name: name.to_owned(),
            bytes,
            attempts,
            allowed: attempts,
            received: 0,
            forbidden: None,
            fate: Fate::Ours,
        };
        self.all.insert(token, job.clone());
        job
    }

    /// The token in a text.
    pub fn token(text: &str) -> Option<&str> {
        let at = text.find("job-")?;
        let end = text[at..].find(';')?;
        Some(&text[at..=at + end])
    }

    pub fn of(&mut self, bytes: &[u8]) -> Option<&mut Job> {
        let text = String::from_utf8_lossy(bytes);
        self.all.get_mut(Self::token(&text)?)
    }

    /// Somebody put the text into the inbox once more: it may be run as often again.
    pub fn again(&mut self, bytes: &[u8]) {
        if let Some(job) = self.of(bytes) {
            job.allowed += job.attempts;
            job.forbidden = None;
            job.fate = Fate::Ours;
        }
    }

    /// What an agent received since the last look, against what it may.
    pub fn check(&mut self, inner: &mut Inner) {
        let typed = inner.receptions[self.seen..].iter();
        let mut new: Vec<_> = typed.map(|one| (one.at, one.session.to_string(), one.text.clone())).collect();
        let ordered = inner.orders[self.seen_orders..].iter();
        new.extend(ordered.map(|(at, provider, text)| (*at, provider.to_string(), text.clone())));
        (self.seen, self.seen_orders) = (inner.receptions.len(), inner.orders.len());
        for (at, place, text) in new {
            let Some(token) = Self::token(&text).map(str::to_owned) else { continue };
            let Some(job) = self.all.get_mut(&token) else { continue };
            job.received += 1;
            if job.received > job.allowed {
                let text =
                    format!("{token} ({}) was received {} times; {} may be", job.name, job.received, job.allowed);
                inner.violation(text);
            }
            if let Some((_, why)) = job.forbidden.filter(|(since, _)| at > *since) {
                inner.violation(format!("{token} ({}) was given to {place} after it was {why}", job.name));
            }
        }
        for (token, job) in &self.all {
            if job.fate == Fate::Ours && inner.holding(token).is_empty() {
                inner.violation(format!("{token} ({}) is lost: it stands nowhere in the queue", job.name));
            }
        }
        // Said once is enough.
        for job in self.all.values_mut() {
            if job.fate == Fate::Ours && !inner.violations.is_empty() {
                job.fate = Fate::Theirs;
            }
        }
    }

    /// What is called done was brought to its end by an agent that tells of ends.
    pub fn check_results(&self, inner: &mut Inner) {
        let files = inner.disk.iter().map(|((_, dir, _), file)| (dir, &file.bytes));
        let stored = inner.archives.iter().map(|((_, dir, ..), bytes)| (dir, bytes));
        let done: Vec<String> = (files.chain(stored))
            .filter(|(dir, _)| **dir == QueueDir::Done)
            .map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned())
            .collect();
        for text in done.iter().filter(|text| !text.contains("agent: mute") && !text.contains("agent: sh")) {
            let Some(token) = Self::token(text) else { continue };
            let task = text.contains("status: done\n");
            if task && self.all.contains_key(token) && !inner.completed.iter().any(|task| task.contains(token)) {
                inner.violation(format!("{token} is called done and no agent has done it"));
            }
        }
    }
}
