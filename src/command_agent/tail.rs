//! Keeps the last lines of a program's stdout, which are the task's result, and of its stderr, whose last line says
//! why it failed.
//! Takes output in pieces; returns the last lines and the amount dropped before them.

use std::collections::VecDeque;

/// How much of the end of stdout is kept as the task's result. Chosen: more than anybody reads; a pane's scrollback is
/// of this order.
const KEPT: usize = 256 << 10;
/// The same of stderr, of which one line is reported. Chosen: holds any single line.
const KEPT_OF_ERRORS: usize = 16 << 10;
/// Most characters reported of that line. Chosen: as `sys/providers/words.rs`.
const LINE: usize = 300;

/// The last bytes of a stream.
pub(super) struct Tail {
    most: usize,
    bytes: VecDeque<u8>,
    /// Bytes that came before.
    dropped: usize,
}

impl Tail {
    pub(super) fn of_output() -> Self {
        Self { most: KEPT, bytes: VecDeque::new(), dropped: 0 }
    }

    pub(super) fn of_errors() -> Self {
        Self { most: KEPT_OF_ERRORS, ..Self::of_output() }
    }

    /// The last line that says something.
    pub(super) fn last_line(&self) -> Option<String> {
        let (front, back) = self.bytes.as_slices();
        let text = String::from_utf8_lossy(&[front, back].concat()).into_owned();
        // A progress bar draws its line again and again.
        let line = text.split(['\n', '\r']).map(str::trim).rfind(|line| !line.is_empty())?;
        let mut told: String = line.chars().take(LINE).collect();
        if told.len() < line.len() {
            told.push('…');
        }
        Some(told)
    }

    pub(super) fn push(&mut self, chunk: &[u8]) {
        self.bytes.extend(chunk);
        let over = self.bytes.len().saturating_sub(self.most);
        self.dropped += over;
        self.bytes.drain(..over);
    }

    pub(super) fn is_cut(&self) -> bool {
        self.dropped > 0
    }

    /// The text, from the beginning of a line; one that was cut says so first.
    pub(super) fn text(&self) -> String {
        let (front, back) = self.bytes.as_slices();
        let bytes = [front, back].concat();
        if !self.is_cut() {
            return String::from_utf8_lossy(&bytes).into_owned();
        }
        // The cut is inside a line; one line that is longer than everything kept is cut between two characters (at most
        // three continuation bytes, RFC 3629).
        let line = bytes.iter().position(|byte| *byte == b'\n').map(|at| at + 1).filter(|at| *at < bytes.len());
        let skip = line.unwrap_or_else(|| bytes.iter().take(3).take_while(|b| **b & 0xc0 == 0x80).count());
        let (whole, kept) = (self.dropped + bytes.len(), bytes.len() - skip);
        let head = format!("[The last {kept} of {whole} bytes of output; the rest is not kept.]\n");
        head + &String::from_utf8_lossy(&bytes[skip..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(chunks: &[&[u8]]) -> String {
        let mut tail = Tail::of_output();
        chunks.iter().for_each(|chunk| tail.push(chunk));
        tail.text()
    }

    #[test]
    fn what_is_cut_begins_with_a_line_and_says_so() {
        assert_eq!(text(&[b"all", b" of it\n"]), "all of it\n");
        let lines = "a line of text\n".repeat(KEPT / 10);
        let cut = text(&[lines.as_bytes()]);
        let (head, rest) = cut.split_once('\n').unwrap();
        assert_eq!(
            head,
            format!("[The last {} of {} bytes of output; the rest is not kept.]", rest.len(), lines.len())
        );
        assert!(rest.starts_with("a line of text\n") && rest.len() > KEPT - 15, "{}", rest.len());
    }

    #[test]
    fn the_last_line_that_says_something_is_told() {
        let line = |text: &str| {
            let mut tail = Tail::of_errors();
            tail.push(text.as_bytes());
            tail.last_line()
        };
        assert_eq!(line("first\nboom: it broke  \n\n \n").as_deref(), Some("boom: it broke"));
        assert_eq!(line("10%\r20%\rfailed at 20%\r\n").as_deref(), Some("failed at 20%"));
        assert_eq!(line(" \n"), None);
        assert_eq!(line(&"é".repeat(20_000)).map(|line| line.chars().count()), Some(LINE + 1));
    }

    #[test]
    fn one_endless_line_is_cut_between_characters() {
        let cut = text(&["é".repeat(KEPT / 2).as_bytes(), b"z\n"]);
        assert!(cut.contains("]\né") && cut.ends_with("z\n") && !cut.contains('\u{fffd}'));
    }
}
