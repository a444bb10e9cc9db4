//! The daemon's state directory.

use std::{
    io::{Error, Result},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;

use super::{FakeWorld, Inner};
use claude_failover::{
    model::journal::{State, Stored, read_checkpoint, recover, whole},
    ports::StateStore,
};

impl Inner {
    /// What the daemon has saved, and what it says.
    fn keep_state(&mut self, state: State) {
        self.watch_state(&state);
        self.watch_notices(&state);
        self.state = state;
    }

    fn empty_journal(&mut self) {
        self.stored.journal.clear();
        self.torn.clear();
        self.synced = 0;
    }

    /// The machine's power is cut: nothing runs any more, and of what was not synced the disk has any part from its beginning.
    pub fn cut_power(&mut self) {
        let deferred = self.stored.journal.len() - self.synced;
        let kept = usize::try_from(self.rng.below(deferred as u64 + 1)).unwrap_or(0);
        self.note(format!("world: the power is cut; the disk has {kept} of {deferred} deferred bytes of the journal"));
        self.tally.deferred_lost += u64::from(kept < deferred);
        self.stored.journal.truncate(self.synced + kept);
        self.torn.clear();
        self.kill_server(Duration::ZERO);
        self.power_cut = true;
    }
}

#[async_trait]
impl StateStore for FakeWorld {
    async fn load(&self) -> Result<Stored> {
        self.see(|inner| {
            let mut stored = inner.stored.clone();
            stored.journal.extend_from_slice(&inner.torn);
            let found = recover(stored.checkpoint.as_deref(), &stored.journal);
            inner.keep_state(found.ok().and_then(|found| found.state).unwrap_or_default());
            Ok(stored)
        })
        .await
    }

    async fn append(&self, record: &[u8], durable: bool) -> Result<u64> {
        let what = || "append to the journal".to_owned();
        // A daemon that dies meanwhile leaves a part of it, every other time.
        self.with(|inner| {
            if !inner.gone() && inner.ops % 2 == 0 {
                inner.torn = record[..record.len() / 2].to_vec();
            }
        });
        self.effect(what, |inner| {
            if !inner.begun {
                return Err(Error::other("no checkpoint was written yet"));
            }
            inner.torn.clear();
            inner.write(|inner| {
                // One that failed and stands there all the same is cut off by the next.
                inner.torn = record.to_vec();
                Ok(())
            })?;
            inner.torn.clear();
            inner.stored.journal.extend_from_slice(record);
            let (record, _) = whole(record).ok_or_else(|| Error::other("a record that can't be read"))?;
            let mut state = inner.state.clone();
            record.merge_into(&mut state);
            inner.keep_state(state);
            if durable {
                inner.synced = inner.stored.journal.len();
                inner.durable = inner.state.clone();
            }
            // A journal is soon long here: a run has checkpoints in its middle.
            Ok(inner.stored.journal.len() as u64 * 256)
        })
        .await
    }

    async fn checkpoint(&self, state: &[u8]) -> Result<()> {
        let what = || "checkpoint".to_owned();
        self.effect(what, |inner| {
            inner.write(|inner| {
                inner.stored.checkpoint = Some(state.to_vec());
                // All its records are in the checkpoint: whether it is emptied changes nothing.
                if inner.ops % 2 == 0 {
                    inner.empty_journal();
                }
                Ok(())
            })?;
            inner.empty_journal();
            inner.begun = true;
            inner.keep_state(read_checkpoint(state).map_err(Error::other)?);
            inner.durable = inner.state.clone();
            Ok(())
        })
        .await
    }

    async fn set_aside(&self) -> Result<String> {
        let what = || "set the state aside".to_owned();
        self.effect(what, |inner| {
            inner.stored.checkpoint = None;
            inner.empty_journal();
            inner.begun = false;
            inner.set_aside += 1;
            Ok(format!("state.json.unreadable.{}", inner.set_aside))
        })
        .await
    }

    // No step of its own: nothing hangs on the log.
    async fn append_events(&self, lines: &str) -> Result<()> {
        self.see(|inner| {
            inner.events.push_str(lines);
            Ok(())
        })
        .await
    }

    async fn events_log(&self) -> Result<(u64, Timestamp)> {
        self.see(|inner| Ok((inner.events.len() as u64, inner.timestamp()))).await
    }

    async fn rotate_events(&self) -> Result<()> {
        self.see(|inner| {
            inner.events.clear();
            Ok(())
        })
        .await
    }
}
