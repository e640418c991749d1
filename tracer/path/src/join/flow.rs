//! Flows: the packets of one connection or one ICMP exchange, in both directions.
//!
//! A packet finds its flow by its addresses, protocol and ports. A flow that is translated has several such keys: as its
//! packets were sent, and as translation leaves them. Fragments after the first have no ports: they follow the first one
//! by their identification.

use std::collections::VecDeque;
use std::net::IpAddr;

use rustc_hash::FxHashMap;
use slab::Slab;

use podtrace_protocol::frame::FilterSpec;
use podtrace_protocol::wire::{Packet, Transport, tcp_flag};

use crate::join::stream::Stream;
use crate::join::track::Rejection;
use crate::memory::{self, cost};
use crate::model::Direction;
use crate::node::NodeId;
use crate::observation::connection::Connection;
use crate::observation::key::{DirectedKey, Endpoint, FlowKey};
use crate::time::{Moment, Nanos, NodeTime};

/// How long a flow without packets is remembered, so that its number stays its own.
const IDLE: Nanos = Nanos::from_secs(60);
/// How long a first fragment is remembered: the kernel gives up on the others after 30 s (`ipfrag_time`).
const FRAGMENTS: Nanos = Nanos::from_secs(30);
/// How many flows may be known before idle ones are looked for.
const PURGE_FROM: usize = 65_536;
/// Most rejections of a flow that wait for the packet they are about.
const MOST_REJECTIONS: usize = 16;

/// Number of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FlowId(usize);

/// One direction of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DirectedFlow {
    pub(crate) id: FlowId,
    pub(crate) direction: Direction,
}

impl DirectedFlow {
    /// The other direction.
    pub(crate) fn back(self) -> Self {
        Self { direction: self.direction.opposite(), ..self }
    }
}

/// A packet that rejects another: a reset or an ICMP error.
#[derive(Clone, Debug)]
pub(crate) struct EarlyRejection {
    pub(crate) packet: Packet,
    pub(crate) direction: Direction,
    pub(crate) rejection: Rejection,
    /// Where and when it was seen first.
    pub(crate) start: Option<(NodeId, NodeTime)>,
}

#[derive(Debug)]
pub(crate) struct Flow {
    /// First the one of the packet that opened it, then those that translation makes.
    keys: Vec<FlowKey>,
    /// Given when its first path is reported; 0 before.
    number: u64,
    /// The same of its forged packets: they are no part of it.
    forged_number: u64,
    requests: Stream,
    replies: Stream,
    /// Paths under way.
    live: u32,
    last: Moment,
    /// Rejections that were seen before the packet they are about.
    rejections: VecDeque<EarlyRejection>,
}

impl Flow {
    fn stream(&self, direction: Direction) -> &Stream {
        match direction {
            Direction::Request => &self.requests,
            Direction::Reply => &self.replies,
        }
    }

    fn stream_mut(&mut self, direction: Direction) -> &mut Stream {
        match direction {
            Direction::Request => &mut self.requests,
            Direction::Reply => &mut self.replies,
        }
    }
}

/// Which flow a key belongs to.
#[derive(Clone, Copy, Debug)]
struct KeyEntry {
    flow: FlowId,
    /// Direction of packets from the key's low end to its high end.
    ascending: Direction,
}

impl KeyEntry {
    fn direction_of(self, key: DirectedKey) -> Direction {
        if key.ascending { self.ascending } else { self.ascending.opposite() }
    }
}

/// What identifies a fragmented packet: addresses, protocol and identification.
type FragmentKey = (IpAddr, IpAddr, u8, u32);

#[derive(Clone, Copy, Debug)]
struct Fragmented {
    flow: DirectedFlow,
    seen: Moment,
    /// Whether another fragment overtook the first one: these have a flow of their own, without ports.
    overtaken: bool,
}

/// All flows.
#[derive(Debug)]
pub(crate) struct Flows {
    all: Slab<Flow>,
    by_key: FxHashMap<FlowKey, KeyEntry>,
    fragmented: FxHashMap<FragmentKey, Fragmented>,
    filter: FilterSpec,
    /// How many flows have a number.
    numbered: u64,
    purge_at: usize,
    /// When fragments were looked through last.
    fragments_purged: Option<Moment>,
    /// Rejections that wait, in all flows.
    rejections: usize,
}

impl Flows {
    pub(crate) fn new(filter: FilterSpec) -> Self {
        Self {
            all: Slab::new(),
            by_key: FxHashMap::default(),
            fragmented: FxHashMap::default(),
            filter,
            numbered: 0,
            purge_at: PURGE_FROM,
            fragments_purged: None,
            rejections: 0,
        }
    }

    pub(crate) fn set_filter(&mut self, filter: FilterSpec) {
        self.filter = filter;
    }

    pub(crate) fn filter(&self) -> &FilterSpec {
        &self.filter
    }

    /// The packet's flow, which is made if there is none.
    pub(crate) fn of(&mut self, packet: &Packet, now: Moment) -> DirectedFlow {
        if let Some(known) = self.known(packet, now) {
            return known;
        }
        self.purge(now);
        let key = DirectedKey::of(packet);
        let direction = if self.opens(packet) { Direction::Request } else { Direction::Reply };
        let flow = FlowId(self.all.insert(Flow {
            keys: vec![key.key],
            number: 0,
            forged_number: 0,
            requests: Stream::default(),
            replies: Stream::default(),
            live: 0,
            last: now,
            rejections: VecDeque::new(),
        }));
        let ascending = if key.ascending { direction } else { direction.opposite() };
        self.by_key.insert(key.key, KeyEntry { flow, ascending });
        // Remembers a fragment.
        self.known(packet, now).unwrap_or(DirectedFlow { id: flow, direction })
    }

    /// The packet's flow; `None` if it is not known.
    pub(crate) fn known(&mut self, packet: &Packet, now: Moment) -> Option<DirectedFlow> {
        let fragment_key = (packet.src, packet.dst, packet.protocol, packet.id);
        if packet.fragment.is_some_and(|fragment| fragment.offset > 0)
            && let Some(Fragmented { flow, .. }) = self.fragmented.get(&fragment_key).copied()
            && let Some(known) = self.all.get(flow.id.0)
            && known.keys.iter().any(|key| key.protocol() == packet.protocol)
        {
            return Some(flow);
        }
        let key = DirectedKey::of(packet);
        let entry = self.by_key.get(&key.key).copied()?;
        let flow = DirectedFlow { id: entry.flow, direction: entry.direction_of(key) };
        if let Some(fragment) = packet.fragment {
            self.purge_fragments(now);
            // The others stay where the first of them came, on all nodes.
            let known = self.fragmented.entry(fragment_key);
            let overtaken = fragment.offset > 0;
            let fragmented = Fragmented { flow, seen: now, overtaken };
            known
                .and_modify(|known| *known = if known.overtaken { *known } else { fragmented })
                .or_insert(fragmented);
        }
        self.all[flow.id.0].last = now;
        Some(flow)
    }

    /// Direction of packets with this key, if they belong to this flow.
    pub(crate) fn direction_of(&self, key: DirectedKey, flow: FlowId) -> Option<Direction> {
        let entry = self.by_key.get(&key.key).filter(|entry| entry.flow == flow)?;
        Some(entry.direction_of(key))
    }

    /// Packets with this key belong to this direction of the flow: translation makes them. Returns whether that is new.
    pub(crate) fn add_key(&mut self, flow: DirectedFlow, key: DirectedKey) -> bool {
        if let Some(KeyEntry { flow: other, .. }) = self.by_key.get(&key.key).copied() {
            // A flow with paths under way keeps its key.
            if other == flow.id || self.all[other.0].live > 0 {
                return false;
            }
            self.all[other.0].keys.retain(|known| *known != key.key);
        }
        let ascending = if key.ascending { flow.direction } else { flow.direction.opposite() };
        self.by_key.insert(key.key, KeyEntry { flow: flow.id, ascending });
        self.all[flow.id.0].keys.push(key.key);
        true
    }

    /// Whether a packet that is the first seen of its flow goes in the request's direction.
    pub(crate) fn opens(&self, packet: &Packet) -> bool {
        self.opening(packet).unwrap_or(true)
    }

    /// The same; `None` if neither the packet nor the filter says it.
    pub(crate) fn opening(&self, packet: &Packet) -> Option<bool> {
        if packet.quoted().is_some() {
            return Some(false);
        }
        if let Some(is_request) = packet.echo() {
            return Some(is_request);
        }
        if let Transport::Tcp { flags, .. } = packet.transport
            && flags & tcp_flag::SYN != 0
        {
            return Some(flags & tcp_flag::ACK == 0);
        }
        let (sport, dport) = packet.ports().unzip();
        let onward = self.filter.from.has(packet.src, sport) && self.filter.to.has(packet.dst, dport);
        let back = self.filter.from.has(packet.dst, dport) && self.filter.to.has(packet.src, sport);
        (onward != back).then_some(onward)
    }

    /// Whether the filter matches a packet by its own addresses, ports and protocol.
    pub(crate) fn is_traced(&self, packet: &Packet) -> bool {
        let FilterSpec { from, to, protocol, one_way } = &self.filter;
        let (sport, dport) = packet.ports().unzip();
        let forth = from.has(packet.src, sport) && to.has(packet.dst, dport);
        let back = from.has(packet.dst, dport) && to.has(packet.src, sport);
        protocol.is_none_or(|number| number == packet.protocol) && (forth || back && !one_way)
    }

    /// Whether a translated connection is one that is traced. Another's packets may only look so: all pods may be
    /// masqueraded to one address and port of their node.
    pub(crate) fn matches(&self, connection: &Connection) -> bool {
        let [before, halfway, _] = connection.keys();
        let known = [before, halfway].iter().any(|key| self.by_key.contains_key(&key.key));
        let (from, to) = (&self.filter.from, &self.filter.to);
        let goes = |[(src, sport), (dst, dport)]: [Endpoint; 2]| {
            from.has(src, Some(sport)) && to.has(dst, Some(dport))
        };
        known || connection.addressed().into_iter().any(|[src, dst]| goes([src, dst]) || goes([dst, src]))
    }

    fn purge(&mut self, now: Moment) {
        if self.all.len() < self.purge_at {
            return;
        }
        self.forget(|flow| flow.live == 0 && now - flow.last >= IDLE);
        // Doubling keeps the cost of looking in proportion to what there is.
        self.purge_at = (2 * self.all.len()).max(PURGE_FROM);
    }

    /// Forgets the flows of which this holds, and their fragmented packets.
    fn forget(&mut self, is_over: impl Fn(&Flow) -> bool) {
        let Self { by_key, rejections, .. } = self;
        self.all.retain(|_, flow| {
            let over = is_over(flow);
            if over {
                *rejections -= flow.rejections.len();
                for key in &flow.keys {
                    by_key.remove(key);
                }
            }
            !over
        });
        self.fragmented.retain(|_, of| self.all.contains(of.flow.id.0));
    }

    /// Forgets the fragmented packets whose fragments have all passed, or never will, every few seconds.
    fn purge_fragments(&mut self, now: Moment) {
        if self.fragments_purged.is_none_or(|last| now - last >= FRAGMENTS) {
            self.fragments_purged = Some(now);
            self.fragmented.retain(|_, of| now - of.seen < FRAGMENTS);
        }
    }

    /// Forgets an eighth of the flows without packets in flight, the longest idle first. Returns how many of them were idle for less than `enough`; `None` if there are none.
    pub(crate) fn forget_oldest(&mut self, now: Moment, enough: Nanos) -> Option<u64> {
        let mut idle: Vec<Moment> =
            self.all.iter().filter(|(_, flow)| flow.live == 0).map(|(_, flow)| flow.last).collect();
        let place = idle.len().checked_sub(1)? / 8;
        let until = *idle.select_nth_unstable(place).1;
        let young = idle.iter().filter(|last| **last <= until && now - **last < enough).count();
        self.forget(|flow| flow.live == 0 && flow.last <= until);
        self.by_key.shrink_to(2 * self.by_key.len());
        Some(u64::try_from(young).unwrap_or(u64::MAX))
    }

    /// Estimated memory in bytes.
    pub(crate) fn memory(&self) -> u64 {
        cost(memory::FLOW, self.all.len())
            + cost(memory::FLOW_KEY, self.by_key.len())
            + cost(memory::FRAGMENTED, self.fragmented.len())
            + cost(memory::REJECTION, self.rejections)
    }

    /// Keeps a rejection until the packet it is about turns up.
    pub(crate) fn keep_rejection(&mut self, flow: FlowId, rejection: EarlyRejection) {
        let kept = &mut self.all[flow.0].rejections;
        if kept.len() == MOST_REJECTIONS {
            kept.pop_front();
        } else {
            self.rejections += 1;
        }
        kept.push_back(rejection);
    }

    /// Takes out the oldest rejection of a flow of which this holds.
    pub(crate) fn take_rejection(
        &mut self,
        flow: FlowId,
        is_about: impl Fn(&EarlyRejection) -> bool,
    ) -> Option<EarlyRejection> {
        let kept = &mut self.all[flow.0].rejections;
        let taken = kept.iter().position(is_about).and_then(|place| kept.remove(place))?;
        self.rejections -= 1;
        Some(taken)
    }

    pub(crate) fn stream(&self, flow: DirectedFlow) -> &Stream {
        self.all[flow.id.0].stream(flow.direction)
    }

    pub(crate) fn stream_mut(&mut self, flow: DirectedFlow) -> &mut Stream {
        self.all[flow.id.0].stream_mut(flow.direction)
    }

    pub(crate) fn path_begins(&mut self, flow: FlowId) {
        self.all[flow.0].live += 1;
    }

    /// Number, from 1, of the flow of a path that is reported now.
    pub(crate) fn path_reported(&mut self, flow: FlowId, is_forged: bool) -> u64 {
        let flow = &mut self.all[flow.0];
        flow.live -= 1;
        if flow.live == 0 {
            // Most flows are idle for nearly all the time that they are remembered.
            flow.requests.release();
            flow.replies.release();
        }
        let number = if is_forged { &mut flow.forged_number } else { &mut flow.number };
        if *number == 0 {
            self.numbered += 1;
            *number = self.numbered;
        }
        *number
    }
}
