//! Each kind of notification is sent once per incident and not again after a restart.

use std::{sync::Arc, time::Duration};

use super::*;
use crate::{
    config::{Telegram, Webhook},
    model::{
        account::Limited,
        evidence::{Failure, Meaning, Signal, Source, WaitingFor},
        ids::{AccountName, AgentName, ProjectName, ProviderName, SessionName, TaskId, TaskKey},
        limit::{Limit, LimitKind, Usage},
        notice::Channel,
        provider::{Counters, Delegation},
        samples,
        session::{Incarnation, Verdict},
        swap::{Cause, Partial, Swapped, Swaps},
        task::Finished,
    },
};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).expect("time")
}

fn account(name: &str, active: bool) -> Account {
    let agent = AgentName::parse("claude").expect("name");
    Account {
        name: AccountName::parse(name).expect("name"),
        agent: agent.clone(),
        agents: vec![agent],
        home: format!("/{name}").into(),
        active,
        active_since: at(0),
        standing: Standing::Usable,
        believed_from: at(0),
        usage: Usage::default(),
    }
}

fn limited(since: i64) -> Standing {
    let limit = Limit { kind: LimitKind::FiveHour, resets_at: Some(at(9000)) };
    let signal = Signal {
        at: at(since),
        source: Source::Hook,
        rule: "r".into(),
        text: "You've hit your limit.".into(),
        meaning: Meaning::TurnFailed { failure: Failure::Limit(limit), message: "m".into() },
    };
    let session = SessionName::parse("s").expect("name");
    Standing::Limited(Limited { limit, until: Some(at(9000)), since: at(since), session, signal })
}

fn session(activity: Activity, last_change: i64) -> Session {
    let name = SessionName::parse("s").expect("name");
    let incarnation = Incarnation { id: "i1".into(), started: at(0), ..samples::incarnation(&name) };
    let mut session = Session::new(name, Role::Pool, at(0));
    session.phase = SessionPhase::Up(incarnation);
    session.verdict = Verdict { activity, last_change: at(last_change), ..Verdict::unknown(at(last_change)) };
    session
}

fn finished(status: Status) -> Task {
    let key = TaskKey::new(&ProjectName::parse("web").expect("name"), &TaskId::from_file_name("x.md").expect("id"));
    let error = Some("it fell over".to_owned());
    let ending = Ending { error, ..Ending::new(status, at(5)) };
    let phase = Phase::Finished(Finished { work: None, ending });
    Task { phase, attempts: 1, ..Task::new(key, at(5)) }
}

/// A supervisor of which only the notices matter.
struct World {
    snapshot: Snapshot,
    settings: Notifications,
    pace: Pace,
}

impl World {
    fn new() -> Self {
        let telegram = Some(Telegram::new("1".to_owned()));
        let settings = Notifications { telegram, ..Notifications::default() };
        let mut snapshot = Snapshot::empty(at(-1000));
        snapshot.accounts = Arc::new(vec![account("one", true), account("two", false)]);
        Self { snapshot, settings, pace: Pace::default() }
    }

    /// One look, its events taken as the owner takes them and everything delivered: what goes out.
    fn look(&mut self, now: i64) -> Vec<Notice> {
        let decision = decide(&self.snapshot, &self.settings, Duration::from_secs(120), &self.pace, at(now));
        self.pace = decision.pace;
        let mut out = Vec::new();
        for event in decision.events {
            let Event::Notice(event) = event else { panic!("{event:?}") };
            match event {
                NoticeEvent::Told(Told { notice, to }) => {
                    out.extend(to.first().map(|_| notice.clone()));
                    let told = Told { notice, to: Vec::new() };
                    self.snapshot.notices.insert(told.notice.incident.clone(), Arc::new(told));
                }
                NoticeEvent::Sent { .. } => {}
                NoticeEvent::Forgotten { incident } => drop(self.snapshot.notices.remove(&incident)),
            }
        }
        out
    }

    /// The kinds of what goes out at one look, and that the next look sends nothing.
    #[track_caller]
    fn kinds(&mut self, now: i64) -> Vec<&'static str> {
        let out = self.look(now);
        assert_eq!(self.look(now + 1), [], "told once");
        out.iter().map(|notice| notice.kind.name()).collect()
    }

    fn standing(&mut self, n: usize, standing: Standing) {
        Arc::make_mut(&mut self.snapshot.accounts)[n].standing = standing;
    }

    fn session(&mut self, session: Session) {
        self.snapshot.sessions.insert(session.name.clone(), Arc::new(session));
    }
}

fn swapped(number: u64, error: Option<&str>) -> Swaps {
    let last = Swapped {
        number,
        from: AccountName::parse("one").expect("name"),
        to: AccountName::parse("two").expect("name"),
        cause: Cause::Out { why: "w".into() },
        begun: at(1),
        cooldown_from: None,
        ended: at(2),
        error: error.map(str::to_owned),
    };
    Swaps { number, last: Some(last), ..Swaps::default() }
}

#[test]
fn a_limit_is_told_once_and_again_only_when_it_comes_again() {
    let mut world = World::new();
    assert_eq!(world.kinds(0), [""; 0]);
    world.standing(0, limited(10));
    let told = world.look(11).remove(0);
    assert_eq!((told.title.as_str(), told.at), ("Account one is at its limit", at(10)));
    assert_eq!(told.text, "5-hour limit: You've hit your limit. It is tried again at 1970-01-12T16:16:40Z.");
    // Another source knows more of the same limit.
    world.standing(0, limited(12));
    assert_eq!(world.kinds(13), [""; 0]);
    world.standing(0, Standing::Usable);
    assert_eq!(world.kinds(20), [""; 0], "its end is not told");
    world.standing(0, limited(30));
    assert_eq!(world.kinds(31), ["limit"]);
}

#[test]
fn all_accounts_out_is_told_with_its_end() {
    let mut world = World::new();
    world.standing(0, limited(1));
    assert_eq!(world.kinds(2), ["limit"]);
    world.standing(1, limited(3));
    let told: Vec<Notice> = world.look(4);
    assert_eq!(told.iter().map(|notice| notice.kind.name()).collect::<Vec<_>>(), ["all-out", "limit"]);
    assert!(
        told[0].text.contains("one limited, two limited") && told[0].text.contains("is tried again at"),
        "{told:?}"
    );
    world.standing(1, Standing::Usable);
    let over = world.look(60).remove(0);
    assert_eq!((over.over, over.title.as_str()), (true, "Over: No account of claude can be used"));
    assert_eq!(world.kinds(61), [""; 0]);
    assert!(!world.snapshot.notices.contains_key("all-out claude"), "forgotten");
}

#[test]
fn swaps_are_told_as_they_end() {
    let mut world = World::new();
    world.snapshot.swaps = Arc::new(swapped(1, None));
    assert_eq!(world.look(3)[0].title, "Account two is active, after one");
    world.snapshot.swaps = Arc::new(swapped(2, Some("no links")));
    assert_eq!(world.kinds(4), ["swap-failed"]);
    let partial = Some(Partial { swap: 3, why: "no disk".into(), since: at(5) });
    world.snapshot.swaps = Arc::new(Swaps { partial, ..swapped(3, Some("no disk")) });
    world.snapshot.health.insert(swap::HEALTH.to_owned(), "swap 3 is half done".to_owned());
    assert_eq!(world.kinds(6), ["partial-swap"], "neither as failed nor as degraded");
    world.snapshot.swaps = Arc::new(Swaps { number: 3, ..Swaps::default() });
    world.snapshot.health.remove(swap::HEALTH);
    assert_eq!(world.kinds(7), ["partial-swap"], "its end");
}

#[test]
fn only_a_task_that_failed_is_told() {
    let mut world = World::new();
    for status in [Status::Done, Status::Cancelled] {
        let task = finished(status);
        world.snapshot.tasks.insert(task.key.clone(), Arc::new(task));
        assert_eq!(world.kinds(6), [""; 0]);
    }
    let task = finished(Status::Failed);
    world.snapshot.tasks.insert(task.key.clone(), Arc::new(task));
    let told = world.look(7).remove(0);
    assert_eq!((told.title.as_str(), told.text.as_str()), ("Task web:x failed", "it fell over"));
    assert_eq!(world.kinds(8), [""; 0]);
}

#[test]
fn a_provider_without_credit_is_told_once_and_when_it_has_some_again() {
    let mut world = World::new();
    let provider = Provider {
        name: ProviderName::parse("router").expect("name"),
        kind: "openai",
        serves: Vec::new(),
        fallback: Vec::new(),
        max_jobs: 1,
        standing: ProviderStanding::Usable,
        since: at(0),
        counters: Counters::default(),
    };
    let stand = |world: &mut World, standing, since| {
        let row = Provider { standing, since: at(since), ..provider.clone() };
        world.snapshot.delegation = Arc::new(Delegation { providers: vec![row], ..Delegation::default() });
    };
    let why = || "insufficient_quota".to_owned();
    stand(&mut world, ProviderStanding::Cooling { why: why(), until: at(60) }, 1);
    assert_eq!(world.kinds(2), [""; 0], "a pause is no news");
    stand(&mut world, ProviderStanding::Exhausted { why: why(), until: None }, 3);
    let told = world.look(4).remove(0);
    assert_eq!(told.title, "Provider router has no credit left");
    assert!(told.text.starts_with("insufficient_quota. It is tried again at "), "{told:?}");
    // Tried again, and still none.
    stand(&mut world, ProviderStanding::Exhausted { why: why(), until: None }, 100);
    assert_eq!(world.kinds(101), [""; 0]);
    stand(&mut world, ProviderStanding::Usable, 200);
    assert_eq!(world.kinds(201), ["credit"], "its end");
}

#[test]
fn a_session_that_waits_or_is_silent_is_told_of() {
    let mut world = World::new();
    world.session(session(Activity::Waiting(WaitingFor::Permission), 0));
    assert_eq!(world.kinds(1), ["waiting"]);
    world.session(session(Activity::Working, 2));
    assert_eq!(world.kinds(100), [""; 0]);
    assert_eq!(world.kinds(122), ["silent"]);
    world.session(session(Activity::Stalled, 2));
    assert_eq!(world.kinds(2000), [""; 0], "it is the same silence");
    // It went on, and asks again.
    world.session(session(Activity::Working, 2010));
    assert_eq!(world.kinds(2011), [""; 0]);
    world.session(session(Activity::Waiting(WaitingFor::Permission), 2012));
    assert_eq!(world.kinds(2013), ["waiting"]);
    // A person's own session is his.
    let mut world = World::new();
    world.session(Session { role: Role::Dedicated, ..session(Activity::Waiting(WaitingFor::Permission), 0) });
    assert_eq!(world.kinds(1), [""; 0]);
}

#[test]
fn health_is_told_but_for_what_has_its_own_kind() {
    let mut world = World::new();
    world.standing(0, limited(1));
    for topic in ["account one", "accounts of claude", "notices by telegram"] {
        world.snapshot.health.insert(topic.to_owned(), "x".to_owned());
    }
    assert_eq!(world.kinds(2), ["limit"]);
    world.snapshot.health.insert("tmux".to_owned(), "gone".to_owned());
    world.snapshot.health.insert("account two".to_owned(), "its login is lost".to_owned());
    assert_eq!(world.kinds(3), ["degraded", "degraded"]);
    world.snapshot.health.clear();
    assert_eq!(world.kinds(4), ["degraded", "degraded"], "and their ends");
}

#[test]
fn a_restart_tells_nothing_again_and_forgets_nothing_while_it_looks() {
    let mut world = World::new();
    world.session(session(Activity::Waiting(WaitingFor::Permission), 0));
    world.standing(0, limited(1));
    world.snapshot.health.insert("tmux".to_owned(), "gone".to_owned());
    assert_eq!(world.kinds(2), ["degraded", "limit", "waiting"]);
    // Health is empty, and nothing is known of the session yet.
    world.snapshot.since = at(100);
    world.snapshot.health.clear();
    world.session(session(Activity::Unknown, 100));
    assert_eq!(world.kinds(101), [""; 0]);
    world.snapshot.health.insert("tmux".to_owned(), "gone".to_owned());
    world.session(session(Activity::Waiting(WaitingFor::Permission), 103));
    assert_eq!(world.kinds(104), [""; 0]);
    assert_eq!(world.kinds(200), [""; 0]);
    world.snapshot.health.clear();
    assert_eq!(world.kinds(201), ["degraded"], "its end");
}

/// A machine that was started anew goes on from the time of the last save.
#[test]
fn while_time_stands_still_nothing_is_over_and_no_two_notices_have_one_time() {
    let mut world = World::new();
    world.snapshot.health.insert("tmux".to_owned(), "gone".to_owned());
    assert_eq!(world.look(100).len(), 1);
    world.snapshot.since = at(100);
    world.snapshot.health.clear();
    assert_eq!(world.look(100), [], "an earlier daemon's; the picture fills");
    let over = world.look(170);
    world.snapshot.since = at(170);
    world.snapshot.health.insert("tmux".to_owned(), "gone".to_owned());
    let again = world.look(170);
    let told: Vec<bool> = over.iter().chain(&again).map(|notice| notice.over).collect();
    assert_eq!(told, [true, false]);
    assert!(again[0].at > over[0].at, "{} {}", again[0].at, over[0].at);
}

#[test]
fn what_is_not_wanted_or_old_is_remembered_and_not_sent() {
    let mut world = World::new();
    world.settings.events = vec![NoticeKind::Swap];
    world.standing(0, limited(1));
    world.snapshot.swaps = Arc::new(swapped(1, None));
    assert_eq!(world.kinds(4000), [""; 0], "an hour later it is no news");
    world.settings.events = NoticeKind::ALL.to_vec();
    assert_eq!(world.kinds(4001), [""; 0], "wanting more tells nothing of what was there before");
    // A channel that is configured no more gets nothing.
    let notice = Notice::new(NoticeKind::Limit, "limit one".into(), "t", "x", at(1));
    let to = vec![Channel::Webhook];
    world.snapshot.notices.insert("limit one".into(), Arc::new(Told { notice, to }));
    let events = decide(&world.snapshot, &world.settings, Duration::MAX, &world.pace, at(4002)).events;
    let gone = NoticeEvent::Sent { incident: "limit one".into(), at: at(1), channel: Channel::Webhook };
    assert_eq!(events, [Event::Notice(gone)]);
    world.settings.webhook = Some(Webhook::default());
    assert_eq!(decide(&world.snapshot, &world.settings, Duration::MAX, &world.pace, at(4002)).events, []);
}

#[test]
fn a_flood_of_one_kind_is_held_back_and_says_so() {
    let mut world = World::new();
    world.settings.per_hour = 3;
    for n in 0..10 {
        world.snapshot.health.insert(format!("topic {n}"), "x".to_owned());
    }
    world.standing(0, limited(1));
    let out = world.look(2);
    let degraded: Vec<&Notice> = out.iter().filter(|notice| notice.kind == NoticeKind::Degraded).collect();
    assert_eq!((degraded.len(), out.len()), (3, 4), "another kind has its own pace");
    assert!(degraded[2].text.contains("No more of this kind until 1970-01-12T14:46:42Z"), "{degraded:?}");
    assert!(!degraded[1].text.contains("No more"), "{degraded:?}");
    world.snapshot.health.insert("late".to_owned(), "x".to_owned());
    assert_eq!(world.kinds(3000), [""; 0]);
    world.snapshot.health.insert("later".to_owned(), "x".to_owned());
    let out = world.look(3602);
    assert_eq!(out.len(), 2, "{out:?}");
    assert_eq!(out[0].title, "8 degraded notices were left out");
    assert!(out[0].text.contains("claude-failover is degraded: late\n"), "{:?}", out[0].text);
    assert_eq!(out[1].title, "claude-failover is degraded: later");
    assert_eq!(world.kinds(3603), [""; 0], "told once, and it has no end");
    assert_eq!(world.kinds(9000), [""; 0]);
}

/// An end that was left out would be believed not to have come.
#[test]
fn ends_that_were_left_out_are_named_first_when_there_is_room_again() {
    let mut world = World::new();
    world.settings.per_hour = 2;
    world.snapshot.health.insert("disk".to_owned(), "x".to_owned());
    world.snapshot.health.insert("tmux".to_owned(), "x".to_owned());
    assert_eq!(world.look(2).len(), 2);
    for n in 0..20 {
        world.snapshot.health.insert(format!("late {n}"), "x".to_owned());
    }
    assert_eq!(world.kinds(3), [""; 0]);
    world.snapshot.health.clear();
    assert_eq!(world.kinds(1000), [""; 0]);
    let out = world.look(3602);
    assert_eq!(out.len(), 1, "one for all: {out:?}");
    assert_eq!(out[0].title, "42 degraded notices were left out");
    let lines: Vec<&str> = out[0].text.lines().collect();
    assert!(lines[0].contains("`cat events` has all"), "{lines:?}");
    let over = ["Over: claude-failover is degraded: disk", "Over: claude-failover is degraded: tmux"];
    assert_eq!(lines[1..], [over[0], over[1], "and 40 more"], "what came and went meanwhile is a number");
}
