//! Sanitizes coloured screens for the terminal that shows them.
//! Takes a pane's content; removes all control sequences except colours. `model::text` has the rule for everything
//! else.

use crate::model::text::clean;

/// Keeps SGR sequences (`ESC [ digits ; m`) and nothing else that begins with ESC.
#[must_use]
pub fn clean_colour(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\u{1b}') {
        out.push_str(&clean(&rest[..at]));
        let after = &rest[at + 1..];
        let sgr = after.strip_prefix('[').and_then(|body| {
            let end = body.find(|c: char| !(c.is_ascii_digit() || c == ';' || c == ':'))?;
            body[end..].starts_with('m').then_some(end + 2)
        });
        let taken = sgr.unwrap_or(0);
        if taken > 0 {
            out.push('\u{1b}');
            out.push_str(&after[..taken]);
        }
        rest = &after[taken..];
    }
    out.push_str(&clean(rest));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_stay_and_everything_else_goes() {
        let hostile = "a\u{1b}[1;31mred\u{1b}[0m\u{1b}]0;title\u{7}b\u{1b}[6n\u{1b}[2Jc\u{9b}31m\u{1b}";
        assert_eq!(clean_colour(hostile), "a\u{1b}[1;31mred\u{1b}[0m]0;titleb[6n[2Jc");
        assert_eq!(clean_colour(&clean_colour(hostile)), clean_colour(hostile));
        assert_eq!(clean_colour("\u{1b}\u{1b}[m"), "\u{1b}[m");
    }
}
