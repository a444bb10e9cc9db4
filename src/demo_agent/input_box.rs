//! The input box: typed characters and collapsed pastes.
//!
//! Takes keys; returns the full text for the agent and what the box displays. The cursor is always at the end.

#[derive(Debug)]
enum Piece {
    Char(char),
    Collapsed { label: String, text: String },
}

/// Pastes with this many line ends are collapsed (measured on Claude Code 2.1.329).
const MANY_LINES: usize = 3;
/// So are pastes of more characters than this (measured on Claude Code 2.1.329).
const LONG: usize = 800;

/// The input box's content.
#[derive(Debug, Default)]
pub struct InputBox {
    pieces: Vec<Piece>,
    pastes: usize,
}

impl InputBox {
    pub fn push(&mut self, c: char) {
        self.pieces.push(Piece::Char(c));
    }

    pub fn paste(&mut self, text: String) {
        let lines = text.matches('\n').count();
        if lines < MANY_LINES && text.chars().count() <= LONG {
            return self.pieces.extend(text.chars().map(Piece::Char));
        }
        self.pastes += 1;
        let label = match lines {
            0 => format!("[Pasted text #{}]", self.pastes),
            _ => format!("[Pasted text #{} +{lines} lines]", self.pastes),
        };
        self.pieces.push(Piece::Collapsed { label, text });
    }

    pub fn backspace(&mut self) {
        self.pieces.pop();
    }

    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    pub fn clear(&mut self) {
        self.pieces.clear();
    }

    /// Empties the box and returns its whole text.
    pub fn take(&mut self) -> String {
        let mut whole = String::new();
        for piece in self.pieces.drain(..) {
            match piece {
                Piece::Char(c) => whole.push(c),
                Piece::Collapsed { text, .. } => whole.push_str(&text),
            }
        }
        whole
    }

    /// What the box shows; line ends are kept.
    pub fn shown(&self) -> String {
        let mut shown = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Char(c) => shown.push(*c),
                Piece::Collapsed { label, .. } => shown.push_str(label),
            }
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_pastes_collapse_and_come_out_whole() {
        let mut input = InputBox::default();
        input.paste("a\nb\nc".into());
        input.push('!');
        assert_eq!(input.shown(), "a\nb\nc!");
        input.paste("1\n2\n3\n4".into());
        input.paste("x".repeat(801));
        assert_eq!(input.shown(), "a\nb\nc![Pasted text #1 +3 lines][Pasted text #2]");
        input.backspace();
        assert_eq!(input.take(), "a\nb\nc!1\n2\n3\n4");
        assert!(input.is_empty());
    }
}
