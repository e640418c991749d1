//! Decides whether a condition holds for a path.
//!
//! Input: a condition, a path, and whether the trace is complete. Output: a [`Truth`] of three values.

use std::net::IpAddr;

use super::ast::{Condition, EndpointPattern, Fact, Predicate, Row, Side};
use super::truth::{Range, Truth};
use super::vocabulary;
use podtrace_path::{Action, End, Hop, NatKind, Path, Verdict};

/// Whether all hops of a path were observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coverage {
    /// All of them.
    Complete,
    /// The trace lost events: there may be more hops, and the path may have ended differently.
    Incomplete,
}

impl Coverage {
    /// What was observed is certain; its absence is not, if hops may be missing.
    fn seen(self, seen: bool) -> Truth {
        match (seen, self) {
            (true, _) => Truth::Yes,
            (false, Self::Complete) => Truth::No,
            (false, Self::Incomplete) => Truth::Open,
        }
    }
}

/// Whether a condition holds.
pub(super) fn holds(condition: &Condition, path: &Path, coverage: Coverage) -> Truth {
    match condition {
        Condition::Fact(fact) => fact_holds(fact, path, coverage),
        Condition::And(parts) => Truth::all(parts.iter().map(|part| holds(part, path, coverage))),
        Condition::Or(parts) => Truth::any(parts.iter().map(|part| holds(part, path, coverage))),
        Condition::Not(part) => !holds(part, path, coverage),
    }
}

/// Whether a fact holds.
pub(super) fn fact_holds(fact: &Fact, path: &Path, coverage: Coverage) -> Truth {
    let truth = predicate_holds(&fact.predicate, path, coverage);
    if fact.negated { !truth } else { truth }
}

fn predicate_holds(predicate: &Predicate, path: &Path, coverage: Coverage) -> Truth {
    match predicate {
        Predicate::Verdict(verdict) => match (path.verdict, coverage) {
            // The path may have got further than observed.
            (Verdict::Vanished | Verdict::Open, Coverage::Incomplete) => Truth::Open,
            (real, _) => Truth::of(real == *verdict),
        },
        Predicate::End(side, pattern) => Truth::of(endpoint_matches(pattern, *side, path)),
        Predicate::Protocol(protocol) => Truth::of(path.proto == *protocol),
        Predicate::Direction(direction) => Truth::of(path.flow.direction == *direction),
        Predicate::Row(row, sequence) => match coverage {
            Coverage::Incomplete => Truth::Open,
            Coverage::Complete => Truth::of(sequence.follow(names(*row, path).map(|(_, name)| name)).wholly),
        },
        Predicate::Via(glob) => coverage.seen(path.hops.iter().any(|hop| passes(glob, hop))),
        Predicate::Encapsulated => coverage.seen(path.hops.iter().any(is_encapsulated)),
        Predicate::Nat(kind) => coverage.seen(translation(path, *kind).is_some()),
        Predicate::Drop(glob) => match final_drop(path) {
            Some((_, Some(reason))) => Truth::of(glob.matches(reason)),
            // This kernel reports no reasons.
            Some((_, None)) => Truth::Open,
            None => coverage.seen(false),
        },
        Predicate::Hops(comparison, bound) => hops(path, coverage).compare(*comparison, *bound),
        Predicate::HopLatency(comparison, bound) => match (coverage, longest_step(path)) {
            (Coverage::Complete, Some(step)) => step.range.compare(*comparison, *bound),
            _ => Truth::Open,
        },
        Predicate::Duration(comparison, bound) => duration(path, coverage).compare(*comparison, *bound),
        Predicate::Confidence(comparison, bound) => {
            // Packets that were not observed might match, too.
            let least = if coverage == Coverage::Incomplete { 0.0 } else { path.confidence };
            Range { least, most: Some(path.confidence) }.compare(*comparison, *bound)
        }
    }
}

fn hops(path: &Path, coverage: Coverage) -> Range<u64> {
    let seen = path.hops.len() as u64;
    if coverage == Coverage::Complete { Range::exactly(seen) } else { Range::from(seen) }
}

/// Duration of the path in nanoseconds, within the clock error.
pub(super) fn duration(path: &Path, coverage: Coverage) -> Range<i64> {
    let error = i64::try_from(path.duration_error_ns).unwrap_or(i64::MAX);
    let least = path.duration_ns.saturating_sub(error);
    // An open path will take longer than it has so far.
    let over = path.verdict != Verdict::Open
        && (coverage == Coverage::Complete || path.verdict == Verdict::Delivered);
    Range { least, most: over.then(|| path.duration_ns.saturating_add(error)) }
}

/// The longest time between two hops.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct LongestStep {
    /// Index of the later hop.
    pub(super) to: usize,
    pub(super) delta_ns: i64,
    pub(super) error_ns: u64,
    /// Range of the longest time, whichever step it is.
    pub(super) range: Range<i64>,
}

/// The longest time between two hops with a time; `None` if there are not two.
pub(super) fn longest_step(path: &Path) -> Option<LongestStep> {
    let mut before: Option<(&Hop, i64)> = None;
    let mut longest: Option<LongestStep> = None;
    for (index, hop) in path.hops.iter().enumerate() {
        let Some(at) = hop.at_ns else { continue };
        if let Some((earlier, earlier_at)) = before {
            let delta_ns = at.saturating_sub(earlier_at);
            // Each error is relative to the first hop's clock; between two other clocks they add up.
            let error_ns = if earlier.node == hop.node {
                0
            } else {
                earlier.clock_error_ns.saturating_add(hop.clock_error_ns)
            };
            let error = i64::try_from(error_ns).unwrap_or(i64::MAX);
            let (least, most) = (delta_ns.saturating_sub(error), delta_ns.saturating_add(error));
            let step =
                LongestStep { to: index, delta_ns, error_ns, range: Range { least, most: Some(most) } };
            longest = Some(match longest {
                None => step,
                Some(known) => {
                    let longer = if most > known.range.most.unwrap_or(i64::MAX) { step } else { known };
                    let range =
                        Range { least: known.range.least.max(least), most: known.range.most.max(Some(most)) };
                    LongestStep { range, ..longer }
                }
            });
        }
        before = Some((hop, at));
    }
    longest
}

/// The names in a path's list of devices, nodes or actions, each with the index of its hop. Consecutive hops at the same
/// device or node count once.
pub(super) fn names(row: Row, path: &Path) -> impl Iterator<Item = (usize, &str)> {
    let mut before: Option<(&str, &str)> = None;
    path.hops.iter().enumerate().filter_map(move |(index, hop)| {
        let name = match row {
            Row::Devices => hop.device.as_deref()?,
            Row::Nodes => &hop.node,
            Row::Actions => return Some((index, vocabulary::action(hop.action))),
        };
        let place = (&*hop.node, name);
        (before.replace(place) != Some(place)).then_some((index, name))
    })
}

/// Whether a hop is at a device or node of this name.
pub(super) fn passes(glob: &wildmatch::WildMatch, hop: &Hop) -> bool {
    glob.matches(&hop.node) || hop.device.as_deref().is_some_and(|device| glob.matches(device))
}

/// Whether the packet is in a tunnel at this hop.
pub(super) fn is_encapsulated(hop: &Hop) -> bool {
    hop.outer.is_some() || matches!(hop.action, Action::Encapsulate | Action::Decapsulate)
}

/// Index of the hop where the packet was translated, in this way or any: by an observed translation, or by different
/// addresses at two hops.
pub(super) fn translation(path: &Path, kind: Option<NatKind>) -> Option<usize> {
    let mut before: Option<&Hop> = None;
    path.hops.iter().position(|hop| {
        let earlier = before.replace(hop);
        if let Some(nat) = &hop.nat {
            return kind.is_none_or(|kind| nat.kind == kind);
        }
        let Some(earlier) = earlier else { return false };
        let (old, new) = (&earlier.tuple, &hop.tuple);
        let source = (old.src, old.sport) != (new.src, new.sport);
        let destination = (old.dst, old.dport) != (new.dst, new.dport);
        match kind {
            None => source || destination,
            Some(kind) => (source && kind == NatKind::Snat) || (destination && kind == NatKind::Dnat),
        }
    })
}

/// Index of the hop at which the packet was dropped, and why.
pub(super) fn final_drop(path: &Path) -> Option<(usize, Option<&str>)> {
    if path.verdict != Verdict::Dropped {
        return None;
    }
    let found = path.hops.iter().rposition(|hop| hop.drop.is_some());
    let reason = found.and_then(|index| path.hops[index].drop.as_ref()?.reason.as_deref());
    Some((found.unwrap_or(path.hops.len().saturating_sub(1)), reason.or(path.reason.as_deref())))
}

/// Whether an endpoint of the path matches: by its own address, or by the packet's address at that end of the path, which NAT
/// may have changed.
fn endpoint_matches(pattern: &EndpointPattern, side: Side, path: &Path) -> bool {
    let (end, hop) = match side {
        Side::From => (&path.from, path.hops.last()),
        Side::To => (&path.to, path.hops.first()),
    };
    let addressed = hop.map(|hop| match side {
        Side::From => (hop.tuple.src, hop.tuple.sport),
        Side::To => (hop.tuple.dst, hop.tuple.dport),
    });
    let has_address = |ip: IpAddr, port: Option<u16>| {
        let fits = |(own, own_port): (IpAddr, Option<u16>)| {
            own == ip && port.is_none_or(|port| own_port == Some(port))
        };
        fits((end.ip, end.port)) || addressed.is_some_and(fits)
    };
    match pattern {
        EndpointPattern::Anyone => true,
        EndpointPattern::Pod { namespace, name } => pod(end).is_some_and(|(own_namespace, own_name)| {
            namespace.as_ref().is_none_or(|glob| glob.matches(own_namespace)) && name.matches(own_name)
        }),
        EndpointPattern::Node(name) => end.pod.is_none() && end.node.as_deref() == Some(name),
        EndpointPattern::Address { ip, port } => has_address(*ip, *port),
        EndpointPattern::Service(service) => {
            service.addresses.iter().any(|ip| has_address(*ip, service.port))
                || end.pod.as_deref().is_some_and(|pod| service.pods.iter().any(|name| name == pod))
        }
    }
}

fn pod(end: &End) -> Option<(&str, &str)> {
    end.pod.as_deref()?.split_once('/')
}
