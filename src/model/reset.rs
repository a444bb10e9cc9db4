//! When a limit ends, from the words that an agent's message has for it.
//! In: the message, when it was read, the zone of an agent that names none. Out: a time, or nothing. Pure.
//!
//! Read are `resets 4:37am (UTC)`, `resets Nov 26, 2:37am (Europe/Zurich)`, `resets in 2 hours 5 minutes`, `reset at 8pm`,
//! `try again at 4:44 AM`, `try again at Nov 27th, 2026 4:44 AM`, `limit reached|1795235866`. A time of day is the next
//! such one after the message; a date without a year is the one that lies nearest ahead, or has just passed.

use std::iter::Peekable;

use jiff::{
    SignedDuration, Timestamp, ToSpan,
    civil::{Date, DateTime, Time},
    tz::{AmbiguousOffset, TimeZone},
};

/// What stands before the time, in the order in which they are believed.
const MARKS: [&str; 5] = ["resets", "reset at", "try again", "continuing automatically", "limit reached|"];

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

/// Times are told without seconds, so the whole minute belongs to one.
const MINUTE: SignedDuration = SignedDuration::from_mins(1);
/// A date without a year that would be further ahead than this is one that has passed. No limit lasts longer.
const AHEAD: SignedDuration = SignedDuration::from_hours(24 * 180);

/// The end that a message tells. A date may lie before `at`: then the message is old, or the limit has just ended.
#[must_use]
pub fn parse(text: &str, at: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let text = text.to_lowercase();
    MARKS.iter().find_map(|mark| {
        text.match_indices(mark).find_map(|(start, mark)| moment(text.get(start + mark.len()..)?, at, zone))
    })
}

fn moment(text: &str, at: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let cut = |c: char| c.is_whitespace() || c == ',';
    let mut words = text.split(cut).map(|word| word.trim_end_matches('.')).filter(|word| !word.is_empty()).peekable();
    if words.next_if_eq(&"in").is_some() {
        return at.checked_add(duration(&mut words)?).ok();
    }
    words.next_if(|word| matches!(*word, "at" | "on"));
    if let Some(epoch) = words.peek().and_then(|word| epoch(word)) {
        return Some(epoch);
    }
    let date = match words.next_if(|word| month(word).is_some()).and_then(month) {
        Some(month) => Some((month, day(words.next()?)?, words.next_if(|word| year(word).is_some()).and_then(year))),
        None => None,
    };
    words.next_if_eq(&"at");
    let time = time(&mut words)?;
    let named = words.peek().and_then(|word| word.strip_prefix('(')?.split(')').next());
    let zone = match named {
        Some(name) => TimeZone::get(name).ok()?,
        None => zone.clone(),
    };
    match date {
        None => next_time(time, at, &zone),
        Some((month, day, Some(year))) => on(Date::new(year, month, day).ok()?.to_datetime(time), &zone).next(),
        Some((month, day, None)) => dated(month, day, time, at, &zone),
    }
}

/// The first such time of day whose minute is not over at `at`.
fn next_time(time: Time, at: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let today = at.to_zoned(zone.clone()).date();
    let days = [Some(today), today.tomorrow().ok()];
    let times = days.into_iter().flatten().flat_map(|day| on(day.to_datetime(time), zone));
    times.into_iter().find(|moment| moment.saturating_add(MINUTE).is_ok_and(|end| end > at))
}

fn dated(month: i8, day: i8, time: Time, at: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let this = at.to_zoned(zone.clone()).year();
    let years = [this.checked_add(1), Some(this), this.checked_sub(1)];
    let dates = years.into_iter().flatten().filter_map(|year| Date::new(year, month, day).ok());
    let mut moments = dates.filter_map(|date| on(date.to_datetime(time), zone).next());
    moments.find(|moment| moment.duration_since(at) <= AHEAD)
}

/// The moments at which clocks of a zone show a time: two in the hour that is repeated, and for one that is left out the
/// moment as far behind the gap as the time lies within it.
fn on(shown: DateTime, zone: &TimeZone) -> impl Iterator<Item = Timestamp> {
    let ambiguous = zone.to_ambiguous_timestamp(shown);
    let both = match ambiguous.offset() {
        AmbiguousOffset::Fold { .. } => [ambiguous.earlier().ok(), ambiguous.later().ok()],
        AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Gap { .. } => [ambiguous.compatible().ok(), None],
    };
    both.into_iter().flatten()
}

/// `2 hours 5 minutes`, `1h 5m`, `45 minutes`.
fn duration<'a>(words: &mut Peekable<impl Iterator<Item = &'a str>>) -> Option<SignedDuration> {
    let mut total = None;
    while let Some(word) = words.next_if(|word| word.starts_with(|c: char| c.is_ascii_digit())) {
        let digits = word.find(|c: char| !c.is_ascii_digit()).unwrap_or(word.len());
        let (number, unit) = word.split_at(digits);
        let number: i64 = number.parse().ok().filter(|number| *number < 1_000_000)?;
        let unit = if unit.is_empty() { words.next()? } else { unit };
        let span = match unit {
            "d" | "day" | "days" => (number * 24).hours(),
            "h" | "hr" | "hrs" | "hour" | "hours" => number.hours(),
            "m" | "min" | "mins" | "minute" | "minutes" => number.minutes(),
            "s" | "sec" | "secs" | "second" | "seconds" => number.seconds(),
            _ => return None,
        };
        total = Some(SignedDuration::try_from(span).ok()? + total.unwrap_or_default());
        words.next_if_eq(&"and");
    }
    total
}

/// Seconds or milliseconds since 1970.
fn epoch(word: &str) -> Option<Timestamp> {
    let number: i64 = word.parse().ok()?;
    match word.len() {
        10 => Timestamp::from_second(number).ok(),
        13 => Timestamp::from_millisecond(number).ok(),
        _ => None,
    }
}

/// `nov`, `november`.
fn month(word: &str) -> Option<i8> {
    let index = MONTHS.iter().position(|name| word.starts_with(name))?;
    i8::try_from(index + 1).ok()
}

/// `27`, `27th`.
fn day(word: &str) -> Option<i8> {
    word.trim_end_matches(|c: char| c.is_ascii_alphabetic()).parse().ok()
}

fn year(word: &str) -> Option<i16> {
    word.parse().ok().filter(|year| (2000..3000).contains(year))
}

/// `4:37am`, `8pm`, `4:44 am`, `16:44`.
fn time<'a>(words: &mut Peekable<impl Iterator<Item = &'a str>>) -> Option<Time> {
    let word = words.next()?;
    let digits = word.find(|c: char| !c.is_ascii_digit() && c != ':').unwrap_or(word.len());
    let (clock, half) = word.split_at(digits);
    let half = match half {
        "" => words.next_if(|word| matches!(*word, "am" | "pm")),
        half => Some(half),
    };
    let (hour, minute) = match clock.split_once(':') {
        Some((hour, minute)) if minute.len() == 2 => (hour.parse::<i8>().ok()?, minute.parse().ok()?),
        Some(_) => return None,
        None => (clock.parse().ok()?, 0),
    };
    let hour = match half {
        Some("am") => (1..=12).contains(&hour).then_some(hour % 12)?,
        Some("pm") => (1..=12).contains(&hour).then_some(hour % 12 + 12)?,
        Some(_) => return None,
        // A bare number is no time of day.
        None => clock.contains(':').then_some(hour)?,
    };
    Time::new(hour, minute, 0, 0).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).expect("a zone")
    }

    #[test]
    fn every_form_that_was_seen_is_read() {
        let noon = "2026-11-21T12:00:00Z";
        // Message, when it was read, the zone of the machine, the end.
        let table = [
            (
                "You've hit your 5-hour limit · resets 4:37am (UTC)",
                "2026-11-21T02:00:00Z",
                "UTC",
                "2026-11-21T04:37:00Z",
            ),
            ("· resets 4:37am (UTC)", noon, "UTC", "2026-11-22T04:37:00Z"),
            ("· resets 11:30pm (America/New_York)", noon, "UTC", "2026-11-22T04:30:00Z"),
            ("weekly limit · resets Nov 26, 2:37am (Europe/Zurich)", noon, "UTC", "2026-11-26T01:37:00Z"),
            ("weekly limit · resets Jan 2, 2am (UTC)", "2026-12-30T12:00:00Z", "UTC", "2027-01-02T02:00:00Z"),
            ("resets in 45 minutes", noon, "UTC", "2026-11-21T12:45:00Z"),
            ("resets in 2 hours 5 minutes.", noon, "UTC", "2026-11-21T14:05:00Z"),
            ("resets in 1h 5m", noon, "UTC", "2026-11-21T13:05:00Z"),
            ("resets at 8pm", noon, "Europe/Zurich", "2026-11-21T19:00:00Z"),
            ("resets 12am (UTC)", noon, "UTC", "2026-11-22T00:00:00Z"),
            ("resets 12:05pm (UTC)", noon, "UTC", "2026-11-21T12:05:00Z"),
            ("⚠ Usage limit reached · limit resets 4:37am", "2026-11-21T02:00:00Z", "UTC", "2026-11-21T04:37:00Z"),
            (
                "● Usage limit reached · continuing automatically at 4:37am · esc to cancel",
                noon,
                "UTC",
                "2026-11-22T04:37:00Z",
            ),
            ("to purchase more credits or try again at 4:44 AM.", noon, "UTC", "2026-11-22T04:44:00Z"),
            ("or try again at\n4:44\u{202f}PM.", noon, "Asia/Tokyo", "2026-11-22T07:44:00Z"),
            ("or try again at Nov 27th, 2026 4:44 AM.", noon, "UTC", "2026-11-27T04:44:00Z"),
            ("try again in 3 days 4 hours", noon, "UTC", "2026-11-24T16:00:00Z"),
            ("Claude AI usage limit reached|1795235866", noon, "UTC", "2026-11-21T04:37:46Z"),
            ("resets at 1795235866000", noon, "UTC", "2026-11-21T04:37:46Z"),
        ];
        for (text, at, local, want) in table {
            let at: Timestamp = at.parse().expect("a time");
            assert_eq!(parse(text, at, &zone(local)), want.parse().ok(), "{text}");
        }
    }

    #[test]
    fn what_tells_no_end_gives_none() {
        let at = "2026-11-21T12:00:00Z".parse().expect("a time");
        for text in [
            "You've hit your monthly spend limit",
            "1. Stop and wait for limit to reset",
            "resets soon",
            "resets 5",
            "resets 25:00",
            "resets 13pm",
            "resets Feb 30, 2am (UTC)",
            "resets 4:37am (Nowhere/Atall)",
            "try again in a moment",
            "resets in 99999999999999999999 hours",
            "resets",
        ] {
            assert_eq!(parse(text, at, &TimeZone::UTC), None, "{text}");
        }
    }

    #[test]
    fn a_minute_that_still_runs_is_not_tomorrow_s() {
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        let read = |now| parse("resets 2:37am (UTC)", at(now), &TimeZone::UTC);
        assert_eq!(read("2026-11-21T02:37:40Z"), Some(at("2026-11-21T02:37:00Z")));
        assert_eq!(read("2026-11-21T02:38:00Z"), Some(at("2026-11-22T02:37:00Z")));
        // A date that has passed stays in the past: an account is not shut for a year by an old message.
        let dated = parse("resets Nov 26, 2:37am (UTC)", at("2026-11-27T00:00:00Z"), &TimeZone::UTC);
        assert_eq!(dated, Some(at("2026-11-26T02:37:00Z")));
    }

    #[test]
    fn clocks_that_are_set_forward_or_back_are_known() {
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        let zurich = zone("Europe/Zurich");
        // 2:30 is left out on 28 March 2027: 3:30 summer time.
        assert_eq!(parse("resets 2:30am", at("2027-03-27T23:00:00Z"), &zurich), Some(at("2027-03-28T01:30:00Z")));
        // 2:30 comes twice on 25 October 2026.
        assert_eq!(parse("resets 2:30am", at("2026-10-25T00:00:00Z"), &zurich), Some(at("2026-10-25T00:30:00Z")));
        assert_eq!(parse("resets 2:30am", at("2026-10-25T00:40:00Z"), &zurich), Some(at("2026-10-25T01:30:00Z")));
    }

    proptest! {
        #[test]
        fn a_printed_time_is_read_as_the_next_one(
            now in 1_790_000_000_i64..1_900_000_000,
            ahead in 60_i64..(24 * 3600 - 7200),
            name in prop::sample::select(vec!["UTC", "Europe/Zurich", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"]),
        ) {
            let at = Timestamp::from_second(now).expect("a time");
            let end = Timestamp::from_second((now + ahead) / 60 * 60).expect("a time");
            let shown = end.to_zoned(zone(name)).strftime("%-I:%M%P").to_string();
            let read = parse(&format!("resets {shown} ({name})"), at, &TimeZone::UTC).expect("read");
            // Where a time comes twice a day the first one may be meant.
            prop_assert!(read == end || end.duration_since(read) <= SignedDuration::from_hours(1), "{shown}: {read} for {end}");
            prop_assert!(read.saturating_add(MINUTE).expect("a time") > at);
        }

        #[test]
        fn a_printed_date_is_read_whole(now in 1_790_000_000_i64..1_900_000_000, ahead in 3600_i64..(30 * 24 * 3600)) {
            let at = Timestamp::from_second(now).expect("a time");
            let end = Timestamp::from_second((now + ahead) / 60 * 60).expect("a time");
            let shown = end.to_zoned(TimeZone::UTC).strftime("%b %-d, %-I:%M%P (UTC)").to_string();
            prop_assert_eq!(parse(&format!("weekly limit · resets {shown}"), at, &TimeZone::UTC), Some(end));
        }

        #[test]
        fn nothing_makes_it_fail(text in "(resets|try again|reset at|limit reached\\|)? ?.{0,40}", now in any::<i32>()) {
            let at = Timestamp::from_second(i64::from(now)).expect("a time");
            let _ = parse(&text, at, &TimeZone::UTC);
        }
    }
}
