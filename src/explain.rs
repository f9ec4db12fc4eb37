//! Texts for people: an error in one line, and what came from outside without what could forge a line.

use std::{borrow::Cow, error::Error};

/// An error and its causes: `WHAT: CAUSE`.
#[must_use]
pub fn explain(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| {
        let error: &(dyn Error + 'static) = *error;
        error.source()
    });
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// The first `max` characters of a text.
#[must_use]
pub fn cut(text: &str, max: usize) -> &str {
    text.char_indices().nth(max).and_then(|(end, _)| text.get(..end)).unwrap_or(text)
}

/// Whether a character would change the lines around it: controls, and those that turn the direction of text or cannot be
/// seen. Source: Unicode TR36, "Bidirectional Text Spoofing".
fn is_unsafe(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// A text in which such characters are escaped, as in a string of Rust.
#[must_use]
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for char in text.chars() {
        if is_unsafe(char) { safe.extend(char.escape_default()) } else { safe.push(char) }
    }
    Cow::Owned(safe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_from_outside_can_neither_forge_a_line_nor_turn_one_around() {
        assert_eq!(escaped("plain Ünïcode 🚀"), "plain Ünïcode 🚀");
        assert_eq!(escaped("a\nb\r\u{1b}[31m\u{202e}c\u{2028}"), r"a\nb\r\u{1b}[31m\u{202e}c\u{2028}");
        assert_eq!((cut("🚀🚀🚀", 2), cut("ab", 2), cut("", 0)), ("🚀🚀", "ab", ""));
    }

    #[test]
    fn causes_follow_what_they_caused() {
        let error = crate::ledger::FileError::Io {
            path: "journal.jsonl".into(),
            source: std::io::Error::other("the disk failed"),
        };
        assert_eq!(explain(&error), "journal.jsonl: the disk failed");
    }
}
