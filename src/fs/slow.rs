//! Runs blocking work (disk I/O, control verbs) off the FUSE worker threads.
//! Takes one piece of work and what it waits for. Runs it on the calling thread while few others are running,
//! otherwise on a thread of its own. Owns the counts of running work, and a timer for requests with a deadline. Never
//! blocks itself.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crate::fs::words::{For, THREADS, lock};

/// Worker threads that may be blocked at once. Chosen: two always keep answering.
const HELD_MAX: usize = THREADS - 2;
/// Running jobs per resource. More callers get an error rather than a place in an endless queue, and callers that wait
/// for something else don't suffer. Chosen: each job beyond `HELD_MAX` is a thread.
const UNDER_WAY_MAX: usize = 256;

/// How long a disk may take for requests with a deadline. Chosen: longer than a busy disk takes, shorter than people
/// wait.
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);
/// How often deadlines are checked. Chosen: small against `ANSWERED_WITHIN`.
const TICK: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
struct Counts {
    held: AtomicUsize,
    supervisor: AtomicUsize,
    queues: Vec<AtomicUsize>,
    due: Mutex<Due>,
}

type Work = Box<dyn FnOnce() + Send>;

/// What is to be done when something takes too long, oldest first.
#[derive(Default)]
struct Due {
    next: u64,
    late: BTreeMap<u64, (Instant, Work)>,
}

impl std::fmt::Debug for Due {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Due").field("late", &self.late.len()).finish_non_exhaustive()
    }
}

impl Due {
    fn take_late(&mut self, now: Instant) -> Option<Work> {
        let first = self.late.first_entry().filter(|first| first.get().0 <= now)?;
        Some(first.remove().1)
    }
}

impl Counts {
    fn of(&self, what: For) -> &AtomicUsize {
        match what {
            For::Supervisor => &self.supervisor,
            For::Queue(queue) => self.queues.get(queue).unwrap_or(&self.supervisor),
        }
    }
}

#[derive(Debug, Clone)]
pub struct Slow(Arc<Counts>);

/// Counts as under way until it is dropped.
#[derive(Debug)]
pub struct UnderWay {
    counts: Arc<Counts>,
    what: For,
    holds: bool,
    due: Option<u64>,
}

impl UnderWay {
    /// Has `late` done should this still be under way when its time is up.
    pub fn in_time(&mut self, late: impl FnOnce() + Send + 'static) {
        let mut due = lock(&self.counts.due);
        due.next += 1;
        let number = due.next;
        due.late.insert(number, (Instant::now() + ANSWERED_WITHIN, Box::new(late)));
        self.due = Some(number);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.counts.of(self.what).fetch_sub(1, Ordering::SeqCst);
        if self.holds {
            self.counts.held.fetch_sub(1, Ordering::SeqCst);
        }
        if let Some(number) = self.due {
            lock(&self.counts.due).late.remove(&number);
        }
    }
}

/// Who is to do a piece of work.
#[derive(Debug)]
pub enum Place {
    /// The thread that it came to.
    Here(UnderWay),
    /// A thread of its own.
    Aside(UnderWay),
    /// Nobody: too much waits already.
    Full,
}

impl Slow {
    #[must_use]
    pub fn new(queues: usize) -> Self {
        let queues = (0..queues).map(|_| AtomicUsize::new(0)).collect();
        let counts = Arc::new(Counts { queues, ..Counts::default() });
        let watched = Arc::downgrade(&counts);
        if let Err(error) = std::thread::Builder::new().name("clock".to_owned()).spawn(move || tick(&watched)) {
            tracing::warn!(%error, "no thread: whoever waits for a disk waits as long as it takes");
        }
        Self(counts)
    }

    #[must_use]
    pub fn begin(&self, what: For) -> Place {
        let others = self.0.of(what).fetch_add(1, Ordering::SeqCst);
        let mut under_way = UnderWay { counts: Arc::clone(&self.0), what, holds: false, due: None };
        if others >= UNDER_WAY_MAX {
            return Place::Full;
        }
        let room = |held: usize| (held < HELD_MAX).then_some(held + 1);
        under_way.holds = self.0.held.fetch_update(Ordering::SeqCst, Ordering::SeqCst, room).is_ok();
        if under_way.holds { Place::Here(under_way) } else { Place::Aside(under_way) }
    }
}

/// Until there is nothing to watch any more.
fn tick(counts: &Weak<Counts>) {
    while let Some(counts) = counts.upgrade() {
        while let Some(late) = { lock(&counts.due).take_late(Instant::now()) } {
            late();
        }
        drop(counts);
        std::thread::sleep(TICK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_done_at_once_many_aside_and_no_end_of_them_is_refused() {
        let slow = Slow::new(2);
        let held: Vec<Place> = (0..UNDER_WAY_MAX + 2).map(|_| slow.begin(For::Queue(1))).collect();
        let count = |wanted: fn(&Place) -> bool| held.iter().filter(|place| wanted(place)).count();
        assert_eq!(count(|place| matches!(place, Place::Here(_))), HELD_MAX);
        assert_eq!(count(|place| matches!(place, Place::Full)), 2);
        assert!(matches!(slow.begin(For::Queue(0)), Place::Aside(_)), "what waits for something else has room");
        assert!(matches!(slow.begin(For::Supervisor), Place::Aside(_)), "so have verbs");
        drop(held);
        assert!(matches!(slow.begin(For::Queue(1)), Place::Here(_)), "what has ended is not counted");
    }
}
