//! Types text and keys into a pane.
//! Takes text cleaned by the model, and keys by name; sends one bracketed paste, or key presses. Owns only a buffer's
//! name. Never types into a dead pane (tmux before 3.5 crashes with all sessions on a paste) or into copy mode (which
//! would take the keys), and never types a character that a terminal obeys.

use super::{Tmux, converse::Answer, options, parse::Block, quote::Command, setup, target::Target, text};
use crate::{
    model::pane::{Key, PaneId, TerminalError},
    sys::tmux::errors::{refused, success},
};

/// Texts up to this many bytes go on the command line itself; longer ones through the standard input of a separate
/// client, which is faster for them, doesn't hold up other questions, and leaves no file behind whenever the daemon
/// ends. Measured on 3.3a: 64 kB occupy the server for 11.8 ms by `set-buffer` and 0.7 by `load-buffer`; at 80 bytes
/// both are below 1. Chosen: well below that crossing.
const ON_THE_LINE: usize = 4 * 1024;

const SENT: &str = "sent";
const DEAD: &str = "dead";

impl Tmux {
    pub(super) async fn paste_text(&self, pane: &PaneId, text: &str) -> Result<(), TerminalError> {
        let what = format!("pane {}", pane.0);
        if let Some((at, c)) = text::forbidden(text) {
            let message =
                format!("control character U+{:04X} at byte {at}; only newline and tab may be pasted", c as u32);
            return Err(TerminalError::Text { what, message });
        }
        let target = self.target(pane, &what)?;
        if text.is_empty() {
            return Ok(());
        }
        let buffer = options::buffer(&self.tick().to_string());
        let drop_buffer = Command::new("delete-buffer").arg("-b").arg(&buffer);
        // Newlines go as carriage returns, as from every terminal's own paste; agents take them for newlines.
        let paste = Command::new("paste-buffer").args(["-p", "-d", "-b", &buffer, "-t", &target.pane]);
        let pasted = match self.fill(&target, &buffer, text, &what).await {
            Ok(()) => self.unless_dead(&target, &what, &paste).await,
            Err(error) => Err(error),
        };
        match &pasted {
            // Pasting deletes it.
            Ok(()) => {}
            // Nobody would hear the wish, and the caller has waited long enough.
            Err(TerminalError::Down { .. }) => {}
            // It may not be there; then there is nothing to do.
            Err(_) => drop(self.ask(Some(target.server), &what, vec![drop_buffer]).await),
        }
        pasted
    }

    pub(super) async fn send_keys(&self, pane: &PaneId, keys: &[Key]) -> Result<(), TerminalError> {
        let what = format!("pane {}", pane.0);
        let target = self.target(pane, &what)?;
        if let Some(key) = keys.iter().find(|key| !is_key(&key.0)) {
            // tmux would type an unknown name as text.
            return Err(refused(&what, format!("{:?} is no key's name", key.0)));
        }
        if keys.is_empty() {
            return Ok(());
        }
        let send = Command::new("send-keys").args(["-t", &target.pane, "--"]).args(keys.iter().map(|key| &key.0));
        self.unless_dead(&target, &what, &send).await
    }

    /// Runs a command on a pane that is there, alive and out of copy mode; all decided by the server in one go.
    async fn unless_dead(&self, target: &Target, what: &str, command: &Command) -> Result<(), TerminalError> {
        let say = |word| Command::new("display-message").arg("-p").arg(word);
        let leave = Command::new("copy-mode").args(["-q", "-t", &target.pane]);
        let test = |format: &str| Command::new("if-shell").args(["-F", "-t", &target.pane, format]);
        let line = test("#{pane_in_mode}").arg(leave.line());
        let guarded = test("#{pane_dead}").arg(say(DEAD).line()).arg(command.clone().then(&say(SENT)).line());
        let answer = self.ask(Some(target.server), what, vec![line, guarded]).await?;
        for block in &answer.blocks {
            match success(what, block)?.body.as_slice() {
                body if body == DEAD.as_bytes() => return Err(TerminalError::Dead { what: what.to_owned() }),
                body if body == SENT.as_bytes() => return Ok(()),
                _ => {}
            }
        }
        Err(refused(what, "tmux didn't say what it did"))
    }

    /// Puts text into a buffer of tmux, complete or not at all.
    async fn fill(&self, target: &Target, buffer: &str, text: &str, what: &str) -> Result<(), TerminalError> {
        if text.len() <= ON_THE_LINE {
            let set = Command::new("set-buffer").args(["-b", buffer, "--", text]);
            return done(what, &self.ask(Some(target.server), what, vec![set]).await?);
        }
        setup::told(&self.options, &["load-buffer", "-b", buffer, "-"], text)
            .await
            .map_err(|message| TerminalError::Down { what: what.to_owned(), message })?;
        // tmux reports success for a text that it couldn't read: only the size shows that.
        let only = format!("#{{==:#{{buffer_name}},{buffer}}}");
        let size = Command::new("list-buffers").args(["-F", "#{buffer_size}", "-f", &only]);
        let answer = self.ask(Some(target.server), what, vec![size]).await?;
        let size = answer.blocks.first().map(Block::text).unwrap_or_default();
        match size == text.len().to_string() {
            true => Ok(()),
            false => Err(refused(what, format!("tmux took {size:?} of {} bytes", text.len()))),
        }
    }
}

fn done(what: &str, answer: &Answer) -> Result<(), TerminalError> {
    answer.blocks.iter().try_for_each(|block| success(what, block).map(drop))
}

/// Keys beside single characters and `F1`–`F12` (tmux(1), KEY BINDINGS).
const NAMED: [&str; 17] = [
    "Enter", "Escape", "Tab", "BTab", "Space", "BSpace", "Up", "Down", "Left", "Right", "Home", "End", "PageUp",
    "PageDown", "PPage", "NPage", "DC",
];

/// Whether tmux knows the key; `C-`, `M-` and `S-` may precede it.
fn is_key(name: &str) -> bool {
    let mut key = name;
    while key.len() > 2
        && let Some(rest) = ["C-", "M-", "S-"].iter().find_map(|prefix| key.strip_prefix(prefix))
    {
        key = rest;
    }
    let function = key.strip_prefix('F').and_then(|n| n.parse::<u8>().ok()).is_some_and(|n| (1..=12).contains(&n));
    let one = key.len() == 1 && key.bytes().all(|b| b.is_ascii_graphic());
    one || function || NAMED.contains(&key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_keys_are_keys() {
        for key in ["Enter", "C-c", "y", "1", ";", "-", "M-Enter", "C-M-x", "F12", "C--", "S-Up"] {
            assert!(is_key(key), "{key}");
        }
        for text in ["", "yes", "C-", "rm -rf", "F13", "é", "\r", "-X", "Enter\n", "C-yes"] {
            assert!(!is_key(text), "{text}");
        }
    }
}
