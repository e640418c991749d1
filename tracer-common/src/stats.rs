//! What the programs count with `--stats`, in place of events.

/// A place where packets are counted: one side of a device, and the way they go.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TapKey {
    /// Index of the device in the node's namespace.
    pub ifindex: u32,
    /// [`crate::hook::TC_INGRESS`] or [`crate::hook::TC_EGRESS`].
    pub hook: u16,
    /// One of [`way`].
    pub way: u16,
}

/// Which way a packet goes: values of [`TapKey::way`].
pub mod way {
    /// From `from` to `to`.
    pub const FORTH: u16 = 0;
    /// Back.
    pub const BACK: u16 = 1;
    /// Its headers of the moment do not say: it is followed, or a node's address stands for an end's.
    pub const UNKNOWN: u16 = 2;
    /// Number of the above.
    pub const NUMBER: u16 = 3;
}

/// Buckets of a histogram of times, see [`bucket`].
pub const BUCKETS: usize = 64;

/// What passed a place.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TapCounts {
    /// Packets; what GSO or GRO put into one sk_buff is one.
    pub packets: u64,
    /// Packets on the wire that these stand for.
    pub wire_packets: u64,
    /// Bytes, as sk_buffs count them here: with the link header.
    pub bytes: u64,
    /// Sum of the times since a packet was first seen on the node, of those that were seen before.
    pub time_sum_ns: u64,
    /// These times by [`bucket`].
    pub times: [u64; BUCKETS],
}

impl TapCounts {
    /// Nothing has passed.
    pub const NONE: Self =
        Self { packets: 0, wire_packets: 0, bytes: 0, time_sum_ns: 0, times: [0; BUCKETS] };
}

/// Where and why packets were dropped.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DropKey {
    /// Address of the code.
    pub location: u64,
    /// `enum skb_drop_reason` of the running kernel; 0 before 5.17.
    pub reason: u32,
    /// Inode of the network namespace; 0 if unknown.
    pub netns: u32,
}

/// What was dropped there.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DropCounts {
    /// Packets.
    pub packets: u64,
    /// Bytes, as sk_buffs count them there.
    pub bytes: u64,
}

/// Logarithm of the number of buckets to a power of two.
const FINE: u32 = 2;

/// Times below 2 to this power of nanoseconds are in bucket 0.
const SHORT: u32 = 9;

/// The bucket of a time: four to each power of two, from 512 ns to 25 ms; the last one has all that is longer.
#[inline(always)]
#[must_use]
pub const fn bucket(ns: u64) -> u32 {
    if ns >> SHORT == 0 {
        return 0;
    }
    let ns = if ns > u32::MAX as u64 { u32::MAX } else { ns as u32 };
    let power = log2(ns);
    let part = (ns >> (power - FINE)) & ((1 << FINE) - 1);
    let bucket = ((power - SHORT) << FINE) + part + 1;
    if bucket < BUCKETS as u32 { bucket } else { BUCKETS as u32 - 1 }
}

/// The longest time of a bucket, in nanoseconds, but for the last one, which has no end.
#[must_use]
pub const fn bucket_end(bucket: u32) -> u64 {
    if bucket == 0 {
        return (1 << SHORT) - 1;
    }
    let (power, part) = ((bucket - 1) >> FINE, (bucket - 1) & ((1 << FINE) - 1));
    let power = power + SHORT;
    (1 << power) + ((part as u64 + 1) << (power - FINE)) - 1
}

/// Without an instruction for it, which BPF does not have, and without a loop.
#[inline(always)]
const fn log2(mut value: u32) -> u32 {
    let mut log = 0;
    let mut half = 16;
    while half > 0 {
        if value >> half != 0 {
            value >>= half;
            log += half;
        }
        half /= 2;
    }
    log
}

const _: () = assert!(size_of::<TapKey>() == 8 && align_of::<TapKey>() == 4);
const _: () = assert!(size_of::<TapCounts>() == 32 + 8 * BUCKETS && align_of::<TapCounts>() == 8);
const _: () = assert!(size_of::<DropKey>() == 16 && align_of::<DropKey>() == 8);
const _: () = assert!(size_of::<DropCounts>() == 16 && align_of::<DropCounts>() == 8);
const _: () = assert!(bucket(0) == 0 && bucket(511) == 0 && bucket(512) == 1 && bucket(639) == 1);
const _: () = assert!(bucket(640) == 2 && bucket(1024) == 5 && bucket(u64::MAX) == 63);
const _: () = assert!(bucket_end(0) == 511 && bucket_end(1) == 639 && bucket_end(5) == 1279);
const _: () = assert!(bucket(bucket_end(62)) == 62 && bucket(bucket_end(62) + 1) == 63);
