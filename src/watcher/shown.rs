//! Believes a limit or lost login that only the screen shows: the last resort.
//! Takes looks and every sign of work; returns nothing, a suspicion, or a confirmed limit. Pure.
//!
//! The rule: it must be read after this start accepted a prompt or worked (a resumed agent redraws its old limits),
//! since the last prompt and the last sign of work, with no server error on the same screen, in `quota.confirm`
//! readings of the same words at some distance in time.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::model::evidence::{Failure, Look, Meaning, Signal, Source};

/// Readings closer together count as one. Chosen: a screen may be caught half drawn twice; below one tick.
pub(super) const APART: Duration = Duration::from_millis(700);

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Shown {
    /// This start took a prompt or was at work.
    begun: bool,
    limit: Option<Reading>,
}

#[derive(Debug, Clone, PartialEq)]
struct Reading {
    /// The first one.
    signal: Signal,
    /// When the last one was that counted.
    last: Timestamp,
    count: u32,
}

/// What a screen alone says of the account.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ScreenLimit<'a> {
    /// Not read often enough yet.
    Suspected(&'a Signal),
    Believed(&'a Signal),
}

impl Shown {
    /// A prompt was taken, or the agent was at work.
    pub(super) fn works(&mut self) {
        *self = Self { begun: true, limit: None };
    }

    /// It is known from elsewhere that this start took a prompt.
    pub(super) fn began(&mut self) {
        self.begun = true;
    }

    /// Records a reading of the screen at `now`.
    pub(super) fn read(&mut self, look: &Look, now: Timestamp) {
        let Some(signal) = limit_of(look).filter(|_| self.begun && !look.server_error) else {
            self.limit = None;
            return;
        };
        match &mut self.limit {
            Some(known) if known.signal.rule == signal.rule && known.signal.text == signal.text => {
                if now.duration_since(known.last) >= SignedDuration::try_from(APART).unwrap_or_default() {
                    known.last = now;
                    known.count = known.count.saturating_add(1);
                }
            }
            Some(_) | None => {
                self.limit = Some(Reading { signal: Signal { at: now, ..signal.clone() }, last: now, count: 1 });
            }
        }
    }

    /// What the readings come to when so many are asked for.
    pub(super) fn limit(&self, confirm: u32) -> Option<ScreenLimit<'_>> {
        let Reading { signal, count, .. } = self.limit.as_ref()?;
        Some(if *count >= confirm { ScreenLimit::Believed(signal) } else { ScreenLimit::Suspected(signal) })
    }
}

/// Whether a turn ended on a limit of the account.
pub(super) fn is_limit(meaning: &Meaning) -> bool {
    matches!(meaning, Meaning::TurnFailed { failure: Failure::Limit(_), .. })
}

/// Whether a turn failed for its account, and not for its task: on a limit or a lost login.
pub(super) fn is_of_account(meaning: &Meaning) -> bool {
    is_limit(meaning) || matches!(meaning, Meaning::TurnFailed { failure: Failure::Login, .. })
}

/// What a screen shows of the account's limit or its lost login, if anything.
pub(super) fn limit_of(look: &Look) -> Option<&Signal> {
    look.signals.iter().find(|signal| signal.source == Source::Screen && is_of_account(&signal.meaning))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::limit::{Limit, LimitKind};

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(1_000_000_000 + millis).expect("a time")
    }

    fn screen(text: &str) -> Look {
        let failure = Failure::Limit(Limit { kind: LimitKind::FiveHour, resets_at: None });
        let meaning = Meaning::TurnFailed { failure, message: text.to_owned() };
        let signal =
            Signal { at: at(0), source: Source::Screen, rule: "limit-line".into(), text: text.into(), meaning };
        Look { ready: true, signals: vec![signal], ..Look::default() }
    }

    fn read(looks: &[(i64, &Look)]) -> Shown {
        let mut shown = Shown::default();
        shown.works();
        looks.iter().for_each(|(millis, look)| shown.read(look, at(*millis)));
        shown
    }

    #[test]
    fn a_limit_seen_once_on_a_screen_is_only_a_suspicion_and_clears() {
        let limit = screen("a limit");
        assert!(matches!(read(&[(0, &limit)]).limit(2), Some(ScreenLimit::Suspected(_))));
        assert!(matches!(read(&[(0, &limit), (699, &limit)]).limit(2), Some(ScreenLimit::Suspected(_))), "one reading");
        assert_eq!(read(&[(0, &limit), (700, &Look::default())]).limit(2), None);
        let again = [(0, &limit), (700, &Look::default()), (1400, &limit)];
        assert!(matches!(read(&again).limit(2), Some(ScreenLimit::Suspected(_))), "it is counted from the start");
        let other = screen("another limit");
        assert!(matches!(read(&[(0, &limit), (700, &other)]).limit(2), Some(ScreenLimit::Suspected(_))));
    }

    #[test]
    fn the_same_limit_read_twice_apart_is_believed_from_its_first_reading() {
        let limit = screen("a limit");
        let shown = read(&[(0, &limit), (700, &limit)]);
        let Some(ScreenLimit::Believed(signal)) = shown.limit(2) else { panic!("{shown:?}") };
        assert_eq!(signal.at, at(0));
        assert!(matches!(shown.limit(3), Some(ScreenLimit::Suspected(_))));
        assert!(matches!(read(&[(0, &limit)]).limit(1), Some(ScreenLimit::Believed(_))));
    }

    #[test]
    fn an_old_limit_drawn_again_after_a_resume_is_no_evidence() {
        let limit = screen("a limit");
        let mut shown = Shown::default();
        shown.read(&limit, at(0));
        shown.read(&limit, at(5000));
        assert_eq!(shown.limit(1), None);
        // The prompt was just accepted, and the screen is not redrawn yet.
        shown.works();
        shown.read(&limit, at(5001));
        assert!(matches!(shown.limit(2), Some(ScreenLimit::Suspected(_))));
        shown.works();
        assert_eq!(shown.limit(2), None);
    }

    #[test]
    fn a_server_s_error_on_the_screen_vetoes_a_limit() {
        let vetoed = Look { server_error: true, ..screen("a limit") };
        assert_eq!(read(&[(0, &vetoed), (700, &vetoed), (1400, &vetoed)]).limit(1), None);
    }
}
