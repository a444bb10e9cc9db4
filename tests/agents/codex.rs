//! Codex.

use crate::{
    mock_llm::{Claim, Mode},
    scenario,
    stage::{Cli, Play},
};

const ME: Cli = Cli::Codex;

#[test]
fn codex_answers() {
    scenario::answers(ME);
}

#[test]
fn codex_is_told_its_instructions() {
    scenario::is_told_its_instructions(ME);
}

#[test]
fn codex_runs_a_tool() {
    scenario::runs_a_tool(ME);
}

#[test]
fn codex_asks_for_permission() {
    scenario::asks_for_permission(ME);
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

#[test]
fn codex_goes_on_after_an_interrupt() {
    scenario::an_interrupted_task_goes_on_by_input(ME);
}

/// The first failure of the server ends the attempt.
const NO_PAUSES: Play<'static> = Play {
    cli: ME,
    args: "",
    env: &[],
    subscription: false,
    trusted: true,
    accounts: 1,
    sessions: 1,
    instructions: None,
    more: "watcher: {server_retries: 0}",
};

#[test]
fn codex_is_not_limited_by_an_overloaded_server() {
    scenario::a_server_error_is_no_limit(NO_PAUSES, Mode::Overloaded);
}

#[test]
fn codex_is_not_limited_by_throttling() {
    scenario::a_server_error_is_no_limit(NO_PAUSES, Mode::RateLimit);
}

#[test]
fn codex_s_limit_parks_the_task() {
    scenario::a_limit_parks_the_task(Play::new(ME), Claim::FiveHour);
}

#[test]
fn codex_takes_no_text_for_a_command() {
    scenario::texts_are_never_commands(ME);
}

/// Codex runs a person's hooks only when he has trusted them.
const TRUSTING: Play<'static> = Play { args: "--dangerously-bypass-hook-trust", more: "", ..NO_PAUSES };

#[test]
fn codex_s_own_stop_hooks_run_to_their_end() {
    scenario::a_stop_hook_runs_to_its_end(TRUSTING);
}

#[test]
fn codex_s_refused_prompt_fails_with_its_reason() {
    scenario::a_refused_prompt_fails_with_its_reason(TRUSTING, "echo policy says no >&2; exit 2");
}

#[test]
fn codex_s_question_waits() {
    scenario::a_question_waits(Play { args: "-c, features.default_mode_request_user_input=true", ..Play::new(ME) });
}

#[test]
fn codex_s_command_in_the_background_is_ended() {
    scenario::a_command_in_the_background_is_ended(Play::new(ME));
}

#[test]
fn codex_s_command_ends_with_it_where_it_may_stay() {
    scenario::a_command_ends_with_its_agent_where_it_may_stay(ME);
}

#[test]
fn codex_s_hooks_have_the_token() {
    scenario::its_hooks_have_the_token(ME);
}

#[test]
fn codex_takes_a_text_about_limits_for_a_text() {
    scenario::a_text_about_limits_is_a_text(ME);
}
