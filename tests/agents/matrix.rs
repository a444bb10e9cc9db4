//! Compatibility matrix: nine trials with each CLI version in tests/agents/matrix.txt, compared with the outcomes
//! listed there. A program, not a test: it installs a lot and takes long (`make agents-test`).
//!
//! usage: cargo test --test agents-matrix -- [CLI VERSION [TRIAL]...]      (default: every row, every trial)
//! Exit 1 when an outcome is another than the file says, also when it is better.

#![allow(dead_code, unused_imports, reason = "what it shares with the tests has more than it tries")]

use std::{env, panic, process::ExitCode};

#[path = "../support/cli.rs"]
mod cli;
mod failover;
#[path = "../support/mock_llm.rs"]
mod mock_llm;
mod scenario;
mod stage;
#[path = "../support/daemon.rs"]
mod world;

use mock_llm::Claim;
use stage::{Cli, VERSION};

const CLIS: [Cli; 5] = [Cli::Claude, Cli::Codex, Cli::Gemini, Cli::Opencode, Cli::Qwen];

/// As numbered in matrix.txt.
const TRIALS: [fn(Cli); 9] = [
    scenario::answers,
    scenario::runs_a_tool,
    scenario::asks_for_permission,
    scenario::takes_a_long_prompt,
    scenario::two_tasks_are_two_conversations,
    |cli| failover::a_limit_in_the_middle(cli, Claim::FiveHour),
    failover::a_storm,
    |cli| drop(failover::a_lost_login(cli)),
    scenario::a_text_about_limits_is_a_text,
];

fn main() -> ExitCode {
    let asked: Vec<String> = env::args().skip(1).collect();
    let mut wrong = 0;
    for line in include_str!("matrix.txt").lines().filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase())) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, version, expected @ ..] = words.as_slice() else { panic!("a row without a version: {line}") };
        assert_eq!(expected.len(), TRIALS.len(), "{line}");
        let cli = CLIS.into_iter().find(|cli| cli.name() == *name).unwrap_or_else(|| panic!("no CLI {name}"));
        if !asked.is_empty() && (asked[0] != *name || asked.get(1).is_some_and(|asked| asked != version)) {
            continue;
        }
        assert!(cli::program(name, version).is_some(), "{name} {version} can't be installed");
        *VERSION.lock().expect("no trial holds it") = Some((*version).to_owned());
        for (number, (trial, expected)) in (1..).zip(TRIALS.iter().zip(expected)) {
            if asked.len() > 2 && !asked[2..].contains(&number.to_string()) {
                continue;
            }
            let outcome = if panic::catch_unwind(|| trial(cli)).is_ok() { "ok" } else { "no" };
            let note = if outcome == *expected { String::new() } else { format!(" (expected {expected})") };
            wrong += u32::from(!note.is_empty());
            println!("== {name} {version}, trial {number}: {outcome}{note}");
        }
    }
    ExitCode::from(u8::from(wrong > 0))
}
