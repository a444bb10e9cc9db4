//! Parses tmux's control-mode framing, without I/O.
//! Takes bytes in arbitrary pieces; returns answers, notifications and stray lines. Owns the unfinished line and
//! block. Screen contents can't fake framing: an answer ends only at the exact tag it began with, so `%end 1 2 1`
//! shown in a pane is text.

/// What the stream said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Block(Block),
    /// A `%…` line outside a block, without its newline.
    Notice(String),
    /// Any other line outside a block. tmux reports failed file reads this way, after an answer that says success.
    Stray(String),
}

/// One `%begin` … `%end` or `%error`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Answers a command from our own input; hooks and the first attach answer with `false`.
    pub ours: bool,
    pub ok: bool,
    /// Lines joined by newlines.
    pub body: Vec<u8>,
}

impl Block {
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    /// `<time> <number> <flags>` exactly as `%begin` gave them.
    tag: Vec<u8>,
    body: Vec<u8>,
    lines: usize,
}

impl Parser {
    /// Takes the next bytes and appends what they completed.
    pub fn push(&mut self, bytes: &[u8], events: &mut Vec<Event>) {
        let mut rest = bytes;
        while let Some(at) = rest.iter().position(|&b| b == b'\n') {
            let (head, tail) = rest.split_at(at);
            rest = tail.get(1..).unwrap_or_default();
            if self.line.is_empty() {
                self.take(head, events);
            } else {
                self.line.extend_from_slice(head);
                let line = std::mem::take(&mut self.line);
                self.take(&line, events);
            }
        }
        self.line.extend_from_slice(rest);
    }

    fn take(&mut self, line: &[u8], events: &mut Vec<Event>) {
        let Some(open) = self.open.as_mut() else {
            self.outside(line, events);
            return;
        };
        let ended = |word: &[u8]| line.strip_prefix(word) == Some(open.tag.as_slice());
        let ok = ended(b"%end ");
        if ok || ended(b"%error ") {
            if let Some(Open { tag, body, .. }) = self.open.take() {
                events.push(Event::Block(Block { ours: tag.ends_with(b" 1"), ok, body }));
            }
            return;
        }
        if open.lines > 0 {
            open.body.push(b'\n');
        }
        open.lines += 1;
        open.body.extend_from_slice(line);
    }

    fn outside(&mut self, line: &[u8], events: &mut Vec<Event>) {
        if let Some(tag) = line.strip_prefix(b"%begin ") {
            self.open = Some(Open { tag: tag.to_vec(), body: Vec::new(), lines: 0 });
        } else if !line.is_empty() {
            let text = String::from_utf8_lossy(line).into_owned();
            events.push(if line.starts_with(b"%") { Event::Notice(text) } else { Event::Stray(text) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(stream: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        Parser::default().push(stream, &mut events);
        events
    }

    fn block(ours: bool, ok: bool, body: &[u8]) -> Event {
        Event::Block(Block { ours, ok, body: body.to_vec() })
    }

    const STREAM: &[u8] = b"%begin 5 260 0\n%end 5 260 0\n%sessions-changed\n%begin 5 266 1\na\n\n  b \n%end 5 266 1\n\
        /nonexistent: No such file or directory\n%begin 5 267 1\ncan't find pane: %99\n%error 5 267 1\n%exit\n";

    #[test]
    fn blocks_notices_and_stray_lines_are_told_apart() {
        let expected = vec![
            block(false, true, b""),
            Event::Notice("%sessions-changed".into()),
            block(true, true, b"a\n\n  b "),
            Event::Stray("/nonexistent: No such file or directory".into()),
            block(true, false, b"can't find pane: %99"),
            Event::Notice("%exit".into()),
        ];
        assert_eq!(whole(STREAM), expected);
    }

    #[test]
    fn pieces_of_any_size_say_the_same() {
        for size in 1..40 {
            let (mut parser, mut events) = (Parser::default(), Vec::new());
            STREAM.chunks(size).for_each(|piece| parser.push(piece, &mut events));
            assert_eq!(events, whole(STREAM), "pieces of {size}");
        }
    }

    #[test]
    fn a_screen_that_shows_the_protocol_is_only_text() {
        let body = b"%end 1 2 1\n%error 5 267 1\n%begin 5 266 1\n%end 5 266 1 \n%exit\n%end 5 266 0";
        let mut stream = b"%begin 5 266 1\n".to_vec();
        stream.extend_from_slice(body);
        stream.extend_from_slice(b"\n%end 5 266 1\n");
        assert_eq!(whole(&stream), vec![block(true, true, body)]);
    }

    #[test]
    fn an_empty_body_differs_from_an_empty_line() {
        assert_eq!(whole(b"%begin 1 1 1\n%end 1 1 1\n"), vec![block(true, true, b"")]);
        assert_eq!(whole(b"%begin 1 1 1\n\n\n%end 1 1 1\n"), vec![block(true, true, b"\n")]);
    }
}
