//! Configuration errors and their text: the sentence, the line itself and a caret.
//! Takes positions and messages from the parser. Owns nothing.

use std::{
    fmt,
    path::{Path, PathBuf},
};

/// A place in the file, both counted from 1; columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place {
    pub line: usize,
    pub column: usize,
}

impl Place {
    pub const START: Self = Self { line: 1, column: 1 };
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub place: Place,
    /// What is wrong and, where it can be known, what to do; a sentence without its full stop.
    pub message: String,
}

impl Problem {
    #[must_use]
    pub fn new(place: Place, message: impl Into<String>) -> Self {
        Self { place, message: message.into() }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(
        "can't read the configuration {}: {source}\n  `claude-failover init` writes a first one (config.example.yaml shows every key); --config names another file.",
        file.display()
    )]
    Unreadable { file: PathBuf, source: std::io::Error },
    #[error("{0}")]
    Wrong(Problems),
}

/// Everything that is wrong with one file, in the order of its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    pub file: PathBuf,
    /// The text that the places point into.
    pub text: String,
    pub list: Vec<Problem>,
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.list.iter().enumerate() {
            if n > 0 {
                writeln!(f)?;
            }
            write!(f, "{}", point(&self.file, &self.text, problem.place, &problem.message))?;
        }
        Ok(())
    }
}

/// `file:line:column: message`, then the line with a caret below the place.
#[must_use]
pub fn point(file: &Path, text: &str, place: Place, message: &str) -> String {
    let mut out = format!("{}:{}:{}: {message}", file.display(), place.line, place.column);
    let line = place.line.checked_sub(1).and_then(|n| text.lines().nth(n)).unwrap_or_default();
    if !line.trim().is_empty() {
        // Tabs and control characters would move the caret or the terminal.
        let shown: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let number = place.line.to_string();
        let indent = " ".repeat(number.len());
        let before: String = shown.chars().take(place.column.saturating_sub(1)).collect();
        let blank = " ".repeat(unicode_width::UnicodeWidthStr::width(before.as_str()));
        out.push_str(&format!("\n {number} | {}\n {indent} | {blank}^", shown.trim_end()));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_below_the_place() {
        let text = "a: 1\nworld: 日本 x\n";
        let said = point(Path::new("c.yaml"), text, Place { line: 2, column: 11 }, "no");
        assert_eq!(said, "c.yaml:2:11: no\n 2 | world: 日本 x\n   |             ^".to_owned());
        let beyond = point(Path::new("c.yaml"), text, Place { line: 9, column: 1 }, "no");
        assert_eq!(beyond, "c.yaml:9:1: no");
    }
}
