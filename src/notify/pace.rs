//! Rate limit of notifications per kind and hour, and a summary of what was suppressed.
//! Takes notifications and `now`; returns whether one is sent, and one summary once the hour has room again. Pure.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::model::{
    notice::{Notice, NoticeKind},
    steady::Timeline,
};

/// The window of `notifications.per_hour`.
const HOUR: SignedDuration = SignedDuration::from_hours(1);
/// Suppressed notifications that a summary names. Chosen: readable on a phone.
const NAMED: usize = 10;
/// Begun incidents that wait for their end. Chosen: far more than a pool can have; bounds the memory.
const REMEMBERED: usize = 1000;

/// What went out in the last hour, and what did not since the hour was full.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pace {
    sent: Vec<(NoticeKind, Timestamp)>,
    left_out: BTreeMap<NoticeKind, LeftOut>,
}

#[derive(Debug, Clone, PartialEq)]
struct LeftOut {
    since: Timestamp,
    count: usize,
    /// Incidents whose beginning was reported, and until when that is believed.
    ends: Vec<String>,
    /// Incidents that still last.
    begins: BTreeMap<String, String>,
}

pub(super) enum Room {
    Free,
    /// The last one until then.
    Last(Timestamp),
    None,
}

impl Pace {
    pub(super) fn take(&mut self, notice: &Notice, per_hour: u32, now: Timestamp) -> Room {
        let kind = notice.kind;
        if self.sent(kind, now) >= per_hour {
            let new = || LeftOut { since: now, count: 0, ends: Vec::new(), begins: BTreeMap::new() };
            self.left_out.entry(kind).or_insert_with(new).take(notice);
            return Room::None;
        }
        let first = self.sent.iter().filter(|(other, _)| *other == kind).map(|(_, at)| *at).min().unwrap_or(now);
        self.sent.push((kind, now));
        if self.sent(kind, now) < per_hour {
            Room::Free
        } else {
            Room::Last(first.saturating_add(HOUR).unwrap_or(first))
        }
    }

    fn sent(&mut self, kind: NoticeKind, now: Timestamp) -> u32 {
        // What lies ahead was written by a clock that has been set back.
        self.sent.retain(|(_, at)| *at <= now && now.duration_since(*at) < HOUR);
        u32::try_from(self.sent.iter().filter(|(other, _)| *other == kind).count()).unwrap_or(u32::MAX)
    }

    /// What was suppressed of kinds that have room again; each is reported once.
    pub(super) fn summaries(&mut self, per_hour: u32, timeline: &Timeline, now: Timestamp) -> Vec<Notice> {
        let kinds: Vec<NoticeKind> = self.left_out.keys().copied().collect();
        let room = kinds.into_iter().filter(|kind| self.sent(*kind, now) < per_hour).collect::<Vec<_>>();
        room.into_iter().filter_map(|kind| Some(summary(kind, &self.left_out.remove(&kind)?, timeline, now))).collect()
    }
}

impl LeftOut {
    fn take(&mut self, notice: &Notice) {
        self.count += 1;
        if notice.over {
            let untold = self.begins.remove(&notice.incident).is_some();
            if !untold && self.ends.len() < NAMED {
                self.ends.push(notice.title.clone());
            }
        } else if self.begins.len() < REMEMBERED {
            self.begins.insert(notice.incident.clone(), notice.title.clone());
        }
    }
}

/// Begins the incident of a summary, which ends once it is sent.
const LEFT_OUT: &str = "left-out";

pub(super) fn is_summary(notice: &Notice) -> bool {
    notice.incident.starts_with(LEFT_OUT)
}

fn summary(kind: NoticeKind, left: &LeftOut, timeline: &Timeline, now: Timestamp) -> Notice {
    let LeftOut { since, count, ends, begins } = left;
    let (name, were) = (kind.name(), if *count == 1 { "notice was" } else { "notices were" });
    let title = format!("{count} {name} {were} left out");
    let names: Vec<&str> = ends.iter().chain(begins.values()).take(NAMED).map(String::as_str).collect();
    let more = if *count > names.len() { format!("\nand {} more", count - names.len()) } else { String::new() };
    let text = format!(
        "Since {} (notifications.per_hour); `cat events` has all:\n{}{more}",
        timeline.second(*since),
        names.join("\n")
    );
    Notice::new(kind, format!("{LEFT_OUT} {name}"), &title, &text, now)
}
