//! Named regressions: seeds that once broke a promise, each with what it broke.

use crate::run::simulate;

fn holds(seed: u64) {
    let outcome = simulate(seed);
    assert!(outcome.violations.is_empty(), "seed {seed}: {}", outcome.violations.join("\n"));
}

#[test]
fn a_name_that_is_gone_is_not_looked_at_for_ever() {
    holds(1);
    holds(14);
}

#[test]
fn a_marker_that_could_not_be_taken_back_is_cleared() {
    holds(5);
    holds(723);
}

#[test]
fn a_confirmed_cancel_is_kept() {
    holds(65);
    holds(612);
    holds(683);
}

#[test]
fn a_short_turn_of_an_agent_that_tells_nothing_ends() {
    holds(292);
}

#[test]
fn claim_and_return_do_not_chase_each_other() {
    holds(124);
}

#[test]
fn messages_do_not_keep_a_cancelled_task_alive() {
    holds(271);
}

#[test]
fn a_released_file_that_holds_no_task_is_not_claimed() {
    holds(914);
}

#[test]
fn a_restart_does_not_change_how_often_a_task_is_tried() {
    holds(1375);
}

#[test]
fn a_save_while_the_result_is_filed_is_kept() {
    holds(2420);
}
