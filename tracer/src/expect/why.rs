//! Why an expectation was not held: what was expected, what there was, and the path that shows it.

use super::ast::{Claim, Condition, Counted};
use super::explain::{Parting, partings};
use super::judge::{Gauge, Tally};
use super::judgement::{Reason, Role, Shown};
use super::truth::{Comparison, Truth};
use crate::path::{Path, Summary};
use crate::report::losses;

/// Why the trace does not show the expectation's claim.
pub(super) fn reasons(tally: &Tally, summary: &Summary) -> Vec<Reason> {
    let mut reasons = Vec::new();
    collect(tally, &tally.expectation.claim, true, summary, &mut reasons);
    reasons
}

fn collect(tally: &Tally, claim: &Claim, wanted: bool, summary: &Summary, reasons: &mut Vec<Reason>) {
    let truth = tally.truth(claim, summary);
    if (if wanted { truth } else { !truth }) == Truth::Yes {
        return;
    }
    match claim {
        Claim::And(parts) | Claim::Or(parts) => {
            for part in parts {
                collect(tally, part, wanted, summary, reasons);
            }
        }
        Claim::Not(part) => collect(tally, part, !wanted, summary, reasons),
        Claim::All(number) | Claim::Any(number) | Claim::None(number) | Claim::Count(number, ..) => {
            if let (Some(gauge), Some(counted)) =
                (tally.gauges.get(*number), tally.expectation.conditions.get(*number))
            {
                let told = Told { gauge, counted, paths: tally.paths, summary, wanted };
                reasons.push(told.reason(claim, truth));
            }
        }
        Claim::Loss(comparison, bound) => reasons.push(loss(tally, *comparison, *bound, wanted, summary)),
        Claim::Complete if wanted => reasons.push(Reason::without_path(incomplete(summary))),
        Claim::Complete => reasons.push(Reason::without_path("the trace is complete".to_owned())),
    }
}

/// What there is to tell of a quantified condition.
struct Told<'a> {
    gauge: &'a Gauge,
    counted: &'a Counted,
    paths: u64,
    summary: &'a Summary,
    wanted: bool,
}

impl Told<'_> {
    fn reason(&self, claim: &Claim, truth: Truth) -> Reason {
        if self.paths == 0 && !matches!(claim, Claim::Count(..)) {
            let mut text = format!("{}: no path was seen", self.expected(claim));
            self.append_losses(&mut text);
            return Reason::without_path(text);
        }
        let counts = self.gauge.known(self.summary).0;
        let total = self.paths;
        let mut text = match claim {
            _ if !self.wanted => format!("{}: it is so", self.expected(claim)),
            Claim::All(_) => {
                format!("{}, but of {} it is not so", self.expected(claim), share(counts.no, total))
            }
            Claim::Any(_) => format!("{}: it is so of {}", self.expected(claim), share(counts.yes, total)),
            _ => format!("{}, but it is so of {}", self.expected(claim), share(counts.yes, total)),
        };
        if truth == Truth::Open {
            text = format!("{}, which is open", self.expected(claim));
            if counts.yes + counts.no > 0 {
                text.push_str(&format!(": it is so of {}", share(counts.yes, total)));
                if counts.no > 0 {
                    text.push_str(&format!(" and not so of {}", counts.no));
                }
            }
        }
        if counts.open > 0 {
            text.push_str(&format!("; of {} it cannot be told", share(counts.open, total)));
        }
        if truth == Truth::Open {
            self.append_losses(&mut text);
        }
        Reason { text, shown: self.shown(claim).map(Box::new) }
    }

    fn expected(&self, claim: &Claim) -> String {
        let Counted { text, condition } = self.counted;
        let of = match claim {
            Claim::All(_) => "expected of every path",
            Claim::Any(_) => "expected of one path at least",
            Claim::None(_) => "expected of no path",
            Claim::Count(_, comparison, bound) => {
                let number = format!("{} {}", words(*comparison), plural(*bound));
                let not = if self.wanted { "" } else { "not " };
                return if *condition == Condition::And(Vec::new()) {
                    format!("expected {not}{number}")
                } else {
                    format!("expected {not}of {number}: {text}")
                };
            }
            _ => "expected",
        };
        let not = if self.wanted { "" } else { "not " };
        format!("{not}{of}: {text}")
    }

    fn append_losses(&self, text: &mut String) {
        if !self.summary.complete {
            text.push_str(&format!("; {}", incomplete(self.summary)));
        }
    }

    /// The path to show: one that ought to be so and is not, or one that is and ought not to be.
    fn shown(&self, claim: &Claim) -> Option<Shown> {
        let too_many = match claim {
            Claim::None(_) => self.wanted,
            Claim::Any(_) => !self.wanted,
            Claim::All(_) => !self.wanted,
            Claim::Count(_, comparison, bound) => {
                let counted = self.gauge.whole.yes;
                match comparison {
                    Comparison::Less | Comparison::AtMost => self.wanted,
                    Comparison::Greater | Comparison::AtLeast => !self.wanted,
                    Comparison::Equal | Comparison::Unequal => counted > *bound,
                }
            }
            _ => false,
        };
        if too_many {
            let path = self.gauge.example.as_ref()?;
            return Some(Shown {
                role: Role::Example,
                partings: partings(&self.counted.condition, path, false),
                path: path.clone(),
            });
        }
        let (_, path) = self.gauge.nearest.as_ref()?;
        let partings = partings(&self.counted.condition, path, true);
        Some(Shown { role: Role::Nearest, partings, path: path.clone() })
    }
}

fn loss(tally: &Tally, comparison: Comparison, bound: f64, wanted: bool, summary: &Summary) -> Reason {
    let requests = &tally.requests;
    let not = if wanted { "" } else { "not " };
    let expected = format!("expected {not}a loss of {} {}", words(comparison), percent(bound));
    if requests.all == 0 {
        return Reason::without_path(format!("{expected}: no request was seen"));
    }
    let mut text =
        format!("{expected}: {} of {} did not arrive", requests.lost, number(requests.all, "request"));
    #[expect(clippy::cast_precision_loss, reason = "for reading")]
    let share = requests.lost as f64 / requests.all as f64;
    text.push_str(&format!(" ({})", percent(share)));
    if requests.open > 0 {
        text.push_str(&format!(", {} still under way", number_are(requests.open)));
    }
    if !summary.complete {
        text.push_str(&format!("; {}", incomplete(summary)));
    }
    let shown = requests.example.as_ref().map(|path| Shown {
        role: Role::Example,
        partings: vec![not_arrived(path)],
        path: path.clone(),
    });
    Reason { text, shown: shown.map(Box::new) }
}

fn not_arrived(path: &Path) -> Parting {
    Parting {
        hop: path.hops.len().checked_sub(1),
        expected: "delivered".to_owned(),
        found: super::explain::verdict(path).to_owned(),
    }
}

fn incomplete(summary: &Summary) -> String {
    losses(summary).unwrap_or_else(|| "this trace is incomplete".to_owned())
}

fn share(part: u64, whole: u64) -> String {
    match part {
        0 => format!("none of {}", plural(whole)),
        part if part == whole && whole > 1 => format!("all of {}", plural(whole)),
        part => format!("{part} of {}", plural(whole)),
    }
}

fn plural(paths: u64) -> String {
    number(paths, "path")
}

fn number(number: u64, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

fn number_are(number: u64) -> String {
    if number == 1 { "1 is".to_owned() } else { format!("{number} are") }
}

fn percent(share: f64) -> String {
    let percent = share * 100.0;
    let text = format!("{percent:.2}");
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

fn words(comparison: Comparison) -> &'static str {
    match comparison {
        Comparison::Equal => "exactly",
        Comparison::Unequal => "other than",
        Comparison::Less => "less than",
        Comparison::AtMost => "at most",
        Comparison::Greater => "more than",
        Comparison::AtLeast => "at least",
    }
}
