//! Captures pane contents from tmux.
//! Takes panes; returns their text, the same bytes by either method. Owns one buffer name, which exists only while
//! tmux runs one of our lines. Avoids `capture-pane -p` on versions where tmux keeps every captured text for ever.

use super::{Tmux, parse::Block, quote::Command, target::Target, text};
use crate::{
    model::pane::{Capture, PaneId, TerminalError},
    sys::tmux::errors::{gone, refused, success},
};

/// The first version that frees what a control client captured with `-p` (tmux 3.6; measured and read in the sources).
/// Earlier ones grow with each screen read, some GB a day with ten working agents, until the server dies with all of
/// them.
const FREES: (u32, u32) = (3, 6);

/// How a screen gets from the server to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// As the answer. Nothing else is touched: from 3.4 on other control clients are notified of every change of a
    /// buffer.
    Answer,
    /// Through a buffer that is made, shown and deleted in one line, between whose commands the server does nothing
    /// else. A person's own buffers keep their names and their order.
    Buffer,
}

impl Way {
    /// The way for a server that calls itself this version (`3.3a`, `next-3.8`). What can't be read is taken for old.
    #[must_use]
    pub fn of(version: &str) -> Self {
        let mut numbers = version.trim_start_matches("next-").split(|c: char| !c.is_ascii_digit());
        let mut number = || numbers.next()?.parse::<u32>().ok();
        match (number(), number()) {
            (Some(major), Some(minor)) if (major, minor) >= FREES => Self::Answer,
            _ => Self::Buffer,
        }
    }
}

/// Asks for one screen and reads the answer.
struct Screen<'a> {
    way: Way,
    /// Names the buffer, and ends the text in it; no program in a pane knows it.
    nonce: &'a str,
}

/// Behind the nonce at the text's end: it shows whether this tmux writes a buffer with escapes (up to 3.3a) or as it is.
const PROBE: &str = "\\.";

impl Screen<'_> {
    fn ask(&self, pane: &str, extra: &[&str]) -> Command {
        let capture = Command::new("capture-pane").args(extra).arg("-t").arg(pane);
        match self.way {
            Way::Answer => capture.arg("-p"),
            Way::Buffer => {
                let of_buffer = |name| Command::new(name).arg("-b").arg(self.nonce);
                // 3.4 and 3.5 can show a few bytes that lie behind the buffer; the mark tells where the text ends.
                let mark = format!("{}{PROBE}", self.nonce);
                let end = Command::new("set-buffer").arg("-a").arg("-b").arg(self.nonce).arg("--").arg(mark);
                capture
                    .arg("-b")
                    .arg(self.nonce)
                    .then(&end)
                    .then(&of_buffer("show-buffer"))
                    .then(&of_buffer("delete-buffer"))
            }
        }
    }

    /// The next screen of an answer.
    fn read(&self, what: &str, blocks: &mut impl Iterator<Item = Block>) -> Result<String, TerminalError> {
        let mut next = || blocks.next().ok_or_else(|| refused(what, "tmux answered with too few blocks"));
        let captured = next()?;
        success(what, &captured)?;
        match self.way {
            Way::Answer => Ok(captured.text()),
            Way::Buffer => {
                success(what, &next()?)?;
                let shown = next()?;
                success(what, &shown)?;
                success(what, &next()?)?;
                let whole = self.whole(&shown.body);
                let whole = whole.ok_or_else(|| refused(what, "tmux showed a part of the screen only"))?;
                Ok(String::from_utf8_lossy(&whole).into_owned())
            }
        }
    }

    /// The captured bytes as they were in the buffer, without the last line's end; `None` when the end mark is missing.
    fn whole(&self, shown: &[u8]) -> Option<Vec<u8>> {
        let nonce = self.nonce.as_bytes();
        let end = shown.windows(nonce.len()).position(|part| part == nonce)?;
        let (text, mark) = (shown.get(..end)?, shown.get(end + nonce.len()..)?);
        let text = if mark.starts_with(PROBE.as_bytes()) { text.to_vec() } else { text::unvis(text) };
        Some(text.strip_suffix(b"\n").map(<[u8]>::to_vec).unwrap_or(text))
    }
}

impl Tmux {
    pub(super) async fn screens(
        &self,
        panes: &[PaneId],
        how: Capture,
    ) -> Result<Vec<Result<String, TerminalError>>, TerminalError> {
        if panes.is_empty() {
            return Ok(Vec::new());
        }
        let extra: &[&str] = match how {
            Capture::Plain => &[],
            Capture::Colour => &["-e"],
            Capture::History => &["-S", "-"],
        };
        let what = "capturing panes";
        let server = self.server().ok_or_else(|| self.down(what))?;
        let pid = server.process.pid();
        let screen = Screen { way: server.capture, nonce: &self.screen_buffer };
        let targets: Vec<_> = panes.iter().map(|pane| Target::parse(pane).filter(|t| t.server == pid)).collect();
        let commands: Vec<Command> = targets.iter().flatten().map(|target| screen.ask(&target.pane, extra)).collect();
        let answer = self.ask(Some(pid), what, commands).await?;
        let mut blocks = answer.blocks.into_iter();
        let read = |(pane, target): (&PaneId, &Option<Target>)| {
            target.as_ref().ok_or_else(|| gone(&pane.0))?;
            let screen = screen.read(&pane.0, &mut blocks)?;
            Ok(if how == Capture::Colour { text::coloured(&screen) } else { text::plain(&screen) })
        };
        Ok(panes.iter().zip(&targets).map(read).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_versions_that_free_a_screen_answer_with_it() {
        for old in ["3.2a", "3.3a", "3.4", "3.5a", "", "2.9", "openbsd-7.6", "master"] {
            assert_eq!(Way::of(old), Way::Buffer, "{old}");
        }
        for new in ["3.6", "3.6b", "3.7c", "next-3.8", "3.10", "4.0"] {
            assert_eq!(Way::of(new), Way::Answer, "{new}");
        }
    }

    fn blocks(answers: &[(bool, &str)]) -> std::vec::IntoIter<Block> {
        let block = |(ok, body): &(bool, &str)| Block { ours: true, ok: *ok, body: body.as_bytes().to_vec() };
        answers.iter().map(block).collect::<Vec<_>>().into_iter()
    }

    #[test]
    fn a_pane_that_is_gone_takes_no_answer_of_the_next() {
        let screen = Screen { way: Way::Buffer, nonce: "n-1" };
        let answers =
            [(false, "can't find pane: %9"), (true, ""), (true, ""), (true, "a \\$HOME\n\nn-1\\\\."), (true, "")];
        let mut answers = blocks(&answers);
        assert!(matches!(screen.read("9", &mut answers), Err(TerminalError::Gone { .. })));
        assert_eq!(screen.read("8", &mut answers).expect("a screen"), "a $HOME\n");
        assert!(screen.read("7", &mut answers).is_err());
    }

    #[test]
    fn a_version_that_writes_no_escapes_is_believed() {
        let screen = Screen { way: Way::Buffer, nonce: "n-1" };
        let mut answers = blocks(&[(true, ""), (true, ""), (true, "C:\\new $HOME\nn-1\\.\u{11}\u{4}"), (true, "")]);
        assert_eq!(screen.read("8", &mut answers).expect("a screen"), "C:\\new $HOME");
    }

    #[test]
    fn a_part_of_a_screen_is_no_screen() {
        let screen = Screen { way: Way::Buffer, nonce: "n-1" };
        let mut answers = blocks(&[(true, ""), (true, ""), (true, "half a scr"), (true, "")]);
        assert!(screen.read("8", &mut answers).is_err());
    }
}
