//! What the agents of a simulated trace send: the records of each node's programs, some of them lost, by its own clock.

use bytes::Bytes;
use tracer_common::{CAPTURE, Conntrack, Event, flag, hook};

use podtrace_protocol::frame::{Accounting, FromAgent};
use podtrace_protocol::record::encode;

use crate::testkit::{Random, blank, framed, root};

use super::kernel::{Memory, Programs};
use super::network::{heads, location, node_address};
use super::packet::Packet;
use super::plan::Plan;
use super::travel::{Act, Number, Passage, Step};

/// Between two heartbeats of a node, in nanoseconds.
const BEAT: u64 = 100_000_000;
/// How long the nodes go on after the last packet: longer than any path waits.
const QUIET: u64 = 6_000_000_000;

/// A record of a node's programs, and the packets that it is of.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) node: usize,
    pub(super) at: u64,
    pub(super) of: Vec<Number>,
    event: Event,
    tracked: Option<Conntrack>,
    bytes: Vec<u8>,
}

impl Record {
    /// As a failure shows it.
    pub(super) fn shown(&self) -> String {
        let Event { packet, parent, hook, ifindex, skb, .. } = self.event;
        format!(
            "hook {hook} device {ifindex} identity {packet}<{parent} skb {:x} of {:?}",
            skb & 0xffff,
            self.of
        )
    }
}

/// Frames of all nodes, each with the node's number.
pub(super) type Frames = Vec<(usize, FromAgent)>;

/// Runs the kernels: the records that their programs make.
pub(super) fn records(plan: &Plan, steps: &[Step]) -> Vec<Record> {
    let machines = if plan.shared { 1 } else { plan.nodes };
    let mut memories: Vec<Memory> = (0..machines).map(|_| Memory::default()).collect();
    let mut programs: Vec<Programs> = (0..plan.nodes).map(|_| Programs::default()).collect();
    let mut records = Vec::new();
    for Step { at, node, buffer, act, of } in steps {
        let memory = &mut memories[if plan.shared { 0 } else { *node }];
        let address = memory.address(*buffer);
        // Where nodes share a kernel, each one's programs see what is freed.
        let nodes = if plan.shared { 0..plan.nodes } else { *node..*node + 1 };
        let own = &mut programs[*node];
        let record = match act {
            Act::Tap((number, ifindex, passage), packet, tracked) => {
                let identity = match passage {
                    Passage::Enters | Passage::EntersInTunnel { .. } => own.enters(address, packet),
                    Passage::Within | Passage::Leaves { .. } => own.within(address, packet),
                };
                let (ip, overhead) = match passage {
                    Passage::EntersInTunnel { from } => {
                        (packet.in_tunnel(node_address(*from), node_address(*node)), true)
                    }
                    Passage::Leaves { to } => {
                        (packet.in_tunnel(node_address(*node), node_address(*to)), true)
                    }
                    Passage::Enters | Passage::Within => (packet.bytes(), false),
                };
                let bytes = framed(&ip);
                let tracked = tracked.filter(|_| !overhead);
                let event = Event {
                    netns: root(*node),
                    ifindex: *ifindex,
                    len: bytes.len() as u32,
                    hook: *number,
                    gso_segs: if packet.segments > 1 { packet.segments } else { 0 },
                    gso_size: if packet.segments > 1 { super::packet::SEGMENT as u32 } else { 0 },
                    ..blank()
                };
                Some((identity, event, tracked, bytes))
            }
            Act::Pass(number, ifindex, packet) => own.known(address, packet).map(|identity| {
                let flags = flag::NO_BYTES;
                let event = Event { netns: root(*node), ifindex: *ifindex, hook: *number, flags, ..blank() };
                (identity, event, None, Vec::new())
            }),
            Act::Drop((netns, ifindex), reason, packet) => {
                let identity = own.within(address, packet);
                let bytes = packet.bytes();
                let event = Event {
                    netns: *netns,
                    ifindex: *ifindex,
                    len: bytes.len() as u32,
                    hook: hook::KFREE_SKB,
                    reason: *reason,
                    location: location(*reason),
                    flags: flag::FROM_NETWORK,
                    ..blank()
                };
                Some((identity, event, None, bytes))
            }
            Act::CopyOf(original) if plan.copies_reported => {
                let from = memory.address(*original);
                nodes.clone().for_each(|node| programs[node].copied(from, address));
                None
            }
            Act::Consume | Act::Free | Act::CopyOf(_) => None,
        };
        if let Act::Drop(..) | Act::Consume = act {
            nodes.for_each(|node| programs[node].forget(address));
        }
        if let Act::Drop(..) | Act::Consume | Act::Free = act {
            memory.release(*buffer);
        }
        let Some((identity, event, tracked, mut bytes)) = record else { continue };
        bytes.truncate(CAPTURE);
        let event = Event {
            packet: identity.packet,
            parent: identity.parent,
            skb: address,
            captured: bytes.len() as u16,
            flags: event.flags | if identity.is_new { flag::FIRST_SEEN } else { 0 },
            ..event
        };
        records.push(Record { node: *node, at: *at, of: of.clone(), event, tracked, bytes });
    }
    records
}

/// What is known of the nodes' clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clocks {
    /// They drift, and are asked again and again.
    Drifting,
    /// They do not, and are asked once: so the same is known of them in whichever order frames come.
    Steady,
}

/// A node's clock: where it stands when the trace begins, and how fast it is.
struct Clock {
    start: u64,
    drift_ppm: i64,
}

impl Clock {
    fn read(&self, at: u64) -> u64 {
        let gained = i64::try_from(at).unwrap_or(0) / 1_000 * self.drift_ppm / 1_000;
        (self.start + at).saturating_add_signed(gained)
    }
}

/// The stream of each node: frames, and the records that were not lost, in their order.
pub(super) struct Streams {
    pub(super) frames: Vec<Vec<FromAgent>>,
    pub(super) records: Vec<Vec<Record>>,
}

impl Streams {
    pub(super) fn new(plan: &Plan, records: &[Record], clocks: Clocks) -> Self {
        let mut random = Random::new(plan.seed ^ 0x5851_f42d_4c95_7f2d);
        let end = records.iter().map(|record| record.at).max().unwrap_or(0) + QUIET;
        let mut streams = Self { frames: Vec::new(), records: Vec::new() };
        for node in 0..plan.nodes {
            let drift_ppm = random.below(80) as i64 - 40;
            let is_steady = clocks == Clocks::Steady;
            let start = 1_000_000_000 + random.below(1 << 44);
            let clock = Clock { start, drift_ppm: if is_steady { 0 } else { drift_ppm } };
            let mut frames = heads(node, plan.nodes, clock.start);
            let mut kept = Vec::new();
            let mut own = records.iter().filter(|record| record.node == node).peekable();
            let mut counters = Accounting::default();
            let mut from = 0;
            frames.push(asked(&clock, 0, plan.clock_delay, &mut random));
            while from <= end {
                let mut body = Vec::new();
                while let Some(record) = own.next_if(|record| record.at < from + BEAT) {
                    counters.produced += 1;
                    if plan.lost > 0 && random.below(plan.lost) == 0 {
                        counters.lost_ring += 1;
                        continue;
                    }
                    counters.sent += 1;
                    let tracked = record.tracked.as_ref();
                    let flags = record.event.flags | if tracked.is_some() { flag::CONNTRACK } else { 0 };
                    let event = Event { at_ns: clock.read(record.at), flags, ..record.event };
                    encode(&event, tracked, &record.bytes, &mut body);
                    kept.push(record.clone());
                }
                from += BEAT;
                if !body.is_empty() {
                    frames.push(FromAgent::Events(Bytes::from(body)));
                }
                if !is_steady {
                    frames.push(asked(&clock, from, plan.clock_delay, &mut random));
                }
                frames.push(FromAgent::Heartbeat { now_ns: clock.read(from), counters });
            }
            frames.push(FromAgent::Goodbye { counters });
            streams.frames.push(frames);
            streams.records.push(kept);
        }
        streams
    }

    /// The streams as they come, each in its own order.
    pub(super) fn interleaved(&self, random: &mut Random) -> Frames {
        let mut rest: Vec<_> = self.frames.iter().map(|frames| frames.iter()).collect();
        let mut frames = Vec::new();
        // Now and then one node is far ahead.
        let mut stays = 1;
        while rest.iter().any(|frames| frames.len() > 0) {
            let node = random.below(rest.len() as u64) as usize;
            for _ in 0..stays {
                frames.extend(rest[node].next().map(|frame| (node, frame.clone())));
            }
            stays = if random.below(20) == 0 { 1 + random.below(30) } else { 1 };
        }
        frames
    }
}

/// The tracer asks a node for its clock.
fn asked(clock: &Clock, at: u64, delay: u64, random: &mut Random) -> FromAgent {
    let (there, back) = (random.below(delay) + 1, random.below(delay) + 1);
    FromAgent::Clock { sent_ns: at, node_ns: clock.read(at + there), received_ns: at + there + back }
}

/// A packet, as a failure shows it.
pub(super) fn shown(packet: &Packet) -> String {
    let Packet { src, dst, id, kind, payload, piece, segments } = packet;
    format!("{src} > {dst} id {id} {kind:?} {} B ×{segments} {piece:?}", payload.len())
}
