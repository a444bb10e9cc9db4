//! Decides which notifications are due.
//! Takes the snapshot with what was already sent, the settings and `now`; returns events to propose. Pure.
//!
//! The rule: a condition in the snapshot that was not reported is reported once; a reported condition that has ended
//! is forgotten, and for some kinds its end is reported. What was sent is saved with everything else, so a restart
//! repeats nothing; and for a while after a start, while the snapshot fills, nothing counts as ended. At most
//! `per_hour` of one kind go out per hour, and the last of them says so; the rest are summarised in one notification
//! when there is room again (`pace.rs`).

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};

use super::pace::{Pace, Room, is_summary};
use crate::{
    config::Notifications,
    model::{
        account::{Account, Standing},
        event::Event,
        evidence::WaitingFor,
        notice::{Notice, NoticeEvent, NoticeKind, Told},
        provider::{Provider, ProviderStanding},
        session::{Activity, Role, Session, SessionPhase},
        snapshot::Snapshot,
        swap,
        task::{Ending, Hold, Phase, Status, Task},
    },
};

/// How long after a start an earlier daemon's incidents still count as active. Chosen: by then every pane and inbox
/// has been scanned.
const FILLS_WITHIN: SignedDuration = SignedDuration::from_mins(1);
/// An incident older than this when first seen is not reported. Chosen: nobody can act on it in time.
const NEWS_FOR: SignedDuration = SignedDuration::from_hours(1);

/// Begins the topics in `health` of channels that don't work.
pub const TOPIC: &str = "notices by";

/// What a look gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    pub events: Vec<Event>,
    /// The pace once the events are taken.
    pub pace: Pace,
}

#[must_use]
pub fn decide(
    snapshot: &Snapshot,
    settings: &Notifications,
    silent_after: Duration,
    pace: &Pace,
    now: Timestamp,
) -> Decision {
    let mut pace = pace.clone();
    let mut events = Vec::new();
    let channels = settings.channels();
    let summaries = pace.summaries(settings.per_hour, &snapshot.timeline, now);
    let mut tell = |mut notice: Notice| {
        let news = now.duration_since(notice.at) < NEWS_FOR;
        // Its time distinguishes it from the incident's other notifications, and across a reboot time may stand still.
        if let Some(before) = snapshot.notices.get(&notice.incident) {
            let next = before.notice.at.saturating_add(SignedDuration::from_nanos(1)).unwrap_or(before.notice.at);
            notice.at = notice.at.max(next);
        }
        let mut to = if news && settings.events.contains(&notice.kind) { channels.clone() } else { Vec::new() };
        if !to.is_empty() {
            match pace.take(&notice, settings.per_hour, now) {
                Room::Free => {}
                Room::Last(until) => {
                    let until = snapshot.timeline.second(until);
                    let more =
                        format!("\nNo more of this kind until {until} (notifications.per_hour); `cat events` has all.");
                    notice.text.push_str(&more);
                }
                Room::None => to.clear(),
            }
        }
        NoticeEvent::Told(Told { notice, to })
    };

    events.extend(summaries.into_iter().map(&mut tell));
    let stands = standing(snapshot, silent_after, now);
    for (incident, notice) in &stands {
        if snapshot.notices.get(incident).is_none_or(|told| told.notice.over) {
            events.push(tell(notice.clone()));
        }
    }
    let filling = snapshot.since <= now && now.duration_since(snapshot.since) < FILLS_WITHIN;
    for (incident, told) in &snapshot.notices {
        let gone = told.to.iter().filter(|channel| !channels.contains(channel));
        events.extend(gone.map(|channel| NoticeEvent::Sent {
            incident: incident.clone(),
            at: told.notice.at,
            channel: *channel,
        }));
        if stands.contains_key(incident) || (filling && told.notice.at <= snapshot.since) {
            continue;
        }
        if !told.notice.over && told.notice.kind.tells_end() && !is_summary(&told.notice) {
            let text = told.notice.text.clone();
            let title = format!("Over: {}", told.notice.title);
            events.push(tell(Notice { over: true, title, text, at: now, ..told.notice.clone() }));
        } else if told.to.is_empty() {
            events.push(NoticeEvent::Forgotten { incident: incident.clone() });
        }
    }
    Decision { events: events.into_iter().map(Event::Notice).collect(), pace }
}

/// Everything in the snapshot worth a notification, by incident.
fn standing(snapshot: &Snapshot, silent_after: Duration, now: Timestamp) -> BTreeMap<String, Notice> {
    let mut all: Vec<Notice> = Vec::new();
    for account in snapshot.accounts.iter() {
        all.extend(limit(snapshot, account));
        all.extend(all_out(snapshot, account, now));
    }
    all.extend(swap(snapshot));
    all.extend(snapshot.tasks.filing().chain(snapshot.tasks.finished()).filter_map(|task| failed(task)));
    all.extend(snapshot.tasks.held().filter_map(|task| held(task)));
    for session in snapshot.sessions.values().filter(|session| session.role == Role::Pool) {
        all.extend(waiting(session));
        all.extend(silent(snapshot, session, silent_after, now));
    }
    all.extend(snapshot.delegation.providers.iter().filter_map(|provider| credit(snapshot, provider)));
    all.extend(degraded(snapshot, now));
    all.into_iter().map(|notice| (notice.incident.clone(), notice)).collect()
}

fn limit(snapshot: &Snapshot, account: &Account) -> Option<Notice> {
    let Standing::Limited(limited) = &account.standing else { return None };
    let name = &account.name;
    let until = match limited.until {
        Some(until) => format!("It is tried again at {}.", snapshot.timeline.second(until)),
        None => "Time alone does not lift it.".to_owned(),
    };
    let title = format!("Account {name} is at its limit");
    let text = format!("{}: {}. {until}", limited.limit.kind.word(), limited.signal.text.trim_end_matches('.'));
    Some(Notice::new(NoticeKind::Limit, format!("limit {name}"), &title, &text, limited.since))
}

/// Reported once for all interchangeable accounts: for the active one.
fn all_out(snapshot: &Snapshot, account: &Account, now: Timestamp) -> Option<Notice> {
    let like = || snapshot.accounts.iter().filter(|other| other.is_like(account));
    if !account.active || !like().all(Account::is_out) {
        return None;
    }
    let names: Vec<String> = like().map(|other| format!("{} {}", other.name, other.word())).collect();
    let next = like().filter_map(|other| Some((other.until()?, &other.name))).min();
    let when = match next {
        Some((until, name)) => {
            format!("{name} is tried again at {}; until then tasks wait.", snapshot.timeline.second(until))
        }
        None => "A person has to do something; until then tasks wait.".to_owned(),
    };
    let title = format!("No account of {} can be used", account.agent);
    let incident = format!("all-out {}", account.agent);
    Some(Notice::new(NoticeKind::AllOut, incident, &title, &format!("{}. {when}", names.join(", ")), now))
}

fn swap(snapshot: &Snapshot) -> Vec<Notice> {
    let swaps = &snapshot.swaps;
    let mut notices = Vec::new();
    if let Some(partial) = &swaps.partial {
        let text = format!(
            "Swap {}: {}. Nothing swaps until a person has put it right and said so: `echo clear-partial > control`.",
            partial.swap, partial.why
        );
        let incident = format!("partial-swap {}", partial.swap);
        notices.push(Notice::new(NoticeKind::PartialSwap, incident, "A swap is half done", &text, partial.since));
    }
    let partial = swaps.partial.as_ref().map(|partial| partial.swap);
    if let Some(last) = swaps.last.as_ref().filter(|last| partial != Some(last.number)) {
        let (kind, title, text) = match &last.error {
            None => {
                (NoticeKind::Swap, format!("Account {} is active, after {}", last.to, last.from), last.cause.words())
            }
            Some(why) => {
                let title = format!("The swap to {} failed; {} stays active", last.to, last.from);
                (NoticeKind::SwapFailed, title, why.clone())
            }
        };
        notices.push(Notice::new(kind, format!("swap {}", last.number), &title, &text, last.ended));
    }
    notices
}

fn failed(task: &Task) -> Option<Notice> {
    let (work, ending): (_, &Ending) = match &task.phase {
        Phase::Filing(filing) => (&filing.work, &filing.ending),
        Phase::Finished(finished) => (&finished.work, &finished.ending),
        Phase::Held(_) | Phase::Queued | Phase::Rejected(_) | Phase::Working(_) | Phase::Delegated(_) => return None,
    };
    if ending.status != Status::Failed {
        return None;
    }
    let incident = match work {
        Some(work) => format!("task-failed {} {}", task.key, work.id()),
        None => format!("task-failed {} {}", task.key, ending.at),
    };
    let why = ending.error.as_deref().unwrap_or("It is not known why.");
    Some(Notice::new(NoticeKind::TaskFailed, incident, &format!("Task {} failed", task.key), why, ending.at))
}

/// A task that only a person can release. Of many that came from one, one is reported.
fn held(task: &Task) -> Option<Notice> {
    let Phase::Held(hold) = &task.phase else { return None };
    if !hold.needs_person() {
        return None;
    }
    let (incident, title) = if let Hold::Braked(_) = hold {
        let root = task.origin.root.as_ref().map_or_else(|| "agents".to_owned(), ToString::to_string);
        (format!("waiting subtasks {root}"), format!("Tasks that came from {root} wait for a person"))
    } else {
        (format!("waiting task {}", task.key), format!("Task {} waits for a person", task.key))
    };
    Some(Notice::new(NoticeKind::Waiting, incident, &title, &hold.to_string(), task.since))
}

/// One that only asks for a pause comes back by itself.
fn credit(snapshot: &Snapshot, provider: &Provider) -> Option<Notice> {
    let name = &provider.name;
    let (title, why) = match &provider.standing {
        ProviderStanding::Exhausted { why, .. } => (format!("Provider {name} has no credit left"), why),
        ProviderStanding::Broken { why } => (format!("Provider {name} does not let us in"), why),
        ProviderStanding::Usable | ProviderStanding::Cooling { .. } => return None,
    };
    let again = provider
        .until()
        .map(|until| format!(". It is tried again at {}.", snapshot.timeline.second(until)))
        .unwrap_or_default();
    let text = format!("{}{again}", why.trim_end_matches('.'));
    Some(Notice::new(NoticeKind::Credit, format!("credit {name}"), &title, &text, provider.since))
}

fn waiting(session: &Session) -> Option<Notice> {
    let (SessionPhase::Starting(incarnation) | SessionPhase::Up(incarnation)) = &session.phase else { return None };
    let Activity::Waiting(what) = session.verdict.activity else { return None };
    let name = &session.name;
    let evidence = || session.verdict.evidence.first().map(|signal| signal.text.as_str()).unwrap_or_default();
    let task = session.task.as_ref().map(|assignment| format!("Task {}. ", assignment.task)).unwrap_or_default();
    let (said, then) = match what {
        WaitingFor::Permission | WaitingFor::Question | WaitingFor::Dialog => {
            (session.verdict.asked.as_deref().unwrap_or_else(evidence), "Answer it")
        }
        WaitingFor::Interrupted => ("Its turn was interrupted.", "Say how it goes on"),
    };
    let text = format!("{task}{said}\n{then}: claude-failover attach {name}");
    let incident = format!("waiting {name} {}", incarnation.id);
    Some(Notice::new(NoticeKind::Waiting, incident, &format!("{name} waits for a person"), &text, session.stated.since))
}

fn silent(snapshot: &Snapshot, session: &Session, silent_after: Duration, now: Timestamp) -> Option<Notice> {
    let SessionPhase::Up(incarnation) = &session.phase else { return None };
    let since = session.verdict.last_change;
    let quiet = now.duration_since(since);
    let silent = match session.verdict.activity {
        Activity::Working => quiet >= SignedDuration::try_from(silent_after).unwrap_or(SignedDuration::MAX),
        Activity::Stalled => true,
        Activity::Unknown | Activity::Idle | Activity::Waiting(_) | Activity::Limited => false,
    };
    if !silent {
        return None;
    }
    let name = &session.name;
    let task = session.task.as_ref().map(|assignment| format!(" Task {}.", assignment.task)).unwrap_or_default();
    let text = format!("At work, and nothing has changed since {}.{task}", snapshot.timeline.second(since));
    let incident = format!("silent {name} {}", incarnation.id);
    Some(Notice::new(NoticeKind::Silent, incident, &format!("{name} is silent"), &text, now))
}

/// What `health` says, but for what has a kind of its own and for the channels themselves.
fn degraded(snapshot: &Snapshot, now: Timestamp) -> Vec<Notice> {
    let limited = |account: &Account| matches!(account.standing, Standing::Limited(_));
    let own: Vec<String> =
        snapshot.accounts.iter().filter(|one| limited(one)).map(|one| format!("account {}", one.name)).collect();
    let elsewhere = |topic: &str| {
        topic == swap::HEALTH
            || topic.starts_with("accounts of ")
            || topic.starts_with(TOPIC)
            || own.iter().any(|other| other == topic)
    };
    let topics = snapshot.health.iter().filter(|(topic, _)| !elsewhere(topic));
    let notice = |(topic, problem): (&String, &String)| {
        let title = format!("claude-failover is degraded: {topic}");
        Notice::new(NoticeKind::Degraded, format!("degraded {topic}"), &title, problem, now)
    };
    topics.map(notice).collect()
}

#[cfg(test)]
mod tests;
