//! What a trace amounts to.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::DropFates;

/// What a trace amounts to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Paths by verdict.
    pub paths: VerdictCounts,
    /// Hop events by fate.
    pub events: EventCounts,
    /// Whether every hop event produced is accounted for and none was lost, every tap was attached, and nothing was given
    /// up to save memory.
    pub complete: bool,
    /// Where packets passed unseen, as a tap could not be attached there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unwatched: Vec<Unwatched>,
    /// What was given up to stay within the limits for what is held.
    #[serde(default, skip_serializing_if = "Shed::is_nothing")]
    pub shed: Shed,
    /// The sample that was traced; `None` if all packets were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<Sample>,
    /// What became of the drops that the kernels reported; no part of the JSON.
    #[serde(skip)]
    pub drops: DropFates,
}

/// A trace of some of the packets: all counts are of these alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// One in so many packets on the wire.
    pub one_in: NonZeroU32,
    /// Observations of matching packets that are not in the sample: events that there are not, in addition to
    /// `produced`.
    pub unsampled_events: u64,
}

/// What was given up, oldest first, to stay within the limits for what is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shed {
    /// Packets in flight, whose paths were reported as they stood.
    pub paths: u64,
    /// Events that were discarded before they were matched; `unmatched` has them, too.
    pub events: u64,
    /// Flows without packets in flight that were forgotten early: their next packets count as new flows.
    pub flows: u64,
}

impl Shed {
    /// Whether nothing was given up.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// A place without the tap that it should have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Unwatched {
    /// Name of the node.
    pub node: String,
    /// Name of the device.
    pub device: String,
    /// `tc:ingress` or `tc:egress`.
    pub point: String,
}

/// Paths by verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictCounts {
    /// Arrived.
    pub delivered: u64,
    /// Dropped by a kernel.
    pub dropped: u64,
    /// Lost from sight.
    pub vanished: u64,
    /// Answered by a reset or an ICMP error.
    pub rejected: u64,
    /// Still under way.
    pub open: u64,
}

/// Hop events by fate: `produced == delivered + lost_ring` in a complete trace, and `unmatched` of the delivered
/// ones belong to no path that begins where its packet did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventCounts {
    /// Events the eBPF programs set out to emit.
    pub produced: u64,
    /// Events that reached the path engine.
    pub delivered: u64,
    /// Lost because a ring buffer was full.
    pub lost_ring: u64,
    /// Identities lost because a map was full.
    pub lost_map: u64,
    /// Times that the kernel skipped a program.
    pub missed_probes: u64,
    /// Events that no path could be made of from its beginning.
    pub unmatched: u64,
}
