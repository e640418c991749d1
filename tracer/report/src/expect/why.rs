//! Explains a failed expectation: what was expected, what was found, and a path that shows it.

use super::ast::{Claim, Condition, Counted};
use super::explain::{Difference, differences};
use super::judge::{ConditionTally, Counts, Tally};
use super::judgement::{Reason, Role, Shown};
use super::truth::{Comparison, Truth};
use crate::output::losses;
use podtrace_path::{Path, Sample, Summary};

/// Why the trace does not prove the expectation's claim.
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
            if let (Some(condition_tally), Some(counted)) =
                (tally.condition_tallies.get(*number), tally.expectation.conditions.get(*number))
            {
                let expression = &tally.expectation.text;
                let failure =
                    Failure { condition_tally, counted, expression, paths: tally.paths, summary, wanted };
                reasons.push(failure.reason(claim));
            }
        }
        Claim::Loss(comparison, bound) => reasons.push(loss(tally, *comparison, *bound, wanted, summary)),
        Claim::Complete if wanted => reasons.push(Reason::without_path(incomplete(summary))),
        Claim::Complete => reasons.push(Reason::without_path("the trace is complete".to_owned())),
    }
}

/// A claim about a condition that failed.
struct Failure<'a> {
    condition_tally: &'a ConditionTally,
    counted: &'a Counted,
    expression: &'a str,
    paths: u64,
    summary: &'a Summary,
    wanted: bool,
}

impl Failure<'_> {
    fn reason(&self, claim: &Claim) -> Reason {
        let condition = &self.counted.text;
        let counts = self.condition_tally.known(self.summary).0;
        let mut text = String::new();
        // Without this condition, if it is the whole expression, which is in the headline.
        if self.expression != condition && !self.counts_all() {
            text.push_str(&format!("{condition}: "));
        }
        text.push_str(&match claim {
            Claim::Count(..) if self.counts_all() => {
                format!("found {}; must{}", self.paths, self.target(claim))
            }
            Claim::All(_) | Claim::Any(_) | Claim::None(_) if self.paths == 0 => {
                "no path was seen".to_owned()
            }
            _ => format!("{}; must{}", holds_for(counts, self.paths), self.target(claim)),
        });
        if self.paths == 0 || self.condition_tally.known(self.summary).1 {
            self.append_losses(&mut text);
        }
        Reason { text, shown: self.shown(claim).map(Box::new) }
    }

    /// For how many paths it must hold: what follows "must".
    fn target(&self, claim: &Claim) -> String {
        match (claim, self.wanted) {
            (Claim::All(_), true) => " hold for every path".to_owned(),
            (Claim::All(_), false) => " not hold for every path".to_owned(),
            (Claim::None(_), true) | (Claim::Any(_), false) => " hold for no path".to_owned(),
            (Claim::Any(_), true) | (Claim::None(_), false) => " hold for at least one path".to_owned(),
            (Claim::Count(_, comparison, bound), wanted) => {
                let not = if wanted { "" } else { " not" };
                let verb = if self.counts_all() { "be" } else { "hold for" };
                format!("{not} {verb} {} {bound}", words(*comparison))
            }
            _ => String::new(),
        }
    }

    /// Whether the claim is `paths`, which counts all of them.
    fn counts_all(&self) -> bool {
        self.counted.condition == Condition::And(Vec::new())
    }

    fn append_losses(&self, text: &mut String) {
        append_unknown(text, self.summary);
    }

    /// The path to show: one that must match and does not, or one that matches and must not.
    fn shown(&self, claim: &Claim) -> Option<Shown> {
        let too_many = match claim {
            Claim::None(_) => self.wanted,
            Claim::Any(_) => !self.wanted,
            Claim::All(_) => !self.wanted,
            Claim::Count(_, comparison, bound) => {
                let counted = self.condition_tally.whole.yes;
                match comparison {
                    Comparison::Less | Comparison::AtMost => self.wanted,
                    Comparison::Greater | Comparison::AtLeast => !self.wanted,
                    Comparison::Equal | Comparison::Unequal => counted > *bound,
                }
            }
            _ => false,
        };
        if too_many {
            let path = self.condition_tally.example.as_ref()?;
            return Some(Shown {
                role: Role::Example,
                differences: differences(&self.counted.condition, path, false),
                path: path.clone(),
            });
        }
        let (_, path) = self.condition_tally.nearest.as_ref()?;
        let differences = differences(&self.counted.condition, path, true);
        Some(Shown { role: Role::Nearest, differences, path: path.clone() })
    }
}

fn loss(tally: &Tally, comparison: Comparison, bound: f64, wanted: bool, summary: &Summary) -> Reason {
    let requests = &tally.requests;
    let not = if wanted { "" } else { "not " };
    let target = format!("loss must {not}be {} {}", words(comparison), percent(bound));
    if requests.all == 0 {
        return Reason::without_path(format!("no request was seen; {target}"));
    }
    #[expect(clippy::cast_precision_loss, reason = "for reading")]
    let share = percent(requests.lost as f64 / requests.all as f64);
    let mut text =
        format!("{} of {} did not arrive ({share})", requests.lost, number(requests.all, "request"));
    if requests.open > 0 {
        text.push_str(&format!(", {} still in flight", number_are(requests.open)));
    }
    text.push_str(&format!("; {target}"));
    append_unknown(&mut text, summary);
    let shown = requests.example.as_ref().map(|path| Shown {
        role: Role::Example,
        differences: vec![not_arrived(path)],
        path: path.clone(),
    });
    Reason { text, shown: shown.map(Box::new) }
}

/// Why there may be more than was seen.
fn append_unknown(text: &mut String, summary: &Summary) {
    if let Some(Sample { one_in, .. }) = summary.sample {
        text.push_str(&format!("; sampled 1 in {one_in}: what other packets did is unknown"));
    }
    if !summary.complete {
        text.push_str(&format!("; {}", incomplete(summary)));
    }
}

fn not_arrived(path: &Path) -> Difference {
    Difference {
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
        (1, _, 1) => "undecided for the only path".to_owned(),
        (1, ..) => "does not hold for the only path".to_owned(),
        _ => {
            let holds = match yes {
                0 => format!("holds for none of {total} paths"),
                all if all == total => format!("holds for all {total} paths"),
                some => format!("holds for {some} of {total} paths"),
            };
            if open == 0 { holds } else { format!("{holds}, undecided for {open}") }
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
