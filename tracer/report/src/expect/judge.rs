//! Judging a trace, path by path: numbers are kept, and of the paths only those that will be shown.

use super::Expectation;
use super::ast::{Claim, Counted};
use super::explain::distance;
use super::holds::{Sight, holds};
use super::judgement::Judgement;
use super::truth::{Range, Truth};
use super::why;
use podtrace_path::{Direction, Path, Summary, Verdict};

/// Judges a trace by expectations, each on its own.
#[derive(Clone, Debug)]
pub struct Judge {
    tallies: Vec<Tally>,
}

impl Judge {
    /// A judge who has seen nothing yet.
    #[must_use]
    pub fn new(expectations: Vec<Expectation>) -> Self {
        Self { tallies: expectations.into_iter().map(Tally::new).collect() }
    }

    /// Whether there is nothing to judge by.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.tallies.is_empty()
    }

    /// The expectations, as they were written.
    pub fn expressions(&self) -> impl Iterator<Item = &str> {
        self.tallies.iter().map(|tally| tally.expectation.text.as_str())
    }

    /// Takes a path into account.
    pub fn path(&mut self, path: &Path) {
        for tally in &mut self.tallies {
            tally.path(path);
        }
    }

    /// Judges what was seen, in the order in which the expectations were given.
    #[must_use]
    pub fn summary(&self, summary: &Summary) -> Vec<Judgement> {
        self.tallies.iter().map(|tally| tally.judge(summary)).collect()
    }
}

/// What is known of a trace as to one expectation.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    pub(super) expectation: Expectation,
    /// One for each of the expectation's conditions.
    pub(super) gauges: Vec<Gauge>,
    pub(super) requests: Requests,
    pub(super) paths: u64,
}

/// How the paths stand to one condition.
#[derive(Clone, Debug, Default)]
pub(super) struct Gauge {
    /// If all of every path was seen.
    pub(super) whole: Counts,
    /// If events were lost.
    pub(super) gaps: Counts,
    /// The path for which it does not hold that comes nearest to it.
    pub(super) nearest: Option<(f64, Path)>,
    /// The first path for which it holds.
    pub(super) example: Option<Path>,
}

/// Paths by what is known of them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) yes: u64,
    pub(super) open: u64,
    pub(super) no: u64,
}

/// What became of requests.
#[derive(Clone, Debug, Default)]
pub(super) struct Requests {
    pub(super) all: u64,
    /// Dropped, vanished or rejected.
    pub(super) lost: u64,
    /// Still under way.
    pub(super) open: u64,
    /// The first one that did not arrive.
    pub(super) example: Option<Path>,
}

impl Tally {
    fn new(expectation: Expectation) -> Self {
        let gauges = expectation.conditions.iter().map(|_| Gauge::default()).collect();
        Self { expectation, gauges, requests: Requests::default(), paths: 0 }
    }

    fn path(&mut self, path: &Path) {
        self.paths += 1;
        self.requests.path(path);
        for (gauge, counted) in self.gauges.iter_mut().zip(&self.expectation.conditions) {
            gauge.path(counted, path);
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

    /// Whether the trace shows a claim. What lost events leaves more open than what did not.
    pub(super) fn truth(&self, claim: &Claim, summary: &Summary) -> Truth {
        match claim {
            // Who saw nothing has neither shown nor refuted what is said of every path.
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

    /// What a condition's numbers decide; the second value is whether there may have been more.
    fn quantified(
        &self,
        number: usize,
        summary: &Summary,
        decide: impl FnOnce(Counts, bool) -> Truth,
    ) -> Truth {
        self.gauges.get(number).map_or(Truth::Open, |gauge| {
            let (counts, more) = gauge.known(summary);
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

impl Gauge {
    fn path(&mut self, counted: &Counted, path: &Path) {
        let truth = holds(&counted.condition, path, Sight::Whole);
        self.whole.add(truth);
        self.gaps.add(holds(&counted.condition, path, Sight::Gaps));
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

    /// How many paths are certainly so, and whether there may have been more than those.
    pub(super) fn known(&self, summary: &Summary) -> (Counts, bool) {
        if summary.complete { (self.whole, false) } else { (self.gaps, true) }
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

    /// The share that did not arrive; `None` if that cannot be told at all.
    #[expect(clippy::cast_precision_loss, reason = "a share, of numbers far below 2^53")]
    fn loss(&self, summary: &Summary) -> Option<Range<f64>> {
        if self.all == 0 || !summary.complete {
            return None;
        }
        let share = |number: u64| number as f64 / self.all as f64;
        Some(Range { least: share(self.lost), most: Some(share(self.lost + self.open)) })
    }
}
