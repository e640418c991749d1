//! Flows: the packets of one connection or one ICMP exchange, both ways, and what is under way in each.

use std::collections::VecDeque;
use std::net::IpAddr;

use rustc_hash::FxHashMap;
use slab::Slab;

use podtrace_protocol::frame::FilterSpec;

use crate::model::Direction;
use crate::observation::connection::Connection;
use crate::wire::packet::{Packet, Transport, tcp};

/// How long a flow without packets is remembered, so that its number stays its own.
const IDLE_NS: i64 = 60_000_000_000;
/// Flows that may be known before idle ones are looked for.
const FLOWS_BEFORE_PURGE: usize = 65_536;
/// Newest packets of a way among which a refusal finds the one it is about.
const RECENT: usize = 32;
/// Refusals of a flow that wait for the packet they are about.
const REFUSALS: usize = 16;

/// Both ends of a flow, whichever way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    low: (IpAddr, u16),
    high: (IpAddr, u16),
    protocol: u8,
}

impl Key {
    /// The key, and whether the packet goes from the low end to the high one.
    pub(crate) fn new(src: (IpAddr, u16), dst: (IpAddr, u16), protocol: u8) -> (Self, bool) {
        if src <= dst {
            (Self { low: src, high: dst, protocol }, true)
        } else {
            (Self { low: dst, high: src, protocol }, false)
        }
    }

    /// The key of a packet, and whether it goes from the low end to the high one.
    pub(crate) fn of(packet: &Packet) -> (Self, bool) {
        if let Some(quoted) = packet.quoted() {
            let port = (quoted.word >> 16) as u16;
            let (sport, dport) = match (quoted.sport, quoted.dport) {
                (0, 0) => (port, port),
                ports => ports,
            };
            let (key, forward) = Self::new((quoted.src, sport), (quoted.dst, dport), quoted.protocol);
            // The error goes back the way that the packet came.
            return (key, !forward);
        }
        let (sport, dport) = match (&packet.transport, packet.echo()) {
            (Transport::Icmp { rest, .. }, Some(_)) => ((rest >> 16) as u16, (rest >> 16) as u16),
            _ => packet.ports().unwrap_or_default(),
        };
        Self::new((packet.src, sport), (packet.dst, dport), packet.protocol)
    }
}

/// Stream bytes of one path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) track: usize,
}

/// A packet that refuses another: a reset or an ICMP error.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) packet: Packet,
    pub(crate) forward: bool,
    pub(crate) reason: String,
}

/// One way of a flow.
#[derive(Debug, Default)]
pub(crate) struct Way {
    /// First sequence number seen and the latest, both counted without wrapping.
    sequence: Option<(u64, u64)>,
    /// By start, then by age: what is under way.
    spans: VecDeque<Span>,
    longest: u64,
    /// Newest last.
    recent: VecDeque<usize>,
}

impl Way {
    /// The sequence number without its wrapping: the one nearest to those seen before.
    pub(crate) fn unwrap(&mut self, seq: u32) -> u64 {
        match &mut self.sequence {
            Some((_, latest)) => {
                #[expect(clippy::cast_possible_wrap, reason = "the distance to the nearest is meant")]
                let step = seq.wrapping_sub(*latest as u32) as i32;
                let unwrapped = latest.saturating_add_signed(i64::from(step));
                *latest = unwrapped.max(*latest);
                unwrapped
            }
            none => {
                // Room below for what was sent earlier and is seen later.
                let first = (1 << 32) + u64::from(seq);
                *none = Some((first, first));
                first
            }
        }
    }

    /// Distance of an unwrapped sequence number from the first one seen.
    pub(crate) fn relative(&self, sequence: u64) -> u64 {
        sequence.saturating_sub(self.sequence.map_or(sequence, |(first, _)| first))
    }

    pub(crate) fn add(&mut self, span: Span) {
        self.longest = self.longest.max(span.end - span.start);
        let at = self.spans.partition_point(|other| other.start <= span.start);
        self.spans.insert(at, span);
    }

    pub(crate) fn remove(&mut self, span: Span) {
        let from = self.spans.partition_point(|other| other.start < span.start);
        if let Some(at) = self.spans.range(from..).position(|other| other.track == span.track) {
            self.spans.remove(from + at);
        }
        if self.spans.is_empty() {
            self.longest = 0;
        }
    }

    /// Spans that hold the stream byte `at`, oldest first among equal ones.
    pub(crate) fn holding(&self, at: u64) -> impl Iterator<Item = Span> {
        let from = self.spans.partition_point(|span| span.start + self.longest <= at);
        self.spans
            .range(from..)
            .take_while(move |span| span.start <= at)
            .filter(move |span| at < span.end)
            .copied()
    }

    /// Where the next span after `at` begins.
    pub(crate) fn next_start(&self, at: u64) -> Option<u64> {
        self.spans.get(self.spans.partition_point(|span| span.start <= at)).map(|span| span.start)
    }

    pub(crate) fn remember(&mut self, track: usize) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(track);
    }

    pub(crate) fn forget(&mut self, track: usize) {
        if let Some(at) = self.recent.iter().position(|other| *other == track) {
            self.recent.remove(at);
        }
    }

    /// Newest first.
    pub(crate) fn recent(&self) -> impl Iterator<Item = usize> {
        self.recent.iter().rev().copied()
    }
}

/// A flow.
#[derive(Debug)]
pub(crate) struct Flow {
    /// What its packets look like: first as the packet that opened it, then as translations have them. The second of
    /// each tells whether the way from its low end to its high end is the other one.
    keys: Vec<(Key, bool)>,
    /// Whether the way from the first key's low end to its high end is the request's.
    forward_is_request: bool,
    /// Given when its first path is told.
    number: u64,
    ways: [Way; 2],
    /// Paths under way.
    live: u32,
    last: i64,
    pub(crate) refusals: VecDeque<Refusal>,
}

impl Flow {
    pub(crate) fn way(&self, forward: bool) -> &Way {
        &self.ways[usize::from(forward)]
    }

    pub(crate) fn way_mut(&mut self, forward: bool) -> &mut Way {
        &mut self.ways[usize::from(forward)]
    }

    pub(crate) fn direction(&self, forward: bool) -> Direction {
        if forward == self.forward_is_request { Direction::Request } else { Direction::Reply }
    }

    /// Keeps a refusal until the packet it is about turns up.
    pub(crate) fn keep(&mut self, refusal: Refusal) {
        if self.refusals.len() == REFUSALS {
            self.refusals.pop_front();
        }
        self.refusals.push_back(refusal);
    }
}

/// A fragmented packet.
#[derive(Clone, Copy, Debug)]
struct Fragmented {
    flow: usize,
    forward: bool,
    seen: i64,
}

/// All flows.
#[derive(Debug)]
pub(crate) struct Flows {
    all: Slab<Flow>,
    by_key: FxHashMap<Key, (usize, bool)>,
    /// Flow of a fragmented packet and which way it goes, by addresses, protocol and identification: only its first
    /// fragment has ports.
    fragmented: FxHashMap<(IpAddr, IpAddr, u8, u32), Fragmented>,
    filter: FilterSpec,
    told: u64,
    purge_at: usize,
}

impl Flows {
    pub(crate) fn new(filter: FilterSpec) -> Self {
        Self {
            all: Slab::new(),
            by_key: FxHashMap::default(),
            fragmented: FxHashMap::default(),
            filter,
            told: 0,
            purge_at: FLOWS_BEFORE_PURGE,
        }
    }

    /// What is traced from here on.
    pub(crate) fn set_filter(&mut self, filter: FilterSpec) {
        self.filter = filter;
    }

    /// Number of the packet's flow, made if it is new, and which way the packet goes.
    pub(crate) fn of(&mut self, packet: &Packet, now: i64) -> (usize, bool) {
        if let Some(known) = self.known(packet, now) {
            return known;
        }
        let (key, forward) = Key::of(packet);
        self.purge(now);
        let request = self.opens(packet);
        let flow = self.all.insert(Flow {
            keys: vec![(key, false)],
            forward_is_request: forward == request,
            number: 0,
            ways: [Way::default(), Way::default()],
            live: 0,
            last: now,
            refusals: VecDeque::new(),
        });
        self.by_key.insert(key, (flow, false));
        // Remembers a first fragment.
        self.known(packet, now).unwrap_or((flow, forward))
    }

    /// Number of the packet's flow and which way the packet goes, if that flow is known.
    pub(crate) fn known(&mut self, packet: &Packet, now: i64) -> Option<(usize, bool)> {
        let whole = (packet.src, packet.dst, packet.protocol, packet.id);
        if packet.fragment.is_some_and(|fragment| fragment.offset > 0)
            && let Some(Fragmented { flow, forward, .. }) = self.fragmented.get(&whole).copied()
            && let Some(known) = self.all.get(flow)
            && known.keys.iter().any(|(key, _)| key.protocol == packet.protocol)
        {
            return Some((flow, forward));
        }
        let (key, forward) = Key::of(packet);
        let (flow, flipped) = self.by_key.get(&key).copied()?;
        let forward = forward != flipped;
        if packet.fragment.is_some_and(|fragment| fragment.offset == 0) {
            self.fragmented.insert(whole, Fragmented { flow, forward, seen: now });
        }
        self.all[flow].last = now;
        Some((flow, forward))
    }

    /// Packets that look like this belong to the flow: they are its own, translated. `low_to_high` tells which way of
    /// the flow the way from the key's low end to its high end is. Tells whether that is news.
    pub(crate) fn add_key(&mut self, flow: usize, key: Key, low_to_high: bool) -> bool {
        let flipped = !low_to_high;
        if let Some((other, _)) = self.by_key.get(&key) {
            // What has begun elsewhere stays there.
            if *other == flow || self.all[*other].live > 0 {
                return false;
            }
            let other = *other;
            self.all[other].keys.retain(|(known, _)| *known != key);
        }
        self.by_key.insert(key, (flow, flipped));
        self.all[flow].keys.push((key, flipped));
        true
    }

    /// Whether the first packet seen of a flow goes the request's way.
    pub(crate) fn opens(&self, packet: &Packet) -> bool {
        if packet.quoted().is_some() {
            return false;
        }
        if let Some(request) = packet.echo() {
            return request;
        }
        if let Transport::Tcp { flags, .. } = packet.transport
            && flags & tcp::SYN != 0
        {
            return flags & tcp::ACK == 0;
        }
        let (sport, dport) = packet.ports().unzip();
        let onward = self.filter.from.has(packet.src, sport) && self.filter.to.has(packet.dst, dport);
        let back = self.filter.from.has(packet.dst, dport) && self.filter.to.has(packet.src, sport);
        onward || !back
    }

    /// Whether a packet of this connection is of interest, rather than one that translation has made look so: pods may
    /// be masqueraded to one port of their node.
    pub(crate) fn wants(&self, connection: &Connection) -> bool {
        let [before, halfway, _] = connection.keys();
        let known = [before, halfway].iter().any(|(key, _)| self.by_key.contains_key(key));
        let (from, to) = (&self.filter.from, &self.filter.to);
        let goes = |[(src, sport), (dst, dport)]: [(IpAddr, u16); 2]| {
            from.has(src, Some(sport)) && to.has(dst, Some(dport))
        };
        known || connection.addressed().into_iter().any(|[src, dst]| goes([src, dst]) || goes([dst, src]))
    }

    fn purge(&mut self, now: i64) {
        if self.all.len() + self.fragmented.len() < self.purge_at {
            return;
        }
        let by_key = &mut self.by_key;
        self.all.retain(|_, flow| {
            let keep = flow.live > 0 || now.saturating_sub(flow.last) < IDLE_NS;
            if !keep {
                for (key, _) in &flow.keys {
                    by_key.remove(key);
                }
            }
            keep
        });
        let all = &self.all;
        self.fragmented.retain(|_, of| all.contains(of.flow) && now.saturating_sub(of.seen) < IDLE_NS);
        // Doubling keeps the cost of looking in proportion to what there is.
        self.purge_at = (2 * (self.all.len() + self.fragmented.len())).max(FLOWS_BEFORE_PURGE);
    }

    pub(crate) fn get(&self, flow: usize) -> &Flow {
        &self.all[flow]
    }

    pub(crate) fn get_mut(&mut self, flow: usize) -> &mut Flow {
        &mut self.all[flow]
    }

    pub(crate) fn path_begins(&mut self, flow: usize) {
        self.all[flow].live += 1;
    }

    /// Number of the flow of a path that is told now.
    pub(crate) fn path_told(&mut self, flow: usize) -> u64 {
        let flow = &mut self.all[flow];
        flow.live -= 1;
        if flow.number == 0 {
            self.told += 1;
            flow.number = self.told;
        }
        flow.number
    }
}
