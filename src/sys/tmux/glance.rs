//! Caches the list of panes for callers that poll every second.
//! Takes the last full list, and the rows of panes with output since; returns what a full list would show. The cache
//! is dropped when a notification, an exit or one of our own steps says that panes changed, and after a short time
//! anyway.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    sync::broadcast::{self, error::TryRecvError},
    time::Instant,
};

use super::{
    Tmux,
    list::{self, Row},
};
use crate::{
    model::pane::{TerminalError, TerminalHint},
    sys::tmux::errors::success,
};

/// A full list is requested this often even when nothing indicates a difference. Chosen: changes without output (copy
/// mode, a cleared history) may be seen that late.
const WHOLE_EVERY: Duration = Duration::from_secs(10);

/// What the last list said.
#[derive(Debug)]
pub struct Remembered(Mutex<Memory>);

#[derive(Debug)]
struct Memory {
    list: Option<List>,
    /// Rises when the list is forgotten, so that one asked for before isn't remembered after.
    forgotten: u64,
    hints: broadcast::Receiver<TerminalHint>,
}

#[derive(Debug, Clone)]
struct List {
    rows: Vec<Row>,
    /// Second of the wall clock before tmux was asked.
    asked: i64,
    /// When a whole list was last asked for.
    whole: Instant,
}

impl Remembered {
    pub fn new(hints: broadcast::Receiver<TerminalHint>) -> Self {
        Self(Mutex::new(Memory { list: None, forgotten: 0, hints }))
    }

    /// Panes came, went or changed.
    pub fn forget(&self) {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        memory.forgotten += 1;
        memory.list = None;
    }

    /// The last list while it may be trusted, and the number to remember the next one by.
    fn recall(&self) -> (u64, Option<List>) {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while let Ok(_) | Err(TryRecvError::Lagged(_)) = memory.hints.try_recv() {
            memory.forgotten += 1;
            memory.list = None;
        }
        (memory.forgotten, memory.list.take().filter(|list| list.whole.elapsed() < WHOLE_EVERY))
    }

    fn remember(&self, number: u64, list: List) {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if memory.forgotten == number {
            memory.list = Some(list);
        }
    }
}

impl Tmux {
    /// As `rows`; tmux is asked only for the panes that have shown something since the last time.
    pub(super) async fn rows_at_a_glance(&self) -> Result<Vec<Row>, TerminalError> {
        let asked = Timestamp::now().as_second();
        let (number, known) = self.remembered.recall();
        let updated = match known {
            Some(known) => self.update(known, asked).await?,
            None => None,
        };
        let list = match updated {
            Some(list) => list,
            None => List { rows: self.whole_list().await?.to_vec(), asked, whole: Instant::now() },
        };
        let mut rows = list.rows.clone();
        self.remembered.remember(number, list);
        list::blur_young(&mut rows, Timestamp::now().as_second(), self.tick());
        Ok(rows)
    }

    /// The list with the rows that are new; `None` when a whole one is needed.
    async fn update(&self, mut known: List, asked: i64) -> Result<Option<List>, TerminalError> {
        // The second before the last look was not over then; a clock that was set back makes this every pane.
        let since = known.asked.min(asked) - 1;
        let answer = self.ask(None, "listing panes", vec![self.lister.moved(since)]).await?;
        let Some(block) = answer.blocks.first() else { return Err(self.down("listing panes")) };
        for row in self.lister.rows(&success("the list of panes", block)?.text()) {
            match known.rows.iter_mut().find(|old| old.target == row.target) {
                Some(old) if old.pid == row.pid && old.dead == row.dead && old.exit == row.exit => *old = row,
                Some(_) | None => return Ok(None),
            }
        }
        // An exit that only the kernel has reported so far.
        if known.rows.iter().any(|row| !row.dead && self.deaths.ended(&row.target.id(), row.pid)) {
            return Ok(None);
        }
        known.asked = asked;
        Ok(Some(known))
    }
}
