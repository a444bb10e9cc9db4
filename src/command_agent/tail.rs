//! The end of a program's output, which is its task's result.
//! In: the output, in pieces. Out: its last lines, and how much came before them.

use std::collections::VecDeque;

/// How much of the end of stdout is kept as the task's result.
const KEPT: usize = 256 << 10;

/// The last [`KEPT`] bytes of a stream.
#[derive(Default)]
pub(super) struct Tail {
    bytes: VecDeque<u8>,
    /// Bytes that came before.
    dropped: usize,
}

impl Tail {
    pub(super) fn push(&mut self, chunk: &[u8]) {
        self.bytes.extend(chunk);
        let over = self.bytes.len().saturating_sub(KEPT);
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
        let mut tail = Tail::default();
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
    fn one_endless_line_is_cut_between_characters() {
        let cut = text(&["é".repeat(KEPT / 2).as_bytes(), b"z\n"]);
        assert!(cut.contains("]\né") && cut.ends_with("z\n") && !cut.contains('\u{fffd}'));
    }
}
