//! Splits a filter expression into tokens.

use crate::syntax::{self, SyntaxError};

/// A token of an expression.
pub(super) type Token = syntax::Token<Kind>;

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
    syntax::tokens(text, Kind::End, token)
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
