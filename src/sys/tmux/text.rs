//! Sanitizes text to and from a terminal.
//! Takes an agent's output, or text to be typed; removes everything that a terminal would obey.

/// The first character that must never be pasted: it could end the paste, press a key or command the terminal.
#[must_use]
pub fn forbidden(text: &str) -> Option<(usize, char)> {
    text.char_indices().find(|(_, c)| c.is_control() && !matches!(c, '\n' | '\t'))
}

/// Drops control characters (C0, DEL, C1) but newline and tab.
#[must_use]
pub fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

/// One line of foreign text.
#[must_use]
pub fn line(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

/// Keeps colours (`ESC [ … m`) and drops every other escape sequence and control character. Newer versions of tmux put
/// hyperlinks into a coloured capture, and old ones shift to line-drawing characters.
#[must_use]
pub fn coloured(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\u{1b}') {
        let (before, sequence) = rest.split_at(at);
        out.push_str(&plain(before));
        let length = sequence_length(sequence);
        let (sequence, after) = sequence.split_at(length);
        let colour = sequence.strip_prefix("\u{1b}[").and_then(|s| s.strip_suffix('m'));
        if colour.is_some_and(|params| params.bytes().all(|b| b.is_ascii_digit() || b == b';' || b == b':')) {
            out.push_str(sequence);
        }
        rest = after;
    }
    out.push_str(&plain(rest));
    out
}

/// Length in bytes of the escape sequence at the beginning (ECMA-48: CSI, strings up to BEL or ST, two characters else).
fn sequence_length(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match chars.next() {
        None => text.len(),
        Some((_, '[')) => {
            let end = chars.find(|(_, c)| !matches!(c, ' '..='?'));
            // A newline or another escape breaks a sequence off and isn't part of it.
            end.map_or(text.len(), |(at, c)| if c.is_control() { at } else { at + c.len_utf8() })
        }
        Some((_, ']' | 'P' | 'X' | '^' | '_')) => {
            let line = text.find('\n').unwrap_or(text.len());
            let head = text.get(..line).unwrap_or(text);
            let bell = head.find('\u{7}').map(|at| at + 1);
            let string = head.find("\u{1b}\\").map(|at| at + 2);
            [bell, string].into_iter().flatten().min().unwrap_or(line)
        }
        // Choosing a character set and the like: some of 0x20-0x2f, then one more.
        Some((_, ' '..='/')) => {
            let end = chars.find(|(_, c)| !matches!(c, ' '..='/'));
            end.map_or(text.len(), |(at, c)| if c.is_control() { at } else { at + c.len_utf8() })
        }
        Some((at, c)) if c.is_control() => at,
        Some((at, c)) => at + c.len_utf8(),
    }
}

/// Bytes as they were before tmux wrote them with escapes: control characters, backslashes and what is no UTF-8 as
/// vis(3) does, and a backslash before the `$` of what looks like a variable.
#[must_use]
pub fn unvis(shown: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(shown.len());
    let mut rest = shown;
    while let Some((&first, after)) = rest.split_first() {
        let (byte, length) = if first == b'\\' { escaped(after) } else { (first, 0) };
        out.push(byte);
        rest = after.get(length..).unwrap_or_default();
    }
    out
}

/// The byte after a backslash, and how many bytes encode it.
fn escaped(rest: &[u8]) -> (u8, usize) {
    let octal = |digits: &[u8]| {
        let digit = |b: &u8| (b'0'..=b'7').contains(b).then(|| u32::from(b - b'0'));
        let value = digits.iter().try_fold(0, |sum, b| Some(sum * 8 + digit(b)?))?;
        u8::try_from(value).ok()
    };
    if let Some(byte) = rest.get(..3).and_then(octal) {
        return (byte, 3);
    }
    match rest.first() {
        Some(b'n') => (b'\n', 1),
        Some(b'r') => (b'\r', 1),
        Some(b'b') => (0x08, 1),
        Some(b'a') => (0x07, 1),
        Some(b'v') => (0x0b, 1),
        Some(b't') => (b'\t', 1),
        Some(b'f') => (0x0c, 1),
        Some(b's') => (b' ', 1),
        Some(b'0') => (0, 1),
        Some(&other) => (other, 1),
        None => (b'\\', 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tmux_wrote_with_escapes_is_read_back() {
        let shown = b"\\\\ \\033[1mC:\\\\new\\t\\$HOME $5 \\\\033 \\302 caf\xc3\xa9\n\\0!";
        let meant = b"\\ \x1b[1mC:\\new\t$HOME $5 \\033 \xc2 caf\xc3\xa9\n\0!";
        assert_eq!(unvis(shown), meant);
        assert_eq!(unvis(b"ends in \\"), b"ends in \\");
    }

    #[test]
    fn whatever_a_terminal_obeys_is_forbidden() {
        for bad in ["\u{1b}[201~", "a\rb", "\u{3}", "\u{7f}", "\u{9b}201~", "\0", "\u{85}"] {
            assert!(forbidden(bad).is_some(), "{bad:?}");
        }
        assert_eq!(forbidden("naïve\n\t日本 🦀 \u{200d}"), None);
    }

    #[test]
    fn only_colours_survive() {
        let text = "\u{1b}[1;38:5:9mred\u{1b}[0m \u{1b}]8;;http://x\u{1b}\\link\u{1b}]8;;\u{7}\u{e}q\u{f}\n\u{1b}[2J\u{1b}(0\u{1b}[6n.\u{9b}1m";
        assert_eq!(coloured(text), "\u{1b}[1;38:5:9mred\u{1b}[0m linkq\n.1m");
    }

    #[test]
    fn broken_sequences_swallow_no_lines() {
        assert_eq!(coloured("\u{1b}]52;c;never ended\nnext"), "\nnext");
        assert_eq!(coloured("\u{1b}[1;\nnext\u{1b}"), "\nnext");
        assert_eq!(coloured("\u{1b}\u{1b}[1mx"), "\u{1b}[1mx");
        assert_eq!(coloured("\u{1b}é"), "");
    }
}
