//! Why an expectation was not held: what was expected, what there was, and the path that shows it.

use super::ast::{Claim, Condition, Counted};
use super::explain::{Parting, partings};
use super::judge::{Counts, Gauge, Tally};
use super::judgement::{Reason, Role, Shown};
use super::truth::{Comparison, Truth};
use crate::output::losses;
use podtrace_path::{Path, Summary};

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
                let expression = &tally.expectation.text;
                let told = Told { gauge, counted, expression, paths: tally.paths, summary, wanted };
                reasons.push(told.reason(claim));
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
    expression: &'a str,
    paths: u64,
    summary: &'a Summary,
    wanted: bool,
}

impl Told<'_> {
    fn reason(&self, claim: &Claim) -> Reason {
        let condition = &self.counted.text;
        let counts = self.gauge.known(self.summary).0;
        let mut text = String::new();
        // The headline says it already, if it is all that was expected.
        if self.expression != condition && !self.counts_all() {
            text.push_str(&format!("{condition}: "));
        }
        text.push_str(&match claim {
            Claim::Count(..) if self.counts_all() => {
                format!("there are {}, and should be{}", self.paths, self.target(claim))
            }
            Claim::All(_) | Claim::Any(_) | Claim::None(_) if self.paths == 0 => {
                "no path was seen".to_owned()
            }
            _ => format!("{}, and should{}", holds_for(counts, self.paths), self.target(claim)),
        });
        if self.paths == 0 || self.gauge.known(self.summary).1 {
            self.append_losses(&mut text);
        }
        Reason { text, shown: self.shown(claim).map(Box::new) }
    }

    /// For how many it should hold.
    fn target(&self, claim: &Claim) -> String {
        match (claim, self.wanted) {
            (Claim::All(_), true) => " for every one".to_owned(),
            (Claim::All(_), false) => " not for every one".to_owned(),
            (Claim::None(_), true) | (Claim::Any(_), false) => " for none".to_owned(),
            (Claim::Any(_), true) | (Claim::None(_), false) => " for one at least".to_owned(),
            (Claim::Count(_, comparison, bound), wanted) => {
                let not = if wanted { "" } else { " not" };
                let of = if self.counts_all() { "" } else { " for" };
                format!("{not}{of} {} {bound}", words(*comparison))
            }
            _ => String::new(),
        }
    }

    /// Whether paths are counted as such, by a condition that says nothing of them.
    fn counts_all(&self) -> bool {
        self.counted.condition == Condition::And(Vec::new())
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
    let target = format!("loss should {not}be {} {}", words(comparison), percent(bound));
    if requests.all == 0 {
        return Reason::without_path(format!("no request was seen, and {target}"));
    }
    #[expect(clippy::cast_precision_loss, reason = "for reading")]
    let share = percent(requests.lost as f64 / requests.all as f64);
    let mut text =
        format!("{} of {} did not arrive ({share})", requests.lost, number(requests.all, "request"));
    if requests.open > 0 {
        text.push_str(&format!(", {} still under way", number_are(requests.open)));
    }
    text.push_str(&format!(", and {target}"));
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

fn holds_for(counts: Counts, total: u64) -> String {
    let Counts { yes, open, no: _ } = counts;
    match (total, yes, open) {
        (1, 1, _) => "holds for the only path".to_owned(),
        (1, _, 1) => "cannot be told for the only path".to_owned(),
        (1, ..) => "does not hold for the only path".to_owned(),
        _ => {
            let holds = match yes {
                0 => format!("holds for none of {total} paths"),
                all if all == total => format!("holds for all {total} paths"),
                some => format!("holds for {some} of {total} paths"),
            };
            if open == 0 { holds } else { format!("{holds}, cannot be told for {open}") }
        }
    }
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
