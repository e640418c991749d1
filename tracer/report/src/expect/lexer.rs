//! Splits an expectation into tokens.

use super::truth::Comparison;
use crate::syntax::{self, SyntaxError};

/// A token of an expression.
pub(super) type Token = syntax::Token<Kind>;

/// Kinds of words and signs.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    /// A word, name, number or time.
    Word(String),
    /// A word in quotes: never one of the language's own.
    Quoted(String),
    /// `==`, `!=`, `<`, `<=`, `>` or `>=`; `>` stands between the elements of a sequence, too.
    Sign(Comparison),
    /// `(`
    Left,
    /// `)`
    Right,
    /// After the last.
    End,
}

/// Splits an expression. The last token is always [`Kind::End`].
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, SyntaxError> {
    syntax::tokens(text, Kind::End, token)
}

fn token(text: &str, at: usize, rest: &str) -> Result<(Kind, usize), SyntaxError> {
    for (sign, kind) in [
        ("(", Kind::Left),
        (")", Kind::Right),
        ("==", Kind::Sign(Comparison::Equal)),
        ("!=", Kind::Sign(Comparison::Unequal)),
        ("<=", Kind::Sign(Comparison::AtMost)),
        (">=", Kind::Sign(Comparison::AtLeast)),
        ("<", Kind::Sign(Comparison::Less)),
        (">", Kind::Sign(Comparison::Greater)),
    ] {
        if rest.starts_with(sign) {
            return Ok((kind, sign.len()));
        }
    }
    for (sign, instead) in
        [("&&", "and"), ("||", "or"), ("&", "and"), ("|", "or"), ("!", "not"), ("=", "=="), ("→", ">")]
    {
        if rest.starts_with(sign) {
            let message = format!("use `{instead}` instead of `{sign}`");
            return Err(SyntaxError::new(text, at..at + sign.len(), message));
        }
    }
    if let Some(quote) = rest.chars().next().filter(|c| matches!(c, '"' | '\'')) {
        let Some((word, _)) = rest[1..].split_once(quote) else {
            return Err(SyntaxError::new(text, at..text.len(), "unclosed quote"));
        };
        return Ok((Kind::Quoted(word.to_owned()), word.len() + 2));
    }
    let ends = |c: char| c.is_whitespace() || "()=!<>&|\"'→".contains(c);
    let length = rest.find(ends).unwrap_or(rest.len());
    Ok((Kind::Word(rest[..length].to_owned()), length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_addresses_and_globs_are_words() {
        let text = "to==default/pod1 and(hops<=8)>\"a b\" [fd00::1]:80 veth* 0.9 5%";
        let tokens = tokens(text).unwrap();
        let shown: Vec<_> = tokens.iter().map(|token| &text[token.at.clone()]).collect();
        assert_eq!(
            shown,
            [
                "to",
                "==",
                "default/pod1",
                "and",
                "(",
                "hops",
                "<=",
                "8",
                ")",
                ">",
                "\"a b\"",
                "[fd00::1]:80",
                "veth*",
                "0.9",
                "5%",
                ""
            ]
        );
        assert_eq!(tokens[10].kind, Kind::Quoted("a b".to_owned()));
    }

    #[test]
    fn signs_of_other_languages_are_explained() {
        for (text, message) in [
            ("a && b", "column 3: use `and` instead of `&&`"),
            ("!a", "column 1: use `not` instead of `!`"),
            ("verdict = open", "column 9: use `==` instead of `=`"),
            ("via 'cni0", "column 5: unclosed quote"),
        ] {
            let error = tokens(text).unwrap_err().to_string();
            assert_eq!(error.lines().next(), Some(message));
        }
    }
}
