//! A finished task's file: the task as written, then its result (INTERFACE 4).
//! Turns the task's bytes, its run and its end into the bytes for `done/` or `failed/`; and parses which run a result
//! belongs to.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde::Serialize;

use super::text::clean;
use crate::model::{
    evidence::Tokens,
    footer::{RESULT_LINE, without_result},
    ids::{AccountName, RunId},
    steady::Timeline,
    task::{Ending, Work},
};

#[derive(Serialize)]
struct Footer<'a> {
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<&'a RunId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instead: Option<&'a str>,
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
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ended_with_agent: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    left_running: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

/// The file's bytes. The task's own stay as they are; what the agent said is made harmless, and no line of it can be taken for
/// the beginning of a result.
#[must_use]
pub fn render(task: &[u8], work: Option<&Work>, ending: &Ending, timeline: &Timeline) -> Vec<u8> {
    let (run, job) = (work.and_then(Work::run), work.and_then(Work::job));
    let mut out = without_result(task).to_vec();
    if !out.is_empty() && out.last() != Some(&b'\n') {
        out.push(b'\n');
    }
    let mut text = format!("{RESULT_LINE}\n\n");
    if let Some(message) = &ending.message {
        text.push_str(quoted(message).trim_end());
        text.push_str("\n\n");
    }
    let screen = ending.screen.as_deref().map(quoted).unwrap_or_default();
    let screen = screen.trim_end();
    if !screen.is_empty() {
        let fence = fence_for(screen);
        let _ = write!(text, "The last screen:\n\n{fence}text\n{screen}\n{fence}\n\n");
    }
    let job_id = job.and_then(|job| job.id.as_deref()).map(clean);
    let (resume_id, error) = (ending.resume_id.as_deref().map(clean), ending.error.as_deref().map(clean));
    let cleaned = |commands: &[String]| commands.iter().map(|command| clean(command)).collect();
    let footer = Footer {
        status: ending.status.word(),
        run: work.map(Work::id),
        // In steady time, which no clock that is set changes.
        end: work.is_none().then(|| format!("e{:x}", ending.at.as_nanosecond())),
        agent: run.map(|run| run.agent.as_str()),
        provider: job.map(|job| job.provider.as_str()),
        job: job_id.as_deref(),
        instead: work.and_then(Work::instead),
        session: run.map(|run| run.session.as_str()),
        accounts: run.iter().flat_map(|run| &run.accounts).map(AccountName::as_str).collect(),
        attempts: work.map_or(0, Work::attempt),
        started: work.map(|work| second(timeline.shown(work.claimed()))),
        finished: second(timeline.shown(ending.at)),
        seconds: work.map(|work| ending.at.duration_since(work.claimed()).as_secs()),
        tokens: ending.tokens,
        cost_usd: ending.cost_usd,
        resume_id: resume_id.as_deref(),
        ended_with_agent: cleaned(&ending.ended_with_agent),
        left_running: cleaned(&ending.left_running),
        error: error.as_deref(),
    };
    // A struct of words and numbers always serialises.
    let yaml = serde_yaml::to_string(&footer).unwrap_or_default();
    let _ = write!(text, "```yaml\n{}\n```\n", yaml.trim_end());
    out.extend_from_slice(text.as_bytes());
    out
}

/// Somebody's text inside a result.
fn quoted(text: &str) -> String {
    clean(text)
        .split_inclusive('\n')
        .map(|line| if line.trim_end() == RESULT_LINE { format!("\\{line}") } else { line.to_owned() })
        .collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        footer::{Told, run_of, told},
        ids::{AgentName, SessionName},
        samples,
        task::{Run, Status},
    };

    fn run() -> Run {
        Run {
            id: RunId("r-1".into()),
            session: SessionName::parse("s-1").expect("name"),
            agent: AgentName::parse("demo").expect("name"),
            attempt: 2,
            attempts_allowed: 2,
            claimed: "2026-01-01T00:00:00Z".parse().expect("time"),
            ..samples::run()
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
            ended_with_agent: Vec::new(),
            left_running: Vec::new(),
            at: "2026-01-01T00:01:00Z".parse().expect("time"),
        }
    }

    #[test]
    fn the_task_stays_as_written_and_the_run_can_be_read_back() {
        let file = render(
            b"---\npriority: 1\n---\ndo it",
            Some(&Work::Run(run())),
            &ending("run: not-this\n```yaml\nrun: nor-this\n```"),
            &Timeline::default(),
        );
        let text = String::from_utf8(file.clone()).expect("text");
        assert!(text.starts_with("---\npriority: 1\n---\ndo it\n<!-- claude-failover:result -->\n"), "{text}");
        assert!(text.contains("seconds: 60") && text.contains("attempts: 2") && text.contains("`````text"), "{text}");
        assert_eq!(run_of(&file), Some(RunId("r-1".into())));
        assert_eq!(run_of(b"do it\n"), None);
        let finished = Some("2026-01-01T00:01:00Z".parse().expect("time"));
        assert_eq!(told(&file), Some(Told { finished }));
        assert_eq!(told(b"do it\n```yaml\nstatus: done\n```\n"), None, "somebody's own");
        let strange = format!("do it\n{RESULT_LINE}\n```yaml\nstatus: waiting\nrun: r\n```\n");
        assert_eq!(told(strange.as_bytes()), None);
        assert_eq!(without_result(&file), b"---\npriority: 1\n---\ndo it\n");
    }

    /// Only a whole result of ours at the file's end is cut, with every way in which a task may quote one.
    #[test]
    fn a_task_about_results_keeps_its_text() {
        let one = String::from_utf8(render(
            b"earlier task",
            Some(&Work::Run(run())),
            &ending("OLD ANSWER"),
            &Timeline::default(),
        ))
        .expect("text");
        for task in [
            format!("Continue this:\n{RESULT_LINE}\nOLD ANSWER\n\nNow my real question\n"),
            format!("{RESULT_LINE}\n"),
            format!("```\n{RESULT_LINE}\n```\nwhat is this?\n"),
            format!("echo one\n{RESULT_LINE}\necho two\n"),
            format!("Why did this fail?\n\n{one}\nSay it in one sentence.\n"),
            format!("Compare\n{one}\nwith\n{one}\nplease\n"),
            format!("fence\n{RESULT_LINE}\n```yaml\nname: x\n```\n"),
            format!("told\n{RESULT_LINE}\n```yaml\nstatus: done\n```\n"),
            format!("{RESULT_LINE} is the line\n"),
        ] {
            assert_eq!(without_result(task.as_bytes()), task.as_bytes(), "{task}");
            // Filed, moved back, filed again: always the same task.
            let mut file = task.clone().into_bytes();
            for _ in 0..3 {
                file = render(
                    &file,
                    Some(&Work::Run(run())),
                    &ending(&format!("see {one}\n{RESULT_LINE}\n{one}")),
                    &Timeline::default(),
                );
                assert_eq!(String::from_utf8_lossy(without_result(&file)), task);
                assert_eq!(run_of(&file), Some(RunId("r-1".into())));
            }
        }
        // Results that stand one behind the other, with line ends of another system or blank lines behind.
        let stacked = format!("{one}{}", &one["earlier task\n".len()..]);
        for file in [stacked, format!("{one}\n\n"), one.replace('\n', "\r\n")] {
            assert_eq!(without_result(file.as_bytes()).trim_ascii_end(), b"earlier task", "{file}");
        }
    }

    #[test]
    fn what_an_agent_said_steers_no_terminal_and_the_task_stays_as_written() {
        let strange = "\u{1b}[31mred\u{1b}]52;c;cHduZWQ=\u{7}\u{9b}2J\u{202e}\0";
        let ending = Ending { error: Some(strange.to_owned()), screen: Some(strange.to_owned()), ..ending(strange) };
        let file = render(strange.as_bytes(), Some(&Work::Run(run())), &ending, &Timeline::default());
        let result = String::from_utf8(file[strange.len()..].to_vec()).expect("text");
        assert!(file.starts_with(strange.as_bytes()), "the task's own bytes");
        assert!(!result.contains(crate::model::text::is_harmful) && result.matches("red").count() == 3, "{result:?}");
    }
}
