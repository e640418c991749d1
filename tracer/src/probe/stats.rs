//! What the eBPF programs count in place of events: enters the places where they do, and reads the counts.

use anyhow::{Context as _, Result};
use aya::maps::{MapData, MapError, PerCpuHashMap, PerCpuValues};
use aya::util::nr_cpus;
use podtrace_protocol::stats::{Times, Way};
use tracer_common::hook;
use tracer_common::stats::{BUCKETS, DropCounts, DropKey, TapCounts, TapKey, bucket_end, way};

use super::taps::TapSide;

/// The maps of counts.
pub(super) struct StatsMaps {
    taps: PerCpuHashMap<MapData, TapKey, TapCounts>,
    drops: PerCpuHashMap<MapData, DropKey, DropCounts>,
    /// Whether the programs count.
    is_on: bool,
}

/// The counts, summed over all CPUs.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    /// By index of the device, side and way.
    pub taps: Vec<(u32, TapSide, Way, TapCounts)>,
    /// By place and reason.
    pub drops: Vec<(DropKey, DropCounts)>,
}

impl StatsMaps {
    pub(super) fn new(
        taps: PerCpuHashMap<MapData, TapKey, TapCounts>,
        drops: PerCpuHashMap<MapData, DropKey, DropCounts>,
        is_on: bool,
    ) -> Self {
        Self { taps, drops, is_on }
    }

    /// Enters places that are not there yet: the value of a new one is too large for a program's stack.
    pub(super) fn enter(&mut self, places: impl Iterator<Item = (u32, TapSide)>) -> Result<()> {
        /// Only if it is not there (`BPF_NOEXIST`).
        const NEW: u64 = 1;
        if !self.is_on {
            return Ok(());
        }
        let cpus = nr_cpus().map_err(|(_, error)| error).context("counting CPUs")?;
        for (ifindex, side) in places {
            for way in 0..way::NUMBER {
                let key = TapKey { ifindex, hook: hook_of(side), way };
                let none = PerCpuValues::try_from(vec![TapCounts::NONE; cpus]).context("counting CPUs")?;
                match self.taps.insert(key, none, NEW) {
                    Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(EXISTS) => {}
                    result => result.context("entering a place to count packets at")?,
                }
            }
        }
        Ok(())
    }

    pub(super) fn read(&self) -> Result<Counted> {
        let mut counted = Counted::default();
        for entry in &self.taps {
            let (TapKey { ifindex, hook, way }, cpus) = entry.context("reading the counts of taps")?;
            let side = if hook == hook::TC_INGRESS { TapSide::Ingress } else { TapSide::Egress };
            let way = match way {
                way::FORTH => Way::Request,
                way::BACK => Way::Reply,
                _ => Way::Unknown,
            };
            let mut sum = TapCounts::NONE;
            for cpu in cpus.iter() {
                sum.packets += cpu.packets;
                sum.wire_packets += cpu.wire_packets;
                sum.bytes += cpu.bytes;
                sum.time_sum_ns += cpu.time_sum_ns;
                sum.times.iter_mut().zip(cpu.times).for_each(|(sum, cpu)| *sum += cpu);
            }
            if sum.packets > 0 {
                counted.taps.push((ifindex, side, way, sum));
            }
        }
        for entry in &self.drops {
            let (key, cpus) = entry.context("reading the counts of drops")?;
            let sum = cpus.iter().fold(DropCounts::default(), |sum, cpu| DropCounts {
                packets: sum.packets + cpu.packets,
                bytes: sum.bytes + cpu.bytes,
            });
            counted.drops.push((key, sum));
        }
        counted.taps.sort_by_key(|(ifindex, side, way, _)| (*ifindex, *side, *way));
        counted.drops.sort_by_key(|(key, _)| *key);
        Ok(counted)
    }
}

/// `EEXIST`.
const EXISTS: i32 = nix::errno::Errno::EEXIST as i32;

fn hook_of(side: TapSide) -> u16 {
    match side {
        TapSide::Ingress => hook::TC_INGRESS,
        TapSide::Egress => hook::TC_EGRESS,
    }
}

/// A histogram as frames have it.
#[must_use]
pub fn times(counts: &TapCounts) -> Times {
    let end = |bucket: usize| {
        let bucket = u32::try_from(bucket).ok().filter(|bucket| (*bucket as usize) < BUCKETS - 1);
        bucket.map(bucket_end)
    };
    let filled = counts.times.iter().enumerate().filter(|(_, count)| **count > 0);
    Times {
        sum_ns: counts.time_sum_ns,
        buckets: filled.map(|(bucket, count)| (end(bucket), *count)).collect(),
    }
}
