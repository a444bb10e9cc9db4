//! Types a prompt into an agent: paste, confirm that it arrived, press Enter separately, confirm that it was accepted.
//! No Enter without evidence and no fixed sleeps: if a prompt isn't accepted, the agent is stopped and the task goes
//! back to the queue.

use std::time::Duration;

use jiff::Timestamp;

use super::act::Job;
use crate::model::{
    agent::Cursor,
    evidence::{Look, Meaning, Screen},
    ids::{AgentName, SessionName},
    letters::{same, shows},
    pane::{Capture, Key, PaneId},
    session::{Incarnation, Then},
    task::{Phase, Run, Stop, TaskEvent},
};

/// Pause between two looks at a screen or a hook log during delivery. Chosen: a capture costs 0.03 ms (measured on
/// 3.3a).
const LOOK_EVERY: Duration = Duration::from_millis(15);
/// How long a paste may take to appear, beyond what its length needs. Chosen: a loaded machine draws late, and giving
/// up costs a fresh agent.
const ARRIVE_WITHIN: Duration = Duration::from_secs(10);
/// Pastes before giving up, while the box stays empty. Chosen: a program that drew its box too early listens by the
/// second.
const PASTES: u32 = 3;
/// Pause without evidence before Enter is pressed again, if the text is still in the box. Measured: Gemini CLI 0.61.0
/// swallows an Enter 20 ms after a paste and takes one after 50 ms. Chosen: a multiple of that.
const ENTER_AGAIN: Duration = Duration::from_millis(400);
/// Presses of Enter before giving up. Chosen: 4 s in all.
const ENTERS: u32 = 10;
/// How long an agent may take to report a prompt whose text has left the box. Chosen: hooks of the person's own may
/// run first.
const TAKE_WITHIN: Duration = Duration::from_secs(30);

/// How long a person's text may stay in a pool session's input box before the session is recycled. Chosen: time to
/// finish a sentence.
const BOX_FREE_WITHIN: Duration = Duration::from_secs(30);
/// How long an agent that doesn't report prompts must be up before it is typed to: Gemini CLI 0.61.0 draws its box
/// before it listens for pastes, and takes what comes then for single keys. Chosen: covers what was seen.
const LISTENS_AFTER: Duration = Duration::from_secs(1);
/// A dead program's last lines are in its hook log and transcript by then. Chosen: the hook command ends within 0.95 s
/// (`hook::LIMIT`).
const LAST_WORDS_WITHIN: Duration = Duration::from_secs(1);
/// Characters quoted of a box or a dialog. Chosen: part of one line of `why`.
const QUOTED: usize = 60;

/// An input box that is ready for a text.
pub(super) struct Free {
    /// What the agent itself shows in it.
    pub(super) ghost: Option<String>,
}

/// Why nothing can be typed.
pub(super) enum NotFree {
    /// Somebody's text is in the box.
    Draft(String),
    /// A dialog in place of the box; its words.
    Dialog(String),
    NoBox,
}

/// What became of a prompt.
enum Handed {
    Taken,
    /// It is in the box, or nothing ever arrived: the agent surely has not begun.
    NotTaken(String),
    /// It left the box and nothing says where to.
    Doubtful(String),
}

impl Job {
    pub(super) async fn deliver(&self, run: &Run) -> Result<(), String> {
        let Some(incarnation) = self.session.phase.incarnation().cloned() else { return Ok(()) };
        let Some(free) = self.wait_for_box(&incarnation, run).await? else { return Ok(()) };
        let ghost = free.ghost.as_deref();
        let text = self.hands.agents.as_prompt(&incarnation.agent, self.prompt(run).await?, ghost);
        // What it has told by now is read before: what is new from here on is of this prompt, whatever the wall's clock shows.
        let mut heard = Cursor::default();
        self.hands.agents.signals(&incarnation, &mut heard).await;
        let run = &Run { typed: Some(self.hands.clock.now()), ..run.clone() };
        let begun = self.task_event(TaskEvent::TypingBegun { run: run.id.clone() });
        self.propose(begun.into_iter().collect()).await?;

        let handed = match self.typed(&incarnation, &text, ghost).await {
            Ok(()) => self.press_enter(&incarnation, run, &text, ghost, &mut heard).await,
            Err(why) => Handed::NotTaken(why),
        };
        self.settle(run, handed).await
    }

    /// Waits until the input box is there and empty: a person may be typing, and two texts in one box are neither's; a dialog
    /// would take the text for an answer. Says meanwhile what is waited for. `None`: not this time.
    async fn wait_for_box(&self, incarnation: &Incarnation, run: &Run) -> Result<Option<Free>, String> {
        if !self.hands.agents.tells_prompts(&incarnation.agent) {
            let up = Duration::try_from(self.hands.clock.now().duration_since(self.session.since)).unwrap_or_default();
            tokio::time::sleep(LISTENS_AFTER.saturating_sub(up)).await;
        }
        let deadline = tokio::time::Instant::now() + BOX_FREE_WITHIN;
        let mut told = String::new();
        loop {
            let not_free = match self.look(&incarnation.pane, Some(&incarnation.agent)).await.map(free) {
                Some(Ok(free)) => return Ok(Some(free)),
                Some(Err(not_free)) => not_free,
                None => NotFree::NoBox,
            };
            let why = not_free.why(&self.session.name);
            if tokio::time::Instant::now() >= deadline {
                return match not_free {
                    // It is decided again; what is missing is an answer.
                    NotFree::Dialog(_) => Ok(None),
                    NotFree::Draft(_) | NotFree::NoBox => {
                        let again = self.task_event(TaskEvent::TryAgain { run: run.id.clone(), why });
                        self.propose(again.into_iter().collect()).await.map(|()| None)
                    }
                };
            }
            // A person's keys may be what makes the box free.
            if self.is_stopped(run) || self.is_asked() {
                return Ok(None);
            }
            if why != told {
                let waits = self.task_event(TaskEvent::Waits { run: run.id.clone(), why: why.clone() });
                self.propose(waits.into_iter().collect()).await?;
                told = why;
            }
            tokio::time::sleep(ENTER_AGAIN).await;
        }
    }

    /// An earlier daemon began to type and ended.
    pub(super) async fn confirm(&self, run: &Run) -> Result<(), String> {
        let Some(incarnation) = self.session.phase.incarnation().cloned() else { return Ok(()) };
        let mut heard = heard_since(run);
        let handed = if self.was_taken(&incarnation, run, &mut heard).await {
            Handed::Taken
        } else {
            let text = self.hands.agents.as_prompt(&incarnation.agent, self.prompt(run).await?, None);
            match self.look(&incarnation.pane, Some(&incarnation.agent)).await {
                Some(look) if holds(&look, &text, None) => {
                    self.press_enter(&incarnation, run, &text, None, &mut heard).await
                }
                // A person's, who would not want it sent.
                Some(look) if look.input.as_deref().is_some_and(|input| !input.trim().is_empty()) => {
                    let why = "the daemon ended while the prompt was typed, and another text stands in the input box";
                    match self.hands.agents.tells_prompts(&incarnation.agent) {
                        true => Handed::NotTaken(why.to_owned()),
                        false => Handed::Doubtful(why.to_owned()),
                    }
                }
                Some(look) if look.ready => match self.wait_taken(&incarnation, run, &mut heard, ENTER_AGAIN * 5).await
                {
                    true => Handed::Taken,
                    false if self.hands.agents.tells_prompts(&incarnation.agent) => {
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
                let why = format!("whether the prompt was taken is not known: {why}; it is not run again by itself");
                self.end(&why, Then::Start).await?;
                // The session is down with a begun run now: `decide` fails the task and says why.
                Ok(())
            }
        }
    }

    /// Pastes a text until the box shows it. One of which nothing has come is lost: a program may draw its box before it listens.
    async fn typed(&self, incarnation: &Incarnation, text: &str, ghost: Option<&str>) -> Result<(), String> {
        let (pane, agent) = (&incarnation.pane, Some(&incarnation.agent));
        let mut tries = 1;
        loop {
            self.hands.terminal.paste(pane, text).await.map_err(|error| error.to_string())?;
            let Err(why) = self.arrived(pane, agent, text, ghost).await else { return Ok(()) };
            let is_empty = self.look(pane, agent).await.is_some_and(|look| free(look).is_ok());
            if !is_empty || tries >= PASTES {
                return Err(why);
            }
            tries += 1;
            tracing::warn!(session = %self.session.name, "the prompt's paste came to nothing; it is pasted again");
        }
    }

    /// Waits until the pasted text shows in the agent's input box and stays the same for two looks.
    pub(super) async fn arrived(
        &self,
        pane: &PaneId,
        agent: Option<&AgentName>,
        text: &str,
        ghost: Option<&str>,
    ) -> Result<(), String> {
        let deadline = tokio::time::Instant::now() + ARRIVE_WITHIN + Duration::from_micros(text.len() as u64);
        let mut before: Option<Look> = None;
        loop {
            let look = self.look(pane, agent).await;
            if let Some(look) = &look {
                let stays = |b: &Look| b.input == look.input && b.ghost == look.ghost && b.pasted == look.pasted;
                if holds(look, text, ghost) && before.as_ref().is_some_and(stays) {
                    return Ok(());
                }
            }
            if tokio::time::Instant::now() >= deadline {
                let seconds = ARRIVE_WITHIN.as_secs();
                let instead = look.map_or_else(|| "its screen can't be read".to_owned(), |look| instead(&look));
                return Err(format!(
                    "the text did not show in the agent's input box within {seconds} s, so Enter was not pressed; {instead}"
                ));
            }
            before = look;
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Pastes a text into an empty box; one that it holds already is left as it is.
    pub(super) async fn put_into_box(&self, incarnation: &Incarnation, text: &str) -> Result<(), String> {
        let agent = Some(&incarnation.agent);
        let look = self.look(&incarnation.pane, agent).await;
        if look.as_ref().is_some_and(|look| holds(look, text, None)) {
            return Ok(());
        }
        match look.map_or(Err(NotFree::NoBox), free) {
            Ok(Free { ghost }) => self.typed(incarnation, text, ghost.as_deref()).await,
            Err(not_free) => Err(not_free.why(&self.session.name)),
        }
    }

    /// Sends the text in the box, and waits for the agent's word that it has it.
    pub(super) async fn sent(&self, incarnation: &Incarnation, run: &Run, text: &str) -> Result<(), String> {
        match self.press_enter(incarnation, run, text, None, &mut heard_since(run)).await {
            Handed::Taken => Ok(()),
            Handed::NotTaken(why) | Handed::Doubtful(why) => Err(why),
        }
    }

    async fn press_enter(
        &self,
        incarnation: &Incarnation,
        run: &Run,
        text: &str,
        ghost: Option<&str>,
        heard: &mut Cursor,
    ) -> Handed {
        for _ in 0..ENTERS {
            if self.is_stopped(run) {
                return Handed::NotTaken("it was stopped while it was typed".to_owned());
            }
            if let Err(error) = self.hands.terminal.keys(&incarnation.pane, &[Key("Enter".to_owned())]).await {
                return Handed::NotTaken(error.to_string());
            }
            if self.wait_taken(incarnation, run, heard, ENTER_AGAIN).await {
                return Handed::Taken;
            }
            match self.look(&incarnation.pane, Some(&incarnation.agent)).await {
                // Still in the box: the Enter was swallowed. Another text there is a person's.
                Some(look) if holds(&look, text, ghost) => {}
                Some(_) | None => return self.left_the_box(incarnation, run, heard).await,
            }
        }
        Handed::NotTaken(format!("the text still stands in the input box after {ENTERS} presses of Enter"))
    }

    /// The fate of a text that has left the box, or changed in it. An agent that reports its prompts does so before it
    /// sends anything: if it ended without a report, or shows another text or a dialog all the time, nothing was sent.
    async fn left_the_box(&self, incarnation: &Incarnation, run: &Run, heard: &mut Cursor) -> Handed {
        let deadline = tokio::time::Instant::now() + TAKE_WITHIN;
        let tells = self.hands.agents.tells_prompts(&incarnation.agent);
        loop {
            if self.wait_taken(incarnation, run, heard, ENTER_AGAIN).await {
                return Handed::Taken;
            }
            if tells && self.has_ended(incarnation).await {
                return match self.wait_taken(incarnation, run, heard, LAST_WORDS_WITHIN).await {
                    true => Handed::Taken,
                    false => Handed::NotTaken(format!(
                        "{} ended when Enter was pressed behind it, and said of no prompt; nothing was sent",
                        incarnation.agent
                    )),
                };
            }
            if tokio::time::Instant::now() >= deadline {
                let look = self.look(&incarnation.pane, Some(&incarnation.agent)).await;
                return match look.map(free) {
                    Some(Err(not_free @ (NotFree::Draft(_) | NotFree::Dialog(_)))) if tells => {
                        let why = not_free.why(&self.session.name);
                        Handed::NotTaken(format!(
                            "after Enter {why}, and the agent says of no prompt; nothing was sent"
                        ))
                    }
                    Some(_) | None => Handed::Doubtful(
                        "the text left the input box and the agent does not say that it has it".to_owned(),
                    ),
                };
            }
        }
    }

    /// Whether the agent's program is no more.
    async fn has_ended(&self, incarnation: &Incarnation) -> bool {
        let Ok(panes) = self.hands.terminal.panes().await else { return false };
        let pane = panes.into_iter().find(|pane| pane.id == incarnation.pane);
        pane.is_none_or(|pane| pane.exit.is_some())
    }

    /// Whether the run was stopped since its typing began.
    fn is_stopped(&self, run: &Run) -> bool {
        let snapshot = self.hands.live.snapshot();
        let task = self.session.task.as_ref().and_then(|assignment| snapshot.tasks.get(&assignment.task));
        let present = task.and_then(|task| task.phase.run()).filter(|present| present.id == run.id);
        present.is_none_or(|present| present.stop != Stop::No)
    }

    /// Whether a person wants something of the session.
    fn is_asked(&self) -> bool {
        let snapshot = self.hands.live.snapshot();
        snapshot.requests.values().any(|action| action.session() == Some(&self.session.name))
    }

    /// Whether the run is under way still, with no end.
    pub(super) fn is_at_work(&self, run: &Run) -> bool {
        let snapshot = self.hands.live.snapshot();
        let task = self.session.task.as_ref().and_then(|assignment| snapshot.tasks.get(&assignment.task));
        task.is_some_and(|task| matches!(&task.phase, Phase::Working(present) if present.id == run.id))
    }

    async fn wait_taken(&self, incarnation: &Incarnation, run: &Run, heard: &mut Cursor, within: Duration) -> bool {
        let deadline = tokio::time::Instant::now() + within;
        loop {
            if self.was_taken(incarnation, run, heard).await {
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
        let signals = self.hands.agents.signals(incarnation, cursor).await;
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
        if told || self.hands.agents.tells_prompts(&incarnation.agent) {
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

    pub(super) async fn look(&self, pane: &PaneId, agent: Option<&AgentName>) -> Option<Look> {
        let agent = agent?;
        let captured = self.hands.terminal.capture(std::slice::from_ref(pane), Capture::Plain).await.ok()?;
        let plain = captured.into_iter().next()?.ok()?;
        let screen = Screen { title: String::new(), plain };
        Some(self.hands.agents.look(agent, &screen, self.hands.clock.now()))
    }
}

/// Where what an agent says of a run is read from, by who was not there before it: a time that the wall's clock has shown twice is the
/// run's.
pub(super) fn heard_since(run: &Run) -> Cursor {
    Cursor { read: Some(run.heard_from()), ..Cursor::default() }
}

impl NotFree {
    fn why(&self, session: &SessionName) -> String {
        match self {
            Self::Draft(text) => format!("somebody's text stands in the input box of {session}: \"{text}\""),
            Self::Dialog(text) => format!("session {session} waits at a dialog: {text}"),
            Self::NoBox => format!("session {session} shows no input box"),
        }
    }
}

/// Whether a text can be typed, by what the screen shows.
pub(super) fn free(look: Look) -> Result<Free, NotFree> {
    let asks = look.signals.iter().find(|signal| matches!(signal.meaning, Meaning::Waiting { .. }));
    match (&look.input, look.draft(), asks) {
        (None, _, Some(asks)) => Err(NotFree::Dialog(quoted(&asks.text))),
        (None, _, None) => Err(NotFree::NoBox),
        (Some(_), Some(text), _) => Err(NotFree::Draft(quoted(text))),
        (Some(_), None, _) => Ok(Free { ghost: look.ghost }),
    }
}

/// Whether the box holds a text of ours. What looks like the agent's own is ours when something else stood there before.
fn holds(look: &Look, text: &str, before: Option<&str>) -> bool {
    let ghost = look.ghost.as_deref().filter(|ghost| before.is_none_or(|before| !same(before, ghost)));
    look.pasted || [look.input.as_deref(), ghost].into_iter().flatten().any(|shown| shows(shown, text))
}

/// What is there instead of a text.
fn instead(look: &Look) -> String {
    match free(look.clone()) {
        Ok(_) => "the box is empty".to_owned(),
        Err(NotFree::Draft(text)) => format!("the box shows \"{text}\""),
        Err(NotFree::Dialog(text)) => format!("a dialog stands there: {text}"),
        Err(NotFree::NoBox) => "there is no box".to_owned(),
    }
}

fn quoted(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(QUOTED) {
        Some((at, _)) => format!("{}…", line.get(..at).unwrap_or(&line)),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(input: &str, ghost: Option<&str>) -> Look {
        Look { ready: true, input: Some(input.to_owned()), ghost: ghost.map(str::to_owned), ..Look::default() }
    }

    #[test]
    fn a_ghost_is_one_only_where_it_stood_before() {
        let text = "Try \"fix lint errors\"";
        assert!(holds(&look("", Some(text)), text, None));
        assert!(holds(&look("", Some(text)), text, Some("Try \"edit app.py\"")));
        assert!(!holds(&look("", Some(text)), text, Some(text)));
        assert!(!holds(&look("", None), text, None));
    }

    #[test]
    fn only_an_empty_box_is_typed_into() {
        assert!(free(look(" ", Some("Try this"))).is_ok());
        assert!(matches!(free(look("draft of mine", None)), Err(NotFree::Draft(_))));
        assert!(matches!(free(Look { pasted: true, ..look("", None) }), Err(NotFree::Draft(_))));
        assert!(matches!(free(Look::default()), Err(NotFree::NoBox)));
    }
}
