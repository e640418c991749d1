//! The frame of counts: names in place of the kernel's numbers.

use std::collections::BTreeMap;

use podtrace_protocol::stats::{DropStats, Stats, TapStats};
use podtrace_protocol::topology::{Namespace, Topology};

use super::symbols::LazySymbols;
use crate::agent::clock;
use crate::probe::{Counted, times};

/// The counts by names.
pub(super) fn named(
    counted: Counted,
    topology: &Topology,
    reasons: &BTreeMap<u32, String>,
    symbols: &mut LazySymbols,
) -> Stats {
    let host = topology.namespaces.first();
    let device = |index: u32| host.and_then(|host| host.device(index)).map(|device| device.name.clone());
    let taps = counted.taps.into_iter().map(|(index, side, way, counts)| TapStats {
        // One that has gone since.
        device: device(index).unwrap_or_else(|| format!("device {index}")),
        point: side.point().to_owned(),
        way,
        packets: counts.packets,
        wire_packets: counts.wire_packets,
        bytes: counts.bytes,
        times: times(&counts),
    });
    let pod = |inode: u32| {
        let known: Option<&Namespace> = topology.namespaces.iter().find(|known| known.inode == inode);
        known.and_then(|known| known.pod.clone())
    };
    let mut drop = |(key, counts): (tracer_common::stats::DropKey, tracer_common::stats::DropCounts)| {
        let location = symbols.name(key.location).map(str::to_owned);
        DropStats {
            reason: reasons.get(&key.reason).filter(|_| key.reason != 0).cloned(),
            location: location.unwrap_or_else(|| format!("{:#x}", key.location)),
            pod: pod(key.netns),
            packets: counts.packets,
            bytes: counts.bytes,
        }
    };
    let drops = counted.drops.into_iter().map(&mut drop).collect();
    Stats { now_ns: clock::monotonic_ns(), taps: taps.collect(), drops }
}
