//! Qwen Code, a CLI unknown to this program: the rules file in doc/AGENTS.md adds it without a build.

use crate::{
    scenario,
    stage::{Cli, Play, Stage},
};

#[test]
fn qwen_does_a_task() {
    scenario::answers(Cli::Qwen);
}

#[test]
fn qwen_runs_a_tool() {
    scenario::runs_a_tool(Cli::Qwen);
}

#[test]
fn qwen_asks_for_permission() {
    scenario::asks_for_permission(Cli::Qwen);
}

/// Its accounts are told by their own variable and stand in for each other, with what their homes share.
#[test]
fn qwen_s_accounts_share_what_its_rules_say() {
    let Some(stage) = Stage::set(Play::failover(Cli::Qwen)) else { return };
    for account in ["one", "two"] {
        let link = stage.world.path(&format!("account-{account}/projects"));
        let shared = link.read_link().unwrap_or_else(|e| panic!("{}: {e}\n{}", link.display(), stage.told()));
        assert!(shared.ends_with(".qwen-projects-shared"), "{}", shared.display());
    }
    stage.world.submit("a", "please say hello\n");
    stage.done("a");
    assert_eq!(stage.word("account"), "one");
}
