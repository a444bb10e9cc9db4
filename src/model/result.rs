//! A finished task's file: the task as written, then its result (INTERFACE 4).
//! In: the task's bytes, its run, its end. Out: the bytes for `done/` or `failed/`; and back: which run a result is of.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde::Serialize;

use super::task_file::{RESULT_LINE, without_result};
use crate::model::{
    evidence::Tokens,
    ids::{AccountName, RunId},
    task::{Ending, Status, Work},
};

#[derive(Serialize)]
struct Footer<'a> {
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<&'a RunId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<&'a str>,
    accounts: Vec<&'a str>,
    attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<String>,
    finished: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<Tokens>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cost_usd: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resume_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

/// The file's bytes.
#[must_use]
pub fn render(task: &[u8], work: Option<&Work>, ending: &Ending) -> Vec<u8> {
    let (run, job) = (work.and_then(Work::run), work.and_then(Work::job));
    let mut out = without_result(task).to_vec();
    if !out.is_empty() && out.last() != Some(&b'\n') {
        out.push(b'\n');
    }
    let mut text = format!("{RESULT_LINE}\n\n");
    if let Some(message) = &ending.message {
        text.push_str(message.trim_end());
        text.push_str("\n\n");
    }
    if let Some(screen) = ending.screen.as_deref().map(str::trim_end).filter(|screen| !screen.is_empty()) {
        let fence = fence_for(screen);
        let _ = write!(text, "The last screen:\n\n{fence}text\n{screen}\n{fence}\n\n");
    }
    let footer = Footer {
        status: ending.status.word(),
        run: work.map(Work::id),
        agent: run.map(|run| run.agent.as_str()),
        provider: job.map(|job| job.provider.as_str()),
        job: job.and_then(|job| job.id.as_deref()),
        session: run.map(|run| run.session.as_str()),
        accounts: run.iter().flat_map(|run| &run.accounts).map(AccountName::as_str).collect(),
        attempts: work.map_or(0, Work::attempt),
        started: work.map(|work| second(work.claimed())),
        finished: second(ending.at),
        seconds: work.map(|work| ending.at.duration_since(work.claimed()).as_secs()),
        tokens: ending.tokens,
        cost_usd: ending.cost_usd,
        resume_id: ending.resume_id.as_deref(),
        error: ending.error.as_deref(),
    };
    // A struct of words and numbers always serialises.
    let yaml = serde_yaml::to_string(&footer).unwrap_or_default();
    let _ = write!(text, "```yaml\n{}\n```\n", yaml.trim_end());
    out.extend_from_slice(text.as_bytes());
    out
}

/// A time to the second: what people compare.
fn second(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

/// A fence longer than any run of backticks inside.
fn fence_for(text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    "`".repeat(longest.max(2) + 1)
}

/// The run whose result a finished file holds.
#[must_use]
pub fn run_of(file: &[u8]) -> Option<RunId> {
    value(&footer(file)?, "run").map(|run| RunId(run.to_owned()))
}

/// What a finished file tells of its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    pub finished: Option<Timestamp>,
}

/// `None` for a file without a result of ours.
#[must_use]
pub fn told(file: &[u8]) -> Option<Told> {
    let footer = footer(file)?;
    let ours =
        [Status::Done, Status::Failed, Status::Cancelled].iter().any(|s| value(&footer, "status") == Some(s.word()));
    ours.then(|| Told { finished: value(&footer, "finished").and_then(|text| text.parse().ok()) })
}

/// The block at a finished file's end.
fn footer(file: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(&file[without_result(file).len()..]);
    text.rfind("```yaml\n").map(|at| text[at..].to_owned())
}

fn value<'a>(footer: &'a str, key: &str) -> Option<&'a str> {
    let line = footer.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    Some(line.trim().trim_matches(['"', '\''])).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        ids::{AgentName, SessionName},
        task::{Delivery, Run, Status, Stop, TextFacts},
    };

    fn run() -> Run {
        Run {
            id: RunId("r-1".into()),
            session: SessionName::parse("s-1").expect("name"),
            agent: AgentName::parse("demo").expect("name"),
            accounts: Vec::new(),
            workdir: "/p".into(),
            attempt: 2,
            attempts_allowed: 2,
            timeout: None,
            claimed: "2026-01-01T00:00:00Z".parse().expect("time"),
            typed: None,
            delivery: Delivery::NotBegun,
            stop: Stop::No,
            pauses: 0,
            text: TextFacts {
                sha256: String::new(),
                identity: String::new(),
                bytes: 0,
                modified: "2026-01-01T00:00:00Z".parse().expect("time"),
            },
        }
    }

    fn ending(message: &str) -> Ending {
        Ending {
            status: Status::Done,
            message: Some(message.to_owned()),
            error: None,
            screen: Some("a ```` b".to_owned()),
            tokens: Some(Tokens { input: 1, output: 2, cache_read: 3, cache_write: 4 }),
            cost_usd: None,
            resume_id: None,
            at: "2026-01-01T00:01:00Z".parse().expect("time"),
        }
    }

    #[test]
    fn the_task_stays_as_written_and_the_run_can_be_read_back() {
        let file = render(
            b"---\npriority: 1\n---\ndo it",
            Some(&Work::Run(run())),
            &ending("run: not-this\n```yaml\nrun: nor-this\n```"),
        );
        let text = String::from_utf8(file.clone()).expect("text");
        assert!(text.starts_with("---\npriority: 1\n---\ndo it\n<!-- claude-failover:result -->\n"), "{text}");
        assert!(text.contains("seconds: 60") && text.contains("attempts: 2") && text.contains("`````text"), "{text}");
        assert_eq!(run_of(&file), Some(RunId("r-1".into())));
        assert_eq!(run_of(b"do it\n"), None);
        let finished = Some("2026-01-01T00:01:00Z".parse().expect("time"));
        assert_eq!(told(&file), Some(Told { finished }));
        assert_eq!(told(b"do it\n```yaml\nstatus: done\n```\n"), None, "somebody's own");
        let strange = format!("do it\n{RESULT_LINE}\n```yaml\nstatus: waiting\n```\n");
        assert_eq!(told(strange.as_bytes()), None);
        assert_eq!(without_result(&file), b"---\npriority: 1\n---\ndo it\n");
    }
}
