//! The grammar, by recursive descent. `docs/expect.md` shows it as users read it.
//!
//! What is said of paths without a quantifier is said of every path: the largest such part becomes one `all(…)`.

use super::ast::{Claim, Condition, Counted};
use super::lexer::{Kind, Token, tokens};
use super::truth::Comparison;
use super::vocabulary::{CONNECTIVES, OF_A_PATH, OF_THE_TRACE, suggestion};
use crate::syntax::SyntaxError;

/// Parentheses, quantifiers and `not` within each other, at most.
const DEPTH: usize = 32;
/// Bytes of an expression, at most.
const LENGTH: usize = 16 * 1024;

/// The claim an expression makes, and the conditions that it counts paths by.
pub(super) fn parse(text: &str) -> Result<(Claim, Vec<Counted>), SyntaxError> {
    if text.len() > LENGTH {
        let message = format!("the expression is longer than {LENGTH} bytes: split it into several --expect");
        return Err(SyntaxError::new("", 0..0, message));
    }
    let mut parser =
        Parser { text, tokens: tokens(text)?, next: 0, depth: 0, within: None, conditions: Vec::new() };
    let part = parser.alternatives()?;
    match parser.peek() {
        Kind::End => {}
        Kind::Right => return Err(parser.error("unmatched `)`")),
        Kind::Word(word) => {
            let likely = suggestion(word, CONNECTIVES);
            return Err(parser.error(format!("expected `and`, `or` or the end{likely}")));
        }
        _ => return Err(parser.error("expected `and`, `or` or the end")),
    }
    let claim = parser.claim(part);
    Ok((claim, parser.conditions))
}

/// A part of an expression.
enum Part {
    /// About one path, and how it was written.
    OfAPath(Condition, String),
    /// About the trace.
    OfTheTrace(Claim),
}

/// How parts are joined.
#[derive(Clone, Copy)]
enum Join {
    And,
    Or,
}

/// A place in an expression.
pub(super) struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token>,
    next: usize,
    depth: usize,
    /// The quantifier whose parentheses this is in.
    within: Option<&'static str>,
    conditions: Vec<Counted>,
}

impl Parser<'_> {
    fn alternatives(&mut self) -> Result<Part, SyntaxError> {
        self.joined(Join::Or, Self::conjunction)
    }

    fn conjunction(&mut self) -> Result<Part, SyntaxError> {
        self.joined(Join::And, Self::negation)
    }

    fn joined(
        &mut self,
        join: Join,
        part: impl Fn(&mut Self) -> Result<Part, SyntaxError>,
    ) -> Result<Part, SyntaxError> {
        let first = part(self)?;
        let word = match join {
            Join::And => "and",
            Join::Or => "or",
        };
        let mut parts = vec![first];
        while self.eat_word(word) {
            parts.push(part(self)?);
        }
        Ok(match parts.len() {
            1 => parts.remove(0),
            _ => self.join(join, word, parts),
        })
    }

    fn join(&mut self, join: Join, word: &str, parts: Vec<Part>) -> Part {
        let (mut conditions, mut texts, mut claims) = (Vec::new(), Vec::new(), Vec::new());
        for part in parts {
            match part {
                Part::OfAPath(condition, text) => {
                    conditions.push(condition);
                    texts.push(text);
                }
                Part::OfTheTrace(claim) => claims.push(claim),
            }
        }
        let condition = match (conditions.len(), join) {
            (0, _) => None,
            (1, _) => conditions.pop(),
            (_, Join::And) => Some(Condition::And(conditions)),
            (_, Join::Or) => Some(Condition::Or(conditions)),
        };
        let text = texts.join(&format!(" {word} "));
        match condition {
            Some(condition) if claims.is_empty() => return Part::OfAPath(condition, text),
            Some(condition) => claims.insert(0, self.claim(Part::OfAPath(condition, text))),
            None => {}
        }
        Part::OfTheTrace(match join {
            Join::And => Claim::And(claims),
            Join::Or => Claim::Or(claims),
        })
    }

    fn negation(&mut self) -> Result<Part, SyntaxError> {
        let start = self.here().at.start;
        if !self.eat_word("not") {
            return self.single();
        }
        self.deeper(|parser| {
            Ok(match parser.negation()? {
                Part::OfAPath(condition, _) => {
                    Part::OfAPath(Condition::Not(Box::new(condition)), parser.since(start))
                }
                Part::OfTheTrace(claim) => Part::OfTheTrace(Claim::Not(Box::new(claim))),
            })
        })
    }

    fn single(&mut self) -> Result<Part, SyntaxError> {
        let start = self.here().at.start;
        match self.peek() {
            Kind::Left => {
                let part = self.parenthesised(Self::alternatives)?;
                Ok(match part {
                    Part::OfAPath(condition, _) => Part::OfAPath(condition, self.since(start)),
                    claim @ Part::OfTheTrace(_) => claim,
                })
            }
            Kind::Word(word) => match OF_THE_TRACE.into_iter().find(|known| known == word) {
                Some(word) => self.of_the_trace(word),
                None => {
                    let fact = self.fact()?;
                    Ok(Part::OfAPath(Condition::Fact(fact), self.since(start)))
                }
            },
            _ => Err(self.error(format!("expected a condition, such as {}", self.examples()))),
        }
    }

    fn of_the_trace(&mut self, word: &'static str) -> Result<Part, SyntaxError> {
        if let Some(quantifier) = self.within {
            let message = format!(
                "`{word}` is about the whole trace, but {quantifier}(…) takes a condition on a path, such as {}",
                self.examples()
            );
            return Err(self.error(message));
        }
        self.next += 1;
        Ok(Part::OfTheTrace(match word {
            "any" => Claim::Any(self.quantified("any")?),
            "all" => Claim::All(self.quantified("all")?),
            "none" => Claim::None(self.quantified("none")?),
            "count" => {
                let condition = self.quantified("count")?;
                let comparison = self.comparison("count(…)")?;
                Claim::Count(condition, comparison, self.number("count(…)")?)
            }
            "paths" => {
                let comparison = self.comparison("paths")?;
                let number = self.number("paths")?;
                Claim::Count(self.count(Condition::And(Vec::new()), "paths".to_owned()), comparison, number)
            }
            "loss" => {
                let comparison = self.comparison("loss")?;
                Claim::Loss(comparison, self.share("loss", true)?)
            }
            _ => Claim::Complete,
        }))
    }

    /// The parenthesised condition behind a quantifier.
    fn quantified(&mut self, quantifier: &'static str) -> Result<usize, SyntaxError> {
        if *self.peek() != Kind::Left {
            return Err(self.error(format!("expected `(` after `{quantifier}`: {quantifier}(dropped)")));
        }
        self.within = Some(quantifier);
        let start = self.here().at.end;
        let part = self.parenthesised(Self::alternatives);
        self.within = None;
        let text = self.text.get(start..self.before().saturating_sub(1)).unwrap_or_default();
        let text = text.trim().to_owned();
        match part? {
            Part::OfAPath(condition, _) => Ok(self.count(condition, text)),
            // Refused where it stands, above.
            Part::OfTheTrace(_) => Err(self.error("expected a condition on a path")),
        }
    }

    fn parenthesised<T>(
        &mut self,
        inside: impl FnOnce(&mut Self) -> Result<T, SyntaxError>,
    ) -> Result<T, SyntaxError> {
        let left = self.here().at.clone();
        self.next += 1;
        let part = self.deeper(inside)?;
        match self.peek() {
            Kind::Right => {
                self.next += 1;
                Ok(part)
            }
            Kind::End => Err(SyntaxError::new(self.text, left, "unclosed `(`")),
            _ => Err(self.error("expected `and`, `or` or `)`")),
        }
    }

    fn deeper<T>(
        &mut self,
        inside: impl FnOnce(&mut Self) -> Result<T, SyntaxError>,
    ) -> Result<T, SyntaxError> {
        if self.depth == DEPTH {
            return Err(self.error(format!("nested deeper than {DEPTH} levels")));
        }
        self.depth += 1;
        let part = inside(self);
        self.depth -= 1;
        part
    }

    /// What a part claims about the trace.
    fn claim(&mut self, part: Part) -> Claim {
        match part {
            Part::OfAPath(condition, text) => Claim::All(self.count(condition, text)),
            Part::OfTheTrace(claim) => claim,
        }
    }

    fn count(&mut self, condition: Condition, text: String) -> usize {
        self.conditions.push(Counted { condition, text });
        self.conditions.len() - 1
    }

    fn examples(&self) -> &'static str {
        if self.within.is_some() {
            "`delivered` or `via cni0`"
        } else {
            "`delivered`, `via cni0` or `loss == 0`"
        }
    }

    /// The comparison that must follow.
    pub(super) fn comparison(&mut self, what: &str) -> Result<Comparison, SyntaxError> {
        let Kind::Sign(comparison) = *self.peek() else {
            return Err(self.error(format!("expected a comparison after `{what}`: ==, !=, <, <=, > or >=")));
        };
        self.next += 1;
        Ok(comparison)
    }

    /// `==` or `!=`; whether it was the latter.
    pub(super) fn equality(&mut self, what: &str) -> Result<bool, SyntaxError> {
        let negated = match self.peek() {
            Kind::Sign(Comparison::Equal) => false,
            Kind::Sign(Comparison::Unequal) => true,
            _ => return Err(self.error(format!("expected == or != after `{what}`"))),
        };
        self.next += 1;
        Ok(negated)
    }

    /// A whole number.
    pub(super) fn number(&mut self, what: &str) -> Result<u64, SyntaxError> {
        self.value(&format!("an integer for `{what}`"), |word| {
            word.parse().map_err(|_| format!("`{word}` is not an integer"))
        })
    }

    /// A number from 0 to 1, or a percentage where those are usual.
    pub(super) fn share(&mut self, what: &str, percentage: bool) -> Result<f64, SyntaxError> {
        let example = if percentage { "0.01 or 1%" } else { "0.9" };
        self.value(&format!("a number from 0 to 1 for `{what}`, such as {example}"), |word| {
            let share = match word.strip_suffix('%').filter(|_| percentage) {
                Some(percent) => percent.parse::<f64>().map(|percent| percent / 100.0),
                None => word.parse(),
            };
            let share = share.ok().filter(|share| (0.0..=1.0).contains(share));
            share.ok_or_else(|| format!("`{word}` is not a number from 0 to 1, such as {example}"))
        })
    }

    /// A word that means something; `expected` says what, should there be none.
    pub(super) fn value<T>(
        &mut self,
        expected: &str,
        meaning: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, SyntaxError> {
        let (Kind::Word(word) | Kind::Quoted(word)) = self.peek() else {
            return Err(self.error(format!("expected {expected}")));
        };
        let value = meaning(word).map_err(|message| self.error(message))?;
        self.next += 1;
        Ok(value)
    }

    /// Takes `>`, if it comes next.
    pub(super) fn eat_arrow(&mut self) -> bool {
        let is = *self.peek() == Kind::Sign(Comparison::Greater);
        self.next += usize::from(is);
        is
    }

    /// The word that comes next, and goes past it.
    pub(super) fn word(&mut self) -> String {
        let word = match self.peek() {
            Kind::Word(word) => word.clone(),
            _ => String::new(),
        };
        self.next += 1;
        word
    }

    fn eat_word(&mut self, wanted: &str) -> bool {
        let is = matches!(self.peek(), Kind::Word(word) if word == wanted);
        self.next += usize::from(is);
        is
    }

    /// An error about the token that comes next.
    pub(super) fn error(&self, message: impl Into<String>) -> SyntaxError {
        SyntaxError::new(self.text, self.here().at.clone(), message)
    }

    /// An error about a word that nobody knows.
    pub(super) fn unknown(&self, word: &str) -> SyntaxError {
        let known = OF_A_PATH.into_iter().chain(OF_THE_TRACE);
        let likely = suggestion(word, known);
        if likely.is_empty() {
            let hint = format!("expected a condition such as {}", self.examples());
            self.error(format!("unexpected `{word}`; {hint}"))
        } else {
            self.error(format!("unexpected `{word}`{likely}"))
        }
    }

    pub(super) fn peek(&self) -> &Kind {
        &self.here().kind
    }

    /// The expression's text from a place to the last token that was taken.
    pub(super) fn since(&self, start: usize) -> String {
        self.text.get(start..self.before()).unwrap_or_default().to_owned()
    }

    /// Where the next token begins.
    pub(super) fn start(&self) -> usize {
        self.here().at.start
    }

    fn before(&self) -> usize {
        self.next.checked_sub(1).and_then(|index| self.tokens.get(index)).map_or(0, |token| token.at.end)
    }

    fn here(&self) -> &Token {
        // The end stays the next token for ever.
        let last = self.tokens.len() - 1;
        &self.tokens[self.next.min(last)]
    }
}
