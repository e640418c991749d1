//! Decides which paths the text outputs show in full, which on one line, and which are only counted.
//!
//! 1. What is new is shown in full: a way, a cause, an outlier in latency.
//! 2. What is like a path before gets one line, as long as there are few; then it is counted, by the path it is like.
//! 3. Each has a limit, and failures have limits of their own, so that healthy traffic cannot use up their room.

use std::collections::BTreeMap;

use crate::totals::{Compared, First, Novelty};
use podtrace_path::{Path, Verdict};

/// How many paths are shown in full: delivered, and failed.
const FULL: [u32; 2] = [12, 16];

/// How many get one line: delivered, and failed.
const LINES: [u32; 2] = [24, 12];

/// How many outliers are shown in full.
const OUTLIERS: u32 = 4;

/// The paths that were shown, and those that were only counted.
#[derive(Debug, Default)]
pub(super) struct Folding {
    novelty: Novelty,
    full: [u32; 2],
    lines: [u32; 2],
    outliers: u32,
    /// By the number of the path that they are like; 0 for those that are like none that was shown.
    waiting: BTreeMap<u64, u64>,
    /// Whether a failure was not shown in full, and whether any path was only counted.
    folded_failures: bool,
    counted: bool,
    shown: u64,
}

/// How a path is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// All its hops. For an outlier with the time, in nanoseconds, that 99 of 100 like it took at most.
    Full(Option<u64>),
    /// On one line that names the path it is like.
    Line(First),
    /// Not now: [`Folding::waiting`] has its number later.
    Counted,
}

impl Folding {
    /// How the next path is shown.
    pub(super) fn next(&mut self, path: &Path) -> Shown {
        self.shown += 1;
        let kind = usize::from(is_failure(path.verdict));
        let shown = match self.novelty.compare(path) {
            Compared::New if take(&mut self.full[kind], FULL[kind]) => Shown::Full(None),
            Compared::Outlier(_, usual) if take(&mut self.outliers, OUTLIERS) => Shown::Full(Some(usual)),
            Compared::Like(first) | Compared::Outlier(first, _) => {
                if take(&mut self.lines[kind], LINES[kind]) {
                    Shown::Line(first)
                } else {
                    *self.waiting.entry(first.id).or_default() += 1;
                    Shown::Counted
                }
            }
            Compared::New | Compared::Unknown => {
                *self.waiting.entry(0).or_default() += 1;
                Shown::Counted
            }
        };
        self.folded_failures |= kind == 1 && !matches!(shown, Shown::Full(_));
        self.counted |= shown == Shown::Counted;
        shown
    }

    /// A path that is shown in full whatever came before.
    pub(super) fn show(&mut self) {
        self.shown += 1;
    }

    /// The paths counted since the last call, by the number of the path that they are like; 0 for the others.
    pub(super) fn waiting(&mut self) -> BTreeMap<u64, u64> {
        std::mem::take(&mut self.waiting)
    }

    /// Whether a failure was not shown in full.
    pub(super) fn folded_failures(&self) -> bool {
        self.folded_failures
    }

    /// Whether there were more paths than a reader looks through.
    pub(super) fn are_many(&self) -> bool {
        self.counted || self.shown > u64::from(LINES[0])
    }
}

/// Takes one of what there is at most so many of.
fn take(taken: &mut u32, most: u32) -> bool {
    let has = *taken < most;
    *taken += u32::from(has);
    has
}

fn is_failure(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Dropped | Verdict::Vanished | Verdict::Rejected)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples;

    #[test]
    fn few_get_a_line_each_and_many_are_counted() {
        let mut folding = Folding::default();
        let request = samples::cross_node_request();
        assert_eq!(folding.next(&request), Shown::Full(None));
        let shown: Vec<_> = (0..100).map(|_| folding.next(&request)).collect();
        assert!(
            shown[..24].iter().all(|shown| matches!(shown, Shown::Line(first) if first.id == request.id))
        );
        assert!(shown[24..].iter().all(|shown| *shown == Shown::Counted));
        assert_eq!(folding.waiting(), BTreeMap::from([(request.id, 76)]));
        assert!(folding.are_many() && !folding.folded_failures());
        assert_eq!(folding.next(&samples::dropped()), Shown::Full(None), "a new cause");
        assert!(
            matches!(folding.next(&samples::dropped()), Shown::Line(_)),
            "failures have lines of their own"
        );
        assert!(folding.folded_failures());
    }

    #[test]
    fn an_outlier_is_shown_in_full() {
        let mut folding = Folding::default();
        let request = samples::cross_node_request();
        for _ in 0..60 {
            folding.next(&request);
        }
        let slow = Path { duration_ns: 7_000_000, ..request };
        assert!(matches!(folding.next(&slow), Shown::Full(Some(usual)) if usual < 100_000));
    }

    #[test]
    fn new_ways_without_end_are_counted_at_last() {
        let mut folding = Folding::default();
        let mut path = samples::same_node();
        let mut full = 0;
        for number in 0..100 {
            path.hops[0].device = Some(format!("veth{number}").into());
            full += u32::from(folding.next(&path) == Shown::Full(None));
        }
        assert_eq!((full, folding.waiting()), (FULL[0], BTreeMap::from([(0, 88)])));
    }
}
