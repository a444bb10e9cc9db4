//! Suggests the word that a mistyped one most likely stands for.
//! Takes a word and the known ones. Used wherever a person's word is refused.

/// The known word that a mistyped one most likely stands for.
#[must_use]
pub fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace('-', "_");
    known
        .map(|name| (strsim::normalized_damerau_levenshtein(&plain(word), &plain(name)), name))
        .filter(|(likeness, _)| *likeness >= 0.6)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}
