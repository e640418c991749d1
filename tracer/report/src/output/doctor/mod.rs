//! Output of `podtrace doctor`: what is wrong, or a description of the network.
//!
//! `text` is for people, `json` for programs.

mod json;
mod text;

use crate::doctor::Examination;

/// What the text shows besides the findings.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// Describe the network even if something is wrong with it.
    pub description: bool,
    /// The command to run next, where one follows.
    pub next: Option<String>,
}

/// The findings as text, the worst first; if there are none, a description of the network. Sentences fit into `width` columns;
/// commands stay whole.
#[must_use]
pub fn write(found: &Examination, shown: &Shown, width: usize) -> String {
    text::write(found, shown, width)
}

/// One JSON object a line, as described by `schema/doctor.schema.json`.
///
/// # Errors
/// None in practice: every finding can be serialized.
pub fn to_json(found: &Examination) -> serde_json::Result<String> {
    json::lines(found)
}
