//! Quotes commands as control-mode lines.
//! Takes a command's name and its arguments, arbitrary bytes; returns one line in which every argument is literal.
//! Never writes an unquoted argument, a comment or an empty line: tmux doesn't answer those as it answers a command.

use std::fmt::Write as _;

/// One tmux command, or several on one line of which each runs only when those before it succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    line: String,
}

impl Command {
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        Self { line: name.to_owned() }
    }

    /// Adds one word.
    #[must_use]
    pub fn arg(mut self, word: impl AsRef<[u8]>) -> Self {
        self.line.push(' ');
        self.line.push_str(&quote(word.as_ref()));
        self
    }

    /// Adds several words.
    #[must_use]
    pub fn args<W: AsRef<[u8]>>(self, words: impl IntoIterator<Item = W>) -> Self {
        words.into_iter().fold(self, Self::arg)
    }

    /// Runs `next` on the same line when this one succeeded. The server does nothing else in between.
    #[must_use]
    pub fn then(mut self, next: &Self) -> Self {
        self.line.push_str(" ; ");
        self.line.push_str(&next.line);
        self
    }

    /// Runs `before` first, on the same line.
    #[must_use]
    pub fn after(self, before: &Self) -> Self {
        before.clone().then(&self)
    }

    #[must_use]
    pub fn line(&self) -> &str {
        &self.line
    }
}

/// One word as tmux's own parser reads it back byte by byte. Every byte outside printable ASCII goes as three octal
/// digits, because a raw 0xff ends tmux's parse and a raw newline ends the line.
#[must_use]
pub fn quote(word: &[u8]) -> String {
    let mut out = String::with_capacity(word.len() + 2);
    out.push('"');
    for &byte in word {
        match byte {
            b'"' | b'\\' | b'$' | b'~' => {
                out.push('\\');
                out.push(char::from(byte));
            }
            0x20..=0x7e => out.push(char::from(byte)),
            // Writing to a String can't fail.
            other => drop(write!(out, "\\{other:03o}")),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_stays_one_word_on_one_line() {
        assert_eq!(quote(b"a b"), r#""a b""#);
        assert_eq!(quote(b"\"$HOME\" ~ \\"), r#""\"\$HOME\" \~ \\""#);
        assert_eq!(quote("a\n\t\u{e9}".as_bytes()), r#""a\012\011\303\251""#);
        let every: Vec<u8> = (1..=255).collect();
        let line = Command::new("set-buffer").arg("--").arg(&every);
        assert!(line.line().bytes().all(|b| (0x20..=0x7e).contains(&b)), "{}", line.line());
    }

    #[test]
    fn commands_chain_and_nest() {
        let inner = Command::new("display-message").arg("-p").arg("a;b");
        let outer = Command::new("if-shell").arg("-F").arg("1").arg(inner.line()).then(&inner);
        assert_eq!(outer.line(), r#"if-shell "-F" "1" "display-message \"-p\" \"a;b\"" ; display-message "-p" "a;b""#);
    }
}
