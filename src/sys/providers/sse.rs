//! Parses server-sent events (WHATWG HTML, "Server-sent events").
//! Takes bytes as they arrive; returns each event's data. Owns the unfinished line. Pure.

/// Cuts a stream into events. Names, ids and comments say nothing that the data doesn't.
#[derive(Debug, Default)]
pub struct Events {
    rest: Vec<u8>,
    data: Option<String>,
    /// The last line ended with CR: an LF that follows is part of that end.
    after_cr: bool,
    begun: bool,
}

impl Events {
    /// The events that have ended with these bytes.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut events = Vec::new();
        for byte in bytes {
            match byte {
                b'\n' if self.after_cr => self.after_cr = false,
                b'\n' | b'\r' => {
                    self.after_cr = *byte == b'\r';
                    events.extend(self.line());
                }
                other => {
                    self.after_cr = false;
                    self.rest.push(*other);
                }
            }
        }
        events
    }

    /// What the stream's end leaves: some servers omit the last empty line.
    pub fn finish(&mut self) -> Option<String> {
        self.line().or_else(|| self.data.take()).filter(|data| !data.is_empty())
    }

    /// Takes the line that has ended; an empty one ends the event.
    fn line(&mut self) -> Option<String> {
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.rest)).into_owned();
        let line = match std::mem::replace(&mut self.begun, true) {
            false => line.strip_prefix('\u{feff}').unwrap_or(&line),
            true => &line,
        };
        if line.is_empty() {
            return self.data.take().filter(|data| !data.is_empty());
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        if name == "data" {
            let value = value.strip_prefix(' ').unwrap_or(value);
            match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                data => *data = Some(value.to_owned()),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_whole_however_the_bytes_are_cut() {
        let stream =
            ": hello\r\nevent: x\r\ndata: {\"a\":\"é\"}\r\n\r\nid: 1\ndata:two\ndata: lines\n\ndata: [DONE]\n\n";
        let expected = ["{\"a\":\"é\"}", "two\nlines", "[DONE]"];
        for size in 1..stream.len() {
            let mut events = Events::default();
            let mut found: Vec<String> = stream.as_bytes().chunks(size).flat_map(|bytes| events.feed(bytes)).collect();
            found.extend(events.finish());
            assert_eq!(found, expected, "in pieces of {size}");
        }
    }

    #[test]
    fn every_line_end_the_standard_allows_and_one_mark_at_the_start() {
        for end in ["\n", "\r\n", "\r"] {
            let stream = ["\u{feff}data: one", "", "data", "", "data:", "", "data:  two", "data", ""].join(end) + end;
            for size in 1..stream.len() {
                let mut events = Events::default();
                let found: Vec<String> = stream.as_bytes().chunks(size).flat_map(|bytes| events.feed(bytes)).collect();
                assert_eq!(found, ["one", " two\n"], "{end:?} in pieces of {size}");
            }
        }
    }

    #[test]
    fn an_end_without_an_empty_line_ends_the_event() {
        let mut events = Events::default();
        assert!(events.feed(b"data: last").is_empty());
        assert_eq!(events.finish().as_deref(), Some("last"));
        assert_eq!(events.finish(), None);
    }
}
