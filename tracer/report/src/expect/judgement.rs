//! What a judge says of an expectation, in lines for people.

use super::explain::Parting;
use crate::output::plain;
use podtrace_escape::escape;
use podtrace_path::Path;

/// How a trace stands to one expectation.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// The expectation, as it was written.
    pub expression: String,
    /// Whether the trace shows that it is so. What the trace leaves open is not held.
    pub held: bool,
    /// Whether it counts paths, so that none may be just what was expected.
    pub expects_silence: bool,
    /// Paths that were judged.
    pub paths: u64,
    /// Why not, if it was not held.
    pub(super) reasons: Vec<Reason>,
}

/// One cause of an expectation not being held.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Reason {
    pub(super) text: String,
    pub(super) shown: Option<Box<Shown>>,
}

/// A path that shows a reason.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Shown {
    pub(super) role: Role,
    pub(super) path: Path,
    pub(super) partings: Vec<Parting>,
}

/// What a path is shown for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// It came nearest to what was expected.
    Nearest,
    /// It is what was not to be.
    Example,
}

impl Reason {
    /// One that no path shows.
    pub(super) fn without_path(text: String) -> Self {
        Self { text, shown: None }
    }
}

impl Judgement {
    /// In one line.
    #[must_use]
    pub fn headline(&self) -> String {
        let verdict = if self.held { "held" } else { "failed" };
        format!("expectation {verdict}: {}", escape(&self.expression))
    }

    /// Why it was not held, without the paths: one line.
    #[must_use]
    pub fn cause(&self) -> String {
        let texts: Vec<_> = self.reasons.iter().map(|reason| escape(&reason.text)).collect();
        texts.join("; ")
    }

    /// All there is to say, in lines that hold nothing a terminal would obey. The first one is the headline.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![self.headline()];
        for reason in &self.reasons {
            lines.push(format!("  {}", escape(&reason.text)));
            let Some(shown) = &reason.shown else { continue };
            let role = match shown.role {
                Role::Nearest => "nearest",
                Role::Example => "for example",
            };
            lines.push(format!("  {role}: {}", plain::headline(&shown.path)));
            lines.extend(shown.partings.iter().map(|parting| format!("    {}", shown.parts(parting))));
        }
        lines
    }

    /// The paths that show why, each of them whole, as the text output has them.
    pub fn paths(&self) -> impl Iterator<Item = String> {
        let mut told = Vec::new();
        self.reasons.iter().filter_map(|reason| reason.shown.as_ref()).filter_map(move |shown| {
            let id = shown.path.id;
            (!told.contains(&id)).then(|| {
                told.push(id);
                plain::whole(&shown.path)
            })
        })
    }
}

impl Shown {
    fn parts(&self, parting: &Parting) -> String {
        let Parting { hop, expected, found } = parting;
        let difference = format!("expected {}, found {}", escape(expected), escape(found));
        match hop.and_then(|hop| plain::hop(&self.path, hop).map(|text| (hop + 1, text))) {
            Some((number, text)) => {
                format!("parts at hop {number} of {}, {text}: {difference}", self.path.hops.len())
            }
            None => difference,
        }
    }
}
