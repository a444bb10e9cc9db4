//! Splits the agent's streamed messages into finished rows and one unfinished row.

use super::screen::{clean, wrap};

/// Rows on their way to the screen.
#[derive(Debug, Default)]
pub struct Reply {
    finished: Vec<String>,
    /// With its mark or indent; none between messages.
    partial: Option<String>,
}

const MARK: &str = "● ";
const INDENT: &str = "  ";

impl Reply {
    /// Begins a message.
    pub fn begin(&mut self) {
        self.end();
        self.partial = Some(MARK.to_owned());
    }

    /// Adds text to the message.
    pub fn push(&mut self, text: &str, cols: usize) {
        for (i, line) in text.split('\n').enumerate() {
            if i > 0 {
                let row = self.partial.replace(INDENT.to_owned());
                self.finished.extend(row);
            }
            let partial = self.partial.get_or_insert_with(|| INDENT.to_owned());
            partial.push_str(&clean(line));
            let mut first = wrap(partial, cols).swap_remove(0);
            if first.len() < partial.len() {
                let mut rest = wrap(&partial[first.len()..], cols.saturating_sub(INDENT.len()));
                *partial = format!("{INDENT}{}", rest.pop().unwrap_or_default());
                self.finished.push(std::mem::take(&mut first));
                self.finished.extend(rest.into_iter().map(|row| format!("{INDENT}{row}")));
            }
        }
    }

    /// Ends the message, if one is under way.
    pub fn end(&mut self) {
        self.finished.extend(self.partial.take().filter(|row| row != INDENT));
    }

    /// A separate line after the message; its further rows are aligned with its text.
    pub fn line(&mut self, line: &str, cols: usize) {
        self.end();
        let indent = ["  ⎿  ", MARK].iter().find(|mark| line.starts_with(*mark)).map_or(0, |mark| mark.chars().count());
        let mut rows = wrap(line, cols).into_iter();
        let first = rows.next().unwrap_or_default();
        let rest: String = rows.collect();
        self.finished.push(first);
        if !rest.is_empty() {
            let rest = wrap(&rest, cols.saturating_sub(indent));
            self.finished.extend(rest.into_iter().map(|row| format!("{}{row}", " ".repeat(indent))));
        }
    }

    /// Takes the rows that are finished.
    pub fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.finished)
    }

    pub fn partial(&self) -> &str {
        self.partial.as_deref().unwrap_or("")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_in_pieces_gives_marked_and_indented_rows() {
        let mut reply = Reply::default();
        reply.begin();
        reply.push("abc", 6);
        reply.push("defg\nx", 6);
        assert_eq!(reply.take(), ["● abcd", "  efg"]);
        assert_eq!(reply.partial(), "  x");
        reply.push("\n", 6);
        reply.begin();
        reply.end();
        assert_eq!(reply.take(), ["  x", "● "]);
        reply.line("● abcdefghi", 6);
        assert_eq!(reply.take(), ["● abcd", "  efgh", "  i"]);
    }
}
