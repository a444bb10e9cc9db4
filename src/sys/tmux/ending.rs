//! Ending programs and removing sessions.
//! In: a pane or a session. Out: its program's whole process tree is gone; the session is gone. No way of tmux's own ends
//! a program that ignores the hang-up, so the processes are ended first and tmux only told to look.

use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep};

use super::{
    Tmux,
    list::Row,
    quote::Command,
    target::Target,
    terminal::{refused, success},
};
use crate::{
    model::ids::SessionName,
    ports::{PaneId, TerminalError},
    sys::process::tree::{Root, end_tree},
};

/// How long tmux may take to show a pane dead whose program has ended.
const SHOWN_WITHIN: Duration = Duration::from_secs(3);

impl Tmux {
    pub(super) async fn end_program(&self, pane: &PaneId, grace: Duration) -> Result<(), TerminalError> {
        let what = format!("ending the program in pane {}", pane.0);
        let Some(row) = self.row_of(|row| row.target.id() == *pane).await? else { return Ok(()) };
        let server = self.server().ok_or_else(|| self.down(&what))?;
        let root = Root { pid: row.pid, parent: row.target.server };
        let target = row.target.clone();
        if let Err(left) = end_tree(root, grace, move |pid| started_in(pid, &target)).await {
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
            sleep(Duration::from_millis(10)).await;
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

/// Whether a process was started in this pane of this server, as its first environment tells.
fn started_in(pid: u32, target: &Target) -> bool {
    let Ok(environment) = std::fs::read(format!("/proc/{pid}/environ")) else { return false };
    let value = |name: &[u8]| environment.split(|&b| b == 0).find_map(|entry| entry.strip_prefix(name));
    // `TMUX` is `<socket>,<server's pid>,<session>`.
    let of_server = value(b"TMUX=").and_then(|tmux| {
        let mut from_end = std::str::from_utf8(tmux).ok()?.rsplit(',').skip(1);
        from_end.next()?.parse::<u32>().ok()
    });
    value(b"TMUX_PANE=") == Some(target.pane.as_bytes()) && of_server == Some(target.server)
}
