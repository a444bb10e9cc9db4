//! Adjusts deadlines in wall-clock time when the wall clock jumps.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::world::World;
use crate::model::{
    account::{self, Standing},
    event::{About, Kind, Reason},
    provider::ProviderStanding,
    steady::Timeline,
};

/// Smaller clock jumps aren't reported. Chosen: NTP corrections are smaller.
const TOLD_FROM: SignedDuration = SignedDuration::from_secs(1);

impl World {
    /// Goes by the clock's timeline from now on.
    pub(super) fn follow(&mut self, timeline: Arc<Timeline>, now: Timestamp) {
        let known = &self.snapshot.timeline;
        if Arc::ptr_eq(known, &timeline) || *known == timeline {
            return;
        }
        let by = timeline.ahead().saturating_sub(known.ahead());
        self.snapshot.timeline = timeline;
        let later = |at: Timestamp| at.saturating_sub(by).unwrap_or(at);
        for account in Arc::make_mut(&mut self.snapshot.accounts) {
            for window in account.usage.0.values_mut() {
                window.resets_at = window.resets_at.map(later);
            }
            if let Standing::Limited(limited) = &mut account.standing
                && limited.limit.resets_at.is_some()
            {
                limited.limit.resets_at = limited.limit.resets_at.map(later);
                limited.until = account::until(&limited.limit, limited.signal.at);
            }
        }
        for provider in &mut Arc::make_mut(&mut self.snapshot.delegation).providers {
            if let ProviderStanding::Exhausted { until, .. } = &mut provider.standing {
                *until = until.map(later);
            }
        }
        if by.abs() < TOLD_FROM {
            return;
        }
        let way =
            if by > SignedDuration::ZERO { "ahead: it was set, or the machine slept" } else { "back: it was set" };
        let text = format!("the clock went {} s {way}; what is under way goes on", by.abs().as_secs());
        self.note(now, Kind::Daemon, Reason::ClockChanged, About::daemon(), text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        live::{clock, load, persist},
        model::{
            account::{Account, Limited},
            event::Event,
            evidence::{Failure, Meaning, Signal, Source, WaitingFor},
            ids::{AccountName, AgentName, SessionName},
            journal::{State, read_checkpoint},
            limit::{Limit, LimitKind, Usage},
            provider::Delegation,
            samples,
            session::{Activity, Incarnation, Role, Session, SessionEvent, Verdict},
            steady::{Reading, Steady},
        },
    };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).expect("a time")
    }

    fn name() -> SessionName {
        SessionName::parse("s").expect("name")
    }

    fn world(saved: Option<State>, accounts: Vec<Account>, now: Timestamp) -> World {
        load(saved, Vec::new(), accounts, Delegation::default(), "id".to_owned(), now).expect("a world")
    }

    fn signal(at: Timestamp, meaning: Meaning) -> Signal {
        Signal { at, source: Source::Hook, rule: "r".into(), text: "t".into(), meaning }
    }

    /// The agent is seen working at that time; older evidence says so.
    fn seen(world: &mut World, activity: Activity, second: i64) {
        let evidence = vec![signal(at(0), Meaning::Busy)];
        let verdict = Verdict { activity, since: at(0), evidence, last_change: at(second), ..Verdict::unknown(at(0)) };
        tell(world, SessionEvent::Observed { of: "i".into(), verdict, conversation: None }, second);
    }

    fn tell(world: &mut World, event: SessionEvent, second: i64) {
        world.apply(&Event::Session(name(), event), at(second)).expect("taken");
    }

    fn stated(world: &World) -> (String, Timestamp) {
        let stated = &world.snapshot.sessions[&name()].stated;
        (stated.word.clone(), stated.since)
    }

    #[test]
    fn since_is_of_the_state_shown_also_over_a_restart() {
        let mut world = world(None, Vec::new(), at(0));
        world.snapshot.sessions.insert(name(), Arc::new(Session::new(name(), Role::Pool, at(0))));
        let incarnation = Incarnation { started: at(10), ..samples::incarnation(&name()) };
        tell(&mut world, SessionEvent::Opened(incarnation), 10);
        assert_eq!(stated(&world), ("starting".to_owned(), at(10)));
        seen(&mut world, Activity::Idle, 11);
        tell(&mut world, SessionEvent::Ready { of: "i".into() }, 11);
        assert_eq!(stated(&world), ("idle".to_owned(), at(11)));
        seen(&mut world, Activity::Working, 250);
        seen(&mut world, Activity::Working, 251);
        assert_eq!(stated(&world), ("working".to_owned(), at(250)));
        seen(&mut world, Activity::Waiting(WaitingFor::Permission), 300);
        assert_eq!(stated(&world), ("waiting".to_owned(), at(300)));
        let mut again = self::world(Some(persist::state(&world)), Vec::new(), at(400));
        assert_eq!(stated(&again), ("waiting".to_owned(), at(300)), "nothing is known of it yet");
        seen(&mut again, Activity::Waiting(WaitingFor::Permission), 401);
        assert_eq!(stated(&again), ("waiting".to_owned(), at(300)));
        seen(&mut again, Activity::Working, 402);
        assert_eq!(stated(&again), ("working".to_owned(), at(402)));
    }

    fn limited(resets_at: Option<Timestamp>) -> Account {
        let agent = AgentName::parse("claude").expect("name");
        let limit = Limit { kind: LimitKind::FiveHour, resets_at };
        let signal = signal(at(0), Meaning::TurnFailed { failure: Failure::Limit(limit), message: "m".into() });
        let limited = Limited { limit, until: Some(at(500)), since: at(0), session: name(), signal };
        Account {
            name: AccountName::parse("one").expect("name"),
            agent: agent.clone(),
            agents: vec![agent],
            home: "/home".into(),
            active: true,
            active_since: at(0),
            standing: Standing::Limited(limited),
            believed_from: Timestamp::MIN,
            usage: Usage::default(),
        }
    }

    #[test]
    fn a_reset_that_was_told_goes_with_the_wall_s_clock_and_one_that_was_guessed_does_not() {
        let reading = |count, wall| Reading {
            boot: "a".into(),
            count: SignedDuration::from_secs(count),
            asleep: SignedDuration::ZERO,
            wall: at(wall),
        };
        for (ahead, told) in [(400, 100), (-45, 545), (-86_400, 86_900)] {
            let mut steady = Steady::begin(None, &reading(0, 0));
            let now = steady.now(&reading(10, 10 + ahead));
            let until = |resets_at| {
                let mut world = world(None, vec![limited(resets_at)], at(0));
                world.follow(steady.timeline().clone(), now);
                world.snapshot.accounts[0].until()
            };
            assert_eq!(until(Some(at(498))), Some(at(told)), "{ahead}");
            assert_eq!(until(None), Some(at(500)), "{ahead}");
        }
    }

    #[test]
    fn time_goes_on_from_the_latest_stamp_of_a_state_that_was_saved_by_the_wall() {
        let state = |stamp: &str| -> State {
            let used = format!("2026-01-0{stamp}T00:00:00Z");
            let state = serde_json::json!({
                "version": 1, "supervisor": "id",
                "sessions": [{"name": "s", "used": used, "resume": {"not_before": "2027-01-01T00:00:00Z"}}],
                "accounts": [{"name": "a", "standing": {"limited": {"until": "2027-01-01T00:00:00Z"}}}],
            });
            read_checkpoint(state.to_string().as_bytes()).expect("a state")
        };
        let wall: Timestamp = "2026-01-05T00:00:00Z".parse().expect("a time");
        assert_eq!(clock(None, wall), None);
        assert_eq!(clock(Some(&state("4")), wall), None, "all of it is past");
        let ahead = clock(Some(&state("7")), wall).map(|clock| clock.at.to_string());
        assert_eq!(ahead.as_deref(), Some("2026-01-07T00:00:00Z"));
    }
}
