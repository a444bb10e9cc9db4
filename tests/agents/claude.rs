//! Claude Code.

use std::{fs, time::Duration};

use crate::{
    mock_llm::{Claim, Mode},
    scenario,
    stage::{Cli, Play, Stage},
};

const ME: Cli = Cli::Claude;

#[test]
fn claude_answers() {
    scenario::answers(ME);
}

#[test]
fn claude_runs_a_tool() {
    scenario::runs_a_tool(ME);
}

#[test]
fn claude_asks_for_permission() {
    let play = Play { args: "--permission-mode, manual", ..Play::new(ME) };
    scenario::asks_for_permission(play, "RUN: touch OUTSIDE && sleep 3\n", "Enter");
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

/// A server in trouble says nothing of the account, whether the agent tries again itself or gives up.
#[test]
fn a_server_error_is_never_a_limit() {
    for mode in [Mode::ServerError, Mode::Overloaded] {
        let play = Play { env: &[("CLAUDE_CODE_MAX_RETRIES", "1")], ..Play::new(ME) };
        let Some(stage) = Stage::set(play) else { return };
        stage.mock.set(mode);
        stage.world.submit("a", "---\nretries: 0\n---\nplease say hello\n");
        let failed = stage.world.queue("failed/a.md");
        scenario::never(&stage, "limited", Duration::from_secs(45), |_| failed.exists());
        let result = fs::read_to_string(&failed).unwrap_or_else(|e| panic!("{e}\n{}", stage.told()));
        assert_eq!(stage.fact(&result, "status"), "failed");
        assert!(stage.fact(&result, "error").contains("API Error"), "{result}");
    }
}

/// A used-up allowance parks the session with its task.
#[test]
fn a_limit_parks_the_task() {
    let Some(stage) = Stage::set(Play { subscription: true, ..Play::new(ME) }) else { return };
    stage.mock.set(Mode::Limit(Claim::FiveHour));
    stage.world.submit("a", "please say hello\n");
    stage.until("the session to be limited", |s| s.word("state") == "limited");
    stage.until("the event", |s| s.event(&["\"limit\""]).is_some());
    assert!(stage.word("why").contains("limit"), "{}", stage.told());
    assert_eq!(stage.world.word("tasks/a/state"), "working", "{}", stage.told());
    // Nothing presses a key at the agent's menu, and nothing gives up.
    scenario::never(&stage, "idle", Duration::from_secs(3), |_| false);
    assert_eq!(stage.word("state"), "limited");
    assert_eq!(stage.world.word("tasks/a/state"), "working");
    assert!(!stage.world.queue("failed/a.md").exists() && !stage.world.queue("done/a.md").exists());
    assert_eq!(stage.prompts_with("say hello"), 1, "{}", stage.told());
}
