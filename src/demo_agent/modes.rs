//! Fault injection: what the demo agent does wrong, and when.
//!
//! Parses words from `--mode`, `DEMO_AGENT_MODE` and `demo:` lines of a prompt into a [`Plan`] for each turn.

use std::str::FromStr;
use std::time::Duration;

use super::limits::{Kind, Refusal};

/// One way of behaving.
#[derive(Debug, Clone, PartialEq)]
pub enum Mode {
    /// Works that long before answering.
    Slow(Duration),
    /// Meets a five-hour limit that resets at this epoch second.
    Limit(Option<i64>),
    ServerError,
    /// Eats this many Enter keys after each paste.
    SwallowEnter(u32),
    /// Loses that many pastes.
    SwallowPaste(u32),
    /// Asks before it runs anything.
    Permission,
    /// Goes on in the background after the first Stop.
    Background(Duration),
    /// Redraws at 10 Hz while idle.
    Spinner,
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let (name, arg) = match word.split_once('=') {
            Some((name, arg)) => (name.trim(), Some(arg.trim())),
            None => (word.trim(), None),
        };
        let bad = |what: &str| format!("mode `{word}`: {name} takes {what}");
        let seconds = || {
            let text = arg.ok_or_else(|| bad("=SECONDS"))?;
            text.parse().ok().and_then(|s| Duration::try_from_secs_f64(s).ok()).ok_or_else(|| bad("=SECONDS"))
        };
        let plain = |mode: Mode| if arg.is_none() { Ok(mode) } else { Err(bad("no argument")) };
        match name {
            "slow" => Ok(Mode::Slow(seconds()?)),
            "limit" => {
                Ok(Mode::Limit(arg.map(str::parse).transpose().map_err(|_| bad("an epoch second, or nothing"))?))
            }
            "server-error" => plain(Mode::ServerError),
            "swallow-enter" => {
                Ok(Mode::SwallowEnter(arg.and_then(|n| n.parse().ok()).ok_or_else(|| bad("a number of keys"))?))
            }
            "swallow-paste" => {
                Ok(Mode::SwallowPaste(arg.and_then(|n| n.parse().ok()).ok_or_else(|| bad("a number of pastes"))?))
            }
            "permission" => plain(Mode::Permission),
            "background" => Ok(Mode::Background(seconds()?)),
            "spinner" => plain(Mode::Spinner),
            _ => Err(format!(
                "unknown mode `{name}`; known: slow=SECONDS limit[=EPOCH] server-error swallow-enter=N swallow-paste=N \
                 permission background=SECONDS spinner"
            )),
        }
    }
}

/// The modes a process was started with.
#[derive(Debug, Clone, Default)]
pub struct Modes {
    always: Vec<Mode>,
    /// Only until the first turn of the process has ended.
    once: Vec<Mode>,
}

impl Modes {
    /// Reads words such as `slow=2` or `once:crash`; empty words are skipped.
    pub fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut modes = Self::default();
        for word in words.into_iter().map(str::trim).filter(|word| !word.is_empty()) {
            match word.strip_prefix("once:") {
                Some(word) => modes.once.push(word.parse()?),
                None => modes.always.push(word.parse()?),
            }
        }
        Ok(modes)
    }

    /// What the next turn does. Lines `demo: MODE[=arg]` outside of code count for this prompt; later modes win.
    pub fn plan(&self, ended: usize, prompt: &str) -> Plan {
        let mut plan = self.process(ended);
        let mut code = false;
        for line in prompt.lines().map(str::trim) {
            if line.starts_with("```") {
                code = !code;
            } else if let Some(word) = line.strip_prefix("demo:").filter(|_| !code)
                && let Ok(mode) = word.trim().parse()
            {
                plan.apply(&mode);
            }
        }
        plan
    }

    /// What a turn does that takes up a task again: the refusal that the task asked for was met.
    pub fn plan_again(&self, ended: usize, prompt: &str) -> Plan {
        Plan { refused: self.process(ended).refused, ..self.plan(ended, prompt) }
    }

    /// What holds while `ended` turns have ended and no turn of its own says otherwise.
    pub fn process(&self, ended: usize) -> Plan {
        let mut plan = Plan::default();
        self.always.iter().for_each(|mode| plan.apply(mode));
        if ended == 0 {
            self.once.iter().for_each(|mode| plan.apply(mode));
        }
        plan
    }
}

/// The modes of one turn, resolved.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    pub slow: Option<Duration>,
    /// How it ends in place of an answer.
    pub refused: Option<Refusal>,
    pub permission: bool,
    pub background: Option<Duration>,
    pub swallow_enter: u32,
    pub swallow_paste: u32,
    pub spinner: bool,
}

impl Plan {
    fn apply(&mut self, mode: &Mode) {
        match *mode {
            Mode::Slow(time) => self.slow = Some(time),
            Mode::Limit(until) => self.refused = Some(Refusal { kind: Kind::FiveHour, until }),
            Mode::ServerError => self.refused = Some(Refusal { kind: Kind::Server, until: None }),
            Mode::SwallowEnter(keys) => self.swallow_enter = keys,
            Mode::SwallowPaste(pastes) => self.swallow_paste = pastes,
            Mode::Permission => self.permission = true,
            Mode::Background(time) => self.background = Some(time),
            Mode::Spinner => self.spinner = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_holds_for_the_first_turn_and_prompt_lines_for_their_own() {
        let modes = Modes::parse(["once:server-error", "", "permission"]).unwrap();
        assert_eq!(modes.plan(0, "hi").refused, Some(Refusal { kind: Kind::Server, until: None }));
        assert_eq!(modes.plan(1, "hi").refused, None);
        let plan = modes.plan(1, "do it\ndemo: limit=99\n```sh\ndemo: server-error\n```\n demo: slow=0.5");
        assert_eq!(plan.refused, Some(Refusal { kind: Kind::FiveHour, until: Some(99) }));
        assert_eq!(modes.plan_again(1, "demo: limit=99\ndemo: slow=1").refused, None);
        assert_eq!(plan.slow, Some(Duration::from_millis(500)));
        assert!(plan.permission);
    }

    #[test]
    fn bad_modes_are_told_with_what_is_known() {
        for word in ["slow", "slow=-1", "slow=x", "spinner=1", "limit=x", "swallow-enter"] {
            assert!(Modes::parse([word]).unwrap_err().contains("takes"), "{word}");
        }
        assert!(Modes::parse(["nonsense"]).unwrap_err().contains("known: slow"));
    }
}
