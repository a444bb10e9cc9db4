//! Draws on the terminal inline: finished lines scroll up; a live area at the bottom is redrawn where it changed.
//!
//! Takes whole frames; writes the smallest difference to the last frame in one write. Owns the model of what the
//! terminal shows. Never reads from the terminal.

use std::fmt::Write as _;
use std::io;

use nix::errno::Errno;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Moves to the row's start and clears it. Cleared before writing: after a full row the cursor is still on its last
/// cell, and clearing would erase that. Row by row and never the rest of the screen, because tmux moves a screen that
/// is cleared from its top into the history.
const CLEAR_ROW: &str = "\r\x1b[2K";

/// Contents of the live area and the cursor's position in it.
#[derive(Debug)]
pub struct Screen {
    cols: usize,
    rows: usize,
    live: Vec<String>,
    cursor: (usize, usize),
    title: String,
}

impl Screen {
    pub fn new((cols, rows): (usize, usize)) -> Self {
        Self { cols: cols.max(4), rows: rows.max(1), live: Vec::new(), cursor: (0, 0), title: String::new() }
    }

    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Scrolls `finished` lines out above the live area, then shows `live` with the cursor at (row, column).
    pub fn draw(&mut self, finished: &[String], mut live: Vec<String>, mut cursor: (usize, usize), title: &str) {
        let over = live.len().saturating_sub(self.rows);
        live.drain(..over);
        cursor.0 = cursor.0.saturating_sub(over);
        let mut out = String::new();
        if title != self.title {
            let _ = write!(out, "\x1b]2;{title}\x07");
            title.clone_into(&mut self.title);
        }
        let moved = self.cursor != cursor || !finished.is_empty() || !out.is_empty();
        let (mut row, mut existing) = (self.cursor.0, self.live.len().max(1));
        let mut changed = false;
        for (i, line) in finished.iter().chain(&live).enumerate() {
            if finished.is_empty() && self.live.get(i) == Some(line) {
                continue;
            }
            changed = true;
            go(&mut out, &mut row, i, &mut existing);
            out.push_str(CLEAR_ROW);
            out.push_str(line);
        }
        for i in finished.len() + live.len()..self.live.len() {
            changed = true;
            go(&mut out, &mut row, i, &mut existing);
            out.push_str(CLEAR_ROW);
        }
        if !changed && !moved {
            return;
        }
        go(&mut out, &mut row, finished.len() + cursor.0, &mut existing);
        out.push('\r');
        if cursor.1 > 0 {
            let _ = write!(out, "\x1b[{}C", cursor.1);
        }
        self.live = live;
        self.cursor = cursor;
        emit(&out);
    }

    /// The terminal was resized and has rewrapped its contents, so everything is redrawn.
    pub fn resize(&mut self, (cols, rows): (usize, usize)) {
        let (cols, rows) = (cols.max(4), rows.max(1));
        let height = |line: &String| line.width().div_ceil(cols).max(1);
        let above: usize = self.live.iter().take(self.cursor.0).map(height).sum();
        let all: usize = self.live.iter().map(height).sum();
        let mut out = String::new();
        up(&mut out, above + self.cursor.1 / cols);
        let _ = write!(out, "\r\x1b7{}\x1b8", format!("{CLEAR_ROW}\x1b[B").repeat(all));
        emit(&out);
        *self = Self { cols, rows, live: Vec::new(), cursor: (0, 0), title: std::mem::take(&mut self.title) };
    }
}

fn up(out: &mut String, rows: usize) {
    if rows > 0 {
        let _ = write!(out, "\x1b[{rows}A");
    }
}

/// Moves to a row of the live area; rows below the last existing one are made by line ends, for only these scroll.
fn go(out: &mut String, row: &mut usize, to: usize, existing: &mut usize) {
    let reachable = to.min(*existing - 1);
    match reachable {
        lower if lower > *row => drop(write!(out, "\x1b[{}B", lower - *row)),
        higher => up(out, *row - higher),
    }
    for _ in reachable..to {
        out.push_str("\r\n");
    }
    *row = to;
    *existing = (*existing).max(to + 1);
}

/// Writes to the terminal. A closed terminal is noticed on stdin, not here.
pub fn emit(text: &str) {
    let mut left = text.as_bytes();
    // Not `Stdout`, whose line buffer would turn one frame into many writes.
    while !left.is_empty() {
        match nix::unistd::write(io::stdout(), left) {
            Ok(n) => left = &left[n..],
            Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

/// Makes text safe to show: control characters become their pictures, tabs four blanks.
pub fn clean(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => shown.push_str("    "),
            '\0'..='\x1f' => shown.extend(char::from_u32(0x2400 + u32::from(c))),
            '\x7f' => shown.push('\u{2421}'),
            '\u{80}'..='\u{9f}' => shown.push(char::REPLACEMENT_CHARACTER),
            c => shown.push(c),
        }
    }
    shown
}

/// Cuts one clean line into rows of at most `width` cells; at least one row.
pub fn wrap(line: &str, width: usize) -> Vec<String> {
    let mut rows = vec![String::new()];
    let mut used = 0;
    for c in line.chars() {
        let cells = c.width().unwrap_or(0);
        if used + cells > width.max(2) {
            rows.push(String::new());
            used = 0;
        }
        used += cells;
        if let Some(row) = rows.last_mut() {
            row.push(c);
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrapping_counts_cells_and_control_characters_are_harmless() {
        assert_eq!(wrap("abcde", 3), ["abc", "de"]);
        assert_eq!(wrap("日本", 3), ["日", "本"]);
        assert_eq!(wrap("", 3), [""]);
        assert_eq!(clean("a\tb\x1b[2J\u{9b}"), "a    b\u{241b}[2J\u{fffd}");
    }
}
