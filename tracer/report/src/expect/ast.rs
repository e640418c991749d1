//! What an expression means: conditions on one path, claims about the trace.

use std::net::IpAddr;

use wildmatch::WildMatch;

use super::sequence::Sequence;
use super::truth::Comparison;
use podtrace_path::{Direction, NatKind, Protocol, Verdict};

/// Something that a path is or is not.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Condition {
    /// One thing.
    Fact(Fact),
    /// All of these.
    And(Vec<Self>),
    /// One of these at least.
    Or(Vec<Self>),
    /// Not this.
    Not(Box<Self>),
}

/// One thing about a path, and how it was written.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fact {
    pub(super) what: What,
    /// Whether it is to be otherwise: `!=`, `no-nat`.
    pub(super) negated: bool,
    pub(super) text: String,
}

/// What can be said of a path.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum What {
    Verdict(Verdict),
    End(Side, Who),
    Protocol(Protocol),
    Direction(Direction),
    Row(Row, Sequence),
    /// Passes a device or node of this name.
    Via(WildMatch),
    Encapsulated,
    /// Is translated; in any way if none is given.
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

/// Which end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    From,
    To,
}

/// Whom an end is to be.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Who {
    Anyone,
    /// In any namespace if none is given.
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
    /// The pods behind it, if it has no address of its own.
    pub(super) pods: Vec<String>,
}

/// What is put in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Row {
    Devices,
    Actions,
    Nodes,
}

/// Something that a trace shows or does not. Conditions are numbers in [`super::Expectation::conditions`].
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Claim {
    /// There are paths, and all are so.
    All(usize),
    /// One path is so at least.
    Any(usize),
    /// There are paths, and none is so.
    None(usize),
    /// So many are so.
    Count(usize, Comparison, u64),
    /// The share of requests that were not delivered.
    Loss(Comparison, f64),
    /// Every event is accounted for.
    Complete,
    And(Vec<Self>),
    Or(Vec<Self>),
    Not(Box<Self>),
}

/// A condition that paths are counted by, and how it was written.
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
    /// Whether it speaks of numbers of paths, so that whoever wrote it thought of none too.
    pub(super) fn counts(&self) -> bool {
        match self {
            Self::Count(..) => true,
            Self::And(parts) | Self::Or(parts) => parts.iter().any(Self::counts),
            Self::Not(part) => part.counts(),
            Self::All(_) | Self::Any(_) | Self::None(_) | Self::Loss(..) | Self::Complete => false,
        }
    }
}
