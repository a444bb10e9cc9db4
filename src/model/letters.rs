//! Normalizes text for comparison with what a terminal shows of it.
//! Takes a text as written or as shown on a screen; returns letters that are equal for both. Pure. A terminal drops
//! combining marks, composes characters, shows nothing for many others and wraps lines anywhere, so none of that can
//! tell whether a text has arrived.

use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};
use unicode_width::UnicodeWidthChar;

/// Letters compared from the end: a box may show only the last part of a long text. Chosen: half a line of 80 columns,
/// which a narrow box still shows.
const TAIL: usize = 40;
/// Letters looked for from the beginning, in a box that hasn't scrolled. Chosen: enough to be no coincidence, less
/// than a narrow line.
const HEAD: usize = 12;
/// From this many lines on a box may have scrolled. Chosen: one of two lines has no reason to.
const SCROLLS: usize = 3;

/// The characters that count, decomposed, without marks, blanks and whatever has no width of its own. A text of which
/// nothing is left, as one of symbols only, keeps its symbols.
#[must_use]
pub fn letters(text: &str) -> String {
    let shown = |c: &char| !c.is_whitespace() && !is_combining_mark(*c) && !is_modifier(*c) && has_width(*c);
    let all: String = text.nfd().filter(shown).collect();
    // Which symbols a terminal shows, and how, differs; letters, digits and ASCII are the same everywhere.
    let sure: String = all.chars().filter(|c| c.is_ascii_graphic() || c.is_alphanumeric()).collect();
    if sure.is_empty() { all } else { sure }
}

/// Whether a box that may show only part of a long text, wrapped, shows the end of it; a box of few lines shows the beginning, too:
/// a program that was not listening yet may have lost that.
#[must_use]
pub fn shows(shown: &str, text: &str) -> bool {
    let text: Vec<char> = letters(text).chars().collect();
    let head: String = text.iter().take(HEAD).collect();
    let tail: String = text.iter().skip(text.len().saturating_sub(TAIL)).collect();
    let scrolled = shown.trim_end().lines().count() >= SCROLLS;
    let shown = letters(shown);
    !tail.is_empty() && shown.ends_with(&tail) && (scrolled || shown.contains(&head))
}

/// Whether both are the same text.
#[must_use]
pub fn same(one: &str, other: &str) -> bool {
    letters(one) == letters(other)
}

fn has_width(c: char) -> bool {
    // Parts of a decomposed Hangul syllable have none, and are letters.
    let jamo = matches!(c, '\u{1160}'..='\u{11ff}' | '\u{d7b0}'..='\u{d7fb}');
    jamo || c.width().is_some_and(|width| width > 0)
}

/// Skin tones: they have a width, and melt into the character before.
fn is_modifier(c: char) -> bool {
    matches!(c, '\u{1f3fb}'..='\u{1f3ff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrapped_box_shows_its_text() {
        assert!(shows("do the\nthing now", "do the thing now"));
        assert!(shows("…ing\n  now please", "now please"));
        assert!(!shows("do the thi", "do the thing now"));
        let long = "RUN: while ! test -e /tmp/go; do sleep 0.1; done; echo it ran >> side";
        assert!(shows(long, long));
        assert!(!shows("test -e /tmp/go; do sleep 0.1; done; echo it ran >> side", long), "its beginning was lost");
        assert!(shows("test -e /tmp/go;\n do sleep 0.1;\n done; echo it ran >> side", long), "it has scrolled");
        assert!(!shows("", "x"));
        assert!(!shows("x", ""));
    }

    #[test]
    fn what_a_terminal_changes_is_not_compared() {
        let same = [
            ("café menu", "cafe\u{301} menu"),
            ("cafe menu", "cafe\u{301} menu"),
            ("cafe\u{301} menu", "café menu"),
            ("zerowidth", "zero\u{200b}width"),
            ("join er and", "join \u{2060}er and \u{feff}"),
            ("👍 done", "👍🏽 done"),
            ("⚠ note", "⚠\u{fe0f} note"),
            ("한국어", "\u{1112}\u{1161}\u{11ab}국어"),
            ("soft hyphen", "soft hy\u{ad}phen"),
            ("हिनद", "हिन्दी"),
            ("rtl text", "\u{202e}rtl\u{202c} text"),
            ("a\u{a0}b", "a b"),
            ("zalgo", "z\u{334}\u{335}\u{336}a\u{33f}lgo\u{489}"),
            ("tag 🏴 end", "tag 🏴\u{e0067}\u{e0062}\u{e007f} end"),
            ("？！", "？！"),
            ("🦀", "🦀"),
            ("Å and ﬁ", "\u{212b} and ﬁ"),
        ];
        for (shown, text) in same {
            assert!(shows(shown, text), "{shown:?} {text:?}");
        }
        for (shown, text) in [("한국어", "한국아"), ("cafe", "cafes"), ("🦀", "🐍"), ("fix 2", "fix 3"), ("a.", "a!")]
        {
            assert!(!shows(shown, text), "{shown:?} {text:?}");
        }
    }
}
