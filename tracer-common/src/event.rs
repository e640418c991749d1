//! What the eBPF programs write into the ring buffer, and what they count.

use crate::{Address, Conntrack};

/// Bytes of a packet that a [`Record`] has room for: enough for an IPv6 underlay, VXLAN, an inner Ethernet and
/// IPv6 header, a TCP header with options and the beginning of the payload.
pub const CAPTURE: usize = 192;

/// One observation of one packet at one point of one node.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// `bpf_ktime_get_ns`: nanoseconds of the node's monotonic clock.
    pub at_ns: u64,
    /// Identity of the packet on this node, unique while these programs are loaded; never 0.
    pub packet: u64,
    /// Address of the `struct sk_buff`, for people who read a recording. It is no identity: the kernel reuses it.
    pub skb: u64,
    /// Address of the code that dropped the packet (`kfree_skb` only, otherwise 0).
    pub location: u64,
    /// Sequence number on its CPU, from 1; lost events are counted.
    pub sequence: u64,
    /// Identity of the packet that this one was cloned or copied from; 0 if unknown.
    pub parent: u64,
    /// Gateway of its route; unspecified if it has no route or the route has no gateway.
    pub gateway: Address,
    /// CPU that produced the event.
    pub cpu: u32,
    /// Inode number of the packet's network namespace; 0 if unknown.
    pub netns: u32,
    /// Index of its device within `netns`; 0 if it has none.
    pub ifindex: u32,
    /// `skb->len` in bytes. It counts from the link header at tc hooks, and from `skb->data` elsewhere.
    pub len: u32,
    /// `enum skb_drop_reason` of the running kernel (`kfree_skb` from 5.17 on, otherwise 0).
    pub reason: u32,
    /// `skb->mark`.
    pub mark: u32,
    /// One of [`crate::hook`].
    pub hook: u16,
    /// Bits of [`flag`].
    pub flags: u16,
    /// Number of captured bytes, at most [`CAPTURE`].
    pub captured: u16,
    /// Number of segments in this skb (GSO, GRO); 0 or 1 for a plain packet.
    pub gso_segs: u16,
    /// Payload bytes per segment.
    pub gso_size: u32,
    /// Index of the output device of its route; 0 if it has no route (yet).
    pub route_ifindex: u32,
    /// A value specific to the hook, see [`crate::hook`]; otherwise 0.
    pub aux: u32,
    /// Always 0.
    pub reserved: u32,
}

impl Event {
    /// [`Self::aux`] of [`crate::hook::NETFILTER`].
    #[must_use]
    pub const fn netfilter_aux(hook: u8, family: u8) -> u32 {
        (family as u32) << 8 | hook as u32
    }
}

/// A record in the ring buffer: an event, the packet's connection, and its first bytes. Hooks at kernel functions write
/// the [`Event`] alone: they only see packets whose bytes a tap has captured already.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// The observation.
    pub event: Event,
    /// The connection; undefined without [`flag::CONNTRACK`].
    pub conntrack: Conntrack,
    /// The packet's first `event.captured` bytes; the rest is undefined.
    pub bytes: [u8; CAPTURE],
}

/// Bits of [`Event::flags`].
pub mod flag {
    /// The packet is new: no program has seen it before.
    pub const FIRST_SEEN: u16 = 1 << 0;
    /// The captured bytes begin at the network header; without this flag at the link header.
    pub const FROM_NETWORK: u16 = 1 << 1;
    /// The packet matches by its identity only: its current headers do not match the filter.
    pub const FOLLOWED: u16 = 1 << 2;
    /// The identity could not be stored, so no other event has this `packet` number.
    pub const NO_IDENTITY: u16 = 1 << 3;
    /// No bytes were captured.
    pub const NO_BYTES: u16 = 1 << 4;
    /// The packet is encapsulated here: the hook sees the outer headers.
    pub const IN_TUNNEL: u16 = 1 << 5;
    /// The record contains the packet's connection.
    pub const CONNTRACK: u16 = 1 << 6;
    /// The packet matches only because one of its addresses is a node's, which NAT may have put in place of a traced one.
    /// Only the packet before NAT shows whether it does.
    pub const VIA: u16 = 1 << 7;
}

/// The programs' counters, per CPU. They account for every event: `produced == records read + lost_ring`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Events that a program tried to emit.
    pub produced: u64,
    /// Events lost because the ring buffer was full.
    pub lost_ring: u64,
    /// Identities not stored because a map was full.
    pub lost_map: u64,
    /// Matching packets that are not in the sample, once for each hook that would have reported them.
    pub unsampled: u64,
}

const _: () = assert!(size_of::<Event>() == 112 && align_of::<Event>() == 8);
const _: () = assert!(core::mem::offset_of!(Event, hook) == 88 && core::mem::offset_of!(Event, flags) == 90);
const _: () = assert!(core::mem::offset_of!(Record, conntrack) == 112);
const _: () = assert!(size_of::<Record>() == 208 + CAPTURE && core::mem::offset_of!(Record, bytes) == 208);
const _: () = assert!(size_of::<Record>().is_multiple_of(8));
const _: () = assert!(size_of::<Counters>() == 32 && align_of::<Counters>() == 8);
