//! What may wait (the disk, a verb) keeps no serving thread from everything else.
//! In: one piece of work each. Out: it is done by the thread that it came to while few others are under way, and by one of
//! its own beyond that. Owns the count of what is under way. Never waits itself.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Serving threads that may be held up at once; the others go on answering.
const HELD_MAX: usize = 3;
/// Pieces of work under way at once. More callers get an error rather than a place in a queue without end.
const UNDER_WAY_MAX: usize = 512;

#[derive(Debug, Clone, Default)]
pub struct Slow(Arc<AtomicUsize>);

/// Counts as under way until it is dropped.
#[derive(Debug)]
pub struct UnderWay(Arc<AtomicUsize>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
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
    pub fn begin(&self) -> Place {
        let others = self.0.fetch_add(1, Ordering::SeqCst);
        let under_way = UnderWay(Arc::clone(&self.0));
        match others {
            0..HELD_MAX => Place::Here(under_way),
            HELD_MAX..UNDER_WAY_MAX => Place::Aside(under_way),
            UNDER_WAY_MAX.. => Place::Full,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_done_at_once_many_aside_and_no_end_of_them_is_refused() {
        let slow = Slow::default();
        let held: Vec<Place> = (0..UNDER_WAY_MAX + 2).map(|_| slow.begin()).collect();
        let count = |wanted: fn(&Place) -> bool| held.iter().filter(|place| wanted(place)).count();
        assert_eq!(count(|place| matches!(place, Place::Here(_))), HELD_MAX);
        assert_eq!(count(|place| matches!(place, Place::Full)), 2);
        drop(held);
        assert!(matches!(slow.begin(), Place::Here(_)), "what has ended is not counted");
    }
}
