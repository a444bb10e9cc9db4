//! Parses when a limit resets from the text of an agent's message.
//! Takes the message, when it was read, and the agent's zone for messages that name none; returns a time, or nothing.
//! Pure.
//!
//! Parses what follows a word such as `resets` or `try again`: a time of day (`4:37am`, `9 a.m.`, `16:44`, `noon`), a
//! day (`tomorrow`, `Monday`, `Nov 26`, `2 December 2026`, `2026-12-02`), both in either order, a zone
//! (`(Europe/Zurich)`, `EST`, `UTC+2`, `+01:00`), a duration from now (`in 2 hours 5 minutes`, `after 12h22m57s`), or
//! seconds since 1970. A time of day is its next occurrence after the message; a date without a year is the nearest
//! ahead, or one that has just passed. An unknown zone, or a day that has begun without a time, gives no reset time: a
//! wrong one would be worse than none.

mod zone;

use std::{
    iter::{Copied, Peekable},
    slice::Iter,
};

use jiff::{
    SignedDuration, Timestamp, ToSpan,
    civil::{Date, DateTime, Time, Weekday},
    tz::{AmbiguousOffset, TimeZone},
};

use self::zone::Named;

/// Words before the time, most trusted first. Each is the beginning of a word.
const MARKS: [&str; 10] = [
    "reset",
    "renew",
    "try again",
    "retry",
    "available again",
    "back at",
    "back on",
    "continuing automatically",
    "until",
    "limit reached|",
];

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];
const WEEKDAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

/// Messages give times without seconds, so the whole minute counts.
const MINUTE: SignedDuration = SignedDuration::from_mins(1);
/// A date without a year that would be further ahead than this has passed. Chosen: half a year; the longest limit
/// window is a month.
const AHEAD: SignedDuration = SignedDuration::from_hours(24 * 180);

/// The reset time in a message. A date may lie before `at`: then the message is old, or the limit has just ended.
#[must_use]
pub fn parse(text: &str, at: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    // Only letters that keep their length: places in one are places in the other.
    let lower = text.to_ascii_lowercase();
    MARKS.iter().find_map(|mark| {
        lower.match_indices(mark).find_map(|(start, mark)| {
            let begins = lower[..start].chars().next_back().is_none_or(|before| !before.is_alphanumeric());
            let behind = text.get(start + mark.len()..).filter(|_| begins)?;
            // `resets`, `resetting`, `renews`.
            let behind = if mark.ends_with('|') { behind } else { behind.trim_start_matches(char::is_alphabetic) };
            moment(behind, at, zone)
        })
    })
}

type Words<'a> = Peekable<Copied<Iter<'a, &'a str>>>;

/// A day as written.
#[derive(Debug, Clone, Copy)]
enum Day {
    /// So many days after the message's.
    After(i8),
    /// The next such one.
    Weekday(Weekday),
    /// The nearest ahead, or the one that has just passed.
    Dated {
        month: i8,
        day: i8,
    },
    Whole(Date),
}

fn moment(text: &str, at: Timestamp, own: &TimeZone) -> Option<Timestamp> {
    let spaced = text.replace('(', " (");
    let cut = |c: char| c.is_whitespace() || c == ',';
    let words =
        spaced.split(cut).map(|word| word.trim_end_matches(['.', ';', '!', ':'])).filter(|word| !word.is_empty());
    let words: Vec<&str> = words.collect();
    let mut words: Words<'_> = words.iter().copied().peekable();
    while words
        .next_if(|word| matches!(*word, "at" | "on" | "by" | "again" | "around" | "approximately" | "about" | "~"))
        .is_some()
    {}
    if words.next_if(|word| matches!(*word, "in" | "after" | "within" | "In")).is_some() {
        while words.next_if(|word| matches!(*word, "about" | "approximately" | "around" | "~" | "another")).is_some() {}
        if let Some(duration) = duration(&mut words) {
            return at.checked_add(duration).ok();
        }
    }
    let (mut day, mut time, mut zone) = (None, None, None);
    while let Some(word) = words.peek().copied() {
        if let Some(epoch) = epoch(word).filter(|_| day.is_none() && time.is_none()) {
            return Some(epoch);
        }
        if let Some(name) = word.strip_prefix('(') {
            let mut name = name.to_owned();
            words.next();
            while !name.contains(')') {
                name = format!("{name} {}", words.next()?);
            }
            match zone::in_parentheses(name.split(')').next()?, own, at) {
                Named::Zone(named) => zone = Some(named),
                Named::Unknown => return None,
                Named::Nothing => {}
            }
            continue;
        }
        if let Ok(whole) = word.parse::<Timestamp>() {
            return Some(whole);
        }
        if day.is_none()
            && time.is_none()
            && let Ok(civil) = word.parse::<DateTime>()
        {
            day = Some(Day::Whole(civil.date()));
            time = word.contains(['T', 't', ':']).then(|| civil.time());
            words.next();
        } else if let Some(found) = day_of(&mut words).or_else(|| named_day(&mut words)) {
            // `Wednesday, December 2`: the date says more.
            day = match (day, found) {
                (None | Some(Day::Weekday(_)), found) => Some(found),
                (Some(known), Day::Weekday(_)) => Some(known),
                (Some(_), _) => break,
            };
        } else if time.is_none()
            && let Some((found, suffix)) = time_of(&mut words)
        {
            time = Some(found);
            if let Some(suffix) = suffix {
                zone = Some(suffix);
            }
        } else if matches!(word.to_ascii_lowercase().as_str(), "at" | "on" | "the" | "of" | "next" | "by") {
            words.next();
        } else if let (Some(_), None) = (time.or(day.map(|_| Time::midnight())), &zone) {
            match zone::word(word, own, at) {
                Named::Zone(named) => zone = Some(named),
                Named::Unknown => return None,
                Named::Nothing => break,
            }
            words.next();
        } else {
            break;
        }
    }
    let zone = zone.unwrap_or_else(|| own.clone());
    resolve(day, time, at, &zone)
}

/// The moment that a day, a time of day or both name.
fn resolve(day: Option<Day>, time: Option<Time>, at: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let today = at.to_zoned(zone.clone()).date();
    let Some(day) = day else { return next_time(time?, at, zone) };
    let clock = time.unwrap_or(Time::midnight());
    let end = match day {
        Day::After(days) => on(today.checked_add(i64::from(days).days()).ok()?.to_datetime(clock), zone).next(),
        // Begun already, or a week away: nobody knows.
        Day::Weekday(weekday) if time.is_none() && today.weekday() == weekday => return None,
        Day::Weekday(weekday) => {
            let days = (0..=7).filter_map(|ahead: i64| today.checked_add(ahead.days()).ok());
            let moments =
                days.filter(|day| day.weekday() == weekday).filter_map(|day| on(day.to_datetime(clock), zone).next());
            let mut moments = moments.filter(|moment| moment.saturating_add(MINUTE).is_ok_and(|end| end > at));
            moments.next()
        }
        Day::Dated { month, day } => dated(month, day, clock, at, zone),
        Day::Whole(date) => on(date.to_datetime(clock), zone).next(),
    }?;
    // A day alone ends some time on it: once it has begun nobody knows when.
    (time.is_some() || end > at).then_some(end)
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

/// `2 hours 5 minutes`, `1h 5m`, `12h22m57s`, `1.5 hours`, `an hour and 5 minutes`.
fn duration(words: &mut Words<'_>) -> Option<SignedDuration> {
    let mut total = None;
    while let Some(word) =
        words.next_if(|word| word.starts_with(|c: char| c.is_ascii_digit()) || matches!(*word, "a" | "an" | "one"))
    {
        let mut rest = if matches!(word, "a" | "an" | "one") { "1" } else { word };
        while !rest.is_empty() {
            let (number, behind) =
                rest.split_at(rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len()));
            let (unit, behind) = behind.split_at(behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len()));
            let unit = if unit.is_empty() { words.next()? } else { unit };
            let number: f64 = number.parse().ok().filter(|number| (0.0..1e6).contains(number))?;
            let unit = match unit.to_ascii_lowercase().as_str() {
                "w" | "week" | "weeks" => 7.0 * 24.0 * 3600.0,
                "d" | "day" | "days" => 24.0 * 3600.0,
                "h" | "hr" | "hrs" | "hour" | "hours" => 3600.0,
                "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
                "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
                "ms" => 0.001,
                _ => return None,
            };
            total = Some(SignedDuration::try_from_secs_f64(number * unit).ok()? + total.unwrap_or_default());
            rest = behind;
        }
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

/// `nov 26`, `November 26th 2026`, `26 nov`, `2nd of December`. Takes nothing where it is none.
fn day_of(words: &mut Words<'_>) -> Option<Day> {
    let mut ahead = words.clone();
    let first = ahead.next()?;
    let (month, day) = match month(first) {
        Some(month) => (month, number_of_day(ahead.next()?)?),
        None => {
            let day = number_of_day(first)?;
            ahead.next_if(|word| word.eq_ignore_ascii_case("of"));
            (month(ahead.next()?)?, day)
        }
    };
    let year = ahead.next_if(|word| year(word).is_some()).and_then(year);
    let found = match year {
        Some(year) => Day::Whole(Date::new(year, month, day).ok()?),
        None => Day::Dated { month, day },
    };
    *words = ahead;
    Some(found)
}

/// `today`, `tomorrow`, `Monday`, `mon`.
fn named_day(words: &mut Words<'_>) -> Option<Day> {
    let word = words.peek()?.to_ascii_lowercase();
    let found = match word.as_str() {
        "today" | "tonight" => Day::After(0),
        "tomorrow" => Day::After(1),
        word => {
            let index = WEEKDAYS.iter().position(|name| is_name(word, name))?;
            Day::Weekday(Weekday::from_monday_zero_offset(i8::try_from(index).ok()?).ok()?)
        }
    };
    words.next();
    Some(found)
}

/// A name, whole or as it is shortened.
fn is_name(word: &str, name: &str) -> bool {
    word == name || (matches!(word.len(), 3..=5) && name.starts_with(word))
}

fn month(word: &str) -> Option<i8> {
    let word = word.to_ascii_lowercase();
    let index = MONTHS.iter().position(|name| is_name(&word, name))?;
    i8::try_from(index + 1).ok()
}

/// `27`, `27th`.
fn number_of_day(word: &str) -> Option<i8> {
    let word = word.to_ascii_lowercase();
    let digits = ["st", "nd", "rd", "th"].iter().find_map(|end| word.strip_suffix(end)).unwrap_or(&word);
    digits.parse().ok().filter(|day| (1..=31).contains(day))
}

fn year(word: &str) -> Option<i16> {
    word.parse().ok().filter(|year| (2000..3000).contains(year))
}

/// `4:37am`, `8pm`, `4:44 a.m`, `16:44:05`, `09:00Z`, `noon`; with it the zone that stands in the same word. Takes nothing where
/// it is none.
fn time_of(words: &mut Words<'_>) -> Option<(Time, Option<TimeZone>)> {
    let mut ahead = words.clone();
    let word = ahead.next()?;
    let named = match word.to_ascii_lowercase().as_str() {
        "noon" | "midday" => Some(Time::constant(12, 0, 0, 0)),
        "midnight" => Some(Time::midnight()),
        _ => None,
    };
    if let Some(time) = named {
        *words = ahead;
        return Some((time, None));
    }
    let digits = word.find(|c: char| !c.is_ascii_digit() && c != ':').unwrap_or(word.len());
    let (clock, behind) = word.split_at(digits);
    let zone = match behind {
        "Z" => Some(TimeZone::UTC),
        behind => zone::offset(behind).filter(|_| behind.starts_with(['+', '-', '−'])),
    };
    let half = if zone.is_some() { None } else { Some(behind).filter(|behind| !behind.is_empty()) };
    let half = match half {
        Some(half) => Some(half_of_day(half)?),
        None => ahead.next_if(|word| half_of_day(word).is_some()).and_then(half_of_day),
    };
    let mut parts = clock.split(':');
    let hour: i8 = parts.next()?.parse().ok()?;
    let mut two = || parts.next().map(|part| part.parse::<i8>().ok().filter(|_| part.len() == 2));
    let (minute, second) = (two(), two());
    let minute_told = minute.is_some();
    let (minute, second) = (minute.unwrap_or(Some(0))?, second.unwrap_or(Some(0))?);
    let hour = match half {
        Some(half) => (1..=12).contains(&hour).then_some(hour % 12 + half)?,
        // A bare number is no time of day.
        None => minute_told.then_some(hour)?,
    };
    if parts.next().is_some() {
        return None;
    }
    let time = Time::new(hour, minute, second, 0).ok()?;
    *words = ahead;
    Some((time, zone))
}

/// The hours that `am` or `pm` add.
fn half_of_day(word: &str) -> Option<i8> {
    match word.to_ascii_lowercase().as_str() {
        "am" | "a.m" => Some(0),
        "pm" | "p.m" => Some(12),
        _ => None,
    }
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
            // 21 November 2026 is a Saturday.
            ("resets Monday 9am", noon, "UTC", "2026-11-23T09:00:00Z"),
            ("resets on mon at 9:30", noon, "Europe/Zurich", "2026-11-23T08:30:00Z"),
            ("resets next Saturday at 9am", noon, "UTC", "2026-11-28T09:00:00Z"),
            ("resets Sat 1pm", noon, "UTC", "2026-11-21T13:00:00Z"),
            ("resets 9am on Monday (America/New_York)", noon, "UTC", "2026-11-23T14:00:00Z"),
            ("Resets Wednesday, December 2 at 9:00 AM", noon, "UTC", "2026-12-02T09:00:00Z"),
            ("resets Thursday", noon, "UTC", "2026-11-26T00:00:00Z"),
            ("resets tomorrow at 9am", noon, "UTC", "2026-11-22T09:00:00Z"),
            ("resets 9am tomorrow", noon, "Asia/Tokyo", "2026-11-22T00:00:00Z"),
            ("resets today at 6 p.m.", noon, "UTC", "2026-11-21T18:00:00Z"),
            ("resets tomorrow", noon, "UTC", "2026-11-22T00:00:00Z"),
            ("resets at midnight", noon, "UTC", "2026-11-22T00:00:00Z"),
            ("resets at noon", "2026-11-21T13:00:00Z", "UTC", "2026-11-22T12:00:00Z"),
            ("resets 2026-12-02 09:00", noon, "Europe/Zurich", "2026-12-02T08:00:00Z"),
            ("resets 2026-12-02 09:00 UTC", noon, "Europe/Zurich", "2026-12-02T09:00:00Z"),
            ("resets 2026-12-02 09:00:30 +0100", noon, "UTC", "2026-12-02T08:00:30Z"),
            ("resets at 2026-12-02T09:00:00Z", noon, "Asia/Tokyo", "2026-12-02T09:00:00Z"),
            ("resets 2026-12-02T09:00:00.123+01:00.", noon, "UTC", "2026-12-02T08:00:00.123Z"),
            ("resets 2026-12-02T09:00", noon, "UTC", "2026-12-02T09:00:00Z"),
            ("resets 2026-12-02", noon, "UTC", "2026-12-02T00:00:00Z"),
            ("resets 2 December 2026, 9am", noon, "UTC", "2026-12-02T09:00:00Z"),
            ("resets on the 2nd of Dec at 9am", noon, "UTC", "2026-12-02T09:00:00Z"),
            ("Weekly limit reached ∙ resets Dec 2 at 10am", noon, "UTC", "2026-12-02T10:00:00Z"),
            (
                "resets Dec 1, 5:39pm (UTC) · raise it · your 5-hour limit resets 7pm",
                noon,
                "UTC",
                "2026-12-01T17:39:00Z",
            ),
            ("You've hit it. It resets Dec 1, 5pm. /model to switch", noon, "UTC", "2026-12-01T17:00:00Z"),
            ("resets Dec 1", noon, "UTC", "2026-12-01T00:00:00Z"),
            ("Your limit will reset at 9pm (America/Chicago).", noon, "UTC", "2026-11-22T03:00:00Z"),
            ("resets 3pm EST", noon, "Europe/Zurich", "2026-11-21T20:00:00Z"),
            ("resets 3pm (EST)", noon, "Europe/Zurich", "2026-11-21T20:00:00Z"),
            ("resets 3pm PDT", "2026-07-21T12:00:00Z", "UTC", "2026-07-21T22:00:00Z"),
            ("resets 3pm CET", noon, "America/New_York", "2026-11-21T14:00:00Z"),
            ("resets 3pm PT on Monday", noon, "UTC", "2026-11-23T23:00:00Z"),
            // An abbreviation that the machine's own zone has is its own.
            ("resets 9pm CST", noon, "Asia/Shanghai", "2026-11-21T13:00:00Z"),
            ("resets 9pm CST", noon, "UTC", "2026-11-22T03:00:00Z"),
            ("resets 3pm UTC+2", noon, "Asia/Tokyo", "2026-11-21T13:00:00Z"),
            ("resets 3pm GMT-03:30", noon, "UTC", "2026-11-21T18:30:00Z"),
            ("resets 15:00+01:00", noon, "UTC", "2026-11-21T14:00:00Z"),
            ("resets 15:00Z", noon, "Asia/Tokyo", "2026-11-21T15:00:00Z"),
            ("resets 3pm (Etc/GMT+5)", noon, "UTC", "2026-11-21T20:00:00Z"),
            ("resets 3pm (local time)", noon, "Asia/Tokyo", "2026-11-22T06:00:00Z"),
            ("resets 3pm (in 3 hours)", noon, "UTC", "2026-11-21T15:00:00Z"),
            ("resets 3pm or upgrade", noon, "UTC", "2026-11-21T15:00:00Z"),
            ("Your quota will reset after 12h22m57s.", noon, "UTC", "2026-11-22T00:22:57Z"),
            ("resets in about 2 hours and 5 minutes", noon, "UTC", "2026-11-21T14:05:00Z"),
            ("resets in an hour", noon, "UTC", "2026-11-21T13:00:00Z"),
            ("resets in 1.5 hours", noon, "UTC", "2026-11-21T13:30:00Z"),
            ("Please retry in 30s.", noon, "UTC", "2026-11-21T12:00:30Z"),
            ("limited until 4pm", noon, "UTC", "2026-11-21T16:00:00Z"),
            ("available again at 16:00", noon, "UTC", "2026-11-21T16:00:00Z"),
            ("Your plan renews Dec 5, 2026", noon, "UTC", "2026-12-05T00:00:00Z"),
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
            // A zone that nobody knows: the session's own would be a guess.
            "resets 3pm XYZ",
            "resets 3pm (Mars time)",
            // Some time on a day that has begun.
            "resets Saturday",
            "resets today",
            "resets Nov 21",
            "resets 12/02 at 9am",
            "presets 9am",
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

        /// Whatever the form, the zone and the hour of the year.
        #[test]
        fn every_form_of_a_moment_is_read_as_it(
            now in 1_790_000_000_i64..1_900_000_000,
            ahead in 60_i64..(6 * 24 * 3600),
            form in prop::sample::select(vec![
                "%A %-I:%M%P (%Q)", "%-I:%M %p on %a (%Q)", "%Y-%m-%d %H:%M (%Q)", "%Y-%m-%dT%H:%M:%S%:z",
                "%b %-d at %-I:%M%P (%Q)", "%-d %B %Y, %H:%M %:z", "%B %-d, %Y %-I:%M %p UTC%:z", "%A, %B %-d at %H:%M%:z",
            ]),
            name in prop::sample::select(vec!["UTC", "Europe/Zurich", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"]),
        ) {
            let at = Timestamp::from_second(now).expect("a time");
            let end = Timestamp::from_second((now + ahead) / 60 * 60).expect("a time");
            let shown = end.to_zoned(zone(name)).strftime(form).to_string();
            let read = parse(&format!("limit reached ∙ resets {shown}."), at, &zone("Asia/Tokyo")).expect("read");
            // Where a time comes twice a day the first one may be meant.
            prop_assert!(read == end || end.duration_since(read).abs() <= SignedDuration::from_hours(1), "{shown}: {read} for {end}");
            prop_assert!(read == end || !form.contains("%:z"), "{shown}: {read} for {end}");
        }

        #[test]
        fn nothing_makes_it_fail(text in "(resets|try again|reset at|limit reached\\|)? ?(.{0,40}|([0-9]{1,4}|:|am|mon|dec|in|\\(|\\)|UTC|\\+| |-|T){0,12})", now in any::<i32>()) {
            let at = Timestamp::from_second(i64::from(now)).expect("a time");
            let _ = parse(&text, at, &TimeZone::UTC);
        }
    }
}
