//! Classifies what an agent is doing from all its evidence.
//! Takes what `history` kept, the settings and `now`; returns a verdict with its evidence. Pure.
//!
//! Time comes before rank. Hooks and transcript report *events*: from each only the last word about the newest turn
//! counts, and between the two the newer one. Status file, title and screen report *states*: they hold now, since they
//! last changed. Rank (status file, hook, transcript, title, screen) decides between reports of the same moment (2 s).
//!
//! | the events say | and now | verdict |
//! |---|---|---|
//! | ended on a limit or a lost login | the status file has not been busy since | limited |
//! | no better evidence of an end, nothing is running | only the screen shows a limit, read twice | limited (`shown`) |
//! | anything | the status file waits, for 0.5 s on the screen or 2 s in all | waiting |
//! | anything | a dialog is on the screen or in the title for 0.5 s; 5 s if the status file is busy | waiting |
//! | a question, no newer sign of work, no newer idle status file | it is on the screen for 0.5 s, or 2 s old | waiting |
//! | a question | else | working |
//! | ended | the status file is busy; without one, title or screen are: Stop hooks run, or continue the turn | working |
//! | ended, sub-agents still run | | working |
//! | ended, commands still run in the background | at a task, for `watcher.background_for` | working |
//! | interrupted | at a task | waiting (interrupted) |
//! | ended, failed, interrupted | else | idle |
//! | a prompt accepted, or work, no end | idle for 5 s by the status file; without one, for 15 s by title and screen | at a task waiting (interrupted), else idle |
//! | a prompt accepted, or work, no end | else | working |
//! | nothing | what status file, title, screen say | that |
//!
//! *Working* becomes *stalled* when nothing but the title has changed for `watcher.idle_timeout`. Among ends reported
//! within one moment, an account failure wins, then any other failure, then an end, then an end that only says that
//! the prompt had no effect. `over` decides when that ends a run.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    model::{
        evidence::{Meaning, Signal, UNKNOWN_DIALOG, WaitingFor},
        session::{Activity, Verdict},
    },
    watcher::{
        history::{History, MOMENT, Turn, passed},
        shown::{ScreenLimit, is_of_account},
    },
};

/// What the operator chose of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// `watcher.idle_timeout`.
    pub stalled_after: Duration,
    /// `watcher.background_for`.
    pub background_for: Duration,
    /// `quota.confirm`: readings of a screen after which a limit that only it shows is believed.
    pub confirm: u32,
}

/// How long a dialog must be visible before it is reported. Claude Code discards keys in the first 0.15 s of a dialog
/// (2.1.329, on an idle machine), so whoever answers must find it ready. Chosen: three times that.
const STANDS_FOR: Duration = Duration::from_millis(500);
/// The same while the agent's own status file says that it works. Chosen: the file is the better evidence, so the
/// screen has to insist.
const STANDS_FOR_AT_WORK: Duration = Duration::from_secs(5);
/// The same for a dialog that no rule knows. Chosen: a starting agent may look like one for a moment.
const STANDS_FOR_UNKNOWN: Duration = Duration::from_secs(3);
/// How long after an agent reports waiting its screen may take to show what for. Chosen: two ticks.
const SHOWN_WITHIN: Duration = Duration::from_secs(2);

/// The table's verdict, before time and place are considered.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Doing {
    Works,
    Waits(WaitingFor),
    Rests,
    /// Its turn was stopped in the middle: at a task, what comes next is a person's to say.
    Stopped,
    Unknown,
}

/// The verdict. `last_change` is when anything but the title last changed at the agent.
#[must_use]
pub fn classify(
    history: &History,
    at_task: bool,
    ready: bool,
    last_change: Timestamp,
    settings: Settings,
    now: Timestamp,
) -> Verdict {
    let verdict = |activity, best: Option<&Signal>, asked| {
        let others = history.words().filter(|signal| best != Some(*signal)).cloned();
        let evidence: Vec<Signal> = best.cloned().into_iter().chain(others).collect();
        Verdict { activity, since: best.map_or(now, |signal| signal.at), evidence, last_change, asked, draft: false }
    };
    let turn = history.turn(now);
    if let Some(limit) = limit_told(history, turn) {
        return verdict(Activity::Limited, Some(limit), None);
    }
    if let Some(ScreenLimit::Believed(limit)) = history.screen_limit(settings.confirm) {
        let mut verdict = verdict(Activity::Limited, Some(limit), None);
        // The same words again, read later.
        verdict.evidence = std::iter::once(limit.clone())
            .chain(verdict.evidence.into_iter().skip(1).filter(|signal| signal.source != limit.source))
            .collect();
        return verdict;
    }
    let (doing, best) = doing(history, turn, at_task, settings, now);
    let asked = match doing {
        Doing::Waits(_) => asked(history, turn, best),
        Doing::Works | Doing::Rests | Doing::Stopped | Doing::Unknown => None,
    };
    let activity = match (doing, at_task, ready) {
        (Doing::Waits(what), _, _) => Activity::Waiting(what),
        (Doing::Works, _, _) if passed(last_change, settings.stalled_after, now) => Activity::Stalled,
        (Doing::Works, _, _) => Activity::Working,
        (Doing::Stopped, true, _) => Activity::Waiting(WaitingFor::Interrupted),
        // An agent may say that it is idle before its box can be typed into.
        (Doing::Rests | Doing::Stopped, _, true) => Activity::Idle,
        (Doing::Rests | Doing::Stopped, _, false) | (Doing::Unknown, _, _) => Activity::Unknown,
    };
    verdict(activity, best, asked)
}

/// The account's limit or lost login on which the last turn ended.
fn limit_told<'a>(history: &History, turn: Turn<'a>) -> Option<&'a Signal> {
    let Turn::Ended(end) = turn else { return None };
    let went_on = history.status().is_some_and(|status| {
        status.meaning == Meaning::Busy && status.at > end.at && passed(end.at, MOMENT, status.at)
    });
    (is_of_account(&end.meaning) && !went_on).then_some(end)
}

/// The rows of the table, and the signal that decided.
fn doing<'a>(
    history: &'a History,
    turn: Turn<'a>,
    at_task: bool,
    settings: Settings,
    now: Timestamp,
) -> (Doing, Option<&'a Signal>) {
    let status = history.status();
    if let Some(told) = status
        && let Meaning::Waiting { what } = told.meaning
    {
        // A hook of the same moment knows better what for.
        let (best, what) = match turn {
            Turn::Asks(Signal { meaning: Meaning::Waiting { what }, at, .. }) if !passed(*at, MOMENT, told.at) => {
                (turn.signal(), *what)
            }
            _ => (Some(told), what),
        };
        let doing = if is_shown(history, told, now) { Doing::Waits(what) } else { Doing::Works };
        return (doing, best);
    }
    let busy = status.filter(|status| status.meaning == Meaning::Busy);
    let stands = |dialog: &Signal| match busy {
        Some(_) => STANDS_FOR_AT_WORK,
        None if dialog.rule == UNKNOWN_DIALOG => STANDS_FOR_UNKNOWN,
        None => STANDS_FOR,
    };
    if let Some(dialog) = history.dialog()
        && let Meaning::Waiting { what } = dialog.meaning
        && history.asked_since.is_some_and(|since| passed(since, stands(dialog), now))
    {
        let (best, what) = match turn {
            Turn::Asks(Signal { meaning: Meaning::Waiting { what }, .. }) => (turn.signal(), *what),
            _ => (Some(dialog), what),
        };
        return (Doing::Waits(what), best);
    }
    match turn {
        Turn::Asks(asks) => {
            let newer = status.filter(|status| status.at > asks.at);
            match (&asks.meaning, newer.map(|status| &status.meaning)) {
                (_, Some(Meaning::Busy)) => (Doing::Works, newer),
                (_, Some(Meaning::Idle)) => (Doing::Rests, newer),
                (Meaning::Waiting { what }, _) if is_shown(history, asks, now) => (Doing::Waits(*what), Some(asks)),
                _ => (Doing::Works, Some(asks)),
            }
        }
        Turn::Ended(end) => {
            let idle = status.filter(|status| status.meaning == Meaning::Idle);
            match &end.meaning {
                Meaning::TurnEnded { background: 1.., .. } => (Doing::Works, Some(end)),
                _ if busy.is_some() => (Doing::Works, busy),
                Meaning::TurnEnded { .. } if status.is_none() && history.looks_busy() => (Doing::Works, history.look()),
                Meaning::TurnEnded { .. } if at_task && !history.shells().is_empty() => {
                    let waits = !passed(end.at, settings.background_for, now);
                    (if waits { Doing::Works } else { Doing::Rests }, Some(end))
                }
                Meaning::Interrupted => (Doing::Stopped, idle.or(Some(end))),
                _ => (Doing::Rests, idle.or(Some(end))),
            }
        }
        Turn::TakenBack(_) => (Doing::Stopped, status.or_else(|| history.look())),
        Turn::Open(open) => (Doing::Works, busy.or(Some(open))),
        Turn::Untold => {
            let best = status.or_else(|| history.look());
            let stopped = matches!(history.on_screen(), Some(Meaning::Interrupted));
            let doing = match best.map(|signal| &signal.meaning) {
                Some(Meaning::Busy | Meaning::PromptTaken { .. } | Meaning::Waiting { .. }) => Doing::Works,
                _ if stopped => Doing::Stopped,
                Some(Meaning::Idle | Meaning::TurnEnded { .. } | Meaning::TurnFailed { .. } | Meaning::Interrupted)
                | None => Doing::Rests,
                Some(Meaning::Started { .. } | Meaning::Used { .. } | Meaning::Exited { .. }) => Doing::Unknown,
            };
            (doing, best)
        }
    }
}

/// Whether the dialog that an agent reports is on its screen, or has had its time to appear.
fn is_shown(history: &History, told: &Signal, now: Timestamp) -> bool {
    passed(told.at, SHOWN_WITHIN, now) || history.asked_since.is_some_and(|since| passed(since, STANDS_FOR, now))
}

/// What a person is asked, in the agent's own words: the command or the question of a hook, else the dialog's text.
fn asked(history: &History, turn: Turn<'_>, best: Option<&Signal>) -> Option<String> {
    let told = match turn {
        Turn::Asks(asks) => Some(asks),
        Turn::Untold | Turn::Open(_) | Turn::Ended(_) | Turn::TakenBack(_) => None,
    };
    let texts = [told, history.dialog(), best].into_iter().flatten().map(|signal| &signal.text);
    texts.into_iter().find(|text| text.contains(' ')).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{
            evidence::{Failure, Look, Source},
            limit::{Limit, LimitKind},
            samples,
            task::{Delivery, Run},
        },
        watcher::over::{Facts, Over, over as judge},
    };

    const SETTINGS: Settings =
        Settings { stalled_after: Duration::from_secs(100), background_for: Duration::ZERO, confirm: 2 };

    fn over(history: &History, run: &Run, tells: bool, now: Timestamp) -> Option<Over> {
        judge(history, run, Facts { tells, gone: false, background_for: Duration::ZERO }, now)
    }

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
        Run { claimed: at(10), delivery: Delivery::Taken { at: at(11) }, ..samples::run() }
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
        Meaning::TurnEnded { message: Some("ok".into()), background, shells: Vec::new() }
    }

    fn failed(failure: Failure) -> Meaning {
        Meaning::TurnFailed { failure, message: "m".into() }
    }

    /// Claude Code's hook calls a limit and a server's throttling alike, and runs for every end; the record of it knows more.
    #[test]
    fn a_record_that_says_more_of_the_same_end_is_believed() {
        for hook in [failed(Failure::Server), failed(Failure::Unknown), ended(0)] {
            for fact in [limit(), Failure::Login] {
                let (hook, record) =
                    (signal(Source::Hook, 12, hook.clone()), signal(Source::Transcript, 12, failed(fact)));
                assert_eq!(activity(&[hook.clone(), record.clone()]), Activity::Limited, "{hook:?}");
                assert_eq!(activity(&[record, hook.clone()]), Activity::Limited, "{hook:?}");
            }
        }
        let earlier = signal(Source::Transcript, 2, failed(limit()));
        assert_eq!(activity(&[earlier, signal(Source::Hook, 12, ended(0))]), Activity::Idle, "of another end");
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
        assert_eq!(over(&h, &run(), true, at(99)), Some(Over::Done { message: Some("ok".into()), left: Vec::new() }));
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
        // Background work outlives the turn, and is stopped.
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
        // Claude Code's auto-continue appears as a notification, then as a prompt.
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
        let plain = Meaning::TurnEnded { message: None, background: 0, shells: Vec::new() };
        let plain = [signal(Source::Transcript, 11, Meaning::Busy), signal(Source::Hook, 12, plain)];
        assert!(!history(&plain).recorded(at(16)), "its message may be in the record");
        assert!(history(&plain).recorded(at(17)));
        let mut h = history(&hook);
        // Written late, reported late: the prompt of the turn that has ended.
        h.absorb(&signal(Source::Transcript, 11, Meaning::PromptTaken { prompt: None }));
        h.absorb(&signal(Source::Transcript, 12, ended(0)));
        assert!(h.recorded(at(12)));
        assert_eq!(over(&h, &run(), true, at(12)), Some(Over::Done { message: Some("ok".into()), left: Vec::new() }));
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
        assert_eq!(over(&h, &run(), false, at(30)), Some(Over::Done { message: None, left: Vec::new() }));
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
        assert_eq!(shown(Meaning::Interrupted), (None, Activity::Waiting(WaitingFor::Interrupted)));
        assert_eq!(shown(Meaning::Idle).0, Some(Over::Done { message: None, left: Vec::new() }));
    }

    #[test]
    fn nothing_new_for_long_is_stalled() {
        let h = history(&[signal(Source::StatusFile, 1, Meaning::Busy)]);
        assert_eq!(classify(&h, true, true, at(0), SETTINGS, at(99)).activity, Activity::Working);
        assert_eq!(classify(&h, true, true, at(0), SETTINGS, at(100)).activity, Activity::Stalled);
    }

    #[test]
    fn a_turn_that_failed_without_a_hook_is_over() {
        // Codex runs no hook where its provider's server failed: the transcript's later word counts.
        let prompt = signal(Source::Hook, 11, Meaning::PromptTaken { prompt: None });
        let mut h = history(&[prompt, signal(Source::Transcript, 12, failed(Failure::Server))]);
        let idle = Look { ready: true, signals: vec![signal(Source::Title, 13, Meaning::Idle)], ..Look::default() };
        h.see(&idle, at(13));
        assert_eq!(classify(&h, true, true, at(13), SETTINGS, at(13)).activity, Activity::Idle);
        assert_eq!(over(&h, &run(), true, at(13)), Some(Over::Server { error: "m".into() }));
        // A command in the background that ends later begins no turn.
        h.absorb(&signal(Source::Transcript, 19, Meaning::Busy));
        assert_eq!(classify(&h, true, true, at(13), SETTINGS, at(20)).activity, Activity::Idle);
    }

    #[test]
    fn a_question_that_only_the_title_shows_is_told() {
        let prompt = signal(Source::Hook, 11, Meaning::PromptTaken { prompt: None });
        let mut h = history(&[prompt, signal(Source::Transcript, 11, Meaning::Busy)]);
        let asks = Meaning::Waiting { what: WaitingFor::Question };
        h.see(&Look { signals: vec![signal(Source::Title, 13, asks)], ..Look::default() }, at(13));
        let verdict = classify(&h, true, false, at(13), SETTINGS, at(14));
        assert_eq!(verdict.activity, Activity::Waiting(WaitingFor::Question));
        assert_eq!((verdict.since, verdict.evidence[0].source), (at(13), Source::Title));
    }

    #[test]
    fn a_failure_that_the_hook_calls_an_end_is_a_failure() {
        let prompt = signal(Source::Hook, 11, Meaning::PromptTaken { prompt: None });
        for (failure, expected) in [
            (Failure::Login, None),
            (limit(), None),
            (Failure::Server, Some(Over::Server { error: "m".into() })),
            (Failure::Request, Some(Over::Failed { error: "m".into() })),
        ] {
            let h = history(&[
                prompt.clone(),
                signal(Source::Hook, 13, ended(0)),
                signal(Source::Transcript, 12, failed(failure)),
            ]);
            assert_eq!(over(&h, &run(), true, at(20)), expected);
        }
    }

    #[test]
    fn a_refused_prompt_is_told_and_no_prompt() {
        let prompt = signal(Source::Hook, 11, Meaning::PromptTaken { prompt: None });
        let refused = signal(Source::Transcript, 12, failed(Failure::Refused));
        let h = history(&[prompt.clone(), refused.clone()]);
        assert_eq!(over(&h, &run(), true, at(13)), None, "the screen may say why");
        assert_eq!(over(&h, &run(), true, at(14)), Some(Over::Failed { error: "m".into() }));
        // Codex ends a turn that ran without a last word in the same way; its Stop hook has told that it ran.
        let h = history(&[prompt, signal(Source::Hook, 12, ended(0)), refused]);
        assert_eq!(over(&h, &run(), true, at(12)), Some(Over::Done { message: Some("ok".into()), left: Vec::new() }));
    }

    /// Codex 0.140 reports no error at all: its turn ends silently, and the screen has the reason.
    #[test]
    fn a_turn_that_ended_without_a_word_is_what_the_screen_says() {
        let prompt = signal(Source::Hook, 11, Meaning::PromptTaken { prompt: None });
        let told = [prompt, signal(Source::Transcript, 12, failed(Failure::Refused))];
        let shown = |meaning: Meaning| {
            let mut h = history(&told);
            let look = Look { ready: true, signals: vec![signal(Source::Screen, 12, meaning)], ..Look::default() };
            for second in [12, 13, 14] {
                h.see(&look, at(second));
                h.read_limit(&look, at(second));
            }
            (over(&h, &run(), true, at(14)), classify(&h, true, true, at(12), SETTINGS, at(14)).activity)
        };
        assert_eq!(shown(failed(limit())), (None, Activity::Limited));
        assert_eq!(shown(failed(Failure::Login)), (None, Activity::Limited));
        assert_eq!(shown(failed(Failure::Server)), (Some(Over::Server { error: "m".into() }), Activity::Idle));
        assert_eq!(shown(failed(Failure::Request)), (Some(Over::Failed { error: "m".into() }), Activity::Idle));
    }

    #[test]
    fn a_shell_in_the_background_holds_the_task_as_long_as_it_may() {
        let left = Meaning::TurnEnded { message: Some("ok".into()), background: 0, shells: vec!["npm run dev".into()] };
        let h = history(&[signal(Source::Hook, 12, left), signal(Source::StatusFile, 12, Meaning::Idle)]);
        let held = |seconds, now| {
            let background_for = Duration::from_secs(seconds);
            let facts = Facts { tells: true, gone: false, background_for };
            let settings = Settings { background_for, ..SETTINGS };
            let activity = classify(&h, true, true, at(now), settings, at(now)).activity;
            (activity, judge(&h, &run(), facts, at(now)).is_some())
        };
        assert_eq!(held(0, 12), (Activity::Idle, true));
        assert_eq!(held(10, 21), (Activity::Working, false));
        assert_eq!(held(10, 22), (Activity::Idle, true));
    }

    #[test]
    fn an_interrupted_turn_waits_for_a_person() {
        assert_eq!(
            activity(&[
                signal(Source::StatusFile, 12, Meaning::Idle),
                signal(Source::Transcript, 12, Meaning::Interrupted)
            ]),
            Activity::Waiting(WaitingFor::Interrupted)
        );
        // Withdrawn before the first word: nothing reports it.
        let taken = signal(Source::Hook, 11, Meaning::PromptTaken { prompt: None });
        assert_eq!(
            activity(&[taken.clone(), signal(Source::StatusFile, 12, Meaning::Idle)]),
            Activity::Waiting(WaitingFor::Interrupted)
        );
        assert_eq!(activity(&[taken, signal(Source::StatusFile, 16, Meaning::Idle)]), Activity::Working);
        // Codex: no status file, and no hook reports the interrupt.
        let prompt = Meaning::PromptTaken { prompt: None };
        let interrupted = signal(Source::Transcript, 12, Meaning::Interrupted);
        let codex = [signal(Source::Hook, 11, prompt.clone()), interrupted.clone()];
        assert_eq!(activity(&codex), Activity::Waiting(WaitingFor::Interrupted));
        let again = [interrupted, signal(Source::Hook, 13, prompt)];
        assert_eq!(activity(&again), Activity::Working);
    }
}
