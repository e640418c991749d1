//! Splits an expression into tokens.

use std::ops::Range;

use super::SyntaxError;

/// A token of kind `K`, and where it stands, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token<K> {
    pub(crate) kind: K,
    pub(crate) at: Range<usize>,
}

/// Splits an expression. `token` reads one from the text that begins at a place: its kind, and its length in bytes,
/// which is not 0. The last token is always `end`.
pub(crate) fn tokens<K>(
    text: &str,
    end: K,
    token: impl Fn(&str, usize, &str) -> Result<(K, usize), SyntaxError>,
) -> Result<Vec<Token<K>>, SyntaxError> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let space = rest.len() - rest.trim_start().len();
        if space > 0 {
            at += space;
            continue;
        }
        let (kind, length) = token(text, at, rest)?;
        tokens.push(Token { kind, at: at..at + length });
        at += length;
    }
    tokens.push(Token { kind: end, at: text.len()..text.len() });
    Ok(tokens)
}
