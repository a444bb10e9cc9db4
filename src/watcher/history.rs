//! Keeps what each evidence source of one incarnation last reported, so that newer reports replace older ones.
//! Takes signals of structured sources as they are read, and looks at title and screen; returns the state of the last
//! turn, and what status file, title and screen say now. Pure. The rules are in the head of `classify`.

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};

use crate::{
    model::evidence::{Failure, Look, Meaning, Signal, Source},
    watcher::shown::{ScreenLimit, Shown, is_of_account, limit_of},
};

/// Reports of one moment may have timestamps this far apart: a hook's is the start of its process, a record's the time
/// of the event. Measured 0.2 s for Claude Code 2.1.329 on an idle machine; chosen for a loaded one.
pub const MOMENT: Duration = Duration::from_secs(2);
/// Chosen: more commands than anybody counts on a screen.
const MOST_SHELLS: usize = 100;
/// How long an agent's transcript may take to contain the end of a turn that a hook reported. Measured: up to a second
/// (Claude Code).
const RECORDED_WITHIN: Duration = Duration::from_secs(1);
/// The same where the hook lacked the agent's last message (Claude Code 2.0.76) and the result waits for it. Chosen:
/// rather late than without its text.
const MESSAGE_WITHIN: Duration = Duration::from_secs(5);
/// How long a status file may say idle while a prompt counts as accepted, before it is believed. In Claude Code,
/// Escape before the first word of an answer withdraws the prompt without any report. Chosen: the file follows its
/// state within 0.2 s.
pub const END_WITHIN: Duration = Duration::from_secs(5);
/// The same for an agent without a status file, whose title and screen look idle. Chosen: three times as long, as both
/// may pause while it works.
pub const LOOKS_IDLE_WITHIN: Duration = Duration::from_secs(15);

/// Whether so much time has passed since `at`. A clock that was set back must not make anybody wait for `at` to come again.
pub(super) fn passed(at: Timestamp, time: Duration, now: Timestamp) -> bool {
    now.duration_since(at).abs() >= SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX)
}

fn within_a_moment(a: Timestamp, b: Timestamp) -> bool {
    !passed(a, MOMENT, b)
}

/// What one source of events (hooks, transcript) reported of the last turn it knows. Its order is the order of its
/// file, whatever the timestamps.
#[derive(Debug, Clone, Default, PartialEq)]
struct Told {
    /// The prompt that began it.
    began: Option<Signal>,
    /// When the turn before it began.
    before: Option<Timestamp>,
    /// The last sign of work.
    works: Option<Signal>,
    /// A question, not known to be answered.
    asks: Option<Signal>,
    end: Option<Signal>,
}

impl Told {
    fn take(&mut self, signal: &Signal) {
        match &signal.meaning {
            Meaning::PromptTaken { .. } => {
                *self =
                    Self { before: self.began.as_ref().map(|s| s.at), began: Some(signal.clone()), ..Self::default() };
            }
            Meaning::Busy => {
                self.asks = None;
                self.works = Some(signal.clone());
            }
            Meaning::Waiting { .. } => self.asks = Some(signal.clone()),
            Meaning::TurnEnded { .. } | Meaning::TurnFailed { .. } | Meaning::Interrupted => {
                self.asks = None;
                self.end = Some(signal.clone());
            }
            Meaning::Idle | Meaning::Started { .. } | Meaning::Used { .. } | Meaning::Exited { .. } => {}
        }
    }

    /// Its last word. A command of the turn that ends after it (a terminal in the background) begins no other turn.
    fn last(&self) -> Option<&Signal> {
        self.asks.as_ref().or(self.end.as_ref()).or(self.works.as_ref()).or(self.began.as_ref())
    }

    /// Whether it reports on the turn that began at `newest` by another source; its own last turn began at `before`.
    fn knows(&self, newest: Timestamp, before: Option<Timestamp>) -> bool {
        let later = [&self.end, &self.asks].into_iter().flatten().any(|signal| signal.at >= newest);
        let same = self.began.as_ref().is_some_and(|began| {
            let off = began.at.duration_since(newest).abs();
            let nearer = before.is_none_or(|before| off < began.at.duration_since(before).abs());
            began.at >= newest || (within_a_moment(began.at, newest) && nearer)
        });
        later || same
    }
}

/// State of the last turn, by hooks and transcript.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Turn<'a> {
    /// No turn was reported.
    Untold,
    /// At work, by its prompt or a later sign of work.
    Open(&'a Signal),
    /// It waits for an answer.
    Asks(&'a Signal),
    Ended(&'a Signal),
    /// Its prompt was accepted, no end was reported, and for a while the agent has been idle by its status file, or by
    /// title and screen. The signal is the prompt's.
    TakenBack(&'a Signal),
}

impl<'a> Turn<'a> {
    pub(super) fn signal(self) -> Option<&'a Signal> {
        match self {
            Self::Untold => None,
            Self::Open(signal) | Self::Asks(signal) | Self::Ended(signal) | Self::TakenBack(signal) => Some(signal),
        }
    }
}

/// What is remembered of one incarnation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    told: BTreeMap<Source, Told>,
    /// What status file, title and screen say now.
    levels: BTreeMap<Source, Signal>,
    pub conversation: Option<String>,
    /// Since when screen and title have looked idle without a break.
    pub(super) idle_look_since: Option<Timestamp>,
    /// A busy look was seen since the last prompt.
    pub(super) was_busy: bool,
    /// Since when it is watched; what happened before was not seen.
    pub(super) watched_since: Option<Timestamp>,
    /// A prompt was taken by this incarnation.
    prompted: bool,
    /// Since when a dialog has been on the screen; kept until something shows that it is gone.
    pub(super) asked_since: Option<Timestamp>,
    /// Commands running in the background, as the screen counts them.
    pub(super) shells_shown: u32,
    /// A limit that only the screen shows.
    shown: Shown,
}

impl History {
    /// Takes a signal of a structured source.
    pub fn absorb(&mut self, signal: &Signal) {
        match &signal.meaning {
            Meaning::Started { conversation } => self.conversation = Some(conversation.clone()),
            Meaning::Exited { conversation } => {
                if conversation.is_some() {
                    self.conversation.clone_from(conversation);
                }
            }
            Meaning::Used { .. } => {}
            Meaning::Idle
            | Meaning::Busy
            | Meaning::PromptTaken { .. }
            | Meaning::Waiting { .. }
            | Meaning::TurnEnded { .. }
            | Meaning::TurnFailed { .. }
            | Meaning::Interrupted => {
                let taken = matches!(signal.meaning, Meaning::PromptTaken { .. });
                if taken {
                    self.prompted = true;
                    if !matches!(self.turn_told(), Turn::Ended(end) if end.at > signal.at) {
                        self.was_busy = false;
                    }
                }
                if taken || signal.meaning == Meaning::Busy {
                    self.shown.works();
                }
                match signal.source {
                    Source::Hook | Source::Transcript | Source::Process => {
                        self.told.entry(signal.source).or_default().take(signal);
                    }
                    Source::StatusFile | Source::Title | Source::Screen => {
                        self.levels.insert(signal.source, signal.clone());
                    }
                }
            }
        }
    }

    /// Takes a look at title and screen.
    pub fn see(&mut self, look: &Look, now: Timestamp) {
        self.watched_since.get_or_insert(now);
        self.shells_shown = look.shells;
        self.levels.remove(&Source::Title);
        self.levels.remove(&Source::Screen);
        for signal in &look.signals {
            self.levels.entry(signal.source).or_insert_with(|| signal.clone());
        }
        self.forget_answered(look, now);
        let busy = look.signals.iter().any(|s| matches!(s.meaning, Meaning::Busy | Meaning::Waiting { .. }));
        self.was_busy |= busy;
        if look.signals.iter().any(|s| s.meaning == Meaning::Busy) {
            self.shown.works();
        }
        if busy || !look.ready || limit_of(look).is_some() {
            self.idle_look_since = None;
        } else {
            self.idle_look_since.get_or_insert(now);
        }
    }

    /// The owner knows that this incarnation accepted a prompt: a silent agent may have been stopped before it was
    /// watched.
    pub fn had_prompt(&mut self) {
        self.shown.began();
    }

    /// Records a reading of the screen for the limit that it may show.
    pub fn read_limit(&mut self, look: &Look, now: Timestamp) {
        self.shown.read(look, now);
    }

    /// The screen's evidence of a limit: none while anything shows the agent working, or if a better source has
    /// reported how and why the turn ended. An end that left tasks in the background doesn't count: a limit may stop
    /// those.
    #[must_use]
    pub fn screen_limit(&self, confirm: u32) -> Option<ScreenLimit<'_>> {
        let at_work = self.words().any(|signal| signal.meaning == Meaning::Busy);
        let told = match self.turn_told() {
            Turn::Ended(end) => {
                !says_nothing(end) && !matches!(end.meaning, Meaning::TurnEnded { background, .. } if background > 0)
            }
            Turn::Untold | Turn::Open(_) | Turn::Asks(_) | Turn::TakenBack(_) => false,
        };
        self.shown.limit(confirm).filter(|_| !told && !at_work)
    }

    /// A dialog that has left the screen was answered, even if no hook and no record reports it.
    fn forget_answered(&mut self, look: &Look, now: Timestamp) {
        if look.signals.iter().any(|signal| matches!(signal.meaning, Meaning::Waiting { .. })) {
            self.asked_since.get_or_insert(now);
        } else if (look.ready || look.signals.iter().any(|s| matches!(s.meaning, Meaning::Busy)))
            && self.asked_since.take().is_some()
        {
            self.told.values_mut().for_each(|told| told.asks = None);
        }
    }

    /// The last turn, by reports alone.
    fn turn_told(&self) -> Turn<'_> {
        let newest = self.told.values().filter_map(|told| Some((told.began.as_ref()?.at, told.before)));
        let newest = newest.max_by_key(|(at, _)| *at);
        let heard = self.told.iter().filter(|(_, told)| newest.is_none_or(|(at, before)| told.knows(at, before)));
        let heard: Vec<&Told> = heard.map(|(_, told)| told).collect();
        let every = |word: fn(&Told) -> Option<&Signal>| heard.iter().filter_map(move |told| word(told));
        let asks = every(|told| told.asks.as_ref()).max_by_key(|signal| signal.at);
        let asks = asks.filter(|asks| {
            let old = newest.is_some_and(|(at, _)| asks.at < at && !within_a_moment(asks.at, at));
            !old && !every(|told| told.works.as_ref()).any(|works| works.at > asks.at)
        });
        let end = best_end(every(|told| told.end.as_ref()));
        match (end, asks) {
            (Some(end), Some(asks)) if asks.at > end.at => Turn::Asks(asks),
            (Some(end), Some(_) | None) => Turn::Ended(end),
            (None, Some(asks)) => Turn::Asks(asks),
            (None, None) => {
                let began = every(|told| told.began.as_ref()).chain(every(|told| told.works.as_ref()));
                began
                    .min_by_key(|signal| (signal.meaning == Meaning::Busy, signal.source))
                    .map_or(Turn::Untold, Turn::Open)
            }
        }
    }

    /// The last turn. An idle agent contradicts an accepted prompt whose end nobody reported.
    pub(super) fn turn(&self, now: Timestamp) -> Turn<'_> {
        let told = self.turn_told();
        let Turn::Open(open) = told else { return told };
        let idle = match self.status() {
            Some(Signal { meaning: Meaning::Idle, at, .. }) => passed(open.at.max(*at), END_WITHIN, now),
            Some(_) => false,
            None => {
                let since = self.idle_look_since.filter(|_| matches!(open.meaning, Meaning::PromptTaken { .. }));
                since.is_some_and(|since| passed(open.at.max(since), LOOKS_IDLE_WITHIN, now))
            }
        };
        if !idle {
            return told;
        }
        // Stamped a moment before its own beginning.
        let ends = self.told.values().filter_map(|told| told.end.as_ref());
        best_end(ends.filter(|end| within_a_moment(end.at, open.at))).map_or(Turn::TakenBack(open), Turn::Ended)
    }

    pub(super) fn status(&self) -> Option<&Signal> {
        self.levels.get(&Source::StatusFile)
    }

    /// The dialog that title or screen show now.
    pub(super) fn dialog(&self) -> Option<&Signal> {
        let looks = [Source::Screen, Source::Title].into_iter().filter_map(|source| self.levels.get(&source));
        looks.into_iter().find(|signal| matches!(signal.meaning, Meaning::Waiting { .. }))
    }

    /// What title and screen say best, an exit and a failure before work before rest.
    pub(super) fn look(&self) -> Option<&Signal> {
        self.levels.get(&Source::Title).or_else(|| self.levels.get(&Source::Screen))
    }

    pub(super) fn looks_busy(&self) -> bool {
        [Source::Title, Source::Screen]
            .iter()
            .any(|source| self.levels.get(source).is_some_and(|signal| signal.meaning == Meaning::Busy))
    }

    pub(super) fn on_screen(&self) -> Option<&Meaning> {
        self.levels.get(&Source::Screen).map(|signal| &signal.meaning)
    }

    /// Commands that outlive the last turn: by its hook's report, or their number on the screen.
    pub(super) fn shells(&self) -> Vec<String> {
        let mut left = match self.turn_told() {
            Turn::Ended(Signal { meaning: Meaning::TurnEnded { shells, .. }, .. }) => shells.clone(),
            Turn::Untold | Turn::Open(_) | Turn::Asks(_) | Turn::Ended(_) | Turn::TakenBack(_) => return Vec::new(),
        };
        let shown = usize::try_from(self.shells_shown).unwrap_or(0);
        left.resize(left.len().max(shown.min(MOST_SHELLS)), String::new());
        left
    }

    pub(super) fn hears_hooks(&self) -> bool {
        self.told.contains_key(&Source::Hook)
    }

    /// When the last turn began, as far as reported.
    pub(super) fn began(&self) -> Option<Timestamp> {
        self.told.values().filter_map(|told| Some(told.began.as_ref()?.at)).max()
    }

    /// Whether the last turn's end is in the transcript, or has had its time to get there. Claude Code runs its hook
    /// before its last records are on disk (0.1 s on 2.1.329): tokens read at once, or a kill, would miss them.
    #[must_use]
    pub fn recorded(&self, now: Timestamp) -> bool {
        let Turn::Ended(end) = self.turn_told() else { return true };
        let within = match &end.meaning {
            Meaning::TurnEnded { message: None, .. } => MESSAGE_WITHIN,
            _ => RECORDED_WITHIN,
        };
        passed(end.at, within, now) || self.told.get(&Source::Transcript).is_some_and(|told| told.end.is_some())
    }

    /// Whether this incarnation has accepted a prompt: by its report or, if it doesn't report (`tells`), because it was
    /// seen working.
    #[must_use]
    pub fn has_begun(&self, tells: bool) -> bool {
        self.prompted || self.told.values().any(|told| told.end.is_some()) || (!tells && self.was_busy)
    }

    /// When its last turn ended, by its own word.
    #[must_use]
    pub fn ended_at(&self) -> Option<Timestamp> {
        match self.turn_told() {
            Turn::Ended(end) => Some(end.at),
            Turn::Untold | Turn::Open(_) | Turn::Asks(_) | Turn::TakenBack(_) => None,
        }
    }

    /// Whether this incarnation has said that it has a prompt.
    #[must_use]
    pub fn has_taken(&self) -> bool {
        self.prompted
    }

    /// For a silent agent: its prompt counts as accepted because its screen showed it working.
    pub fn assume_busy(&mut self) {
        self.was_busy = true;
    }

    /// The last word of each source, best source first.
    pub(super) fn words(&self) -> impl Iterator<Item = &Signal> {
        let mut words: Vec<&Signal> = self.told.values().filter_map(Told::last).chain(self.levels.values()).collect();
        words.sort_by_key(|signal| signal.source);
        words.into_iter()
    }
}

/// Only that a turn came to nothing, not why: a hook may have refused the prompt.
pub(super) fn says_nothing(end: &Signal) -> bool {
    matches!(end.meaning, Meaning::TurnFailed { failure: Failure::Refused, .. })
}

/// The newest end, and of those reported within a moment the most specific. A source that knows only that the turn came
/// to nothing is overruled by one that knows that it ended.
fn best_end<'a>(ends: impl Iterator<Item = &'a Signal>) -> Option<&'a Signal> {
    let ends: Vec<&Signal> = ends.collect();
    let known = ends.iter().any(|signal| !says_nothing(signal));
    let ends = || ends.iter().copied().filter(|signal| !known || !says_nothing(signal));
    let newest = ends().map(|signal| signal.at).max()?;
    let says = |signal: &Signal| match &signal.meaning {
        meaning if is_of_account(meaning) => (3, true),
        Meaning::TurnFailed { .. } => (2, true),
        Meaning::TurnEnded { background: 1.., .. } => (1, true),
        Meaning::TurnEnded { message, .. } => (0, message.is_some()),
        Meaning::Started { .. }
        | Meaning::Idle
        | Meaning::Busy
        | Meaning::PromptTaken { .. }
        | Meaning::Waiting { .. }
        | Meaning::Interrupted
        | Meaning::Used { .. }
        | Meaning::Exited { .. } => (0, true),
    };
    ends()
        .filter(|signal| signal.at == newest || within_a_moment(signal.at, newest))
        .max_by_key(|signal| (says(signal), std::cmp::Reverse(signal.source)))
}
