//! The words and records of a limit and of a server error, as Claude Code 2.1.329 has them.

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};
use serde_json::{Value, json};

/// Shown after the last retry of a request that met status 500.
pub const SERVER_ERROR: &str =
    "API Error: 500 Internal server error. This is a server-side issue, usually temporary — try again in a moment.";

/// A limit, as text and as keys of the transcript's record.
#[derive(Debug)]
pub struct Limit {
    pub text: String,
    pub record: Value,
}

/// The five-hour limit, resetting at an epoch second, else in an hour.
pub fn five_hour(reset: Option<i64>) -> Limit {
    let now = Zoned::now();
    let at = reset.and_then(|s| Timestamp::from_second(s).ok()).unwrap_or_else(|| {
        let soon = now.timestamp() + 1.hour();
        Timestamp::from_second(soon.as_second()).unwrap_or(soon)
    });
    let text = format!("You've hit your 5-hour limit · resets {}", when(&at.to_zoned(now.time_zone().clone()), &now));
    let record = json!({
        "error": "rate_limit",
        "apiError": "usage_limit_reached",
        "apiErrorStatus": 429,
        "quotaLimits": {"status": "rejected", "resetsAt": at.as_second(), "rateLimitType": "five_hour"},
    });
    Limit { text, record }
}

fn when(at: &Zoned, now: &Zoned) -> String {
    let zone = zone_name(at);
    let format = if at.date() == now.date() { "%-I:%M%P" } else { "%b %-d, %-I:%M%P" };
    format!("{} ({zone})", at.strftime(format))
}

fn zone_name(at: &Zoned) -> String {
    match at.time_zone() {
        zone if zone == &TimeZone::UTC || zone.is_unknown() => "UTC".to_owned(),
        zone => zone.iana_name().map_or_else(|| at.strftime("%Z").to_string(), str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_measured() {
        let now: Zoned = "2026-11-21T02:37:00[UTC]".parse().unwrap();
        let later = |text: &str| when(&text.parse::<Zoned>().unwrap(), &now);
        assert_eq!(later("2026-11-21T04:37:00[UTC]"), "4:37am (UTC)");
        assert_eq!(later("2026-11-26T14:05:00[UTC]"), "Nov 26, 2:05pm (UTC)");
        assert_eq!(five_hour(Some(1_795_235_866)).record["quotaLimits"]["resetsAt"], 1_795_235_866);
    }
}
