//! Judges a trace path by path.
//!
//! Input: every reported path, then the summary. Output: a [`Judgement`] for each expectation. It keeps counts, and only the
//! few paths that an explanation may show.

use super::Expectation;
use super::ast::{Claim, Counted};
use super::explain::distance;
use super::holds::{Coverage, holds};
use super::judgement::Judgement;
use super::truth::{Range, Truth};
use super::why;
use podtrace_path::{Direction, Path, Summary, Verdict};

/// Judges a trace by several independent expectations.
#[derive(Clone, Debug)]
pub struct Judge {
    tallies: Vec<Tally>,
}

impl Judge {
    /// A judge without any path yet.
    #[must_use]
    pub fn new(expectations: Vec<Expectation>) -> Self {
        Self { tallies: expectations.into_iter().map(Tally::new).collect() }
    }

    /// Whether there are no expectations.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.tallies.is_empty()
    }

    /// The expectations, as they were written.
    pub fn expressions(&self) -> impl Iterator<Item = &str> {
        self.tallies.iter().map(|tally| tally.expectation.text.as_str())
    }

    /// Adds a path. One with a forged source address says nothing of the traffic that it claims to belong to.
    pub fn path(&mut self, path: &Path) {
        if path.forged.is_some() {
            return;
        }
        for tally in &mut self.tallies {
            tally.path(path);
        }
    }

    /// Judges the trace; in the order of the expectations.
    #[must_use]
    pub fn summary(&self, summary: &Summary) -> Vec<Judgement> {
        self.tallies.iter().map(|tally| tally.judge(summary)).collect()
    }
}

/// What one expectation needs to know about the trace.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    pub(super) expectation: Expectation,
    /// One for each of the expectation's conditions.
    pub(super) condition_tallies: Vec<ConditionTally>,
    pub(super) requests: Requests,
    pub(super) paths: u64,
}

/// For how many paths a condition holds.
#[derive(Clone, Debug, Default)]
pub(super) struct ConditionTally {
    /// Assuming that all hops were observed.
    pub(super) whole: Counts,
    /// Assuming that hops are missing.
    pub(super) gaps: Counts,
    /// The path for which it does not hold that is nearest to it, with its distance.
    pub(super) nearest: Option<(f64, Path)>,
    /// The first path for which it holds.
    pub(super) example: Option<Path>,
}

/// Numbers of paths by truth.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) yes: u64,
    pub(super) open: u64,
    pub(super) no: u64,
}

/// Numbers of requests by verdict.
#[derive(Clone, Debug, Default)]
pub(super) struct Requests {
    pub(super) all: u64,
    /// Dropped, vanished or rejected.
    pub(super) lost: u64,
    /// Still in flight.
    pub(super) open: u64,
    /// The first one that did not arrive.
    pub(super) example: Option<Path>,
}

impl Tally {
    fn new(expectation: Expectation) -> Self {
        let condition_tallies = expectation.conditions.iter().map(|_| ConditionTally::default()).collect();
        Self { expectation, condition_tallies, requests: Requests::default(), paths: 0 }
    }

    fn path(&mut self, path: &Path) {
        self.paths += 1;
        self.requests.path(path);
        for (condition_tally, counted) in self.condition_tallies.iter_mut().zip(&self.expectation.conditions)
        {
            condition_tally.path(counted, path);
        }
    }

    fn judge(&self, summary: &Summary) -> Judgement {
        let held = self.truth(&self.expectation.claim, summary) == Truth::Yes;
        Judgement {
            expression: self.expectation.text.clone(),
            held,
            expects_silence: self.expectation.claim.counts(),
            paths: self.paths,
            reasons: if held { Vec::new() } else { why::reasons(self, summary) },
        }
    }

    /// Whether the trace proves a claim. Lost events leave more of them undecided.
    pub(super) fn truth(&self, claim: &Claim, summary: &Summary) -> Truth {
        match claim {
            // Without paths, a claim about every path is neither proved nor refuted.
            Claim::All(number) => self.quantified(*number, summary, |counts, more| {
                let shown = !more && counts.open == 0 && self.paths > 0;
                decide(shown, counts.no > 0)
            }),
            Claim::None(number) => self.quantified(*number, summary, |counts, more| {
                let shown = !more && counts.open == 0 && self.paths > 0;
                decide(shown, counts.yes > 0)
            }),
            Claim::Any(number) => self.quantified(*number, summary, |counts, more| {
                if counts.yes > 0 { Truth::Yes } else { decide(false, !more && counts.open == 0) }
            }),
            Claim::Count(number, comparison, bound) => self.quantified(*number, summary, |counts, more| {
                let most = (!more).then_some(counts.yes + counts.open);
                Range { least: counts.yes, most }.compare(*comparison, *bound)
            }),
            Claim::Loss(comparison, bound) => match self.requests.loss(summary) {
                Some(loss) => loss.compare(*comparison, *bound),
                None => Truth::Open,
            },
            Claim::Complete => Truth::of(summary.complete),
            Claim::And(parts) => Truth::all(parts.iter().map(|part| self.truth(part, summary))),
            Claim::Or(parts) => Truth::any(parts.iter().map(|part| self.truth(part, summary))),
            Claim::Not(part) => !self.truth(part, summary),
        }
    }

    /// Decides a claim by its condition's counts; the second argument is whether there may be more paths.
    fn quantified(
        &self,
        number: usize,
        summary: &Summary,
        decide: impl FnOnce(Counts, bool) -> Truth,
    ) -> Truth {
        self.condition_tallies.get(number).map_or(Truth::Open, |condition_tally| {
            let (counts, more) = condition_tally.known(summary);
            decide(counts, more)
        })
    }
}

fn decide(shown: bool, refuted: bool) -> Truth {
    match (refuted, shown) {
        (true, _) => Truth::No,
        (false, true) => Truth::Yes,
        (false, false) => Truth::Open,
    }
}

impl ConditionTally {
    fn path(&mut self, counted: &Counted, path: &Path) {
        let truth = holds(&counted.condition, path, Coverage::Complete);
        self.whole.add(truth);
        self.gaps.add(holds(&counted.condition, path, Coverage::Incomplete));
        if truth == Truth::Yes {
            if self.example.is_none() {
                self.example = Some(path.clone());
            }
        } else {
            let distance = distance(&counted.condition, path, true);
            if self.nearest.as_ref().is_none_or(|(nearest, _)| distance < *nearest) {
                self.nearest = Some((distance, path.clone()));
            }
        }
    }

    /// The counts that apply to this trace, and whether there may be more paths. Those in a sample have all of their hops.
    pub(super) fn known(&self, summary: &Summary) -> (Counts, bool) {
        if summary.complete { (self.whole, summary.sample.is_some()) } else { (self.gaps, true) }
    }
}

impl Counts {
    fn add(&mut self, truth: Truth) {
        *match truth {
            Truth::Yes => &mut self.yes,
            Truth::Open => &mut self.open,
            Truth::No => &mut self.no,
        } += 1;
    }
}

impl Requests {
    fn path(&mut self, path: &Path) {
        if path.flow.direction != Direction::Request {
            return;
        }
        self.all += 1;
        match path.verdict {
            Verdict::Delivered => return,
            Verdict::Open => self.open += 1,
            Verdict::Dropped | Verdict::Vanished | Verdict::Rejected => self.lost += 1,
        }
        if self.example.is_none() {
            self.example = Some(path.clone());
        }
    }

    /// The share of requests that did not arrive; `None` if it is unknown, as of packets outside a sample.
    #[expect(clippy::cast_precision_loss, reason = "a share, of numbers far below 2^53")]
    fn loss(&self, summary: &Summary) -> Option<Range<f64>> {
        if self.all == 0 || !summary.complete || summary.sample.is_some() {
            return None;
        }
        let share = |number: u64| number as f64 / self.all as f64;
        Some(Range { least: share(self.lost), most: Some(share(self.lost + self.open)) })
    }
}
