//! The terminal: panes with programs in them.

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::broadcast;

use super::{
    FakeWorld, Inner,
    program::{Due, Program},
};
use claude_failover::{
    model::{
        ids::SessionName,
        pane::{Background, Capture, Exit, Key, Launch, Pane, PaneId, TerminalError, TerminalHint},
        session::Incarnation,
    },
    ports::Terminal,
};

/// How often `terminate` looks whether the program is gone.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A session's pane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FakePane {
    pub id: PaneId,
    pub pid: u32,
    pub incarnation: Option<String>,
    pub keep_dead: bool,
    pub change: u64,
}

impl Inner {
    /// The terminal server dies with everything in it, and a new one answers after `down`.
    pub fn kill_server(&mut self, down: Duration) {
        let living: Vec<u32> = self.programs.values().filter(|p| p.exit.is_none()).map(|p| p.pid).collect();
        for pid in living {
            self.end_program(pid, Exit::Signal(1));
        }
        self.panes.clear();
        self.terminal_down(down);
    }

    /// The terminal server does not answer for a while.
    pub fn terminal_down(&mut self, down: Duration) {
        self.terminal_down_until = self.now.saturating_add(super::nanos(down));
        self.woken.server = true;
    }

    /// A program of somebody else's, in a session of that name.
    pub fn open_by_hand(&mut self, session: &SessionName) -> u32 {
        let program = Program::shell(self, session);
        self.show(session, program, None, false)
    }

    pub(super) fn show(
        &mut self,
        session: &SessionName,
        program: Program,
        incarnation: Option<String>,
        keep_dead: bool,
    ) -> u32 {
        let pid = program.pid;
        let id = match self.panes.get(session) {
            Some(pane) => pane.id.clone(),
            None => PaneId(format!("%{}", self.number())),
        };
        let change = self.change();
        self.programs.insert(pid, program);
        self.panes.insert(session.clone(), FakePane { id, pid, incarnation, keep_dead, change });
        self.woken.panes = true;
        pid
    }

    fn answers(&mut self, what: &str) -> Result<(), TerminalError> {
        let chance = self.faults.terminal;
        let faulty = chance > 0 && self.rng.chance(chance);
        if faulty {
            self.tally.faults += 1;
        }
        if faulty || self.now < self.terminal_down_until {
            return Err(TerminalError::Down { what: what.to_owned(), message: "no answer".to_owned() });
        }
        Ok(())
    }

    fn pane_of(&self, id: &PaneId) -> Result<(SessionName, u32), TerminalError> {
        let pane = self.panes.iter().find(|(_, pane)| pane.id == *id);
        let (session, pane) = pane.ok_or_else(|| TerminalError::Gone { what: id.0.clone() })?;
        Ok((session.clone(), pane.pid))
    }

    fn living(&self, id: &PaneId) -> Result<(SessionName, u32), TerminalError> {
        let (session, pid) = self.pane_of(id)?;
        match self.programs.get(&pid) {
            Some(program) if program.exit.is_none() => Ok((session, pid)),
            Some(_) | None => Err(TerminalError::Dead { what: id.0.clone() }),
        }
    }

    fn watch_ending(&mut self, session: &SessionName, what: &str) {
        if self.pool.contains(session) {
            return;
        }
        let program = self.panes.get(session).and_then(|pane| self.programs.get(&pane.pid)).cloned();
        match program.filter(|_| self.dedicated.contains(session)) {
            Some(program) => self.watch_dedicated_end(session, &program),
            None => self.violation(format!("{what} of session {session}, which is not one of the pool")),
        }
    }

    fn watch_typing(&mut self, session: &SessionName) {
        if !self.pool.contains(session) && !self.asked_to_type.contains(session) {
            self.violation(format!("typed into session {session}, which is not one of the pool"));
        }
    }

    fn start(&mut self, launch: &Launch) -> Result<Pane, TerminalError> {
        let name = &launch.session;
        let refused = |message: &str| TerminalError::Refused { what: name.to_string(), message: message.to_owned() };
        let present = self.panes.get(name).map(|pane| pane.pid);
        if present.and_then(|pid| self.programs.get(&pid)).is_some_and(|program| program.exit.is_none()) {
            return Err(refused("a program still runs in it"));
        }
        let left = self.left.contains_key(name);
        if !self.pool.contains(name) && (present.is_some_and(|_| !left) || !self.dedicated.contains(name)) {
            self.violation(format!("started a program in session {name}, which is not the daemon's to start"));
        }
        let chance = self.faults.open;
        if chance > 0 && self.rng.chance(chance) {
            self.tally.faults += 1;
            return Err(refused("fork failed"));
        }
        let request = self.launches.get(&launch.incarnation).cloned();
        self.watch_start(launch, request.as_ref());
        let program = Program::launched(self, launch);
        self.show(name, program, Some(launch.incarnation.clone()), launch.keep_dead);
        Ok(self.pane(name).unwrap_or_else(|| unreachable!("a pane was just made")))
    }

    fn pane(&self, session: &SessionName) -> Option<Pane> {
        let pane = self.panes.get(session)?;
        let program = self.programs.get(&pane.pid)?;
        Some(Pane {
            session: session.clone(),
            id: pane.id.clone(),
            pid: pane.pid,
            exit: program.exit,
            title: program.title(),
            incarnation: pane.incarnation.clone(),
            attached: 0,
            change: pane.change,
        })
    }
}

#[async_trait]
impl Terminal for FakeWorld {
    async fn panes(&self) -> Result<Vec<Pane>, TerminalError> {
        self.see(|inner| {
            inner.answers("panes")?;
            Ok(inner.panes.keys().filter_map(|session| inner.pane(session)).collect())
        })
        .await
    }

    async fn open(&self, launch: &Launch) -> Result<Pane, TerminalError> {
        self.effect(
            || format!("open {} ({})", launch.session, launch.incarnation),
            |inner| {
                if inner.now < inner.terminal_down_until {
                    inner.answers("open")?;
                }
                let opened = inner.start(launch)?;
                // It may be that only the answer is lost.
                inner.answers("open")?;
                Ok(opened)
            },
        )
        .await
    }

    async fn keep(&self, pane: &PaneId) -> Result<(), TerminalError> {
        self.effect(
            || format!("keep {}", pane.0),
            |inner| {
                inner.answers("keep")?;
                if let Some(pane) = inner.panes.values_mut().find(|known| known.id == *pane) {
                    pane.keep_dead = true;
                }
                Ok(())
            },
        )
        .await
    }

    async fn capture(&self, panes: &[PaneId], _: Capture) -> Result<Vec<Result<String, TerminalError>>, TerminalError> {
        self.see(|inner| {
            inner.answers("capture")?;
            let read = |id: &PaneId| {
                let (_, pid) = inner.pane_of(id)?;
                Ok(inner.programs.get(&pid).map(Program::screen).unwrap_or_default())
            };
            Ok(panes.iter().map(read).collect())
        })
        .await
    }

    async fn paste(&self, pane: &PaneId, text: &str) -> Result<(), TerminalError> {
        if text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
            return Err(TerminalError::Text { what: pane.0.clone(), message: "control characters".to_owned() });
        }
        self.effect(
            || format!("paste into {} {:?}", pane.0, text.chars().take(30).collect::<String>()),
            |inner| {
                if inner.now < inner.terminal_down_until {
                    inner.answers("paste")?;
                }
                let (session, pid) = inner.living(pane)?;
                inner.watch_typing(&session);
                inner.pasted(pid, text);
                inner.answers("paste")
            },
        )
        .await
    }

    async fn keys(&self, pane: &PaneId, keys: &[Key]) -> Result<(), TerminalError> {
        self.effect(
            || format!("keys to {}: {:?}", pane.0, keys),
            |inner| {
                if inner.now < inner.terminal_down_until {
                    inner.answers("keys")?;
                }
                let (session, pid) = inner.living(pane)?;
                inner.watch_typing(&session);
                for key in keys {
                    inner.pressed(pid, &key.0);
                }
                inner.answers("keys")
            },
        )
        .await
    }

    async fn terminate(&self, pane: &PaneId, grace: Duration, _: Background) -> Result<(), TerminalError> {
        let told = self
            .effect(
                || format!("TERM to {}", pane.0),
                |inner| {
                    inner.answers("terminate")?;
                    let Ok((session, pid)) = inner.living(pane) else { return Ok(None) };
                    inner.watch_ending(&session, "ending");
                    let deaf = inner.programs.get(&pid).map_or(Duration::ZERO, |program| program.deaf);
                    inner.schedule(deaf, Due::Exit(pid, Exit::Signal(15)));
                    Ok(Some(pid))
                },
            )
            .await?;
        let Some(pid) = told else { return Ok(()) };
        let deadline = tokio::time::Instant::now() + grace;
        while self.see(|inner| inner.programs.get(&pid).is_some_and(|program| program.exit.is_none())).await {
            if tokio::time::Instant::now() >= deadline {
                self.effect(|| format!("KILL to {}", pane.0), |inner| inner.end_program(pid, Exit::Signal(9))).await;
            } else {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        Ok(())
    }

    async fn end_left(&self, of: &Incarnation, _: Duration, _: Background) -> Result<(), TerminalError> {
        self.effect(
            || format!("end what is left of {}", of.id),
            |inner| {
                inner.answers("end_left")?;
                if !inner.panes.values().any(|pane| pane.pid == of.pid) {
                    inner.end_program(of.pid, Exit::Signal(9));
                }
                Ok(())
            },
        )
        .await
    }

    async fn close(&self, session: &SessionName) -> Result<(), TerminalError> {
        self.effect(
            || format!("close {session}"),
            |inner| {
                inner.answers("close")?;
                let Some(pane) = inner.panes.get(session).cloned() else { return Ok(()) };
                inner.watch_ending(session, "closing");
                if inner.living(&pane.id).is_ok() {
                    let message = "a program still runs in it".to_owned();
                    return Err(TerminalError::Refused { what: session.to_string(), message });
                }
                inner.panes.remove(session);
                inner.woken.panes = true;
                Ok(())
            },
        )
        .await
    }

    fn hints(&self) -> broadcast::Receiver<TerminalHint> {
        self.hints.subscribe()
    }
}
