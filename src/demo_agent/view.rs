//! Renders the live area's lines from the agent's state. Pure.

use super::screen::{clean, wrap};

/// Rows of a long text that the box shows, its last ones. Chosen: leaves room above in a small terminal.
const BOX_ROWS: usize = 10;

/// What the live area shows above the box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    None,
    Working { seconds: u64 },
    Background,
    Spinning { frame: usize },
}

/// What the live area shows at its bottom.
#[derive(Debug)]
pub enum Bottom<'a> {
    Box {
        text: &'a str,
        footer: &'a str,
    },
    Ask {
        command: &'a str,
        yes: bool,
    },
    /// What a limit leaves to choose.
    LimitMenu,
}

/// Everything that the live area depends on.
#[derive(Debug)]
pub struct View<'a> {
    pub cols: usize,
    /// The unfinished last row of the reply.
    pub partial: &'a str,
    pub queued: &'a [String],
    pub activity: Activity,
    pub bottom: Bottom<'a>,
}

/// Glyphs of the spinner, those of Claude Code.
const GLYPHS: [&str; 6] = ["·", "✢", "*", "✶", "✻", "✽"];

impl View<'_> {
    /// The lines, and the cursor as (row, column).
    pub fn lines(&self) -> (Vec<String>, (usize, usize)) {
        let mut lines = Vec::new();
        if !self.partial.is_empty() {
            lines.push(self.partial.to_owned());
        }
        for prompt in self.queued {
            lines.push(first_row(prompt, self.cols));
            lines.push("  ⎿ Queued".to_owned());
        }
        match self.activity {
            Activity::None => {}
            Activity::Working { seconds } => lines.push(format!("✻ Working… ({seconds}s)")),
            Activity::Background => lines.push("✻ Waiting for 1 background agent to finish".to_owned()),
            Activity::Spinning { frame } => {
                lines.push(format!("{} Working… ({}s)", GLYPHS[frame % GLYPHS.len()], frame / 10));
            }
        }
        let rule = "─".repeat(self.cols);
        match self.bottom {
            Bottom::Box { text, footer } => {
                lines.push(rule.clone());
                let rows: Vec<String> =
                    text.split('\n').flat_map(|line| wrap(&clean(line), self.cols.saturating_sub(3))).collect();
                let shown = &rows[rows.len().saturating_sub(BOX_ROWS)..];
                for (i, row) in shown.iter().enumerate() {
                    lines.push(format!("{}{row}", if i == 0 { "❯ " } else { "  " }));
                }
                let cursor = (
                    lines.len() - 1,
                    2 + shown.last().map_or(0, |row| unicode_width::UnicodeWidthStr::width(row.as_str())),
                );
                lines.push(rule);
                lines.push(wrap(footer, self.cols).swap_remove(0));
                (lines, cursor)
            }
            Bottom::Ask { command, yes } => {
                lines.push(rule.clone());
                lines.push(" Bash command".to_owned());
                for line in command.lines().take(BOX_ROWS) {
                    lines.push(format!("   {}", wrap(&clean(line), self.cols.saturating_sub(3)).swap_remove(0)));
                }
                lines.push(" Do you want to proceed?".to_owned());
                let mark = |chosen: bool| if chosen { '❯' } else { ' ' };
                lines.push(format!(" {} 1. Yes", mark(yes)));
                lines.push(format!(" {} 2. No", mark(!yes)));
                lines.push(" Esc to cancel".to_owned());
                let row = lines.len() - if yes { 3 } else { 2 };
                (lines, (row, 1))
            }
            Bottom::LimitMenu => {
                lines.push("▔".repeat(self.cols));
                lines.push("  What do you want to do?".to_owned());
                lines.push("  ❯ 1. Stop and wait for limit to reset".to_owned());
                lines.push("    2. Upgrade your plan".to_owned());
                lines.push("  Enter to confirm · Esc to cancel".to_owned());
                let row = lines.len() - 3;
                (lines, (row, 2))
            }
        }
    }
}

/// A prompt as the conversation shows it: its first line.
pub fn first_row(prompt: &str, cols: usize) -> String {
    let first = clean(prompt.lines().next().unwrap_or(""));
    let mut rows = wrap(&first, cols.saturating_sub(4));
    let more = rows.len() > 1 || prompt.trim_end().contains('\n');
    let mut row = format!("> {}", rows.swap_remove(0));
    if more {
        row.push_str(" …");
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_box_stands_between_rules_and_the_cursor_behind_the_text() {
        let bottom = Bottom::Box { text: "ab\nç", footer: "  ready" };
        let view = View { cols: 10, partial: "", queued: &[], activity: Activity::Working { seconds: 4 }, bottom };
        let (lines, cursor) = view.lines();
        let rule = "─".repeat(10);
        assert_eq!(lines, ["✻ Working… (4s)", &rule, "❯ ab", "  ç", &rule, "  ready"]);
        assert_eq!(cursor, (3, 3));
        assert_eq!(first_row("a\nb", 20), "> a …");
        assert_eq!(first_row("a\n", 20), "> a");
    }
}
