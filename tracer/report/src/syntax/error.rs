//! What is wrong with an expression, and where.

use std::fmt;
use std::ops::Range;

use unicode_width::UnicodeWidthStr as _;

use podtrace_escape::escape;

/// An expression that does not follow the grammar. Shows the expression with a mark under what is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    expression: String,
    at: Range<usize>,
    message: String,
}

impl SyntaxError {
    /// Of a part of an expression, given in bytes.
    pub(crate) fn new(expression: &str, at: Range<usize>, message: impl Into<String>) -> Self {
        Self { expression: expression.to_owned(), at, message: message.into() }
    }

    /// Column of the part that is wrong, in characters from 1.
    #[must_use]
    pub fn column(&self) -> usize {
        self.expression.get(..self.at.start).map_or(0, |before| before.chars().count()) + 1
    }
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |range: Range<usize>| escape(self.expression.get(range).unwrap_or_default());
        let indent = shown(0..self.at.start).width();
        let marks = shown(self.at.clone()).width().max(1);
        writeln!(f, "column {}: {}", self.column(), escape(&self.message))?;
        writeln!(f, "    {}", escape(&self.expression))?;
        write!(f, "    {}{}", " ".repeat(indent), "^".repeat(marks))
    }
}

impl std::error::Error for SyntaxError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_stands_under_what_is_wrong() {
        let error = SyntaxError::new("größe via x", 7..10, "so it is");
        assert_eq!(error.to_string(), "column 6: so it is\n    größe via x\n         ^^^");
        let error = SyntaxError::new("via", 3..3, "end");
        assert_eq!(error.to_string(), "column 4: end\n    via\n       ^");
        let error = SyntaxError::new("\x1b[2J x", 5..6, "no \x07");
        assert_eq!(error.to_string(), "column 6: no \\u{7}\n    \\u{1b}[2J x\n              ^");
    }
}
