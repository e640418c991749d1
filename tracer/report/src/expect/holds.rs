//! Whether a condition holds for a path.

use std::net::IpAddr;

use super::ast::{Condition, Fact, Row, Side, What, Who};
use super::truth::{Range, Truth};
use super::vocabulary;
use podtrace_path::{Action, End, Hop, NatKind, Path, Verdict};

/// How much of a path is there to be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// All of it.
    Whole,
    /// The trace lost events: there may have been more hops, and the path may have ended otherwise than it seems.
    Gaps,
}

impl Sight {
    /// What was seen is certain; that something was not seen is not.
    fn seen(self, seen: bool) -> Truth {
        match (seen, self) {
            (true, _) => Truth::Yes,
            (false, Self::Whole) => Truth::No,
            (false, Self::Gaps) => Truth::Open,
        }
    }
}

/// Whether a condition holds.
pub(super) fn holds(condition: &Condition, path: &Path, sight: Sight) -> Truth {
    match condition {
        Condition::Fact(fact) => fact_holds(fact, path, sight),
        Condition::And(parts) => Truth::all(parts.iter().map(|part| holds(part, path, sight))),
        Condition::Or(parts) => Truth::any(parts.iter().map(|part| holds(part, path, sight))),
        Condition::Not(part) => !holds(part, path, sight),
    }
}

/// Whether a fact holds.
pub(super) fn fact_holds(fact: &Fact, path: &Path, sight: Sight) -> Truth {
    let truth = what_holds(&fact.what, path, sight);
    if fact.negated { !truth } else { truth }
}

fn what_holds(what: &What, path: &Path, sight: Sight) -> Truth {
    match what {
        What::Verdict(verdict) => match (path.verdict, sight) {
            // Where it seems to have stopped, it may have gone on unseen.
            (Verdict::Vanished | Verdict::Open, Sight::Gaps) => Truth::Open,
            (real, _) => Truth::of(real == *verdict),
        },
        What::End(side, who) => Truth::of(is(who, *side, path)),
        What::Protocol(protocol) => Truth::of(path.proto == *protocol),
        What::Direction(direction) => Truth::of(path.flow.direction == *direction),
        What::Row(row, sequence) => match sight {
            Sight::Gaps => Truth::Open,
            Sight::Whole => Truth::of(sequence.follow(names(*row, path).map(|(_, name)| name)).wholly),
        },
        What::Via(glob) => sight.seen(path.hops.iter().any(|hop| passes(glob, hop))),
        What::Encapsulated => sight.seen(path.hops.iter().any(is_encapsulated)),
        What::Nat(kind) => sight.seen(translation(path, *kind).is_some()),
        What::Drop(glob) => match final_drop(path) {
            Some((_, Some(reason))) => Truth::of(glob.matches(reason)),
            // This kernel gives no reasons.
            Some((_, None)) => Truth::Open,
            None => sight.seen(false),
        },
        What::Hops(comparison, bound) => hops(path, sight).compare(*comparison, *bound),
        What::HopLatency(comparison, bound) => match (sight, longest_step(path)) {
            (Sight::Whole, Some(step)) => step.range.compare(*comparison, *bound),
            _ => Truth::Open,
        },
        What::Duration(comparison, bound) => duration(path, sight).compare(*comparison, *bound),
        What::Confidence(comparison, bound) => {
            // Packets that were not seen might have fitted as well.
            let least = if sight == Sight::Gaps { 0.0 } else { path.confidence };
            Range { least, most: Some(path.confidence) }.compare(*comparison, *bound)
        }
    }
}

fn hops(path: &Path, sight: Sight) -> Range<u64> {
    let seen = path.hops.len() as u64;
    if sight == Sight::Whole { Range::exactly(seen) } else { Range::from(seen) }
}

/// How long the path took, as far as the clocks tell.
pub(super) fn duration(path: &Path, sight: Sight) -> Range<i64> {
    let error = i64::try_from(path.duration_error_ns).unwrap_or(i64::MAX);
    let least = path.duration_ns.saturating_sub(error);
    // A path that is under way takes longer than it took.
    let over = path.verdict != Verdict::Open && (sight == Sight::Whole || path.verdict == Verdict::Delivered);
    Range { least, most: over.then(|| path.duration_ns.saturating_add(error)) }
}

/// The longest time between two hops.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct LongestStep {
    /// Index of the hop that it led to.
    pub(super) to: usize,
    pub(super) delta_ns: i64,
    pub(super) error_ns: u64,
    /// Between these it lies, whichever step it really was.
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
            // Both errors are against the first hop's clock: between two others they add up.
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

/// The names in a row, each with the index of its hop. Hops one after the other at one device or node are one
/// there, however many observations were made.
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

/// Whether a packet travels in a tunnel here.
pub(super) fn is_encapsulated(hop: &Hop) -> bool {
    hop.outer.is_some() || matches!(hop.action, Action::Encapsulate | Action::Decapsulate)
}

/// Index of the hop where the packet is translated, in this way or any: told by the kernel, or by the addresses of
/// two hops.
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

/// Whether an end is this one: by its own address, or by the one that the packet bears at that end, which NAT makes
/// another.
fn is(who: &Who, side: Side, path: &Path) -> bool {
    let (end, hop) = match side {
        Side::From => (&path.from, path.hops.last()),
        Side::To => (&path.to, path.hops.first()),
    };
    let addressed = hop.map(|hop| match side {
        Side::From => (hop.tuple.src, hop.tuple.sport),
        Side::To => (hop.tuple.dst, hop.tuple.dport),
    });
    let bears = |ip: IpAddr, port: Option<u16>| {
        let fits = |(own, own_port): (IpAddr, Option<u16>)| {
            own == ip && port.is_none_or(|port| own_port == Some(port))
        };
        fits((end.ip, end.port)) || addressed.is_some_and(fits)
    };
    match who {
        Who::Anyone => true,
        Who::Pod { namespace, name } => pod(end).is_some_and(|(own_namespace, own_name)| {
            namespace.as_ref().is_none_or(|glob| glob.matches(own_namespace)) && name.matches(own_name)
        }),
        Who::Node(name) => end.pod.is_none() && end.node.as_deref() == Some(name),
        Who::Address { ip, port } => bears(*ip, *port),
        Who::Service(service) => {
            service.addresses.iter().any(|ip| bears(*ip, service.port))
                || end.pod.as_deref().is_some_and(|pod| service.pods.iter().any(|name| name == pod))
        }
    }
}

fn pod(end: &End) -> Option<(&str, &str)> {
    end.pod.as_deref()?.split_once('/')
}
