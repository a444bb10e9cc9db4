//! Codex.

use crate::{
    scenario,
    stage::{Cli, Play},
};

const ME: Cli = Cli::Codex;

#[test]
fn codex_answers() {
    scenario::answers(ME);
}

#[test]
fn codex_runs_a_tool() {
    scenario::runs_a_tool(ME);
}

#[test]
fn codex_asks_for_permission() {
    scenario::asks_for_permission(Play::new(ME), "ESCALATE\nRUN: touch OUTSIDE && sleep 3\n", "y");
}

#[test]
fn codex_takes_a_long_prompt() {
    scenario::takes_a_long_prompt(ME);
}

#[test]
fn codex_does_two_tasks_in_two_conversations() {
    scenario::two_tasks_are_two_conversations(ME);
}

#[test]
fn codex_survives_the_daemon_s_death() {
    scenario::survives_kill_9(ME);
}
