//! Agents' behaviour: one script each, written by a test or generated at random.

use std::time::Duration;

use super::Inner;
use claude_failover::model::pane::Exit;

/// What an agent does with its first prompt, one beat after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    Work(Duration),
    /// Asks a person for permission and waits for `y`.
    Permission,
    /// The turn ends while a background task runs on; it ends for good that much later.
    Background(Duration),
    ServerError,
    /// Stopped by a limit of its account, which lasts so long; then a message makes it go on.
    Limit(Duration),
    /// At work on a text about limits, which its screen shows for so long.
    Quote(Duration),
    Die(Exit),
    /// At work for ever.
    Stall,
}

/// How an agent behaves. The default is one that simply works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// From the start to the prompt; `None`: it never comes.
    pub start: Option<Duration>,
    /// Ends instead of showing its prompt.
    pub dies_on_start: bool,
    /// From the paste to the text in the box.
    pub paste: Duration,
    /// A paste shows as a placeholder.
    pub collapse: bool,
    /// Enters that are swallowed.
    pub swallow: u32,
    /// From the Enter to the first signal that says so.
    pub tell: Duration,
    /// Ends right after taking the prompt, before it told anybody.
    pub dies_on_prompt: bool,
    pub beats: Vec<Beat>,
    /// Ignores TERM for so long.
    pub deaf: Duration,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            start: Some(Duration::from_millis(300)),
            dies_on_start: false,
            paste: Duration::from_millis(10),
            collapse: false,
            swallow: 0,
            tell: Duration::from_millis(20),
            dies_on_prompt: false,
            beats: vec![Beat::Work(Duration::from_secs(2))],
            deaf: Duration::from_millis(50),
        }
    }
}

impl Inner {
    /// The script of the next agent.
    pub(super) fn script(&mut self) -> Script {
        if let Some(script) = self.scripts.pop_front() {
            return script;
        }
        let mut rng = self.rng.fork();
        let millis = Duration::from_millis;
        let mut script = Script {
            start: Some(millis(rng.within(50, 1500))),
            paste: millis(rng.within(0, 60)),
            tell: millis(rng.within(1, 300)),
            beats: vec![Beat::Work(millis(rng.within(100, 8000)))],
            deaf: millis(rng.within(1, 300)),
            collapse: rng.chance(300),
            ..Script::default()
        };
        if self.calm {
            return script;
        }
        script.dies_on_start = rng.chance(60);
        if rng.chance(25) {
            script.start = None;
        }
        if rng.chance(250) {
            script.swallow = u32::try_from(rng.within(1, 3)).unwrap_or(1);
        }
        if rng.chance(10) {
            script.swallow = 50;
        }
        if rng.chance(40) {
            script.paste = millis(rng.within(200, 12_000));
        }
        script.dies_on_prompt = rng.chance(60);
        if rng.chance(60) {
            script.deaf = millis(rng.within(1000, 20_000));
        }
        let work = Beat::Work(millis(rng.within(100, 20_000)));
        match rng.below(20) {
            0 | 1 => script.beats.extend([Beat::Permission, work]),
            2 => script.beats.push(Beat::Background(millis(rng.within(500, 9000)))),
            3 | 4 => script.beats.push(Beat::ServerError),
            5 => script.beats.extend([Beat::Limit(millis(rng.within(1000, 30_000))), work]),
            10 => script.beats.extend([Beat::Quote(millis(rng.within(100, 3000))), work]),
            6 | 7 => script.beats.push(Beat::Die(Exit::Signal(11))),
            8 => script.beats.push(Beat::Stall),
            9 => script.beats = vec![Beat::Work(millis(5))],
            _ => {}
        }
        script
    }
}
