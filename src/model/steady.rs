//! Steady time: the monotonic time with which everything inside is stamped and counted.
//! Takes readings of the kernel's clocks; converts between steady time and the wall clock. Pure.
//!
//! It starts at the wall clock's time, runs while the machine is awake, continues across restarts, and never jumps. So
//! the difference of two stamps is elapsed time for everybody here, and no comparison waits for a time that a clock
//! set back will show again. The wall clock is used at the edges only: `heard` converts what others report in it
//! (hooks, transcripts, resets), and `shown` converts what people read.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// A smaller difference of the wall clock is no jump. Chosen: two clocks are never read at the same instant
/// (`sys/clock.rs` reads them within 1 ms), and NTP slews by less.
const JUMP: SignedDuration = SignedDuration::from_millis(5);
/// Timestamps in one file may be out of order by this much. Chosen: as `watcher::history::MOMENT`, within which
/// sources stamp the same event.
const DISORDER: SignedDuration = SignedDuration::from_secs(2);
/// Clock jumps that are remembered, mostly suspends of the machine. Chosen: months of them for a laptop.
const REMEMBERED: usize = 256;

/// The kernel's clocks at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The boot id.
    pub boot: String,
    /// The monotonic clock, which stops while the machine is suspended.
    pub count: SignedDuration,
    /// How long the machine was suspended since boot.
    pub asleep: SignedDuration,
    pub wall: Timestamp,
}

/// Maps wall-clock times to steady times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timeline(Vec<Stretch>);

/// A period without a jump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Stretch {
    /// Its beginning, in steady time.
    from: Timestamp,
    /// How far the wall clock is ahead of it.
    ahead: SignedDuration,
    /// Total time that machines were suspended before it.
    asleep: SignedDuration,
}

impl Default for Timeline {
    fn default() -> Self {
        let (ahead, asleep) = (SignedDuration::ZERO, SignedDuration::ZERO);
        Self(vec![Stretch { from: Timestamp::MIN, ahead, asleep }])
    }
}

impl Timeline {
    fn stretch(&self, at: Timestamp) -> Stretch {
        let begun = self.0.iter().rev().find(|stretch| stretch.from <= at);
        begun.or(self.0.first()).copied().unwrap_or(Stretch {
            from: Timestamp::MIN,
            ahead: SignedDuration::ZERO,
            asleep: SignedDuration::ZERO,
        })
    }

    fn last(&self) -> Stretch {
        self.stretch(Timestamp::MAX)
    }

    /// How far the wall clock is ahead now.
    #[must_use]
    pub fn ahead(&self) -> SignedDuration {
        self.last().ahead
    }

    /// A steady time as shown to people: by today's wall clock, even if it was wrong then; suspends since then count.
    #[must_use]
    pub fn shown(&self, at: Timestamp) -> Timestamp {
        let (then, last) = (self.stretch(at), self.last());
        add(at, last.ahead.saturating_sub(last.asleep.saturating_sub(then.asleep)))
    }

    /// The same to the second, for sentences.
    #[must_use]
    pub fn second(&self, at: Timestamp) -> Timestamp {
        let at = self.shown(at);
        Timestamp::from_second(at.as_second()).unwrap_or(at)
    }

    /// The steady time at which the wall clock shows or will show `wall`.
    #[must_use]
    pub fn steady(&self, wall: Timestamp) -> Timestamp {
        sub(wall, self.ahead())
    }

    /// The steady time at which the wall clock showed `told`; a clock that is set back shows a time twice. It is known
    /// to be after `after`, and never in the future.
    #[must_use]
    pub fn heard(&self, told: Timestamp, after: Timestamp, now: Timestamp) -> Timestamp {
        let ends = self.0.iter().skip(1).map(|next| next.from).chain([now]);
        let shown = self.0.iter().zip(ends).filter_map(|(stretch, end)| {
            let at = sub(told, stretch.ahead);
            let within = add(at, JUMP) >= stretch.from && at <= add(end, JUMP);
            within.then(|| at.clamp(stretch.from, end.max(stretch.from)))
        });
        // What the clock left out when it went ahead: of a machine that was started anew, the time that it did not save.
        let left_out = || {
            let jumps = self.0.iter().zip(self.0.iter().skip(1));
            let over = |before: &Stretch, next: &Stretch| {
                add(next.from, before.ahead) < told && sub(told, next.ahead) < next.from
            };
            jumps.filter(|(before, next)| over(before, next)).map(|(_, next)| next.from).next_back()
        };
        let follows = |at: &Timestamp| add(*at, DISORDER) >= after;
        let in_order = shown.clone().find(|at| *at >= after);
        let next = in_order.or_else(|| shown.clone().find(follows)).or_else(|| left_out().filter(follows));
        next.or_else(|| shown.last()).or_else(left_out).unwrap_or_else(|| self.steady(told).min(now))
    }
}

/// Steady time as counted by one daemon.
#[derive(Debug, Clone)]
pub struct Steady {
    /// A steady time and the reading of the monotonic clock at that moment.
    at: Timestamp,
    count: SignedDuration,
    asleep: SignedDuration,
    timeline: Arc<Timeline>,
}

/// The state from which the next daemon continues.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    pub boot: String,
    pub count: SignedDuration,
    pub asleep: SignedDuration,
    /// The steady time.
    pub at: Timestamp,
    pub timeline: Arc<Timeline>,
}

impl Saved {
    /// From a state that was saved in wall-clock time, whose latest stamp is `at`.
    #[must_use]
    pub fn by_wall(at: Timestamp) -> Self {
        let (count, asleep) = (SignedDuration::ZERO, SignedDuration::ZERO);
        Self { boot: String::new(), count, asleep, at, timeline: Arc::default() }
    }
}

impl Steady {
    /// Continues from the saved state: by the monotonic clock, or after a reboot from the time of the save.
    #[must_use]
    pub fn begin(saved: Option<Saved>, reading: &Reading) -> Self {
        let (count, asleep) = (reading.count, reading.asleep);
        let Some(saved) = saved else { return Self { at: reading.wall, count, asleep, timeline: Arc::default() } };
        if saved.boot == reading.boot && saved.count <= count {
            let (timeline, asleep) = (saved.timeline, saved.asleep);
            let mut same = Self { at: saved.at, count: saved.count, asleep, timeline };
            same.now(reading);
            return same;
        }
        // A machine that was off has slept.
        let mut next = Self { at: saved.at, count, asleep, timeline: saved.timeline };
        let off = reading.wall.duration_since(next.timeline.shown(saved.at)).max(SignedDuration::ZERO);
        next.asleep = next.asleep.saturating_sub(off);
        next.now(reading);
        next
    }

    /// The steady time of a reading; records wall-clock jumps.
    pub fn now(&mut self, reading: &Reading) -> Timestamp {
        let now = add(self.at, reading.count.saturating_sub(self.count));
        let last = self.timeline.last();
        let ahead = reading.wall.duration_since(now);
        if ahead.saturating_sub(last.ahead).abs() >= JUMP {
            let asleep = last.asleep.saturating_add(reading.asleep.saturating_sub(self.asleep));
            let stretches = &mut Arc::make_mut(&mut self.timeline).0;
            stretches.push(Stretch { from: now, ahead, asleep });
            let excess = stretches.len().saturating_sub(REMEMBERED);
            stretches.drain(..excess);
            self.asleep = reading.asleep;
        }
        now
    }

    #[must_use]
    pub fn timeline(&self) -> &Arc<Timeline> {
        &self.timeline
    }

    /// For the next daemon.
    pub fn saved(&mut self, reading: &Reading) -> Saved {
        let at = self.now(reading);
        let (boot, count) = (reading.boot.clone(), reading.count);
        Saved { boot, count, asleep: self.asleep, at, timeline: self.timeline.clone() }
    }
}

fn add(at: Timestamp, by: SignedDuration) -> Timestamp {
    let bound = if by.is_negative() { Timestamp::MIN } else { Timestamp::MAX };
    at.saturating_add(by).unwrap_or(bound)
}

fn sub(at: Timestamp, by: SignedDuration) -> Timestamp {
    add(at, by.checked_neg().unwrap_or(SignedDuration::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).expect("a time")
    }

    /// The machine has counted `count` seconds, and its wall's clock is `ahead` of that.
    fn reading(boot: &str, count: i64, asleep: i64, ahead: i64) -> Reading {
        let (boot, count, asleep) = (boot.to_owned(), count, SignedDuration::from_secs(asleep));
        Reading { boot, count: SignedDuration::from_secs(count), asleep, wall: at(count + ahead) }
    }

    #[test]
    fn it_counts_on_whatever_the_wall_s_clock_does() {
        let mut steady = Steady::begin(None, &reading("a", 0, 0, 0));
        let mut second = 0;
        for ahead in [0, -45, DAY, 0, -DAY] {
            for _ in 0..3 {
                second += 1;
                assert_eq!(steady.now(&reading("a", second, 0, ahead)), at(second));
            }
            let timeline = steady.timeline();
            assert_eq!(timeline.shown(at(second)), at(second + ahead));
            assert_eq!(timeline.shown(at(second - 2)), at(second - 2 + ahead), "an age is what has passed");
            assert_eq!(timeline.heard(at(second + ahead), at(second - 1), at(second)), at(second), "{ahead}");
            let long_before = timeline.heard(at(second + ahead), at(0), at(second));
            assert_eq!(long_before, at(second), "what a jump left out is shown later");
            assert_eq!(timeline.steady(at(500)), at(500 - ahead));
        }
    }

    #[test]
    fn a_machine_that_slept_has_not_counted_and_shows_it() {
        let mut steady = Steady::begin(None, &reading("a", 0, 0, 0));
        assert_eq!(steady.now(&reading("a", 10, 3600, 3600)), at(10), "an hour asleep");
        assert_eq!(steady.timeline().shown(at(5)), at(5), "it was five then");
        assert_eq!(steady.timeline().shown(at(11)), at(3611));
    }

    #[test]
    fn what_was_told_keeps_its_order_over_a_clock_that_was_set_back() {
        let mut steady = Steady::begin(None, &reading("a", 0, 0, 0));
        steady.now(&reading("a", 100, 0, -DAY));
        steady.now(&reading("a", 100 + DAY, 0, -DAY));
        let timeline = steady.timeline();
        let now = at(100 + DAY + 10);
        // The same time on the wall, before the jump and a day after it.
        assert_eq!(timeline.heard(at(50), at(0), now), at(50));
        assert_eq!(timeline.heard(at(50), at(100), now), at(50 + DAY));
        assert_eq!(timeline.heard(at(50), now, now), at(50 + DAY), "the latest");
        assert_eq!(timeline.heard(at(3 * DAY), at(0), now), now, "nobody tells of what is to come");
    }

    #[test]
    fn what_keeps_the_order_comes_before_what_may_be_out_of_order() {
        let mut steady = Steady::begin(None, &reading("a", 0, 0, 0));
        steady.now(&reading("a", 100, 0, -1));
        let timeline = steady.timeline();
        assert_eq!(timeline.heard(at(99), at(98), at(110)), at(99), "shown before the clock was set back");
        assert_eq!(timeline.heard(at(99), at(100), at(110)), at(100));
        assert_eq!(timeline.heard(at(98), at(99), at(110)), at(98), "out of order");
    }

    #[test]
    fn the_next_daemon_goes_on_counting() {
        let mut steady = Steady::begin(None, &reading("a", 0, 0, 0));
        let saved = steady.saved(&reading("a", 50, 0, 0));
        for ahead in [0, -45, DAY, -DAY] {
            let same = reading("a", 60, 0, ahead);
            assert_eq!(Steady::begin(Some(saved.clone()), &same).now(&same), at(60), "{ahead}");
            // The counting clock begins anew with the machine.
            let other = reading("b", 5, 0, 55 + ahead);
            let mut next = Steady::begin(Some(saved.clone()), &other);
            assert_eq!(next.now(&other), at(50), "only what was counted is carried on");
            assert_eq!(next.timeline().shown(at(50)), other.wall);
        }
        let off = reading("b", 5, 0, 3595);
        let next = Steady::begin(Some(saved), &off);
        assert_eq!(next.timeline().heard(at(55), at(10), at(60)), at(50), "after the last save");
        assert_eq!(next.timeline().shown(at(40)), at(40), "a machine that was off has slept");
    }

    #[test]
    fn a_state_from_the_future_is_of_now() {
        let now = reading("a", 0, 0, 0);
        let mut steady = Steady::begin(Some(Saved::by_wall(at(DAY))), &now);
        assert_eq!(steady.now(&now), at(DAY));
        assert_eq!(steady.timeline().shown(at(DAY)), at(0));
    }
}
