//! The daemon is killed during swaps; the next one finishes them.

use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::stage::{linked_stage, panes, session, until_said, went_on};
use crate::world::{PATIENCE, World};

/// What the daemon says of each step, in their order; it is killed as soon as it has said one.
const STEPS: [&str; 6] =
    [" begun: ", "link turned to", "are whole after", "stopping the agent", "-> starting", "resumed under"];

/// The accounts that the saved state calls active.
fn active(state: &Value) -> Vec<String> {
    let accounts = state["accounts"].as_object().expect("accounts");
    accounts.iter().filter(|(_, account)| account["active"] == true).map(|(name, _)| name.clone()).collect()
}

/// Waits until the log has this behind `from`, without a pause: the next step may be a millisecond away.
fn until_logged(world: &World, from: usize, words: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !world.events().get(from..).is_some_and(|text| text.contains(words)) {
        assert!(Instant::now() < deadline, "never logged: {words}\n{}", world.events());
        std::thread::sleep(Duration::from_micros(200));
    }
}

#[test]
fn a_daemon_killed_at_any_step_of_a_swap_leaves_it_to_the_next_one() {
    let mut world = linked_stage(2, &["one", "two"], "switcher: {save_grace: 0s}\nlifecycle: {restart_first: 100ms}");
    let mut caught = BTreeSet::new();
    for (round, step) in STEPS.iter().enumerate() {
        let (from, to) = if round % 2 == 0 { ("one", "two") } else { ("two", "one") };
        let name = format!("t{round}");
        world.submit(&name, &format!("round {round}\ndemo: slow=4\n"));
        let mut n = 0;
        world.until("the task to be taken", || {
            let session = world.word(&format!("tasks/{name}/session"));
            session.strip_prefix("pool-").and_then(|at| at.parse().ok()).is_some_and(|at| {
                n = at;
                true
            })
        });
        until_said(&world, n, "word1");

        let logged = world.events().len();
        let mut swap = std::process::Command::new("sh")
            .args(["-c", &format!("echo {to} > {}", world.mount("accounts/active").display())])
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("sh");
        until_logged(&world, logged, step);
        world.kill_daemon();
        let killed = world.state();
        let at = killed["swaps"]["current"]["step"].to_string();
        println!("killed on `{step}`: the swap was at {at}");
        caught.insert(at);
        assert_eq!(active(&killed).len(), 1, "{killed}");
        swap.wait().expect("waited for");

        world.run();
        world.until("the swap's end", || world.state()["swaps"]["current"].is_null());
        let ended = world.state();
        assert_eq!(ended["swaps"]["last"]["to"], to, "{ended}");
        assert!(ended["swaps"]["last"]["error"].is_null() && ended["swaps"]["partial"].is_null(), "{ended}");
        assert_eq!(active(&ended), [to]);
        assert_eq!(fs::read_link(world.path("link")).expect("a link"), world.path(to));
        went_on(&world, &name, 16, &[from, to]);
        world.until("all to run under it", || [11, 12].iter().all(|n| session(&world, *n, "account") == to));
        assert_eq!(panes(&world), 2);
    }
    caught.remove("null");
    assert!(caught.len() >= 2, "swaps were hardly at risk when the daemon died: {caught:?}");
    assert_eq!(fs::read_dir(world.queue("failed")).expect("failed").count(), 0);
}
