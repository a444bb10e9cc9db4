//! Stops programs and removes sessions.
//! Takes a pane or a session; ends its program's whole process tree, or the session. tmux can't stop a program that
//! ignores the hang-up, so the processes are ended first and tmux is only made to check.

use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep};

use super::{Tmux, list::Row, open::close_dead, quote::Command, target::Target};
use crate::{
    linux::{
        peek::{self, Part},
        process::tree::{Root, end_tree},
    },
    model::{
        agent::INCARNATION,
        ids::SessionName,
        pane::{Background, PaneId, TerminalError},
        session::Incarnation,
    },
    sys::tmux::errors::{refused, success},
};

/// How long tmux may take to show a pane dead whose program has exited. Chosen: a reminded server shows it in
/// milliseconds; a busy one gets the rest.
const SHOWN_WITHIN: Duration = Duration::from_secs(3);

impl Tmux {
    pub(super) async fn end_program(
        &self,
        pane: &PaneId,
        grace: Duration,
        background: Background,
    ) -> Result<(), TerminalError> {
        let what = format!("ending the program in pane {}", pane.0);
        let Some(row) = self.row_of(|row| row.target.id() == *pane).await? else { return Ok(()) };
        let server = self.server().ok_or_else(|| self.down(&what))?;
        let root = Root { pid: row.pid, parent: row.target.server };
        let target = row.target.clone();
        if let Err(left) = end_tree(root, grace, background, move |pid| started_in(pid, &target)).await {
            return Err(refused(&what, format!("processes {left:?} outlive KILL (stuck in the kernel?)")));
        }
        let until = Instant::now() + SHOWN_WITHIN;
        while let Some(now) = self.row_of(|now| now.target == row.target && now.pid == row.pid).await? {
            if now.dead {
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(refused(&what, "its processes are gone but tmux shows it alive"));
            }
            drop(server.process.signal(Signal::SIGCHLD));
            // Chosen: 300 reminders within `SHOWN_WITHIN`.
            sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Ends what is left of a program whose pane is dead or gone.
    pub(super) async fn end_leftovers(
        &self,
        of: &Incarnation,
        grace: Duration,
        background: Background,
    ) -> Result<(), TerminalError> {
        let what = format!("ending what the program in pane {} left", of.pane.0);
        let Some(target) = Target::parse(&of.pane) else { return Ok(()) };
        // A pane of another server is gone, without a question.
        if self.server_pid() == Some(target.server)
            && self.row_of(|row| row.target == target && row.pid == of.pid && !row.dead).await?.is_some()
        {
            return Ok(());
        }
        let root = Root { pid: of.pid, parent: target.server };
        let (token, of_pane) = (of.token.clone(), target.clone());
        let proof = move |pid| if token.is_empty() { started_in(pid, &of_pane) } else { has_token(pid, &token) };
        if let Err(left) = end_tree(root, grace, background, proof).await {
            return Err(refused(&what, format!("processes {left:?} outlive KILL (stuck in the kernel?)")));
        }
        Ok(())
    }

    pub(super) async fn keep_dead(&self, pane: &PaneId) -> Result<(), TerminalError> {
        let what = format!("keeping pane {}", pane.0);
        let Some(row) = self.row_of(|row| row.target.id() == *pane).await? else { return Ok(()) };
        let of_window = |name: &str, value: &str| {
            Command::new("set-option").args(["-q", "-w", "-t", &row.target.pane, name, value])
        };
        let line = of_window("remain-on-exit", "on").then(&of_window("remain-on-exit-format", ""));
        let answer = self.ask(Some(row.target.server), &what, vec![line]).await?;
        answer.blocks.iter().try_for_each(|block| success(&what, block).map(drop))
    }

    pub(super) async fn close_session(&self, session: &SessionName) -> Result<(), TerminalError> {
        let what = format!("closing session {session}");
        let Some(row) = self.row_of(|row| row.session == *session).await? else { return Ok(()) };
        if !row.dead {
            return Err(refused(&what, format!("the program in pane {} still runs", row.target)));
        }
        if !row.home {
            // What holds it is a person's.
            let answer = self.ask(Some(row.target.server), &what, vec![close_dead(&row)]).await?;
            return answer.blocks.iter().try_for_each(|block| success(&what, block).map(drop));
        }
        // By tmux's own id, and only if the pane is still dead: a new session of this name is another one.
        let kill = Command::new("kill-session").arg("-t").arg(&row.session_id);
        let guarded = Command::new("if-shell").args(["-F", "-t", &row.target.pane, "#{pane_dead}"]).arg(kill.line());
        let answer = self.ask(Some(row.target.server), &what, vec![guarded]).await?;
        for block in &answer.blocks {
            match success(&what, block) {
                Ok(_) | Err(TerminalError::Gone { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        match self.row_of(|now| now.session_id == row.session_id && now.target.server == row.target.server).await? {
            None => Ok(()),
            Some(_) => Err(refused(&what, "a program was started in it meanwhile")),
        }
    }

    async fn row_of(&self, wanted: impl Fn(&Row) -> bool) -> Result<Option<Row>, TerminalError> {
        Ok(self.whole_list().await?.iter().find(|row| wanted(row)).cloned())
    }
}

/// Whether a process was started by an incarnation, by its initial environment.
fn has_token(pid: u32, token: &str) -> bool {
    let environment = peek::one(pid, Part::Environment);
    environment.is_ok_and(|environment| peek::variable(&environment, INCARNATION) == Some(token.as_bytes()))
}

/// Whether a process was started in this pane of this server, by its initial environment.
fn started_in(pid: u32, target: &Target) -> bool {
    let Ok(environment) = peek::one(pid, Part::Environment) else { return false };
    // `TMUX` is `<socket>,<server's pid>,<session>`.
    let of_server = peek::variable(&environment, "TMUX").and_then(|tmux| {
        let mut from_end = std::str::from_utf8(tmux).ok()?.rsplit(',').skip(1);
        from_end.next()?.parse::<u32>().ok()
    });
    peek::variable(&environment, "TMUX_PANE") == Some(target.pane.as_bytes()) && of_server == Some(target.server)
}
