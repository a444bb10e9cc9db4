//! Decides when account limits end and when to swap accounts.
//! Takes the snapshot, the settings and `now`; returns events to propose, and when to look again. Pure.
//!
//! The rule: a limit whose reset has passed is over; an active account that is certainly out is replaced by the best
//! usable one of the same agent, no sooner than the cooldown after the last swap; if none is usable nothing moves, and
//! waiting work resumes when the first limit resets.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::{
    config::Quota,
    model::{
        account::{self, Account, AccountEvent, Standing},
        event::{About, Event, Kind, Note, Reason},
        session::{Activity, Role, SessionPhase},
        snapshot::{Snapshot, Under},
        swap::{Cause, SwapEvent, Swaps},
    },
};

/// What a look gives.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Decision {
    pub events: Vec<Event>,
    /// When time alone may bring something.
    pub wake: Option<Timestamp>,
}

impl Decision {
    fn at(&mut self, due: Timestamp, now: Timestamp, event: Event) {
        if due <= now {
            self.events.push(event);
        } else {
            self.wake_at(due);
        }
    }

    fn wake_at(&mut self, at: Timestamp) {
        self.wake = Some(self.wake.map_or(at, |known| known.min(at)));
    }
}

#[must_use]
pub fn decide(snapshot: &Snapshot, quota: &Quota, now: Timestamp) -> Decision {
    let mut decision = Decision::default();
    for account in snapshot.accounts.iter() {
        if let Some(until) = account.until() {
            decision.at(until, now, Event::Account(account.name.clone(), AccountEvent::Reset));
        }
    }
    // An ended limit changes the choice: the next snapshot has it.
    if decision.events.is_empty() && snapshot.swaps.current.is_none() && snapshot.swaps.partial.is_none() {
        for from in snapshot.accounts.iter().filter(|account| account.active) {
            if let Some((due, event)) = swap(snapshot, from, quota, now) {
                decision.at(due, now, event);
            }
        }
        // One swap at a time; the other kind of agent has its turn after it.
        decision.events.truncate(1);
    }
    decision.events.extend(health(snapshot));
    decision
}

/// The swap away from `from` that is wanted, and when it may begin.
fn swap(snapshot: &Snapshot, from: &Account, quota: &Quota, now: Timestamp) -> Option<(Timestamp, Event)> {
    let to = account::choose(&snapshot.accounts, from, now)?;
    let (cause, earliest) = match &from.standing {
        Standing::Suspect { .. } => return None,
        Standing::Limited(limited) => {
            let why = format!("{} of {}: {}", limited.limit.kind.word(), from.name, limited.signal.text);
            (Cause::Out { why }, now)
        }
        Standing::Broken { why, .. } => (Cause::Out { why: format!("{}: {why}", from.name) }, now),
        Standing::Usable => {
            let used_percent = proactive(snapshot, from, to, quota, now)?;
            (Cause::Proactive { used_percent }, after(from.active_since, quota.min_dwell))
        }
    };
    // What lies ahead was written by a clock that has been set back.
    let end = snapshot.swaps.cooldown_from.filter(|end| *end <= now);
    let cooled = end.map_or(now, |end| after(end, quota.reactivate_cooldown));
    let event = Event::Swap { from: from.name.clone(), event: SwapEvent::Begin { to: to.name.clone(), cause } };
    Some((cooled.max(earliest), event))
}

/// A warning if a person requested the last swap within the cooldown, pending or ended. `warned` is the number up to
/// which this was checked.
#[must_use]
pub fn hasty(snapshot: &Snapshot, quota: &Quota, warned: u64) -> Option<Event> {
    let Swaps { current, last, .. } = &*snapshot.swaps;
    let current = current.as_ref().map(|swap| (swap.number, &swap.cause, swap.begun, swap.cooldown_from));
    let last = || last.as_ref().map(|swap| (swap.number, &swap.cause, swap.begun, swap.cooldown_from));
    let (number, cause, begun, before) = current.or_else(last)?;
    let new = number > warned && cause.is_person();
    let before = before.filter(|end| new && *end <= begun && begun < after(*end, quota.reactivate_cooldown))?;
    let text = format!(
        "swap {number} comes {} s after the one before, within the cooldown (quota.reactivate_cooldown): a person asked for it, \
         so it goes on",
        begun.duration_since(before).as_secs(),
    );
    Some(Event::Note(Note::new(Kind::Swap, Reason::Hasty, About::words("swap"), text)))
}

/// How much of an account is used that should make way before it is used up, at a moment when nobody works under it.
fn proactive(snapshot: &Snapshot, from: &Account, to: &Account, quota: &Quota, now: Timestamp) -> Option<u8> {
    let limit = quota.proactive_percent?;
    let used = from.usage.used_percent(now).filter(|used| u32::from(*used) >= limit)?;
    let fuller = to.usage.used_percent(now).is_some_and(|other| u32::from(other) >= limit);
    let quiet = snapshot.sessions.values().all(|session| match &session.phase {
        SessionPhase::Starting(incarnation) | SessionPhase::Up(incarnation) | SessionPhase::Ending(incarnation) => {
            let watched = session.role == Role::Dedicated && session.attached > 0;
            let at_work = matches!(session.verdict.activity, Activity::Working | Activity::Waiting(_));
            incarnation.account.as_ref() != Some(&from.name) || (session.task.is_none() && !at_work && !watched)
        }
        SessionPhase::Down | SessionPhase::Dead { .. } => true,
    });
    (quiet && !fuller).then_some(used)
}

/// What `health` says of accounts, where it says something else now.
fn health(snapshot: &Snapshot) -> Vec<Event> {
    let mut topics = Vec::new();
    for account in snapshot.accounts.iter() {
        let problem = match &account.standing {
            Standing::Broken { why, .. } => Some(format!(
                "{why}; log in or mend {}, then `echo {} > accounts/active` or `echo swap {} > control`",
                account.home.display(),
                account.name,
                account.name
            )),
            Standing::Limited(limited) if account::needs_a_person(limited) => {
                Some(format!("{}: {}; time alone does not lift it", limited.limit.kind.word(), limited.signal.text))
            }
            Standing::Limited(_) | Standing::Usable | Standing::Suspect { .. } => None,
        };
        topics.push((format!("account {}", account.name), problem));
        if account.active {
            topics.push((format!("accounts of {}", account.agent), all_out(snapshot, account)));
        }
    }
    topics.extend(parked(snapshot));
    let news = topics.into_iter().filter(|(topic, problem)| snapshot.health.get(topic) != problem.as_ref());
    news.map(|(topic, problem)| Event::Health { topic, problem }).collect()
}

/// Agents without accounts that were stopped by a limit or a lost login: no account reports it.
fn parked(snapshot: &Snapshot) -> Vec<(String, Option<String>)> {
    let mut stopped: BTreeMap<String, Option<String>> =
        snapshot.health.keys().filter(|topic| topic.starts_with(STOPPED)).map(|topic| (topic.clone(), None)).collect();
    for session in snapshot.sessions.values().filter(|session| session.verdict.activity == Activity::Limited) {
        let agent = session.phase.incarnation().map(|incarnation| &incarnation.agent);
        let Some(agent) = agent.filter(|agent| snapshot.under(agent) == Under::NoAccount) else { continue };
        let words = session.verdict.evidence.first().map(|signal| signal.text.clone()).unwrap_or_default();
        let when = match account::limit_passes(&session.verdict) {
            Some(until) => format!("goes on at {}", snapshot.timeline.second(until)),
            None => format!(
                "waits for a person: correct what it says, then `echo restart > sessions/{}/control`",
                session.name
            ),
        };
        let problem = format!("{agent} is stopped in session {}: {words}; it {when}", session.name);
        stopped.insert(format!("{STOPPED}{agent}"), Some(problem));
    }
    stopped.into_iter().collect()
}

/// The topic in `health` of an agent without accounts.
const STOPPED: &str = "agent ";

fn all_out(snapshot: &Snapshot, active: &Account) -> Option<String> {
    let like = || snapshot.accounts.iter().filter(|account| account.is_like(active));
    if !like().all(Account::is_out) {
        return None;
    }
    let names: Vec<String> = like().map(|account| format!("{} {}", account.name, account.word())).collect();
    let next = like().filter_map(|account| Some((account.until()?, &account.name))).min();
    let when = next.map_or_else(
        || "a person has to do something".to_owned(),
        |(until, name)| format!("{name} is tried again at {}", snapshot.timeline.second(until)),
    );
    Some(format!("none can be used ({}): tasks and sessions wait; {when}", names.join(", ")))
}

fn after(at: Timestamp, wait: std::time::Duration) -> Timestamp {
    at.saturating_add(SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX)).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::model::{
        account::Limited,
        evidence::{Failure, Meaning, Signal, Source},
        ids::{AccountName, AgentName, SessionName},
        limit::{Limit, LimitKind, Usage, Window},
        samples,
        session::{Incarnation, Session, Verdict},
        swap::{Partial, Swapped},
    };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).expect("time")
    }

    fn account(name: &str, active: bool) -> Account {
        Account {
            name: AccountName::parse(name).expect("name"),
            agent: AgentName::parse("claude").expect("name"),
            agents: vec![AgentName::parse("claude").expect("name")],
            home: format!("/{name}").into(),
            active,
            active_since: at(0),
            standing: Standing::Usable,
            believed_from: at(0),
            usage: Usage::default(),
        }
    }

    fn limited(kind: LimitKind, until: Option<Timestamp>) -> Standing {
        let limit = Limit { kind, resets_at: until };
        let signal = Signal {
            at: at(1),
            source: Source::Hook,
            rule: "r".into(),
            text: "t".into(),
            meaning: Meaning::TurnFailed { failure: Failure::Limit(limit), message: "m".into() },
        };
        let session = SessionName::parse("s").expect("name");
        Standing::Limited(Limited { limit, until, since: at(1), session, signal })
    }

    fn used(percent: u8) -> Usage {
        let window = Window { used_percent: percent, resets_at: Some(at(9_000)), at: at(1) };
        Usage([(LimitKind::FiveHour, window)].into())
    }

    fn snapshot(accounts: Vec<Account>) -> Snapshot {
        Snapshot { accounts: Arc::new(accounts), ..Snapshot::empty(at(0)) }
    }

    fn swapped(ended: i64, to: &str, error: Option<&str>) -> Swaps {
        let last = Swapped {
            number: 1,
            from: AccountName::parse("one").expect("name"),
            to: AccountName::parse(to).expect("name"),
            cause: Cause::Out { why: String::new() },
            begun: at(ended),
            cooldown_from: None,
            ended: at(ended),
            error: error.map(str::to_owned),
        };
        let cooldown_from = error.is_none().then(|| at(ended));
        Swaps { number: 1, last: Some(last), cooldown_from, ..Swaps::default() }
    }

    fn target(decision: &Decision) -> Option<String> {
        decision.events.iter().find_map(|event| match event {
            Event::Swap { event: SwapEvent::Begin { to, .. }, .. } => Some(to.to_string()),
            _ => None,
        })
    }

    fn out(accounts: &mut [Account], at: usize) {
        accounts[at].standing = limited(LimitKind::FiveHour, Some(self::at(1000)));
    }

    #[test]
    fn an_account_that_is_out_makes_way_for_the_least_used_one() {
        let mut accounts = vec![account("one", true), account("two", false), account("three", false)];
        assert_eq!(target(&decide(&snapshot(accounts.clone()), &Quota::default(), at(10))), None);
        out(&mut accounts, 0);
        let quota = Quota::default();
        assert_eq!(target(&decide(&snapshot(accounts.clone()), &quota, at(10))).as_deref(), Some("two"));
        // What nobody knows is not fresh: 30 % are better, 97 % are worse.
        accounts[2].usage = used(30);
        assert_eq!(target(&decide(&snapshot(accounts.clone()), &quota, at(10))).as_deref(), Some("three"));
        accounts[2].usage = used(97);
        assert_eq!(target(&decide(&snapshot(accounts), &quota, at(10))).as_deref(), Some("two"));
    }

    #[test]
    fn the_cooldown_holds_for_every_automatic_swap() {
        let mut accounts = vec![account("one", false), account("two", true), account("three", false)];
        out(&mut accounts, 1);
        let mut snapshot = snapshot(accounts);
        snapshot.swaps = Arc::new(swapped(100, "two", None));
        let quota = Quota::default();
        let early = decide(&snapshot, &quota, at(399));
        assert_eq!((target(&early), early.wake), (None, Some(at(400))));
        assert_eq!(target(&decide(&snapshot, &quota, at(400))).as_deref(), Some("one"));
        // One that failed because its target is broken is none to wait for.
        snapshot.swaps = Arc::new(swapped(100, "one", Some("its home is not whole")));
        let broken = Standing::Broken { why: "its home is not whole".to_owned(), since: at(100), signal: None };
        Arc::make_mut(&mut snapshot.accounts)[0].standing = broken;
        assert_eq!(target(&decide(&snapshot, &quota, at(101))).as_deref(), Some("three"));
        // A clock that was set back makes nobody wait for the time that it had shown.
        snapshot.swaps = Arc::new(swapped(100, "two", None));
        assert_eq!(target(&decide(&snapshot, &quota, at(50))).as_deref(), Some("three"));
    }

    #[test]
    fn a_hasty_swap_of_a_person_is_warned_of_once_also_when_it_has_ended_by_then() {
        let mut snapshot = snapshot(vec![account("one", true), account("two", false)]);
        let mut tell = |from: &str, at, event| {
            let from = AccountName::parse(from).expect("name");
            let next = crate::model::swap::step(&snapshot.swaps, &from, &event, at).expect("taken");
            snapshot.swaps = Arc::new(next);
            snapshot.clone()
        };
        let to = |name: &str| SwapEvent::Begin {
            to: AccountName::parse(name).expect("name"),
            cause: Cause::Person { request: 1 },
        };
        let through = [SwapEvent::Flipped, SwapEvent::Ensured, SwapEvent::Moved { left: Vec::new() }];
        let warned = |snapshot: &Snapshot, warned| hasty(snapshot, &Quota::default(), warned).is_some();
        assert!(!warned(&tell("one", at(0), to("two")), 0), "the first of all");
        for event in &through {
            tell("one", at(1), event.clone());
        }
        let begun = tell("two", at(2), to("one"));
        assert!(warned(&begun, 1) && !warned(&begun, 2));
        for event in &through {
            let ended = tell("two", at(3), event.clone());
            assert!(warned(&ended, 1) && !warned(&ended, 2), "{event:?}");
        }
        assert!(!warned(&tell("one", at(400), to("two")), 2), "the cooldown has passed");
    }

    #[test]
    fn with_none_left_nothing_moves_until_the_first_reset() {
        let mut accounts = vec![account("one", true), account("two", false)];
        out(&mut accounts, 0);
        accounts[1].standing = limited(LimitKind::Weekly, Some(at(500)));
        let quota = Quota { reactivate_cooldown: Duration::ZERO, ..Quota::default() };
        let waits = decide(&snapshot(accounts.clone()), &quota, at(10));
        assert_eq!((target(&waits), waits.wake), (None, Some(at(500))));
        let told = waits.events.iter().any(
            |event| matches!(event, Event::Health { problem: Some(text), .. } if text.contains("two is tried again at")),
        );
        assert!(told, "{waits:?}");
        let over = decide(&snapshot(accounts), &quota, at(500));
        let name = AccountName::parse("two").expect("name");
        assert!(over.events.contains(&Event::Account(name, AccountEvent::Reset)), "{over:?}");
    }

    #[test]
    fn a_partial_swap_stops_every_other() {
        let mut accounts = vec![account("one", true), account("two", false)];
        out(&mut accounts, 0);
        let mut snapshot = snapshot(accounts);
        let partial = Partial { swap: 1, why: "w".into(), since: at(1) };
        snapshot.swaps = Arc::new(Swaps { partial: Some(partial), ..Swaps::default() });
        assert_eq!(target(&decide(&snapshot, &Quota::default(), at(10))), None);
    }

    #[test]
    fn an_agent_without_accounts_that_is_stopped_stands_in_health_until_it_goes_on() {
        let health = |decision: &Decision| {
            let topics = decision.events.iter().filter_map(|event| match event {
                Event::Health { topic, problem } if topic == "agent claude" => Some(problem.clone()),
                _ => None,
            });
            topics.collect::<Vec<_>>()
        };
        let mut snapshot = snapshot(Vec::new());
        let mut look = |failure: Option<Failure>, stands: Option<&str>| {
            let name = SessionName::parse("s").expect("name");
            let meaning = failure.map(|failure| Meaning::TurnFailed { failure, message: "m".into() });
            let signal =
                |meaning| Signal { at: at(1), source: Source::Hook, rule: "r".into(), text: "t".into(), meaning };
            let activity = if meaning.is_some() { Activity::Limited } else { Activity::Working };
            let evidence = meaning.into_iter().map(signal).collect();
            let session = Session {
                phase: SessionPhase::Up(Incarnation {
                    agent: AgentName::parse("claude").expect("name"),
                    ..samples::incarnation(&name)
                }),
                verdict: Verdict { activity, since: at(1), evidence, last_change: at(1), asked: None, draft: false },
                ..Session::new(name.clone(), Role::Pool, at(0))
            };
            snapshot.sessions.insert(name, Arc::new(session));
            snapshot.health.clear();
            snapshot.health.extend(stands.map(|text| ("agent claude".to_owned(), text.to_owned())));
            health(&decide(&snapshot, &Quota::default(), at(10)))
        };
        assert_eq!(look(None, None), []);
        let login = look(Some(Failure::Login), None);
        let [Some(login)] = login.as_slice() else { panic!("{login:?}") };
        assert!(login.contains("echo restart > sessions/s/control"), "{login}");
        assert_eq!(look(Some(Failure::Login), Some(login)), [], "it is told already");
        let limit = Failure::Limit(Limit { kind: LimitKind::FiveHour, resets_at: Some(at(500)) });
        let told = look(Some(limit), Some(login));
        assert!(matches!(told.as_slice(), [Some(text)] if text.contains("goes on at ")), "{told:?}");
        assert_eq!(look(None, Some("it stood there")), [None]);
    }

    #[test]
    fn a_suspicion_moves_nothing() {
        let mut accounts = vec![account("one", true), account("two", false)];
        let Standing::Limited(Limited { session, signal, .. }) = limited(LimitKind::Unknown, None) else { return };
        accounts[0].standing = Standing::Suspect { session, signal };
        assert_eq!(target(&decide(&snapshot(accounts), &Quota::default(), at(10))), None);
    }

    #[test]
    fn a_nearly_used_up_account_makes_way_at_a_quiet_moment() {
        let mut accounts = vec![account("one", true), account("two", false)];
        accounts[0].usage = used(91);
        let quota = Quota { proactive_percent: Some(90), ..Quota::default() };
        assert_eq!(target(&decide(&snapshot(accounts.clone()), &Quota::default(), at(400))), None);
        let dwells = decide(&snapshot(accounts.clone()), &quota, at(299));
        assert_eq!((target(&dwells), dwells.wake), (None, Some(at(300))));
        assert_eq!(target(&decide(&snapshot(accounts.clone()), &quota, at(300))).as_deref(), Some("two"));
        accounts[1].usage = used(95);
        assert_eq!(target(&decide(&snapshot(accounts), &quota, at(300))), None);
    }

    #[test]
    fn spending_and_credit_wait_for_a_person_unless_an_end_is_told() {
        for kind in [LimitKind::Spend, LimitKind::Credit] {
            assert_eq!(account::until(&Limit { kind, resets_at: None }, at(1)), None);
            assert_eq!(account::until(&Limit { kind, resets_at: Some(at(5)) }, at(1)), Some(at(7)));
        }
        let told = |resets_at| account::until(&Limit { kind: LimitKind::FiveHour, resets_at }, at(100));
        assert_eq!(told(Some(at(200))), Some(at(202)));
        assert_eq!(told(Some(at(50))), Some(at(160)), "a reset in the past is not believed");
        assert_eq!(told(None), Some(at(3700)));
    }
}
