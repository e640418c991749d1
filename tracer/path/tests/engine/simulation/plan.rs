//! What a simulated trace is made from: a plan, which is data, so that a failing one can be made smaller and written down.

use proptest::prelude::*;

/// A trace. Everything in it follows from these numbers.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) nodes: usize,
    /// Whether the nodes share a kernel: then a packet keeps its sk_buff on the wire.
    pub(super) shared: bool,
    /// Of a hundred sk_buffs that are freed, how many pass neither `kfree_skb` nor `consume_skb`.
    pub(super) unreported_frees: u64,
    /// Whether copies are reported to the programs.
    pub(super) copies_reported: bool,
    /// Longest way of a question about a node's clock, in nanoseconds; the answer's may be as long.
    pub(super) clock_delay: u64,
    /// One record of this many is lost; 0 for none.
    pub(super) lost: u64,
    /// Seed of all delays, and of what else is too small to be in a plan.
    pub(super) seed: u64,
    pub(super) traffic: Vec<Exchange>,
}

/// Packets between two ends.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    /// When it begins, in nanoseconds.
    pub(super) at: u64,
    pub(super) what: What,
    pub(super) v6: bool,
    /// Number of the pod that begins, modulo the number of pods.
    pub(super) from: usize,
    /// Number of the other pod.
    pub(super) to: usize,
    /// Whether it is addressed by the Service. Then both may be one pod.
    pub(super) by_service: bool,
    /// Of each packet in turn, from the first on when they are used up.
    pub(super) fates: Vec<Fate>,
    /// Nanoseconds between packets.
    pub(super) gap: u64,
}

/// What is exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Echo requests and replies.
    Pings(u16),
    /// Datagrams with one of two payloads, some of them answered; whether they have an identification.
    Datagrams { count: u16, numbered: bool },
    /// A connection, and how many packets of how many segments each end sends.
    Connection { packets: u16, segments: u16 },
    /// Datagrams of two fragments each.
    Fragments(u16),
    /// Datagrams to a group.
    Multicast(u16),
}

/// What happens to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Arrives,
    /// It arrives, and the bridge has sent copies to its other ports.
    Flooded,
    /// Between the nodes: as a whole, or a part of its segments.
    LostOnWire,
    /// By the sender's node before it leaves.
    DroppedBefore,
    /// By the queue of the sender's uplink.
    DroppedAtUplink,
    /// By the receiver's node.
    DroppedAfter,
    /// In the receiver's namespace.
    DroppedInside,
    /// Nobody listens.
    Refused,
}

pub(super) fn plan(lossy: bool) -> impl Strategy<Value = Plan> {
    let kernel = (2_usize..=3, any::<bool>(), prop_oneof![Just(0_u64), Just(20), Just(100)], any::<bool>());
    let clock_delay = prop_oneof![Just(1_000_u64), Just(50_000), Just(2_000_000)];
    let lost = if lossy { (2_u64..30).boxed() } else { Just(0).boxed() };
    let traffic = prop::collection::vec(exchange(), 1..8);
    (kernel, clock_delay, lost, any::<u64>(), traffic).prop_map(
        |((nodes, shared, unreported_frees, copies_reported), clock_delay, lost, seed, traffic)| Plan {
            nodes,
            shared,
            unreported_frees,
            copies_reported,
            clock_delay,
            lost,
            seed,
            traffic,
        },
    )
}

fn exchange() -> impl Strategy<Value = Exchange> {
    let gap = prop_oneof![Just(1_000_u64), Just(30_000), Just(300_000), Just(40_000_000)];
    (
        0_u64..400_000,
        what(),
        any::<bool>(),
        0_usize..6,
        0_usize..6,
        any::<bool>(),
        prop::collection::vec(fate(), 1..6),
        gap,
    )
        .prop_map(|(at, what, v6, from, to, by_service, fates, gap)| Exchange {
            at,
            what,
            v6,
            from,
            to,
            by_service,
            fates,
            gap,
        })
}

fn what() -> impl Strategy<Value = What> {
    prop_oneof![
        (1_u16..6).prop_map(What::Pings),
        (1_u16..8, any::<bool>()).prop_map(|(count, numbered)| What::Datagrams { count, numbered }),
        (1_u16..4, 1_u16..5).prop_map(|(packets, segments)| What::Connection { packets, segments }),
        (1_u16..4).prop_map(What::Fragments),
        (1_u16..4).prop_map(What::Multicast),
    ]
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        8 => Just(Fate::Arrives),
        1 => Just(Fate::Flooded),
        1 => Just(Fate::LostOnWire),
        1 => Just(Fate::DroppedBefore),
        1 => Just(Fate::DroppedAtUplink),
        1 => Just(Fate::DroppedAfter),
        1 => Just(Fate::DroppedInside),
        1 => Just(Fate::Refused),
    ]
}
