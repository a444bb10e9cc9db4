//! Decodes terminal bytes to keys: UTF-8, bracketed paste, and the few keys that the demo agent knows.
//!
//! Owns the bytes of an unfinished sequence. Never drops a byte of a paste.

/// One thing the user did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    Char(char),
    /// A bracketed paste, its line ends made LF (terminals send CR for them).
    Paste(String),
    /// CR
    Enter,
    /// LF, or Alt-Enter: a line end inside the box
    NewLine,
    Escape,
    Backspace,
    Up,
    Down,
    CtrlC,
    CtrlD,
}

/// Bracketed paste as xterm defines it (XTerm Control Sequences, "Bracketed Paste Mode").
const PASTE_BEGIN: &[u8] = b"\x1b[200~";
const PASTE_END: &[u8] = b"\x1b[201~";

/// Decodes what arrives in pieces of any size.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    pasting: bool,
    /// Bytes of the paste already searched for its end.
    searched: usize,
}

impl Decoder {
    /// Adds bytes and takes every key that is complete.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Key> {
        self.bytes.extend_from_slice(bytes);
        let mut keys = Vec::new();
        while let Some((used, key)) = self.next() {
            self.bytes.drain(..used);
            keys.extend(key);
        }
        keys
    }

    /// A lone ESC is the Escape key only once nothing follows it.
    pub fn waits_after_escape(&self) -> bool {
        !self.pasting && self.bytes.first() == Some(&0x1b)
    }

    /// Nothing followed: the ESC was the key, and what came behind it are keys of their own.
    pub fn flush_escape(&mut self) -> Vec<Key> {
        if !self.waits_after_escape() {
            return Vec::new();
        }
        self.bytes.remove(0);
        let mut keys = vec![Key::Escape];
        keys.extend(self.feed(&[]));
        keys
    }

    fn next(&mut self) -> Option<(usize, Option<Key>)> {
        if self.pasting {
            return self.paste();
        }
        let first = *self.bytes.first()?;
        let key = match first {
            b'\r' => Key::Enter,
            b'\n' => Key::NewLine,
            0x03 => Key::CtrlC,
            0x04 => Key::CtrlD,
            0x08 | 0x7f => Key::Backspace,
            b'\t' => Key::Char('\t'),
            0x1b => return self.escape(),
            0..0x20 => return Some((1, None)),
            _ => return self.char(),
        };
        Some((1, Some(key)))
    }

    fn char(&self) -> Option<(usize, Option<Key>)> {
        let end = self.bytes.len().min(4);
        match std::str::from_utf8(&self.bytes[..end]) {
            Ok(text) => text.chars().next().map(|c| (c.len_utf8(), Some(Key::Char(c)))),
            Err(error) if error.valid_up_to() > 0 => {
                let text = std::str::from_utf8(&self.bytes[..error.valid_up_to()]).ok()?;
                text.chars().next().map(|c| (c.len_utf8(), Some(Key::Char(c))))
            }
            Err(error) => error.error_len().map(|bad| (bad, Some(Key::Char(char::REPLACEMENT_CHARACTER)))),
        }
    }

    fn escape(&mut self) -> Option<(usize, Option<Key>)> {
        match *self.bytes.get(1)? {
            b'[' => {
                let end = 2 + self.bytes[2..].iter().position(|b| (0x40..=0x7e).contains(b))?;
                let sequence = &self.bytes[..=end];
                if sequence == PASTE_BEGIN {
                    self.pasting = true;
                    self.searched = 0;
                }
                let key = match sequence {
                    b"\x1b[A" => Some(Key::Up),
                    b"\x1b[B" => Some(Key::Down),
                    _ => None,
                };
                Some((end + 1, key))
            }
            b'O' => match *self.bytes.get(2)? {
                b'A' => Some((3, Some(Key::Up))),
                b'B' => Some((3, Some(Key::Down))),
                _ => Some((3, None)),
            },
            b'\r' => Some((2, Some(Key::NewLine))),
            _ => Some((1, Some(Key::Escape))),
        }
    }

    fn paste(&mut self) -> Option<(usize, Option<Key>)> {
        let from = self.searched.saturating_sub(PASTE_END.len() - 1);
        let found = self.bytes[from..].windows(PASTE_END.len()).position(|w| w == PASTE_END);
        self.searched = self.bytes.len();
        let end = from + found?;
        self.pasting = false;
        let text = String::from_utf8_lossy(&self.bytes[..end]).replace("\r\n", "\n").replace('\r', "\n");
        Some((end + PASTE_END.len(), Some(Key::Paste(text))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_one_by_one_give_the_same_keys_as_all_at_once() {
        let bytes = "aé👋\x1b[A\x1b[200~x\r\ny\rz\x1b[20\x1b[201~\rb\n\x7f\x1b[1;5C\x03".as_bytes();
        let all = Decoder::default().feed(bytes);
        let mut decoder = Decoder::default();
        let single: Vec<Key> = bytes.iter().flat_map(|b| decoder.feed(&[*b])).collect();
        assert_eq!(all, single);
        let text = Key::Paste("x\ny\nz\x1b[20".into());
        assert_eq!(
            all,
            [
                Key::Char('a'),
                Key::Char('é'),
                Key::Char('👋'),
                Key::Up,
                text,
                Key::Enter,
                Key::Char('b'),
                Key::NewLine,
                Key::Backspace,
                Key::CtrlC
            ]
        );
    }

    #[test]
    fn escape_needs_silence_and_bad_utf8_is_replaced() {
        let mut decoder = Decoder::default();
        assert!(decoder.feed(b"\x1b").is_empty() && decoder.waits_after_escape());
        assert_eq!(decoder.flush_escape(), [Key::Escape]);
        assert_eq!(decoder.feed(b"\xffa"), [Key::Char(char::REPLACEMENT_CHARACTER), Key::Char('a')]);
    }
}
