//! What an agent is doing, from everything its sources said.
//! In: signals in the order they came, the settings, `now`. Out: a verdict with its evidence; whether a run is over. Pure.
//!
//! The rule: the best-ranked source that says anything decides (status file, hook, transcript, title, screen). A turn that
//! failed on a limit outranks the idle look that follows it. A limit that nothing but a screen shows is the last resort:
//! see `shown`. A run is over when its turn ended with nothing left in the
//! background, or failed; an idle look alone is never the end for an agent that tells when its turns end.

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};

use crate::{
    model::{
        evidence::{Failure, Look, Meaning, Signal, Source, WaitingFor},
        session::{Activity, Verdict},
        task::{Delivery, Run},
    },
    watcher::shown::{ScreenLimit, Shown, is_limit, is_of_account, limit_of},
};

/// What the operator chose of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// `watcher.idle_timeout`.
    pub stalled_after: Duration,
    /// `quota.confirm`: readings of a screen after which a limit that only it shows is believed.
    pub confirm: u32,
}

/// How long an agent that doesn't tell about its turns has to look idle before its turn counts as ended.
const QUIET_END: Duration = Duration::from_secs(3);

/// How long an agent's transcript may take to have the end of a turn that a hook told of.
const RECORDED_WITHIN: Duration = Duration::from_secs(1);

/// How long a dialog has to stand before anybody is told of it. Claude Code throws away keys that come in the first 0.15 s
/// of a dialog (2.1.329, on an idle machine), so whoever answers on our word has to find it ready.
const STANDS_FOR: Duration = Duration::from_millis(500);
/// How long after an agent's word that it waits its screen may take to show what for.
const SHOWN_WITHIN: Duration = Duration::from_secs(2);

/// How long an agent may say that it is idle, with a prompt taken and no end of the turn told, before a person is asked.
/// Escape before the first word of an answer takes the prompt back at Claude Code, and nothing tells of it.
const END_WITHIN: Duration = Duration::from_secs(5);

/// What is remembered of one incarnation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    /// The last state each source told.
    states: BTreeMap<Source, Signal>,
    /// The last end of a turn, unless a prompt was taken since.
    turn: Option<Signal>,
    pub conversation: Option<String>,
    /// Since when screen and title have looked idle without a break.
    idle_look_since: Option<Timestamp>,
    /// A busy look was seen since the last prompt.
    was_busy: bool,
    /// Since when it is watched; what happened before was not seen.
    watched_since: Option<Timestamp>,
    /// A prompt was taken by this incarnation.
    prompted: bool,
    /// Since when a dialog has been on the screen; kept until something shows that it is gone.
    asked_since: Option<Timestamp>,
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
            Meaning::Idle | Meaning::Waiting { .. } => {
                self.states.insert(signal.source, signal.clone());
            }
            Meaning::Busy => {
                self.states.insert(signal.source, signal.clone());
                self.shown.works();
            }
            Meaning::PromptTaken { .. } => {
                // A transcript is written late: its record of a prompt may come after the hook that tells of the end.
                if self.turn.as_ref().is_none_or(|turn| turn.at <= signal.at) {
                    self.turn = None;
                    self.was_busy = false;
                }
                self.states.insert(signal.source, signal.clone());
                self.prompted = true;
                self.shown.works();
            }
            // Says nothing of what the agent does.
            Meaning::Used { .. } => {}
            Meaning::TurnEnded { .. } | Meaning::TurnFailed { .. } | Meaning::Interrupted => {
                // No hook tells of an interrupt, so an earlier hook's word would stand for ever.
                if matches!(signal.meaning, Meaning::Interrupted)
                    && self.states.get(&Source::Hook).is_some_and(|hook| hook.at <= signal.at)
                {
                    self.states.remove(&Source::Hook);
                }
                // Two sources tell of the same end: the better one's word stays. But Claude Code 2.0.76 runs its hook for an
                // end on a limit, too, and only its record says on what.
                let better = self.turn.as_ref().is_some_and(|known| match (&known.meaning, &signal.meaning) {
                    (Meaning::TurnEnded { .. }, failed) if is_limit(failed) && is_record_of(signal, known) => false,
                    (failed, Meaning::TurnEnded { .. }) if is_limit(failed) && is_record_of(known, signal) => true,
                    (known_end, _) => known.source < signal.source && is_end(known_end),
                });
                if !better {
                    self.turn = Some(signal.clone());
                }
                self.states.insert(signal.source, signal.clone());
            }
        }
    }

    /// Takes a look at title and screen; answers whether anything is different from before.
    pub fn see(&mut self, look: &Look, now: Timestamp) -> bool {
        self.watched_since.get_or_insert(now);
        let before = (self.states.get(&Source::Title).cloned(), self.states.get(&Source::Screen).cloned());
        self.states.remove(&Source::Title);
        self.states.remove(&Source::Screen);
        for signal in &look.signals {
            self.states.entry(signal.source).or_insert_with(|| signal.clone());
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
        let kind = |signal: &Option<Signal>| signal.as_ref().map(|s| (s.rule.clone(), s.meaning.clone()));
        let after = (self.states.get(&Source::Title).cloned(), self.states.get(&Source::Screen).cloned());
        (kind(&before.0), kind(&before.1)) != (kind(&after.0), kind(&after.1))
    }

    /// The owner knows that this incarnation took a prompt: an agent that tells nothing may have been stopped before it was watched.
    pub fn had_prompt(&mut self) {
        self.shown.began();
    }

    /// Takes a reading of the screen as it stands now, for the limit that it may show.
    pub fn read_limit(&mut self, look: &Look, now: Timestamp) {
        self.shown.read(look, now);
    }

    /// What the screen alone says of a limit: nothing while anything says that the agent is at work, or when a better source
    /// has told how the turn ended. One that left tasks in the background is not the end: a limit may stop those.
    #[must_use]
    pub fn screen_limit(&self, confirm: u32) -> Option<ScreenLimit<'_>> {
        let at_work = self.states.values().any(|signal| signal.meaning == Meaning::Busy);
        let told = |turn: &Signal| !matches!(turn.meaning, Meaning::TurnEnded { background, .. } if background > 0);
        self.shown.limit(confirm).filter(|_| !self.turn.as_ref().is_some_and(told) && !at_work)
    }

    /// A dialog that was on the screen and is gone has been answered, though no hook and no record tells of it.
    fn forget_answered(&mut self, look: &Look, now: Timestamp) {
        let asks = |signal: &Signal| matches!(signal.meaning, Meaning::Waiting { .. });
        if look.signals.iter().any(asks) {
            self.asked_since.get_or_insert(now);
        } else if look.ready || look.signals.iter().any(|s| matches!(s.meaning, Meaning::Busy)) {
            if self.asked_since.take().is_none() {
                return;
            }
            // What is read again tells itself.
            let by_event = |source: &Source| match source {
                Source::Hook | Source::Transcript => true,
                Source::Process | Source::StatusFile | Source::Title | Source::Screen => false,
            };
            self.states.retain(|source, signal| !(by_event(source) && asks(signal)));
        }
    }

    /// Whether the dialog that an agent tells of stands on its screen, or has had its time to get there.
    fn shown(&self, told: &Signal, now: Timestamp) -> bool {
        let for_as_long = |since: Timestamp, time: Duration| {
            now.duration_since(since) >= SignedDuration::try_from(time).unwrap_or_default()
        };
        for_as_long(told.at, SHOWN_WITHIN) || self.asked_since.is_some_and(|since| for_as_long(since, STANDS_FOR))
    }

    /// A prompt was taken, no end of its turn was told, and the agent has said for a while that it is idle.
    fn is_taken_back(&self, told: &Signal, now: Timestamp) -> bool {
        let prompt = |source| self.states.get(&source).filter(|s| matches!(s.meaning, Meaning::PromptTaken { .. }));
        let idle = matches!(told.meaning, Meaning::Idle) && told.source == Source::StatusFile;
        let waited = now.duration_since(told.at) >= SignedDuration::try_from(END_WITHIN).unwrap_or_default();
        self.turn.is_none() && idle && waited && prompt(Source::Hook).is_some_and(|prompt| prompt.at <= told.at)
    }

    /// Whether the last turn's end is in the transcript, or has had its time to get there. Claude Code runs its hook
    /// before its last records are on disk (0.1 s on 2.1.329): tokens read at once, or a kill, would miss them.
    #[must_use]
    pub fn recorded(&self, now: Timestamp) -> bool {
        let Some(turn) = &self.turn else { return true };
        let late = now.duration_since(turn.at) >= SignedDuration::try_from(RECORDED_WITHIN).unwrap_or_default();
        late || self.states.get(&Source::Transcript).is_some_and(|signal| is_end(&signal.meaning))
    }

    /// Whether this incarnation has taken a prompt: by its own word, or, where it `tells` none, because it was seen at work.
    #[must_use]
    pub fn has_begun(&self, tells: bool) -> bool {
        self.prompted || self.turn.is_some() || (!tells && self.was_busy)
    }

    /// For an agent that tells nothing: its prompt counted as taken because its screen showed it at work.
    pub fn assume_busy(&mut self) {
        self.was_busy = true;
    }

    fn on_screen(&self) -> Option<&Meaning> {
        self.states.get(&Source::Screen).map(|signal| &signal.meaning)
    }

    /// Evidence, best first.
    fn evidence(&self) -> Vec<Signal> {
        self.states.values().cloned().collect()
    }
}

/// Whether a record is of the end that a hook tells of.
fn is_record_of(record: &Signal, hook: &Signal) -> bool {
    let apart = hook.at.duration_since(record.at).abs();
    let near = apart <= SignedDuration::try_from(RECORDED_WITHIN).unwrap_or_default();
    near && (record.source, hook.source) == (Source::Transcript, Source::Hook)
}

fn is_end(meaning: &Meaning) -> bool {
    match meaning {
        Meaning::TurnEnded { .. } | Meaning::TurnFailed { .. } | Meaning::Interrupted => true,
        Meaning::Started { .. }
        | Meaning::Idle
        | Meaning::Busy
        | Meaning::PromptTaken { .. }
        | Meaning::Waiting { .. }
        | Meaning::Used { .. }
        | Meaning::Exited { .. } => false,
    }
}

/// The verdict. `last_change` is when anything at all last changed at the agent.
#[must_use]
pub fn classify(
    history: &History,
    at_task: bool,
    ready: bool,
    last_change: Timestamp,
    settings: Settings,
    now: Timestamp,
) -> Verdict {
    let stalled_after = settings.stalled_after;
    let mut evidence = history.evidence();
    let limit = history.turn.as_ref().filter(|turn| is_of_account(&turn.meaning));
    let on_screen = match history.screen_limit(settings.confirm) {
        Some(ScreenLimit::Believed(signal)) => Some(signal),
        Some(ScreenLimit::Suspected(_)) | None => None,
    };
    if let Some(limit) = limit.or(on_screen) {
        evidence.retain(|signal| signal != limit && (on_screen.is_none() || signal.source != Source::Screen));
        evidence.insert(0, limit.clone());
        return Verdict { activity: Activity::Limited, since: limit.at, evidence, last_change };
    }
    // Somebody stopped the turn of a task in the middle: what comes next is a person's to say.
    let told = history.turn.as_ref().map(|turn| &turn.meaning).or_else(|| history.on_screen());
    let interrupted = matches!(told, Some(Meaning::Interrupted));
    let Some(best) = evidence.first() else {
        let activity = if ready { Activity::Idle } else { Activity::Unknown };
        return Verdict { activity, since: now, evidence, last_change };
    };
    let since = best.at;
    let stopped = at_task && (interrupted || history.is_taken_back(best, now));
    let activity = match &best.meaning {
        Meaning::Waiting { what } if history.shown(best, now) => Activity::Waiting(*what),
        Meaning::Waiting { .. } | Meaning::Busy | Meaning::PromptTaken { .. } => {
            working(last_change, stalled_after, now)
        }
        Meaning::TurnEnded { background: 1.., .. } => working(last_change, stalled_after, now),
        // An agent may say that it is idle before its box can be typed into.
        Meaning::Idle
        | Meaning::Interrupted
        | Meaning::TurnEnded { background: 0, .. }
        | Meaning::TurnFailed { .. } => match (stopped, ready) {
            (true, true | false) => Activity::Waiting(WaitingFor::Question),
            (false, true) => Activity::Idle,
            (false, false) => Activity::Unknown,
        },
        Meaning::Started { .. } | Meaning::Used { .. } | Meaning::Exited { .. } => Activity::Unknown,
    };
    Verdict { activity, since, evidence, last_change }
}

fn working(last_change: Timestamp, stalled_after: Duration, now: Timestamp) -> Activity {
    let quiet = now.duration_since(last_change);
    if quiet >= SignedDuration::try_from(stalled_after).unwrap_or(SignedDuration::MAX) {
        Activity::Stalled
    } else {
        Activity::Working
    }
}

/// How a run is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Over {
    /// The agent's last message, where it gave one.
    Done { message: Option<String> },
    /// The turn failed on its own account; trying again may help.
    Server { error: String },
    /// The turn failed and trying again won't help.
    Failed { error: String },
}

/// How long a transcript's word that a turn has ended waits for the hook of an agent whose hooks are heard: only the hook
/// tells of work in the background. Claude Code's records may be written before or up to a second after it.
const HOOK_MAY_FOLLOW: Duration = Duration::from_secs(10);

/// Whether the end of a turn may be believed yet.
fn is_settled(history: &History, turn: &Signal, now: Timestamp) -> bool {
    if turn.source <= Source::Hook {
        return true;
    }
    let busy = history.states.get(&Source::StatusFile).is_some_and(|status| matches!(status.meaning, Meaning::Busy));
    let failed = matches!(turn.meaning, Meaning::TurnFailed { .. });
    let hooks_heard = history.states.contains_key(&Source::Hook);
    let waited = now.duration_since(turn.at) >= SignedDuration::try_from(HOOK_MAY_FOLLOW).unwrap_or_default();
    !busy && (failed || !hooks_heard || waited)
}

/// Whether the agent ended a turn since the run's prompt was typed: then it had taken it, whoever has told of that.
#[must_use]
pub fn was_taken(history: &History, run: &Run) -> bool {
    let ended = history.turn.as_ref().is_some_and(|turn| turn.at >= run.heard_from());
    ended && run.typed.is_some() && matches!(run.delivery, Delivery::Begun)
}

/// Whether a taken run is over. `tells` says that the agent tells when its turns end.
#[must_use]
pub fn over(history: &History, run: &Run, tells: bool, now: Timestamp) -> Option<Over> {
    let Delivery::Taken { at: taken } = &run.delivery else { return None };
    if let Some(turn) = history.turn.as_ref().filter(|turn| turn.at >= run.heard_from()) {
        if !is_settled(history, turn, now) {
            return None;
        }
        return match &turn.meaning {
            Meaning::TurnEnded { message, background: 0 } => Some(Over::Done { message: message.clone() }),
            Meaning::TurnFailed { failure, message } => match failure {
                // The task waits with its session: nothing about it failed.
                Failure::Limit(_) | Failure::Login => None,
                Failure::Server => Some(Over::Server { error: message.clone() }),
                Failure::Request | Failure::Unknown => Some(Over::Failed { error: message.clone() }),
            },
            Meaning::TurnEnded { background: 1.., .. }
            | Meaning::Interrupted
            | Meaning::Started { .. }
            | Meaning::Idle
            | Meaning::Busy
            | Meaning::PromptTaken { .. }
            | Meaning::Waiting { .. }
            | Meaning::Used { .. }
            | Meaning::Exited { .. } => None,
        };
    }
    if tells {
        return None;
    }
    let quiet = SignedDuration::try_from(QUIET_END).unwrap_or_default();
    // A turn that was taken before an earlier daemon ended may be over since: no busy look will come any more.
    let unseen = history.watched_since.is_some_and(|since| since > *taken);
    let since = history.idle_look_since.filter(|_| history.was_busy || unseen)?.max(*taken);
    if now.duration_since(since) < quiet {
        return None;
    }
    // Nothing but its screen tells how the turn of such an agent ended.
    match history.on_screen() {
        Some(Meaning::TurnFailed { failure: Failure::Server, message }) => {
            Some(Over::Server { error: message.clone() })
        }
        Some(Meaning::TurnFailed { message, .. }) => Some(Over::Failed { error: message.clone() }),
        Some(Meaning::Interrupted) => None,
        Some(
            Meaning::TurnEnded { .. }
            | Meaning::Started { .. }
            | Meaning::Idle
            | Meaning::Busy
            | Meaning::PromptTaken { .. }
            | Meaning::Waiting { .. }
            | Meaning::Used { .. }
            | Meaning::Exited { .. },
        )
        | None => Some(Over::Done { message: None }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        ids::{AgentName, RunId, SessionName},
        limit::{Limit, LimitKind},
        task::{Stop, TextFacts},
    };

    const SETTINGS: Settings = Settings { stalled_after: Duration::from_secs(100), confirm: 2 };

    fn limit() -> Failure {
        Failure::Limit(Limit { kind: LimitKind::FiveHour, resets_at: None })
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).expect("time")
    }

    fn signal(source: Source, seconds: i64, meaning: Meaning) -> Signal {
        Signal { at: at(seconds), source, rule: "r".into(), text: "t".into(), meaning }
    }

    fn run() -> Run {
        Run {
            id: RunId("r".into()),
            session: SessionName::parse("s").expect("name"),
            agent: AgentName::parse("a").expect("name"),
            accounts: Vec::new(),
            workdir: "/".into(),
            attempt: 1,
            attempts_allowed: 1,
            timeout: None,
            claimed: at(10),
            typed: None,
            delivery: Delivery::Taken { at: at(11) },
            stop: Stop::No,
            pauses: 0,
            text: TextFacts { sha256: String::new(), identity: String::new(), bytes: 0, modified: at(0) },
        }
    }

    fn history(signals: &[Signal]) -> History {
        let mut history = History::default();
        signals.iter().for_each(|signal| history.absorb(signal));
        history
    }

    fn activity(signals: &[Signal]) -> Activity {
        classify(&history(signals), true, true, at(20), SETTINGS, at(20)).activity
    }

    fn ended(background: u32) -> Meaning {
        Meaning::TurnEnded { message: Some("ok".into()), background }
    }

    fn failed(failure: Failure) -> Meaning {
        Meaning::TurnFailed { failure, message: "m".into() }
    }

    #[test]
    fn the_status_file_outranks_the_screen() {
        let mut h = history(&[signal(Source::StatusFile, 12, Meaning::Busy)]);
        let look = Look { ready: true, signals: vec![signal(Source::Screen, 20, Meaning::Idle)], ..Look::default() };
        h.see(&look, at(20));
        assert_eq!(classify(&h, true, true, at(20), SETTINGS, at(20)).activity, Activity::Working);
    }

    #[test]
    fn a_stop_with_background_work_is_not_the_end() {
        let h = history(&[signal(Source::Hook, 12, ended(1))]);
        assert_eq!(over(&h, &run(), true, at(99)), None);
        assert_eq!(activity(&[signal(Source::Hook, 12, ended(1))]), Activity::Working);
        let h = history(&[signal(Source::Hook, 12, ended(1)), signal(Source::Hook, 15, ended(0))]);
        assert_eq!(over(&h, &run(), true, at(99)), Some(Over::Done { message: Some("ok".into()) }));
    }

    #[test]
    fn a_transcript_waits_for_the_hook_that_tells_of_background_work() {
        let prompt = signal(Source::Hook, 11, Meaning::PromptTaken { prompt: None });
        let record = signal(Source::Transcript, 12, ended(0));
        let h = history(&[prompt.clone(), record.clone()]);
        assert_eq!(over(&h, &run(), true, at(13)), None);
        assert!(over(&h, &run(), true, at(22)).is_some(), "a hook that never comes is not waited for for ever");
        let h = history(&[prompt.clone(), record.clone(), signal(Source::Hook, 12, ended(1))]);
        assert_eq!(over(&h, &run(), true, at(99)), None);
        let busy = signal(Source::StatusFile, 12, Meaning::Busy);
        let h = history(&[busy, record.clone()]);
        assert_eq!(over(&h, &run(), true, at(99)), None);
        let h = history(&[record]);
        assert!(over(&h, &run(), true, at(12)).is_some(), "an agent without hooks is believed");
    }

    #[test]
    fn a_limit_parks_the_task_and_outranks_the_idle_look() {
        let signals = [signal(Source::Hook, 12, failed(limit())), signal(Source::StatusFile, 13, Meaning::Idle)];
        assert_eq!(activity(&signals), Activity::Limited);
        assert_eq!(over(&history(&signals), &run(), true, at(99)), None);
    }

    #[test]
    fn server_errors_are_never_a_limit() {
        let signals =
            [signal(Source::Hook, 12, failed(Failure::Server)), signal(Source::StatusFile, 13, Meaning::Idle)];
        assert_eq!(activity(&signals), Activity::Idle);
        assert_eq!(over(&history(&signals), &run(), true, at(99)), Some(Over::Server { error: "m".into() }));
    }

    /// An agent with a limit on its screen, after these signals, read three times.
    fn with_limit_on_screen(signals: &[Signal]) -> History {
        with_on_screen(limit(), signals)
    }

    fn with_on_screen(failure: Failure, signals: &[Signal]) -> History {
        let mut h = history(signals);
        let look = Look { ready: true, signals: vec![signal(Source::Screen, 20, failed(failure))], ..Look::default() };
        for now in 20..23 {
            h.see(&look, at(now));
            h.read_limit(&look, at(now));
        }
        h
    }

    #[test]
    fn a_limit_that_only_the_screen_shows_counts_when_nothing_better_says_otherwise() {
        let prompt = |source, at| signal(source, at, Meaning::PromptTaken { prompt: None });
        let activity = |h: &History| classify(h, true, true, at(22), SETTINGS, at(22)).activity;
        let alone = with_limit_on_screen(&[prompt(Source::Hook, 11), signal(Source::StatusFile, 13, Meaning::Idle)]);
        let verdict = classify(&alone, true, true, at(22), SETTINGS, at(22));
        assert_eq!((verdict.activity, verdict.evidence[0].source), (Activity::Limited, Source::Screen));
        assert_eq!(verdict.evidence[0].at, at(20));
        assert_eq!(over(&alone, &run(), false, at(99)), None, "the task waits with its session");

        let otherwise = [
            ("the status file says busy", signal(Source::StatusFile, 13, Meaning::Busy)),
            ("a hook tells of a good end", signal(Source::Hook, 13, ended(0))),
            ("a record tells of a good end", signal(Source::Transcript, 13, ended(0))),
            ("a hook tells of a server's error", signal(Source::Hook, 13, failed(Failure::Server))),
            ("a record tells of an interrupt", signal(Source::Transcript, 13, Meaning::Interrupted)),
        ];
        for (why, other) in otherwise {
            let h = with_limit_on_screen(&[prompt(Source::Hook, 11), other]);
            assert_ne!(activity(&h), Activity::Limited, "{why}");
            assert_eq!(h.screen_limit(2), None, "{why}");
        }
        // An end before the last prompt is of another turn.
        let h = with_limit_on_screen(&[signal(Source::Hook, 10, ended(0)), prompt(Source::Hook, 11)]);
        assert_eq!(activity(&h), Activity::Limited);
        // What a turn left in the background goes on after its end, and is stopped.
        let h = with_limit_on_screen(&[prompt(Source::Hook, 11), signal(Source::Hook, 13, ended(1))]);
        assert_eq!(activity(&h), Activity::Limited);
        // Drawn again by a resumed agent that was given nothing yet.
        assert_eq!(activity(&with_limit_on_screen(&[signal(Source::StatusFile, 13, Meaning::Idle)])), Activity::Idle);
    }

    #[test]
    fn a_login_that_only_the_screen_shows_as_lost_parks_the_task_too() {
        let h = with_on_screen(Failure::Login, &[signal(Source::Hook, 11, Meaning::PromptTaken { prompt: None })]);
        assert_eq!(classify(&h, true, true, at(22), SETTINGS, at(22)).activity, Activity::Limited);
        assert_eq!(over(&h, &run(), false, at(99)), None);
    }

    #[test]
    fn a_structured_limit_counts_at_once() {
        for source in [Source::Hook, Source::Transcript] {
            assert_eq!(activity(&[signal(source, 12, failed(limit()))]), Activity::Limited);
        }
    }

    #[test]
    fn a_record_of_a_limit_outranks_a_hook_that_tells_of_an_end_only() {
        let prompt = signal(Source::Hook, 11, Meaning::PromptTaken { prompt: None });
        let (record, stop) = (signal(Source::Transcript, 12, failed(limit())), signal(Source::Hook, 13, ended(0)));
        for signals in [[prompt.clone(), stop.clone(), record.clone()], [prompt, record.clone(), stop.clone()]] {
            assert_eq!(activity(&signals), Activity::Limited);
        }
        // Read late: the record of a turn before the last prompt.
        let next = signal(Source::Hook, 13, Meaning::PromptTaken { prompt: None });
        assert_eq!(activity(&[next, signal(Source::Hook, 14, ended(0)), record]), Activity::Idle);
    }

    #[test]
    fn an_agent_that_goes_on_by_itself_after_its_limit_is_at_work() {
        // Claude Code's own auto-continue tells of itself as a notice, then as a prompt.
        let goes_on = signal(Source::Hook, 13, Meaning::PromptTaken { prompt: None });
        assert_eq!(activity(&[signal(Source::Hook, 12, failed(limit())), goes_on]), Activity::Working);
    }

    #[test]
    fn a_turn_from_before_the_claim_is_not_this_run_s() {
        let h = history(&[signal(Source::Hook, 9, ended(0))]);
        assert_eq!(over(&h, &run(), true, at(99)), None);
    }

    #[test]
    fn a_dialog_counts_when_it_is_on_the_screen_and_until_it_is_gone() {
        let asks = Meaning::Waiting { what: WaitingFor::Permission };
        let mut h = history(&[
            signal(Source::Transcript, 11, Meaning::PromptTaken { prompt: None }),
            signal(Source::Hook, 12, asks.clone()),
        ]);
        let activity = |h: &History, now| classify(h, true, true, at(12), SETTINGS, at(now)).activity;
        assert_eq!(activity(&h, 12), Activity::Working);
        assert_eq!(activity(&h, 14), Activity::Waiting(WaitingFor::Permission));
        h.see(&Look { signals: vec![signal(Source::Screen, 12, asks)], ..Look::default() }, at(12));
        assert_eq!(activity(&h, 12), Activity::Working);
        assert_eq!(activity(&h, 13), Activity::Waiting(WaitingFor::Permission));
        // Half drawn: neither the dialog nor anything else.
        h.see(&Look::default(), at(13));
        assert_eq!(activity(&h, 14), Activity::Waiting(WaitingFor::Permission));
        h.see(&Look { signals: vec![signal(Source::Screen, 14, Meaning::Busy)], ..Look::default() }, at(14));
        assert_eq!(activity(&h, 14), Activity::Working);
    }

    #[test]
    fn the_end_of_a_turn_waits_for_its_record_but_not_for_long() {
        let hook = [signal(Source::Transcript, 11, Meaning::Busy), signal(Source::Hook, 12, ended(0))];
        assert!(!history(&hook).recorded(at(12)));
        assert!(history(&hook).recorded(at(13)));
        let mut h = history(&hook);
        // Written late, told late: the prompt of the turn that has ended.
        h.absorb(&signal(Source::Transcript, 11, Meaning::PromptTaken { prompt: None }));
        h.absorb(&signal(Source::Transcript, 12, ended(0)));
        assert!(h.recorded(at(12)));
        assert_eq!(over(&h, &run(), true, at(12)), Some(Over::Done { message: Some("ok".into()) }));
    }

    #[test]
    fn idle_looks_end_a_run_only_where_the_agent_does_not_tell() {
        let mut h = history(&[]);
        let busy = Look { ready: true, signals: vec![signal(Source::Screen, 12, Meaning::Busy)], ..Look::default() };
        let idle = Look { ready: true, ..Look::default() };
        h.see(&busy, at(12));
        h.see(&idle, at(13));
        assert_eq!(over(&h, &run(), true, at(30)), None);
        assert_eq!(over(&h, &run(), false, at(14)), None);
        assert_eq!(over(&h, &run(), false, at(30)), Some(Over::Done { message: None }));
    }

    #[test]
    fn only_the_screen_says_how_the_turn_of_an_agent_ended_that_does_not_tell() {
        let shown = |meaning: Meaning| {
            let look = Look { ready: true, signals: vec![signal(Source::Screen, 12, meaning)], ..Look::default() };
            let mut h = history(&[]);
            h.see(&Look { signals: vec![signal(Source::Screen, 11, Meaning::Busy)], ..look.clone() }, at(11));
            h.see(&look, at(12));
            (over(&h, &run(), false, at(30)), classify(&h, true, true, at(12), SETTINGS, at(30)).activity)
        };
        let failed = |failure| Meaning::TurnFailed { failure, message: "m".to_owned() };
        assert_eq!(shown(failed(Failure::Server)).0, Some(Over::Server { error: "m".to_owned() }));
        assert_eq!(shown(failed(Failure::Unknown)).0, Some(Over::Failed { error: "m".to_owned() }));
        assert_eq!(shown(failed(Failure::Login)).0, None, "the task waits until somebody has logged in");
        assert_eq!(shown(Meaning::Interrupted), (None, Activity::Waiting(WaitingFor::Question)));
        assert_eq!(shown(Meaning::Idle).0, Some(Over::Done { message: None }));
    }

    #[test]
    fn nothing_new_for_long_is_stalled() {
        let h = history(&[signal(Source::StatusFile, 1, Meaning::Busy)]);
        assert_eq!(classify(&h, true, true, at(0), SETTINGS, at(99)).activity, Activity::Working);
        assert_eq!(classify(&h, true, true, at(0), SETTINGS, at(100)).activity, Activity::Stalled);
    }

    #[test]
    fn an_interrupted_turn_waits_for_a_person() {
        assert_eq!(
            activity(&[
                signal(Source::StatusFile, 12, Meaning::Idle),
                signal(Source::Transcript, 12, Meaning::Interrupted)
            ]),
            Activity::Waiting(WaitingFor::Question)
        );
        // Taken back before the first word: nothing tells of it.
        let taken = signal(Source::Hook, 11, Meaning::PromptTaken { prompt: None });
        assert_eq!(
            activity(&[taken.clone(), signal(Source::StatusFile, 12, Meaning::Idle)]),
            Activity::Waiting(WaitingFor::Question)
        );
        assert_eq!(activity(&[taken, signal(Source::StatusFile, 16, Meaning::Idle)]), Activity::Idle);
        // Codex: no status file, and no hook tells of the interrupt.
        let prompt = Meaning::PromptTaken { prompt: None };
        let interrupted = signal(Source::Transcript, 12, Meaning::Interrupted);
        let codex = [signal(Source::Hook, 11, prompt.clone()), interrupted.clone()];
        assert_eq!(activity(&codex), Activity::Waiting(WaitingFor::Question));
        let again = [interrupted, signal(Source::Hook, 13, prompt)];
        assert_eq!(activity(&again), Activity::Working);
    }
}
