//! Handing a prompt to an agent: paste, evidence that it arrived, a separate Enter, evidence that it was taken.
//! Never a blind Enter, never a blind sleep: a prompt that was not taken ends with the agent ended and the task given back.

use std::time::Duration;

use jiff::Timestamp;

use super::act::Job;
use crate::{
    model::{
        evidence::{Look, Meaning, Screen},
        ids::AgentName,
        session::Incarnation,
        task::{Run, Stop, TaskEvent},
    },
    ports::{Capture, Cursor, Key, PaneId},
};

/// Pause between two looks at a screen or a hook log while a prompt is handed over.
const LOOK_EVERY: Duration = Duration::from_millis(15);
/// How long a paste may take to show, beyond what its length needs.
const ARRIVE_WITHIN: Duration = Duration::from_secs(10);
/// After this long without evidence of having been taken, Enter is pressed again if the text still stands in the box.
const ENTER_AGAIN: Duration = Duration::from_millis(400);
/// Presses of Enter before giving up.
const ENTERS: u32 = 10;
/// How long an agent may take to say that it has a prompt whose text is gone from the box.
const TAKE_WITHIN: Duration = Duration::from_secs(30);

/// How long a person may leave text in a pool session's input box before the session is recycled.
const BOX_FREE_WITHIN: Duration = Duration::from_secs(30);

/// What became of a prompt.
enum Handed {
    Taken,
    /// It stands in the box, or nothing ever arrived: the agent surely has not begun.
    NotTaken(String),
    /// It left the box and nothing says where to.
    Doubtful(String),
}

impl Job {
    pub(super) async fn deliver(&self, run: &Run) -> Result<(), String> {
        let Some(incarnation) = self.session.phase.incarnation().cloned() else { return Ok(()) };
        let text = self.tools.agents.as_prompt(&incarnation.agent, self.prompt(run).await?);
        if !self.box_is_free(&incarnation).await {
            let why = format!("somebody's text stands in the input box of {}", self.session.name);
            let again = self.task_event(TaskEvent::TryAgain { run: run.id.clone(), why });
            return self.propose(again.into_iter().collect()).await;
        }
        let run = &Run { typed: Some(self.tools.clock.now()), ..run.clone() };
        let begun = self.task_event(TaskEvent::TypingBegun { run: run.id.clone() });
        self.propose(begun.into_iter().collect()).await?;

        if let Err(error) = self.tools.terminal.paste(&incarnation.pane, &text).await {
            return self.settle(run, Handed::NotTaken(error.to_string())).await;
        }
        let handed = match self.arrived(&incarnation.pane, Some(&incarnation.agent), &text).await {
            Ok(()) => self.press_enter(&incarnation, run, &text).await,
            Err(why) => Handed::NotTaken(why),
        };
        self.settle(run, handed).await
    }

    /// Waits for the input box to be empty: a person may be typing, and two texts in one box are neither's.
    async fn box_is_free(&self, incarnation: &Incarnation) -> bool {
        let deadline = tokio::time::Instant::now() + BOX_FREE_WITHIN;
        loop {
            match self.look(&incarnation.pane, Some(&incarnation.agent)).await {
                Some(look) if look.pasted || look.input.as_deref().is_some_and(|text| !text.trim().is_empty()) => {}
                Some(_) | None => return true,
            }
            if tokio::time::Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(ENTER_AGAIN).await;
        }
    }

    /// An earlier daemon began to type and ended.
    pub(super) async fn confirm(&self, run: &Run) -> Result<(), String> {
        let Some(incarnation) = self.session.phase.incarnation().cloned() else { return Ok(()) };
        let handed = if self.was_taken(&incarnation, run, &mut Cursor::default()).await {
            Handed::Taken
        } else {
            let text = self.prompt(run).await?;
            match self.look(&incarnation.pane, Some(&incarnation.agent)).await {
                Some(look) if look.pasted || look.input.as_deref().is_some_and(|input| shows(input, &text)) => {
                    self.press_enter(&incarnation, run, &text).await
                }
                // A person's, who would not want it sent.
                Some(look) if look.input.as_deref().is_some_and(|input| !input.trim().is_empty()) => {
                    let why = "the daemon ended while the prompt was typed, and another text stands in the input box";
                    match self.tools.agents.tells_prompts(&incarnation.agent) {
                        true => Handed::NotTaken(why.to_owned()),
                        false => Handed::Doubtful(why.to_owned()),
                    }
                }
                Some(look) if look.ready => match self.wait_taken(&incarnation, run, ENTER_AGAIN * 5).await {
                    true => Handed::Taken,
                    false if self.tools.agents.tells_prompts(&incarnation.agent) => {
                        Handed::NotTaken("the daemon ended before the prompt was typed".to_owned())
                    }
                    false => Handed::Doubtful("the daemon ended while the prompt was typed".to_owned()),
                },
                Some(_) | None => Handed::Doubtful("the daemon ended while the prompt was typed".to_owned()),
            }
        };
        self.settle(run, handed).await
    }

    async fn settle(&self, run: &Run, handed: Handed) -> Result<(), String> {
        match handed {
            Handed::Taken => {
                let taken = self.task_event(TaskEvent::Taken { run: run.id.clone() });
                self.propose(taken.into_iter().collect()).await
            }
            // The agent is ended first: what it has not taken by then it can never take.
            Handed::NotTaken(why) => {
                let why = format!("the prompt was not taken: {why}");
                let again = self.task_event(TaskEvent::TryAgain { run: run.id.clone(), why });
                self.propose(again.into_iter().collect()).await
            }
            Handed::Doubtful(why) => {
                self.end(&format!("whether the prompt was taken is not known: {why}"), false).await?;
                // The session is down with a begun run now: `decide` fails the task and says why.
                Ok(())
            }
        }
    }

    /// Waits until the pasted text shows in the agent's input box and stays the same for two looks.
    pub(super) async fn arrived(&self, pane: &PaneId, agent: Option<&AgentName>, text: &str) -> Result<(), String> {
        let deadline = tokio::time::Instant::now() + ARRIVE_WITHIN + Duration::from_micros(text.len() as u64);
        let mut before: Option<Look> = None;
        loop {
            let look = self.look(pane, agent).await;
            if let Some(look) = &look {
                let there = look.pasted || look.input.as_deref().is_some_and(|input| shows(input, text));
                if there && before.as_ref().is_some_and(|b| b.input == look.input && b.pasted == look.pasted) {
                    return Ok(());
                }
            }
            before = look;
            if tokio::time::Instant::now() >= deadline {
                return Err(format!(
                    "the text did not show in the agent's input box within {} s",
                    ARRIVE_WITHIN.as_secs()
                ));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Pastes a text into an empty box; one that it holds already is left as it is.
    pub(super) async fn put_into_box(&self, incarnation: &Incarnation, text: &str) -> Result<(), String> {
        match self.look(&incarnation.pane, Some(&incarnation.agent)).await {
            Some(look) if look.pasted || look.input.as_deref().is_some_and(|input| shows(input, text)) => Ok(()),
            Some(look) if look.input.as_deref().is_some_and(|input| !input.trim().is_empty()) => {
                Err(format!("somebody's text stands in the input box of {}", self.session.name))
            }
            Some(_) | None => {
                self.tools.terminal.paste(&incarnation.pane, text).await.map_err(|error| error.to_string())?;
                self.arrived(&incarnation.pane, Some(&incarnation.agent), text).await
            }
        }
    }

    /// Sends the text in the box, and waits for the agent's word that it has it.
    pub(super) async fn sent(&self, incarnation: &Incarnation, run: &Run, text: &str) -> Result<(), String> {
        match self.press_enter(incarnation, run, text).await {
            Handed::Taken => Ok(()),
            Handed::NotTaken(why) | Handed::Doubtful(why) => Err(why),
        }
    }

    async fn press_enter(&self, incarnation: &Incarnation, run: &Run, text: &str) -> Handed {
        for _ in 0..ENTERS {
            if self.is_stopped(run) {
                return Handed::NotTaken("it was stopped while it was typed".to_owned());
            }
            if let Err(error) = self.tools.terminal.keys(&incarnation.pane, &[Key("Enter".to_owned())]).await {
                return Handed::NotTaken(error.to_string());
            }
            if self.wait_taken(incarnation, run, ENTER_AGAIN).await {
                return Handed::Taken;
            }
            match self.look(&incarnation.pane, Some(&incarnation.agent)).await {
                // Still in the box: the Enter was swallowed. Another text there is a person's.
                Some(look) if look.pasted || look.input.as_deref().is_some_and(|input| shows(input, text)) => {}
                Some(_) | None => {
                    return if self.wait_taken(incarnation, run, TAKE_WITHIN).await {
                        Handed::Taken
                    } else {
                        Handed::Doubtful(
                            "the text left the input box and the agent does not say that it has it".to_owned(),
                        )
                    };
                }
            }
        }
        Handed::NotTaken(format!("the text still stands in the input box after {ENTERS} presses of Enter"))
    }

    /// Whether the run was told to stop since its typing began.
    fn is_stopped(&self, run: &Run) -> bool {
        let snapshot = self.tools.live.snapshot();
        let task = self.session.task.as_ref().and_then(|assignment| snapshot.tasks.get(&assignment.task));
        let present = task.and_then(|task| task.phase.run()).filter(|present| present.id == run.id);
        present.is_none_or(|present| present.stop != Stop::No)
    }

    async fn wait_taken(&self, incarnation: &Incarnation, run: &Run, within: Duration) -> bool {
        let deadline = tokio::time::Instant::now() + within;
        let mut cursor = Cursor::default();
        loop {
            if self.was_taken(incarnation, run, &mut cursor).await {
                return true;
            }
            if tokio::time::Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Evidence from the agent itself that a prompt was taken since the claim.
    pub(super) async fn was_taken(&self, incarnation: &Incarnation, run: &Run, cursor: &mut Cursor) -> bool {
        let signals = self.tools.agents.signals(incarnation, cursor).await;
        let since: Timestamp = run.heard_from();
        let told = signals.iter().any(|signal| {
            signal.at >= since
                && matches!(
                    signal.meaning,
                    Meaning::PromptTaken { .. }
                        | Meaning::Busy
                        | Meaning::TurnEnded { .. }
                        | Meaning::TurnFailed { .. }
                )
        });
        if told || self.tools.agents.tells_prompts(&incarnation.agent) {
            return told;
        }
        // An agent without such signals: its screen has to show it at work, the box empty.
        match self.look(&incarnation.pane, Some(&incarnation.agent)).await {
            Some(look) => {
                let empty = !look.pasted && look.input.as_deref().is_none_or(|text| text.trim().is_empty());
                empty
                    && look
                        .signals
                        .iter()
                        .any(|signal| matches!(signal.meaning, Meaning::Busy | Meaning::Waiting { .. }))
            }
            None => false,
        }
    }

    async fn look(&self, pane: &PaneId, agent: Option<&AgentName>) -> Option<Look> {
        let agent = agent?;
        let captured = self.tools.terminal.capture(std::slice::from_ref(pane), Capture::Plain).await.ok()?;
        let plain = captured.into_iter().next()?.ok()?;
        let screen = Screen { title: String::new(), plain };
        Some(self.tools.agents.look(agent, &screen, self.tools.clock.now()))
    }
}

/// Whether a box that may show only part of a text, wrapped, shows the end of it.
fn shows(input: &str, text: &str) -> bool {
    let squeeze = |text: &str| -> String { text.chars().filter(|c| !c.is_whitespace()).collect() };
    let (input, text) = (squeeze(input), squeeze(text));
    let tail: Vec<char> = text.chars().rev().take(40).collect();
    let tail: String = tail.into_iter().rev().collect();
    !tail.is_empty() && input.ends_with(&tail)
}

#[cfg(test)]
mod tests {
    use super::shows;

    #[test]
    fn a_wrapped_box_shows_its_text() {
        assert!(shows("do the\nthing now", "do the thing now"));
        assert!(shows("…ing\n  now please", "now please"));
        assert!(!shows("do the thi", "do the thing now"));
        assert!(!shows("", "x"));
    }
}
