//! Explains why a condition does not hold for a path: how far it is from holding, and at which hop they differ.

use super::ast::{Condition, Fact, Predicate, Row, Side};
use super::holds::{
    Coverage, duration, fact_holds, final_drop, is_encapsulated, longest_step, names, passes, translation,
};
use super::truth::Truth;
use super::vocabulary;
use podtrace_path::{Direction, End, Path, Verdict};

/// How far a path is from satisfying a condition: 0 if it does, plus up to 1 for each fact that does not hold.
pub(super) fn distance(condition: &Condition, path: &Path, wanted: bool) -> f64 {
    let parts =
        |parts: &[Condition]| -> Vec<f64> { parts.iter().map(|part| distance(part, path, wanted)).collect() };
    match condition {
        Condition::Fact(fact) => fact_distance(fact, path, wanted),
        Condition::Not(part) => distance(part, path, !wanted),
        Condition::And(all) if wanted => parts(all).iter().sum(),
        Condition::Or(all) if !wanted => parts(all).iter().sum(),
        Condition::And(any) | Condition::Or(any) => parts(any).into_iter().reduce(f64::min).unwrap_or(0.0),
    }
}

fn fact_distance(fact: &Fact, path: &Path, wanted: bool) -> f64 {
    let truth = fact_holds(fact, path, Coverage::Complete);
    match if wanted { truth } else { !truth } {
        Truth::Yes => 0.0,
        Truth::Open => 0.5,
        Truth::No => match &fact.predicate {
            Predicate::Row(row, sequence) if wanted != fact.negated => {
                let real: Vec<_> = names(*row, path).map(|(_, name)| name).collect();
                let followed = sequence.follow(real.iter().copied());
                let longer = real.len().max(sequence.names()) + 1;
                1.0 - ratio(followed.names, longer)
            }
            _ => 1.0,
        },
    }
}

#[expect(clippy::cast_precision_loss, reason = "numbers of hops, to order paths by")]
fn ratio(part: usize, whole: usize) -> f64 {
    part as f64 / whole as f64
}

/// Where a path differs from what was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    /// Index of the hop, if the difference is at one hop.
    pub(super) hop: Option<usize>,
    /// The expected fact, as written.
    pub(super) expected: String,
    /// What was found instead.
    pub(super) found: String,
}

/// Where a path differs from what was expected. For alternatives, the differences from the nearest one.
pub(super) fn differences(condition: &Condition, path: &Path, wanted: bool) -> Vec<Difference> {
    let all = |parts: &[Condition]| parts.iter().flat_map(|part| differences(part, path, wanted)).collect();
    match condition {
        Condition::Fact(fact) => {
            let truth = fact_holds(fact, path, Coverage::Complete);
            let so = if wanted { truth } else { !truth };
            if so == Truth::Yes { Vec::new() } else { vec![difference(fact, path, wanted, so)] }
        }
        Condition::Not(part) => differences(part, path, !wanted),
        Condition::And(parts) if wanted => all(parts),
        Condition::Or(parts) if !wanted => all(parts),
        Condition::And(parts) | Condition::Or(parts) => {
            let distances = parts.iter().map(|part| (distance(part, path, wanted), part));
            let nearest = distances.min_by(|a, b| a.0.total_cmp(&b.0));
            nearest.map_or_else(Vec::new, |(_, part)| differences(part, path, wanted))
        }
    }
}

fn difference(fact: &Fact, path: &Path, wanted: bool, so: Truth) -> Difference {
    let expected = if wanted { fact.text.clone() } else { format!("not {}", fact.text) };
    // Whether the predicate itself must hold, and not its negation.
    let positive = wanted != fact.negated;
    let last = path.hops.len().checked_sub(1);
    let (hop, found) = match &fact.predicate {
        Predicate::Verdict(_) => (last, verdict(path).to_owned()),
        Predicate::End(Side::From, _) => (None, end(&path.from)),
        Predicate::End(Side::To, _) => (None, end(&path.to)),
        Predicate::Protocol(_) => (None, vocabulary::protocol_name(path.proto)),
        Predicate::Direction(_) => (None, direction(path.flow.direction).to_owned()),
        Predicate::Row(row, sequence) => {
            if positive {
                let real: Vec<_> = names(*row, path).collect();
                let followed = sequence.follow(real.iter().map(|(_, name)| *name));
                let next = followed.next.join(" or ");
                return match real.get(followed.names) {
                    Some((index, name)) => {
                        Difference { hop: Some(*index), expected: next, found: (*name).to_owned() }
                    }
                    None => Difference { hop: last, expected: next, found: "the end of the path".to_owned() },
                };
            }
            (None, row_text(*row, path))
        }
        Predicate::Via(glob) => {
            let passed = path.hops.iter().position(|hop| passes(glob, hop));
            match passed {
                Some(index) => (Some(index), "the path passes it".to_owned()),
                None => (None, row_text(Row::Devices, path)),
            }
        }
        Predicate::Encapsulated => match path.hops.iter().position(is_encapsulated) {
            Some(index) => (Some(index), "a tunnel".to_owned()),
            None => (None, "no tunnel".to_owned()),
        },
        Predicate::Nat(kind) => match translation(path, *kind) {
            Some(index) => (Some(index), "a translation".to_owned()),
            None => match translation(path, None) {
                Some(index) => (Some(index), "another translation".to_owned()),
                None => (None, "no translation".to_owned()),
            },
        },
        Predicate::Drop(_) => match final_drop(path) {
            Some((index, reason)) => (Some(index), reason.unwrap_or("a drop without a reason").to_owned()),
            None => (last, verdict(path).to_owned()),
        },
        Predicate::Hops(_, bound) => {
            let beyond = usize::try_from(*bound).ok().filter(|bound| *bound < path.hops.len());
            (beyond, format!("{} hops", path.hops.len()))
        }
        Predicate::HopLatency(..) => match longest_step(path) {
            Some(step) => (Some(step.to), time(step.delta_ns, step.error_ns)),
            None => (None, "fewer than two hops with a time".to_owned()),
        },
        Predicate::Duration(..) => {
            let mut found = time(path.duration_ns, path.duration_error_ns);
            if duration(path, Coverage::Complete).most.is_none() {
                found.push_str(" and still in flight");
            }
            (last, found)
        }
        Predicate::Confidence(..) => (None, format!("{:.2}", path.confidence)),
    };
    let found = match (so, &fact.predicate) {
        (Truth::Open, Predicate::HopLatency(..) | Predicate::Duration(..)) => {
            format!("{found}, which is undecided")
        }
        _ => found,
    };
    Difference { hop, expected, found }
}

fn row_text(row: Row, path: &Path) -> String {
    let names: Vec<_> = names(row, path).map(|(_, name)| name).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(" > ") }
}

/// A time in a unit that reads well, with its error bound if it has one.
fn time(nanoseconds: i64, error: u64) -> String {
    let longest = nanoseconds.unsigned_abs().max(error);
    let (unit, symbol, decimals) = match longest {
        0..2_000_000 => (1e3, "µs", 1),
        2_000_000..2_000_000_000 => (1e6, "ms", 3),
        _ => (1e9, "s", 6),
    };
    #[expect(clippy::cast_precision_loss, reason = "for reading")]
    let (time, bound) = (nanoseconds as f64 / unit, error as f64 / unit);
    if error == 0 {
        format!("{time:.decimals$} {symbol}")
    } else {
        format!("{time:.decimals$} ±{bound:.decimals$} {symbol} clock error")
    }
}

fn end(end: &End) -> String {
    let address = end
        .port
        .map_or_else(|| end.ip.to_string(), |port| std::net::SocketAddr::new(end.ip, port).to_string());
    match (&end.pod, &end.node) {
        (Some(pod), _) => format!("{pod} {address}"),
        (None, Some(node)) => format!("node/{node} {address}"),
        (None, None) => address,
    }
}

/// Name of a verdict.
pub(super) fn verdict(path: &Path) -> &'static str {
    match path.verdict {
        Verdict::Delivered => "delivered",
        Verdict::Dropped => "dropped",
        Verdict::Vanished => "vanished",
        Verdict::Rejected => "rejected",
        Verdict::Open => "open",
    }
}

fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Request => "request",
        Direction::Reply => "reply",
    }
}
