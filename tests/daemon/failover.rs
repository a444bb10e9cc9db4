//! Failover: accounts hit limits, break or are changed by a person; the work resumes in the same conversation.

mod faults;
mod journey;
mod kills;
pub mod stage;

use std::process::{Command, Stdio};

use stage::{
    FAR, account, fact, lift, limit, linked_stage, panes, records, seconds_ahead, session, stage, swaps, until_said,
    went_on,
};

use crate::world::World;

const ERRORS: [(&str, &str); 4] = [
    ("ENOENT", "No such file or directory"),
    ("EBUSY", "busy"),
    ("EAGAIN", "temporarily unavailable"),
    ("EIO", "Input/output error"),
];

/// The script fails with this errno.
#[track_caller]
fn refused(world: &World, script: &str, errno: &str) {
    let out = world.sh(script);
    let told = String::from_utf8_lossy(&out.stderr).into_owned();
    let words = ERRORS.iter().find(|(name, _)| *name == errno).expect("a known errno").1;
    assert!(!out.status.success() && told.contains(words), "{script}: {told}\n{}", world.events());
}

/// Every session is up and runs under this account.
#[track_caller]
fn all_under(world: &World, sessions: usize, name: &str) {
    world.until(&format!("{sessions} sessions under {name}"), || {
        (11..11 + sessions).all(|n| {
            session(world, n, "account") == name && ["idle", "working"].contains(&&*session(world, n, "state"))
        })
    });
}

#[test]
fn a_limit_in_the_middle_of_a_task_moves_it_to_the_other_account() {
    let world = stage(1, &["one", "two"], "");
    world.submit("a", "count\ndemo: slow=4\n");
    until_said(&world, 11, "word3");
    let conversation = session(&world, 11, "resume-id");
    limit(&world, "one", FAR);
    assert_eq!(went_on(&world, "a", 16, &["one", "two"]), conversation);
    assert!(world.result("done/a.md").contains("You said: count"), "the first prompt was answered");
    assert_eq!(world.word("accounts/active"), "two");
    assert_eq!(account(&world, "one", "state"), "limited");
    assert_eq!(account(&world, "one", "resets-at"), "2096-10-02T07:06:42Z", "told, and a little later");
    assert!(
        account(&world, "one", "why").contains("You've hit your 5-hour limit"),
        "{}",
        account(&world, "one", "why")
    );
    assert_eq!(swaps(&world), 1, "{}", world.events());
    world.submit("b", "the next one\n");
    let next = world.result("done/b.md");
    assert_eq!(fact(&next, "accounts"), ["two"], "{next}");
}

#[test]
fn a_block_that_ran_before_the_limit_is_not_run_again() {
    let world = stage(1, &["one", "two"], "");
    world.submit("a", "```sh\necho ran >> ../ledger; until test -e ../go; do sleep 0.1; done; echo the output\n```\n");
    world.until("the block to run", || world.path("ledger").exists());
    limit(&world, "one", &format!("{FAR} seven_day"));
    std::fs::write(world.path("go"), "").expect("written");
    let result = world.result("done/a.md");
    assert!(result.contains("the output"), "{result}");
    assert_eq!(fact(&result, "accounts"), ["one", "two"], "{result}");
    assert_eq!(std::fs::read_to_string(world.path("ledger")).expect("the ledger"), "ran\n");
    assert!(account(&world, "one", "why").contains("weekly"), "{}", account(&world, "one", "why"));
}

#[test]
fn when_all_are_at_their_limit_the_task_waits_for_the_first_reset() {
    let world = stage(1, &["one", "two"], "");
    let reset = seconds_ahead(20);
    world.submit("a", "count\ndemo: slow=2\n");
    until_said(&world, 11, "word1");
    limit(&world, "two", &reset);
    limit(&world, "one", FAR);
    for name in ["one", "two"] {
        world.until(&format!("{name} to be out"), || account(&world, name, "state") == "limited");
    }
    // It follows the accounts by a step.
    world.until("health to tell", || world.word("health").contains("none can be used"));
    world.until_word("sessions/pool-11/state", "limited");
    assert_eq!(world.word("tasks/a/state"), "working", "parked, not given back");
    world.submit("b", "waits\n");
    world.until_word("tasks/b/state", "queued");
    went_on(&world, "a", 8, &["one", "two"]);
    world.result("done/b.md");
    assert_eq!(swaps(&world), 1, "no ping-pong: {}", world.events());
    world.until_word("health", "ok");
}

#[test]
fn a_reset_is_waited_for_over_a_restart_of_the_daemon() {
    let mut world = stage(1, &["one", "two"], "quota: {reactivate_cooldown: 1s}");
    world.submit("a", "count\ndemo: slow=2\n");
    until_said(&world, 11, "word1");
    limit(&world, "two", FAR);
    limit(&world, "one", &seconds_ahead(20));
    for name in ["one", "two"] {
        world.until(&format!("{name} to be out"), || account(&world, name, "state") == "limited");
    }
    world.until_word("sessions/pool-11/state", "limited");
    let until = account(&world, "one", "resets-at");
    world.kill_daemon();
    world.run();
    assert_eq!(account(&world, "one", "resets-at"), until);
    went_on(&world, "a", 8, &["one", "two", "one"]);
    assert_eq!(world.word("accounts/active"), "one");
    assert_eq!(swaps(&world), 2, "{}", world.events());
}

#[test]
fn server_errors_move_nothing() {
    let world = stage(1, &["one", "two"], "watcher: {server_pause: 300ms, server_retries: 50}");
    world.submit("a", "count\ndemo: slow=2\n");
    until_said(&world, 11, "word1");
    limit(&world, "one", "server-error");
    world.until("two failures", || world.events().matches("stopping the agent").count() >= 2);
    assert_eq!(account(&world, "one", "state"), "active");
    lift(&world, "one");
    went_on(&world, "a", 8, &["one"]);
    assert_eq!(swaps(&world), 0, "{}", world.events());
}

#[test]
fn a_lost_login_breaks_the_account_and_a_person_is_told() {
    let world = stage(1, &["one", "two"], "");
    world.submit("a", "count\ndemo: slow=2\n");
    until_said(&world, 11, "word1");
    limit(&world, "one", "login");
    went_on(&world, "a", 8, &["one", "two"]);
    assert_eq!(account(&world, "one", "state"), "broken");
    let health = world.read("health").expect("health");
    assert!(health.starts_with("degraded") && health.contains("Please run /login"), "{health}");
    lift(&world, "one");
    std::fs::write(world.path("one/.credentials.json"), "{}").expect("logged in again");
    world.until("the account to be back", || account(&world, "one", "state") == "available");
    world.until_word("health", "ok");
    assert_eq!(world.word("accounts/active"), "two", "nothing moves without need");
}

#[test]
fn credit_that_is_used_up_waits_for_a_person() {
    let world = stage(1, &["one", "two"], "");
    world.submit("a", "count\ndemo: slow=2\n");
    until_said(&world, 11, "word1");
    limit(&world, "one", "credit");
    went_on(&world, "a", 8, &["one", "two"]);
    assert_eq!(account(&world, "one", "state"), "limited");
    assert_eq!(account(&world, "one", "resets-at"), "", "time alone does not lift it");
    assert!(world.read("health").expect("health").contains("account one"), "{}", world.word("health"));
}

#[test]
fn a_person_swaps_by_verb_and_by_writing_the_name() {
    let world = stage(2, &["one", "two"], "");
    all_under(&world, 2, "one");
    world.ok("echo swap > $MNT/control");
    assert_eq!(world.word("accounts/active"), "two");
    all_under(&world, 2, "two");
    world.ok("echo one > $MNT/accounts/active");
    assert_eq!(world.word("accounts/active"), "one");
    all_under(&world, 2, "one");
    world.ok("echo swap two > $MNT/control");
    assert_eq!(world.word("accounts/active"), "two");
    refused(&world, "echo swap nobody > $MNT/control", "ENOENT");
    refused(&world, "echo nobody > $MNT/accounts/active", "ENOENT");
    assert_eq!((world.word("accounts/active").as_str(), swaps(&world)), ("two", 3));
}

#[test]
fn a_second_swap_while_one_is_under_way_is_refused() {
    let world = stage(1, &["one", "two"], "switcher: {save_grace: 1m}");
    world.submit("a", "count\ndemo: slow=8\n");
    until_said(&world, 11, "word1");
    world.ok("echo two > $MNT/accounts/active");
    refused(&world, "echo one > $MNT/accounts/active", "EBUSY");
    refused(&world, "echo swap > $MNT/control", "EBUSY");
    assert!(world.read("control").expect("control").contains("under way"), "{}", world.word("control"));
    // It was let finish what it was at.
    went_on(&world, "a", 32, &["one"]);
    all_under(&world, 1, "two");
    world.until("the swap's end", || world.events().contains("done in"));
    world.ok("echo one > $MNT/accounts/active");
}

#[test]
fn an_agent_at_work_is_moved_in_the_middle_after_its_grace() {
    let world = stage(1, &["one", "two"], "switcher: {save_grace: 500ms}");
    world.submit("a", "count\ndemo: slow=5\n");
    until_said(&world, 11, "word1");
    world.ok("echo swap > $MNT/control");
    went_on(&world, "a", 20, &["one", "two"]);
}

#[test]
fn ten_sessions_at_work_and_at_rest_move_at_once() {
    let world = stage(10, &["one", "two"], "");
    all_under(&world, 10, "one");
    for n in 0..6 {
        world.submit(&format!("t{n}"), &format!("task {n}\ndemo: slow=10\n"));
    }
    let working = || (11..21).filter(|n| session(&world, *n, "pane").contains("word2")).count();
    world.until("six to be at work", || working() == 6);
    limit(&world, "one", FAR);
    let mut conversations: Vec<String> =
        (0..6).map(|n| went_on(&world, &format!("t{n}"), 40, &["one", "two"])).collect();
    conversations.sort();
    conversations.dedup();
    assert_eq!(conversations.len(), 6);
    all_under(&world, 10, "two");
    assert_eq!(swaps(&world), 1, "{}", world.events());
    assert_eq!(panes(&world), 10, "no session was made up");
}

#[test]
fn an_attached_client_stays_attached() {
    let world = stage(1, &["one", "two"], "");
    all_under(&world, 1, "one");
    let client = format!("tmux -S {} attach -t =pool-11", world.path("tmux.sock").display());
    // `script` gives the client a terminal.
    let mut child = Command::new("script")
        .args(["-qec", &client, "/dev/null"])
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("script");
    let clients = || world.tmux(&["list-clients", "-F", "#{client_pid} #{client_session}"]);
    world.until("the client", || clients().contains("pool-11"));
    let before = clients();
    world.submit("a", "count\ndemo: slow=2\n");
    until_said(&world, 11, "word1");
    limit(&world, "one", FAR);
    went_on(&world, "a", 8, &["one", "two"]);
    assert_eq!(clients(), before);
    child.kill().expect("killed");
    child.wait().expect("waited for");
}

#[test]
fn the_cooldown_holds_for_the_daemon_and_not_for_a_person() {
    let world = stage(1, &["one", "two", "three"], "quota: {reactivate_cooldown: 1h}");
    world.submit("a", "count\ndemo: slow=3\n");
    until_said(&world, 11, "word1");
    limit(&world, "two", FAR);
    limit(&world, "one", FAR);
    world.until("two to be out as well", || account(&world, "two", "state") == "limited");
    world.until_word("sessions/pool-11/state", "limited");
    // It has another account, a reason and time: only the cooldown is in the way.
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!((world.word("accounts/active").as_str(), swaps(&world)), ("two", 1), "{}", world.events());
    assert_eq!(account(&world, "three", "state"), "available");
    world.ok("echo three > $MNT/accounts/active");
    went_on(&world, "a", 12, &["one", "two", "three"]);
    assert!(world.events().contains("within the cooldown"), "a warning: {}", world.events());
}

#[test]
fn without_a_usable_account_a_swap_says_when_there_will_be_one() {
    let world = stage(1, &["one", "two"], "");
    world.submit("a", "count\ndemo: slow=2\n");
    until_said(&world, 11, "word1");
    limit(&world, "two", FAR);
    limit(&world, "one", FAR);
    world.until("two to be out", || account(&world, "two", "state") == "limited");
    refused(&world, "echo swap > $MNT/control", "EAGAIN");
    assert!(world.read("control").expect("control").contains("2096-10-02"), "{}", world.word("control"));
    let conversation = session(&world, 11, "resume-id");
    let failures = records(&world, &conversation).iter().filter(|r| r["isApiErrorMessage"] == true).count();
    assert_eq!(failures, 2, "each account was asked once");
}

#[test]
fn the_operator_s_link_leads_to_the_active_account() {
    let world = linked_stage(1, &["one", "two"], "");
    let leads = || std::fs::read_link(world.path("link")).expect("a link");
    assert_eq!(leads(), world.path("one"));
    world.submit("a", "count\ndemo: slow=3\n");
    until_said(&world, 11, "word1");
    limit(&world, "one", FAR);
    went_on(&world, "a", 12, &["one", "two"]);
    assert_eq!(leads(), world.path("two"));
}
