//! Splits a filter expression into tokens.

use std::ops::Range;

use crate::expect::SyntaxError;

/// A token, and its position in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) at: Range<usize>,
}

/// Kinds of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Word(String),
    And,
    Or,
    Not,
    Left,
    Right,
    /// After the last.
    End,
}

/// Splits an expression. The last token is always [`Kind::End`].
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, SyntaxError> {
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
    tokens.push(Token { kind: Kind::End, at: text.len()..text.len() });
    Ok(tokens)
}

fn token(text: &str, at: usize, rest: &str) -> Result<(Kind, usize), SyntaxError> {
    for (sign, kind) in
        [("&&", Kind::And), ("||", Kind::Or), ("!", Kind::Not), ("(", Kind::Left), (")", Kind::Right)]
    {
        if rest.starts_with(sign) {
            return Ok((kind, sign.len()));
        }
    }
    let ends = |c: char| c.is_whitespace() || "()!&|<>=".contains(c);
    let length = rest.find(ends).unwrap_or(rest.len());
    let word = &rest[..length];
    if word.is_empty() || word.contains('[') {
        let length = word.len().max(rest.chars().next().map_or(0, char::len_utf8));
        let message = "packet bytes cannot be compared; only the length can: less 64, greater 1000";
        return Err(SyntaxError::new(text, at..at + length, message));
    }
    Ok(match word {
        "and" => (Kind::And, length),
        "or" => (Kind::Or, length),
        "not" => (Kind::Not, length),
        _ => (Kind::Word(word.to_owned()), length),
    })
}
