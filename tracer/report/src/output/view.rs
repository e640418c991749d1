//! What the text outputs show of a trace.

use podtrace_path::Verdict;

use super::layout::UNLIMITED;

/// What is shown of a trace, and how wide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Columns of the terminal; [`UNLIMITED`] elsewhere.
    pub width: usize,
    /// Which paths are shown.
    pub paths: Paths,
    /// Whether all flows are listed at the end.
    pub flows: bool,
    /// Shows only paths with these verdicts; all if empty. The totals count the others as well.
    pub verdicts: Vec<Verdict>,
}

/// Which paths are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paths {
    /// What is new in full, what is like a path before on one line or counted.
    Folded,
    /// Every path in full.
    All,
    /// None.
    None,
}

impl Default for View {
    fn default() -> Self {
        Self { width: UNLIMITED, paths: Paths::Folded, flows: false, verdicts: Vec::new() }
    }
}

impl View {
    /// Whether paths that ended like this are shown.
    #[must_use]
    pub fn shows(&self, verdict: Verdict) -> bool {
        self.verdicts.is_empty() || self.verdicts.contains(&verdict)
    }
}
