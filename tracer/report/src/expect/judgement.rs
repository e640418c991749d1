//! The result of an expectation, formatted for stderr.

use super::explain::Difference;
use crate::output::plain;
use podtrace_escape::escape;
use podtrace_path::Path;

/// The result of one expectation.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// The expectation, as it was written.
    pub expression: String,
    /// Whether the trace proves it. An undecided expectation fails.
    pub held: bool,
    /// Whether it counts paths, so that zero paths may be expected.
    pub expects_silence: bool,
    /// Paths that were judged.
    pub paths: u64,
    /// Why it failed.
    pub(super) reasons: Vec<Reason>,
}

/// Why an expectation failed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Reason {
    pub(super) text: String,
    pub(super) shown: Option<Box<Shown>>,
}

/// A path that illustrates a reason.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Shown {
    pub(super) role: Role,
    pub(super) path: Path,
    pub(super) differences: Vec<Difference>,
}

/// Why a path is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// It is the nearest to what was expected.
    Nearest,
    /// It matches, and must not.
    Example,
}

impl Reason {
    /// A reason without a path.
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

    /// Why it failed, without paths: one line.
    #[must_use]
    pub fn cause(&self) -> String {
        let texts: Vec<_> = self.reasons.iter().map(|reason| escape(&reason.text)).collect();
        texts.join("; ")
    }

    /// Headline, reasons and paths as escaped lines.
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
            lines.extend(
                shown.differences.iter().map(|difference| format!("    {}", shown.describe(difference))),
            );
        }
        lines
    }

    /// The paths shown, each in the format of the text output.
    pub fn paths(&self) -> impl Iterator<Item = String> {
        let mut ids = Vec::new();
        self.reasons.iter().filter_map(|reason| reason.shown.as_ref()).filter_map(move |shown| {
            let id = shown.path.id;
            (!ids.contains(&id)).then(|| {
                ids.push(id);
                plain::whole(&shown.path)
            })
        })
    }
}

impl Shown {
    fn describe(&self, difference: &Difference) -> String {
        let Difference { hop, expected, found } = difference;
        let text = format!("expected {}, found {}", escape(expected), escape(found));
        match hop.and_then(|hop| plain::hop(&self.path, hop).map(|text| (hop + 1, text))) {
            Some((number, hop)) => {
                format!("differs at hop {number} of {}, {hop}: {text}", self.path.hops.len())
            }
            None => text,
        }
    }
}
