//! What a node has counted in place of sending events.

use serde::{Deserialize, Serialize};

/// A snapshot of one node's counts, since the programs were enabled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// The node's clock.
    pub now_ns: u64,
    /// What passed each tap, in the order of devices.
    pub taps: Vec<TapStats>,
    /// What the kernel dropped, by place and reason.
    pub drops: Vec<DropStats>,
}

/// What passed one side of a device in one direction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TapStats {
    /// Name of the device.
    pub device: String,
    /// `tc:ingress` or `tc:egress`.
    pub point: String,
    /// Which way the packets go.
    pub way: Way,
    /// Packets; what GSO or GRO put into one is one.
    pub packets: u64,
    /// Packets on the wire that these stand for.
    pub wire_packets: u64,
    /// Bytes with link headers.
    pub bytes: u64,
    /// Times since the packets' sk_buffs were first seen on this node; none of those first seen here. Where the kernel copies
    /// a packet into another sk_buff, its time starts anew.
    pub times: Times,
}

/// A histogram of times.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// Sum of the times, in nanoseconds.
    pub sum_ns: u64,
    /// Longest time of a bucket in nanoseconds, and number of packets in it, ascending; empty buckets are left out. The
    /// last possible bucket has no end: `None`.
    pub buckets: Vec<(Option<u64>, u64)>,
}

impl Times {
    /// Number of times.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }

    /// So many per cent took no longer than this; `None` without a time, or if these are in the bucket without an end.
    #[must_use]
    pub fn percentile(&self, percent: u64) -> Option<u64> {
        let count = u128::from(self.count());
        let rank = (count * u128::from(percent)).div_ceil(100).max(1);
        let mut below = 0;
        self.buckets.iter().find_map(|(end, count)| {
            below += u128::from(*count);
            (below >= rank).then_some(*end)
        })?
    }
}

/// Which way packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// From the filter's `from` to its `to`.
    Request,
    /// Back.
    Reply,
    /// The headers at this point do not say.
    Unknown,
}

/// What was dropped at one place for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropStats {
    /// The kernel's reason; `None` before Linux 5.17.
    pub reason: Option<String>,
    /// Name of the function; its address if that is unknown.
    pub location: String,
    /// The pod in whose namespace it happened; `None` for the node itself, or if unknown.
    pub pod: Option<String>,
    /// Packets.
    pub packets: u64,
    /// Bytes, as the kernel counts them there.
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_ends_of_buckets() {
        let times = Times { sum_ns: 0, buckets: vec![(Some(511), 50), (Some(639), 49), (None, 1)] };
        assert_eq!((times.count(), times.percentile(50), times.percentile(99)), (100, Some(511), Some(639)));
        assert_eq!(times.percentile(100), None, "longer than the last bucket's start");
        assert_eq!(Times::default().percentile(50), None);
    }
}
