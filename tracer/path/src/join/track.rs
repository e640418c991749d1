//! Tracks: in-flight packets. A track has the packet as its source sent it, and everything seen of it so far. The words are
//! defined in [`join`](super).

use std::ops::{Index, IndexMut};
use std::sync::Arc;

use podtrace_protocol::topology::Role;
use podtrace_protocol::wire::{Packet, Transport, protocol, tcp_flag};

use crate::join::content::ContentHash;
use crate::join::flow::DirectedFlow;
use crate::join::sighting::{Sighting, Step};
use crate::join::stream::Bytes;
use crate::join::table::{Key, Table};
use crate::model::{Action, Forged, Point, Tuple};
use crate::node::NodeId;
use crate::observation::{Observation, SkbId, Spot};
use crate::time::{Moment, NodeTime};
use crate::world::World;
use crate::world::devices::DeviceId;

/// Maximum number of sightings of a packet: more means a forwarding loop. Further ones are not kept: the path lacks them.
const MAX_SIGHTINGS: usize = 64;
/// Maximum number of steps of a packet. More means a forwarding loop, or heavy segmentation.
const MAX_STEPS: usize = 256;
/// Maximum number of recycled tracks.
const MAX_RECYCLED: usize = 4096;

/// Why a packet is discarded that comes to a connection that is over.
pub(crate) const CLOSED: &str = "the receiver had already closed the connection";

/// Id of a track, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TrackId(Key);

impl TrackId {
    pub(crate) fn serial(self) -> u64 {
        self.0.serial()
    }
}

/// Where a packet arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// In the pod of this node that has its destination address.
    Pod(NodeId),
    /// At this node, which has its destination address.
    Local(NodeId),
    /// At another holder of the destination address, which two have.
    DuplicateAddress {
        /// Name of the pod or node.
        holder: Arc<str>,
        /// The node, if it is a node itself.
        node: Option<NodeId>,
    },
    /// A multicast packet reached its link, this device. Group membership is not checked.
    Link(Arc<str>),
    /// It left the cluster through this device.
    Outside(Arc<str>),
    /// It left through this device towards a node that is not traced.
    Untraced {
        /// Name of the device.
        device: Arc<str>,
        /// Name of the node.
        node: Arc<str>,
    },
}

/// A reset or an ICMP error about the packet.
#[derive(Clone, Debug)]
pub(crate) struct Rejection {
    /// Human-readable reason.
    pub(crate) reason: String,
    /// When it was first seen.
    pub(crate) at: Moment,
    /// Whether the receiver had closed the connection before: the packet came too late, and nothing is wrong.
    pub(crate) after_close: bool,
}

/// An in-flight packet.
#[derive(Debug)]
pub(crate) struct Track {
    /// As its source sent it.
    pub(crate) packet: Packet,
    pub(crate) flow: DirectedFlow,
    /// The range of its TCP payload in the stream; `None` without payload.
    pub(crate) stream: Option<Bytes>,
    /// Key of [`EqualTracks`](super::equals::EqualTracks); 0 if it has TCP payload.
    pub(crate) content: ContentHash,
    /// Number of GSO segments; 1 if it is not segmented.
    pub(crate) segments: u32,
    pub(crate) sightings: Vec<Sighting>,
    /// Observations of hooks of the network stack.
    pub(crate) steps: Vec<Step>,
    /// Its identities, at least one on each node.
    pub(crate) skb_ids: Vec<SkbId>,
    /// When it was first seen.
    pub(crate) first: Moment,
    /// When it was last seen.
    pub(crate) last: Moment,
    pub(crate) arrival: Option<Arrival>,
    /// Whether a drop was seen that may have ended it.
    pub(crate) dropped: bool,
    /// Largest number of tracks that fitted equally when an observation was matched; 1 if every match was unambiguous.
    pub(crate) candidates: u32,
    /// Whether its first hops were seen.
    pub(crate) start_seen: bool,
    /// Number of its events.
    pub(crate) events: u64,
    /// A pod to whose port a bridge flooded a copy.
    pub(crate) flooded_to: Option<Arc<str>>,
    /// The veth at which a copy came to another pod that has the receiver's address too.
    pub(crate) other_holder: Option<DeviceId>,
    pub(crate) rejection: Option<Rejection>,
    /// The request that this packet answers or rejects: its path must be reported first.
    pub(crate) report_after: Option<TrackId>,
    /// Whether the flow has learned the translated tuple from connection tracking.
    pub(crate) translation_known: bool,
    /// Why its receiver discarded it although it arrived, such as a duplicate; human-readable.
    pub(crate) discarded_because: Option<&'static str>,
    /// Set if its source address is another's.
    pub(crate) forged: Option<Box<Forged>>,
}

/// The first observation of a new track.
#[derive(Debug)]
pub(crate) struct Beginning {
    pub(crate) packet: Packet,
    pub(crate) flow: DirectedFlow,
    pub(crate) stream: Option<Bytes>,
    pub(crate) content: ContentHash,
    pub(crate) segments: u32,
    pub(crate) skb: SkbId,
    pub(crate) at: Moment,
    pub(crate) start_seen: bool,
    pub(crate) report_after: Option<TrackId>,
}

/// All tracks.
#[derive(Debug, Default)]
pub(crate) struct Tracks {
    table: Table<Track>,
    /// Reported tracks, whose buffers new ones reuse.
    recycled: Vec<Track>,
}

impl Tracks {
    pub(crate) fn begin(&mut self, serial: u64, beginning: Beginning) -> TrackId {
        let Beginning { packet, flow, stream, content, segments, skb, at, start_seen, report_after } =
            beginning;
        let (mut sightings, mut steps, mut skb_ids) =
            self.recycled.pop().map(|old| (old.sightings, old.steps, old.skb_ids)).unwrap_or_default();
        sightings.clear();
        steps.clear();
        skb_ids.clear();
        skb_ids.push(skb);
        let track = Track {
            packet,
            flow,
            stream,
            content,
            segments,
            sightings,
            steps,
            skb_ids,
            first: at,
            last: at,
            arrival: None,
            dropped: false,
            candidates: 1,
            start_seen,
            events: 0,
            flooded_to: None,
            other_holder: None,
            rejection: None,
            report_after,
            translation_known: false,
            discarded_because: None,
            forged: None,
        };
        TrackId(self.table.insert(serial, track))
    }

    pub(crate) fn get(&self, id: TrackId) -> Option<&Track> {
        self.table.get(id.0)
    }

    pub(crate) fn get_mut(&mut self, id: TrackId) -> Option<&mut Track> {
        self.table.get_mut(id.0)
    }

    pub(crate) fn remove(&mut self, id: TrackId) -> Option<Track> {
        self.table.remove(id.0)
    }

    /// Keeps a finished path's memory for a new one.
    pub(crate) fn recycle(&mut self, track: Track) {
        let is_small = track.sightings.capacity() <= 16 && track.steps.capacity() <= 32;
        if is_small && self.recycled.len() < MAX_RECYCLED {
            self.recycled.push(track);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (TrackId, &Track)> {
        self.table.iter().map(|(key, track)| (TrackId(key), track))
    }
}

/// Panics on a removed track. Safe for ids in a [`Share`](super::shares::Share): [`Joiner::take`](super::Joiner::take) removes a
/// track from every sk_buff's state before it is dropped.
impl Index<TrackId> for Tracks {
    type Output = Track;

    fn index(&self, id: TrackId) -> &Track {
        &self.table[id.0]
    }
}

impl IndexMut<TrackId> for Tracks {
    fn index_mut(&mut self, id: TrackId) -> &mut Track {
        &mut self.table[id.0]
    }
}

impl Track {
    /// How much of it there is to see: its stream bytes, or 1 if it carries none.
    pub(crate) fn size(&self) -> u32 {
        self.stream.map_or(1, |bytes| u32::try_from(bytes.len()).unwrap_or(u32::MAX))
    }

    /// Addresses and ports that it began with.
    pub(crate) fn tuple(&self) -> Tuple {
        Tuple::of(&self.packet)
    }

    /// Addresses and ports that it had where it was seen.
    pub(crate) fn tuple_at(&self, sighting: &Sighting) -> Tuple {
        sighting.tuple.unwrap_or_else(|| self.tuple())
    }

    /// Addresses and ports that it had where it was seen last.
    pub(crate) fn last_tuple(&self) -> Tuple {
        self.sightings.last().map_or_else(|| self.tuple(), |last| self.tuple_at(last))
    }

    /// Whether it began with the addresses and ports of this packet.
    pub(crate) fn has_ends_of(&self, packet: &Packet) -> bool {
        packet.src == self.packet.src
            && packet.dst == self.packet.dst
            && packet.ports() == self.packet.ports()
    }

    /// Whether an arrival, a drop or a rejection was seen.
    pub(crate) fn is_over(&self) -> bool {
        self.arrival.is_some() || self.dropped || self.rejection.is_some()
    }

    /// Whether it reached a receiver that had closed the connection before.
    pub(crate) fn came_after_close(&self) -> bool {
        let arrived = matches!(self.arrival, Some(Arrival::Pod(_) | Arrival::Local(_)));
        // A SYN asks for a connection of its own.
        let opens =
            matches!(self.packet.transport, Transport::Tcp { flags, .. } if flags & tcp_flag::SYN != 0);
        arrived && !opens && self.rejection.as_ref().is_some_and(|rejection| rejection.after_close)
    }

    /// Whether it arrived at a node itself.
    pub(crate) fn is_in_stack_of(&self, node: NodeId) -> bool {
        match self.arrival {
            Some(Arrival::Local(at) | Arrival::DuplicateAddress { node: Some(at), .. }) => at == node,
            _ => false,
        }
    }

    /// Whether it starts after a moment of a node, or on another node after a moment of the common timeline.
    pub(crate) fn begins_after(&self, moment: Option<(NodeId, NodeTime)>, latest: Moment) -> bool {
        let start = self.sightings.first().filter(|_| self.start_seen);
        start.is_some_and(|start| match moment {
            Some((node, time)) if node == start.node() => start.time > time,
            _ => start.moment > latest,
        })
    }

    /// Whether it was dropped before it came to its receiver.
    pub(crate) fn was_dropped_on_the_way(&self) -> bool {
        self.sightings.iter().any(|seen| seen.drop.as_ref().is_some_and(|drop| !drop.in_receiver))
    }

    /// When its receiver, on this node, has freed it because nobody listens.
    pub(crate) fn refused_on(&self, node: NodeId) -> Option<NodeTime> {
        let is_refusal = |seen: &&Sighting| {
            let drop = seen.drop.as_ref().filter(|_| seen.node() == node);
            drop.is_some_and(|drop| drop.in_receiver && drop.is_no_socket())
        };
        self.sightings.iter().find(is_refusal).map(|seen| seen.time)
    }

    /// Takes out what was seen of it at a device: a copy that nobody took.
    pub(crate) fn forget_copy(&mut self, device: DeviceId) {
        self.sightings.retain(|seen| seen.device() != Some(device) || seen.point() != Point::TcEgress);
    }

    fn sighting_at(&self, spot: Spot) -> Option<usize> {
        self.sightings.iter().rposition(|seen| seen.spot == spot)
    }

    /// Whether all of it was seen at this spot.
    pub(crate) fn is_covered_at(&self, spot: Spot) -> bool {
        self.sighting_at(spot).is_some_and(|place| self.sightings[place].covered >= self.size())
    }

    /// Whether all of it has passed where this observation was made, and cannot pass there again: no packet starts twice,
    /// within one visit of a node none passes a device twice in one direction, and none enters a node again by a device
    /// of a kind that it has not left by.
    pub(crate) fn has_passed(&self, observation: &Observation) -> bool {
        let Some(place) = self.sighting_at(observation.spot) else { return false };
        let seen = &self.sightings[place];
        let starts = place == 0 && self.start_seen && seen.action() == Action::PodEgress;
        let is_pod = |role| role == Role::PodVeth;
        let may_return = self.sightings.iter().any(|left| {
            left.visit == seen.visit && is_exit(left) && is_pod(left.role) == is_pod(observation.role)
        });
        let again =
            self.visit_under_way(observation) == Some(seen.visit) || (is_entry(observation) && !may_return);
        seen.covered >= self.size() && (starts || again)
    }

    /// Whether the packet has another sk_buff identity on the observation's node. That is no proof of another packet: the eBPF
    /// programs may have lost the sk_buff and numbered it anew.
    pub(crate) fn has_other_identity(&self, observation: &Observation) -> bool {
        let other = |skb: &SkbId| skb.node == observation.node() && *skb != observation.skb;
        // An identity that has passed to another packet is not listed any more.
        let is_known = self.skb_ids.contains(&observation.skb);
        let was_here =
            || self.sightings.iter().any(|seen| seen.node() == observation.node() && !seen.is_drop());
        observation.original.is_none() && (self.skb_ids.iter().any(other) || !is_known && was_here())
    }

    /// Whether all of it had arrived at a pod of the observation's node when that was made. One node's times compare
    /// exactly. The order in which they are taken does not: what waited is taken late.
    pub(crate) fn has_reached_pod_before(&self, observation: &Observation) -> bool {
        let is_before = |seen: &Sighting| {
            seen.node() == observation.node()
                && seen.action() == Action::PodIngress
                && seen.last_time < observation.time
        };
        self.arrival == Some(Arrival::Pod(observation.node())) && self.sightings.iter().any(is_before)
    }

    /// Whether it had been farther on its way through the observation's node when that was made, and does not enter it again.
    pub(crate) fn was_beyond(&self, observation: &Observation) -> bool {
        if is_entry(observation) {
            return false;
        }
        let visit = self.latest_visit(observation.node());
        let place = place_in_node(observation.role, observation.point());
        self.sightings.iter().any(|seen| {
            Some(seen.visit) == visit
                && seen.time < observation.time
                && place_in_node(seen.role, seen.point()) > place
                && place.is_some()
        })
    }

    /// Whether it had left this node for another one before a moment.
    pub(crate) fn has_left_before(&self, node: NodeId, moment: Moment) -> bool {
        let Some(visit) = self.latest_visit(node) else { return false };
        self.sightings
            .iter()
            .any(|seen| seen.node() != node && seen.visit > visit && seen.moment < moment && !seen.is_drop())
    }

    /// Whether it was seen from its start, on the observation's node and after that. One node's times compare exactly, its
    /// moments do not: what is known of its clock changes.
    pub(crate) fn starts_on_node_after(&self, observation: &Observation) -> bool {
        let node = observation.node();
        let start = self.sightings.first().filter(|start| self.start_seen && start.node() == node);
        start.is_some_and(|start| start.time > observation.time)
    }

    /// Whether it was seen on the observation's node before that was made, or anywhere before `earliest`.
    pub(crate) fn was_seen_before(&self, observation: &Observation, earliest: Moment) -> bool {
        self.sightings.iter().any(|seen| {
            seen.moment < earliest || seen.node() == observation.node() && seen.time < observation.time
        })
    }

    /// Whether it, or a piece of it, was seen on another node than this after a moment.
    pub(crate) fn was_seen_elsewhere_after(&self, node: NodeId, earliest: Moment, world: &World) -> bool {
        let last = |seen: &Sighting| world.clocks.common(seen.node(), seen.last_time);
        self.sightings.iter().any(|seen| seen.node() != node && last(seen) >= Some(earliest))
    }

    /// Whether a packet cannot be this one by its content, see [`is_unlike`].
    pub(crate) fn is_unlike(&self, packet: &Packet, segments: u32) -> bool {
        is_unlike(&self.packet, packet, self.segments.max(segments))
    }

    fn note_event(&mut self, at: Moment) {
        self.events += 1;
        self.last = self.last.max(at);
    }

    /// Adds an observation of `share` of its bytes. Returns whether the spot has seen all of it now.
    pub(crate) fn add_sighting(&mut self, observation: &Observation, share: u32, at: Moment) -> bool {
        self.note_event(at);
        self.first = self.first.min(at);
        let packet = observation.packet.as_ref();
        let length = packet.map_or(self.packet.length, |packet| packet.length);
        // A packet that GRO merged carries more stream bytes than this path's share.
        let carried = packet.and_then(Packet::stream).map_or(share, |(_, bytes)| bytes);
        let merged = self.stream.is_some() && carried > share;
        let size = self.size();
        if let Some(place) = self.sighting_at(observation.spot)
            && observation.point() != Point::KfreeSkb
            && self.sightings[place].covered < size
        {
            let seen = &mut self.sightings[place];
            seen.time = seen.time.min(observation.time);
            seen.last_time = seen.last_time.max(observation.time);
            seen.moment = seen.moment.min(at);
            seen.bytes = seen.bytes.saturating_add(length);
            seen.packets += 1;
            seen.merged |= merged;
            seen.covered = seen.covered.saturating_add(share);
            seen.records.push(observation.record);
            return seen.covered >= size;
        }
        // The drop that ends it is kept in any case.
        let is_end = observation.point() == Point::KfreeSkb && !self.dropped;
        if self.sightings.len() < MAX_SIGHTINGS || is_end {
            let changed = packet.filter(|packet| !self.has_ends_of(packet));
            self.sightings.push(Sighting {
                spot: observation.spot,
                visit: self.visit_of(observation, at),
                role: observation.role,
                time: observation.time,
                last_time: observation.time,
                moment: at,
                bytes: length,
                packets: 1,
                merged,
                covered: share,
                tuple: changed.map(Tuple::of),
                outer: observation.outer,
                mark: observation.mark,
                connection: observation.connection.clone(),
                drop: None,
                next_hop: observation.next_hop,
                records: vec![observation.record],
            });
        }
        share >= size
    }

    /// Adds what a hook of the stack saw. Returns whether there was room for it.
    pub(crate) fn add_step(&mut self, observation: &Observation, at: Moment) -> bool {
        let visit = self.latest_visit(observation.node()).unwrap_or(0);
        let Some(step) = Step::from_observation(observation, visit) else { return false };
        self.note_event(at);
        // Of a packet in pieces the first one counts, as at the taps.
        if self.steps.iter().any(|other| step.is_piece_of(other)) {
            return true;
        }
        let room = self.steps.len() < MAX_STEPS;
        if room {
            self.steps.push(step);
        }
        room
    }

    fn latest_visit(&self, node: NodeId) -> Option<i16> {
        self.sightings.iter().filter(|seen| seen.node() == node).map(|seen| seen.visit).max()
    }

    /// The visit that a new sighting belongs to. A node that it had not been seen on comes after the others, or before them.
    fn visit_of(&self, observation: &Observation, at: Moment) -> i16 {
        let visits = || self.sightings.iter().map(|seen| seen.visit);
        if let Some(visit) = self.visit_under_way(observation) {
            visit
        } else if self.latest_visit(observation.node()).is_none() && self.is_before(observation, at) {
            visits().min().map_or(0, |first| first.saturating_sub(1))
        } else {
            visits().max().map_or(0, |last| last.saturating_add(1))
        }
    }

    /// The latest visit of an observation's node, unless the packet enters it again.
    fn visit_under_way(&self, observation: &Observation) -> Option<i16> {
        let visit = self.latest_visit(observation.node())?;
        (!is_entry(observation) || !self.has_left(visit, observation.time)).then_some(visit)
    }

    /// Whether a node that it was not seen on yet came before the others: what clocks that are a little wrong say last may
    /// be the first. A packet that has arrived goes nowhere, and it goes out of one node before it goes into another.
    fn is_before(&self, observation: &Observation, at: Moment) -> bool {
        if self.start_seen || observation.is_drop() {
            return false;
        }
        let goes_out = goes_out(observation.role, observation.point());
        let mut others = self.sightings.iter().map(|seen| self::goes_out(seen.role, seen.point()));
        match goes_out {
            _ if matches!(self.arrival, Some(Arrival::Pod(_))) => true,
            Some(goes_out) if others.all(|other| other == Some(!goes_out)) => goes_out,
            _ => self.sightings.iter().all(|seen| at < seen.moment),
        }
    }

    /// Whether it had left the node that it was on by this visit. What waited is taken late, when later pieces have left.
    fn has_left(&self, visit: i16, time: NodeTime) -> bool {
        self.sightings.iter().any(|seen| seen.visit == visit && is_exit(seen) && seen.time < time)
    }

    /// Puts the sightings in the order in which the packet passed them.
    pub(crate) fn sort(&mut self) {
        self.sightings.sort_by_key(|seen| (seen.visit, seen.time));
    }

    /// The crossings from one node to another, by each node's clock: it left before it arrived.
    ///
    /// Only of a path whose joins are sure. Drops are no crossings: they may be late, or of a copy.
    pub(crate) fn crossings(&self) -> impl Iterator<Item = ((NodeId, NodeTime), (NodeId, NodeTime))> {
        let taps = || self.sightings.iter().filter(|seen| !seen.is_drop());
        taps()
            .zip(taps().skip(1))
            .filter(|(left, arrived)| self.candidates == 1 && left.node() != arrived.node())
            .map(|(left, arrived)| ((left.node(), left.time), (arrived.node(), arrived.time)))
    }
}

/// Whether two packets cannot be the same one by their content. `segments` is the larger number that they stand for.
///
/// Fragments are put together, and GSO and GRO split and merge: all three change the length. Translation changes what ICMP
/// errors quote. The eBPF programs themselves tell TCP segments apart.
pub(super) fn is_unlike(one: &Packet, other: &Packet, segments: u32) -> bool {
    if one.protocol != other.protocol {
        return true;
    }
    let single = segments == 1 && one.fragment.is_none() && other.fragment.is_none();
    single && one.protocol != protocol::TCP && other.quoted().is_none() && !one.same_as(other)
}

/// Whether a packet is on its way out of a node at a tap, or on its way in; `None` where that is not known of the device.
fn goes_out(role: Role, point: Point) -> Option<bool> {
    match (role, point) {
        (Role::PodVeth | Role::Bridge, Point::TcIngress) | (Role::Tunnel | Role::Uplink, Point::TcEgress) => {
            Some(true)
        }
        (Role::PodVeth | Role::Bridge, Point::TcEgress) | (Role::Tunnel | Role::Uplink, Point::TcIngress) => {
            Some(false)
        }
        _ => None,
    }
}

/// How far a packet is on its way through a node at a tap; `None` where that is not known of the device.
fn place_in_node(role: Role, point: Point) -> Option<u8> {
    match (role, point) {
        (Role::PodVeth | Role::Uplink, Point::TcIngress) => Some(0),
        (Role::Bridge | Role::Tunnel, Point::TcIngress) => Some(1),
        (Role::Bridge | Role::Tunnel, Point::TcEgress) => Some(2),
        (Role::PodVeth | Role::Uplink, Point::TcEgress) => Some(3),
        _ => None,
    }
}

/// Whether a packet comes into the node's own namespace here, from a pod or from outside.
pub(super) fn is_entry(observation: &Observation) -> bool {
    observation.point() == Point::TcIngress && leads_out(observation.role)
}

/// Whether a packet leaves the node's own namespace here, to a pod or to the outside.
fn is_exit(seen: &Sighting) -> bool {
    seen.point() == Point::TcEgress && leads_out(seen.role)
}

fn leads_out(role: Role) -> bool {
    matches!(role, Role::Uplink | Role::Other | Role::PodVeth)
}
