//! Sanitizes foreign text for terminals and readers (CWE-150, CVE-2021-42574).
//! Takes what agents, providers, tasks and file names say; removes what steers a terminal or reorders text. The single
//! rule for everything that is shown: results, `why`, `status`, events, notifications. Only a task's own bytes stay as
//! written.

/// Whether a character steers a terminal (C0 but newline and tab, DEL, C1) or reorders the text around it (bidirectional
/// embeddings, overrides and isolates).
#[must_use]
pub fn is_harmful(c: char) -> bool {
    c.is_control() && !matches!(c, '\n' | '\t') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Removes terminal sequences as a whole (`ESC [ … m`, `ESC ] … BEL`) and every other harmful character by itself.
///
/// # Examples
/// ```
/// use claude_failover::model::text::clean;
/// assert_eq!(clean("\u{1b}[31mred\u{1b}[0m\u{1b}]0;title\u{7} and\u{9b}K \u{202e}so on"), "red and so on");
/// ```
#[must_use]
pub fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(is_harmful) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        rest = &rest[sequence(rest)..];
    }
    out.push_str(rest);
    out
}

/// Longest text of a control string (a title, a clipboard) that is removed with its terminator; a lone ESC hides
/// nothing. Chosen: longer than any title; bounds the search.
const STRING_MAX: usize = 64 * 1024;

/// Bytes of the sequence or harmful character that `text` begins with.
fn sequence(text: &str) -> usize {
    let mut chars = text.chars();
    let Some(first) = chars.next() else { return 0 };
    let alone = first.len_utf8();
    let (kind, body) = match first {
        '\u{1b}' => match chars.next() {
            Some(kind @ ('[' | ']' | 'P' | 'X' | '^' | '_')) => (kind, alone + 1),
            Some('(' | ')' | '*' | '+' | '#' | '%') => {
                return alone + 1 + usize::from(chars.next().is_some_and(|c| c.is_ascii_alphanumeric()));
            }
            Some(_) | None => return alone,
        },
        '\u{9b}' => ('[', alone),
        '\u{9d}' => (']', alone),
        _ => return alone,
    };
    let rest = &text[body..];
    if kind == '[' {
        let end = rest.find(|c: char| !matches!(c, '\u{20}'..='\u{3f}'));
        let whole = end.filter(|end| matches!(rest.as_bytes()[*end], 0x40..=0x7e));
        return whole.map_or(alone, |end| body + end + 1);
    }
    let end = rest.find(['\u{7}', '\u{9c}', '\u{1b}', '\n']).filter(|end| *end <= STRING_MAX);
    match end.map(|end| (end, &rest[end..])) {
        Some((end, tail)) if tail.starts_with("\u{1b}\\") => body + end + 2,
        Some((end, tail)) if tail.starts_with('\u{7}') => body + end + 1,
        Some((end, tail)) if tail.starts_with('\u{9c}') => body + end + 2,
        Some(_) | None => alone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_steers_a_terminal_or_reorders_text_is_left() {
        let all: String = (0..=0x2fff_u32).filter_map(char::from_u32).collect();
        let cleaned = clean(&all);
        assert!(!cleaned.contains(is_harmful));
        assert!(cleaned.contains('\n') && cleaned.contains('\t') && cleaned.contains('é'));
        assert_eq!(clean(&cleaned), cleaned);
    }

    #[test]
    fn sequences_go_as_a_whole_and_text_never_with_them() {
        for (text, shown) in [
            ("\u{1b}[1;31mred\u{1b}[0m", "red"),
            ("a\u{1b}]52;c;cHduZWQ=\u{7}b", "ab"),
            ("a\u{1b}]0;title\u{1b}\\b", "ab"),
            ("a\u{9d}0;title\u{9c}b", "ab"),
            ("a\u{1b}P1;2q#0\u{1b}\\b", "ab"),
            ("a\u{1b}(Bb", "ab"),
            ("a\u{1b}[2J\u{1b}[?1049hb", "ab"),
            ("unterminated \u{1b}]0;title\nnext line", "unterminated ]0;title\nnext line"),
            ("a\u{1b}[31", "a[31"),
            ("a\u{1b}é", "aé"),
            ("a\u{1b}[é", "a[é"),
            ("\u{1b}\u{1b}[31m\u{1b}", ""),
            ("bell\u{7} nul\0 del\u{7f}", "bell nul del"),
            ("x\u{202e}dm.exe\u{2066}\u{2069}", "xdm.exe"),
            ("right to left marks stay: \u{200f}", "right to left marks stay: \u{200f}"),
        ] {
            assert_eq!(clean(text), shown, "{text:?}");
        }
    }
}
