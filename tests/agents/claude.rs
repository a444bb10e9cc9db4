//! Claude Code.

use std::fs;

use crate::{
    mock_llm::{Claim, Mode},
    scenario,
    stage::{ACCEPT, Cli, Play, SESSION, Stage},
};

const ME: Cli = Cli::Claude;

#[test]
fn claude_answers() {
    scenario::answers(ME);
}

#[test]
fn claude_is_told_its_instructions() {
    scenario::is_told_its_instructions(ME);
}

#[test]
fn claude_runs_a_tool() {
    scenario::runs_a_tool(ME);
}

#[test]
fn claude_asks_for_permission() {
    scenario::asks_for_permission(ME);
}

#[test]
fn claude_takes_a_long_prompt() {
    scenario::takes_a_long_prompt(ME);
}

#[test]
fn claude_does_two_tasks_in_two_conversations() {
    scenario::two_tasks_are_two_conversations(ME);
}

#[test]
fn claude_survives_the_daemon_s_death() {
    scenario::survives_kill_9(ME);
}

#[test]
fn claude_goes_on_after_an_interrupt() {
    scenario::an_interrupted_task_goes_on_by_input(ME);
}

/// Without this Claude Code tries 11 times in three minutes.
const FEW_RETRIES: Play<'static> = Play {
    cli: ME,
    args: ACCEPT,
    env: &[("CLAUDE_CODE_MAX_RETRIES", "1")],
    subscription: false,
    trusted: true,
    accounts: 1,
    sessions: 1,
    instructions: None,
    more: "watcher: {server_retries: 0}",
};

#[test]
fn claude_is_not_limited_by_a_server_s_fault() {
    scenario::a_server_error_is_no_limit(FEW_RETRIES, Mode::ServerError);
}

#[test]
fn claude_is_not_limited_by_an_overloaded_server() {
    scenario::a_server_error_is_no_limit(FEW_RETRIES, Mode::Overloaded);
}

#[test]
fn claude_is_not_limited_by_throttling() {
    scenario::a_server_error_is_no_limit(FEW_RETRIES, Mode::RateLimit);
}

#[test]
fn claude_s_five_hour_limit_parks_the_task() {
    scenario::a_limit_parks_the_task(Play { subscription: true, ..Play::new(ME) }, Claim::FiveHour);
}

#[test]
fn claude_s_weekly_limit_parks_the_task() {
    scenario::a_limit_parks_the_task(Play { subscription: true, ..Play::new(ME) }, Claim::SevenDay);
}

/// What is used of the account comes by a status line of ours; the person's own stays in its place.
#[test]
fn claude_tells_what_is_used_of_its_account() {
    let Some(stage) = Stage::set(Play { subscription: true, ..Play::new(ME) }) else { return };
    let own = r#"{"statusLine": {"type": "command", "command": "grep -o '.session_id' | sed 's/.*/MINE/'"}}"#;
    fs::write(stage.world.path("account-one/settings.json"), own).expect("the person's settings");
    // It is told with an answer, but the agent of a task that is done is ended at once: only a second answer gives it time.
    stage.world.submit("a", "RUN: sleep 2\n");
    stage.until("the person's own status line", |s| s.word("pane").contains("MINE"));
    stage.done("a");
    let told = |stage: &Stage| {
        let log = fs::read_to_string(stage.world.path(&format!("state/hooks/{SESSION}.jsonl"))).unwrap_or_default();
        let before =
            fs::read_to_string(stage.world.path(&format!("state/hooks/{SESSION}.jsonl.1"))).unwrap_or_default();
        let lines: Vec<String> = (before + &log).lines().map(str::to_owned).collect();
        lines.into_iter().filter(|line| line.contains("\"StatusLine\"")).collect::<Vec<_>>()
    };
    stage.until("the usage in the hook log", |s| told(s).iter().any(|line| line.contains("\"used_percentage\":42")));
    // The server's reset times move with each of its answers; nothing else may add a line.
    let answers = stage.main_requests().len();
    assert!(told(&stage).len() <= answers, "{:#?}\n{}", told(&stage), stage.told());
}

/// A turn whose subagent still works is not over; the result is what came last.
#[test]
fn claude_s_subagents_belong_to_the_task() {
    let Some(stage) = Stage::set(Play::new(ME)) else { return };
    stage.world.submit("a", "SUB: SLOW: 3 in the background\n");
    let result = stage.done("a");
    let slow = stage.mock.requests().iter().filter(|r| r.prompt.starts_with("SLOW:")).count();
    assert_eq!(slow, 1, "{}", stage.told());
    assert!(result.contains("attempts: 1"), "{result}");
}

#[test]
fn claude_takes_no_text_for_a_command() {
    scenario::texts_are_never_commands(ME);
}

/// A dialog at the start waits for a person as any other does. Its first answer is "No, exit".
#[test]
fn claude_s_first_question_waits_for_a_person() {
    let Some(stage) = Stage::set(Play { trusted: false, ..Play::new(ME) }) else { return };
    assert_eq!(stage.word("state"), "waiting", "{}", stage.told());
    stage.world.submit("a", "please say hello\n");
    stage.write("keys", "Down Enter");
    assert!(stage.done("a").contains("MOCK-REPLY done: 16 chars"));
}

/// Escape before the first word takes the prompt back, and no hook and no record tells of it: the task must not hang.
#[test]
fn claude_s_prompt_taken_back_waits_for_a_person() {
    let Some(stage) = Stage::set(Play::new(ME)) else { return };
    stage.mock.set(Mode::Hang);
    stage.world.submit("a", "please say hello\n");
    stage.until("the prompt at the server", |s| s.prompts_with("say hello") == 1 && s.word("state") == "working");
    stage.write("control", "interrupt");
    stage.until("the session to wait", |s| s.word("state") == "waiting");
    assert_eq!(stage.world.word("tasks/a/state"), "working", "{}", stage.told());
}

#[test]
fn claude_s_own_stop_hooks_run_to_their_end() {
    scenario::a_stop_hook_runs_to_its_end(Play::new(ME));
}

#[test]
fn claude_s_refused_prompt_fails_with_its_reason() {
    scenario::a_refused_prompt_fails_with_its_reason(Play::new(ME), "echo policy says no >&2; exit 2");
}

#[test]
fn claude_s_prompt_refused_by_a_decision_fails_with_its_reason() {
    let script = r#"echo '{"decision":"block","reason":"policy says no"}'"#;
    scenario::a_refused_prompt_fails_with_its_reason(Play::new(ME), script);
}

#[test]
fn claude_s_question_waits() {
    scenario::a_question_waits(Play::new(ME));
}

#[test]
fn claude_s_command_in_the_background_is_ended() {
    scenario::a_command_in_the_background_is_ended(Play::new(ME));
}

#[test]
fn claude_s_command_in_the_background_stays_when_it_may() {
    scenario::a_command_in_the_background_stays(ME);
}

#[test]
fn claude_s_hooks_have_the_token() {
    scenario::its_hooks_have_the_token(ME);
}

#[test]
fn claude_takes_a_text_about_limits_for_a_text() {
    scenario::a_text_about_limits_is_a_text(ME);
}
