//! One control-mode connection to the tmux server: sends commands, receives answers and notifications.
//! Routes answers to their callers and notifications to a callback. Owns the client process and the pending questions.
//! Never waits for an unresponsive server: each question has a deadline, and a missed one closes the connection.

use std::{collections::VecDeque, future::pending, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until, timeout, timeout_at},
};

use super::{
    converse::{Answer, Conversation, Heard},
    options::{KEEPER, TmuxOptions},
    quote::Command,
    spawn::ClientProcess,
};

/// The longest that a caller waits for tmux, a reconnection included. Chosen: below the five seconds that our own
/// callers promise.
pub const ANSWER_WITHIN: Duration = Duration::from_millis(4_500);

/// How long the client may take to exit by itself before it is killed. Chosen: a client that doesn't leave at once is
/// one that hangs.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);

/// Pending questions; more wait in their channel. Chosen: one for each pane of a pool of 200 (pipelining is 4 times
/// faster there, measured).
const ON_THE_WAY: usize = 256;

/// A question to tmux.
#[derive(Debug)]
pub struct Ask {
    /// The only server it may be put to: another one has other panes of the same ids.
    pub server: Option<u32>,
    pub commands: Vec<Command>,
    pub deadline: Instant,
    pub reply: oneshot::Sender<Answer>,
}

/// Why a connection ended.
#[derive(Debug)]
pub enum Ended {
    /// Nobody can ask any more.
    Closed,
    Lost(String),
}

#[derive(Debug)]
pub struct Link {
    /// The server's pid, once known.
    pub server: Option<u32>,
    client: ClientProcess,
    talk: Conversation<Ask>,
    out: VecDeque<u8>,
    input_buffer: Vec<u8>,
}

impl Link {
    /// Connects, and starts the server where none runs.
    ///
    /// # Errors
    /// Why there is no connection.
    pub async fn open(options: &TmuxOptions) -> Result<Self, String> {
        let deadline = Instant::now() + ANSWER_WITHIN;
        let silent = |_| format!("no answer within {ANSWER_WITHIN:?}");
        let client = timeout_at(deadline, ClientProcess::start(options)).await.map_err(silent)??;
        let talk = Conversation::new(format!("claude-failover-{}", uuid::Uuid::new_v4().simple()));
        let mut link =
            Self { server: None, client, talk, out: VecDeque::new(), input_buffer: Vec::with_capacity(64 * 1024) };
        // Commands sent before the session is there can run before it is (3.3a: 11 of 20 starts).
        match timeout_at(deadline, link.attached()).await.map_err(silent)? {
            Ok(()) => Ok(link),
            Err(lost) => Err(link.why(lost).await),
        }
    }

    async fn attached(&mut self) -> Result<(), String> {
        loop {
            for heard in self.step().await? {
                if let Heard::Notice(notice) = heard {
                    match Notice::read(&notice) {
                        Notice::Attached => return Ok(()),
                        Notice::Over(why) => return Err(why),
                        Notice::Changed | Notice::Other => {}
                    }
                }
            }
        }
    }

    /// What the client said on its way out, in addition to what was seen of it.
    async fn why(&mut self, lost: String) -> String {
        // Chosen: a client that was cut off exits within milliseconds (measured 3 to 5 on 3.3a).
        match timeout(Duration::from_millis(500), self.client.ended()).await {
            Ok(complaint) if !complaint.is_empty() => format!("{lost}: {complaint}"),
            Ok(_) | Err(_) => lost,
        }
    }

    #[must_use]
    pub fn client_pid(&self) -> u32 {
        self.client.pid()
    }

    /// One question, before the connection is given to everybody.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn ask(&mut self, commands: Vec<Command>) -> Result<Answer, String> {
        let (reply, mut answered) = oneshot::channel();
        let deadline = Instant::now() + ANSWER_WITHIN;
        self.submit(Ask { server: None, commands, deadline, reply });
        loop {
            if let Ok(answer) = answered.try_recv() {
                return Ok(answer);
            }
            let heard = timeout_at(deadline, self.step())
                .await
                .map_err(|_| format!("no answer within {ANSWER_WITHIN:?}"))??;
            self.deliver(heard, &mut |_| {})?;
        }
    }

    /// Serves questions until there are no more callers or the connection is lost. Calls `changed` for every
    /// notification that sessions, panes or viewers changed.
    pub async fn serve(&mut self, asks: &mut mpsc::Receiver<Ask>, changed: &mut (dyn FnMut(&str) + Send)) -> Ended {
        loop {
            let deadline = self.talk.oldest().map(|ask| ask.deadline);
            let room = self.talk.waiting() < ON_THE_WAY;
            let late = async {
                match deadline {
                    Some(at) => sleep_until(at).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                ask = asks.recv(), if room => match ask {
                    // The asker gave up while we were away: what he wanted must not happen now.
                    Some(ask) if ask.reply.is_closed() => {}
                    // Dropping it notifies the caller.
                    Some(ask) if ask.server.is_some_and(|server| self.server != Some(server)) => {}
                    Some(ask) => self.submit(ask),
                    None => return Ended::Closed,
                },
                heard = self.step() => {
                    if let Err(lost) = heard.and_then(|heard| self.deliver(heard, changed)) {
                        return Ended::Lost(self.why(lost).await);
                    }
                }
                () = late => return Ended::Lost(format!("no answer within {ANSWER_WITHIN:?}")),
            }
        }
    }

    fn submit(&mut self, mut ask: Ask) {
        let commands = std::mem::take(&mut ask.commands);
        let bytes = self.talk.ask(ask, &commands);
        self.out.extend(bytes);
    }

    fn deliver(&mut self, heard: Vec<Heard<Ask>>, changed: &mut (dyn FnMut(&str) + Send)) -> Result<(), String> {
        for heard in heard {
            match heard {
                // An asker who no longer waits needs no answer.
                Heard::Answer(ask, answer) => drop(ask.reply.send(answer)),
                Heard::Notice(text) => match Notice::read(&text) {
                    Notice::Changed => changed(&text),
                    Notice::Over(why) => return Err(why),
                    Notice::Attached | Notice::Other => {}
                },
            }
        }
        Ok(())
    }

    /// Moves some bytes, in whichever direction is ready. Losing the future between loses nothing.
    async fn step(&mut self) -> Result<Vec<Heard<Ask>>, String> {
        self.input_buffer.clear();
        let (out, buffer) = (self.out.as_slices().0, &mut self.input_buffer);
        tokio::select! {
            written = self.client.input.write(out), if !out.is_empty() => {
                let written = written.map_err(|e| format!("the client takes no commands: {e}"))?;
                self.out.drain(..written);
                Ok(Vec::new())
            }
            read = self.client.output.read_buf(buffer) => match read {
                Ok(0) => Err("the client ended".to_owned()),
                Ok(_) => Ok(self.talk.hear(&self.input_buffer)),
                Err(e) => Err(format!("the client can't be read: {e}")),
            },
        }
    }

    /// Leaves in good order: end of input, then everything read that still comes. A client whose output nobody reads
    /// stays for ever.
    pub async fn close(mut self) {
        let Self { client, .. } = &mut self;
        let leave = async {
            // Detaching is an empty line; the end of input follows from dropping the link.
            drop(client.input.write(b"\n").await);
            let mut scrap = vec![0; 64 * 1024];
            while client.output.read(&mut scrap).await.is_ok_and(|n| n > 0) {}
            client.ended().await
        };
        if timeout(LEAVE_WITHIN, leave).await.is_err() {
            tracing::debug!("the tmux client didn't leave by itself and is killed");
        }
    }
}

/// The meaning of a notification.
#[derive(Debug, PartialEq, Eq)]
enum Notice {
    Attached,
    /// Sessions, windows, panes or viewers changed.
    Changed,
    /// The connection is of no more use.
    Over(String),
    Other,
}

impl Notice {
    fn read(line: &str) -> Self {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            // `$3 NAME`. When somebody kills the keeper, tmux may move us into another session, where we would be
            // counted as a viewer.
            "%session-changed" => match rest.split_once(' ') {
                Some((_, KEEPER)) => Self::Attached,
                _ => Self::Over(format!("moved into another session ({rest})")),
            },
            "%exit" if rest.is_empty() => Self::Over("tmux closed the connection".to_owned()),
            "%exit" => Self::Over(format!("tmux closed the connection: {rest}")),
            "%sessions-changed"
            | "%session-renamed"
            | "%session-window-changed"
            | "%unlinked-window-add"
            | "%unlinked-window-close"
            | "%unlinked-window-renamed"
            | "%window-add"
            | "%window-close"
            | "%client-session-changed"
            | "%client-detached" => Self::Changed,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn being_moved_out_of_the_keeper_ends_the_connection() {
        assert_eq!(Notice::read("%session-changed $0 _claude-failover"), Notice::Attached);
        assert!(matches!(Notice::read("%session-changed $4 web-1"), Notice::Over(_)));
        assert!(matches!(Notice::read("%exit"), Notice::Over(_)));
        assert_eq!(Notice::read("%unlinked-window-close @7"), Notice::Changed);
        assert_eq!(Notice::read("%something-new 1"), Notice::Other);
    }
}
