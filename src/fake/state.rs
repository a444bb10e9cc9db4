//! The daemon's state directory.

use std::io::{Error, ErrorKind, Result};

use async_trait::async_trait;
use jiff::Timestamp;

use super::FakeWorld;
use crate::{model::ids::RunId, ports::StateStore};

#[async_trait]
impl StateStore for FakeWorld {
    async fn load(&self) -> Result<Option<Vec<u8>>> {
        self.see(|inner| {
            let state = inner.state.clone();
            inner.watch_state(state.as_deref().unwrap_or_default());
            Ok(state)
        })
        .await
    }

    async fn save(&self, state: &[u8]) -> Result<()> {
        let what = || "save state".to_owned();
        self.effect(what, |inner| {
            inner.write(|inner| {
                inner.state = Some(state.to_vec());
                Ok(())
            })?;
            inner.watch_state(state);
            inner.watch_notices(state);
            Ok(())
        })
        .await
    }

    async fn set_aside(&self) -> Result<String> {
        let what = || "set the state aside".to_owned();
        self.effect(what, |inner| {
            inner.state = None;
            inner.set_aside += 1;
            Ok(format!("state.json.broken-{}", inner.set_aside))
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

    async fn save_run(&self, run: &RunId, text: &[u8]) -> Result<()> {
        let what = || format!("save run {run}");
        self.effect(what, |inner| {
            inner.write(|inner| {
                inner.runs.insert(run.0.clone(), text.to_vec());
                Ok(())
            })
        })
        .await
    }

    async fn load_run(&self, run: &RunId) -> Result<Vec<u8>> {
        self.see(|inner| inner.runs.get(&run.0).cloned().ok_or_else(|| Error::from(ErrorKind::NotFound))).await
    }

    async fn remove_run(&self, run: &RunId) -> Result<()> {
        let what = || format!("remove run {run}");
        self.effect(what, |inner| {
            inner.runs.remove(&run.0);
            Ok(())
        })
        .await
    }

    async fn keep_runs(&self, keep: &[RunId]) -> Result<()> {
        let what = || format!("keep {} runs", keep.len());
        self.effect(what, |inner| {
            inner.runs.retain(|id, _| keep.iter().any(|run| run.0 == *id));
            Ok(())
        })
        .await
    }
}
