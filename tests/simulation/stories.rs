//! Hand-written scenarios without randomness: regressions found by seeds, and behaviour that must be seen to work.

use std::{sync::Arc, time::Duration};

use claude_failover::{
    config::Config,
    live::Live,
    model::{
        evidence::Failure,
        limit::{Limit, LimitKind},
        queue::QueueDir,
        snapshot::Snapshot,
        task::Phase,
    },
};
use claude_failover_sim::{Beat, Crash, FakeWorld, Inner, Script};

use crate::run::{DEDICATED, account, config, delegate, furnish, project, runtime, session, start};

const SECOND: Duration = Duration::from_secs(1);
const FIVE_HOURS: Duration = Duration::from_secs(5 * 3600);

struct Scene {
    world: Arc<FakeWorld>,
    config: Arc<Config>,
}

impl Scene {
    /// A quiet world with that many accounts, in which agents follow these scripts, one after the other.
    fn new(accounts: usize, mute: bool, scripts: &[Script]) -> Self {
        let world = FakeWorld::new(1);
        let mut config = config(accounts, mute);
        (config.pool.autonomous.min, config.pool.autonomous.max) = (1, 1);
        config.pool.dedicated.clear();
        world.with(|inner| {
            furnish(inner, &config);
            inner.calm = true;
            inner.scripts.extend(scripts.iter().cloned());
        });
        Self { world, config: Arc::new(config) }
    }

    fn put(&self, name: &str, text: &str) {
        self.world.with(|inner| inner.put(&project(), QueueDir::Inbox, name, text.as_bytes()));
    }

    /// One daemon, which ends as if killed when `until` holds, or at a crash that was planned.
    fn daemon(&self, until: impl Fn(&mut Inner, &Snapshot) -> bool) {
        self.daemon_doing(|_| {}, until);
    }

    fn daemon_doing(&self, act: impl Fn(&Live), until: impl Fn(&mut Inner, &Snapshot) -> bool) {
        let life = async {
            let services = start(&self.world, &self.config).await;
            act(&services.live);
            for _ in 0..20_000 {
                tokio::time::sleep(Duration::from_millis(200)).await;
                let snapshot = services.live.snapshot();
                if self.world.with(|inner| until(inner, &snapshot)) {
                    return;
                }
            }
            let told: Vec<String> = services.live.snapshot().recent.iter().map(|line| line.text.clone()).collect();
            panic!("it never came to it:\n{}", told.join("\n"));
        };
        runtime().block_on(async {
            self.world.attach(Duration::ZERO);
            tokio::select! {
                biased;
                () = self.world.crashed() => {}
                () = life => {}
            }
        });
        self.world.detach();
        let (violations, trace) = self.world.with(|inner| (inner.violations.clone(), inner.trace.join("\n")));
        assert!(violations.is_empty(), "{violations:?}\n{trace}");
    }

    fn told(&self, words: &str) -> usize {
        self.world.with(|inner| inner.trace.iter().filter(|line| line.contains(words)).count())
    }
}

fn works(beats: &[Beat]) -> Script {
    Script { beats: beats.to_vec(), ..Script::default() }
}

fn is_done(inner: &mut Inner, name: &str) -> bool {
    let file = inner.file(&project(), QueueDir::Done, name);
    file.is_some_and(|file| String::from_utf8_lossy(&file.bytes).contains("status: done"))
}

fn limit_work(inner: &mut Inner, told: bool) {
    inner.limit(&account("work"), LimitKind::FiveHour, FIVE_HOURS, told);
}

fn is_active(snapshot: &Snapshot, name: &str) -> bool {
    snapshot.account(&account(name)).is_some_and(|account| account.active)
}

#[test]
fn a_task_goes_on_under_the_other_account_in_its_conversation() {
    let beats = [Beat::Work(SECOND), Beat::Limit(FIVE_HOURS), Beat::Work(SECOND)];
    let scene = Scene::new(2, false, &[works(&beats)]);
    scene.put("a.md", "Please do it.\n");
    scene.daemon(|inner, snapshot| is_done(inner, "a.md") && snapshot.swaps.current.is_none());
    assert_eq!(scene.told("receives"), 1, "the task was given once");
    scene.world.with(|inner| {
        assert_eq!((inner.tally.swaps, inner.tally.moved), (1, 1));
        assert_eq!(inner.link, Some(account("home")));
        let result = inner.file(&project(), QueueDir::Done, "a.md").map(|file| file.bytes.clone()).unwrap_or_default();
        let result = String::from_utf8_lossy(&result).into_owned();
        assert!(result.contains("work") && result.contains("home"), "the result names both accounts: {result}");
    });
}

#[test]
fn with_all_accounts_out_everything_waits_and_goes_on_when_the_first_limit_passes() {
    let scene = Scene::new(2, false, &[works(&[Beat::Work(SECOND), Beat::Work(SECOND)])]);
    scene.put("a.md", "Please do it.\n");
    scene.world.with(|inner| {
        inner.limit(&account("home"), LimitKind::Weekly, Duration::from_secs(900), true);
        inner.limit(&account("work"), LimitKind::FiveHour, Duration::from_secs(90), true);
    });
    scene.daemon(|inner, _| is_done(inner, "a.md"));
    scene.world.with(|inner| assert!(inner.tally.all_out > 0 && inner.tally.resets > 0, "{:?}", inner.tally));
    assert_eq!(scene.told("receives"), 1);
}

/// The words to go on were typed once more for each swallowed Enter, and again before the agent's word of the first had come.
#[test]
fn the_words_to_go_on_are_typed_once() {
    let beats = [Beat::Work(SECOND), Beat::Limit(FIVE_HOURS), Beat::Work(SECOND)];
    // `claude` starts first and makes way for `typed`, which takes no words at its start.
    let swallows = Script { swallow: 3, ..Script::default() };
    let scene = Scene::new(2, false, &[Script::default(), works(&beats), swallows]);
    scene.put("a.md", "---\nagent: typed\n---\nPlease do it.\n");
    scene.daemon(|inner, _| is_done(inner, "a.md"));
    assert_eq!(scene.told("is told to go on"), 1);
    assert_eq!(scene.told("\"Continue where"), 1, "one paste");
}

/// An agent that tells nothing, whose limit came while no daemon ran, stood as idle with its task for ever.
#[test]
fn a_limit_that_only_the_screen_shows_is_seen_after_a_restart() {
    let scene = Scene::new(1, true, &[Script::default(), works(&[Beat::Work(SECOND * 3)])]);
    scene.put("a.md", "---\nagent: mute\nretries: 1\n---\nPlease do it.\n");
    scene.daemon(|inner, _| !inner.receptions.is_empty());
    scene.world.with(|inner| inner.limit(&account("quiet"), LimitKind::FiveHour, SECOND * 30, true));
    runtime().block_on(async {
        scene.world.attach(SECOND * 10);
        scene.world.detach();
    });
    scene.daemon(|_, snapshot| {
        snapshot.account(&account("quiet")).is_some_and(claude_failover::model::account::Account::is_out)
    });
    scene.daemon(|inner, _| is_done(inner, "a.md"));
}

#[test]
fn a_target_whose_links_are_broken_is_rolled_back_and_the_next_one_taken() {
    let scene = Scene::new(3, false, &[]);
    scene.put("a.md", "Please do it.\n");
    scene.world.with(|inner| {
        limit_work(inner, true);
        if let Some(truth) = inner.accounts.get_mut(&account("home")) {
            truth.links_broken = true;
        }
    });
    scene.daemon(|inner, snapshot| is_done(inner, "a.md") && is_active(snapshot, "spare"));
    scene.world.with(|inner| assert_eq!((inner.tally.rolled_back, inner.tally.swaps), (1, 1)));
}

#[test]
fn what_can_not_be_undone_stops_every_swap_also_over_a_restart() {
    let scene = Scene::new(3, false, &[]);
    scene.put("a.md", "Please do it.\n");
    scene.world.with(|inner| {
        limit_work(inner, true);
        // The link can be turned to another, whose home is not whole, and not back.
        for (name, truth) in &mut inner.accounts {
            truth.flip_fails = *name == account("work");
            truth.links_broken = *name != account("work");
        }
    });
    scene.daemon(|_, snapshot| snapshot.swaps.partial.is_some());
    scene.world.with(|inner| {
        for truth in inner.accounts.values_mut() {
            (truth.flip_fails, truth.links_broken) = (false, false);
        }
    });
    let long_after = scene.world.with(|inner| inner.timestamp()).as_second() + 200;
    scene.daemon(|inner, snapshot| {
        assert!(snapshot.swaps.partial.is_some() && snapshot.swaps.current.is_none());
        inner.timestamp().as_second() > long_after
    });
    scene.world.with(|inner| assert_eq!((inner.tally.partial, inner.tally.swaps), (1, 0)));
}

#[test]
fn failing_servers_and_quoted_limits_move_nothing() {
    let server = works(&[Beat::Quote(SECOND * 2), Beat::Work(SECOND), Beat::ServerError]);
    let scene = Scene::new(2, false, &[server.clone(), server.clone(), server]);
    scene.put("a.md", "Please do it.\n");
    scene.daemon(|inner, snapshot| {
        assert_eq!(snapshot.swaps.number, 0);
        is_done(inner, "a.md") && inner.now > 60_000_000_000
    });
    scene.world.with(|inner| assert!(inner.tally.quotes > 0));
}

#[test]
fn a_lost_login_moves_the_session_and_a_new_login_brings_the_account_back() {
    let scene = Scene::new(2, false, &[]);
    scene.put("a.md", "Please do it.\n");
    scene.world.with(|inner| inner.strike(&account("work"), Failure::Login, FIVE_HOURS));
    scene.daemon(|inner, snapshot| is_done(inner, "a.md") && is_active(snapshot, "home"));
    scene.world.with(|inner| inner.restore(&account("work")));
    scene.daemon(|_, snapshot| {
        snapshot.account(&account("work")).is_some_and(claude_failover::model::account::Account::is_usable)
    });
}

#[test]
fn a_person_s_agent_keeps_its_conversation_and_is_told_nothing() {
    let mut scene = Scene::new(2, false, &[]);
    let dedicated = {
        let mut config = config(2, false);
        (config.pool.autonomous.min, config.pool.autonomous.max) = (1, 1);
        config.pool.dedicated.retain(|row| row.name == session(DEDICATED[2]));
        config
    };
    scene.config = Arc::new(dedicated);
    scene.world.with(|inner| {
        furnish(inner, &scene.config);
        inner.agent_by_hand(&session(DEDICATED[2]), &account("work"));
        inner.advance(1_000_000_000);
        inner.say(&session(DEDICATED[2]), "Look into the login form with me.");
    });
    scene.put("a.md", "Please do it.\n");
    let known = |inner: &Inner, under: &str| {
        inner.programs.values().any(|program| {
            program.session == session(DEDICATED[2])
                && program.is_agent()
                && program.account == Some(account(under))
                && program.conversation.as_ref().is_some_and(|id| id.starts_with("conversation-by-hand"))
        })
    };
    scene.daemon(|inner, _| known(inner, "work") && is_done(inner, "a.md"));
    scene.world.with(|inner| limit_work(inner, true));
    scene.put("b.md", "Please do that too.\n");
    scene.daemon(|inner, _| known(inner, "home") && is_done(inner, "b.md"));
    scene.world.with(|inner| assert_eq!(inner.tally.dedicated_moved, 1));
}

/// What agents tell of a limit is whole seconds; what they tell wrongly is not believed for long.
#[test]
fn an_untold_end_of_a_limit_is_waited_for_an_hour_and_not_for_ever() {
    let scene = Scene::new(1, false, &[]);
    scene.put("a.md", "Please do it.\n");
    let limit = Limit { kind: LimitKind::Unknown, resets_at: None };
    scene.world.with(|inner| inner.strike(&account("work"), Failure::Limit(limit), SECOND * 600));
    scene.daemon(|inner, _| is_done(inner, "a.md"));
    scene.world.with(|inner| assert!(inner.now > 3_600_000_000_000, "tried too early"));
}

/// A claim for an agent that could not be taken back, then `delegate`: each claim for the provider met our own marker, for ever.
#[test]
fn a_claim_that_was_left_behind_is_cleared_wherever_the_task_goes_next() {
    let mut scene = Scene::new(1, false, &[]);
    let mut config = Config::clone(&scene.config);
    delegate(&mut config);
    scene.world.with(|inner| furnish(inner, &config));
    scene.config = Arc::new(config);
    let left = |supervisor: &str| {
        serde_json::json!({
            "run": "left", "task_sha256": "", "identity": "", "attempt": 1, "supervisor": supervisor,
            // A session's.
            "session": "ccl-auto-11", "agent": "claude", "account": null, "since": "2027-01-15T08:00:00Z",
            // A provider's.
            "provider": "gpu", "submitted_at": "2027-01-15T08:00:00Z",
        })
    };
    let put = std::cell::Cell::new(false);
    scene.daemon(|inner, snapshot| {
        if !put.replace(true) {
            // The marker stands there when the task is first seen.
            for (name, which, text) in [
                ("a.md", "working", "---\nallow_delegation: true\npreferred_ai: gpu\nretries: 9\n---\nPlease do it.\n"),
                ("b.md", "delegated", "Please do that.\n"),
            ] {
                let marker = left(&snapshot.supervisor).to_string();
                inner.put(&project(), QueueDir::Inbox, &format!("{name}.{which}"), marker.as_bytes());
                inner.put(&project(), QueueDir::Inbox, name, text.as_bytes());
            }
        }
        is_done(inner, "a.md") && is_done(inner, "b.md")
    });
    scene.world.with(|inner| assert_eq!((inner.orders.len(), inner.receptions.len()), (1, 1)));
}

/// The clock showed the time of the limit once before, while the agent stood idle.
#[test]
fn what_is_told_after_the_clock_was_set_back_is_of_now() {
    let scene = Scene::new(1, false, &[works(&[Beat::Work(SECOND * 3)])]);
    let step = std::cell::Cell::new(0);
    scene.daemon(|inner, snapshot| {
        match (step.get(), inner.now / 1_000_000_000) {
            (0, 7..) => inner.set_clock(45),
            (1, 58..) => {
                inner.set_clock(0);
                limit_work(inner, true);
                inner.put(&project(), QueueDir::Inbox, "a.md", b"Please do it.\n");
            }
            _ => {
                return snapshot
                    .account(&account("work"))
                    .is_some_and(claude_failover::model::account::Account::is_out);
            }
        }
        step.set(step.get() + 1);
        false
    });
}

/// A result that had been filed was filed once more beside itself: by the clock of now it read otherwise.
#[test]
fn a_crash_anywhere_before_the_clock_is_set_gives_one_result() {
    for (at, applied) in (1..).flat_map(|at| [(at, false), (at, true)]) {
        let scene = Scene::new(1, false, &[works(&[Beat::Work(SECOND)])]);
        scene.put("a.md", "---\nretries: 9\n---\nPlease do it.\n");
        scene.world.with(|inner| inner.crash = Some(Crash { at, applied }));
        scene.daemon(|inner, _| is_done(inner, "a.md"));
        if scene.world.with(|inner| inner.crash.take().is_some()) {
            assert!(at > 20, "only {at} effects");
            return;
        }
        scene.world.with(|inner| inner.set_clock(45));
        scene.daemon(|inner, snapshot| {
            is_done(inner, "a.md") && snapshot.tasks.values().all(|task| matches!(task.phase, Phase::Finished(_)))
        });
        let results = scene.world.with(|inner| inner.holding("Please do it."));
        assert_eq!(results, ["web/done/a.md"], "crash at effect {at}, applied: {applied}");
    }
}
