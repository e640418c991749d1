//! Why a condition does not hold for a path: how far it is from holding, and the hop where they part.

use super::ast::{Condition, Fact, Row, Side, What};
use super::holds::{
    Sight, duration, fact_holds, final_drop, is_encapsulated, longest_step, names, passes, translation,
};
use super::truth::Truth;
use super::vocabulary;
use podtrace_path::{Direction, End, Path, Verdict};

/// How far a path is from what was expected of it: 0 if it is so, and 1 for every fact that is wholly otherwise.
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
    let truth = fact_holds(fact, path, Sight::Whole);
    match if wanted { truth } else { !truth } {
        Truth::Yes => 0.0,
        Truth::Open => 0.5,
        Truth::No => match &fact.what {
            What::Row(row, sequence) if wanted != fact.negated => {
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

/// Where a path parts from what was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parting {
    /// Index of the hop, if it is one hop's doing.
    pub(super) hop: Option<usize>,
    /// What was expected, as it was written.
    pub(super) expected: String,
    /// What there is instead.
    pub(super) found: String,
}

/// Where a path parts from what was expected of it; of alternatives, from the nearest.
pub(super) fn partings(condition: &Condition, path: &Path, wanted: bool) -> Vec<Parting> {
    let all = |parts: &[Condition]| parts.iter().flat_map(|part| partings(part, path, wanted)).collect();
    match condition {
        Condition::Fact(fact) => {
            let truth = fact_holds(fact, path, Sight::Whole);
            let so = if wanted { truth } else { !truth };
            if so == Truth::Yes { Vec::new() } else { vec![parting(fact, path, wanted, so)] }
        }
        Condition::Not(part) => partings(part, path, !wanted),
        Condition::And(parts) if wanted => all(parts),
        Condition::Or(parts) if !wanted => all(parts),
        Condition::And(parts) | Condition::Or(parts) => {
            let distances = parts.iter().map(|part| (distance(part, path, wanted), part));
            let nearest = distances.min_by(|a, b| a.0.total_cmp(&b.0));
            nearest.map_or_else(Vec::new, |(_, part)| partings(part, path, wanted))
        }
    }
}

fn parting(fact: &Fact, path: &Path, wanted: bool, so: Truth) -> Parting {
    let expected = if wanted { fact.text.clone() } else { format!("not {}", fact.text) };
    // Whether the thing itself is wanted, and not its opposite.
    let positive = wanted != fact.negated;
    let last = path.hops.len().checked_sub(1);
    let (hop, found) = match &fact.what {
        What::Verdict(_) => (last, verdict(path).to_owned()),
        What::End(Side::From, _) => (None, end(&path.from)),
        What::End(Side::To, _) => (None, end(&path.to)),
        What::Protocol(_) => (None, vocabulary::protocol_name(path.proto)),
        What::Direction(_) => (None, direction(path.flow.direction).to_owned()),
        What::Row(row, sequence) => {
            if positive {
                let real: Vec<_> = names(*row, path).collect();
                let followed = sequence.follow(real.iter().map(|(_, name)| *name));
                let next = followed.next.join(" or ");
                return match real.get(followed.names) {
                    Some((index, name)) => {
                        Parting { hop: Some(*index), expected: next, found: (*name).to_owned() }
                    }
                    None => Parting { hop: last, expected: next, found: "the end of the path".to_owned() },
                };
            }
            (None, row_text(*row, path))
        }
        What::Via(glob) => {
            let passed = path.hops.iter().position(|hop| passes(glob, hop));
            match passed {
                Some(index) => (Some(index), "it passes there".to_owned()),
                None => (None, row_text(Row::Devices, path)),
            }
        }
        What::Encapsulated => match path.hops.iter().position(is_encapsulated) {
            Some(index) => (Some(index), "a tunnel".to_owned()),
            None => (None, "no hop in a tunnel".to_owned()),
        },
        What::Nat(kind) => match translation(path, *kind) {
            Some(index) => (Some(index), "a translation".to_owned()),
            None => match translation(path, None) {
                Some(index) => (Some(index), "another translation".to_owned()),
                None => (None, "no translation".to_owned()),
            },
        },
        What::Drop(_) => match final_drop(path) {
            Some((index, reason)) => {
                (Some(index), reason.unwrap_or("a drop for which the kernel tells no reason").to_owned())
            }
            None => (last, verdict(path).to_owned()),
        },
        What::Hops(_, bound) => {
            let beyond = usize::try_from(*bound).ok().filter(|bound| *bound < path.hops.len());
            (beyond, format!("{} hops", path.hops.len()))
        }
        What::HopLatency(..) => match longest_step(path) {
            Some(step) => (Some(step.to), time(step.delta_ns, step.error_ns)),
            None => (None, "no two hops with a time".to_owned()),
        },
        What::Duration(..) => {
            let mut found = time(path.duration_ns, path.duration_error_ns);
            if duration(path, Sight::Whole).most.is_none() {
                found.push_str(" and still under way");
            }
            (last, found)
        }
        What::Confidence(..) => (None, format!("{:.2}", path.confidence)),
    };
    let found = match (so, &fact.what) {
        (Truth::Open, What::HopLatency(..) | What::Duration(..)) => format!("{found}, which leaves it open"),
        _ => found,
    };
    Parting { hop, expected, found }
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
        format!("{time:.decimals$} ±{bound:.decimals$} {symbol} by the clocks")
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
