//! Implements the port's reads of panes and screens; the changes are in `open`, `typing` and `ending`.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use nix::sys::signal::Signal;
use tokio::{sync::broadcast, time::timeout};

use super::{
    Tmux,
    link::ANSWER_WITHIN,
    list::{self, Row},
    supervise::State,
    target::Target,
};
use crate::{
    model::{
        ids::SessionName,
        pane::{Background, Capture, Exit, Key, Launch, Pane, PaneId, TerminalError, TerminalHint},
        session::Incarnation,
    },
    ports::Terminal,
    sys::tmux::errors::{gone, success},
};

/// How often tmux is made to check an exit that it hasn't fully reported. Chosen: with doubling pauses 63 ms in all; a
/// SIGCHLD brought the status in 5 of 5 cases (measured on 3.3a).
const REMINDERS: u32 = 6;
/// The first pause, which doubles. Chosen: most exits are reported at once.
const REMINDER_PAUSE: Duration = Duration::from_millis(1);

#[async_trait]
impl Terminal for Tmux {
    async fn panes(&self) -> Result<Vec<Pane>, TerminalError> {
        Ok(self.rows().await?.into_iter().map(Row::into_pane).collect())
    }

    async fn glance(&self) -> Result<Vec<Pane>, TerminalError> {
        Ok(self.rows_at_a_glance().await?.into_iter().map(Row::into_pane).collect())
    }

    async fn open(&self, launch: &Launch) -> Result<Pane, TerminalError> {
        let opened = self.open_session(launch).await;
        self.remembered.forget();
        opened
    }

    async fn keep(&self, pane: &PaneId) -> Result<(), TerminalError> {
        self.keep_dead(pane).await
    }

    async fn capture(
        &self,
        panes: &[PaneId],
        how: Capture,
    ) -> Result<Vec<Result<String, TerminalError>>, TerminalError> {
        self.screens(panes, how).await
    }

    async fn paste(&self, pane: &PaneId, text: &str) -> Result<(), TerminalError> {
        self.paste_text(pane, text).await
    }

    async fn keys(&self, pane: &PaneId, keys: &[Key]) -> Result<(), TerminalError> {
        self.send_keys(pane, keys).await
    }

    async fn terminate(&self, pane: &PaneId, grace: Duration, background: Background) -> Result<(), TerminalError> {
        let ended = self.end_program(pane, grace, background).await;
        self.remembered.forget();
        ended
    }

    async fn end_left(&self, of: &Incarnation, grace: Duration, background: Background) -> Result<(), TerminalError> {
        self.end_leftovers(of, grace, background).await
    }

    async fn close(&self, session: &SessionName) -> Result<(), TerminalError> {
        let closed = self.close_session(session).await;
        self.remembered.forget();
        closed
    }

    fn hints(&self) -> broadcast::Receiver<TerminalHint> {
        self.hints.subscribe()
    }
}

impl Tmux {
    /// Lists the panes, makes tmux report exits with their causes, and watches the programs.
    pub(super) async fn rows(&self) -> Result<Vec<Row>, TerminalError> {
        let mut rows = self.whole_list().await?.to_vec();
        list::blur_young(&mut rows, Timestamp::now().as_second(), self.tick());
        Ok(rows)
    }

    /// Every pane as tmux lists it. Many steps at once need it, and each list costs as much as there are panes.
    pub(super) async fn whole_list(&self) -> Result<Arc<Vec<Row>>, TerminalError> {
        let shared = self.listed.get(async { self.asked_list().await.map(Arc::new) });
        // Whoever waits behind a list that is not answered waits no longer for that.
        timeout(ANSWER_WITHIN, shared).await.unwrap_or_else(|_| Err(self.down("listing panes")))
    }

    async fn asked_list(&self) -> Result<Vec<Row>, TerminalError> {
        let mut reminders = REMINDERS;
        loop {
            let answer = self.ask(None, "listing panes", vec![self.lister.all()]).await?;
            let Some(block) = answer.blocks.first() else { return Err(self.down("listing panes")) };
            let mut rows = self.lister.rows(&success("the list of panes", block)?.text());
            let server = self.server().ok_or_else(|| self.down("listing panes"))?;
            let unclear = list::unclear(&rows, |row| self.deaths.ended(&row.target.id(), row.pid));
            let known = self.unexplained(&rows, &unclear, reminders == 0);
            if known {
                for row in rows.iter_mut().filter(|row| unclear.contains(&row.target.id())) {
                    row.dead = true;
                    row.exit = Some(Exit::Unknown);
                }
                let alive: Vec<_> = rows.iter().filter(|row| !row.dead).map(|row| (row.target.id(), row.pid)).collect();
                let (state, hints) = (self.state.clone(), self.hints.clone());
                self.deaths.watch(server.process.pid(), &alive, move || {
                    if let State::Up(server) = &*state.borrow() {
                        drop(server.process.signal(Signal::SIGCHLD));
                    }
                    // Without receivers nobody needs the hint.
                    drop(hints.send(TerminalHint::Panes));
                });
                return Ok(rows);
            }
            // tmux 3.3a loses SIGCHLD while its utempter helper runs; one more makes it collect all its dead.
            drop(server.process.signal(Signal::SIGCHLD));
            tokio::time::sleep(REMINDER_PAUSE * (1 << (REMINDERS - reminders))).await;
            reminders -= 1;
        }
    }

    /// The pane of a present server that an id means.
    pub(super) fn target(&self, pane: &PaneId, what: &str) -> Result<Target, TerminalError> {
        let server = self.server_pid().ok_or_else(|| self.down(what))?;
        Target::parse(pane).filter(|target| target.server == server).ok_or_else(|| gone(what))
    }

    /// Whether nothing more is to be learnt of the unclear panes: there are none, or all were asked for before in vain.
    /// `give_up` makes these such panes.
    fn unexplained(&self, rows: &[Row], unclear: &std::collections::HashSet<PaneId>, give_up: bool) -> bool {
        let mut given_up = self.given_up.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let now: HashMap<PaneId, u32> = rows
            .iter()
            .filter(|row| unclear.contains(&row.target.id()))
            .map(|row| (row.target.id(), row.pid))
            .collect();
        given_up.retain(|pane, pid| now.get(pane) == Some(pid));
        if give_up {
            given_up.clone_from(&now);
        }
        now.keys().all(|pane| given_up.contains_key(pane))
    }
}
