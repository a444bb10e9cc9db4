//! Classifies a provider's errors by the rules in `errors.yaml`.
//! Takes an answer's status and body; returns a verdict. Pure.

use std::time::Duration;

use regex::{Regex, RegexBuilder};
use serde::Deserialize;

/// What is to be done about an error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    /// Sent again after a pause.
    Again,
    /// As a lost connection: what the server began on may still be going on.
    Lost,
    Exhausted,
    /// For the duration that it named.
    Cooling(Option<Duration>),
    Broken,
    Refused,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    rules: Vec<Line>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    rule: String,
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    text: Option<String>,
    mean: Meaning,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Meaning {
    Again,
    Lost,
    Exhausted,
    Cooling,
    Broken,
    Refused,
}

/// The rules, every pattern compiled.
#[derive(Debug)]
pub struct Rules(Vec<Rule>);

#[derive(Debug)]
struct Rule {
    name: String,
    status: Option<Regex>,
    text: Option<Regex>,
    mean: Meaning,
}

impl Rules {
    /// # Errors
    /// The reader's words about the built-in file.
    pub fn built_in() -> Result<Self, String> {
        let file: File = serde_yaml::from_str(include_str!("errors.yaml")).map_err(|error| error.to_string())?;
        let compile = |line: Line| {
            let pattern = |text: &str| RegexBuilder::new(text).case_insensitive(true).build();
            let status = line.status.as_ref().map(|status| pattern(&format!("^(?:{status})$"))).transpose()?;
            let text = line.text.as_deref().map(pattern).transpose()?;
            Ok(Rule { name: line.rule, status, text, mean: line.mean })
        };
        file.rules.into_iter().map(compile).collect::<Result<_, regex::Error>>().map(Self).map_err(|e| e.to_string())
    }

    /// The first rule that fits; what none fits is nobody's request gone wrong but a server that doesn't speak HTTP as it should.
    pub fn judge(&self, status: u16, body: &str) -> Verdict {
        let code = status.to_string();
        for rule in &self.0 {
            if rule.status.as_ref().is_some_and(|status| !status.is_match(&code)) {
                continue;
            }
            let found = rule.text.as_ref().map(|text| text.captures(body));
            if let Some(None) = found {
                continue;
            }
            tracing::debug!(status, rule = rule.name, "a provider's error");
            let seconds = found.flatten().and_then(|found| found.name("seconds")?.as_str().parse().ok());
            return match rule.mean {
                Meaning::Again => Verdict::Again,
                Meaning::Lost => Verdict::Lost,
                Meaning::Exhausted => Verdict::Exhausted,
                Meaning::Cooling => Verdict::Cooling(seconds.and_then(|s: f64| Duration::try_from_secs_f64(s).ok())),
                Meaning::Broken => Verdict::Broken,
                Meaning::Refused => Verdict::Refused,
            };
        }
        Verdict::Broken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts as the servers write them; errors.yaml says where from.
    #[test]
    fn the_known_texts_mean_what_they_mean() {
        let rules = Rules::built_in().expect("the built-in rules");
        let cooling = |seconds| Verdict::Cooling(Some(Duration::from_secs(seconds)));
        let anthropic = r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the Anthropic API."}}"#;
        let quota = r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}"#;
        let litellm = r#"{"error":{"message":"No deployments available for selected model, Try again in 60 seconds. Passed model=m. pre-call-checks=False, cooldown_list=['x']","type":"None","code":"429"}}"#;
        let float = "litellm.types.router.RouterRateLimitError: No deployments available for selected model, Try again in 5.0 seconds.";
        let budget = r#"{"error":{"message":"Budget has been exceeded! Current cost: 0.1, Max budget: 0.0","type":"budget_exceeded","code":"400"}}"#;
        let crossed = "429 No deployments available - crossed budget: Exceeded budget for deployment";
        let gemini = r#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay": "31s"}]}}"#;
        let fraction = r#"{"retryDelay":"45.837906927s"}"#;
        let day = r#"{"error":{"details":[{"violations":[{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]},{"retryDelay":"31s"}]}}"#;
        let invalid =
            r#"{"error":{"code":400,"message":"API key not valid.","details":[{"reason":"API_KEY_INVALID"}]}}"#;
        let quoted = r#"{"detail":[{"input":"explain insufficient_quota"}]}"#;
        for (status, body, expected) in [
            (402, "", Verdict::Exhausted),
            (402, r#"{"error":{"message":"Insufficient credits"}}"#, Verdict::Exhausted),
            (400, anthropic, Verdict::Exhausted),
            (400, "credit balance too low", Verdict::Exhausted),
            (429, quota, Verdict::Exhausted),
            (400, budget, Verdict::Exhausted),
            (429, budget, Verdict::Exhausted),
            (429, r#"{"code":"budget_limit_exceeded"}"#, Verdict::Exhausted),
            (500, "litellm.BadRequestError: Budget has been exceeded!", Verdict::Exhausted),
            (429, crossed, Verdict::Exhausted),
            (403, r#"{"error":{"message":"Key limit exceeded (monthly limit)."}}"#, Verdict::Exhausted),
            (429, day, Verdict::Exhausted),
            (429, litellm, cooling(60)),
            (500, float, cooling(5)),
            (429, "RouterRateLimitError: cooldown 60s", cooling(60)),
            (503, "cooldown_time=60", cooling(60)),
            (429, gemini, cooling(31)),
            (429, fraction, Verdict::Cooling(Some(Duration::from_nanos(45_837_906_927)))),
            (429, "", Verdict::Cooling(None)),
            (401, "", Verdict::Broken),
            (403, "permission_error", Verdict::Broken),
            (400, invalid, Verdict::Broken),
            (404, "model not found", Verdict::Broken),
            (400, r#"{"error":{"message":"No connected db.","type":"no_db_connection"}}"#, Verdict::Broken),
            (304, "", Verdict::Broken),
            (400, "prompt is too long", Verdict::Refused),
            (413, "", Verdict::Refused),
            (422, quoted, Verdict::Refused),
            (500, "", Verdict::Again),
            (504, "", Verdict::Lost),
            (529, r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#, Verdict::Again),
        ] {
            assert_eq!(rules.judge(status, body), expected, "{status} {body}");
        }
    }
}
