//! The ceiling for what an engine holds, and the estimated costs by which it is kept.
//!
//! The costs are constants, not sizes of this build's types: a recording has to give the same paths on every machine.
//! They include what tables and vectors keep in reserve.

/// The ceiling if none is given, in bytes.
pub const DEFAULT_MEMORY: u64 = 256_000_000;

/// The smallest ceiling, in bytes: what a few thousand packets in flight take.
pub const LEAST_MEMORY: u64 = 16_000_000;

/// An observation that waits in its node's queue, or for its path.
pub(crate) const OBSERVATION: u64 = 450;
/// A packet that waits for its path, besides its observations.
pub(crate) const WAITING: u64 = 500;
/// A track, with where it is found.
pub(crate) const TRACK: u64 = 1_200;
/// An event of a track.
pub(crate) const EVENT: u64 = 450;
/// An identity that is followed.
pub(crate) const SKB: u64 = 140;
/// A time at which a track or a waiting packet is looked at.
pub(crate) const TIMER: u64 = 64;
/// A flow, without its keys.
pub(crate) const FLOW: u64 = 560;
/// A key by which a flow is found.
pub(crate) const FLOW_KEY: u64 = 110;
/// A fragmented packet's flow.
pub(crate) const FRAGMENTED: u64 = 125;
/// A reset or ICMP error that waits for the packet it is about.
pub(crate) const REJECTION: u64 = 200;

/// The costs of this many things of one kind.
pub(crate) fn cost(each: u64, number: usize) -> u64 {
    each.saturating_mul(u64::try_from(number).unwrap_or(u64::MAX))
}
