//! Syntax tree of an expression: claims about the trace, and conditions on a path.

use std::net::IpAddr;

use wildmatch::WildMatch;

use super::sequence::Sequence;
use super::truth::Comparison;
use podtrace_path::{Direction, NatKind, Protocol, Verdict};

/// A condition on a path.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Condition {
    /// A single fact.
    Fact(Fact),
    /// All of these.
    And(Vec<Self>),
    /// At least one of these.
    Or(Vec<Self>),
    /// Not this.
    Not(Box<Self>),
}

/// A predicate on a path, and its text.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fact {
    pub(super) predicate: Predicate,
    /// Whether the predicate must not hold: `!=`, `no-nat`.
    pub(super) negated: bool,
    pub(super) text: String,
}

/// A property of a path.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Predicate {
    Verdict(Verdict),
    End(Side, EndpointPattern),
    Protocol(Protocol),
    Direction(Direction),
    Row(Row, Sequence),
    /// Passes a device or node with this name.
    Via(WildMatch),
    Encapsulated,
    /// Is translated; in any way if `None`.
    Nat(Option<NatKind>),
    /// Is dropped for this reason.
    Drop(WildMatch),
    Hops(Comparison, u64),
    /// The longest time between two hops, in nanoseconds.
    HopLatency(Comparison, i64),
    /// From the first hop to the last, in nanoseconds.
    Duration(Comparison, i64),
    Confidence(Comparison, f64),
}

/// Which endpoint of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    From,
    To,
}

/// What an endpoint must match.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum EndpointPattern {
    Anyone,
    /// In any namespace if `None`.
    Pod {
        namespace: Option<WildMatch>,
        name: WildMatch,
    },
    Node(String),
    Address {
        ip: IpAddr,
        port: Option<u16>,
    },
    Service(Service),
}

/// A service, known by its name until an inventory says which addresses it has.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Service {
    pub(super) namespace: Option<String>,
    pub(super) name: String,
    pub(super) port: Option<u16>,
    pub(super) addresses: Vec<IpAddr>,
    /// Its endpoints, if it has no cluster IP.
    pub(super) pods: Vec<String>,
}

/// Which names of a path's hops form a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Row {
    Devices,
    Actions,
    Nodes,
}

/// A claim about the trace. Conditions are indices into [`super::Expectation::conditions`].
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Claim {
    /// The condition holds for every path, and there is at least one.
    All(usize),
    /// The condition holds for at least one path.
    Any(usize),
    /// The condition holds for no path, and there is at least one.
    None(usize),
    /// The condition holds for this number of paths.
    Count(usize, Comparison, u64),
    /// The share of requests that were not delivered.
    Loss(Comparison, f64),
    /// Every event is accounted for.
    Complete,
    And(Vec<Self>),
    Or(Vec<Self>),
    Not(Box<Self>),
}

/// A condition whose matching paths are counted, and its text.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Counted {
    pub(super) condition: Condition,
    pub(super) text: String,
}

impl Condition {
    /// Calls `visit` with every fact.
    pub(super) fn facts_mut(&mut self, visit: &mut impl FnMut(&mut Fact)) {
        match self {
            Self::Fact(fact) => visit(fact),
            Self::And(parts) | Self::Or(parts) => {
                for part in parts {
                    part.facts_mut(visit);
                }
            }
            Self::Not(part) => part.facts_mut(visit),
        }
    }
}

impl Claim {
    /// Whether it counts paths, so that zero paths may be expected.
    pub(super) fn counts(&self) -> bool {
        match self {
            Self::Count(..) => true,
            Self::And(parts) | Self::Or(parts) => parts.iter().any(Self::counts),
            Self::Not(part) => part.counts(),
            Self::All(_) | Self::Any(_) | Self::None(_) | Self::Loss(..) | Self::Complete => false,
        }
    }
}
