//! Text from outside must not steer a terminal or disguise itself.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Replaces control characters, bidirectional overrides and invisible characters by escapes such as `\n` and `\u{1b}`. All
/// other text stays the same.
///
/// # Examples
///
/// ```
/// use podtrace_escape::escape;
///
/// assert_eq!(escape("default/pod1"), "default/pod1");
/// assert_eq!(escape("\u{1b}[2Jpod\u{202e}1dop"), "\\u{1b}[2Jpod\\u{202e}1dop");
/// ```
#[must_use]
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_deceptive) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            c if is_deceptive(c) => {
                // Writing into a string cannot fail.
                let _ = write!(escaped, "\\u{{{:x}}}", u32::from(c));
            }
            c => escaped.push(c),
        }
    }
    Cow::Owned(escaped)
}

/// Whether a terminal would interpret the character, or show its neighbours in another order or with something invisible.
pub fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}'                     // soft hyphen
            | '\u{61c}'                  // Arabic letter mark
            | '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' // Hangul fillers
            | '\u{180e}'                 // Mongolian vowel separator
            | '\u{200b}'..='\u{200f}'    // zero width, left-to-right and right-to-left marks
            | '\u{2028}'..='\u{202e}'    // line and paragraph separators, embeddings, overrides
            | '\u{2060}'..='\u{206f}'    // word joiner, invisible operators, isolates
            | '\u{fe00}'..='\u{fe0f}'    // variation selectors
            | '\u{feff}'                 // byte order mark
            | '\u{fff9}'..='\u{fffb}'    // interlinear annotation
            | '\u{e0000}'..='\u{e0fff}') // tags, more variation selectors
}

/// A word as a shell takes it: commands are printed to be pasted, and names come from outside.
///
/// # Examples
///
/// ```
/// use podtrace_escape::shell_word;
///
/// assert_eq!(shell_word("flannel.1"), "flannel.1");
/// assert_eq!(shell_word("$(reboot)"), "'$(reboot)'");
/// assert_eq!(shell_word("a'b"), r"'a'\''b'");
/// ```
#[must_use]
pub fn shell_word(word: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '/' | ':' | '@');
    if !word.is_empty() && word.chars().all(harmless) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_stays_the_same() {
        for text in ["", "default/pod1", "flannel.1", "größe", "日本", "a → b"] {
            assert!(matches!(escape(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }

    #[test]
    fn deceptive_characters_become_visible() {
        for (text, escaped) in [
            ("\x1b[2J", "\\u{1b}[2J"),
            ("a\nb\tc\r", "a\\nb\\tc\\r"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("\u{7f}\0", "\\u{7f}\\u{0}"),
            ("pod\u{202e}1dop", "pod\\u{202e}1dop"),
            ("\u{2066}x\u{2069}", "\\u{2066}x\\u{2069}"),
            ("po\u{200b}d", "po\\u{200b}d"),
            ("\u{e0041}", "\\u{e0041}"),
        ] {
            assert_eq!(escape(text), escaped);
        }
    }
}
