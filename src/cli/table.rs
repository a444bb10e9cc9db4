//! Prints aligned columns.
//! Turns cells into lines without control characters, coloured and cut to the width only on a terminal.

use std::io::{self, Write};

use unicode_width::UnicodeWidthStr;

use crate::render::words::cut;

/// How the terminal takes text.
#[derive(Debug, Clone, Copy, Default)]
pub struct Style {
    pub colour: bool,
    /// Columns; `None` when lines may be of any length.
    pub width: Option<usize>,
}

/// What a cell is about; decides its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Plain,
    Heading,
    Good,
    Busy,
    Warn,
    Bad,
    Dim,
}

impl Tone {
    /// The tone of a state's word (INTERFACE 2).
    #[must_use]
    pub fn of_state(state: &str) -> Self {
        match state {
            "done" | "idle" | "active" | "ok" => Self::Good,
            "working" | "delegated" | "starting" => Self::Busy,
            "waiting" | "stalled" | "limited" | "suspect" | "held" | "paused" => Self::Warn,
            "failed" | "rejected" | "dead" | "broken" | "degraded" => Self::Bad,
            "cancelled" | "dedicated" => Self::Dim,
            _ => Self::Plain,
        }
    }

    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Heading => "1",
            Self::Good => "32",
            Self::Busy => "36",
            Self::Warn => "33",
            Self::Bad => "31",
            Self::Dim => "2",
        }
    }
}

#[derive(Debug, Clone)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    pub fn new(text: impl AsRef<str>, tone: Tone) -> Self {
        let text = clean(text.as_ref());
        Self { text: if text.is_empty() { "-".to_owned() } else { text }, tone }
    }

    pub fn plain(text: impl AsRef<str>) -> Self {
        Self::new(text, Tone::Plain)
    }

    pub fn state(text: impl AsRef<str>) -> Self {
        let tone = Tone::of_state(text.as_ref());
        Self::new(text, tone)
    }
}

/// Control characters, and those that reorder text, made visible: what an agent printed must not act on a terminal.
#[must_use]
pub fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let reorders = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if c.is_control() || reorders {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// Text in a tone.
#[must_use]
pub fn paint(text: &str, tone: Tone, style: Style) -> String {
    let code = tone.code();
    if style.colour && !code.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

/// Writes a heading and rows. The last column takes what is left of the width.
///
/// # Errors
/// The writer's own.
pub fn write(out: &mut dyn Write, headings: &[&str], rows: &[Vec<Cell>], style: Style) -> io::Result<()> {
    let heading: Vec<Cell> = headings.iter().map(|text| Cell::new(text, Tone::Heading)).collect();
    let all = || std::iter::once(&heading).chain(rows);
    let columns = headings.len();
    let widths: Vec<usize> = (0..columns)
        .map(|n| all().filter_map(|row| row.get(n)).map(|cell| cell.text.width()).max().unwrap_or(0))
        .collect();
    for row in all() {
        let mut line = String::new();
        let mut used = 0;
        for (n, cell) in row.iter().enumerate() {
            let last = n + 1 == row.len();
            let room = style.width.map(|all| all.saturating_sub(used).max(8));
            let text = match room {
                Some(room) if last => cut(&cell.text, room),
                Some(_) | None => cell.text.clone(),
            };
            line.push_str(&paint(&text, cell.tone, style));
            if !last {
                let column = widths.get(n).copied().unwrap_or(0);
                line.push_str(&" ".repeat(column.saturating_sub(text.width()) + 2));
                used += column + 2;
            }
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(style: Style) -> String {
        let rows = vec![
            vec![Cell::plain("日本"), Cell::state("done"), Cell::plain("a long reason for it")],
            vec![Cell::plain("x"), Cell::state("working"), Cell::plain("evil \x1b[2J\u{202e}")],
        ];
        let mut out = Vec::new();
        write(&mut out, &["ID", "STATE", "WHY"], &rows, style).expect("written");
        String::from_utf8(out).expect("utf-8")
    }

    #[test]
    fn columns_align_and_nothing_escapes() {
        let plain = text(Style::default());
        assert_eq!(
            plain,
            "ID    STATE    WHY\n日本  done     a long reason for it\nx     working  evil \\u{1b}[2J\\u{202e}\n"
        );
        assert!(!plain.contains('\x1b'));
    }

    #[test]
    fn a_terminal_gets_colours_and_cut_lines() {
        let shown = text(Style { colour: true, width: Some(26) });
        assert!(shown.contains("\x1b[32mdone\x1b[0m") && shown.contains("a long rea…"), "{shown}");
        assert!(!shown.contains("\x1b[2J"));
    }
}
