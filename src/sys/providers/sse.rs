//! Server-sent events (WHATWG HTML, "Server-sent events").
//! In: bytes as they come. Out: each event's data. Owns the piece of a line that has not ended yet. Pure.

/// Cuts a stream into events. Names, ids and comments say nothing that the data doesn't.
#[derive(Debug, Default)]
pub struct Events {
    rest: Vec<u8>,
    data: Option<String>,
}

impl Events {
    /// The events that have ended with these bytes.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<String> {
        // Only what is new can hold a line's end.
        let from = self.rest.len();
        self.rest.extend_from_slice(bytes);
        let mut events = Vec::new();
        let mut start = 0;
        let mut look = from;
        while let Some(end) = self.rest[look..].iter().position(|byte| *byte == b'\n').map(|at| look + at) {
            let line = String::from_utf8_lossy(&self.rest[start..end]).into_owned();
            events.extend(take(&mut self.data, line.strip_suffix('\r').unwrap_or(&line)));
            start = end + 1;
            look = start;
        }
        self.rest.drain(..start);
        events
    }

    /// What the stream's end leaves: some servers omit the last empty line.
    pub fn finish(&mut self) -> Option<String> {
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.rest)).into_owned();
        take(&mut self.data, line.trim_end_matches('\r')).or_else(|| self.data.take())
    }
}

/// Takes a line; an empty one ends the event.
fn take(data: &mut Option<String>, line: &str) -> Option<String> {
    if line.is_empty() {
        return data.take();
    }
    if let Some(value) = line.strip_prefix("data:") {
        let value = value.strip_prefix(' ').unwrap_or(value);
        match data {
            Some(data) => {
                data.push('\n');
                data.push_str(value);
            }
            None => *data = Some(value.to_owned()),
        }
    }
    None
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
    fn an_end_without_an_empty_line_ends_the_event() {
        let mut events = Events::default();
        assert!(events.feed(b"data: last").is_empty());
        assert_eq!(events.finish().as_deref(), Some("last"));
        assert_eq!(events.finish(), None);
    }
}
