//! Simulates refused requests in the words and records of Claude Code 2.1.329: limits, a lost login, server errors.
//!
//! Takes a mode, or the home's file `limit`, which anybody may write; returns texts and records. Never writes that
//! file.

use std::path::Path;
use std::str::FromStr;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};
use serde_json::{Value, json};

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    FiveHour,
    SevenDay,
    Spend,
    Credit,
    Login,
    Server,
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "five_hour" => Ok(Self::FiveHour),
            "seven_day" => Ok(Self::SevenDay),
            "spend" => Ok(Self::Spend),
            "credit" => Ok(Self::Credit),
            "login" => Ok(Self::Login),
            "server-error" => Ok(Self::Server),
            _ => Err(format!("`{word}` is none of: EPOCH five_hour seven_day spend credit login server-error")),
        }
    }
}

/// A kind, and the epoch second at which it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    pub kind: Kind,
    pub until: Option<i64>,
}

/// A refusal in the agent's words.
#[derive(Debug)]
pub struct Told {
    pub text: String,
    /// The `error` of the StopFailure hook.
    pub error: &'static str,
    /// Keys of the transcript's record.
    pub record: Value,
    /// The menu of a limit comes up: Claude Code's with `autoContinueAtUsageLimit` off.
    pub menu: bool,
}

/// What refuses every request under this home now: its file `limit` says until when and what, as in `1795235866 seven_day`.
/// Both may be missing; an empty file, or a time that has passed, refuses nothing.
pub fn in_force(home: &Path) -> Option<Told> {
    let path = home.join("limit");
    let text = std::fs::read_to_string(&path).ok()?;
    match parse(&text) {
        Ok(refusal) => {
            let now = Timestamp::now().as_second();
            refusal.filter(|refusal| refusal.until.is_none_or(|until| until > now)).map(told)
        }
        Err(error) => Some(Told {
            text: format!("API Error: 400 {}: {error}", path.display()),
            error: "invalid_request",
            record: json!({"error": "invalid_request", "apiErrorStatus": 400}),
            menu: false,
        }),
    }
}

fn parse(text: &str) -> Result<Option<Refusal>, String> {
    let mut refusal = Refusal { kind: Kind::FiveHour, until: None };
    for word in text.split_whitespace() {
        match word.parse() {
            Ok(second) => refusal.until = Some(second),
            Err(_) => refusal.kind = word.parse()?,
        }
    }
    Ok((!text.trim().is_empty()).then_some(refusal))
}

/// Words and records. A limit that was given no end resets in an hour.
pub fn told(refusal: Refusal) -> Told {
    let plain = |text: &str, error: &'static str, status: u32| Told {
        text: text.to_owned(),
        error,
        record: json!({"error": error, "apiErrorStatus": status}),
        menu: false,
    };
    match refusal.kind {
        Kind::FiveHour => resetting("5-hour", "five_hour", refusal.until),
        Kind::SevenDay => resetting("weekly", "seven_day", refusal.until),
        Kind::Spend => limit("You've hit your monthly spend limit".to_owned(), json!({"rateLimitType": "overage"})),
        Kind::Credit => plain("Credit balance is too low", "billing_error", 400),
        Kind::Login => plain(
            "Please run /login · API Error: 401 OAuth token has expired. Please obtain a new token or refresh your existing token.",
            "authentication_failed",
            401,
        ),
        Kind::Server => plain(
            "API Error: 500 Internal server error. This is a server-side issue, usually temporary — try again in a moment.",
            "server_error",
            500,
        ),
    }
}

fn resetting(name: &str, word: &str, until: Option<i64>) -> Told {
    let now = Zoned::now();
    let at = until.and_then(|s| Timestamp::from_second(s).ok()).unwrap_or_else(|| {
        let soon = now.timestamp() + 1.hour();
        Timestamp::from_second(soon.as_second()).unwrap_or(soon)
    });
    let when = when(&at.to_zoned(now.time_zone().clone()), &now);
    let text = format!("You've hit your {name} limit · resets {when}");
    limit(text, json!({"resetsAt": at.as_second(), "rateLimitType": word}))
}

fn limit(text: String, mut quota: Value) -> Told {
    quota["status"] = json!("rejected");
    let record = json!({
        "error": "rate_limit",
        "apiError": "usage_limit_reached",
        "apiErrorStatus": 429,
        "quotaLimits": quota,
    });
    Told { text, error: "rate_limit", record, menu: true }
}

/// How the screen shows the text of a refusal.
pub fn shown(text: &str) -> String {
    if text == "Credit balance is too low" {
        return "  ⎿  Credit balance too low · Add funds: https://platform.claude.com/settings/billing".to_owned();
    }
    let mark = if text.contains("API Error: ") { "● " } else { "  ⎿  " };
    format!("{mark}{text}")
}

fn when(at: &Zoned, now: &Zoned) -> String {
    let zone = zone_name(at);
    let format = if at.date() == now.date() { "%-I:%M%P" } else { "%b %-d, %-I:%M%P" };
    format!("{} ({zone})", at.strftime(format))
}

fn zone_name(at: &Zoned) -> String {
    match at.time_zone() {
        zone if zone == &TimeZone::UTC || zone.is_unknown() => "UTC".to_owned(),
        // One zone with two names; Claude Code says the short one.
        zone if zone.iana_name() == Some("Etc/UTC") => "UTC".to_owned(),
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
        let told = told(Refusal { kind: Kind::FiveHour, until: Some(1_795_235_866) });
        assert_eq!(told.record["quotaLimits"]["resetsAt"], 1_795_235_866);
    }

    #[test]
    fn the_file_names_time_and_kind_in_any_order_or_nothing() {
        let refusal = |kind, until| Ok(Some(Refusal { kind, until }));
        assert_eq!(parse(" \n"), Ok(None));
        assert_eq!(parse("99\n"), refusal(Kind::FiveHour, Some(99)));
        assert_eq!(parse("seven_day 99"), refusal(Kind::SevenDay, Some(99)));
        assert_eq!(parse("login"), refusal(Kind::Login, None));
        assert!(parse("99 nonsense").unwrap_err().contains("nonsense"));
        let home = tempfile::tempdir().unwrap();
        assert!(in_force(home.path()).is_none());
        std::fs::write(home.path().join("limit"), "99").unwrap();
        assert!(in_force(home.path()).is_none(), "its time has passed");
        std::fs::write(home.path().join("limit"), "9999999999 login").unwrap();
        assert_eq!(in_force(home.path()).unwrap().error, "authentication_failed");
    }
}
