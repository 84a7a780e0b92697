//! What others have written, made fit to be shown: a terminal obeys control characters, a line end forges a line of the
//! log, and characters that turn the direction of writing make a text look like another. Whatever goes to a terminal or
//! into a log as a line passes here, at the latest in `log_output` or in the verbs.

use std::borrow::Cow;
use std::fmt::Write;

/// A text as one line without anything in it but what is seen. What is taken out leaves a mark, U+FFFD.
pub fn printable(text: &str) -> Cow<'_, str> {
    if is_plain(text) || !text.contains(is_harmful) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.replace(is_harmful, "\u{fffd}"))
}

/// A text of several lines, which are ours, with whatever is in them.
pub fn printable_lines(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

/// The same for a JSON document, which means what it meant: characters are written as escapes.
pub fn printable_json(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c != '\n' && is_harmful(c) {
            // Writing to a string does not fail; and none of them needs two escapes.
            let _ = write!(shown, "\\u{:04x}", u32::from(c));
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Nearly every text is, and it takes next to nothing to see it.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

fn is_harmful(c: char) -> bool {
    match c {
        // It moves to the right, and that is all.
        '\t' => false,
        // Marks, embeddings, overrides and isolates of the direction of writing.
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        // The ends of lines and paragraphs that are no control characters.
        '\u{2028}' | '\u{2029}' => true,
        _ => c.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_seen_stays_and_the_rest_leaves_a_mark() {
        for text in ["", "starting new worker 7", "a\tb", "grün 日本 🙂 שלום"] {
            assert!(matches!(printable(text), Cow::Borrowed(same) if same == text));
        }
        let marks = "\u{fffd}";
        for harmful in [
            "\0", "\x1b", "\n", "\r", "\x07", "\x08", "\x7f", "\u{80}", "\u{85}", "\u{9b}", "\u{9f}", "\u{202e}",
            "\u{2066}", "\u{2069}", "\u{200f}", "\u{2028}", "\u{2029}",
        ] {
            assert_eq!(printable(&format!("a{harmful}b")), format!("a{marks}b"), "{harmful:?}");
        }
        assert_eq!(printable("x\x1b]0;y\x07\ngeneration 9"), "x\u{fffd}]0;y\u{fffd}\u{fffd}generation 9");
    }

    #[test]
    fn lines_of_ours_stay_lines() {
        assert_eq!(printable_lines("one\ntwo\x1b[2J\n"), "one\ntwo\u{fffd}[2J\n");
    }

    #[test]
    fn json_means_what_it_meant() {
        let text = serde_json::to_string_pretty(&["a\u{9b}b", "c\u{202e}d", "\x7f\x1b"]).unwrap();
        let shown = printable_json(&text);
        assert!(!shown.contains(|c: char| c != '\n' && is_harmful(c)), "{shown:?}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&shown).unwrap(), ["a\u{9b}b", "c\u{202e}d", "\x7f\x1b"]);
    }
}
