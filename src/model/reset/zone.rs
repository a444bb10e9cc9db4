//! Parses time zones as agents' messages write them (`EST`, `UTC+2`, `+01:00`, `Europe/Zurich`).
//! Returns the zone, or that the name is unknown. Pure.

use jiff::{
    Timestamp,
    tz::{Offset, TimeZone},
};

/// Abbreviations and their minutes east of Greenwich. Where one has several meanings the machine's own zone decides (`of`); the
/// table has the one of most people.
const ABBREVIATIONS: [(&str, i32); 50] = [
    ("UTC", 0),
    ("GMT", 0),
    ("Z", 0),
    ("EST", -300),
    ("EDT", -240),
    ("CST", -360),
    ("CDT", -300),
    ("MST", -420),
    ("MDT", -360),
    ("PST", -480),
    ("PDT", -420),
    ("AKST", -540),
    ("AKDT", -480),
    ("HST", -600),
    ("AST", -240),
    ("ADT", -180),
    ("NST", -210),
    ("NDT", -150),
    ("BRT", -180),
    ("ART", -180),
    ("CLT", -240),
    ("CLST", -180),
    ("COT", -300),
    ("PET", -300),
    ("WET", 0),
    ("WEST", 60),
    ("BST", 60),
    ("CET", 60),
    ("CEST", 120),
    ("EET", 120),
    ("EEST", 180),
    ("SAST", 120),
    ("WAT", 60),
    ("CAT", 120),
    ("EAT", 180),
    ("MSK", 180),
    ("TRT", 180),
    ("GST", 240),
    ("PKT", 300),
    ("IST", 330),
    ("ICT", 420),
    ("WIB", 420),
    ("SGT", 480),
    ("HKT", 480),
    ("PHT", 480),
    ("AWST", 480),
    ("JST", 540),
    ("KST", 540),
    ("AEST", 600),
    ("AEDT", 660),
];

/// Abbreviations that follow the clocks of a place.
const PLACES: [(&str, &str); 10] = [
    ("ET", "America/New_York"),
    ("CT", "America/Chicago"),
    ("MT", "America/Denver"),
    ("PT", "America/Los_Angeles"),
    ("ACST", "Australia/Darwin"),
    ("ACDT", "Australia/Adelaide"),
    ("NZST", "Pacific/Auckland"),
    ("NZDT", "Pacific/Auckland"),
    ("NZT", "Pacific/Auckland"),
    ("UK", "Europe/London"),
];

/// How a word is understood as a zone.
#[derive(Debug, Clone)]
pub(super) enum Named {
    Zone(TimeZone),
    /// It names one, and nobody knows which: any guess would be hours off.
    Unknown,
    /// It is no zone.
    Nothing,
}

/// A word behind a time. `own` is the machine's zone, `at` about when: an abbreviation that is in use there is its own.
pub(super) fn word(word: &str, own: &TimeZone, at: Timestamp) -> Named {
    if let Some(zone) = offset(word) {
        return Named::Zone(zone);
    }
    let is_abbreviation = (2..=5).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_uppercase());
    match known(word, own, at) {
        Some(zone) => Named::Zone(zone),
        None if is_abbreviation => Named::Unknown,
        None if word.contains('/') && word.starts_with(|c: char| c.is_ascii_uppercase()) => {
            TimeZone::get(word).map_or(Named::Nothing, Named::Zone)
        }
        None => Named::Nothing,
    }
}

/// Contents of parentheses after a time: a zone's name, or words for the reader's own clock.
pub(super) fn in_parentheses(name: &str, own: &TimeZone, at: Timestamp) -> Named {
    let name = name.trim();
    let lower = name.to_lowercase();
    if ["local", "local time", "your time", "your local time", "your timezone"].contains(&lower.as_str()) {
        return Named::Zone(own.clone());
    }
    let name = name.strip_suffix(" time").unwrap_or(name);
    match word(name, own, at) {
        Named::Zone(zone) => Named::Zone(zone),
        // Several words are a remark: `(in 2 hours)`.
        Named::Unknown | Named::Nothing if name.contains(' ') => Named::Nothing,
        Named::Unknown | Named::Nothing => TimeZone::get(name).map_or(Named::Unknown, Named::Zone),
    }
}

fn known(word: &str, own: &TimeZone, at: Timestamp) -> Option<TimeZone> {
    // Small letters could be any word: `est`, `et`.
    let upper = ["utc", "gmt"].contains(&word).then(|| word.to_uppercase());
    let word = upper.as_deref().unwrap_or(word);
    if in_use(word, own, at) {
        return Some(own.clone());
    }
    if let Some((_, minutes)) = ABBREVIATIONS.iter().find(|(name, _)| *name == word) {
        return fixed(minutes * 60);
    }
    let (_, place) = PLACES.iter().find(|(name, _)| *name == word)?;
    TimeZone::get(place).ok()
}

/// Whether the clocks of a zone go by this abbreviation around then.
fn in_use(word: &str, zone: &TimeZone, at: Timestamp) -> bool {
    zone.to_offset_info(at).abbreviation() == word
}

/// `+01:00`, `-0500`, `UTC+2`, `GMT-03:30`.
pub(super) fn offset(word: &str) -> Option<TimeZone> {
    let bare = ["UTC", "GMT", "utc", "gmt"].iter().find_map(|name| word.strip_prefix(name)).unwrap_or(word);
    let (sign, digits) = match bare.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-" | "−", digits) => (-1, digits),
        _ => return None,
    };
    let (hours, minutes) = match digits.split_once(':') {
        Some((hours, minutes)) => (hours, minutes),
        None if digits.len() == 4 && digits.is_ascii() => digits.split_at(2),
        None => (digits, "0"),
    };
    let number = |text: &str| text.parse::<i32>().ok().filter(|n| (0..60).contains(n) && text.len() <= 2);
    let (hours, minutes) = (number(hours).filter(|hours| *hours <= 14)?, number(minutes)?);
    fixed(sign * (hours * 60 + minutes) * 60)
}

fn fixed(seconds: i32) -> Option<TimeZone> {
    Offset::from_seconds(seconds).ok().map(TimeZone::fixed)
}
